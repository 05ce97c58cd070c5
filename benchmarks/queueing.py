"""Measures the queue: storing and sending many messages, and a long queue."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from bench import (
    LOG_APPS,
    OURS,
    SMTP,
    WARM_UP,
    Counter,
    emails,
    in_database,
    read_peak,
    reset_peak,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench import Bench, Figures

#: The number of measured claims, and of messages in each.
_WINDOWS, _CLAIMED = 100, 80


@contextlib.contextmanager
def _queue(
    bench: Bench, tasks: str = "django_tasks_db.DatabaseBackend"
) -> Iterator[None]:
    """Set up Django with our queue, and django-tasks-db in the same database."""
    logging.disable(logging.WARNING)
    with in_database(
        bench,
        OURS,
        apps=(*LOG_APPS, "django_tasks_db"),
        TASKS={"default": {"BACKEND": tasks}},
    ):
        from django.conf import settings

        options = {"LOG": True, "QUEUE": "tasks", "RATE": bench.rate or None}
        settings.TURBOSMTP = {**settings.TURBOSMTP, **options}
        yield


@contextlib.contextmanager
def _post_office(bench: Bench) -> Iterator[None]:
    """Set up Django with django-post_office, which sends by SMTP."""
    # It would log several lines for each batch of 100 messages.
    logging.disable(logging.INFO)
    with in_database(
        bench,
        "post_office.EmailBackend",
        apps=("django.contrib.contenttypes", "post_office"),
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        POST_OFFICE={"BACKENDS": {"default": SMTP}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    ):
        yield


@contextlib.contextmanager
def _mailer(bench: Bench) -> Iterator[None]:
    """Set up Django with django-mailer, which sends by SMTP."""
    with in_database(
        bench, "mailer.backend.DbBackend", apps=("mailer",), MAILER_EMAIL_BACKEND=SMTP
    ):
        yield


def _send_our_queue() -> None:
    """Run workers until no task is left, including later ones."""
    from django_turbosmtp.models import QueuedMessage

    while True:
        _run_worker()
        if not QueuedMessage.objects.exists():
            return
        time.sleep(0.05)


def _run_worker(**options: Any) -> None:
    from django.core.management import call_command

    once = {"batch": True, "interval": 0, "startup_delay": False, "reload": False}
    call_command("db_worker", verbosity=0, **once, **options)


def _send_post_office() -> None:
    from django.core.management import call_command

    call_command("send_queued_mail", log_level=1)


def _send_mailer() -> None:
    from django.core.management import call_command

    call_command("send_mail")


_QUEUES: dict[str, tuple[Callable[[Bench], Any], Callable[[], None]]] = {
    "ours": (_queue, _send_our_queue),
    "post_office": (_post_office, _send_post_office),
    "mailer": (_mailer, _send_mailer),
}


def enqueue(bench: Bench) -> Figures:
    """Queue all messages with one send_messages(), and measure the rate."""
    from django.core.mail import get_connection

    set_up, send = _QUEUES[bench.way]
    with set_up(bench):
        from django.db import connection

        get_connection().send_messages(emails(WARM_UP))
        ready, counter = emails(bench.messages), Counter()
        # Otherwise the measurement would include garbage that Django's start has left.
        gc.collect()
        cpu, start = time.process_time(), time.perf_counter()
        with connection.execute_wrapper(counter):
            get_connection().send_messages(ready)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        bench.reset()
        send()
        _require_all(bench, WARM_UP + bench.messages)
    return {
        "rate": bench.messages / seconds,
        "cpu_ms": 1000 * cpu / bench.messages,
        "statements": counter.statements,
    }


def drain(bench: Bench) -> Figures:
    """Measure the rate at which one or several workers send queued messages."""
    from django.core.mail import get_connection

    set_up, send = _QUEUES[bench.way]
    with set_up(bench):
        get_connection().send_messages(emails(min(WARM_UP, bench.messages)))
        send()
        cpu = time.process_time()
        get_connection().send_messages(emails(bench.messages))
        filling_cpu = time.process_time() - cpu
        bench.reset(latency=bench.latency)
        cpu, start = time.process_time(), time.perf_counter()
        if bench.workers == 1:
            send()
        else:
            _fork([send] * bench.workers)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        _require_all(bench, bench.messages)
        return {
            "rate": bench.messages / seconds,
            "cpu_ms": 1000 * cpu / bench.messages,
            "whole_cpu_ms": 1000 * (cpu + filling_cpu) / bench.messages,
            "connections": bench.stats()["connections"],
        }


def _require_all(bench: Bench, messages: int) -> None:
    """Raise RuntimeError unless each message arrived once."""
    stats = bench.stats()
    if stats["messages"] != messages:
        raise RuntimeError(f"{messages} messages queued, {stats} arrived")


def _fork(works: list[Callable[[], None]]) -> None:
    """Run each in a separate process, like workers."""
    from django.db import connections

    connections.close_all()
    children = []
    for work in works:
        pid = os.fork()
        if not pid:
            with contextlib.suppress(BaseException):
                work()
                os._exit(0)
            os._exit(1)
        children.append(pid)
    if any(os.waitpid(pid, 0)[1] for pid in children):
        raise RuntimeError("A worker failed")


def waiting(bench: Bench) -> Figures:
    """Measure a claim, and a window of run_due, while many messages are queued."""
    from django.utils import timezone

    from django_turbosmtp._lib.versions import load_tasks

    # This backend runs no tasks, so messages stay queued.
    with _queue(bench, f"{load_tasks().__name__}.backends.dummy.DummyBackend"):
        from django.db import connection

        from django_turbosmtp.backends import find_backend
        from django_turbosmtp.models import QueuedMessage
        from django_turbosmtp.queue import due

        _fill(bench.messages)
        if connection.vendor == "postgresql":
            # Autovacuum does this within a minute.
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")
        claims = sorted(_time_claims())
        # Simulate that the workers were killed, and that other tasks were lost.
        old = timezone.now() - timedelta(hours=1)
        QueuedMessage.objects.update(due_at=old)
        start = time.perf_counter()
        result = due.run_due(find_backend)
        seconds = time.perf_counter() - start
        if result.unknown != _WINDOWS * _CLAIMED or not result.enqueued:
            raise RuntimeError(f"The sweep did {result}")
        windows = -(-result.unknown // 500) + -(-result.enqueued // 500)
    return {
        "claim_ms": 1000 * claims[len(claims) // 2],
        "longest_claim_ms": 1000 * claims[-1],
        "sweep_ms": 1000 * seconds / windows,
    }


def _time_claims() -> list[float]:
    """Claim messages from all parts of the queue; return the seconds of each claim."""
    from django_turbosmtp.backends import find_backend
    from django_turbosmtp.models import QueuedMessage
    from django_turbosmtp.queue import claim

    account = find_backend("").build_engine(shares_pauses=True).account.fingerprint
    ordered = QueuedMessage.objects.order_by("pk")
    keys = list(ordered.values_list("pk", flat=True))
    taken = []
    for number in range(_WINDOWS):
        first = number * len(keys) // _WINDOWS
        task = keys[first : first + _CLAIMED]
        selection = claim.Selection(
            keys=task,
            mailer="",
            account=account,
            accounts=[account],
            rate=None,
        )
        start = time.perf_counter()
        claimed = claim.claim(selection, task, _CLAIMED, "default")
        taken.append(time.perf_counter() - start)
        if len(claimed.rows) != _CLAIMED:
            raise RuntimeError(f"{len(claimed.rows)} of {_CLAIMED} were claimed")
    return taken


def worker_memory(bench: Bench) -> Figures:
    """Measure the growth of a worker's memory after its first tasks of a long queue."""
    with _queue(bench):
        # In another process; its memory would hide the growth of the worker.
        _fork([lambda: _fill(bench.messages)])
        bench.reset()
        _run_worker(max_tasks=2)
        sent = bench.stats()["messages"]
        before, start = reset_peak(), time.perf_counter()
        _run_worker()
        seconds, growth = time.perf_counter() - start, read_peak() - before
        _require_all(bench, bench.messages)
    return {
        "growth_mb": growth / 2**20,
        "rate": (bench.messages - sent) / seconds,
    }


def _fill(count: int) -> None:
    from django.core.mail import get_connection

    for start in range(0, count, 5000):
        get_connection().send_messages(emails(min(5000, count - start)))
