"""Requests on their way: many in flight, each tried again only where that is safe.

Worker threads touch neither database nor message. Where signal handlers run, in the
main thread, no request is made at all: what they raise ends a wait there, and never a
request midway. (The libraries below, and Python itself, drop what is raised in them
now and then, or answer it with a second try.)
"""

from __future__ import annotations

import enum
import threading
import time
from collections import deque
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from django_turbosmtp._lib.interrupts import raise_interrupt, runs_signal_handlers
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp.delivery.jobs import Request, Try, build_not_tried
from django_turbosmtp.delivery.pace import Pace, choose_wait, fails_for_all, slows_all
from django_turbosmtp.exceptions import APIError, OutcomeUnknown, TurboSMTPError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_turbosmtp.api import Client
    from django_turbosmtp.conf.settings import Settings

logger = get_logger("django_turbosmtp.delivery")

#: Start a further thread after this many seconds, unless those there are keep up.
_RAMP_SECONDS = 0.001

#: Fewer requests go one after another, in order: threads would gain little.
_WORTH_THREADS = 4


#: Wait this many seconds for the answers to what is in flight when a call is ended from
#: outside: their outcome is then known, and a time limit is still a limit.
_LAST_WAIT = 1.0


#: Threads that have ended. The next one drops them: Python does something of its own
#: when such an object ends, and what a signal handler raises then is dropped with it.
_gone: list[threading.Thread] = []


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
        workers = self._connections if len(requests) >= _WORTH_THREADS else 1
        if workers == 1 and not runs_signal_handlers():
            self._work(batch)
            return
        try:
            if not self._start_threads(batch, workers):
                # No further thread is to be had: this one does its part.
                self._work(batch)
            batch.wait()
        except BaseException:
            # Ctrl-C, a time limit, or the end of the process.
            self._pace.stop()
            batch.wait_at_most(_LAST_WAIT)
            raise
        batch.join()
        _gone.extend(batch.threads)

    def _start_threads(self, batch: _Batch, number: int) -> bool:
        """Start up to ``number`` threads; return False where fewer are to be had.

        One after the other, and no further one while those there are get through a
        request each in `_RAMP_SECONDS`: threads that need not wait for answers only
        wait for each other. There may be none to be had: at a limit of the system, at
        the end of the process, and in a thread that outlives the main one. They are
        daemons, for one whose start is interrupted never ends.
        """
        for started in range(min(number, batch.left)):
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
            batch.threads.append(thread)
            try:
                thread.start()
            except Exception as error:
                raise_interrupt(error)
                if not isinstance(error, RuntimeError):
                    raise
                batch.threads.remove(thread)
                return False
        return True

    def _work_in_thread(self, batch: _Batch) -> None:
        _gone.clear()
        failure: BaseException | None = None
        try:
            self._work(batch)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            failure = error
        batch.end(failure)

    def _work(self, batch: _Batch) -> None:
        while (request := batch.take()) is not None:
            send_until_settled(request, self._client, self._max_retries, self._pace)


class _Batch:
    """The requests of a window, which workers take until there is none left.

    Its waits are those of a C queue: Python's Condition, waiting in the main thread,
    drops what a signal handler raises, or raises an error of its own in its place.
    """

    def __init__(self, requests: Sequence[Request]) -> None:
        self.threads: list[threading.Thread] = []
        self._waiting = deque(requests)
        self._ends: list[BaseException | None] = []
        self._wake: SimpleQueue[None] = SimpleQueue()

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
        self._see_end(_RAMP_SECONDS)
        self._raise_failure()
        return self.left <= wanted

    def end(self, failure: BaseException | None) -> None:
        """Say that a thread takes no more, and what it failed with."""
        self._ends.append(failure)
        self._wake.put(None)

    def wait(self) -> None:
        """Wait until all threads have ended; raise what one of them failed with."""
        while len(self._ends) < len(self.threads):
            self._see_end(None)
            self._raise_failure()
        self._raise_failure()

    def wait_at_most(self, seconds: float) -> None:
        """Wait so many seconds for all threads to end, whatever they failed with."""
        until = time.monotonic() + seconds
        while len(self._ends) < len(self.threads):
            if not self._see_end(max(0.0, until - time.monotonic())):
                return

    def join(self) -> None:
        """Wait until the threads are gone: none is beside a fork that follows."""
        for thread in self.threads:
            thread.join()

    def _see_end(self, seconds: float | None) -> bool:
        """Wait for the end of a thread; return whether there was one in time."""
        try:
            self._wake.get(timeout=seconds)
        except Empty:
            return False
        return True

    def _raise_failure(self) -> None:
        for failure in self._ends:
            if failure is not None:
                raise failure


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
    began_at, start = datetime.now(UTC), time.perf_counter()
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
    request.tries.append(
        Try(
            began_at=began_at,
            seconds=time.perf_counter() - start,
            answer=_read_answer(request),
            error=request.error,
        )
    )
    return failure


def _read_answer(request: Request) -> str:
    """Return what came back, "" where nothing did."""
    if request.result is not None:
        return request.result.response.text
    error = request.error
    told = error.__cause__ if isinstance(error, OutcomeUnknown) else error
    return told.answer if isinstance(told, APIError) else ""
