"""Writes jobs to the log: before they are sent, and their outcomes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from django_turbosmtp._lib.interrupts import raise_interrupt
from django_turbosmtp.api.body import Body
from django_turbosmtp.delivery.prepare import list_addresses
from django_turbosmtp.exceptions import (
    InvalidAddress,
    MessageError,
)
from django_turbosmtp.log.entries import (
    AttemptEntry,
    Entry,
    OutcomeEntry,
    RecipientEntry,
    RecipientOutcome,
)
from django_turbosmtp.log.writer import open_log, report_failure
from django_turbosmtp.payload import Translation
from django_turbosmtp.payload.attributes import Attributes
from django_turbosmtp.payload.stored import PayloadToStore
from django_turbosmtp.statuses import COMBINED_ORDER, Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from uuid import UUID

    from django_turbosmtp.conf.accounts import Account
    from django_turbosmtp.conf.settings import Settings
    from django_turbosmtp.delivery.jobs import Job
    from django_turbosmtp.log.writer import LogWriter
    from django_turbosmtp.payload import EnvelopeRecipient

#: Store at most this many attempts of a message: it may have a thousand Bcc recipients.
_MAX_ATTEMPTS = 100


class Recorder:
    """Writes the messages of a call to the log, if there is a log."""

    def __init__(self, settings: Settings, account: Account) -> None:
        self._settings = settings
        self._account = account
        self._writer = open_log(settings, _join_events)
        self._entries: dict[UUID, Entry] = {}

    def write_rows(self, jobs: Sequence[Job]) -> None:
        """Write the rows of messages that are about to be sent, or will not be."""
        if self._writer is None:
            return
        now = timezone.now()
        for job in jobs:
            if job.requests or job.status.outcome:
                try:
                    self._entries[job.id] = self._build_entry(job, now)
                except Exception as error:  # noqa: BLE001 - send it without a row
                    raise_interrupt(error)
                    report_failure(error, "before the send")
        self._writer.insert(
            [self._entries[job.id] for job in jobs if job.id in self._entries]
        )

    def has_written(self, job: Job) -> bool:
        """Return whether the row of this message is in the log."""
        return self._writer is not None and self._writer.has_written(job.id)

    def store_queued(self, jobs: Sequence[Job], also: Callable[[str], None]) -> None:
        """Write the rows of messages that are queued, or will not be sent.

        ``also`` writes in the same transaction, given the alias. Raise DatabaseError if
        nothing was written.
        """
        writer, now = self._require_writer(), timezone.now()
        writer.insert_or_raise(
            lambda: (self._build_entry(job, now) for job in jobs), also
        )

    def adopt(self, jobs: Sequence[Job]) -> None:
        """Treat the rows of queued messages as if this call had written them."""
        writer, now = self._require_writer(), timezone.now()
        for job in jobs:
            self._entries[job.id] = self._build_entry(job, now)
            keeps = job.earlier is None or job.earlier.keeps_payload
            writer.adopt(job.id, stores_payload=keeps)

    def _build_entry(self, job: Job, now: datetime) -> Entry:
        return build_entry(job, self._settings, self._account.fingerprint, now)

    def _require_writer(self) -> LogWriter:
        if self._writer is None:
            raise ImproperlyConfigured(
                "TURBOSMTP['QUEUE'] needs the log: add 'django_turbosmtp' to"
                " INSTALLED_APPS."
            )
        return self._writer

    def write_outcomes(
        self, jobs: Sequence[Job], also: Callable[[str], None] = lambda _: None
    ) -> None:
        """Write the outcomes of messages whose rows were written before the send.

        ``also`` writes in the same transaction, given the alias.
        """
        if self._writer is None:
            return
        self._writer.update(
            [
                build_outcome_entry(job, self._entries[job.id])
                for job in jobs
                if (job.requests or job.earlier) and job.id in self._entries
            ],
            also,
        )
        for job in jobs:
            self._entries.pop(job.id, None)


def _join_events(mids: Sequence[str], references: Sequence[str], alias: str) -> None:
    # Imported late: models cannot be imported if the app is not installed.
    from django_turbosmtp.tracking.record import join_events

    join_events(mids, references, alias)


def build_entry(job: Job, settings: Settings, account: str, now: datetime) -> Entry:
    """Return a prepared message as the log stores it, created ``now``.

    ``account``: the fingerprint of the account.
    """
    outcome = job.status.outcome or ""
    if job.requests and outcome != Outcome.QUEUED:
        # "" means that it is about to be sent.
        outcome = ""
    return Entry(
        id=job.id,
        created_at=now,
        message=job.message,
        # There are none if the message was cancelled or refused before the translation.
        attributes=job.attributes
        or Attributes(reference_id=str(job.id), headers=_read_headers(job)),
        translation=job.translation or Translation(requests=()),
        mailer=settings.alias or "",
        account=account,
        api_version=settings.api_version,
        recipients=_list_recipients(job),
        status=_choose_status(job) if outcome else Status.SENDING,
        outcome=outcome,
        error=job.error,
        fields=job.requests[0].fields if job.requests else job.unsent_fields,
        is_unchecked=job.is_unchecked,
    )


def build_outcome_entry(job: Job, entry: Entry) -> OutcomeEntry:
    """Return the outcome of a message as the log stores it."""
    earlier = job.earlier
    by_position = [request for request in job.requests for _ in request.recipients]
    positions = earlier.positions if earlier else range(len(by_position))
    if job.requests:
        results = [
            RecipientOutcome(
                position=n, status=request.state, mid=request.message_id or ""
            )
            for n, request in zip(positions, by_position, strict=True)
        ]
    else:
        # Its payload could not be read, for example, or it expired.
        state = _choose_status(job)
        results = [
            RecipientOutcome(position=n, status=state, mid="") for n in positions
        ]
    ids = {result.mid for result in results}
    before = earlier.attempts if earlier else 0
    failed = job.error is not None or any(request.error for request in job.requests)
    is_queued = job.status.outcome == Outcome.QUEUED
    is_stored = earlier is not None
    may_store = failed or bool(entry.translation.why_mime)
    return OutcomeEntry(
        entry=entry,
        concluded_at=None if is_queued else timezone.now(),
        outcome=job.status.outcome or "",
        status=_choose_status(job),
        mid=ids.pop() if len(ids) == 1 and not (earlier and earlier.states) else "",
        attempts=before + job.status.attempts,
        error=job.status.error,
        results=results,
        payload=build_payload(job) if may_store and not is_stored else None,
        drops_payload=is_stored
        and not (is_queued or (failed and _keeps_payload(job)) or _keeps_mime(job)),
        history=_build_history(job),
        first_position=before,
    )


def _keeps_payload(job: Job) -> bool:
    return job.earlier is None or job.earlier.keeps_payload


def _keeps_mime(job: Job) -> bool:
    return job.earlier is not None and job.earlier.keeps_mime


def _build_history(job: Job) -> list[AttemptEntry]:
    """Return the attempts, none if each request was accepted at the first."""
    tried_before = job.earlier is not None and job.earlier.attempts
    if not tried_before and not any(
        request.error or len(request.history) > 1 for request in job.requests
    ):
        return []
    several = len(job.requests) > 1
    return [
        replace(made, recipients=", ".join(request.addresses)) if several else made
        for request in job.requests
        for made in request.history
    ][:_MAX_ATTEMPTS]


def build_payload(job: Job) -> PayloadToStore | None:
    """Return what the log stores of the first request, None if it cannot be sent."""
    try:
        body = Body(job.requests[0].fields)
    except MessageError:  # The message was refused because of this.
        return None
    return wrap_body(job, body)


def wrap_body(job: Job, body: Body) -> PayloadToStore:
    """Return the stored form of a request's body."""
    ignores = bool(getattr(job.message, "ignore_suppressions", False))
    return PayloadToStore(fields=body, ignore_suppressions=ignores)


