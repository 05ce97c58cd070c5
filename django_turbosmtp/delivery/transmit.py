"""Sends requests in several threads, and tries again only if that is safe.

Worker threads use neither the database nor the message. The main thread runs signal
handlers, so it never makes a request: an interrupt there ends a wait, not a request.
(HTTP libraries, and Python itself, sometimes lose an interrupt or repeat a request.)
"""

from __future__ import annotations

import threading
from contextvars import copy_context
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from django_turbosmtp._lib.clocks import Clock
from django_turbosmtp._lib.interrupts import raise_interrupt, runs_signal_handlers
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp.delivery.jobs import SendRequest, build_not_tried
from django_turbosmtp.delivery.pace import Pace, fails_for_all, slows_all
from django_turbosmtp.exceptions import APIError, OutcomeUnknown, TurboSMTPError
from django_turbosmtp.log.entries import AttemptEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django_turbosmtp.api.client import Client
    from django_turbosmtp.conf.settings import Settings
    from django_turbosmtp.delivery.jobs import Job

logger = get_logger("django_turbosmtp.delivery")

#: Start another thread after this many seconds if the others do not keep up; check this
#: at growing intervals, up to the second number.
_RAMP_SECONDS, _LONGEST_RAMP = 0.001, 0.032

#: Call `Source.watch` about this often.
WATCH_SECONDS = 1.0

#: Send fewer requests than this one by one: more threads would hardly be faster.
_WORTH_THREADS = 4

#: Wait this many seconds for answers after an interrupt. Most outcomes are then known,
#: and a time limit is not exceeded by much.
_LAST_WAIT = 1.0

#: Threads that have ended. The next worker deletes them: Python runs code when such an
#: object is deleted, and would lose an interrupt in the main thread.
_gone: list[threading.Thread] = []


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failed attempt. ``wait``: seconds until the next attempt, or None if turboSMTP
    asks for longer than a caller should wait.
    """

    error: TurboSMTPError
    wait: float | None


class Part:
    """Jobs whose outcomes are recorded together, when all are settled."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.requests = [request for job in jobs for request in job.requests]
        self._settled: list[None] = []

    @property
    def is_settled(self) -> bool:
        """Whether all requests have an outcome."""
        return len(self._settled) >= len(self.requests)

    def note_settled(self) -> None:
        """Count one more request. Needs no lock: appending is atomic."""
        self._settled.append(None)


