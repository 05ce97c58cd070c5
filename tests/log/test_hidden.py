"""Messages that a site's ``get_queryset()`` excludes are hidden on every page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from django_turbosmtp.admin import MessageAdmin
from django_turbosmtp.models import Message, Resend, Tag
from django_turbosmtp.sandbox import Sandbox
from tests.log.posting import build, tell
from tests.log.test_detail import send
from tests.log.test_list import LIST
from tests.messages import new

pytestmark = pytest.mark.django_db


@pytest.fixture
def restricted(monkeypatch: pytest.MonkeyPatch, tracked: Any) -> None:
    """Shows only messages whose subject begins with "Shown"."""
    everything = MessageAdmin.get_queryset

    def get_queryset(self: Any, request: Any) -> Any:
        return everything(self, request).filter(subject__startswith="Shown")

    monkeypatch.setattr(MessageAdmin, "get_queryset", get_queryset)


def make(subject: str, tags: list[str], mailer: str) -> Message:
    message: Any = new(subject=subject, to=[f"{mailer}@example.org"])
    message.tags = tags
    row = send(message)
    Message.objects.filter(pk=row.pk).update(mailer=mailer)
    row.refresh_from_db()
    return row


@pytest.fixture
def rows(sandbox: Sandbox, tracked: Any) -> tuple[Message, Message]:
    shown = make("Shown", ["open", "both"], "shop")
    make("Shown too", ["open"], "news")
    hidden = make("Secret", ["secret-campaign", "secret-tag", "both"], "secret-mailer")
    tell(build("OPENED", hidden, email="secret-mailer@example.org"))
    for message, original in ((shown, hidden), (hidden, shown)):
        Resend.objects.create(message=message, original=original)
    return shown, hidden


@pytest.mark.parametrize(
    "page",
    [
        LIST,
        f"{LIST}?tag=both",
        f"{LIST}?q=secret-mailer@example.org",
        f"{LIST}dashboard/",
        f"{LIST}dashboard/?period=month",
        f"{LIST}person/?address=secret-mailer@example.org",
        f"{LIST}export/",
        "change",
    ],
)
def test_nothing_hidden_is_shown(
    page: str, rows: Any, restricted: None, admin_client: Client
) -> None:
    shown, hidden = rows
    url = f"{LIST}{shown.pk}/change/" if page == "change" else page
    answer = admin_client.get(url)
    assert answer.status_code == 200
    text = b"".join(answer) if answer.streaming else answer.content
    words = text.decode()
    if "person" in page or "q=" in page:
        words = re.sub("secret-mailer(@|%40)example.org", "", words)
    for secret in ("Secret", "secret-", str(hidden.pk)):
        assert secret not in words
    if page == LIST:
        assert "open" in words
        assert "both" in words


def test_filters_offer_values_of_visible_messages(
    rows: Any, restricted: None, admin_client: Client
) -> None:
    text = admin_client.get(LIST).text
    for name in ("tag=open", "tag=both", "mailer=name%3Ashop", "mailer=name%3Anews"):
        assert name in text
    assert Tag.objects.filter(name="secret-tag").exists()


@pytest.mark.parametrize("view", ["change", "preview", "eml", "resend", "history"])
def test_a_hidden_message_is_not_found(
    view: str, rows: Any, restricted: None, admin_client: Client
) -> None:
    _shown, hidden = rows
    missing = "01a21fc9-a3d2-7e95-baf9-3fc83fb1d9f9"
    answers = [
        admin_client.get(f"{LIST}{pk}/{view}/", follow=True)
        for pk in (hidden.pk, missing)
    ]
    assert answers[0].status_code == answers[1].status_code
    first, second = (
        re.sub('name="csrfmiddlewaretoken" value="[^"]*"', "", answer.text).replace(
            str(pk), ""
        )
        for answer, pk in zip(answers, (hidden.pk, missing), strict=True)
    )
    assert first == second
