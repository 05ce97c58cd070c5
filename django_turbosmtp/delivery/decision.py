"""Decides whether a message may be sent again, and explains if not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from django_turbosmtp._lib.times import measure_age
from django_turbosmtp.delivery.stored import are_blind_copies, read_mailbox
from django_turbosmtp.log.querysets import STUCK, is_queued, read_related
from django_turbosmtp.log.suppressions import look_up
from django_turbosmtp.statuses import Outcome, Status

if TYPE_CHECKING:
    from django_turbosmtp.conf.settings import Settings
    from django_turbosmtp.delivery.engine import Engine
    from django_turbosmtp.models import Message, Recipient
    from django_turbosmtp.payload import Guard


class NotSentAgain(Exception):  # noqa: N818 - nothing failed
    """A message is not sent again. The text is the reason, in the user's language."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a message would be sent again.

    ``may_have_arrived``: a recipient may have it already. ``is_other_account``: it
    would be sent through another account than before, or through the same account with
    a new key.
    """

    recipients: list[Recipient]
    may_have_arrived: bool
    is_other_account: bool


def require_resendable(row: Message, settings: Settings, guard: Guard | None) -> None:
    """Raise `NotSentAgain` if the message itself, or the settings, prevent it.

    The account is not checked, nor the recipients unless RECIPIENT_GUARD is set.
    """
    if row.status == Status.QUEUED or not _has_payload(row):
        raise NotSentAgain(_explain_no_payload(row))
    if _is_under_way(row):
        raise NotSentAgain(str(Status.SENDING.sentence))
    if not settings.log:
        raise NotSentAgain(_("The log is off, so the result would not be recorded."))
    # The stored fields are those of one API version (docs/wire.rst, "Send").
    if settings.api_version != row.api_version:
        raise NotSentAgain(
            _(
                "The message was prepared for version %d of the turboSMTP API,"
                " but this site now uses another version."
            )
            % row.api_version
        )
    if guard is not None:
        _list_waiting(row, guard)


def plan_resend(row: Message, engine: Engine) -> Plan:
    """Return how a message would be sent again, to recipients that may not have it.

    Raise `NotSentAgain` as `require_resendable` does; if there is no such recipient; if
    one has since been suppressed; or if the request would also reach others.
    """
    require_resendable(row, engine.settings, engine.guard)
    waiting = _list_waiting(row, engine.guard)
    addresses = {read_mailbox(recipient).addr_spec.lower() for recipient in waiting}
    # A recipient may have been suppressed since the first send.
    suppressed = look_up(addresses, engine.settings)
    if suppressed is None:
        raise NotSentAgain(
            _("The suppressed addresses could not be read. Try again in a minute.")
        )
    if suppressed:
        raise NotSentAgain(_("A recipient has since been suppressed."))
    return Plan(
        recipients=waiting,
        may_have_arrived=any(
            recipient.status in {Status.UNKNOWN, Status.SENDING}
            for recipient in waiting
        ),
        is_other_account=not engine.account.has_fingerprint(row.account),
    )


def _list_waiting(row: Message, guard: Guard | None) -> list[Recipient]:
    """Return the recipients that do not have the message; raise `NotSentAgain`."""
    # Recipients that were left out are left out again.
    rows = (
        read_related(row.recipients)
        .exclude(status=Status.REJECTED)
        .order_by("position")
    )
    recipients: list[Recipient] = list(rows)
    waiting = [r for r in recipients if not Status(r.status).is_at_turbosmtp]
    if not waiting:
        raise NotSentAgain(_("All recipients already have it."))
    if len(waiting) < len(recipients) and not are_blind_copies(recipients):
        raise NotSentAgain(
            _("Some recipients already have it and would receive it twice.")
        )
    mailboxes = [read_mailbox(recipient) for recipient in waiting]
    if guard and any(guard(mailbox) != mailbox for mailbox in mailboxes):
        raise NotSentAgain(
            _(
                "This site sends only to certain addresses, and a recipient is not"
                " one of them."
            )
        )
    return waiting


def _has_payload(row: Any) -> bool:
    """Return whether the log stores the whole message.

    Needs no query if the row is from `log.querysets.add_relations`.
    """
    found = getattr(row, "has_payload", None)
    return bool(
        read_related(row.payload).order_by().exists() if found is None else found
    )


def _is_under_way(row: Message) -> bool:
    """Return whether a process may still be sending a message."""
    if row.status != Status.SENDING:
        return False
    return measure_age(row.created_at) < STUCK.total_seconds() or is_queued(row)


def _explain_no_payload(message: Message) -> str:
    if message.status == Status.QUEUED:
        return _("Not possible: the message is queued and has not been sent yet.")
    if message.outcome == Outcome.ACCEPTED and not message.error:
        return _(
            "Not possible: turboSMTP accepted this message. The log stores the full"
            " message only until then."
        )
    if read_related(message.resends).order_by().exists():
        return _("It has already been sent again.")
    if message.outcome in {Outcome.CANCELLED, Outcome.SUPPRESSED}:
        return _(
            "Not possible: the message was cancelled, or all of its recipients"
            " were left out."
        )
    if message.status == Status.SENDING:
        return _(
            "Not possible: the process that was sending the message ended before"
            " the log stored the full message."
        )
    return _(
        "Not possible: the log does not contain the full message. The message was"
        " invalid, or this site does not store message texts, or the text was"
        " deleted because of its age."
    )
