"""Translates a Django message to turboSMTP's fields. No sockets, database or settings.

JSON fields are preferred, because most customers of turboSMTP use them. A message that
they cannot express exactly is sent as ``mime_raw``, built by Django. If turboSMTP
cannot transport it at all, a `MessageError` is raised before anything is sent.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django_turbosmtp._lib.text import encode_utf8, refuse_header_injection
from django_turbosmtp.exceptions import InvalidAddress, MessageTooLarge
from django_turbosmtp.payload import mime
from django_turbosmtp.payload.addresses import Mailbox, is_plain, parse, parse_list
from django_turbosmtp.payload.attachments import refuse_injection, translate_attachments
from django_turbosmtp.payload.contents import freeze, read_words, require_contents
from django_turbosmtp.payload.envelope import (
    Envelope,
    EnvelopeRecipient,
    Guard,
    read_envelope,
    require_same_shown,
)
from django_turbosmtp.payload.headers import Headers, needs_mime, read_headers
from django_turbosmtp.payload.wire import (
    MAX_MESSAGE_BYTES,
    MAX_SUBJECT_LENGTH,
    NotExact,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from django_turbosmtp.payload.attributes import Attributes

#: The reason why a signed message, for example, is sent as MIME.
OWN_MIME = "a message that builds its own MIME"


@dataclass(kw_only=True, slots=True)
class RequestFields:
    """One request: its fields without credentials, and its recipients.

    ``attachments`` in ``fields`` is a list of `WireAttachment`, not yet encoded.
    """

    fields: Mapping[str, Any]
    recipients: tuple[EnvelopeRecipient, ...]


@dataclass(kw_only=True, slots=True)
class Translation:
    """A translated message: its requests, and the recipients that were left out.

    ``size``: bytes of the whole e-mail, an estimate if turboSMTP composes it.
    ``why_mime``: why it is sent as ``mime_raw``, "" if it is sent as fields.
    """

    requests: tuple[RequestFields, ...]
    left_out: tuple[EnvelopeRecipient, ...] = ()
    size: int = 0
    why_mime: str = ""


@dataclass(kw_only=True, slots=True)
class ParsedMessage:
    """A parsed and checked Django message, from which fields or MIME are built.

    ``sender`` and ``envelope``: of the SMTP envelope; the headers may differ.
    ``customised``: the result of `mime.is_customised`.
    """

    message: Any
    headers: Headers
    sender: Mailbox
    envelope: Envelope
    subject: str
    default_charset: str
    customised: bool


@dataclass(kw_only=True, slots=True)
class WireContent:
    """The wire fields that all requests of a message share.

    ``size`` and ``why_mime`` as in `Translation`.
    """

    sender: Mailbox
    subject: str
    fields: Mapping[str, Any]
    size: int
    why_mime: str = ""


def translate(
    message: Any,
    attributes: Attributes,
    *,
    api_version: int = 2,
    charset: str = "utf-8",
    guard: Guard | None = None,
    without: Collection[str] = (),
) -> Translation:
    """Return the requests for ``message``, a Django ``EmailMessage``.

    ``charset``: Django's DEFAULT_CHARSET. ``guard`` decides on each recipient; if none
    is left, there are no requests. ``without``: more addresses to leave out, in lower
    case. The headers of a message that builds its own MIME (a signed one, for example)
    are not changed for ``without``. The message is not modified. Raise
    `InvalidAddress`, `UnsupportedFeature`, `MessageTooLarge` or another `MessageError`
    with the value and the name of the field.
    """
    message = freeze(message)
    headers = read_headers(attributes.headers)
    sender = parse(message.from_email, "from_email")
    envelope = read_envelope(message, guard, without)
    if not envelope.recipients:
        return Translation(requests=(), left_out=envelope.left_out)
    refuse_injection(getattr(message, "attachments", None) or ())
    customised = mime.is_customised(message)
    if not customised:
        message = require_contents(message)
    if guard is not None and (customised or headers.show_recipients):
        # The header may show recipients that the guard left out.
        envelope = replace(envelope, changed=True)
    elif guard is None and customised:
        # A signature must stay valid, so the headers of such a message are not
        # rewritten. With a guard they are: there, mail to real people is worse than a
        # broken signature.
        envelope = replace(envelope, changed=False)
    source = ParsedMessage(
        message=message,
        headers=headers,
        sender=sender,
        envelope=envelope,
        subject=_read_subject(message),
        default_charset=charset,
        customised=customised,
    )
    if not customised and headers.shown("Reply-To") is None:
        # Check it here, because Python 3.13 allows a line break at the end in MIME.
        refuse_header_injection(_join_reply_to(message), "reply_to")
    try:
        content = as_fields(source)
    except NotExact as reason:
        content = as_mime(source, str(reason))
    _refuse_oversize(content, MAX_MESSAGE_BYTES[api_version], api_version)
    fields = {
        "from": content.sender.format_unsplit(),
        "subject": content.subject,
        **content.fields,
    }
    if api_version == 2:
        fields["reference_id"] = attributes.reference_id
        if attributes.campaign:
            fields["X-campaign-ID"] = attributes.campaign
    requests = envelope.requests(named=not content.why_mime)
    return Translation(
        requests=tuple(
            RequestFields(fields=addresses | fields, recipients=recipients)
            for addresses, recipients in requests
        ),
        left_out=envelope.left_out,
        size=content.size,
        why_mime=content.why_mime,
    )


def as_fields(source: ParsedMessage) -> WireContent:
    """Return the message in JSON fields; raise `NotExact` if they cannot express it."""
    message = source.message
    if source.customised:
        raise NotExact(OWN_MIME)
    custom = source.headers.as_custom_headers()
    # turboSMTP might decode "=?...?=" in a subject, or encode it once more.
    if needs_mime(source.subject) or "=?" in source.subject:
        raise NotExact("control characters or encoded words in the subject")
    # JSON is UTF-8, and turboSMTP has no field for a charset.
    if not _is_utf8(message.encoding or source.default_charset):
        raise NotExact("a charset other than UTF-8")
    if getattr(message, "mixed_subtype", "mixed") != "mixed":
        raise NotExact("another mixed_subtype")
    if getattr(message, "alternative_subtype", "alternative") != "alternative":
        raise NotExact("another alternative_subtype")
    require_same_shown(message, source.headers, source.envelope)
    sender = _translate_sender(source.headers, source.sender)
    text, html = _read_bodies(message)
    parts, html = translate_attachments(message.attachments, html, sender.domain)
    fields = {
        "content": text,
        "html_content": html,
        "custom_headers": {**custom, **_translate_reply_to(source)} or None,
        "attachments": parts or None,
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    return WireContent(
        sender=sender,
        subject=source.subject,
        fields=fields,
        size=_estimate_size(fields),
    )


def as_mime(source: ParsedMessage, why: str) -> WireContent:
    """Return the message as MIME, built by Django. ``why``: the reason."""
    raw = mime.render(
        source.message,
        source.headers,
        source.envelope,
        customised=source.customised,
    )
    subject = source.subject
    if source.customised or "=?" in subject:
        subject = mime.read_subject(raw)
    return WireContent(
        sender=source.sender,
        subject=subject,
        fields={"mime_raw": raw},
        size=len(raw.encode()),
        why_mime=why,
    )


def _refuse_oversize(content: WireContent, limit: int, api_version: int) -> None:
    if len(content.subject) > MAX_SUBJECT_LENGTH:
        raise MessageTooLarge(
            f"subject has {len(content.subject)} characters; turboSMTP accepts at most"
            f" {MAX_SUBJECT_LENGTH}."
        )
    if content.size >= limit:
        raise MessageTooLarge(
            f"The whole message has about {content.size:,} bytes, with its encoded"
            f" attachments; turboSMTP's API v{api_version} accepts less than {limit:,}."
        )


def _read_subject(message: Any) -> str:
    subject = read_words(message.subject or "", "subject")
    refuse_header_injection(subject, "subject")
    encode_utf8(subject, "subject")
    return subject


def _is_utf8(encoding: Any) -> bool:
    # An email.charset.Charset object also chooses a transfer encoding.
    if encoding == "utf-8":
        return True
    try:
        return isinstance(encoding, str) and codecs.lookup(encoding).name == "utf-8"
    except LookupError:
        return False


def _translate_sender(headers: Headers, sender: Mailbox) -> Mailbox:
    shown = headers.shown("From")
    if shown is not None:
        try:
            mailbox = parse(shown, "headers['From']")
        except InvalidAddress as error:
            raise NotExact("a From header that is not one address") from error
        if mailbox.addr_spec != sender.addr_spec:
            raise NotExact("a From header that differs from the sender")
        sender = mailbox
    if not is_plain(sender):
        raise NotExact("a comment or a long name in From")
    return sender


def _read_bodies(message: Any) -> tuple[str | None, str | None]:
    """Return the text and the HTML body, each None if Django adds no such part."""
    body, subtype = _read_text(message.body), message.content_subtype
    alternatives = list(getattr(message, "alternatives", None) or ())
    if subtype not in {"plain", "html"}:
        raise NotExact(f"a body of type text/{subtype}")
    if not alternatives:
        # Django sends such a message without a text part; turboSMTP might add one.
        if not body and message.attachments:
            raise NotExact("attachments without a body")
        return (body, None) if subtype == "plain" else (None, body)
    content, mimetype = alternatives[0]
    # For example a calendar invitation, or AMP (text/x-amp-html).
    if len(alternatives) > 1 or mimetype != "text/html" or not content:
        raise NotExact("alternatives other than one HTML body")
    if body and subtype != "plain":
        raise NotExact("two HTML bodies")
    return body or None, _read_text(content)


def _read_text(value: Any) -> str:
    if isinstance(value, bytes):
        raise NotExact("a body given as bytes")
    return "" if value is None else str(value)


def _join_reply_to(message: Any) -> str:
    return ", ".join(map(str, message.reply_to or ()))


def _translate_reply_to(source: ParsedMessage) -> dict[str, str]:
    shown = source.headers.shown("Reply-To")
    if shown is None:
        shown = _join_reply_to(source.message)
    # Django sends an empty header, which the field cannot express.
    elif not shown:
        raise NotExact("an empty Reply-To")
    if not shown:
        return {}
    try:
        mailboxes = parse_list(shown, "Reply-To")
    except InvalidAddress as error:
        raise NotExact("a Reply-To header that cannot be parsed") from error
    if not all(map(is_plain, mailboxes)):
        raise NotExact("a comment or a long name in Reply-To")
    # turboSMTP has no other field for it (docs/wire.rst, quirk 2).
    return {"reply-to": ", ".join(mailbox.format_unsplit() for mailbox in mailboxes)}


def _estimate_size(fields: Mapping[str, Any]) -> int:
    """Return the approximate size of the e-mail that turboSMTP composes, in bytes."""
    size = sum(
        _estimate_text_size(fields[name], name)
        for name in ("content", "html_content")
        if name in fields
    )
    size += sum(len(n) + len(v) for n, v in fields.get("custom_headers", {}).items())
    for part in fields.get("attachments", ()):
        # 200 bytes for the headers and the boundary of a part.
        size += _measure_base64(len(part.content)) + len(part.name) + 200
    return size


def _estimate_text_size(text: str, where: str) -> int:
    if text.isascii():
        return len(text)
    # It is sent in base64, or in quoted-printable if that is shorter.
    return _measure_base64(len(encode_utf8(text, where)))


def _measure_base64(length: int) -> int:
    """Return the bytes of base64 in lines of 76 characters and CRLF."""
    return -(-length // 57) * 78
