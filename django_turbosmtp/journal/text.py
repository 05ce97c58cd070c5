"""Text that every database holds: what cannot be stored is replaced, and told.

PostgreSQL takes no NUL, in text and in JSON; no database takes an unpaired surrogate.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from django_turbosmtp._text import find_surrogate

#: Stands for NUL: the picture that Unicode has for it.
_NUL_PICTURE = "\u2400"
_SURROGATES = re.compile("[\ud800-\udfff]")


def clean(text: str) -> str:
    """Return ``text`` as every database can hold it; the same where it can."""
    if "\0" in text:
        text = text.replace("\0", _NUL_PICTURE)
    if not text.isascii() and find_surrogate(text) is not None:
        text = _SURROGATES.sub("\ufffd", text)
    return text


def clean_json(value: Any) -> Any:
    """Return a JSON value that every database can hold.

    What JSON does not know becomes text, as Django's own encoder writes it if it can.
    Raise ValueError or RecursionError for what holds itself.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return clean(str(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): clean_json(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
        return [clean_json(item) for item in value]
    return clean(_encode(value))


def _encode(value: Any) -> str:
    try:
        encoded = json.loads(json.dumps(value, cls=DjangoJSONEncoder))
    except (TypeError, ValueError):
        encoded = value
    return encoded if isinstance(encoded, str) else str(encoded)
