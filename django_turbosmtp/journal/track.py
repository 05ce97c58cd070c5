"""Keeps the events of the webhook, and raises statuses by them.

Whatever comes twice, in any order, or in two processes at once, ends the same: an event
is kept once (its digest), and a status is only ever raised (`models.RANKS`), by
statements that say so themselves.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, connections, transaction
from django.utils import timezone

from django_turbosmtp.constants import ACCEPTED
from django_turbosmtp.journal.text import Cleaner
from django_turbosmtp.models import (
    RANKS,
    Event,
    Message,
    Outcome,
    Payload,
    Recipient,
    Status,
    Unmatched,
)

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from django_turbosmtp.events import TrackingEvent

#: The status that an event raises its recipient to.
_STATUSES: dict[str, Status] = {
    "queued": Status.SENT,
    "deferred": Status.DEFERRED,
    "delivered": Status.DELIVERED,
    "rejected": Status.REJECTED,
    "bounced": Status.BOUNCED,
    "opened": Status.OPENED,
    "clicked": Status.CLICKED,
    "unsubscribed": Status.UNSUBSCRIBED,
    "complained": Status.COMPLAINED,
}

#: From these an event raises to any: without it nobody knew, or knew wrongly.
_WITHOUT_RANK = [Status.SENDING, Status.QUEUED, Status.UNKNOWN, Status.FAILED]


@dataclass(frozen=True, kw_only=True)
class _Match:
    """The recipient that an event is about: its row's key, and its place."""

    pk: int
    message_id: UUID
    position: int


@dataclass(kw_only=True)
class Kept:
    """What came of one event: its row, and the event with the message's own data.

    ``is_new``: it was not kept before.
    """

    row: Event
    event: TrackingEvent
    match: _Match | None = None
    is_new: bool = False


def keep_events(events: Sequence[TrackingEvent], alias: str) -> list[Kept]:
    """Keep events and raise the statuses of those they are about.

    Return what came of each, without repetitions. All is committed, or nothing; only
    what an event finds of a row that was committed meanwhile is a second transaction.
    """
    kept = _build_rows(events)
    if not kept:
        return []
    _find_matches(kept, alias)
    with transaction.atomic(using=alias):
        _insert(kept, alias)
        _apply([one for one in kept if one.is_new], alias)
    orphans = [one for one in kept if one.is_new and one.match is None]
    if orphans:
        # Its row may have been committed since it was looked for. Whoever commits
        # second, here or in `join_events`, finds what the other has written.
        _join(orphans, alias)
    _add_data(kept, alias)
    return kept


def join_events(mids: Sequence[str], references: Sequence[str], alias: str) -> None:
    """Join the events that came before the rows of messages with these ids.

    ``references``: the reference ids of messages that have no message id.
    """
    waiting = Unmatched.objects.using(alias).select_related("event")
    found = list(waiting.filter(mid__in=mids)) if mids else []
    if references:
        found += waiting.filter(reference_id__in=references)
    if found:
        _join([_rebuild(row.event) for row in found], alias)


def _rebuild(row: Event) -> Kept:
    from django_turbosmtp.events import read_event

    return Kept(row=row, event=read_event(row.raw))


def _join(orphans: Sequence[Kept], alias: str) -> None:
    _find_matches(orphans, alias)
    found = [one for one in orphans if one.match is not None]
    if not found:
        return
    with transaction.atomic(using=alias):
        # The one who removes it joins it: another process may be at it.
        waiting = Unmatched.objects.using(alias)
        for one in found:
            if waiting.filter(pk=one.row.pk).delete()[0]:
                one.row.save(using=alias, update_fields=["message", "position"])
        _apply(found, alias)


def _build_rows(events: Sequence[TrackingEvent]) -> list[Kept]:
    """Return the rows to insert, each event once, in an order that is always the same.

    Two processes that insert the same ones then wait for each other, and not both.
    """
    now = timezone.now()
    clean = Cleaner()
    unique = {event.digest: event for event in events}
    return [
        Kept(row=_build_row(event, digest, now, clean), event=event)
        for digest, event in sorted(unique.items(), key=lambda pair: pair[0])
    ]


