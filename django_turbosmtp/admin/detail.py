"""The data for the page of one message."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib.admin.utils import display_for_field, label_for_field, lookup_field
from django.core.paginator import Paginator
from django.db.models import Case, F, TextField, Value, When
from django.db.models.functions import Left, Length
from django.utils.translation import gettext as _

from django_turbosmtp._lib.hashes import is_hash
from django_turbosmtp.admin.paginator import build_page_links
from django_turbosmtp.admin.preview import names_remote_pictures
from django_turbosmtp.admin.sentences import (
    describe_attempt,
    describe_attempts,
    describe_duration,
    describe_fate,
    describe_left_out,
)
from django_turbosmtp.admin.show import show_labels, show_status, show_time
from django_turbosmtp.admin.waiting import describe_wait
from django_turbosmtp.log.querysets import read_related
from django_turbosmtp.models import Attachment, Attempt, Content, Recipient
from django_turbosmtp.statuses import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from django.db.models import QuerySet

    from django_turbosmtp.models import Message

#: Show this many recipients on a page.
RECIPIENTS = 100

#: Search for remote pictures in this many characters of HTML.
_LOOKED_AT = 200_000

TABS = ("html", "text", "headers", "wire")


@dataclass(frozen=True, kw_only=True)
class Reader:
    """The current user's permissions, and a URL builder."""

    may_read: bool
    build_url: Callable[..., str]


def describe_recipients(message: Message, page: int, reader: Reader) -> dict[str, Any]:
    """Return one page of recipients, and the links to the others.

    If there are several recipients, each has a link to their events.
    """
    # Annotations of `log.querysets.add_relations` save the queries for empty tables.
    alone = message.recipient_count == 1 or not getattr(message, "has_events", True)
    rows: QuerySet[Recipient] = read_related(message.recipients).order_by("position")
    # The row has the number of recipients, so no query counts them.
    pages = Paginator(range(message.recipient_count), RECIPIENTS)
    page = pages.get_page(page).number
    start = (page - 1) * RECIPIENTS
    return {
        "recipients": [
            {
                "status": show_status(row.status),
                "kind": row.get_kind_display(),
                "shown": row.shown or row.address,
                "address": row.address,
                "mid": row.mid,
                "why": describe_left_out(row.why),
                "url": ""
                if is_hash(row.address)
                else reader.build_url("person", query={"address": row.address}),
                "events_url": ""
                if alone or not row.mid or is_hash(row.address)
                else f"?{urlencode({'r': page, 'of': row.address})}#turbosmtp-events",
            }
            # An OFFSET is fast enough here: a message has few recipients compared to
            # the table.
            for row in rows[start : start + RECIPIENTS]
        ],
        "recipient_pages": build_page_links(pages, page, lambda number: f"?r={number}"),
    }


def describe_history(message: Message, *, may_read: bool) -> list[dict[str, Any]]:
    """Return the attempts, with plain descriptions and turboSMTP's answers."""
    rows: Iterable[Attempt] = ()
    if getattr(message, "has_attempts", True):
        rows = read_related(message.tries).order_by("position")
    found = [
        {
            "words": describe_attempt(row),
            "when": show_time(row.began_at),
            # Stored only if the message needed several requests.
            "recipients": row.recipients,
            "error": row.error,
            # turboSMTP's answer may repeat the message.
            "answer": row.answer if may_read else "",
        }
        for row in rows
    ]
    return found or [{"words": describe_attempts(message)}]


