"""The statements of the log: their number is the same for one message and for many.

There are more if a database supports few parameters (SQLite on Django 5.2: 999), and
for large bodies, because a statement must fit in a packet.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import connections
from django.db.models import (
    Case,
    CharField,
    F,
    OuterRef,
    Subquery,
    Value,
    When,
)
from django.db.models.expressions import RawSQL

from django_turbosmtp._lib.times import make_storable
from django_turbosmtp.log.inserts import insert_values
from django_turbosmtp.log.rows import describe_error, name_class
from django_turbosmtp.log.storable import Cleaner
from django_turbosmtp.models import (
    Attachment,
    Attempt,
    Content,
    Message,
    Payload,
    Recipient,
    Tag,
)
from django_turbosmtp.statuses import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from uuid import UUID

    from django_turbosmtp.log.entries import OutcomeEntry
    from django_turbosmtp.log.rows import Row, Rows

_Row = TypeVar("_Row")

#: Put at most this many bytes of bodies into one statement: databases limit the size of
#: packets (16 MB on MariaDB, less on older MySQL).
MAX_STATEMENT_BYTES = 4 * 2**20

#: Store a payload in pieces of this many bytes.
PIECE_BYTES = 2**20


#: Write accepted messages with one statement for each number of attempts, unless there
#: are more statements than this.
_MAX_GROUPS = 3

#: The outcome of a send replaces these statuses. Another process (`queue.due`) may have
#: set a message that took too long to unknown.
_OPEN = [Status.SENDING, Status.UNKNOWN]

_OUTCOME_FIELDS = [
    "status",
    "outcome",
    "mid",
    "attempts",
    "concluded_at",
    "error",
    "error_class",
]


def insert_rows(rows: Sequence[Rows], alias: str) -> None:
    """Insert all rows of these messages."""
    insert_values(Message, [r.message for r in rows], alias)
    insert_values(Recipient, [row for r in rows for row in r.recipients], alias)
    insert_values(Tag, [row for r in rows for row in r.tags], alias)
    contents = [r.content for r in rows if r.content is not None]
    for group in _group_by_bytes(contents, _measure_content):
        insert_values(Content, group, alias)
    insert_values(Attachment, [row for r in rows for row in r.attachments], alias)


def update_messages(outcomes: Sequence[OutcomeEntry], alias: str, width: int) -> None:
    """Write the outcome of each message.

    Most are accepted on the first attempt, and differ only in their ids.
    """
    messages = Message.objects.using(alias)
    plain, others = _split(
        outcomes,
        lambda c: c.outcome == Outcome.ACCEPTED and c.error is None and c.mid,
    )
    same: dict[tuple[str, int], list[OutcomeEntry]] = defaultdict(list)
    for outcome_entry in plain:
        same[outcome_entry.status, outcome_entry.attempts].append(outcome_entry)
    # One statement for each number of attempts: few, unless MAX_RETRIES is large.
    if len(same) > _MAX_GROUPS:
        same, others = {}, list(outcomes)
    for group in same.values():
        for part in _cut_by_values(group, alias):
            messages.filter(pk__in=[c.entry.id for c in part]).update(
                # An event may have arrived earlier, with a higher status.
                status=Case(
                    When(status__in=_OPEN, then=Value(part[0].status)),
                    default=F("status"),
                ),
                outcome=part[0].outcome,
                attempts=part[0].attempts,
                concluded_at=part[0].concluded_at,
                # A queued message has the error of an earlier attempt.
                error="",
                error_class="",
                mid=_choose_mid(part, alias),
            )
    if others:
        messages.filter(status__in=_OPEN).bulk_update(
            [_build_outcome(c, width) for c in others], _OUTCOME_FIELDS
        )


def _choose_mid(outcomes: Sequence[OutcomeEntry], alias: str) -> RawSQL:
    """Return the expression that chooses each message's id by its key.

    ``bulk_update()`` would write the same, but needs ten times as much CPU.
    """
    connection = connections[alias]
    key: Any = Message._meta.pk
    quote = connection.ops.quote_name
    column = f"{quote(Message._meta.db_table)}.{quote(key.column)}"
    values: list[Any] = []
    for outcome_entry in outcomes:
        values += [
            key.get_db_prep_value(outcome_entry.entry.id, connection),
            outcome_entry.mid,
        ]
    cases = " ".join(["WHEN %s THEN %s"] * len(outcomes))
    return RawSQL(f"CASE {column} {cases} END", values, output_field=CharField())  # noqa: S611


def _cut_by_values(
    outcomes: list[OutcomeEntry], alias: str
) -> Iterator[list[OutcomeEntry]]:
    """Yield parts for one statement, which has 3 parameters for each, and 10 more."""
    limit = connections[alias].features.max_query_params
    size = (limit - 10) // 3 if limit else len(outcomes)
    for start in range(0, len(outcomes), size):
        yield outcomes[start : start + size]


def _build_outcome(outcome_entry: OutcomeEntry, width: int) -> Message:
    return Message(
        id=outcome_entry.entry.id,
        status=outcome_entry.status,
        outcome=outcome_entry.outcome,
        mid=outcome_entry.mid,
        attempts=outcome_entry.attempts,
        concluded_at=outcome_entry.concluded_at,
        error=describe_error(outcome_entry.error, width),
        error_class=name_class(outcome_entry.error),
    )


def update_recipients(outcomes: Sequence[OutcomeEntry], alias: str) -> None:
    """Write the results for the recipients of all requests."""
    waiting = Recipient.objects.using(alias).filter(status__in=_OPEN)
    uniform, mixed = _split(outcomes, lambda c: c.is_uniform)
    by_status: dict[str, list[OutcomeEntry]] = defaultdict(list)
    for outcome_entry in uniform:
        by_status[outcome_entry.results[0].status].append(outcome_entry)
    # The id of the message, which was just written in the same transaction.
    same = Subquery(Message.objects.filter(pk=OuterRef("message_id")).values("mid"))
    for status, group in by_status.items():
        mid = same if len(group) > 1 else group[0].results[0].mid
        ids = [outcome_entry.entry.id for outcome_entry in group]
        waiting.filter(message__in=ids).update(status=status, mid=mid)
    if mixed:
        _update_one_by_one(mixed, alias)


def _update_one_by_one(outcomes: Sequence[OutcomeEntry], alias: str) -> None:
    results = {
        (outcome_entry.entry.id, result.position): result
        for outcome_entry in outcomes
        for result in outcome_entry.results
    }
    recipients = Recipient.objects.using(alias).filter(status__in=_OPEN)
    rows = []
    ids = [outcome_entry.entry.id for outcome_entry in outcomes]
    for row in recipients.filter(message__in=ids).only("message_id", "position"):
        if result := results.get((row.message_id, row.position)):
            row.status, row.mid = result.status, result.mid
            rows.append(row)
    recipients.bulk_update(rows, ["status", "mid"])


def insert_payloads(
    payloads: Iterable[tuple[UUID, Iterable[bytes]]], alias: str
) -> None:
    """Store whole payloads: pairs of a message's key and the pieces of its JSON."""
    rows: Iterator[Row] = (
        {"message_id": key, "position": position, "data": data}
        for key, payload in payloads
        for position, data in enumerate(_cut(payload))
    )
    for group in _group_by_bytes(rows, lambda row: len(row["data"])):
        insert_values(Payload, group, alias)


