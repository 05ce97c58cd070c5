"""Statements that find the recipient of an event, and update statuses.

They are written in SQL because turboSMTP may post events one by one, and Django needs
longer to build such a statement than the database to run it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from django.db import connections

from django_turbosmtp.models import Message, Recipient
from django_turbosmtp.statuses import COMBINED_ORDER, Status

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

#: Statuses that any event replaces: the outcome was unknown, or recorded wrongly.
WITHOUT_RANK = [s for s in Status if s.rank is None and not s.is_final]

_RANKED = " ".join(
    f"WHEN '{s}' THEN {number}" for number, s in enumerate(COMBINED_ORDER)
)
_NAMED = " ".join(
    f"WHEN {number} THEN '{s}'" for number, s in enumerate(COMBINED_ORDER)
)


class Candidate(NamedTuple):
    """A recipient who may be that of an event."""

    pk: int
    message_id: UUID
    position: int
    address: str
    mid: str
    status: str
    outcome: str


class Statements:
    """The statements of one database."""

    def __init__(self, alias: str) -> None:
        self._connection = connections[alias]
        quote = self._connection.ops.quote_name
        self._message = quote(Message._meta.db_table)
        self._recipient = quote(Recipient._meta.db_table)
        self._position = quote("position")

    def find_by_mid(self, mids: Collection[str]) -> Iterable[Candidate]:
        """Return the recipients of the requests with these message ids."""
        sql = (
            f"SELECT r.id, r.message_id, r.{self._position}, r.address, r.mid,"  # noqa: S608
            f" r.status, m.outcome FROM {self._recipient} r"
            f" JOIN {self._message} m ON m.id = r.message_id"
            f" WHERE r.mid IN ({_places(mids)})"
        )
        with self._connection.cursor() as cursor:
            cursor.execute(sql, list(mids))
            rows: list[Any] = cursor.fetchall()
        return [Candidate(row[0], _read_uuid(row[1]), *row[2:]) for row in rows]

    def _write_keys(self, keys: Collection[UUID]) -> list[Any]:
        field: Any = Message._meta.pk
        return [field.get_db_prep_value(key, self._connection) for key in keys]

    def raise_recipients(self, keys: Sequence[int], status: Status) -> None:
        """Set recipients to a status, except those whose status ranks as high."""
        lower = list_lower(status)
        sql = (
            f"UPDATE {self._recipient} SET status = %s"  # noqa: S608
            f" WHERE id IN ({_places(keys)}) AND status IN ({_places(lower)})"
        )
        with self._connection.cursor() as cursor:
            cursor.execute(sql, [status.value, *keys, *lower])

    def summarise(self, keys: Collection[UUID]) -> None:
        """Compute the statuses of messages from those of their recipients.

        Recipients that were left out before the send do not count.
        """
        ids = self._write_keys(keys)
        sql = (
            f"UPDATE {self._message} SET status = COALESCE(CASE (SELECT MIN("  # noqa: S608
            f"CASE r.status {_RANKED} END) FROM {self._recipient} r"
            f" WHERE r.message_id = {self._message}.id"
            f" AND NOT (r.status = '{Status.REJECTED}' AND r.mid = ''))"
            f" {_NAMED} END, status) WHERE id IN ({_places(ids)})"
            # The queue will send it to these later; until then, it has no result.
            f" AND NOT EXISTS (SELECT 1 FROM {self._recipient} q WHERE"
            f" q.message_id = {self._message}.id AND q.status = '{Status.QUEUED}')"
        )
        with self._connection.cursor() as cursor:
            cursor.execute(sql, ids)


def list_lower(status: Status) -> list[str]:
    """Return the statuses that this status of an event replaces."""
    return [other.value for other in Status if status.can_replace(other)]


def _places(values: Collection[object]) -> str:
    return ", ".join(["%s"] * len(values))


def _read_uuid(value: Any) -> UUID:
    # It is text if the database has no type for UUIDs.
    return value if isinstance(value, UUID) else UUID(value)
