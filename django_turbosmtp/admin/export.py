"""Exports the log as CSV."""

from __future__ import annotations

import csv
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db.models import Q

from django_turbosmtp._lib.text import write_cell
from django_turbosmtp._lib.times import make_aware

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from django.db.models import QuerySet

    from django_turbosmtp.models import Message

#: A column for each of these fields.
COLUMNS = (
    "id",
    "created_at",
    "concluded_at",
    "status",
    "outcome",
    "from_email",
    "first_recipient",
    "recipient_count",
    "subject",
    "campaign",
    "tags",
    "mailer",
    "reference_id",
    "mid",
    "attempts",
    "error",
)

#: Read this many messages at a time.
_CHUNK = 1_000


class _Echo:
    """A file whose ``write()`` returns the text."""

    def write(self, line: str) -> str:
        return line


def write_csv(queryset: QuerySet[Message]) -> Iterator[str]:
    """Yield the lines of all messages, reading the database in parts.

    The first is a byte order mark, without which Excel assumes another charset.
    """
    writer = csv.writer(_Echo())
    yield "\ufeff"
    yield writer.writerow(COLUMNS)
    for row in _read_in_parts(queryset):
        yield writer.writerow([_write_cell(value) for value in row])


async def iterate_in_thread(lines: Iterator[str]) -> AsyncIterator[str]:
    """Yield the same, `_CHUNK` lines at a time, each read where queries are allowed."""
    read = sync_to_async(lambda: "".join(islice(lines, _CHUNK)))
    while part := await read():
        yield part


def _read_in_parts(queryset: QuerySet[Message]) -> Iterator[tuple[Any, ...]]:
    """Yield the columns of each message, the newest or the oldest first.

    Each part is read by a statement that continues after the last one: with a single
    statement, MariaDB's client would load all rows, and PostgreSQL's would need a
    transaction.
    """
    is_rising = queryset.query.order_by[:1] == ("created_at",)
    order = ("created_at", "id") if is_rising else ("-created_at", "-id")
    beyond = "gt" if is_rising else "lt"
    rows = queryset.order_by(*order).values_list(*COLUMNS)
    part = rows
    while True:
        found = list(part[:_CHUNK])
        yield from found
        if len(found) < _CHUNK:
            return
        key, moment = found[-1][:2]
        at_once = Q(created_at=moment, **{f"id__{beyond}": key})
        part = rows.filter(
            # Only this condition determines where the index is read.
            Q(**{f"created_at__{beyond}e": moment}),
            Q(**{f"created_at__{beyond}": moment}) | at_once,
        )


def _write_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return make_aware(value).isoformat()
    if isinstance(value, (list, dict)):
        value = ", ".join(map(str, value))
    return str(value) if isinstance(value, int) else write_cell(str(value))
