"""Builds a job from a stored message."""

from __future__ import annotations

from email import message_from_string, policy
from typing import TYPE_CHECKING, Any

from django.core.mail import EmailMultiAlternatives

from django_turbosmtp.delivery.jobs import Job, SendRequest
from django_turbosmtp.delivery.status import TurboSMTPStatus
from django_turbosmtp.log import querysets
from django_turbosmtp.log.files import read_bytes
from django_turbosmtp.models import Content
from django_turbosmtp.payload import (
    OWN_MIME,
    EnvelopeRecipient,
    Translation,
    WireAttachment,
)
from django_turbosmtp.payload.addresses import Mailbox
from django_turbosmtp.payload.attributes import Attributes
from django_turbosmtp.payload.envelope import Envelope
from django_turbosmtp.payload.mime import renew, show_recipients
from django_turbosmtp.payload.stored import read_payload
from django_turbosmtp.statuses import Kind, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from django_turbosmtp.models import Message, Recipient


def read_fields(row: Message) -> dict[str, Any] | None:
    """Return the wire fields of a message, stored or rebuilt; None if impossible.

    Raise ValueError (`UnreadablePayloadError`) for a damaged payload.
    """
    if payload := querysets.read_payload(row):
        return read_payload(payload).fields
    content = Content.objects.using(row._state.db).filter(pk=row.pk).first()
    return _rebuild_fields(row, content) if content and content.is_exact else None


def _rebuild_fields(row: Message, content: Content) -> dict[str, Any] | None:
    """Return the fields from the log's content; None if an attachment is missing."""
    fields: dict[str, Any] = dict(content.wire)
    for name, text in (("content", content.text), ("html_content", content.html)):
        if name in fields:
            fields[name] = text
    if "attachments" not in fields:
        return fields
    rows = querysets.read_related(row.attachments).select_related("stored")
    parts = []
    for attachment in rows.order_by("position"):
        data = read_bytes(attachment.stored) if attachment.stored else None
        if data is None:
            return None
        parts.append(
            WireAttachment(
                name=attachment.name,
                type=attachment.type,
                content=data,
                content_id=attachment.content_id,
            )
        )
    return fields | {"attachments": parts}


def build_job(
    row: Message,
    fields: dict[str, Any],
    recipients: Sequence[EnvelopeRecipient],
    *,
    is_changed: bool,
) -> Job:
    """Return the job that sends a stored message again.

    ``fields``: from `read_fields`. ``is_changed``: the recipients are not those of the
    fields. Then To and Cc show the new ones, except in a message that was built by a
    class of the site, which may be signed.
    """
    content = Content.objects.using(row._state.db).filter(pk=row.pk).first()
    if is_changed and "mime_raw" in fields and row.why_mime != OWN_MIME:
        to, cc = (
            [r.mailbox for r in recipients if r.kind == kind]
            for kind in (Kind.TO, Kind.CC)
        )
        fields = fields | {"mime_raw": show_recipients(fields["mime_raw"], to, cc)}
    if will_renew(row) and "mime_raw" in fields:
        keeps_id = "message-id" in map(str.lower, row.headers)
        fields = fields | {"mime_raw": renew(fields["mime_raw"], keeps_id=keeps_id)}
    message = build_message(row, fields, recipients, content=content)
    status = message.turbosmtp_status = TurboSMTPStatus()  # type: ignore[attr-defined]
    job = Job(message=message, status=status)
    reference_id = row.reference_id
    if reference_id == str(row.pk):
        # The caller chose none, so this one is generated again, too.
        reference_id = str(job.id)
    if "reference_id" in fields:
        fields = {**fields, "reference_id": reference_id}
    status.reference_id = reference_id
    job.attributes = build_attributes(row, reference_id)
    job.translation = Translation(requests=(), size=row.size, why_mime=row.why_mime)
    own = {name: v for name, v in fields.items() if name not in {"to", "cc", "bcc"}}
    envelope = Envelope(recipients=tuple(recipients))
    job.requests = [
        SendRequest(fields=own | addresses, recipients=list(found))
        for addresses, found in envelope.requests(named=not row.why_mime)
    ]
    return job


def will_renew(row: Message) -> bool:
    """Return whether a message gets a new date and message id if it is sent again.

    turboSMTP sets them, except for MIME: there we set them if the first message may
    have arrived, but not in a message that was built by a class of the site.
    """
    if not row.why_mime:
        return True
    return row.outcome == Outcome.ACCEPTED and row.why_mime != OWN_MIME