def describe_content(
    message: Message, tab: str | None, *, pictures: bool, reader: Reader
) -> dict[str, Any]:
    """Return the tabs, and the content of the current one. Reads only its text."""
    labels = {
        "html": _("HTML"),
        "text": _("Text"),
        "headers": _("Headers"),
        "wire": _("Request (JSON)"),
    }
    contents = Content.objects.using(message._state.db).filter(pk=message.pk)
    # The text tab is the first if there is no HTML. The frame loads the whole HTML.
    beginning = Value("") if tab == "headers" else Left("html", _LOOKED_AT)
    first = Case(
        When(html="", then=F("text")), default=beginning, output_field=TextField()
    )
    wanted = F(tab) if tab in {"text", "wire"} else first
    # Without the permission, not even the length of the HTML is read.
    kept = (
        contents.values_list(Length("html"), wanted).first()
        if reader.may_read
        else None
    )
    names = [name for name in TABS if name != "html" or (kept and kept[0])]
    current = tab if tab in names else names[0]
    panel = None
    if kept and current in {"text", "wire"}:
        panel = kept[1] if current == "text" else _write_json(kept[1])
    headers = message.headers if isinstance(message.headers, dict) else {}
    return {
        "tabs": [{"name": name, "label": labels[name]} for name in names],
        "current": current,
        "panel": panel,
        "headers": list(headers.items()),
        "pictures": pictures,
        "names_pictures": bool(
            kept and current == "html" and names_remote_pictures(kept[1])
        ),
        "may_read": reader.may_read,
        "not_kept": _(
            "The text of this message is not stored: this site does not store it,"
            " or it was deleted because of its age."
        ),
        "preview_url": reader.build_url(
            "preview", message.pk, query={"pictures": "1"} if pictures else {}
        ),
    }


def describe_attachments(message: Message, reader: Reader) -> list[dict[str, Any]]:
    """Return the attachments, with a link if the bytes are stored."""
    rows: QuerySet[Attachment] = read_related(message.attachments).order_by("position")
    return [
        {
            "name": row.name,
            "type": row.type,
            "size": row.size,
            "sha256": row.sha256,
            "url": reader.build_url("attachment", message.pk, row.position)
            if row.stored_id and reader.may_read
            else "",
        }
        for row in rows
    ]


def describe_resends(
    message: Message, visible: QuerySet[Message]
) -> list[dict[str, Any]]:
    """Return the messages that resend this one, the newest first.

    ``visible``: the messages that the user may see.
    """
    if not getattr(message, "has_resends", True):
        return []
    links = read_related(message.resends).order_by().values("message_id")
    rows = visible.filter(pk__in=links).order_by("-created_at", "-id")[:20]
    return [
        {
            "pk": row.pk,
            "status": show_status(row.status),
            "time": show_time(row.created_at),
        }
        for row in rows
    ]


def describe_message(message: Message, visible: QuerySet[Message]) -> dict[str, Any]:
    """Return the summary at the top of the page.

    ``visible``: the messages that the user may see.
    """
    # The site's get_queryset() may hide the original message.
    link = getattr(message, "resend_of", None)
    if link and not visible.filter(pk=link.original_id).exists():
        link = None
    if message.concluded_at:
        took = (message.concluded_at - message.created_at).total_seconds()
    return {
        "original": link.original_id if link else None,
        "status": show_status(message.status),
        "fate": describe_fate(message),
        "time": show_time(message.created_at),
        # It may have been stored long before it is sent, or was never sent.
        "is_sent": message.status not in {Status.QUEUED, Status.CANCELLED},
        "wait": describe_wait(message),
        "took": describe_duration(took) if message.concluded_at else "-",
        "labels": show_labels(message),
    }


def describe_fieldsets(message: Message, fieldsets: Any, admin: Any) -> Iterator[Any]:
    """Yield the fieldsets of the ModelAdmin as titles, and pairs of label and value."""
    for title, options in fieldsets:
        names: list[str] = []
        for name in options["fields"]:
            # Django allows tuples of fields that share a line.
            names += [name] if isinstance(name, str) else name
        yield {
            "title": title or _("Message"),
            "rows": [
                (
                    label_for_field(name, type(message), admin),
                    _show(name, message, admin),
                )
                for name in names
            ],
        }


def _show(name: str, message: Message, admin: Any) -> Any:
    field, _attribute, value = lookup_field(name, message, admin)
    if isinstance(value, (dict, list)):
        return _write_json(value)
    if field is not None:
        value = display_for_field(value, field, "-")
    return "-" if value in {None, ""} else value


def _write_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) if value else "-"
