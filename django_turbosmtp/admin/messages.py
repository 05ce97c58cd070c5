"""The admin of messages: a list and pages of single messages. They are read-only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from django_turbosmtp.admin import detail
from django_turbosmtp.admin.changelist import LogChangeList
from django_turbosmtp.admin.filters import (
    AttentionFilter,
    MailerFilter,
    PeriodFilter,
    QueueFilter,
    StatusFilter,
    TagFilter,
    list_known_once,
)
from django_turbosmtp.admin.pages import read_page
from django_turbosmtp.admin.paginator import LogPaginator
from django_turbosmtp.admin.queueing import QueuePages
from django_turbosmtp.admin.show import show_error, show_labels, show_status, show_time
from django_turbosmtp.admin.story import describe_events
from django_turbosmtp.conf.log import choose_log_database
from django_turbosmtp.log.querysets import search
from django_turbosmtp.models import Message

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    # Django's classes are generic only for type checkers.
    _ModelAdmin = admin.ModelAdmin[Message]
else:
    _ModelAdmin = admin.ModelAdmin


class _ReadOnly:
    """Messages can be viewed, never added, changed or deleted."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("turbosmtp.view_message")


@admin.register(Message)
class MessageAdmin(QueuePages, _ReadOnly, _ModelAdmin):
    """The log of messages."""

    list_display = (
        "status_shown",
        "recipients_shown",
        "subject_shown",
        "time_shown",
        "labels",
        "mailer_shown",
    )
    list_display_links = ("subject_shown",)
    list_filter = (
        AttentionFilter,
        StatusFilter,
        QueueFilter,
        PeriodFilter,
        TagFilter,
        MailerFilter,
    )
    sortable_by = ("time_shown",)
    # Not empty, so that Django shows the search field. `get_search_results` searches.
    search_fields = ("reference_id",)
    search_help_text = _(
        "Enter a complete address, a message id, a reference id, or the beginning"
        " of a subject."
    )
    list_per_page = 50
    # Another count of all rows, which takes seconds in a large table.
    show_full_result_count = False
    # Each facet would count the rows of a filter.
    show_facets = admin.ShowFacets.NEVER
    paginator = LogPaginator
    fieldsets: ClassVar = [
        (
            _("Technical details"),
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
        return super().get_queryset(request).using(choose_log_database())

    def get_urls(self) -> list[Any]:
        """Add our pages."""
        return [*self.list_urls(), *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """Show one message, read-only."""
        message = self._find(request, unquote(object_id))
        # The page replaces Django's form, so there is nothing to save.
        if request.method not in {"GET", "HEAD"}:
            raise PermissionDenied
        visible = self.get_queryset(request)
        reader = self._build_reader(request)
        tools, no_resend = self._list_tools(request, message)
        pictures = request.GET.get("pictures") == "1"
        page = read_page(request.GET.get("r"))
        context = {
            **detail.describe_message(message, visible),
            **detail.describe_recipients(message, page, reader),
            **detail.describe_content(
                message, request.GET.get("tab"), pictures=pictures, reader=reader
            ),
            **describe_events(
                message, request.GET.get("of", ""), may_read=reader.may_read
            ),
            "attempts": detail.describe_history(message, may_read=reader.may_read),
            "attachments": detail.describe_attachments(message, reader),
            "resends": detail.describe_resends(message, visible),
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

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Message], search_term: str
    ) -> tuple[QuerySet[Message], bool]:
        """Search only the indexed columns. The result contains no duplicates."""
        found = search(queryset, search_term) if search_term.strip() else queryset
        return found, False

    def get_list_display(self, request: HttpRequest) -> Any:
        """Leave out a column that would be the same in all rows."""
        columns = super().get_list_display(request)
        if len(list_known_once(request, self)["mailers"]) > 1:
            return columns
        return [name for name in columns if name != "mailer_shown"]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Return whether it is the parameter of a filter.

        Django would run any other lookup: "subject__regex" could take minutes.
        """
        return lookup in {listed.parameter_name for listed in self.list_filter}

    def get_changelist(
        self, request: HttpRequest, **kwargs: Any
    ) -> type[LogChangeList]:
        return LogChangeList

    @admin.display(description=_("status"))
    def status_shown(self, message: Message) -> str:
        """Return the status as word and icon, and the error."""
        return show_status(message.status) + show_error(message)

    @admin.display(description=_("tags"))
    def labels(self, message: Message) -> str:
        """Return campaign and further tags."""
        return show_labels(message)

    @admin.display(description=_("mailer"), empty_value="")
    def mailer_shown(self, message: Message) -> str:
        """Return the alias of the mailer."""
        return message.mailer

    @admin.display(description=_("time"), ordering="created_at")
    def time_shown(self, message: Message) -> str:
        """Return how long ago it was created, and the time."""
        return show_time(message.created_at)

    def subject_or_none(self, message: Message) -> str:
        """Return the subject, or a text to click on."""
        return message.subject.strip() or str(_("(no subject)"))

    @admin.display(description=_("subject"))
    def subject_shown(self, message: Message) -> str:
        """Return the subject in the direction of its script."""
        return format_html("<bdi>{}</bdi>", self.subject_or_none(message))

    @admin.display(description=_("recipient"))
    def recipients_shown(self, message: Message) -> str:
        """Return the first recipient, and the number of the others."""
        if not message.first_recipient:
            return ""
        url = self._build_url("person", query={"address": message.first_recipient})
        first = format_html(
            '<a href="{}"><bdi>{}</bdi></a>', url, message.first_recipient
        )
        more = message.recipient_count - 1
        if more < 1:
            return first
        others = ngettext("and %d more", "and %d more", more) % more
        return format_html("{} {}", first, others)
