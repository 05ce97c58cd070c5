"""What the dashboard shows of the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils import formats
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_turbosmtp.admin.sentences import describe_refusal
from django_turbosmtp.admin.show import show_moment, show_time
from django_turbosmtp.log.querysets import count_each_up_to
from django_turbosmtp.queue.accounts import find_latest_pause, find_stopped
from django_turbosmtp.statuses import Status

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from django_turbosmtp.models import Message

#: Count no further: "more than 10,000" tells as much, and is counted quickly.
_MOST = 10_000


def describe_queue(messages: QuerySet[Message]) -> dict[str, Any]:
    """Return how many of these messages wait, since when, and what has stopped.

    ``messages``: those that the user may see.
    """
    waiting = messages.filter(status=Status.QUEUED)
    [count] = count_each_up_to([waiting], _MOST)
    oldest = waiting.order_by("created_at").values_list("created_at", flat=True).first()
    pause = find_latest_pause(messages.db)
    return {
        "waiting": _describe_count(count),
        "oldest": show_time(oldest) if oldest else "",
        "paused_until": show_moment(pause) if pause else "",
        "stopped": [
            {
                "mailer": row.mailer,
                "since": show_time(row.stopped_at) if row.stopped_at else "",
                "reason": describe_refusal(row.error_class) or row.error,
            }
            for row in find_stopped(messages.db)
        ],
    }


def _describe_count(count: int) -> str:
    if count > _MOST:
        return _("More than %s messages wait.") % formats.number_format(_MOST)
    text = ngettext("%s message waits.", "%s messages wait.", count)
    return text % formats.number_format(count)
