"""Checks the text of a message, and encodes headers that are not ASCII (RFC 2047)."""

from __future__ import annotations

import binascii
import re
import unicodedata
from email.header import Header

from django_turbosmtp._lib.versions import BadHeaderError
from django_turbosmtp.exceptions import MessageError

#: The words for half of a UTF-16 surrogate pair in errors.
SURROGATE = "an unpaired surrogate, which is not valid Unicode"

_BREAKS = frozenset("\r\n\0")

# The look-ahead finds words that begin inside another one. The lengths are limited, so
# that a search takes linear time.
_ENCODED_WORD = re.compile(
    r"(?==\?([^?\s]{1,60})\?([bBqQ])\?(.{0,1000}?)\?=)", re.DOTALL
)

#: Errors show at most this many characters of a text.
_MAX_SHOWN = 200


class HeaderInjection(MessageError, BadHeaderError):  # noqa: N818 - as its base
    """A value that would become more than one header; also Django's BadHeaderError."""


def find_surrogate(text: str) -> int | None:
    """Return the position of the first unpaired surrogate, or None."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def encode_utf8(text: str, where: str) -> bytes:
    """Return ``text`` in UTF-8. ``where``: the name of the field, for errors.

    Raise `MessageError` for an unpaired surrogate.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        position = error.start
    # Raise it outside the handler, because the other error contains the whole text.
    raise MessageError(
        f"{where} contains {SURROGATE}, at position {position}. Remove it, or decode"
        " the text again from its bytes."
    )


def encode_words(text: str) -> str:
    """Return ``text`` as RFC 2047 encoded words on one line.

    The text has no unpaired surrogates: `encode_utf8` refuses those.
    """
    return Header(text, "utf-8", maxlinelen=75).encode(linesep="")


def has_break(text: str) -> bool:
    """Return whether ``text`` contains CR, LF or NUL, which would end a header."""
    return not _BREAKS.isdisjoint(text)


def has_control(text: str) -> bool:
    """Return whether ``text`` contains a control character or any kind of line break.

    Characters that only join, separate or direct letters are allowed: Persian and emoji
    need them.
    """
    if text.isprintable():
        return False
    return any(
        unicodedata.category(character) in {"Cc", "Zl", "Zp"} for character in text
    )


def refuse_header_injection(text: str, where: str) -> None:
    """Raise `HeaderInjection` for a value that would become a second header.

    Encoded words (RFC 2047) are checked in decoded form, because Python 3.12.1, among
    others, writes some of them decoded.
    """
    if has_break(text) or ("=?" in text and _decodes_to_break(text)):
        raise HeaderInjection(
            f"{where} contains a line break or a null character, which would inject a"
            " header. Remove it."
        )


def _decodes_to_break(text: str, depth: int = 3) -> bool:
    # Check every word, wherever it begins: a word that is malformed to one mail program
    # is decoded by another.
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
        # Be as lenient as the most lenient mail program.
        raw = re.sub(rb"[^A-Za-z0-9+/]", b"", raw)
        # A single remaining character does not encode a byte.
        raw = raw[:-1] if len(raw) % 4 == 1 else raw
        raw = binascii.a2b_base64(raw + b"==")
    else:
        raw = binascii.a2b_qp(raw, header=True)
    try:
        return raw.decode(charset.partition("*")[0], "replace")
    except (LookupError, ValueError):
        return raw.decode("latin-1")


def shorten(text: str) -> str:
    """Return the beginning of a text for an error, which must not contain a body."""
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


#: Spreadsheets read a cell that begins with one as a formula (OWASP, "CSV Injection").
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
#: Spreadsheets ignore these at the beginning of a cell: spaces of any kind, line
#: breaks, byte order marks, and characters without a width.
_UNSEEN = (
    " \t\r\n\v\f\0\x1c\x1d\x1e\x1f\x85\xa0\xad\u034f\u061c\u115f\u1160\u1680\u180e"
    "\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u200b\u200c\u200d"
    "\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u202f\u205f\u2060\u2061\u2062"
    "\u2063\u2064\u2066\u2067\u2068\u2069\u3000\u3164\ufe0f\ufeff\uffa0"
)
#: These separate cells, too: where the decimal sign is a comma, and in pasted text.
_SEPARATOR = re.compile(r"([;\t\r\n|])")


def write_cell(text: str) -> str:
    """Return a text for a CSV cell, with every possible formula disabled.

    Such a part gets an apostrophe before it, which spreadsheets do not show.
    """
    first, *others = _SEPARATOR.split(text)
    if _is_formula(text):
        first = f"'{first}"
    others = [f"'{piece}" if _is_formula(piece) else piece for piece in others]
    return "".join([first, *others])


def read_cell(text: str) -> str:
    """Return the original text of a cell from `write_cell`."""
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
