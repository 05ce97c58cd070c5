"""The engine: sends prepared jobs and records their outcomes.

``send_messages()``, sending again and the queue all use it. Only the requests run in
other threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from django_turbosmtp.delivery.outcomes import (
    announce,
    mark_unknown,
    report_untried,
    set_outcomes,
)
from django_turbosmtp.delivery.pace import Pace
from django_turbosmtp.delivery.record import Recorder
from django_turbosmtp.delivery.transmit import Flight, Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_turbosmtp.api.client import Client
    from django_turbosmtp.conf.accounts import Account
    from django_turbosmtp.conf.settings import Settings
    from django_turbosmtp.delivery.jobs import Job
    from django_turbosmtp.exceptions import TurboSMTPError
    from django_turbosmtp.payload import Guard

#: Write, send and record this many messages at a time. If the process is killed, the
#: outcome of about this many is not recorded.
PART = 80


class Source(Protocol):
    """Provides jobs to the engine, part by part, and records their outcomes."""

    def take(self) -> Sequence[Job] | None:
        """Return the next jobs, whose rows are in the log; None if there are no more.

        Called while the previous part is being sent.
        """

    def record(self, jobs: Sequence[Job]) -> None:
        """Record the outcomes of jobs that have been read and are settled."""

    def record_rest(self) -> None:
        """Record the remaining jobs, because the call ends or was interrupted."""

    def watch(self) -> None:
        """Check whether another process has paused the account. Called each second."""


class PreparedJobs:
    """The source of a call that has all its jobs in memory."""

    def __init__(
        self, jobs: Sequence[Job], recorder: Recorder, *, are_written: bool
    ) -> None:
        """Divide the jobs. ``are_written``: their rows are in the log already."""
        parts = [jobs[n : n + PART] for n in range(0, len(jobs), PART)]
        self._open = parts
        self._ahead = list(parts)
        self._unwritten = [] if are_written else list(parts)
        self._recorder = recorder

    def take(self) -> Sequence[Job] | None:
        """Write the rows of the next part, and return it."""
        if not self._ahead:
            return None
        part = self._ahead.pop(0)
        self._write(part)
        return part

    def record(self, jobs: Sequence[Job]) -> None:
        """Set and write the outcomes of a part."""
        set_outcomes(jobs)
        self._recorder.write_outcomes(jobs)
        self._open = [part for part in self._open if part is not jobs]

    def record_rest(self) -> None:
        """Write the rows that were not written, then all outcomes."""
        for part in list(self._unwritten):
            self._write(part)
        for part in self._open:
            self.record(part)

    def watch(self) -> None:
        """Do nothing: without the queue, processes do not pause each other."""

    def _write(self, part: Sequence[Job]) -> None:
        if any(part is unwritten for unwritten in self._unwritten):
            self._recorder.write_rows(part)
            self._unwritten = [p for p in self._unwritten if p is not part]


class Engine:
    """Sends the jobs of one ``send_messages()``, or of one task, with one client."""

    def __init__(
        self,
        *,
        client: Client,
        settings: Settings,
        sender: type,
        account: Account,
        guard: Guard | None = None,
        shares_pauses: bool = False,
    ) -> None:
        """``sender``: of the signals. ``account``: the account of ``client``.

        ``guard``: decides on each recipient (see `delivery.guard.build_guard`).
        ``shares_pauses``: if turboSMTP asks to go slower, stop instead of waiting,
        because the source makes all processes wait.
        """
        self.settings = settings
        self.sender = sender
        self.guard = guard
        self.account = account
        self.recorder = Recorder(settings, account)
        self._client = client
        # One pace for the whole call, so that pauses and a stop apply to all windows.
        self._pace = Pace(settings.max_connections, shares_pauses=shares_pauses)

    @property
    def stopped_by(self) -> TurboSMTPError | None:
        """The error that stopped the call, or None."""
        return self._pace.stopped_by

    def stop(self, error: TurboSMTPError) -> None:
        """Begin no further request. The requests not tried get ``error``."""
        self._pace.stop(error)

    def run(self, jobs: Sequence[Job], *, are_written: bool = False) -> None:
        """Send jobs; set their statuses, record their outcomes, announce them.

        ``are_written``: their rows are in the log already. Raise nothing except an
        interrupt (sometimes as `Interrupted`): then no further request begins, and the
        outcomes so far are recorded.
        """
        mark_unknown(jobs)
        source = PreparedJobs(jobs, self.recorder, are_written=are_written)
        try:
            self.run_source(source, sum(len(job.requests) for job in jobs))
        finally:
            report_untried(jobs)
        announce(jobs, self.sender)

    def run_source(self, source: Source, requests: int) -> None:
        """Send all jobs of a source, about ``requests`` requests.

        The next part is read while the previous one is being sent, and a part is
        recorded as soon as it ends. Only interrupts raise, as in `run`, and exceptions
        of the source.
        """
        flight = Flight(self._client, self.settings, self._pace, requests, source.watch)
        is_empty = False
        try:
            while not is_empty or flight.parts:
                flight.wait(until_low=not is_empty)
                self._record_settled(flight, source)
                if not is_empty and flight.wants_more:
                    jobs = source.take()
                    # Record outcomes first, so that a kill leaves few of them unknown.
                    self._record_settled(flight, source)
                    if jobs is None:
                        is_empty = True
                    else:
                        flight.add(Part(jobs))
                if is_empty:
                    flight.close()
            flight.land()
        except BaseException:
            # Ctrl-C, a time limit, or the end of the process.
            flight.stop()
            raise
        finally:
            source.record_rest()

    def _record_settled(self, flight: Flight, source: Source) -> None:
        for part in flight.list_settled():
            source.record(part.jobs)
            flight.parts.remove(part)
