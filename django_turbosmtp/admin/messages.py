"""Messages in the admin: a list, and all that is known of one; nothing to change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.http import FileResponse, Http404, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from django_turbosmtp.admin import detail
from django_turbosmtp.admin.changelist import LogChangeList
from django_turbosmtp.admin.filters import (
    AttentionFilter,
    MailerFilter,
    PeriodFilter,
    StatusFilter,
    TagFilter,
    list_known_once,
)
from django_turbosmtp.admin.paginator import LogPaginator
from django_turbosmtp.admin.people import describe_person
from django_turbosmtp.admin.preview import build_preview
from django_turbosmtp.admin.resend import (
    CannotResend,
    add_payload,
    require_resendable,
)
from django_turbosmtp.admin.show import show_error, show_labels, show_status, show_time
from django_turbosmtp.admin.words import describe_fate
from django_turbosmtp.conf import read_log_settings
from django_turbosmtp.delivery.again import NotSentAgain, list_waiting
from django_turbosmtp.models import Content, Message, Outcome
from django_turbosmtp.querysets import search

if TYPE_CHECKING:
    from uuid import UUID

    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.http.response import HttpResponseBase

    from django_turbosmtp.backends import EmailBackend

    # Django's own are generic for type checkers only.
    _ModelAdmin = admin.ModelAdmin[Message]
else:
    _ModelAdmin = admin.ModelAdmin


class _ReadOnly:
    """What of an admin page may be changed: nothing. Who sees a message sees it all."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("turbosmtp.view_message")


