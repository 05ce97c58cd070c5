"""Sending again from the admin: the same bytes, once, only to missing recipients."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from email import message_from_string
from typing import Any, ClassVar

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import DatabaseError, connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_turbosmtp.backends import EmailBackend, find_backend
from django_turbosmtp.conf.accounts import FINGERPRINT_LENGTH
from django_turbosmtp.delivery.decision import NotSentAgain, plan_resend
from django_turbosmtp.delivery.resend import resend as resend_row
from django_turbosmtp.models import (
    Attachment,
    Content,
    Message,
    Payload,
    Recipient,
    StoredFile,
    Suppression,
)
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.signals import post_send
from tests.log import queueing
from tests.log.posting import SECRET
from tests.log.test_detail import read, send
from tests.messages import MESSAGES, new
from tests.serving import ACCEPT, REFUSE, say
from tests.worlds import WORLD, connection

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("short_waits")]


def build_url(row: Message) -> str:
    return reverse("admin:turbosmtp_message_resend", args=[row.pk])


def fill_in(client: Client, row: Message, **changes: Any) -> dict[str, Any]:
    """Return the fields of the form as it is first shown, with these changes."""
    page = client.get(build_url(row))
    if page.status_code != 200:
        return {}
    rows = page.context["rows"]
    return {
        "decision": page.context["decision"],
        "to": [choice["position"] for choice in rows if choice["is_chosen"]],
        **{choice["address_name"]: choice["address"] for choice in rows},
        **changes,
    }


def resend(client: Client, row: Message, **changes: Any) -> tuple[Message, str]:
    """Press the button; return the newest row and the messages of the page."""
    form = fill_in(client, row, **changes)
    answer = client.post(build_url(row), form, follow=True)
    assert answer.status_code == 200
    said = [str(message) for message in answer.context["messages"]]
    return Message.objects.all()[0], " ".join(said)


def test_a_refused_message_is_sent_again(wire: Any, admin_client: Client) -> None:
    row = send(
        new(
            subject="Your order ✓",
            alternatives=[("<p>HTML</p>", "text/html")],
            to=["Jane Doe <jane@example.org>"],
            cc=["c@example.org"],
            bcc=["b@example.org"],
            attachments=[("a.pdf", bytes(range(256)), "application/pdf")],
        )
    )
    page = reverse("admin:turbosmtp_message_change", args=[row.pk])
    assert build_url(row) in admin_client.get(page).content.decode()
    asked = admin_client.get(build_url(row)).content.decode()
    for text in (
        "jane@example.org",
        "c@example.org",
        "b@example.org",
        "refused the message",
    ):
        assert text in asked
    assert "may have arrived" not in asked
    assert len(wire.seen) == 1

    wire.answer = ACCEPT
    again, said = resend(admin_client, row)
    assert said == "Result of sending again: It was sent: turboSMTP accepted it."
    (_, _, first), (_, _, second) = wire.seen
    assert json.loads(first) | {"reference_id": str(again.pk)} == json.loads(second)
    assert (again.resend_of.original, again.outcome, again.mid) == (
        row,
        "accepted",
        "4321",
    )
    for name in ("subject", "from_email", "first_recipient", "size", "recipient_count"):
        assert getattr(again, name) == getattr(row, name), name
    assert again.content.html == row.content.html
    assert list(again.attachments.values_list("name", "size", "sha256")) == list(
        row.attachments.values_list("name", "size", "sha256")
    )
    fields = ("kind", "address", "shown")
    assert list(again.recipients.values_list(*fields)) == list(
        row.recipients.values_list(*fields)
    )
    assert {r.status for r in again.recipients.all()} == {"sent"}
    # The first row is unchanged. Without the attachment, neither can be sent again.
    row.refresh_from_db()
    assert (row.outcome, row.status) == ("refused", "failed")
    assert not Payload.objects.exists()
    assert "this site does not store the content of attach" in read(admin_client, row)
    assert str(again.pk) in read(admin_client, row)
    assert str(row.pk) in read(admin_client, again)
    entry = LogEntry.objects.get()
    assert entry.object_id == str(row.pk)
    assert str(again.pk) in entry.get_change_message()


@pytest.mark.parametrize("label", sorted(MESSAGES)[::8])
def test_every_kind_of_message_is_sent_unchanged(
    wire: Any, admin_client: Client, label: str
) -> None:
    row = send(MESSAGES[label]())
    seen = [json.loads(body) for _, _, body in wire.seen]
    wire.answer = ACCEPT
    again, _ = resend(admin_client, row)
    new_ones = [json.loads(body) for _, _, body in wire.seen[len(seen) :]]
    for fields in [*seen, *new_ones]:
        if fields["reference_id"] in {str(row.pk), str(again.pk)}:
            fields["reference_id"] = ""
    assert new_ones == seen
    assert again.outcome == "accepted"


def test_a_reference_id_of_the_site_is_kept(wire: Any, admin_client: Client) -> None:
    message: Any = new()
    message.reference_id = "order-2041"
    row = send(message)
    wire.answer = ACCEPT
    again, _ = resend(admin_client, row)
    assert again.reference_id == "order-2041"
    assert json.loads(wire.seen[-1][2])["reference_id"] == "order-2041"


def test_only_blind_copies_that_failed_are_sent_again(
    wire: Any, admin_client: Client
) -> None:
    def refuse_two(handler: Any, body: bytes) -> None:
        refused = json.loads(body)["to"] in {"b@example.org", "d@example.org"}
        (REFUSE if refused else ACCEPT)(handler, body)

    wire.answer = refuse_two
    bcc = ["a@example.org", "b@example.org", "c@example.org", "Dee <d@example.org>"]
    row = send(new(to=[], bcc=bcc, body="Hello"))
    assert row.outcome == "accepted"
    attention = reverse("admin:turbosmtp_message_changelist") + "?attention=yes"
    assert str(row.pk) in admin_client.get(attention).text
    assert fill_in(admin_client, row)["to"] == [1, 3]
    wire.answer = ACCEPT
    wire.seen.clear()
    again, said = resend(admin_client, row)
    sent = [json.loads(body) for _, _, body in wire.seen]
    assert sorted(fields["to"] for fields in sent) == [
        "b@example.org",
        "d@example.org",
    ]
    assert len({fields["mime_raw"] for fields in sent}) == 1
    assert again.recipient_count == 2
    assert said == "Result of sending again: It was sent: turboSMTP accepted it."
    assert str(row.pk) not in admin_client.get(attention).text


def test_refused_again_it_can_be_sent_once_more(
    wire: Any, admin_client: Client
) -> None:
    row = send(new())
    second, said = resend(admin_client, row)
    assert (
        said
        == "Result of sending again: It was not sent: turboSMTP refused the message."
    )
    assert (second.outcome, second.resend_of.original) == ("refused", row)
    attention = reverse("admin:turbosmtp_message_changelist") + "?attention=yes"
    shown = admin_client.get(attention).context["cl"].result_list
    assert list(shown) == [second]
    assert second.payload.count() == 1
    assert "It has already been sent again." in admin_client.get(build_url(row)).text
    wire.answer = ACCEPT
    third, said = resend(admin_client, second)
    assert (third.outcome, third.resend_of.original) == ("accepted", second)
    assert len(wire.seen) == 3


def test_recipients_who_have_it_do_not_receive_it_twice(
    wire: Any, admin_client: Client
) -> None:
    """Recipients of one request, after an event reports that one was reached."""
    wire.answer = say(500, "lost")
    row = send(new(to=["a@example.org"], cc=["c@example.org"], bcc=["b@example.org"]))
    row.recipients.filter(address="a@example.org").update(status="sent")
    wire.answer = ACCEPT
    again, _ = resend(admin_client, row)
    fields = json.loads(wire.seen[-1][2])
    assert (fields["to"], fields["bcc"]) == ("c@example.org", "b@example.org")
    assert again.recipient_count == 2
    assert not row.payload.exists()


def test_an_unknown_outcome_warns(wire: Any, admin_client: Client) -> None:
    wire.answer = say(500, "lost")
    row = send(new())
    assert row.outcome == "unknown"
    assert "It may have arrived." in admin_client.get(build_url(row)).content.decode()


def test_it_warns_if_one_of_several_is_unknown(wire: Any, admin_client: Client) -> None:
    def answer(handler: Any, body: bytes) -> None:
        {"b@example.org": say(500, "lost"), "c@example.org": REFUSE}.get(
            json.loads(body)["to"], ACCEPT
        )(handler, body)

    wire.answer = answer
    row = send(new(to=[], bcc=["a@example.org", "b@example.org"]))
    assert row.outcome == "accepted"
    assert "It may have arrived." in admin_client.get(build_url(row)).text
    row = send(new(to=[], bcc=["a@example.org", "c@example.org"]))
    assert row.outcome == "accepted"
    assert "It may have arrived." not in admin_client.get(build_url(row)).text


def test_pressed_twice_it_is_sent_once(wire: Any, admin_client: Client) -> None:
    row = send(new())
    wire.answer = ACCEPT
    form = fill_in(admin_client, row)
    for _ in range(3):
        admin_client.post(build_url(row), form)
    answer = admin_client.post(build_url(row), form, follow=True)
    *_, said = map(str, answer.context["messages"])
    assert said == "Nothing was sent. It has already been sent again."
    assert len(wire.seen) == 2
    assert Message.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_two_at_once_send_it_once(wire: Any, django_user_model: Any) -> None:
    row = send(new())
    wire.answer = ACCEPT
    clients = []
    for number in range(4):
        user = django_user_model.objects.create_superuser(f"user{number}")
        client = Client()
        client.force_login(user)
        clients.append(client)
    form = fill_in(clients[0], row)
    ready = threading.Barrier(len(clients))

    def press(client: Client) -> None:
        ready.wait()
        try:
            client.post(build_url(row), form)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=press, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wire.seen) == 2
    assert Message.objects.count() == 2
    assert Message.objects.filter(outcome="accepted").count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_row_is_committed_first_with_a_transaction_for_each_request(
    wire: Any, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    row = send(new())
    seen: list[bool] = []

    def look(handler: Any, body: bytes) -> None:
        # In another thread, and so with another connection.
        seen.append(Message.objects.filter(status="sending").exists())
        connections.close_all()
        ACCEPT(handler, body)

    wire.answer = look
    again, _ = resend(admin_client, row)
    assert seen == [True]
    assert again.outcome == "accepted"


def test_a_get_request_sends_nothing(wire: Any, admin_client: Client) -> None:
    row = send(new())
    for _ in range(2):
        assert admin_client.get(build_url(row)).status_code == 200
    assert admin_client.head(build_url(row)).status_code == 200
    assert len(wire.seen) == 1


@pytest.mark.parametrize("permissions", [(), ("view_message_body",)])
def test_it_needs_its_permission(
    wire: Any, user: Any, permissions: tuple[str, ...]
) -> None:
    row = send(new())
    client = user("view_message", *permissions)
    assert client.get(build_url(row)).status_code == 403
    assert client.post(build_url(row)).status_code == 403
    page = client.get(reverse("admin:turbosmtp_message_change", args=[row.pk]))
    assert build_url(row) not in page.content.decode()
    assert user("resend_message").post(build_url(row)).status_code == 403
    assert len(wire.seen) == 1
    wire.answer = ACCEPT
    resend(user("view_message", "resend_message"), row)
    assert len(wire.seen) == 2


def test_a_post_without_the_token_is_refused(wire: Any, admin_user: Any) -> None:
    row = send(new())
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    assert client.post(build_url(row)).status_code == 403
    assert len(wire.seen) == 1


def test_without_a_row_nothing_is_sent(
    wire: Any, admin_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    row = send(new())

    def fail(execute: Any, sql: str, *arguments: Any) -> Any:
        if sql.startswith("INSERT INTO") and "turbosmtp_recipient" in sql:
            raise DatabaseError("no space left")
        return execute(sql, *arguments)

    with connection.execute_wrapper(fail):
        _, said = resend(admin_client, row)
    assert "Nothing was sent. The log could not be written." in said
    assert len(wire.seen) == 1
    assert Message.objects.get() == row
    assert row.payload.count() == 1


WHY_NOT = {
    "attachments": "this site does not store the content of attachments",
    "pruned": "the log does not contain the full message.",
    "version": "The message was prepared for version 1",
    "log": "The log is off",
    "cancelled": "the message was cancelled, or all of its recipients",
    "queued": "the message is queued and has not been sent yet",
}


@pytest.mark.parametrize("case", WHY_NOT)
def test_why_not(wire: Any, settings: Any, admin_client: Client, case: str) -> None:
    message = new()
    if case == "attachments":
        wire.answer = ACCEPT
        message = new(attachments=[("a.pdf", b"%PDF", "application/pdf")])
    row = send(message)
    if case == "log":
        settings.TURBOSMTP = {**settings.TURBOSMTP, "LOG": False}
    if case in {"pruned", "cancelled", "queued"}:
        row.payload.all().delete()
        Content.objects.all().delete()
    if case == "version":
        Message.objects.update(api_version=1)
    if case == "queued":
        at = timezone.now() - timedelta(hours=1)
        Message.objects.update(status=case, outcome="", created_at=at)
    if case == "cancelled":
        Message.objects.update(status=case, outcome=case)
    text = read(admin_client, row)
    assert WHY_NOT[case] in text
    assert "Send again…" not in text
    _, said = resend(admin_client, row)
    assert WHY_NOT[case] in said
    assert len(wire.seen) == 1


class TestTheRecipients:
    """Any message that the log can rebuild is sent to the chosen recipients."""

    @pytest.mark.parametrize("status", ["delivered", "bounced", "sent", "complained"])
    def test_an_accepted_message(
        self, wire: Any, admin_client: Client, status: str
    ) -> None:
        wire.answer = ACCEPT
        message: Any = new(
            subject="Your order ✓",
            body="Hello\r\n\n ünd ",
            alternatives=[("<p>HTML</p>", "text/html")],
            to=["Jane Doe <jane@example.org>"],
            cc=["c@example.org"],
            reply_to=["help@example.com"],
            headers={"X-Order": "4711"},
        )
        message.tags = ["orders"]
        row = send(message)
        assert not row.payload.exists()
        Recipient.objects.update(status=status)
        Message.objects.update(status=status)
        page = admin_client.get(build_url(row)).text
        is_reached = status != "bounced"
        assert ("would receive it twice" in page) is is_reached
        again, said = resend(admin_client, row)
        assert said == "Result of sending again: It was sent: turboSMTP accepted it."
        (_, _, first), (_, _, second) = wire.seen
        assert json.loads(first) | {"reference_id": str(again.pk)} == json.loads(second)
        assert again.content.is_exact

    def test_with_stored_attachments(
        self, wire: Any, settings: Any, tmp_path: Any, admin_client: Client
    ) -> None:
        settings.MEDIA_ROOT = tmp_path
        settings.TURBOSMTP |= {"LOG_ATTACHMENTS": True}
        wire.answer = ACCEPT
        row = send(
            new(
                attachments=[
                    ("a.pdf", bytes(range(256)), "application/pdf"),
                    ("ü.txt", "text", "text/plain"),
                ]
            )
        )
        again, _ = resend(admin_client, row)
        (_, _, first), (_, _, second) = wire.seen
        assert json.loads(first) | {"reference_id": str(again.pk)} == json.loads(second)
        for stored in StoredFile.objects.all():
            stored.file.storage.delete(stored.file.name)
        _, said = resend(admin_client, row)
        assert "The stored file of an attachment cannot be read." in said
        assert len(wire.seen) == 2

    def test_a_corrected_address(
        self, wire: Any, settings: Any, admin_client: Client
    ) -> None:
        settings.TURBOSMTP |= {"SUPPRESS": True}
        wire.answer = ACCEPT
        row = send(new(to=["Jane <jane@gmial.com>", "joe@example.org"]))
        Recipient.objects.filter(address="jane@gmial.com").update(status="bounced")
        Suppression.objects.create(address="jane@gmial.com", reason="bounced")
        page = admin_client.get(build_url(row))
        assert "This address is suppressed: the mailbox does not exist." in page.text
        _, said = resend(admin_client, row, to=[0])
        assert "jane@gmial.com: This address is suppressed" in said
        assert len(wire.seen) == 1
        change = {"to": [0], "address-0": " jane@gmail.com "}
        again, _ = resend(admin_client, row, **change)
        assert json.loads(wire.seen[-1][2])["to"] == "Jane <jane@gmail.com>"
        recipients = again.recipients.values_list("address", "shown", "status")
        assert list(recipients) == [("jane@gmail.com", "Jane <jane@gmail.com>", "sent")]

    @pytest.mark.parametrize("address", ["jane", "a@b@c", "a@x.org, b@x.org", "a\n@x"])
    def test_a_wrong_address(
        self, wire: Any, admin_client: Client, address: str
    ) -> None:
        row = send(new())
        _, said = resend(admin_client, row, **{"address-0": address})
        assert "is not a valid address" in said
        assert len(wire.seen) == 1

    def test_an_address_that_is_entered_twice(
        self, wire: Any, admin_client: Client
    ) -> None:
        wire.answer = ACCEPT
        row = send(new(to=["a@example.org", "b@example.org"]))
        again, _ = resend(admin_client, row, **{"address-1": "a@example.org"})
        assert json.loads(wire.seen[-1][2])["to"] == "a@example.org"
        assert again.recipient_count == 1

    def test_no_recipient_is_chosen(self, wire: Any, admin_client: Client) -> None:
        row = send(new())
        for wrong in ([], ["x"], [99]):
            form = fill_in(admin_client, row, to=wrong)
            admin_client.post(build_url(row), form)
        assert len(wire.seen) == 1
        form = fill_in(admin_client, row, to=[])
        answer = admin_client.post(build_url(row), form)
        assert "Nothing was sent. Choose at least one recipient." in answer.text

    def test_a_message_that_was_left_out(
        self, wire: Any, settings: Any, admin_client: Client
    ) -> None:
        """It can be sent after its suppression is deleted."""
        settings.TURBOSMTP |= {"SUPPRESS": True}
        Suppression.objects.create(address="to@example.org", reason="manual")
        row = send(new(body="Hello"))
        assert (row.outcome, len(wire.seen)) == ("suppressed", 0)
        _, said = resend(admin_client, row, to=[0])
        assert "This address is suppressed: entered by hand." in said
        Suppression.objects.all().delete()
        wire.answer = ACCEPT
        again, _ = resend(admin_client, row)
        assert again.outcome == "accepted"
        assert json.loads(wire.seen[-1][2])["content"] == "Hello"

    def test_a_guard(self, wire: Any, settings: Any, admin_client: Client) -> None:
        row = send(new())
        for guard in (["elsewhere.org"], {"redirect": "dev@example.com"}):
            settings.TURBOSMTP |= {"RECIPIENT_GUARD": guard}
            page = admin_client.get(build_url(row))
            assert "This site sends only to certain addresses." in page.text
            _, said = resend(admin_client, row, to=[0])
            assert "This site sends only to certain addresses." in said
        assert len(wire.seen) == 1

    def test_mime_shows_the_new_recipients(
        self, wire: Any, admin_client: Client
    ) -> None:
        row = send(
            new(
                to=["a@example.org", "b@example.org"],
                headers={"To": "The list <list@example.com>"},
            )
        )
        assert row.why_mime
        wire.answer = ACCEPT
        resend(admin_client, row, to=[1])
        fields = json.loads(wire.seen[-1][2])
        assert fields["to"] == "b@example.org"
        assert "To: b@example.org\r\n" in fields["mime_raw"]
        assert "list@example.com" not in fields["mime_raw"]

    @pytest.mark.parametrize("own_id", [True, False])
    def test_accepted_mime(self, wire: Any, admin_client: Client, own_id: bool) -> None:
        wire.answer = ACCEPT
        headers = {"To": "The list <list@example.com>"}
        if own_id:
            headers["Message-ID"] = "<order-4711@example.com>"
        row = send(new(headers=headers))
        assert row.payload.exists()
        again, _ = resend(admin_client, row)
        first, second = (
            message_from_string(json.loads(body)["mime_raw"]) for *_, body in wire.seen
        )
        assert first.get_payload() == second.get_payload()
        assert second["To"] == "The list <list@example.com>"
        changed = {name for name in first if first[name] != second[name]}
        assert changed - {"Date"} == (set() if own_id else {"Message-ID"})
        # Both can be sent once more.
        for original in (row, again):
            resend(admin_client, original)
        assert len(wire.seen) == 4

    def test_accepted_mime_with_attachments(
        self, wire: Any, settings: Any, tmp_path: Any, admin_client: Client
    ) -> None:
        wire.answer = ACCEPT

        def build() -> Any:
            attachments = [("a.pdf", b"%PDF", "application/pdf")]
            return new(attachments=attachments, headers={"To": "list@example.com"})

        assert not send(build()).payload.exists()
        settings.MEDIA_ROOT = tmp_path
        settings.TURBOSMTP |= {"LOG_ATTACHMENTS": True}
        row = send(build())
        resend(admin_client, row)
        assert len(wire.seen) == 3

    def test_queued_mime(self, wire: Any, settings: Any, admin_client: Client) -> None:
        wire.answer = ACCEPT
        queueing.turn_queue_on(settings)
        with_file = [("a.pdf", b"%PDF", "application/pdf")]
        queueing.send(
            new(headers={"To": "The list <list@example.com>"}),
            new(headers={"To": "list@example.com"}, attachments=with_file),
        )
        queueing.work_off()
        row, other = Message.objects.order_by("id")
        assert (row.outcome, len(wire.seen)) == ("accepted", 2)
        assert row.payload.exists()
        assert not other.payload.exists()
        again, _ = resend(admin_client, row)
        assert again.outcome == "accepted"
        assert len(wire.seen) == 3

    def test_redacted_text_is_not_sent(
        self, wire: Any, settings: Any, admin_client: Client
    ) -> None:
        settings.TURBOSMTP |= {
            "LOG_REDACT": lambda text, name: text.replace("hunter2", "***")
        }
        wire.answer = ACCEPT
        row = send(new(body="Your password: hunter2"))
        assert not row.content.is_exact
        _, said = resend(admin_client, row)
        assert "the log does not contain the full message" in said
        assert len(wire.seen) == 1

    def test_many_recipients(self, wire: Any, admin_client: Client) -> None:
        wire.answer = ACCEPT
        row = send(new(to=[f"a{n}@example.org" for n in range(150)]))
        Recipient.objects.filter(position__lt=40).update(status="bounced")
        page = admin_client.get(build_url(row))
        assert "The recipients that it did not reach: 40" in page.text
        assert "a1@example.org" not in page.text
        again, _ = resend(admin_client, row, group="missing")
        assert again.recipient_count == 40
        second, _ = resend(admin_client, row, group="all")
        assert second.recipient_count == 150


def test_a_message_whose_process_died(wire: Any, admin_client: Client) -> None:
    row = send(new())
    Message.objects.update(status="sending", outcome="", error="")
    Recipient.objects.update(status="sending")
    assert "It is being sent." in read(admin_client, row)
    assert admin_client.get(build_url(row)).status_code == 302
    Message.objects.update(created_at=timezone.now() - timedelta(hours=1))
    asked = admin_client.get(build_url(row)).content.decode()
    assert "It may have arrived." in asked
    wire.answer = ACCEPT
    again, _ = resend(admin_client, row)
    assert again.outcome == "accepted"


def test_receivers_of_post_send_are_called(wire: Any, admin_client: Client) -> None:
    told: list[Any] = []

    def listen(sender: Any, message: Any, status: Any, **kwargs: Any) -> None:
        told.append((sender, message, status))

    message: Any = new(subject="Order", to=["Jane <jane@example.org>"])
    message.tags, message.metadata = ["orders"], {"order": 5}
    row = send(message)
    post_send.connect(listen)
    try:
        wire.answer = ACCEPT
        resend(admin_client, row)
    finally:
        post_send.disconnect(listen)
    [(sender, again, status)] = told
    assert sender is EmailBackend
    assert status.outcome == "accepted"
    assert (again.subject, again.to) == ("Order", ["Jane <jane@example.org>"])
    assert (again.tags, again.metadata) == (["orders"], {"order": 5})


def test_mime_with_attachments(wire: Any, admin_client: Client) -> None:
    row = send(
        new(
            headers={"To": "The list <list@example.com>"},
            attachments=[("a.pdf", b"%PDF", "application/pdf")],
        )
    )
    assert row.why_mime
    wire.answer = ACCEPT
    again, _ = resend(admin_client, row)
    assert (
        json.loads(wire.seen[0][2])["mime_raw"]
        == (json.loads(wire.seen[1][2])["mime_raw"])
    )
    names = Attachment.objects.filter(message=again).values_list("name", "sha256")
    assert list(names) == list(row.attachments.values_list("name", "sha256"))
    assert again.content.text == row.content.text


class TestTheAccount:
    """Another account is only used after confirmation."""

    OTHER: ClassVar = {"consumer_key": "other-key", "consumer_secret": "other-secret"}

    def read_keys(self, wire: Any) -> list[str]:
        return [headers["consumerKey"] for _, headers, _ in wire.seen]

    def test_a_row_has_a_fingerprint_and_no_key(self, wire: Any) -> None:
        row = send(new())
        other = send(new(), **self.OTHER)
        assert len(row.account) == FINGERPRINT_LENGTH
        assert row.account != other.account
        assert send(new()).account == row.account
        for stored in (row, other):
            texts = str(list(Message.objects.filter(pk=stored.pk).values()))
            assert "other-key" not in texts
            assert "hunter2" not in texts

    def test_another_account_needs_confirmation(
        self, wire: Any, admin_client: Client
    ) -> None:
        row = send(new(), **self.OTHER)
        asked = admin_client.get(build_url(row))
        assert (
            "turboSMTP account, or with a key, that this site no longer uses"
            in asked.text
        )
        wire.answer = ACCEPT
        form = fill_in(admin_client, row)
        answer = admin_client.post(build_url(row), form)
        assert answer.status_code == 200
        assert "Nothing was sent. Tick the box to confirm." in answer.text
        assert len(wire.seen) == 1
        wrong = admin_client.post(build_url(row), form | {"account": "something else"})
        assert wrong.status_code == 200
        assert len(wire.seen) == 1

        account = asked.context["account"]
        admin_client.post(build_url(row), form | {"account": account})
        assert self.read_keys(wire) == ["other-key", "hunter2-key"]
        again = Message.objects.all()[0]
        assert (again.outcome, again.resend_of.original) == ("accepted", row)
        assert again.account == account

    def test_a_rotated_key_needs_confirmation(
        self, wire: Any, settings: Any, admin_client: Client
    ) -> None:
        row = send(new())
        settings.TURBOSMTP = {
            **settings.TURBOSMTP,
            "CONSUMER_KEY": "new-key",
            "CONSUMER_SECRET": "new-secret",
        }
        assert (
            "or with a key, that this site no longer uses"
            in admin_client.get(build_url(row)).text
        )

    def test_a_rotated_secret_key_is_the_same_account(
        self, wire: Any, settings: Any, admin_client: Client
    ) -> None:
        row = send(new())
        settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
        settings.SECRET_KEY = "another secret key, of fifty characters or even more"
        admin_client.force_login(User.objects.get())
        wire.answer = ACCEPT
        _, said = resend(admin_client, row)
        assert said == "Result of sending again: It was sent: turboSMTP accepted it."
        wire.answer = REFUSE
        row = send(new())
        settings.SECRET_KEY = "a secret key that nobody has used before, fifty letters"
        settings.SECRET_KEY_FALLBACKS = []
        admin_client.force_login(User.objects.get())
        assert admin_client.get(build_url(row)).context["other_account"]

    def test_the_page_of_a_message_does_not_call_for_credentials(
        self, wire: Any, settings: Any, admin_client: Client
    ) -> None:
        """A callable may use a secret store, which may be down."""

        def fail() -> str:
            raise OSError("the vault is down")

        row = send(new())
        settings.TURBOSMTP = {**settings.TURBOSMTP, "CONSUMER_KEY": fail}
        page = reverse("admin:turbosmtp_message_change", args=[row.pk])
        assert build_url(row) in admin_client.get(page).text

    def test_code_without_confirmation_does_not_send(self, wire: Any) -> None:
        row = send(new(), **self.OTHER)
        with pytest.raises(
            NotSentAgain, match="or with a key, that this site no longer uses"
        ):
            resend_row(row, EmailBackend().build_engine())
        assert len(wire.seen) == 1
        assert row.payload.count() == 1


def test_in_the_sandbox(logged: Any, sandbox: Sandbox, admin_client: Client) -> None:
    sandbox.add_fault("nocredit", times=1)
    row = send(new(subject="Order"))
    again, _ = resend(admin_client, row)
    assert [message.mid for message in sandbox.messages] == [again.mid]


@pytest.mark.django_db(transaction=True)
def test_an_event_before_the_lock_is_considered(
    wire: Any, settings: Any, admin_client: Client
) -> None:
    """The page showed both recipients; meanwhile one of them has the message."""
    settings.TURBOSMTP |= {"WEBHOOK_SECRET": SECRET}
    row = send(new(to=[], bcc=["a@x.org", "b@x.org"]))
    stale = Message.objects.get(pk=row.pk)
    engine = find_backend(row.mailer).build_engine()
    planned = plan_resend(Message.objects.using(WORLD.alias).get(), engine)
    assert len(planned.recipients) == 2
    recipients = Recipient.objects.using(WORLD.alias).filter(message=row.pk)
    recipients.filter(address="a@x.org").update(status="delivered", mid="77")
    wire.seen.clear()
    wire.answer = ACCEPT
    resend_row(stale, engine)
    assert [json.loads(body)["to"] for _, _, body in wire.seen] == ["b@x.org"]


@pytest.mark.django_db(transaction=True)
def test_a_message_pruned_meanwhile_is_not_sent(wire: Any) -> None:
    row = send(new())
    engine = find_backend(row.mailer).build_engine()
    Message.objects.all().delete()
    with pytest.raises(NotSentAgain, match="no longer in the log"):
        resend_row(row, engine)
    assert len(wire.seen) == 1
