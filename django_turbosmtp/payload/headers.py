"""Reads the ``headers`` of a message, and finds those that need MIME. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.utils.encoding import force_str

from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp._lib.text import (
    HeaderInjection,
    encode_utf8,
    has_break,
    refuse_header_injection,
)
from django_turbosmtp.exceptions import MessageError, UnsupportedFeature
from django_turbosmtp.payload.contents import read_words
from django_turbosmtp.payload.header_values import encode_value
from django_turbosmtp.payload.wire import SHOWN_HEADERS, NotExact

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = get_logger("django_turbosmtp.payload")

_NAME = re.compile(r"[!-9;-~]+")

#: A message may have only one of each (RFC 5322, 3.6; RFC 2045), and Django sets it.
_SET_BY_DJANGO = {
    "subject",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
}

#: Headers that mail servers set or read. As custom headers they might be duplicated or
#: replaced, or change the sender: turboSMTP documents none of this. MIME is exact.
_ONLY_IN_MIME = {"date", "message-id", "sender", "return-path", "received"}
_ONLY_IN_MIME_PREFIXES = ("content-", "resent-", "dkim-", "arc-", "mime-")


#: Django encodes the addresses of these headers.
_WRITTEN_BY_DJANGO = {
    *("from", "sender", "reply-to", "to", "cc"),
    *("resent-from", "resent-sender", "resent-to", "resent-cc"),
}

_OF_RECIPIENTS = {"to", "cc", "resent-to", "resent-cc"}


@dataclass(kw_only=True, slots=True)
class Headers:
    """The checked headers of a message. Values are str or datetime, as in Django."""

    all: Mapping[str, Any] = field(default_factory=dict)

    def shown(self, name: str) -> Any:
        """Return the header that Django uses for ``name``, None if it uses a list."""
        return self.all.get(name)

    @property
    def show_recipients(self) -> bool:
        """Whether any of them may contain a recipient that is not in the lists."""
        return any(name.lower() in _OF_RECIPIENTS for name in self.all)

    def as_mime_headers(self) -> dict[str, Any]:
        """Return the headers for Django, in ASCII if Django would encode them whole."""
        return {
            name: encode_value(name, value)
            if isinstance(value, str)
            and not value.isascii()
            and name.lower() not in _WRITTEN_BY_DJANGO
            else value
            for name, value in self.all.items()
        }

    def as_custom_headers(self) -> dict[str, str]:
        """Return turboSMTP's ``custom_headers``, in ASCII.

        Those that Django uses instead of a message's list are not included. Raise
        `NotExact` if the field cannot express one of them.
        """
        custom: dict[str, str] = {}
        taken: set[str] = set()
        for name, value in self.all.items():
            lowered = name.lower()
            if lowered in SHOWN_HEADERS:
                continue
            text = str(value)
            if lowered in _ONLY_IN_MIME or lowered.startswith(_ONLY_IN_MIME_PREFIXES):
                raise NotExact(f"a custom {name} header")
            if needs_mime(text):
                raise NotExact(f"control characters in {name}")
            if lowered in taken:
                raise NotExact(f"{name} twice, in different spellings")
            taken.add(lowered)
            custom[name] = text if text.isascii() else encode_value(name, text)
        return custom


def read_headers(headers: Mapping[str, Any]) -> Headers:
    """Return ``headers`` without those whose value is None.

    Raise MessageError for a header that is not allowed.
    """
    checked: dict[str, Any] = {}
    for given, value in headers.items():
        if value is None:
            # django-helpdesk sets In-Reply-To to None; Django would send "None".
            continue
        name = str(given)
        text = _check(name, value)
        checked[name] = value if isinstance(value, datetime) else text
        shown_as = SHOWN_HEADERS.get(name.lower(), name)
        if name != shown_as:
            logger.warning(
                "Django ignores headers[%r]: spell it with capitals as in %s.",
                name,
                ", ".join(SHOWN_HEADERS.values()),
            )
    return Headers(all=checked)


def _check(name: str, value: Any) -> str:
    if not _NAME.fullmatch(name):
        error = HeaderInjection if has_break(name) else MessageError
        raise error(
            f"headers: {name!r} is not a header name: use visible ASCII characters"
            " other than ':'."
        )
    where = f"headers[{name!r}]"
    if name.lower() in {"bcc", "resent-bcc"}:
        raise UnsupportedFeature(
            f"{where} would show the Bcc recipients to all others; use the message's"
            " bcc list."
        )
    if name.lower() in _SET_BY_DJANGO:
        raise MessageError(
            f"{where}: Django sets this header itself, and a message may"
            " have only one. Set the message's subject, body or attachments instead."
        )
    text = force_str(value) if isinstance(value, bytes) else read_words(value, where)
    refuse_header_injection(text, where)
    encode_utf8(text, where)
    return text


def needs_mime(text: str) -> bool:
    """Return whether a header value has characters that only Django may handle.

    Python splits lines at more characters than CR and LF, and the releases of Django
    handle these differently (6.0 refuses them). So Django builds such a message.
    """
    if text.isprintable():
        return False
    return len(text.splitlines()) > 1 or any(
        ord(character) < 32 and character != "\t" for character in text
    )
