"""Every switch on a version, each with the release that removes it."""

from __future__ import annotations

from typing import Any

import django
from django.core.exceptions import ImproperlyConfigured

#: Django 6.1 added MAILERS and gave BaseEmailBackend the keyword ``alias``.
#: Remove when 6.0 is no longer supported (2027-04, and 5.2 in 2028-04).
HAS_MAILERS = django.VERSION >= (6, 1)

#: Django 6.0 builds messages with Python's modern email API: ``message(policy=...)``.
#: Remove when 5.2 is no longer supported (2028-04).
MODERN_MIME = django.VERSION >= (6, 0)


def configuration_error(text: str, *, alias: str | None = None) -> ImproperlyConfigured:
    """Return the error Django itself would raise for a wrong mailer setting."""
    if HAS_MAILERS and alias is not None:
        from django.core.mail import InvalidMailer

        error: ImproperlyConfigured = InvalidMailer(text, alias=alias)
        return error
    return ImproperlyConfigured(text)


def base_backend_kwargs(
    *, alias: str | None, unknown: dict[str, Any]
) -> dict[str, Any]:
    """Return what BaseEmailBackend.__init__() takes on this Django."""
    if HAS_MAILERS:
        return {"alias": alias, **unknown}
    return {}
