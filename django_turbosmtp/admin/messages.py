"""Messages in the admin: a list, and all that is known of one; nothing to change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

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
from django_turbosmtp.admin.show import show_error, show_labels, show_status, show_time
from django_turbosmtp.conf import read_log_settings
from django_turbosmtp.models import Attachment, Content, Message, Recipient
from django_turbosmtp.querysets import search

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    # Django's own are generic for type checkers only.
    _ModelAdmin = admin.ModelAdmin[Message]
    _TabularInline = admin.TabularInline[Any, Any]
else:
    _ModelAdmin, _TabularInline = admin.ModelAdmin, admin.TabularInline


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


class _Inline(_ReadOnly, _TabularInline):
    extra = 0
    can_delete = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using(read_log_settings().using)


class RecipientInline(_Inline):
    """Whom the message went to."""

    model = Recipient
    fields = readonly_fields = ("kind", "shown", "address", "status", "mid")


class AttachmentInline(_Inline):
    """What was attached."""

    model = Attachment
    fields = readonly_fields = ("name", "type", "size", "sha256")


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
    inlines: ClassVar = [RecipientInline, AttachmentInline]
    fieldsets: ClassVar = [
        (
            None,
            {
                "fields": (
                    "status",
                    "outcome",
                    "error",
                    "from_email",
                    "subject",
                    "created_at",
                    "concluded_at",
                )
            },
        ),
        (
            _("Details"),
            {
                "fields": (
                    "id",
                    "reference_id",
                    "mid",
                    "mailer",
                    "api_version",
                    "attempts",
                    "error_class",
                    "size",
                    "campaign",
                    "tags",
                    "metadata",
                    "headers",
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

    def get_readonly_fields(
        self, request: HttpRequest, obj: Any = None
    ) -> tuple[str, ...]:
        return tuple(
            name
            for _title, options in self.get_fieldsets(request, obj)
            for name in options["fields"]
        )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Add the bodies for who may see them."""
        fieldsets = list(super().get_fieldsets(request, obj))
        if request.user.has_perm("turbosmtp.view_message_body"):
            fieldsets.append((_("Body"), {"fields": ("text", "html", "wire")}))
        return fieldsets

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
        more = message.recipient_count - 1
        if more < 1:
            return message.first_recipient
        return _("%(address)s and %(count)d more") % {
            "address": message.first_recipient,
            "count": more,
        }

    @admin.display(description=_("text"))
    def text(self, message: Message) -> str:
        """Return the text body."""
        return self._read_content(message).text

    @admin.display(description=_("HTML"))
    def html(self, message: Message) -> str:
        """Return the HTML body, as text."""
        return self._read_content(message).html

    @admin.display(description=_("wire fields"))
    def wire(self, message: Message) -> str:
        """Return the fields that left, without bodies."""
        wire = self._read_content(message).wire
        return json.dumps(wire, indent=2, ensure_ascii=False) if wire else ""

    def _read_content(self, message: Message) -> Content:
        found = getattr(message, "content", None)
        return found or Content(text=str(_("(not kept)")))