@admin.register(Message)
class MessageAdmin(_ReadOnly, _ModelAdmin):
    """The log of messages."""

    list_display = (
        "status_shown",
        "recipients_shown",
        "subject_or_none",
        "time_shown",
        "labels",
        "mailer_shown",
    )
    list_display_links = ("subject_or_none",)
    list_filter = (
        AttentionFilter,
        StatusFilter,
        PeriodFilter,
        TagFilter,
        MailerFilter,
    )
    sortable_by = ("time_shown",)
    # What is searched is said below the field, and done by get_search_results().
    search_fields = ("reference_id",)
    search_help_text = _(
        "A whole address, a message id, a reference id, or the beginning of a subject."
    )
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = LogPaginator
    fieldsets: ClassVar = [
        (
            _("Details"),
            {
                "fields": (
                    "id",
                    "reference_id",
                    "mid",
                    "outcome",
                    "mailer",
                    "api_version",
                    "created_at",
                    "concluded_at",
                    "attempts",
                    "error_class",
                    "size",
                    "metadata",
                    "why_mime",
                    "altered",
                )
            },
        ),
    ]

    class Media:
        css: ClassVar = {"all": ["turbosmtp/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        return super().get_queryset(request).using(read_log_settings().using)

    def get_urls(self) -> list[Any]:
        """Add the pages of our own, each behind the admin's log-in."""
        name = f"{self.opts.app_label}_{self.opts.model_name}"

        def own(route: str, view: Any, ending: str) -> Any:
            return path(
                route, self.admin_site.admin_view(view), name=f"{name}_{ending}"
            )

        return [
            own("<uuid:pk>/preview/", self.preview_view, "preview"),
            own(
                "<uuid:pk>/attachments/<int:position>/",
                self.attachment_view,
                "attachment",
            ),
            own("<uuid:pk>/resend/", self.resend_view, "resend"),
            own("person/", self.person_view, "person"),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Show one message. There is nothing in it to change."""
        message = self._find(request, unquote(object_id))
        if request.method not in {"GET", "HEAD"}:
            raise PermissionDenied
        reader = self._build_reader(request)
        tools, no_resend = self._list_tools(request, message)
        pictures = request.GET.get("pictures") == "1"
        page = read_page(request.GET.get("r"))
        context = {
            **detail.describe_message(message),
            **detail.describe_recipients(message, page, reader),
            **detail.describe_content(
                message, request.GET.get("tab"), pictures=pictures, reader=reader
            ),
            "attempts": detail.describe_tries(message, may_read=reader.may_read),
            "attachments": detail.describe_attachments(message, reader),
            "resends": detail.describe_resends(message),
            "fieldsets": list(
                detail.describe_fieldsets(
                    message, self.get_fieldsets(request, message), self
                )
            ),
            "tools": tools,
            "no_resend": no_resend,
            "message": message,
            "title": self.subject_or_none(message),
        }
        return self._render(request, "detail", context | (extra_context or {}))

    def preview_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Show the HTML alone, for the frame of the detail page."""
        message = self._find(request, pk, "view_message_body")
        contents = Content.objects.using(message._state.db).only("html")
        content = get_object_or_404(contents, pk=pk)
        return build_preview(content.html, pictures=request.GET.get("pictures") == "1")

    def attachment_view(
        self, request: HttpRequest, pk: UUID, position: int
    ) -> HttpResponseBase:
        """Hand out the kept bytes of an attachment, as a file to save."""
        message = self._find(request, pk, "view_message_body")
        attachments = message.attachments.select_related("stored")
        attachment = get_object_or_404(attachments, position=position)
        if attachment.stored is None:
            raise Http404(_("The bytes of this attachment were not kept."))
        try:
            file = attachment.stored.file.open("rb")
        except FileNotFoundError:
            raise Http404(_("The file of this attachment is gone.")) from None
        name = attachment.name or "attachment"
        response = FileResponse(file, as_attachment=True, filename=name)
        response["Content-Type"] = "application/octet-stream"
        response["X-Content-Type-Options"] = "nosniff"
        response["Content-Security-Policy"] = "default-src 'none'; sandbox"
        return response

    @method_decorator(transaction.non_atomic_requests)
    def resend_view(self, request: HttpRequest, pk: UUID) -> HttpResponseBase:
        """Ask whether to send a message again, to whom, and do it."""
        message = self._find(request, pk, "resend_message")
        back = self._build_url("change", pk)
        try:
            backend = require_resendable(message)
        except CannotResend as reason:
            self.message_user(request, str(reason), messages.ERROR)
            return HttpResponseRedirect(back)
        if request.method == "POST":
            return HttpResponseRedirect(self._send_again(request, message, backend))
        context = {
            "message": message,
            "recipients": list_waiting(message),
            "may_have_arrived": message.outcome in {Outcome.UNKNOWN, ""},
            "status": show_status(message.status),
            "time": show_time(message.created_at),
            "title": _("Send again?"),
        }
        return self._render(request, "resend", context)

    def _send_again(
        self, request: HttpRequest, message: Message, backend: EmailBackend
    ) -> str:
        """Send a message again, say what became of it, and return where to look."""
        try:
            job = backend.send_again(message)
        except NotSentAgain as reason:
            text = _("Nothing was sent. %s") % reason
            self.message_user(request, text, messages.ERROR)
            return self._build_url("change", message.pk)
        sent = Message.objects.using(message._state.db).get(pk=job.id)
        self.log_change(request, message, f"Sent again as {job.id}: {sent.outcome}")
        level = {
            Outcome.ACCEPTED: messages.SUCCESS,
            Outcome.UNKNOWN: messages.WARNING,
        }.get(job.status.outcome, messages.ERROR)  # type: ignore[call-overload]
        self.message_user(request, describe_fate(sent), level)
        return self._build_url("change", job.id)

    def person_view(self, request: HttpRequest) -> HttpResponse:
        """Show all messages to one address, and their fate."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        address = request.GET.get("address", "")
        context = (
            describe_person(
                address,
                read_page(request.GET.get("page")),
                self.get_queryset(request),
                self._build_url,
            )
            if address.strip()
            else {}
        )
        title = _("Messages to %s") % context["address"] if context else _("Person")
        return self._render(request, "person", {"title": title, **context})

    def _list_tools(
        self, request: HttpRequest, message: Message
    ) -> tuple[list[dict[str, Any]], str]:
        """Return what may be done with a message, and why it is not sent again."""
        tools: list[dict[str, Any]] = []
        no_resend = ""
        if request.user.has_perm("turbosmtp.resend_message"):
            try:
                require_resendable(message)
            except CannotResend as reason:
                no_resend = str(reason)
            else:
                url = self._build_url("resend", message.pk)
                tools.append({"label": _("Send again…"), "url": url})
        return tools, no_resend

    def _find(self, request: HttpRequest, key: Any, *permissions: str) -> Message:
        """Return a message that the user may see, and do ``permissions`` with.

        Raise PermissionDenied, or Http404 where there is no such message.
        """
        allowed = self.has_view_permission(request)
        self._require(request, *permissions)
        try:
            message = add_payload(self.get_queryset(request)).get(pk=key)
        except (Message.DoesNotExist, ValidationError):
            if not allowed:
                raise PermissionDenied from None
            text = _("There is no such message. It may have been pruned.")
            raise Http404(text) from None
        if not self.has_view_permission(request, message):
            raise PermissionDenied
        return message

    def _require(self, request: HttpRequest, *permissions: str) -> None:
        """Raise PermissionDenied where the user lacks one of our permissions."""
        if not all(request.user.has_perm(f"turbosmtp.{name}") for name in permissions):
            raise PermissionDenied

    def _build_reader(self, request: HttpRequest) -> detail.Reader:
        return detail.Reader(
            may_read=request.user.has_perm("turbosmtp.view_message_body"),
            build_url=self._build_url,
        )

    def _build_url(
        self, ending: str, *args: Any, query: dict[str, str] | None = None
    ) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{ending}"
        url = reverse(name, args=args, current_app=self.admin_site.name)
        return f"{url}?{urlencode(query)}" if query else url

    def _render(
        self, request: HttpRequest, name: str, context: dict[str, Any]
    ) -> TemplateResponse:
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            f"turbosmtp/admin/{name}.html",
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "media": self.media,
                **context,
            },
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Message], search_term: str
    ) -> tuple[QuerySet[Message], bool]:
        """Find what an index holds; none of it is found twice."""
        found = search(queryset, search_term) if search_term.strip() else queryset
        return found, False

    def get_list_display(self, request: HttpRequest) -> Any:
        """Leave out the column that would say the same in each row."""
        columns = super().get_list_display(request)
        if len(list_known_once(request, self)["mailers"]) > 1:
            return columns
        return [name for name in columns if name != "mailer_shown"]

    def get_changelist(
        self, request: HttpRequest, **kwargs: Any
    ) -> type[LogChangeList]:
        return LogChangeList

    @admin.display(description=_("status"))
    def status_shown(self, message: Message) -> str:
        """Return the status as word and icon, and what went wrong."""
        return show_status(message.status) + show_error(message)

    @admin.display(description=_("campaign, tags"))
    def labels(self, message: Message) -> str:
        """Return campaign and further tags."""
        return show_labels(message)

    @admin.display(description=_("mailer"), empty_value="")
    def mailer_shown(self, message: Message) -> str:
        """Return the alias of the mailer."""
        return message.mailer

    @admin.display(description=_("time"), ordering="created_at")
    def time_shown(self, message: Message) -> str:
        """Return how long ago it was, and when."""
        return show_time(message.created_at)

    @admin.display(description=_("subject"))
    def subject_or_none(self, message: Message) -> str:
        """Return the subject, or a text to click on."""
        return message.subject.strip() or str(_("(no subject)"))

    @admin.display(description=_("recipient"))
    def recipients_shown(self, message: Message) -> str:
        """Return the first recipient, and how many more there are."""
        if not message.first_recipient:
            return ""
        url = self._build_url("person", query={"address": message.first_recipient})
        first = format_html('<a href="{}">{}</a>', url, message.first_recipient)
        more = message.recipient_count - 1
        if more < 1:
            return first
        others = ngettext("and %d more", "and %d more", more) % more
        return format_html("{} {}", first, others)


def read_page(text: str | None) -> int:
    """Return the number of a page, 1 for what is none."""
    number = int(text[:9]) if text and text.isdecimal() else 1
    return max(number, 1)
