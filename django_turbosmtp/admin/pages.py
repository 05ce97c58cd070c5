"""The read-only pages of the log, in addition to Django's list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.handlers.asgi import ASGIRequest
from django.http import (
    FileResponse,
    Http404,
    HttpResponse,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from django_turbosmtp._lib.interrupts import raise_as_it_was, raise_interrupt
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp._lib.versions import MODERN_ADMIN
from django_turbosmtp.admin.dashboard import describe_period, is_open
from django_turbosmtp.admin.detail import Reader
from django_turbosmtp.admin.eml import build_eml
from django_turbosmtp.admin.export import iterate_in_thread, write_csv
from django_turbosmtp.admin.people import describe_person
from django_turbosmtp.admin.preview import build_preview, show_own_pictures
from django_turbosmtp.admin.waiting import describe_queue
from django_turbosmtp.conf.settings import uses_queue
from django_turbosmtp.log.person_export import write_export
from django_turbosmtp.log.querysets import add_relations, lacks_events, read_related
from django_turbosmtp.models import Content, Message
from django_turbosmtp.statuses import Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from django.contrib.admin import ModelAdmin
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    _Base = ModelAdmin[Message]
else:
    _Base = object


logger = get_logger("django_turbosmtp.admin")


class ReadingPages(_Base):
    """Read-only views. Each checks its own permissions."""

    def list_urls(self) -> Iterator[Any]:
        """Yield the URLs of these pages."""
        yield self._serve("<uuid:pk>/preview/", self.preview_view, "preview")
        route = "<uuid:pk>/attachments/<int:position>/"
        yield self._serve(route, self.attachment_view, "attachment")
        yield self._serve("<uuid:pk>/eml/", self.eml_view, "eml")
        yield self._serve("person/", self.person_view, "person")
        yield self._serve("person/export/", self.person_export_view, "person_export")
        yield self._serve("dashboard/", self.dashboard_view, "dashboard")
        yield self._serve("export/", self.export_view, "export")

    def _serve(self, route: str, view: Any, ending: str) -> Any:
        """Return the URL of a view that requires a login to the admin."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_{ending}"
        return path(route, self.admin_site.admin_view(view), name=name)

    def preview_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Show only the HTML, in the frame on the page of a message."""
        message = self._find(request, pk, "view_message_body")
        contents = Content.objects.using(message._state.db).only("html")
        content = get_object_or_404(contents, pk=pk)
        return build_preview(
            show_own_pictures(content.html, message),
            pictures=request.GET.get("pictures") == "1",
        )

    @raise_as_it_was
    def attachment_view(
        self, request: HttpRequest, pk: UUID, position: int
    ) -> HttpResponseBase:
        """Return the stored bytes of an attachment as a download."""
        message = self._find(request, pk, "view_message_body")
        attachments = read_related(message.attachments).select_related("stored")
        attachment = get_object_or_404(attachments, position=position)
        if attachment.stored is None:
            raise Http404(_("The content of this attachment is not stored."))
        try:
            file = attachment.stored.file.open("rb")
        except Exception as error:
            # A storage may raise any exception: that of S3, for example, has its own.
            raise_interrupt(error)
            logger.exception("An attachment of %s could not be read.", message.pk)
            raise Http404(
                _("The stored file of this attachment cannot be read.")
            ) from None
        name = attachment.name or "attachment"
        response = FileResponse(file, as_attachment=True, filename=name)
        # Never the attachment's own type: a browser might show HTML or SVG with the
        # site's origin.
        response["Content-Type"] = "application/octet-stream"
        response["X-Content-Type-Options"] = "nosniff"
        response["Content-Security-Policy"] = "default-src 'none'; sandbox"
        return response

    def person_view(self, request: HttpRequest) -> HttpResponse:
        """Show all messages to one address, and their results."""
        self._require_view(request)
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
        if context and request.user.has_perm("turbosmtp.view_message_body"):
            query = {"address": context["address"]}
            context["export_url"] = self._build_url("person_export", query=query)
        title = _("Messages to %s") % context["address"] if context else _("Person")
        return self._render(request, "person", {"title": title, **context})

    def person_export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Stream all data about a person that the user may see."""
        self._require_view(request)
        self._require(request, "view_message_body")
        address = request.GET.get("address", "")
        # Without a complete address, there is no person to export.
        if "@" not in address:
            return self.person_view(request)
        messages = self.get_queryset(request)
        permissions = {
            "suppression": "turbosmtp.view_suppression",
            "notes": "turbosmtp.view_suppression",
            "admin_log": "admin.view_logentry",
        }
        pieces = write_export(
            address,
            messages.db,
            messages=messages,
            parts=[p for p, name in permissions.items() if request.user.has_perm(name)],
        )
        return _stream(request, pieces, "application/json", "person.json")

    def dashboard_view(self, request: HttpRequest) -> HttpResponse:
        """Show statistics of a period."""
        self._require_view(request)
        name = request.GET.get("period", "")
        messages = self.get_queryset(request)
        context = {
            "title": _("Dashboard"),
            "lacks_events": is_open() and lacks_events(messages.db),
            "queue": describe_queue(messages) if uses_queue() else None,
            "queue_url": self._build_url("changelist", query={"queue": Status.QUEUED}),
            **describe_period(name, messages, self._build_url),
        }
        return self._render(request, "dashboard", context)

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Stream the messages of the list, with its search and filters, as CSV."""
        self._require_view(request)
        try:
            # Django's ChangeList applies the search and the filters of the URL.
            found = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:
            return HttpResponseRedirect(self._build_url("changelist"))
        return _stream(request, write_csv(found), "text/csv", "messages.csv")

    def eml_view(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Return a message as a file that mail programs can open."""
        message = self._find(request, pk, "view_message_body")
        content = build_eml(message)
        if content is None:
            raise Http404(_("The text of this message is not stored."))
        response = HttpResponse(content, content_type="message/rfc822")
        response["Content-Disposition"] = f'attachment; filename="{message.pk}.eml"'
        response["X-Content-Type-Options"] = "nosniff"
        return response

    def _require_view(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _find(self, request: HttpRequest, key: Any, *permissions: str) -> Message:
        """Return a message, if the user may see it and has these permissions.

        Raise PermissionDenied, or Http404 if there is no such message.
        """
        # Check it first, but raise later, so that a missing message and a forbidden one
        # look the same.
        allowed = self.has_view_permission(request)
        self._require(request, *permissions)
        try:
            rows = self.get_queryset(request).select_related("resend_of")
            message = add_relations(rows).get(pk=key)
        except (Message.DoesNotExist, ValidationError):
            if not allowed:
                raise PermissionDenied from None
            text = _(
                "This message is not in the log. It may have been deleted because"
                " of its age."
            )
            raise Http404(text) from None
        if not self.has_view_permission(request, message):
            raise PermissionDenied
        return message

    def _require(self, request: HttpRequest, *permissions: str) -> None:
        """Raise PermissionDenied if the user lacks one of our permissions."""
        if not all(request.user.has_perm(f"turbosmtp.{name}") for name in permissions):
            raise PermissionDenied

    def _build_reader(self, request: HttpRequest) -> Reader:
        return Reader(
            may_read=request.user.has_perm("turbosmtp.view_message_body"),
            build_url=self._build_url,
        )

    def _build_url(
        self, ending: str, *args: Any, query: dict[str, str] | None = None
    ) -> str:
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{ending}"
        url = reverse(name, args=args, current_app=self.admin_site.name)
        return f"{url}?{urlencode(query)}" if query else url

    def _list_crumbs(self) -> list[dict[str, Any]]:
        """Return the breadcrumbs of a page."""
        site = self.admin_site.name
        label = self.opts.app_label
        app_list = reverse("admin:app_list", args=[label], current_app=site)
        return [
            {"label": _("Home"), "url": reverse("admin:index", current_app=site)},
            {"label": self.opts.app_config.verbose_name, "url": app_list},
            {
                "label": capfirst(self.opts.verbose_name_plural),
                "url": self._build_url("changelist"),
            },
        ]

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
                "has_modern_admin": MODERN_ADMIN,
                "crumbs": self._list_crumbs(),
                "media": self.media,
                **context,
            },
        )


def _stream(
    request: HttpRequest, lines: Iterator[str], content_type: str, name: str
) -> StreamingHttpResponse:
    """Return a response with a download."""
    # On ASGI, Django would read a plain iterator to its end before it sends any line.
    is_async = isinstance(request, ASGIRequest)
    response = StreamingHttpResponse(
        iterate_in_thread(lines) if is_async else lines,
        content_type=f"{content_type}; charset=utf-8",
    )
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


def read_page(text: str | None) -> int:
    """Return the number of a page, 1 if it is invalid."""
    # The length is limited, because Python refuses to convert very long numbers.
    number = int(text[:9]) if text and text.isdecimal() else 1
    return max(number, 1)
