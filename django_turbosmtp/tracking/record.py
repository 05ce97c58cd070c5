"""Keeps the events of the webhook, and raises statuses by them.

Whatever comes twice, in any order, or in two processes at once, ends the same: an event
is kept once (its digest), and a status is only ever raised (`Status.can_replace`), by
statements that say so themselves.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from django.db import (
    DatabaseError,
    IntegrityError,
    OperationalError,
    connections,
    transaction,
)
from django.utils import timezone

from django_turbosmtp._lib.versions import uuid7
from django_turbosmtp.log.inserts import insert_new
from django_turbosmtp.log.storable import WIDTHS, Cleaner, is_about_text
from django_turbosmtp.log.suppressions import add_suppressions
from django_turbosmtp.models import (
    Event,
    Kind,
    Message,
    Payload,
    Recipient,
    Suppression,
    Unmatched,
)
from django_turbosmtp.statuses import Outcome, Reason, Status
from django_turbosmtp.tracking.events import read_event
from django_turbosmtp.tracking.statements import WITHOUT_RANK, Candidate, Statements

if TYPE_CHECKING:
    import datetime
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from django_turbosmtp.tracking.events import TrackingEvent

#: The reason of a suppression by the event's reason. Any other is a hard bounce.
_REASONS = {
    "spam": Reason.COMPLAINED,
    Reason.UNSUBSCRIBED.value: Reason.UNSUBSCRIBED,
}

#: A recipient without a message id may have gone out all the same: nobody knew of it,
#: or the answer named none. Whom we left out has neither.
_WITHOUT_ID = [
    status for status in Status if status in WITHOUT_RANK or status.is_at_turbosmtp
]

#: Keep so many events by one transaction: databases bind so many values, and more.
CHUNK = 250

#: What anybody may have written into an event, the raw JSON aside.
_TEXTS = (
    *("event_id", "recipient", "reference_id", "description", "mta_response"),
    *("user_agent", "ip", "click_url"),
)

#: Try a transaction so often.
_WRITES = 5


@dataclass(kw_only=True)
class Kept:
    """What came of one event. ``is_new``: it was not kept before.

    ``key``: of its row. ``event``: as the database can hold it. ``message_id``: of the
    message that it is about, None where there is none yet. ``matches``: the recipient,
    once for each time that the message names her. ``is_waiting``: it was kept before,
    and without a message.
    """

    key: UUID
    digest: str
    event: TrackingEvent
    message_id: UUID | None = None
    matches: tuple[Candidate, ...] = ()
    is_new: bool = False
    is_waiting: bool = False

    @property
    def position(self) -> int | None:
        """Where the message names its recipient first."""
        return self.matches[0].position if self.matches else None

    @property
    def is_settling(self) -> bool:
        """Whether the outcome or the message id was not known until it came."""
        return bool(self.matches) and (
            self.matches[0].outcome != Outcome.ACCEPTED or not self.matches[0].mid
        )

    @property
    def mid(self) -> str:
        """The message id, "" for none."""
        return self.event.message_id or ""


def keep_events(events: Sequence[TrackingEvent], alias: str) -> list[Kept]:
    """Keep events and raise the statuses of those they are about.

    Return what came of each, without repetitions. Where it raises, some may be kept:
    keep all of them again.
    """
    # Each once, and in an order that is always the same: two processes that insert the
    # same ones then wait for each other, and not both.
    unique = {event.digest: event for event in events}
    kept = [
        Kept(key=uuid7(), digest=digest, event=unique[digest])
        for digest in sorted(unique)
    ]
    for start in range(0, len(kept), CHUNK):
        _keep_chunk(kept[start : start + CHUNK], alias)
    return kept


def _keep_chunk(kept: Sequence[Kept], alias: str) -> None:
    """Keep some, with fewer letters where the database does not know all of them."""
    for width in WIDTHS:
        clean = Cleaner(width)
        for one in kept:
            one.event = _clean(one.event, clean)
        try:
            _keep(kept, clean, alias)
        except DatabaseError as error:
            if width == WIDTHS[-1] or not is_about_text(error):
                raise
        else:
            return


def _clean(event: TrackingEvent, clean: Cleaner) -> TrackingEvent:
    given = {name: getattr(event, name) for name in _TEXTS}
    texts: dict[str, Any] = {name: clean.clean_text(t) for name, t in given.items()}
    return event if texts == given else replace(event, **texts)


def _keep(kept: Sequence[Kept], clean: Cleaner, alias: str) -> None:
    _find_matches(kept, alias)

    def write() -> None:
        _lock(kept, alias)
        _insert(kept, clean, alias)
        new = [one for one in kept if one.is_new]
        _apply(new, alias)
        _suppress([one.event for one in new], alias)

    _write_again(write, alias)
    _join_settled(kept, alias)
    again = [one for one in kept if one.is_waiting]
    if again:
        # Told again, perhaps because joining them failed.
        references = {one.event.reference_id for one in again} - {""}
        join_events([one.mid for one in again if one.mid], sorted(references), alias)
    orphans = [one for one in kept if one.is_new and one.message_id is None]
    if orphans:
        # Its row may have been committed since it was looked for. Whoever commits
        # second, here or in `join_events`, finds what the other has written.
        _join(orphans, alias)


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
    return Kept(key=row.pk, digest=row.digest, event=read_event(row.raw))


def _join(orphans: Sequence[Kept], alias: str) -> None:
    _find_matches(orphans, alias)
    found = [one for one in orphans if one.message_id is not None]
    if not found:
        return

    def write() -> None:
        _lock(found, alias)
        # The one who removes it joins it: another process may be at it.
        waiting = Unmatched.objects.using(alias)
        for one in found:
            if waiting.filter(pk=one.key).delete()[0]:
                Event.objects.using(alias).filter(pk=one.key).update(
                    message=one.message_id, position=one.position
                )
        _apply(found, alias)

    _write_again(write, alias)
    _join_settled(found, alias)


def _join_settled(kept: Sequence[Kept], alias: str) -> None:
    """Join what waits for the message ids that these have made known."""
    mids = sorted({one.mid for one in kept if one.is_settling and one.mid})
    if mids:
        join_events(mids, [], alias)


def _lock(kept: Sequence[Kept], alias: str) -> None:
    """Let other processes wait that are at the same messages."""
    keys = {one.message_id for one in kept if one.message_id}
    if keys:
        Statements(alias).lock_messages(keys)


def _write_again(write: Callable[[], None], alias: str) -> None:
    """Write in a transaction, and once more where a database chose to end it.

    Two that insert at the same places of an index may have to wait for each other; a
    database then ends one of them.
    """
    for left in reversed(range(_WRITES)):
        try:
            with transaction.atomic(using=alias):
                write()
        except OperationalError:
            if not left or connections[alias].in_atomic_block:
                raise
        else:
            return


def _find_matches(kept: Sequence[Kept], alias: str) -> None:
    """Find the recipient of each event: by the message id, else by the reference id."""
    mids = {one.mid for one in kept if one.mid}
    by_mid: dict[str, list[Candidate]] = defaultdict(list)
    for found in Statements(alias).find_by_mid(mids) if mids else ():
        by_mid[found.mid].append(found)
    left = []
    for one in kept:
        candidates = by_mid.get(one.mid, [])
        if candidates:
            _choose(one, candidates)
        elif one.event.reference_id:
            left.append(one)
    if left:
        _find_by_reference(left, alias)


def _find_by_reference(kept: Sequence[Kept], alias: str) -> None:
    """Find those whose message has no message id yet: others are found by it."""
    references = {one.event.reference_id for one in kept}
    unsettled = Recipient.objects.using(alias).filter(
        message__reference_id__in=references, mid="", status__in=_WITHOUT_ID
    )
    # Version 1 has no field for it: no event can be about such a message.
    unsettled = unsettled.exclude(message__api_version=1)
    columns = ("pk", "message_id", "position", "address", "mid", "status")
    joined = ("message__outcome", "message__reference_id")
    by_reference: dict[str, list[Candidate]] = defaultdict(list)
    for *row, reference in unsettled.order_by().values_list(*columns, *joined):
        by_reference[reference].append(Candidate(*row))
    for one in kept:
        candidates = by_reference.get(one.event.reference_id, [])
        # A reference id may be repeated: of two messages nobody knows which it was.
        if len({candidate.message_id for candidate in candidates}) == 1:
            _choose(one, candidates)


def _choose(one: Kept, candidates: Sequence[Candidate]) -> None:
    """Set the recipient that the event names, or the message alone."""
    address = one.event.recipient
    hers = [found for found in candidates if found.address == address]
    if not hers and not address and len(candidates) == 1:
        hers = list(candidates)
    one.message_id = candidates[0].message_id
    one.matches = tuple(sorted(hers, key=lambda found: found.position))


def _insert(kept: Sequence[Kept], clean: Cleaner, alias: str) -> None:
    """Insert what is not there yet, and say of each whether it was new."""
    now = timezone.now()
    built = [_build_values(one, now, clean) for one in kept]
    inserted = insert_new(Event, built, alias)
    keys = {one.key for one in kept}
    if inserted < len(kept):
        # A key of our own that is there was inserted here, the others before.
        rows = Event.objects.using(alias)
        keys = set(rows.filter(pk__in=keys).values_list("pk", flat=True))
        others = [one for one in kept if one.key not in keys]
        known = rows.filter(digest__in=[one.digest for one in others])
        messages = dict(known.values_list("digest", "message_id"))
        if len(messages) != len(others):
            # "Ignore" ignores more than repetitions on some databases.
            raise IntegrityError("Some events could not be stored.")
        for one in others:
            one.is_waiting = messages[one.digest] is None
    waiting = []
    for one in kept:
        one.is_new = one.key in keys
        if one.is_new and one.message_id is None:
            waiting.append(
                Unmatched(
                    event_id=one.key,
                    mid=one.mid,
                    reference_id=one.event.reference_id,
                )
            )
    if waiting:
        Unmatched.objects.using(alias).bulk_create(waiting)


def _build_values(one: Kept, now: datetime.datetime, clean: Cleaner) -> dict[str, Any]:
    """Return the columns of an event's row."""
    event = one.event
    # JSON's null is not the database's.
    raw = "null" if event.esp_event is None else clean.clean_json(event.esp_event)
    return {
        "id": one.key,
        "digest": one.digest,
        "message_id": one.message_id,
        "position": one.position,
        "event_type": event.event_type,
        "occurred_at": event.timestamp or now,
        "received_at": now,
        "event_id": event.event_id,
        "mid": one.mid,
        "reference_id": event.reference_id,
        "address": event.recipient,
        "reject_reason": event.reject_reason or "",
        "bounce_kind": event.bounce_kind,
        "answer": event.mta_response,
        "user_agent": event.user_agent,
        "click_url": event.click_url,
        "is_machine": event.is_machine,
        # As short as it came: a database bounds the length of a statement.
        "raw": json.dumps(raw, ensure_ascii=False),
    }


