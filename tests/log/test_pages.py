"""The dashboard, the exports and the test mail."""

from __future__ import annotations

import asyncio
import csv
import email
import email.policy
import io
import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from asgiref.sync import async_to_sync
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import number_format

from django_turbosmtp._lib.text import read_cell, write_cell
from django_turbosmtp._lib.times import make_aware
from django_turbosmtp.admin.dashboard import label_intervals, list_intervals
from django_turbosmtp.log.statistics import Rate
from django_turbosmtp.log.storable import Cleaner
from django_turbosmtp.models import Attachment, Message, Tag
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.statuses import Stage
from tests.log.surroundings import count_queries
from tests.log.test_detail import read, send
from tests.log.test_files import stored  # noqa: F401 - a fixture
from tests.log.test_list import LIST, add
from tests.messages import new
from tests.serving import say
from tests.worlds import WORLD, connection

#: The number of the column with the time. The checkboxes of the actions are column 0.
OLDEST_FIRST = "4"

pytestmark = pytest.mark.django_db


def tables(client: Client, period: str) -> dict[str, dict[str, list[int]]]:
    """Return the rows with numbers of each table of the dashboard."""
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(f"{LIST}dashboard/", {"period": period})
    assert count_queries(captured) <= 10
    return {
        table["name"]: {
            str(row["label"]): row["numbers"] for row in table["rows"] if row["total"]
        }
        for table in answer.context["tables"]
    }


def test_the_dashboard(admin_client: Client) -> None:
    now = timezone.now()
    ages = {"now": 0, "yesterday": 26, "last week": 24 * 8, "long ago": 24 * 40}
    for hours in ages.values():
        at = now - timedelta(hours=hours)
        add("a", created_at=at, campaign="order")
        add("b", created_at=at, status="failed", mailer="newsletter")
        add("c", created_at=at, status="invalid", campaign="welcome")
        row = add("d", created_at=at, status="unknown", tags=["order"])
        Tag.objects.create(message=row, name="order")
    day = tables(admin_client, "day")
    assert [sum(numbers) for numbers in zip(*day["times"].values(), strict=True)] == [
        1,
        2,
        1,
    ]
    assert day["mailers"] == {"(none)": [1, 1, 1], "newsletter": [0, 1, 0]}
    assert day["tags"] == {"order": [1, 0, 1], "welcome": [0, 1, 0]}
    week = tables(admin_client, "week")
    assert list(week["times"].values()) == [[1, 2, 1]] * 2
    month = tables(admin_client, "month")
    assert list(month["times"].values()) == [[1, 2, 1]] * 3
    assert month["tags"] == {"order": [3, 0, 3], "welcome": [0, 3, 0]}
    assert tables(admin_client, "nonsense") == day


def test_rates(admin_client: Client) -> None:
    url = f"{LIST}dashboard/"
    assert "Status reached" not in admin_client.get(url).content.decode()
    add("a", status="sent")
    assert "Status reached" not in admin_client.get(url).content.decode()
    reached = ("delivered", "scanned", "opened", "clicked", "bounced", "complained")
    for status in (*reached, "unsubscribed"):
        add("a", status=status)
    add("a", status="failed")
    add("a", status="rejected")
    html = admin_client.get(url).content.decode()
    found = re.findall(
        r'<th scope="row">([^<]*)</th><td>(\d+)</td><td>([\d.]+)</td>', html
    )
    assert found == [
        ("Delivered", "6", "75.0"),
        ("Opened", "3", "37.5"),
        ("Opened, including by machines", "4", "50.0"),
        ("Clicked", "1", "12.5"),
        ("Unsubscribed", "1", "12.5"),
        ("Complained", "1", "12.5"),
        ("Bounced", "1", "12.5"),
    ]


def test_an_empty_dashboard(admin_client: Client) -> None:
    for period in ("day", "week", "month"):
        assert tables(admin_client, period) == {"times": {}}


