"""From a Django message to turboSMTP's fields. Pure: no socket, database, settings.

The JSON fields come first, for they are what turboSMTP's own customers use. What
they cannot say exactly goes as ``mime_raw``, built by Django; what turboSMTP cannot
carry at all is a `MessageError` before anything leaves.
"""

from __future__ import annotations

import codecs
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django_turbosmtp import _mime
from django_turbosmtp._envelope import (
    Envelope,
    Keep,
    Recipient,
    is_plain,
    join,
    read_envelope,
)
from django_turbosmtp._headers import (
    Headers,
    needs_mime,
    read_headers,
    refuse_header_injection,
)
from django_turbosmtp._parts import NotExact, Part, parts_of
from django_turbosmtp.addresses import Mailbox, parse, parse_list
from django_turbosmtp.constants import MAX_MESSAGE_BYTES, MAX_SUBJECT_LENGTH
from django_turbosmtp.exceptions import InvalidAddress, MessageError, MessageTooLarge

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django_turbosmtp.message import Attributes

__all__ = ["Part", "Payload", "Recipient", "Translation", "translate"]


@dataclass(frozen=True, kw_only=True)
class Payload:
    """One request: its fields without credentials, and whom it goes to.

    ``attachments`` in ``fields`` is a list of `Part`, their bytes not yet encoded.
    """

    fields: Mapping[str, Any]
    recipients: tuple[Recipient, ...]


@dataclass(frozen=True, kw_only=True)
class Translation:
    """A whole message: the requests it takes, and who was left out of it.

    ``size``: bytes of the whole e-mail, estimated where turboSMTP composes it.
    ``why_mime``: why it goes as ``mime_raw``; "" where it goes as fields.
    """

    payloads: tuple[Payload, ...]
    left_out: tuple[Recipient, ...] = ()
    size: int = 0
    why_mime: str = ""


def translate(
    message: Any,
    attributes: Attributes,
    *,
    api_version: int = 2,
    charset: str = "utf-8",
    keep: Keep | None = None,
) -> Translation:
    """Return ``message`` (a Django ``EmailMessage``) in turboSMTP's words.

    ``charset`` is Django's DEFAULT_CHARSET. ``keep`` decides on each recipient; with
    none left there are no payloads. The message is not written to. Raise
    `InvalidAddress`, `UnsupportedFeature`, `MessageTooLarge` or another
    `MessageError`, which says what was found and where.
    """
    headers = read_headers(attributes.headers)
    sender = parse(message.from_email, "from_email")
    envelope = read_envelope(message, headers, keep)
    if not envelope.recipients:
        return Translation(payloads=(), left_out=envelope.left_out)
    subject = _subject(message)
    try:
        if why := _why_mime(message, headers, subject, charset) or envelope.why_mime:
            raise NotExact(why)
        sender = _shown_sender(headers, sender)
        fields = _fields(message, headers, sender)
        size, why_mime = _composed_size(fields), ""
    except NotExact as reason:
        why_mime = str(reason)
        raw = _render(message, headers, envelope)
        fields, size = {"mime_raw": raw}, len(raw.encode())
        if _mime.is_customised(message) or "=?" in subject:
            subject = _mime.subject_of(raw)
    _refuse_long_subject(subject)
    if size >= MAX_MESSAGE_BYTES[api_version]:
        raise MessageTooLarge(
            f"The whole message has about {size:,} bytes, attachments encoded;"
            f" turboSMTP's API v{api_version} takes less than"
            f" {MAX_MESSAGE_BYTES[api_version]:,}."
        )
    fields = {"from": sender.unsplit(), "subject": subject, **fields}
    if api_version == 2:
        fields["reference_id"] = attributes.reference_id
        if attributes.campaign:
            fields["X-campaign-ID"] = attributes.campaign
    return Translation(
        payloads=tuple(
            Payload(fields=addresses | fields, recipients=recipients)
            for addresses, recipients in envelope.requests(named=not why_mime)
        ),
        left_out=envelope.left_out,
        size=size,
        why_mime=why_mime,
    )


def _subject(message: Any) -> str:
    subject = str(message.subject or "")
    refuse_header_injection(subject, "subject")
    _encoded(subject, "subject")
    return subject


def _refuse_long_subject(subject: str) -> None:
    if len(subject) > MAX_SUBJECT_LENGTH:
        raise MessageTooLarge(
            f"subject has {len(subject)} characters; turboSMTP takes at most"
            f" {MAX_SUBJECT_LENGTH}."
        )