class Flight:
    """Workers and the parts that they send. Parts can be added while they work.

    It only waits for ``SimpleQueue``, which is written in C: in the main thread,
    ``Condition.wait()`` may lose an interrupt or raise another error instead.
    """

    def __init__(
        self,
        client: Client,
        settings: Settings,
        pace: Pace,
        requests: int,
        watch: Callable[[], None],
    ) -> None:
        """Prepare to send about this many requests at the pace of the whole call.

        ``watch``: called about every `WATCH_SECONDS`, in the caller's thread.
        """
        self.parts: list[Part] = []
        self._client = client
        self._max_retries = settings.max_retries
        self._pace = pace
        self._workers = settings.max_connections if requests >= _WORTH_THREADS else 1
        # Only the main thread runs signal handlers, so no request is made in it.
        self._is_inline = self._workers == 1 and not runs_signal_handlers()
        self._queue: SimpleQueue[tuple[SendRequest, Part] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._ends: list[BaseException | None] = []
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._ramp = _RAMP_SECONDS
        self._low = 0
        self._is_low_reported = True
        self._is_closed = False
        self._watch = watch
        self._watch_at = Clock.monotonic() + WATCH_SECONDS

    def add(self, part: Part) -> None:
        """Send the requests of a part, after those that were added before."""
        self.parts.append(part)
        self._low = len(part.requests) // 2
        self._is_low_reported = False
        for request in part.requests:
            self._queue.put((request, part))
        if self._is_inline:
            self._drain()
        elif part.requests and not self._threads:
            self._start_thread()

    @property
    def wants_more(self) -> bool:
        """Whether the workers will soon be idle, unless a part is added."""
        return self._waiting <= self._low

    @property
    def _waiting(self) -> int:
        """The number of requests that no worker has begun."""
        # The queue also contains the mark of its end.
        return self._queue.qsize() - self._is_closed

    def close(self) -> None:
        """End the workers when they have sent all requests. Add no part after it."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(None)

    def wait(self, *, until_low: bool) -> None:
        """Wait until a part is settled, or with ``until_low`` the flight `wants_more`.

        Raise the exception that ended a worker.
        """
        self._raise_failure()
        while not (self.list_settled() or (until_low and self.wants_more)):
            self._wait_or_grow()
            self._raise_failure()

    def list_settled(self) -> list[Part]:
        """Return the parts that are settled."""
        return [part for part in self.parts if part.is_settled]

    def land(self) -> None:
        """Wait until all workers have ended, after `close`."""
        while len(self._ends) < len(self._threads):
            self._see_wake(None)
            self._raise_failure()
        # Wait for the threads, so that none is left if the caller forks.
        for thread in self._threads:
            thread.join()
        _gone.extend(self._threads)

    def stop(self) -> None:
        """Begin no further request; wait `_LAST_WAIT` for those that are being sent."""
        self._pace.stop()
        self.close()
        until = Clock.monotonic() + _LAST_WAIT
        while len(self._ends) < len(self._threads):
            if not self._see_wake(max(0.0, until - Clock.monotonic())):
                return

    def _wait_or_grow(self) -> None:
        """Wait for a change; start another thread if the others do not keep up."""
        waiting, threads = self._waiting, len(self._threads)
        may_grow = waiting > 0 and threads < self._workers and not self._is_inline
        woken = self._see_wake(self._ramp if may_grow else WATCH_SECONDS)
        if Clock.monotonic() >= self._watch_at:
            self._watch_at = Clock.monotonic() + WATCH_SECONDS
            self._watch()
        if woken or not may_grow:
            return
        if self._waiting > waiting - threads:
            self._start_thread()
            self._ramp = _RAMP_SECONDS
        else:
            self._ramp = min(2 * self._ramp, _LONGEST_RAMP)

    def _start_thread(self) -> None:
        """Start a thread. If the first one cannot start, send everything in this one.

        Threads cannot start at a limit of the system, at the end of the process, and
        after the main thread has ended. They are daemons, because a thread whose start
        is interrupted never ends.
        """
        # Use the caller's context: a logger that is silent there is also silent here.
        run = copy_context().run
        name = f"turbosmtp_{len(self._threads)}"
        thread = threading.Thread(
            target=run, args=(self._work_in_thread,), name=name, daemon=True
        )
        self._threads.append(thread)
        try:
            thread.start()
        except Exception as error:
            raise_interrupt(error)
            if not isinstance(error, RuntimeError):
                raise
            self._threads.remove(thread)
            self._workers = len(self._threads)
            if not self._threads:
                self._is_inline = True
                self._drain()

    def _work_in_thread(self) -> None:
        _gone.clear()
        failure: BaseException | None = None
        try:
            while (item := self._queue.get()) is not None:
                self._work_on(*item)
            # Put back the mark of the end, which tells other workers to stop.
            self._queue.put(None)
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            failure = error
        self._ends.append(failure)
        self._wake.put(None)

    def _drain(self) -> None:
        """Send everything in this thread."""
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                return
            if item is not None:
                self._work_on(*item)

    def _work_on(self, request: SendRequest, part: Part) -> None:
        if self.wants_more and not self._is_low_reported:
            self._is_low_reported = True
            self._wake.put(None)
        send_until_settled(request, self._client, self._max_retries, self._pace)
        part.note_settled()
        if part.is_settled:
            self._wake.put(None)

    def _see_wake(self, seconds: float | None) -> bool:
        """Wait for a change; return whether there was one in time."""
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
    request: SendRequest, client: Client, max_retries: int, pace: Pace
) -> None:
    """Send one request; try again if it was certainly not accepted."""
    accepted_before = pace.accepted
    not_before = 0.0
    while pace.enter(not_before):
        if not request.take_turn():
            # The call was interrupted, and has recorded the outcomes so far.
            pace.leave(None, accepted=False)
            return
        try:
            failure = _send_once(request, client, pace)
        finally:
            request.give_turn_back()
        if failure is None:
            return
        if not _may_try_again(request, failure, max_retries):
            if _ends_batch(failure, others_pass=pace.accepted > accepted_before):
                pace.stop(failure.error)
            return
        not_before = Clock.monotonic() + (failure.wait or 0.0)
    if request.error is None:
        request.error = build_not_tried(pace.stopped_by)


def _may_try_again(request: SendRequest, failure: Failure, max_retries: int) -> bool:
    return (
        failure.wait is not None
        and failure.error.retryable
        and request.attempts <= max_retries
    )


def _ends_batch(failure: Failure, *, others_pass: bool) -> bool:
    """Return whether all other requests would fail like this one.

    ``others_pass``: turboSMTP accepted other messages in the meantime.
    """
    if failure.wait is None or fails_for_all(failure.error):
        return True
    return slows_all(failure.error) and not others_pass


def _send_once(request: SendRequest, client: Client, pace: Pace) -> Failure | None:
    request.attempts += 1
    # The error of an earlier attempt says nothing about this one.
    request.error = None
    failure: Failure | None = None
    began_at, start = datetime.now(UTC), Clock.perf_counter()
    try:
        request.result = client.send(client.prepare(request.fields))
    except TurboSMTPError as error:
        failure = Failure(error=error, wait=pace.choose_wait(request.attempts, error))
    except Exception as error:
        raise_interrupt(error)
        logger.exception("An internal error while a message was being sent.")
        unknown = OutcomeUnknown(
            f"An internal error ({type(error).__name__}) while the message was being"
            " sent: it is unknown whether turboSMTP accepted it."
        )
        failure = Failure(error=unknown, wait=0.0)
    finally:
        # Slow down before the turn ends, so that no other request begins in between.
        if failure is not None and slows_all(failure.error):
            pace.brake(failure.wait or 0.0)
        pace.leave(
            failure.error if failure else None, accepted=request.result is not None
        )
    request.error = failure.error if failure else None
    attempt = AttemptEntry(
        began_at=began_at,
        seconds=Clock.perf_counter() - start,
        answer=_read_answer(request),
        error=request.error,
    )
    request.history = [*request.history, attempt]
    return failure


def _read_answer(request: SendRequest) -> str:
    """Return the text of the answer, "" if there was none."""
    if request.result is not None:
        return request.result.response.text
    error = request.error
    source = error.__cause__ if isinstance(error, OutcomeUnknown) else error
    return source.answer if isinstance(source, APIError) else ""
