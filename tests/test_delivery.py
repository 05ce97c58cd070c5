"""Outcomes, retries and batches, with a real server that fails on demand."""

from __future__ import annotations

import itertools
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from copy import copy, deepcopy
from typing import Any

import pytest
from django.core.mail import EmailMessage
from freezegun import freeze_time

from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.delivery import pace
from django_turbosmtp.exceptions import (
    APIError,
    AuthenticationError,
    BadRequest,
    CancelSend,
    ConnectionFailed,
    Forbidden,
    NoCredit,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    ServerError,
    TurboSMTPError,
)
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.signals import post_send, pre_send
from tests.messages import new
from tests.serving import say

pytestmark = pytest.mark.usefixtures("short_waits")

# Fault; exception; number of requests (MAX_RETRIES is 2); number accepted.
OUTCOMES: dict[str, tuple[dict[str, Any], type[TurboSMTPError], int, int]] = {
    "400": ({}, BadRequest, 1, 0),
    "old_errors": ({}, BadRequest, 1, 0),
    "nocredit": ({}, NoCredit, 1, 0),
    "old_nocredit": ({}, NoCredit, 1, 0),
    "401": ({}, AuthenticationError, 1, 0),
    "inactive": ({}, AuthenticationError, 1, 0),
    "403": ({}, Forbidden, 1, 0),
    "404": ({}, NotFound, 1, 0),
    "413": ({}, APIError, 1, 0),
    "429": ({}, RateLimited, 3, 0),
    "503, Retry-After 0": ({"retry_after": 0}, ServerError, 3, 0),
    "500": ({}, OutcomeUnknown, 1, 0),
    "502, accepted": ({"accept": True}, OutcomeUnknown, 1, 1),
    "503, no Retry-After": ({}, OutcomeUnknown, 1, 0),
    "503, unreadable Retry-After": ({"retry_after": "soon"}, OutcomeUnknown, 1, 0),
    "504, accepted": ({"accept": True}, OutcomeUnknown, 1, 1),
    "html": ({}, OutcomeUnknown, 1, 0),
    "cut_json": ({}, OutcomeUnknown, 1, 0),
    "empty": ({}, OutcomeUnknown, 1, 0),
    "redirect": ({}, OutcomeUnknown, 1, 0),
    "lost_answer": ({}, OutcomeUnknown, 1, 1),
    "reset_after_body": ({}, OutcomeUnknown, 1, 0),
    "timeout": ({"seconds": 5}, OutcomeUnknown, 1, 0),
    "timeout, accepted": ({"seconds": 5, "accept": True}, OutcomeUnknown, 1, 1),
}
OUTCOME_OF: dict[type[TurboSMTPError], str] = {OutcomeUnknown: "unknown"}


@pytest.mark.parametrize("way", ["one", "batch"])
@pytest.mark.parametrize("fault", OUTCOMES)
def test_outcome(fault: str, way: str, project: Any, sandbox: Sandbox) -> None:
    arguments, error, requests, accepted = OUTCOMES[fault]
    sandbox.add_fault(fault.partition(",")[0], times=None, match="target@", **arguments)
    target = new(to=["target@example.org"])
    messages = [target] if way == "one" else [target, new(), new()]

    with pytest.raises(error) as caught:
        EmailBackend(timeout=0.4, max_connections=1).send_messages(messages)

    assert type(caught.value) is error
    assert caught.value.failures[0] == (target, caught.value)
    status = target.turbosmtp_status
    assert status.outcome == OUTCOME_OF.get(error, "refused")
    assert status.status == {"unknown" if error is OutcomeUnknown else "failed"}
    assert status.error is caught.value
    assert status.attempts == requests
    to_target = [m for m in sandbox.messages if "target@" in m.fields["to"]]
    assert len(to_target) == accepted
    for again in (pickle.loads(pickle.dumps(caught.value)), copy(caught.value)):
        assert type(again) is error
        assert str(again) == str(caught.value)
        assert again.retryable == caught.value.retryable
    assert deepcopy(caught.value).failures[0][1] is not caught.value


