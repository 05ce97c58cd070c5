"""Connections that the server has closed since the last request."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connections, transaction
from django.db.backends.signals import connection_created
from django.utils import timezone

from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.exceptions import RecipientsRefused
from django_turbosmtp.log.connection import run_statements
from django_turbosmtp.log.locks import MAX_LOCK_WAIT, begin
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
    """Closes the log's connection, as a server does with an idle one."""
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
    """The connection is closed while the message is being sent."""
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
    """For example after a deadlock, in which one of two transactions is aborted."""
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


class TestLocks:
    """A migration locks the tables of the log, and mail is not delayed."""

    @pytest.fixture
    def hold(self) -> Iterator[Callable[..., None]]:
        """Locks tables until the end of the test, in a separate connection."""
        own = connections[WORLD.alias].copy("holder")

        def work(*tables: str) -> None:
            statements = {
                "postgresql": [
                    "BEGIN",
                    *(f"LOCK TABLE turbosmtp_{t}" for t in tables),
                ],
                "mysql": [
                    "LOCK TABLES " + ", ".join(f"turbosmtp_{t} WRITE" for t in tables)
                ],
                "sqlite": ["BEGIN EXCLUSIVE"],
            }
            with own.cursor() as cursor:
                for statement in statements[connection.vendor]:
                    cursor.execute(statement)

        yield work
        own.close()

    @pytest.mark.parametrize("table", ["message", "suppression"])
    def test_mail_is_sent_without_its_row(
        self,
        table: str,
        hold: Callable[..., None],
        logged: Any,
        sandbox: Sandbox,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        connection.ensure_connection()
        if connection.vendor == "sqlite":
            connection.cursor().execute("PRAGMA busy_timeout = 300")
        hold(table)
        began = time.monotonic()
        assert EmailBackend().send_messages([new()]) == 1
        assert time.monotonic() - began < 3 * MAX_LOCK_WAIT + 2
        assert sandbox.total_accepted == 1
        assert re.search("lock", caplog.text, re.IGNORECASE)
        if connection.vendor != "sqlite" and table == "suppression":
            assert Message.objects.get().is_unchecked

    def test_the_limits_of_the_connection_are_restored(
        self, logged: Any, sandbox: Sandbox
    ) -> None:
        def read() -> Any:
            sql = {
                "postgresql": "SHOW lock_timeout",
                "mysql": "SELECT @@lock_wait_timeout, @@innodb_lock_wait_timeout",
                "sqlite": "PRAGMA busy_timeout",
            }[connection.vendor]
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchone()

        before = read()
        send(new())
        assert read() == before
        with transaction.atomic(using=WORLD.alias):
            if connection.vendor == "postgresql":
                connection.cursor().execute("SET LOCAL lock_timeout = '7s'")
            inside = read()
            send(new())
            with suppress(DatabaseError), begin(WORLD.alias):
                connection.cursor().execute("SELECT no_such_column")
            assert read() == inside
        assert read() == before
        assert Message.objects.filter(outcome="accepted").count() == 2


class TestByHand:
    """The site has turned autocommit off and commits manually."""

    @pytest.fixture(autouse=True)
    def _by_hand(self, tracked: Any) -> Iterator[None]:
        transaction.set_autocommit(False, using=WORLD.alias)
        yield
        transaction.rollback(using=WORLD.alias)
        transaction.set_autocommit(True, using=WORLD.alias)

    @pytest.mark.except_in("closed_connections", reason="the transaction would be lost")
    def test_the_site_commits_the_rows(
        self, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        send(new())
        transaction.commit(using=WORLD.alias)
        send(new())
        transaction.rollback(using=WORLD.alias)
        # SQLite commits when the outermost savepoint is released.
        commits = connection.vendor == "sqlite"
        assert Message.objects.filter(outcome="accepted").count() == 1 + commits
        assert "could not be written" not in caplog.text


def test_a_kill_leaves_no_partial_outcome(logged: Any, sandbox: Sandbox) -> None:
    """Either the message and its recipients are both written, or neither."""
    child = os.fork()
    if child == 0:
        updates = 0

        def die(execute: Any, sql: str, *arguments: Any) -> Any:
            nonlocal updates
            updates += sql.startswith("UPDATE")
            if updates == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return execute(sql, *arguments)

        def watch(connection: Any, **_: Any) -> None:
            connection.execute_wrappers.append(die)

        # In a forked process, the package opens a new connection.
        connection_created.connect(watch)
        try:
            EmailBackend().send_messages([new()])
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert sandbox.total_accepted == 1
    row = Message.objects.get()
    assert (row.status, row.recipients.get().status) == ("sending", "sending")
