"""The queue on a real task engine, with real workers, some of which are killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.db import transaction
from django.utils import timezone

from django_turbosmtp.backends import find_backend
from django_turbosmtp.models import Message, QueuedMessage
from django_turbosmtp.queue import due
from django_turbosmtp.sandbox import Sandbox
from tests.engines.conftest import kill, wait_until
from tests.log.queueing import send

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("project"),
]


def queue(count: int, start: int = 0) -> None:
    with transaction.atomic():
        send(
            *(
                EmailMessage("Subject", "Body", to=[f"to{n}@example.org"])
                for n in range(start, start + count)
            )
        )


def count_deliveries(sandbox: Sandbox) -> Counter[str]:
    return Counter(m.recipients[0][1] for m in sandbox.messages)


def count_statuses() -> Counter[str]:
    return Counter(Message.objects.values_list("status", flat=True))


def is_empty() -> bool:
    return not QueuedMessage.objects.exists()


def make_due() -> None:
    """Move the times of queued messages and claims back by ten and fifteen minutes."""
    QueuedMessage.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    due.run_due(find_backend)


def test_two_workers_send_each_message_once(
    start_worker: Callable[[], Any], sandbox: Sandbox
) -> None:
    start_worker()
    start_worker()
    for start in range(0, 480, 120):
        queue(120, start)
    wait_until(is_empty)
    assert count_statuses() == {"sent": 480}
    assert count_deliveries(sandbox) == dict.fromkeys(
        (f"to{n}@example.org" for n in range(480)), 1
    )


def test_two_workers_keep_to_one_rate(
    start_worker: Callable[[], Any], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_RATE", "20/s")
    start_worker()
    start_worker()
    queue(30)
    queue(30, 30)
    wait_until(is_empty)
    assert set(count_deliveries(sandbox).values()) == {1}
    times = sorted(m.received_at for m in sandbox.messages)
    assert len(times) == 60
    # There are at most 20 messages in each second.
    gaps = [later - first for first, later in zip(times, times[20:], strict=False)]
    assert min(gaps) >= timedelta(seconds=1)


def test_messages_enqueued_twice_are_sent_once(
    start_worker: Callable[[], Any], sandbox: Sandbox
) -> None:
    queue(100)
    make_due()
    make_due()
    start_worker()
    start_worker()
    wait_until(is_empty)
    assert set(count_deliveries(sandbox).values()) == {1}
    assert count_statuses() == {"sent": 100}


@pytest.mark.parametrize("after", [1, 40, 150])
def test_a_killed_worker_loses_nothing_and_sends_nothing_twice(
    after: int, start_worker: Callable[[], Any], sandbox: Sandbox
) -> None:
    sandbox.latency = 0.02
    queue(300)
    worker = start_worker()
    wait_until(lambda: len(sandbox.messages) >= after)
    kill(worker)
    sandbox.latency = 0.0
    make_due()
    start_worker()
    wait_until(is_empty)
    deliveries, statuses = count_deliveries(sandbox), count_statuses()
    assert set(deliveries.values()) == {1}
    assert set(statuses) <= {"sent", "unknown"}
    # Some of the unknown messages have arrived, and all others.
    assert statuses["sent"] <= len(deliveries) <= 300
    assert statuses["unknown"] <= 240
    unknown = Message.objects.filter(status="unknown")
    missing = 300 - len(deliveries)
    assert missing <= unknown.count()


def test_a_message_with_send_at_is_sent_later(
    start_worker: Callable[[], Any], sandbox: Sandbox
) -> None:
    message = EmailMessage("Subject", "Body", to=["to@example.org"])
    message.send_at = timezone.now() + timedelta(hours=1)  # type: ignore[attr-defined]
    message.send()
    start_worker()
    queue(1)
    wait_until(lambda: count_statuses() == {"queued": 1, "sent": 1})
    assert count_deliveries(sandbox) == {"to0@example.org": 1}
    rows = QueuedMessage.objects.all()
    rows.update(not_before=timezone.now() - timedelta(seconds=1))
    make_due()
    wait_until(is_empty)
    assert count_deliveries(sandbox) == {"to@example.org": 1, "to0@example.org": 1}