def test_retried_until_accepted(project: Any, sandbox: Sandbox) -> None:
    sandbox.add_fault("429", times=1)
    sandbox.add_fault("503", times=1, retry_after=0)
    message = new()

    assert EmailBackend().send_messages([message]) == 1

    assert message.turbosmtp_status.attempts == 3
    assert len(sandbox.messages) == 1


def test_max_retries_zero(project: Any, sandbox: Sandbox) -> None:
    sandbox.add_fault("429", times=1)

    with pytest.raises(RateLimited):
        EmailBackend(max_retries=0).send_messages([new()])

    assert len(sandbox.requests) == 1


def test_retry_after_is_honoured(project: Any, sandbox: Sandbox) -> None:
    sandbox.add_fault("429", times=1, retry_after=1)

    EmailBackend().send_messages([new()])

    first, second = sandbox.requests
    assert second.at - first.at >= 1


def test_a_long_retry_after_is_not_waited_for(project: Any, sandbox: Sandbox) -> None:
    sandbox.add_fault("429", times=None, retry_after=3600)
    messages = [new(), new(), new()]

    with pytest.raises(RateLimited) as caught:
        EmailBackend(max_connections=1).send_messages(messages)

    assert caught.value.retry_after == 3600
    assert len(sandbox.requests) == 1
    assert [m.turbosmtp_status.attempts for m in messages] == [1, 0, 0]


def test_a_long_retry_after_stops_a_batch(project: Any, sandbox: Sandbox) -> None:
    sandbox.add_fault("429", times=1, skip=3, retry_after=60)
    messages = [new() for _ in range(20)]

    with pytest.raises(RateLimited) as caught:
        EmailBackend(max_connections=1).send_messages(messages)

    assert caught.value.sent_count == 3
    assert len(sandbox.requests) == 4


def test_429_slows_the_whole_batch(project: Any, sandbox: Sandbox) -> None:
    sandbox.latency = 0.05
    sandbox.add_fault("429", times=1, skip=4, retry_after=1)
    messages = [new() for _ in range(40)]

    assert EmailBackend().send_messages(messages) == 40

    limited = next(r for r in sandbox.requests if r.status == 429)
    later = [r.at - limited.at for r in sandbox.requests if r.at > limited.at]
    # At most the requests in flight; then no request for a second.
    assert sum(0.2 < seconds < 0.95 for seconds in later) == 0
    assert sum(seconds >= 0.95 for seconds in later) >= 40 - 4 - 8


@pytest.mark.parametrize("fault", ["401", "nocredit", "inactive"])
def test_an_error_that_affects_all_stops_the_batch(
    fault: str, project: Any, sandbox: Sandbox
) -> None:
    sandbox.add_fault(fault, times=None)
    messages = [new() for _ in range(50)]

    with pytest.raises(APIError) as caught:
        EmailBackend().send_messages(messages)

    assert len(sandbox.requests) <= 8
    assert len(caught.value.failures) == 50
    assert caught.value.sent_count == 0
    untried = [m for m in messages if not m.turbosmtp_status.attempts]
    assert len(untried) >= 42
    for message in untried:
        assert message.turbosmtp_status.outcome == "refused"
        assert str(message.turbosmtp_status.error).startswith("Not tried")


