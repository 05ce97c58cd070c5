"""A job from a stored row: the same fields as before, for a new row."""

from __future__ import annotations

import json
from base64 import b64decode
from email import message_from_string, policy
from typing import TYPE_CHECKING, Any

from django.core.mail import EmailMultiAlternatives

from django_turbosmtp.delivery.jobs import Job, SendRequest
from django_turbosmtp.delivery.status import TurboSMTPStatus
from django_turbosmtp.models import Content
from django_turbosmtp.payload import EnvelopeRecipient, Translation
from django_turbosmtp.payload.addresses import Mailbox
from django_turbosmtp.payload.attachments import WireAttachment
from django_turbosmtp.payload.attributes import Attributes
from django_turbosmtp.statuses import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django_turbosmtp.models import Message, Recipient


def build_job(row: Message, payload: bytes, recipients: Sequence[Recipient]) -> Job:
    """Return the job that sends a stored message to some of its recipients.

    ``payload``: the stored JSON of its first request (see
    `log.querysets.read_payload`).
    """
    fields = _read_fields(payload)
    message = _build_message(row, fields, recipients)
    status = message.turbosmtp_status = TurboSMTPStatus()  # type: ignore[attr-defined]
    job = Job(message=message, status=status, original=row.pk)
    reference_id = row.reference_id
    if reference_id == str(row.pk):
        # The caller chose none, so this one is generated again, too.
        reference_id = str(job.id)
    if "reference_id" in fields:
        fields = {**fields, "reference_id": reference_id}
    status.reference_id = reference_id
    job.attributes = Attributes(
        reference_id=reference_id,
        tags=tuple(row.tags),
        campaign=row.campaign or None,
        metadata=row.metadata,
        headers=row.headers,
    )
    job.translation = Translation(requests=(), size=row.size, why_mime=row.why_mime)
    job.requests = list(_build_requests(row, fields, recipients))
    return job


def _read_fields(payload: bytes) -> dict[str, Any]:
    """Return the wire fields, attachments as `WireAttachment`."""
    fields: dict[str, Any] = json.loads(payload)
    if "attachments" in fields:
        fields["attachments"] = [
            WireAttachment(
                name=part["name"],
                type=part["type"],
                content=b64decode(part["content"]),
                content_id=part.get("content_id", ""),
            )
            for part in fields["attachments"]
        ]
    return fields


def are_blind_copies(recipients: Sequence[Recipient]) -> bool:
    """Tell whether all recipients are blind copies: each then has its own request."""
    return all(recipient.kind == Kind.BCC for recipient in recipients)


def _build_requests(
    row: Message, fields: dict[str, Any], recipients: Sequence[Recipient]
) -> Iterator[SendRequest]:
    envelope_recipients = [
        EnvelopeRecipient(kind=Kind(recipient.kind), mailbox=read_mailbox(recipient))
        for recipient in recipients
    ]
    if not are_blind_copies(recipients):
        yield SendRequest(fields=fields, recipients=envelope_recipients)
        return
    # A request for each. The log stores the first one.
    for envelope_recipient in envelope_recipients:
        mailbox = envelope_recipient.mailbox
        to = mailbox.addr_spec if row.why_mime else str(mailbox)
        yield SendRequest(fields=fields | {"to": to}, recipients=[envelope_recipient])


def read_mailbox(recipient: Recipient) -> Mailbox:
    """Return the mailbox of a stored recipient."""
    name, bracket, rest = recipient.shown.rpartition(" <")
    if bracket and rest.endswith(">"):
        return Mailbox(name=name, addr_spec=rest[:-1])
    return Mailbox(name="", addr_spec=recipient.shown or recipient.address)


def _build_message(
    row: Message, fields: dict[str, Any], recipients: Sequence[Recipient]
) -> EmailMultiAlternatives:
    """Return the message for receivers of ``post_send`` and for the log."""
    content = Content.objects.using(row._state.db).filter(pk=row.pk).first()
    lists: dict[str, list[str]] = {"to": [], "cc": [], "bcc": []}
    for recipient in recipients:
        lists[recipient.kind].append(str(read_mailbox(recipient)))
    message = EmailMultiAlternatives(
        subject=row.subject,
        body=content.text if content else "",
        from_email=row.from_email,
        headers=dict(row.headers),
        attachments=list(_list_attachments(fields)),
        to=lists["to"],
        cc=lists["cc"],
        bcc=lists["bcc"],
    )
    if content and content.html:
        message.attach_alternative(content.html, "text/html")
    message.tags = list(row.tags)  # type: ignore[attr-defined]
    message.metadata = dict(row.metadata)  # type: ignore[attr-defined]
    return message


def _list_attachments(fields: dict[str, Any]) -> Iterator[tuple[str, bytes, str]]:
    for part in fields.get("attachments", ()):
        yield part.name, bytes(part.content), part.type
    if "mime_raw" in fields:
        whole: Any = message_from_string(fields["mime_raw"], policy=policy.default)
        for part in whole.iter_attachments():
            content = part.get_payload(decode=True)
            if content is None:
                content = part.as_bytes()
            yield part.get_filename() or "", content, part.get_content_type()
