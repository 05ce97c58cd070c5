"""Operating the queue: run_due, cancelling, checks, a new key."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import DatabaseError
from django.utils import timezone

from django_turbosmtp.log.erase import erase
from django_turbosmtp.log.prune import prune
from django_turbosmtp.models import (
    Content,
    Message,
    Payload,
    QueueAccount,
    QueuedMessage,
    Recipient,
)
from django_turbosmtp.queue.cancel import cancel
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.testing import use_outbox
from tests.log.posting import SECRET, build, tell
from tests.log.queueing import (
    IMMEDIATE,
    list_ids,
    pass_time,
    read_statuses,
    run_due,
    send,
    work_off,
)
from tests.messages import new
from tests.worlds import WORLD

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("short_waits"),
]


def call(*arguments: str) -> str:
    out = io.StringIO()
    call_command("turbosmtp_run_due", *arguments, stdout=out)
    return out.getvalue()


def check() -> dict[str, str]:
    found = run_checks(tags=["database"], databases=[WORLD.alias])
    return {str(message.id): str(message.msg) for message in found}


# Cancelling


def test_queued_messages_are_cancelled(queued: Any, sandbox: Sandbox) -> None:
    send(*(new(to=[f"a{n}@x.org"]) for n in range(3)))
    first, second, third = Message.objects.order_by("id")
    QueuedMessage.objects.filter(pk=third.pk).update(token=third.pk)
    assert cancel([first.pk]) == 1
    assert cancel(Message.objects.all()) == 1
    assert cancel([first.pk, second.pk]) == 0
    work_off()
    assert not sandbox.messages
    assert read_statuses() == [("cancelled", "cancelled")] * 2 + [("queued", "queued")]
    states = Recipient.objects.order_by("message_id").values_list("status", flat=True)
    assert list(states) == ["cancelled", "cancelled", "queued"]
    assert [p.message_id for p in Payload.objects.all()] == [third.pk]
    assert Message.objects.get(pk=first.pk).concluded_at
    assert [row.pk for row in QueuedMessage.objects.all()] == [third.pk]


# run_due


def test_the_command_enqueues_messages_without_a_task(
    queued: Any, sandbox: Sandbox
) -> None:
    send(new())
    assert call() == "0 messages enqueued, 0 marked as unknown, 0 put back.\n"
    pass_time(minutes=11)
    assert call().startswith("1 messages enqueued")
    assert len(list_ids()) == 2
    assert call().startswith("0 messages enqueued")
    for ids in list_ids():
        work_off(*ids)
    assert len(sandbox.messages) == 1


def test_run_due_sends_queued_messages_after_the_queue_is_turned_off(
    queued: Any, sandbox: Sandbox
) -> None:
    send(new())
    queued.TURBOSMTP |= {"QUEUE": False}
    pass_time(minutes=11)
    run_due()
    assert len(sandbox.messages) == 1
    assert read_statuses() == [("sent", "accepted")]


def test_a_message_that_was_put_back_before_a_kill_is_released(
    queued: Any, sandbox: Sandbox
) -> None:
    send(new())
    QueuedMessage.objects.update(token=Message.objects.get().pk)
    pass_time(hours=1)
    result = run_due()
    assert (result.released, result.unknown) == (1, 0)
    work_off()
    assert len(sandbox.messages) == 1


# Checks


def test_a_queue_without_run_due_is_reported(queued: Any) -> None:
    assert "has never run" in check()["turbosmtp.W011"]
    run_due()
    assert "turbosmtp.W011" not in check()
    pass_time(hours=5)
    assert "for 5 hours" in check()["turbosmtp.W011"]
    queued.TURBOSMTP |= {"QUEUE": False}
    assert check() == {}


def test_a_stopped_queue_is_reported(queued: Any, sandbox: Sandbox) -> None:
    run_due()
    sandbox.add_fault("nocredit")
    send(new())
    work_off()
    assert "nocredit" in check()["turbosmtp.W012"]
    assert "turbosmtp.W011" not in check()


# Another key


def test_messages_queued_with_another_key_are_adopted(
    queued: Any, sandbox: Sandbox
) -> None:
    send(new())
    QueuedMessage.objects.update(account="of another key")
    work_off()
    assert not sandbox.messages
    assert "--adopt" in QueueAccount.objects.get().error
    mailer = Message.objects.get().mailer
    assert call("--adopt", *filter(None, [mailer])).startswith("1 messages will")
    for ids in list_ids():
        work_off(*ids)
    assert len(sandbox.messages) == 1
    assert not QueueAccount.objects.exists()


# Other features of the log


def test_queued_messages_are_not_pruned(queued: Any, sandbox: Sandbox) -> None:
    message = new()
    message.send_at = timezone.now() + timedelta(days=1)
    send(message, new(to=["sent@x.org"]))
    work_off()
    # Everything older than tomorrow.
    assert prune(WORLD.alias, days=None, body_days=-1).bodies == 1
    assert prune(WORLD.alias, days=-1, body_days=-1).messages == 1
    assert Content.objects.count() == Payload.objects.count() == 1
    QueuedMessage.objects.update(not_before=timezone.now())
    work_off()
    assert len(sandbox.messages) == 2
    assert prune(WORLD.alias, days=-1, body_days=-1).messages == 1
    assert not Message.objects.exists()


def test_an_erased_person_is_removed_from_queued_messages(
    queued: Any, sandbox: Sandbox
) -> None:
    send(
        new(to=["jane@x.org"]),
        new(to=["jane@x.org", "joe@x.org"], cc=["jim@x.org"]),
        new(to=[], bcc=["jane@x.org", "joe@x.org"]),
    )
    erase("jane@x.org", WORLD.alias)
    work_off()
    sent = sorted([m.recipients for m in sandbox.messages])
    assert sent == [
        [("to", "joe@x.org")],
        [("to", "joe@x.org"), ("cc", "jim@x.org")],
    ]
    assert not any(b"jane" in m.raw for m in sandbox.messages)
    assert set(read_statuses()) == {("sent", "accepted")}
    assert not Payload.objects.exists()


def test_an_event_does_not_change_a_queued_message(
    queued: Any, sandbox: Sandbox
) -> None:
    queued.TURBOSMTP |= {"WEBHOOK_SECRET": SECRET}
    message = new()
    message.reference_id = "order-4711"
    send(message)
    tell(build("DELIVERED", reference_id="order-4711", email="to@example.org"))
    assert read_statuses() == [("queued", "queued")]
    work_off()
    assert len(sandbox.messages) == 1


def test_a_failing_database_undoes_the_claim(
    queued: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise DatabaseError

    send(new())
    monkeypatch.setattr("django_turbosmtp.queue.source.load_jobs", fail)
    with pytest.raises(DatabaseError):
        work_off()
    monkeypatch.undo()
    assert read_statuses() == [("queued", "queued")]
    assert Recipient.objects.get().status == "queued"
    assert QueuedMessage.objects.get().token is None
    work_off()
    assert len(sandbox.messages) == 1


def test_tests_of_a_site_find_messages_in_the_outbox(queued: Any) -> None:
    with use_outbox():
        message = new()
        message.priority = "high"
        assert message.send() == 1
        assert [m.to for m in mail.outbox] == [["to@example.org"]]
    assert read_statuses() == [("sent", "accepted")]


@pytest.mark.django_db
def test_tests_of_a_site_run_the_tasks_of_a_test_case(
    queued: Any, sandbox: Sandbox, django_capture_on_commit_callbacks: Any
) -> None:
    queued.TASKS = IMMEDIATE
    with django_capture_on_commit_callbacks(execute=True):
        send(new(to=["jane@example.org"]))
    assert [m.recipients for m in sandbox.messages] == [[("to", "jane@example.org")]]
    assert read_statuses() == [("sent", "accepted")]
