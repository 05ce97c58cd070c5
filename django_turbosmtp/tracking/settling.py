"""Updates statuses, outcomes and message ids from events."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from django.utils import timezone

from django_turbosmtp.models import Message, Payload, Recipient
from django_turbosmtp.statuses import Kind, Outcome, Status
from django_turbosmtp.tracking.statements import WITHOUT_RANK, Statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from django_turbosmtp.tracking.matching import Match


def apply_events(matches: Sequence[Match], alias: str) -> None:
    """Update recipients and messages from events.

    Call it in a transaction that has locked the messages (`log.locks.lock_messages`).
    """
    raised = _choose_statuses(matches)
    settling = [match for match in matches if match.settles]
    touched = {
        recipient.message_id
        for match in matches
        for recipient in match.recipients
        if match.settles or recipient.pk in raised
    }
    if not touched:
        return
    statements = Statements(alias)
    by_status: dict[Status, list[int]] = defaultdict(list)
    for pk, status in raised.items():
        by_status[status].append(pk)
    for status, keys in by_status.items():
        statements.raise_recipients(keys, status)
    requests: dict[tuple[UUID, str], set[int]] = defaultdict(set)
    for match in settling:
        request = match.recipients[0].message_id, match.mid
        requests[request] |= {recipient.pk for recipient in match.recipients}
    for (message_id, mid), reported in requests.items():
        settle_request(message_id, mid, reported, alias)
    statements.summarise(touched)


def _choose_statuses(matches: Sequence[Match]) -> dict[int, Status]:
    """Return the highest status that the events give to each recipient, by its key."""
    raised: dict[int, Status] = {}
    for match in matches:
        # Any event, even of an unknown type, means that turboSMTP has the message.
        status = match.event.status or Status.SENT
        for recipient in match.recipients:
            known = raised.get(recipient.pk, Status(recipient.status))
            if status.can_replace(known):
                raised[recipient.pk] = status
    return raised


def settle_request(message_id: UUID, mid: str, reported: set[int], alias: str) -> None:
    """Record that turboSMTP accepted a request whose outcome or id was unknown.

    ``reported``: the keys of the recipients of the events.
    """
    recipients = Recipient.objects.using(alias).filter(message=message_id)
    recipients.filter(pk__in=reported, mid="").update(mid=mid)
    # All recipients share one request, except those that were left out. If a message
    # has only Bcc recipients, each has a separate request.
    sent = recipients.exclude(mid="", status=Status.REJECTED)
    if sent.exclude(kind=Kind.BCC).exists():
        sent.filter(status__in=WITHOUT_RANK).update(status=Status.SENT)
        sent.filter(mid="").update(mid=mid)
    message = Message.objects.using(alias).filter(pk=message_id)
    message.filter(concluded_at=None).update(concluded_at=timezone.now())
    message.filter(mid="").update(mid=mid)
    message.update(outcome=Outcome.ACCEPTED)
    # Keep the error and the stored payload while any recipient has no outcome.
    if not recipients.filter(status__in=WITHOUT_RANK).exists():
        message.update(error="", error_class="")
        Payload.objects.using(alias).filter(message=message_id).delete()
