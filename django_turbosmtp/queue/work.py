"""A worker's task: send queued messages, as long as their account may send."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.core.exceptions import ImproperlyConfigured
from django.db.models import F

from django_turbosmtp._lib.interrupts import raise_as_it_was
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp._lib.times import make_aware
from django_turbosmtp.conf.log import choose_log_database
from django_turbosmtp.delivery.engine import PART
from django_turbosmtp.log.connection import run_statements
from django_turbosmtp.models import QueuedMessage
from django_turbosmtp.queue import accounts, engines
from django_turbosmtp.queue.claim import Selection, note_enqueued
from django_turbosmtp.queue.clock import read_now, synchronize
from django_turbosmtp.queue.source import QueueSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django_turbosmtp.delivery.engine import Engine

    #: Returns the backend of a mailer (`backends.find_backend`).
    FindBackend = Callable[[str], Any]

logger = get_logger("django_turbosmtp.queue")

#: A task waits at most this many seconds at a time, and in total. After that, another
#: task continues later: sites have time limits for tasks.
_MAX_NAP: Final = 5.0
_MAX_NAPS: Final = 60.0


@raise_as_it_was
def send_queued(ids: Sequence[str | UUID], find_backend: FindBackend) -> None:
    """Send the messages with these keys that wait in the queue and are due.

    ``ids``: keys of messages. Messages that another worker has, that are not due or
    that were cancelled are skipped, so the task may be delivered any number of times.
    """
    alias = choose_log_database()
    keys = [UUID(str(key)) for key in ids]
    rows = QueuedMessage.objects.using(alias).filter(token=None)
    # This is the order within a task; `claim` chooses among tasks.
    urgent_first = rows.filter(pk__in=keys).order_by("-priority", "not_before", "pk")

    def find() -> list[tuple[UUID, str, str, datetime]]:
        synchronize(alias)
        return list(urgent_first.values_list("pk", "mailer", "account", "not_before"))

    tasks: dict[str, _Task] = {}
    early: list[UUID] = []
    found = run_statements(find, alias)
    now = read_now(alias)
    for key, mailer, account, not_before in found:
        if not_before > now:
            early.append(key)
            continue
        task = tasks.setdefault(mailer, _Task(mailer=mailer, alias=alias))
        task.keys.append(key)
        task.fingerprints.add(account)
    if early:
        # The clock of the task engine is ahead. `run_due` enqueues them in time.
        rows.filter(pk__in=early).update(due_at=F("not_before"))
    for task in tasks.values():
        task.run(find_backend)


@dataclass(kw_only=True)
class _Task:
    """The messages of one mailer in a task, the most urgent first."""

    mailer: str
    alias: str
    keys: list[UUID] = field(default_factory=list)
    fingerprints: set[str] = field(default_factory=set)

    def run(self, find_backend: FindBackend) -> None:
        try:
            backend = find_backend(self.mailer)
            # All workers share pauses through the database, so this one does not wait
            # itself.
            engine = backend.build_engine(shares_pauses=True)
        except ImproperlyConfigured as error:
            # The mailer does not exist any more, or its settings are wrong.
            for fingerprint in self.fingerprints:
                accounts.stop(fingerprint, self.mailer, error, self.alias)
            return
        # Several fingerprints of one account: SECRET_KEY was changed
        # (SECRET_KEY_FALLBACKS).
        own = [f for f in self.fingerprints if engine.account.has_fingerprint(f)]
        for fingerprint in self.fingerprints - set(own):
            accounts.stop(
                fingerprint, self.mailer, build_other_key(self.mailer), self.alias
            )
        if own:
            self._send(engine, own)

    def _send(self, engine: Engine, own: Sequence[str]) -> None:
        selection = Selection(
            keys=self.keys,
            mailer=self.mailer,
            account=engine.account.fingerprint,
            accounts=own,
            rate=engine.settings.rate,
        )
        slept = 0.0
        while True:
            source = QueueSource(selection, engine, self.alias)
            engine.run_source(source, min(len(self.keys), PART))
            later = source.wait_until
            if later is None:
                return
            seconds = (later - read_now(self.alias)).total_seconds()
            task_engine = engines.find_engine(self.mailer)
            may_nap = engines.can_defer(task_engine)
            may_nap = may_nap and seconds < _MAX_NAP and slept + seconds < _MAX_NAPS
            if not may_nap or engine.stopped_by is not None:
                self._go_on_later(task_engine, later)
                return
            slept += max(0.0, seconds)
            time.sleep(max(0.0, seconds))

    def _go_on_later(self, task_engine: str, later: datetime) -> None:
        """Enqueue a task that sends the remaining messages later."""
        rows = QueuedMessage.objects.using(self.alias)
        left = rows.filter(pk__in=self.keys, token=None, mailer=self.mailer)
        # A little later, because task engines round times down to milliseconds.
        until = later + timedelta(milliseconds=10)
        waiting = list(left.filter(not_before__lte=until).values_list("pk", flat=True))
        if not waiting:
            return
        if engines.enqueue(task_engine, waiting, run_after=make_aware(until)):
            note_enqueued(waiting, until, self.alias)
        else:
            # `run_due` enqueues them then.
            rows.filter(pk__in=waiting, token=None).update(due_at=until)


def build_other_key(mailer: str) -> ImproperlyConfigured:
    """Return why messages wait: the mailer no longer has their account."""
    name = accounts.name_mailer(mailer)
    return ImproperlyConfigured(
        f"The credentials of {name} have changed since these messages were queued."
        " Restore the old ones, or send the messages with the new ones: manage.py"
        " turbosmtp_run_due --adopt"
    )