def _encoded(text: str, where: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise MessageError(
            f"{where} holds half a character (a lone surrogate) at position"
            f" {error.start}, which no mail can carry."
        ) from None


def _why_mime(message: Any, headers: Headers, subject: str, charset: str) -> str:
    """Return what no field can say, "" where there is no such thing."""
    if _mime.is_customised(message):
        return "a message that builds its own MIME"
    if headers.why_mime:
        return headers.why_mime
    if needs_mime(subject) or "=?" in subject:
        return "control characters or encoded words in the subject"
    if not _is_utf8(message.encoding or charset):
        return "a charset other than UTF-8"
    if getattr(message, "mixed_subtype", "mixed") != "mixed":
        return "a mixed_subtype of its own"
    if getattr(message, "alternative_subtype", "alternative") != "alternative":
        return "an alternative_subtype of its own"
    return ""


def _is_utf8(encoding: Any) -> bool:
    # A email.charset.Charset object chooses a transfer encoding, too.
    try:
        return isinstance(encoding, str) and codecs.lookup(encoding).name == "utf-8"
    except LookupError:
        return False


def _shown_sender(headers: Headers, sender: Mailbox) -> Mailbox:
    shown = headers.shown("From")
    if shown is not None:
        try:
            mailbox = parse(shown, "headers['From']")
        except InvalidAddress as error:
            raise NotExact("From shows something that is not one address") from error
        if mailbox.addr_spec != sender.addr_spec:
            raise NotExact("From shown other than sent")
        sender = mailbox
    if not is_plain(sender):
        raise NotExact("a comment or a long name in From")
    return sender


def _fields(message: Any, headers: Headers, sender: Mailbox) -> dict[str, Any]:
    text, html = _bodies(message)
    parts, html = parts_of(message.attachments, html, sender.domain)
    custom = {**headers.custom, **_reply_to(message, headers)}
    fields = {
        "content": text,
        "html_content": html,
        "custom_headers": custom or None,
        "attachments": parts or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _bodies(message: Any) -> tuple[str | None, str | None]:
    """Return the text and the HTML body, None where Django makes no such part."""
    body, subtype = _string(message.body), message.content_subtype
    alternatives = list(getattr(message, "alternatives", None) or ())
    if subtype not in {"plain", "html"}:
        raise NotExact(f"a body of type text/{subtype}")
    if not alternatives:
        if not body and message.attachments:
            raise NotExact("attachments without a body")
        return (body, None) if subtype == "plain" else (None, body)
    content, mimetype = alternatives[0]
    if len(alternatives) > 1 or mimetype != "text/html" or not content:
        raise NotExact("alternatives other than one HTML body")
    if body and subtype != "plain":
        raise NotExact("two HTML bodies")
    return body or None, _string(content)


def _string(value: Any) -> str:
    if isinstance(value, bytes):
        raise NotExact("a body given as bytes")
    return "" if value is None else str(value)


def _reply_to(message: Any, headers: Headers) -> dict[str, str]:
    shown = headers.shown("Reply-To")
    if shown is None:
        shown = ", ".join(map(str, message.reply_to or ()))
        refuse_header_injection(shown, "reply_to")
    elif not shown:
        raise NotExact("an empty Reply-To")
    if not shown:
        return {}
    try:
        mailboxes = parse_list(shown, "Reply-To")
    except InvalidAddress as error:
        raise NotExact("Reply-To shows something that is not addresses") from error
    if not all(map(is_plain, mailboxes)):
        raise NotExact("a comment or a long name in Reply-To")
    # No field of its own (docs/wire.rst, quirk 2).
    return {"reply-to": ", ".join(mailbox.unsplit() for mailbox in mailboxes)}


def _composed_size(fields: Mapping[str, Any]) -> int:
    """Return about how many bytes the e-mail has that turboSMTP makes of this."""
    size = sum(
        _composed_text_size(fields[name], name)
        for name in ("content", "html_content")
        if name in fields
    )
    size += sum(len(n) + len(v) for n, v in fields.get("custom_headers", {}).items())
    for part in fields.get("attachments", ()):
        size += _base64_size(len(part.content)) + len(part.name) + 200
    return size


def _composed_text_size(text: str, where: str) -> int:
    length = len(_encoded(text, where))
    # Text that is not ASCII goes in base64, or in quoted-printable where that is less.
    return length if text.isascii() else _base64_size(length)


def _base64_size(length: int) -> int:
    """Return the bytes of base64 in lines of 76 characters and CRLF."""
    return -(-length // 57) * 78


def _render(message: Any, headers: Headers, envelope: Envelope) -> str:
    own = getattr(message, "extra_headers", None)
    if own is None or (dict(own) == dict(headers.all) and not envelope.changed):
        return _mime.render(message)
    clone = copy.copy(message)
    clone.extra_headers = dict(headers.all)
    if not envelope.changed:
        return _mime.render(clone)
    shown = {"To": envelope.of_kind("to"), "Cc": envelope.of_kind("cc")}
    for name, mailboxes in shown.items():
        clone.extra_headers.pop(name, None)
        setattr(clone, name.lower(), [str(mailbox) for mailbox in mailboxes])
    clone.bcc = []
    raw = _mime.render(clone)
    if _mime.is_customised(message):
        # It may show addresses that the lists above do not know of.
        texts = {
            name: join(boxes).replace(", ", ",\r\n ") for name, boxes in shown.items()
        }
        raw = _mime.replace_headers(raw, {**texts, "Bcc": ""})
    return raw
