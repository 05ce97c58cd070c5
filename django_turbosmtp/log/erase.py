"""Erases all data about one person from the log."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import router

from django_turbosmtp.log.connection import run_statements
from django_turbosmtp.log.files import read_bytes, remove_unused_files
from django_turbosmtp.log.locks import begin, delete_messages, lock_messages
from django_turbosmtp.log.persons import COLUMNS, ERASED, Person
from django_turbosmtp.log.querysets import read_payload
from django_turbosmtp.log.statements import insert_payloads
from django_turbosmtp.log.suppressions import forget_address
from django_turbosmtp.models import (
    Attachment,
    Attempt,
    Content,
    Event,
    HashedAddress,
    Message,
    Payload,
    QueuedMessage,
    Recipient,
    StoredFile,
    Tag,
    Unmatched,
)
from django_turbosmtp.payload.stored import UnreadablePayloadError, drop_from_payload
from django_turbosmtp.statuses import Reason, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from uuid import UUID

    from django.db.models import Model

_CHUNK = 200

#: The tables whose rows belong to a message, with the field that refers to it.
_OF_MESSAGES: dict[type[Model], str] = {
    Message: "pk",
    Content: "message_id",
    Recipient: "message_id",
    Tag: "message_id",
    Attempt: "message_id",
    Attachment: "message_id",
}


@dataclass(frozen=True, kw_only=True)
class Erased:
    """The number of messages that were deleted, and of those that were anonymised."""

    deleted: int
    anonymised: int


def find_messages(address: str, alias: str) -> set[UUID]:
    """Return the ids of messages that were sent to ``address`` or contain it.

    It reads the whole log, because no index can be used.
    """
    person = Person(address)
    recipients = Recipient.objects.using(alias)
    sent = recipients.filter(address=person.address)
    found = set(sent.values_list("message_id", flat=True))
    for model, field in _OF_MESSAGES.items():
        rows = model._default_manager.using(alias)
        keys = (pk for pk, _ in person.find_rows(model, alias))
        for part in _chunk(keys):
            if field == "pk":
                found.update(part)
            else:
                found.update(rows.filter(pk__in=part).values_list(field, flat=True))
    found.update(_find_payloads(person, alias))
    found.update(_find_files(person, alias))
    return found


def _find_payloads(person: Person, alias: str) -> Iterator[UUID]:
    rows = Payload.objects.using(alias).order_by("message", "position")
    keys = rows.values_list("message_id", flat=True).distinct().order_by("message_id")
    for key in list(keys):
        pieces = rows.filter(message=key).values_list("data", flat=True)
        if person.is_named_in_payload(b"".join(bytes(piece) for piece in pieces)):
            yield key


def _find_files(person: Person, alias: str) -> Iterator[UUID]:
    """Yield the messages with an attachment that contains the person's address.

    Compressed contents (PDF, ZIP) are not decoded.
    """
    attachments = Attachment.objects.using(alias)
    for file in StoredFile.objects.using(alias).order_by("pk").iterator(_CHUNK):
        content = read_bytes(file)
        if content and person.is_named_in(content):
            yield from attachments.filter(stored=file.pk).values_list(
                "message_id", flat=True
            )


def erase(address: str, alias: str) -> Erased:
    """Delete messages that only this person received; anonymise all others."""
    person = Person(address)
    # First, so that events which arrive during the erasing do not store the address
    # again.
    HashedAddress.remember([person.address], "erased_at", alias)
    deleted = anonymised = 0
    # Find all of them before the first is removed. The ids need little memory.
    found = sorted(find_messages(address, alias))
    # In chunks, so that each transaction is short and mail does not wait for locks.
    for ids in _chunk(iter(found)):
        part = run_statements(partial(_erase_from, ids, person, alias), alias)
        deleted += part.deleted
        anonymised += part.anonymised
    _forget_unmatched(person, alias)
    forget_address(person.address, alias)
    for model in COLUMNS:
        if model is not Payload:
            _clean_rows(model, person.find_rows(model, alias), person, alias)
    # Separately, because it may be in another database.
    _clean_admin_log(found, person)
    remove_unused_files(alias)
    return Erased(deleted=deleted, anonymised=anonymised)


def _erase_from(ids: list[UUID], person: Person, alias: str) -> Erased:
    with begin(alias, limits_wait=False):
        messages = Message.objects.using(alias)
        lock_messages(messages.filter(pk__in=ids))
        shared = set(
            Recipient.objects.using(alias)
            .filter(message__in=ids)
            .exclude(address__in=[person.address, *person.hashes])
            .values_list("message_id", flat=True)
        )
        alone = [pk for pk in ids if pk not in shared]
        delete_messages(messages.filter(pk__in=alone))
        _anonymise(shared, person, alias)
    return Erased(deleted=len(alone), anonymised=len(shared))


def _forget_unmatched(person: Person, alias: str) -> None:
    """Remove the person's events that do not belong to a message in the log."""
    theirs = Unmatched.objects.using(alias).filter(
        event__address__in=[person.address, *person.hashes]
    )
    keys = list(theirs.values_list("pk", flat=True))
    with begin(alias, limits_wait=False):
        Unmatched.objects.using(alias).filter(pk__in=keys).delete()
        Event.objects.using(alias).filter(pk__in=keys).delete()


