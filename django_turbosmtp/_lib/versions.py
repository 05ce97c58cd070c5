"""All code that depends on a version, each part with the date of its removal."""

from __future__ import annotations

import os
import threading
import time
import uuid
import warnings
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.dispatch import Signal

from django_turbosmtp._lib.interrupts import raise_interrupt
from django_turbosmtp._lib.loggers import handle_once

#: Django 6.1 added MAILERS and gave BaseEmailBackend the keyword ``alias``.
#: Remove when 6.0 is no longer supported (2027-04, and 5.2 in 2028-04).
HAS_MAILERS = django.VERSION >= (6, 1)

#: Django 6.0 builds messages with Python's modern email API: ``message(policy=...)``.
#: Remove when 5.2 is no longer supported (2028-04).
MODERN_MIME = django.VERSION >= (6, 0)

#: The admin of Django 6.1 has breadcrumbs in a list, and object tools beside the title.
#: Remove when 6.0 is no longer supported (2027-04, and 5.2 in 2028-04).
MODERN_ADMIN = django.VERSION >= (6, 1)

#: Django 6.0 added ``django.tasks``. For 5.2 there is a backport of the same API.
#: Remove when 5.2 is no longer supported (2028-04).
HAS_TASKS = django.VERSION >= (6, 0)

if TYPE_CHECKING:
    from collections.abc import Iterator

if TYPE_CHECKING or not MODERN_MIME:
    # Django 5.2 raises it for header injection, and its docs advise catching it.
    # Remove when 5.2 is no longer supported (2028-04).
    from django.core.mail import BadHeaderError as BadHeaderError
else:
    BadHeaderError = ValueError

#: The methods with which Django 5.2 and 6.x build a message. A class or an instance
#: that overrides one builds its MIME differently.
MESSAGE_STEPS = (
    "message",
    "_create_message",
    "_create_attachments",
    "_create_attachment",
    "_create_alternatives",
    "_create_mime_attachment",
    "_add_bodies",
    "_add_attachments",
    "_add_attachment",
    "_set_list_header_if_not_empty",
)


def list_mailers() -> dict[str | None, dict[str, Any]]:
    """Return the configured mailers by alias; None is the alias of EMAIL_BACKEND."""
    mailers = _read_mailers()
    if mailers is not None:
        return dict(mailers)
    with allow_email_backend():
        return {None: {"BACKEND": settings.EMAIL_BACKEND}}


