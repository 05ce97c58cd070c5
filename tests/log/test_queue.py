"""The queue: storing, claiming, sending once, recording."""

from __future__ import annotations

import json
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import send_mail
from django.db import DatabaseError, connections, transaction

from django_turbosmtp.exceptions import MessageError, UnsupportedFeature
from django_turbosmtp.models import (
    Attempt,
    Message,
    Payload,
    QueueAccount,
    QueuedMessage,
    Recipient,
    Suppression,
)
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.signals import post_send, queue_stopped
from tests.log.queueing import (
    DUMMY,
    IMMEDIATE,
    list_ids,
    list_tasks,
    now,
    pass_time,
    read_statuses,
    run_due,
    send,
    turn_queue_on,
    work_off,
)
from tests.log.surroundings import assert_max_queries
from tests.messages import MESSAGES, new
from tests.serving import ACCEPT, NO_CREDIT, hang_up, say
from tests.worlds import WORLD

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("short_waits"),
]


@pytest.fixture
def wire(server: Any, settings: Any) -> Any:
    """The same, with a server whose answer the test sets."""
    turn_queue_on(settings)
    server.answer = ACCEPT
    return server


# Storing


def test_a_message_is_stored_and_sent_after_the_commit(
    queued: Any, sandbox: Sandbox
) -> None:
    queued.TASKS = IMMEDIATE
    message = new(to=["jane@example.org"])
    with transaction.atomic(), transaction.atomic(using=WORLD.alias):
        assert message.send() == 1
        status = message.turbosmtp_status
        assert (status.outcome, status.status) == ("queued", {"queued"})
        assert status.message_id is None
        assert not sandbox.messages
    assert [m.recipients for m in sandbox.messages] == [[("to", "jane@example.org")]]
    row = Message.objects.get()
    assert (row.status, row.outcome, row.attempts) == ("sent", "accepted", 1)
    assert row.mid
    assert row.concluded_at
    assert Recipient.objects.get().status == "sent"
    assert not QueuedMessage.objects.exists()
    assert not Payload.objects.exists()


def test_a_rollback_leaves_nothing(queued: Any, sandbox: Sandbox) -> None:
    with transaction.atomic():
        assert send_mail("Subject", "Body", None, ["jane@example.org"]) == 1
        transaction.set_rollback(True)
    assert not list_tasks()
    assert not Message.objects.exists()
    assert not QueuedMessage.objects.exists()
    assert not Payload.objects.exists()


def test_many_messages_become_a_few_tasks(queued: Any, sandbox: Sandbox) -> None:
    assert send(*(new(to=[f"a{n}@example.org"]) for n in range(1001))) == 1001
    ids = list_ids()
    assert sorted(map(len, ids)) == [1, 500, 500]
    keys = {str(key) for key in Message.objects.values_list("pk", flat=True)}
    assert {key for task in ids for key in task} == keys


def test_a_thousand_messages_take_few_queries(queued: Any, sandbox: Sandbox) -> None:
    send(new())
    messages = [new(to=[f"a{n}@example.org"]) for n in range(1000)]
    with assert_max_queries(15):
        send(*messages)
    assert QueuedMessage.objects.count() == 1001


def test_a_failing_database_raises(queued: Any, sandbox: Sandbox) -> None:
    one, two = new(), new(to=["other@example.org"])
    with connections[WORLD.alias].schema_editor() as editor:
        editor.alter_db_table(QueuedMessage, "turbosmtp_queuedmessage", "moved_away")
    try:
        with pytest.raises(DatabaseError) as caught:
            send(one, two)
        assert send(new(), fail_silently=True) == 0
    finally:
        with connections[WORLD.alias].schema_editor() as editor:
            editor.alter_db_table(
                QueuedMessage, "moved_away", "turbosmtp_queuedmessage"
            )
    assert caught.value.sent_count == 0
    assert [message for message, _ in caught.value.failures] == [one, two]
    for message in (one, two):
        status = message.turbosmtp_status
        assert (status.outcome, status.status) == ("refused", {"failed"})
        assert status.error is caught.value
    assert not list_tasks()
    assert not Message.objects.exists()
    assert not sandbox.messages


