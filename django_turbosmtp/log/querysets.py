"""Queries for the log: by status group, tag or address, and the search.

SQLite and MariaDB have no good statistics, so the query has to imply the right plan. A
few matches are found by their own index and then sorted. If there are many, reading the
messages in order of time finds some of them soon. Both forms are built here; the number
of matches, counted up to `FEW`, decides.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import BooleanField, Exists, Model, OuterRef, Q, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce
from django.utils import timezone

from django_turbosmtp._lib.times import make_aware
from django_turbosmtp._lib.versions import find_uuid7_floor
from django_turbosmtp.models import (
    Attachment,
    Attempt,
    Content,
    Event,
    Message,
    Payload,
    QueuedMessage,
    Recipient,
    Resend,
    Tag,
    shorten_subject,
)
from django_turbosmtp.payload.addresses import normalize_address
from django_turbosmtp.statuses import Group, Outcome, Status

if TYPE_CHECKING:
    import datetime
    from collections.abc import Sequence

    from django.db.models import Manager, QuerySet

_Row = TypeVar("_Row", bound=Model)

#: Use the own index for at most this many matches.
FEW = 10_000

#: A message that has been "sending" for longer needs attention.
STUCK = timedelta(minutes=15)

#: If mail of the last 3 days (not counting the last hour) has no event at all, the
#: webhook is not set up, or does not work.
SILENCE = timedelta(days=3)
EXPECTED = timedelta(hours=1)

#: List at most this many mailers, and this many tags.
MAX_KNOWN = 100


def filter_group(queryset: QuerySet[Message], name: str) -> QuerySet[Message]:
    """Return the messages of a group of statuses, none for an unknown group."""
    if name not in set(Group):
        return queryset.none()
    statuses = Group(name).statuses
    if len(statuses) == 1:
        return queryset.filter(status=statuses[0])
    return queryset.filter(status__in=statuses)


#: The statuses of messages with a problem, of at least one recipient.
NEED_ATTENTION = [status for status in Status if status.is_problem]


def filter_attention(
    queryset: QuerySet[Message], now: datetime.datetime | None = None
) -> QuerySet[Message]:
    """Return the messages that need attention.

    They failed, bounced or were dropped for at least one recipient, or their outcome is
    unknown, or they are stuck in "sending". A message that was sent again is not
    included: the newer one may be.
    """
    # Whole minutes, so that the count and the list agree.
    before = (now or timezone.now()).replace(second=0, microsecond=0) - STUCK
    # Exclude recipients left out because of RECIPIENT_GUARD or SUPPRESS.
    ours = Q(status=Status.REJECTED) & ~Q(outcome=Outcome.ACCEPTED)
    if connections[queryset.db].vendor != "postgresql":
        # By key, because no index contains the outcome: the rest is then counted in one
        # index. PostgreSQL reads the rows quickly, but would search many keys for each.
        messages = Message.objects.using(queryset.db).order_by()
        ours = Q(pk__in=messages.filter(ours).values("pk"))
    # Exclude those of the queue: `queue.due` settles them, and they may be old.
    queued = QueuedMessage.objects.using(queryset.db).filter(message=OuterRef("pk"))
    stuck = Q(status=Status.SENDING, created_at__lt=before) & ~Exists(queued)
    newer = Resend.objects.using(queryset.db).filter(original=OuterRef("pk"))
    return queryset.filter(
        Q(status__in=NEED_ATTENTION) | stuck, ~Exists(newer)
    ).exclude(ours)


def lacks_events(alias: str, now: datetime.datetime | None = None) -> bool:
    """Return whether mail was sent for a while, but the webhook received no events."""
    now = now or timezone.now()
    floor = find_uuid7_floor(make_aware(now - SILENCE).timestamp())
    sent = Message.objects.using(alias).filter(
        status=Status.SENT,
        created_at__gte=now - SILENCE,
        created_at__lt=now - EXPECTED,
    )
    events = Event.objects.using(alias).filter(pk__gte=floor)
    return sent.order_by().filter(~Exists(events)).exists()


def filter_tag(queryset: QuerySet[Message], name: str) -> QuerySet[Message]:
    """Return the messages with this campaign or tag."""
    name = name.replace("\0", "")
    rows = Tag.objects.using(queryset.db).filter(name=name)
    campaigns = Message.objects.using(queryset.db).filter(campaign=name)
    found, named = count_each_up_to([rows, campaigns], FEW)
    if not found:
        return queryset.filter(campaign=name)
    if found <= FEW and named <= FEW:
        keys = rows.values("message_id"), campaigns.order_by().values("pk")
        return _filter_keys(queryset, *keys)
    return queryset.filter(Q(campaign=name) | Q(_ask_each(rows)))


def filter_address(
    queryset: QuerySet[Message], address: str, *, count: int
) -> QuerySet[Message]:
    """Return the messages to this address.

    ``count``: their approximate number.
    """
    recipients = Recipient.objects.using(queryset.db).filter(address=address)
    if count <= FEW:
        return queryset.filter(pk__in=recipients.values("message_id"))
    return queryset.filter(_ask_each(recipients))


def search(queryset: QuerySet[Message], term: str) -> QuerySet[Message]:
    """Return the messages with this address, id, or beginning of a subject."""
    term = term.replace("\0", "").strip()
    alias = queryset.db
    start = shorten_subject(term)
    messages = Message.objects.using(alias).order_by()
    named = Q(reference_id=term) | Q(mid=term)
    recipients = Recipient.objects.using(alias).order_by()
    matching = recipients.filter(Q(address=normalize_address(term)) | Q(mid=term))
    subjects = messages.filter(_starts_with("subject_start", start, alias))
    # Only one of them can be many: subjects do not begin with an address.
    much = matching if "@" in term else subjects
    if count_each_up_to([much], FEW)[0] <= FEW:
        keys = matching.values("message_id"), messages.filter(named).values("pk")
        return _filter_keys(queryset, *keys, subjects.values("pk"))
    # With a function, the database cannot use the index of this column.
    starts = queryset.alias(_start=Coalesce("subject_start", Value("")))
    return starts.filter(named | Q(_start__startswith=start) | Q(_ask_each(matching)))


def _ask_each(rows: QuerySet[Any]) -> Exists | Coalesce:
    """Return an expression that checks for each message if it has one of ``rows``."""
    found = Exists(rows.filter(message=OuterRef("pk")))
    if connections[rows.db].vendor != "mysql":
        return found
    # Without the function, MariaDB would first make a table of all ``rows``.
    return Coalesce(found, Value(False), output_field=BooleanField())


def _filter_keys(
    queryset: QuerySet[Message], first: QuerySet[Any], *others: QuerySet[Any]
) -> QuerySet[Message]:
    """Return the messages whose key any of these queries finds."""
    # Remove the ordering: Django 6.1 adds that of the model to a union.
    keys = first.union(*others, all=True).order_by()
    if connections[queryset.db].vendor != "mysql":
        return queryset.filter(pk__in=keys)
    # MariaDB would run the UNION again for each row, but makes a derived table once.
    sql, parameters = keys.query.get_compiler(queryset.db).as_sql()
    found = RawSQL(f"SELECT * FROM ({sql}) AS found", parameters)  # noqa: S608, S611
    return queryset.filter(pk__in=found)


def _starts_with(field: str, prefix: str, alias: str) -> Q:
    """Return a condition for which the database uses an index."""
    vendor = connections[alias].vendor
    if vendor == "sqlite":
        # SQLite's LIKE cannot use Django's index, but a range comparison can: it
        # compares by code point.
        return Q(**{f"{field}__gte": prefix, f"{field}__lt": prefix + "\U0010ffff"})
    lookup = "istartswith" if vendor == "mysql" else "startswith"
    return Q(**{f"{field}__{lookup}": prefix})


def read_related(manager: Manager[_Row]) -> QuerySet[_Row]:
    """Return the rows of a related manager, from the database of its instance.

    The manager itself would ask the router, which may choose a replica.
    """
    instance: Any = manager.instance  # type: ignore[attr-defined]
    return manager.db_manager(instance._state.db).all()


def is_queued(message: Message) -> bool:
    """Return whether a message is queued, or a worker is sending it."""
    rows = QueuedMessage.objects.using(message._state.db)
    return rows.filter(pk=message.pk).exists()


def read_payload(message: Message) -> bytes:
    """Return the stored JSON of the request, without credentials; b"" if none."""
    pieces = Payload.objects.using(message._state.db).filter(message=message.pk)
    data = pieces.order_by("position").values_list("data", flat=True)
    return b"".join(bytes(piece) for piece in data)


def add_relations(queryset: QuerySet[Message]) -> QuerySet[Message]:
    """Annotate whether a message is stored completely, and has rows in other tables.

    ``is_complete``: its payload is stored, or its content and all of its attachments
    are, so that it can be rebuilt exactly.
    """
    alias = queryset.db
    payloads = Payload.objects.using(alias).filter(message=OuterRef("pk"))
    exact = Content.objects.using(alias).filter(message=OuterRef("pk"), is_exact=True)
    attachments = Attachment.objects.using(alias).filter(message=OuterRef("pk"))
    return queryset.annotate(
        is_complete=Exists(payloads)
        | (Exists(exact) & ~Exists(attachments.filter(stored=None))),
        has_attempts=Exists(
            Attempt.objects.using(alias).filter(message=OuterRef("pk"))
        ),
        has_events=Exists(Event.objects.using(alias).filter(message=OuterRef("pk"))),
        has_resends=Exists(Resend.objects.using(alias).filter(original=OuterRef("pk"))),
    )


#: Count this many values in one statement.
_PARTS = 40


def count_each_up_to(querysets: Sequence[QuerySet[Any]], limit: int) -> list[int]:
    """Return the number of rows of each, up to ``limit + 1``, with one statement."""
    alias = querysets[0].db
    counts: list[str] = []
    values: list[Any] = []
    for number, queryset in enumerate(querysets):
        rows = queryset.order_by().values("pk")[: limit + 1]
        try:
            sql, parameters = rows.query.get_compiler(alias).as_sql()
        except EmptyResultSet:
            counts.append("0")
            continue
        counts.append(f"(SELECT COUNT(*) FROM ({sql}) AS n{number})")  # noqa: S608
        values += parameters
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(counts)}", values)
        return list(cursor.fetchone())


def list_known(messages: QuerySet[Message]) -> dict[str, list[str]]:
    """Return the ``mailers`` and ``tags`` of messages, at most `MAX_KNOWN` each.

    For a restricted queryset, as of a site's admin class, only the values of its
    messages.
    """
    known = _list_all_known(messages.db)
    query: Any = messages.query
    if not (query.where or query.combinator or query.is_sliced):
        return known
    tags = Tag.objects.using(messages.db).filter(message__in=messages.order_by())
    return {
        "mailers": _keep_found(known["mailers"], [("mailer", messages)]),
        "tags": _keep_found(known["tags"], [("campaign", messages), ("name", tags)]),
    }


def _keep_found(
    values: Sequence[str], sources: Sequence[tuple[str, QuerySet[Any]]]
) -> list[str]:
    """Return the values that occur in a column of any of the querysets."""
    kept: list[str] = []
    for start in range(0, len(values), _PARTS):
        part = values[start : start + _PARTS]
        parts = [rows.filter(**{name: v}) for v in part for name, rows in sources]
        counts = count_each_up_to(parts, 0)
        by_value = zip(*[iter(counts)] * len(sources), strict=True)
        kept += [v for v, found in zip(part, by_value, strict=True) if any(found)]
    return kept


def _list_all_known(alias: str) -> dict[str, list[str]]:
    """Return the mailers and tags in the whole log.

    The statement jumps from one value to the next in an index. With a DISTINCT, SQLite
    and PostgreSQL would read every row. MariaDB jumps only with a DISTINCT.
    """
    sources: dict[str, list[tuple[type[Any], str]]] = {
        "mailers": [(Message, "mailer")],
        "tags": [(Message, "campaign"), (Tag, "name")],
    }
    connection = connections[alias]
    quote = connection.ops.quote_name
    steps: list[str] = []
    picks: list[str] = []
    for kind, columns in sources.items():
        for model, column in columns:
            name = quote(f"v{len(steps)}")
            table, field = quote(model._meta.db_table), quote(column)
            if connection.vendor == "mysql":
                steps.append(
                    f"{name} (value) AS (SELECT DISTINCT {field} FROM {table}"  # noqa: S608
                    f" ORDER BY {field} LIMIT {MAX_KNOWN + 1})"
                )
            else:
                steps.append(
                    f"{name} (value, n) AS (SELECT MIN({field}), 1 FROM {table}"  # noqa: S608
                    f" UNION ALL SELECT (SELECT MIN({field}) FROM {table}"
                    f" WHERE {field} > value), n + 1 FROM {name}"
                    f" WHERE value IS NOT NULL AND n <= {MAX_KNOWN})"
                )
            picks.append(
                f"SELECT '{kind}', value FROM {name} WHERE value IS NOT NULL"  # noqa: S608
            )
    known: dict[str, list[str]] = {kind: [] for kind in sources}
    with connection.cursor() as cursor:
        cursor.execute(f"WITH RECURSIVE {', '.join(steps)} {' UNION ALL '.join(picks)}")
        for kind, value in cursor.fetchall():
            known[kind].append(value)
    return {
        "mailers": sorted(set(known["mailers"]))[:MAX_KNOWN],
        "tags": sorted(set(known["tags"]) - {""})[:MAX_KNOWN],
    }
