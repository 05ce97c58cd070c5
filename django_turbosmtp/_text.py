"""Which text a mail can carry, and how headers say what is not ASCII (RFC 2047)."""

from __future__ import annotations

from email.errors import HeaderParseError
from email.header import Header, decode_header

from django_turbosmtp.exceptions import MessageError

#: How errors name half of a character that UTF-16 writes in two.
SURROGATE = "an unpaired surrogate, which is not valid Unicode"

_BREAKS = frozenset("\r\n\0")

#: Errors show at most this many characters of a text.
_MAX_SHOWN = 200


def find_surrogate(text: str) -> int | None:
    """Return the position of the first unpaired surrogate, None where all is valid."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def encode_utf8(text: str, where: str) -> bytes:
    """Return ``text`` in UTF-8. ``where`` names the field in errors.

    Raise `MessageError` for an unpaired surrogate.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        position = error.start
    # Raised outside the handler: the other error holds the whole text.
    raise MessageError(
        f"{where} holds {SURROGATE}, at position {position}. Remove it, or decode the"
        " text again from its bytes."
    )


def encode_words(text: str) -> str:
    """Return ``text`` as RFC 2047 encoded words on one line.

    It holds no unpaired surrogate: `encode_utf8` refuses those.
    """
    return Header(text, "utf-8", maxlinelen=75).encode(linesep="")


def has_break(text: str) -> bool:
    """Tell whether ``text`` holds CR, LF or NUL, at which a header would end."""
    return not _BREAKS.isdisjoint(text)


def refuse_header_injection(text: str, where: str) -> None:
    """Raise `MessageError` for a value that would become a second header.

    Encoded words (RFC 2047) count as what they decode to: Python 3.12.1, among others,
    writes some of them decoded.
    """
    if has_break(text) or ("=?" in text and _decodes_to_break(text)):
        raise MessageError(
            f"{where} holds a line break or a null character, which would inject a"
            " header. Remove it."
        )


def _decodes_to_break(text: str) -> bool:
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
        if has_break(word):
            return True
    return False


def shorten(text: str) -> str:
    """Return what an error shows of a text: a body given by mistake is not shown."""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