def test_an_invalid_message_raises_and_others_are_queued(
    queued: Any, sandbox: Sandbox
) -> None:
    with pytest.raises(MessageError) as caught:
        send(new(to=["good@x.org", "nobody"]), new())
    assert caught.value.sent_count == 1
    assert read_statuses() == [("invalid", "refused"), ("queued", "queued")]
    work_off()
    assert len(sandbox.messages) == 1


def test_no_message_is_lost_if_the_broker_is_down(
    queued: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError("redis://:secret@broker")

    monkeypatch.setattr(f"{DUMMY['default']['BACKEND']}.enqueue", refuse, raising=True)
    assert send(new()) == 1
    monkeypatch.undo()
    assert not list_tasks()
    assert run_due().enqueued == 1
    assert len(list_ids()) == 1
    # Now it has a task.
    assert run_due().enqueued == 0


def test_a_class_that_builds_its_own_mime_is_stored_exactly(wire: Any) -> None:
    message = MESSAGES["signed"]()
    send(message)
    stored = json.loads(b"".join(bytes(p.data) for p in Payload.objects.all()))
    work_off()
    assert json.loads(wire.seen[0][2])["mime_raw"] == stored["fields"]["mime_raw"]


def test_large_payloads_are_stored_in_pieces(queued: Any, sandbox: Sandbox) -> None:
    message = new()
    content = bytes(range(256)) * 4096 * 9
    message.attach("large.bin", content, "application/octet-stream")
    send(message)
    sizes = [len(piece.data) for piece in Payload.objects.all()]
    assert len(sizes) == 13
    assert max(sizes) == 2**20
    assert QueuedMessage.objects.get().payload_size > 12_000_000
    work_off()
    [received] = sandbox.messages
    [attached] = received.message.iter_attachments()
    assert attached.get_payload(decode=True) == content


@pytest.mark.parametrize("option", ["LOG_BODY", "per message"])
def test_without_log_body_the_payload_is_deleted_after_sending(
    option: str, wire: Any, settings: Any
) -> None:
    message = new()
    if option == "LOG_BODY":
        settings.TURBOSMTP |= {"LOG_BODY": False}
    else:
        message.log_body = False
    send(message)
    assert Payload.objects.exists()
    wire.answer = say(400, {"message": "error", "errors": ["not today"]})
    work_off()
    assert read_statuses() == [("failed", "refused")]
    assert not Payload.objects.exists()


# Sending once


def test_a_task_delivered_twice_sends_once(queued: Any, sandbox: Sandbox) -> None:
    send(new())
    ids = list_ids()[0]
    work_off(*ids)
    work_off(*ids)
    assert len(sandbox.messages) == 1


def test_a_claimed_message_is_not_sent_by_another_worker(
    queued: Any, sandbox: Sandbox
) -> None:
    send(new(), new())
    first = Message.objects.order_by("id")[0]
    token = first.pk
    QueuedMessage.objects.filter(pk=first.pk).update(token=token)
    work_off()
    assert len(sandbox.messages) == 1
    assert QueuedMessage.objects.get().token == token


def test_a_stuck_message_becomes_unknown_and_is_never_sent(
    queued: Any, sandbox: Sandbox
) -> None:
    send(new())
    row = Message.objects.get()
    QueuedMessage.objects.update(token=row.pk, due_at=now() + timedelta(minutes=15))
    Message.objects.update(status="sending")
    Recipient.objects.update(status="sending")
    assert run_due().unknown == 0
    pass_time(minutes=16)
    assert run_due().unknown == 1
    assert read_statuses() == [("unknown", "unknown")]
    assert Recipient.objects.get().status == "unknown"
    assert not QueuedMessage.objects.exists()
    pass_time(days=2)
    run_due()
    work_off(row.pk)
    assert not sandbox.messages
    assert Payload.objects.exists()


def test_a_worker_that_was_presumed_dead_still_records(wire: Any) -> None:
    send(new())

    def answer_late(handler: Any, body: bytes) -> None:
        pass_time(hours=1)
        assert run_due().unknown == 1
        connections.close_all()
        ACCEPT(handler, body)

    wire.answer = answer_late
    work_off()
    assert read_statuses() == [("sent", "accepted")]
    assert Recipient.objects.get().status == "sent"
    assert not QueuedMessage.objects.exists()


def test_an_unknown_outcome_is_final(wire: Any) -> None:
    wire.answer = hang_up
    send(new())
    work_off()
    assert read_statuses() == [("unknown", "unknown")]
    pass_time(days=1)
    run_due()
    work_off(*Message.objects.values_list("pk", flat=True))
    assert len(wire.seen) == 1
    assert not QueuedMessage.objects.exists()


# Trying again


def test_a_refused_message_waits_longer_each_time(wire: Any) -> None:
    wire.answer = say(503, {"message": "busy"}, Retry_After="7")
    send(new())
    waits = []
    for number in range(1, 5):
        work_off()
        row = QueuedMessage.objects.get()
        waits.append((row.not_before - now()).total_seconds())
        assert (row.tries, row.token) == (number, None)
        assert read_statuses() == [("queued", "queued")]
        assert Recipient.objects.get().status == "queued"
        assert "503" in Message.objects.get().error
        # Not due yet.
        work_off()
        assert len(wire.seen) == number
        pass_time(hours=2)
    assert all(after > 1.5 * before for before, after in pairwise(waits))
    wire.answer = ACCEPT
    work_off()
    row = Message.objects.get()
    assert (row.status, row.attempts, row.error) == ("sent", 5, "")
    codes = Attempt.objects.order_by("position").values_list("position", "status_code")
    assert list(codes) == [(n, 503) for n in range(4)] + [(4, None)]


@pytest.mark.parametrize("limit", ["tries", "time"])
def test_a_message_that_is_refused_for_too_long_fails(limit: str, wire: Any) -> None:
    wire.answer = say(503, {"message": "busy"}, Retry_After="1")
    send(new())
    for _ in range(30):
        work_off()
        if not QueuedMessage.objects.exists():
            break
        if limit == "tries":
            QueuedMessage.objects.update(not_before=now())
            QueueAccount.objects.update(paused_until=None)
        else:
            pass_time(hours=9)
    assert len(wire.seen) == (20 if limit == "tries" else 4)
    assert read_statuses() == [("failed", "refused")]
    assert Payload.objects.exists()


def test_a_task_is_enqueued_for_another_attempt(wire: Any) -> None:
    wire.answer = say(503, {"message": "busy"}, Retry_After="90")
    send(new())
    work_off()
    task = list_tasks()[-1]
    assert task.args == [[str(Message.objects.get().pk)]]
    assert task.task.run_after is not None
    wait = (QueuedMessage.objects.get().not_before - now()).total_seconds()
    assert 89 < wait < 115


def test_a_refusal_of_the_message_itself_is_final(wire: Any) -> None:
    seen: list[str] = []

    def receive(status: Any, **_: Any) -> None:
        seen.append(status.outcome)

    post_send.connect(receive)
    wire.answer = say(400, {"message": "error", "errors": ["not today"]})
    send(new())
    work_off()
    post_send.disconnect(receive)
    assert read_statuses() == [("failed", "refused")]
    assert not QueuedMessage.objects.exists()
    assert seen == ["refused"]


def test_only_refused_blind_copies_are_tried_again(wire: Any) -> None:
    wire.answer = lambda handler, body: (
        say(503, {}, Retry_After="1") if b"b@x.org" in body else ACCEPT
    )(handler, body)
    message = new(to=[], bcc=["a@x.org", "b@x.org", "c@x.org"])
    send(message)
    work_off()
    states = dict(Recipient.objects.values_list("address", "status"))
    assert states["b@x.org"] == "queued"
    accepted = [address for address, state in states.items() if state == "sent"]
    assert read_statuses() == [("queued", "queued")]
    wire.answer = ACCEPT
    before = len(wire.seen)
    pass_time(hours=3)
    work_off()
    again = [json.loads(body)["to"] for _, _, body in wire.seen[before:]]
    assert sorted(again + accepted) == ["a@x.org", "b@x.org", "c@x.org"]
    assert set(Recipient.objects.values_list("status", flat=True)) == {"sent"}
    assert read_statuses() == [("sent", "accepted")]


# Unreadable payloads


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"version": 1, "fields": {"to": 3}}', b'{"version": "x"}'],
    ids=["nothing", "no JSON", "a list", "wrong types", "no version"],
)
def test_a_message_that_cannot_be_read_blocks_no_other(
    data: bytes, queued: Any, sandbox: Sandbox
) -> None:
    send(new(), new(to=["good@x.org"]))
    bad, good = Message.objects.order_by("id")
    Payload.objects.filter(message=bad).update(data=data)
    work_off()
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.status, good.status) == ("failed", "sent")
    assert "cannot be read" in bad.error
    assert Recipient.objects.get(message=bad).status == "failed"
    assert not QueuedMessage.objects.exists()
    assert len(sandbox.messages) == 1


