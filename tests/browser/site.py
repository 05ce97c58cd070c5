"""A site with a few messages in its log: ``site.py DATABASE SEND_URL PORT OUTSIDE``.

A process of its own, as every site is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'"
)


def main(database: str, send_url: str, port: str, outside: str) -> None:
    """Make the database, send, and serve until the process is ended."""
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
    }
    import django

    if django.VERSION >= (6, 0):
        # Its own middleware, which gives nonces too.
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
    fill(outside)
    call_command("runserver", f"127.0.0.1:{port}", use_reloader=False)


def add_policy(get_response: Any) -> Any:
    """Send the strict policy of a site, as Django 6.0's own middleware does."""

    def respond(request: Any) -> Any:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return respond


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
        EmailMultiAlternatives(subject, "Text", "shop@example.com", [to])
        for subject, to in (
            ("Hello", "lost@example.org"),
            ("Hello", "outside@example.net"),
            ("Hello", "nobody"),
            ("Your invoice", "refused@example.org"),
        )
    ]
    EmailBackend(fail_silently=True).send_messages([message, *others])


if __name__ == "__main__":
    main(*sys.argv[1:])
