"""The log in the admin: permissions, and that it is read-only."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.paginator import EmptyPage, Paginator
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from django_turbosmtp.admin.paginator import LogPaginator
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.models import Message
from django_turbosmtp.sandbox import Sandbox
from tests.messages import new
from tests.worlds import WORLD, connection

pytestmark = pytest.mark.django_db

LIST = "/admin/turbosmtp/message/"


@pytest.fixture
def row(logged: Any, sandbox: Sandbox) -> Message:
    message = new(
        subject="Your order",
        body="hunter2 <script>alert(1)</script>",
        to=["Jane <jane@example.org>"],
        cc=["c@example.org"],
        attachments=[("a.pdf", b"%PDF", "application/pdf")],
    )
    EmailBackend().send_messages([message])
    return Message.objects.get()


def page_of(row: Message) -> str:
    return reverse("admin:turbosmtp_message_change", args=[row.pk])


def test_the_permissions_exist() -> None:
    found = Permission.objects.filter(content_type__app_label="turbosmtp")
    names = set(found.values_list("codename", flat=True))
    suppressions = {"add", "view", "change", "delete"}
    messages = {"view_message", "view_message_body", "resend_message"}
    assert names == messages | {"cancel_message"} | {
        f"{action}_suppression" for action in suppressions
    }


def test_the_list(row: Message, user: Any) -> None:
    html = user("view_message").get(LIST).content.decode()
    for text in ("Your order", ">jane@example.org</bdi></a> and 1 more", "sent"):
        assert text in html
    assert "hunter2" not in html


def test_a_message_without_its_body(row: Message, user: Any) -> None:
    html = user("view_message").get(page_of(row)).content.decode()
    for text in ("Your order", "Jane &lt;jane@example.org&gt;", "a.pdf", row.mid):
        assert text in html
    assert "hunter2" not in html
    assert "Wire fields" not in html


def test_a_message_with_its_body(row: Message, user: Any) -> None:
    client = user("view_message", "view_message_body")
    html = client.get(page_of(row)).content.decode()
    assert "hunter2 &lt;script&gt;alert(1)" in html
    assert "<script>alert" not in html


def test_the_page_shows_that_a_body_is_not_stored(row: Message, user: Any) -> None:
    row.content.delete()
    client = user("view_message", "view_message_body")
    html = client.get(page_of(row), {"tab": "text"}).content.decode()
    assert "The text of this message is not stored" in html


@pytest.mark.parametrize("permissions", [[], ["view_message_body"]])
def test_other_users_have_no_access(
    row: Message, user: Any, permissions: list[str]
) -> None:
    client = user(*permissions)
    assert client.get(LIST).status_code == 403
    assert client.get(page_of(row)).status_code == 403
    assert Client().get(page_of(row)).status_code == 302


@pytest.mark.parametrize("action", ["add/", "{}/delete/", "{}/change/", ""])
def test_messages_are_read_only(
    row: Message, action: str, admin_client: Client
) -> None:
    path = LIST + action.format(row.pk)
    data = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    admin_client.post(path, {**data, "subject": "changed", "status": "failed"})
    found = Message.objects.get()
    assert (found.pk, found.subject, found.status) == (row.pk, "Your order", "sent")
    html = admin_client.get(LIST).content.decode()
    assert "Add message" not in html
    assert "delete_selected" not in html


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("jane@example.org", True),
        (" Jane@Example.ORG ", True),
        ("c@example.org", True),
        ("{row.mid}", True),
        ("{row.reference_id}", True),
        ("ane@example.org", False),
        ("example.org", False),
        ("1", False),
        ("hunter2", False),
        ("'\"%_", False),
    ],
)
def test_search(row: Message, term: str, found: bool, admin_client: Client) -> None:
    EmailBackend().send_messages([new(subject="Another")])
    term = term.format(row=row) if "{" in term else term
    answer = admin_client.get(LIST, {"q": term})
    assert answer.status_code == 200
    html = answer.content.decode()
    assert ("Your order" in html) == found
    assert "Another" not in html


def test_the_list_reads_no_bodies(row: Message, admin_client: Client) -> None:
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(LIST)
    for table in ("content", "payload", "attachment"):
        assert not [q for q in queries if f"turbosmtp_{table}" in q["sql"]]


def test_a_row_in_every_state_has_a_page(
    logged: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    sandbox.add_fault("500", match="lost@")
    messages = [
        new(to=["nobody"]),
        new(to=["lost@example.org"], subject=""),
        new(to=[], bcc=["a@x.org", "b@x.org"]),
        new(to=["other@x.net"]),
    ]
    guard = ["example.org", "x.org"]
    EmailBackend(fail_silently=True, recipient_guard=guard).send_messages(messages)
    Message.objects.filter(subject="").update(outcome="", status="sending")
    rows = list(Message.objects.all())
    assert len(rows) == 4
    for row in rows:
        assert admin_client.get(page_of(row)).status_code == 200
    assert "(no subject)" in admin_client.get(LIST).content.decode()


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 25, 30])
@pytest.mark.parametrize("orphans", [0, 3])
def test_pages_use_django_s_templates(count: int, orphans: int) -> None:
    Message.objects.bulk_create(
        Message(
            created_at=timezone.now(),
            status="sent",
            reference_id=str(number),
            api_version=2,
        )
        for number in range(count)
    )
    rows = Message.objects.using(WORLD.alias)
    plain = Paginator(rows, 10, orphans=orphans)
    ours = LogPaginator(rows, 10, orphans=orphans)
    assert list(ours.page_range) == list(plain.page_range)
    for number in plain.page_range:
        page = ours.page(number)
        assert list(page.object_list) == list(plain.page(number).object_list)
        assert page.has_next() == plain.page(number).has_next()
    with pytest.raises(EmptyPage):
        ours.page(plain.num_pages + 1)


def test_the_last_page_is_linked() -> None:
    now = timezone.now()
    Message.objects.bulk_create(
        Message(created_at=now, status="sent", reference_id=str(n), api_version=2)
        for n in range(205)
    )
    pages = LogPaginator(Message.objects.using(WORLD.alias), 10)
    with CaptureQueriesContext(connection) as captured:
        last = [row.reference_id for row in pages.page(21).object_list]
    assert last == ["4", "3", "2", "1", "0"]
    assert "OFFSET" not in captured[-1]["sql"]
