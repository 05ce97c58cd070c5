"""Reads the settings of the log without credentials, and chooses its database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import router
from django.utils.module_loading import import_string

from django_turbosmtp._lib.versions import build_configuration_error
from django_turbosmtp.conf.keys import KEYS
from django_turbosmtp.conf.settings import Settings, list_values, merge_options

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """The part of ``settings.TURBOSMTP`` that applies to existing rows of the log."""

    using: str | None = None
    retention_days: int | None = Settings.retention_days
    body_retention_days: int | None = Settings.body_retention_days


def read_log_settings() -> LogSettings:
    """Return the current settings of the log. They need no credentials.

    Raise ImproperlyConfigured for the first wrong one.
    """
    raw = merge_options({})
    values: dict[str, Any] = {}
    for name in ("using", "retention_days", "body_retention_days"):
        key = "LOG_USING" if name == "using" else name.upper()
        if key not in raw:
            continue
        if complaint := KEYS[key].complain(raw[key]):
            raise build_configuration_error(f"TURBOSMTP[{key!r}] {complaint}")
        values[name] = raw[key]
    return LogSettings(**values)


def read_redactions() -> list[Callable[[str, str], str]]:
    """Return the functions of ``LOG_REDACT`` of TURBOSMTP, and of all mailers.

    For the texts of events, because the mailer of their message may be unknown.
    """
    found = [value for value in list_values("LOG_REDACT") if value]
    return [import_string(f) if isinstance(f, str) else f for f in dict.fromkeys(found)]


def has_log() -> bool:
    """Return whether the app is installed and loaded, and its models can be used."""
    # A script may send mail without django.setup(); then no apps are loaded.
    return apps.models_ready and apps.is_installed("django_turbosmtp")


def choose_log_database() -> str:
    """Return the alias of the log's database, which is used to read and to write.

    It is ``LOG_USING``, or else the database to which the router writes messages: never
    a replica, because pages and commands read rows that were just written. Raise
    ImproperlyConfigured for a wrong setting.
    """
    # Imported late: models cannot be imported if the app is not installed.
    from django_turbosmtp.models import Message

    return read_log_settings().using or router.db_for_write(Message)
