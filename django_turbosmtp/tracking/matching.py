"""Finds the message and the recipient of an event."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django_turbosmtp._lib.hashes import is_same_address
from django_turbosmtp.models import Recipient
from django_turbosmtp.statuses import Outcome, Status
from django_turbosmtp.tracking.statements import WITHOUT_RANK, Candidate, Statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from django_turbosmtp.tracking.events import TrackingEvent

#: With these statuses, a message may have been sent even if the recipient has no
#: message id: the process was killed, or the answer had no id. Recipients that were
#: left out, or wait in the queue, have none because nothing was sent.
_MAY_LACK_ID = [
    status
    for status in Status
    if (status in WITHOUT_RANK or status.is_at_turbosmtp) and status != Status.QUEUED
]


@dataclass(frozen=True, kw_only=True)
class ReceivedEvent:
    """An event and the key of its row, before or after it is stored.

    ``digest``: of the event as it arrived (see `TrackingEvent.digest`).
    """

    key: UUID
    digest: str
    event: TrackingEvent

    @property
    def mid(self) -> str:
        """The message id, "" for none."""
        return self.event.message_id or ""


@dataclass(frozen=True, kw_only=True)
class Match(ReceivedEvent):
    """An event with the message and the recipient that it is about.

    ``message_id``: the key of the message's row, None if the log has no such row yet.
    ``recipients``: the rows of the recipient, who may be listed several times; empty if
    the address of the event is not one of the message's recipients.
    ``is_suppressing``: whether the event is a reason to suppress its recipient.
    """

    message_id: UUID | None = None
    recipients: tuple[Candidate, ...] = ()
    is_suppressing: bool = False

    @property
    def position(self) -> int | None:
        """The position of the recipient's first row."""
        return self.recipients[0].position if self.recipients else None

    @property
    def settles(self) -> bool:
        """Whether the event makes an outcome or a message id known."""
        if not self.recipients:
            return False
        first = self.recipients[0]
        return first.outcome != Outcome.ACCEPTED or not first.mid


def match_events(events: Sequence[ReceivedEvent], alias: str) -> list[Match]:
    """Return a match for each event: by its message id, or by its reference id."""
    by_mid = _find_by_mid({event.mid for event in events if event.mid}, alias)
    left = [event for event in events if event.mid not in by_mid]
    references = {event.event.reference_id for event in left} - {""}
    by_reference = _find_by_reference(references, alias)
    return [
        _build_match(
            event,
            by_mid.get(event.mid) or by_reference.get(event.event.reference_id, []),
        )
        for event in events
    ]


def find_known(
    mids: set[str], references: set[str], alias: str
) -> tuple[set[str], set[str]]:
    """Return those of these message ids and reference ids that a message has."""
    return set(_find_by_mid(mids, alias)), set(_find_by_reference(references, alias))


def _find_by_mid(mids: set[str], alias: str) -> dict[str, list[Candidate]]:
    if not mids:
        return {}
    return _group((found.mid, found) for found in Statements(alias).find_by_mid(mids))


def _find_by_reference(references: set[str], alias: str) -> dict[str, list[Candidate]]:
    """Return the recipients without a message id, by reference id.

    If several messages have the same reference id, none is returned, because an event
    could belong to any of them.
    """
    if not references:
        return {}
    rows = Recipient.objects.using(alias).filter(
        message__reference_id__in=references, mid="", status__in=_MAY_LACK_ID
    )
    # API v1 has no field for it, so events of such messages do not have it.
    rows = rows.exclude(message__api_version=1).order_by()
    columns = ("pk", "message_id", "position", "address", "mid", "status")
    joined = ("message__outcome", "message__reference_id")
    found = _group(
        (reference, Candidate(*row))
        for *row, reference in rows.values_list(*columns, *joined)
    )
    return {
        reference: candidates
        for reference, candidates in found.items()
        if len({candidate.message_id for candidate in candidates}) == 1
    }


def _group(pairs: Iterable[tuple[str, Candidate]]) -> dict[str, list[Candidate]]:
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for key, candidate in pairs:
        groups[key].append(candidate)
    return dict(groups)


def _build_match(received: ReceivedEvent, candidates: Sequence[Candidate]) -> Match:
    """Return the match with the recipient of the event, or without one."""
    address = received.event.recipient
    # The log stores the hash of an erased recipient's address.
    recipients = [c for c in candidates if is_same_address(c.address, address)]
    if not recipients and not address and len(candidates) == 1:
        recipients = list(candidates)
    return Match(
        key=received.key,
        digest=received.digest,
        event=received.event,
        message_id=candidates[0].message_id if candidates else None,
        recipients=tuple(sorted(recipients, key=lambda found: found.position)),
        is_suppressing=received.event.suppresses,
    )