def _anonymise(ids: set[UUID], person: Person, alias: str) -> None:
    queued = _drop_from_queue(ids, person, alias)
    for model in (Content, Attempt):
        model._default_manager.using(alias).filter(message__in=ids).delete()
    payloads = Payload.objects.using(alias).filter(message__in=ids)
    payloads.exclude(message__in=queued).delete()
    attachments = Attachment.objects.using(alias).filter(message__in=ids)
    attachments.update(name=ERASED, stored=None)
    recipients = Recipient.objects.using(alias).filter(message__in=ids)
    theirs = recipients.filter(address=person.address)
    first = list(theirs.filter(position=0).values_list("message_id", flat=True))
    # Events that arrive later find the recipient by the hash.
    theirs.update(address=person.hashes[0] if person.hashes else ERASED, shown=ERASED)
    events = Event.objects.using(alias).filter(message__in=ids)
    events.filter(address=person.address).delete()
    # The raw events of the other recipients contain the subject.
    events.update(raw={})
    messages = Message.objects.using(alias).filter(pk__in=ids)
    messages.filter(pk__in=first).update(first_recipient=ERASED)
    messages.exclude(error="").update(error=ERASED)
    messages.update(subject=ERASED, subject_start=ERASED, headers={}, metadata={})


def _drop_from_queue(ids: set[UUID], person: Person, alias: str) -> list[UUID]:
    """Remove the person from messages that are queued for others; return their keys.

    The payload of such a message is needed until it is sent, and is then deleted.
    """
    rows = QueuedMessage.objects.using(alias).filter(pk__in=ids)
    queued = list(rows.values_list("pk", flat=True))
    rows.update(keeps_payload=False)
    recipients = Recipient.objects.using(alias).filter(message__in=queued)
    theirs = recipients.filter(address=person.address, status=Status.QUEUED)
    theirs.update(status=Status.REJECTED, why=Reason.MANUAL)
    for message in Message.objects.using(alias).filter(pk__in=queued):
        payload = read_payload(message)
        try:
            kept = drop_from_payload(payload, [person.address])
        except UnreadablePayloadError:
            # It could not be sent, either.
            kept = b""
        Payload.objects.using(alias).filter(message=message.pk).delete()
        insert_payloads([(message.pk, [kept])], alias)
    return queued


def _clean_rows(
    model: type[Model],
    found: Iterable[tuple[Any, dict[str, Any]]],
    person: Person,
    alias: str,
) -> None:
    """Replace texts that contain the person's address, in rows that are kept."""
    rows = model._default_manager.using(alias)
    for pk, columns in found:
        values = {name: person.replace_in(value) for name, value in columns.items()}
        run_statements(partial(rows.filter(pk=pk).update, **values), alias)


def _clean_admin_log(ids: list[UUID], person: Person) -> None:
    """Clean Django's admin log, which contains the subjects of messages."""
    if not apps.is_installed("django.contrib.admin"):
        return
    from django.contrib.admin.models import LogEntry

    alias = router.db_for_write(LogEntry)
    entries = LogEntry.objects.using(alias).filter(
        content_type__app_label=Message._meta.app_label,
        content_type__model=Message._meta.model_name,
    )
    for part in _chunk(map(str, ids)):
        entries.filter(object_id__in=part).update(object_repr=ERASED, change_message="")
    _clean_rows(LogEntry, person.find_admin_log(), person, alias)


def _chunk(keys: Iterator[Any]) -> Iterator[list[Any]]:
    while chunk := list(islice(keys, _CHUNK)):
        yield chunk
