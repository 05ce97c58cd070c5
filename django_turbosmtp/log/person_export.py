"""Exports all data about one person as JSON: the data that erasing would remove."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Prefetch

from django_turbosmtp.log.erase import find_messages
from django_turbosmtp.log.files import read_bytes
from django_turbosmtp.log.persons import COLUMNS, Person, list_texts
from django_turbosmtp.log.querysets import read_payload, read_related
from django_turbosmtp.models import (
    Attachment,
    Attempt,
    Content,
    Event,
    Message,
    Recipient,
    Suppression,
    Tag,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from django.db.models import QuerySet

_CHUNK = 100

#: The parts of the document besides messages and events.
PARTS = ("suppression", "notes", "admin_log")


def write_export(
    address: str,
    alias: str,
    *,
    messages: QuerySet[Message] | None = None,
    parts: Collection[str] = PARTS,
) -> Iterator[str]:
    """Yield the JSON document about a person, in pieces.

    It is an object with ``address``, ``suppression`` (or null), ``messages``,
    ``events`` (that do not belong to these messages), ``notes`` (of other suppressions)
    and ``admin_log``. ``messages``: limit the export to these and their events; None
    for all. ``parts``: the items of `PARTS` that the user may see; others are empty.
    """
    person = Person(address)
    suppression = None
    if "suppression" in parts:
        suppression = _describe_suppression(person, alias)
    yield f'{{"address": {_dump(person.address)},\n'
    yield f'"suppression": {_dump(suppression)},'
    # Before the list of messages is written, because it reads the whole log.
    keys = find_messages(address, alias)
    shown = keys if messages is None else _filter_keys(keys, messages)
    lists: dict[str, Iterable[dict[str, Any]]] = {
        "messages": _describe_messages(sorted(shown), person, alias),
        "events": _describe_events(keys, person, alias, messages),
        "notes": _describe_notes(person, alias) if "notes" in parts else (),
        "admin_log": (columns for _, columns in person.find_admin_log())
        if "admin_log" in parts
        else (),
    }
    for number, (name, items) in enumerate(lists.items()):
        yield f"{',' if number else ''}\n{_dump(name)}: ["
        for count, item in enumerate(items):
            yield f"{',' if count else ''}\n{_dump(item)}"
        yield "\n]"
    yield "\n}\n"


def _filter_keys(keys: Iterable[Any], messages: QuerySet[Message]) -> set[Any]:
    ordered = sorted(keys)
    return {
        key
        for start in range(0, len(ordered), _CHUNK)
        for key in messages.filter(pk__in=ordered[start : start + _CHUNK])
        .order_by()
        .values_list("pk", flat=True)
    }


def _dump(value: Any) -> str:
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False)


def _describe_suppression(person: Person, alias: str) -> dict[str, Any] | None:
    rows = Suppression.objects.using(alias)
    # An erased person may ask for an export, too: then the row has the hash.
    names = [person.address, *person.hashes]
    row = rows.filter(address__in=names).first()
    columns = ("reason", "source", "since", "note")
    return {name: getattr(row, name) for name in columns} if row else None


def _describe_messages(
    keys: list[Any], person: Person, alias: str
) -> Iterator[dict[str, Any]]:
    related = (
        Prefetch("recipients", Recipient.objects.using(alias)),
        Prefetch(
            "attachments", Attachment.objects.using(alias).select_related("stored")
        ),
    )
    for start in range(0, len(keys), _CHUNK):
        part = keys[start : start + _CHUNK]
        messages = Message.objects.using(alias).filter(pk__in=part).order_by("pk")
        for message in messages.prefetch_related(*related):
            yield _describe_message(message, person)


def _describe_message(message: Message, person: Person) -> dict[str, Any]:
    """Return all data of a message, but only this one of its recipients."""
    names = [field.attname for field in Message._meta.fields]
    content = Content.objects.using(message._state.db).filter(pk=message.pk).first()
    known = {person.address, *person.hashes}
    # Other recipients are persons, too, whose data is not exported.
    theirs = [r for r in message.recipients.all() if r.address in known]
    is_alone = bool(theirs) and message.recipient_count == len(theirs)
    described: dict[str, Any] = {
        **{name: getattr(message, name) for name in names},
        "first_recipient": message.first_recipient
        if person.is_named_in(message.first_recipient)
        else "",
        "recipients": [
            {"kind": r.kind, "shown": r.shown, "status": r.status, "mid": r.mid}
            for r in theirs
        ],
        "events": [
            _describe_event(event)
            for event in read_related(message.events).order_by("occurred_at")
            if event.address in known or person.is_named_in(_read_texts(event))
        ],
        "text": content.text if content else None,
        "html": content.html if content else None,
        "attachments": [_describe_attachment(a) for a in message.attachments.all()],
    }
    if is_alone:
        # If there are several recipients, these contain the others' addresses.
        described["wire"] = content.wire if content else None
        described["attempts"] = list(
            read_related(message.tries).values(
                "began_at", "status_code", "error", "answer"
            )
        )
        payload = read_payload(message)
        described["payload"] = _read_json(payload)
    else:
        described["attempts"] = []
        described["named_in"] = list(_list_naming(message, person))
    return described


def _list_naming(message: Message, person: Person) -> Iterator[dict[str, Any]]:
    """Yield those texts of a message that contain the person's address."""
    alias = message._state.db
    # The texts of these tables may be about other recipients, so only those with the
    # address are exported.
    values = [
        (model.__name__, column, value)
        for model in (Content, Recipient, Tag, Attempt, Attachment)
        for row in model._default_manager.using(alias)
        .filter(message=message)
        .order_by("pk")
        .values(*COLUMNS[model])
        for column, value in row.items()
    ]
    payload = read_payload(message)
    values.append(("Payload", "data", _read_json(payload)))
    for table, column, value in values:
        for text in list_texts(value):
            if person.is_named_in(text):
                yield {"table": table, "column": column, "text": text}
    if payload and person.is_named_in_payload(payload):
        yield {"table": "Payload", "column": "data", "text": "(encoded)"}


