"""Composes the delivered message from the fields, like turboSMTP."""

from __future__ import annotations

import binascii
import re
import secrets
from email import policy
from email.header import Header
from email.utils import format_datetime, formataddr
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from datetime import datetime

    from django_turbosmtp.sandbox.service.addressing import ParsedAddress
    from django_turbosmtp.sandbox.service.rules import Attached, Checked

Headers = list[tuple[str, str]]
# A part: headers and encoded body.
Entity = tuple[Headers, bytes]


def compose(
    fields: dict[str, Any], checked: Checked, *, mid: str, now: datetime
) -> bytes:
    """Return the message as it would arrive; `mime_raw` arrives unchanged."""
    if "mime_raw" in fields:
        raw: bytes = fields["mime_raw"].encode()
        return raw
    headers: Headers = [("From", _format_mailboxes([checked.sender]))]
    for kind, name in (("to", "To"), ("cc", "Cc")):
        if checked.mailboxes[kind]:
            headers.append((name, _format_mailboxes(checked.mailboxes[kind])))
    if "subject" in fields:
        headers.append(("Subject", _encode_words(fields["subject"])))
    custom: dict[str, str] = fields.get("custom_headers", {})
    given = {name.lower() for name in custom}
    if "date" not in given:
        headers.append(("Date", format_datetime(now)))
    if "message-id" not in given:
        headers.append(("Message-ID", f"<{mid}@turbosmtp-sandbox.invalid>"))
    headers += [(name, _format_custom(name, value)) for name, value in custom.items()]
    headers.append(("MIME-Version", "1.0"))
    part_headers, body = _build_content(fields, checked)
    return _render((headers + part_headers, body))


def is_referenced(html: str, content_id: str, domain: str) -> bool:
    """Return whether `html` refers to the inline part by the id it will get."""
    reference = re.escape(f"cid:{content_id}@{domain}")
    return re.search(rf"{reference}(?![\w.@-])", html) is not None


def _build_content(fields: dict[str, Any], checked: Checked) -> Entity:
    html: str | None = fields.get("html_content")
    domain = checked.sender.domain
    inline: list[Entity] = []
    attached: list[Entity] = []
    for item in checked.attachments:
        shown = item.content_id is not None and is_referenced(
            html or "", item.content_id, domain
        )
        # Quirk 3: a picture without such a reference is an ordinary attachment.
        (inline if shown else attached).append(
            _build_file(item, domain if shown else "")
        )
    alternatives = []
    # A message without any body gets an empty text, so that it has a valid part.
    if "content" in fields or html is None:
        alternatives.append(_build_text(fields.get("content", ""), "plain"))
    if html is not None:
        page = _build_text(html, "html")
        alternatives.append(
            _build_multipart("related", [page, *inline]) if inline else page
        )
    body = alternatives[0]
    if len(alternatives) > 1:
        body = _build_multipart("alternative", alternatives)
    return _build_multipart("mixed", [body, *attached]) if attached else body


def _build_text(text: str, subtype: str) -> Entity:
    data = text.encode()
    # Line ends are encoded, so that the decoded text is exactly the posted one.
    lines = binascii.b2a_qp(data, quotetabs=False, istext=False)
    body = lines.replace(b"=0A", b"=0A=\n").replace(b"\r\n", b"\n")
    encoding = "quoted-printable"
    # Base64 needs about 1.37 times the bytes, so use it if quoted-printable is much
    # longer.
    if len(body) > 1.7 * len(data) + 200:
        body, encoding = _encode_base64(data), "base64"
    headers = [
        ("Content-Type", f'text/{subtype}; charset="utf-8"'),
        ("Content-Transfer-Encoding", encoding),
    ]
    return headers, body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _build_file(item: Attached, inline_domain: str) -> Entity:
    disposition = "inline" if inline_domain else "attachment"
    headers = [
        ("Content-Type", item.type),
        ("Content-Disposition", f"{disposition}; {_format_parameter(item.name)}"),
    ]
    if inline_domain:
        headers.append(("Content-ID", f"<{item.content_id}@{inline_domain}>"))
    if item.type.lower().startswith("message/rfc822"):
        # RFC 2046 forbids encoding it; programs could not open it.
        return [*headers, ("Content-Transfer-Encoding", "8bit")], item.content
    body = _encode_base64(item.content)
    return [*headers, ("Content-Transfer-Encoding", "base64")], body


def _format_parameter(name: str) -> str:
    if name.isascii() and name.isprintable():
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'filename="{escaped}"'
    # The form of RFC 2231 for names that are not ASCII.
    return f"filename*=utf-8''{quote(name, safe='')}"


def _encode_base64(data: bytes) -> bytes:
    # 57 bytes make a line of 76 characters.
    lines = (
        binascii.b2a_base64(data[at : at + 57], newline=False)
        for at in range(0, len(data), 57)
    )
    return b"\r\n".join(lines)


def _build_multipart(subtype: str, parts: list[Entity]) -> Entity:
    boundary = f"=_sandbox_{secrets.token_hex(12)}"
    mark = b"--" + boundary.encode()
    chunks = [mark + b"\r\n" + _render(part) + b"\r\n" for part in parts]
    header = ("Content-Type", f'multipart/{subtype}; boundary="{boundary}"')
    return [header], b"".join(chunks) + mark + b"--\r\n"


def _render(entity: Entity) -> bytes:
    headers, body = entity
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    return "".join(lines).encode() + b"\r\n" + body


def _format_mailboxes(mailboxes: list[ParsedAddress]) -> str:
    shown = []
    for mailbox in mailboxes:
        if mailbox.name.isascii():
            shown.append(formataddr((mailbox.name, mailbox.address)))
        else:
            shown.append(f"{_encode_words(mailbox.name)} <{mailbox.address}>")
    return ",\r\n ".join(shown)


def _encode_words(text: str) -> str:
    """Return header text verbatim if ASCII, else as encoded words."""
    if text.isascii():
        return text
    return Header(text, "utf-8").encode(linesep="\r\n")


def _format_custom(name: str, value: str) -> str:
    if value.isascii():
        return value
    # A header cannot hold raw UTF-8: a server has to encode it, and in an address
    # header only the names.
    line: str = policy.SMTP.fold(name, policy.SMTP.header_factory(name, value))
    return line.partition(":")[2].strip()
