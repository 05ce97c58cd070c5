"""Database faults of the log do not affect the mail."""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.mail import EmailMessage, mail_admins
from django.db import (
    DatabaseError,
    OperationalError,
    connections,
    transaction,
)
from django.db.backends.signals import connection_created

from django_turbosmtp._lib.versions import MODERN_MIME
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.delivery.engine import PART
from django_turbosmtp.exceptions import BadRequest, OutcomeUnknown
from django_turbosmtp.log.connection import run_statements
from django_turbosmtp.models import Message, Recipient
from django_turbosmtp.sandbox import Sandbox
from tests.messages import new
from tests.worlds import WORLD, connection

TABLES = ("message", "recipient", "content", "payload", "attachment")


def send(*messages: Any, **options: Any) -> int:
    return EmailBackend(**options).send_messages(messages)


def break_table(table: str, action: str) -> str:
    """Make the database refuse ``action``; return a function that undoes this."""
    name, on = f"broken_{table}_{action}", f"turbosmtp_{table}"
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(
                f"CREATE TRIGGER {name} BEFORE {action} ON {on}"
                " BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
            )
        elif connection.vendor == "mysql":
            cursor.execute(
                f"CREATE TRIGGER {name} BEFORE {action} ON {on} FOR EACH ROW"
                " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the disk is full'"
            )
        else:
            cursor.execute(
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE 'the disk is full'; END $$"
            )
            cursor.execute(
                f"CREATE TRIGGER {name} BEFORE {action} ON {on} FOR EACH ROW"
                f" EXECUTE FUNCTION {name}()"
            )
    if connection.vendor == "postgresql":
        return f"DROP TRIGGER {name} ON {on}; DROP FUNCTION {name}()"
    return f"DROP TRIGGER {name}"


@pytest.fixture
def broken(transactional_db: None) -> Iterator[Any]:
    mends = []

    def do(table: str, action: str) -> None:
        mends.append(break_table(table, action))

    yield do
    with connection.cursor() as cursor:
        for mend in mends:
            cursor.execute(mend)


@pytest.mark.parametrize("table", ["message", "recipient", "content"])
def test_failing_before_the_send(
    table: str, broken: Any, logged: Any, sandbox: Sandbox, caplog: Any
) -> None:
    broken(table, "INSERT")

    assert send(new(), new()) == 2

    assert sandbox.total_accepted == 2
    assert not Message.objects.exists()
    texts = [r.getMessage() for r in caplog.records if r.name.endswith(".log")]
    assert len(texts) == 2
    assert "before the send; the mail is not affected" in texts[0]
    assert "after the send" in texts[1]


@pytest.mark.parametrize("table", ["message", "recipient"])
def test_failing_after_acceptance(
    table: str, broken: Any, logged: Any, sandbox: Sandbox, caplog: Any
) -> None:
    broken(table, "UPDATE")
    message = new()

    assert send(message) == 1

    assert message.turbosmtp_status.outcome == "accepted"
    # The message is written last: until then, it is not settled.
    assert Message.objects.get().status == "sending"
    assert Recipient.objects.get().mid in {"", message.turbosmtp_status.message_id}
    assert "after the send" in caplog.text


def test_failing_after_a_refusal_raises_the_refusal(
    broken: Any, logged: Any, sandbox: Sandbox
) -> None:
    broken("message", "UPDATE")
    sandbox.add_fault("400")
    with pytest.raises(BadRequest):
        send(new())


@pytest.mark.parametrize("action", ["INSERT", "UPDATE"])
def test_the_caller_s_transaction_goes_on(
    action: str, broken: Any, logged: Any, sandbox: Sandbox, django_user_model: Any
) -> None:
    broken("message", action)

    with transaction.atomic():
        django_user_model.objects.create(username="before")
        assert send(new()) == 1
        django_user_model.objects.create(username="after")

    names = django_user_model.objects.values_list("username", flat=True)
    assert sorted(names) == ["after", "before"]
    assert sandbox.total_accepted == 1


@pytest.mark.except_in("second_alias", "own_database", reason="no shared connection")
@pytest.mark.django_db(transaction=True)
def test_in_a_broken_transaction_the_mail_still_goes(
    logged: Any, sandbox: Sandbox, caplog: Any, django_user_model: Any
) -> None:
    def fail() -> None:
        with transaction.atomic():
            django_user_model.objects.create(username="rolled back")
            with pytest.raises(DatabaseError), connection.cursor() as cursor:
                cursor.execute("SELECT no_such_column")
            transaction.set_rollback(True)
            assert send(new()) == 1
            assert transaction.get_rollback()

    fail()
    assert sandbox.total_accepted == 1
    assert not django_user_model.objects.exists()
    assert not Message.objects.exists()
    assert "TransactionManagementError" in caplog.text


