"""A site with a few messages in its log: ``site.py DATABASE SEND_URL PORT OUTSIDE``.

A process of its own, as every site is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(database: str, send_url: str, port: str, outside: str) -> None:
    """Make the database, send, and serve until the process is ended."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    from tests import settings

    settings.DATABASES = {
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}
    }
    settings.DEBUG = True
    settings.TURBOSMTP = {
        "CONSUMER_KEY": "sandbox-key",
        "CONSUMER_SECRET": "sandbox-secret",
        "SEND_URL": send_url,
        "RECIPIENT_GUARD": ["example.org"],
    }
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    fill(outside)
    call_command("runserver", f"127.0.0.1:{port}", use_reloader=False)


def fill(outside: str) -> None:
    """Make the admin, and send a message of each kind."""
    from django.contrib.auth import get_user_model
    from django.core.mail import EmailMultiAlternatives

    from django_turbosmtp.backends import EmailBackend
    from tests.browser.hostile import build_hostile_html

    get_user_model().objects.create_superuser("admin", password="password")
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
    message.tags = ["orders"]
    message.metadata = {"order": 2041}
    others = [
        EmailMultiAlternatives("Hello", "Text", "shop@example.com", [to])
        for to in ("lost@example.org", "outside@example.net", "nobody")
    ]
    EmailBackend(fail_silently=True).send_messages([message, *others])


if __name__ == "__main__":
    main(*sys.argv[1:])
