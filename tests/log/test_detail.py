"""The page of one message, and the page of one person."""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from django_turbosmtp.admin import preview
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.models import Attempt, Content, Message
from django_turbosmtp.sandbox import Sandbox
from tests.log.surroundings import count_queries
from tests.log.test_files import stored  # noqa: F401 - a fixture
from tests.log.test_list import add
from tests.log.test_removing import make
from tests.messages import PNG, new, with_pictures
from tests.serving import say
from tests.worlds import WORLD, connection

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("short_waits")]

PERSON = "/admin/turbosmtp/message/person/"
QUOTED = "quoted"


def send(*messages: Any, **options: Any) -> Message:
    EmailBackend(fail_silently=True, **options).send_messages(messages)
    return Message.objects.all()[0]


def read(client: Client, row: Message, **query: str) -> str:
    """Return the text of the page, without tags."""
    url = reverse("admin:turbosmtp_message_change", args=[row.pk])
    answer = client.get(url, query)
    assert answer.status_code == 200
    html = answer.content.decode()
    html = html[html.index('<div id="content-main">') :]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


FATES = {
    "accepted": ({}, "✓ sent It was sent: turboSMTP accepted it."),
    "an address is wrong": (
        {"to": ["nobody"]},
        "It was not sent: an address is invalid.",
    ),
    "500": (
        {"to": ["500@example.org"]},
        "it may have arrived. Ask the recipient before",
    ),
    "400": (
        {"to": ["400@example.org"]},
        "It was not sent: turboSMTP refused the message.",
    ),
    "nocredit": (
        {"to": ["nocredit@example.org"]},
        "The turboSMTP account has no credit left.",
    ),
    "429": (
        {"to": ["429@example.org"]},
        "turboSMTP asked this site to send more slowly",
    ),
    "guard": (
        {"to": ["a@outside.org"]},
        "all of its recipients are suppressed or not allowed.",
    ),
}


@pytest.mark.parametrize("case", FATES)
def test_the_result_is_explained(
    logged: Any, sandbox: Sandbox, admin_client: Client, case: str
) -> None:
    fields, words = FATES[case]
    if case in {"500", "400", "nocredit", "429"}:
        sandbox.add_fault(case, match=f"{case}@", times=9)
    row = send(new(**fields), recipient_guard=["example.org"], max_retries=1)
    assert words in read(admin_client, row)


def test_a_stuck_message(admin_client: Client) -> None:
    row = add("one", status="sending")
    assert "It is being sent." in read(admin_client, row)
    Message.objects.update(created_at=timezone.now() - timedelta(hours=1))
    text = read(admin_client, row)
    assert (
        "The process that was sending it ended before it recorded the result." in text
    )
    assert "it may have arrived" in text


def test_attempts(logged: Any, sandbox: Sandbox, admin_client: Client) -> None:
    sandbox.add_fault("429", times=1)
    row = send(new())
    assert row.outcome == "accepted"
    tries = list(row.tries.values_list("position", "status_code", "error_class"))
    assert tries == [(0, 429, "RateLimited"), (1, None, "")]
    first, second = row.tries.all()
    assert 0 < first.seconds < 5
    assert first.began_at < second.began_at
    assert row.mid in second.answer
    text = read(admin_client, row)
    assert re.search(r"Refused \(HTTP 429\).*Technical details.*Sent", text)


