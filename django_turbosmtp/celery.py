"""The queue's tasks for Celery, available to every Celery app (``shared_task``)."""

from __future__ import annotations

from celery import shared_task

from django_turbosmtp.backends import find_backend
from django_turbosmtp.queue import due, work


# Celery delivers the task of a killed worker again. This is safe, because a message is
# claimed before it is sent; the messages that were not claimed are sent.
@shared_task(
    name="django_turbosmtp.send_queued",
    ignore_result=True,
    acks_late=True,
    reject_on_worker_lost=True,
)  # type: ignore[untyped-decorator]
def send_queued(ids: list[str]) -> None:
    """Send the queued messages with these keys, unless another worker does."""
    work.send_queued(ids, find_backend)


@shared_task(name="django_turbosmtp.run_due", ignore_result=True)  # type: ignore[untyped-decorator]
def run_due() -> None:
    """Enqueue due messages, and release stuck ones (see `queue.due.run_due`)."""
    due.run_due(find_backend)