def _read_json(payload: bytes) -> Any:
    try:
        return json.loads(payload) if payload else None
    except ValueError:
        # A damaged payload still contains the person's data.
        return payload.decode(errors="replace")


def _describe_attachment(attachment: Attachment) -> dict[str, Any]:
    content = read_bytes(attachment.stored) if attachment.stored else None
    return {
        "name": attachment.name,
        "type": attachment.type,
        "size": attachment.size,
        "sha256": attachment.sha256,
        "content_base64": None if content is None else b64encode(content).decode(),
    }


def _describe_events(
    keys: set[Any], person: Person, alias: str, messages: QuerySet[Message] | None
) -> Iterator[dict[str, Any]]:
    """Yield events about the person, outside of the messages with these keys."""
    rows = Event.objects.using(alias)
    found = {pk for pk, _ in person.find_rows(Event, alias)}
    found |= set(rows.filter(address__in=person.hashes).values_list("pk", flat=True))
    # One at a time, because the raw JSON of an event may be large.
    for pk in sorted(found):
        event = rows.get(pk=pk)
        if event.message_id in keys:
            continue
        # The event belongs to another message, or to none.
        own = event.message_id
        if own is None or messages is None or messages.filter(pk=own).exists():
            yield _describe_event(event)


def _describe_event(event: Event) -> dict[str, Any]:
    names = [field.attname for field in Event._meta.fields if field.name != "digest"]
    return {name: getattr(event, name) for name in names}


def _read_texts(event: Event) -> list[Any]:
    return [event.answer, event.user_agent, event.click_url, event.raw]


def _describe_notes(person: Person, alias: str) -> Iterator[dict[str, Any]]:
    for _, columns in person.find_rows(Suppression, alias):
        others = {n: v for n, v in columns.items() if n != "address"}
        if others and "address" not in columns:
            yield others
