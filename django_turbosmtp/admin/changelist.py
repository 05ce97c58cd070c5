"""The list of messages: in order of time, without columns that it does not show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.admin.views.main import ChangeList

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

#: Fields that the list does not need.
NOT_LISTED = ("headers", "metadata", "why_mime", "altered", "is_unchecked")


class LogChangeList(ChangeList):
    """Newest first, or oldest first: both are read from an index."""

    def get_queryset(
        self, request: HttpRequest, exclude_parameters: list[str | None] | None = None
    ) -> QuerySet[Any]:
        """Return the messages, without long texts."""
        return super().get_queryset(request, exclude_parameters).defer(*NOT_LISTED)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """Return the requested order, in one direction for all fields of the index."""
        ordering = super().get_ordering(request, queryset)
        if ordering and ordering[0] == "created_at":
            return ["created_at", "id"]
        return ["-created_at", "-id"]
