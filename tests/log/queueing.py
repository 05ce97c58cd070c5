"""Helpers for the queue. The test decides when its tasks run."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from django_turbosmtp._lib.versions import HAS_MAILERS, get_mailer, load_tasks
from django_turbosmtp.backends import EmailBackend, find_backend
from django_turbosmtp.models import Heartbeat, Message, QueueAccount, QueuedMessage
from django_turbosmtp.queue import due, work
from tests.conftest import BACKEND

TASKS = load_tasks().__name__
DUMMY = {"default": {"BACKEND": f"{TASKS}.backends.dummy.DummyBackend"}}
IMMEDIATE = {"default": {"BACKEND": f"{TASKS}.backends.immediate.ImmediateBackend"}}


def turn_queue_on(settings: Any) -> None:
    """Configure a queue for the server of the test; tasks are only collected."""
    settings.TURBOSMTP = {**settings.TURBOSMTP, "LOG": True, "QUEUE": True}
    settings.TASKS = DUMMY
    if HAS_MAILERS:
        settings.MAILERS = {"default": {"BACKEND": BACKEND}}
    else:
        settings.EMAIL_BACKEND = BACKEND


def send(*messages: Any, **options: Any) -> int:
    """Send messages in one call, through the site's mailer unless there are options."""
    backend = get_mailer("default") if HAS_MAILERS and not options else None
    return int((backend or EmailBackend(**options)).send_messages(messages) or 0)


def list_tasks() -> list[Any]:
    """Return the results of all tasks that were enqueued, in order."""
    results: list[Any] = load_tasks().task_backends["default"].results
    return results


def list_ids() -> list[list[str]]:
    """Return the keys of each ``send_queued`` task."""
    return [r.args[0] for r in list_tasks() if r.task.name == "send_queued"]


def work_off(*ids: Any) -> None:
    """Run a worker's task for these messages (default: all)."""
    keys = ids or list(QueuedMessage.objects.values_list("pk", flat=True))
    work.send_queued([str(key) for key in keys], find_backend)


def run_due() -> due.Result:
    return due.run_due(find_backend)


def pass_time(**by: Any) -> None:
    """Simulate that time has passed, by moving the times of the queue into the past."""
    delta = timedelta(**by)
    for model in (QueuedMessage, QueueAccount, Heartbeat):
        for row in model.objects.all():
            for field in model._meta.concrete_fields:
                value = getattr(row, field.attname)
                if isinstance(value, datetime):
                    setattr(row, field.attname, value - delta)
            row.save()


def read_statuses() -> list[tuple[str, str]]:
    rows = Message.objects.order_by("id")
    return list(rows.values_list("status", "outcome"))


def now() -> datetime:
    return timezone.now()
