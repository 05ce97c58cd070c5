"""Sending several messages of the list again: the action, its page, and once."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connections
from django.test import Client
from django.urls import reverse

from django_turbosmtp.admin import MessageAdmin, resending
from django_turbosmtp.models import Message, Recipient, Resend
from tests.log.resending import list_subjects, send_refused
from tests.log.test_detail import send
from tests.messages import new
from tests.serving import NO_CREDIT
from tests.worlds import connection

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("short_waits")]

LIST = "/admin/turbosmtp/message/"
PAGE = f"{LIST}resend/"


def select(client: Client, rows: list[Message], **data: Any) -> Any:
    """Use the action of the list."""
    keys = [str(row.pk) for row in rows]
    form = {"action": "resend_selected", "_selected_action": keys, **data}
    return client.post(LIST, form, follow=True)


def press(client: Client, page: Any) -> list[str]:
    """Press the button of the page; return the messages of the next page."""
    answer = client.post(PAGE, {"id": page.context["keys"]}, follow=True)
    assert answer.status_code == 200
    return [str(message) for message in answer.context["messages"]]


def test_several_are_sent_after_a_page(wire: Any, admin_client: Client) -> None:
    rows = send_refused(wire, "One", "Two", "Three")

    page = select(admin_client, rows[:2])

    assert page.redirect_chain
    assert "2 messages will be sent again" in page.text
    assert "One" in page.text
    assert "Three" not in page.text
    assert not wire.seen
    assert press(admin_client, page) == ["2 messages were sent again."]
    assert sorted(list_subjects(wire)) == ["One", "Two"]
    entries = LogEntry.objects.order_by("id")
    assert {entry.object_id for entry in entries} == {str(row.pk) for row in rows[:2]}
    assert all(entry.change_message.endswith("accepted") for entry in entries)


def test_the_page_shows_why_others_are_not_sent(
    wire: Any, admin_client: Client
) -> None:
    rows = send_refused(wire, "One", "Two", "Three")
    Recipient.objects.filter(message=rows[1]).update(status="unknown")
    Message.objects.filter(pk=rows[1].pk).update(status="unknown", outcome="unknown")
    rows.append(send(new(subject="Four")))
    wire.seen.clear()

    page = select(admin_client, rows)

    assert "2 messages will be sent again" in page.text
    assert "2 messages will not be sent" in page.text
    skipped = {e["message"].subject: e["reason"] for e in page.context["skipped"]}
    assert skipped == {
        "Two": "It may have arrived.",
        "Four": "All recipients already have it.",
    }
    press(admin_client, page)
    assert sorted(list_subjects(wire)) == ["One", "Three"]


def test_pressed_twice_it_is_sent_once(wire: Any, admin_client: Client) -> None:
    page = select(admin_client, send_refused(wire, "One", "Two"))
    press(admin_client, page)
    said = press(admin_client, page)
    assert said == [
        "0 messages were sent again.",
        "2 messages were not sent: It has already been sent again.",
    ]
    assert len(wire.seen) == 2


@pytest.mark.django_db(transaction=True)
def test_two_people_at_once_send_once(wire: Any, django_user_model: Any) -> None:
    rows = send_refused(wire, *(f"Order {number}" for number in range(20)))
    clients = []
    for name in ("ann", "bob"):
        client = Client()
        user = django_user_model.objects.create_superuser(name)
        client.force_login(user)
        clients.append(client)
    page = select(clients[0], rows)
    together = threading.Barrier(2)

    def decide(client: Client) -> None:
        together.wait(10)
        press(client, page)
        connections.close_all()

    threads = [threading.Thread(target=decide, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(list_subjects(wire)) == sorted(row.subject for row in rows)
    assert Resend.objects.count() == 20


def test_no_credit_stops(wire: Any, admin_client: Client) -> None:
    rows = send_refused(wire, *(f"Order {number}" for number in range(60)))
    page = select(admin_client, rows)
    wire.answer = NO_CREDIT
    said = press(admin_client, page)
    assert said[0] == "0 messages were sent again."
    assert said[1].startswith("40 messages failed again.")
    assert said[2].startswith("The remaining messages were not tried. ")
    assert "credit" in said[2]
    assert Resend.objects.count() == 40


def test_the_log_cannot_be_written(
    wire: Any, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = select(admin_client, send_refused(wire, "One"))

    def fail(execute: Any, sql: str, *arguments: Any) -> Any:
        if sql.startswith("INSERT") and "turbosmtp_recipient" in sql:
            raise connection.Database.DataError("A wrong value.")
        return execute(sql, *arguments)

    with connection.execute_wrapper(fail):
        said = press(admin_client, page)
    assert said == ["The log could not be written."]
    assert not wire.seen
    assert not Resend.objects.exists()


def test_too_many(
    wire: Any, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resending, "_MOST", 2)
    rows = send_refused(wire, "One", "Two", "Three")
    page = select(admin_client, rows)
    assert "Select at most 2 messages" in page.text
    assert "turbosmtp_resend" in page.text
    assert not page.redirect_chain or page.redirect_chain[-1][0].startswith(LIST)
    # Nor by the page's own address.
    keys = ",".join(str(row.pk) for row in rows)
    page = admin_client.get(PAGE, {"id": keys})
    assert len(page.context["ready"]) == 2


@pytest.mark.parametrize("keys", ["", "nonsense", ",,", str(UUID(int=1)), "1" * 5000])
def test_wrong_keys(wire: Any, admin_client: Client, keys: str) -> None:
    send_refused(wire, "One")
    page = admin_client.get(PAGE, {"id": keys})
    assert "None of these messages can be sent again" in page.text
    admin_client.post(PAGE, {"id": keys})
    assert not wire.seen


def test_a_get_request_sends_nothing(wire: Any, admin_client: Client) -> None:
    (row,) = send_refused(wire, "One")
    admin_client.get(PAGE, {"id": row.pk})
    assert not wire.seen
    assert not Resend.objects.exists()


def test_it_needs_its_permission(wire: Any, user: Any) -> None:
    (row,) = send_refused(wire, "One")
    viewer = user("view_message")
    assert "resend_selected" not in viewer.get(LIST).text
    select(viewer, [row])
    assert viewer.post(PAGE, {"id": row.pk}).status_code == 403
    assert user("resend_message").post(PAGE, {"id": row.pk}).status_code == 403
    assert not wire.seen
    sender = user("view_message", "resend_message")
    assert "resend_selected" in sender.get(LIST).text
    sender.post(PAGE, {"id": row.pk})
    assert list_subjects(wire) == ["One"]


def test_messages_that_the_user_may_not_see(
    wire: Any, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site can restrict the rows of each user with ``get_queryset()``."""
    rows = send_refused(wire, "One", "Two")
    whole = MessageAdmin.get_queryset
    monkeypatch.setattr(
        MessageAdmin,
        "get_queryset",
        lambda self, request: whole(self, request).filter(subject="Two"),
    )
    keys = ",".join(str(row.pk) for row in rows)
    assert "One" not in admin_client.get(PAGE, {"id": keys}).text
    admin_client.post(PAGE, {"id": keys})
    assert list_subjects(wire) == ["Two"]


def test_the_settings_are_wrong(wire: Any, admin_client: Client) -> None:
    (row,) = send_refused(wire, "One")
    Message.objects.filter(pk=row.pk).update(mailer="missing")
    page = admin_client.get(PAGE, {"id": row.pk})
    assert "no longer has the mailer “missing”" in page.text
    assert reverse("admin:turbosmtp_message_resend_many") == PAGE
