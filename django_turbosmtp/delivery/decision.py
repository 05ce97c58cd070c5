"""Decides whether and to whom a message may be sent again, and explains if not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from django_turbosmtp._lib.times import measure_age
from django_turbosmtp.delivery.stored import read_mailbox
from django_turbosmtp.exceptions import InvalidAddress
from django_turbosmtp.log.querysets import (
    STUCK,
    add_relations,
    is_queued,
    read_related,
)
from django_turbosmtp.log.suppressions import look_up
from django_turbosmtp.payload import EnvelopeRecipient
from django_turbosmtp.payload.addresses import Mailbox, parse, refuse_commas
from django_turbosmtp.statuses import Kind, Outcome, Reason, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django_turbosmtp.conf.settings import Settings
    from django_turbosmtp.delivery.engine import Engine
    from django_turbosmtp.models import Message, Recipient

#: A recipient with one of these statuses may have the message, or may receive it.
MAY_HAVE_IT = {Status.UNKNOWN, Status.SENDING}


class NotSentAgain(Exception):  # noqa: N818 - nothing failed
    """A message is not sent again. The text is the reason, in the user's language.

    ``summary``: the reason without the address, to count messages with one reason.
    """

    def __init__(self, reason: str, *, address: str = "") -> None:
        super().__init__(f"{address}: {reason}" if address else reason)
        self.summary = reason


@dataclass(frozen=True, kw_only=True)
class Offer:
    """How a message can be sent again, for a page.

    ``recipients``: in order. ``missing``: the positions of those that it did not reach.
    ``refused``: why some must not receive it, by position.
    ``decision``: how often it has been sent again. If this changes before the user
    decides, another user was faster.
    """

    recipients: list[Recipient]
    missing: frozenset[int]
    refused: Mapping[int, str]
    is_other_account: bool
    decision: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a message will be sent again.

    ``is_changed``: the recipients differ from the first ones. ``covers_missing``:
    no recipient that it did not reach is omitted. ``may_have_arrived``: one of the
    recipients has it, or may have it. ``is_other_account``: it would be
    sent through another account than before, or through the same account with a new
    key.
    """

    recipients: Sequence[EnvelopeRecipient]
    is_changed: bool = False
    covers_missing: bool = True
    may_have_arrived: bool = False
    is_other_account: bool = False


def require_resendable(row: Message, settings: Settings) -> None:
    """Raise `NotSentAgain` if the message itself, or the settings, prevent it.

    The account and the recipients are not checked.
    """
    if row.status == Status.QUEUED:
        raise NotSentAgain(
            _("Not possible: the message is queued and has not been sent yet.")
        )
    if _is_under_way(row):
        raise NotSentAgain(str(Status.SENDING.sentence))
    if not _is_complete(row):
        raise NotSentAgain(_explain_incomplete(row))
    if not settings.log:
        raise NotSentAgain(_("The log is off, so the result would not be recorded."))
    # The stored fields are those of one API version (docs/wire.rst, "Send").
    if settings.api_version != row.api_version:
        raise NotSentAgain(
            _(
                "The message was prepared for version %d of the turboSMTP API, but this"
                " site now uses another version."
            )
            % row.api_version
        )


def build_offer(row: Message, engine: Engine) -> Offer:
    """Return how a message can be sent again; raise `NotSentAgain` if it cannot."""
    require_resendable(row, engine.settings)
    recipients = _list_recipients(row)
    mailboxes = {r.position: read_mailbox(r) for r in recipients}
    return Offer(
        recipients=recipients,
        missing=_find_missing(recipients),
        refused=_find_refused(mailboxes, engine),
        is_other_account=not engine.account.has_fingerprint(row.account),
        decision=count_resends(row),
    )


