"""``LOG_ATTACHMENTS``: bytes in Django's storage, stored once for each content."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import FileSystemStorage
from django.core.management import call_command
from django.db import connections

from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.models import Attachment, Message, StoredFile
from django_turbosmtp.sandbox import Sandbox
from tests.messages import new, picture, with_pictures

pytestmark = pytest.mark.django_db

PDF = ("a.pdf", b"%PDF-1", "application/pdf")


@pytest.fixture
def stored(logged: Any) -> Path:
    """Turn on the log and the bytes of attachments; return their empty folder."""
    logged.TURBOSMTP = {**logged.TURBOSMTP, "LOG_ATTACHMENTS": True}
    return Path(logged.STORAGES["turbosmtp"]["OPTIONS"]["location"])


def files(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_once_for_each_content(stored: Path, sandbox: Sandbox) -> None:
    same = [new(attachments=[PDF]) for _ in range(3)]
    EmailBackend().send_messages([*same, new(attachments=[("b.pdf", *PDF[1:])])])
    EmailBackend().send_messages([new(attachments=[PDF, ("c", b"c", "image/gif")])])

    assert files(stored) == [b"%PDF-1", b"c"]
    assert StoredFile.objects.count() == 2
    assert Attachment.objects.filter(stored=None).count() == 0
    names = list(Attachment.objects.order_by("id").values_list("name", flat=True))
    assert names == ["a.pdf", "a.pdf", "a.pdf", "b.pdf", "a.pdf", "c"]
    kept = StoredFile.objects.get(pk=hashlib.sha256(PDF[1]).hexdigest())
    with kept.file.open() as file:
        assert file.read() == PDF[1]
    assert kept.size == 6


def test_attachments_of_mime_messages(stored: Path, sandbox: Sandbox) -> None:
    message = with_pictures('<img src="cid:a">', "a")
    message.attach_alternative("BEGIN:VCALENDAR", "text/calendar")
    EmailBackend().send_messages([message])
    assert Message.objects.get().why_mime
    assert files(stored) == [picture("a").get_payload(decode=True) + b"\0"]


def test_by_default_nothing_is_stored(logged: Any, sandbox: Sandbox) -> None:
    EmailBackend().send_messages([new(attachments=[PDF])])
    assert not StoredFile.objects.exists()
    assert Attachment.objects.get().sha256 == hashlib.sha256(PDF[1]).hexdigest()


def test_a_message_that_keeps_no_body_keeps_no_bytes(
    stored: Path, sandbox: Sandbox
) -> None:
    message = new(attachments=[PDF])
    message.log_body = False
    EmailBackend().send_messages([message])
    assert files(stored) == []
    assert Attachment.objects.get().stored is None


def test_a_storage_that_fails(stored: Path, sandbox: Sandbox, caplog: Any) -> None:
    stored.write_text("a file stands where the folder should")
    assert EmailBackend().send_messages([new(attachments=[PDF])]) == 1
    assert Message.objects.get().outcome == "accepted"
    assert Attachment.objects.get().stored is None
    assert "could not be stored" in caplog.text


def test_an_existing_file_is_used(stored: Path, sandbox: Sandbox) -> None:
    # As after a rolled-back transaction.
    EmailBackend().send_messages([new(attachments=[PDF])])
    Message.objects.all().delete()
    StoredFile.objects.all().delete()
    EmailBackend().send_messages([new(attachments=[PDF])])
    assert files(stored) == [b"%PDF-1"]


def age_and_prune() -> None:
    Message.objects.all().delete()
    call_command("turbosmtp_prune", verbosity=0)


@pytest.mark.django_db(transaction=True)
def test_a_killed_prune_does_not_remove_later_files(
    stored: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    EmailBackend().send_messages([new(attachments=[PDF])])
    delete = FileSystemStorage.delete

    def delete_and_die(storage: Any, name: str) -> None:
        delete(storage, name)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FileSystemStorage, "delete", delete_and_die)
        with pytest.raises(KeyboardInterrupt):
            age_and_prune()
    assert files(stored) == []
    EmailBackend().send_messages([new(attachments=[PDF])])
    assert files(stored) == [PDF[1]]
    assert Attachment.objects.get().stored is not None
    age_and_prune()
    assert not StoredFile.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_message_written_during_a_prune_keeps_its_file(
    stored: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    EmailBackend().send_messages([new(attachments=[PDF])])
    delete = FileSystemStorage.delete

    def send() -> None:
        try:
            EmailBackend().send_messages([new(attachments=[PDF])])
        finally:
            connections.close_all()

    thread = threading.Thread(target=send)

    def delete_slowly(storage: Any, name: str) -> None:
        thread.start()
        time.sleep(0.3)
        delete(storage, name)
        time.sleep(0.1)

    with monkeypatch.context() as patch:
        patch.setattr(FileSystemStorage, "delete", delete_slowly)
        age_and_prune()
        thread.join()
    assert Message.objects.get().outcome == "accepted"
    assert files(stored) == [PDF[1]]
    with StoredFile.objects.get().file.open() as file:
        assert file.read() == PDF[1]