def test_a_payload_of_a_newer_release_waits(queued: Any, sandbox: Sandbox) -> None:
    send(new())
    Payload.objects.update(data=b'{"version": 2, "fields": {"new": []}}')
    work_off()
    assert read_statuses() == [("queued", "queued")]
    assert Recipient.objects.get().status == "queued"
    row = QueuedMessage.objects.get()
    assert (row.token, row.tries) == (None, 0)
    assert row.not_before > now()


# Pauses and stops


def test_a_429_pauses_every_worker(wire: Any) -> None:
    wire.answer = say(429, {"message": "slow down"}, Retry_After="20")
    send(*(new(to=[f"a{n}@x.org"]) for n in range(40)))
    work_off()
    tried = len(wire.seen)
    assert tried <= 8
    wire.answer = ACCEPT
    work_off()
    assert len(wire.seen) == tried
    # Another task waits for the time that turboSMTP asked for.
    wait = (QueueAccount.objects.get().paused_until - now()).total_seconds()
    assert 19 < wait < 21
    assert QueuedMessage.objects.filter(token=None).count() == 40
    pass_time(seconds=21)
    work_off()
    assert len(wire.seen) == 40
    pass_time(minutes=3)
    work_off()
    assert set(read_statuses()) == {("sent", "accepted")}