def delete_payloads(outcomes: Sequence[OutcomeEntry], alias: str) -> None:
    """Delete the stored payloads that are no longer needed."""
    ids = [c.entry.id for c in outcomes if c.drops_payload]
    if ids:
        Payload.objects.using(alias).filter(message__in=ids).delete()


def insert_attempts(
    outcomes: Sequence[OutcomeEntry],
    stored: Sequence[OutcomeEntry],
    alias: str,
    width: int,
) -> None:
    """Write the attempts of messages that were not accepted on the first attempt.

    Answers are only written for those in ``stored``, because they may repeat the
    message.
    """
    may_store = {outcome_entry.entry.id for outcome_entry in stored}
    clean = Cleaner(width).clean_text
    rows = [
        {
            "message_id": outcome_entry.entry.id,
            "position": position,
            "began_at": make_storable(made.began_at),
            "seconds": made.seconds,
            "recipients": clean(made.recipients),
            "status_code": made.status_code,
            "error": describe_error(made.error, width),
            "error_class": name_class(made.error),
            "answer": clean(made.answer) if outcome_entry.entry.id in may_store else "",
        }
        for outcome_entry in outcomes
        for position, made in enumerate(
            outcome_entry.history, outcome_entry.first_position
        )
    ]
    insert_values(Attempt, rows, alias)


def _measure_content(row: Row) -> int:
    # An upper limit: a character has at most four bytes.
    texts: tuple[str, str] = row["text"], row["html"]
    return sum(len(t) if t.isascii() else 4 * len(t) for t in texts)


def _group_by_bytes(
    rows: Iterable[_Row], measure: Callable[[_Row], int]
) -> Iterator[list[_Row]]:
    """Yield the rows in lists that are small enough for one statement."""
    group: list[_Row] = []
    size = 0
    for row in rows:
        bytes_of_row = measure(row)
        if group and size + bytes_of_row > MAX_STATEMENT_BYTES:
            yield group
            group, size = [], 0
        group.append(row)
        size += bytes_of_row
    if group:
        yield group


def _cut(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in pieces of `PIECE_BYTES`."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        while len(buffer) >= PIECE_BYTES:
            yield bytes(buffer[:PIECE_BYTES])
            del buffer[:PIECE_BYTES]
    if buffer:
        yield bytes(buffer)


def _split(
    outcomes: Iterable[OutcomeEntry], test: Callable[[OutcomeEntry], object]
) -> tuple[list[OutcomeEntry], list[OutcomeEntry]]:
    """Return those that pass the test, and the others."""
    passed: list[OutcomeEntry] = []
    others: list[OutcomeEntry] = []
    for outcome_entry in outcomes:
        (passed if test(outcome_entry) else others).append(outcome_entry)
    return passed, others
