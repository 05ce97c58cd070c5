"""The log as CSV, and one message as a file."""

from __future__ import annotations

import csv
import email.header
import email.message
import email.policy
import json
import re
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db.models import Q
from django.utils.translation import gettext as _

from django_turbosmtp._lib.interrupts import raise_as_it_was, raise_interrupt
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp._lib.text import write_cell
from django_turbosmtp._lib.times import make_aware
from django_turbosmtp.log.querysets import read_payload, read_related
from django_turbosmtp.models import Attachment, Content, Message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from django.db.models import QuerySet

#: A column for each of these fields.
COLUMNS = (
    "id",
    "created_at",
    "concluded_at",
    "status",
    "outcome",
    "from_email",
    "first_recipient",
    "recipient_count",
    "subject",
    "campaign",
    "tags",
    "mailer",
    "reference_id",
    "mid",
    "attempts",
    "error",
)

#: A token (RFC 5322, "field-name"; RFC 2045, "token"), and no sign that parts others.
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+")

#: Read so many messages at a time.
_CHUNK = 1_000


logger = get_logger("django_turbosmtp.admin")


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, line: str) -> str:
        return line


def write_csv(queryset: QuerySet[Message]) -> Iterator[str]:
    """Yield the lines of all messages; the database is read as they are taken.

    The first is a byte order mark, without which Excel takes UTF-8 for another charset.
    """
    writer = csv.writer(_Echo())
    yield "\ufeff"
    yield writer.writerow(COLUMNS)
    for row in _read_in_parts(queryset):
        yield writer.writerow([_write_cell(value) for value in row])


async def iterate_in_thread(lines: Iterator[str]) -> AsyncIterator[str]:
    """Yield the same, `_CHUNK` lines at a time, each read where queries are allowed."""
    read = sync_to_async(lambda: "".join(islice(lines, _CHUNK)))
    while part := await read():
        yield part


def _read_in_parts(queryset: QuerySet[Message]) -> Iterator[tuple[Any, ...]]:
    """Yield the columns of each message, newest first or, as asked for, oldest first.

    By one statement for each part, which begins where the last one ended: MariaDB's
    client would hold all rows of one statement, and PostgreSQL's a transaction.
    """
    is_rising = queryset.query.order_by[:1] == ("created_at",)
    order = ("created_at", "id") if is_rising else ("-created_at", "-id")
    beyond = "gt" if is_rising else "lt"
    rows = queryset.order_by(*order).values_list(*COLUMNS)
    part = rows
    while True:
        found = list(part[:_CHUNK])
        yield from found
        if len(found) < _CHUNK:
            return
        key, moment = found[-1][:2]
        at_once = Q(created_at=moment, **{f"id__{beyond}": key})
        part = rows.filter(
            # Alone it says where in the index to begin.
            Q(**{f"created_at__{beyond}e": moment}),
            Q(**{f"created_at__{beyond}": moment}) | at_once,
        )


def _write_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return make_aware(value).isoformat()
    if isinstance(value, (list, dict)):
        value = ", ".join(map(str, value))
    return str(value) if isinstance(value, int) else write_cell(str(value))


@raise_as_it_was
def build_eml(message: Message) -> bytes | None:
    """Return a message as RFC 5322 has it, None where the log has not got its body.

    A message that went as MIME and whose payload is kept is that MIME. Any other is
    built anew from the log: it says so in a header, and which attachments are missing.
    """
    content = Content.objects.using(message._state.db).filter(pk=message.pk).first()
    if content is None:
        return None
    if message.why_mime and (mime := _read_mime(message)):
        return mime
    built = email.message.EmailMessage(policy=email.policy.SMTP)
    _add_headers(built, message)
    if content.text or not content.html:
        built.set_content(content.text)
        if content.html:
            built.add_alternative(content.html, subtype="html")
    else:
        built.set_content(content.html, subtype="html")
    missing = [
        attachment.name or attachment.type
        for attachment in read_related(message.attachments).select_related("stored")
        if not _attach(built, attachment)
    ]
    note = _("Built from the log; not byte for byte what was sent.")
    if missing:
        lost = _("Attachments not kept: %s") % ", ".join(missing)
        note = f"{note} {lost}"
    built["X-Turbosmtp-Log"] = _flatten(note)
    return built.as_bytes()


def _read_mime(message: Message) -> bytes | None:
    try:
        mime = json.loads(read_payload(message) or "{}")["mime_raw"]
        return str(mime).encode()
    except (ValueError, LookupError, TypeError):
        # A payload that is damaged, or of an earlier form.
        return None


def _add_headers(built: email.message.EmailMessage, message: Message) -> None:
    lists: dict[str, list[str]] = {"to": [], "cc": [], "bcc": []}
    for recipient in read_related(message.recipients).order_by("position"):
        lists[recipient.kind].append(recipient.shown or recipient.address)
    headers = {
        "From": message.from_email,
        "To": ", ".join(lists["to"]),
        "Cc": ", ".join(lists["cc"]),
        "Bcc": ", ".join(lists["bcc"]),
        "Subject": message.subject,
        "Date": email.utils.format_datetime(make_aware(message.created_at)),
        **{str(name): str(value) for name, value in message.headers.items()},
    }
    for name, value in headers.items():
        text = _flatten(value)
        # A message that could not be sent may have anything here.
        if text and _NAME.fullmatch(name):
            _set_header(built, name, text)


def _set_header(built: email.message.EmailMessage, name: str, text: str) -> None:
    """Set a header; if Python cannot write it, in an encoded word and by another name.

    The structure of the built message has its own headers.
    """
    is_of_structure = name.lower().startswith(("content-", "mime-version"))
    if not is_of_structure:
        del built[name]
        try:
            built[name] = text
            built.policy.fold(name, built[name])
        except Exception as error:  # noqa: BLE001 - Python's parsers raise of any kind
            raise_interrupt(error)
            del built[name]
        else:
            return
    encoded = email.header.Header(text, "utf-8", errors="replace").encode()
    built[f"X-Turbosmtp-{name}"] = _flatten(encoded)


def _flatten(text: str) -> str:
    """Return a text in one line: a break would begin another header."""
    return " ".join(text.split())


def _attach(built: email.message.EmailMessage, attachment: Attachment) -> bool:
    """Attach the bytes of an attachment; return whether they were kept."""
    if attachment.stored is None:
        return False
    try:
        with attachment.stored.file.open("rb") as file:
            data = file.read()
    except Exception as error:
        # A storage may raise errors of its own, S3's for one.
        raise_interrupt(error)
        logger.exception("An attachment of %s could not be read.", built["Message-ID"])
        return False
    kind, _slash, subtype = attachment.type.partition(";")[0].strip().partition("/")
    is_plain = _NAME.fullmatch(kind) and _NAME.fullmatch(subtype)
    if not is_plain or kind in {"message", "multipart"}:
        kind, subtype = "application", "octet-stream"
    built.add_attachment(
        data, maintype=kind, subtype=subtype, filename=_flatten(attachment.name) or None
    )
    return True
