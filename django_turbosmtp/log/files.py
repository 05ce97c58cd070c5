"""Stores the bytes of attachments in Django's storage, each content once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from django.core.files.base import ContentFile
from django.db import connections, transaction

from django_turbosmtp._lib.interrupts import raise_as_it_was, raise_interrupt
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp.log.connection import run_statements
from django_turbosmtp.log.locks import begin
from django_turbosmtp.models import Attachment, StoredFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_turbosmtp.log.rows import Rows

logger = get_logger("django_turbosmtp.log")

#: Read this many rows at a time while unused files are removed.
_CHUNK = 200


def store_files(rows: Sequence[Rows], alias: str) -> None:
    """Store the bytes of all attachments of these messages, and refer to them.

    Call it in the transaction that inserts the rows: it locks existing files, so that
    `remove_unused_files` cannot remove them in between. If a file cannot be written,
    the error is logged, and its attachment has only name, size and SHA-256.
    """
    contents = {
        attachment["sha256"]: content
        for row in rows
        for attachment, content in zip(row.attachments, row.contents, strict=True)
    }
    if not contents:
        return
    files = StoredFile.objects.using(alias)
    locked = files.select_for_update().order_by("sha256")
    known = set()
    for file in locked.filter(sha256__in=list(contents)):
        if not file.being_removed or _restore(file, contents[file.sha256], alias):
            known.add(file.sha256)
        del contents[file.sha256]
    missing = (_store(sha256, content) for sha256, content in sorted(contents.items()))
    made = [file for file in missing if file is not None]
    if made:
        # Another process may have created the same one at the same time.
        files.bulk_create(made, ignore_conflicts=True)
        known |= {file.sha256 for file in made}
    for row in rows:
        for attachment in row.attachments:
            if attachment["sha256"] in known:
                attachment["stored_id"] = attachment["sha256"]


def _store(sha256: str, content: bytes) -> StoredFile | None:
    path = _save(f"turbosmtp/{sha256[:2]}/{sha256}", content)
    if path is None:
        return None
    return StoredFile(sha256=sha256, size=memoryview(content).nbytes, file=path)


def _restore(file: StoredFile, content: bytes, alias: str) -> bool:
    """Use a file that was being removed; return whether that was possible."""
    path = _save(str(file.file.name), content)
    if path is None:
        return False
    file.file.name = path
    file.being_removed = False
    file.save(using=alias, update_fields=["file", "being_removed"])
    return True


@raise_as_it_was
def read_bytes(file: StoredFile) -> bytes | None:
    """Return the bytes of a stored file. If that fails, log it and return None."""
    try:
        with file.file.open("rb") as opened:
            content: bytes = opened.read()
    except Exception as error:
        # A storage may raise any exception: that of S3, for example, has its own.
        raise_interrupt(error)
        logger.exception("The stored file %s could not be read.", file.pk)
        return None
    return content


def _save(path: str, content: bytes) -> str | None:
    """Save the bytes unless they are stored; return the path, or None on failure."""
    try:
        storage = StoredFile._meta.get_field("file").storage
        if storage.exists(path):
            return path
        return str(storage.save(path, ContentFile(content)))
    except Exception as error:
        raise_interrupt(error)
        logger.exception("The bytes of an attachment could not be stored.")
        return None


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
        removed += sum(_remove_if_unused(file.pk, alias) for file in found)


def _remove_if_unused(key: str, alias: str) -> bool:
    """Remove a file in two transactions, and return whether it was removed.

    The first one marks it. If the process is killed in the second one, or its commit
    fails, the mark shows that the bytes may be missing. Both lock the row: if a message
    with the same attachment is written meanwhile, it keeps the file or saves it again.
    """
    mark, remove = partial(_mark, key, alias), partial(_remove_marked, key, alias)
    return run_statements(mark, alias) and run_statements(remove, alias)


def _mark(key: str, alias: str) -> bool:
    with begin(alias, limits_wait=False):
        if (file := _lock_if_unused(key, alias)) is None:
            return False
        file.being_removed = True
        file.save(using=alias, update_fields=["being_removed"])
        return True


def _remove_marked(key: str, alias: str) -> bool:
    with begin(alias, limits_wait=False):
        file = _lock_if_unused(key, alias)
        if file is None or not file.being_removed:
            return False
        # Delete the row first: SQLite has no row locks, but allows only one writer.
        StoredFile.objects.using(alias).filter(pk=key).delete()
        is_deleted = _delete(file)
        if not is_deleted:
            transaction.set_rollback(True, using=alias)
        return is_deleted


def _lock_if_unused(key: str, alias: str) -> StoredFile | None:
    features = connections[alias].features
    # A locked file is in use: a message with it is being written.
    rows = StoredFile.objects.using(alias).select_for_update(
        skip_locked=features.has_select_for_update_skip_locked
    )
    file = rows.filter(pk=key).first()
    if file and Attachment.objects.using(alias).filter(stored=key).exists():
        return None
    return file


@raise_as_it_was
def _delete(stored: StoredFile) -> bool:
    """Delete the bytes, and return whether that was possible."""
    name = stored.file.name
    try:
        stored.file.delete(save=False)
    except Exception as error:
        raise_interrupt(error)
        logger.exception("The file %s could not be removed.", name)
        return False
    return True
