"""A site with messages in its log: ``site.py DATABASE SEND_URL PORT OUTSIDE CONTENT``.

Run in a separate process, like a real site.
"""

from __future__ import annotations

import os
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)


def main(database: str, send_url: str, port: str, outside: str, content: str) -> None:
    """Create the database, send messages, and serve until the process is ended."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    from tests import settings

    settings.DATABASES = {
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}
    }
    settings.DEBUG = True
    settings.MIDDLEWARE = [
        "tests.browser.site.add_policy",
        *settings.MIDDLEWARE,
        "django.middleware.locale.LocaleMiddleware",
    ]
    settings.TURBOSMTP = {
        "CONSUMER_KEY": "sandbox-key",
        "CONSUMER_SECRET": "sandbox-secret",
        "SEND_URL": send_url,
        "RECIPIENT_GUARD": ["example.org"],
        "LOG_ATTACHMENTS": True,
    }
    settings.STORAGES["turbosmtp"] = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(Path(database).with_suffix(".files"))},
    }
    import django

    if django.VERSION >= (6, 0):
        # Django's middleware, which also provides nonces.
        settings.MIDDLEWARE[0] = "django.middleware.csp.ContentSecurityPolicyMiddleware"
        settings.SECURE_CSP = {
            name: sources
            for name, _, sources in (
                part.strip().partition(" ") for part in POLICY.split(";")
            )
        }
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django.contrib.auth import get_user_model

    get_user_model().objects.create_superuser("admin", password="password")
    if content == "shop":
        send_as_a_shop()
    elif content == "queue":
        fill_queue()
    else:
        send_each_kind(outside)
    call_command("runserver", f"127.0.0.1:{port}", use_reloader=False)


def add_policy(get_response: Any) -> Any:
    """Send a strict policy, as Django 6.0's middleware does."""

    def respond(request: Any) -> Any:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return respond


#: A green bar, 48 pixels wide.
LOGO = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAADAAAAAQCAIAAADfzGvmAAAAJElEQVR42mPgztYbVIhh1EGjDhp10KiDRh0"
    "06qBRB406iL4IAIKr7BACmm4OAAAAAElFTkSuQmCC"
)


def send_each_kind(outside: str) -> None:
    """Send a message of each kind, one of them hostile."""
    from django.core.mail import EmailMultiAlternatives

    from django_turbosmtp.backends import EmailBackend
    from tests.browser.hostile import build_hostile_html
    from tests.messages import picture

    message = EmailMultiAlternatives(
        "Your order is on its way",
        "Thank you, Jane.\n\nYour shop",
        "Example Shop <shop@example.com>",
        ["Jane Doe <jane@example.org>"],
        cc=["accounts@example.org", "outside@example.net"],
        headers={"X-Order": "2041"},
        alternatives=[(build_hostile_html(outside), "text/html")],
        attachments=[("Prices (café).pdf", b"%PDF", "application/pdf")],
    )
    message.attach(picture("logo@example.com", LOGO, name="logo.png"))
    message.tags = ["orders"]
    message.metadata = {"order": 2041}
    others = [
        EmailMultiAlternatives(subject, "Text", "shop@example.com", [to])
        for subject, to in (
            ("Hello", "lost@example.org"),
            ("Hello", "outside@example.net"),
            ("Hello", "nobody"),
            ("Your invoice", "refused@example.org"),
        )
    ]
    EmailBackend(fail_silently=True).send_messages([message, *others])
    tell_of_one()


def fill_queue() -> None:
    """Queue two messages, one of them for tomorrow, and stop the queue of another."""
    from datetime import timedelta

    from django.conf import settings
    from django.core.mail import EmailMessage
    from django.utils import timezone

    from django_turbosmtp.backends import EmailBackend
    from django_turbosmtp.exceptions import NoCredit
    from django_turbosmtp.queue import accounts
    from tests.log.queueing import turn_queue_on

    turn_queue_on(settings)
    later = EmailMessage("See you tomorrow", "Text", to=["jane@example.org"])
    later.send_at = timezone.now() + timedelta(days=1)
    later.expires_at = timezone.now() + timedelta(days=2)
    later.priority = "high"
    soon = EmailMessage("Your receipt", "Text", to=["jane@example.org"])
    EmailBackend().send_messages([later, soon])
    accounts.stop("0" * 32, "news", NoCredit("no credit"), "default")


