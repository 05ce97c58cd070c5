"""The one engine: sends prepared jobs and records their outcomes.

``send_messages()`` and sending again use it; all but the requests happens in the
caller's thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    from django_turbosmtp.payload import Guard

#: Write, send and record this many messages at a time: a killed process leaves about
#: as many without their outcome.
PART = 80


class Engine:
    """Everything that a call of ``send_messages()`` sends with."""

    def __init__(
        self,
        *,
        client: Client,
        settings: Settings,
        sender: type,
        account: Account,
        guard: Guard | None = None,
    ) -> None:
        """``sender``: of the signals. ``account``: the one that ``client`` logs in to.

        ``guard``: decides on each recipient (see `delivery.guard.build_guard`).
        """
        self.settings = settings
        self.sender = sender
        self.guard = guard
        self.account = account
        self.recorder = Recorder(settings, account)
        self._client = client
        # Of the whole call: brakes and the stop apply to all of its windows.
        self._pace = Pace(settings.max_connections)

    def run(self, jobs: Sequence[Job], *, are_written: bool = False) -> None:
        """Send jobs; set their statuses, record their outcomes, announce them.

        ``are_written``: their rows are in the log already. The rows of a part are
        written while the part before it is being sent, and the outcomes of a part as
        soon as it ends. Only an interrupt raises, as `Interrupted` or by itself:
        nothing further begins, and what is known by then is recorded.
        """
        mark_unknown(jobs)
        ahead = [Part(jobs[n : n + PART]) for n in range(0, len(jobs), PART)]
        requests = sum(len(part.requests) for part in ahead)
        flight = Flight(self._client, self.settings, self._pace, requests)
        try:
            while ahead or flight.parts:
                flight.wait(until_low=bool(ahead))
                self._record_settled(flight)
                if ahead and flight.wants_more:
                    if not are_written:
                        self.recorder.write_rows(ahead[0].jobs)
                    # Before more is sent: a kill must leave few outcomes unknown.
                    self._record_settled(flight)
                    flight.add(ahead[0])
                    del ahead[0]
                if not ahead:
                    flight.close()
            flight.land()
        except BaseException:
            # Ctrl-C, a time limit, or the end of the process.
            flight.stop()
            raise
        finally:
            rest = [part for part in ahead if part not in flight.parts]
            for part in rest if not are_written else ():
                self.recorder.write_rows(part.jobs)
            for part in (*flight.parts, *rest):
                self._record(part.jobs)
            report_untried(jobs)
        announce(jobs, self.sender)

    def _record_settled(self, flight: Flight) -> None:
        for part in flight.list_settled():
            self._record(part.jobs)
            flight.parts.remove(part)

    def _record(self, jobs: Sequence[Job]) -> None:
        set_outcomes(jobs)
        self.recorder.write_outcomes(jobs)