def _build_row(
    event: TrackingEvent, digest: str, now: datetime.datetime, clean: Cleaner
) -> Event:
    return Event(
        digest=digest,
        event_type=event.event_type,
        occurred_at=event.timestamp or now,
        received_at=now,
        event_id=clean.clean_text(event.event_id),
        mid=event.message_id or "",
        reference_id=clean.clean_text(event.reference_id),
        address=clean.clean_text(event.recipient),
        reject_reason=event.reject_reason or "",
        bounce_kind=event.bounce_kind,
        answer=clean.clean_text(event.mta_response),
        user_agent=clean.clean_text(event.user_agent),
        click_url=clean.clean_text(event.click_url),
        is_machine=event.is_machine,
        # JSON's null is not the database's.
        raw="null" if event.esp_event is None else clean.clean_json(event.esp_event),
    )


def _find_matches(kept: Sequence[Kept], alias: str) -> None:
    """Find the recipient of each event: by the message id, else by the reference id."""
    recipients = Recipient.objects.using(alias).order_by()
    fields = ("pk", "message_id", "position", "address", "mid")
    mids = {one.row.mid for one in kept if one.row.mid}
    by_mid: dict[str, list[Any]] = defaultdict(list)
    for row in recipients.filter(mid__in=mids).values_list(*fields) if mids else ():
        by_mid[row[4]].append(row)
    left = []
    for one in kept:
        candidates = by_mid.get(one.row.mid, [])
        if candidates:
            _choose(one, candidates)
        elif one.row.reference_id:
            left.append(one)
    if not left:
        return
    references = {one.row.reference_id for one in left}
    by_reference: dict[str, list[Any]] = defaultdict(list)
    # Those that have an id are found by it, and are others.
    unsettled = recipients.filter(
        message__reference_id__in=references, mid="", status__in=_WITHOUT_RANK
    )
    for row in unsettled.values_list(*fields, "message__reference_id"):
        by_reference[row[5]].append(row)
    for one in left:
        candidates = by_reference.get(one.row.reference_id, [])
        # A reference id may be repeated: of two messages nobody knows which it was.
        if len({row[1] for row in candidates}) == 1:
            _choose(one, candidates)


def _choose(one: Kept, candidates: Sequence[Any]) -> None:
    """Set the recipient that the event names, or the message alone."""
    hers = [row for row in candidates if row[3] == one.row.address]
    chosen = min(hers, key=lambda row: row[2]) if hers else None
    if chosen is None and not one.row.address and len(candidates) == 1:
        chosen = candidates[0]
    one.row.message_id = candidates[0][1]
    if chosen is not None:
        one.row.position = chosen[2]
        one.match = _Match(pk=chosen[0], message_id=chosen[1], position=chosen[2])


def _insert(kept: Sequence[Kept], alias: str) -> None:
    """Insert what is not there yet, and say of each whether it was new."""
    rows = Event.objects.using(alias)
    rows.bulk_create([one.row for one in kept], ignore_conflicts=True)
    # A key of our own that is there was inserted here, in whatever process the others.
    ours = set(rows.filter(pk__in=[one.row.pk for one in kept]).values_list("pk"))
    others = [one.row.digest for one in kept if (one.row.pk,) not in ours]
    if others and rows.filter(digest__in=others).count() != len(others):
        # "Ignore" ignores more than repetitions on some databases.
        raise IntegrityError("Some events could not be stored.")
    waiting = []
    for one in kept:
        one.is_new = (one.row.pk,) in ours
        if one.is_new and one.row.message_id is None:
            waiting.append(
                Unmatched(
                    event_id=one.row.pk,
                    mid=one.row.mid,
                    reference_id=one.row.reference_id,
                )
            )
    if waiting:
        Unmatched.objects.using(alias).bulk_create(waiting)


def _apply(kept: Sequence[Kept], alias: str) -> None:
    """Raise the statuses of recipients, and of their messages."""
    wanted: dict[int, tuple[Status, Kept]] = {}
    for one in kept:
        if one.match is None:
            continue
        # Whatever it tells, and in words not known yet: turboSMTP has the message.
        status = _STATUSES.get(one.event.event_type, Status.SENT)
        if one.event.is_machine:
            status = Status.SCANNED
        known = wanted.get(one.match.pk)
        if known is None or RANKS[status] > RANKS[known[0]]:
            wanted[one.match.pk] = (status, one)
    if not wanted:
        return
    by_status: dict[Status, list[Kept]] = defaultdict(list)
    for status, one in wanted.values():
        by_status[status].append(one)
    matches = [one.match for _, one in wanted.values() if one.match]
    keys = sorted({match.message_id for match in matches})
    messages = Message.objects.using(alias).filter(pk__in=keys).order_by("pk")
    if connections[alias].features.has_select_for_update:
        # In one order, so that two processes wait for each other, and not both.
        messages = messages.select_for_update()
    found = {
        row.pk: row
        for row in messages.only("pk", "status", "outcome", "recipient_count")
    }
    recipients = Recipient.objects.using(alias)
    for status, group in sorted(by_status.items(), key=lambda pair: RANKS[pair[0]]):
        recipients.filter(
            pk__in=[one.match.pk for one in group if one.match],
            status__in=list_lower(status),
        ).update(status=status)
    _settle([row for row in found.values() if row.outcome != ACCEPTED], kept, alias)
    _raise_messages(found, by_status, alias)


