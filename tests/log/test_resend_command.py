"""``turbosmtp_resend`` recovers from an hour without credit, and sends once."""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_turbosmtp._lib.times import make_storable
from django_turbosmtp.backends import find_backend
from django_turbosmtp.delivery.resend import resend
from django_turbosmtp.models import Message, Payload, Recipient, Resend, Suppression
from tests.log.resending import list_subjects, send_refused
from tests.log.test_detail import send
from tests.messages import new
from tests.serving import ACCEPT, NO_CREDIT, REFUSE

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("short_waits")]


def run(**options: Any) -> str:
    out = io.StringIO()
    options = {"interactive": False, "stderr": io.StringIO(), **options}
    call_command("turbosmtp_resend", stdout=out, **options)
    return out.getvalue()


def test_an_hour_without_credit(wire: Any) -> None:
    wire.answer = NO_CREDIT
    rows = [send(new(subject=f"Order {number}")) for number in range(50)]
    wire.answer = ACCEPT
    wire.seen.clear()

    assert "Accepted: 50, failed: 0, skipped: 0." in run(status="failed")

    assert sorted(list_subjects(wire)) == sorted(row.subject for row in rows)
    assert Message.objects.filter(status="sent").count() == 50
    originals = set(Resend.objects.values_list("original_id", flat=True))
    assert originals == {row.pk for row in rows}
    # The first rows are unchanged; the payloads are not needed any more.
    assert Message.objects.filter(status="failed").count() == 50
    assert not Payload.objects.exists()


def test_run_twice_it_sends_once(wire: Any) -> None:
    send_refused(wire, "One", "Two")
    run(status="failed")
    wire.seen.clear()

    out = run(status="failed")

    assert "Accepted: 0, failed: 0, skipped: 2." in out
    assert "2: It has already been sent again." in out
    assert not wire.seen


def test_a_dry_run_sends_and_writes_nothing(wire: Any) -> None:
    first, second = send_refused(wire, "One", "Two")
    resend(first, find_backend("").build_engine())
    wire.seen.clear()
    before = Message.objects.count(), Payload.objects.count(), Resend.objects.count()

    out = run(status="failed", dry_run=True)

    assert "To send: 1, to skip: 1." in out
    assert "1: It has already been sent again." in out
    assert not wire.seen
    after = Message.objects.count(), Payload.objects.count(), Resend.objects.count()
    assert after == before
    assert second.pk not in Resend.objects.values_list("original_id", flat=True)


class TestTheFilters:
    """They select as in the list of the admin."""

    def test_a_filter_is_required(self, wire: Any) -> None:
        send_refused(wire, "One")
        with pytest.raises(CommandError, match=r"at least one of --status"):
            run()
        assert not wire.seen

    def test_tag(self, wire: Any) -> None:
        send_refused(wire, "One", tags=["welcome"])
        send_refused(wire, "Two", tags=["invoice"])
        run(tag="invoice")
        assert list_subjects(wire) == ["Two"]

    def test_search(self, wire: Any) -> None:
        send_refused(wire, "One", to=["jane@example.com"])
        send_refused(wire, "Two", to=["joe@example.com"])
        run(search="joe@example.com")
        assert list_subjects(wire) == ["Two"]

    def test_attention(self, wire: Any) -> None:
        send_refused(wire, "One")
        send(new(subject="Two"))
        wire.seen.clear()
        run(attention=True)
        assert list_subjects(wire) == ["One"]

    def test_mailer(self, wire: Any) -> None:
        (one, _two) = send_refused(wire, "One", "Two")
        Message.objects.filter(pk=one.pk).update(mailer="missing")
        out = run(mailer="missing")
        assert "skipped: 1." in out
        assert "missing" in out.split("skipped: 1.")[1]
        assert not wire.seen

    @pytest.mark.parametrize(
        ("since", "until", "expected"),
        [
            ("2026-03-02", "2026-03-03", ["Two"]),
            ("2026-03-02T12:00Z", None, ["Three", "Two"]),
            (None, "2026-03-02T12:00:00+00:00", ["One"]),
            (None, "2026-03-02 12:00:01+00:00", ["One", "Two"]),
        ],
    )
    def test_times(
        self, wire: Any, settings: Any, since: Any, until: Any, expected: list[str]
    ) -> None:
        settings.TIME_ZONE = "UTC"
        for day, row in enumerate(send_refused(wire, "One", "Two", "Three"), start=1):
            time = make_storable(datetime(2026, 3, day, 12, tzinfo=UTC))
            Message.objects.filter(pk=row.pk).update(created_at=time)
        run(since=since, until=until)
        assert sorted(list_subjects(wire)) == expected

    @pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-02-30T10:00"])
    def test_a_wrong_time(self, wire: Any, text: str) -> None:
        send_refused(wire, "One")
        with pytest.raises(CommandError, match=rf"--since '{text}' is not a date"):
            run(since=text)
        assert not wire.seen


