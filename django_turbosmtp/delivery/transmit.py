"""Requests on their way: many in flight, each tried again only where that is safe.

Worker threads touch neither database nor message.
"""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django_turbosmtp._interrupts import raise_interrupt
from django_turbosmtp._logs import get_logger
from django_turbosmtp.delivery.jobs import Request, build_not_tried
from django_turbosmtp.delivery.pace import (
    Pace,
    choose_wait,
    fails_for_all,
    slows_all,
)
from django_turbosmtp.exceptions import OutcomeUnknown, TurboSMTPError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_turbosmtp.api import Client
    from django_turbosmtp.conf import Settings

logger = get_logger("django_turbosmtp.delivery")

#: Start a further thread after this many seconds, unless those there are keep up.
_RAMP_SECONDS = 0.001

#: Fewer requests go one after another, in order: threads would gain little.
_WORTH_THREADS = 4


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What came of one try: ``wait`` seconds before another.

    None where turboSMTP asks for a longer wait than a caller should have.
    """

    error: TurboSMTPError
    wait: float | None


class Ending(enum.Enum):
    """Why a request that failed is not tried again."""

    NOT_RETRYABLE = "it may have been accepted, or would fail again"
    TRIED_ENOUGH = "it was tried as often as MAX_RETRIES allows"
    WAIT_TOO_LONG = "turboSMTP asked for a longer wait than a caller should have"


class Transmitter:
    """Sends the requests of one call. Pace, brakes and the stop hold for all of it."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._connections = settings.max_connections
        self._max_retries = settings.max_retries
        self._pace = Pace(settings.max_connections)

    def send(self, requests: Sequence[Request]) -> None:
        """Send every request, and write to each what came of it."""
        batch = _Batch(requests)
        workers = min(self._connections, len(requests))
        if workers <= 1 or len(requests) < _WORTH_THREADS:
            self._work(batch)
            return
        try:
            if not self._start_threads(batch, workers):
                # No further thread is to be had: this one does its part.
                self._work(batch)
            batch.wait()
        except BaseException:
            # Ctrl-C, a time limit, or the end of the process: what is in flight still
            # ends, so that its outcome is known, and nothing more begins.
            self._pace.stop()
            self._pace.wait_until_idle()
            raise

    def _start_threads(self, batch: _Batch, number: int) -> bool:
        """Start up to ``number`` threads; return False where fewer are to be had.

        One after the other, and no further one while those there are get through a
        request each in `_RAMP_SECONDS`: threads that need not wait for answers only
        wait for each other. There may be none to be had: at a limit of the system, at
        the end of the process, and in a thread that outlives the main one. They are
        daemons, and not joined but waited for by what they do: one whose start is
        interrupted never ends.
        """
        for started in range(number):
            left = batch.left
            while started and left and batch.pause(left - started):
                left = batch.left
            if not batch.left:
                return True
            # In the caller's context: what is silent there is silent here.
            run = copy_context().run
            name = f"turbosmtp_{started}"
            thread = threading.Thread(
                target=run, args=(self._work_in_thread, batch), name=name, daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:
                raise_interrupt(error)
                return False
        return True

    def _work_in_thread(self, batch: _Batch) -> None:
        failure: BaseException | None = None
        batch.begin()
        try:
            self._work(batch)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            failure = error
        batch.end(failure)

    def _work(self, batch: _Batch) -> None:
        while (request := batch.take()) is not None:
            send_until_settled(request, self._client, self._max_retries, self._pace)


class _Batch:
    """The requests of a window, which workers take until there is none left."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._waiting = deque(requests)
        self._working = 0
        self._error: BaseException | None = None
        # Taken by itself, as in `Pace`.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def take(self) -> Request | None:
        """Return the next request, None where there is none left."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    @property
    def left(self) -> int:
        """How many requests nobody has taken."""
        return len(self._waiting)

    def pause(self, wanted: int) -> bool:
        """Wait a moment; return whether then no more than ``wanted`` are left."""
        with self._lock:
            if self._waiting and self._error is None:
                self._changed.wait(_RAMP_SECONDS)
            return len(self._waiting) <= wanted and self._error is None

    def begin(self) -> None:
        """Note that one more thread takes requests; it says so before the first."""
        with self._lock:
            self._working += 1

    def end(self, failure: BaseException | None) -> None:
        """Note that a thread takes no more, and what it failed with."""
        with self._lock:
            self._working -= 1
            self._error = self._error or failure
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait until none is left or on its way; raise what a thread failed with."""
        with self._lock:
            while (self._waiting or self._working) and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error


def send_until_settled(
    request: Request, client: Client, max_retries: int, pace: Pace
) -> None:
    """Send one request, again where it was certainly not accepted."""
    accepted_before = pace.accepted
    not_before = 0.0
    while pace.enter(not_before):
        failure = _send_once(request, client, pace)
        if failure is None:
            return
        ending = _find_ending(request, failure, max_retries)
        if ending is not None:
            if _ends_batch(ending, failure, pace.accepted > accepted_before):
                pace.stop(failure.error)
            return
        not_before = time.monotonic() + (failure.wait or 0.0)
    if request.error is None:
        request.error = build_not_tried(pace.stopped_by)


def _find_ending(request: Request, failure: Failure, max_retries: int) -> Ending | None:
    if failure.wait is None:
        return Ending.WAIT_TOO_LONG
    if not failure.error.retryable:
        return Ending.NOT_RETRYABLE
    if request.attempts > max_retries:
        return Ending.TRIED_ENOUGH
    return None


def _ends_batch(ending: Ending, failure: Failure, others_pass: bool) -> bool:
    """Tell whether what came of this request will come of all the others.

    ``others_pass``: turboSMTP has accepted others while this one was tried.
    """
    if ending is Ending.WAIT_TOO_LONG or fails_for_all(failure.error):
        return True
    return slows_all(failure.error) and not others_pass


def _send_once(request: Request, client: Client, pace: Pace) -> Failure | None:
    request.attempts += 1
    # Not what an earlier attempt said: if this one is interrupted, nobody knows.
    request.error = None
    failure: Failure | None = None
    try:
        request.result = client.send(client.prepare(request.fields))
    except TurboSMTPError as error:
        failure = Failure(error=error, wait=choose_wait(request.attempts, error))
    except Exception as error:
        raise_interrupt(error)
        logger.exception("An internal error while a message was being sent.")
        unknown = OutcomeUnknown(
            f"An internal error ({type(error).__name__}) while the message was being"
            " sent: nobody knows whether turboSMTP accepted it."
        )
        failure = Failure(error=unknown, wait=0.0)
    finally:
        # The brake before the turn ends, so that no other request slips in between.
        if failure is not None and slows_all(failure.error):
            pace.brake(failure.wait or 0.0)
        pace.leave(
            failure.error if failure else None, accepted=request.result is not None
        )
    request.error = failure.error if failure else None
    return failure
