"""Removes old rows, in small transactions and in limited memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Exists, OuterRef

from django_turbosmtp._lib.clocks import Clock
from django_turbosmtp._lib.times import make_storable
from django_turbosmtp._lib.versions import find_uuid7_floor
from django_turbosmtp.log.connection import run_statements
from django_turbosmtp.log.files import remove_unused_files
from django_turbosmtp.log.locks import begin, delete_messages, lock_messages
from django_turbosmtp.models import (
    Attachment,
    Attempt,
    Content,
    Event,
    HashedAddress,
    Message,
    Payload,
    QueuedMessage,
    Recipient,
    Tag,
    Unmatched,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from django.db.models import Model, QuerySet

    Report = Callable[[int], None]

#: Remove this many messages in the first transaction, and then at most the second
#: number, depending on the time.
FIRST_CHUNK = 200
MAX_CHUNK = 2000

#: Rows of these are needed for messages in the queue, perhaps for long (``send_at``).
_OF_QUEUED = {Message, Content, Payload}

#: Choose the size of chunks so that a transaction takes about this many seconds.
WANTED_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """The numbers of removed messages, bodies (of other messages), and files."""

    messages: int
    bodies: int
    files: int = 0

    @property
    def total(self) -> int:
        return self.messages + self.bodies


def count_old(alias: str, *, days: int | None, body_days: int | None) -> Pruned:
    """Return what `prune` would remove now, without files."""
    return Pruned(
        messages=_select_old(Message, "pk", days, alias).count(),
        bodies=_select_old(Content, "message", body_days, alias)
        .exclude(message__in=_select_old(Message, "pk", days, alias).values("pk"))
        .count(),
    )


def prune(
    alias: str,
    *,
    days: int | None,
    body_days: int | None,
    report: Report = lambda _: None,
) -> Pruned:
    """Remove messages older than ``days``, and bodies older than ``body_days``.

    None removes nothing. ``report`` is called with the size of each removed chunk.
    """
    messages = _remove_in_chunks(Message, "pk", days, alias, _remove_messages, report)
    bodies = _remove_in_chunks(
        Content, "message_id", body_days, alias, _remove_bodies, report
    )
    # Payloads of messages whose content was already removed.
    _remove_in_chunks(Payload, "message_id", body_days, alias, _remove_bodies)
    _remove_in_chunks(Unmatched, "event_id", days, alias, _remove_unmatched)
    _remove_in_chunks(
        Attachment, "message_id", body_days, alias, _forget_files, stored__isnull=False
    )
    _forget_hashes(days, alias)
    return Pruned(messages=messages, bodies=bodies, files=remove_unused_files(alias))


def _forget_hashes(days: int | None, alias: str) -> None:
    """Remove the records about addresses that were allowed again or erased long ago.

    They are needed for late events about older messages, which have been pruned.
    """
    if days is None:
        return
    floor = make_storable(datetime.now(UTC) - timedelta(days=days))
    rows = HashedAddress.objects.using(alias)
    old = rows.exclude(lifted_at__gt=floor).exclude(erased_at__gt=floor)
    # No other row refers to them, so one statement is enough.
    old._raw_delete(alias)


def _select_old(
    model: type[Model], key: str, days: int | None, alias: str, **conditions: Any
) -> QuerySet[Any]:
    """Return the old rows, except those of messages that wait in the queue."""
    rows = model._default_manager.using(alias)
    if days is None:
        return rows.none()
    if model in _OF_QUEUED:
        queued = QueuedMessage.objects.using(alias).filter(pk=OuterRef(key))
        rows = rows.filter(~Exists(queued))
    # The keys are UUIDs in order of time, so this reads the beginning of an index.
    floor = find_uuid7_floor(time.time() - days * 86400)
    return rows.filter(**{f"{key}__lt": floor}, **conditions)


def _remove_in_chunks(
    model: type[Model],
    key: str,
    days: int | None,
    alias: str,
    remove: Callable[[UUID, UUID, str], None],
    report: Report = lambda _: None,
    **conditions: Any,
) -> int:
    """Remove rows in chunks, the oldest first; return how many were removed."""
    old = _select_old(model, key, days, alias, **conditions)
    keys = old.order_by(key).values_list(key, flat=True)
    removed, size = 0, FIRST_CHUNK
    last: UUID | None = None
    while True:
        chunk = list(
            (keys if last is None else keys.filter(**{f"{key}__gt": last}))[:size]
        )
        if not chunk:
            return removed
        started = Clock.monotonic()
        last = chunk[-1]
        _remove_chunk(remove, chunk[0], chunk[-1], alias)
        removed += len(chunk)
        report(len(chunk))
        size = _choose_size(size, Clock.monotonic() - started)


def _remove_chunk(
    remove: Callable[[UUID, UUID, str], None], first: UUID, last: UUID, alias: str
) -> None:
    def work() -> None:
        with begin(alias, limits_wait=False):
            lock_messages(Message.objects.using(alias).filter(pk__range=(first, last)))
            remove(first, last, alias)

    # Repeated after a deadlock: a receiver of the site may lock in another order.
    run_statements(work, alias)


def _choose_size(size: int, seconds: float) -> int:
    if seconds > WANTED_SECONDS:
        return max(1, size // 2)
    return min(MAX_CHUNK, size * 2) if seconds < WANTED_SECONDS / 3 else size


def _exclude_queued(
    rows: QuerySet[Any], key: str, first: UUID, last: UUID
) -> QuerySet[Any]:
    """Return the rows of a range of messages that do not wait in the queue."""
    queued = QueuedMessage.objects.using(rows.db).filter(pk__gte=first, pk__lte=last)
    keys = list(queued.values_list("pk", flat=True))
    rows = rows.filter(**{f"{key}__gte": first, f"{key}__lte": last})
    return rows.exclude(**{f"{key}__in": keys}) if keys else rows


def _remove_messages(first: UUID, last: UUID, alias: str) -> None:
    for model in (Payload, Content, Attachment, Recipient, Attempt, Tag, Event):
        rows = model._default_manager.using(alias)
        _exclude_queued(rows.all(), "message_id", first, last).delete()
    messages = Message.objects.using(alias).all()
    delete_messages(_exclude_queued(messages, "pk", first, last))


def _remove_bodies(first: UUID, last: UUID, alias: str) -> None:
    for model in (Payload, Content):
        rows = model._default_manager.using(alias)
        _exclude_queued(rows.all(), "message_id", first, last).delete()
    # turboSMTP's answers may repeat the message.
    Attempt.objects.using(alias).filter(
        message_id__gte=first, message_id__lte=last
    ).update(answer="")


def _remove_unmatched(first: UUID, last: UUID, alias: str) -> None:
    Unmatched.objects.using(alias).filter(event__gte=first, event__lte=last).delete()
    events = Event.objects.using(alias).filter(message=None)
    events.filter(pk__gte=first, pk__lte=last).delete()


def _forget_files(first: UUID, last: UUID, alias: str) -> None:
    Attachment.objects.using(alias).filter(
        message_id__gte=first, message_id__lte=last
    ).update(stored=None)
