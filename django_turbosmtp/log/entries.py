"""What delivery tells the log: a message before it leaves, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class Addressee:
    """One recipient. ``shown``: as the message says it, with a name if there is one.

    ``why``: why it was left out, "" where it was not.
    """

    kind: str
    address: str
    shown: str
    status: str
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A message as it stands before its requests leave.

    ``outcome`` is "" for one that is about to be sent; else it is over already.
    ``fields``: the first request's wire fields, empty where there is no request.
    """

    id: UUID
    created_at: datetime.datetime
    message: Any
    reference_id: str
    mailer: str
    account: str
    api_version: int
    addressees: Sequence[Addressee]
    status: str
    outcome: str = ""
    error: BaseException | None = None
    campaign: str = ""
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0
    why_mime: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one recipient, by its place among an entry's addressees."""

    position: int
    status: str
    mid: str


@dataclass(frozen=True, kw_only=True)
class Try:
    """One request that was made: when, ``seconds`` it took, and what came of it.

    ``recipients``: to whom, where the message took several requests. ``answer``: what
    came back, as text.
    """

    began_at: datetime.datetime
    seconds: float
    recipients: str
    status_code: int | None
    error: BaseException | None
    answer: str


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What became of an entry that was about to be sent.

    ``results``: of every recipient that a request went to; each stands for all of them
    where ``uniform``. ``payload``: the pieces of the JSON to store, None for nothing.
    ``drops_payload``: the payload that is stored already is no longer needed.
    ``tries``: the requests, unless the first of each was accepted.
    """

    entry: Entry
    concluded_at: datetime.datetime
    outcome: str
    status: str
    mid: str
    attempts: int
    error: BaseException | None
    results: Sequence[Result]
    payload: Iterable[bytes] | None = None
    drops_payload: bool = False
    tries: Sequence[Try] = ()

    @property
    def is_uniform(self) -> bool:
        """Whether all recipients of requests have the same status and id."""
        return len({(result.status, result.mid) for result in self.results}) <= 1
