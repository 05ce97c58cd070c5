"""Stores the events of the webhook, and updates the log.

Events may arrive twice, in any order, and in two processes at the same time; the result
is the same. The statements themselves ensure that an event is stored once (by its
digest), and that the rank of a status never decreases (`Status.can_replace`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, IntegrityError
from django.utils import timezone

from django_turbosmtp._lib.hashes import is_hash, map_hashes
from django_turbosmtp._lib.times import make_storable
from django_turbosmtp._lib.versions import uuid7
from django_turbosmtp.conf.log import read_redactions
from django_turbosmtp.log.connection import run_statements
from django_turbosmtp.log.inserts import insert_new
from django_turbosmtp.log.locks import begin, lock_messages
from django_turbosmtp.log.persons import Person
from django_turbosmtp.log.redaction import Redactor
from django_turbosmtp.log.storable import WIDTHS, Cleaner, is_about_text
from django_turbosmtp.log.suppressions import add_suppressions
from django_turbosmtp.models import (
    Event,
    HashedAddress,
    Message,
    Suppression,
    Unmatched,
)
from django_turbosmtp.statuses import Reason
from django_turbosmtp.tracking.events import read_event
from django_turbosmtp.tracking.matching import (
    Match,
    ReceivedEvent,
    find_known,
    match_events,
)
from django_turbosmtp.tracking.settling import apply_events

if TYPE_CHECKING:
    import datetime
    from collections.abc import Collection, Sequence

    from django_turbosmtp.tracking.events import TrackingEvent

#: The reason for a suppression, by the event's reason. All others are hard bounces.
_REASONS = {
    "spam": Reason.COMPLAINED,
    Reason.UNSUBSCRIBED.value: Reason.UNSUBSCRIBED,
}

#: The values that are stored of an event about an erased person.
_IMPERSONAL = {"id", "mid", "status", "timestamp", "attempt", "reference_id"}

#: Values that identify the event and its message; they are not redacted.
_IDENTIFYING = {"id", "mid", "status", "email", "timestamp", "reference_id"}

#: Store this many events in one transaction.
CHUNK = 250

#: The texts of an event, apart from the raw JSON.
_TEXTS = (
    *("event_id", "recipient", "reference_id", "description", "mta_response"),
    *("user_agent", "ip", "click_url"),
)


def record_events(events: Sequence[TrackingEvent], alias: str) -> list[Match]:
    """Store events, update the log, and return the new ones.

    If it raises, some may have been stored: call it again with all of them.
    """
    # Remove duplicates and sort, so that two processes that store the same
    # events cannot deadlock.
    unique = {event.digest: event for event in events}
    received = [
        ReceivedEvent(key=uuid7(), digest=digest, event=unique[digest])
        for digest in sorted(unique)
    ]
    redactor = Redactor(read_redactions())
    new: list[Match] = []
    for start in range(0, len(received), CHUNK):
        new += _record_chunk(received[start : start + CHUNK], redactor, alias)
    return new


def join_events(mids: Collection[str], references: Collection[str], alias: str) -> None:
    """Join events to their messages, whose rows were written after the events arrived.

    ``mids``: message ids that are now in the log. ``references``: reference ids of
    messages without a message id.
    """
    while True:
        waiting = _find_waiting(mids, references, alias)
        matches = [m for m in match_events(waiting, alias) if m.message_id]
        if not matches:
            return
        for start in range(0, len(matches), CHUNK):
            _join(matches[start : start + CHUNK], alias)
        # Other events may wait for the message ids that are now known.
        mids, references = _list_settled(matches), ()


def read_data(matches: Sequence[Match], alias: str) -> list[TrackingEvent]:
    """Return the events with the metadata and tags of their messages."""
    keys = {match.message_id for match in matches if match.message_id}
    rows = Message.objects.using(alias).filter(pk__in=keys).order_by()
    columns = rows.values_list("pk", "metadata", "tags") if keys else ()
    data = {pk: {"metadata": m, "tags": tuple(t)} for pk, m, t in columns}
    return [
        replace(match.event, **data[match.message_id])
        if match.message_id in data
        else match.event
        for match in matches
    ]


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """The events of a chunk: all, the new ones, and those without a message."""

    matches: list[Match]
    new: list[Match]
    waiting: list[Match]


def _record_chunk(
    received: Sequence[ReceivedEvent], redactor: Redactor, alias: str
) -> list[Match]:
    """Store events, with fewer characters if the database cannot store all of them."""
    for width in WIDTHS:
        cleaner = Cleaner(width)
        cleaned = [replace(r, event=_clean(r.event, cleaner)) for r in received]
        try:
            return _record(cleaned, cleaner, redactor, alias)
        except DatabaseError as error:
            if width == WIDTHS[-1] or not is_about_text(error):
                raise
    raise AssertionError("unreachable")  # pragma: no cover


def _clean(event: TrackingEvent, cleaner: Cleaner) -> TrackingEvent:
    given = {name: getattr(event, name) for name in _TEXTS}
    texts: dict[str, Any] = {n: cleaner.clean_text(text) for n, text in given.items()}
    return event if texts == given else replace(event, **texts)


def _record(
    received: Sequence[ReceivedEvent], cleaner: Cleaner, redactor: Redactor, alias: str
) -> list[Match]:
    stored = run_statements(lambda: _store(received, cleaner, redactor, alias), alias)
    # Try again to join events without a message: its row may have been committed in the
    # meantime. The transaction that commits second, here or in delivery, joins them.
    mids = {match.mid for match in stored.waiting} - {""}
    references = {match.event.reference_id for match in stored.waiting} - {""}
    # Only for messages in the log: thousands of events may wait for other messages,
    # because several applications can share an account.
    mids, references = find_known(mids, references, alias)
    mids |= _list_settled(stored.matches)
    if mids or references:
        join_events(sorted(mids), sorted(references), alias)
    return stored.new


def _store(
    received: Sequence[ReceivedEvent], cleaner: Cleaner, redactor: Redactor, alias: str
) -> _Stored:
    matches = match_events(received, alias)
    with begin(alias):
        if not _lock(matches, alias):
            # Some were pruned or erased in the meantime.
            matches = match_events(received, alias)
        matches = _hide_erased(matches, alias)
        stored = _insert(matches, cleaner, redactor, alias)
        apply_events(stored.new, alias)
        _suppress(stored.new, redactor, alias)
    return stored


def _hide_erased(matches: list[Match], alias: str) -> list[Match]:
    """Replace the addresses of erased persons by their hashes.

    Events about their mail may arrive after they were erased. Events about a later
    message to the same address are not changed.
    """
    addresses = {match.event.recipient for match in matches} - {""}
    hashes = map_hashes(addresses)
    erased = HashedAddress.objects.using(alias).filter(
        hash__in=hashes, erased_at__isnull=False
    )
    hidden = {hashes[found]: found for found in erased.values_list("pk", flat=True)}
    return [
        _hide(match, hidden[match.event.recipient])
        if match.event.recipient in hidden
        and not any(r.address == match.event.recipient for r in match.recipients)
        else match
        for match in matches
    ]


def _hide(match: Match, hashed: str) -> Match:
    """Return the match with an event from which the recipient's data is removed."""
    event = match.event
    raw = event.esp_event if isinstance(event.esp_event, dict) else {}
    kept = {name: v for name, v in raw.items() if name.lower() in _IMPERSONAL}
    person = Person(event.recipient)
    kept = {name: v for name, v in kept.items() if not person.is_named_in(v)}
    hidden = replace(
        event,
        event_id=str(person.replace_in(event.event_id)),
        reference_id=str(person.replace_in(event.reference_id)),
        recipient=hashed,
        description="",
        mta_response="",
        user_agent="",
        ip="",
        click_url="",
        esp_event=kept | {"email": hashed},
    )
    return replace(match, event=hidden)


