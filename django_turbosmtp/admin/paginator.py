"""A paginator for long tables: the last page is as fast as the first."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.core.paginator import Page, Paginator

from django_turbosmtp.admin.caching import count_cached, name_query

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet


#: Do not cache counts up to this number.
FRESH = 1_000


class LogPaginator(Paginator):  # type: ignore[type-arg]
    """Finds the keys of a page in an index, and then reads only its rows.

    It begins at the nearer end, because a database reads all rows of an OFFSET.
    """

    object_list: QuerySet[Any]

    @cached_property
    def count(self) -> int:
        """The number of rows; if there are many, it may be cached."""
        rows = self.object_list.order_by().values("pk")
        return count_cached(
            name_query(rows), rows.count, is_worth=lambda found: found > FRESH
        )

    def page(self, number: int | str) -> Page[Any]:
        """Return the page; raise the same exceptions as Django's paginator."""
        number = self.validate_number(number)
        start = (number - 1) * self.per_page
        stop = start + self.per_page
        if stop + self.orphans >= self.count:
            stop = self.count
        keys = self.object_list.values_list("pk", flat=True)
        if start * 2 <= self.count or not self.object_list.ordered:
            found = list(keys[start:stop])
        else:
            nearer = keys.reverse()[self.count - stop : self.count - start]
            found = list(nearer)[::-1]
        rows = {row.pk: row for row in self.object_list.order_by().filter(pk__in=found)}
        # One may have been removed in the meantime.
        return Page([rows[key] for key in found if key in rows], number, self)


def build_page_links(
    paginator: Paginator[Any], current: int, build_url: Callable[[int], str]
) -> list[dict[str, Any]]:
    """Return the links to the pages; "..." stands for the pages without a link."""
    if paginator.num_pages < 2:
        return []
    return [
        {
            "label": number,
            "current": number == current,
            "url": build_url(number)
            if isinstance(number, int) and number != current
            else "",
        }
        for number in paginator.get_elided_page_range(current, on_each_side=2)
    ]
