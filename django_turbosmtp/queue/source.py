"""The engine's source of queued messages: claims them, and records their outcomes."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.db import DatabaseError

from django_turbosmtp._lib.clocks import Clock
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp._lib.times import make_aware
from django_turbosmtp.delivery.engine import PART
from django_turbosmtp.delivery.outcomes import announce, mark_unknown, set_outcomes
from django_turbosmtp.delivery.pace import fails_for_all
from django_turbosmtp.exceptions import (
    AuthenticationError,
    NoCredit,
    OutcomeUnknown,
    RateLimited,
    ServerError,
    TurboSMTPError,
)
from django_turbosmtp.log.connection import run_statements
from django_turbosmtp.queue import accounts, engines
from django_turbosmtp.queue.claim import (
    LEASE,
    Claim,
    Selection,
    claim,
    delete_claimed,
    has_due,
    note_enqueued,
    put_back,
    undo_claim,
)
from django_turbosmtp.queue.clock import read_now
from django_turbosmtp.queue.load import QueuedJob, load_jobs
from django_turbosmtp.statuses import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from django_turbosmtp.delivery.engine import Engine
    from django_turbosmtp.delivery.jobs import Job, SendRequest

logger = get_logger("django_turbosmtp.queue")

#: A message fails after this many refusals, or this long after the first one. With the
#: waits below, 20 refusals take about 15 hours.
MAX_TRIES: Final = 20
MAX_AGE: Final = timedelta(hours=24)

#: Wait this long after the first refusal, then twice as long each time (seconds).
FIRST_WAIT, LONGEST_WAIT = 60.0, 3600.0

#: A worker that cannot read a message leaves it to a newer one for this long.
_NEWER_WAIT: Final = timedelta(minutes=1)


@dataclass(kw_only=True)
class _Part:
    """Messages that were claimed together, until all are recorded."""

    claimed: Claim
    deadline: float
    queued: list[QueuedJob] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)


@dataclass(kw_only=True)
class _Decision:
    """The messages of a part: concluded, to be tried again, and not tried."""

    final: list[QueuedJob] = field(default_factory=list)
    #: When a refused message is tried again, and when one that was not tried.
    refused: dict[UUID, datetime] = field(default_factory=dict)
    untried: dict[UUID, datetime] = field(default_factory=dict)


class QueueSource:
    """Claims the messages of a task, part by part."""

    def __init__(self, selection: Selection, engine: Engine, alias: str) -> None:
        self.wait_until: datetime | None = None
        self._selection = selection
        self._engine = engine
        self._alias = alias
        self._left: Sequence[UUID] = selection.keys
        self._open: list[_Part] = []
        self._brakes = accounts.Brakes()
        self._was_probed = False

    def take(self) -> Sequence[Job] | None:
        """Claim and load the next messages; None if none can be sent now."""
        # A probe is one message; its answer decides whether the queue continues.
        if self._engine.stopped_by is not None or self._was_probed:
            return None
        limit = self._read_limit()
        if not limit:
            return None
        claimed = self._claim(limit)
        if claimed is None:
            return None
        # Add it before loading, so that its messages are recorded after any error.
        part = _Part(claimed=claimed, deadline=self._find_deadline())
        self._open.append(part)
        part.queued = run_statements(
            lambda: load_jobs(
                claimed.rows, self._engine.settings, self._engine.guard, self._alias
            ),
            self._alias,
        )
        part.jobs = [queued.job for queued in part.queued]
        # From here on, an interruption must not leave a status that denies a delivery.
        mark_unknown(part.jobs)
        self._engine.recorder.adopt(part.jobs)
        return part.jobs

    def _claim(self, limit: int) -> Claim | None:
        """Claim messages of the task; None if none can be sent now."""
        while self._left:
            # A part of the task, because a statement with all of its keys is much
            # slower.
            keys, rest = self._left[:PART], self._left[PART:]
            claimed = claim(self._selection, keys, limit, self._alias)
            self._left = [*claimed.left, *rest]
            if claimed.wait:
                wait = timedelta(seconds=claimed.wait)
                self.wait_until = read_now(self._alias) + wait
            if claimed.rows:
                return claimed
            if claimed.wait:
                return None
        return None

    def _find_deadline(self) -> float:
        """Return the time until which attempts of a part may begin.

        `run_due` treats its messages as stuck much later.
        """
        return Clock.monotonic() + LEASE.total_seconds() / 2

    def _read_limit(self) -> int:
        """Return how many messages may be claimed; 0 if the account may not send."""
        account = self._selection.account
        # Read them before each part, because another worker may have changed them.
        brakes = self._brakes = self._read_brakes()
        self.wait_until = brakes.wait_until
        if brakes.is_stopped:
            if not (
                brakes.may_probe
                and has_due(self._selection, self._alias)
                and accounts.take_probe(account, self._alias)
            ):
                return 0
            self._was_probed = True
            self.wait_until = None
            return 1
        return 0 if brakes.wait_until else PART

    def _read_brakes(self) -> accounts.Brakes:
        account = self._selection.account
        return run_statements(
            lambda: accounts.read_brakes(account, self._alias), self._alias
        )

    def watch(self) -> None:
        """Stop if another worker paused or stopped the account, or time is over."""
        brakes = self._read_brakes()
        # A probe is also sent during a pause.
        if brakes.wait_until is not None and not self._was_probed:
            self.wait_until = brakes.wait_until
            self._engine.stop(RateLimited("Not tried: the account's queue is paused."))
        if any(part.deadline < Clock.monotonic() for part in self._open):
            self._engine.stop(RateLimited("Not tried: the worker took too long."))

    def record(self, jobs: Sequence[Job]) -> None:
        """Record the outcomes of a part, and put back what is sent later."""
        for part in self._open:
            if part.jobs is jobs:
                self._record(part)
                return

    def record_rest(self) -> None:
        """Record the known outcomes, and put back the messages that were not tried."""
        for part in list(self._open):
            self._record(part)

    def _record(self, part: _Part) -> None:
        set_outcomes(part.jobs)
        decision = self._decide(part)
        token = part.claimed.token

        # One transaction with the outcomes: a crash in between would leave messages in
        # the queue that turboSMTP has accepted.
        def also(alias: str) -> None:
            delete_claimed([queued.row.pk for queued in decision.final], token, alias)
            put_back(decision.refused, token, alias, counts=True)
            put_back(decision.untried, token, alias, counts=False)

        self._engine.recorder.write_outcomes(part.jobs, also)
        loaded = {queued.row.pk for queued in part.queued}
        if lost := [row.pk for row in part.claimed.rows if row.pk not in loaded]:
            # They were claimed, but the database failed before they were read.
            undo_claim(lost, token, self._alias)
        self._open = [one for one in self._open if one is not part]
        # The outcomes are recorded: later errors must not hide them.
        try:
            self._brake(part.jobs)
            self._settle_rate(part)
            self._enqueue_again(decision)
        except DatabaseError as error:
            logger.error("The queue could not be written: %s", type(error).__name__)  # noqa: TRY400
        announce([queued.job for queued in decision.final], self._engine.sender)

    def _decide(self, part: _Part) -> _Decision:
        decision = _Decision()
        for queued in part.queued:
            later = self._find_later(queued)
            if later is None:
                decision.final.append(queued)
                continue
            when, counts = later
            _requeue(queued.job)
            times = decision.refused if counts else decision.untried
            times[queued.row.pk] = when
        return decision

    def _find_later(self, queued: QueuedJob) -> tuple[datetime, bool] | None:
        """Return when a message is sent again, and whether that counts as a refusal.

        None if it has its outcome.
        """
        job, row = queued.job, queued.row
        if queued.is_newer:
            return read_now(self._alias) + _NEWER_WAIT, False
        # A message with only Bcc recipients has several requests, some of which may be
        # accepted.
        failed = [request for request in job.requests if request.result is None]
        if not failed or any(request.is_unknown for request in failed):
            return None
        errors = [request.error for request in failed if request.attempts]
        if not errors:
            # The engine had stopped, so no request was made.
            return read_now(self._alias), False
        # The account is at fault, not the message, so this is not a refusal of the
        # message.
        if any(map(_stops_account, errors)):
            return read_now(self._alias), False
        if not all(error is not None and error.retryable for error in errors):
            return None
        started = make_aware(row.first_tried_at or read_now(self._alias))
        too_old = make_aware(read_now(self._alias)) - started >= MAX_AGE
        if row.tries + 1 >= MAX_TRIES or too_old:
            return None
        asked = [getattr(error, "retry_after", None) or 0.0 for error in errors]
        return read_now(self._alias) + choose_delay(row.tries, max(asked)), True

    def _brake(self, jobs: Sequence[Job]) -> None:
        """Pause, stop or release the account's queue, depending on the answers."""
        requests = [request for job in jobs for request in job.requests]
        account, mailer = self._selection.account, self._selection.mailer
        tried = [request for request in requests if request.attempts]
        stopping = next((r.error for r in tried if _stops_account(r.error)), None)
        if stopping is not None:
            accounts.stop(account, mailer, stopping, self._alias)
            self.wait_until = read_now(self._alias) + accounts.PROBE_INTERVAL
            return
        pausing = next((r.error for r in tried if _pauses_account(r.error)), None)
        # Many unknown outcomes in a row: turboSMTP is probably down.
        if pausing is None and isinstance(self._engine.stopped_by, OutcomeUnknown):
            pausing = self._engine.stopped_by
        if pausing is not None:
            seconds = getattr(pausing, "retry_after", None)
            self.wait_until = accounts.pause(account, mailer, seconds, self._alias)
            return
        accepted = any(request.result is not None for request in tried)
        # Only then, because releasing is a statement, and most parts need none.
        if accepted and self._brakes.was_braked:
            self._brakes = accounts.Brakes()
            if accounts.release(account, self._alias):
                engines.enqueue_run_due(engines.find_engine(mailer))

    def _settle_rate(self, part: _Part) -> None:
        reservation, rate = part.claimed.reservation, self._selection.rate
        if reservation is None or rate is None:
            return
        # Requests without an attempt do not count towards the rate.
        sent = sum(_count_recipients(job.requests) for job in part.jobs)
        accounts.settle(reservation, sent, rate, self._alias)

    def _enqueue_again(self, decision: _Decision) -> None:
        """Enqueue tasks for the messages that were refused, one for each wait."""
        if not decision.refused:
            return
        engine = engines.find_engine(self._selection.mailer)
        keys = sorted(decision.refused, key=decision.refused.__getitem__)
        # One task at the time of the last one, instead of one for each message.
        latest = decision.refused[keys[-1]]
        for part in engines.split(keys):
            if engines.enqueue(engine, part, run_after=make_aware(latest)):
                note_enqueued(part, latest, self._alias)


def _requeue(job: Job) -> None:
    for request in job.requests:
        if request.result is None:
            request.is_queued = True
            addresses = request.addresses
            job.status.set_recipients(addresses, request.state, None)
    job.status.outcome = Outcome.QUEUED


def _count_recipients(requests: Sequence[SendRequest]) -> int:
    return sum(len(request.recipients) for request in requests if request.attempts)


def _stops_account(error: TurboSMTPError | None) -> bool:
    """Return whether turboSMTP refuses every message of the account for now."""
    return isinstance(error, (AuthenticationError, NoCredit))


def _pauses_account(error: TurboSMTPError | None) -> bool:
    if isinstance(error, (RateLimited, ServerError)):
        return True
    return error is not None and fails_for_all(error)


def choose_delay(tries: int, asked: float) -> timedelta:
    """Return how long a message waits after ``tries`` refusals.

    ``asked``: the seconds that turboSMTP asked for, 0 for none. With jitter, so that
    messages refused together are not all tried again at the same moment.
    """
    grown = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(tries, 10))
    seconds = max(grown, asked) * random.uniform(1.0, 1.25)  # noqa: S311
    return timedelta(seconds=seconds)