def _lock(matches: Sequence[Match], alias: str) -> bool:
    """Lock the messages of events, and return whether all of them exist."""
    keys = {match.message_id for match in matches if match.message_id}
    if not keys:
        return True
    return keys == lock_messages(Message.objects.using(alias).filter(pk__in=keys))


def _insert(
    matches: list[Match], cleaner: Cleaner, redactor: Redactor, alias: str
) -> _Stored:
    """Insert the events that are not stored yet."""
    now = timezone.now()
    built = [_build_values(match, now, cleaner, redactor) for match in matches]
    if insert_new(Event, built, alias) == len(matches):
        new = matches
        waiting_before: set[str] = set()
    else:
        # Rows with our keys were inserted now, the others earlier.
        keys = {match.key for match in matches}
        rows = Event.objects.using(alias)
        ours = set(rows.filter(pk__in=keys).values_list("pk", flat=True))
        new = [match for match in matches if match.key in ours]
        waiting_before = _find_waiting_digests(
            [match.digest for match in matches if match.key not in ours], alias
        )
    orphans = [match for match in new if match.message_id is None]
    if orphans:
        Unmatched.objects.using(alias).bulk_create(
            Unmatched(
                event_id=match.key,
                mid=match.mid,
                reference_id=match.event.reference_id,
            )
            for match in orphans
        )
    # Delivered again, perhaps because joining them failed the first time.
    again = [match for match in matches if match.digest in waiting_before]
    return _Stored(matches=matches, new=new, waiting=orphans + again)


