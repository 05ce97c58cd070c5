"""Pages of a long log: the last is as near as the first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.paginator import Page, Paginator

if TYPE_CHECKING:
    from django.db.models import QuerySet


class LogPaginator(Paginator):  # type: ignore[type-arg]
    """Counts from the nearer end: a database walks over every row of an OFFSET."""

    object_list: QuerySet[Any]

    def page(self, number: int | str) -> Page[Any]:
        """Return the page; raise what Django's own paginator raises."""
        number = self.validate_number(number)
        start = (number - 1) * self.per_page
        stop = start + self.per_page
        if stop + self.orphans >= self.count:
            stop = self.count
        if start * 2 <= self.count or not self.object_list.ordered:
            return Page(self.object_list[start:stop], number, self)
        nearer = self.object_list.reverse()[self.count - stop : self.count - start]
        return Page(list(nearer)[::-1], number, self)
