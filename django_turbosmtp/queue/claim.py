"""Claims decide which worker may send a message, and when it is tried again.

A claim is one conditional UPDATE with a token. If two workers try to claim the same
message, because a task was delivered twice or enqueued again, only one of them finds it
without a token.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Case, DateTimeField, F, Value, When
from django.db.models.functions import Coalesce

from django_turbosmtp.log.connection import run_statements
from django_turbosmtp.log.locks import begin
from django_turbosmtp.models import Message, QueuedMessage, Recipient
from django_turbosmtp.queue.accounts import read_budget, reserve
from django_turbosmtp.queue.clock import read_now, synchronize
from django_turbosmtp.statuses import Status

if TYPE_CHECKING:
    import datetime
    from collections.abc import Mapping, Sequence
    from uuid import UUID

#: A message that a worker claimed and did not conclude for this long is stuck: its
#: worker was killed.
LEASE: Final = timedelta(minutes=15)

#: `run_due` enqueues a message again after this time: its task may be lost.
TASK_LIFETIME: Final = timedelta(minutes=10)

#: Claim no more payload than this at a time, unless one message is larger.
_MAX_BYTES: Final = 32 * 2**20


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Messages that only this worker may send.

    ``left``: the keys that were asked for and can still be claimed. ``reservation``: of
    the rate, None without a rate or without messages. ``wait``: seconds until the rate
    allows more messages, 0 if it does not limit them now.
    """

    token: UUID
    rows: Sequence[QueuedMessage]
    left: Sequence[UUID] = ()
    reservation: int | None = None
    wait: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The messages that a worker may claim: those of a mailer's account.

    ``keys``: all keys of the task. ``accounts``: the account's fingerprints. ``rate``:
    recipients and seconds.
    """

    keys: Sequence[UUID]
    mailer: str
    account: str
    accounts: Sequence[str]
    rate: tuple[int, int] | None


def claim(selection: Selection, keys: Sequence[UUID], limit: int, alias: str) -> Claim:
    """Claim at most ``limit`` of these messages that are due, the most urgent first.

    ``keys``: some of the task's, because a statement with all of them is much slower.
    Messages of other tasks with a higher priority are claimed first.
    """

    def work() -> Claim:
        synchronize(alias)
        with begin(alias, limits_wait=False):
            return _claim(selection, keys, limit, alias)

    return run_statements(work, alias)


def _claim(selection: Selection, keys: Sequence[UUID], limit: int, alias: str) -> Claim:
    token = uuid.uuid4()
    rows = QueuedMessage.objects.using(alias)
    now = read_now(alias)
    due = rows.filter(
        token=None, not_before__lte=now, account__in=selection.accounts
    ).order_by("-priority", "not_before", "pk")
    own = list(due.filter(pk__in=keys))
    left = {row.pk: None for row in own}
    lowest = min((row.priority for row in own), default=0)
    if own:
        urgent = due.filter(priority__gt=max(lowest, 0), mailer=selection.mailer)
        own = _merge(list(urgent[:limit]), own)[:limit]
    wait, budget = 0.0, None
    if selection.rate:
        budget = read_budget(selection.account, selection.mailer, selection.rate, alias)
    chosen: list[UUID] = []
    size = recipients = 0
    for row in own:
        size += row.payload_size
        if chosen and size > _MAX_BYTES:
            break
        is_over = budget and recipients + row.recipients > budget.recipients
        # A message with more recipients than the limit is sent by itself.
        if budget and is_over and (chosen or not budget.is_empty):
            wait = max(budget.wait, 0.05)
            break
        if budget and chosen and recipients + row.recipients > budget.share:
            break
        chosen.append(row.pk)
        recipients += row.recipients
    for key in chosen:
        left.pop(key, None)
    if not chosen:
        return Claim(token=token, rows=[], left=list(left), wait=wait)
    count = rows.filter(pk__in=chosen, token=None, not_before__lte=now).update(
        token=token, due_at=now + LEASE
    )
    if not count:
        return Claim(token=token, rows=[], left=list(left))
    claimed = own[: len(chosen)]
    if count < len(chosen):
        # Another worker has claimed some of them meanwhile.
        taken = rows.filter(pk__in=chosen, token=token)
        claimed = list(taken.order_by("-priority", "not_before", "pk"))
    _replace_status([row.pk for row in claimed], Status.QUEUED, Status.SENDING, alias)
    reservation = None
    if selection.rate:
        total = sum(row.recipients for row in claimed)
        reservation = reserve(selection.account, total, selection.rate, alias)
    return Claim(
        token=token,
        rows=claimed,
        left=list(left),
        reservation=reservation,
        wait=wait,
    )


def _replace_status(
    keys: Sequence[UUID], before: Status, after: Status, alias: str
) -> None:
    """Replace a status of messages and of their recipients with another one."""
    # Not filtered by the status: a database without statistics would read all messages
    # with this status, instead of the few with these keys.
    messages = Message.objects.using(alias).filter(pk__in=keys)
    changed = When(status=before, then=Value(after))
    messages.update(status=Case(changed, default=F("status")))
    recipients = Recipient.objects.using(alias).filter(message__in=keys)
    recipients.filter(status=before).update(status=after)


def _merge(
    first: Sequence[QueuedMessage], second: Sequence[QueuedMessage]
) -> list[QueuedMessage]:
    found = {row.pk: row for row in (*first, *second)}
    return sorted(
        found.values(), key=lambda row: (-row.priority, row.not_before, row.pk)
    )


def has_due(selection: Selection, alias: str) -> bool:
    """Return whether a message of the selection may be sent now."""
    rows = QueuedMessage.objects.using(alias).filter(
        token=None, not_before__lte=read_now(alias), account__in=selection.accounts
    )
    return rows.filter(pk__in=selection.keys).exists()


def undo_claim(keys: Sequence[UUID], token: UUID, alias: str) -> None:
    """Put back messages that were claimed, but certainly not sent."""
    now = read_now(alias)

    def work() -> None:
        with begin(alias, limits_wait=False):
            rows = QueuedMessage.objects.using(alias).filter(token=token)
            own = list(rows.filter(pk__in=keys).values_list("pk", flat=True))
            put_back(dict.fromkeys(own, now), token, alias, counts=False)
            _replace_status(own, Status.SENDING, Status.QUEUED, alias)

    run_statements(work, alias)


def delete_claimed(keys: Sequence[UUID], token: UUID, alias: str) -> None:
    """Remove messages from the queue that have their outcome."""
    if keys:
        rows = QueuedMessage.objects.using(alias).filter(pk__in=keys, token=token)
        rows._raw_delete(alias)


def put_back(
    times: Mapping[UUID, datetime.datetime],
    token: UUID,
    alias: str,
    *,
    counts: bool,
) -> None:
    """Put back messages until these times.

    ``counts``: whether this counts as a refusal; the number of refusals is limited.
    """
    rows = QueuedMessage.objects.using(alias)
    now = read_now(alias)
    changes: dict[str, Any] = {}
    if counts:
        first = Coalesce(F("first_tried_at"), Value(now, DateTimeField()))
        changes = {"tries": F("tries") + 1, "first_tried_at": first}
    by_time: dict[datetime.datetime, list[UUID]] = {}
    for key, not_before in times.items():
        by_time.setdefault(not_before, []).append(key)
    for not_before, keys in by_time.items():
        rows.filter(pk__in=keys, token=token).update(
            token=None, not_before=not_before, due_at=not_before, **changes
        )


def note_enqueued(
    keys: Sequence[UUID], run_after: datetime.datetime | None, alias: str
) -> None:
    """Prevent `run_due` from enqueueing these messages again for some time."""
    due_at = max(filter(None, [read_now(alias), run_after])) + TASK_LIFETIME
    rows = QueuedMessage.objects.using(alias).filter(pk__in=keys, token=None)
    rows.update(due_at=due_at)
