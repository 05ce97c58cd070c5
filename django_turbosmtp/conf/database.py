"""The one answer to the question which database holds the log."""

from __future__ import annotations

from django.db import router

from django_turbosmtp.conf.log import read_log_settings


def choose_log_database() -> str:
    """Return the alias of the log's database, for reading and for writing.

    ``LOG_USING``, or the database to which the router writes messages: pages and
    commands read what was just written, so never a replica. Raise ImproperlyConfigured
    for a wrong setting.
    """
    # Imported late: models cannot be imported if the app is not installed.
    from django_turbosmtp.models import Message

    return read_log_settings().using or router.db_for_write(Message)
