"""A call of ``send_messages()`` with the queue: messages are stored, not sent.

In the caller's transaction; tasks are enqueued after its commit. If the database fails,
the call raises, and the messages of its window are neither stored nor sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, transaction
from django.db.models import F
from django.utils import timezone

from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp._lib.times import make_storable
from django_turbosmtp.api.body import Body
from django_turbosmtp.conf.log import choose_log_database
from django_turbosmtp.delivery.record import Recorder, wrap_body
from django_turbosmtp.delivery.windows import Delivery, draw
from django_turbosmtp.exceptions import MessageError
from django_turbosmtp.log.connection import is_manual
from django_turbosmtp.log.inserts import insert_values
from django_turbosmtp.log.statements import insert_payloads
from django_turbosmtp.log.writer import stores_body
from django_turbosmtp.models import QueuedMessage
from django_turbosmtp.queue import engines
from django_turbosmtp.queue.claim import TASK_LIFETIME
from django_turbosmtp.queue.schedule import Schedule, read_schedule
from django_turbosmtp.statuses import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from django_turbosmtp.conf.accounts import Account
    from django_turbosmtp.conf.settings import Settings
    from django_turbosmtp.delivery.jobs import Job
    from django_turbosmtp.delivery.prepare import Preparer

logger = get_logger("django_turbosmtp.queue")

#: Store this many messages in one transaction, or fewer if they are large: a generator
#: of a million messages needs the memory of one window.
WINDOW: Final = 1000
_MAX_BYTES: Final = 32 * 2**20

#: One task sends all messages whose ``send_at`` is in the same minute.
_SAME_TIME: Final = timedelta(minutes=1)


#: Earlier than any time at which a message may be due.
_AT_ONCE: Final = datetime.fromtimestamp(0, UTC)

#: A message that may be sent at once is stored as due for this long: the clock of this
#: machine may be ahead of the workers' clock.
_CLOCK_SLACK: Final = timedelta(days=1)


@dataclass(kw_only=True, slots=True)
class _Prepared:
    """A message that can be queued. ``body``: as turboSMTP will receive it."""

    job: Job
    schedule: Schedule
    body: Body


class QueueStore:
    """Stores the messages of one call in the queue."""

    def __init__(
        self, settings: Settings, account: Account, preparer: Preparer
    ) -> None:
        """Raise ImproperlyConfigured without a task engine or without SECRET_KEY."""
        engines.require_engine(str(settings.queue))
        if not account.fingerprint:
            raise ImproperlyConfigured(
                "TURBOSMTP['QUEUE'] needs SECRET_KEY, which is empty: workers find the"
                " account of a message by a hash with this key."
            )
        self._settings = settings
        self._account = account
        self._preparer = preparer
        self._recorder = Recorder(settings, account)
        self._failure: DatabaseError | None = None

    def store(
        self, messages: Iterable[Any], is_reported: Callable[[BaseException], bool]
    ) -> Delivery:
        """Store each message; return the result as `delivery.windows.send_in_windows`.

        Only an interrupt raises. After an error of the database nothing further is
        tried.
        """
        delivery = Delivery()
        iterator = draw(messages, delivery)
        while self._store_window(iterator, delivery, is_reported):
            pass
        return delivery

    def _store_window(
        self,
        messages: Iterator[Any],
        delivery: Delivery,
        is_reported: Callable[[BaseException], bool],
    ) -> bool:
        jobs = list(self._prepare(messages))
        if not jobs:
            return False
        self._preparer.leave_out(jobs)
        self._queue(jobs)
        delivery.accepted += sum(job.status.outcome == Outcome.QUEUED for job in jobs)
        delivery.failures += [
            (job.message, job.error)
            for job in jobs
            if job.error and is_reported(job.error)
        ]
        return True

    def _prepare(self, messages: Iterator[Any]) -> Iterator[Job]:
        size = 0
        for number, message in enumerate(messages, 1):
            job = self._preparer.prepare(message)
            yield job
            size += job.translation.size if job.translation else 0
            if number == WINDOW or size > _MAX_BYTES:
                return

    def _queue(self, jobs: Sequence[Job]) -> None:
        now = datetime.now(UTC)
        prepared = [p for job in jobs if job.requests and (p := _read(job, now))]
        for one in prepared:
            _set(one.job, Outcome.QUEUED, Status.QUEUED)
        if self._failure is not None:
            self._refuse(prepared, self._failure)
            return
        try:
            self._write(jobs, prepared)
        except DatabaseError as error:
            self._failure = error
            self._refuse(prepared, error)

    def _refuse(self, prepared: Sequence[_Prepared], error: DatabaseError) -> None:
        for one in prepared:
            _set(one.job, Outcome.REFUSED, Status.FAILED, error)
        logger.error(
            "%s messages could not be stored, and will not be sent: %s",
            len(prepared),
            type(error).__name__,
        )

    def _write(self, jobs: Sequence[Job], prepared: Sequence[_Prepared]) -> None:
        alias = choose_log_database()
        write = partial(self._write_rows, jobs, prepared, alias)
        if caller := _find_transaction(alias):
            # The log uses another connection, outside the caller's transaction. After a
            # rollback, no row of the message may exist.
            transaction.on_commit(write, using=caller)
        else:
            write()

    def _write_rows(
        self, jobs: Sequence[Job], prepared: Sequence[_Prepared], alias: str
    ) -> None:
        now = timezone.now()
        manual = is_manual(connections[alias])

        def also(alias: str) -> None:
            rows = [self._build_row(one, now) for one in prepared]
            insert_values(QueuedMessage, rows, alias)
            payloads = ((p.job.id, wrap_body(p.job, p.body)) for p in prepared)
            insert_payloads(payloads, alias)
            if manual:
                # Django does not know when the caller commits: `run_due` enqueues them.
                return
            transaction.on_commit(partial(self._enqueue, prepared, alias), using=alias)

        stored = [job for job in jobs if job.requests or job.status.outcome]
        self._recorder.store_queued(stored, also)

    def _build_row(self, one: _Prepared, now: datetime) -> dict[str, Any]:
        schedule = one.schedule
        not_before = now - _CLOCK_SLACK
        if schedule.send_at is not None:
            not_before = make_storable(schedule.send_at)
        message = one.job.message
        has_log_of_body = self._settings.log_body and stores_body(message)
        return {
            "message_id": one.job.id,
            "mailer": self._settings.alias or "",
            "account": self._account.fingerprint,
            "priority": schedule.priority,
            "not_before": not_before,
            "expires_at": schedule.expires_at and make_storable(schedule.expires_at),
            "recipients": sum(len(request.recipients) for request in one.job.requests),
            "payload_size": len(one.body),
            "keeps_payload": bool(
                has_log_of_body and self._settings.log_redact is None
            ),
            "tries": 0,
            "first_tried_at": None,
            "token": None,
            "due_at": max(now, not_before) + TASK_LIFETIME,
        }

    def _enqueue(self, prepared: Sequence[_Prepared], alias: str) -> None:
        """Enqueue the tasks, after the commit. Errors are only logged (`run_due`)."""
        engine = str(self._settings.queue)
        for (priority, send_at), group in groupby(
            sorted(prepared, key=_choose_task), key=_choose_task
        ):
            keys = [one.job.id for one in group]
            run_after = None if send_at is _AT_ONCE else send_at
            for part in engines.split(keys):
                if not engines.enqueue(
                    engine, part, run_after=run_after, priority=priority
                ):
                    _make_due(part, alias)


def _choose_task(one: _Prepared) -> tuple[int, datetime]:
    """Return the priority of the task that sends a message, and when it runs."""
    send_at = one.schedule.send_at
    if send_at is None or send_at <= datetime.now(UTC):
        return one.schedule.priority, _AT_ONCE
    # Use the end of the minute, so that messages of one minute share a task.
    seconds = _SAME_TIME.total_seconds()
    rounded = -(-send_at.timestamp() // seconds) * seconds
    return one.schedule.priority, datetime.fromtimestamp(rounded, UTC)


def _make_due(keys: Sequence[Any], alias: str) -> None:
    """Make messages due, so that `run_due` enqueues them: their task was not."""
    rows = QueuedMessage.objects.using(alias).filter(pk__in=keys, token=None)
    # Do not raise after the caller's commit: `run_due` enqueues them later anyway.
    try:
        rows.update(due_at=F("not_before"))
    except DatabaseError as error:
        logger.error("The queue could not be written: %s", type(error).__name__)  # noqa: TRY400


def _read(job: Job, now: datetime) -> _Prepared | None:
    """Return a message to queue; None if it cannot be sent: its job has the error."""
    try:
        schedule = read_schedule(job.message, now)
        body = Body(job.requests[0].fields)
    except MessageError as error:
        _set(job, Outcome.REFUSED, Status.FAILED, error)
        logger.warning("A message could not be sent: %s", error)
        return None
    return _Prepared(job=job, schedule=schedule, body=body)


def _set(
    job: Job, outcome: Outcome, status: Status, error: Exception | None = None
) -> None:
    job.status.outcome = outcome
    job.error = job.status.error = error
    for request in job.requests:
        job.status.set_recipients(request.addresses, status, None)
    if outcome == Outcome.REFUSED:
        job.requests = []


def _find_transaction(alias: str) -> str | None:
    """Return the alias of a transaction of the caller on another connection."""
    if connections[alias].in_atomic_block:
        return None
    for connection in connections.all(initialized_only=True):
        if connection.alias != alias and connection.in_atomic_block:
            return connection.alias
    return None
