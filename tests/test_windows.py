"""An iterable is read in windows: each is sent before the next one is read."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.mail import EmailMessage

from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.exceptions import AuthenticationError, BadRequest
from django_turbosmtp.sandbox import Sandbox
from tests.messages import new

pytestmark = pytest.mark.usefixtures("short_waits")


@pytest.fixture(autouse=True)
def windows_of_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_turbosmtp.delivery.windows.WINDOW", 10)


def test_a_window_is_sent_and_released_before_the_next_is_read(
    project: Any, sandbox: Sandbox
) -> None:
    alive: list[weakref.ref[EmailMessage]] = []
    seen: list[tuple[int, int]] = []

    def draw() -> Iterator[EmailMessage]:
        for number in range(35):
            gc.collect()
            held = sum(reference() is not None for reference in alive)
            seen.append((sandbox.total_accepted, held))
            message = new(subject=str(number))
            alive.append(weakref.ref(message))
            yield message
            del message

    assert EmailBackend().send_messages(draw()) == 35
    assert [sent for sent, _ in seen] == [n // 10 * 10 for n in range(35)]
    assert max(held for _, held in seen) < 10 + 1


def test_a_stop_applies_to_the_whole_call(project: Any, sandbox: Sandbox) -> None:
    sandbox.add_fault("401", skip=12, times=None)
    messages = [new() for _ in range(40)]

    with pytest.raises(AuthenticationError) as caught:
        EmailBackend(max_connections=1).send_messages(iter(messages))

    assert len(sandbox.requests) == 13
    assert caught.value.sent_count == 12
    assert [m for m, _ in caught.value.failures] == messages[12:]
    assert "Not tried" in str(messages[-1].turbosmtp_status.error)
    assert {m.turbosmtp_status.outcome for m in messages[12:]} == {"refused"}


def test_a_slower_pace_applies_to_the_next_window(
    project: Any, sandbox: Sandbox
) -> None:
    # After a 429, at most four at the same time, also in later windows.
    sandbox.latency = 0.03
    sandbox.add_fault("429", times=1, retry_after=0)

    assert EmailBackend(max_connections=8).send_messages(new() for _ in range(60)) == 60

    arrivals = sorted(request.at for request in sandbox.requests)[-30:]
    at_once = max(
        sum(at <= other < at + 0.025 for other in arrivals) for at in arrivals
    )
    assert at_once <= 4


def test_failures_are_raised_once_at_the_end(project: Any, sandbox: Sandbox) -> None:
    sandbox.add_fault("400", match="bad@", times=None)
    messages = [
        new(to=["bad@x.org" if n % 9 == 0 else "good@x.org"]) for n in range(30)
    ]

    with pytest.raises(BadRequest) as caught:
        EmailBackend().send_messages(iter(messages))

    assert [m for m, _ in caught.value.failures] == messages[::9]
    assert caught.value.sent_count == 26 == sandbox.total_accepted


@pytest.mark.parametrize("fail_silently", [False, True])
def test_an_error_of_the_iterable_is_raised_after_its_messages_are_sent(
    fail_silently: bool, project: Any, sandbox: Sandbox
) -> None:
    sandbox.add_fault("400", match="bad@")

    def draw() -> Iterator[EmailMessage]:
        yield new(to=["bad@x.org"])
        for _ in range(13):
            yield new()
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more") as caught:
        EmailBackend(fail_silently=fail_silently).send_messages(draw())

    assert sandbox.total_accepted == 13
    assert caught.value.sent_count == 13  # type: ignore[attr-defined]
    failures = caught.value.failures  # type: ignore[attr-defined]
    assert [type(e) for _, e in failures] == ([] if fail_silently else [BadRequest])
