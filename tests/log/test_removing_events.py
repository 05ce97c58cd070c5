"""Pruning and erasing of events."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.management import call_command

from django_turbosmtp._lib.times import make_storable
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.exceptions import RecipientsRefused
from django_turbosmtp.models import (
    Event,
    HashedAddress,
    Message,
    Suppression,
    Unmatched,
)
from django_turbosmtp.sandbox import Sandbox
from tests.log.posting import (
    build,
    send,
    tell,
)
from tests.messages import new

pytestmark = pytest.mark.django_db


class TestRemoving:
    def test_prune(self, tracked: Any, sandbox: Sandbox) -> None:
        [row] = send()
        tell(build("OPENED", row), build("OPENED"))
        with pytest.MonkeyPatch.context() as patch:
            later = time.time() + 400 * 86400
            patch.setattr("time.time", lambda: later)
            call_command("turbosmtp_prune", verbosity=0)
        assert not Message.objects.exists()
        assert not Event.objects.exists()
        assert not Unmatched.objects.exists()

    def test_erase(self, tracked: Any, sandbox: Sandbox, tmp_path: Any) -> None:
        [row] = send(new(to=["jane@x.org", "joe@x.org"], subject="Hello"))
        tell(
            build("OPENED", row, email="jane@x.org", subject="Hello"),
            build("OPENED", row, email="joe@x.org", subject="Hello"),
            build("BOUNCED", email="jane@x.org"),
            build("BOUNCED", email="joe@x.org"),
        )
        path = tmp_path / "jane.json"
        call_command("turbosmtp_erase", "jane@x.org", export=path, no_input=True)
        kept = Event.objects.order_by("address").values_list("address", "raw")
        assert [address for address, _ in kept] == ["joe@x.org"] * 2
        assert "Hello" not in str(list(kept))
        [exported] = json.loads(path.read_text())["messages"]
        assert [event["event_type"] for event in exported["events"]] == ["opened"]


class TestLateEvents:
    """turboSMTP posts events about mail whose recipient has since been erased."""

    def erase(self) -> None:
        call_command("turbosmtp_erase", "jane@x.org", no_input=True, verbosity=0)

    def test_about_a_deleted_message(self, tracked: Any, sandbox: Sandbox) -> None:
        [row] = send(new(to=["jane@x.org"]))
        self.erase()
        raw = {
            "reason": "550 5.1.1 <jane@x.org> unknown",
            "url": "https://x.org/?e=jane%40x.org",
            "useragent": "Jane's phone",
            "subject": "Dear Jane",
            "reference_id": "order:jane@x.org",
        }
        tell(build("OPENED", row, email="Jane@x.org", **raw))
        assert Event.objects.count() == Unmatched.objects.count() == 1
        assert "jane" not in str(list(Event.objects.values())).lower()
        assert "jane" not in str(list(Unmatched.objects.values())).lower()
        # Erasing again removes it.
        self.erase()
        assert not Event.objects.exists()

    def test_about_a_message_to_several(self, tracked: Any, sandbox: Sandbox) -> None:
        [row] = send(new(to=["joe@x.org", "jane@x.org"]))
        self.erase()
        tell(build("CLICKED", row, email="jane@x.org", url="https://x.org/?jane@x.org"))
        found = row.recipients.order_by("position").values_list("status", flat=True)  # type: ignore[attr-defined]
        assert list(found) == ["sent", "clicked"]
        event = Event.objects.get()
        assert (event.position, event.event_type) == (1, "clicked")
        assert "jane" not in str(list(Event.objects.values())).lower()

    def test_a_complaint_still_suppresses(self, tracked: Any, sandbox: Sandbox) -> None:
        [row] = send(new(to=["jane@x.org"]))
        self.erase()
        tell(build("SPAM", row, email="jane@x.org"))
        assert "jane" not in str(list(Suppression.objects.values())).lower()
        with pytest.raises(RecipientsRefused, match="complained"):
            EmailBackend().send_messages([new(to=["jane@x.org"])])

    def test_about_later_mail(self, tracked: Any, sandbox: Sandbox) -> None:
        """New mail to an erased person is tracked as usual."""
        self.erase()
        [row] = send(new(to=["jane@x.org"]))
        tell(build("OPENED", row, email="jane@x.org"))
        assert Event.objects.get().address == "jane@x.org"
        assert row.recipients.get().status == "opened"  # type: ignore[attr-defined]

    def test_about_later_mail_before_its_row(
        self, tracked: Any, sandbox: Sandbox
    ) -> None:
        self.erase()
        event = build("OPENED", mid="123", email="jane@x.org")
        tell(event)
        [row] = send(new(to=["jane@x.org"]))
        Message.objects.filter(pk=row.pk).update(mid="123")
        row.recipients.update(mid="123")  # type: ignore[attr-defined]
        tell(build("PROCESSED", mid="123", email="jane@x.org"))
        tell(event)
        assert row.recipients.get().status == "opened"  # type: ignore[attr-defined]

    def test_the_hash_is_pruned(self, tracked: Any, settings: Any) -> None:
        self.erase()
        call_command("turbosmtp_prune", verbosity=0)
        assert HashedAddress.objects.count() == 1
        settings.TURBOSMTP |= {"RETENTION_DAYS": 1}
        HashedAddress.objects.update(
            erased_at=make_storable(datetime(2026, 1, 1, tzinfo=UTC))
        )
        call_command("turbosmtp_prune", verbosity=0)
        assert not HashedAddress.objects.exists()