def test_days_begin_at_midnight_in_the_user_s_time_zone() -> None:
    zone = ZoneInfo("Europe/Berlin")
    # On 2026-10-25 clocks are set back by an hour.
    days = list_intervals("week", datetime(2026, 10, 27, 15, 30, tzinfo=zone))
    assert [day.start.day for day in days] == [21, 22, 23, 24, 25, 26, 27]
    assert {day.start.hour for day in days} == {0}
    hours = [(day.end.timestamp() - day.start.timestamp()) / 3600 for day in days]
    assert hours == [24, 24, 24, 24, 25, 24, 24]
    hours_of_day = list_intervals("day", datetime(2026, 5, 5, 15, 30, tzinfo=zone))
    assert len(hours_of_day) == 24
    assert hours_of_day[-1].end == datetime(2026, 5, 5, 16, tzinfo=zone)
    assert len(list_intervals("month", datetime(2026, 5, 5, tzinfo=zone))) == 30


@pytest.mark.parametrize(
    ("now", "labels"),
    [
        # On the last Sunday of October, one hour occurs twice.
        ("2026-10-25T04:30+01:00", ["1 a.m.", "2 a.m. CEST", "2 a.m. CET", "3 a.m."]),
        # In spring, one hour does not occur.
        ("2026-03-29T05:30+02:00", ["midnight", "1 a.m.", "3 a.m.", "4 a.m."]),
        ("2026-05-05T05:30+02:00", ["1 a.m.", "2 a.m.", "3 a.m.", "4 a.m."]),
    ],
)
def test_each_bar_is_an_hour_when_the_clocks_change(
    now: str, labels: list[str]
) -> None:
    zone = ZoneInfo("Europe/Berlin")
    with timezone.override(zone):
        hours = list_intervals("day", datetime.fromisoformat(now).astimezone(zone))
        found = label_intervals("day", hours)
    lengths = [(one.end - one.start).total_seconds() for one in hours]
    assert lengths == [3600] * 24
    assert found[-5:-1] == labels
    assert len(set(found)) == 24


@pytest.mark.parametrize(
    ("number", "total", "shown"), [(25, 175, "14.3"), (1, 400, "0.3"), (2, 2, "100.0")]
)
def test_percentages_are_rounded(number: int, total: int, shown: str) -> None:
    rate = Rate(stage=next(iter(Stage)), number=number, total=total)
    assert number_format(rate.percentage) == shown


def read_csv(client: Client, **query: str) -> list[dict[str, str]]:
    answer: Any = client.get(f"{LIST}export/", query)
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    text = b"".join(answer.streaming_content).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


def test_csv(logged: Any, sandbox: Sandbox, admin_client: Client) -> None:
    message: Any = new(subject="Grüße, 日本", to=["a@example.org", "b@example.org"])
    message.tags = ["orders", "shop"]
    row = send(message)
    [line] = read_csv(admin_client)
    assert line["id"] == str(row.pk)
    assert line["created_at"] == make_aware(row.created_at).isoformat()
    assert line["subject"] == "Grüße, 日本"
    assert line["tags"] == "orders, shop"
    assert (line["first_recipient"], line["recipient_count"]) == ("a@example.org", "2")
    assert (line["status"], line["mid"]) == ("sent", row.mid)


@pytest.mark.parametrize(
    "subject",
    [
        '=HYPERLINK("http://x")',
        "+1+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "  =1",
        "=1\n+2",
        "\xa0=1",
        "\ufeff=1",
        "\u200b=1",
        "\u2060 \u3000=1",
        '"=1',
        "a;=1",
        "a\t=1",
        "a\t \u200b@SUM(A1)",
        ";;+1",
        "\uff1d1",
    ],
)
def test_cells_are_not_formulas(admin_client: Client, subject: str) -> None:
    add(subject)
    [line] = read_csv(admin_client)
    unseen = ' \n\r\xa0\ufeff\u200b\u2060\u3000"'
    for separators in (",", ";", "\t", ";\t\n"):
        for cell in re.split(f"[{separators}]", line["subject"]):
            assert not cell.strip(unseen).startswith(tuple("=+-@\uff1d"))
    assert read_cell(line["subject"]) == subject
    assert line["subject"].replace("'", "") == subject


