"""The dashboard: statistics of a period by hour or day, mailer, campaign and tag."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.utils import formats, timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_turbosmtp.admin.caching import count_cached, name_query
from django_turbosmtp.conf.webhook import read_webhook_secrets
from django_turbosmtp.log.querysets import list_known
from django_turbosmtp.log.statistics import (
    Counts,
    Interval,
    count_by_tag,
    count_by_time,
    count_by_value,
    count_rates,
)
from django_turbosmtp.statuses import Group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from django.db.models import QuerySet

    from django_turbosmtp.models import Message

#: Show this many campaigns and tags, those with the most messages.
TAGS = 20

#: The number of days of each period; 0 for 24 hours.
DAYS = {"day": 0, "week": 7, "month": 30}

_LABELS = {
    "day": gettext_lazy("24 hours"),
    "week": gettext_lazy("7 days"),
    "month": gettext_lazy("30 days"),
}


def is_open() -> bool:
    """Return whether the webhook accepts events: whether it has a secret."""
    try:
        return bool(read_webhook_secrets())
    except ImproperlyConfigured:
        return False


def describe_period(
    name: str, messages: QuerySet[Message], build_url: Callable[..., str]
) -> dict[str, Any]:
    """Return the data of the dashboard: tables of numbers of ``messages``."""
    name = name if name in DAYS else "day"
    intervals = list_intervals(name, _read_clock())
    since = intervals[0].start
    counted = count_cached(
        f"dashboard {since} {name} {name_query(messages)}",
        lambda: _count(messages, intervals),
    )

    def link(parameter: str, value: str) -> str:
        # The dashboard's days begin at midnight; the list's period has the same length.
        return build_url("changelist", query={parameter: value, "period": name})

    mailers: dict[str, Counts] = counted["mailers"]
    by_mailer = [
        (value or _("(none)"), link("mailer", f"name:{value}"), counts)
        for value, counts in mailers.items()
    ]
    by_tag = [
        (value, link("tag", value), counts) for value, counts in counted["tags"].items()
    ]
    by_time = [
        (label, "", counts)
        for label, counts in zip(
            label_intervals(name, intervals), counted["times"], strict=True
        )
    ]
    shown = _choose_groups(counted["times"])
    head = _("Hour") if name == "day" else _("Day")
    tables = [
        _build_table("times", _("By time"), head, by_time, shown)
        | {"chart": True, "sum": _sum(counted["times"], shown)}
    ]
    if len(by_mailer) > 1:
        title = _("By mailer")
        tables.append(_build_table("mailers", title, _("Mailer"), by_mailer, shown))
    if by_tag:
        title = _("By campaign or tag")
        tables.append(_build_table("tags", title, _("Campaign or tag"), by_tag, shown))
    return {
        "periods": [
            {"name": key, "label": label, "current": key == name}
            for key, label in _LABELS.items()
        ],
        "groups": [{"name": group.value, "label": group.label} for group in shown],
        "tables": tables,
        "rates": [
            {
                "label": rate.stage.label,
                "number": rate.number,
                "percentage": formats.number_format(rate.percentage),
            }
            for rate in counted["rates"]
        ],
        "counted_at": formats.time_format(counted["at"], "H:i:s"),
    }


def list_intervals(name: str, now: datetime) -> list[Interval]:
    """Return the hours or days of a period. The last one has not ended yet.

    ``now``: in the user's time zone, in which days begin at midnight.
    """
    if not DAYS[name]:
        hour = now.replace(minute=0, second=0, microsecond=0)
        if timezone.is_aware(hour):
            # Python subtracts local times (PEP 495): in the night when the clocks
            # change, an hour would be missing or twice as long.
            hour = hour.astimezone(UTC)
        starts = [hour - timedelta(hours=back) for back in range(23, -2, -1)]
    else:
        today = now.date()
        days = range(DAYS[name] - 1, -2, -1)
        starts = [
            datetime.combine(today - timedelta(days=back), time(), now.tzinfo)
            for back in days
        ]
    return [Interval(start=start, end=end) for start, end in itertools.pairwise(starts)]


def _read_clock() -> datetime:
    """Return the current time in the user's time zone; naive if USE_TZ is False."""
    now = timezone.now()
    return timezone.localtime(now) if timezone.is_aware(now) else now


def _count(messages: QuerySet[Message], intervals: list[Interval]) -> dict[str, Any]:
    since = intervals[0].start
    known = list_known(messages)
    tags = count_by_tag(messages, known["tags"], since)
    most = sorted(tags.items(), key=lambda item: -sum(item[1].values()))
    return {
        "at": _read_clock(),
        "times": count_by_time(messages, intervals),
        "rates": count_rates(messages, since),
        "mailers": count_by_value(messages, "mailer", known["mailers"], since),
        "tags": {name: counts for name, counts in most[:TAGS] if counts},
    }


def _choose_groups(counts: Iterable[Counts]) -> list[Group]:
    """Return the status groups to show: the main ones, and others that occur."""
    found = {group for one in counts for group in one}
    main = {Group.SENT, Group.FAILED, Group.UNKNOWN}
    return [group for group in Group if group in main or group in found]


def _build_table(
    name: str,
    title: str,
    head: str,
    rows: Iterable[tuple[str, str, Counts]],
    groups: list[Group],
) -> dict[str, Any]:
    return {
        "name": name,
        "title": title,
        "head": head,
        "rows": [
            {"label": label, "url": url, **_sum([counts], groups)}
            for label, url, counts in rows
        ],
    }


def _sum(counts: Iterable[Counts], groups: list[Group]) -> dict[str, Any]:
    counts = list(counts)
    return {
        "total": sum(sum(one.values()) for one in counts),
        "numbers": [sum(one.get(name, 0) for one in counts) for name in groups],
    }


def label_intervals(name: str, intervals: Sequence[Interval]) -> list[str]:
    """Return a label for each hour or day, in the user's time zone.

    If an hour occurs twice, because the clocks are set back, its label has the zone.
    """
    starts = [
        timezone.localtime(one.start) if timezone.is_aware(one.start) else one.start
        for one in intervals
    ]
    if name != "day":
        return [formats.date_format(start, "MONTH_DAY_FORMAT") for start in starts]
    labels = [formats.time_format(start, "TIME_FORMAT") for start in starts]
    # Do not show the same hour of yesterday and today.
    return [
        f"{label} {start:%Z}" if labels.count(label) > 1 else label
        for label, start in zip(labels, starts, strict=True)
    ]
