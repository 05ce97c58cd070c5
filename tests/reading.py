"""Reads the visible content of a mail, to compare two ways of sending it."""

from __future__ import annotations

import email
import re
from email import policy
from email.message import EmailMessage
from html import unescape
from typing import Any
from urllib.parse import unquote

ADDRESS_HEADERS = ("From", "To", "Cc", "Reply-To", "Sender")

#: Headers that depend on the composer of a mail.
OF_THE_WAY = {
    "date",
    "message-id",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "subject",
    "from",
    "to",
    "cc",
    "reply-to",
    "sender",
}


def read(raw: bytes, *, own_headers: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return all visible content. ``own_headers``: those of `OF_THE_WAY` to compare."""
    mail = email.message_from_bytes(raw, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    names = [name.lower() for name in mail]
    leaves = list(_leaves(mail))
    pictures = {_cid(part): part.get_content() for part in leaves if _cid(part)}
    return {
        "addresses": {name: _addresses(mail, name) for name in ADDRESS_HEADERS},
        # A folded header may begin with white space.
        "subject": str(mail.get("Subject", "")).lstrip(),
        "headers": sorted(
            (name.lower(), _unfolded(value))
            for name, value in mail.items()
            if name.lower() not in OF_THE_WAY or name.lower() in own_headers
        ),
        "twice": sorted({name for name in names if names.count(name) > 1}),
        "parts": [_seen(part, pictures) for part in leaves],
    }


def _leaves(mail: Any) -> Any:
    for part in mail.iter_parts() if mail.is_multipart() else [mail]:
        if part.get_content_maintype() == "multipart":
            yield from _leaves(part)
        else:
            yield part


def _addresses(mail: EmailMessage, name: str) -> list[tuple[str, str]]:
    header: Any = mail.get(name)
    if header is None:
        return []
    return [
        (_words(a.display_name), f"{a.username}@{a.domain.lower()}")
        for a in header.addresses
    ]


def _unfolded(value: str) -> str:
    return _words(re.sub(r"\r?\n(?=[ \t])", "", str(value)).strip())


def _words(text: str) -> str:
    # Python's parser keeps the white space between two encoded words, although RFC
    # 2047, 6.2, requires removing it. Texts of this length have several words.
    return re.sub(r"\s", "", text) if len(text) > 40 and not text.isascii() else text


def _cid(part: Any) -> str:
    return str(part.get("Content-ID", "")).strip().strip("<>")


def _seen(part: Any, pictures: dict[str, Any]) -> tuple[str, str | None, Any]:
    kind = part.get_content_type()
    if kind.startswith("message/"):
        return kind, part.get_filename(), read(part.get_payload()[0].as_bytes())
    content = part.get_content()
    if isinstance(content, str):
        content = _lines(content)
    if kind == "text/html" and isinstance(content, str):
        # Compare the picture of each reference, not its name.
        content = re.sub(
            r"(?i)cid:((?:(?!&quot;)[^\s\"'<>()])+)",
            lambda m: repr(pictures.get(unquote(unescape(m[1])), m[0])),
            content,
        )
    return kind, part.get_filename(), content


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
