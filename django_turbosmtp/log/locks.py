"""Transactions with a time limit for locks, and locks in a fixed order.

A migration may hold a lock on the log's tables for minutes, and mail must not wait.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from django.db import connections, transaction
from django.db.models import signals

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import QuerySet

    from django_turbosmtp.models import Message

#: Wait at most this many seconds for a lock.
MAX_LOCK_WAIT = 2


#: Connections whose waits are limited at the moment.
_limited: WeakSet[BaseDatabaseWrapper] = WeakSet()


@contextmanager
def begin(
    alias: str, *, writes: bool = True, limits_wait: bool = True
) -> Iterator[None]:
    """Begin a transaction, or a savepoint, that waits `MAX_LOCK_WAIT` for each lock.

    SQLite waits for as long as its connection is configured to (Django: 5 seconds).
    The settings of the connection are restored, because the site or pgbouncer uses it
    for other work. Raise OperationalError if a lock is held longer.
    """
    connection = connections[alias]
    limits = {"postgresql": _limit_postgresql, "mysql": _limit_mysql}
    limit = limits.get(connection.vendor)
    if limit is None or connection in _limited or not limits_wait:
        with transaction.atomic(using=alias):
            if (
                connection.vendor == "sqlite"
                and writes
                and not _locks_at_once(connection)
            ):
                _lock_sqlite(connection)
            yield
        return
    with limit(connection):
        _limited.add(connection)
        try:
            yield
        finally:
            _limited.discard(connection)


def _locks_at_once(connection: BaseDatabaseWrapper) -> bool:
    """Return whether each transaction waits for the write lock when it begins."""
    return getattr(connection, "transaction_mode", None) in {"IMMEDIATE", "EXCLUSIVE"}


def _lock_sqlite(connection: BaseDatabaseWrapper) -> None:
    """Wait for the write lock immediately, with a statement without effect.

    A transaction that has read does not wait for it, but fails if another one writes
    (https://www.sqlite.org/lang_transaction.html, "Deferred").
    """
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM turbosmtp_message WHERE 0")


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
def _limit_mysql(connection: Any) -> Iterator[None]:
    with connection.cursor() as cursor:
        # The first is for table definitions, the second for rows.
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
        # With the driver's cursor, because Django refuses statements in a broken
        # transaction. It fails if the connection was lost, and its settings with it.
        # Other exceptions, as of a signal handler, are not hidden.
        driver = connection.connection
        if driver is not None:
            with suppress(connection.Database.Error), driver.cursor() as cursor:
                cursor.execute(
                    "SET lock_wait_timeout = @turbosmtp_table,"
                    " innodb_lock_wait_timeout = @turbosmtp_row"
                )


def lock_messages(messages: QuerySet[Message]) -> set[UUID]:
    """Lock the rows of messages in key order, and return the keys that exist.

    Code that changes a message or a row that belongs to it locks the message first, so
    that two processes cannot deadlock. SQLite has no row locks: there, `begin` waits
    until no other process writes.
    """
    rows = messages.order_by("pk").select_for_update()
    return set(rows.values_list("pk", flat=True))


def delete_messages(messages: QuerySet[Message]) -> None:
    """Delete messages and the rows that belong to them.

    Only the keys are read, unless the site has a receiver that may use other fields:
    after the deletion, deferred fields cannot be loaded.
    """
    receivers = (signals.pre_delete, signals.post_delete)
    if not any(signal.has_listeners(messages.model) for signal in receivers):
        messages = messages.only("pk")
    messages.delete()
