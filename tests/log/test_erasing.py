"""Erasing and exporting a person: every column, and every encoding of an address."""

from __future__ import annotations

import base64
import gzip
import io
import json
import quopri
import time
from datetime import UTC, datetime
from email.header import Header
from typing import Any
from urllib.parse import quote

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.db.models import JSONField

from django_turbosmtp._lib.times import make_storable
from django_turbosmtp._lib.versions import uuid7
from django_turbosmtp.admin import MessageAdmin
from django_turbosmtp.log.persons import (
    ADMIN_COLUMNS,
    COLUMNS,
    WITHOUT_PERSONS,
    Person,
    list_unclassified_columns,
)
from django_turbosmtp.models import (
    Attachment,
    Attempt,
    Content,
    Event,
    Message,
    Payload,
    Recipient,
    StoredFile,
    Suppression,
    Tag,
    Unmatched,
)
from tests.log.test_files import stored  # noqa: F401 - a fixture
from tests.worlds import WORLD, WORLDS

pytestmark = pytest.mark.django_db

ADDRESS = "jane.o'neil+shop@bücher.example"
PUNYCODE = "jane.o'neil+shop@xn--bcher-kva.example"
#: Another person, whose address contains the erased one.
OTHER = f"mary-{PUNYCODE}"


def encode(text: str, by: str) -> str:
    return "".join(
        by % ord(letter) if not letter.isalnum() else letter for letter in text
    )


FORMS = {
    "plain": PUNYCODE,
    "Unicode": ADDRESS,
    "capitals": PUNYCODE.upper(),
    "name": f"Jane <{PUNYCODE}>",
    "after a line break": f"x\n{PUNYCODE}",
    "after a tab": f"x\t{PUNYCODE}\ty",
    "JSON": json.dumps({"a": f"\n{ADDRESS}"}),
    "JSON in JSON": json.dumps(json.dumps({"a": f"\t{ADDRESS}"})),
    "URL": f"https://x.org/?e={quote(PUNYCODE)}&u=1",
    "URL, all of it": f"https://x.org/?e={quote(ADDRESS, safe='')}",
    "URL in URL": f"https://x.org/?e={quote(quote(PUNYCODE, safe=''), safe='')}",
    "mailto": f"<a href='mailto:{PUNYCODE}'>",
    "entities": f"<p>{encode(PUNYCODE, '&#%d;')}</p>",
    "hexadecimal entities": f"<p>{encode(PUNYCODE, '&#x%x;')}</p>",
    "named entities": PUNYCODE.replace("@", "&commat;").replace("+", "&plus;"),
    "quoted": '"jane.o\'neil+shop"@xn--bcher-kva.example',
    "quoted-printable": quopri.encodestring(ADDRESS.encode()).decode(),
    "quoted-printable, all": encode(PUNYCODE, "=%02X"),
    "encoded word": Header(f"Jane {PUNYCODE}", "utf-8").encode(),
    "base64": base64.b64encode(PUNYCODE.encode()).decode(),
    "base64 of more": base64.urlsafe_b64encode(f"id=1&e={PUNYCODE}".encode()).decode(),
    "base64 of even more": base64.b64encode(f"id=12&e={PUNYCODE};".encode()).decode(),
    "zero width": PUNYCODE.replace("@", "\u200b@"),
    "SQL": f"Key (address)=({PUNYCODE}) already exists.",
}


def make_message(**values: Any) -> Message:
    now = make_storable(datetime.now(UTC))
    values = {"created_at": now, "api_version": 2, "status": "sent"} | values
    message = Message.objects.create(**values)
    Recipient.objects.create(
        message=message, position=0, kind="to", address="joe@x.org", shown="joe@x.org"
    )
    return message


def make_event(**values: Any) -> Event:
    now = make_storable(datetime.now(UTC))
    times = {"occurred_at": now, "received_at": now, "event_type": "sent"}
    return Event.objects.create(digest=uuid7().hex, **times | values)


