"""The list of messages: columns, search and filters, in few queries."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache.backends.dummy import DummyCache
from django.db import transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_turbosmtp.admin.caching import count_cached
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.log import querysets
from django_turbosmtp.models import Message, Recipient, Tag
from django_turbosmtp.sandbox import Sandbox
from tests.log.surroundings import count_queries
from tests.messages import new
from tests.worlds import WORLD, connection


class BrokenCache(DummyCache):
    """A cache whose server is down."""

    def get(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError


pytestmark = pytest.mark.django_db

LIST = "/admin/turbosmtp/message/"


def add(subject: str, *addresses: str, **fields: Any) -> Message:
    """Write a row as the log does."""
    fields = {"created_at": timezone.now(), "status": "sent"} | fields
    message = Message.objects.create(
        subject=subject, reference_id=subject, api_version=2, **fields
    )
    for position, address in enumerate(addresses or ("a@example.org",)):
        Recipient.objects.create(
            message=message, position=position, kind="to", address=address
        )
    return message


def ask(client: Client, **query: str) -> list[str]:
    """Return the subjects that the list shows, in order."""
    answer = client.get(LIST, query)
    assert answer.status_code == 200
    return [row.subject for row in answer.context["cl"].result_list]


def oldest_first(client: Client) -> str:
    """Return the value of ``o`` that sorts by time in reverse."""
    return str(client.get(LIST).context["cl"].list_display.index("time_shown"))


@pytest.fixture(params=["few", "many"])
def regime(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the query for few matches and the query for many, for any number of rows."""
    if request.param == "many":
        monkeypatch.setattr(querysets, "FEW", 0)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"group": "sent"}, ["sent"]),
        ({"group": "failed"}, ["rejected", "invalid", "failed"]),
        ({"group": "unknown"}, ["unknown"]),
        ({"group": "pending"}, ["stuck", "queued", "sending"]),
        ({"group": "cancelled"}, ["cancelled"]),
        ({"group": "nonsense"}, []),
        ({"attention": "yes"}, ["stuck", "unknown", "invalid", "failed"]),
        ({"attention": "yes", "group": "unknown"}, ["unknown"]),
    ],
)
def test_status(admin_client: Client, query: dict[str, str], found: list[str]) -> None:
    for number, status in enumerate(
        [
            "sending",
            "queued",
            "sent",
            "failed",
            "invalid",
            "rejected",
            "unknown",
            "cancelled",
        ]
    ):
        at = timezone.now() + timedelta(seconds=number - 60)
        add(status, status=status, created_at=at)
    add("stuck", status="sending", created_at=timezone.now() - timedelta(hours=1))
    assert sorted(ask(admin_client, **query)) == sorted(found)


def test_period(admin_client: Client) -> None:
    for days in (0, 2, 8, 40, 100):
        add(f"{days}", created_at=timezone.now() - timedelta(days=days, hours=1))
    assert ask(admin_client, period="day") == ["0"]
    assert ask(admin_client, period="week") == ["0", "2"]
    assert ask(admin_client, period="month") == ["0", "2", "8"]
    assert ask(admin_client, period="quarter") == ["0", "2", "8", "40"]
    assert ask(admin_client, period="nonsense") == []
    assert ask(admin_client, o=oldest_first(admin_client)) == [
        "100",
        "40",
        "8",
        "2",
        "0",
    ]


def test_filter_by_tag(
    logged: Any, sandbox: Sandbox, admin_client: Client, regime: None
) -> None:
    for subject, tags in {
        "one": ["orders"],
        "two": ["shop", "orders"],
        "three": ["shop", "Orders and more"],
        "none": [],
    }.items():
        message: Any = new(subject=subject)
        message.tags = tags
        EmailBackend().send_messages([message])
    assert ask(admin_client, tag="orders") == ["two", "one"]
    assert ask(admin_client, tag="shop") == ["three", "two"]
    assert ask(admin_client, tag="Orders and more") == ["three"]
    assert ask(admin_client, tag="nothing\0") == []
    assert sorted(Tag.objects.values_list("name", flat=True)) == [
        "Orders and more",
        "orders",
    ]
    html = admin_client.get(LIST).content.decode()
    for tag in ("orders", "shop", "Orders+and+more"):
        assert f"?tag={tag}" in html


