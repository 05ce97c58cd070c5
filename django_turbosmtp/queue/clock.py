"""The queue's clock: that of the database server, which all workers share.

The clocks of two machines differ by milliseconds or, if one is wrong, by hours. With
its own clock, a worker might delay a message that another machine has just queued, or
pause the queue for an hour.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from django.db import connections
from django.utils import timezone

from django_turbosmtp._lib.clocks import Clock
from django_turbosmtp._lib.times import make_storable

#: Read the database's clock again after this many seconds, because clocks drift.
_VALIDITY: Final = 60.0

#: Seconds since 1970, whatever the time zone of the session. SQLite runs in this
#: process and has its clock.
_QUERIES: Final = {
    "postgresql": "SELECT EXTRACT(EPOCH FROM CLOCK_TIMESTAMP())",
    "mysql": (
        "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1000000"
    ),
}


class _Reading(NamedTuple):
    """The database's time when this process's monotonic clock had this value."""

    time: datetime
    at: float


_readings: dict[str, _Reading] = {}


def synchronize(alias: str) -> None:
    """Read the database's clock, unless it was read recently."""
    connection = connections[alias]
    query = _QUERIES.get(connection.vendor)
    reading = _readings.get(alias)
    if query is None or (
        reading is not None and Clock.monotonic() - reading.at < _VALIDITY
    ):
        return
    with connection.cursor() as cursor:
        cursor.execute(query)
        (seconds,) = cursor.fetchone()
    time = datetime.fromtimestamp(float(seconds), UTC)
    _readings[alias] = _Reading(time, Clock.monotonic())


def read_now(alias: str) -> datetime:
    """Return the time as models store it, without a query.

    It is that of the database's clock if `synchronize` has read it, or of the process.
    """
    reading = _readings.get(alias)
    if reading is None:
        return timezone.now()
    elapsed = timedelta(seconds=Clock.monotonic() - reading.at)
    return make_storable(reading.time + elapsed)