@pytest.mark.except_in("second_alias", "own_database", reason="no shared connection")
@pytest.mark.django_db(transaction=True)
def test_a_broken_transaction_that_django_does_not_know_of(
    logged: Any, sandbox: Sandbox
) -> None:
    with transaction.atomic():
        with pytest.raises(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column")
        # PostgreSQL now refuses all statements; the others do not.
        assert send(new()) == 1
        transaction.set_rollback(True)
    assert sandbox.total_accepted == 1


@pytest.mark.django_db(transaction=True)
def test_rows_roll_back_with_the_caller(logged: Any, sandbox: Sandbox) -> None:
    with transaction.atomic(using=WORLD.alias):
        send(new())
        assert Message.objects.using(WORLD.alias).get().outcome == "accepted"
        transaction.set_rollback(True, WORLD.alias)
    assert not Message.objects.exists()
    assert sandbox.total_accepted == 1


@pytest.mark.except_in("own_database", reason="a site has one log")
@pytest.mark.django_db(transaction=True, databases=["default", "second"])
def test_rows_in_a_second_alias_survive_a_rollback(
    logged: Any, sandbox: Sandbox
) -> None:
    with transaction.atomic():
        logged.TURBOSMTP = {**logged.TURBOSMTP, "LOG_USING": "second"}
        send(new())
        transaction.set_rollback(True)
    assert Message.objects.get().outcome == "accepted"


@pytest.mark.django_db(transaction=True)
def test_missing_tables(
    logged: Any, sandbox: Sandbox, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connection.schema_editor() as editor:
        editor.alter_db_table(Message, "turbosmtp_message", "elsewhere")
    try:
        assert send(new()) == 1
        found = run_checks(tags=["database"], databases=[WORLD.alias])
        # While "migrate" runs, the check does not warn about missing tables.
        monkeypatch.setattr("sys.argv", ["manage.py", "migrate"])
        assert run_checks(tags=["database"], databases=[WORLD.alias]) == []
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(Message, "elsewhere", "turbosmtp_message")
    assert sandbox.total_accepted == 1
    assert "manage.py migrate" in caplog.text
    assert [m.id for m in found] == ["turbosmtp.W006"]
    assert run_checks(tags=["database"], databases=[WORLD.alias]) == []


@pytest.fixture
def gone(
    django_db_blocker: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """An alias of a database that cannot be opened."""
    database = {
        **copy.deepcopy(connection.settings_dict),
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "no" / "such" / "folder"),
        "OPTIONS": {},
    }
    monkeypatch.setitem(connections.databases, "gone", database)
    with django_db_blocker.unblock():
        yield "gone"
    del connections["gone"]


def test_no_database(gone: str, logged: Any, sandbox: Sandbox, caplog: Any) -> None:
    logged.TURBOSMTP = {**logged.TURBOSMTP, "LOG_USING": gone}
    assert send(new()) == 1
    assert sandbox.total_accepted == 1
    assert "OperationalError: unable to open database file" in caplog.text


def test_a_missing_database_is_tried_once(gone: str) -> None:
    """Mail waits for a missing database only once."""
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        connections[gone].ensure_connection()

    with pytest.raises(OperationalError):
        run_statements(work, gone)
    assert len(calls) == 1


def test_the_check_of_a_missing_database(gone: str, logged: Any) -> None:
    logged.TURBOSMTP = {**logged.TURBOSMTP, "LOG_USING": gone}
    assert run_checks(tags=["database"], databases=[gone]) == []


def test_a_database_that_recovers_receives_the_row(
    broken: Any, logged: Any, sandbox: Sandbox
) -> None:
    mend = break_table("content", "INSERT")
    sandbox.latency = 0.4

    def repair() -> None:
        time.sleep(0.2)
        try:
            with connection.cursor() as cursor:
                cursor.execute(mend)
        finally:
            connection.close()

    repairing = threading.Thread(target=repair)
    repairing.start()
    assert send(new()) == 1
    repairing.join()

    row = Message.objects.get()
    assert (row.status, row.outcome) == ("sent", "accepted")
    assert row.content.text == "Body"


def test_data_in_database_errors_is_not_logged(
    broken: Any, logged: Any, sandbox: Sandbox, caplog: Any
) -> None:
    # The database refuses this row, because its key exists.
    first = new(body="hunter2")
    send(first)
    row = Message.objects.get()
    Recipient.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE UNIQUE INDEX one_sender ON turbosmtp_message (api_version)"
        )
    try:
        assert send(new(subject="hunter2")) == 1
    finally:
        with connection.cursor() as cursor:
            on = " ON turbosmtp_message" if connection.vendor == "mysql" else ""
            cursor.execute(f"DROP INDEX one_sender{on}")
    assert Message.objects.get() == row
    assert "IntegrityError" in caplog.text
    assert "hunter2" not in caplog.text


def test_mailing_our_log_record_causes_no_further_mail(
    broken: Any, logged: Any, sandbox: Sandbox
) -> None:
    broken("message", "INSERT")
    admin = "admin@example.com"
    logged.ADMINS = [admin if MODERN_MIME else ("Admin", admin)]
    logged.SERVER_EMAIL = "server@example.com"

    class Mailing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            mail_admins("Log", record.getMessage())

    handler = Mailing()
    logger = logging.getLogger("django_turbosmtp.log")
    logger.addHandler(handler)
    try:
        assert send(new()) == 1
    finally:
        logger.removeHandler(handler)
    # The message, and a mail for each of the two log records.
    assert sandbox.total_accepted == 3


@pytest.mark.django_db(transaction=True)
def test_in_an_event_loop(logged: Any, sandbox: Sandbox) -> None:
    async def view() -> int:
        return send(new(), new())

    assert asyncio.run(view()) == 2
    assert sandbox.total_accepted == 2
    assert set(Message.objects.values_list("outcome", flat=True)) == {"accepted"}
    assert not [t for t in threading.enumerate() if "turbosmtp-log" in t.name]


@pytest.mark.django_db(transaction=True)
def test_in_threads(logged: Any, sandbox: Sandbox) -> None:
    def work() -> None:
        try:
            send(*(new() for _ in range(5)))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sandbox.total_accepted == 20
    assert Message.objects.filter(outcome="accepted").count() == 20


@pytest.mark.django_db(transaction=True)
def test_no_query_in_worker_threads(logged: Any, sandbox: Sandbox) -> None:
    connected = set()

    def note(**kwargs: Any) -> None:
        connected.add(threading.current_thread().name)

    sandbox.latency = 0.02
    connection_created.connect(note)
    try:
        send(*(new() for _ in range(20)))
    finally:
        connection_created.disconnect(note)
    # Each thread has its own connections, so a query in a worker would create one.
    assert connected <= {threading.current_thread().name}
    assert Message.objects.filter(outcome="accepted").count() == 20


KILLED = """
import os, sys, django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes",
        "django_turbosmtp"],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}
    },
    USE_TZ=True,
    TURBOSMTP={"CONSUMER_KEY": "sandbox-key", "CONSUMER_SECRET": "sandbox-secret",
        "SEND_URL": sys.argv[2]},
)
django.setup()
from django.core.mail import EmailMessage
from django.core.management import call_command
from django_turbosmtp._lib.versions import MODERN_MIME
from django_turbosmtp.backends import EmailBackend
call_command("migrate", verbosity=0)
print("ready", flush=True)
EmailBackend().send_messages(
    [EmailMessage("S", "B", "a@x.org", ["b@x.org"]) for _ in range(int(sys.argv[3]))]
)
"""


def start_sender(database: Any, sandbox: Sandbox, count: int) -> Any:
    """Return a process that has begun to send messages."""
    arguments = [sys.executable, "-c", KILLED, str(database), sandbox.send_url()]
    process = subprocess.Popen(
        [*arguments, str(count)], stdout=subprocess.PIPE, env={**os.environ}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def kill_when(process: Any, is_time: Any) -> None:
    """Kill a process as soon as ``is_time`` returns True, within 20 seconds."""
    deadline = time.monotonic() + 20
    try:
        while not is_time() and time.monotonic() < deadline:
            time.sleep(0.002)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("delivered", [70, 130, 210, 350])
def test_a_killed_sender_leaves_at_most_one_part_without_its_outcome(
    delivered: int, sandbox: Sandbox, tmp_path: Any
) -> None:
    sandbox.latency = 0.01
    process = start_sender(tmp_path / "db.sqlite3", sandbox, 500)
    kill_when(process, lambda: sandbox.total_accepted >= delivered)

    with sqlite3.connect(tmp_path / "db.sqlite3") as opened:
        query = "SELECT status, COUNT(*) FROM turbosmtp_message GROUP BY status"
        counts = dict(opened.execute(query).fetchall())
    opened.close()
    received = sandbox.total_accepted
    assert delivered <= received < 500
    # Every message that arrived has a row, and nearly all have their outcome.
    assert sum(counts.values()) >= received
    # One part, and messages of the next part that were sent while it was recorded.
    assert received - counts.get("sent", 0) <= 2 * PART
    assert set(counts) <= {"sent", "sending"}


def test_a_killed_process_leaves_sending(sandbox: Sandbox, tmp_path: Any) -> None:
    sandbox.latency = 30
    database = tmp_path / "db.sqlite3"
    process = start_sender(database, sandbox, 3)
    kill_when(process, lambda: sandbox.total_accepted >= 1)

    with sqlite3.connect(database) as opened:
        query = "SELECT status, outcome, mid FROM turbosmtp_message"
        assert opened.execute(query).fetchall() == [("sending", "", "")] * 3
        query = "SELECT address, status FROM turbosmtp_recipient"
        assert set(opened.execute(query)) == {("b@x.org", "sending")}
        assert opened.execute("SELECT text FROM turbosmtp_content").fetchone() == ("B",)
    opened.close()


@pytest.mark.django_db(transaction=True)
def test_an_interrupted_send_has_outcome(logged: Any, sandbox: Sandbox) -> None:
    sandbox.add_fault("lost_answer")
    with pytest.raises(OutcomeUnknown):
        send(new())
    assert Message.objects.get().status == "unknown"


@pytest.mark.django_db(transaction=True)
def test_after_a_fork(logged: Any, sandbox: Sandbox) -> None:
    send(new(subject="parent"))
    assert connection.connection is not None
    pid = os.fork()
    if not pid:
        try:
            code = 0 if send(new(subject="child")) == 1 else 1
        except BaseException:  # noqa: BLE001 - the child must end here
            code = 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    # On the same connection as before, because the child has not used it.
    send(new(subject="again"))
    rows = Message.objects.filter(outcome="accepted").order_by("id")
    assert [row.subject for row in rows] == ["parent", "child", "again"]


class Raising(EmailMessage):
    """A message whose attachments can no longer be read after it is sent."""

    sending = True

    @property
    def subject(self) -> Any:
        if self.__dict__.get("asked", 0) > 0:
            raise LookupError("asked too often")
        self.__dict__["asked"] = self.__dict__.get("asked", 0) + 1
        return "Raising"

    @subject.setter
    def subject(self, value: Any) -> None:
        pass


@pytest.mark.django_db
def test_an_invalid_message_does_not_affect_other_rows(
    logged: Any, sandbox: Sandbox, caplog: Any
) -> None:
    raising = Raising("x", "Body", "a@x.org", ["b@x.org"])
    raising.__dict__["asked"] = 0

    assert send(new(), raising, new()) == 3

    rows = list(Message.objects.order_by("id"))
    assert [row.outcome for row in rows] == ["accepted"] * 3
    assert "stored without its contents" in caplog.text


def test_a_refused_row_does_not_affect_other_rows(
    transactional_db: None, logged: Any, sandbox: Sandbox, caplog: Any
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE UNIQUE INDEX one_mailer ON turbosmtp_message (recipient_count)"
        )
    try:
        assert send(new(), new(), new(cc=["c@x.org"]), new()) == 4
    finally:
        with connection.cursor() as cursor:
            on = " ON turbosmtp_message" if connection.vendor == "mysql" else ""
            cursor.execute(f"DROP INDEX one_mailer{on}")
    rows = list(Message.objects.order_by("id"))
    assert [row.recipient_count for row in rows] == [1, 2]
    assert {row.outcome for row in rows} == {"accepted"}
    assert "IntegrityError" in caplog.text


BARE = """
import sys
from django.conf import settings
settings.configure(
    INSTALLED_APPS={apps},
    TURBOSMTP={{"CONSUMER_KEY": "sandbox-key", "CONSUMER_SECRET": "sandbox-secret",
        "SEND_URL": sys.argv[1]}},
)
{setup}
from django.core.mail import EmailMessage
from django_turbosmtp.backends import EmailBackend
message = EmailMessage("S", "B", "a@x.org", ["b@x.org"])
assert EmailBackend().send_messages([message]) == 1
assert "django_turbosmtp.models" not in sys.modules
"""


@pytest.mark.parametrize(
    ("apps", "setup"),
    [([], "import django; django.setup()"), (["django_turbosmtp"], "")],
    ids=["not installed", "without django.setup()"],
)
def test_without_the_app_nothing_is_written(
    apps: list[str], setup: str, sandbox: Sandbox
) -> None:
    code = BARE.format(apps=apps, setup=setup)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, sandbox.send_url()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert sandbox.total_accepted == 1
    assert done.stderr == ""