def test_attempts_of_several_requests(
    logged: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    sandbox.add_fault("400", match="b@example.org")
    row = send(new(to=[], bcc=["a@example.org", "b@example.org"]))
    assert [(t.recipients, t.status_code) for t in row.tries.all()] == [
        ("a@example.org", None),
        ("b@example.org", 400),
    ]
    text = read(admin_client, row)
    assert "turboSMTP accepted it for some of its recipients, but not for all." in text
    assert "Refused (HTTP 400)" in text
    assert "b@example.org Technical details turboSMTP answered 400" in text


def test_a_first_attempt_that_succeeds_has_no_row(
    logged: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    row = send(new())
    assert not Attempt.objects.exists()
    assert "Sent on the first attempt." in read(admin_client, row)


@pytest.mark.parametrize("log_body", [True, False])
def test_the_answer_is_part_of_the_body(
    logged: Any, server: Any, user: Any, log_body: bool
) -> None:
    def refuse(handler: Any, body: bytes) -> None:
        say(400, {"message": "error", "errors": ["bad"], QUOTED: "hunter2"})(
            handler, body
        )

    server.answer = refuse
    logged.TURBOSMTP = {**logged.TURBOSMTP, "LOG": True, "LOG_BODY": log_body}
    row = send(new())
    assert ("hunter2" in row.tries.get().answer) is log_body
    may = user("view_message", "view_message_body")
    assert ("hunter2" in read(may, row)) is log_body
    text = read(user("view_message"), row)
    assert "Refused (HTTP 400)" in text
    # The message needed one request, so the attempt does not name its recipients.
    assert "(HTTP 400) Technical details" not in text
    assert "hunter2" not in text


def test_answers_are_pruned_with_bodies(settings: Any) -> None:
    settings.TURBOSMTP = {
        **WORLD.options,
        "RETENTION_DAYS": 100,
        "BODY_RETENTION_DAYS": 10,
    }
    for days in (9, 11, 101):
        Attempt.objects.create(
            message=make(days, subject=f"{days}"),
            position=0,
            began_at=timezone.now(),
            seconds=0.1,
            error="refused",
            answer="quoted",
        )
    call_command("turbosmtp_prune", verbosity=0)
    kept = Attempt.objects.order_by("message__subject")
    assert list(kept.values_list("message__subject", "error", "answer")) == [
        ("11", "refused", ""),
        ("9", "refused", "quoted"),
    ]


def test_tabs(logged: Any, sandbox: Sandbox, admin_client: Client) -> None:
    row = send(
        new(
            body="The text",
            headers={"X-Order": "2041"},
            alternatives=[("<p><img src='https://x.org/a.png'></p>", "text/html")],
        )
    )
    assert "Remote pictures are not loaded." in read(admin_client, row)
    assert "The text" in read(admin_client, row, tab="text")
    assert "X-Order 2041" in read(admin_client, row, tab="headers")
    assert '"reference_id"' in read(admin_client, row, tab="wire")
    assert "Remote pictures are not loaded." in read(admin_client, row, tab="nonsense")


def test_remote_pictures_are_only_mentioned_if_there_are_some(
    logged: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    row = send(new(alternatives=[("<a href='https://x.org/'>x</a>", "text/html")]))
    text = read(admin_client, row)
    assert "Remote pictures" not in text
    assert "HTML" in text


def test_without_html_the_text_is_first(
    logged: Any, sandbox: Sandbox, user: Any
) -> None:
    row = send(new(body="The text"))
    assert "The text" in read(user("view_message", "view_message_body"), row)
    text = read(user("view_message"), row)
    assert "To read the text of messages, you need the permission" in text
    assert "The text" not in text


def test_the_preview(
    logged: Any, sandbox: Sandbox, admin_client: Client, user: Any
) -> None:
    html = '<link rel="preconnect" href="//x"><p>Hi</p><img src="https://x/y.png">'
    row = send(new(alternatives=[(html, "text/html")]))
    url = reverse("admin:turbosmtp_message_preview", args=[row.pk])
    answer = admin_client.get(url)
    policy = answer["Content-Security-Policy"]
    for part in ("default-src 'none'", "img-src data:;", "sandbox", "form-action"):
        assert part in policy
    assert answer["X-Frame-Options"] == "SAMEORIGIN"
    assert b"<p>Hi</p>" in answer.content
    assert b"<link" not in answer.content
    remote = admin_client.get(url, {"pictures": "1"})["Content-Security-Policy"]
    assert "img-src data: https: http:;" in remote
    assert user("view_message").get(url).status_code == 403
    Content.objects.all().delete()
    assert admin_client.get(url).status_code == 404


@pytest.mark.parametrize("calendar", [False, True], ids=["fields", "mime"])
def test_inline_pictures(
    stored: Path,  # noqa: F811
    sandbox: Sandbox,
    admin_client: Client,
    monkeypatch: pytest.MonkeyPatch,
    calendar: bool,
) -> None:
    html = (
        '<img src="cid:logo@example.com"><b style="background:url(cid:two)">'
        '<img src="cid:gone">'
    )
    message = with_pictures(html, "logo@example.com", "two")
    message.attach("notes.txt", "Notes", "text/plain")
    if calendar:
        message.attach_alternative("BEGIN:VCALENDAR", "text/calendar")
    row = send(message)
    assert bool(row.why_mime) is calendar
    url = reverse("admin:turbosmtp_message_preview", args=[row.pk])
    first, second = (
        f"data:image/png;base64,{b64encode(PNG + bytes([number])).decode()}"
        for number in (0, 1)
    )
    shown = admin_client.get(url).text
    assert f'src="{first}"' in shown
    assert f"url({second})" in shown
    assert shown.count("data:") == 2
    assert "cid:gone" in shown
    # A page shows inline pictures only up to a total size.
    monkeypatch.setattr(preview, "_MAX_PICTURES", len(PNG) + 1)
    assert admin_client.get(url).text.count("data:") == 1
    kept = row.content.html
    Content.objects.update(html=html + '<img src="cid:two">' * 100)
    monkeypatch.setattr(preview, "_MAX_PICTURES", 10 * len(PNG))
    assert admin_client.get(url).text.count("data:") == 9
    Content.objects.update(html=kept)
    # Only pictures are shown, and only if their file exists.
    row.attachments.filter(position=0).update(type='image/x"onload=alert(1)')
    assert admin_client.get(url).text.count("data:") == 1
    row.attachments.get(position=1).stored.file.delete(save=False)  # type: ignore[union-attr]
    assert admin_client.get(url).text == row.content.html


def test_stored_attachments(
    stored: Path,  # noqa: F811
    sandbox: Sandbox,
    admin_client: Client,
    user: Any,
) -> None:
    page = ("a.html", "<script>alert(1)</script>", "text/html")
    row = send(new(attachments=[page]))
    url = reverse("admin:turbosmtp_message_attachment", args=[row.pk, 0])
    answer: Any = admin_client.get(url)
    assert b"".join(answer.streaming_content) == b"<script>alert(1)</script>"
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"] == 'attachment; filename="a.html"'
    assert user("view_message").get(url).status_code == 403
    assert (
        url
        not in user("view_message")
        .get(reverse("admin:turbosmtp_message_change", args=[row.pk]))
        .content.decode()
    )
    row.attachments.get().stored.file.delete(save=False)  # type: ignore[union-attr]
    assert admin_client.get(url).status_code == 404
    row.attachments.update(stored=None)
    assert admin_client.get(url).status_code == 404


def test_many_recipients_are_shown_in_pages(
    logged: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    row = send(new(to=[f"p{number}@example.org" for number in range(250)]))
    for page, first, last in (("1", 0, 99), ("2", 100, 199), ("3", 200, 249)):
        text = read(admin_client, row, r=page)
        assert f"p{first}@example.org" in text
        assert f"p{last}@example.org" in text
        assert f"p{last + 1}@example.org" not in text
    for page in ("0", "-1", "9", "x", "9" * 30, "٣"):
        assert read(admin_client, row, r=page)


@pytest.mark.parametrize("permissions", [(), ("view_message_body",)])
def test_few_queries(
    logged: Any, sandbox: Sandbox, user: Any, permissions: tuple[str, ...]
) -> None:
    row = send(
        new(alternatives=[("<p>x", "text/html")], attachments=[("a", "b", None)])
    )
    client = user("view_message", *permissions)
    for tab in ("html", "text", "headers", "wire"):
        with CaptureQueriesContext(connection) as captured:
            read(client, row, tab=tab)
        assert count_queries(captured) <= 10, [query["sql"] for query in captured]


def test_a_person(logged: Any, sandbox: Sandbox, admin_client: Client) -> None:
    sandbox.add_fault("400", match="Refused")
    send(
        new(subject="One", to=["Jane <Jane@Example.org>"], cc=["a@outside.org"]),
        new(subject="Refused", to=["jane@example.org"]),
        new(subject="Other", to=["mary-jane@example.org"]),
        recipient_guard=["example.org"],
    )
    html = admin_client.get(PERSON, {"address": " JANE@example.org"}).content.decode()
    text = " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())
    assert "2 messages" in text
    assert "✕ failed 1" in text
    assert "✓ sent 1" in text
    assert "One" in text
    assert "Refused" in text
    assert "Other" not in text
    html = admin_client.get(PERSON, {"address": "a@outside.org"}).content.decode()
    assert (
        "This recipient was left out: this site sends only to certain addresses."
        in html
    )
    for address in ("", " ", "nobody@x.org", "<script>", "\0"):
        answer = admin_client.get(PERSON, {"address": address})
        assert answer.status_code == 200
        assert b"<script>" not in answer.content.replace(b"<script src", b"")


def test_pages_and_queries_of_a_person(user: Any) -> None:
    client = user("view_message")
    for number in range(120):
        add(f"Message {number}", "jane@example.org")
    seen = []
    for page in ("1", "2", "3"):
        with CaptureQueriesContext(connection) as captured:
            answer = client.get(PERSON, {"address": "jane@example.org", "page": page})
        assert count_queries(captured) <= 10
        seen += [row["subject"] for row in answer.context["rows"]]
    assert seen == [f"Message {number}" for number in reversed(range(120))]