def tell_of_one() -> None:
    """Post events about the first of the two recipients of the first message."""
    from django_turbosmtp.models import Message
    from django_turbosmtp.tracking.events import read_event
    from django_turbosmtp.tracking.record import record_events

    row = Message.objects.get(status="sent")
    events = [
        {"id": "1", "status": "DEFERRED", "reason": "451 4.7.1 <b>Greylisted"},
        {"id": "2", "status": "DELIVERED"},
        {"id": "3", "status": "OPENED", "useragent": "Mozilla/5.0"},
        {"id": "4", "status": "OPENED", "useragent": "Mozilla/5.0 (iPhone)"},
        {"id": "5", "status": "CLICKED", "url": "https://shop.example.org/?o=2041"},
    ]
    hers = {"mid": row.mid, "email": "jane@example.org"}
    now = int(row.created_at.timestamp())
    record_events(
        [
            read_event(event | hers | {"timestamp": now + 7 * number})
            for number, event in enumerate(events)
        ],
        "default",
    )


#: Tag, subject and HTML of the shop's messages; ``{}`` is a number.
SHOP = [
    (
        "orders",
        "Your order {} is confirmed",
        "<h2>Thank you</h2><p>We pack it now.</p>",
    ),
    ("shipping", "Your parcel {} is on its way", "<h2>On its way</h2><p>Until Friday."),
    ("accounts", "Confirm your address", "<h2>Welcome</h2><p>One click is left.</p>"),
    (
        "newsletter",
        "What is new this week",
        "<h2>New this week</h2><p>Tea and cups.</p>",
    ),
]


def send_as_a_shop() -> None:
    """Send a week's mail of a small shop, with a few failures."""
    from datetime import timedelta

    from django.core.mail import EmailMultiAlternatives
    from django.utils import timezone

    from django_turbosmtp.backends import EmailBackend
    from django_turbosmtp.models import Message

    names = ["jane", "ali", "maria", "li", "noor", "tom", "ines", "kofi", "anna"]
    messages = []
    for number in range(90):
        tag, subject, html = SHOP[number % 7 % 4]
        to = f"{names[number % 9]}@example.org"
        if number in {7, 88}:
            to = "lost@example.org"
        elif number in {33, 60, 86}:
            to = "nobody"
        message = EmailMultiAlternatives(
            subject.format(4700 + number),
            "Thank you.",
            "Example Shop <shop@example.org>",
            [to],
            alternatives=[(html, "text/html")],
        )
        message.tags = [tag]
        message.metadata = {"order": 4700 + number}
        messages.append(message)
    EmailBackend(fail_silently=True, max_connections=1).send_messages(messages)
    now = timezone.now()
    for number, row in enumerate(Message.objects.order_by("-created_at", "-id")):
        # More by day than by night, and a little more every day.
        row.created_at = now - timedelta(hours=number * 1.7 + number % 5)
        row.concluded_at = row.created_at + timedelta(milliseconds=80 + number)
        row.save()
    tell_of_them()


def tell_of_them() -> None:
    """Post events of the messages, as turboSMTP does."""
    from django_turbosmtp.models import Message
    from django_turbosmtp.tracking.events import read_event
    from django_turbosmtp.tracking.record import record_events

    agents = ["Mozilla/5.0 (iPhone; CPU iPhone OS 18_0)", "Mozilla/5.0"]
    events = []
    rows = Message.objects.filter(status="sent").order_by("created_at", "id")
    for number, row in enumerate(rows):
        words = ["PROCESSED", "DELIVERED"]
        if number % 17 == 5:
            words[1:] = ["BOUNCED"]
        elif number % 3 != 1:
            words.append("OPENED")
            if number % 4 == 0:
                words.append("CLICKED")
        for place, word in enumerate(words):
            event = {
                "id": f"{number}-{place}",
                "mid": row.mid,
                "status": word,
                "email": row.first_recipient,
                "timestamp": int(row.created_at.timestamp()) + 3 + 600 * place,
            }
            if word == "BOUNCED":
                event["reason"] = "550 5.1.1 <mailbox>: no such user here"
            if word in {"OPENED", "CLICKED"}:
                event["useragent"] = agents[number % 5 == 0]
            if word == "CLICKED":
                event["url"] = "https://shop.example.org/orders/"
            events.append(read_event(event))
    record_events(events, "default")


if __name__ == "__main__":
    main(*sys.argv[1:])
