"""The queue in the admin: queued messages, stopped queues, and cancelling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.http import HttpResponseRedirect
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_turbosmtp.admin.resending import ResendingPages
from django_turbosmtp.conf.settings import uses_queue
from django_turbosmtp.log.connection import exempt_from_atomic_requests
from django_turbosmtp.queue.cancel import cancel
from django_turbosmtp.statuses import Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from django_turbosmtp.models import Message


class QueuePages(ResendingPages):
    """A view and an action that cancel messages in the queue."""

    actions = (*ResendingPages.actions, "cancel_queued")

    def list_urls(self) -> Iterator[Any]:
        """Yield the URLs of these pages."""
        yield from super().list_urls()
        yield self._serve("<uuid:pk>/cancel/", self.cancel_view, "cancel")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Return whether the site has a queue, and the user may cancel its messages."""
        return uses_queue() and request.user.has_perm("turbosmtp.cancel_message")

    @admin.action(
        permissions=["cancel"],
        description=gettext_lazy("Cancel selected queued messages"),
    )
    def cancel_queued(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        """Cancel the selected messages that are queued."""
        waiting = queryset.filter(status=Status.QUEUED)
        if count := waiting.count():
            self.log_change(request, waiting[0], f"Cancelled up to {count} messages")
        self._report_cancelled(request, cancel(waiting))

    @method_decorator(exempt_from_atomic_requests)
    def cancel_view(self, request: HttpRequest, pk: UUID) -> HttpResponseBase:
        """Ask for confirmation, and cancel a queued message (POST)."""
        message = self._find(request, pk, "cancel_message")
        back = self._build_url("change", pk)
        if message.status != Status.QUEUED:
            self._report_cancelled(request, 0)
            return HttpResponseRedirect(back)
        if request.method == "POST":
            count = cancel([message.pk])
            if count:
                self.log_change(request, message, "Cancelled")
            self._report_cancelled(request, count)
            return HttpResponseRedirect(back)
        context = {"message": message, "title": _("Cancel this message?")}
        return self._render(request, "cancel", context)

    def _report_cancelled(self, request: HttpRequest, count: int) -> None:
        if not count:
            text = _("Nothing was cancelled: only queued messages can be cancelled.")
            self.message_user(request, text, messages.WARNING)
            return
        text = ngettext(
            "%d message was cancelled.", "%d messages were cancelled.", count
        )
        self.message_user(request, text % count, messages.SUCCESS)

    def _list_tools(
        self, request: HttpRequest, message: Message
    ) -> tuple[list[dict[str, Any]], str]:
        tools, no_resend = super()._list_tools(request, message)
        if message.status == Status.QUEUED and self.has_cancel_permission(request):
            url = self._build_url("cancel", message.pk)
            tools.insert(0, {"label": _("Cancel…"), "url": url})
        return tools, no_resend