def plan_resend(
    row: Message, engine: Engine, targets: Mapping[int, str] | None = None
) -> Plan:
    """Return how a message will be sent again.

    ``targets``: the address for each recipient that will receive it, by position; None
    for all recipients that it did not reach. Raise `NotSentAgain` if it cannot be sent
    again, if there is no recipient, or if it must not be sent to one of them.
    """
    require_resendable(row, engine.settings)
    recipients = _list_recipients(row)
    missing = _find_missing(recipients)
    if targets is None:
        targets = {r.position: "" for r in recipients if r.position in missing}
    chosen = {
        r.position: _correct(r, targets[r.position])
        for r in recipients
        if r.position in targets
    }
    if not chosen:
        raise NotSentAgain(_("All recipients already have it."))
    refused = _find_refused(chosen, engine)
    for position, reason in refused.items():
        raise NotSentAgain(reason, address=chosen[position].addr_spec)
    # An address that was entered twice receives it once.
    unique: dict[str, EnvelopeRecipient] = {}
    for recipient in recipients:
        if mailbox := chosen.get(recipient.position):
            kind = Kind(recipient.kind)
            entry = EnvelopeRecipient(kind=kind, mailbox=mailbox)
            unique.setdefault(mailbox.key, entry)
    return Plan(
        recipients=list(unique.values()),
        is_changed=any(read_mailbox(r) != chosen.get(r.position) for r in recipients),
        covers_missing=missing <= chosen.keys(),
        may_have_arrived=not find_doubtful(recipients).isdisjoint(chosen),
        is_other_account=not engine.account.has_fingerprint(row.account),
    )


def _list_recipients(row: Message) -> list[Recipient]:
    return list(read_related(row.recipients).order_by("position"))


def count_resends(row: Message) -> int:
    """Return how often a message has been sent again."""
    return int(read_related(row.resends).count())


def _find_missing(recipients: Sequence[Recipient]) -> frozenset[int]:
    """Return the positions of the recipients that the message did not reach."""
    return frozenset(
        recipient.position
        for recipient in recipients
        if Status(recipient.status).is_problem
        or recipient.status in {Status.SENDING, Status.CANCELLED}
    )


def _correct(recipient: Recipient, address: str) -> Mailbox:
    """Return the mailbox of a recipient with another address, unless it is the same."""
    mailbox = read_mailbox(recipient)
    address = address.strip()
    if address in {"", mailbox.addr_spec}:
        return mailbox
    try:
        corrected = parse(address, "address")
        refuse_commas(corrected, recipient.kind)
    except InvalidAddress:
        raise NotSentAgain(_("“%s” is not a valid address.") % address[:254]) from None
    name = corrected.name or mailbox.name
    return Mailbox(name=name, addr_spec=corrected.addr_spec)


def _find_refused(mailboxes: Mapping[int, Mailbox], engine: Engine) -> dict[int, str]:
    """Return why a message must not be sent to a mailbox, by position."""
    addresses = {mailbox.addr_spec.lower() for mailbox in mailboxes.values()}
    # A recipient may have been suppressed since the first send.
    suppressed = look_up(addresses, engine.settings)
    if suppressed is None:
        raise NotSentAgain(
            _("The suppressed addresses could not be read. Try again in a minute.")
        )
    refused: dict[int, str] = {}
    for position, mailbox in mailboxes.items():
        if reason := suppressed.get(mailbox.addr_spec.lower()):
            refused[position] = (
                _("This address is suppressed: %s.") % Reason(reason).label
            )
        elif engine.guard is not None and engine.guard(mailbox) != mailbox:
            refused[position] = _("This site sends only to certain addresses.")
    return refused


def find_doubtful(recipients: Sequence[Recipient]) -> frozenset[int]:
    """Return the positions of recipients that have the message, or may have it."""
    return frozenset(
        r.position
        for r in recipients
        if r.status in MAY_HAVE_IT
        or (Status(r.status).is_at_turbosmtp and r.status != Status.BOUNCED)
    )


def _is_complete(row: Any) -> bool:
    """Return whether the log stores the whole message, or can rebuild it exactly.

    Needs no query if the row is from `log.querysets.add_relations`.
    """
    found = getattr(row, "is_complete", None)
    if found is None:
        rows = add_relations(type(row).objects.using(row._state.db))
        again: Any = rows.filter(pk=row.pk).first()
        found = again is not None and again.is_complete
    return bool(found)


def _is_under_way(row: Message) -> bool:
    """Return whether a process may still be sending a message."""
    if row.status != Status.SENDING:
        return False
    return measure_age(row.created_at) < STUCK.total_seconds() or is_queued(row)


def _explain_incomplete(message: Message) -> str:
    if read_related(message.attachments).filter(stored=None).exists():
        return _("Not possible: this site does not store the content of attachments.")
    if message.outcome in {Outcome.CANCELLED, Outcome.SUPPRESSED}:
        return _(
            "Not possible: the message was cancelled, or all of its recipients were"
            " left out."
        )
    return _(
        "Not possible: the log does not contain the full message. The message was"
        " invalid, or this site does not store message texts, or the text was deleted"
        " because of its age."
    )
