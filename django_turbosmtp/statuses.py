"""The table of statuses, and related tables.

All properties of a status are in its row: rank, group, label, sentence, icon, whether
it is a problem, and the events that lead to it. A new status needs a new row, with at
least a label, a sentence, a group and an icon.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

if TYPE_CHECKING:
    from typing import Self

    from django.utils.functional import _StrPromise

    Choices = list[tuple[str, _StrPromise]]

#: The type of events that we do not know: django-anymail's word.
UNKNOWN_EVENT: Final = "unknown"


class _Word(StrEnum):
    """A stored word with a label; compares equal to a plain string.

    The annotations of a subclass are the columns of its rows, in their order.
    """

    label: _StrPromise

    # ``*row``, because type checkers treat the look-up ``Status("sent")`` as a call.
    def __new__(cls, word: str, *row: Any) -> Self:
        member = str.__new__(cls, word)
        member._value_ = word
        columns = ["label", *(n for n in cls.__annotations__ if n != "label")]
        vars(member).update(zip(columns, row, strict=True))
        return member

    def __repr__(self) -> str:
        # ``{'sent'}``, as users of ``turbosmtp_status`` expect.
        return repr(self.value)

    @classmethod
    def list_choices(cls) -> Choices:
        """Return value and label of each word, as a model field's ``choices``."""
        return [(str(word), word.label) for word in cls]


class Group(_Word):
    """Groups of statuses, by the answer to "did the customer get it?".

    Each status belongs to one group. The order is that of the filter in the list.
    """

    SENT = "sent", pgettext_lazy("messages", "Sent")
    DELIVERED = "delivered", pgettext_lazy("messages", "Delivered")
    OPENED = "opened", pgettext_lazy("messages", "Opened")
    BOUNCED = "bounced", pgettext_lazy("messages", "Bounced")
    COMPLAINED = "complained", pgettext_lazy("messages", "Complained")
    FAILED = "failed", pgettext_lazy("messages", "Failed")
    UNKNOWN = "unknown", pgettext_lazy("messages", "Unknown")
    PENDING = "pending", pgettext_lazy("messages", "Pending")
    CANCELLED = "cancelled", pgettext_lazy("messages", "Cancelled")

    @property
    def statuses(self) -> list[Status]:
        """The statuses of this group."""
        return [status for status in Status if status.group is self]


class Stage(_Word):
    """The stages that the dashboard counts. A status may imply several stages."""

    DELIVERED = "delivered", _("Delivered")
    OPENED = "opened", _("Opened")
    OPENED_WITH_MACHINES = (
        "opened_with_machines",
        _("Opened, including by machines"),
    )
    CLICKED = "clicked", _("Clicked")
    UNSUBSCRIBED = "unsubscribed", _("Unsubscribed")
    COMPLAINED = "complained", _("Complained")
    BOUNCED = "bounced", _("Bounced")

    @property
    def statuses(self) -> list[Status]:
        """The statuses of messages that reached this stage."""
        return [status for status in Status if self in status.stages]


@dataclass(frozen=True)
class _Row:
    """One row of the table.

    ``label``: one word, used in lists. ``icon`` and ``tone``: always shown with a text;
    the tone is a colour (``good``, ``doubt``, ``bad`` or ``plain``). ``sentence``: for
    pages.
    ``events``: turboSMTP's words for the events that lead to this status.
    ``event_type``: the type of these events, django-anymail's word.
    ``rank``: an event replaces a status with a lower rank. None: no event leads to the
    status, and any event replaces it (if ``is_final``, no event does).
    ``is_problem``: staff should look at the message.
    ``is_at_turbosmtp``: turboSMTP has the message; sent again, it may arrive twice.
    """

    label: _StrPromise
    group: Group
    icon: str
    tone: str
    sentence: _StrPromise
    _kw: KW_ONLY
    events: tuple[str, ...] = ()
    event_type: str = ""
    rank: int | None = None
    is_final: bool = False
    is_problem: bool = False
    is_at_turbosmtp: bool = False
    stages: tuple[Stage, ...] = ()


