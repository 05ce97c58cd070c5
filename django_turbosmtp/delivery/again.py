"""A message of the log, sent once more: the same fields, in a new row.

Never twice by one decision: the payload that the log keeps moves to the new row in the
transaction that writes it. Who comes second finds none, and nothing is sent before that
is committed.
"""

from __future__ import annotations

import json
from base64 import b64decode
from email import message_from_string, policy
from typing import TYPE_CHECKING, Any

from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.utils.translation import gettext as _

from django_turbosmtp.delivery.conclude import announce, conclude, mark_unknown
from django_turbosmtp.delivery.jobs import Job, Request
from django_turbosmtp.delivery.record import Recorder
from django_turbosmtp.delivery.status import TurboSMTPStatus
from django_turbosmtp.delivery.transmit import Transmitter
from django_turbosmtp.log.querysets import read_payload
from django_turbosmtp.log.suppressions import look_up
from django_turbosmtp.models import (
    Content,
    Kind,
    Payload,
    Recipient,
    Resend,
)
from django_turbosmtp.payload import Recipient as Addressee
from django_turbosmtp.payload import Translation
from django_turbosmtp.payload.addresses import Mailbox
from django_turbosmtp.payload.attachments import Part
from django_turbosmtp.payload.attributes import Attributes
from django_turbosmtp.statuses import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django_turbosmtp.api import Client
    from django_turbosmtp.conf.settings import Settings
    from django_turbosmtp.models import Message
    from django_turbosmtp.payload import Keep


class NotSentAgain(Exception):  # noqa: N818 - nothing failed
    """Nothing is sent, or was; the text says why, in the reader's language."""


def require_waiting(
    row: Message, keep: Keep | None, settings: Settings
) -> list[Recipient]:
    """Return the recipients that a message goes to when it is sent again.

    Those that did not certainly get it, and were not left out. Raise `NotSentAgain`
    where there is none, where ``keep`` (RECIPIENT_GUARD) would have another, where one
    is suppressed by now, and where the one request of the message would reach somebody
    who got it.
    """
    rows: Any = row.recipients.exclude(status=Status.REJECTED).order_by("position")
    recipients: list[Recipient] = list(rows)
    waiting = [r for r in recipients if not Status(r.status).is_at_turbosmtp]
    if not waiting:
        raise NotSentAgain(_("None of its recipients waits for it."))
    if len(waiting) < len(recipients) and not _is_blind(recipients):
        raise NotSentAgain(_("Some of its recipients got it, and would get it twice."))
    mailboxes = [_read_mailbox(recipient) for recipient in waiting]
    if keep and any(keep(mailbox) != mailbox for mailbox in mailboxes):
        raise NotSentAgain(_("RECIPIENT_GUARD does not let it go to its recipients."))
    if look_up({mailbox.addr_spec.lower() for mailbox in mailboxes}, settings):
        raise NotSentAgain(_("A recipient of it is suppressed by now."))
    return waiting


def _is_blind(recipients: Sequence[Recipient]) -> bool:
    """Tell whether a message has blind copies alone: then each had its own request."""
    return all(recipient.kind == Kind.BCC for recipient in recipients)


def send_again(
    row: Message,
    *,
    client: Client,
    settings: Settings,
    sender: type,
    keep: Keep | None = None,
) -> Job:
    """Send a message of the log again, and return what became of it.

    ``row`` must have its payload; the new row, whose key is that of the job, has
    ``row`` as its original, and the payload until it is accepted. Raise `NotSentAgain`
    where nothing was sent: for lack of a payload, or since the log cannot be written.
    Whatever became of the send itself stands in the job.
    """
    alias = row._state.db
    recipients = require_waiting(row, keep, settings)
    fields = _read_payload(row)
    job = _build_job(row, fields, recipients)
    recorder = Recorder(settings)
    # Durable: what is not committed must not leave.
    with transaction.atomic(using=alias, durable=True):
        recorder.begin([job])
        if not recorder.has_written(job):
            raise NotSentAgain(_("The log could not be written."))
        Resend.objects.using(alias).create(message_id=job.id, original=row)
        payload = Payload.objects.using(alias)
        if not payload.filter(message=row.pk).update(message=job.id):
            raise NotSentAgain(_("It has been sent again already."))
    mark_unknown([job])
    try:
        Transmitter(client, settings).send(job.requests)
    finally:
        conclude([job])
        recorder.conclude([job])
    if job.status.outcome == Outcome.ACCEPTED and not job.status.error:
        payload.filter(message=job.id).delete()
    announce([job], sender)
    return job


def _read_payload(row: Message) -> dict[str, Any]:
    """Return the wire fields as they left, attachments as `Part`."""
    text = read_payload(row)
    if not text:
        raise NotSentAgain(_("The log does not keep it whole."))
    fields: dict[str, Any] = json.loads(text)
    if "attachments" in fields:
        fields["attachments"] = [
            Part(
                name=part["name"],
                type=part["type"],
                content=b64decode(part["content"]),
                content_id=part.get("content_id", ""),
            )
            for part in fields["attachments"]
        ]
    return fields


def _build_job(
    row: Message, fields: dict[str, Any], recipients: Sequence[Recipient]
) -> Job:
    message = _build_message(row, fields, recipients)
    status = message.turbosmtp_status = TurboSMTPStatus()  # type: ignore[attr-defined]
    job = Job(message=message, status=status, original=row.pk)
    reference_id = row.reference_id
    if reference_id == str(row.pk):
        # Nobody chose it: as of any message, its own.
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
    job.translation = Translation(payloads=(), size=row.size, why_mime=row.why_mime)
    job.requests = list(_build_requests(row, fields, recipients))
    return job


def _build_requests(
    row: Message, fields: dict[str, Any], recipients: Sequence[Recipient]
) -> Iterator[Request]:
    addressees = [
        Addressee(kind=recipient.kind, mailbox=_read_mailbox(recipient))  # type: ignore[arg-type]
        for recipient in recipients
    ]
    if not _is_blind(recipients):
        yield Request(fields=fields, recipients=addressees)
        return
    # Blind copies alone: a request for each, of which the log keeps the first.
    for addressee in addressees:
        mailbox = addressee.mailbox
        to = mailbox.addr_spec if row.why_mime else str(mailbox)
        yield Request(fields=fields | {"to": to}, recipients=[addressee])


def _read_mailbox(recipient: Recipient) -> Mailbox:
    name, bracket, rest = recipient.shown.rpartition(" <")
    if bracket and rest.endswith(">"):
        return Mailbox(name=name, addr_spec=rest[:-1])
    return Mailbox(name="", addr_spec=recipient.shown or recipient.address)


def _build_message(
    row: Message, fields: dict[str, Any], recipients: Sequence[Recipient]
) -> EmailMultiAlternatives:
    """Return what receivers of ``post_send`` get, and the log reads."""
    content = Content.objects.using(row._state.db).filter(pk=row.pk).first()
    lists: dict[str, list[str]] = {"to": [], "cc": [], "bcc": []}
    for recipient in recipients:
        lists[recipient.kind].append(str(_read_mailbox(recipient)))
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