def list_lower(status: Status) -> list[str]:
    """Return the statuses that an event may raise to this one."""
    lower: list[str] = [name for name, rank in RANKS.items() if rank < RANKS[status]]
    return lower + list(_WITHOUT_RANK)


def _raise_messages(
    found: Mapping[UUID, Message], by_status: Mapping[Status, list[Kept]], alias: str
) -> None:
    """Write what the statuses of its recipients make of each message."""
    messages = Message.objects.using(alias)
    for status, group in by_status.items():
        keys = {one.match.message_id for one in group if one.match}
        alone = [pk for pk in keys if pk in found and found[pk].recipient_count == 1]
        if alone:
            lower = list_lower(status)
            messages.filter(pk__in=alone, status__in=lower).update(status=status)
    several = [pk for pk, row in found.items() if row.recipient_count > 1]
    if not several:
        return
    # Whom we left out ourselves, before it was sent, has no part in it.
    rows = Recipient.objects.using(alias).filter(message__in=several).order_by()
    rows = rows.exclude(status=Status.REJECTED, mid="")
    statuses: dict[UUID, set[str]] = defaultdict(set)
    for message_id, name in rows.values_list("message_id", "status").distinct():
        statuses[message_id].add(name)
    groups: dict[str, list[UUID]] = defaultdict(list)
    for pk in several:
        groups[summarise(statuses[pk])].append(pk)
    for name, changed in groups.items():
        messages.filter(pk__in=changed).exclude(status=name).update(status=name)


def summarise(statuses: Iterable[str]) -> str:
    """Return the status of a message whose recipients have these.

    What went wrong for one of them stands for all, for somebody has to look; else that
    which holds for all of them.
    """
    known = {status for status in statuses if status in RANKS}
    for wrong in (Status.BOUNCED, Status.REJECTED):
        if wrong in known:
            return wrong
    return min(known, key=lambda status: RANKS[status], default=Status.SENT)


def _settle(rows: Sequence[Message], kept: Sequence[Kept], alias: str) -> None:
    """Write that turboSMTP had accepted what nobody knew of."""
    mids = {one.match.message_id: one.row.mid for one in kept if one.match}
    for row in rows:
        message = Message.objects.using(alias).filter(pk=row.pk)
        message.filter(concluded_at=None).update(concluded_at=timezone.now())
        message.filter(mid="").update(mid=mids.get(row.pk, ""))
        message.update(outcome=Outcome.ACCEPTED, error="", error_class="")
        for one in kept:
            if one.match and one.match.message_id == row.pk:
                Recipient.objects.using(alias).filter(pk=one.match.pk, mid="").update(
                    mid=one.row.mid
                )
        _drop_payload(row, alias)


def _drop_payload(row: Message, alias: str) -> None:
    """Remove the whole of a message once no recipient of it waits for it."""
    waiting = Recipient.objects.using(alias).filter(
        message=row.pk, status__in=_WITHOUT_RANK
    )
    if not waiting.exists():
        Payload.objects.using(alias).filter(message=row.pk).delete()


def _add_data(kept: Sequence[Kept], alias: str) -> None:
    """Give each event the metadata and tags of its message, for receivers."""
    keys = {one.row.message_id for one in kept if one.row.message_id}
    if not keys:
        return
    rows = Message.objects.using(alias).filter(pk__in=keys).order_by()
    data = {pk: (m, t) for pk, m, t in rows.values_list("pk", "metadata", "tags")}
    for one in kept:
        found = data.get(one.row.message_id) if one.row.message_id else None
        if found is not None:
            one.event = replace(one.event, metadata=found[0], tags=tuple(found[1]))