_SEEN = (Stage.DELIVERED, Stage.OPENED, Stage.OPENED_WITH_MACHINES)


class Status(_Word):
    """The status of a message or of one recipient, in django-anymail's words.

    Problems are first, in order of urgency: if recipients of a message have problems,
    the first of them is the status of the message.
    """

    # fmt: off
    UNKNOWN = "unknown", _Row(
        _("unknown"), Group.UNKNOWN, "?", "doubt",
        _("It is unknown whether turboSMTP accepted it, so it may have arrived. Ask the"
          " recipient before you send it again."),
        is_problem=True)
    FAILED = "failed", _Row(
        _("failed"), Group.FAILED, "✕", "bad",
        _("It was not sent."),
        is_problem=True)
    INVALID = "invalid", _Row(
        _("invalid"), Group.FAILED, "✕", "bad",
        _("It was not sent: an address is invalid."),
        is_problem=True, is_final=True)
    BOUNCED = "bounced", _Row(
        _("bounced"), Group.BOUNCED, "↩", "bad",
        _("The recipient's server refused it: it did not arrive."),
        events=("BOUNCED",), event_type="bounced", rank=5,
        is_problem=True, is_at_turbosmtp=True, stages=(Stage.BOUNCED,))
    # A higher rank than "scanned": a gateway may open a message and then refuse it.
    REJECTED = "rejected", _Row(
        _("rejected"), Group.FAILED, "⊘", "bad",
        _("turboSMTP did not send it."),
        events=("DROPPED",), event_type="rejected", rank=4,
        is_problem=True)
    SENDING = "sending", _Row(
        _("sending"), Group.PENDING, "…", "plain",
        _("It is being sent."))
    QUEUED = "queued", _Row(
        _("queued"), Group.PENDING, "…", "plain",
        _("It is queued and has not been sent yet."))
    CANCELLED = "cancelled", _Row(
        _("cancelled"), Group.CANCELLED, "⊖", "plain",
        _("It was cancelled before it was sent."),
        is_final=True)
    SENT = "sent", _Row(
        _("sent"), Group.SENT, "✓", "good",
        _("It was sent: turboSMTP accepted it."),
        events=("PROCESSED",), event_type="queued", rank=0,
        is_at_turbosmtp=True)
    DEFERRED = "deferred", _Row(
        _("deferred"), Group.SENT, "↻", "doubt",
        _("The recipient's server has not accepted it yet; turboSMTP will try again."),
        events=("DEFERRED",), event_type="deferred", rank=1,
        is_at_turbosmtp=True)
    DELIVERED = "delivered", _Row(
        _("delivered"), Group.DELIVERED, "✓", "good",
        _("The recipient's server accepted it."),
        events=("DELIVERED",), event_type="delivered", rank=2,
        is_at_turbosmtp=True, stages=(Stage.DELIVERED,))
    # An open or a click that a program probably made. turboSMTP has no such event.
    SCANNED = "scanned", _Row(
        _("scanned"), Group.DELIVERED, "✓", "good",
        _("It arrived, and was probably opened by a machine, not by a person."),
        rank=3,
        is_at_turbosmtp=True, stages=(Stage.DELIVERED, Stage.OPENED_WITH_MACHINES))
    OPENED = "opened", _Row(
        _("opened"), Group.OPENED, "◉", "good",
        _("It was opened."),
        events=("OPENED",), event_type="opened", rank=6,
        is_at_turbosmtp=True, stages=_SEEN)
    CLICKED = "clicked", _Row(
        _("clicked"), Group.OPENED, "➚", "good",
        _("A link in it was clicked."),
        events=("CLICKED",), event_type="clicked", rank=7,
        is_at_turbosmtp=True, stages=(*_SEEN, Stage.CLICKED))
    UNSUBSCRIBED = "unsubscribed", _Row(
        _("unsubscribed"), Group.OPENED, "⊖", "doubt",
        _("The recipient unsubscribed."),
        events=("UNSUBSCRIBED",), event_type="unsubscribed", rank=8,
        is_at_turbosmtp=True, stages=(*_SEEN, Stage.UNSUBSCRIBED))
    # turboSMTP's documentation has one of these events, and its SDK the other.
    COMPLAINED = "complained", _Row(
        _("complained"), Group.COMPLAINED, "⚑", "bad",
        _("The recipient reported it as spam."),
        events=("REPORT", "SPAM"), event_type="complained", rank=9,
        is_at_turbosmtp=True, stages=(Stage.DELIVERED, Stage.COMPLAINED))
    # fmt: on

    sentence: _StrPromise
    group: Group
    icon: str
    tone: str
    events: tuple[str, ...]
    event_type: str
    rank: int | None
    is_final: bool
    is_problem: bool
    is_at_turbosmtp: bool
    stages: tuple[Stage, ...]

    def __new__(cls, word: str, *row: _Row) -> Self:
        member = str.__new__(cls, word)
        member._value_ = word
        (columns,) = row
        vars(member).update(vars(columns))
        return member

    def can_replace(self, other: Status) -> bool:
        """Return whether an event with this status replaces the status ``other``.

        Events may arrive in any order and several times, so the rank never decreases.
        """
        if self.rank is None or other.is_final:
            return False
        return other.rank is None or other.rank < self.rank