def test_mailers(admin_client: Client) -> None:
    add("one")
    assert "?mailer=" not in admin_client.get(LIST).content.decode()
    add("two", mailer="newsletter")
    html = admin_client.get(LIST).content.decode()
    assert "?mailer=name%3Anewsletter" in html
    assert "column-mailer_shown" in html
    assert ask(admin_client, mailer="name:newsletter") == ["two"]
    assert ask(admin_client, mailer="name:") == ["one"]


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("your order", ["Your  Order 2", "YOUR ORDER 1"]),
        ("Your Order 2", ["Your  Order 2"]),
        ("order", []),
        ("straße", ["Straße"]),
        ("STRASSE", ["Straße"]),
        ("Заказ", ["ЗАКАЗ 5"]),
        ("100%", ["100% off"]),
        ("1_0", []),
        ("jane@example.org", ["Your  Order 2"]),
        ("JANE@example.org ", ["Your  Order 2"]),
        ("\0", []),
    ],
)
def test_search(
    admin_client: Client, regime: None, term: str, found: list[str]
) -> None:
    for number, subject in enumerate(
        ["YOUR ORDER 1", "Your  Order 2", "Straße", "ЗАКАЗ 5", "100% off", "1x0"]
    ):
        at = timezone.now() + timedelta(seconds=number)
        to = "jane@example.org" if number == 1 else "a@example.org"
        add(subject, to, created_at=at, mid=f"{number}" * 5)
    if term != "\0":
        assert ask(admin_client, q=term) == found


@pytest.mark.parametrize(
    "term",
    [
        "jane@xn--bcher-kva.example",
        "Jane@Bücher.example",
        "Jane Doe <jane@bücher.example>",
        '"Doe, Jane" <JANE@xn--bcher-kva.example>',
    ],
)
@pytest.mark.parametrize("local", ["jane", "jäne"])
def test_search_in_any_spelling(
    admin_client: Client,
    logged: Any,
    sandbox: Sandbox,
    regime: None,
    term: str,
    local: str,
) -> None:
    """Also addresses of refused messages: turboSMTP accepts no Unicode local part."""
    term = term.replace("jane@", f"{local}@").replace("Jane@", f"{local}@")
    term = term.replace("JANE@", f"{local.upper()}@")
    message = new(subject="Found", to=[f"Jane <{local}@BÜCHER.example>"])
    EmailBackend(fail_silently=True).send_messages([message])
    assert ask(admin_client, q=term) == ["Found"]
    page = admin_client.get(LIST + "person/", {"address": term})
    assert [row["subject"] for row in page.context["rows"]] == ["Found"]
    assert page.context["address"] == f"{local}@xn--bcher-kva.example"


def test_search_for_a_longer_address_than_a_column_holds(
    admin_client: Client, logged: Any, sandbox: Sandbox
) -> None:
    long = f"jane@{'x' * 400}.example"
    message = new(subject="Found", to=["to@example.org", long, "nobody"])
    EmailBackend(fail_silently=True).send_messages([message])
    assert Message.objects.get().altered == ["recipients"]
    assert ask(admin_client, q=long.upper()) == ["Found"]


def test_search_with_filters(admin_client: Client, regime: None) -> None:
    add("Your order", "jane@example.org", status="failed", campaign="order")
    add("Your order", "jane@example.org", campaign="order")
    add("Welcome", "jane@example.org", status="failed")
    query = {"q": "jane@example.org", "group": "failed", "tag": "order"}
    assert ask(admin_client, **query, period="day") == ["Your order"]


def test_messages_are_ordered_by_time(admin_client: Client) -> None:
    for hours in (3, 1, 2):
        add(f"{hours}", created_at=timezone.now() - timedelta(hours=hours))
    assert ask(admin_client) == ["1", "2", "3"]
    assert ask(admin_client, o=oldest_first(admin_client)) == ["3", "2", "1"]


def test_a_status_is_a_word_with_an_icon(admin_client: Client) -> None:
    add(
        "one",
        status="failed",
        outcome="refused",
        error="turboSMTP answered 400: x",
        error_class="NoCredit",
    )
    html = admin_client.get(LIST).content.decode()
    assert '<span aria-hidden="true">✕</span> failed' in html
    assert "The turboSMTP account has no credit left." in html
    # The text of the exception is in English, and for developers.
    assert "turboSMTP answered 400" not in html
    add("two", status="rejected", outcome="suppressed")
    html = admin_client.get(LIST).content.decode()
    assert (
        "It was not sent: all of its recipients are suppressed or not allowed." in html
    )
    assert "<time datetime=" in html