class TestSkipped:
    """A message that needs the decision of a person is not sent."""

    def test_one_that_may_have_arrived(self, wire: Any) -> None:
        (row,) = send_refused(wire, "One")
        Recipient.objects.filter(message=row).update(status="unknown")
        Message.objects.filter(pk=row.pk).update(status="unknown", outcome="unknown")
        assert "1: It may have arrived." in run(status="unknown")
        assert not wire.seen

    def test_one_that_was_delivered(self, wire: Any) -> None:
        wire.answer = ACCEPT
        row = send(new())
        Recipient.objects.filter(message=row).update(status="delivered")
        Message.objects.filter(pk=row.pk).update(status="delivered")
        wire.seen.clear()
        assert "1: All recipients already have it." in run(status="delivered")
        assert not wire.seen

    def test_a_suppressed_address_is_not_shown(self, wire: Any, settings: Any) -> None:
        settings.TURBOSMTP |= {"SUPPRESS": True}
        send_refused(wire, "One", to=["jane@example.com"])
        send_refused(wire, "Two", to=["joe@example.com"])
        Suppression.objects.create(address="jane@example.com", reason="bounced")
        out = run(status="failed")
        assert "1: This address is suppressed" in out
        assert "jane" not in out
        assert list_subjects(wire) == ["Two"]

    def test_another_account(self, wire: Any) -> None:
        rows = send_refused(wire, "One", "Two")
        Message.objects.filter(pk=rows[0].pk).update(account="x" * 12)
        out = run(status="failed")
        assert "that this site no longer uses" in out
        assert list_subjects(wire) == ["Two"]

    def test_one_that_is_not_complete(self, wire: Any) -> None:
        (row,) = send_refused(wire, "One")
        Payload.objects.filter(message=row).delete()
        row.content.delete()
        assert "skipped: 1." in run(status="failed")
        assert not wire.seen


class TestErrors:
    """A failure is not hidden by the exit code."""

    def test_still_no_credit(self, wire: Any) -> None:
        send_refused(wire, *(f"Order {number}" for number in range(60)))
        wire.answer = NO_CREDIT
        with pytest.raises(CommandError) as raised:
            run(status="failed")
        assert "Stopped, because this affects every message" in str(raised.value)
        assert "nocredit" in str(raised.value)
        assert "20 messages were not tried." in str(raised.value)
        # The new rows are complete, so that they can be sent again, and no message is
        # sent twice.
        wire.answer = ACCEPT
        wire.seen.clear()
        out = run(status="failed")
        assert "Accepted: 60, failed: 0, skipped: 40." in out
        assert len(set(list_subjects(wire))) == len(wire.seen) == 60

    def test_a_message_that_is_refused_again(self, wire: Any) -> None:
        def answer(handler: Any, body: bytes) -> None:
            (REFUSE if b"Bad" in body else ACCEPT)(handler, body)

        send_refused(wire, "Good", "Bad")
        wire.answer = answer
        with pytest.raises(CommandError, match="Some messages failed"):
            run(status="failed")
        assert sorted(list_subjects(wire)) == ["Bad", "Good"]


class TestConfirmation:
    """Above ten messages, a person must confirm."""

    def answer(self, monkeypatch: Any, text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))

    def test_yes(self, wire: Any, monkeypatch: Any) -> None:
        send_refused(wire, *(f"Order {number}" for number in range(11)))
        self.answer(monkeypatch, "yes\n")
        assert "Accepted: 11" in run(status="failed", interactive=True)
        assert len(wire.seen) == 11

    @pytest.mark.parametrize("text", ["", "no\n", "y\n"])
    def test_anything_else(self, wire: Any, monkeypatch: Any, text: str) -> None:
        send_refused(wire, *(f"Order {number}" for number in range(11)))
        self.answer(monkeypatch, text)
        with pytest.raises(CommandError, match="nothing was sent.*--no-input"):
            run(status="failed", interactive=True)
        assert not wire.seen
        assert not Resend.objects.exists()

    def test_a_few_need_none(self, wire: Any, monkeypatch: Any) -> None:
        send_refused(wire, *(f"Order {number}" for number in range(10)))
        self.answer(monkeypatch, "")
        assert "Accepted: 10" in run(status="failed", interactive=True)

    def test_a_dry_run_needs_none(self, wire: Any, monkeypatch: Any) -> None:
        send_refused(wire, *(f"Order {number}" for number in range(11)))
        self.answer(monkeypatch, "")
        out = run(status="failed", interactive=True, dry_run=True)
        assert "To send: 11, to skip: 0." in out


def test_a_terminal_shows_a_progress_bar(wire: Any) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    send_refused(wire, "One", "Two")
    stream = Terminal()
    run(status="failed", stderr=stream)
    assert "100%  2 of 2" in stream.getvalue()
