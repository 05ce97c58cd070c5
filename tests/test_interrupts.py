"""Exceptions of signal handlers, at any moment: no duplicate, no false status."""

from __future__ import annotations

import ctypes
import dis
import functools
import gc
import itertools
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import CodeType, FrameType
from typing import Any

import pytest

from django_turbosmtp._lib.interrupts import Interrupted, raise_interrupt
from django_turbosmtp.api.shared import close_shared_sessions
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.delivery.pace import Pace
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.signals import post_send, pre_send
from tests.messages import new

pytestmark = [
    pytest.mark.usefixtures("short_waits"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class TimeLimit(Exception):  # noqa: N818 - their word
    """As in Celery and RQ."""


ERRORS = {
    "TimeoutError": TimeoutError,
    "ConnectionError": ConnectionResetError,
    "SystemExit": SystemExit,
    "Exception": TimeLimit,
    "KeyboardInterrupt": KeyboardInterrupt,
}


class Alarm:
    """Raises once, after the given number of seconds."""

    def __init__(self, error: type[BaseException]) -> None:
        self._error = error
        self.raised: BaseException | None = None

    def __call__(self, number: int, frame: Any) -> None:
        self.raised = self._error("the time is over")
        raise self.raised

    def set(self, seconds: float) -> None:
        self.raised = None
        signal.signal(signal.SIGALRM, self)
        signal.setitimer(signal.ITIMER_REAL, seconds)


#: Python runs signal handlers when a function begins, after a call of a C function, and
#: at the end of each iteration of a loop.
_STEPS = ("RESUME", "CALL", "JUMP_BACKWARD", "POP_JUMP_BACKWARD")


@cache
def list_steps(code: CodeType) -> set[int]:
    """Return the offsets of the instructions after which a signal handler may run."""
    return {
        found.offset
        for found in dis.get_instructions(code)
        if found.opname.startswith(_STEPS)
    }


class Moments:
    """Counts the moments at which Python runs signal handlers, and signals at one.

    It counts from `start` to `stop`, in this thread. ``at``: the number of the moment,
    from 1.
    """

    def __init__(self) -> None:
        self.count = 0
        self._at = 0
        self._before: dict[FrameType, int] = {}

    def start(self, at: int = 0) -> None:
        self.count, self._at = 0, at
        self._before.clear()
        self._traced = sys.gettrace()
        sys._getframe().f_trace_opcodes = (
            True  # Without this, Python 3.12 sends no events.
        )
        sys.settrace(self._trace)

    def stop(self) -> None:
        sys.settrace(self._traced)

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        if event == "opcode":
            before = self._before.get(frame)
            self._before[frame] = frame.f_lasti
            if before in list_steps(frame.f_code):
                self.count += 1
                if self.count == self._at:
                    signal.raise_signal(signal.SIGALRM)
        elif event == "return":
            self._before.pop(frame, None)
        return self._trace


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """Exceptions that Python ignored, for example in a finalizer."""
    found: list[BaseException | None] = []
    monkeypatch.setattr(
        "sys.unraisablehook", lambda unraisable: found.append(unraisable.exc_value)
    )
    return found


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    close_shared_sessions()
    # The traceback of an interrupt refers to a connection. Release it now, so that the
    # connection is not closed during the next test.
    gc.collect()


WAYS: dict[str, tuple[int, dict[str, Any]]] = {
    "one": (1, {}),
    "three, in order": (3, {}),
    "twelve, one connection": (12, {"max_connections": 1}),
    "twelve": (12, {}),
    "twelve, silently": (12, {"fail_silently": True}),
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("way", WAYS)
def test_at_each_moment(
    way: str, error: str, project: Any, sandbox: Sandbox, dropped: Any
) -> None:
    # Each error at different moments.
    count, options = WAYS[way]
    step = len(ERRORS) * (3 if way == "one" else 18 * count)
    moments, alarm = Moments(), Alarm(ERRORS[error])
    signal.signal(signal.SIGALRM, alarm)
    EmailBackend(**options).send_messages([new() for _ in range(count)])
    gc.collect()
    gc.disable()
    at, total = 1 + list(ERRORS).index(error), None
    try:
        while total is None or at <= total:
            messages = [new() for _ in range(count)]
            with keeping_promises(messages, alarm, sandbox, dropped):
                moments.start(at if total else 0)
                try:
                    EmailBackend(**options).send_messages(messages)
                finally:
                    moments.stop()
            total = total or moments.count
            at += step
    finally:
        gc.enable()
    assert total > 300 * count**0.5
    assert sum(type(found) is ERRORS[error] for found in dropped) <= 1


@pytest.mark.parametrize("way", WAYS)
def test_at_many_moments(
    way: str, project: Any, sandbox: Sandbox, dropped: Any
) -> None:
    count, options = WAYS[way]
    sandbox.latency = 0.002
    fired = 0
    for step, error in zip(range(15), itertools.cycle(ERRORS.values())):
        alarm = Alarm(error)
        messages = [new() for _ in range(count)]
        with keeping_promises(messages, alarm, sandbox, dropped):
            alarm.set(0.0004 + step * 0.001)
            EmailBackend(**options).send_messages(messages)
            signal.setitimer(signal.ITIMER_REAL, 0)
        fired += alarm.raised is not None
    assert fired > 1


@contextmanager
def keeping_promises(
    messages: list[Any], alarm: Alarm, sandbox: Sandbox, dropped: list[Any]
) -> Iterator[None]:
    """Check all four after one interrupted call, made by the block."""
    sandbox.clear()
    alarm.raised = caught = None
    try:
        yield
    except BaseException as raised:  # noqa: BLE001
        caught = raised
    signal.setitimer(signal.ITIMER_REAL, 0)
    check(messages, sandbox)
    assert caught is alarm.raised or alarm.raised in dropped
    check_next()


def check_next() -> None:
    message = new()
    assert EmailBackend().send_messages([message]) == 1
    assert message.turbosmtp_status.outcome == "accepted"


def check(messages: list[Any], sandbox: Sandbox) -> None:
    received = Counter(m.reference_id for m in sandbox.messages)
    assert max(received.values(), default=0) <= 1, "somebody got it twice"
    for message in messages:
        status = getattr(message, "turbosmtp_status", None)
        if status is None or status.reference_id not in received:
            continue
        assert status.outcome in {"accepted", "unknown"}
        assert not status.status & {"failed", "invalid", "rejected"}


def test_no_further_request_begins(project: Any, sandbox: Sandbox) -> None:
    sandbox.latency = 0.2
    messages = [new() for _ in range(10)]
    alarm = Alarm(TimeoutError)
    alarm.set(0.3)
    with pytest.raises(TimeoutError, match="the time is over"):
        EmailBackend(max_connections=1, timeout=5).send_messages(messages)
    assert len(sandbox.requests) <= 2
    outcomes = [m.turbosmtp_status.outcome for m in messages]
    # Requests in flight have ended, within a second.
    assert outcomes == ["accepted", "accepted", *["refused"] * 8]
    assert all("interrupted" in str(m.turbosmtp_status.error) for m in messages[2:])


def test_a_slow_answer_is_not_waited_for(project: Any, sandbox: Sandbox) -> None:
    sandbox.latency = 2.5
    message = new()
    alarm = Alarm(TimeLimit)
    alarm.set(0.1)
    started = time.monotonic()
    with pytest.raises(TimeLimit):
        EmailBackend(timeout=5).send_messages([message])
    assert time.monotonic() - started < 2
    assert message.turbosmtp_status.outcome == "unknown"
    assert message.turbosmtp_status.attempts == 1
    sandbox.latency = 0.0
    check_next()


def test_a_worker_error_does_not_hide_the_interrupt(
    project: Any, sandbox: Sandbox
) -> None:
    class Failure(BaseException):
        pass

    failed = []

    class FailingWorkers(Alarm):
        def __call__(self, number: int, frame: Any) -> None:
            for thread in threading.enumerate():
                if thread.name.startswith("turbosmtp_") and thread.ident:
                    # As soon as it runs Python code again, after the answer.
                    failed.append(thread.name)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(thread.ident), ctypes.py_object(Failure)
                    )
            super().__call__(number, frame)

    alarm = FailingWorkers(TimeLimit)
    sandbox.latency = 0.3
    messages = [new() for _ in range(12)]
    alarm.set(0.1)
    with pytest.raises(TimeLimit) as caught:
        EmailBackend(timeout=5).send_messages(messages)
    assert caught.value is alarm.raised
    assert failed
    check(messages, sandbox)
    sandbox.latency = 0.0
    check_next()


def test_a_wait_between_attempts_ends(project: Any, sandbox: Sandbox) -> None:
    sandbox.add_fault("429", times=None, retry_after=20)
    alarm = Alarm(TimeoutError)
    alarm.set(0.1)
    message = new()
    with pytest.raises(TimeoutError, match="the time is over"):
        EmailBackend().send_messages([message])
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize("where", ["pre_send", "post_send", "the iterable"])
def test_interrupts_in_the_caller_s_code(
    where: str, project: Any, sandbox: Sandbox
) -> None:
    alarm = Alarm(TimeLimit)

    def spend(**kwargs: Any) -> None:
        alarm.set(0.01)
        threading.Event().wait(5)

    def draw() -> Iterator[Any]:
        yield new()
        if where == "the iterable":
            spend()
        yield new()

    signals = {"pre_send": pre_send, "post_send": post_send}
    if where in signals:
        signals[where].connect(spend)
    try:
        with pytest.raises(TimeLimit):
            EmailBackend(fail_silently=True).send_messages(draw())
    finally:
        if where in signals:
            signals[where].disconnect(spend)
    assert sandbox.total_accepted == (2 if where == "post_send" else 0)


def fail(number: int, frame: Any) -> None:
    raise ValueError("from the handler")


class Holder:
    def fail(self, number: int, frame: Any) -> None:
        raise ValueError("from the handler")

    __call__ = fail


HANDLERS: dict[str, Callable[..., Any]] = {
    "function": fail,
    "method": Holder().fail,
    "object": Holder(),
    "partial": functools.partial(fail),
    "lambda": lambda number, frame: fail(number, frame),
}


@pytest.mark.parametrize("label", HANDLERS)
def test_every_kind_of_handler_is_known(label: str) -> None:
    signal.signal(signal.SIGALRM, HANDLERS[label])
    wrapped = OSError("wrapped")
    try:
        signal.raise_signal(signal.SIGALRM)
    except ValueError as error:
        wrapped.__cause__ = error
    with pytest.raises(Interrupted) as caught:
        raise_interrupt(wrapped)
    assert str(caught.value.error) == "from the handler"


def test_errors_outside_signal_handlers_are_not_interrupts() -> None:
    signal.signal(signal.SIGALRM, fail)
    try:
        raise ValueError("of this line")
    except ValueError as error:
        raise_interrupt(error)


def test_two_interrupts(project: Any, sandbox: Sandbox) -> None:
    """The second Ctrl-C ends the clean-up of the first, before it stops the workers."""

    def stop(pace: Pace, error: Any = None) -> None:
        raise KeyboardInterrupt

    sandbox.latency = 0.1
    messages = [new() for _ in range(20)]
    alarm = Alarm(KeyboardInterrupt)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pace, "stop", stop)
        alarm.set(0.25)
        with pytest.raises(KeyboardInterrupt):
            EmailBackend(max_connections=2, timeout=5).send_messages(messages)
        refused = [m for m in messages if m.turbosmtp_status.outcome == "refused"]
        assert len(refused) > 10
        # The workers were not stopped, but they have no further requests.
        sent = len(sandbox.requests)
        time.sleep(1)
        assert len(sandbox.requests) <= sent + 2
    check(messages, sandbox)
    assert {m.turbosmtp_status.attempts for m in refused} == {0}
