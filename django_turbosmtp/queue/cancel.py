"""Cancels messages that wait in the queue, and hands them over to another key."""

from __future__ import annotations

import uuid
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Case, F, QuerySet, Value, When
from django.utils import timezone

from django_turbosmtp.conf.log import choose_log_database
from django_turbosmtp.log.connection import run_statements
from django_turbosmtp.log.locks import begin, lock_messages
from django_turbosmtp.models import (
    Message,
    Payload,
    QueueAccount,
    QueuedMessage,
    Recipient,
)
from django_turbosmtp.queue.clock import read_now
from django_turbosmtp.statuses import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from uuid import UUID

#: Cancel this many messages in one transaction.
_CHUNK: Final = 500


def cancel(messages: Iterable[Any]) -> int:
    """Cancel the messages that still wait in the queue; return how many these were.

    ``messages``: rows of the log (a query set of `Message`, for example), or their
    keys. Messages that a worker is sending, and messages that are not in the queue,
    are left as they are.
    """
    alias = choose_log_database()
    if isinstance(messages, QuerySet):
        # Read from the database that is written: the router may choose a replica.
        messages = messages.using(alias).values_list("pk", flat=True)
    keys = (getattr(message, "pk", message) for message in messages)
    return sum(
        run_statements(lambda part=part: _cancel(part, alias), alias)  # type: ignore[misc]
        for part in _chunk(iter(keys))
    )


def _chunk(keys: Iterator[Any]) -> Iterator[list[Any]]:
    while part := list(islice(keys, _CHUNK)):
        yield part


def _cancel(keys: list[UUID], alias: str) -> int:
    with begin(alias, limits_wait=False):
        messages = Message.objects.using(alias)
        lock_messages(messages.filter(pk__in=keys))
        rows = QueuedMessage.objects.using(alias)
        # Claim it like a worker, so that only one of the two succeeds.
        token = uuid.uuid4()
        if not rows.filter(pk__in=keys, token=None).update(token=token):
            return 0
        taken = rows.filter(pk__in=keys, token=token)
        own = list(taken.values_list("pk", flat=True))
        now = timezone.now()
        # Some of its blind copies may have been sent, and have events.
        waiting = When(status=Status.QUEUED, then=Value(Status.CANCELLED))
        messages.filter(pk__in=own).update(
            status=Case(waiting, default=F("status")),
            outcome=Outcome.CANCELLED,
            concluded_at=now,
        )
        recipients = Recipient.objects.using(alias).filter(message__in=own)
        recipients.filter(status=Status.QUEUED).update(status=Status.CANCELLED)
        Payload.objects.using(alias).filter(message__in=own).delete()
        rows.filter(pk__in=own).delete()
        return len(own)


def adopt(mailer: str, fingerprint: str, alias: str) -> int:
    """Let a mailer's messages be sent with its present key; return how many.

    ``fingerprint``: of the account of the key. Only call it if both keys belong to the
    site.
    """
    rows = QueuedMessage.objects.using(alias).filter(mailer=mailer, token=None)
    foreign = rows.exclude(account=fingerprint)
    accounts = list(foreign.order_by().values_list("account", flat=True).distinct())
    messages = Message.objects.using(alias).filter(queued__in=foreign.values("pk"))
    messages.update(account=fingerprint)
    adopted = foreign.update(account=fingerprint, due_at=read_now(alias))
    QueueAccount.objects.using(alias).filter(pk__in=accounts).delete()
    return adopted
