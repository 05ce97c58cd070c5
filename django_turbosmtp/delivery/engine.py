"""A call of ``send_messages()``, from its messages to their outcomes.

Messages are prepared in the caller's thread, requests leave from worker threads, and
results are written back in the caller's thread. The whole batch is finished before
anything is raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_turbosmtp.delivery.conclude import announce, conclude
from django_turbosmtp.delivery.prepare import Preparer
from django_turbosmtp.delivery.record import build_conclusion, build_entry
from django_turbosmtp.delivery.transmit import transmit
from django_turbosmtp.journal import open_journal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django_turbosmtp.api import Client
    from django_turbosmtp.conf import Settings
    from django_turbosmtp.delivery.jobs import Job
    from django_turbosmtp.payload import Keep


def deliver(
    messages: Iterable[Any],
    *,
    client: Client,
    settings: Settings,
    sender: type,
    keep: Keep | None = None,
) -> list[Job]:
    """Send each message, and return what became of it, in order.

    ``sender`` is the sender of the signals. ``keep`` decides on each recipient, as
    `guard.build_guard` makes it. Nothing of a message's own raises; each has its
    status set, and `Job.error` says what to raise for it.
    """
    preparer = Preparer(settings=settings, sender=sender, keep=keep)
    journal = open_journal(settings)
    jobs = [preparer.prepare(message) for message in messages]
    handled = [job for job in jobs if job.requests or job.status.outcome]
    entries = {job.id: build_entry(job, settings) for job in handled} if journal else {}
    if journal:
        journal.begin(list(entries.values()))
    requests = [request for job in jobs for request in job.requests]
    try:
        transmit(requests, client, settings)
    finally:
        conclude(jobs)
        if journal:
            journal.conclude(
                [
                    build_conclusion(job, entries[job.id])
                    for job in handled
                    if job.requests
                ]
            )
    announce(jobs, sender)
    return jobs
