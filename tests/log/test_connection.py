"""Connections that the server has closed since the last request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.utils import timezone

from django_turbosmtp.exceptions import RecipientsRefused
from django_turbosmtp.log.connection import run_statements
from django_turbosmtp.models import Event, Message, Suppression
from django_turbosmtp.sandbox import Sandbox
from tests.log.posting import build, send, tell
from tests.log.surroundings import Killer
from tests.messages import new
from tests.worlds import WORLD, connection

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("short_waits"),
]


@pytest.fixture
def close_from_the_server() -> Iterator[Callable[[], None]]:
    """Ends the log's connection as a server does that finds it idle."""
    killer = Killer()
    yield lambda: killer.close(connections[WORLD.alias])
    killer.leave()


def test_a_suppressed_address_is_still_left_out(
    logged: Any, sandbox: Sandbox, close_from_the_server: Callable[[], None]
) -> None:
    Suppression.objects.create(address="jane@x.org", reason="complained")
    for _ in range(2):
        close_from_the_server()
        message = new(to=["jane@x.org"])
        send(message)
        assert isinstance(message.turbosmtp_status.error, RecipientsRefused)
    assert sandbox.total_accepted == 0
    assert Message.objects.filter(outcome="suppressed").count() == 2


def test_a_message_has_its_row(
    logged: Any, sandbox: Sandbox, close_from_the_server: Callable[[], None]
) -> None:
    send(new())
    close_from_the_server()
    send(new())
    assert Message.objects.filter(outcome="accepted").count() == 2


def test_an_outcome_is_recorded(
    logged: Any, sandbox: Sandbox, close_from_the_server: Callable[[], None]
) -> None:
    """The connection ends while the message is being sent."""
    sandbox.add_fault("400")

    class Closing:
        closed = False

        def __call__(self, execute: Any, sql: str, *arguments: Any) -> Any:
            if sql.startswith("UPDATE") and not self.closed:
                Closing.closed = True
                close_from_the_server()
            return execute(sql, *arguments)

    with connection.execute_wrapper(Closing()):
        send(new())
    assert Closing.closed
    row = Message.objects.get()
    assert (row.outcome, row.tries.count()) == ("refused", 1)


def test_events_are_stored(
    tracked: Any, sandbox: Sandbox, close_from_the_server: Callable[[], None]
) -> None:
    [row] = send(new())
    close_from_the_server()
    tell(build("OPENED", row))
    row.refresh_from_db()
    assert row.status == "opened"
    assert Event.objects.count() == 1


def test_an_aborted_transaction_is_tried_again(db: Any) -> None:
    """As that of a deadlock, which ends one of two processes."""
    calls = []

    def work() -> str:
        calls.append(timezone.now())
        if len(calls) < 3:
            raise OperationalError("deadlock")
        return "done"

    connection.ensure_connection()
    assert run_statements(work, WORLD.alias) == "done"
    assert len(calls) == 3
    calls.clear()
    with pytest.raises(OperationalError, match="deadlock"):
        run_statements(work, WORLD.alias, attempts=2)
    assert len(calls) == 2
