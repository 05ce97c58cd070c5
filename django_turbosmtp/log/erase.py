"""All that is kept on one person: finding it, writing it out, removing it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.db.models import Exists, OuterRef, Prefetch, Q, TextField
from django.db.models.functions import Cast

from django_turbosmtp.log.connection import run_statements
from django_turbosmtp.log.files import remove_unused_files
from django_turbosmtp.log.locks import begin, delete_messages, lock_messages
from django_turbosmtp.log.querysets import read_related
from django_turbosmtp.log.suppressions import forget_address
from django_turbosmtp.models import (
    Attachment,
    Attempt,
    Content,
    Event,
    Message,
    Payload,
    Recipient,
    Unmatched,
)
from django_turbosmtp.payload.addresses import normalize_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from uuid import UUID

#: Stands where something of an erased person stood.
ERASED = "(erased)"

_CHUNK = 200

#: Where a message may name a person, beside its recipients.
_TEXTS = (
    "from_email",
    "subject",
    "error",
    "content__text",
    "content__html",
)
#: The same as text that is compared without regard to case.
_CAST_TEXTS = {
    "reference_text": "reference_id",
    "headers_text": "headers",
    "metadata_text": "metadata",
    "wire_text": "content__wire",
}


@dataclass(frozen=True, kw_only=True)
class Erased:
    """How many messages were deleted, and of how many her part was removed."""

    deleted: int
    anonymised: int


def find_messages(address: str, alias: str) -> Iterator[UUID]:
    """Yield the ids of messages that went to ``address`` or name it anywhere.

    The second takes a walk through the whole log: there is no index for it.
    """
    spellings = _list_spellings(address)
    address = spellings[0]
    sent = Recipient.objects.using(alias).filter(address=address)
    messages = Message.objects.using(alias).annotate(
        is_hers=Exists(sent.filter(message=OuterRef("pk"))),
        **{name: Cast(path, TextField()) for name, path in _CAST_TEXTS.items()},
    )
    named = Q(is_hers=True)
    for path in (*_TEXTS, *_CAST_TEXTS):
        for spelling in spellings:
            named |= Q(**{f"{path}__icontains": spelling})
    exact = _build_pattern(spellings)
    found = messages.filter(named).order_by("pk")
    rows = part = found.values("pk", "is_hers", *_TEXTS, *_CAST_TEXTS)
    # Part by part: MariaDB's client holds all rows of one statement, with their bodies.
    while chunk := list(part[:_CHUNK]):
        for row in chunk:
            # "mary-jane@example.org" holds "jane@example.org".
            if row["is_hers"] or any(
                exact.search(row[path] or "") for path in (*_TEXTS, *_CAST_TEXTS)
            ):
                yield row["pk"]
        part = rows.filter(pk__gt=chunk[-1]["pk"])


def _build_pattern(spellings: Iterable[str]) -> re.Pattern[str]:
    """Return the pattern that finds an address in a text, and no longer address."""
    either = "|".join(map(re.escape, spellings))
    return re.compile(rf"(?<![\w.+-])(?:{either})(?![\w-]|\.\w)", re.IGNORECASE)


def _list_spellings(address: str) -> list[str]:
    """Return how the log compares an address, and how texts may name it besides."""
    normal = normalize_address(address)
    local, at, domain = normal.rpartition("@")
    try:
        spoken = f"{local}{at}{domain.encode('ascii').decode('idna')}"
    except UnicodeError:
        spoken = normal
    # JSON as SQLite and MariaDB keep it, escaped.
    return list(dict.fromkeys([normal, spoken, json.dumps(spoken)[1:-1]]))


def describe_messages(address: str, alias: str) -> Iterator[dict[str, Any]]:
    """Yield all that is kept of each message, of its recipients only this one."""
    address = normalize_address(address)
    for ids in _chunk(find_messages(address, alias)):
        messages = Message.objects.using(alias).filter(pk__in=ids).order_by("pk")
        related = (
            Prefetch("recipients", Recipient.objects.using(alias)),
            Prefetch("attachments", Attachment.objects.using(alias)),
        )
        for message in messages.prefetch_related(*related):
            yield _describe(message, address)


def erase(address: str, alias: str) -> Erased:
    """Delete messages to this person alone; of others, remove what is hers."""
    address = normalize_address(address)
    deleted = anonymised = 0
    # Found whole before the first is removed; ids alone are small.
    for ids in _chunk(iter(list(find_messages(address, alias)))):
        part = run_statements(partial(_erase_from, ids, address, alias), alias)
        deleted += part.deleted
        anonymised += part.anonymised
    _forget_unmatched(address, alias)
    forget_address(address, alias)
    remove_unused_files(alias)
    return Erased(deleted=deleted, anonymised=anonymised)


def _erase_from(ids: list[UUID], address: str, alias: str) -> Erased:
    with begin(alias, limits_wait=False):
        messages = Message.objects.using(alias)
        lock_messages(messages.filter(pk__in=ids))
        shared = set(
            Recipient.objects.using(alias)
            .filter(message__in=ids)
            .exclude(address=address)
            .values_list("message_id", flat=True)
        )
        alone = [pk for pk in ids if pk not in shared]
        delete_messages(messages.filter(pk__in=alone))
        _anonymise(shared, address, alias)
    return Erased(deleted=len(alone), anonymised=len(shared))


def _forget_unmatched(address: str, alias: str) -> None:
    """Remove what was told of her about messages that the log has not got."""
    hers = Unmatched.objects.using(alias).filter(event__address=address)
    keys = list(hers.values_list("pk", flat=True))
    with begin(alias, limits_wait=False):
        Unmatched.objects.using(alias).filter(pk__in=keys).delete()
        Event.objects.using(alias).filter(pk__in=keys).delete()


def _anonymise(ids: set[UUID], address: str, alias: str) -> None:
    for model in (Content, Payload, Attempt):
        model._default_manager.using(alias).filter(message__in=ids).delete()
    attachments = Attachment.objects.using(alias).filter(message__in=ids)
    attachments.update(name=ERASED, stored=None)
    recipients = Recipient.objects.using(alias).filter(message__in=ids)
    recipients.filter(address=address).update(address=ERASED, shown=ERASED)
    first = recipients.filter(position=0, address=ERASED)
    events = Event.objects.using(alias).filter(message__in=ids)
    events.filter(address=address).delete()
    # Of the others: as it came, it has the subject.
    events.update(raw={})
    messages = Message.objects.using(alias).filter(pk__in=ids)
    erased = list(first.values_list("message_id", flat=True))
    messages.filter(pk__in=erased).update(first_recipient=ERASED)
    exact = _build_pattern(_list_spellings(address))
    for field in ("from_email", "reference_id"):
        # In Python: to MariaDB, josé is jose.
        texts = messages.values_list("pk", field)
        named = [pk for pk, text in texts if exact.search(text)]
        messages.filter(pk__in=named).update(**{field: ERASED})
    messages.exclude(error="").update(error=ERASED)
    messages.update(subject=ERASED, subject_start=ERASED, headers={}, metadata={})


def _describe(message: Message, address: str) -> dict[str, Any]:
    names = [field.attname for field in Message._meta.fields]
    content = Content.objects.using(message._state.db).filter(pk=message.pk).first()
    hers = [r for r in message.recipients.all() if r.address == address]
    return {
        **{name: getattr(message, name) for name in names},
        "first_recipient": address if hers else "",
        "recipients": [
            {"kind": r.kind, "shown": r.shown, "status": r.status, "mid": r.mid}
            for r in hers
        ],
        # Of others too, where they got the same message.
        "attempts": list(
            read_related(message.tries).values(
                "began_at", "status_code", "error", "answer"
            )
        )
        if hers and message.recipient_count == 1
        else [],
        "events": list(
            read_related(message.events)
            .filter(address=address)
            .values(
                "occurred_at", "event_type", "answer", "user_agent", "click_url", "raw"
            )
        ),
        "text": content.text if content else None,
        "html": content.html if content else None,
        "attachments": [
            {"name": a.name, "type": a.type, "size": a.size, "sha256": a.sha256}
            for a in message.attachments.all()
        ],
    }


def _chunk(ids: Iterator[UUID]) -> Iterator[list[UUID]]:
    while chunk := list(islice(ids, _CHUNK)):
        yield chunk
