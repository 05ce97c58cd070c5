"""The ``headers`` of a message: what a field says, what only MIME can say. Pure."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from datetime import datetime
from email.errors import HeaderParseError
from email.header import Header, decode_header
from typing import TYPE_CHECKING, Any

from django.utils.encoding import force_str

from django_turbosmtp.constants import SHOWN_HEADERS
from django_turbosmtp.exceptions import MessageError, UnsupportedFeature

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger("django_turbosmtp.payload")

_NAME = re.compile(r"[!-9;-~]+")

#: At most one of each in a message (RFC 5322, 3.6; RFC 2045), and Django has set it.
_SET_BY_DJANGO = {
    "subject",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
}

#: What a mail server sets or reads itself: as custom headers they might come twice,
#: be replaced or change the sender, which no document says; in MIME they are exact.
_ONLY_IN_MIME = {"date", "message-id", "sender", "return-path", "received"}
_ONLY_IN_MIME_PREFIXES = ("content-", "resent-", "dkim-", "arc-", "mime-")


@dataclass(frozen=True, kw_only=True)
class Headers:
    """A message's own headers, sorted by who can say them."""

    #: As Django will see them, each value a str or a datetime.
    all: Mapping[str, Any] = field(default_factory=dict)
    #: Those that turboSMTP's ``custom_headers`` can say, in ASCII.
    custom: Mapping[str, str] = field(default_factory=dict)
    #: Why the message must go as MIME, or "".
    why_mime: str = ""

    def shown(self, name: str) -> Any:
        """Return the header Django shows as ``name``, None where lists say it."""
        return self.all.get(name)


def read_headers(headers: Mapping[str, Any]) -> Headers:
    """Sort ``headers``, refusing what no message may have (`MessageError`)."""
    everything: dict[str, Any] = {}
    custom: dict[str, str] = {}
    why_mime = ""
    for given, value in headers.items():
        name = str(given)
        text = _checked(name, value)
        everything[name] = value if isinstance(value, datetime) else text
        lowered = name.lower()
        if lowered in SHOWN_HEADERS:
            if name != SHOWN_HEADERS[lowered]:
                logger.warning(
                    "Django ignores headers[%r]: spell it with capitals as in %s.",
                    name,
                    ", ".join(SHOWN_HEADERS.values()),
                )
            continue
        if lowered in _ONLY_IN_MIME or lowered.startswith(_ONLY_IN_MIME_PREFIXES):
            why_mime = f"a {name} header of its own"
        elif needs_mime(text):
            why_mime = f"control characters in {name}"
        elif lowered in {other.lower() for other in custom}:
            why_mime = f"{name} twice, in different spellings"
        else:
            custom[name] = encode_text(text, f"headers[{name!r}]")
    return Headers(all=everything, custom=custom, why_mime=why_mime)


def _checked(name: str, value: Any) -> str:
    if not _NAME.fullmatch(name):
        raise MessageError(
            f"headers: {name!r} is no header name; it takes visible ASCII characters"
            " other than ':'."
        )
    if name.lower() == "bcc":
        raise UnsupportedFeature(
            "headers['Bcc'] would show the blind copies to everybody; use the message's"
            " bcc list."
        )
    if name.lower() in _SET_BY_DJANGO:
        raise MessageError(
            f"headers[{name!r}]: Django sets this header itself, and a message may"
            " have only one. Set the message's subject, body or attachments instead."
        )
    if value is None:
        raise MessageError(f"headers[{name!r}] is None; leave the header out.")
    text = force_str(value)
    refuse_header_injection(text, f"headers[{name!r}]")
    return text


def refuse_header_injection(text: str, where: str) -> None:
    """Raise `MessageError` for a value that would become a second header.

    Encoded words (RFC 2047) count as what they decode to: Python 3.12.1, among others,
    writes some of them decoded.
    """
    if not _BREAKS.isdisjoint(text) or ("=?" in text and _hides_break(text)):
        raise MessageError(
            f"{where} holds a line break or a null character, which would inject a"
            " header. Remove it."
        )


_BREAKS = frozenset("\r\n\0")


def _hides_break(text: str) -> bool:
    try:
        words = decode_header(text)
    except (HeaderParseError, ValueError):
        return False
    for word, charset in words:
        if isinstance(word, bytes):
            try:
                word = word.decode(charset or "ascii", "replace")
            except LookupError:
                word = word.decode("latin-1")
        if not _BREAKS.isdisjoint(word):
            return True
    return False


def needs_mime(text: str) -> bool:
    """Tell whether a header value has what JSON carries and headers may not.

    Python splits lines at more characters than CR and LF, and Django 6 refuses
    those; what each release does with them is left to it.
    """
    return len(text.splitlines()) > 1 or any(
        ord(character) < 32 and character != "\t" for character in text
    )


def encode_text(text: str, where: str) -> str:
    """Return a header value in ASCII: RFC 2047 words where it is not, on one line."""
    if text.isascii():
        return text
    try:
        return Header(text, "utf-8", maxlinelen=75).encode(linesep="")
    except UnicodeEncodeError:
        raise MessageError(
            f"{where} holds half a character (a lone surrogate), which no mail can"
            " carry."
        ) from None