def _apply(kept: Sequence[Kept], alias: str) -> None:
    """Raise the statuses of recipients, and of their messages."""
    wanted: dict[int, Status] = {}
    touched: set[UUID] = set()
    for one in kept:
        # Any event, even of a type not known yet, means that turboSMTP has the message.
        status = one.event.status or Status.SENT
        for match in one.matches:
            # No status is ever lowered: one that was there is there, or a higher.
            known = wanted.get(match.pk, match.status)
            if status.can_replace(Status(known)):
                wanted[match.pk] = status
                touched.add(match.message_id)
        if one.is_settling:
            touched.add(one.matches[0].message_id)
    if not touched:
        return
    by_status: dict[Status, list[int]] = defaultdict(list)
    for pk, status in wanted.items():
        by_status[status].append(pk)
    statements = Statements(alias)
    for status, group in by_status.items():
        statements.raise_recipients(group, status)
    _settle(kept, alias)
    statements.summarise(touched)


def _settle(kept: Sequence[Kept], alias: str) -> None:
    """Write that turboSMTP had accepted what nobody knew of, once for each request."""
    requests: dict[tuple[UUID, str], set[int]] = defaultdict(set)
    for one in kept:
        if one.is_settling:
            request = one.matches[0].message_id, one.mid
            requests[request] |= {match.pk for match in one.matches}
    for (key, mid), told in requests.items():
        recipients = Recipient.objects.using(alias).filter(message=key)
        recipients.filter(pk__in=told, mid="").update(mid=mid)
        # One request took all of them, those aside whom we left out. Blind copies alone
        # have one for each.
        taken = recipients.exclude(mid="", status=Status.REJECTED)
        if taken.exclude(kind=Kind.BCC).exists():
            taken.filter(status__in=WITHOUT_RANK).update(status=Status.SENT)
            taken.filter(mid="").update(mid=mid)
        message = Message.objects.using(alias).filter(pk=key)
        message.filter(concluded_at=None).update(concluded_at=timezone.now())
        message.filter(mid="").update(mid=mid)
        message.update(outcome=Outcome.ACCEPTED)
        # What went wrong, and the whole of the message, stay for those still without.
        if not recipients.filter(status__in=WITHOUT_RANK).exists():
            message.update(error="", error_class="")
            Payload.objects.using(alias).filter(message=key).delete()


def _suppress(events: Sequence[TrackingEvent], alias: str) -> None:
    """Suppress the recipients of events that report a reason for it."""
    rows = [
        Suppression(
            address=event.recipient,
            reason=_REASONS.get(event.reject_reason or "", Reason.BOUNCED),
            source="webhook",
            since=event.timestamp or timezone.now(),
            note=event.description,
        )
        for event in events
        if event.suppresses and "@" in event.recipient
    ]
    if rows:
        add_suppressions(rows, alias)


def add_data(kept: Sequence[Kept], alias: str) -> None:
    """Give each event the metadata and tags of its message."""
    keys = {one.message_id for one in kept if one.message_id}
    if not keys:
        return
    rows = Message.objects.using(alias).filter(pk__in=keys).order_by()
    data = {pk: (m, t) for pk, m, t in rows.values_list("pk", "metadata", "tags")}
    for one in kept:
        found = data.get(one.message_id) if one.message_id else None
        if found is not None:
            one.event = replace(one.event, metadata=found[0], tags=tuple(found[1]))
