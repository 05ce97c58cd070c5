"""Loggers that cannot cause a loop of records, or make a send fail.

Sites send their log records by e-mail, through Django's ``AdminEmailHandler`` or a
similar handler, and so through this backend. If the send of such a record were logged
too, that record would be sent in turn, and so on. And an exception of a handler or a
filter would reach the caller of a send whose message was already accepted.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from django_turbosmtp._lib.interrupts import raise_interrupt

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Context variables, so that other threads and async tasks still log.
_handling: ContextVar[bool] = ContextVar("turbosmtp_handling", default=False)
_guarding: ContextVar[bool] = ContextVar("turbosmtp_guarding", default=False)


def get_logger(name: str) -> logging.LoggerAdapter[logging.Logger]:
    """Return the logger of this name, which logs nothing while it handles a record."""
    return _Quiet(logging.getLogger(name))


@contextmanager
def handle_once() -> Iterator[bool]:
    """Yield whether a record may be logged: False while another one is handled.

    Exceptions of a handler or filter are printed, as logging prints its own errors.
    """
    if _handling.get():
        yield False
        return
    token = _handling.set(True)
    try:
        yield True
    except Exception as error:  # noqa: BLE001
        raise_interrupt(error)
        # The conditions of logging's own handleError().
        if logging.raiseExceptions and sys.stderr:
            traceback.print_exc()
    finally:
        _handling.reset(token)


class _Quiet(logging.LoggerAdapter[logging.Logger]):
    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if not self.logger.isEnabledFor(level):
            return
        with handle_once() as may_say:
            if may_say:
                # Report the caller's line in the log record, not this one.
                kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
                self.logger.log(level, msg, *args, **kwargs)


@contextmanager
def guard_records() -> Iterator[None]:
    """Do not let exceptions of a guarded logger's filters reach the caller.

    An exception raised while urllib3 logs an answer would lose the answer.
    """
    token = _guarding.set(True)
    try:
        yield
    finally:
        _guarding.reset(token)


def guard_logger(name: str) -> None:
    """Guard a logger of another package; see `guard_records`."""
    logger = logging.getLogger(name)
    if not any(isinstance(known, _Guard) for known in logger.filters):
        # Insert it before the site's filters, which may raise.
        logger.filters.insert(0, _Guard(name))


class _Guard(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Handle the record here if the logger is guarded."""
        if not _guarding.get():
            return True
        with handle_once() as may_say:
            if may_say:
                # The record is handled here, so let it pass this time.
                token = _guarding.set(False)
                try:
                    logging.getLogger(record.name).handle(record)
                finally:
                    _guarding.reset(token)
        return False
