"""Writes the log, with few statements. Its errors do not prevent a send.

They are logged, and the mail is sent without its row.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import (
    DatabaseError,
    DataError,
    IntegrityError,
    connections,
    transaction,
)

from django_turbosmtp._lib.interrupts import raise_interrupt
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp.conf.log import choose_log_database, has_log
from django_turbosmtp.conf.webhook import has_webhook
from django_turbosmtp.log.connection import describe_error, is_manual, run_statements
from django_turbosmtp.log.locks import begin
from django_turbosmtp.log.storable import WIDTHS, is_about_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from uuid import UUID

    from django_turbosmtp.conf.settings import Settings
    from django_turbosmtp.log.entries import Entry, OutcomeEntry

    JoinEvents = Callable[[Sequence[str], Sequence[str], str], None]

logger = get_logger("django_turbosmtp.log")


class Kept(NamedTuple):
    """Whether the payload of a message may be stored, and if so, after acceptance."""

    refused: bool
    accepted: bool


#: After this many refused rows in a row, assume that the database is at fault.
MAX_REFUSED_IN_A_ROW = 5

#: Write at most this many times. The caller waits meanwhile.
_ATTEMPTS = 2


def open_log(
    settings: Settings, join_events: JoinEvents | None = None
) -> LogWriter | None:
    """Return the writer of the log, or None if the log is off or not installed.

    ``join_events`` is called after outcomes are committed, with their message ids, the
    reference ids of messages without a message id, and the alias of the database.
    """
    if settings.log and has_log():
        return LogWriter(settings, join_events)
    return None


class LogWriter:
    """The log of one call of ``send_messages()``."""

    def __init__(
        self, settings: Settings, join_events: JoinEvents | None = None
    ) -> None:
        self._settings = settings
        self._join_events = join_events
        self._written: dict[UUID, Kept] = {}
        # Assume that the database stores all of Unicode, until it refuses a text.
        self._width = WIDTHS[0]

    def insert(self, entries: Sequence[Entry]) -> None:
        """Write the rows of messages that are about to be sent, or will not be."""
        if entries:
            self._write_or_report(lambda: self._insert_each(entries), "before the send")

    def has_written(self, key: UUID) -> bool:
        """Return whether `insert` wrote the row with this key."""
        return key in self._written

    def insert_or_raise(
        self, entries: Callable[[], Iterable[Entry]], also: Callable[[str], None]
    ) -> None:
        """Write the rows of messages, and what ``also`` writes, in one transaction.

        ``entries`` is called again for every attempt: they need not be kept. ``also``
        is called with the alias of the database. Raise its errors and those of the
        database; nothing is written then.
        """

        def write() -> None:
            with begin(self._alias):
                self._insert_rows(entries())
                also(self._alias)

        run_statements(lambda: self._write_narrower(write), self._alias)

    def adopt(self, key: UUID, *, stores_payload: bool) -> None:
        """Treat a row that another process wrote as one that `insert` wrote."""
        # Its payload is stored already, and is only deleted.
        self._written[key] = Kept(refused=stores_payload, accepted=False)

    def update(
        self,
        outcomes: Sequence[OutcomeEntry],
        also: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Write the outcomes of messages whose rows `insert` wrote.

        ``also`` writes in the same transaction (see `insert_or_raise`).
        """
        if outcomes:
            self._write_or_report(
                lambda: self._update(outcomes, also), "after the send"
            )
        for outcome_entry in outcomes:
            self._written.pop(outcome_entry.entry.id, None)

    def _insert_each(self, entries: Sequence[Entry]) -> None:
        """Insert the missing rows; one by one if the database refuses any.

        Raise the error of the last row that could not be inserted.
        """
        # A retry after a lost connection must not insert rows again that were
        # committed.
        entries = [entry for entry in entries if entry.id not in self._written]
        try:
            self._insert(entries)
        except (DataError, IntegrityError) as error:
            # Otherwise one row may be at fault, and the others are inserted one by one.
            if len(entries) == 1 or self._may_narrow(error):
                raise
        else:
            return
        failure: DatabaseError | None = None
        in_a_row = 0
        for entry in entries:
            try:
                self._insert([entry])
                in_a_row = 0
            except (DataError, IntegrityError) as error:
                failure, in_a_row = error, in_a_row + 1
                if in_a_row == MAX_REFUSED_IN_A_ROW:
                    break
        if failure is not None:
            raise failure

    def _insert(self, entries: Sequence[Entry]) -> None:
        with begin(self._alias):
            built = self._insert_rows(entries)
        self._written |= built

    def _insert_rows(self, entries: Iterable[Entry]) -> dict[UUID, Kept]:
        """Insert rows in a transaction; return which messages may keep a payload."""
        # Imported late: models cannot be imported if the app is not installed.
        from django_turbosmtp.log import files, rows, statements

        built = [
            rows.build_rows_safely(
                entry,
                store_body=self._settings.log_body and stores_body(entry.message),
                width=self._width,
                redact=self._settings.log_redact,
            )
            for entry in entries
        ]
        if self._settings.log_attachments:
            files.store_files([r for r in built if r.stores_body], self._alias)
        kept: dict[UUID, Kept] = {}
        for r in built:
            stores_all = not r.attachments or self._settings.log_attachments
            is_mime = bool(r.message["why_mime"]) and r.stores_payload
            if r.content is not None:
                r.content["keeps_payload"] = is_mime and stores_all
            kept[r.message["id"]] = Kept(
                refused=r.stores_payload, accepted=is_mime and stores_all
            )
        statements.insert_rows(built, self._alias)
        return kept

    def _update(
        self, outcomes: Sequence[OutcomeEntry], also: Callable[[str], None]
    ) -> None:
        from django_turbosmtp.log import statements

        failure = self._insert_missing(outcomes)
        # A message without a row was sent, and its outcome is in turbosmtp_status and
        # the logs.
        there = [c for c in outcomes if c.entry.id in self._written]
        storing = [c for c in there if self._written[c.entry.id].refused]
        if there:
            with begin(self._alias):
                statements.update_messages(there, self._alias, self._width)
                statements.update_recipients(there, self._alias)
                payloads = [
                    (c.entry.id, c.payload)
                    for c in storing
                    if c.payload
                    and (c.error is not None or self._written[c.entry.id].accepted)
                ]
                statements.insert_payloads(payloads, self._alias)
                statements.delete_payloads(there, self._alias)
                statements.insert_attempts(there, storing, self._alias, self._width)
                also(self._alias)
        # Use the functions of all mailers, because they share one webhook.
        join = self._join_events
        if join and there and (self._settings.webhook_secret or has_webhook()):
            mids = {result.mid for c in there for result in c.results if result.mid}
            references = {c.entry.attributes.reference_id for c in there if not c.mid}
            # Events may have arrived before this transaction made the ids known.
            work = partial(join, sorted(mids), sorted(references), self._alias)
            if is_manual(connections[self._alias]):
                # Django does not notice when the caller commits.
                work()
            else:
                transaction.on_commit(work, self._alias, robust=True)
        if failure is not None:
            raise failure

    def _insert_missing(self, outcomes: Sequence[OutcomeEntry]) -> Exception | None:
        """Insert rows that could not be inserted before the send; return the error.

        The database may be available again, or only one row may be the cause.
        """
        missing = [c.entry for c in outcomes if c.entry.id not in self._written]
        try:
            if missing:
                self._insert_each(missing)
        except (DataError, IntegrityError) as error:
            if self._may_narrow(error):
                raise
            return error
        return None

    def _write_or_report(self, write: Callable[[], None], when: str) -> None:
        try:
            run_statements(
                lambda: self._write_narrower(write), self._alias, attempts=_ATTEMPTS
            )
        except Exception as error:  # noqa: BLE001 - the mail is sent after any error
            raise_interrupt(error)
            report_failure(error, when)

    @cached_property
    def _alias(self) -> str:
        return choose_log_database()

    def _write_narrower(self, write: Callable[[], None]) -> None:
        """Write, with fewer characters if the database cannot store all of them."""
        while True:
            try:
                write()
            except DatabaseError as error:
                if not self._may_narrow(error):
                    raise
                self._width = WIDTHS[WIDTHS.index(self._width) + 1]
            else:
                return

    def _may_narrow(self, error: DatabaseError) -> bool:
        return is_about_text(error) and self._width != WIDTHS[-1]


def stores_body(message: Any) -> bool:
    """Return whether the body may be stored (``message.log_body`` is not False)."""
    return getattr(message, "log_body", True) is not False


def report_failure(error: Exception, when: str) -> None:
    """Report through Python's logging that the log could not be written."""
    logger.error(
        "The log could not be written %s; the mail is not affected. %s: %s"
        " (If the log's tables are missing: manage.py migrate)",
        when,
        type(error).__name__,
        describe_error(error),
    )
