"""Replaces characters that a database cannot store.

PostgreSQL cannot store NUL, in text or in JSON. No database can store an unpaired
surrogate. A database with another charset than UTF-8 stores fewer characters, and
MariaDB supports JSON up to a depth of 32.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.db import DatabaseError, DataError
from django.utils.functional import Promise

from django_turbosmtp._lib.text import find_surrogate

#: The highest character: of Unicode, of three bytes in UTF-8, of ASCII. Tried in turn.
WIDTHS: Final = (0x10FFFF, 0xFFFF, 0x7F)

#: Store values that are nested deeper than this as text.
MAX_DEPTH = 20

# NaN is not JSON, and databases refuse it.
_encode = json.JSONEncoder(allow_nan=False).encode

#: Replaces NUL: Unicode's symbol for it.
_NUL_PICTURE = "\u2400"
_TOO_WIDE = {0xFFFF: "[^\0-\uffff]", 0x7F: "[^\0-\x7f]"}


#: MySQL's error number for characters that are not in the column's charset.
_INCORRECT_STRING = 1366


def is_about_text(error: DatabaseError) -> bool:
    """Return whether a database reports that it cannot store some characters."""
    return isinstance(error, DataError) or error.args[:1] == (_INCORRECT_STRING,)


def encode_plain_json(value: Any) -> str | None:
    """Return JSON text that every database stores unchanged, or None if it might not.

    It is ASCII without escaped characters, and flat. `Cleaner.clean_json` would change
    nothing, and takes three times as long.
    """
    try:
        text = _encode(value)
    except (TypeError, ValueError, RecursionError):
        return None
    is_plain = "\\u" not in text and text.count("{") + text.count("[") <= MAX_DEPTH
    return text if is_plain else None


class Cleaner:
    """Makes values storable; ``changed`` is True if that changed any of them."""

    def __init__(self, width: int = WIDTHS[0]) -> None:
        """``width``: the highest character that the database can store."""
        self._width = width
        self.changed = False

    def clean_text(self, text: str) -> str:
        """Return ``text`` with characters that cannot be stored replaced."""
        if text.isascii() and "\0" not in text:
            return text
        cleaned = text.replace("\0", _NUL_PICTURE)
        if find_surrogate(cleaned) is not None:
            cleaned = re.sub("[\ud800-\udfff]", "\ufffd", cleaned)
        if wide := _TOO_WIDE.get(self._width):
            # Compiled here, because that is slow and few databases need it.
            cleaned = re.sub(wide, "?", cleaned)
        self.changed = self.changed or cleaned != text
        return cleaned

    def clean_json(self, value: Any, depth: int = 0) -> Any:
        """Return ``value`` in JSON's types, its texts cleaned.

        Dates and numbers without a JSON type are written as by Django's encoder, and
        other objects as by ``str()``.
        """
        if type(value) is str:
            return self.clean_text(value)
        if value is None or isinstance(value, (bool, int)):
            return value
        if isinstance(value, (str, Promise)):
            return self.clean_text(str(value))
        if isinstance(value, float) and math.isfinite(value):
            return value
        if depth < MAX_DEPTH:
            if isinstance(value, Mapping):
                return {
                    self.clean_text(str(key)): self.clean_json(item, depth + 1)
                    for key, item in value.items()
                }
            if isinstance(value, (list, tuple, set, frozenset)):
                return [self.clean_json(item, depth + 1) for item in value]
        return self.clean_text(self._write(value))

    def _write(self, value: Any) -> str:
        if not isinstance(value, (float, Iterable)):
            # Imported late: it loads django.db.models, half of our import.
            from django.core.serializers.json import DjangoJSONEncoder

            try:
                encoded = json.loads(json.dumps(value, cls=DjangoJSONEncoder))
            except (TypeError, ValueError):
                encoded = None
            if isinstance(encoded, str):
                return encoded
        self.changed = True
        return str(value)
