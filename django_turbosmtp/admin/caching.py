"""Caches slow counts for a while."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, TypeVar

from django.core.cache import cache
from django.core.exceptions import EmptyResultSet

from django_turbosmtp._lib.clocks import Clock
from django_turbosmtp._lib.interrupts import raise_as_it_was, raise_interrupt
from django_turbosmtp._lib.loggers import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet

logger = get_logger("django_turbosmtp.admin")

_Value = TypeVar("_Value")

#: Do not cache counts that need fewer seconds than this.
WORTH_CACHING = 0.01

#: Cache a count for this many times as long as counting took.
TIMES = 100


def name_query(queryset: QuerySet[Any]) -> str:
    """Return a name for a query: its database, its SQL and its parameters."""
    try:
        compiler = queryset.query.get_compiler(queryset.db)
        return f"{queryset.db} {compiler.as_sql()}"
    except EmptyResultSet:
        return f"{queryset.db} nothing"


@raise_as_it_was
def count_cached(
    name: str,
    count: Callable[[], _Value],
    *,
    is_worth: Callable[[_Value], bool] = lambda _: True,
) -> _Value:
    """Return the result of ``count``, or a recent one from the cache.

    ``name``: the cache key. A result is stored in Django's default cache if counting
    was slow and the result ``is_worth`` it. Without a working cache, it is counted each
    time.
    """
    key = f"turbosmtp:{hashlib.sha256(name.encode(errors='replace')).hexdigest()}"
    try:
        kept = cache.get(key)
    except Exception as error:
        raise_interrupt(error)
        logger.exception("The cache could not be read.")
        return count()
    if kept is not None:
        found: _Value = kept[0]
        return found
    started = Clock.perf_counter()
    value = count()
    took = Clock.perf_counter() - started
    if took >= WORTH_CACHING and is_worth(value):
        try:
            cache.set(key, (value,), took * TIMES)
        except Exception as error:
            raise_interrupt(error)
            logger.exception("The cache could not be written.")
    return value
