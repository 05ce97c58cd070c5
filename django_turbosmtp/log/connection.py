"""Runs statements in the log's database, in any state of the connection.

It may be stale, opened before a fork, used in an event loop, or have a broken
transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from django.db import (
    DataError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    connections,
    transaction,
)
from django.db.transaction import TransactionManagementError

from django_turbosmtp._lib.clocks import Clock
from django_turbosmtp._lib.text import shorten
from django_turbosmtp._lib.threads import is_in_event_loop, is_inherited, run_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.backends.base.base import BaseDatabaseWrapper

_Result = TypeVar("_Result")
_View = TypeVar("_View", bound="Callable[..., object]")

#: Run statements this many times in all. Two processes may deadlock, and the database
#: then aborts one of them.
ATTEMPTS = 5

#: Do not try again if the database waited longer than this for a lock (seconds).
LONGEST_WAIT = 1.5

#: MySQL's error numbers whose texts contain no data: no such table, too many
#: connections, access denied, no such database, lock wait, deadlock, no server, server
#: gone, lost.
_WITHOUT_DATA = {1146, 1040, 1045, 1049, 1205, 1213, 2002, 2003, 2006, 2013}


def run_statements(
    work: Callable[[], _Result], alias: str, *, attempts: int = ATTEMPTS
) -> _Result:
    """Call ``work``, which uses the database ``alias``, and return what it returns.

    ``work`` is called again after an error of the connection, so it must be idempotent;
    it should use a transaction. It is not called again inside a transaction of the
    caller, nor if no connection could be opened or a lock was not released in time.
    Raise the exceptions of ``work``, and TransactionManagementError if the caller's
    transaction is broken.
    """
    if is_in_event_loop() or is_inherited(connections[alias]):
        return run_in_thread(lambda: _run(work, alias, attempts))
    return _run(work, alias, attempts)


def exempt_from_atomic_requests(view: _View) -> _View:
    """Exempt a view, which commits its own changes, from ATOMIC_REQUESTS."""
    for alias in connections:
        transaction.non_atomic_requests(using=alias)(view)
    return view


def _run(work: Callable[[], _Result], alias: str, attempts: int) -> _Result:
    connection = connections[alias]
    if connection.in_atomic_block or is_manual(connection):
        if connection.needs_rollback:
            raise TransactionManagementError("The caller's transaction is broken.")
        return work()
    for left in reversed(range(attempts)):
        was_open, started = connection.connection is not None, Clock.monotonic()
        try:
            return work()
        except (InterfaceError, OperationalError):
            never_opened = not was_open and connection.connection is None
            if not left or never_opened:
                raise
            if not _is_usable(connection):
                # The server closed it while it was idle.
                connection.close()
            elif Clock.monotonic() - started > LONGEST_WAIT:
                raise
    raise AssertionError("unreachable")  # pragma: no cover


def is_manual(connection: BaseDatabaseWrapper) -> bool:
    """Return whether the caller commits explicitly, because autocommit is off."""
    is_open = connection.connection is not None
    return is_open and not connection.autocommit and not connection.in_atomic_block


def describe_error(error: Exception) -> str:
    """Return the text of an error, unless it may contain the data of a row."""
    if isinstance(error, (DataError, IntegrityError, InternalError)):
        return "its text is not shown, because it may contain data of the message."
    number = error.args[0] if error.args else None
    if isinstance(number, int) and number not in _WITHOUT_DATA:
        return f"error {number} of the database."
    return shorten(str(error).partition("\n")[0])


def _is_usable(connection: BaseDatabaseWrapper) -> bool:
    return connection.connection is not None and connection.is_usable()
