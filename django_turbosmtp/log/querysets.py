"""The words to ask the log: status groups, tags, people, search.

A database without good statistics (SQLite, MariaDB) has to be told which way is short.
What matches little is found by its own index and then sorted; what matches much is met
soon by walking over the messages in order of time. Both forms are built here, and which
one is taken is decided by counting the matches, up to `FEW`.
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
    Attempt,
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

#: Take the way by their own index to at most this many matches.
FEW = 10_000

#: A message whose process has said nothing for so long needs a look.
STUCK = timedelta(minutes=15)

#: Mail of so long with no event at all: the webhook is not set up, or broken.
SILENCE = timedelta(days=3)
EXPECTED = timedelta(hours=1)

#: Name at most this many mailers, and this many tags.
MAX_KNOWN = 100


def filter_group(queryset: QuerySet[Message], name: str) -> QuerySet[Message]:
    """Return the messages of a group of statuses, none for an unknown group."""
    if name not in set(Group):
        return queryset.none()
    statuses = Group(name).statuses
    if len(statuses) == 1:
        return queryset.filter(status=statuses[0])
    return queryset.filter(status__in=statuses)


#: Of several recipients, a problem that any of them has.
NEED_ATTENTION = [status for status in Status if status.is_problem]


def filter_attention(
    queryset: QuerySet[Message], now: datetime.datetime | None = None
) -> QuerySet[Message]:
    """Return the messages that somebody should look at.

    They failed, bounced or were dropped, for one recipient at least, nobody knows
    whether they arrived, or they are stuck in "sending". One that was sent again is not
    among them: the newer one tells.
    """
    # Whole minutes, so that what was counted a moment ago was the same.
    before = (now or timezone.now()).replace(second=0, microsecond=0) - STUCK
    # Rejected by ourselves, for RECIPIENT_GUARD or SUPPRESS: nothing to look at.
    ours = Q(status=Status.REJECTED) & ~Q(outcome=Outcome.ACCEPTED)
    if connections[queryset.db].vendor != "postgresql":
        # By key, since no index has the outcome: all is then counted in one. PostgreSQL
        # reads the rows quickly, and would look through many keys for each.
        messages = Message.objects.using(queryset.db).order_by()
        ours = Q(pk__in=messages.filter(ours).values("pk"))
    # `queue.due` settles those of the queue, which may have waited for long.
    queued = QueuedMessage.objects.using(queryset.db).filter(message=OuterRef("pk"))
    stuck = Q(status=Status.SENDING, created_at__lt=before) & ~Exists(queued)
    newer = Resend.objects.using(queryset.db).filter(original=OuterRef("pk"))
    return queryset.filter(
        Q(status__in=NEED_ATTENTION) | stuck, ~Exists(newer)
    ).exclude(ours)


def lacks_events(alias: str, now: datetime.datetime | None = None) -> bool:
    """Return whether mail went out for a while, and the webhook was told of nothing."""
    now = now or timezone.now()
    floor = find_uuid7_floor(make_aware(now - SILENCE).timestamp())
    sent = Message.objects.using(alias).filter(
        status=Status.SENT,
        created_at__gte=now - SILENCE,
        created_at__lt=now - EXPECTED,
    )
    told = Event.objects.using(alias).filter(pk__gte=floor)
    return sent.order_by().filter(~Exists(told)).exists()


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
    """Return the messages that went to this address, or were to go there.

    ``count``: about how many there are.
    """
    recipients = Recipient.objects.using(queryset.db).filter(address=address)
    if count <= FEW:
        return queryset.filter(pk__in=recipients.values("message_id"))
    return queryset.filter(_ask_each(recipients))


def search(queryset: QuerySet[Message], term: str) -> QuerySet[Message]:
    """Return what a person may mean: an address, an id, the beginning of a subject."""
    term = term.replace("\0", "").strip()
    alias = queryset.db
    start = shorten_subject(term)
    messages = Message.objects.using(alias).order_by()
    named = Q(reference_id=term) | Q(mid=term)
    recipients = Recipient.objects.using(alias).order_by()
    hers = recipients.filter(Q(address=normalize_address(term)) | Q(mid=term))
    subjects = messages.filter(_starts_with("subject_start", start, alias))
    # One of them alone can be much: nobody's address begins as many subjects do.
    much = hers if "@" in term else subjects
    if count_each_up_to([much], FEW)[0] <= FEW:
        keys = hers.values("message_id"), messages.filter(named).values("pk")
        return _filter_keys(queryset, *keys, subjects.values("pk"))
    # Behind a function, so that no index seems to be of use.
    starts = queryset.alias(_start=Coalesce("subject_start", Value("")))
    return starts.filter(named | Q(_start__startswith=start) | Q(_ask_each(hers)))


def _ask_each(rows: QuerySet[Any]) -> Exists | Coalesce:
    """Return whether any of ``rows`` is of the message, to be asked of each in turn."""
    found = Exists(rows.filter(message=OuterRef("pk")))
    if connections[rows.db].vendor != "mysql":
        return found
    # In a function, or MariaDB makes a table of all ``rows`` before it looks at one.
    return Coalesce(found, Value(False), output_field=BooleanField())


def _filter_keys(
    queryset: QuerySet[Message], first: QuerySet[Any], *others: QuerySet[Any]
) -> QuerySet[Message]:
    """Return the messages whose key any of these queries finds."""
    # In no order: Django 6.1 gives a union that of its model.
    keys = first.union(*others, all=True).order_by()
    if connections[queryset.db].vendor != "mysql":
        return queryset.filter(pk__in=keys)
    # MariaDB asks a UNION anew for each row; a table made of it, once.
    sql, parameters = keys.query.get_compiler(queryset.db).as_sql()
    found = RawSQL(f"SELECT * FROM ({sql}) AS found", parameters)  # noqa: S608, S611
    return queryset.filter(pk__in=found)


def _starts_with(field: str, prefix: str, alias: str) -> Q:
    """Return the condition that the database answers from an index."""
    vendor = connections[alias].vendor
    if vendor == "sqlite":
        # Its LIKE uses no index of Django's; its order is that of the characters.
        return Q(**{f"{field}__gte": prefix, f"{field}__lt": prefix + "\U0010ffff"})
    lookup = "istartswith" if vendor == "mysql" else "startswith"
    return Q(**{f"{field}__{lookup}": prefix})


def read_related(manager: Manager[_Row]) -> QuerySet[_Row]:
    """Return the rows of a related manager, from the database of its instance.

    The manager itself asks the router, which may name a replica.
    """
    instance: Any = manager.instance  # type: ignore[attr-defined]
    return manager.db_manager(instance._state.db).all()


def is_queued(message: Message) -> bool:
    """Return whether a message waits in the queue, or a worker is sending it."""
    rows = QueuedMessage.objects.using(message._state.db)
    return rows.filter(pk=message.pk).exists()


def read_payload(message: Message) -> bytes:
    """Return the JSON that left, without credentials; b"" where it is not kept."""
    pieces = Payload.objects.using(message._state.db).filter(message=message.pk)
    data = pieces.order_by("position").values_list("data", flat=True)
    return b"".join(bytes(piece) for piece in data)


def add_relations(queryset: QuerySet[Message]) -> QuerySet[Message]:
    """Annotate whether a message has a payload, tries, events and resends: few have."""
    alias = queryset.db
    return queryset.annotate(
        has_payload=Exists(Payload.objects.using(alias).filter(message=OuterRef("pk"))),
        has_attempts=Exists(
            Attempt.objects.using(alias).filter(message=OuterRef("pk"))
        ),
        has_events=Exists(Event.objects.using(alias).filter(message=OuterRef("pk"))),
        has_resends=Exists(Resend.objects.using(alias).filter(original=OuterRef("pk"))),
    )


#: Ask for this many values by one statement.
_PARTS = 40


def count_each_up_to(querysets: Sequence[QuerySet[Any]], limit: int) -> list[int]:
    """Return the number of rows of each, at most ``limit + 1``, by one statement."""
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
    """Return the ``mailers`` and ``tags`` that messages have, at most `MAX_KNOWN` each.

    Of a restricted queryset, such as one of a site's own admin, only the values that
    its messages have.
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
    """Return the values that a row of any of the querysets has in its column."""
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

    One statement that jumps from one value to the next in an index. For a DISTINCT the
    databases would walk over every row, MariaDB aside, which walks for anything else.
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
