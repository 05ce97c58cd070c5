"""Data about the events of messages, as shown on the pages of the admin."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.db.models import Q

from django_turbosmtp._lib.hashes import is_hash
from django_turbosmtp.admin.sentences import describe_event
from django_turbosmtp.admin.show import show_status, show_time
from django_turbosmtp.log.persons import ERASED
from django_turbosmtp.log.querysets import read_related
from django_turbosmtp.models import Event
from django_turbosmtp.payload.addresses import normalize_address
from django_turbosmtp.statuses import Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from django_turbosmtp.models import Message, Recipient

#: Show this many events of a message.
EVENTS = 200

#: On a person's page, show up to this many events per message on average.
_EACH = 20


def describe_events(
    message: Message, address: str = "", *, may_read: bool
) -> dict[str, Any]:
    """Return the events of a message, in order of time.

    ``address``: only the events of this recipient.
    """
    rows = read_related(message.events).order_by("-occurred_at", "-id")
    address = normalize_address(address)
    if address:
        rows = rows.filter(address=address)
    found: list[Event] = []
    if getattr(message, "has_events", True):
        found = list(rows[: EVENTS + 1])
    return {
        "events": [
            _describe(row, message, may_read=may_read)
            for row in reversed(found[:EVENTS])
        ],
        "events_of": address,
        "events_shown": EVENTS if len(found) > EVENTS else None,
    }


def _describe(row: Event, message: Message, *, may_read: bool) -> dict[str, Any]:
    return {
        "words": describe_event(row),
        "when": show_time(row.occurred_at),
        "address": _show_address(row) if message.recipient_count > 1 else "",
        "answer": row.answer,
        "program": row.user_agent,
        "url": row.click_url,
        # The raw event contains the subject, and perhaps other data.
        "raw": json.dumps(row.raw, indent=2, ensure_ascii=False) if may_read else "",
    }


def _show_address(row: Event) -> str:
    return ERASED if is_hash(row.address) else row.address


def describe_stories(
    address: str, by_message: Mapping[UUID, Sequence[Recipient]], alias: str
) -> dict[UUID, list[dict[str, Any]]]:
    """Return the events of messages to one address, in order of time.

    ``by_message``: the recipient's rows by message.
    """
    stories: dict[UUID, list[dict[str, Any]]] = {}
    if not by_message:
        return stories
    # If there is one recipient, turboSMTP may omit the address.
    rows = Event.objects.using(alias).filter(
        Q(address=address) | Q(address="", position__isnull=False),
        message__in=by_message,
    )
    columns = ("message_id", "event_type", "is_machine", "occurred_at", "position")
    shown = rows.order_by("-occurred_at", "-id").only(*columns)
    for row in reversed(shown[: len(by_message) * _EACH]):
        if row.message_id is not None and row.position in {
            recipient.position for recipient in by_message[row.message_id]
        }:
            stories.setdefault(row.message_id, []).append(
                {
                    "status": show_status(row.status or Status.UNKNOWN),
                    "time": show_time(row.occurred_at),
                }
            )
    return stories
