"""The row of each message that the backend handles, and its columns."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.mail import EmailMultiAlternatives, send_mail

from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.exceptions import (
    BadRequest,
    CancelSend,
    InvalidAddress,
    OutcomeUnknown,
    TurboSMTPError,
)
from django_turbosmtp.models import Attachment, Content, Message, Payload, Recipient
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.signals import pre_send
from tests.messages import new, with_pictures
from tests.worlds import connection

pytestmark = pytest.mark.django_db


def send(*messages: Any, **options: Any) -> None:
    EmailBackend(**options).send_messages(messages)


def recipients(row: Message) -> list[tuple[str, str, str, str]]:
    return [(r.kind, r.address, r.status, r.mid) for r in row.recipients.all()]


def test_send_mail_leaves_a_row(logged: Any, sandbox: Sandbox) -> None:
    send_mail("Hello", "A text", "Shop <shop@example.com>", ["Jane@Example.org"])

    row = Message.objects.get()
    mid = sandbox.messages[0].mid
    assert (row.status, row.outcome, row.mid) == ("sent", "accepted", mid)
    assert (row.subject, row.from_email) == ("Hello", "Shop <shop@example.com>")
    assert row.reference_id == str(row.id) == sandbox.messages[0].reference_id
    assert row.id.version == 7
    assert (row.attempts, row.api_version, row.error) == (1, 2, "")
    assert row.created_at <= row.concluded_at
    assert recipients(row) == [("to", "jane@example.org", "sent", mid)]
    assert row.recipients.get().shown == "Jane@Example.org"
    assert (row.content.text, row.content.html) == ("A text", "")
    assert not Payload.objects.exists()


def test_the_attributes_of_a_message_are_stored(logged: Any, sandbox: Sandbox) -> None:
    message = EmailMultiAlternatives(
        "S",
        "Text",
        "shop@example.com",
        ["Jane Doe <a@x.org>"],
        cc=["c@x.org"],
        bcc=["b@x.org"],
        headers={"X-Order": "5"},
        alternatives=[("<p>Hé", "text/html")],
        attachments=[("a.pdf", b"%PDF", "application/pdf")],
    )
    message.tags = ["orders", "spring"]
    message.metadata = {"order": 5}
    message.reference_id = "order-5"

    send(message)

    row = Message.objects.get()
    assert (row.tags, row.metadata) == (["orders", "spring"], {"order": 5})
    assert (row.campaign, row.reference_id) == ("orders", "order-5")
    assert row.headers == {"X-Order": "5"}
    assert (row.first_recipient, row.recipient_count) == ("a@x.org", 3)
    assert [r[:3] for r in recipients(row)] == [
        ("to", "a@x.org", "sent"),
        ("cc", "c@x.org", "sent"),
        ("bcc", "b@x.org", "sent"),
    ]
    assert row.recipients.first().shown == "Jane Doe <a@x.org>"
    assert (row.content.text, row.content.html) == ("Text", "<p>Hé")
    assert row.content.wire["custom_headers"] == {"X-Order": "5"}
    assert "%PDF" not in str(row.content.wire)
    attachment = row.attachments.get()
    assert (attachment.name, attachment.type) == ("a.pdf", "application/pdf")
    assert (attachment.size, attachment.stored) == (4, None)
    assert len(attachment.sha256) == 64
    assert row.size > 4


def test_a_message_as_mime(logged: Any, sandbox: Sandbox) -> None:
    message = with_pictures('<img src="cid:a">', "a")
    message.attach_alternative("BEGIN:VCALENDAR", "text/calendar")

    send(message)

    row = Message.objects.get()
    assert row.why_mime == "alternatives other than one HTML body"
    assert row.content.html == '<img src="cid:a">'
    assert row.content.text == "Body"
    assert "characters" in row.content.wire["mime_raw"]
    assert row.attachments.get().content_id == "a"


def test_a_message_with_only_bcc_has_one_row(logged: Any, sandbox: Sandbox) -> None:
    send(new(to=[], bcc=["a@x.org", "b@x.org", "c@x.org"]))

    row = Message.objects.get()
    by_address = {m.recipients[0][1]: m.mid for m in sandbox.messages}
    assert len(set(by_address.values())) == 3
    assert recipients(row) == [
        ("bcc", f"{letter}@x.org", "sent", by_address[f"{letter}@x.org"])
        for letter in "abc"
    ]
    assert (row.outcome, row.mid, row.attempts) == ("accepted", "", 3)


def test_some_blind_copies_fail(logged: Any, sandbox: Sandbox) -> None:
    sandbox.add_fault("400", match="b@x.org")

    send(new(to=[], bcc=["a@x.org", "b@x.org", "c@x.org"]))

    row = Message.objects.get()
    assert row.outcome == "accepted"
    assert row.error_class == "BadRequest"
    assert [r[2] for r in recipients(row)] == ["sent", "failed", "sent"]
    assert row.payload.exists()


@pytest.mark.parametrize(
    ("fault", "error", "outcome", "status"),
    [
        ("400", BadRequest, "refused", "failed"),
        ("500", OutcomeUnknown, "unknown", "unknown"),
        ("lost_answer", OutcomeUnknown, "unknown", "unknown"),
    ],
)
def test_refused_and_unknown_keep_their_payload(
    fault: str,
    error: type[TurboSMTPError],
    outcome: str,
    status: str,
    logged: Any,
    sandbox: Sandbox,
) -> None:
    sandbox.add_fault(fault)
    message = new(attachments=[("a.bin", b"\0\1" * 700_000, "application/zip")])

    with pytest.raises(error) as caught:
        send(message)

    row = Message.objects.get()
    assert (row.outcome, row.status) == (outcome, status)
    assert (row.error, row.error_class) == (str(caught.value), error.__name__)
    assert [r[2] for r in recipients(row)] == [status]
    pieces = [bytes(piece.data) for piece in row.payload.all()]
    assert len(pieces) == 2
    stored = json.loads(b"".join(pieces))
    assert (stored["version"], stored["ignore_suppressions"]) == (1, False)
    kept = stored["fields"]
    assert kept["content"] == "Body"
    assert kept["attachments"][0]["content"].startswith("AAEAAQ")
    assert not {"authuser", "consumerKey"} & kept.keys()


def test_an_invalid_message(logged: Any, sandbox: Sandbox) -> None:
    with pytest.raises(InvalidAddress):
        send(new(to=["good@x.org", "nobody"]), new())

    refused, sent = Message.objects.order_by("id")
    assert (refused.outcome, refused.status) == ("refused", "invalid")
    assert recipients(refused) == [
        ("to", "good@x.org", "invalid", ""),
        ("to", "nobody", "invalid", ""),
    ]
    assert "nobody" in refused.error
    assert (refused.attempts, refused.content.text) == (0, "Body")
    assert sent.outcome == "accepted"


def test_cancelled_and_suppressed(logged: Any, sandbox: Sandbox) -> None:
    def cancel(message: Any, **kwargs: Any) -> None:
        if message.subject == "Draft":
            raise CancelSend

    pre_send.connect(cancel)
    try:
        guard = ["example.org"]
        send(new(subject="Draft"), new(to=["a@x.org"]), recipient_guard=guard)
    finally:
        pre_send.disconnect(cancel)

    cancelled, suppressed = Message.objects.order_by("id")
    assert (cancelled.outcome, cancelled.status) == ("cancelled", "cancelled")
    assert (suppressed.outcome, suppressed.status) == ("suppressed", "rejected")
    assert recipients(suppressed) == [("to", "a@x.org", "rejected", "")]
    assert sandbox.requests == []


def test_some_are_left_out(logged: Any, sandbox: Sandbox) -> None:
    send(new(to=["a@example.org", "b@x.org"]), recipient_guard=["example.org"])

    row = Message.objects.get()
    assert [r[1:3] for r in recipients(row)] == [
        ("a@example.org", "sent"),
        ("b@x.org", "rejected"),
    ]


def test_a_message_without_recipients_has_no_row(logged: Any, sandbox: Sandbox) -> None:
    send(new(to=[]))
    assert not Message.objects.exists()


@pytest.mark.parametrize("way", ["setting", "message"])
@pytest.mark.parametrize("fault", ["", "500"])
def test_without_bodies(way: str, fault: str, logged: Any, sandbox: Sandbox) -> None:
    message = new(attachments=[("a.bin", b"x", "image/gif")])
    if way == "message":
        message.log_body = False
    if fault:
        sandbox.add_fault(fault)

    send(message, log_body=way != "setting", fail_silently=True)

    row = Message.objects.get()
    assert row.subject == "Subject"
    assert row.attachments.count() == 1
    assert not Content.objects.exists()
    assert not Payload.objects.exists()


def test_with_the_log_off_no_query_is_made(
    project: Any, sandbox: Sandbox, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0, connection=connection):
        send(new())
    assert sandbox.total_accepted == 1


def test_rows_are_in_order(logged: Any, sandbox: Sandbox) -> None:
    send(*(new(subject=str(n)) for n in range(200)))

    subjects = list(Message.objects.order_by("id").values_list("subject", flat=True))
    assert subjects == [str(n) for n in range(200)]
    assert Recipient.objects.filter(status="sent").count() == 200
    assert len(set(Message.objects.values_list("mid", flat=True))) == 200
    assert not Attachment.objects.exists()
