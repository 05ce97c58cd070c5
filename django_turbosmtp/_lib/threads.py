"""Finds out whether this thread may use its database connection."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import connections

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.backends.base.base import BaseDatabaseWrapper

_Result = TypeVar("_Result")


def is_inherited(connection: BaseDatabaseWrapper) -> bool:
    """Return whether a connection was opened before this process was forked.

    Parent and child would mix their statements on it. Django expects the site to close
    such connections, but a site that only sends mail has no reason to.
    """
    return any(opened is connection.connection for opened in _inherited)


def _note_inherited() -> None:
    opened = (c.connection for c in connections.all(initialized_only=True))
    _inherited.extend(connection for connection in opened if connection is not None)


# Keep a reference, so that they are not closed: the server would end the parent's
# session.
_inherited: list[Any] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_inherited)


def is_in_event_loop() -> bool:
    """Return whether this thread has an event loop, in which Django refuses queries."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def run_in_thread(work: Callable[[], _Result]) -> _Result:
    """Call ``work`` in a thread with its own connections, and return its result."""

    def work_and_close() -> _Result:
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1, thread_name_prefix="turbosmtp-log") as pool:
        return pool.submit(work_and_close).result()
