"""``turbosmtp_prune`` and ``turbosmtp_erase``."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.db.models.signals import post_delete
from django.test.utils import CaptureQueriesContext
from freezegun import freeze_time

from django_turbosmtp._lib.times import make_storable
from django_turbosmtp._lib.versions import find_uuid7_floor, uuid7
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.log import prune as prune_module
from django_turbosmtp.models import (
    Attachment,
    Content,
    Message,
    Payload,
    Recipient,
    StoredFile,
)
from django_turbosmtp.sandbox import Sandbox
from tests.log.posting import build, post
from tests.log.test_files import PDF, files, stored  # noqa: F401 - a fixture
from tests.messages import new
from tests.worlds import WORLD, connection

pytestmark = pytest.mark.django_db


def run(*arguments: Any, **options: Any) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, stderr=io.StringIO(), **options)
    return out.getvalue()


def make(days: float, **values: Any) -> Message:
    """Create a message of a given age, with rows in all related tables."""
    at = time.time() - days * 86400
    made = make_storable(datetime.fromtimestamp(at, UTC))
    key = find_uuid7_floor(at)
    message = Message.objects.create(
        id=type(key)(int=key.int | uuid7().int & (2**62 - 1)),
        created_at=made,
        api_version=2,
        **{"status": "sent", "outcome": "accepted", "subject": "S", **values},
    )
    Content.objects.create(message=message, text="Body")
    Payload.objects.create(message=message, position=0, data=b"{}")
    Recipient.objects.create(
        message=message, position=0, kind="to", address="a@x.org", status="sent"
    )
    return message


def test_uuid7_is_in_order_of_time() -> None:
    made = [uuid7() for _ in range(2000)]
    assert made == sorted(made)
    assert len(set(made)) == 2000
    assert {(u.version, u.variant) for u in made} == {(7, "specified in RFC 4122")}
    seconds = (made[0].int >> 80) / 1000
    assert abs(seconds - time.time()) < 60
    assert find_uuid7_floor(seconds) <= made[0] < find_uuid7_floor(seconds + 60)


def test_uuid7_follows_a_clock_that_is_set_back() -> None:
    with freeze_time(datetime.now(UTC) + timedelta(hours=3), tick=True):
        ahead = uuid7()
    made = uuid7()
    assert made < ahead
    assert abs((made.int >> 80) / 1000 - time.time()) < 60
    # A clock correction of seconds does not change the order of a batch.
    with freeze_time(datetime.now(UTC) - timedelta(seconds=5), tick=True):
        assert uuid7() > made


def test_prune_follows_the_settings(settings: Any) -> None:
    settings.TURBOSMTP = {
        **WORLD.options,
        "RETENTION_DAYS": 100,
        "BODY_RETENTION_DAYS": 10,
    }
    for days in (1, 9, 11, 50, 99, 101, 500):
        make(days, subject=str(days))

    assert "2 messages and the bodies of 3 others would" in run(
        "turbosmtp_prune", "--dry-run"
    )
    assert Message.objects.count() == 7
    assert "2 messages, the bodies of 3 others" in run("turbosmtp_prune")

    kept = Message.objects.order_by("-id")
    assert [m.subject for m in kept] == ["1", "9", "11", "50", "99"]
    assert [hasattr(m, "content") for m in kept] == [True, True, False, False, False]
    assert [m.payload.exists() for m in kept] == [True, True, False, False, False]
    assert Recipient.objects.count() == 5
    assert "0 messages, the bodies of 0 others" in run("turbosmtp_prune")


def test_prune_keeps_everything_if_the_settings_are_none(settings: Any) -> None:
    settings.TURBOSMTP = {
        **WORLD.options,
        "RETENTION_DAYS": None,
        "BODY_RETENTION_DAYS": None,
    }
    make(5000)
    assert "0 messages" in run("turbosmtp_prune")
    assert Content.objects.count() == 1


def test_the_defaults(settings: Any) -> None:
    settings.TURBOSMTP = {**WORLD.options}
    for days in (29, 31, 364, 366):
        make(days)
    assert "1 messages, the bodies of 2 others" in run("turbosmtp_prune")


def test_prune_works_in_chunks(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.TURBOSMTP = {**WORLD.options, "RETENTION_DAYS": 1}
    monkeypatch.setattr(prune_module, "FIRST_CHUNK", 7)
    monkeypatch.setattr(prune_module, "MAX_CHUNK", 7)
    for _ in range(30):
        make(2)
    recent = make(0.5)
    with CaptureQueriesContext(connection) as queries:
        run("turbosmtp_prune")
    transactions = [q for q in queries if q["sql"].startswith(("BEGIN", "SAVEPOINT"))]
    assert len(transactions) == 5
    assert Message.objects.get() == recent


def test_prune_removes_unreferenced_files(
    stored: Path,  # noqa: F811
    settings: Any,
    sandbox: Sandbox,
) -> None:
    EmailBackend().send_messages(
        [new(attachments=[PDF]), new(attachments=[PDF, ("b", b"b", "image/gif")])]
    )
    assert files(stored) == [b"%PDF-1", b"b"]
    first, second = Message.objects.order_by("id")
    old = make(400)
    Attachment.objects.filter(message=second).update(message=old)

    assert "1 messages, the bodies of 0 others and 1 files" in run("turbosmtp_prune")

    assert files(stored) == [b"%PDF-1"]
    assert StoredFile.objects.count() == 1
    assert first.attachments.get().stored is not None


def test_wrong_settings_are_reported(settings: Any) -> None:
    settings.TURBOSMTP = {**WORLD.options, "RETENTION_DAYS": "365"}
    with pytest.raises(Exception, match="RETENTION_DAYS"):
        run("turbosmtp_prune")


# --- One person ---


def send(logged: Any, *messages: Any) -> None:
    EmailBackend(fail_silently=True).send_messages(messages)


@pytest.mark.parametrize("size", [1, 2, 200])
def test_erase(
    logged: Any,
    sandbox: Sandbox,
    tmp_path: Path,
    size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("django_turbosmtp.log.erase._CHUNK", size)
    jane = "Jane@Example.org"
    alone = new(subject="alone", to=[f"Jane Doe <{jane}>"], body="Dear Jane")
    shared = new(subject="shared Jane", to=[jane], cc=["other@x.org"])
    contact = new(subject="contact", to=["staff@x.org"], reply_to=[f"Jane <{jane}>"])
    named = new(subject="named", to=["staff@x.org"], body=f"{jane} wrote")
    other = new(subject="other", to=["mary-jane@example.org"])
    contact.extra_headers = {"X-From": jane}
    named.metadata = {"who": jane}  # type: ignore[attr-defined]
    send(logged, alone, shared, contact, named, other)
    export = tmp_path / "jane.json"

    out = run("turbosmtp_erase", "jane@example.org", "--export", export, "--no-input")

    assert "4 messages were written" in out
    assert "1 messages were deleted; 3 with other recipients" in out
    kept = json.loads(export.read_text("utf-8"))
    assert kept["address"] == "jane@example.org"
    subjects = [m["subject"] for m in kept["messages"]]
    assert subjects == ["alone", "shared Jane", "contact", "named"]
    assert kept["messages"][0]["text"] == "Dear Jane"
    assert kept["messages"][0]["recipients"][0]["shown"] == f"Jane Doe <{jane}>"
    assert "other@x.org" not in export.read_text("utf-8")
    assert export.stat().st_mode & 0o077 == 0
    everything = [
        *Message.objects.values(),
        *Recipient.objects.values(),
        *Content.objects.values(),
    ]
    left = str(everything).lower().replace("mary-jane@example.org", "")
    assert "jane" not in left
    assert "other@x.org" in left
    assert Message.objects.count() == 4
    assert Content.objects.get().message.subject == "other"


@pytest.mark.parametrize(
    "said",
    ["jane@bücher.example", "Jane@xn--bcher-kva.example", "Jane <jane@Bücher.example>"],
)
def test_erase_accepts_any_spelling(logged: Any, sandbox: Sandbox, said: str) -> None:
    about = new(subject="about", to=["staff@x.org"])
    about.metadata = {"who": "jane@bücher.example"}  # type: ignore[attr-defined]
    send(
        logged,
        new(subject="alone", to=["Jane <jane@bücher.example>"]),
        new(subject="refused", to=["jane@bücher.example", "nobody"]),
        new(subject="named", to=["staff@x.org"], body="jane@bücher.example wrote"),
        new(subject="coded", to=["b@x.org"], body="jane@xn--bcher-kva.example wrote"),
        new(subject="other", to=["mary-jane@bücher.example"]),
        about,
    )
    assert "1 messages were deleted; 4 with other" in run(
        "turbosmtp_erase", said, "--no-input"
    )
    left = str([*Message.objects.values(), *Recipient.objects.values()])
    assert left.count("jane") == left.count("mary-jane") > 0
    assert Content.objects.get().message.subject == "other"


def test_erase_removes_refused_messages(logged: Any, sandbox: Sandbox) -> None:
    send(logged, new(to=["jane@example.org", "nobody"]))
    assert "1 with other recipients" in run(
        "turbosmtp_erase", "jane@example.org", "--no-input"
    )
    assert "jane" not in str(list(Message.objects.values()))


def test_erase_asks_for_confirmation(
    logged: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(logged, new())
    for answer, left in (("no", 1), ("yes", 0)):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        if left:
            with pytest.raises(CommandError, match="o data was removed"):
                run("turbosmtp_erase", "to@example.org")
        else:
            run("turbosmtp_erase", "to@example.org")
        assert Message.objects.count() == left


def test_erase_never_writes_over_a_file(
    logged: Any, sandbox: Sandbox, tmp_path: Path
) -> None:
    send(logged, new())
    path = tmp_path / "there"
    path.write_text("mine")
    with pytest.raises(CommandError, match="o data was removed"):
        run("turbosmtp_erase", "to@example.org", "--export", path, "--no-input")
    assert path.read_text() == "mine"
    assert Message.objects.count() == 1


@pytest.mark.parametrize("address", ["", "nobody", " "])
def test_erase_requires_an_address(address: str) -> None:
    with pytest.raises(CommandError, match="not an e-mail address"):
        run("turbosmtp_erase", address, "--no-input")


def test_progress_on_a_terminal_only(settings: Any) -> None:
    settings.TURBOSMTP = {**WORLD.options, "RETENTION_DAYS": 1}

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        make(2)
        call_command("turbosmtp_prune", stdout=io.StringIO(), stderr=stream)
        assert ("100%  1 of 1" in stream.getvalue()) == shown


@pytest.fixture
def audited() -> Iterator[list[str]]:
    """Receivers may read rows after their deletion, as audit logs do."""
    seen: list[str] = []

    def read(sender: Any, instance: Any, **_: Any) -> None:
        values = [getattr(instance, f.attname) for f in instance._meta.concrete_fields]
        seen.append(f"{sender.__name__} {len(values)}")

    post_delete.connect(read)
    yield seen
    post_delete.disconnect(read)


def test_receivers_may_read_what_was_deleted(
    audited: list[str], logged: Any, sandbox: Sandbox
) -> None:
    make(1000)
    EmailBackend().send_messages([new(to=["jane@x.org"])])
    run("turbosmtp_prune")
    run("turbosmtp_erase", "jane@x.org", no_input=True)
    assert not Message.objects.exists()
    assert audited.count(f"Message {len(Message._meta.concrete_fields)}") == 2


@pytest.mark.django_db(transaction=True)
def test_events_that_arrive_while_their_messages_are_removed(
    tracked: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No deadlocks, and each event is stored, with or without its message."""
    tracked.TURBOSMTP |= {"RETENTION_DAYS": 1}
    monkeypatch.setattr(prune_module, "FIRST_CHUNK", 3)
    monkeypatch.setattr(prune_module, "MAX_CHUNK", 3)
    rows = [make(2, mid=str(900 + n), status="sent") for n in range(45)]
    for row in rows:
        Recipient.objects.filter(message=row).update(status="sent", mid=row.mid)
    ready = threading.Barrier(4)
    answers: list[int] = []

    def post_some(first: int) -> None:
        try:
            ready.wait()
            for n in range(0, 45, 9):
                part = rows[n : n + 9][:: 1 if first % 2 else -1]
                events = [
                    build(status, row, email=f"{first}@x.org")
                    for row in part
                    for status in ("DELIVERED", "OPENED")
                ]
                answers.append(post(events).status_code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=post_some, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    ready.wait()
    run("turbosmtp_prune")
    for thread in threads:
        thread.join()
    assert answers == [200] * 15
    assert not Message.objects.exists()