def _choose_status(job: Job) -> Status:
    if isinstance(job.error, InvalidAddress):
        return Status.INVALID
    if job.status.outcome == Outcome.ACCEPTED:
        # The most serious status, so that staff see a problem of one recipient.
        states = {request.state for request in job.requests}
        states.update(job.earlier.states if job.earlier else ())
        return next(status for status in COMBINED_ORDER if status in states)
    return (job.status.outcome or Outcome.UNKNOWN).status


def _read_headers(job: Job) -> dict[str, object]:
    headers = getattr(job.message, "extra_headers", None)
    return dict(headers) if isinstance(headers, dict) else {}


def _list_recipients(job: Job) -> list[RecipientEntry]:
    """Return the recipients of each request in order, then those left out."""
    if job.translation is None:
        status = _choose_status(job)
        return [
            RecipientEntry(kind=kind, address=address, shown=address, status=status)
            for kind, address in list_addresses(job.message)
        ]
    sent = [r for request in job.requests for r in request.recipients]
    is_queued = job.status.outcome == Outcome.QUEUED
    status = Status.QUEUED if is_queued else Status.SENDING
    return [
        *(_build_recipient(recipient, status) for recipient in sent),
        *(
            replace(
                _build_recipient(r, Status.REJECTED),
                why=job.left_out_for.get(r.mailbox.addr_spec.lower(), "guard"),
            )
            for r in job.translation.left_out
        ),
    ]


def _build_recipient(recipient: EnvelopeRecipient, status: Status) -> RecipientEntry:
    mailbox = recipient.mailbox
    shown = f"{mailbox.name} <{mailbox.addr_spec}>" if mailbox.name else ""
    return RecipientEntry(
        kind=recipient.kind,
        address=mailbox.addr_spec,
        shown=shown or mailbox.addr_spec,
        status=status,
    )
