"""The queue's tasks for Django's tasks framework, and its backport on Django 5.2.

Celery's autodiscovery imports this module too, so it can be imported without either.
"""

from __future__ import annotations

from django_turbosmtp._lib.versions import has_tasks
from django_turbosmtp.backends import find_backend
from django_turbosmtp.queue import due, work
from django_turbosmtp.queue.engines import decorate_task

if has_tasks():

    @decorate_task
    def send_queued(ids: list[str]) -> None:
        """Send the queued messages with these keys, unless another worker does."""
        work.send_queued(ids, find_backend)

    @decorate_task
    def run_due() -> None:
        """Enqueue due messages, and release stuck ones (see `queue.due.run_due`)."""
        due.run_due(find_backend)