@pytest.mark.parametrize(
    "answer",
    [
        NO_CREDIT,
        say(401, {"errorCode": 3, "message": "Wrong credentials specified"}),
        say(401, {"errorCode": 3, "message": "Account for x@y is inactive"}),
    ],
    ids=["no credit", "wrong credentials", "inactive"],
)
def test_an_account_that_cannot_send_stops_and_is_probed(
    answer: Any, wire: Any
) -> None:
    told: list[Any] = []

    def receive(error: Any, **_: Any) -> None:
        told.append(error)

    queue_stopped.connect(receive)
    wire.answer = answer
    send(*(new(to=[f"a{n}@x.org"]) for n in range(30)))
    work_off()
    work_off()
    tried = len(wire.seen)
    assert tried <= 8
    assert len(told) == 1
    assert set(read_statuses()) == {("queued", "queued")}
    run_due()
    work_off()
    assert len(wire.seen) == tried
    pass_time(minutes=6)
    # One message is tried.
    run_due()
    assert len(list_ids()[-1]) == 1
    work_off()
    work_off()
    assert len(wire.seen) == tried + 1
    pass_time(minutes=6)
    wire.answer = ACCEPT
    work_off()
    assert len(wire.seen) == tried + 2
    run_due()
    work_off()
    queue_stopped.disconnect(receive)
    assert set(read_statuses()) == {("sent", "accepted")}
    assert len(told) == 1
    assert QueueAccount.objects.get().stopped_at is None


def test_the_rate_counts_recipients(queued: Any, sandbox: Sandbox) -> None:
    queued.TURBOSMTP |= {"RATE": "10/m"}
    send(*(new(to=[f"a{n}@x.org", f"b{n}@x.org"]) for n in range(12)))
    work_off()
    assert len(sandbox.messages) == 5
    work_off()
    assert len(sandbox.messages) == 5
    assert QueuedMessage.objects.filter(token=None).count() == 7


