"""What became of a message, in the words of who asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_turbosmtp.log.querysets import STUCK
from django_turbosmtp.models import Outcome, Status

if TYPE_CHECKING:
    import datetime

    from django_turbosmtp.models import Attempt, Event, Message

_MAY_HAVE_ARRIVED = gettext_lazy(
    "Nobody knows whether turboSMTP accepted it: it may have arrived. Ask the recipient"
    " before it is sent again."
)

#: By the name of the error's class (docs/outcomes.rst): what it means, and what to do.
_REFUSALS = {
    "InvalidAddress": gettext_lazy("It was not sent: an address is wrong."),
    "UnsupportedFeature": gettext_lazy(
        "It was not sent: it asks for something that turboSMTP cannot do."
    ),
    "MessageTooLarge": gettext_lazy("It was not sent: it is too large for turboSMTP."),
    "MessageError": gettext_lazy("It was not sent: it cannot be sent as it is."),
    "AuthenticationError": gettext_lazy(
        "turboSMTP does not know the account, or it is not active: check the"
        " credentials."
    ),
    "NoCredit": gettext_lazy("The turboSMTP account has no credit left."),
    "Forbidden": gettext_lazy("The plan of the turboSMTP account does not allow it."),
    "RateLimited": gettext_lazy(
        "turboSMTP asked to send more slowly, and longer than the sender waits."
    ),
    "ServerError": gettext_lazy("turboSMTP was not available."),
    "ConnectionFailed": gettext_lazy(
        "turboSMTP was not reached, or it was not tried: it has certainly not arrived."
    ),
    "BadRequest": gettext_lazy("turboSMTP refused it."),
}


#: What an event says of a recipient, by the status it raised her to.
_TOLD = {
    Status.DEFERRED: gettext_lazy(
        "The recipient's server asked to wait; turboSMTP goes on trying."
    ),
    Status.DELIVERED: gettext_lazy("The recipient's server took it."),
    Status.BOUNCED: gettext_lazy(
        "The recipient's server refused it: it did not arrive."
    ),
    Status.SCANNED: gettext_lazy(
        "It arrived, and was opened by a program, likely by no person."
    ),
    Status.OPENED: gettext_lazy("It was opened."),
    Status.CLICKED: gettext_lazy("A link in it was followed."),
    Status.UNSUBSCRIBED: gettext_lazy("The recipient does not want such mail."),
    Status.COMPLAINED: gettext_lazy("The recipient reported it as spam."),
}

#: What the kind of a bounce means, and what to do.
_BOUNCES = {
    "no_mailbox": gettext_lazy("There is no such mailbox."),
    "no_domain": gettext_lazy("There is no such domain."),
    "full": gettext_lazy("The mailbox is full."),
    "blocked": gettext_lazy("The recipient's server does not take mail from here."),
    "spam": gettext_lazy("The recipient's server took it for spam."),
    "too_large": gettext_lazy("It is too large for the recipient's server."),
    "slow": gettext_lazy("The recipient's server was not reached in time."),
}

_EVENTS = {
    "queued": gettext_lazy("turboSMTP accepted it."),
    "rejected": gettext_lazy("turboSMTP did not send it."),
    "unknown": gettext_lazy("turboSMTP told something that is not known here."),
    **{status.value: words for status, words in _TOLD.items()},
}


def choose_step(event: Event) -> str:
    """Return how far an event says that the message came, as a status or event type."""
    return Status.SCANNED if event.is_machine else event.event_type


def describe_event(event: Event) -> str:
    """Return what happened, as a sentence, and a second one where it went wrong."""
    words = _EVENTS.get(choose_step(event), _EVENTS["unknown"])
    why = _BOUNCES.get(event.bounce_kind)
    return f"{words} {why}" if why else str(words)


def describe_fate(message: Message, now: datetime.datetime | None = None) -> str:
    """Return what became of a message, and what to do, as sentences."""
    if message.status in {Status.SENDING, Status.QUEUED}:
        return _describe_waiting(message, now or timezone.now())
    if message.recipient_count == 1 and message.status in _TOLD:
        return str(_TOLD[Status(message.status)])
    match message.outcome:
        case Outcome.ACCEPTED if message.error:
            return _("turboSMTP accepted it for some recipients, not for all.")
        case Outcome.ACCEPTED:
            return _("turboSMTP accepted it.")
        case Outcome.UNKNOWN:
            return str(_MAY_HAVE_ARRIVED)
        case Outcome.CANCELLED:
            return _("The site cancelled it (a receiver of pre_send).")
        case Outcome.SUPPRESSED:
            return _("It was not sent: no recipient of it may be written to.")
        case _:
            reason = _REFUSALS.get(message.error_class)
            return str(reason) if reason else _("It was not sent.")


#: Why a recipient was left out, by `Recipient.why`.
_LEFT_OUT = {
    "guard": gettext_lazy("This recipient was left out: RECIPIENT_GUARD."),
    "bounced": gettext_lazy("This recipient was left out: there is no such mailbox."),
    "complained": gettext_lazy(
        "This recipient was left out, having reported a message as spam."
    ),
    "unsubscribed": gettext_lazy("This recipient was left out, having unsubscribed."),
    "manual": gettext_lazy("This recipient was left out: the address is suppressed."),
}


def describe_left_out(why: str) -> str:
    """Return why a recipient was left out, "" where it was not."""
    words = _LEFT_OUT.get(why)
    return str(words) if words else ""


def describe_fate_for(status: str, message: Message, mid: str = "") -> str:
    """Return what became of a message for the recipient with this status and id."""
    if status in _TOLD:
        return str(_TOLD[Status(status)])
    if message.outcome == Outcome.ACCEPTED:
        match status:
            case Status.REJECTED if mid:
                return str(_EVENTS["rejected"])
            case Status.SENT:
                return _("turboSMTP accepted it.")
            case Status.REJECTED:
                return str(_LEFT_OUT["guard"])
            case Status.UNKNOWN:
                return str(_MAY_HAVE_ARRIVED)
            case Status.FAILED:
                return _("turboSMTP did not accept it for this recipient.")
    return describe_fate(message)


def _describe_waiting(message: Message, now: datetime.datetime) -> str:
    if message.status == Status.QUEUED:
        return _("It waits to be sent.")
    if now - message.created_at < STUCK:
        return _("It is being sent.")
    stuck = _("The process that sent it ended before it wrote what became of it.")
    return f"{stuck} {_MAY_HAVE_ARRIVED}"


def describe_attempt(attempt: Attempt) -> str:
    """Return what came of one request."""
    if not attempt.error:
        return _("Accepted")
    if attempt.error_class == "OutcomeUnknown":
        return _("Unknown: it may have been accepted")
    if attempt.status_code:
        return _("Refused (HTTP %(code)d)") % {"code": attempt.status_code}
    return _("Not sent")


def describe_attempts(message: Message) -> str:
    """Return what is known of the requests of a message without a record of each."""
    count = message.attempts
    if not count:
        return _("No request was made.")
    if message.outcome == Outcome.ACCEPTED and not message.error and count == 1:
        return _("Accepted at the first request.")
    return ngettext("%d request.", "%d requests.", count) % count


def describe_duration(seconds: float) -> str:
    """Return a time span as a person says it."""
    if seconds < 1:
        return _("%(count)d ms") % {"count": round(seconds * 1000)}
    return _("%(count).1f s") % {"count": seconds}