@contextmanager
def allow_email_backend() -> Iterator[None]:
    """Ignore the warnings about EMAIL_BACKEND, which Django 6.1 deprecates.

    Django still supports it, and warns the site itself when it loads the settings.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        yield


def list_mailer_options() -> list[dict[str, Any]]:
    """Return the OPTIONS of all mailers that have any."""
    mailers = _read_mailers() or {}
    return [mailer["OPTIONS"] for mailer in mailers.values() if mailer.get("OPTIONS")]


def _read_mailers() -> dict[str | None, dict[str, Any]] | None:
    return getattr(settings, "MAILERS", None) if HAS_MAILERS else None


def chooses_mailer() -> bool:
    """Return whether the settings choose a mailer rather than use Django's default.

    On 6.1, the setting that ``startproject`` writes counts as the default.
    """
    smtp = "django.core.mail.backends.smtp.EmailBackend"
    console = "django.core.mail.backends.console.EmailBackend"
    configs = list_mailers()
    if None in configs:
        return configs[None]["BACKEND"] != smtp or settings.EMAIL_HOST != "localhost"
    return configs not in ({}, {"default": {"BACKEND": console}})


def list_mailers_before_tests() -> dict[str | None, dict[str, Any]] | None:
    """Return MAILERS as it was before a test runner replaced the backends in it.

    None without the setting: then Django uses EMAIL_BACKEND, also in 6.1. Django's
    runner (and pytest-django, through the same function) saves the value that it
    replaces, under a private name.
    """
    mailers = _read_mailers()
    if mailers is None:
        return None
    from django.test import utils

    saved: Any = getattr(getattr(utils, "_TestState", None), "saved_data", None)
    before = getattr(saved, "mailers", {})
    return {
        # Keep a mailer that the test has configured.
        alias: before.get(alias, config) if not config.get("OPTIONS") else config
        for alias, config in mailers.items()
    }


def get_mailer(alias: str) -> Any:
    """Return the backend of a mailer (Django 6.1), or None if it does not exist."""
    if not HAS_MAILERS:
        return None
    from django.core.mail import MailerDoesNotExist, mailers

    try:
        return mailers[alias]
    except MailerDoesNotExist:
        return None


def has_tasks() -> bool:
    """Return whether a tasks framework is installed.

    Remove when 5.2 is no longer supported (2028-04): Django 6.0 has its own.
    """
    return HAS_TASKS or find_spec("django_tasks") is not None


def load_tasks() -> Any:
    """Return ``django.tasks``, on Django 5.2 its backport ``django_tasks``."""
    return import_module("django.tasks" if HAS_TASKS else "django_tasks")


def build_configuration_error(
    text: str, *, alias: str | None = None
) -> ImproperlyConfigured:
    """Return the error that Django would raise for a wrong mailer setting."""
    if HAS_MAILERS and alias is not None:
        from django.core.mail import InvalidMailer

        error: ImproperlyConfigured = InvalidMailer(text, alias=alias)
        return error
    return ImproperlyConfigured(text)


def build_backend_kwargs(
    *, alias: str | None, unknown: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments of BaseEmailBackend.__init__() in this Django version."""
    if HAS_MAILERS:
        return {"alias": alias, **unknown}
    return {}


def names_passed_by_django(options: dict[str, Any]) -> set[str]:
    """Return the names of the options that send_mail() passed (Django 6.1).

    The others come from the mailer's OPTIONS. Django keeps this under a private name.
    """
    return set(options.get("_ignore_unknown_kwargs") or ())


class RobustSignal(Signal):
    """A signal that logs each failing receiver once.

    A site may send Django's record of a failing receiver by e-mail, through this
    backend, and its receivers would fail again. The overridden method is private
    (Django 5.2 to 6.1); if it is renamed, Django logs the failure in its usual way.
    """

    def _log_robust_failure(self, receiver: Any, err: Exception) -> None:
        raise_interrupt(err)
        with handle_once() as may_say:
            if may_say:
                super()._log_robust_failure(receiver, err)  # type: ignore[misc]


#: Ten seconds, in units of 1/4096 ms.
_MAX_STEP_BACK = 10_000 << 12


class _Clock(threading.local):
    """The time of this thread's last UUID. Needs no lock, so a fork cannot break it."""

    last = 0


_clock = _Clock()


def uuid7() -> uuid.UUID:
    """Return a UUID of version 7 (RFC 9562, 5.7), higher than this thread's last one.

    The next twelve bits are fractions of a millisecond (6.2, method 3), so that the
    rows of a batch keep their order. If the clock is set back by more than
    `_MAX_STEP_BACK`, the UUIDs follow it: otherwise they would have a wrong time until
    it catches up. Remove this when Python 3.13 is no longer supported (2029-10): 3.14
    has ``uuid.uuid7()``.
    """
    stamp = (time.time_ns() << 12) // 1_000_000
    if stamp > _clock.last - _MAX_STEP_BACK:
        stamp = max(stamp, _clock.last + 1)
    _clock.last = stamp
    milliseconds, fraction = stamp >> 12, stamp & 0xFFF
    value = milliseconds << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62
    value |= int.from_bytes(os.urandom(8), "big") >> 2
    return uuid.UUID(int=value)


def find_uuid7_floor(seconds: float) -> uuid.UUID:
    """Return the lowest UUID of version 7 for this time (in Unix seconds)."""
    return uuid.UUID(int=int(seconds * 1000) << 80 | 0x7 << 76 | 0b10 << 62)
