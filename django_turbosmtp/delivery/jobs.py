"""Jobs: messages that are being sent, and their requests."""

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

    ``fields``: the wire fields without credentials; they are serialised when they are
    sent. ``history``: its attempts, in order.
    """

    fields: Mapping[str, Any]
    recipients: Sequence[EnvelopeRecipient]
    attempts: int = 0
    result: SendResult | None = None
    error: TurboSMTPError | None = None
    #: Whether the queue will try it again after this error.
    is_queued: bool = False
    history: Sequence[AttemptEntry] = ()
    _turn: Lock = field(default_factory=Lock, repr=False)
    _is_concluded: bool = field(default=False, repr=False)

    def take_turn(self) -> bool:
        """Acquire the right to make an attempt; return False if that is not possible.

        A worker gives it back after the attempt.
        """
        return not self._is_concluded and self._turn.acquire(blocking=False)

    def conclude(self) -> bool:
        """Allow no further attempt; return whether none is running."""
        self._is_concluded = True
        return self._turn.acquire(blocking=False)

    def give_turn_back(self) -> None:
        """Allow the next attempt."""
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
        """The addresses of the recipients."""
        return [recipient.mailbox.addr_spec for recipient in self.recipients]

    @property
    def message_id(self) -> str | None:
        return self.result.message_id if self.result else None

    @property
    def is_unknown(self) -> bool:
        return isinstance(self.error, OutcomeUnknown)


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """The log's data about a queued message that is being sent.

    ``positions``: of the recipients of the requests, in their order. ``states``: of the
    other recipients. ``attempts``: their number so far. ``keeps_payload``: the payload
    stays in the log if the message is not accepted; ``keeps_mime``: even if it is.
    """

    positions: Sequence[int]
    states: Sequence[Status] = ()
    attempts: int = 0
    keeps_payload: bool = True
    keeps_mime: bool = False


@dataclass(kw_only=True, slots=True)
class Job:
    """One message that is being sent, and its requests.

    ``id``: the key of its row in the log. ``attributes``, ``translation``: None if it
    was cancelled, or refused before the translation. ``earlier``: of a queued message.
    """

    message: Any
    status: TurboSMTPStatus
    id: UUID = field(default_factory=uuid7)
    attributes: Attributes | None = None
    translation: Translation | None = None
    requests: list[SendRequest] = field(default_factory=list)
    error: BaseException | None = None
    has_outcome: bool = False
    earlier: Earlier | None = None
    #: Whether the suppressed addresses could not be read.
    is_unchecked: bool = False
    #: The fields of a message whose recipients are all suppressed: it can be sent after
    #: a suppression is deleted.
    unsent_fields: Mapping[str, Any] = field(default_factory=lambda: _NOBODY)
    #: Addresses that are suppressed, in lower case, with the reason of each.
    left_out_for: Mapping[str, str] = field(default_factory=lambda: _NOBODY)


def build_not_tried(because: TurboSMTPError | None) -> TurboSMTPError:
    """Return the error of a request that was not tried, because of another error.

    Without another error, the call was interrupted.
    """
    if because is None:
        return ConnectionFailed("Not tried: the call was interrupted.")
    text = f"Not tried, because an earlier message of this call failed: {because}"
    # This message was certainly not accepted, so its outcome is not unknown.
    if isinstance(because, OutcomeUnknown):
        return ConnectionFailed(text)
    error = copy(because)
    error.args = (text,)
    return error
