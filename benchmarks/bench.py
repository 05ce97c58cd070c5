"""Shared by the measurements: parameters, server, databases and messages."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FROM, TO = "shop@example.com", "reader@example.com"
TEXT = "Thank you for your order. It leaves our store house tomorrow morning.\n" * 4
HTML = f"<html><body><h1>Thank you</h1><p>{TEXT}</p></body></html>"
WARM_UP = 20

OURS = "django_turbosmtp.backends.EmailBackend"
ANYMAIL = "anymail.backends.postmark.EmailBackend"
HEADERS = {"consumerKey": "a-key", "consumerSecret": "a-secret-of-some-length"}
SMTP = "django.core.mail.backends.smtp.EmailBackend"

#: INSTALLED_APPS of a site with the log.
LOG_APPS = (
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django_turbosmtp",
)

Figures = dict[str, Any]


class Bench:
    """The parameters of a measurement, and its server."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.messages: int = params.get("messages", 500)
        self.latency: float = params.get("latency", 0.0)
        self.connections: int = params.get("connections", 8)
        self.threads: int = params.get("threads", 1)
        self.megabytes: int = params.get("megabytes", 5)
        self.refuse: str = params.get("refuse", "")
        self.single: bool = params.get("single", False)
        self.log_body: bool = params.get("log_body", True)
        self.trace: bool = params.get("trace", False)
        self.way: str = params.get("way", "")
        self.workers: int = params.get("workers", 1)
        self.rate: str = params.get("rate", "")
        self.http: int = params.get("http", 0)
        self.smtp: int = params.get("smtp", 0)
        self.url = f"http://127.0.0.1:{self.http}"

    def reset(self, **options: object) -> None:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        self._ask("POST", f"/reset?{query}")

    def stats(self) -> dict[str, Any]:
        return self._ask("GET", "/stats")

    def _ask(self, method: str, target: str) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.http)
        connection.request(method, target)
        answer = json.load(connection.getresponse())
        connection.close()
        return answer

    def django(self, backend: str, *, apps: tuple[str, ...] = (), **more: Any) -> None:
        """Set up Django with one backend, which sends to our server."""
        import django
        from django.conf import settings

        settings.configure(
            EMAIL_BACKEND=backend,
            EMAIL_HOST="127.0.0.1",
            EMAIL_PORT=self.smtp,
            DEFAULT_FROM_EMAIL=FROM,
            USE_TZ=True,
            SECRET_KEY="benchmarks",
            INSTALLED_APPS=list(apps),
            TURBOSMTP={
                "CONSUMER_KEY": "a-key",
                "CONSUMER_SECRET": "a-secret-of-some-length",
                "SEND_URL": self.url,
                "MAX_CONNECTIONS": self.connections,
                "LOG": False,
            },
            ANYMAIL={
                "POSTMARK_SERVER_TOKEN": "a-token",
                "POSTMARK_API_URL": f"{self.url}/postmark/",
            },
            **more,
        )
        django.setup()

    def timed(self, send: Callable[[int], object], **figures: Any) -> Figures:
        """Return the figures of one call of ``send(count)``, after a warm-up."""
        self.reset()
        send(min(WARM_UP, self.messages))
        self.reset(latency=self.latency)
        cpu, start = time.process_time(), time.perf_counter()
        send(self.messages)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        stats = self.stats()
        if stats["messages"] != self.messages:
            raise RuntimeError(f"{self.messages} messages sent, {stats} arrived")
        return {
            "rate": self.messages / seconds,
            "cpu_ms": 1000 * cpu / self.messages,
            "connections": stats["connections"],
            **figures,
        }


@contextlib.contextmanager
def in_database(bench: Bench, backend: str, **options: Any) -> Iterator[None]:
    """Set up Django with one backend, and an empty database; remove it at the end."""
    with tempfile.TemporaryDirectory() as directory:
        bench.django(backend, DATABASES={"default": _database(directory)}, **options)
        from django.db import connection, connections

        old = connection.settings_dict["NAME"]
        connection.creation.create_test_db(
            verbosity=0, autoclobber=True, serialize=False
        )
        yield
        if connection.vendor != "sqlite":
            connection.creation.destroy_test_db(old, verbosity=0)
        connections.close_all()


def _database(directory: str) -> dict[str, Any]:
    """Return SQLite in this folder, or the PostgreSQL that ``PGDATABASE`` names.

    On PostgreSQL, a database with this name and the prefix ``test_`` is created.
    """
    if name := os.environ.get("PGDATABASE"):
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "HOST": os.environ.get("PGHOST", "127.0.0.1"),
            "USER": os.environ.get("PGUSER", "postgres"),
        }
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(Path(directory) / "log.sqlite3"),
        "TEST": {"NAME": str(Path(directory) / "log.sqlite3")},
        # Django's documentation recommends this if several processes write.
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},
    }


_CONTROL = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "ROLLBACK")


class Counter:
    """Counts statements, except those that control transactions."""

    def __init__(self) -> None:
        self.statements = 0

    def __call__(self, execute: Any, sql: str, *arguments: Any) -> Any:
        if not sql.startswith(_CONTROL):
            self.statements += 1
        return execute(sql, *arguments)


def reset_peak() -> int:
    """Reset the peak of the resident memory, and return the current value in bytes.

    Without a reset, ru_maxrss would contain the peak of imports and hide growth.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return read_peak()
    return _status("VmRSS")


def read_peak() -> int:
    if Path("/proc/self/status").exists():
        return _status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


def emails(count: int) -> list[Any]:
    from django.core.mail import EmailMultiAlternatives

    made = []
    for number in range(count):
        email = EmailMultiAlternatives(f"Order {number}", TEXT, FROM, [TO])
        email.attach_alternative(HTML, "text/html")
        made.append(email)
    return made


def in_threads(works: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