def make_row(model: Any, name: str, text: str) -> Any:
    """Create a row of a model with a text in the column ``name``."""
    field = model._meta.get_field(name)
    value: Any = text
    if isinstance(field, JSONField):
        value = {"deep": [{"text": text}]} if name != "tags" else [text]
    elif field.max_length:
        value = text[: field.max_length]
    if model is Message:
        message = make_message(**{name: value})
        # Without save(), which would set the beginning of the subject.
        Message.objects.filter(pk=message.pk).update(**{name: value})
        return message
    if model is Event:
        return make_event(**{name: value})
    if model is Unmatched:
        event = make_event(mid="1", **{name: value})
        return Unmatched.objects.create(event=event, **{name: value})
    if model is Suppression:
        values = {"address": "sam@x.org", name: value}
        return Suppression.objects.create(**values)
    message = make_message()
    values = {
        Content: {"message": message},
        Recipient: {"message": message, "position": 1, "kind": "cc"},
        Tag: {"message": message},
        Attempt: {
            "message": message,
            "position": 0,
            "began_at": message.created_at,
            "seconds": 1,
        },
        Payload: {"message": message, "position": 0},
        Attachment: {"message": message, "position": 0, "size": 1, "sha256": "0"},
    }[model]
    if model is Payload:
        value = json.dumps({"subject": text}).encode()
    return model.objects.create(**values | {name: value})


def dump() -> str:
    """Return every column of every table of the log and the admin."""
    found = []
    for model in [*apps.get_app_config("turbosmtp").get_models(), LogEntry]:
        alias = WORLD.alias if model is not LogEntry else "default"
        for row in model._default_manager.using(alias).values():
            row = {
                n: bytes(v) if isinstance(v, memoryview) else v for n, v in row.items()
            }
            found.append(f"{model.__name__} {row}")
    return "\n".join(found)


def run(*arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, **options)
    return out.getvalue()


def assert_no_trace(form: str) -> None:
    left = dump().replace(OTHER, "")
    assert not Person(ADDRESS).is_named_in(left), left
    assert form not in left


CASES = [(model, name) for model, names in COLUMNS.items() for name in names]


def test_every_column_is_classified() -> None:
    assert list_unclassified_columns() == []
    for model, names in WITHOUT_PERSONS.items():
        assert {field.name for field in model._meta.fields} >= set(names)


def test_a_new_column_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COLUMNS, Content, ("text", "html"))
    assert list_unclassified_columns() == ["Content.wire"]


@pytest.mark.parametrize(
    ("model", "name"), CASES, ids=lambda value: getattr(value, "__name__", value)
)
def test_no_trace_in_any_column(model: Any, name: str) -> None:
    make_row(model, name, f"to {PUNYCODE}" if name != "address" else PUNYCODE)
    before = json.loads(run("turbosmtp_export", ADDRESS))
    parts = ("suppression", "messages", "events", "notes", "admin_log")
    found = [before[part] for part in parts if before[part]]
    assert len(found) == 1
    assert name == "address" or "xn--bcher-kva" in str(found)
    run("turbosmtp_erase", ADDRESS, no_input=True)
    assert_no_trace(PUNYCODE)
    after = json.loads(run("turbosmtp_export", ADDRESS))
    assert [after[n] for n in ("messages", "events", "notes", "admin_log")] == [[]] * 4


#: Decoding depends on the engine, but not on settings.
in_plain_world = pytest.mark.except_in(*WORLDS.keys() - {"plain"})