def test_another_key_stops_the_queue(queued: Any, sandbox: Sandbox) -> None:
    send(new())
    queued.TURBOSMTP |= {"CONSUMER_KEY": "another-key"}
    work_off()
    assert not sandbox.requests
    assert read_statuses() == [("queued", "queued")]
    assert "have changed since" in QueueAccount.objects.get().error


def test_without_a_secret_key_nothing_is_queued(queued: Any, sandbox: Sandbox) -> None:
    queued.SECRET_KEY = ""
    with pytest.raises(ImproperlyConfigured, match="QUEUE'.* needs SECRET_KEY"):
        send(new())
    assert not Message.objects.exists()


def test_arguments_unknown_to_workers_are_refused(queued: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"consumer_key.*queue=False"):
        send(new(), consumer_key="a", consumer_secret="b")
    assert not Message.objects.exists()


# Suppressed since it was queued


def test_a_recipient_that_was_suppressed_meanwhile_is_left_out(
    queued: Any, sandbox: Sandbox
) -> None:
    send(new(to=["a@x.org", "b@x.org"], cc=["c@x.org"]), new(to=["a@x.org"]))
    Suppression.objects.create(address="a@x.org", reason="bounced")
    work_off()
    [received] = sandbox.messages
    assert received.recipients == [("to", "b@x.org"), ("cc", "c@x.org")]
    assert received.message["To"] == "b@x.org"
    assert read_statuses() == [("sent", "accepted"), ("rejected", "suppressed")]
    left_out = Recipient.objects.filter(address="a@x.org")
    assert set(left_out.values_list("status", "why")) == {("rejected", "bounced")}


# send_at, expires_at and priority


def test_send_at_is_honoured(queued: Any, sandbox: Sandbox) -> None:
    message = new()
    message.send_at = now() + timedelta(hours=3)
    send(message)
    assert list_tasks()[0].task.run_after is not None
    work_off()
    run_due()
    assert not sandbox.messages
    pass_time(hours=3, minutes=1)
    work_off()
    assert len(sandbox.messages) == 1


def test_an_expired_message_is_dropped_and_reported(
    queued: Any, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    message = new()
    message.expires_at = now() + timedelta(minutes=10)
    send(message)
    pass_time(minutes=11)
    work_off()
    assert not sandbox.messages
    row = Message.objects.get()
    assert (row.status, row.outcome, row.attempts) == ("failed", "refused", 0)
    assert "expires_at" in row.error
    assert not QueuedMessage.objects.exists()
    assert "expires_at" in caplog.text


def test_messages_with_a_high_priority_are_sent_first(
    queued: Any, sandbox: Sandbox
) -> None:
    queued.TURBOSMTP |= {"MAX_CONNECTIONS": 1}
    send(*(new(to=[f"bulk{n}@x.org"]) for n in range(200)))
    bulk = list_ids()[0]
    urgent = new(to=["urgent@x.org"])
    urgent.priority = "high"
    send(urgent)
    work_off(*bulk)
    sent = [m.recipients[0][1] for m in sandbox.messages]
    assert sent[0] == "urgent@x.org"
    assert len(sent) == 201


@pytest.mark.parametrize("name", ["send_at", "priority", "expires_at"])
def test_queue_attributes_without_the_queue_are_errors(
    name: str, logged: Any, sandbox: Sandbox
) -> None:
    message = new()
    setattr(message, name, 5)
    with pytest.raises(UnsupportedFeature, match=f"{name}.*QUEUE"):
        send(message)
    assert not sandbox.messages


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("send_at", "tomorrow"),
        ("send_at", object()),
        ("priority", "urgent"),
        ("priority", 101),
        ("expires_at", 1),
    ],
)
def test_wrong_values_are_named(name: str, value: Any, queued: Any) -> None:
    message = new()
    setattr(message, name, value)
    with pytest.raises(MessageError, match=name):
        send(message)
    assert read_statuses() == [("failed", "refused")]
    assert not QueuedMessage.objects.exists()
