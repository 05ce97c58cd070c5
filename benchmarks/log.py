"""Measures the log: statements, CPU, memory, and the time of pruning."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any

from bench import (
    FROM,
    HTML,
    LOG_APPS,
    OURS,
    TEXT,
    TO,
    Counter,
    emails,
    in_database,
    read_peak,
    reset_peak,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench import Bench, Figures


@contextlib.contextmanager
def _logging(bench: Bench, **more: Any) -> Iterator[None]:
    """Set up Django with the log on, in a separate database."""
    with in_database(bench, OURS, apps=LOG_APPS):
        from django.conf import settings

        settings.TURBOSMTP = {**settings.TURBOSMTP, "LOG": True, **more}
        yield


def logged(bench: Bench) -> Figures:
    """Send all messages by send_messages() or by send_mail(), with the log on."""
    from django.core.mail import get_connection, send_mail

    def send(count: int) -> None:
        if bench.single:
            for number in range(count):
                send_mail(f"Order {number}", TEXT, FROM, [TO], html_message=HTML)
        else:
            get_connection().send_messages(ready[count])

    with _logging(bench):
        from django.db import connection

        from django_turbosmtp.models import Message

        ready = {count: emails(count) for count in {bench.messages, 20}}
        figures = bench.timed(send)
        counter = Counter()
        with connection.execute_wrapper(counter):
            bench.reset()
            send(bench.messages)
        if Message.objects.filter(outcome="accepted").count() < 2 * bench.messages:
            raise RuntimeError("Not every message has its row.")
        return {**figures, "statements": counter.statements / bench.messages}


def memory(bench: Bench) -> Figures:
    """Send messages of 30 KB from a generator, and measure the growth of the memory."""
    from django.core.mail import EmailMessage, get_connection

    def draw(count: int) -> Iterator[EmailMessage]:
        for number in range(count):
            body = f"{number} " + "x" * 30_000
            yield EmailMessage(f"Order {number}", body, FROM, [TO])

    with _logging(bench, LOG_BODY=bench.log_body):
        bench.reset()
        get_connection().send_messages(draw(600))
        before, start = reset_peak(), time.perf_counter()
        sent = get_connection().send_messages(draw(bench.messages))
        seconds = time.perf_counter() - start
        growth = read_peak() - before
    if sent != bench.messages:
        raise RuntimeError(f"{sent} of {bench.messages} were sent")
    return {"growth_mb": growth / 2**20, "seconds": seconds}


def blind(bench: Bench) -> Figures:
    """Send to 300 Bcc recipients with a file of 1 MiB, and measure the memory."""
    from django.core.mail import EmailMessage, get_connection

    with _logging(bench):
        bench.reset()
        get_connection().send_messages(emails(20))
        message = EmailMessage(
            "Order", TEXT, FROM, [], [f"p{n}@x.org" for n in range(300)]
        )
        message.attach("a.bin", os.urandom(2**20), "application/zip")
        before = reset_peak()
        get_connection().send_messages([message])
        return {"growth_mb": (read_peak() - before) / 2**20}


def pruning(bench: Bench) -> Figures:
    """Prune old messages: seconds, memory, and the longest transaction."""
    from django.db import connection

    with _logging(bench):
        from django_turbosmtp.log import prune

        _fill(bench.messages)
        longest = _Longest()
        before, start = reset_peak(), time.perf_counter()
        with connection.execute_wrapper(longest):
            pruned = prune.prune("default", days=365, body_days=30)
        seconds = time.perf_counter() - start
        growth = read_peak() - before
    if pruned.messages != bench.messages:
        raise RuntimeError(f"{pruned} of {bench.messages}")
    return {
        "seconds": seconds,
        "longest": longest.seconds,
        "growth_mb": growth / 2**20,
    }


class _Longest:
    """Measures the time from each BEGIN to the next, as the time of a transaction."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = time.perf_counter()

    def __call__(self, execute: Any, sql: str, *arguments: Any) -> Any:
        if sql.startswith(("BEGIN", "SELECT")):
            self._began = time.perf_counter()
        result = execute(sql, *arguments)
        self.seconds = max(self.seconds, time.perf_counter() - self._began)
        return result


def _fill(count: int) -> None:
    """Create rows that are 500 days old, each with a body and a recipient."""
    from django.utils import timezone

    from django_turbosmtp._lib.versions import find_uuid7_floor, uuid7
    from django_turbosmtp.models import Content, Message, Recipient

    day = find_uuid7_floor(time.time() - 500 * 86400).int
    mask = 2**64 - 1
    for start in range(0, count, 5000):
        messages = [
            Message(
                id=type(uuid7())(
                    int=(day + (number << 80)) & ~mask | uuid7().int & mask
                ),
                created_at=timezone.now(),
                status="sent",
                outcome="accepted",
                api_version=2,
                subject="Order",
            )
            for number in range(start, min(count, start + 5000))
        ]
        Message.objects.bulk_create(messages)
        Content.objects.bulk_create(
            [Content(message=m, text=TEXT, html=HTML) for m in messages]
        )
        Recipient.objects.bulk_create(
            [
                Recipient(message=m, position=0, kind="to", address=TO, status="sent")
                for m in messages
            ]
        )