def _find_waiting_digests(digests: Sequence[str], alias: str) -> set[str]:
    """Return the digests of events that are stored and have no message."""
    rows = Event.objects.using(alias).filter(digest__in=digests)
    messages: dict[str, Any] = dict(rows.values_list("digest", "message_id"))
    if len(messages) != len(digests):
        # On some databases, "ignore" also ignores other errors than duplicates.
        raise IntegrityError("Some events could not be stored.")
    return {digest for digest, message_id in messages.items() if message_id is None}


def _build_values(
    match: Match, now: datetime.datetime, cleaner: Cleaner, redactor: Redactor
) -> dict[str, Any]:
    """Return the columns of an event's row."""
    event = match.event
    # The event may be JSON's null, which differs from the database's NULL.
    raw: Any = "null"
    if event.esp_event is not None:
        raw = cleaner.clean_json(_redact_raw(event.esp_event, redactor))
    return {
        "id": match.key,
        "digest": match.digest,
        "message_id": match.message_id,
        "position": match.position,
        "event_type": event.event_type,
        "occurred_at": make_storable(event.timestamp) if event.timestamp else now,
        "received_at": now,
        "event_id": event.event_id,
        "mid": match.mid,
        "reference_id": event.reference_id,
        "address": event.recipient,
        "reject_reason": event.reject_reason or "",
        "bounce_kind": event.bounce_kind,
        "answer": redactor.redact_text("answer", event.mta_response),
        "user_agent": event.user_agent,
        "click_url": redactor.redact_text("click_url", event.click_url),
        "is_machine": event.is_machine,
        # Do not escape characters, because databases limit the length of a statement.
        "raw": json.dumps(raw, ensure_ascii=False),
    }


def _redact_raw(raw: Any, redactor: Redactor) -> Any:
    """Redact the texts of an event, except for those that identify its message."""
    if not isinstance(raw, dict):
        return redactor.redact_json("event", raw)
    return {
        name: value
        if name.lower() in _IDENTIFYING
        else redactor.redact_json("event", value)
        for name, value in raw.items()
    }


def _suppress(matches: Sequence[Match], redactor: Redactor, alias: str) -> None:
    """Suppress the recipients of events that report a reason for it."""
    now = timezone.now()
    rows = [
        Suppression(
            address=event.recipient,
            reason=_REASONS.get(event.reject_reason or "", Reason.BOUNCED),
            source="webhook",
            since=make_storable(event.timestamp) if event.timestamp else now,
            note=redactor.redact_text("answer", event.description),
        )
        for match in matches
        if match.is_suppressing and _is_address((event := match.event).recipient)
    ]
    if rows:
        add_suppressions(rows, alias)


def _is_address(text: str) -> bool:
    return "@" in text or is_hash(text)


def _find_waiting(
    mids: Collection[str], references: Collection[str], alias: str
) -> list[ReceivedEvent]:
    """Return the stored events without a message that have one of these ids."""
    rows = Unmatched.objects.using(alias).order_by()
    columns = ("pk", "event__digest", "event__raw")
    found = {row[0]: row for row in rows.filter(mid__in=mids).values_list(*columns)}
    if references:
        waiting = rows.filter(reference_id__in=references).values_list(*columns)
        found |= {row[0]: row for row in waiting}
    return [
        ReceivedEvent(key=key, digest=digest, event=read_event(raw))
        for key, digest, raw in found.values()
    ]


def _join(matches: Sequence[Match], alias: str) -> None:
    """Write the messages of events that waited for them, and apply the events."""

    def work() -> None:
        with begin(alias):
            _lock(matches, alias)
            # The process that deletes a row joins its event, so that only one does.
            keys = [match.key for match in matches]
            waiting = Unmatched.objects.using(alias).filter(pk__in=keys).order_by("pk")
            ours = set(waiting.select_for_update().values_list("pk", flat=True))
            joined = [match for match in matches if match.key in ours]
            waiting.filter(pk__in=ours).delete()
            Event.objects.using(alias).bulk_update(
                [
                    Event(
                        pk=match.key,
                        message_id=match.message_id,
                        position=match.position,
                    )
                    for match in joined
                ],
                ["message", "position"],
                batch_size=CHUNK,
            )
            apply_events(matches, alias)

    run_statements(work, alias)


def _list_settled(matches: Sequence[Match]) -> set[str]:
    """Return the message ids that these events have made known."""
    return {match.mid for match in matches if match.settles} - {""}
