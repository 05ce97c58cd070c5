"""A form, and two ways to send its message."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.admin.views.decorators import staff_member_required
from django.core.mail import send_mail
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_POST

from django_turbosmtp.exceptions import (
    ConnectionFailed,
    MessageError,
    OutcomeUnknown,
    TurboSMTPError,
)
from example import mail
from example.forms import MailForm
from example.models import Parcel

View = Callable[[HttpRequest], HttpResponse]

EXAMPLE_MAIL = {
    "to": "you@example.com",
    "subject": "Your parcel is on its way",
    "text": "Hello,\n\nyour parcel has left our shop. It is small and blue.\n",
    "with_files": True,
}


def staff_if_real(view: View) -> View:
    """Require a staff login if mail is really sent: the form accepts any address."""

    @wraps(view)
    def wrapper(request: HttpRequest) -> HttpResponse:
        if settings.SENDS_FOR_REAL:
            return staff_member_required(view)(request)
        return view(request)

    return wrapper


@require_GET
@staff_if_real
def page(request: HttpRequest) -> HttpResponse:
    """Show the form."""
    return _show(request, MailForm(initial=EXAMPLE_MAIL, label_suffix=""))


@require_POST
@staff_if_real
def send(request: HttpRequest) -> HttpResponse:
    """Send a message with a text, an HTML part and files, and read its status."""

    def with_status(form: MailForm) -> None:
        with transaction.atomic():
            parcel = Parcel.objects.create(email=form.cleaned_data["to"])
            message = mail.compose(**form.cleaned_data, parcel=parcel.pk)
            # After the commit: a rollback removes the parcel, but not a sent mail.
            transaction.on_commit(message.send)
        status = message.turbosmtp_status
        if status.outcome == "queued":
            said = SafeString("Outcome: queued. A worker sends the message.")
            messages.success(request, said + _inbox_link("/"))
            return
        if status.outcome != "accepted":
            # No exception: all recipients were left out, or it was cancelled.
            messages.warning(request, f"Not sent. Outcome: {status.outcome}.")
            return
        said = format_html(
            "Outcome: {}. Message id: {}.", status.outcome, status.message_id
        )
        messages.success(request, said + _inbox_link(f"/messages/{status.message_id}"))

    return _send(request, with_status)


@require_POST
@staff_if_real
def send_plain(request: HttpRequest) -> HttpResponse:
    """Send only a text with Django's send_mail(), which returns a count."""

    def with_count(form: MailForm) -> None:
        data = form.cleaned_data
        count = send_mail(data["subject"], data["text"], None, [data["to"]])
        said = format_html("send_mail() returned {}: accepted or queued.", count)
        messages.success(request, said + _inbox_link("/"))

    return _send(request, with_count)


def _send(request: HttpRequest, transmit: Callable[[MailForm], Any]) -> HttpResponse:
    form = MailForm(request.POST, label_suffix="")
    if not form.is_valid():
        return _show(request, form, status=400)
    try:
        transmit(form)
    except OutcomeUnknown as error:
        # Do not show the form again: another click could send a second copy.
        said = format_html(
            "It is unknown whether turboSMTP accepted this message. Check before you"
            " send it again. {}",
            str(error),
        )
        messages.warning(request, said + _inbox_link("/"))
    except TurboSMTPError as error:
        status = 400 if isinstance(error, MessageError) else 502
        return _show(request, form, status=status, problem=_in_words(error))
    # Redirect, so that reloading the page does not send it again.
    return redirect("page")


def _in_words(error: TurboSMTPError) -> str:
    if isinstance(error, MessageError):
        return f"This message cannot be sent as it is. {error}"
    if isinstance(error, ConnectionFailed) and not settings.SENDS_FOR_REAL:
        return (
            f"Not sent: the sandbox does not answer at {settings.SANDBOX_URL}. Start"
            " it with: python manage.py turbosmtp_sandbox"
        )
    again = " You may try again." if error.retryable else ""
    return f"Not sent. {error}{again}"


def _inbox_link(path: str) -> SafeString:
    if settings.SENDS_FOR_REAL:
        return SafeString()
    return format_html(
        ' <a href="{}{}">See it in the inbox</a>', settings.SANDBOX_URL, path
    )


def _show(
    request: HttpRequest, form: MailForm, *, status: int = 200, problem: str = ""
) -> HttpResponse:
    context = {
        "form": form,
        "problem": problem,
        "sends_for_real": settings.SENDS_FOR_REAL,
        "sandbox_url": settings.SANDBOX_URL,
        "sender": settings.DEFAULT_FROM_EMAIL,
        "admin_url": reverse("admin:index"),
    }
    return render(request, "example/page.html", context, status=status)
