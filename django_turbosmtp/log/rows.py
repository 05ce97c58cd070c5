"""Builds the rows of one message."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.message import Message as MIMEMessage
from typing import TYPE_CHECKING, Any

from django_turbosmtp import exceptions
from django_turbosmtp._lib.interrupts import raise_interrupt
from django_turbosmtp._lib.limits import (
    MAX_ADDRESS_LENGTH,
    MAX_REFERENCE_LENGTH,
    MAX_TAG_LENGTH,
)
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp.log.redaction import Redactor
from django_turbosmtp.log.storable import Cleaner, encode_plain_json
from django_turbosmtp.models import list_further_tags, shorten_subject
from django_turbosmtp.payload.addresses import normalize_address
from django_turbosmtp.payload.attributes import Attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from django_turbosmtp.log.entries import Entry

    Redact = Callable[[str, str], str]

    #: The values of all fields of a row, by ``attname``.
    Row = dict[str, Any]

    #: Name, type, bytes and Content-ID of an attachment.
    _Attached = tuple[str, str, Any, str]

logger = get_logger("django_turbosmtp.log")

#: Wire fields that are not repeated in ``wire``: bodies, attachments and MIME.
_NOT_IN_WIRE = {"content", "html_content", "attachments", "mime_raw"}

#: The names under which changes of the request's fields are noted in ``altered``.
_SENT = {"text", "html", "wire", "attachments"}


@dataclass(kw_only=True, slots=True)
class Rows:
    """All rows of one message, as arguments of `log.inserts.insert_values`.

    ``contents``: the bytes of each attachment, in order. ``stores_payload``: whether
    the payload may be stored if the message is not accepted.
    """

    message: Row
    recipients: list[Row]
    tags: Sequence[Row] = ()
    content: Row | None = None
    attachments: Sequence[Row] = ()
    contents: Sequence[Any] = ()
    stores_payload: bool = False

    @property
    def stores_body(self) -> bool:
        """Whether the body may be stored, and therefore the attachments' bytes."""
        return self.content is not None


def build_rows(
    entry: Entry, *, store_body: bool, width: int, redact: Redact | None = None
) -> Rows:
    """Return the rows of ``entry``, ready to be inserted.

    ``width``: the highest character that the database can store. ``redact`` takes a
    text and the name of its field, and returns the text to store.
    """
    clean = _RowCleaner(width, redact)
    message = entry.message
    shown = entry.recipients[0].address if entry.recipients else ""
    subject = clean.redacted("subject", getattr(message, "subject", ""))
    tags = [clean.text("tags", tag) for tag in entry.attributes.tags]
    row: Row = {
        "id": entry.id,
        "created_at": entry.created_at,
        # A message that is not going to be sent has its outcome already.
        "concluded_at": entry.created_at if entry.is_concluded else None,
        "status": entry.status,
        "outcome": entry.outcome,
        "reference_id": clean.text(
            "reference_id", entry.attributes.reference_id, MAX_REFERENCE_LENGTH
        ),
        "mailer": clean.text("mailer", entry.mailer, 100),
        "account": entry.account,
        "api_version": entry.api_version,
        "from_email": clean.text("from_email", getattr(message, "from_email", "")),
        "subject": subject,
        "subject_start": shorten_subject(subject),
        "first_recipient": clean.text("recipients", shown, MAX_ADDRESS_LENGTH),
        "recipient_count": len(entry.recipients),
        "size": entry.translation.size,
        "campaign": clean.text("campaign", entry.attributes.campaign, MAX_TAG_LENGTH),
        "tags": clean.json("tags", tags),
        "metadata": clean.json("metadata", entry.attributes.metadata),
        "headers": clean.json(
            "headers", clean.headers("headers", _list_headers(entry))
        ),
        "why_mime": clean.text("why_mime", entry.translation.why_mime),
        "mid": "",
        "attempts": 0,
        "error": describe_error(entry.error, width),
        "error_class": name_class(entry.error),
        "is_unchecked": entry.is_unchecked,
    }
    rows = Rows(message=row, recipients=_build_recipients(entry, clean))
    if tags:
        rows.tags = [
            {"message_id": entry.id, "name": name}
            for name in list_further_tags(tags, row["campaign"])
        ]
    if attached := list(_list_attachments(entry)):
        rows.contents = [content for _, _, content, _ in attached]
        rows.attachments = _build_attachments(entry, attached, clean)
    if store_body:
        text, html = _read_bodies(entry)
        rows.content = {
            "message_id": entry.id,
            "text": clean.redacted("text", text),
            "html": clean.redacted("html", html),
            "wire": _build_wire(entry, clean),
        }
        is_unchanged = _SENT.isdisjoint(clean.altered) and not clean.was_redacted
        is_of_fields = bool(entry.fields) and "mime_raw" not in entry.fields
        rows.content["is_exact"] = is_unchanged and is_of_fields
        rows.content["keeps_payload"] = False
    row["altered"] = clean.json("altered", clean.altered)
    # The payload would contain the parts that were redacted. MIME cannot be redacted.
    rows.stores_payload = store_body and not clean.was_redacted
    if redact is not None and "mime_raw" in entry.fields:
        rows.stores_payload = False
    return rows


