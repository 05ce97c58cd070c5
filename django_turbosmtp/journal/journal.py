"""Writes the log, in few statements, and never in the way of the mail.

Whatever fails here is logged and goes no further: the mail is sent without its row.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import DataError, IntegrityError, router, transaction

from django_turbosmtp._text import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from django_turbosmtp.conf import Settings
    from django_turbosmtp.journal.entries import Conclusion, Entry

logger = logging.getLogger("django_turbosmtp.journal")

#: Whether a record of ours is being logged: a site may mail it through this backend,
#: and the failure of that mail's own row must not make another.
_reporting: ContextVar[bool] = ContextVar("turbosmtp_reporting", default=False)


def open_journal(settings: Settings) -> Journal | None:
    """Return what writes the log, None where nothing is to be written."""
    if settings.log and apps.is_installed("django_turbosmtp"):
        return Journal(settings)
    return None


class Journal:
    """The log of one call of ``send_messages()``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._written: set[UUID] = set()

    def begin(self, entries: Sequence[Entry]) -> None:
        """Write the rows of messages that are about to leave, or will not."""
        if entries:
            self._attempt(lambda: self._insert(entries), "before the send")

    def conclude(self, conclusions: Sequence[Conclusion]) -> None:
        """Write what became of those that `begin` wrote as about to leave."""
        if conclusions:
            self._attempt(lambda: self._update(conclusions), "after the send")
        self._written.clear()

    def _insert(self, entries: Sequence[Entry]) -> None:
        # Here, since models cannot be imported where the app is not installed.
        from django_turbosmtp.journal import rows, statements

        built = [
            rows.build_rows(entry, keep_body=self._keeps_body(entry))
            for entry in entries
        ]
        with transaction.atomic(using=self._alias):
            statements.insert_rows(built, self._alias)
        self._written |= {entry.id for entry in entries}

    def _update(self, conclusions: Sequence[Conclusion]) -> None:
        missing = [c.entry for c in conclusions if c.entry.id not in self._written]
        if missing:
            self._insert(missing)
        from django_turbosmtp.journal import statements

        kept = [c for c in conclusions if self._keeps_body(c.entry)]
        with transaction.atomic(using=self._alias):
            statements.update_messages(conclusions, self._alias)
            statements.update_recipients(conclusions, self._alias)
            statements.insert_payloads(kept, self._alias)

    def _keeps_body(self, entry: Entry) -> bool:
        return self._settings.log_body and keeps_body(entry.message)

    @property
    def _alias(self) -> str:
        from django_turbosmtp.models import Message

        return self._settings.log_using or router.db_for_write(Message)

    def _attempt(self, write: Callable[[], None], when: str) -> None:
        try:
            write()
        except Exception as error:  # noqa: BLE001 - whatever it is, the mail goes on
            report_failure(error, when)


def keeps_body(message: Any) -> bool:
    """Tell whether the message lets its body be kept (``email.log_body``)."""
    return getattr(message, "log_body", True) is not False


def report_failure(error: Exception, when: str) -> None:
    """Log that the log could not be written, unless it is such a record's own mail."""
    if _reporting.get():
        return
    # What a database says of wrong data repeats the data.
    says_data = isinstance(error, (DataError, IntegrityError))
    text = "" if says_data else shorten(str(error).partition("\n")[0])
    token = _reporting.set(True)
    try:
        logger.error(
            "The log could not be written %s; the mail is not affected. %s: %s",
            when,
            type(error).__name__,
            text,
        )
    finally:
        _reporting.reset(token)
