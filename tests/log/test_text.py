"""Any text is stored on every database, or marked as altered."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import pytest
from django.core.mail import EmailMessage

from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.exceptions import TurboSMTPError
from django_turbosmtp.log.storable import MAX_DEPTH, WIDTHS, Cleaner
from django_turbosmtp.models import Message
from django_turbosmtp.sandbox import Sandbox
from tests.log.narrowing import narrow
from tests.messages import MESSAGES, new
from tests.worlds import connection

pytestmark = pytest.mark.django_db


def send(message: EmailMessage) -> Message:
    EmailBackend(fail_silently=True).send_messages([message])
    return Message.objects.get()


def with_attributes(**attributes: Any) -> EmailMessage:
    message = new()
    for name, value in attributes.items():
        setattr(message, name, value)
    return message


HARD: dict[str, Any] = {
    "subject of 700": {"subject": "😀" * 700},
    "subject of 5,000": {"subject": "é" * 5000},
    "long headers": {"headers": {"X-Long": "😀 " * 20_000}},
    "long name": {"to": [f'"{"é" * 3000}" <a@x.org>']},
    "long address": {"to": [f"{'a' * 900}@x.org"]},
    "four-byte letters": {"body": "😀𝒳" * 1000, "from_email": "😀 <shop@example.com>"},
    "right to left": {"subject": "مرحبا", "body": "שלום"},
    "NUL in the body": {"body": "a\0b"},
    "NUL in the subject": {"subject": "a\0b"},
    "surrogate in the body": {"body": "a\ud83d"},
    "surrogate in the subject": {"subject": "a\udc80"},
    "surrogate in a header": {"headers": {"X-A": "\ud83d"}},
    "surrogate in an address": {"to": ["\ud83d <a@x.org>"]},
    "NUL in a file's name": {"attachments": [("a\0.bin", b"x", "image/gif")]},
    "megabytes of text": {"body": "é" * 6_000_000},
}
ALTERED = {
    "long address": ["recipients"],
    "NUL in the body": ["text"],
    "NUL in the subject": ["subject"],
    "surrogate in the body": ["text"],
    "surrogate in the subject": ["subject"],
    "surrogate in a header": ["headers"],
    "surrogate in an address": ["recipients"],
    "NUL in a file's name": ["attachments"],
}


@pytest.mark.parametrize("label", HARD)
def test_hard_text(label: str, logged: Any, sandbox: Sandbox) -> None:
    message = new(**HARD[label])

    row = send(message)

    assert row.outcome == message.turbosmtp_status.outcome
    assert sorted(row.altered) == ALTERED.get(label, [])
    if not row.altered:
        assert row.subject == message.subject
        assert row.headers == HARD[label].get("headers", {})
        assert row.content.text == message.body
    assert "\0" not in row.subject + row.content.text


def test_replacement_characters(logged: Any, sandbox: Sandbox) -> None:
    row = send(new(body="a\0b😀"))
    assert row.content.text == "a\u2400b😀"
    assert sandbox.latest.fields["content"] == "a\0b😀"


@pytest.mark.parametrize("name", MESSAGES)
def test_every_hard_message_has_its_row(
    name: str, logged: Any, sandbox: Sandbox
) -> None:
    message = MESSAGES[name]()

    row = send(message)

    assert row.outcome == "accepted"
    assert row.altered == []
    addresses = {r.address for r in row.recipients.all()}
    assert addresses == {a.lower() for m in sandbox.messages for _, a in m.recipients}
    assert row.recipient_count == len(addresses)


class Odd:
    def __str__(self) -> str:
        return "odd\0"


class Broken:
    def __str__(self) -> str:
        raise LookupError("broken")


def nest(depth: int) -> Any:
    return {"a": nest(depth - 1)} if depth else "end"


circle: dict[str, Any] = {}
circle["self"] = circle

METADATA: dict[str, tuple[Any, Any, bool]] = {
    "plain": (
        {"a": [1, 2.5, None, True, "x"]},
        {"a": [1, 2.5, None, True, "x"]},
        False,
    ),
    "tuple": ({"a": (1, 2)}, {"a": [1, 2]}, False),
    "date": ({"a": datetime.date(2026, 1, 2)}, {"a": "2026-01-02"}, False),
    "decimal": ({"a": decimal.Decimal("1.10")}, {"a": "1.10"}, False),
    "number as a key": ({1: "x"}, {"1": "x"}, False),
    "not a number": ({"a": float("nan")}, {"a": "nan"}, True),
    "object": ({"a": Odd()}, {"a": "odd\u2400"}, True),
    "bytes": ({"a": b"x"}, {"a": "b'x'"}, True),
    "NUL": ({"a\0": "\0"}, {"a\u2400": "\u2400"}, True),
    "surrogate": ({"a": "\ud83d"}, {"a": "\ufffd"}, True),
    "large number": ({"a": 2**70}, {"a": 2**70}, False),
}


@pytest.mark.parametrize("label", METADATA)
def test_metadata(label: str, logged: Any, sandbox: Sandbox) -> None:
    given, kept, altered = METADATA[label]
    row = send(with_attributes(metadata=given))
    assert row.metadata == kept
    assert row.altered == (["metadata"] if altered else [])
    assert row.outcome == "accepted"


@pytest.mark.parametrize("value", [nest(500), circle, {"a": Broken()}])
def test_metadata_that_cannot_be_stored(
    value: Any, logged: Any, sandbox: Sandbox
) -> None:
    row = send(with_attributes(metadata=value))
    assert row.altered == ["metadata"]
    assert row.outcome == "accepted"


def test_depth_that_every_database_accepts(logged: Any, sandbox: Sandbox) -> None:
    row = send(with_attributes(metadata=nest(MAX_DEPTH)))
    assert row.metadata == nest(MAX_DEPTH)
    assert row.altered == []


def test_a_narrower_charset() -> None:
    assert Cleaner(WIDTHS[0]).clean_text("aé€😀") == "aé€😀"
    assert Cleaner(WIDTHS[1]).clean_text("aé€😀") == "aé€?"
    assert Cleaner(WIDTHS[2]).clean_text("aé€😀") == "a???"


@pytest.mark.django_db(transaction=True)
def test_a_narrower_charset_of_the_database(logged: Any, sandbox: Sandbox) -> None:
    with narrow("message", "content", "recipient"):
        row = send(new(subject="é€😀", body="😀"))
        again = EmailBackend().send_messages([new(subject="😀")])
    fewer = connection.vendor == "mysql"
    assert row.subject == ("é€?" if fewer else "é€😀")
    assert row.altered == (["subject", "text", "wire"] if fewer else [])
    assert again == 1
    assert row.outcome == "accepted"


# --- Redaction ---


def redact(text: str, field: str) -> str:
    return text.replace("hunter2", f"[{field}]")


@pytest.mark.parametrize("setting", [redact, "tests.log.test_text.redact"])
def test_redaction(setting: Any, logged: Any, sandbox: Sandbox) -> None:
    logged.TURBOSMTP = {**logged.TURBOSMTP, "LOG_REDACT": setting}
    message = new(
        subject="S hunter2",
        body="T hunter2",
        alternatives=[("<p>hunter2", "text/html")],
        headers={"List-Unsubscribe": "<https://x.y/hunter2>"},
    )

    row = send(message)

    assert row.subject == "S [subject]"
    assert (row.content.text, row.content.html) == ("T [text]", "<p>[html]")
    assert row.headers == {"List-Unsubscribe": "<https://x.y/[headers]>"}
    assert row.content.wire["custom_headers"] == {
        "List-Unsubscribe": "<https://x.y/[wire]>"
    }
    assert "hunter2" not in str(row.content.wire)
    assert row.altered == []
    assert sandbox.latest.fields["content"] == "T hunter2"


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        (new(body="nothing secret"), True),
        (new(body="hunter2"), False),
        (new(body="x", headers={"Message-ID": "<a@x.org>"}), False),
    ],
    ids=["nothing redacted", "redacted", "MIME"],
)
def test_a_payload_with_redacted_text_is_not_stored(
    message: EmailMessage, kept: bool, logged: Any, sandbox: Sandbox
) -> None:
    logged.TURBOSMTP = {**logged.TURBOSMTP, "LOG_REDACT": redact}
    sandbox.add_fault("500")
    row = send(message)
    assert row.outcome == "unknown"
    assert row.payload.exists() == kept


def test_a_failing_redaction_stores_a_placeholder(
    logged: Any, sandbox: Sandbox, caplog: Any
) -> None:
    def fail(text: str, field: str) -> str:
        raise LookupError("no")

    logged.TURBOSMTP = {**logged.TURBOSMTP, "LOG_REDACT": fail}
    row = send(new(body="hunter2", subject="hunter2"))
    assert row.outcome == "accepted"
    assert row.subject == row.content.text == "(LookupError in LOG_REDACT)"
    assert "LOG_REDACT failed" in caplog.text


def test_errors_are_stored_too(logged: Any, sandbox: Sandbox) -> None:
    message = new(to=["nobody\0😀"])
    with pytest.raises(TurboSMTPError):
        EmailBackend().send_messages([message])
    row = Message.objects.get()
    assert row.error_class == "InvalidAddress"
    assert "\0" not in row.error
