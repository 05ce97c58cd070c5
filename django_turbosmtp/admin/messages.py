"""Messages in the admin: a list, and all that is known of one; nothing to change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from django_turbosmtp.admin.paginator import LogPaginator
from django_turbosmtp.conf import read_log_settings
from django_turbosmtp.models import Attachment, Content, Message, Recipient

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

    list_display = ("subject_or_none", "recipients_shown", "status", "created_at")
    list_display_links = ("subject_or_none",)
    search_fields = ("reference_id",)
    search_help_text = _("An exact address, message id or reference id.")
    show_full_result_count = False
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
        """Find by what is exact: an address, a message id or a reference id."""
        term = search_term.strip()
        if not term:
            return queryset, False
        recipients = Recipient.objects.filter(Q(address=term.lower()) | Q(mid=term))
        return (
            queryset.filter(
                Q(reference_id=term)
                | Q(mid=term)
                | Q(pk__in=recipients.values("message_id"))
            ),
            False,
        )

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
