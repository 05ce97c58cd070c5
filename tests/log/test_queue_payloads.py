"""Payloads that earlier releases stored: each version has a file, and is still sent.

Do not change a file: a queue may hold such a payload during a deploy. If the format
changes, increase `payload.stored.VERSION` and add a file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.mail import EmailMultiAlternatives

from django_turbosmtp.models import Payload, QueuedMessage
from django_turbosmtp.payload.stored import VERSION
from django_turbosmtp.sandbox import Sandbox
from tests.log.queueing import read_statuses, send, work_off
from tests.messages import picture

pytestmark = pytest.mark.django_db(transaction=True)

FILES = sorted(Path(__file__).with_name("payloads").glob("*.json"))
PICTURE = b"\x89PNG\r\n\x1a\n\x00\xff"


def build_message() -> Any:
    """Return the message that the files contain."""
    message: Any = EmailMultiAlternatives(
        "Zürich – 10 € ✓",
        "Hello\r\n.\r\nGrüße",
        "Shop <shop@example.com>",
        ["Jane Doe <jane@example.org>"],
        bcc=["blind@example.org"],
        cc=["copy@example.org"],
        reply_to=["help@example.com"],
        headers={"X-Order": "4711"},
    )
    message.attach_alternative('<p>Hello <img src="cid:logo"></p>', "text/html")
    message.attach("prices.csv", "a;b\r\n", "text/csv")
    message.attach(picture("logo", PICTURE, name="logo.png"))
    message.reference_id = "order-4711"
    message.tags = ["order"]
    return message


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_payload_of_each_version_is_sent(
    file: Path, queued: Any, sandbox: Sandbox
) -> None:
    send(build_message())
    Payload.objects.update(data=file.read_bytes())
    work_off()
    assert read_statuses() == [("sent", "accepted")]
    assert not QueuedMessage.objects.exists()
    [found] = sandbox.messages
    message = found.message
    assert message["Subject"] == "Zürich – 10 € ✓"
    assert message["From"] == "Shop <shop@example.com>"
    assert found.recipients == [
        ("to", "jane@example.org"),
        ("cc", "copy@example.org"),
        ("bcc", "blind@example.org"),
    ]
    parts = [part for part in message.walk() if not part.is_multipart()]
    contents = [(p.get_content_type(), p.get_payload(decode=True)) for p in parts]
    assert contents == [
        ("text/plain", "Hello\r\n.\r\nGrüße".encode()),
        ("text/html", b'<p>Hello <img src="cid:logo@example.com"></p>'),
        ("image/png", PICTURE),
        ("text/csv", b"a;b\r\n"),
    ]
    assert parts[2]["Content-ID"] == "<logo@example.com>"
    assert [p.get_filename() for p in parts[2:]] == ["logo.png", "prices.csv"]
    assert found.fields["custom_headers"]["X-Order"] == "4711"
    assert found.fields["reference_id"] == "order-4711"


def test_each_version_has_a_file() -> None:
    versions = {json.loads(file.read_bytes()).get("version", 0) for file in FILES}
    assert versions == set(range(VERSION + 1))


def test_new_payloads_have_the_newest_version(queued: Any) -> None:
    send(build_message())
    data = b"".join(bytes(row.data) for row in Payload.objects.order_by("position"))
    newest = FILES[-1].read_bytes()
    assert json.loads(data) == json.loads(newest)
