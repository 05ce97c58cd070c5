"""Which text a mail can carry, and how headers say what is not ASCII (RFC 2047)."""

from __future__ import annotations

import binascii
import re
import unicodedata
from email.header import Header

from django_turbosmtp._lib.versions import BadHeaderError
from django_turbosmtp.exceptions import MessageError

#: How errors name half of a character that UTF-16 writes in two.
SURROGATE = "an unpaired surrogate, which is not valid Unicode"

_BREAKS = frozenset("\r\n\0")

# Also where one begins inside another; of bounded length, so that the search is linear.
_ENCODED_WORD = re.compile(
    r"(?==\?([^?\s]{1,60})\?([bBqQ])\?(.{0,1000}?)\?=)", re.DOTALL
)

#: Errors show at most this many characters of a text.
_MAX_SHOWN = 200


class HeaderInjection(MessageError, BadHeaderError):  # noqa: N818 - as its base
    """A value that would become more than one header: Django's own error as well."""


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


def has_control(text: str) -> bool:
    """Tell whether ``text`` holds a control character or any kind of line break.

    Not what only joins, separates or directs letters: Persian and emoji need those.
    """
    if text.isprintable():
        return False
    return any(
        unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in text
    )


def refuse_header_injection(text: str, where: str) -> None:
    """Raise `HeaderInjection` for a value that would become a second header.

    Encoded words (RFC 2047) count as what they decode to: Python 3.12.1, among others,
    writes some of them decoded.
    """
    if has_break(text) or ("=?" in text and _decodes_to_break(text)):
        raise HeaderInjection(
            f"{where} holds a line break or a null character, which would inject a"
            " header. Remove it."
        )


def _decodes_to_break(text: str, depth: int = 3) -> bool:
    # Each word by itself, wherever it begins: what one reader takes for broken, and so
    # for text, another decodes.
    for match in _ENCODED_WORD.finditer(text):
        decoded = _decode_word(*match.groups())
        if has_break(decoded):
            return True
        if depth and "=?" in decoded and _decodes_to_break(decoded, depth - 1):
            return True
    return False


def _decode_word(charset: str, encoding: str, encoded: str) -> str:
    raw = encoded.encode(errors="replace")
    if encoding in "bB":
        # As lenient as the most lenient reader.
        raw = re.sub(rb"[^A-Za-z0-9+/]", b"", raw)
        # One character by itself stands for no byte.
        raw = raw[:-1] if len(raw) % 4 == 1 else raw
        raw = binascii.a2b_base64(raw + b"==")
    else:
        raw = binascii.a2b_qp(raw, header=True)
    try:
        return raw.decode(charset.partition("*")[0], "replace")
    except (LookupError, ValueError):
        return raw.decode("latin-1")


def shorten(text: str) -> str:
    """Return what an error shows of a text: a body given by mistake is not shown."""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


#: A spreadsheet takes a cell that begins so for a formula (OWASP, "CSV Injection").
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
#: Not shown by a spreadsheet, which then reads what follows: spaces of any kind, line
#: breaks, byte order marks, and characters without a width.
_UNSEEN = (
    " \t\r\n\v\f\0\x1c\x1d\x1e\x1f\x85\xa0\xad\u034f\u061c\u115f\u1160\u1680\u180e"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d"
    "\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u202f\u205f\u2060\u2061\u2062"
    "\u2063\u2064\u2066\u2067\u2068\u2069\u3000\u3164\ufe0f\ufeff\uffa0"
)
#: Separators of cells where a comma is the decimal sign, and of pasted text: what
#: follows one may become a cell of its own.
_SEPARATOR = re.compile(r"([;\t\r\n|])")


def write_cell(text: str) -> str:
    """Return a text for a cell of a CSV file that no spreadsheet takes for a formula.

    An apostrophe, which spreadsheets do not show, precedes what would be one.
    """
    first, *others = _SEPARATOR.split(text)
    if _is_formula(text):
        first = f"'{first}"
    others = [f"'{piece}" if _is_formula(piece) else piece for piece in others]
    return "".join([first, *others])


def read_cell(text: str) -> str:
    """Return the text of which `write_cell` made this one."""
    first, *others = _SEPARATOR.split(text)
    if first[:1] == "'" and _is_formula(text[1:]):
        first = first[1:]
    others = [
        piece[1:] if piece[:1] == "'" and _is_formula(piece[1:]) else piece
        for piece in others
    ]
    return "".join([first, *others])


def _is_formula(piece: str) -> bool:
    return piece.lstrip("\"'" + _UNSEEN).startswith(_FORMULA)
