"""Every switch on a version, each with the release that removes it."""

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

#: Django 6.1 has its breadcrumbs in a list, and its object tools beside the title.
#: Remove when 6.0 is no longer supported (2027-04, and 5.2 in 2028-04).
MODERN_ADMIN = django.VERSION >= (6, 1)

#: Django 6.0 has ``django.tasks``; before, there is a backport of the same API.
#: Remove when 5.2 is no longer supported (2028-04).
HAS_TASKS = django.VERSION >= (6, 0)

if TYPE_CHECKING:
    from collections.abc import Iterator

if TYPE_CHECKING or not MODERN_MIME:
    # What Django 5.2 raises for header injection, and its documents tell to catch.
    # Remove when 5.2 is no longer supported (2028-04).
    from django.core.mail import BadHeaderError as BadHeaderError
else:
    BadHeaderError = ValueError

#: Django's own steps of building a message, of 5.2 and of 6.x. A class that overrides
#: one, or an instance that hides one, builds its MIME in a way of its own.
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
    """Return the mailers of the settings by alias; None is that of EMAIL_BACKEND."""
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
    """Return the OPTIONS of each mailer that has some."""
    mailers = _read_mailers() or {}
    return [mailer["OPTIONS"] for mailer in mailers.values() if mailer.get("OPTIONS")]


def _read_mailers() -> dict[str | None, dict[str, Any]] | None:
    return getattr(settings, "MAILERS", None) if HAS_MAILERS else None


def chooses_mailer() -> bool:
    """Tell whether the settings say how mail is sent, or leave it as Django has it.

    On 6.1 that is what ``startproject`` writes, too.
    """
    smtp = "django.core.mail.backends.smtp.EmailBackend"
    console = "django.core.mail.backends.console.EmailBackend"
    configs = list_mailers()
    if None in configs:
        return configs[None]["BACKEND"] != smtp or settings.EMAIL_HOST != "localhost"
    return configs not in ({}, {"default": {"BACKEND": console}})


def list_mailers_before_tests() -> dict[str | None, dict[str, Any]] | None:
    """Return MAILERS as it was before a test runner replaced the backends in it.

    None without the setting: then Django uses EMAIL_BACKEND, in 6.1 too. Django's
    runner (and pytest-django, through the same function) saves the value that it
    replaces; the name is Django's own and private.
    """
    mailers = _read_mailers()
    if mailers is None:
        return None
    from django.test import utils

    saved: Any = getattr(getattr(utils, "_TestState", None), "saved_data", None)
    before = getattr(saved, "mailers", {})
    return {
        # What a test has set itself stays.
        alias: before.get(alias, config) if not config.get("OPTIONS") else config
        for alias, config in mailers.items()
    }


def get_mailer(alias: str) -> Any:
    """Return the backend of a mailer (Django 6.1), None where there is none of it."""
    if not HAS_MAILERS:
        return None
    from django.core.mail import MailerDoesNotExist, mailers

    try:
        return mailers[alias]
    except MailerDoesNotExist:
        return None


def has_tasks() -> bool:
    """Tell whether a tasks framework is installed.

    Remove when 5.2 is no longer supported (2028-04): Django 6.0 has its own.
    """
    return HAS_TASKS or find_spec("django_tasks") is not None


def load_tasks() -> Any:
    """Return ``django.tasks``, on Django 5.2 its backport ``django_tasks``."""
    return import_module("django.tasks" if HAS_TASKS else "django_tasks")


def build_configuration_error(
    text: str, *, alias: str | None = None
) -> ImproperlyConfigured:
    """Return the error Django itself would raise for a wrong mailer setting."""
    if HAS_MAILERS and alias is not None:
        from django.core.mail import InvalidMailer

        error: ImproperlyConfigured = InvalidMailer(text, alias=alias)
        return error
    return ImproperlyConfigured(text)


def build_backend_kwargs(
    *, alias: str | None, unknown: dict[str, Any]
) -> dict[str, Any]:
    """Return what BaseEmailBackend.__init__() takes on this Django."""
    if HAS_MAILERS:
        return {"alias": alias, **unknown}
    return {}


def names_passed_by_django(options: dict[str, Any]) -> set[str]:
    """Return which options of a mailer send_mail() passed itself (Django 6.1).

    The others come from the mailer's OPTIONS. The name is Django's own and private.
    """
    return set(options.get("_ignore_unknown_kwargs") or ())


class RobustSignal(Signal):
    """A signal whose failing receivers are logged once, and never stop the sender.

    Django's own record of a failing receiver may be mailed by the site, through this
    backend, whose receivers then fail again. The hook is Django's own and private
    (5.2 to 6.1); without it, its record would be as Django makes it.
    """

    def _log_robust_failure(self, receiver: Any, err: Exception) -> None:
        raise_interrupt(err)
        with handle_once() as may_say:
            if may_say:
                super()._log_robust_failure(receiver, err)  # type: ignore[misc]


#: Ten seconds, in units of 1/4096 ms.
_MAX_STEP_BACK = 10_000 << 12


class _Clock(threading.local):
    """The last time a UUID was made for. Of each thread: no lock, so safe to fork."""

    last = 0


_clock = _Clock()


def uuid7() -> uuid.UUID:
    """Return a UUID of version 7 (RFC 9562, 5.7), above the last one of this thread.

    Twelve bits below the millisecond are time too (6.2, method 3), so that rows of one
    batch keep their order. After the clock was set back by more than `_MAX_STEP_BACK`,
    the UUIDs follow it: otherwise they would have a wrong time until it catches up.
    Remove this when Python 3.13 is no longer supported (2029-10): 3.14 has
    ``uuid.uuid7()``.
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
    """Return the least UUID of version 7 made at this time (Unix seconds) or later."""
    return uuid.UUID(int=int(seconds * 1000) << 80 | 0x7 << 76 | 0b10 << 62)
