"""Sentences for staff about the result of a message."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils import timezone
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_turbosmtp._lib.times import measure_age
from django_turbosmtp.log.querysets import STUCK, is_queued
from django_turbosmtp.statuses import Outcome, Reason, Status

if TYPE_CHECKING:
    from django_turbosmtp.models import Attempt, Event, Message, Recipient

#: The meaning of an error and advice, by the name of its class (docs/outcomes.rst).
_REFUSALS = {
    "InvalidAddress": Status.INVALID.sentence,
    "UnsupportedFeature": gettext_lazy(
        "It was not sent: it uses a feature that turboSMTP does not support."
    ),
    "MessageTooLarge": gettext_lazy("It was not sent: it is too large for turboSMTP."),
    "MessageError": gettext_lazy("It was not sent: the message is invalid."),
    "AuthenticationError": gettext_lazy(
        "turboSMTP did not accept the credentials of this site, or the account is"
        " not active. Check both."
    ),
    "NoCredit": gettext_lazy("The turboSMTP account has no credit left."),
    "Forbidden": gettext_lazy("The plan of the turboSMTP account does not allow this."),
    "RateLimited": gettext_lazy(
        "turboSMTP asked this site to send more slowly. Try again later."
    ),
    "ServerError": gettext_lazy("turboSMTP was not available. Try again later."),
    "ConnectionFailed": gettext_lazy(
        "It was certainly not sent: turboSMTP could not be reached, or sending had"
        " already stopped because of another error."
    ),
    "BadRequest": gettext_lazy("It was not sent: turboSMTP refused the message."),
    "RecipientsRefused": gettext_lazy(
        "It was not sent: all of its recipients are suppressed or not allowed."
    ),
    "OutcomeUnknown": Status.UNKNOWN.sentence,
}


#: A second sentence about a bounce, by its kind. "": the event is no bounce.
_BOUNCES = {
    "no_mailbox": gettext_lazy("The mailbox does not exist."),
    "no_domain": gettext_lazy("The domain does not exist."),
    "full": gettext_lazy("The mailbox is full."),
    "blocked": gettext_lazy(
        "The recipient's server does not accept mail from this sender."
    ),
    "spam": gettext_lazy("The recipient's server classified it as spam."),
    "too_large": gettext_lazy("It is too large for the recipient's server."),
    "slow": gettext_lazy("The recipient's server could not be reached in time."),
    "other": "",
    "": "",
}

_SETTINGS = gettext_lazy(
    "The mail settings of this site are invalid, or they have changed since messages"
    " were queued. The error log has the details."
)

_UNKNOWN_EVENT = gettext_lazy("turboSMTP reported an event of an unknown type.")

_LEFT_OUT_BY_GUARD = gettext_lazy(
    "This recipient was left out: this site sends only to certain addresses."
)


def describe_event(event: Event) -> str:
    """Return a sentence about an event, and a second one for a bounce."""
    status = event.status
    sentence = status.sentence if status else _UNKNOWN_EVENT
    return f"{sentence} {_BOUNCES[event.bounce_kind]}".strip()


def describe_fate(message: Message) -> str:
    """Return sentences about the result of a message, with advice."""
    status = Status(message.status)
    if status == Status.SENDING:
        return _describe_sending(message)
    match message.outcome:
        case Outcome.ACCEPTED if status.rank and message.recipient_count == 1:
            return str(status.sentence)
        case Outcome.ACCEPTED if message.error:
            return _(
                "turboSMTP accepted it for some of its recipients, but not for all."
            )
        case Outcome.SUPPRESSED:
            return str(_REFUSALS["RecipientsRefused"])
        case Outcome.REFUSED:
            return describe_refusal(message.error_class)
        case "":
            return str(status.sentence)
        case outcome:
            return str(Outcome(outcome).status.sentence)


def describe_refusal(error_class: str) -> str:
    """Return the meaning of an error by the name of its class."""
    return str(_REFUSALS.get(error_class, Status.FAILED.sentence))


def describe_stop(error_class: str) -> str:
    """Return why the queue of an account has stopped, by the name of an error's class.

    Other classes than those of refusals are errors of the settings.
    """
    return str(_REFUSALS.get(error_class, _SETTINGS))


def describe_problem(message: Message) -> str:
    """Return the reason for a problem of a message in the list, "" if there is none."""
    is_left_out = message.outcome in {Outcome.SUPPRESSED, Outcome.CANCELLED}
    return describe_fate(message) if message.error or is_left_out else ""


def describe_left_out(why: str) -> str:
    """Return why a recipient was left out, by `Recipient.why`; "" if not."""
    if why == "guard":
        return str(_LEFT_OUT_BY_GUARD)
    return str(Reason(why).sentence) if why else ""


def describe_fate_for(recipient: Recipient, message: Message) -> str:
    """Return the result of a message for one of its recipients."""
    status = Status(recipient.status)
    if message.outcome == Outcome.ACCEPTED:
        if status == Status.REJECTED and not recipient.mid:
            return describe_left_out(recipient.why or "guard")
        if status == Status.FAILED:
            return _("turboSMTP did not accept it for this recipient.")
        if status.rank is not None or status == Status.UNKNOWN:
            return str(status.sentence)
    return describe_left_out(recipient.why) or describe_fate(message)


def _describe_sending(message: Message) -> str:
    if measure_age(message.created_at) < STUCK.total_seconds() or is_queued(message):
        return str(Status.SENDING.sentence)
    stuck = _("The process that was sending it ended before it recorded the result.")
    return f"{stuck} {Status.UNKNOWN.sentence}"


def describe_attempt(attempt: Attempt) -> str:
    """Return a sentence about the result of one attempt."""
    if not attempt.error:
        return _("Sent")
    if attempt.error_class == "OutcomeUnknown":
        return _("Unknown: it may have been sent")
    if attempt.status_code:
        return _("Refused (HTTP %(code)d)") % {"code": attempt.status_code}
    return _("Not sent")


def describe_attempts(message: Message) -> str:
    """Return a sentence about the attempts of a message that are not stored."""
    count = message.attempts
    if not count:
        return _("No attempt was made.")
    if message.outcome == Outcome.ACCEPTED and not message.error and count == 1:
        return _("Sent on the first attempt.")
    return ngettext("%d attempt.", "%d attempts.", count) % count


def describe_duration(seconds: float) -> str:
    """Return a time span in words."""
    if seconds < 1:
        return _("%(count)d ms") % {"count": round(seconds * 1000)}
    if seconds < 120:
        return _("%(count).1f s") % {"count": seconds}
    # A message may be queued for hours.
    now = timezone.now()
    return timesince(now - timedelta(seconds=seconds), now)
