"""Replaces the test runner's backend with the outbox or the sandbox."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core import mail
from django.test import override_settings

from django_turbosmtp._lib.versions import (
    allow_email_backend,
    list_mailers_before_tests,
)
from django_turbosmtp.api.shared import close_shared_sessions
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.testing.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator

_OUTBOX = "django_turbosmtp.testing.OutboxBackend"
_BACKEND = "django_turbosmtp.backends.EmailBackend"


@contextmanager
def use_outbox(**turbosmtp: Any) -> Iterator[Outbox]:
    """Store messages in an empty outbox, and yield it.

    ``turbosmtp``: keys of ``TURBOSMTP`` to override.
    """
    before = getattr(mail, "outbox", None)
    mail.outbox = []
    outbox = Outbox()
    try:
        with _replace_backend(_OUTBOX, turbosmtp):
            yield outbox
    finally:
        outbox.clear()
        if before is None:
            del mail.outbox
        else:
            mail.outbox = before


@contextmanager
def use_sandbox(**turbosmtp: Any) -> Iterator[Sandbox]:
    """Send to a new sandbox, and yield it. It is stopped at the end of the block."""
    with Sandbox() as sandbox:
        version = turbosmtp.get("API_VERSION", 2)
        own = {
            "CONSUMER_KEY": "sandbox-key",
            "CONSUMER_SECRET": "sandbox-secret",
            "AUTHUSER": "sandbox@example.com",
            "AUTHPASS": "sandbox-password",
            "SEND_URL": sandbox.send_url(version),
            "API_URL": sandbox.api_url(version),
        }
        try:
            with _replace_backend(_BACKEND, own | turbosmtp):
                yield sandbox
        finally:
            close_shared_sessions()


@contextmanager
def _replace_backend(backend: str, turbosmtp: dict[str, Any]) -> Iterator[None]:
    """Use this backend, with these keys of ``TURBOSMTP``."""
    override = override_settings(**_build_settings(backend, turbosmtp))
    # Ignore warnings only during this change, so that those of the test are shown.
    with allow_email_backend():
        override.enable()
    try:
        yield
    finally:
        with allow_email_backend():
            override.disable()


def _build_settings(backend: str, turbosmtp: dict[str, Any]) -> dict[str, Any]:
    """Return settings in which every turboSMTP mailer has this backend."""
    merged = {**(getattr(settings, "TURBOSMTP", None) or {}), **turbosmtp}
    mailers = list_mailers_before_tests()
    if mailers is None:
        return {"EMAIL_BACKEND": backend, "TURBOSMTP": merged}
    own = {
        alias: {
            "BACKEND": backend,
            # The overridden keys have precedence over the options of the mailer.
            "OPTIONS": {
                name: value
                for name, value in config.get("OPTIONS", {}).items()
                if name.upper() not in turbosmtp
            },
        }
        for alias, config in mailers.items()
    }
    return {"MAILERS": own, "TURBOSMTP": merged}
