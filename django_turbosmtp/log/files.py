"""The bytes of attachments, in Django's storage, once for each content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.files.base import ContentFile

from django_turbosmtp._lib.interrupts import raise_as_it_was, raise_interrupt
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp.models import Attachment, StoredFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_turbosmtp.log.rows import Rows

logger = get_logger("django_turbosmtp.log")

#: Look at this many stored files at a time when the unused ones are removed.
_CHUNK = 200


def store_files(rows: Sequence[Rows], alias: str) -> None:
    """Keep the bytes of all attachments of these messages, and refer to them.

    In the transaction that then inserts the rows: files that are there already are
    locked, so that `remove_unused_files` does not take them away in between. A file
    that cannot be written is logged; its attachment keeps name, size and SHA-256.
    """
    contents = {
        attachment.sha256: content
        for row in rows
        for attachment, content in zip(row.attachments, row.contents, strict=True)
    }
    if not contents:
        return
    files = StoredFile.objects.using(alias)
    known = set(
        files.select_for_update()
        .filter(sha256__in=list(contents))
        .values_list("sha256", flat=True)
    )
    missing = (_store(sha256, contents[sha256]) for sha256 in contents.keys() - known)
    made = [file for file in missing if file is not None]
    if made:
        # Another process may have made the same one just now.
        files.bulk_create(made, ignore_conflicts=True)
        known |= {file.sha256 for file in made}
    for row in rows:
        for attachment in row.attachments:
            if attachment.sha256 in known:
                attachment.stored_id = attachment.sha256


def _store(sha256: str, content: bytes) -> StoredFile | None:
    path = f"turbosmtp/{sha256[:2]}/{sha256}"
    try:
        storage = StoredFile._meta.get_field("file").storage
        if not storage.exists(path):
            path = storage.save(path, ContentFile(content))
    except Exception as error:
        raise_interrupt(error)
        logger.exception("The bytes of an attachment could not be kept.")
        return None
    return StoredFile(sha256=sha256, size=memoryview(content).nbytes, file=path)


def remove_unused_files(alias: str) -> int:
    """Remove the files that no attachment refers to; return their number."""
    removed = 0
    last = ""
    while True:
        found = list(
            StoredFile.objects.using(alias)
            .filter(sha256__gt=last, attachments=None)
            .order_by("sha256")[:_CHUNK]
        )
        if not found:
            return removed
        last = found[-1].sha256
        removed += sum(_remove_if_unused(file, alias) for file in found)


def _remove_if_unused(file: StoredFile, alias: str) -> bool:
    from django.db import transaction

    with transaction.atomic(using=alias):
        locked = StoredFile.objects.using(alias).select_for_update()
        if not locked.filter(pk=file.pk).exists():
            return False
        if Attachment.objects.using(alias).filter(stored=file.pk).exists():
            return False
        StoredFile.objects.using(alias).filter(pk=file.pk).delete()
    # After the commit: a row without a file is worse than a file without a row.
    _delete(file)
    return True


@raise_as_it_was
def _delete(stored: StoredFile) -> None:
    try:
        stored.file.delete(save=False)
    except Exception as error:
        raise_interrupt(error)
        logger.exception("The file %s could not be removed.", stored.file.name)
