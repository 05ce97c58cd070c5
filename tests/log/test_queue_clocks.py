"""The queue on machines whose clocks differ."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone
from freezegun import freeze_time

from django_turbosmtp._lib.times import make_aware
from django_turbosmtp.models import Message, QueueAccount, QueuedMessage, RateUse
from django_turbosmtp.sandbox import Sandbox
from tests.log.queueing import (
    now,
    pass_time,
    read_statuses,
    run_due,
    send,
    turn_queue_on,
    work_off,
)
from tests.messages import new
from tests.serving import say
from tests.worlds import WORLD

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("short_waits"),
]

HOUR = timedelta(hours=1)


def has_own_clock() -> bool:
    """Return whether the database has a clock; SQLite runs in the worker's process."""
    return connections[WORLD.alias].vendor != "sqlite"


def shifted(by: timedelta) -> Any:
    """Change the clock of this process, which runs the worker."""
    moment = make_aware(now()) + by
    local = timezone.localtime(moment).utcoffset() if not settings.USE_TZ else 0
    return freeze_time(moment, tick=True, tz_offset=local)


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_worker_with_another_clock_sends_immediately(
    hours: int, queued: Any, sandbox: Sandbox
) -> None:
    send(new())
    with shifted(hours * HOUR):
        work_off()
    assert len(sandbox.messages) == 1
    assert read_statuses() == [("sent", "accepted")]


@pytest.mark.parametrize("hours", [-3, 3])
def test_messages_of_a_site_with_another_clock_are_sent_immediately(
    hours: int, queued: Any, sandbox: Sandbox
) -> None:
    with shifted(hours * HOUR):
        send(new())
    work_off()
    assert len(sandbox.messages) == 1


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_pause_has_the_same_length_on_every_clock(
    hours: int, server: Any, settings: Any
) -> None:
    turn_queue_on(settings)
    server.answer = say(429, {"message": "slow down"}, Retry_After="20")
    send(new())
    with shifted(hours * HOUR):
        work_off()
        if not has_own_clock():
            hours = 0
        paused_until = QueueAccount.objects.get().paused_until
        wait = paused_until - (now() - hours * HOUR)
    assert timedelta(seconds=15) < wait < timedelta(seconds=25)


def test_run_due_with_a_clock_ahead_does_not_stop_workers(queued: Any) -> None:
    send(new())
    # Another worker has just claimed a message.
    QueuedMessage.objects.update(token=uuid.uuid4(), due_at=now() + HOUR / 4)
    Message.objects.update(status="sending", outcome="")
    with shifted(HOUR):
        result = run_due()
    assert result.unknown == (0 if has_own_clock() else 1)


def test_claims_of_another_worker_delay_only_briefly(
    queued: Any, sandbox: Sandbox
) -> None:
    queued.TURBOSMTP |= {"RATE": "10/s"}
    send(*(new(to=[f"a{n}@x.org"]) for n in range(3)))
    account = QueuedMessage.objects.values_list("account", flat=True)[0]
    # It uses the whole rate, and its worker was killed.
    until = now() + timedelta(seconds=2.5)
    RateUse.objects.create(account=account, recipients=10, counts_until=until)
    work_off()
    assert len(sandbox.messages) == 3
    assert all(m.received_at >= make_aware(until) for m in sandbox.messages)


def test_an_early_task_does_not_delay_its_messages(server: Any, settings: Any) -> None:
    turn_queue_on(settings)
    server.answer = say(429, {"message": "slow down"}, Retry_After="60")
    send(new())
    work_off()
    due_at = QueuedMessage.objects.get().due_at
    work_off()
    row = QueuedMessage.objects.get()
    assert row.not_before == row.due_at < due_at
    pass_time(minutes=3)
    assert run_due().enqueued == 1
    server.answer = say(200, {"message": "OK", "mid": 1})
    work_off()
    assert read_statuses() == [("sent", "accepted")]
