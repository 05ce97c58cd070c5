"""The data for the page of one address: all messages to it, with their results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Count, Value
from django.db.models.functions import Coalesce

from django_turbosmtp.admin.caching import count_cached, name_query
from django_turbosmtp.admin.changelist import NOT_LISTED
from django_turbosmtp.admin.paginator import LogPaginator, build_page_links
from django_turbosmtp.admin.sentences import describe_fate, describe_fate_for
from django_turbosmtp.admin.show import show_status, show_time
from django_turbosmtp.admin.story import describe_stories
from django_turbosmtp.log.querysets import filter_address
from django_turbosmtp.models import Message, Recipient
from django_turbosmtp.payload.addresses import normalize_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet

#: Show this many messages on a page.
MESSAGES = 50


def describe_person(
    address: str,
    page: int,
    queryset: QuerySet[Message],
    build_url: Callable[..., str],
) -> dict[str, Any]:
    """Return the data for the page of ``address``.

    ``page`` counts from 1. ``queryset``: the messages that the user may see.
    """
    address = normalize_address(address)
    counts = _count_statuses(address, queryset)
    messages = filter_address(
        queryset.defer(*NOT_LISTED, "tags"), address, count=sum(counts.values())
    )
    paginator = LogPaginator(messages.order_by("-created_at", "-id"), MESSAGES)
    shown = paginator.get_page(page)
    by_message: dict[Any, list[Recipient]] = {}
    # In a function, so that the index on the address is not used: it may find many.
    plain = Recipient.objects.using(queryset.db).alias(
        _address=Coalesce("address", Value(""))
    )
    recipients = plain.filter(_address=address)
    for row in recipients.filter(message__in=[message.pk for message in shown]):
        by_message.setdefault(row.message_id, []).append(row)
    stories = describe_stories(address, by_message, queryset.db)
    return {
        "address": address,
        "total": paginator.count,
        "counts": [
            {"status": show_status(status), "count": count}
            for status, count in counts.items()
        ],
        "rows": [
            _describe_row(message, by_message.get(message.pk, []), build_url)
            | {"story": stories.get(message.pk, [])}
            for message in shown
        ],
        "pages": build_page_links(
            paginator,
            shown.number,
            lambda number: build_url(
                "person", query={"address": address, "page": str(number)}
            ),
        ),
    }


def _count_statuses(address: str, messages: QuerySet[Message]) -> dict[str, int]:
    """Return the number of messages with each status for this address."""
    matching = messages.order_by().filter(recipients__address=address)
    counted = matching.values_list("recipients__status").annotate(count=Count("pk"))
    return count_cached(name_query(counted), lambda: dict(sorted(counted)))


def _describe_row(
    message: Message, rows: list[Recipient], build_url: Callable[..., str]
) -> dict[str, Any]:
    # There may be several, if an invalid message has the address in two lists.
    first = rows[0] if rows else None
    return {
        "url": build_url("change", message.pk),
        "subject": message.subject,
        "status": show_status(first.status if first else message.status),
        "kind": first.get_kind_display() if first else "",
        "fate": describe_fate_for(first, message) if first else describe_fate(message),
        "time": show_time(message.created_at),
    }