def _list_headers(entry: Entry) -> dict[str, Any]:
    """Return the headers that the caller set, including Reply-To."""
    headers = dict(entry.attributes.headers)
    reply_to = getattr(entry.message, "reply_to", None)
    # Django has a list for Reply-To, but support staff look for it among the headers.
    if reply_to and "reply-to" not in map(str.lower, headers):
        headers["Reply-To"] = ", ".join(map(str, reply_to))
    return headers


def build_rows_safely(
    entry: Entry, *, store_body: bool, width: int, redact: Redact | None = None
) -> Rows:
    """Return the rows of ``entry``; if its message raises, rows without its contents.

    Any attribute of a site's message class may raise. Other messages still get rows.
    """
    try:
        return build_rows(entry, store_body=store_body, width=width, redact=redact)
    except Exception as error:
        raise_interrupt(error)
        logger.exception(
            "%s: stored without its contents.", entry.attributes.reference_id
        )
        # Without the message, so that the second attempt cannot raise for the same
        # reason.
        bare = replace(
            entry,
            message=None,
            attributes=Attributes(reference_id=entry.attributes.reference_id),
            fields={},
        )
        return build_rows(bare, store_body=False, width=width)


def describe_error(error: BaseException | None, width: int) -> str:
    """Return the text of an error as it can be stored, "" for none."""
    if error is None:
        return ""
    return Cleaner(width).clean_text(str(error)) or type(error).__name__


def name_class(error: BaseException | None) -> str:
    """Return the name of an error's class (for ours, the public class), "" for none."""
    if error is None:
        return ""
    cls = type(error)
    if cls.__module__.startswith("django_turbosmtp."):
        cls = next((c for c in cls.__mro__ if c.__module__ == exceptions.__name__), cls)
    return cls.__name__[:100]