@pytest.mark.parametrize("text", ["Hello", "a;b", "it's", "'quoted'", "1=1", "a-b", ""])
def test_other_cells_are_unchanged(text: str) -> None:
    assert write_cell(text) == read_cell(text) == text


@pytest.mark.parametrize("order", [None, OLDEST_FIRST, f"-{OLDEST_FIRST}"])
def test_csv_in_parts(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch, order: str | None
) -> None:
    """Each message once and in order, also messages of the same moment."""
    monkeypatch.setattr("django_turbosmtp.admin.export._CHUNK", 7)
    now = timezone.now()
    rows = [
        add(f"{number}", created_at=now + timedelta(seconds=number // 10))
        for number in range(35)
    ]
    expected = sorted(rows, key=lambda row: (row.created_at, row.pk))
    if order != OLDEST_FIRST:
        expected.reverse()
    found = read_csv(admin_client, **({"o": order} if order else {}))
    assert [line["id"] for line in found] == [str(row.pk) for row in expected]


def test_csv_of_the_filtered_list(admin_client: Client) -> None:
    for number in range(120):
        add(f"Order {number:03}", status="failed" if number % 2 else "sent")
    add("Other", status="failed")
    found = read_csv(admin_client, q="order", group="failed", o=OLDEST_FIRST)
    assert [line["subject"] for line in found] == [
        f"Order {number:03}" for number in range(1, 120, 2)
    ]
    assert len(read_csv(admin_client, p="2")) == 121
    answer = admin_client.get(LIST, {"group": "failed"})
    assert "export/?group=failed" in answer.content.decode()
    assert admin_client.get(f"{LIST}export/", {"nonsense": "1"}).status_code == 400


def save(client: Client, row: Message) -> Any:
    answer = client.get(reverse("admin:turbosmtp_message_eml", args=[row.pk]))
    assert answer["Content-Type"] == "message/rfc822"
    assert answer["Content-Disposition"] == f'attachment; filename="{row.pk}.eml"'
    return email.message_from_bytes(answer.content, policy=email.policy.default)


def test_eml(
    stored: Path,  # noqa: F811
    sandbox: Sandbox,
    admin_client: Client,
) -> None:
    row = send(
        new(
            subject="Grüße ✓",
            body="Text",
            to=["Jäne <jane@example.org>"],
            headers={"X-Order": "2041", "Reply-To": "help@example.com"},
            alternatives=[("<p>Grüße</p>", "text/html")],
            attachments=[("ä.pdf", b"%PDF\xff", "application/pdf")],
        )
    )
    mail = save(admin_client, row)
    assert mail["Subject"] == "Grüße ✓"
    assert mail["To"] == "Jäne <jane@example.org>"
    assert (mail["X-Order"], mail["Reply-To"]) == ("2041", "help@example.com")
    assert mail["Date"].datetime == make_aware(row.created_at).replace(microsecond=0)
    assert mail.get_body(("plain",)).get_content().strip() == "Text"
    assert mail.get_body(("html",)).get_content().strip() == "<p>Grüße</p>"
    [part] = mail.iter_attachments()
    assert (part.get_filename(), part.get_content()) == ("ä.pdf", b"%PDF\xff")
    assert "not byte for byte" in mail["X-Turbosmtp-Log"]
    row.attachments.update(stored=None)
    mail = save(admin_client, row)
    assert list(mail.iter_attachments()) == []
    assert "ä.pdf" in mail["X-Turbosmtp-Log"]


@pytest.mark.parametrize(
    "fields",
    [
        {"to": ["nobody"]},
        {"to": ["a@b@c", "x y z"], "subject": "a\nBcc: evil@example.org"},
        {"from_email": "<<<", "headers": {"X\r\nEvil": "1", "Ok": "a\nEvil: 1"}},
        {"to": [], "bcc": ["a@example.org", "b@example.org"]},
        {"body": "", "alternatives": [("<p>x", "text/html")]},
    ],
)
def test_eml_of_every_kind_of_message(
    logged: Any, sandbox: Sandbox, admin_client: Client, fields: dict[str, Any]
) -> None:
    mail = save(admin_client, send(new(**fields)))
    assert mail["Evil"] is None
    assert "evil@example.org" not in str(mail["Bcc"])


def test_eml_of_mime_is_that_mime(
    server: Any, settings: Any, admin_client: Client
) -> None:
    settings.TURBOSMTP = {**settings.TURBOSMTP, "LOG": True}
    server.answer = say(400, {"message": "error"})
    row = send(new(headers={"To": "The list <list@example.com>"}))
    mime = json.loads(server.seen[0][2])["mime_raw"]
    url = reverse("admin:turbosmtp_message_eml", args=[row.pk])
    assert admin_client.get(url).content == mime.encode()


def test_eml_needs_the_permission_for_bodies(
    logged: Any, sandbox: Sandbox, user: Any, admin_client: Client
) -> None:
    row = send(new())
    url = reverse("admin:turbosmtp_message_eml", args=[row.pk])
    assert user("view_message").get(url).status_code == 403
    assert "Save as .eml" not in read(user("view_message"), row)
    row.content.delete()
    assert admin_client.get(url).status_code == 404


def test_a_test_mail(logged: Any, sandbox: Sandbox, admin_client: Client) -> None:
    url = f"{LIST}test/"
    html = admin_client.get(url).content.decode()
    assert 'value="admin@example.com"' in html
    assert not sandbox.messages
    answer = admin_client.post(url, {"to": "me@example.org", "mailer": "default"})
    row = Message.objects.get()
    assert answer["Location"] == reverse(
        "admin:turbosmtp_message_change", args=[row.pk]
    )
    assert (row.campaign, row.outcome) == ("test", "accepted")
    [arrived] = sandbox.messages
    assert arrived.mid == row.mid
    for wrong in ("", "nobody", "a@b", "a@example.org\nBcc: b@example.org"):
        answer = admin_client.post(url, {"to": wrong, "mailer": "default"})
        assert answer.status_code == 200
        assert b"errorlist" in answer.content
    assert len(sandbox.messages) == 1


def test_a_failed_test_mail_shows_the_reason(
    logged: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    sandbox.add_fault("nocredit")
    data = {"to": "me@example.org", "mailer": "default"}
    answer = admin_client.post(f"{LIST}test/", data, follow=True)
    text = answer.content.decode()
    assert "nocredit" in text
    assert "The turboSMTP account has no credit left." in text
    logged.TURBOSMTP = {**WORLD.options, "CONSUMER_KEY": "only"}
    answer = admin_client.post(f"{LIST}test/", data, follow=True)
    assert answer.status_code == 200
    assert not sandbox.messages


def test_a_test_mail_needs_its_permission(
    logged: Any, sandbox: Sandbox, user: Any
) -> None:
    data = {"to": "me@example.org", "mailer": "default"}
    for client in (user("view_message", "view_message_body"), user("resend_message")):
        assert client.get(f"{LIST}test/").status_code == 403
        assert client.post(f"{LIST}test/", data).status_code == 403
    assert not sandbox.messages
    assert "test/" not in user("view_message").get(LIST).content.decode()


@pytest.mark.django_db(transaction=True)
def test_csv_is_streamed_under_asgi(admin_client: Client) -> None:
    """The first lines are sent before the last ones are read."""
    Message.objects.bulk_create(
        Message(
            created_at=timezone.now(), status="sent", reference_id=str(n), api_version=2
        )
        for n in range(2500)
    )
    cookie = "; ".join(f"{name}={m.value}" for name, m in admin_client.cookies.items())
    sent: list[tuple[int, int]] = []

    events = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        for event in events:
            return event
        # The client does not disconnect; the handler cancels this task at the end.
        return await asyncio.get_running_loop().create_future()

    # The connection of this thread, because the event loop runs in another one.
    with CaptureQueriesContext(connections[WORLD.alias]) as captured:

        async def take(event: dict[str, Any]) -> None:
            reads = [q for q in captured.captured_queries if "LIMIT" in q["sql"]]
            sent.append((event.get("body", b"").count(b"\r\n"), len(reads)))

        scope = {
            "type": "http",
            "method": "GET",
            "path": f"{LIST}export/",
            "query_string": b"",
            "headers": [(b"host", b"testserver"), (b"cookie", cookie.encode())],
        }

        async_to_sync(ASGIHandler())(scope, receive, take)
    lines = [lines for lines, _ in sent if lines]
    assert sum(lines) == 2501
    reads = [reads for lines, reads in sent if lines]
    assert reads[0] < reads[-1]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/calendar", "MIME-Version": "2.0"},
        {"Message-ID": "<" + "x" * 2000 + "@" + "y" * 2000},
        {"From": "\u2028,;:<>@[", "Reply-To": "=?utf-8?q?=0A?=", "X": "\ud800"},
        {"X-\u00e9": "a", "": "b", "X Y": "c", "X:Y": "d", "Date": "yesterday"},
        {"Sender": "((((", "To": "group: a@b, ;", "Cc": "\x00"},
        {"Content-Transfer-Encoding": "8bit", "X-A": ["a", 1, None]},
    ],
)
@pytest.mark.parametrize("kind", ["text/plain", "a b/c\nd", "\u00e9/\u00e9", "x"])
def test_eml_of_unusual_rows(
    kind: str,
    headers: dict[str, Any],
    stored: Path,  # noqa: F811
    admin_client: Client,
    sandbox: Any,
) -> None:
    row = send(new(subject="Subject", attachments=[("a.bin", b"bytes", "text/x")]))
    Message.objects.update(headers=Cleaner().clean_json(headers))
    Attachment.objects.update(type=kind)
    answer = admin_client.get(f"{LIST}{row.pk}/eml/")
    assert answer.status_code == 200
    mail = email.message_from_bytes(answer.content, policy=email.policy.default)
    assert b"Body" in answer.content
    assert [part.get_content() for part in mail.iter_attachments()] in (
        [b"bytes"],
        ["bytes"],
    )


class StorageError(Exception):
    """An exception of a third-party storage, such as boto's ClientError."""


def test_a_storage_that_fails_is_explained(
    stored: Path,  # noqa: F811
    admin_client: Client,
    sandbox: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = send(new(attachments=[("a.bin", b"bytes", "text/x")]))

    def fail(*_: Any, **__: Any) -> Any:
        raise StorageError

    monkeypatch.setattr("django.core.files.storage.FileSystemStorage.open", fail)
    assert admin_client.get(f"{LIST}{row.pk}/attachments/0/").status_code == 404
    answer = admin_client.get(f"{LIST}{row.pk}/eml/")
    assert answer.status_code == 200
    assert b"Attachments not stored: a.bin" in answer.content


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff", b'{"mime_raw": 5}', b"null"])
def test_a_damaged_payload_is_explained(
    data: bytes, logged: Any, admin_client: Client, sandbox: Sandbox
) -> None:
    sandbox.add_fault("400")
    message = new()
    message.attach_alternative("BEGIN:VCALENDAR", "text/calendar")
    row = send(message)
    row.payload.update(data=data)
    assert admin_client.get(f"{LIST}{row.pk}/eml/").status_code == 200
    form = {"decision": 0, "to": 0}
    answer = admin_client.post(f"{LIST}{row.pk}/resend/", form, follow=True)
    assert "damaged and cannot be sent again" in answer.text
    assert sandbox.total_accepted == 0
    assert Message.objects.count() == 1
