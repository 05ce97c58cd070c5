"""The pace of one call: waits, slowing down, and stopping early."""

from __future__ import annotations

import random
import threading

from django_turbosmtp._lib.clocks import Clock
from django_turbosmtp.exceptions import (
    AuthenticationError,
    ConnectionFailed,
    NoCredit,
    OutcomeUnknown,
    RateLimited,
    ServerError,
    TurboSMTPError,
)

#: Wait at most this many seconds for ``Retry-After`` during a send.
MAX_WAIT = 30.0

#: Wait this many seconds before the second attempt; double it for each further one.
FIRST_WAIT = 0.5

#: Stop after this many unknown outcomes in a row: messages that were not sent can be
#: sent later, but those with an unknown outcome cannot.
MAX_UNKNOWN_IN_A_ROW = 10


class Pace:
    """The pace of all workers of a call.

    turboSMTP does not document its rate limit (docs/wire.rst), so a 429 slows the whole
    call, not one connection: all workers wait, then half as many send at once.
    """

    def __init__(self, workers: int, *, shares_pauses: bool = False) -> None:
        """``shares_pauses``: stop instead of waiting, see `Engine`."""
        self._shares_pauses = shares_pauses
        self.stopped_by: TurboSMTPError | None = None
        self.accepted = 0
        self._limit = workers
        self._active = 0
        self._resume_at = 0.0
        self._unknown_in_a_row = 0
        self._interrupted = False
        # A separate lock: that of a Condition stays acquired if a signal handler raises
        # at the wrong moment.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def enter(self, not_before: float = 0.0) -> bool:
        """Wait for a turn; return False if the call has been stopped.

        ``not_before``: a time of Clock.monotonic(). Call `leave` at the end of a turn.
        """
        waited_for = 0.0
        with self._lock:
            while not self._stopped():
                until = max(self._resume_at, not_before)
                wait = until - Clock.monotonic() if until > waited_for else 0.0
                if wait <= 0 and self._active < self._limit:
                    self._active += 1
                    return True
                notified = self._changed.wait(wait if wait > 0 else None)
                if not notified:
                    # The time is over, even if a test has frozen the clock.
                    waited_for = until
        return False

    def leave(self, error: TurboSMTPError | None, *, accepted: bool) -> None:
        """End a turn. ``error``: of its attempt, or None."""
        with self._lock:
            self._active -= 1
            if accepted:
                self.accepted += 1
                self._unknown_in_a_row = 0
            elif isinstance(error, OutcomeUnknown):
                self._unknown_in_a_row += 1
                if self._unknown_in_a_row >= MAX_UNKNOWN_IN_A_ROW:
                    self.stopped_by = self.stopped_by or error
            self._changed.notify_all()

    def choose_wait(self, attempt: int, error: TurboSMTPError) -> float | None:
        """Return the seconds to wait after ``error``; None to stop instead."""
        if self._shares_pauses and slows_all(error):
            return None
        return choose_wait(attempt, error)

    def brake(self, seconds: float) -> None:
        """Make all workers wait, then continue with half as many."""
        with self._lock:
            self._resume_at = max(self._resume_at, Clock.monotonic() + seconds)
            self._limit = max(1, self._limit // 2)

    def stop(self, error: TurboSMTPError | None = None) -> None:
        """Begin no further request. Those that are being sent are finished."""
        with self._lock:
            self.stopped_by = self.stopped_by or error
            self._interrupted = self._interrupted or error is None
            self._changed.notify_all()

    def _stopped(self) -> bool:
        return self._interrupted or self.stopped_by is not None


def choose_wait(attempt: int, error: TurboSMTPError) -> float | None:
    """Return the seconds to wait after the error of attempt number ``attempt``.

    None if that is longer than a caller should wait.
    """
    asked = getattr(error, "retry_after", None)
    if asked is not None:
        return None if asked > MAX_WAIT else float(asked)
    grown: float = FIRST_WAIT * 2 ** (attempt - 1)
    # Jitter, so that many processes do not try again at the same moment.
    return min(MAX_WAIT, grown) * random.uniform(0.75, 1.25)  # noqa: S311


def slows_all(error: TurboSMTPError) -> bool:
    """Return whether turboSMTP asks all senders to slow down."""
    return isinstance(error, (RateLimited, ServerError))


def fails_for_all(error: TurboSMTPError) -> bool:
    """Return whether all messages of the account would fail with this error."""
    if isinstance(error, ConnectionFailed):
        return (
            not error.connected
        )  # With other errors, the size of this message may matter.
    return isinstance(error, (AuthenticationError, NoCredit))
