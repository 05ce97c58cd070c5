"""The pages of the log that send messages. They only send on POST."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponseRedirect
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _

from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp.admin.offer import describe_offer, read_number, read_targets
from django_turbosmtp.admin.pages import ReadingPages
from django_turbosmtp.admin.sentences import describe_fate, describe_refusal
from django_turbosmtp.admin.show import show_status, show_time
from django_turbosmtp.admin.testmail import (
    TestMailForm,
    build_test_mail,
    list_our_mailers,
)
from django_turbosmtp.backends import find_backend
from django_turbosmtp.delivery.decision import (
    NotSentAgain,
    build_offer,
    require_resendable,
)
from django_turbosmtp.delivery.resend import describe_other_account, resend
from django_turbosmtp.exceptions import TurboSMTPError
from django_turbosmtp.log.connection import exempt_from_atomic_requests
from django_turbosmtp.log.rows import name_class
from django_turbosmtp.models import Message
from django_turbosmtp.statuses import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from django_turbosmtp.delivery.engine import Engine

logger = get_logger("django_turbosmtp.admin")


class SendingPages(ReadingPages):
    """Views that send. Their rows are committed before a message is sent."""

    def list_urls(self) -> Iterator[Any]:
        """Yield the URLs of these pages."""
        yield from super().list_urls()
        yield self._serve("<uuid:pk>/resend/", self.resend_view, "resend")
        yield self._serve("test/", self.test_view, "test")

    @method_decorator(exempt_from_atomic_requests)
    def resend_view(self, request: HttpRequest, pk: UUID) -> HttpResponseBase:
        """Let the user choose the recipients, and send a message again."""
        message = self._find(request, pk, "resend_message")
        try:
            engine = build_engine(message.mailer)
            offer = build_offer(message, engine)
        except NotSentAgain as reason:
            self.message_user(request, str(reason), messages.ERROR)
            return HttpResponseRedirect(self._build_url("change", pk))
        # The form contains the account that the user has seen; the settings may have
        # changed since.
        agreed = request.POST.get("account") == engine.account.fingerprint
        error = ""
        if request.method == "POST":
            if offer.is_other_account and not agreed:
                error = _("Nothing was sent. Tick the box to confirm.")
            elif not (targets := read_targets(request.POST, offer)):
                error = _("Nothing was sent. Choose at least one recipient.")
            else:
                url = self._send_again(
                    request,
                    message,
                    engine,
                    targets=targets,
                    decision=read_number(request.POST.get("decision")),
                    agreed=agreed,
                )
                return HttpResponseRedirect(url)
        context = {
            **describe_offer(message, offer, request.POST),
            "message": message,
            "other_account": describe_other_account(message)
            if offer.is_other_account
            else "",
            "account": engine.account.fingerprint,
            "error": error,
            "status": show_status(message.status),
            "fate": describe_fate(message),
            "time": show_time(message.created_at),
            "title": _("Send again?"),
        }
        return self._render(request, "resend", context)

    def _send_again(
        self,
        request: HttpRequest,
        message: Message,
        engine: Engine,
        *,
        targets: dict[int, str],
        decision: int,
        agreed: bool,
    ) -> str:
        """Send a message again, show the result, and return the URL of its page."""
        try:
            job = resend(
                message,
                engine,
                targets=targets,
                decision=decision,
                allow_other_account=agreed,
            )
        except NotSentAgain as reason:
            text = _("Nothing was sent. %s") % reason
            self.message_user(request, text, messages.ERROR)
            return self._build_url("change", message.pk)
        sent = Message.objects.using(message._state.db).get(pk=job.id)
        # Add this to the admin's history of the original message, with the user.
        self.log_change(request, message, f"Sent again as {job.id}: {sent.outcome}")
        level = messages.ERROR
        if job.status.outcome == Outcome.ACCEPTED:
            level = messages.SUCCESS
        elif job.status.outcome == Outcome.UNKNOWN:
            level = messages.WARNING
        text = _("Result of sending again: %s") % describe_fate(sent)
        self.message_user(request, text, level)
        return self._build_url("change", job.id)

    @method_decorator(exempt_from_atomic_requests)
    def test_view(self, request: HttpRequest) -> HttpResponseBase:
        """Ask for the recipient of a test mail, send it, and show its row."""
        self._require(request, "resend_message")
        self._require_view(request)
        # The user is not AnonymousUser, because the admin requires a login.
        own = getattr(request.user, "email", "")
        form = TestMailForm(request.POST or None, initial={"to": own})
        if request.method == "POST" and form.is_valid():
            return HttpResponseRedirect(self._send_test(request, form.cleaned_data))
        context = {"title": _("Send a test mail"), "form": form}
        return self._render(request, "test", context)

    def _send_test(self, request: HttpRequest, data: dict[str, str]) -> str:
        """Send a test mail, show the result, and return the URL of its page."""
        message = build_test_mail(data["to"], request.get_host())
        mailer = data.get("mailer", "")
        try:
            find_backend(mailer).send_messages([message])
        except (ImproperlyConfigured, TurboSMTPError) as error:
            # If the log is off, this is the only record of the technical reason.
            logger.error("The test mail was not sent: %s", error)  # noqa: TRY400
            reason = (
                describe_refusal(name_class(error))
                if isinstance(error, TurboSMTPError)
                else _explain_settings(mailer)
            )
            text = _("Result of the test mail: %s") % reason
            self.message_user(request, text, messages.ERROR)
        else:
            text = _("The test mail was sent: turboSMTP accepted it.")
            if find_backend(mailer).settings.queue:
                text = _("The test mail is queued.")
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
        """Return the available actions, and the reason if it cannot be sent again."""
        tools: list[dict[str, Any]] = []
        no_resend = ""
        if request.user.has_perm("turbosmtp.resend_message"):
            try:
                backend = find_backend(message.mailer)
                require_resendable(message, backend.settings)
            except NotSentAgain as reason:
                no_resend = str(reason)
            except ImproperlyConfigured:
                no_resend = _explain_settings(message.mailer)
            else:
                url = self._build_url("resend", message.pk)
                tools.append({"label": _("Send again…"), "url": url})
        if request.user.has_perm("turbosmtp.view_message_body"):
            url = self._build_url("eml", message.pk)
            tools.append({"label": _("Save as .eml"), "url": url})
        return tools, no_resend


def build_engine(mailer: str) -> Engine:
    """Return the engine of a mailer, with the current settings.

    Raise `NotSentAgain`, with a text for the user, if there is none.
    """
    try:
        return find_backend(mailer).build_engine()
    except ImproperlyConfigured as error:
        # The text of the exception is for developers.
        logger.error("Messages cannot be sent: %s", error)  # noqa: TRY400
        raise NotSentAgain(_explain_settings(mailer)) from None


def _explain_settings(mailer: str) -> str:
    """Return why nothing can be sent through a mailer, without names of settings."""
    if mailer and mailer not in list_our_mailers():
        return _("This site no longer has the mailer “%s”.") % mailer
    return _(
        "The mail settings of this site are invalid. Its error log has the details."
    )
