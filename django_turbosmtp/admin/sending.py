"""The pages of the log that send something, each by POST alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.http import HttpResponseRedirect
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _

from django_turbosmtp.admin.pages import ReadingPages
from django_turbosmtp.admin.resend import find_mailer, require_resendable
from django_turbosmtp.admin.sentences import describe_fate
from django_turbosmtp.admin.show import show_status, show_time
from django_turbosmtp.admin.testmail import TestMailForm, build_test_mail
from django_turbosmtp.delivery.again import NotSentAgain
from django_turbosmtp.exceptions import TurboSMTPError
from django_turbosmtp.models import Message
from django_turbosmtp.statuses import Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from django_turbosmtp.backends import EmailBackend


#: Statuses of recipients of whom nobody knows whether they got it.
_UNSURE = {Status.UNKNOWN, Status.SENDING}


class SendingPages(ReadingPages):
    """Views that send. What they wrote before is committed before anything leaves."""

    def list_urls(self) -> Iterator[Any]:
        """Yield the URLs of these pages."""
        yield from super().list_urls()
        yield self._serve("<uuid:pk>/resend/", self.resend_view, "resend")
        yield self._serve("test/", self.test_view, "test")

    @method_decorator(transaction.non_atomic_requests)
    def resend_view(self, request: HttpRequest, pk: UUID) -> HttpResponseBase:
        """Ask whether to send a message again, to whom, and do it."""
        message = self._find(request, pk, "resend_message")
        back = self._build_url("change", pk)
        try:
            backend = require_resendable(message)
            recipients = backend.require_waiting(message)
        except NotSentAgain as reason:
            self.message_user(request, str(reason), messages.ERROR)
            return HttpResponseRedirect(back)
        if request.method == "POST":
            return HttpResponseRedirect(self._send_again(request, message, backend))
        context = {
            "message": message,
            "recipients": recipients,
            # Of blind copies each had a request: the message may be "accepted".
            "may_have_arrived": any(one.status in _UNSURE for one in recipients),
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
        except (NotSentAgain, ImproperlyConfigured) as reason:
            text = _("Nothing was sent. %s") % reason
            self.message_user(request, text, messages.ERROR)
            return self._build_url("change", message.pk)
        sent = Message.objects.using(message._state.db).get(pk=job.id)
        self.log_change(request, message, f"Sent again as {job.id}: {sent.outcome}")
        level = messages.ERROR
        if job.status.outcome == Outcome.ACCEPTED:
            level = messages.SUCCESS
        elif job.status.outcome == Outcome.UNKNOWN:
            level = messages.WARNING
        text = _("Sent again: %s") % describe_fate(sent)
        self.message_user(request, text, level)
        return self._build_url("change", job.id)

    @method_decorator(transaction.non_atomic_requests)
    def test_view(self, request: HttpRequest) -> HttpResponseBase:
        """Ask where a test mail shall go, send it, and show its row."""
        self._require(request, "resend_message")
        self._require_view(request)
        # AnonymousUser does not come here.
        own = getattr(request.user, "email", "")
        form = TestMailForm(request.POST or None, initial={"to": own})
        if request.method == "POST" and form.is_valid():
            return HttpResponseRedirect(self._send_test(request, form.cleaned_data))
        context = {"title": _("Send a test mail"), "form": form}
        return self._render(request, "test", context)

    def _send_test(self, request: HttpRequest, data: dict[str, str]) -> str:
        """Send a test mail, say what became of it, and return where to look."""
        message = build_test_mail(data["to"], request.get_host())
        try:
            find_mailer(data.get("mailer", "")).send_messages([message])
        except (NotSentAgain, ImproperlyConfigured, TurboSMTPError) as error:
            text = _("The test mail: %s") % error
            self.message_user(request, text, messages.ERROR)
        else:
            text = _("The test mail: turboSMTP accepted it.")
            self.message_user(request, text, messages.SUCCESS)
        status = getattr(message, "turbosmtp_status", None)
        key = getattr(status, "reference_id", None)
        rows = self.get_queryset(request)
        if key and rows.filter(pk=key).exists():
            return self._build_url("change", key)
        return self._build_url("changelist")

    def _list_tools(
        self, request: HttpRequest, message: Message
    ) -> tuple[list[dict[str, Any]], str]:
        """Return what may be done with a message, and why it is not sent again."""
        tools: list[dict[str, Any]] = []
        no_resend = ""
        if request.user.has_perm("turbosmtp.resend_message"):
            try:
                require_resendable(message)
            except NotSentAgain as reason:
                no_resend = str(reason)
            else:
                url = self._build_url("resend", message.pk)
                tools.append({"label": _("Send again…"), "url": url})
        if request.user.has_perm("turbosmtp.view_message_body"):
            url = self._build_url("eml", message.pk)
            tools.append({"label": _("Save as .eml"), "url": url})
        return tools, no_resend