@in_plain_world
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("model", "name"),
    [
        (Message, "subject"),
        (Message, "metadata"),
        (Message, "tags"),
        (Content, "html"),
        (Event, "click_url"),
        (Event, "raw"),
        (Suppression, "note"),
        (Payload, "data"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_no_trace_in_any_form(model: Any, name: str, form: str) -> None:
    make_row(model, name, FORMS[form])
    run("turbosmtp_erase", ADDRESS, no_input=True)
    assert_no_trace(FORMS[form])


@pytest.mark.parametrize(
    ("model", "name"),
    # The log writes addresses in lower case.
    [case for case in CASES if case[1] != "address"],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_no_trace_of_capitals_in_any_column(model: Any, name: str) -> None:
    """Some columns are compared byte by byte on MySQL and MariaDB."""
    make_row(model, name, f"to {PUNYCODE.upper()}")
    run("turbosmtp_erase", ADDRESS, no_input=True)
    assert_no_trace(PUNYCODE.upper())


@in_plain_world
@pytest.mark.parametrize("form", FORMS)
def test_other_persons_are_kept(form: str) -> None:
    text = FORMS[form].replace(PUNYCODE, OTHER).replace(ADDRESS, f"mary-{ADDRESS}")
    if text == FORMS[form]:
        # Another address in the same encoding.
        text = OTHER
    make_row(Message, "subject", text)
    make_row(Event, "raw", text)
    before = dump()
    assert "0 messages were deleted; 0 with other" in run(
        "turbosmtp_erase", ADDRESS, no_input=True
    )
    lines = [line for line in dump().splitlines() if "HashedAddress" not in line]
    assert "\n".join(lines) == before


@pytest.mark.parametrize("name", ADMIN_COLUMNS)
def test_no_trace_in_the_admin_log(name: str) -> None:
    user = get_user_model().objects.create_user("staff")
    kind = ContentType.objects.get_for_model(Suppression)
    values = {"object_repr": "x", "change_message": "", name: f"Added {PUNYCODE}"}
    LogEntry.objects.create(
        user=user, content_type=kind, object_id="1", action_flag=1, **values
    )
    assert json.loads(run("turbosmtp_export", ADDRESS))["admin_log"]
    run("turbosmtp_erase", ADDRESS, no_input=True)
    assert_no_trace(PUNYCODE)


def test_the_admin_log_names_no_erased_message() -> None:
    message = make_message(subject="Your test result, Jane")
    Recipient.objects.filter(message=message).update(address=PUNYCODE)
    user = get_user_model().objects.create_user("staff")
    kind = ContentType.objects.get_for_model(Message)
    LogEntry.objects.create(
        user=user,
        content_type=kind,
        object_id=str(message.pk),
        action_flag=2,
        object_repr=str(message),
    )
    run("turbosmtp_erase", ADDRESS, no_input=True)
    assert LogEntry.objects.get().object_repr == "(erased)"


@pytest.mark.usefixtures("stored")
class TestFiles:
    def make(self, content: bytes) -> StoredFile:
        message = make_message()
        file = StoredFile(sha256="0" * 64, size=len(content))
        file.file.save("turbosmtp/00/file", ContentFile(content), save=False)
        file.save(using=WORLD.alias, force_insert=True)
        Attachment.objects.create(
            message=message,
            position=0,
            name="list.csv",
            size=len(content),
            sha256=file.sha256,
            stored_id=file.pk,
        )
        return file

    @pytest.mark.parametrize("charset", ["utf-8", "utf-16", "utf-16-be"])
    def test_bytes_that_contain_the_address_are_removed(self, charset: str) -> None:
        file = self.make(f"name;email\nJane;{PUNYCODE}\n".encode(charset))
        exported = json.loads(run("turbosmtp_export", ADDRESS))
        [attachment] = exported["messages"][0]["attachments"]
        content = base64.b64decode(attachment["content_base64"])
        assert PUNYCODE in content.decode(charset)
        run("turbosmtp_erase", ADDRESS, no_input=True)
        assert not StoredFile.objects.exists()
        assert not file.file.storage.exists(str(file.file.name))

    def test_bytes_that_cannot_be_read(self, caplog: Any) -> None:
        file = self.make(PUNYCODE.encode())
        file.file.storage.delete(file.file.name)
        run("turbosmtp_export", ADDRESS)
        run("turbosmtp_erase", ADDRESS, no_input=True)
        assert "could not be read" in caplog.text
        assert StoredFile.objects.count() == 1

    def test_other_bytes_are_kept(self) -> None:
        self.make(gzip.compress(b"other") + f" mary-{PUNYCODE}".encode())
        run("turbosmtp_erase", ADDRESS, no_input=True)
        assert StoredFile.objects.count() == 1


def test_the_payload_is_decoded() -> None:
    body = base64.b64encode(f"Dear {PUNYCODE}, hello".encode()).decode()
    mime = f"Content-Transfer-Encoding: base64\nSubject: x\n\n{body}\n"
    content = base64.b64encode(f"a;{PUNYCODE}".encode()).decode()
    for fields in (
        {"mime_raw": mime},
        {"attachments": [{"name": "x", "content": content}]},
        {"mime_raw": "\udcff", "attachments": [1, {}]},
    ):
        data = json.dumps(fields).encode()
        message = make_message()
        for position, start in enumerate(range(0, len(data), 7)):
            Payload.objects.create(
                message=message, position=position, data=data[start : start + 7]
            )
    run("turbosmtp_erase", ADDRESS, no_input=True)
    kept = set(Payload.objects.values_list("message_id", flat=True))
    assert kept == {message.pk}


def test_the_export_has_the_suppression(tmp_path: Any) -> None:
    Suppression.objects.create(
        address=PUNYCODE, reason="complained", source="webhook", note="called us"
    )
    path = tmp_path / "jane.json"
    assert "Written to" in run("turbosmtp_export", ADDRESS, output=path)
    assert path.stat().st_mode & 0o077 == 0
    found = json.loads(path.read_text("utf-8"))["suppression"]
    assert (found["reason"], found["note"]) == ("complained", "called us")
    assert found["since"].startswith("20")
    run("turbosmtp_erase", ADDRESS, no_input=True)
    again = json.loads(run("turbosmtp_export", ADDRESS))["suppression"]
    assert again["reason"] == "complained"


class TestAdmin:
    URL = "/admin/turbosmtp/message/person/export/"

    def read(self, client: Any, address: str = PUNYCODE) -> Any:
        answer = client.get(self.URL, {"address": address})
        assert answer["Content-Disposition"] == 'attachment; filename="person.json"'
        return json.loads(b"".join(answer.streaming_content))

    def make(self) -> None:
        make_row(Message, "subject", f"to {PUNYCODE}")
        make_row(Suppression, "note", f"see {PUNYCODE}")
        Suppression.objects.create(address=PUNYCODE, reason="manual")

    def test_each_user_exports_what_they_may_see(
        self, user: Any, admin_client: Any
    ) -> None:
        self.make()
        everything = self.read(admin_client)
        assert len(everything["messages"]) == len(everything["notes"]) == 1
        assert everything["suppression"]["reason"] == "manual"
        reader = user("view_message", "view_message_body")
        part = self.read(reader)
        assert len(part["messages"]) == 1
        assert (part["suppression"], part["notes"]) == (None, [])
        assert user("view_message").get(self.URL).status_code == 403
        page = "/admin/turbosmtp/message/person/"
        link = f"{self.URL}?address="
        assert link in reader.get(page, {"address": PUNYCODE}).text
        other = user("view_message").get(page, {"address": PUNYCODE})
        assert link not in other.text

    def test_hidden_messages_are_not_exported(
        self, admin_client: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.make()
        everything = MessageAdmin.get_queryset

        def get_queryset(self: Any, request: Any) -> Any:
            return everything(self, request).filter(subject="nothing")

        monkeypatch.setattr(MessageAdmin, "get_queryset", get_queryset)
        assert self.read(admin_client)["messages"] == []

    def test_without_an_address(self, admin_client: Any) -> None:
        page = admin_client.get("/admin/turbosmtp/message/person/")
        form = '<form method="get" class="turbosmtp-form">'
        assert form in admin_client.get(self.URL).text
        assert form in page.text


def test_long_texts_are_fast() -> None:
    person = Person(ADDRESS)
    started = time.process_time()
    for piece in ("=", "%", "\\u", "&#", "=?utf-8?q?", "A" * 100, "jane.", "x@y "):
        person.is_named_in(piece * 20_000)
    assert time.process_time() - started < 5
