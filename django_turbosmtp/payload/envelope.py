"""Reads the recipients of a message, and divides them among requests. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django_turbosmtp.exceptions import InvalidAddress
from django_turbosmtp.payload.addresses import (
    Mailbox,
    is_plain,
    parse_each,
    parse_list,
    refuse_commas,
)
from django_turbosmtp.payload.contents import are_djangos_own
from django_turbosmtp.payload.wire import NotExact
from django_turbosmtp.statuses import Kind

if TYPE_CHECKING:
    from django_turbosmtp.payload.headers import Headers

_KINDS = tuple(Kind)

#: Given a recipient, returns the mailbox to send to, or None to leave them out.
Guard = Callable[[Mailbox], Mailbox | None]


@dataclass(kw_only=True, slots=True)
class EnvelopeRecipient:
    """One mailbox of the envelope, and the list of the message that contains it."""

    kind: Kind
    mailbox: Mailbox


@dataclass(kw_only=True, slots=True)
class Envelope:
    """All recipients, each once, and those that ``guard`` left out.

    ``changed``: whether ``guard`` replaced or left out a recipient. To and Cc then show
    these recipients instead of the message's lists.
    """

    recipients: tuple[EnvelopeRecipient, ...]
    left_out: tuple[EnvelopeRecipient, ...] = ()
    changed: bool = False

    def list_kind(self, kind: Kind) -> list[Mailbox]:
        return [r.mailbox for r in self.recipients if r.kind is kind]

    def requests(
        self, *, named: bool = True
    ) -> Iterator[tuple[dict[str, str], tuple[EnvelopeRecipient, ...]]]:
        """Yield the address fields of each request, and its recipients.

        With ``named`` False, the addresses have no names: MIME contains them. ``to`` is
        required, so a message that has only Cc recipients puts them in ``to``. If it
        has only Bcc recipients, each gets a separate request, so that they cannot see
        each other no matter how turboSMTP uses the field.
        """
        write = join if named else _join_bare
        to, cc, bcc = map(self.list_kind, _KINDS)
        if not to and not cc:
            for recipient in self.recipients:
                yield {"to": write([recipient.mailbox])}, (recipient,)
            return
        fields = {"to": to, "cc": cc, "bcc": bcc} if to else {"to": cc, "bcc": bcc}
        yield (
            {name: write(boxes) for name, boxes in fields.items() if boxes},
            self.recipients,
        )


def join(mailboxes: Iterable[Mailbox]) -> str:
    """Return an address list in turboSMTP's form."""
    return ", ".join(map(str, mailboxes))


def _join_bare(mailboxes: Iterable[Mailbox]) -> str:
    return ", ".join(mailbox.addr_spec for mailbox in mailboxes)


def read_envelope(
    message: Any, guard: Guard | None, without: Collection[str] = ()
) -> Envelope:
    """Return the envelope of ``message``; raise `InvalidAddress` for a wrong address.

    ``without``: addresses to leave out, in lower case.
    """
    kept: dict[str, EnvelopeRecipient] = {}
    left_out: list[EnvelopeRecipient] = []
    changed = False
    for recipient in _read_recipients(message):
        mailbox = guard(recipient.mailbox) if guard else recipient.mailbox
        if mailbox is None or mailbox.addr_spec.lower() in without:
            left_out.append(recipient)
            continue
        refuse_commas(mailbox, recipient.kind)
        if mailbox != recipient.mailbox:
            changed = True
            recipient = EnvelopeRecipient(kind=recipient.kind, mailbox=mailbox)
        # The same mailbox in two fields would get the mail twice.
        kept.setdefault(mailbox.key, recipient)
    return Envelope(
        recipients=tuple(kept.values()),
        left_out=tuple(left_out),
        changed=changed or bool(left_out),
    )


def _read_recipients(message: Any) -> list[EnvelopeRecipient]:
    found = [
        EnvelopeRecipient(kind=kind, mailbox=mailbox)
        for kind in _KINDS
        if (shown := getattr(message, kind, None))
        for mailbox in parse_each(shown, kind)
    ]
    own = "recipients" in getattr(message, "__dict__", ())
    if own or not are_djangos_own(message.recipients):
        # Django's SMTP backend sends to recipients(), and shows the lists.
        sent = {m.key: m for m in parse_each(message.recipients(), "recipients()")}
        found = [recipient for recipient in found if recipient.mailbox.key in sent]
        # A recipient in a list stays there: `read_envelope` drops the duplicates.
        found += [EnvelopeRecipient(kind=Kind.BCC, mailbox=m) for m in sent.values()]
    return found


def require_same_shown(message: Any, headers: Headers, envelope: Envelope) -> None:
    """Raise `NotExact` if To and Cc differ from the recipients of the message."""
    to, cc = envelope.list_kind(Kind.TO), envelope.list_kind(Kind.CC)
    if not to:
        raise NotExact("only Cc recipients" if cc else "only Bcc recipients")
    if envelope.changed:
        return
    for name, wire in (("To", to), ("Cc", cc)):
        shown = headers.shown(name)
        try:
            if shown is None:
                boxes = parse_each(getattr(message, name.lower(), None) or (), name)
            else:
                boxes = parse_list(shown, name)
        except InvalidAddress as error:
            raise NotExact(f"a {name} header that cannot be parsed") from error
        if boxes != wire:
            raise NotExact(f"a {name} header that differs from the recipients")
        if not all(map(is_plain, boxes)):
            raise NotExact(f"a comment or a long name in {name}")
