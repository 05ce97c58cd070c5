"""A job: one message on its way, and the requests it takes."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from django_turbosmtp._lib.versions import uuid7
from django_turbosmtp.exceptions import ConnectionFailed, OutcomeUnknown, TurboSMTPError
from django_turbosmtp.statuses import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from django_turbosmtp.api.results import SendResult
    from django_turbosmtp.delivery.status import TurboSMTPStatus
    from django_turbosmtp.log.entries import AttemptEntry
    from django_turbosmtp.payload import EnvelopeRecipient, Translation
    from django_turbosmtp.payload.attributes import Attributes

_NOBODY: Mapping[str, str] = MappingProxyType({})


@dataclass(kw_only=True, slots=True)
class SendRequest:
    """One request of a message, its recipients and its result.

    ``fields``: the wire fields without credentials, serialised when a worker sends
    them. ``history``: its attempts, in order.
    """

    fields: Mapping[str, Any]
    recipients: Sequence[EnvelopeRecipient]
    attempts: int = 0
    result: SendResult | None = None
    error: TurboSMTPError | None = None
    #: Whether it is sent again later, after this error.
    is_queued: bool = False
    history: Sequence[AttemptEntry] = ()
    _turn: Lock = field(default_factory=Lock, repr=False)
    _is_concluded: bool = field(default=False, repr=False)

    def take_turn(self) -> bool:
        """Take the right to make an attempt; return False if there is none to take.

        A worker gives it back after the attempt.
        """
        return not self._is_concluded and self._turn.acquire(blocking=False)

    def conclude(self) -> bool:
        """Let no further attempt begin; return whether none is on its way."""
        self._is_concluded = True
        return self._turn.acquire(blocking=False)

    def give_turn_back(self) -> None:
        """Let the next attempt begin."""
        self._turn.release()

    @property
    def state(self) -> Status:
        """The status of the request's recipients."""
        if self.result is not None:
            return Status.SENT
        if self.is_queued:
            return Status.QUEUED
        return Status.UNKNOWN if self.is_unknown else Status.FAILED

    @property
    def addresses(self) -> list[str]:
        """Whom the request goes to."""
        return [recipient.mailbox.addr_spec for recipient in self.recipients]

    @property
    def message_id(self) -> str | None:
        return self.result.message_id if self.result else None

    @property
    def is_unknown(self) -> bool:
        return isinstance(self.error, OutcomeUnknown)


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What the log has about a queued message that is sent now.

    ``positions``: of the recipients that the requests go to, in their order.
    ``states``: of the other recipients. ``attempts``: made so far.
    ``keeps_payload``: the payload stays in the log if the message is not accepted.
    """

    positions: Sequence[int]
    states: Sequence[Status] = ()
    attempts: int = 0
    keeps_payload: bool = True


@dataclass(kw_only=True, slots=True)
class Job:
    """One message on its way, and the requests it takes.

    ``id``: the key of its row in the log. ``attributes``, ``translation``: None if it
    was cancelled or refused before. ``original``: the key of the row that is sent
    again. ``earlier``: how it was sent before, if it was queued and tried before.
    """

    message: Any
    status: TurboSMTPStatus
    id: UUID = field(default_factory=uuid7)
    attributes: Attributes | None = None
    translation: Translation | None = None
    requests: list[SendRequest] = field(default_factory=list)
    error: BaseException | None = None
    has_outcome: bool = False
    original: UUID | None = None
    earlier: Earlier | None = None
    #: Whether the suppressed addresses could not be looked up.
    is_unchecked: bool = False
    #: Addresses that are suppressed, in lower case, with the reason of each.
    left_out_for: Mapping[str, str] = field(default_factory=lambda: _NOBODY)


def build_not_tried(because: TurboSMTPError | None) -> TurboSMTPError:
    """Return the error of a request not sent ``because`` of one, or interrupted."""
    if because is None:
        return ConnectionFailed("Not tried: the call was interrupted.")
    text = f"Not tried, for an earlier message of this call failed: {because}"
    # This one was certainly not accepted, and must not look like an unknown outcome.
    if isinstance(because, OutcomeUnknown):
        return ConnectionFailed(text)
    error = copy(because)
    error.args = (text,)
    return error
