"""Whether a message can be sent again, and if not, why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Exists, OuterRef
from django.utils import timezone
from django.utils.translation import gettext as _

from django_turbosmtp._lib.versions import HAS_MAILERS, get_mailer
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.delivery.again import NotSentAgain
from django_turbosmtp.log.querysets import STUCK
from django_turbosmtp.models import Message, Payload
from django_turbosmtp.statuses import Outcome, Status

if TYPE_CHECKING:
    from django.db.models import QuerySet


def add_payload(queryset: QuerySet[Message]) -> QuerySet[Message]:
    """Return the messages, each with ``has_payload``."""
    payload = Payload.objects.filter(message=OuterRef("pk"))
    return queryset.annotate(has_payload=Exists(payload))


def find_mailer(alias: str) -> EmailBackend:
    """Return our backend of this mailer, or that of the settings for "".

    Raise `NotSentAgain` where there is none.
    """
    try:
        found = get_mailer(alias) if HAS_MAILERS and alias else EmailBackend()
    except ImproperlyConfigured as error:
        raise NotSentAgain(str(error)) from None
    if not isinstance(found, EmailBackend):
        raise NotSentAgain(_("The settings have no turboSMTP mailer “%s”.") % alias)
    return found


def find_backend(message: Message) -> EmailBackend:
    """Return the backend that the message went through, as it is set up now.

    Raise `NotSentAgain` where there is none, or another by now.
    """
    found = find_mailer(message.mailer)
    if not found.settings.log:
        raise NotSentAgain(_("LOG is off: nothing would tell what became of it."))
    if found.settings.api_version != message.api_version:
        raise NotSentAgain(
            _("It was written for API version %d, which is not the one in use now.")
            % message.api_version
        )
    return found


def require_resendable(message: Any) -> EmailBackend:
    """Return the backend to send a message again with; raise `NotSentAgain`.

    ``message`` is one of `add_payload`.
    """
    if not message.has_payload:
        raise NotSentAgain(_explain_no_payload(message))
    if is_under_way(message):
        raise NotSentAgain(_("It is being sent."))
    backend = find_backend(message)
    if backend.settings.recipient_guard is not None:
        backend.require_waiting(message)
    return backend


def is_under_way(message: Message) -> bool:
    """Tell whether a process may still be sending a message."""
    return (
        message.status == Status.SENDING and timezone.now() - message.created_at < STUCK
    )


def _explain_no_payload(message: Message) -> str:
    if message.status == Status.QUEUED:
        return _("Not possible: it still waits to be sent.")
    if message.outcome == Outcome.ACCEPTED and not message.error:
        return _(
            "Not possible: turboSMTP accepted it. The whole of a message is kept only"
            " where that is not so."
        )
    if message.resends.order_by().exists():
        return _("It has been sent again already.")
    if message.outcome in {Outcome.CANCELLED, Outcome.SUPPRESSED}:
        return _("Not possible: there was nothing to send.")
    if message.status == Status.SENDING:
        return _(
            "Not possible: the log has not got the whole of it, which is written with"
            " what became of it."
        )
    return _(
        "Not possible: the log has not got the whole of it. It never had, where the"
        " message could not be sent as it was, or LOG_BODY or LOG_REDACT kept it out;"
        " or it was pruned after BODY_RETENTION_DAYS."
    )
