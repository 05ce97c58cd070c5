"""Encodes header values that are not ASCII, except for addresses, ids and URLs.

Inside an encoded word (RFC 2047), programs do not recognize these: a mail client does
not show "unsubscribe", for example, or does not send a receipt.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit, urlunsplit

from django.utils.encoding import punycode

from django_turbosmtp._lib.text import encode_words, shorten
from django_turbosmtp.exceptions import InvalidAddress, MessageError
from django_turbosmtp.payload.addresses import is_plain, parse_list

#: Headers that consist of addresses (RFC 5322, RFC 8098 and custom headers).
_OF_ADDRESSES = {
    *("disposition-notification-to", "return-receipt-to", "errors-to", "x-errors-to"),
    *("x-confirm-reading-to", "mail-followup-to", "mail-reply-to", "abuse-reports-to"),
    *("apparently-to", "envelope-to", "delivered-to", "x-original-to"),
}

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]+")

#: The tokens of a structured header (RFC 5322, 3.2).
_STRUCTURED = re.compile(
    r"(?P<angle><[^<>]*>)"
    r'|(?P<quoted>"(?:[^"\\]|\\.){0,500}")'  # bounded, so that the search is linear
    r"|(?P<space>\s+)"
    r"|(?P<special>[()<>,;\"])"
    r"|(?P<word>[^\s()<>,;\"]+)"
)
_UNSTRUCTURED = re.compile(r"(?P<space>\s+)|(?P<word>\S+)")
_ANGLE = re.compile(r"<[^<>\s]*>")

#: Python's address parser takes quadratic time, so longer texts are not parsed.
_MAX_ADDRESSES = 2_000

# Includes the percent sign, so that encoded parts are not encoded again.
_SAFE = "!#$%&'()*+,/:;=?@[]~"


def encode_value(name: str, text: str) -> str:
    """Return the value of the header ``name`` in ASCII.

    Raise `MessageError` for an address, an id or a URL that has no ASCII form.
    """
    if name.lower() in _OF_ADDRESSES and len(text) < _MAX_ADDRESSES:
        try:
            mailboxes = parse_list(text, name)
        except InvalidAddress:
            pass  # Encode the words one by one.
        else:
            if all(map(is_plain, mailboxes)):
                return ", ".join(mailbox.format_unsplit() for mailbox in mailboxes)
    structured = name.lower().startswith("list-") or any(
        not set("@:.").isdisjoint(found) for found in _ANGLE.findall(text)
    )
    done: list[str] = []
    words: list[str] = []  # adjacent words to encode together, and the space between

    def write_words() -> None:
        joined = "".join(words)
        stripped = joined.rstrip()
        if stripped:
            done.append(encode_words(stripped))
        done.append(joined[len(stripped) :])
        words.clear()

    for match in (_STRUCTURED if structured else _UNSTRUCTURED).finditer(text):
        kind, token = match.lastgroup, match[0]
        if kind == "quoted" and not token.isascii():
            token = re.sub(r"\\(.)", r"\1", token[1:-1])
        if kind in {"quoted", "word"} and _URL.fullmatch(token):
            token = _encode_name(name, token)
        if (kind in {"quoted", "word"} and (not token.isascii() or "=?" in token)) or (
            kind == "space" and words
        ):
            words.append(token)
        else:
            write_words()
            done.append(
                f"<{_encode_name(name, token[1:-1])}>" if kind == "angle" else token
            )
    write_words()
    return "".join(done)


def fold(value: str, *, used: int, width: int = 76) -> str:
    """Return a header value folded at its spaces; lines end in CRLF.

    ``used``: the length of its name, in the first line.
    """
    lines = [""]
    for word in re.findall(r"\s*\S+", value.rstrip()):
        taken = used if len(lines) == 1 else 0
        if lines[-1] and taken + len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += word
    return "\r\n".join(lines)


def _encode_name(header: str, text: str) -> str:
    """Return an address, an id or a URL in its standard ASCII form."""
    if text.isascii():
        return text
    try:
        if _URL.fullmatch(text):
            return _encode_url(text)
        local, at, domain = text.rpartition("@")
        if local.isascii():
            return f"{local}{at}{punycode(domain)}"
    except ValueError:
        pass
    raise MessageError(
        f"headers[{header!r}]: {shorten(text)!r} is not an address, id or URL that can"
        " be written in ASCII."
    )


def _encode_url(url: str) -> str:
    """Return a URL with its host in IDNA and the rest percent-encoded (RFC 3987)."""
    scheme, netloc, *rest = urlsplit(url)
    login, at, host = netloc.rpartition("@")
    name, colon, port = host.partition(":")
    if not host.isascii():
        host = f"{punycode(name)}{colon}{port}"
    parts = [quote(part, safe=_SAFE) for part in (f"{login}{at}", *rest)]
    return urlunsplit((scheme, f"{parts[0]}{host}", *parts[1:]))
