"""Data about the queue, as shown on the pages of the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils import formats
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_turbosmtp.admin.sentences import describe_stop
from django_turbosmtp.admin.show import show_moment, show_time
from django_turbosmtp.log.querysets import count_each_up_to
from django_turbosmtp.models import QueuedMessage
from django_turbosmtp.queue.accounts import (
    find_latest_pause,
    find_stopped,
    read_brakes,
)
from django_turbosmtp.queue.clock import read_now
from django_turbosmtp.queue.schedule import PRIORITIES
from django_turbosmtp.statuses import Status

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from django_turbosmtp.models import Message

#: Count up to this number. "More than 10,000" is as useful, and is counted quickly.
_MOST = 10_000


def describe_queue(messages: QuerySet[Message]) -> dict[str, Any]:
    """Return the number and age of queued messages, and the stopped queues.

    ``messages``: those that the user may see.
    """
    waiting = messages.filter(status=Status.QUEUED)
    [count] = count_each_up_to([waiting], _MOST)
    oldest = waiting.order_by("created_at").values_list("created_at", flat=True).first()
    pause = find_latest_pause(messages.db)
    return {
        "count": _describe_count(count),
        "oldest": show_time(oldest) if oldest else "",
        "paused_until": show_moment(pause) if pause else "",
        "stopped": [
            {
                "mailer": row.mailer,
                "since": show_time(row.stopped_at) if row.stopped_at else "",
                "reason": describe_stop(row.error_class),
            }
            for row in find_stopped(messages.db)
        ],
    }


def describe_wait(message: Message) -> list[tuple[str, str]]:
    """Return labels and values about a queued message.

    Empty if it is not queued.
    """
    if message.status != Status.QUEUED:
        return []
    alias = message._state.db or "default"
    rows = QueuedMessage.objects.using(alias)
    row = rows.filter(pk=message.pk).first()
    if row is None:
        return []
    facts = [(_("Next attempt"), _describe_next(row, alias))]
    if row.tries:
        facts.append((_("Refused attempts"), formats.number_format(row.tries)))
    if row.expires_at is not None:
        facts.append((_("Expires"), show_moment(row.expires_at)))
    if row.priority:
        facts.append((_("Priority"), _describe_priority(row.priority)))
    return facts


def _describe_next(row: QueuedMessage, alias: str) -> str:
    brakes = read_brakes(row.account, alias)
    if brakes.is_stopped:
        return _("When the queue continues. It has stopped.")
    earliest = max(row.not_before, brakes.wait_until or row.not_before)
    if earliest > read_now(alias):
        return show_moment(earliest)
    return _("As soon as a worker is free.")


def _describe_priority(priority: int) -> str:
    words = {PRIORITIES["low"]: _("low"), PRIORITIES["high"]: _("high")}
    return words.get(priority, formats.number_format(priority))


def _describe_count(count: int) -> str:
    if count > _MOST:
        return _("More than %s messages are queued.") % formats.number_format(_MOST)
    text = ngettext("%s message is queued.", "%s messages are queued.", count)
    return text % formats.number_format(count)
