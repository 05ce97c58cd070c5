"""Reads the webhook's secrets without credentials."""

from __future__ import annotations

from django_turbosmtp._lib.secrets import Secret, shows_no_locals
from django_turbosmtp._lib.versions import build_configuration_error
from django_turbosmtp.conf.keys import KEYS
from django_turbosmtp.conf.settings import list_values


@shows_no_locals
def read_webhook_secrets() -> list[Secret]:
    """Return every ``user:password`` that the webhook accepts, of all mailers.

    Raise ImproperlyConfigured for an invalid one.
    """
    secrets: dict[Secret, None] = {}
    for value in list_values("WEBHOOK_SECRET"):
        if complaint := KEYS["WEBHOOK_SECRET"].complain(value):
            raise build_configuration_error(f"TURBOSMTP['WEBHOOK_SECRET'] {complaint}")
        entries = [value] if isinstance(value, str) else value or ()
        secrets |= dict.fromkeys(map(Secret, entries))
    return list(secrets)


def has_webhook() -> bool:
    """Return whether any mailer has a webhook secret, valid or not."""
    return any(list_values("WEBHOOK_SECRET"))
