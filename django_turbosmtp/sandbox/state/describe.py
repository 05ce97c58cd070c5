"""Reads a delivered message: text, HTML, headers, attachments."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from email import policy
from email.parser import BytesParser
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from email.message import EmailMessage, Message


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """A part other than the shown body, without its bytes."""

    name: str
    type: str
    size: int
    sha256: str
    content_id: str | None
    inline: bool


@dataclass(frozen=True, kw_only=True)
class Details:
    """The data of a message for the pages and the JSON."""

    subject: str
    text: str
    html: str
    headers: list[tuple[str, str]]
    files: list[FileInfo]


def parse(raw: bytes) -> EmailMessage:
    """Return the message; an invalid one is parsed as far as possible."""
    message: EmailMessage = BytesParser(policy=policy.default).parsebytes(raw)
    return message


def read_details(raw: bytes) -> Details:
    """Return the data of `raw`."""
    message = parse(raw)
    text, html, files = _sort_leaves(message)
    return Details(
        subject=_read_header(message, "Subject"),
        text=_decode_text(text) if text is not None else "",
        html=_decode_text(html) if html is not None else "",
        headers=[
            (name, _decode_header(name, value)) for name, value in message.raw_items()
        ],
        files=[
            _describe_file(part, index) for index, part in enumerate(files, start=1)
        ],
    )


def read_file(raw: bytes, number: int) -> bytes:
    """Return the bytes of attachment `number`, counted from 1."""
    return _read_bytes(_sort_leaves(parse(raw))[2][number - 1])


def _sort_leaves(
    message: EmailMessage,
) -> tuple[EmailMessage | None, EmailMessage | None, list[EmailMessage]]:
    """Return the text body, the HTML body and all other leaves in order."""
    text: EmailMessage | None = None
    html: EmailMessage | None = None
    files: list[EmailMessage] = []
    pending: list[Any] = [message]
    while pending:
        part = pending.pop()
        kind = part.get_content_type()
        if part.get_content_maintype() == "multipart" and part.is_multipart():
            # The last item is taken first, so reverse the parts to keep their order.
            pending += reversed(part.get_payload())
        elif _read_disposition(part) == "attachment":
            files.append(part)
        # Only the first text is the body, as in mail programs; a second one is shown as
        # a file.
        elif kind == "text/plain" and text is None:
            text = part
        elif kind == "text/html" and html is None:
            html = part
        else:
            files.append(part)
    return text, html, files


def _describe_file(part: EmailMessage, number: int) -> FileInfo:
    content = _read_bytes(part)
    content_id = _read_header(part, "Content-ID").strip().strip("<>") or None
    return FileInfo(
        name=_read_filename(part) or f"part-{number}",
        type=part.get_content_type(),
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        content_id=content_id,
        inline=content_id is not None and _read_disposition(part) != "attachment",
    )


def _read_bytes(part: EmailMessage) -> bytes:
    if part.get_content_maintype() == "message" and part.is_multipart():
        # An attached message is parsed as a part, so it has no payload to decode.
        inner: Any = part.get_payload(0)
        return bytes(inner.as_bytes())
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _decode_text(part: EmailMessage) -> str:
    charset = part.get_content_charset() or "utf-8"
    try:
        return _read_bytes(part).decode(charset, "replace")
    except LookupError:
        return _read_bytes(part).decode("utf-8", "replace")


def _read_header(part: Message[Any, Any], name: str) -> str:
    for found, value in part.raw_items():
        if found.lower() == name.lower():
            return _decode_header(found, value)
    return ""


def _decode_header(name: str, value: Any) -> str:
    try:
        shown = str(policy.default.header_fetch_parse(name, value))
    except Exception:  # noqa: BLE001  (the parser's own bugs on odd headers)
        shown = str(value)
    # Encoded words may contain unpaired surrogates, which a page cannot contain.
    return shown.encode("utf-8", "replace").decode()


def _read_filename(part: EmailMessage) -> str:
    try:
        name = part.get_filename() or ""
    except Exception:  # noqa: BLE001  (as above)
        return ""
    return name.encode("utf-8", "replace").decode()


def _read_disposition(part: EmailMessage) -> str:
    value = _read_header(part, "Content-Disposition")
    return value.partition(";")[0].strip().lower()