class Outcome(_Word):
    """The outcome of a send (docs/outcomes.rst). Each leads to one status."""

    ACCEPTED = "accepted", _("accepted"), Status.SENT
    REFUSED = "refused", _("refused"), Status.FAILED
    UNKNOWN = "unknown", _("unknown"), Status.UNKNOWN
    QUEUED = "queued", _("queued"), Status.QUEUED
    SUPPRESSED = "suppressed", _("suppressed"), Status.REJECTED
    CANCELLED = "cancelled", _("cancelled"), Status.CANCELLED

    #: The status of a message with this outcome, before any event.
    status: Status


class Kind(_Word):
    """The list of the message that names a recipient."""

    TO = "to", pgettext_lazy("recipient", "to")
    CC = "cc", _("cc")
    BCC = "bcc", _("bcc")


class Reason(_Word):
    """The reasons to suppress an address. ``sentence``: for the page of a message."""

    # fmt: off
    BOUNCED = "bounced", _("the mailbox does not exist"), _(
        "This recipient was left out: the mailbox does not exist.")
    COMPLAINED = "complained", _("complained"), _(
        "This recipient was left out: they reported a message as spam.")
    UNSUBSCRIBED = "unsubscribed", _("unsubscribed"), _(
        "This recipient was left out: they unsubscribed.")
    MANUAL = "manual", _("entered by hand"), _(
        "This recipient was left out: the address is suppressed.")
    # fmt: on

    sentence: _StrPromise


#: The type of each event by turboSMTP's word. Other words are `UNKNOWN_EVENT`.
EVENT_TYPES: Final[dict[str, str]] = {
    word: status.event_type for status in Status for word in status.events
}

_STATUS_OF_EVENT_TYPE = {s.event_type: s for s in Status if s.event_type}


def find_event_status(event_type: str, *, is_machine: bool) -> Status | None:
    """Return the status that an event leads to, or None if its type is unknown."""
    if event_type == UNKNOWN_EVENT:
        return None
    return Status.SCANNED if is_machine else _STATUS_OF_EVENT_TYPE[event_type]


#: The status of a message is the first of these that any recipient has: the most urgent
#: problem, or the lowest status of all recipients.
COMBINED_ORDER: Final[list[Status]] = [
    *(status for status in Status if status.is_problem),
    *sorted(
        (s for s in Status if not s.is_problem and s.rank is not None),
        key=lambda status: status.rank or 0,
    ),
]
