"""Reads the attributes ``send_at``, ``priority`` and ``expires_at``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from django_turbosmtp._lib.text import shorten
from django_turbosmtp.exceptions import MessageError
from django_turbosmtp.payload.attributes import read_attribute
from django_turbosmtp.payload.wire import QUEUE_ATTRIBUTES

#: The words of django-mailer and django-post_office. Numbers are those of Django's
#: tasks: -100 to 100; higher priorities are sent first.
PRIORITIES: Final = {"low": -50, "medium": 0, "high": 50}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When a message may be sent. Times are aware; None means no limit."""

    send_at: datetime | None = None
    expires_at: datetime | None = None
    priority: int = 0


#: Shared by all messages without these attributes, which are most.
_UNSCHEDULED: Final = Schedule()


def read_schedule(message: Any, now: datetime) -> Schedule:
    """Return the schedule of a message, from its attributes.

    ``now``: aware. Raise `MessageError` for a value that cannot be read, and for a
    message that would expire before it may be sent.
    """
    if all(getattr(message, name, None) is None for name in QUEUE_ATTRIBUTES):
        return _UNSCHEDULED
    send_at = _read_time(message, "send_at")
    expires_at = _read_time(message, "expires_at")
    if expires_at is not None and expires_at <= max(now, send_at or now):
        after = "send_at" if send_at and send_at > now else "now"
        raise MessageError(
            f"expires_at is {expires_at.isoformat()}, which is not after {after}: the"
            " message would never be sent."
        )
    return Schedule(
        send_at=send_at, expires_at=expires_at, priority=_read_priority(message)
    )


def _read_time(message: Any, name: str) -> datetime | None:
    """Return a time as django-anymail reads ``send_at``.

    A datetime (in the current time zone, if it is naive), a date (its first moment), a
    Unix timestamp, or one of these in ISO 8601.
    """
    value = read_attribute(message, name)
    if value is None or value == "":
        return None
    try:
        found = _convert_time(value)
    except (ValueError, OverflowError):
        found = None
    if found is None:
        raise MessageError(
            f"{name} is {shorten(repr(value))}, not a datetime, a date, a timestamp, or"
            " one of these as text in ISO 8601."
        )
    return found


def _convert_time(value: Any) -> datetime | None:
    if isinstance(value, str):
        value = parse_datetime(value) or parse_date(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time.min)
    if not isinstance(value, datetime):
        return None
    return timezone.make_aware(value) if timezone.is_naive(value) else value


def _read_priority(message: Any) -> int:
    value = read_attribute(message, "priority")
    if value is None:
        return 0
    if isinstance(value, str) and value.lower() in PRIORITIES:
        return PRIORITIES[value.lower()]
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if is_number and -100 <= value <= 100:
        return int(value)
    raise MessageError(
        f"priority is {shorten(repr(value))}, not a number from -100 to 100, and none"
        f" of {', '.join(map(repr, PRIORITIES))}."
    )