@pytest.mark.parametrize(
    ("query", "most"),
    [
        ({}, 6),
        ({"q": "a@example.org"}, 7),
        ({"q": "Your"}, 7),
        ({"tag": "order", "group": "failed", "period": "day"}, 7),
        ({"tag": "order", "attention": "yes", "q": "Your"}, 8),
    ],
)
def test_few_queries(
    admin_client: Client, user: Any, query: dict[str, str], most: int, regime: None
) -> None:
    """Two more for a user who is not a superuser: Django looks up the permissions."""
    for _ in range(60):
        add("Your order", campaign="order", status="failed")
    for client, more in ((admin_client, 0), (user("view_message"), 2)):
        with CaptureQueriesContext(connection) as captured:
            assert len(ask(client, **query)) == 50
        assert count_queries(captured) <= most + more


#: In a plan: a table that is read completely, or a query for each row.
WALKS = {
    "sqlite": "SCAN turbosmtp_",
    "postgresql": "Seq Scan on turbosmtp_",
    "mysql": "DEPENDENT",
}


@pytest.mark.parametrize(
    "find",
    [
        lambda rows: querysets.search(rows, "a7@example.org"),
        lambda rows: querysets.search(rows, "order 7"),
        lambda rows: querysets.filter_address(rows, "a7@example.org", count=1),
        lambda rows: querysets.filter_tag(rows, "tag7"),
        lambda rows: querysets.filter_group(rows, "failed"),
    ],
    ids=["address", "subject", "person", "tag", "group"],
)
def test_rare_values_are_found_by_an_index(admin_client: Client, find: Any) -> None:
    for number in range(200):
        row = add(f"Order {number}", f"a{number}@example.org")
        Tag.objects.create(message=row, name=f"tag{number}")
    with transaction.atomic(using=WORLD.alias), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # With few rows, the database would read all of them.
            cursor.execute("SET LOCAL enable_seqscan = off")
        plan = (
            find(Message.objects.using(WORLD.alias)).order_by().values("pk").explain()
        )
    assert WALKS[connection.vendor] not in plan


def test_the_list_has_no_long_columns(admin_client: Client) -> None:
    add("one")
    with CaptureQueriesContext(connection) as captured:
        ask(admin_client)
    text = " ".join(query["sql"] for query in captured)
    assert '"metadata"' not in text.replace("`", '"')


def test_slow_counts_are_cached(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_turbosmtp.admin.caching.WORTH_CACHING", 0.2)
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    }
    counted: list[int] = []

    def count() -> int:
        counted.append(1)
        if len(counted) > 1:
            time.sleep(0.25)
        return len(counted)

    # A fast count is not cached.
    assert [count_cached("x", count), count_cached("x", count)] == [1, 2]
    # A slow count is cached.
    assert [count_cached("x", count), count_cached("x", count)] == [2, 2]
    assert count_cached("y", count) == 3


def test_a_failing_cache_is_harmless(
    settings: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "tests.log.test_list.BrokenCache"},
    }
    monkeypatch.setattr("django_turbosmtp.admin.caching.WORTH_CACHING", 0)
    assert count_cached("x", lambda: 5) == 5
    assert "The cache could not be" in caplog.text


@pytest.mark.parametrize(
    "query",
    [
        {"subject__regex": "(a+)+$"},
        {"created_at__year": "-1"},
        {"id__range": ""},
        {"metadata__order__regex": "(a+)+$"},
        {"recipients__address__iregex": "(a+)+$"},
        {"status__exact": "sent\0"},
    ],
)
@pytest.mark.parametrize("page", [LIST, f"{LIST}export/"])
def test_other_lookups_are_refused(
    page: str, query: dict[str, str], admin_client: Client
) -> None:
    add("a" * 30 + "b", "a@x.org")
    assert admin_client.get(page, query).status_code in {302, 400}


@pytest.mark.parametrize(
    "query",
    [
        *({name: "a\0b"} for name in ("q", "tag", "group", "mailer", "attention")),
        *({name: "a\0b"} for name in ("period", "p", "o", "e", "all")),
    ],
)
def test_a_null_character_in_the_url(
    query: dict[str, str], admin_client: Client
) -> None:
    add("A", "a@x.org")
    assert admin_client.get(LIST, query).status_code in {200, 302}
