"""Periodic work on the queue. Run it about once a minute.

The task ``run_due()``, or ``manage.py turbosmtp_run_due`` from cron.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django_turbosmtp._lib.interrupts import raise_as_it_was
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp.conf.log import choose_log_database
from django_turbosmtp.log.connection import run_statements
from django_turbosmtp.log.locks import begin, lock_messages
from django_turbosmtp.models import Heartbeat, Message, QueuedMessage, Recipient
from django_turbosmtp.queue import accounts, engines, work
from django_turbosmtp.queue.claim import TASK_LIFETIME
from django_turbosmtp.queue.clock import read_now, synchronize
from django_turbosmtp.statuses import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

logger = get_logger("django_turbosmtp.queue")

#: The name of this task's `Heartbeat`.
HEARTBEAT: Final = "run_due"

#: Enqueue at most this many tasks in one run; the next run enqueues the others.
MAX_TASKS: Final = 100

#: Without a run for this long, a system check warns.
OVERDUE: Final = timedelta(hours=1)

_LOST: Final = (
    "The worker that was sending it ended without a result, so turboSMTP may have"
    " accepted it."
)


@dataclass(kw_only=True)
class Result:
    """The numbers of messages that were enqueued, marked as unknown, and put back."""

    enqueued: int = 0
    unknown: int = 0
    released: int = 0


@raise_as_it_was
def run_due(find_backend: Callable[[str], Any]) -> Result:
    """Enqueue messages that are due and have no task; release those that are stuck.

    A message that a worker claimed and never concluded becomes unknown: it is not sent
    again. ``find_backend``: returns the backend of a mailer. Return what was done.
    """
    alias = choose_log_database()
    result = Result()
    run_statements(lambda: synchronize(alias), alias)
    _beat(alias)
    while part := _list_stuck(alias):
        _settle_stuck(part, alias, result)
    for _number in range(MAX_TASKS):
        keys = _enqueue_part(alias, find_backend)
        result.enqueued += len(keys)
        if not keys:
            break
    _probe(alias, find_backend)
    return result


def _beat(alias: str) -> None:
    rows = Heartbeat.objects.using(alias)
    now = read_now(alias)
    if not rows.filter(pk=HEARTBEAT).update(at=now):
        rows.bulk_create([Heartbeat(name=HEARTBEAT, at=now)], ignore_conflicts=True)


def find_overdue(alias: str) -> str:
    """Return how long this has not run, as a clause; "" if it has run recently."""
    row = Heartbeat.objects.using(alias).filter(pk=HEARTBEAT).first()
    if row is None:
        return "run_due has never run"
    age = read_now(alias) - row.at
    if age < OVERDUE:
        return ""
    return f"run_due has not run for {age.total_seconds() / 3600:.0f} hours"


def _list_stuck(alias: str) -> list[UUID]:
    rows = QueuedMessage.objects.using(alias).filter(due_at__lte=read_now(alias))
    stuck = rows.exclude(token=None).order_by("due_at")
    return list(stuck.values_list("pk", flat=True)[: engines.TASK_SIZE])


def _settle_stuck(part: Sequence[UUID], alias: str, result: Result) -> None:
    def work_on() -> tuple[int, int]:
        with begin(alias, limits_wait=False):
            return _settle(part, alias)

    unknown, released = run_statements(work_on, alias)
    result.unknown += unknown
    result.released += released
    if unknown:
        logger.error(
            "%s messages were being sent by a worker that ended without a result;"
            " their outcome is unknown, and they are not sent again.",
            unknown,
        )


def _settle(keys: Sequence[UUID], alias: str) -> tuple[int, int]:
    messages = Message.objects.using(alias).filter(pk__in=keys)
    lock_messages(messages)
    rows = QueuedMessage.objects.using(alias)
    # A worker may have concluded, or put back, some of them meanwhile.
    now = read_now(alias)
    found = rows.filter(pk__in=keys).values_list("pk", "token", "due_at")
    stuck = [key for key, token, due_at in found if token is not None and due_at <= now]
    waiting = [
        key
        for key, status in messages.filter(pk__in=stuck).values_list("pk", "status")
        if status == Status.QUEUED
    ]
    released = rows.filter(pk__in=waiting).update(token=None, due_at=now)
    lost = [key for key in stuck if key not in set(waiting)]
    sending = messages.filter(pk__in=lost, status=Status.SENDING)
    unknown = sending.update(
        status=Status.UNKNOWN,
        outcome=Outcome.UNKNOWN,
        concluded_at=now,
        error=_LOST,
        error_class="OutcomeUnknown",
    )
    recipients = Recipient.objects.using(alias).filter(message__in=lost)
    recipients.filter(status=Status.SENDING).update(status=Status.UNKNOWN)
    rows.filter(pk__in=lost).delete()
    return unknown, released


def _enqueue_part(alias: str, find_backend: Callable[[str], Any]) -> list[UUID]:
    """Enqueue one task of each mailer with due messages; return their keys."""
    stopped = [row.account for row in accounts.find_stopped(alias)]
    now = read_now(alias)
    rows = QueuedMessage.objects.using(alias).filter(token=None, due_at__lte=now)
    due = rows.exclude(account__in=stopped).order_by("due_at")
    found = list(due.values_list("mailer", "pk")[: engines.TASK_SIZE])
    by_mailer: dict[str, list[UUID]] = defaultdict(list)
    for mailer, key in found:
        by_mailer[mailer].append(key)
    for mailer, keys in by_mailer.items():
        _start(mailer, keys, alias, find_backend)
    return [key for _, key in found]


def _start(
    mailer: str,
    keys: Sequence[UUID],
    alias: str,
    find_backend: Callable[[str], Any],
) -> None:
    """Enqueue a task for these messages; send them here if the queue was turned off."""
    # Before enqueueing, so that a simultaneous run does not enqueue them again.
    rows = QueuedMessage.objects.using(alias).filter(pk__in=keys, token=None)
    rows.update(due_at=read_now(alias) + TASK_LIFETIME)
    engine = engines.find_engine(mailer)
    if engine:
        engines.enqueue(engine, keys)
    else:
        work.send_queued(keys, find_backend)


def _probe(alias: str, find_backend: Callable[[str], Any]) -> None:
    """Send one message of each stopped account, to test if turboSMTP accepts it."""
    now = read_now(alias)
    for row in accounts.find_stopped(alias):
        if row.probe_at is not None and row.probe_at > now:
            continue
        waiting = QueuedMessage.objects.using(alias).filter(
            account=row.account, token=None, not_before__lte=now
        )
        key = waiting.order_by("due_at").values_list("pk", flat=True).first()
        if key is not None:
            _start(row.mailer, [key], alias, find_backend)
