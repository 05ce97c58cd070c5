"""Filters of the list of messages. Each uses an index."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_turbosmtp.conf.settings import uses_queue
from django_turbosmtp.log.querysets import (
    filter_attention,
    filter_group,
    filter_tag,
    list_known,
)
from django_turbosmtp.statuses import Group, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet
    from django.http import HttpRequest

    from django_turbosmtp.models import Message

PERIODS = {
    "day": (_("Last 24 hours"), timedelta(days=1)),
    "week": (_("Last 7 days"), timedelta(days=7)),
    "month": (_("Last 30 days"), timedelta(days=30)),
    "quarter": (_("Last 90 days"), timedelta(days=90)),
}


class StatusFilter(admin.SimpleListFilter):
    """By group of statuses."""

    title = _("status")
    parameter_name = "group"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[Any]:
        return Group.list_choices()

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Message]
    ) -> QuerySet[Message]:
        name = self.value()
        return filter_group(queryset, name) if name else queryset


class QueueFilter(admin.SimpleListFilter):
    """Queued messages, if the site has a queue."""

    title = _("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[Any]:
        return [(Status.QUEUED, _("Queued"))]

    def has_output(self) -> bool:
        return uses_queue() or self.value() is not None

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Message]
    ) -> QuerySet[Message]:
        if self.value() != Status.QUEUED:
            return queryset
        return queryset.filter(status=Status.QUEUED)


class AttentionFilter(admin.SimpleListFilter):
    """Messages that need attention: failed, unknown or stuck."""

    title = _("attention")
    parameter_name = "attention"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[Any]:
        return [("yes", _("Needs attention"))]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Message]
    ) -> QuerySet[Message]:
        return filter_attention(queryset) if self.value() == "yes" else queryset


class PeriodFilter(admin.SimpleListFilter):
    """By age."""

    title = _("time")
    parameter_name = "period"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[Any]:
        return [(name, label) for name, (label, _length) in PERIODS.items()]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Message]
    ) -> QuerySet[Message]:
        name = self.value()
        if name not in PERIODS:
            return queryset.none() if name else queryset
        # Whole minutes, so that the count and the list agree.
        now = timezone.now().replace(second=0, microsecond=0)
        return queryset.filter(created_at__gte=now - PERIODS[name][1])


class MailerFilter(admin.SimpleListFilter):
    """By mailer (Django 6.1)."""

    title = _("mailer")
    parameter_name = "mailer"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[Any]:
        known = list_known_once(request, model_admin)["mailers"]
        # An empty value would mean "all".
        return [("name:" + name, name or _("(none)")) for name in known]

    def has_output(self) -> bool:
        # With a single mailer, there is nothing to choose.
        return len(self.lookup_choices) > 1 or self.value() is not None

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Message]
    ) -> QuerySet[Message]:
        value = self.value()
        if value is None:
            return queryset
        # PostgreSQL raises an error for a null character in a parameter.
        return queryset.filter(mailer=value.removeprefix("name:").replace("\0", ""))


class TagFilter(admin.SimpleListFilter):
    """By campaign or any other tag."""

    title = _("campaign or tag")
    parameter_name = "tag"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[Any]:
        known = list_known_once(request, model_admin)["tags"]
        return [(name, name) for name in known]

    def has_output(self) -> bool:
        return bool(self.lookup_choices) or self.value() is not None

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Message]
    ) -> QuerySet[Message]:
        name = self.value()
        return filter_tag(queryset, name) if name else queryset


def list_known_once(request: Any, model_admin: Any) -> dict[str, list[str]]:
    """Return all mailers and tags, read once in each request."""
    known: dict[str, list[str]] | None = getattr(request, "turbosmtp_known", None)
    if known is None:
        known = list_known(model_admin.get_queryset(request))
        request.turbosmtp_known = known
    return known
