"""Times in sites with and without USE_TZ (Django, "Time zones").

Without USE_TZ, models store naive times in the time zone of the settings. A time that
occurs twice, because the clocks were set back, means the earlier of the two.
"""

from __future__ import annotations

from datetime import UTC, datetime

from django.conf import settings
from django.utils import timezone


def make_storable(moment: datetime) -> datetime:
    """Return an aware time as the models of this site store it."""
    if settings.USE_TZ:
        return moment
    return timezone.make_naive(moment, timezone.get_default_timezone())


def make_aware(moment: datetime) -> datetime:
    """Return a time from a model as an aware time."""
    if timezone.is_aware(moment):
        return moment
    return timezone.make_aware(moment, timezone.get_default_timezone())


def measure_age(moment: datetime) -> float:
    """Return the seconds since a time from a model."""
    return (datetime.now(UTC) - make_aware(moment)).total_seconds()
