"""Builds jobs from the stored payloads of claimed messages."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django_turbosmtp._lib.interrupts import raise_interrupt
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp._lib.times import make_aware
from django_turbosmtp.delivery.jobs import Earlier, Job
from django_turbosmtp.delivery.status import TurboSMTPStatus
from django_turbosmtp.delivery.stored import (
    build_attributes,
    build_message,
    build_requests,
    read_envelope,
    read_mailbox,
)
from django_turbosmtp.exceptions import MessageError, RecipientsRefused
from django_turbosmtp.log.suppressions import look_up
from django_turbosmtp.models import Content, Message, Payload, Recipient
from django_turbosmtp.payload import OWN_MIME, Translation
from django_turbosmtp.payload.mime import show_recipients
from django_turbosmtp.payload.stored import (
    NewerPayloadError,
    drop_recipients,
    read_payload,
)
from django_turbosmtp.queue.clock import read_now
from django_turbosmtp.signals import post_send
from django_turbosmtp.statuses import Kind, Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from django_turbosmtp.conf.settings import Settings
    from django_turbosmtp.models import QueuedMessage
    from django_turbosmtp.payload import Guard

logger = get_logger("django_turbosmtp.queue")

#: The reason of recipients left out by RECIPIENT_GUARD rather than suppressed.
_GUARD = "guard"


@dataclass(kw_only=True)
class QueuedJob:
    """A claimed message and its job.

    ``is_newer``: only a newer release can read it, so it has to wait for a worker of
    that release. ``left_out``: the reason for each recipient that is left out now.
    """

    row: QueuedMessage
    message: Message
    job: Job
    recipients: list[Recipient]
    fields: dict[str, Any] = field(default_factory=dict)
    ignore_suppressions: bool = False
    is_newer: bool = False
    left_out: dict[int, str] = field(default_factory=dict)

    @property
    def waiting(self) -> list[Recipient]:
        """The recipients of this attempt."""
        return [
            recipient
            for recipient in self.recipients
            if recipient.status == Status.SENDING
            and recipient.position not in self.left_out
        ]

    def fail(self, outcome: Outcome, error: Exception) -> None:
        """Conclude the message without sending it."""
        self.job.requests = []
        self.job.error = self.job.status.error = error
        self.job.status.outcome = outcome


def load_jobs(
    claimed: Sequence[QueuedMessage],
    settings: Settings,
    guard: Guard | None,
    alias: str,
) -> list[QueuedJob]:
    """Return a job for each claimed message.

    A message that cannot be read, has expired, or has no recipient left gets a job
    without requests, and its error. It concerns no other message.
    """
    keys = [row.pk for row in claimed]
    # Read the rows of all claimed messages at once, usually about 80.
    messages = Message.objects.using(alias).in_bulk(keys)
    payloads = _read_payloads(keys, alias)
    recipients: dict[UUID, list[Recipient]] = defaultdict(list)
    rows = Recipient.objects.using(alias).filter(message__in=keys)
    for recipient in rows.order_by("message", "position"):
        recipients[recipient.message_id].append(recipient)
    loaded = [
        _start(
            row, messages[row.pk], recipients[row.pk], payloads.get(row.pk, b""), alias
        )
        for row in claimed
        # The message may have been erased since it was claimed.
        if row.pk in messages
    ]
    _leave_out(loaded, settings, guard, alias)
    kept = _find_kept([q.row.pk for q in loaded if q.message.why_mime], alias)
    for queued in loaded:
        queued.job.earlier = _describe_earlier(queued, keeps_mime=queued.row.pk in kept)
        if queued.job.error is None and not queued.is_newer:
            _build(queued, settings)
    return loaded


def _find_kept(keys: Sequence[UUID], alias: str) -> set[UUID]:
    """Return the messages whose payload is kept after they have been accepted."""
    if not keys:
        return set()
    rows = Content.objects.using(alias).filter(message__in=keys, keeps_payload=True)
    return set(rows.values_list("pk", flat=True))


def _describe_earlier(queued: QueuedJob, *, keeps_mime: bool) -> Earlier:
    return Earlier(
        positions=[recipient.position for recipient in queued.waiting],
        states=[
            Status(recipient.status)
            for recipient in queued.recipients
            if recipient.status not in {Status.SENDING, Status.REJECTED}
        ],
        attempts=queued.message.attempts,
        keeps_payload=queued.row.keeps_payload,
        keeps_mime=keeps_mime,
    )


def _read_payloads(keys: Sequence[UUID], alias: str) -> dict[UUID, bytes]:
    pieces: dict[UUID, list[bytes]] = defaultdict(list)
    rows = Payload.objects.using(alias).filter(message__in=keys)
    ordered = rows.order_by("message", "position").values_list("message_id", "data")
    for key, data in ordered:
        pieces[key].append(bytes(data))
    return {key: b"".join(parts) for key, parts in pieces.items()}


def _start(
    row: QueuedMessage,
    message: Message,
    recipients: list[Recipient],
    payload: bytes,
    alias: str,
) -> QueuedJob:
    """Return a message whose payload has been read, but not its job."""
    status = TurboSMTPStatus(reference_id=message.reference_id)
    # The id of the row, because a queued message keeps its row.
    job = Job(id=message.pk, message=None, status=status)
    job.attributes = build_attributes(message, message.reference_id)
    job.translation = Translation(requests=())
    queued = QueuedJob(row=row, message=message, job=job, recipients=recipients)
    if row.expires_at is not None and row.expires_at <= read_now(alias):
        expired = make_aware(row.expires_at).isoformat(sep=" ", timespec="seconds")
        logger.warning("%s: dropped, its expires_at was %s.", row.pk, expired)
        queued.fail(
            Outcome.REFUSED,
            MessageError(f"It was not sent in time: expires_at was {expired}."),
        )
        return queued
    try:
        stored = read_payload(payload)
    except NewerPayloadError as error:
        logger.warning("%s stays queued for a newer worker: %s", row.pk, error)
        queued.is_newer = True
    except Exception as error:  # noqa: BLE001 - other messages are still sent
        raise_interrupt(error)
        _poison(queued, error)
    else:
        queued.fields = stored.fields
        queued.ignore_suppressions = stored.ignore_suppressions
    return queued


def _poison(queued: QueuedJob, error: Exception) -> None:
    """Conclude a message that cannot be read."""
    logger.error(
        "%s: the stored message cannot be read: %s", queued.row.pk, type(error).__name__
    )
    # The text of any other exception may contain the payload.
    reason = error if isinstance(error, ValueError) else type(error).__name__
    queued.fail(
        Outcome.REFUSED, MessageError(f"The stored message cannot be read: {reason}")
    )


def _leave_out(
    loaded: Sequence[QueuedJob], settings: Settings, guard: Guard | None, alias: str
) -> None:
    """Leave out recipients that are now suppressed, or excluded by RECIPIENT_GUARD."""
    checked = [queued for queued in loaded if not queued.ignore_suppressions]
    addresses = {_read_lower(r) for queued in checked for r in queued.waiting}
    found = look_up(addresses, settings)
    for queued in loaded:
        if found is None:
            queued.job.is_unchecked = not queued.ignore_suppressions
        reasons = {} if queued.ignore_suppressions else found or {}
        for recipient in queued.waiting:
            mailbox = read_mailbox(recipient)
            if reason := reasons.get(_read_lower(recipient)):
                queued.left_out[recipient.position] = reason
            # The guard has replaced recipients when the message was queued. If it would
            # now replace one, the settings have changed, and the stored message must
            # not go to the old one.
            elif guard is not None and guard(mailbox) != mailbox:
                queued.left_out[recipient.position] = _GUARD
        _reject(queued, alias)


def _read_lower(recipient: Recipient) -> str:
    return read_mailbox(recipient).addr_spec.lower()


def _reject(queued: QueuedJob, alias: str) -> None:
    if not queued.left_out:
        return
    by_reason: dict[str, list[int]] = defaultdict(list)
    for position, reason in queued.left_out.items():
        by_reason[reason].append(position)
    rows = Recipient.objects.using(alias).filter(message=queued.row.pk)
    for reason, positions in by_reason.items():
        rows.filter(position__in=positions).update(status=Status.REJECTED, why=reason)
    logger.warning(
        "%s: %s recipient(s) have been suppressed or excluded by RECIPIENT_GUARD since"
        " the message was queued.",
        queued.message.reference_id,
        len(queued.left_out),
    )


def _build(queued: QueuedJob, settings: Settings) -> None:
    job = queued.job
    waiting = queued.waiting
    if not waiting:
        reasons = ", ".join(sorted(set(queued.left_out.values())))
        text = (
            "All recipients have been suppressed since the message was queued"
            f" ({reasons})."
        )
        queued.fail(Outcome.SUPPRESSED, RecipientsRefused(text))
        return
    try:
        fields = _adapt(queued, settings)
        # Only receivers of post_send use it, and parsing MIME is slow.
        shown = fields if post_send.has_listeners() else {}
        job.message = build_message(queued.message, shown, read_envelope(waiting))
        job.message.turbosmtp_status = job.status
        job.requests = list(
            build_requests(queued.message, fields, waiting, all_of=queued.recipients)
        )
    except Exception as error:  # noqa: BLE001 - other messages are still sent
        raise_interrupt(error)
        _poison(queued, error)


def _adapt(queued: QueuedJob, settings: Settings) -> dict[str, Any]:
    """Return the wire fields for the recipients that are left, in this API version."""
    fields = dict(queued.fields)
    message = queued.message
    if queued.left_out:
        dropped = [
            _read_lower(r) for r in queued.recipients if r.position in queued.left_out
        ]
        fields = drop_recipients(fields, dropped)
        # Like a new message without them, but a signed message keeps its headers.
        if "mime_raw" in fields and message.why_mime != OWN_MIME:
            lists = {
                kind: [read_mailbox(r) for r in queued.waiting if r.kind == kind]
                for kind in (Kind.TO, Kind.CC)
            }
            fields["mime_raw"] = show_recipients(fields["mime_raw"], *lists.values())
    if settings.api_version == message.api_version:
        return fields
    # API_VERSION was changed while the message was queued. The fields of both versions
    # differ only in these two (docs/wire.rst, "Send").
    own: Mapping[str, Any] = {}
    if settings.api_version == 2:
        own = {"reference_id": message.reference_id}
        if message.campaign:
            own = {**own, "X-campaign-ID": message.campaign}
    fields = {n: v for n, v in fields.items() if n not in _ONLY_IN_V2}
    return {**fields, **own}


_ONLY_IN_V2 = {"reference_id", "X-campaign-ID"}
