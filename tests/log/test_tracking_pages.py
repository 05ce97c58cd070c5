"""Events on the pages of the admin."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.utils.html import strip_tags

from django_turbosmtp.models import Event, Message, Suppression
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.signals import tracking
from tests.log.posting import (
    build,
    send,
    tell,
)
from tests.messages import new

pytestmark = pytest.mark.django_db


class TestPages:
    @pytest.mark.parametrize("api_version", [2])
    def test_the_events_of_a_message(
        self, tracked: Any, sandbox: Sandbox, user: Any
    ) -> None:
        [row] = send(new(to=["jane@example.org"]))
        reason = {"0": "x", "response": "452 4.2.2 <b>mailbox full"}
        tell(
            build("OPENED", row, useragent="Mozilla/5.0 (iPhone)", subject="Secret"),
            build("DEFERRED", row, timestamp=1_700_000_000, reason="450 wait"),
            build("BOUNCED", row, reason=reason),
        )
        client = user("view_message")
        url = f"/admin/turbosmtp/message/{row.pk}/change/"
        text = client.get(url).text
        # In order of time, as sentences, with the server's answers.
        places = [
            text.index("has not accepted it yet; turboSMTP will try again"),
            text.index("It was opened.", text.index("Delivery events")),
            text.index("refused it: it did not arrive. The mailbox is full."),
        ]
        assert places == sorted(places)
        assert "450 wait" in text
        assert "452 4.2.2 &lt;b&gt;mailbox full" in text
        assert "Mozilla/5.0 (iPhone)" in text
        # The raw event contains the subject, so it needs the permission for bodies.
        assert "Raw event" not in text
        full = user("view_message", "view_message_body")
        assert "Raw event" in full.get(url).text

    @pytest.mark.parametrize("api_version", [2])
    def test_the_events_of_one_of_several_recipients(
        self, tracked: Any, sandbox: Sandbox, admin_client: Any
    ) -> None:
        [row] = send(new(to=["jane@x.org", "bob@x.org"]))
        tell(
            build("OPENED", row, email="jane@x.org"),
            build("BOUNCED", row, email="bob@x.org", reason="550 5.1.1 nobody"),
        )
        url = f"/admin/turbosmtp/message/{row.pk}/change/"
        text = admin_client.get(url).text
        assert "It was opened." in text
        assert "550 5.1.1 nobody" in text
        assert 'href="?r=1&amp;of=bob%40x.org#turbosmtp-events"' in text
        hers = admin_client.get(f"{url}?r=1&of=BOB@x.org").text
        assert "550 5.1.1 nobody" in hers
        assert "Only the events of bob@x.org." in hers
        assert "It was opened." not in hers
        nobody = admin_client.get(f"{url}?of=<b>%00").text
        assert "turboSMTP has not reported any events yet." in nobody
        assert "<b>" not in nobody

    @pytest.mark.parametrize("api_version", [2])
    def test_only_the_latest_events_are_shown(
        self, tracked: Any, sandbox: Sandbox, admin_client: Any
    ) -> None:
        [row] = send(new(to=["jane@x.org"]))
        urls = [f"https://x.org/{number}." for number in range(203)]
        tell(*(build("CLICKED", row, url=url) for url in urls))
        text = admin_client.get(f"/admin/turbosmtp/message/{row.pk}/change/").text
        assert "Only the latest 200 events are shown." in text
        shown = [url for url in urls if f'<bdi dir="ltr">{url}</bdi>' in text]
        assert shown == urls[3:]

    @pytest.mark.parametrize("api_version", [2])
    def test_the_events_of_a_person(
        self, tracked: Any, sandbox: Sandbox, admin_client: Any
    ) -> None:
        send(new(to=["jane@x.org", "bob@x.org"]), new(to=["jane@x.org"], subject="2"))
        first, second = Message.objects.order_by("created_at", "id")
        tell(
            build("OPENED", first, email="jane@x.org", timestamp=1_790_000_002),
            build("DELIVERED", first, email="jane@x.org", timestamp=1_790_000_001),
            build("BOUNCED", first, email="bob@x.org"),
            build("CLICKED", second, email=None),
        )
        context = admin_client.get(
            "/admin/turbosmtp/message/person/", {"address": "Jane@x.org"}
        ).context
        told = [
            [strip_tags(step["status"]).split()[-1] for step in shown["story"]]
            for shown in context["rows"]
        ]
        assert told == [["clicked"], ["delivered", "opened"]]

    def test_the_list_and_its_filters(
        self, tracked: Any, sandbox: Sandbox, admin_client: Client
    ) -> None:
        first, second, third = send(new(), new(), new(), max_connections=1)
        tell(build("DELIVERED", first), build("BOUNCED", second))
        url = "/admin/turbosmtp/message/"
        for group, row in {
            "delivered": first,
            "bounced": second,
            "sent": third,
        }.items():
            text = admin_client.get(url, {"group": group}).text
            shown = [r.pk for r in (first, second, third) if str(r.pk) in text]
            assert shown == [row.pk], group
        tell(build("DROPPED", third))
        attention = admin_client.get(url, {"attention": "yes"}).context["cl"]
        assert list(attention.result_list) == [third, second]

    def test_a_person(self, tracked: Any, sandbox: Sandbox, admin_client: Any) -> None:
        [row] = send(new(to=["jane@example.org", "joe@example.org"]))
        tell(
            build("DROPPED", row, email="joe@example.org"),
            build("CLICKED", row, email="jane@example.org"),
        )
        url = "/admin/turbosmtp/message/person/"
        text = admin_client.get(url, {"address": "jane@example.org"}).text
        assert "A link in it was clicked." in text
        text = admin_client.get(url, {"address": "joe@example.org"}).text
        assert "turboSMTP did not send it." in text


def hide_tokens(text: str, field: str) -> str:
    return re.sub(r"(/reset/)[\w-]+", r"\1...", text)


def test_events_are_redacted_as_messages_are(
    tracked: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    link = "https://x.org/reset/secret-token"
    tracked.TURBOSMTP |= {"LOG_REDACT": hide_tokens}
    told: list[Any] = []

    def receive(event: Any, **kwargs: Any) -> None:
        told.append(event.click_url)

    tracking.connect(receive)
    try:
        [row] = send(new(body=f"Go to {link}"))
        tell(
            build("CLICKED", row, url=link, extra={"deep": [link]}),
            build("BOUNCED", row, reason=f"550 5.1.1 no such user {link}"),
            build("CLICKED", url=link),
            [link],  # type: ignore[arg-type]
        )
    finally:
        tracking.disconnect(receive)
    stored = str(list(Event.objects.values())) + str(list(Suppression.objects.values()))
    assert "secret-token" not in stored
    assert stored.count("/reset/...") >= 6
    assert row.recipients.get().status == "clicked"  # type: ignore[attr-defined]
    # The site's code receives the link.
    assert link in told
    page = admin_client.get(f"/admin/turbosmtp/message/{row.pk}/change/")
    assert "secret-token" not in page.text


def test_a_redaction_that_fails_stores_nothing(
    tracked: Any, sandbox: Sandbox, caplog: Any
) -> None:
    def fail(text: str, field: str) -> str:
        raise ZeroDivisionError

    tracked.TURBOSMTP |= {"LOG_REDACT": fail}
    tell(build("CLICKED", url="https://x.org/secret"))
    assert "secret" not in str(list(Event.objects.values()))
    assert "LOG_REDACT failed for a message's click_url" in caplog.text
