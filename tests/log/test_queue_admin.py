"""The queue in the admin: queued messages, stopped queues, and cancelling."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from django_turbosmtp.admin.show import show_moment
from django_turbosmtp.models import Message, QueuedMessage
from django_turbosmtp.sandbox import Sandbox
from tests.log.queueing import (
    now,
    pass_time,
    read_statuses,
    send,
    turn_queue_on,
    work_off,
)
from tests.messages import new
from tests.serving import NO_CREDIT, say

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("short_waits")]

LIST = "/admin/turbosmtp/message/"
DASHBOARD = f"{LIST}dashboard/"


def build_url(row: Message, page: str = "cancel") -> str:
    return reverse(f"admin:turbosmtp_message_{page}", args=[row.pk])


def test_a_queued_message_is_cancelled_after_confirmation(
    queued: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    send(new(subject="Order"))
    row = Message.objects.get()
    page = admin_client.get(build_url(row, "change")).text
    assert "It is queued and has not been sent yet." in page
    assert build_url(row) in page
    question = admin_client.get(build_url(row)).text
    assert "Cancel this message?" in question
    assert read_statuses() == [("queued", "queued")]
    answer = admin_client.post(build_url(row), follow=True)
    assert "1 message was cancelled." in answer.text
    assert "It was cancelled before it was sent." in answer.text
    assert build_url(row) not in answer.text
    again = admin_client.post(build_url(row), follow=True)
    assert "only queued messages can be cancelled" in again.text
    work_off()
    assert not sandbox.messages
    assert LogEntry.objects.get().change_message == "Cancelled"


def test_a_message_is_either_claimed_or_cancelled(
    queued: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    """A worker claims the message while a user sees the confirmation page."""
    send(new())
    row = Message.objects.get()
    assert admin_client.get(build_url(row)).status_code == 200
    work_off()
    answer = admin_client.post(build_url(row), follow=True)
    assert "Nothing was cancelled" in answer.text
    assert len(sandbox.messages) == 1
    assert read_statuses() == [("sent", "accepted")]


def test_many_are_cancelled_by_an_action(
    queued: Any, sandbox: Sandbox, user: Any
) -> None:
    send(*(new(to=[f"a{n}@x.org"]) for n in range(5)))
    client = user("view_message", "cancel_message")
    rows = Message.objects.order_by("id")
    data = {
        "action": "cancel_queued",
        "_selected_action": [str(row.pk) for row in rows[:3]],
    }
    answer = client.post(LIST, data, follow=True)
    assert "3 messages were cancelled." in answer.text
    assert (
        read_statuses() == [("cancelled", "cancelled")] * 3 + [("queued", "queued")] * 2
    )


def test_the_action_has_a_permission_and_a_queue(
    queued: Any, sandbox: Sandbox, user: Any
) -> None:
    send(new())
    row = Message.objects.get()
    viewer, canceller = user("view_message"), user("view_message", "cancel_message")
    data = {"action": "cancel_queued", "_selected_action": [str(row.pk)]}
    viewer.post(LIST, data)
    assert read_statuses() == [("queued", "queued")]
    assert "cancel_queued" not in viewer.get(LIST).text
    assert build_url(row) not in viewer.get(build_url(row, "change")).text
    assert "cancel_queued" in canceller.get(LIST).text
    queued.TURBOSMTP |= {"QUEUE": False}
    assert "cancel_queued" not in canceller.get(LIST).text


def test_the_list_shows_queued_messages(
    queued: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    send(new(subject="First"))
    work_off()
    send(new(subject="Second"))
    page = admin_client.get(LIST, {"queue": "queued"}).text
    assert "Queued" in page
    assert "Second" in page
    assert "First" not in page
    queued.TURBOSMTP |= {"QUEUE": False}
    assert "Queued" not in admin_client.get(LIST).text


def test_the_dashboard_shows_the_queue(
    queued: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    assert "0 messages are queued." in admin_client.get(DASHBOARD).text
    send(*(new(to=[f"a{n}@x.org"]) for n in range(12)))
    page = admin_client.get(DASHBOARD).text
    assert "12 messages are queued." in page
    assert "Oldest message:" in page
    assert f"{LIST}?queue=queued" in page
    assert "stopped" not in page
    sandbox.add_fault("nocredit", times=None)
    work_off()
    page = admin_client.get(DASHBOARD).text
    assert "has stopped." in page
    assert "The turboSMTP account has no credit left." in page
    assert "12 messages are queued." in page


def test_a_site_without_a_queue_sees_none(
    logged: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    assert "messages wait" not in admin_client.get(DASHBOARD).text


def test_a_message_that_was_queued_for_long_is_not_stuck(
    queued: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    send(new())
    row = Message.objects.get()
    old = row.created_at.replace(year=2025)
    Message.objects.update(created_at=old, status="sending")
    page = admin_client.get(LIST, {"attention": "yes"}).text
    assert "0 messages" in page
    page = admin_client.get(build_url(row, "change")).text
    assert "It is being sent." in page
    QueuedMessage.objects.all().delete()
    assert "1 message" in admin_client.get(LIST, {"attention": "yes"}).text


def test_the_page_shows_when_a_message_will_be_sent(
    queued: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    message = new()
    message.send_at = now() + timedelta(hours=2)
    message.expires_at = now() + timedelta(hours=5)
    message.priority = "high"
    send(message, new())
    later, soon = Message.objects.order_by("id")
    page = admin_client.get(build_url(later, "change")).text
    row = QueuedMessage.objects.get(pk=later.pk)
    assert "<dt>Stored</dt>" in page
    assert "<dt>Sent</dt>" not in page
    assert f"<dt>Next attempt</dt><dd>{show_moment(row.not_before)}</dd>" in page
    assert f"<dt>Expires</dt><dd>{show_moment(row.expires_at)}</dd>" in page
    assert "<dt>Priority</dt><dd>high</dd>" in page
    page = admin_client.get(build_url(soon, "change")).text
    assert "<dt>Next attempt</dt><dd>As soon as a worker is free.</dd>" in page
    assert "Priority" not in page
    work_off()
    page = admin_client.get(build_url(soon, "change")).text
    assert "<dt>Sent</dt>" in page
    assert "Next attempt" not in page


def test_the_page_shows_why_a_message_is_still_queued(
    admin_client: Client, server: Any, settings: Any
) -> None:
    turn_queue_on(settings)
    server.answer = say(429, {"message": "try again"}, Retry_After="1")
    send(new())
    work_off()
    row = Message.objects.get()
    page = admin_client.get(build_url(row, "change")).text
    assert "<dt>Refused attempts</dt><dd>1</dd>" in page
    assert "try again" in page
    server.answer = NO_CREDIT
    pass_time(hours=1)
    work_off()
    page = admin_client.get(build_url(row, "change")).text
    assert "When the queue continues. It has stopped." in page
    assert "nocredit" in page
