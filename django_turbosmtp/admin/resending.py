"""Sending several messages of the list again, after a page that shows what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin, messages
from django.http import HttpResponseRedirect
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_turbosmtp.admin.sending import SendingPages, build_engine
from django_turbosmtp.admin.sentences import describe_stop
from django_turbosmtp.admin.show import show_time
from django_turbosmtp.delivery.decision import NotSentAgain
from django_turbosmtp.delivery.resend import preview_many, resend_many
from django_turbosmtp.log.connection import exempt_from_atomic_requests
from django_turbosmtp.log.rows import name_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from django_turbosmtp.delivery.jobs import Job
    from django_turbosmtp.delivery.resend import BulkResult
    from django_turbosmtp.models import Message

#: Web servers kill requests after a time, often 30 seconds. ``turbosmtp_resend`` sends
#: any number. The address of the page contains the keys: 37 characters each.
_MOST = 100


class ResendingPages(SendingPages):
    """An action that leads to a page of its own, which sends on POST."""

    actions: Sequence[str] = ("resend_selected",)

    def list_urls(self) -> Iterator[Any]:
        """Yield the URLs of these pages."""
        yield from super().list_urls()
        yield self._serve("resend/", self.resend_many_view, "resend_many")

    def has_resend_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may send messages again."""
        return request.user.has_perm("turbosmtp.resend_message")

    @admin.action(
        permissions=["resend"],
        description=gettext_lazy("Send selected messages again…"),
    )
    def resend_selected(
        self, request: HttpRequest, queryset: QuerySet[Message]
    ) -> HttpResponseBase | None:
        """Show the page of the selected messages, unless there are too many."""
        keys = list(queryset.values_list("pk", flat=True)[: _MOST + 1])
        if len(keys) > _MOST:
            text = _(
                "Nothing was sent. Select at most %d messages, or use the command"
                " turbosmtp_resend."
            )
            self.message_user(request, text % _MOST, messages.ERROR)
            return None
        query = {"id": ",".join(map(str, keys))}
        # A page with its own URL, because the list may be in a transaction.
        return HttpResponseRedirect(self._build_url("resend_many", query=query))

    @method_decorator(exempt_from_atomic_requests)
    def resend_many_view(self, request: HttpRequest) -> HttpResponseBase:
        """Show which of several messages can be sent again, and send them (POST)."""
        self._require(request, "resend_message")
        self._require_view(request)
        data = request.POST if request.method == "POST" else request.GET
        rows = self.get_queryset(request).filter(pk__in=_read_keys(data.get("id", "")))
        keys = sorted(row.pk for row in rows if self.has_view_permission(request, row))
        if request.method == "POST":
            self._resend_many(request, keys)
            return HttpResponseRedirect(self._build_url("changelist"))
        ready: list[dict[str, Any]] = []
        skipped: list[dict[str, Any]] = []
        for row, reason in preview_many(keys, build_engine):
            entry = {
                "message": row,
                "time": show_time(row.created_at),
                "url": self._build_url("change", row.pk),
                "reason": reason,
            }
            (skipped if reason else ready).append(entry)
        context = {
            "title": _("Send messages again?"),
            "ready": ready,
            "skipped": skipped,
            "keys": ",".join(str(entry["message"].pk) for entry in ready),
        }
        return self._render(request, "resend_many", context)

    def _resend_many(self, request: HttpRequest, keys: Sequence[UUID]) -> None:
        def record(_number: int, sent: Sequence[tuple[Message, Job]]) -> None:
            for original, job in sent:
                outcome = job.status.outcome
                self.log_change(request, original, f"Sent again as {job.id}: {outcome}")

        try:
            result = resend_many(keys, build_engine, record)
        except NotSentAgain as reason:
            self.message_user(request, str(reason), messages.ERROR)
            return
        for text, level in _describe_result(result):
            self.message_user(request, text, level)


def _describe_result(result: BulkResult) -> Iterator[tuple[str, int]]:
    """Yield sentences with their levels."""
    count = result.accepted
    text = ngettext("%d message was sent again.", "%d messages were sent again.", count)
    yield text % count, messages.SUCCESS if count else messages.WARNING
    if count := result.failed:
        text = ngettext(
            "%d message failed again. Its page shows the reason.",
            "%d messages failed again. Their pages show the reasons.",
            count,
        )
        yield text % count, messages.ERROR
    for reason, count in result.skipped.most_common():
        text = ngettext(
            "%(count)d message was not sent: %(reason)s",
            "%(count)d messages were not sent: %(reason)s",
            count,
        )
        yield text % {"count": count, "reason": reason}, messages.WARNING
    if result.stopped_by is not None:
        reason = describe_stop(name_class(result.stopped_by))
        text = _("The remaining messages were not tried. %s")
        yield text % reason, messages.ERROR


def _read_keys(text: str) -> list[UUID]:
    """Return the keys of a list with commas, without those that are invalid."""
    keys = []
    for part in text.split(",")[:_MOST]:
        try:
            keys.append(UUID(part))
        except ValueError:
            continue
    return keys
