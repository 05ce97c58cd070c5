"""Events and the statuses of recipients and messages."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from django_turbosmtp.models import (
    Event,
    Message,
    Recipient,
    Unmatched,
)
from django_turbosmtp.sandbox import Sandbox
from tests.log.posting import (
    build,
    post,
    send,
    statuses,
    tell,
)
from tests.messages import new

pytestmark = pytest.mark.django_db


class TestStatuses:
    @pytest.mark.parametrize(
        ("status", "wanted"),
        [
            ("PROCESSED", "sent"),
            ("DEFERRED", "deferred"),
            ("DELIVERED", "delivered"),
            ("DROPPED", "rejected"),
            ("BOUNCED", "bounced"),
            ("OPENED", "opened"),
            ("CLICKED", "clicked"),
            ("UNSUBSCRIBED", "unsubscribed"),
            ("REPORT", "complained"),
            ("SPAM", "complained"),
            ("NEW", "sent"),
        ],
    )
    def test_each_event_sets_its_status(
        self, status: str, wanted: str, tracked: Any, sandbox: Sandbox
    ) -> None:
        [row] = send()
        tell(build(status, row))
        row.refresh_from_db()
        assert (row.status, statuses(row)) == (wanted, [wanted])
        event = Event.objects.get()
        assert (event.message_id, event.position) == (row.pk, 0)
        assert not Unmatched.objects.exists()

    def test_in_every_order_and_twice(self, tracked: Any, sandbox: Sandbox) -> None:
        words = ["PROCESSED", "DEFERRED", "DELIVERED", "OPENED"]
        for order in itertools.permutations(words):
            Message.objects.all().delete()
            [row] = send()
            events = {word: build(word, row) for word in words}
            for word in order:
                tell(events[word])
                tell(events[word])
            row.refresh_from_db()
            assert (row.status, statuses(row)) == ("opened", ["opened"]), order
            assert Event.objects.count() == 4
            tell(*events.values())
            assert Event.objects.count() == 4

    def test_a_bounce_after_delivery_is_shown(
        self, tracked: Any, sandbox: Sandbox
    ) -> None:
        [row] = send()
        tell(build("DELIVERED", row))
        tell(build("BOUNCED", row))
        tell(build("DEFERRED", row))
        row.refresh_from_db()
        assert row.status == "bounced"

    def test_a_machine_that_opens(self, tracked: Any, sandbox: Sandbox) -> None:
        [row] = send()
        tell(build("OPENED", row, useragent="Mozilla/5.0"))
        assert statuses(row) == ["scanned"]
        tell(build("OPENED", row, useragent="Mozilla/5.0 (iPhone)"))
        assert statuses(row) == ["opened"]
        tell(build("CLICKED", row, useragent="Barracuda"))
        assert statuses(row) == ["opened"]

    @pytest.mark.parametrize("turned", [False, True])
    def test_a_bounce_after_a_machine_open_is_shown(
        self, turned: bool, tracked: Any, sandbox: Sandbox
    ) -> None:
        [row] = send()
        events = [
            build("OPENED", row, useragent="Barracuda Sentinel (EE)"),
            build("BOUNCED", row, reason="554 5.7.1 spam"),
        ]
        for event in reversed(events) if turned else events:
            tell(event)
        row.refresh_from_db()
        assert (row.status, statuses(row)) == ("bounced", ["bounced"])

    def test_an_event_changes_only_its_recipient(
        self, tracked: Any, sandbox: Sandbox
    ) -> None:
        [row] = send(new(to=["a@x.org", "B <B@x.org>"], cc=["c@x.org"]))
        tell(build("OPENED", row, email="a@x.org"))
        assert statuses(row) == ["opened", "sent", "sent"]
        tell(build("DELIVERED", row, email="b@X.org"))
        tell(build("DELIVERED", row, email="c@x.org"))
        row.refresh_from_db()
        assert statuses(row) == ["opened", "delivered", "delivered"]
        assert row.status == "delivered"
        tell(build("BOUNCED", row, email="c@x.org"))
        row.refresh_from_db()
        assert statuses(row) == ["opened", "delivered", "bounced"]
        assert row.status == "bounced"
        tell(build("OPENED", row, email="nobody@x.org"))
        assert statuses(row) == ["opened", "delivered", "bounced"]
        # The event is still stored with the message.
        assert row.events.count() == 5  # type: ignore[attr-defined]

    def test_a_recipient_that_is_named_twice(
        self, tracked: Any, sandbox: Sandbox
    ) -> None:
        [row] = send(new(to=["a@x.org", "A <A@x.org>", "b@x.org"]))
        tell(build("OPENED", row, email="a@x.org"))
        assert statuses(row) == ["opened", "opened", "sent"]
        assert Event.objects.get().position == 0
        tell(build("DELIVERED", row, email="b@x.org"))
        row.refresh_from_db()
        assert row.status == "delivered"

    def test_blind_copies_have_ids_of_their_own(
        self, tracked: Any, sandbox: Sandbox
    ) -> None:
        [row] = send(new(to=[], bcc=["a@x.org", "b@x.org"]))
        mids = list(row.recipients.order_by("position").values_list("mid", flat=True))
        tell(build("BOUNCED", row, mid=mids[1], email="b@x.org"))
        assert statuses(row) == ["sent", "bounced"]

    def test_recipients_that_were_left_out_are_ignored(
        self, tracked: Any, sandbox: Sandbox
    ) -> None:
        tracked.TURBOSMTP |= {"RECIPIENT_GUARD": ["x.org"]}
        [row] = send(new(to=["a@x.org", "b@elsewhere.org"]))
        tell(build("DELIVERED", row, email="a@x.org"))
        row.refresh_from_db()
        assert statuses(row) == ["delivered", "rejected"]
        assert row.status == "delivered"

    def test_exact_ids(self, tracked: Any, sandbox: Sandbox) -> None:
        first, second = send(new(subject="1"), new(subject="2"))
        Recipient.objects.filter(message=first).update(mid="9007199254740992")
        Recipient.objects.filter(message=second).update(mid="9007199254740993")
        body = json.dumps(build("OPENED", first)).replace(
            json.dumps(first.mid), "9007199254740993"
        )
        assert post(body.encode()).status_code == 200
        assert (statuses(first), statuses(second)) == (["sent"], ["opened"])