class _RowCleaner:
    """Redacts values and makes them storable; notes the fields that had to change."""

    def __init__(self, width: int, redact: Redact | None) -> None:
        self._width = width
        self._redact = redact
        self._redactor = Redactor([redact] if redact else [])
        self.altered: list[str] = []
        self.was_redacted = False

    def text(self, name: str, value: Any, limit: int | None = None) -> str:
        """Return ``value`` as text of at most ``limit`` characters."""
        text: str = value if type(value) is str else self._read(name, value)
        # Nearly all texts are storable on every database, and this check is much
        # faster.
        if text.isascii() and "\0" not in text and (not limit or len(text) <= limit):
            return text
        cleaner = Cleaner(self._width)
        kept = cleaner.clean_text(text)[:limit]
        if cleaner.changed or len(kept) < len(text):
            self._note(name)
        return kept

    def redacted(self, name: str, value: Any) -> str:
        """Return ``value`` as text, redacted."""
        if self._redact is None:
            return self.text(name, value)
        return self.text(name, self._redact_text(name, self._read(name, value)))

    def json(self, name: str, value: Mapping[str, Any] | list[str]) -> str:
        """Return ``value`` as JSON text."""
        if not value:
            return "{}" if isinstance(value, Mapping) else "[]"
        # This JSON text is stored unchanged, so the value need not be cleaned.
        if plain := encode_plain_json(value):
            return plain
        cleaner = Cleaner(self._width)
        kept = self._convert(name, cleaner.clean_json, value)
        if cleaner.changed:
            self._note(name)
        return json.dumps(kept)

    def headers(self, name: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return headers, the value of each redacted."""
        if self._redact is None:
            return value
        return {
            key: self._redact_text(name, item) if isinstance(item, str) else item
            for key, item in value.items()
        }

    def _redact_text(self, name: str, text: str) -> str:
        kept = self._redactor.redact_text(name, text)
        self.was_redacted = self.was_redacted or kept != text
        return kept

    def _read(self, name: str, value: Any) -> str:
        # A lazy string of the site may raise any exception.
        return str(self._convert(name, str, "" if value is None else value))

    def _convert(self, name: str, convert: Callable[[Any], Any], value: Any) -> Any:
        try:
            return convert(value)
        except Exception as error:  # noqa: BLE001
            raise_interrupt(error)
            self._note(name)
            return f"({type(error).__name__} while reading this value)"

    def _note(self, name: str) -> None:
        if name not in self.altered:
            self.altered.append(name)


def _build_recipients(entry: Entry, clean: _RowCleaner) -> list[Row]:
    return [
        {
            "message_id": entry.id,
            "position": position,
            "kind": recipient.kind,
            "address": normalize_address(
                clean.text("recipients", recipient.address, MAX_ADDRESS_LENGTH)
            ),
            "shown": clean.text("recipients", recipient.shown),
            "status": recipient.status,
            "mid": "",
            "why": recipient.why,
        }
        for position, recipient in enumerate(entry.recipients)
    ]


def _build_wire(entry: Entry, clean: _RowCleaner) -> str:
    wire = {k: v for k, v in entry.fields.items() if k not in _NOT_IN_WIRE}
    if "subject" in wire:
        wire["subject"] = clean.redacted("wire", wire["subject"])
    if "custom_headers" in wire:
        wire["custom_headers"] = clean.headers("wire", wire["custom_headers"])
    for name in ("content", "html_content", "mime_raw"):
        if name in entry.fields:
            # The bodies have their own columns, and MIME would repeat the attachments.
            wire[name] = f"({len(entry.fields[name]):,} characters)"
    if parts := entry.fields.get("attachments"):
        wire["attachments"] = [
            {"name": part.name, "type": part.type, "content_id": part.content_id}
            for part in parts
        ]
    return clean.json("wire", wire)


def _read_bodies(entry: Entry) -> tuple[str, str]:
    """Return text and HTML of the wire fields, or of the message if they have none."""
    fields = entry.fields
    # The fields are the text as it is sent.
    if "content" in fields or "html_content" in fields:
        return fields.get("content", ""), fields.get("html_content", "")
    message = entry.message
    body = _decode(getattr(message, "body", ""))
    if getattr(message, "content_subtype", "plain") == "html":
        return "", body
    for alternative in getattr(message, "alternatives", None) or ():
        content, mimetype = tuple(alternative)[:2]
        if mimetype == "text/html":
            return body, _decode(content)
    return body, ""


def _decode(body: Any) -> Any:
    return body.decode(errors="replace") if isinstance(body, bytes) else body


def _build_attachments(
    entry: Entry, attached: Iterable[_Attached], clean: _RowCleaner
) -> list[Row]:
    return [
        {
            "message_id": entry.id,
            "position": position,
            "name": clean.text("attachments", name),
            "type": clean.text("attachments", kind, 255),
            "size": memoryview(content).nbytes,
            "sha256": hashlib.sha256(content).hexdigest(),
            # Set if its bytes are stored (`log.files`).
            "stored_id": None,
            "content_id": clean.text("attachments", cid),
        }
        for position, (name, kind, content, cid) in enumerate(attached)
    ]


def _list_attachments(entry: Entry) -> Iterator[_Attached]:
    """Yield name, type, bytes and Content-ID of each attachment."""
    # MIME is not parsed again: the attachments are read from the message.
    if "mime_raw" not in entry.fields and entry.fields:
        for part in entry.fields.get("attachments", ()):
            yield part.name, part.type, part.content, part.content_id
        return
    attached: Iterable[Any] = getattr(entry.message, "attachments", None) or ()
    for attachment in attached:
        try:
            yield _read_attachment(attachment)
        except Exception as error:  # noqa: BLE001 - any object can be attached
            raise_interrupt(error)
            yield "", type(attachment).__name__, b"", ""


def _read_attachment(attachment: Any) -> _Attached:
    if isinstance(attachment, MIMEMessage):
        content = attachment.get_payload(decode=True)
        if not isinstance(content, bytes):
            # An attached message has no payload to decode.
            content = attachment.as_bytes()
        cid = str(attachment.get("Content-ID", "")).strip().strip("<>")
        name = attachment.get_filename() or ""
        return name, attachment.get_content_type(), content, cid
    name, content, kind = (*attachment, None)[:3]
    if isinstance(content, MIMEMessage):
        content = content.as_bytes()
    # An attached EmailMessage; Django attaches its MIME.
    if hasattr(content, "message"):
        content = content.message().as_bytes()
    if isinstance(content, str):
        content = content.encode(errors="replace")
    return str(name or ""), str(kind or ""), content, ""
