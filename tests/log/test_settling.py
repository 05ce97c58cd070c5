"""Events that settle an unknown outcome or an unknown message id."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from django_turbosmtp.delivery.record import Recorder
from django_turbosmtp.models import (
    Event,
    Message,
    Payload,
    Recipient,
    Unmatched,
)
from django_turbosmtp.sandbox import Sandbox
from tests.log.posting import (
    build,
    send,
    statuses,
    tell,
)
from tests.log.surroundings import assert_max_queries
from tests.messages import new

pytestmark = pytest.mark.django_db


class TestUnknown:
    @pytest.mark.parametrize("api_version", [2])
    @pytest.mark.parametrize("fault", ["lost_answer", "500"])
    def test_an_event_settles_it(
        self, fault: str, tracked: Any, sandbox: Sandbox
    ) -> None:
        sandbox.add_fault(fault)
        [row] = send()
        assert (row.outcome, row.mid) == ("unknown", "")
        assert Payload.objects.exists()
        tell(build("DELIVERED", row, mid="77", reference_id=row.reference_id))
        row.refresh_from_db()
        assert (row.outcome, row.status, row.mid) == ("accepted", "delivered", "77")
        assert row.error == ""
        assert statuses(row) == ["delivered"]
        # Accepted, so it is not sent again, and the payload is deleted.
        assert not Payload.objects.exists()
        tell(build("OPENED", row))
        row.refresh_from_db()
        assert row.status == "opened"

    @pytest.mark.parametrize("api_version", [2])
    @pytest.mark.parametrize("later", [{}, {"reference_id": ...}])
    def test_an_event_settles_all_recipients_of_its_request(
        self, later: Any, tracked: Any, sandbox: Sandbox
    ) -> None:
        tracked.TURBOSMTP |= {"RECIPIENT_GUARD": ["x.org"]}
        sandbox.add_fault("lost_answer")
        [row] = send(new(to=["a@x.org", "b@x.org", "left@out.org"], cc=["c@x.org"]))
        ids = {"mid": "77", "reference_id": row.reference_id}
        tell(build("DELIVERED", row, email="a@x.org", **ids))
        # The whole request is accepted; only this recipient's status is delivered.
        assert statuses(row) == ["delivered", "sent", "sent", "rejected"]
        row.refresh_from_db()
        assert (row.status, row.outcome) == ("sent", "accepted")
        tell(build("OPENED", row, email="b@x.org", **ids | later))
        tell(build("BOUNCED", row, email="c@x.org", **ids | later))
        assert statuses(row) == ["delivered", "opened", "bounced", "rejected"]
        assert [r.mid for r in row.recipients.all()] == ["77", "77", "77", ""]
        assert not Payload.objects.exists()

    @pytest.mark.parametrize("api_version", [2])
    @pytest.mark.parametrize("together", [False, True])
    def test_in_every_order_of_two_recipients(
        self, together: bool, tracked: Any, sandbox: Sandbox
    ) -> None:
        """Only one of the events has an id that the log knows."""
        events = [
            ("DELIVERED", {"email": "a@x.org"}),
            ("OPENED", {"email": "b@x.org", "reference_id": "order-9"}),
            ("BOUNCED", {"email": "c@x.org"}),
        ]
        for order in itertools.permutations(events):
            Message.objects.all().delete()
            Event.objects.all().delete()
            sandbox.add_fault("lost_answer")
            message = new(to=["a@x.org", "b@x.org", "c@x.org"])
            message.reference_id = "order-9"
            [row] = send(message)
            bodies = [build(word, mid="77", **more) for word, more in order]
            for told in [bodies] if together else [[body] for body in bodies]:
                tell(*told)
            assert statuses(row) == ["delivered", "opened", "bounced"], order
            row.refresh_from_db()
            assert (row.status, row.outcome, row.mid) == ("bounced", "accepted", "77")
            assert not Unmatched.objects.exists()
            assert [e.position for e in row.events.order_by("address")] == [0, 1, 2]

    @pytest.mark.parametrize("api_version", [2])
    def test_a_message_of_version_1_is_not_settled(
        self, tracked: Any, sandbox: Sandbox
    ) -> None:
        """API v1 does not send the reference id, so an equal one proves nothing."""
        sandbox.add_fault("lost_answer")
        one, two = new(), new()
        one.reference_id = two.reference_id = "order"
        rows = send(one, two, max_connections=1)
        Message.objects.filter(pk=rows[1].pk).update(api_version=1, mid="")
        rows[1].recipients.update(mid="")
        tell(build("DELIVERED", rows[0], mid="77", reference_id="order"))
        assert [statuses(row) for row in rows] == [["delivered"], ["sent"]]

    @pytest.mark.parametrize("api_version", [2])
    def test_a_request_is_settled_once(self, tracked: Any, sandbox: Sandbox) -> None:
        """Also if events of several recipients arrive together."""
        addresses = [f"r{number}@x.org" for number in range(50)]
        sandbox.add_fault("lost_answer")
        [row] = send(new(to=addresses))
        ids = {"mid": "77", "reference_id": row.reference_id}
        events = [build("DELIVERED", row, email=a, **ids) for a in addresses]
        with assert_max_queries(25):
            tell(*events)
        assert set(statuses(row)) == {"delivered"}

    @pytest.mark.parametrize("api_version", [2])
    def test_blind_copies_are_settled_one_by_one(
        self, tracked: Any, sandbox: Sandbox
    ) -> None:
        sandbox.add_fault("lost_answer", times=2)
        [row] = send(new(to=[], bcc=["a@x.org", "b@x.org"]), max_connections=1)
        ids = {"reference_id": row.reference_id}
        tell(build("DELIVERED", row, email="a@x.org", mid="77", **ids))
        assert statuses(row) == ["delivered", "unknown"]
        row.refresh_from_db()
        assert (row.outcome, row.error_class) == ("accepted", "OutcomeUnknown")
        assert row.status == "unknown"
        assert Payload.objects.exists()
        tell(build("OPENED", row, email="b@x.org", mid="78", **ids))
        assert statuses(row) == ["delivered", "opened"]
        row.refresh_from_db()
        assert row.status == "delivered"
        assert (row.error, row.error_class) == ("", "")
        assert not Payload.objects.exists()

    @pytest.mark.parametrize("api_version", [2])
    def test_accepted_without_an_id(self, tracked: Any, sandbox: Sandbox) -> None:
        [row] = send(new(to=["a@x.org", "b@x.org"]))
        Message.objects.update(mid="")
        Recipient.objects.update(mid="")
        ids = {"mid": "77", "reference_id": row.reference_id}
        tell(build("OPENED", row, email="a@x.org", **ids))
        tell(build("BOUNCED", row, email="b@x.org", **ids | {"reference_id": ...}))
        row.refresh_from_db()
        assert (row.mid, statuses(row)) == ("77", ["opened", "bounced"])

    @pytest.mark.parametrize("api_version", [2])
    def test_a_row_left_sending(self, tracked: Any, sandbox: Sandbox) -> None:
        [row] = send()
        Message.objects.update(status="sending", outcome="", mid="", concluded_at=None)
        Recipient.objects.update(status="sending", mid="")
        tell(build("PROCESSED", row, reference_id=row.reference_id))
        row.refresh_from_db()
        assert (row.outcome, row.status) == ("accepted", "sent")
        assert row.concluded_at

    @pytest.mark.parametrize("api_version", [2])
    def test_a_repeated_reference_id_settles_no_message(
        self, tracked: Any, sandbox: Sandbox
    ) -> None:
        sandbox.add_fault("500", times=2)
        one, two = new(), new()
        one.reference_id = two.reference_id = "order"
        rows = send(one, two, max_connections=1)
        tell(build("DELIVERED", rows[0], mid="77", reference_id="order"))
        assert [statuses(row) for row in rows] == [["unknown"], ["unknown"]]
        assert Unmatched.objects.count() == 1

    @pytest.mark.parametrize("api_version", [2])
    @pytest.mark.parametrize("fault", [None, "lost_answer"])
    def test_an_event_before_the_answer(
        self, fault: str | None, tracked: Any, sandbox: Sandbox, monkeypatch: Any
    ) -> None:
        """The status from the event is kept, whatever the answer is."""
        write_outcomes = Recorder.write_outcomes

        def tell_first(recorder: Any, jobs: Any) -> None:
            if jobs:
                row, mid = Message.objects.get(), sandbox.latest.mid  # type: ignore[union-attr]
                assert row.status == "sending"
                tell(build("OPENED", row, mid=mid, reference_id=row.reference_id))
            write_outcomes(recorder, jobs)

        monkeypatch.setattr(Recorder, "write_outcomes", tell_first)
        if fault:
            sandbox.add_fault(fault)
        [row] = send()
        assert (row.status, statuses(row)) == ("opened", ["opened"])
        assert row.outcome == "accepted"
        assert row.mid == sandbox.latest.mid  # type: ignore[union-attr]
