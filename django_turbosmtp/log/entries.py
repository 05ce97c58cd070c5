"""The data that delivery passes to the log: messages before the send, and outcomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django_turbosmtp.exceptions import APIError, OutcomeUnknown
from django_turbosmtp.statuses import Outcome

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from django_turbosmtp.payload import Translation
    from django_turbosmtp.payload.attributes import Attributes


@dataclass(kw_only=True, slots=True)
class RecipientEntry:
    """One recipient. ``shown``: the address with its name, if it has one.

    ``why``: the reason why they were left out, or "".
    """

    kind: str
    address: str
    shown: str
    status: str
    why: str = ""


@dataclass(kw_only=True, slots=True)
class Entry:
    """A message before its requests are sent.

    ``outcome``: "" if it is about to be sent. ``fields``: the wire fields of its first
    request, empty if there is no request. ``is_unchecked``: the suppressed addresses
    could not be read.
    """

    id: UUID
    created_at: datetime.datetime
    message: Any
    attributes: Attributes
    translation: Translation
    mailer: str
    account: str
    api_version: int
    recipients: Sequence[RecipientEntry]
    status: str
    outcome: str = ""
    error: BaseException | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    is_unchecked: bool = False

    @property
    def is_concluded(self) -> bool:
        """Whether the message is not going to be sent."""
        return self.outcome not in {"", Outcome.QUEUED}


@dataclass(kw_only=True, slots=True)
class RecipientOutcome:
    """The result for one recipient, by its position among those of the entry."""

    position: int
    status: str
    mid: str


@dataclass(kw_only=True, slots=True)
class AttemptEntry:
    """One attempt to send a request: when, and how many ``seconds`` it took.

    ``answer``: turboSMTP's answer as text, "" for none. ``error``: None if it was
    accepted. ``recipients``: of the request, if the message needed several requests.
    """

    began_at: datetime.datetime
    seconds: float
    answer: str = ""
    error: BaseException | None = None
    recipients: str = ""

    @property
    def status_code(self) -> int | None:
        """The HTTP status of the answer, None if it was accepted or there was none."""
        error = self.error
        cause = error.__cause__ if isinstance(error, OutcomeUnknown) else error
        return cause.status_code if isinstance(cause, APIError) else None


@dataclass(kw_only=True, slots=True)
class OutcomeEntry:
    """The outcome of a message that was about to be sent.

    ``results``: of all recipients of the requests. ``payload``: the pieces of the JSON
    that may be stored (if it was accepted, only for MIME), or None.
    ``drops_payload``: the payload that is already stored is no longer needed.
    ``history``: the attempts, unless each request was accepted at the first.
    ``first_position``: of ``history``, the number of attempts that are stored already.
    """

    entry: Entry
    concluded_at: datetime.datetime | None
    outcome: str
    status: str
    mid: str
    attempts: int
    error: BaseException | None
    results: Sequence[RecipientOutcome]
    payload: Iterable[bytes] | None = None
    drops_payload: bool = False
    history: Sequence[AttemptEntry] = ()
    first_position: int = 0

    @property
    def is_uniform(self) -> bool:
        """Whether all recipients of requests have the same status, and the same id."""
        found = {(result.status, result.mid) for result in self.results}
        return len(found) == 1 and self.mid in {mid for _, mid in found}
