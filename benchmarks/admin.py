"""Measure the pages of the log, with ten thousand and a million messages.

``python3 benchmarks/admin.py`` fills a new database, requests every page as a browser
does, and prints the median time and the number of queries. It needs this package:
``pip install -e .``.

``--database``: a file for SQLite, or ``postgresql://user@host:port/name`` (or
``mysql://`` for MariaDB), which must exist and be empty. A database that this command
has already filled is not filled again.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Messages have one recipient, two or three: two on average.
RECIPIENTS = (1, 2, 3)
#: A recipient of every message with three recipients.
ARCHIVE = "archive@example.com"
PEOPLE = 5  # Messages for each address.
DAYS = 365
CHUNK = 5_000
TIMES = 11

#: The number of messages with each status, of a hundred messages.
STATUSES = {
    "sent": 14,
    "delivered": 55,
    "opened": 17,
    "clicked": 5,
    "bounced": 3,
    "failed": 3,
    "unknown": 2,
    "invalid": 1,
}
OUTCOMES = {"unknown": "unknown", "failed": "refused", "invalid": "refused"}
#: The events of the first recipient that lead to each status.
TOLD = {
    "delivered": ("delivered",),
    "opened": ("delivered", "opened"),
    "clicked": ("delivered", "opened", "clicked"),
    "bounced": ("bounced",),
}
CAMPAIGNS = ("", "order", "welcome", "newsletter", "reset")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--database", help="where, instead of a temporary file")
    parser.add_argument("--times", type=int, default=TIMES, help="ask for each page")
    options = parser.parse_args()
    if options.database and len(options.messages) > 1:
        parser.error("--database allows only one number of --messages")
    if len(options.messages) > 1:
        # A process for each database, because Django reads settings once.
        import subprocess

        for count in options.messages:
            command = [sys.executable, __file__, "--messages", str(count)]
            command += ["--times", str(options.times)]
            subprocess.run(command, check=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        database = options.database or str(Path(folder) / "log.sqlite3")
        _configure(database)
        _measure(options.messages[0], options.times)


def _configure(database: str) -> None:
    import django
    from django.conf import settings

    parts = urlsplit(database)
    engine = (
        {
            "ENGINE": f"django.db.backends.{parts.scheme}",
            "NAME": parts.path.strip("/"),
            "USER": parts.username,
            "HOST": parts.hostname,
            "PORT": parts.port,
        }
        if parts.scheme in {"postgresql", "mysql"}
        else {"ENGINE": "django.db.backends.sqlite3", "NAME": database}
    )
    settings.configure(
        DATABASES={"default": engine},
        SECRET_KEY="benchmark",
        ALLOWED_HOSTS=["testserver"],
        USE_TZ=True,
        STATIC_URL="static/",
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
            "django_turbosmtp",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        TURBOSMTP={},
    )
    django.setup()
    from django.contrib import admin
    from django.urls import path

    globals()["urlpatterns"] = [path("admin/", admin.site.urls)]


def _measure(count: int, times: int) -> None:
    from django.core.management import call_command
    from django.db import connection

    from django_turbosmtp.models import Message

    call_command("migrate", verbosity=0)
    if not Message.objects.exists():
        started = time.perf_counter()
        fill(count)
        analyze = "ANALYZE"
        if connection.vendor == "mysql":
            tables = connection.introspection.table_names()
            analyze += f" TABLE {', '.join(tables)}"
        with connection.cursor() as cursor:
            cursor.execute(analyze)
        print(f"filled in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    total = Message.objects.count()
    print(f"\n{total:,} messages, {connection.vendor}")
    print(f"  {'':36}{'first':>9}{'median':>9}{'slowest':>9}{'queries':>9}")
    for label, url in list_pages(total):
        first, others, queries = _ask(url, times)
        taken = (first, statistics.median(others), max(others))
        columns = "".join(f"{seconds * 1000:>6.0f} ms" for seconds in taken)
        print(f"  {label:36}{columns}{queries:>9}")


def _ask(url: str, number: int) -> tuple[float, list[float], int]:
    """Return the seconds of the first request, without cached counts, and of others.

    Also return the number of queries of the first request.
    """
    from django.contrib.auth.models import Permission, User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    # A staff user. For a superuser, Django needs two queries less.
    user, _ = User.objects.get_or_create(username="support", is_staff=True)
    ours = ["view_message", "view_message_body", "resend_message"]
    user.user_permissions.set(Permission.objects.filter(codename__in=ours))
    client = Client()
    client.force_login(user)
    started = time.perf_counter()
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(url)
    first = time.perf_counter() - started
    queries = len(captured)
    if answer.status_code != 200:
        raise RuntimeError(f"{url}: {answer.status_code}")
    times = []
    for _ in range(number):
        started = time.perf_counter()
        client.get(url)
        times.append(time.perf_counter() - started)
    return first, times, queries


def list_pages(total: int) -> Iterator[tuple[str, str]]:
    """Yield each page to measure: a label, and its URL."""
    from django_turbosmtp.models import Message

    base = "/admin/turbosmtp/message/"
    clicked = Message.objects.filter(status="clicked", recipient_count=2)
    some = clicked.order_by("created_at").values("id", "first_recipient").first()
    assert some is not None
    last = (total - 1) // 50 + 1
    yield "list, first page", base
    yield "list, last page", f"{base}?p={last}"
    yield "list, middle page", f"{base}?p={last // 2}"
    yield "list, oldest first", f"{base}?o=4"
    for name in ("group=sent", "group=delivered", "group=failed", "attention=yes"):
        yield f"list, {name}", f"{base}?{name}"
    yield "list, period=day", f"{base}?period=day"
    for name in ("period=month", "tag=order", "tag=shop", "tag=rare"):
        yield f"list, {name}", f"{base}?{name}"
    yield "list, mailer", f"{base}?mailer=name:newsletter"
    yield (
        "list, all filters",
        (f"{base}?group=failed&period=quarter&tag=order&mailer=name:newsletter"),
    )
    yield "search, an address", f"{base}?q={some['first_recipient']}"
    yield "search, an address of many", f"{base}?q={ARCHIVE}"
    yield "search, a reference id", f"{base}?q=order-{total // 2}"
    yield "search, a subject", f"{base}?q=Your order {total - 1}"
    yield "search, a subject of all", f"{base}?q=your"
    yield "search, nothing found", f"{base}?q=nobody@example.org"
    yield "detail", f"{base}{some['id']}/change/"
    yield "person", f"{base}person/?address={some['first_recipient']}"
    yield "person, of many messages", f"{base}person/?address={ARCHIVE}"
    for period in ("day", "week", "month"):
        yield f"dashboard, {period}", f"{base}dashboard/?period={period}"


def fill(count: int) -> None:
    """Write messages in order of time, twice as many recipients, and events."""
    from django_turbosmtp.models import Content, Event, Message, Recipient, Tag

    numbers = random.Random(1)
    messages = _build_messages(count, numbers)
    while chunk := list(islice(messages, CHUNK)):
        Message.objects.bulk_create([message for message, _ in chunk])
        Recipient.objects.bulk_create(
            [recipient for _, found in chunk for recipient in found]
        )
        Tag.objects.bulk_create(
            [
                Tag(message=message, name=name)
                for message, _ in chunk
                for name in message.tags
                if name != message.campaign
            ]
        )
        Content.objects.bulk_create(
            [Content(message=m, text="Body", html="<p>Body</p>") for m, _ in chunk]
        )
        Event.objects.bulk_create(
            [event for message, _ in chunk for event in _build_events(message, numbers)]
        )


def _build_messages(
    count: int, numbers: random.Random
) -> Iterator[tuple[Any, list[Any]]]:
    from django_turbosmtp.models import Message, Recipient

    people = max(1, count * 2 // PEOPLE)
    first = datetime.now(UTC) - timedelta(days=DAYS)
    step = timedelta(days=DAYS) / count
    for number in range(count):
        created = first + step * number
        [status] = numbers.choices(list(STATUSES), list(STATUSES.values()))
        outcome = OUTCOMES.get(status, "accepted")
        addresses = [
            f"person{numbers.randrange(people)}@example.org"
            for _ in range(numbers.choice(RECIPIENTS))
        ]
        if len(addresses) == max(RECIPIENTS):
            addresses[-1] = ARCHIVE
        tags = ["rare"] if number % 5_000 == 0 else ["shop"] if number % 2 else []
        message = Message(
            id=_make_id(created, number, numbers),
            created_at=created,
            concluded_at=created + timedelta(seconds=0.2),
            status=status,
            outcome=outcome,
            reference_id=f"order-{number}",
            mid=str(10**18 + number) if outcome == "accepted" else "",
            mailer=numbers.choice(("", "", "newsletter")),
            api_version=2,
            from_email="shop@example.com",
            subject=f"Your order {number}",
            first_recipient=addresses[0],
            recipient_count=len(addresses),
            size=2_000,
            campaign=numbers.choice(CAMPAIGNS),
            tags=tags,
            attempts=1,
            error="" if outcome == "accepted" else "turboSMTP answered 400: nocredit",
        )
        yield (
            message,
            [
                Recipient(
                    message=message,
                    position=position,
                    kind="to",
                    address=address,
                    shown=address,
                    # Only the first recipient has events.
                    status="sent" if position and message.mid else status,
                    mid=message.mid,
                )
                for position, address in enumerate(addresses)
            ],
        )


def _build_events(message: Any, numbers: random.Random) -> Iterator[Any]:
    from django_turbosmtp.models import Event

    for step, name in enumerate(TOLD.get(message.status, ()), 1):
        moment = message.created_at + timedelta(seconds=step * 30)
        yield Event(
            id=_make_id(moment, step, numbers),
            digest=f"{name}-{message.reference_id}",
            message=message,
            position=0,
            event_type=name,
            occurred_at=moment,
            received_at=moment,
            mid=message.mid,
            reference_id=message.reference_id,
            address=message.first_recipient,
            bounce_kind="no_mailbox" if name == "bounced" else "",
            answer="550 5.1.1 No such user" if name == "bounced" else "250 OK",
            raw={"event": name, "mid": message.mid},
        )


def _make_id(created: datetime, number: int, numbers: random.Random) -> uuid.UUID:
    milliseconds = int(created.timestamp() * 1000)
    value = milliseconds << 80 | 0x7 << 76 | (number & 0xFFF) << 64 | 0b10 << 62
    return uuid.UUID(int=value | numbers.getrandbits(62))


if __name__ == "__main__":
    main()
