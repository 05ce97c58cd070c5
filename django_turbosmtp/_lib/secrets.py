"""Keeps secrets out of errors.

Error reporters print the local variables of every frame of a traceback, and a server's
answer may repeat the request.
"""

from __future__ import annotations

import json
import sys
import traceback
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from urllib.parse import quote

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from django_turbosmtp._lib.interrupts import walk_chain
from django_turbosmtp.exceptions import TurboSMTPError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

P = ParamSpec("P")
R = TypeVar("R")

MASK = "********"

_SHORTEST = 6


class Secret(str):
    """A string whose repr is asterisks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK)


def hide(value: Any) -> Any:
    """Return a string as a `Secret`, and any other value unchanged."""
    return Secret(value) if isinstance(value, str) else value


def shows_no_locals(function: Callable[P, R]) -> Callable[P, R]:
    """Clear the local variables of a function, and of all it calls, if it raises.

    This applies to every exception and every library. The traceback keeps its lines,
    but loses the values, and the exceptions that libraries were handling. The caller
    has to hide the arguments.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        # The caller may be handling an exception, whose frames are not ours to clear.
        outside = sys.exc_info()[1]
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            not_ours = set(map(id, walk_chain(outside))) if outside else set()
            for found in walk_chain(error):
                if id(found) not in not_ours:
                    traceback.clear_frames(found.__traceback__)
            # The context would refer to cleared frames; our errors have set theirs
            # deliberately.
            if not isinstance(error, TurboSMTPError):
                error.__context__ = outside
            raise

    return run


def list_hash_keys() -> list[str | bytes]:
    """Return the keys for hashes in the log: SECRET_KEY, then SECRET_KEY_FALLBACKS.

    The list is empty without a SECRET_KEY, as in a script that only sends mail.
    """
    try:
        return [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    except ImproperlyConfigured:
        return []


@shows_no_locals
def list_forms(secrets: Iterable[str]) -> list[str]:
    """Return secrets in every form that an answer may have: plain, JSON, URL."""
    return [
        form
        for secret in secrets
        # A shorter one is not secret, and would match parts of ordinary words.
        if len(secret) >= _SHORTEST
        for form in {
            secret,
            json.dumps(secret)[1:-1],
            json.dumps(secret, ensure_ascii=False)[1:-1],
            quote(secret),
            quote(secret, safe=""),
            # Headers are read as Latin-1.
            secret.encode().decode("latin-1"),
        }
    ]


def redact(text: str, forms: Iterable[str]) -> str:
    """Return a text with asterisks in place of each of ``forms``."""
    for form in forms:
        text = text.replace(form, MASK)
    return text
