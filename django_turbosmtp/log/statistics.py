"""Counts messages by status, time, mailer and tag, using only indexes."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from django.db.models import Count, IntegerField, Value

from django_turbosmtp._lib.times import make_aware
from django_turbosmtp._lib.versions import find_uuid7_floor
from django_turbosmtp.models import Tag
from django_turbosmtp.statuses import Group, Stage, Status

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Sequence

    from django.db.models import QuerySet

    from django_turbosmtp.models import Message

#: Count this many parts in one statement.
_PARTS = 50

#: The key of a message is made before its row, but hardly ever this long before.
_SLACK = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A span of time: from ``start`` until just before ``end``."""

    start: datetime.datetime
    end: datetime.datetime


Counts = dict[Group, int]


def count_by_time(
    messages: QuerySet[Message], intervals: Sequence[Interval]
) -> list[Counts]:
    """Return for each interval the number of messages of each status group."""
    parts = [
        messages.filter(created_at__gte=one.start, created_at__lt=one.end)
        for one in intervals
    ]
    return _count_each(parts)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How many of the accepted messages reached a stage: ``number`` of ``total``."""

    stage: Stage
    number: int
    total: int

    @property
    def percentage(self) -> Decimal:
        """The share, from 0 to 100, rounded to one decimal place."""
        exact = Decimal(100 * self.number) / self.total
        return exact.quantize(Decimal("0.1"), ROUND_HALF_UP)


def count_rates(messages: QuerySet[Message], since: datetime.datetime) -> list[Rate]:
    """Return, for each stage, how many messages since a given time reached it.

    A later stage implies the earlier ones: an opened message was delivered. Programs
    open messages before people do, so opens are counted with and without programs.
    """
    recent = messages.filter(created_at__gte=since).order_by()
    counted = dict(recent.values_list("status").annotate(n=Count("pk")))
    total = sum(n for status, n in counted.items() if Status(status).is_at_turbosmtp)
    if total == counted.get(Status.SENT, 0):
        return []
    return [
        Rate(
            stage=stage,
            number=sum(counted.get(status, 0) for status in stage.statuses),
            total=total,
        )
        for stage in Stage
    ]


def count_by_value(
    messages: QuerySet[Message],
    field: str,
    values: Sequence[str],
    since: datetime.datetime,
) -> dict[str, Counts]:
    """Return the counts since a given time for each value of a field."""
    recent = messages.filter(created_at__gte=since)
    found = _count_each([recent.filter(**{field: value}) for value in values])
    return dict(zip(values, found, strict=True))


def count_by_tag(
    messages: QuerySet[Message], names: Sequence[str], since: datetime.datetime
) -> dict[str, Counts]:
    """Return the counts since a given time for each campaign or tag."""
    counted = count_by_value(messages, "campaign", names, since)
    # Tags have no time, but their messages' keys do.
    floor = find_uuid7_floor(make_aware(since - _SLACK).timestamp())
    rows = Tag.objects.using(messages.db).filter(
        name__in=names,
        message_id__gte=floor,
        message__in=messages.order_by().filter(created_at__gte=since),
    )
    tagged = rows.values_list("name", "message__status").annotate(n=Count("pk"))
    for name, status, number in tagged.order_by():
        if name in counted:
            group = Status(status).group
            counted[name][group] = counted[name].get(group, 0) + number
    return counted


def _count_each(parts: Sequence[QuerySet[Message]]) -> list[Counts]:
    """Return the number of messages of each status group, for each of ``parts``."""
    found: dict[int, Counter[Group]] = defaultdict(Counter)
    for start in range(0, len(parts), _PARTS):
        some = [
            part.order_by()
            .annotate(part=Value(number, output_field=IntegerField()))
            .values_list("part", "status")
            .annotate(n=Count("*"))
            for number, part in enumerate(parts[start : start + _PARTS], start)
        ]
        # Remove the ordering: Django 6.1 adds that of the model to a union.
        rows: Iterable[Any] = some[0].union(*some[1:], all=True).order_by()
        for number, status, count in rows:
            found[number][Status(status).group] += count
    return [dict(found[number]) for number in range(len(parts))]
