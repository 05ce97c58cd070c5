"""Transactions that wait a limited time for locks, and the order of locks.

A migration may hold a lock on the log's tables for minutes, and mail must not wait.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from django.db import connections, transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import QuerySet

    from django_turbosmtp.models import Message

#: Wait at most this many seconds for a lock.
MAX_LOCK_WAIT = 2


#: Connections whose waits are limited at the moment.
_limited: WeakSet[BaseDatabaseWrapper] = WeakSet()


@contextmanager
def begin(alias: str) -> Iterator[None]:
    """Begin a transaction, or a savepoint, that waits `MAX_LOCK_WAIT` for each lock.

    SQLite waits for as long as its connection is configured to (Django: 5 seconds).
    The settings of the connection are afterwards what they were, because the site, or
    pgbouncer, uses it for other work. Raise OperationalError if a lock is held longer.
    """
    connection = connections[alias]
    limits = {"postgresql": _limit_postgresql, "mysql": _limit_mysql}
    limit = limits.get(connection.vendor)
    if limit is None or connection in _limited:
        with transaction.atomic(using=alias):
            yield
        return
    with limit(connection):
        _limited.add(connection)
        try:
            yield
        finally:
            _limited.discard(connection)


@contextmanager
def _limit_postgresql(connection: BaseDatabaseWrapper) -> Iterator[None]:
    is_inner = connection.in_atomic_block
    with transaction.atomic(using=connection.alias):
        before = ""
        with connection.cursor() as cursor:
            if is_inner:
                cursor.execute("SELECT current_setting('lock_timeout')")
                [before] = cursor.fetchone()
            # LOCAL: until the end of the transaction, or the rollback to a savepoint.
            cursor.execute(f"SET LOCAL lock_timeout = '{MAX_LOCK_WAIT}s'")
        yield
        if is_inner:
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = %s", [before])


@contextmanager
def _limit_mysql(connection: BaseDatabaseWrapper) -> Iterator[None]:
    with connection.cursor() as cursor:
        # The first is for the definition of a table, the second for rows.
        cursor.execute(
            "SET @turbosmtp_table = @@lock_wait_timeout,"
            " @turbosmtp_row = @@innodb_lock_wait_timeout,"
            f" lock_wait_timeout = {MAX_LOCK_WAIT},"
            f" innodb_lock_wait_timeout = {MAX_LOCK_WAIT}"
        )
    try:
        with transaction.atomic(using=connection.alias):
            yield
    finally:
        # By the driver: Django refuses a statement in a broken transaction. A lost
        # connection, on which it fails, has its settings no more.
        driver: Any = connection.connection
        with suppress(Exception), driver.cursor() as cursor:
            cursor.execute(
                "SET lock_wait_timeout = @turbosmtp_table,"
                " innodb_lock_wait_timeout = @turbosmtp_row"
            )


def lock_messages(messages: QuerySet[Message]) -> None:
    """Lock the rows of messages in key order, so that two processes cannot deadlock.

    Whoever changes a message or what belongs to it locks the message first. SQLite has
    one writer, and no locks of rows.
    """
    if connections[messages.db].features.has_select_for_update:
        list(messages.order_by("pk").select_for_update().values_list("pk", flat=True))