def test_dead_server(project: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Bound, but not listening.
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/api/v2"
        messages = [new() for _ in range(20)]
        with pytest.raises(ConnectionFailed, match="did not receive it") as caught:
            EmailBackend(send_url=url).send_messages(messages)

    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert {m.turbosmtp_status.outcome for m in messages} == {"refused"}
    assert max(m.turbosmtp_status.attempts for m in messages) == 3


def test_unknown_host(project: Any) -> None:
    backend = EmailBackend(send_url="https://no-such-host.invalid/api", max_retries=0)
    with pytest.raises(ConnectionFailed, match=r"no-such-host\.invalid"):
        backend.send_messages([new()])


def test_many_unknown_outcomes_stop_the_batch(project: Any, sandbox: Sandbox) -> None:
    sandbox.add_fault("502", times=None)
    messages = [new() for _ in range(40)]

    with pytest.raises(OutcomeUnknown):
        EmailBackend(max_connections=2).send_messages(messages)

    tried = [m for m in messages if m.turbosmtp_status.attempts]
    assert len(sandbox.requests) == len(tried)
    assert 10 <= len(tried) <= 11
    for message in messages:
        wanted = "unknown" if message in tried else "refused"
        assert message.turbosmtp_status.outcome == wanted
        if message not in tried:
            assert message.turbosmtp_status.error.retryable


def test_an_incomplete_request_is_certainly_not_accepted(
    project: Any, sandbox: Sandbox
) -> None:
    sandbox.add_fault("reset_before_body", times=1)
    message = new(attachments=[("a.bin", bytes(12_000_000), "application/zip")])

    assert EmailBackend().send_messages([message]) == 1

    assert message.turbosmtp_status.attempts == 2
    assert len(sandbox.messages) == 1


def test_a_batch_uses_max_connections(project: Any, sandbox: Sandbox) -> None:
    sandbox.latency = 0.02
    messages = [new() for _ in range(100)]

    assert EmailBackend(max_connections=4).send_messages(messages) == 100

    assert sandbox.connections == 4
    assert len({m.turbosmtp_status.message_id for m in messages}) == 100
    assert {m.turbosmtp_status.reference_id for m in messages} == {
        r.reference_id for r in sandbox.messages
    }


def test_one_connection_keeps_the_order(project: Any, sandbox: Sandbox) -> None:
    messages = [new(subject=str(n)) for n in range(30)]

    EmailBackend(max_connections=1).send_messages(iter(messages))

    assert [m.fields["subject"] for m in sandbox.messages] == [
        str(n) for n in range(30)
    ]


@pytest.mark.parametrize(
    ("messages", "in_main", "elsewhere"),
    [(1, {1}, {0}), (3, {1}, {0}), (9, {1, 2, 3}, {1, 2, 3})],
)
def test_threads(
    messages: int,
    in_main: set[int],
    elsewhere: set[int],
    project: Any,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def count(thread: threading.Thread) -> None:
        if thread.name.startswith("turbosmtp_"):
            started.append(thread)
        start(thread)

    def send() -> None:
        backend = EmailBackend(max_connections=3)
        assert backend.send_messages([new() for _ in range(messages)]) == messages

    monkeypatch.setattr(threading.Thread, "start", count)
    # One in addition to the main thread, in which signal handlers run.
    send()
    assert len(started) in in_main
    # No threads are left that a later fork would copy.
    assert not any(thread.is_alive() for thread in started)

    started.clear()
    other = threading.Thread(target=send)
    other.start()
    other.join()
    assert len(started) in elsewhere


@pytest.fixture
def interrupt(sandbox: Sandbox) -> Iterator[Callable[[], threading.Thread]]:
    """Return a function that starts a thread that sends SIGINT after an acceptance."""

    def press() -> None:
        while not sandbox.total_accepted:
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def start() -> threading.Thread:
        thread = threading.Thread(target=press)
        thread.start()
        return thread

    # In the background of a shell, the tests would ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield start
    signal.signal(signal.SIGINT, before)


def test_interrupted_while_trying_again(
    interrupt: Any, project: Any, sandbox: Sandbox
) -> None:
    sandbox.add_fault("429", times=1, retry_after=0)
    sandbox.add_fault("latency", times=1, seconds=2)
    message = new()

    thread = interrupt()
    with pytest.raises(KeyboardInterrupt):
        EmailBackend(timeout=5).send_messages([message])
    thread.join()

    assert sandbox.total_accepted == 1
    assert message.turbosmtp_status.outcome == "unknown"
    assert message.turbosmtp_status.attempts == 2


def test_interrupted_batch(interrupt: Any, project: Any, sandbox: Sandbox) -> None:
    sandbox.latency = 0.3
    messages = [new() for _ in range(20)]

    thread = interrupt()
    with pytest.raises(KeyboardInterrupt):
        EmailBackend(max_connections=4).send_messages(messages)
    thread.join()

    outcomes = [m.turbosmtp_status.outcome for m in messages]
    # Requests in flight have ended; the others were certainly not sent.
    assert outcomes.count("accepted") == sandbox.total_accepted > 0
    assert outcomes.count("refused") == 20 - sandbox.total_accepted > 0


def test_a_message_that_is_reset_does_not_stop_the_others(
    project: Any, sandbox: Sandbox
) -> None:
    sandbox.add_fault("reset_before_body", times=3)
    large = new(attachments=[("a.bin", bytes(12_000_000), "application/zip")])
    messages = [large, *(new() for _ in range(5))]

    with pytest.raises(ConnectionFailed) as caught:
        EmailBackend(max_connections=1).send_messages(messages)

    assert caught.value.connected
    assert caught.value.sent_count == 5


def test_a_message_with_only_bcc_is_sent_one_by_one(
    project: Any, sandbox: Sandbox
) -> None:
    blind = [f"b{n}@example.org" for n in range(3)]
    message = new(to=[], bcc=blind)

    assert EmailBackend().send_messages([message]) == 1

    assert [r.recipients for r in sandbox.messages] != []
    for received in sandbox.messages:
        ((_, mine),) = received.recipients
        for other in set(blind) - {mine}:
            assert other.encode() not in received.raw
            assert other not in str(received.fields)
    status = message.turbosmtp_status
    assert status.message_id == {r.mid for r in sandbox.messages}
    assert set(status.recipients) == set(blind)


def test_no_error_if_some_recipients_are_accepted(
    project: Any, sandbox: Sandbox
) -> None:
    sandbox.add_fault("400", times=None, match="b1@")
    sandbox.add_fault("500", times=None, match="b2@")
    message = new(to=[], bcc=[f"b{n}@example.org" for n in range(3)])

    assert EmailBackend().send_messages([message]) == 1

    states = {a: r.status for a, r in message.turbosmtp_status.recipients.items()}
    assert states == {
        "b0@example.org": "sent",
        "b1@example.org": "failed",
        "b2@example.org": "unknown",
    }
    assert message.turbosmtp_status.outcome == "accepted"


def test_fail_silently_hides_and_counts(project: Any, sandbox: Sandbox) -> None:
    sandbox.add_fault("400", times=1, match="bad@")
    messages = [new(), new(to=["bad@example.org"]), new(to=["nonsense"]), new()]

    assert EmailBackend(fail_silently=True).send_messages(messages) == 2

    outcomes = [m.turbosmtp_status.outcome for m in messages]
    assert outcomes == ["accepted", "refused", "refused", "accepted"]


class TestSignals:
    @pytest.fixture(autouse=True)
    def _disconnect(self) -> Any:
        yield
        pre_send.receivers.clear()
        post_send.receivers.clear()

    def test_pre_send_may_change_the_message(
        self, project: Any, sandbox: Sandbox
    ) -> None:
        def change(message: EmailMessage, **kwargs: Any) -> None:
            assert kwargs["esp_name"] == "turboSMTP"
            assert kwargs["sender"] is EmailBackend
            message.subject = "changed"

        pre_send.connect(change)
        EmailBackend().send_messages([new()])

        assert sandbox.messages[0].fields["subject"] == "changed"

    def test_pre_send_may_cancel(self, project: Any, sandbox: Sandbox) -> None:
        def cancel(message: EmailMessage, **kwargs: Any) -> None:
            if message.subject == "no":
                raise CancelSend

        pre_send.connect(cancel)
        messages = [new(), new(subject="no")]

        assert EmailBackend().send_messages(messages) == 1

        assert messages[1].turbosmtp_status.outcome == "cancelled"
        assert len(sandbox.requests) == 1

    def test_an_error_in_pre_send_affects_only_its_message(
        self, project: Any, sandbox: Sandbox
    ) -> None:
        def fail(message: EmailMessage, **kwargs: Any) -> None:
            if message.subject == "no":
                raise RuntimeError("mine")

        pre_send.connect(fail)
        with pytest.raises(RuntimeError, match="mine"):
            EmailBackend(fail_silently=True).send_messages([new(subject="no"), new()])

        assert len(sandbox.messages) == 1

    def test_post_send_is_sent_for_every_tried_message(
        self, project: Any, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen = []

        def note(message: EmailMessage, status: Any, **kwargs: Any) -> None:
            seen.append((message.subject, status.outcome))
            raise RuntimeError("after acceptance")

        post_send.connect(note)
        sandbox.add_fault("400", times=1, match="refuse")
        messages = [new(), new(subject="refuse"), new(to=["nonsense"])]
        with pytest.raises(BadRequest):
            EmailBackend(max_connections=1).send_messages(messages)

        assert seen == [("Subject", "accepted"), ("refuse", "refused")]
        assert "after acceptance" in caplog.text


def test_closed_keep_alive_connection_is_survived(
    project: Any, sandbox: Sandbox
) -> None:
    for _ in range(5):
        sandbox.add_fault("close", times=1)
        assert EmailBackend().send_messages([new()]) == 1
        time.sleep(0.05)  # Wait for the server's FIN.

    assert sandbox.total_accepted == 5


def test_waits_increase_up_to_a_limit() -> None:
    error = ConnectionFailed("x")
    waits = [pace.choose_wait(attempt, error) or 0 for attempt in range(1, 12)]
    assert waits[0] < waits[2] < waits[4]
    assert max(waits) <= pace.MAX_WAIT * 1.25


NO_THREADS = {
    "none can be started": """
import resource, threading
threading.stack_size(2**30)
resource.setrlimit(resource.RLIMIT_AS, (700 * 2**20,) * 2)
send()
""",
    "at exit": """
import atexit
atexit.register(send)
""",
    "in a thread that outlives main": """
import threading, time
def late():
    time.sleep(0.3)
    send()
threading.Thread(target=late).start()
""",
}
SEND = """
import os, sys
from django.conf import settings
settings.configure(TURBOSMTP={"CONSUMER_KEY": "sandbox-key",
    "CONSUMER_SECRET": "sandbox-secret", "SEND_URL": sys.argv[1]})
from django.core.mail import EmailMessage
from django_turbosmtp.backends import EmailBackend
def send():
    messages = [EmailMessage("S", "B", "a@x.org", ["b@x.org"]) for _ in range(20)]
    assert EmailBackend().send_messages(messages) == 20
    print("sent", flush=True)
"""


@pytest.mark.parametrize("way", NO_THREADS)
def test_without_threads_the_caller_s_thread_sends(way: str, sandbox: Sandbox) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SEND + NO_THREADS[way], sandbox.send_url()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "sent\n", done.stderr
    assert sandbox.total_accepted == 20


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("count", [1, 6])
def test_frozen_time_does_not_make_waits_endless(
    count: int, status: int, server: Any, settings: Any
) -> None:
    settings.TURBOSMTP |= {"MAX_RETRIES": 2}
    answers = itertools.chain(
        [say(status, {"message": "error"}, Retry_After="1")],
        itertools.repeat(say(200, {"message": "OK", "mid": 1})),
    )
    server.answer = lambda handler, body: next(answers)(handler, body)
    with freeze_time("2020-02-02 02:02"):
        assert EmailBackend().send_messages([new() for _ in range(count)]) == count
    assert len(server.seen) == count + 1


def test_a_refused_connection_explains_how_to_start_the_sandbox(project: Any) -> None:
    with socket.socket() as taken:
        # Bound but not listening, so connections are refused.
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/api/v2"
        project.TURBOSMTP = {**project.TURBOSMTP, "SEND_URL": url, "MAX_RETRIES": 0}
        with pytest.raises(ConnectionFailed, match="manage.py turbosmtp_sandbox"):
            EmailBackend().send_messages([new()])