def build_attributes(row: Message, reference_id: str) -> Attributes:
    """Return the attributes of a stored message."""
    return Attributes(
        reference_id=reference_id,
        tags=tuple(row.tags),
        campaign=row.campaign or None,
        metadata=row.metadata,
        headers=row.headers,
    )


def are_blind_copies(recipients: Sequence[Recipient]) -> bool:
    """Return whether all are Bcc recipients: then each has a separate request."""
    return all(recipient.kind == Kind.BCC for recipient in recipients)


def build_requests(
    row: Message,
    fields: dict[str, Any],
    recipients: Sequence[Recipient],
    *,
    all_of: Sequence[Recipient],
) -> Iterator[SendRequest]:
    """Yield the requests that send a stored message to ``recipients``.

    ``all_of``: all recipients of the message. If all are Bcc recipients, each has a
    separate request.
    """
    envelope_recipients = read_envelope(recipients)
    # If only Bcc recipients are left of a message that had others, they are also sent
    # separately, so that they cannot see each other.
    if not are_blind_copies(all_of) and not are_blind_copies(recipients):
        yield SendRequest(fields=fields, recipients=envelope_recipients)
        return
    # The stored fields are those of the first recipient.
    for envelope_recipient in envelope_recipients:
        mailbox = envelope_recipient.mailbox
        # MIME contains the displayed names, so the fields need only addresses.
        to = mailbox.addr_spec if row.why_mime else str(mailbox)
        own = {name: v for name, v in fields.items() if name not in {"cc", "bcc"}}
        yield SendRequest(fields=own | {"to": to}, recipients=[envelope_recipient])


def read_envelope(recipients: Iterable[Recipient]) -> list[EnvelopeRecipient]:
    """Return stored recipients in the form for requests."""
    return [
        EnvelopeRecipient(kind=Kind(recipient.kind), mailbox=read_mailbox(recipient))
        for recipient in recipients
    ]


def read_mailbox(recipient: Recipient) -> Mailbox:
    """Return the mailbox of a stored recipient."""
    # It is not parsed: `payload.addresses` has written this form, and a name may
    # contain any character.
    name, bracket, rest = recipient.shown.rpartition(" <")
    if bracket and rest.endswith(">"):
        return Mailbox(name=name, addr_spec=rest[:-1])
    return Mailbox(name="", addr_spec=recipient.shown or recipient.address)


def build_message(
    row: Message,
    fields: dict[str, Any],
    recipients: Sequence[EnvelopeRecipient],
    *,
    content: Content | None = None,
) -> EmailMultiAlternatives:
    """Return the message for receivers of ``post_send`` and for the log.

    ``content``: the bodies in the log, as the caller wrote them.
    """
    lists: dict[str, list[str]] = {"to": [], "cc": [], "bcc": []}
    for recipient in recipients:
        lists[recipient.kind].append(str(recipient.mailbox))
    text, html, attachments = _read_contents(fields)
    # The fields may have rewritten Content-IDs (see `payload.inline`).
    if content is not None:
        text, html = content.text, content.html
    message = EmailMultiAlternatives(
        subject=row.subject,
        body=text,
        from_email=row.from_email,
        headers=dict(row.headers),
        attachments=attachments,
        to=lists["to"],
        cc=lists["cc"],
        bcc=lists["bcc"],
    )
    if html:
        message.attach_alternative(html, "text/html")
    message.tags = list(row.tags)  # type: ignore[attr-defined]
    message.metadata = dict(row.metadata)  # type: ignore[attr-defined]
    return message


def _read_contents(
    fields: dict[str, Any],
) -> tuple[str, str, list[tuple[str, bytes, str]]]:
    """Return the text, the HTML, and name, bytes and type of each attachment."""
    if "mime_raw" not in fields:
        parts = [
            (part.name, bytes(part.content), part.type)
            for part in fields.get("attachments", ())
        ]
        return fields.get("content", ""), fields.get("html_content", ""), parts
    whole: Any = message_from_string(fields["mime_raw"], policy=policy.default)
    attached = []
    for part in whole.iter_attachments():
        content = part.get_payload(decode=True)
        # An attached message or multipart, which has no decoded payload.
        if content is None:
            content = part.as_bytes()
        attached.append((part.get_filename() or "", content, part.get_content_type()))
    return _read_body(whole, "plain"), _read_body(whole, "html"), attached


def _read_body(whole: Any, subtype: str) -> str:
    try:
        part = whole.get_body(preferencelist=(subtype,))
        text = str(part.get_content()) if part is not None else ""
    except (LookupError, ValueError, AttributeError, TypeError):
        # A charset that Python does not know, or MIME that it cannot parse.
        return ""
    # Python adds a line break at the end of each part.
    return text.replace("\r\n", "\n").removesuffix("\n")
