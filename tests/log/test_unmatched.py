"""Events that arrive before the row of their message."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from django_turbosmtp._lib.times import make_storable
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.models import (
    Event,
    Message,
    Unmatched,
)
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.tracking.events import read_event
from django_turbosmtp.tracking.record import join_events
from tests.log.posting import (
    build,
    send,
    statuses,
    tell,
)
from tests.log.surroundings import assert_max_queries
from tests.messages import new
from tests.worlds import WORLD

pytestmark = pytest.mark.django_db


class TestUnmatched:
    def test_an_event_of_no_message(self, tracked: Any) -> None:
        tell(build("BOUNCED"), build("OPENED", mid=..., id=...))
        assert Event.objects.filter(message=None).count() == 2
        assert Unmatched.objects.count() == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("api_version", [2])
@pytest.mark.parametrize("fault", [None, "lost_answer"])
def test_joined_when_the_row_is_committed(
    fault: str | None, tracked: Any, sandbox: Sandbox
) -> None:
    """The transaction of the send is still open when the event arrives."""
    if fault:
        sandbox.add_fault(fault)
    message = new()
    with transaction.atomic(using=WORLD.alias):
        EmailBackend(fail_silently=True).send_messages([message])
        row = Message.objects.using(WORLD.alias).get()
        mid = sandbox.latest.mid  # type: ignore[union-attr]
        event = build("BOUNCED", row, mid=mid, reference_id=row.reference_id)
        # Another process sees no row, because it is not committed.
        row_id, reference = row.pk, row.reference_id
        Event.objects.bulk_create([build_unmatched(event)])
        Unmatched.objects.create(
            event=Event.objects.using(WORLD.alias).get(),
            mid=mid,
            reference_id=reference,
        )
    row = Message.objects.get(pk=row_id)
    assert (row.status, statuses(row)) == ("bounced", ["bounced"])
    assert (row.outcome, row.mid) == ("accepted", mid)
    assert Event.objects.get().message_id == row.pk
    assert not Unmatched.objects.exists()


def test_joined_to_the_message_if_no_recipient_is_named(
    tracked: Any, sandbox: Sandbox
) -> None:
    [row] = send()
    raw = build("OPENED", row, email="somebody@else.org")
    Event.objects.bulk_create([build_unmatched(raw)])
    event = Event.objects.get()
    Unmatched.objects.create(event=event, mid=row.mid)
    join_events([row.mid], [], WORLD.alias)
    event.refresh_from_db()
    assert (event.message_id, event.position) == (row.pk, None)
    assert not Unmatched.objects.exists()
    assert statuses(row) == ["sent"]


def test_joined_when_the_event_is_posted_again(tracked: Any, sandbox: Sandbox) -> None:
    """turboSMTP posts an event again after joining it to its message failed."""
    [row] = send()
    raw = build("OPENED", row)
    Event.objects.bulk_create([build_unmatched(raw)])
    Unmatched.objects.create(event=Event.objects.get(), mid=row.mid)
    tell(raw, build("CLICKED"))
    assert statuses(row) == ["opened"]
    assert row.events.get().event_type == "opened"
    tell(raw)
    assert row.events.count() == 1


def test_unmatched_events_are_read_only_for_messages_in_the_log(
    tracked: Any,
) -> None:
    """Many unmatched events with the same reference id do not slow down requests.

    With 10,000 such events of another application, a request took 27 seconds.
    """
    tell(*(build("SENT", mid=str(n), reference_id="order") for n in range(30)))
    later = [build("SENT", mid=str(n), reference_id="order") for n in range(50, 60)]
    with CaptureQueriesContext(connections[WORLD.alias]) as queries:
        tell(*later)
    reading = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
    assert reading
    assert not [sql for sql in reading if "raw" in sql]
    assert Unmatched.objects.count() == 40


def test_many_events_are_joined_by_few_queries(tracked: Any, sandbox: Sandbox) -> None:
    rows = send(*(new(subject=str(number)) for number in range(40)))
    events = [build("OPENED", row) for row in rows]
    Event.objects.bulk_create([build_unmatched(raw) for raw in events])
    Unmatched.objects.bulk_create(
        Unmatched(event=event, mid=event.mid) for event in Event.objects.all()
    )
    with assert_max_queries(14):
        join_events([row.mid for row in rows], [], WORLD.alias)
    assert not Unmatched.objects.exists()
    assert {status for row in rows for status in statuses(row)} == {"opened"}
    assert Event.objects.filter(message=None).count() == 0
    assert [row.events.get().position for row in rows] == [0] * 40  # type: ignore[attr-defined]


def build_unmatched(raw: dict[str, Any]) -> Event:
    event = read_event(raw)
    return Event(
        digest=event.digest,
        event_type=event.event_type,
        occurred_at=make_storable(event.timestamp),
        received_at=make_storable(event.timestamp),
        mid=event.message_id,
        raw=raw,
    )
