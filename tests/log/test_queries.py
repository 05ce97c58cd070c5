"""The number of statements does not depend on the number of messages."""

from __future__ import annotations

from typing import Any

import pytest

from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.delivery.engine import PART
from django_turbosmtp.models import Message, Recipient
from django_turbosmtp.sandbox import Sandbox
from tests.messages import new
from tests.worlds import connection

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("short_waits"),
]


class Counter:
    """Counts all executed statements, except those of a driver itself.

    Statements that set up a connection, set its lock time-out, or wait for the single
    writer of SQLite are not counted.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, execute: Any, sql: str, *arguments: Any) -> Any:
        if not sql.startswith("SET ") and not sql.endswith("WHERE 0"):
            self.seen.append(sql)
        return execute(sql, *arguments)


def count(*messages: Any, **options: Any) -> int:
    counter = Counter()
    with connection.execute_wrapper(counter):
        EmailBackend(fail_silently=True, **options).send_messages(messages)
    return len(counter.seen)


def least(rows: int, values: int) -> int:
    """Return how many statements bind so many rows of so many values each."""
    limit = connection.features.max_query_params
    return 1 if limit is None else -(-rows // max(1, limit // values))


def test_one_message(logged: Any, sandbox: Sandbox) -> None:
    # On SQLite, three statements begin a transaction. One looks up suppressions.
    assert count(new()) <= (9 if connection.vendor == "sqlite" else 6)


def test_a_part(logged: Any, sandbox: Sandbox) -> None:
    """The number of statements of a part does not depend on its number of messages."""
    few = count(*(new(attachments=[("a", b"x", "image/gif")]) for _ in range(5)))
    many = count(*(new(attachments=[("a", b"x", "image/gif")]) for _ in range(PART)))

    more = (
        least(PART, len(Message._meta.fields))
        + least(PART, len(Recipient._meta.fields) - 1)
        + least(PART, 4)
        + least(PART, 8)
        + least(PART, 3)
        - 5
    )
    assert many <= few + more
    if connection.features.max_query_params is None:
        assert many <= 12
    assert Message.objects.filter(outcome="accepted").count() == 5 + PART


def test_a_plain_batch(logged: Any, sandbox: Sandbox) -> None:
    """About ten statements for each part, and one that looks up suppressions."""
    parts = -(-500 // PART)
    wide = least(PART, len(Message._meta.fields)) - 1
    assert count(*(new() for _ in range(500))) <= parts * (8 + wide) + 2


def test_a_batch_of_every_kind(logged: Any, sandbox: Sandbox) -> None:
    def mixed(each: int) -> list[Any]:
        return [
            message
            for _ in range(each)
            for message in (
                new(),
                new(to=["bad@x.org"]),
                new(to=["lost@x.org"]),
                new(to=["nobody"]),
                new(to=[], bcc=["a@x.org", "b@x.org"]),
                new(to=["outside@y.net"], cc=["in@x.org"]),
            )
        ]

    sandbox.add_fault("400", match="bad@", times=None)
    sandbox.add_fault("500", match="lost@", times=None)
    options = {"recipient_guard": ["x.org", "example.org"]}
    each = PART // 6
    few = count(*mixed(1), **options)
    many = count(*mixed(each), **options)
    if connection.features.max_query_params is None:
        assert many <= few + 1
    assert Message.objects.count() == 6 * (each + 1)
    assert not Message.objects.filter(status="sending").exists()
    assert not Recipient.objects.filter(status="sending").exists()


def test_one_message_to_many(logged: Any, sandbox: Sandbox) -> None:
    everybody = [f"p{n}@x.org" for n in range(300)]
    few = count(new(to=everybody[:3]))
    many = count(new(to=everybody))
    assert many <= few + least(300, len(Recipient._meta.fields) - 1)
    assert Recipient.objects.filter(status="sent").count() == 303
