"""Fixtures: a sandbox per test run, and a project that sends through it."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from weakref import WeakSet

import pytest
from django.test import Client

from django_turbosmtp._lib.versions import HAS_MAILERS
from django_turbosmtp.api.shared import close_shared_sessions
from django_turbosmtp.sandbox import Sandbox
from tests.serving import say
from tests.worlds import WORLD, WORLDS

pytest_plugins = ["django_turbosmtp.testing.fixtures"]

BACKEND = "django_turbosmtp.backends.EmailBackend"
CREDENTIALS = {
    2: {"CONSUMER_KEY": "sandbox-key", "CONSUMER_SECRET": "sandbox-secret"},
    1: {"AUTHUSER": "sandbox@example.com", "AUTHPASS": "sandbox-password"},
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the option, which `tests.worlds` has already read."""
    about = "; ".join(f"{name}: {world.about}" for name, world in WORLDS.items())
    parser.addoption("--world", choices=WORLDS, default="plain", help=about)


def pytest_make_parametrize_id(val: Any) -> str | None:
    """Return an id with the content of a case; pytest would use a number."""
    if isinstance(val, (dict, list, tuple, set, bytes)):
        text = describe_case(val)
        return text if len(text) <= 60 else f"{text[:57]}..."
    return getattr(val, "case", None)


def describe_case(value: Any, depth: int = 4) -> str:
    """Return ``to=jane@x.org, cc=(a, b)`` for a dict; no quotes, no addresses."""
    if not depth:
        return "..."
    if isinstance(value, dict):
        pairs = (f"{name}={describe_case(v, depth - 1)}" for name, v in value.items())
        return ", ".join(pairs) or "nothing"
    if isinstance(value, (list, tuple, set)):
        parts = [describe_case(part, depth - 1) for part in value]
        if isinstance(value, set):
            parts.sort()
        return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"
    # ASCII without memory addresses, so that each process has the same ids.
    return re.sub(r" at 0x[0-9a-f]+", "", ascii(value)).strip("'\"")


@pytest.fixture(scope="session")
def _server() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_server: Sandbox) -> Iterator[Sandbox]:
    """An empty sandbox."""
    close_shared_sessions()
    _server.clear()
    _server.latency = 0.0
    yield _server
    _end_requests(_server)
    _server.clear()
    _server.latency = 0.0


#: Threads that were already waited for: after an interrupted start, one may never end.
_waited_for: WeakSet[threading.Thread] = WeakSet()


def _end_requests(server: Sandbox) -> None:
    """Wait for requests that are still being sent; they would disturb the next test.

    Interrupted calls leave threads that send. After a time-out of the client, the
    server may not have read the request yet.
    """
    close_shared_sessions()
    # It wakes the threads of the server that delay an answer.
    server.stopping.set()
    try:
        _wait_for(t for t in _list_threads("turbosmtp_") if t not in _waited_for)
        # Connections are accepted in order, so after this one there are no others.
        last = HTTPConnection(server.url.removeprefix("http://"), timeout=10)
        last.request("HEAD", "/favicon.ico")
        last.getresponse()
        last.close()
        _wait_for(_list_threads("turbosmtp-sandbox-connection"))
    finally:
        server.stopping.clear()


def _list_threads(prefix: str) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith(prefix)]


def _wait_for(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        # On Python 3.12, a thread whose start was interrupted is listed, and join()
        # raises the error that it has not been started.
        with contextlib.suppress(RuntimeError):
            thread.join(1)
        _waited_for.add(thread)


@pytest.fixture
def api_version() -> int:
    """The API version that `project` speaks; tests may parametrize it."""
    return 2


@pytest.fixture
def project(settings: Any, sandbox: Sandbox, api_version: int) -> Any:
    """Settings that send to the sandbox, with short waits and no log."""
    settings.TURBOSMTP = {
        "LOG": False,
        "SUPPRESS": False,
        "API_VERSION": api_version,
        "SEND_URL": sandbox.send_url(api_version),
        "API_URL": sandbox.api_url(api_version),
        "TIMEOUT": (2, 2),
        **CREDENTIALS[api_version],
        **WORLD.options,
    }
    if HAS_MAILERS:
        settings.MAILERS = {"default": {"BACKEND": BACKEND}}
    else:
        settings.EMAIL_BACKEND = BACKEND
    return settings


@pytest.fixture
def logged(project: Any) -> Any:
    """The same with everything that uses the database, which the test must request."""
    project.TURBOSMTP = {**project.TURBOSMTP, "LOG": True, "SUPPRESS": True}
    return project


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits between attempts, in the same proportions."""
    monkeypatch.setattr("django_turbosmtp.delivery.pace.FIRST_WAIT", 0.02)


@pytest.fixture
def server(settings: Any) -> Iterator[Any]:
    """An HTTP server whose answer the test sets; TURBOSMTP refers to it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            httpd.seen.append((self.path, dict(self.headers), body))
            httpd.answer(self, body)

        def do_GET(self) -> None:
            httpd.seen.append((self.path, dict(self.headers), b""))
            httpd.answer(self, b"")

        def log_message(self, *_: Any) -> None: ...

    httpd: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.seen = []
    httpd.answer = say(200, {"message": "OK", "mid": 1})
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{httpd.server_port}/api"
    settings.TURBOSMTP = {
        "LOG": False,
        "SUPPRESS": False,
        "CONSUMER_KEY": "hunter2-key",
        "CONSUMER_SECRET": "hunter2-secret",
        "SEND_URL": url,
        "API_URL": url,
        "TIMEOUT": 2,
        "MAX_RETRIES": 0,
        **WORLD.options,
    }
    yield httpd
    close_shared_sessions()
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def proxy(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that sets a proxy for another host in the environment."""
    settings.TURBOSMTP = {
        "LOG": False,
        "SUPPRESS": False,
        "CONSUMER_KEY": "hunter2-key",
        "CONSUMER_SECRET": "hunter2-secret",
        "SEND_URL": "https://mail.example.com",
    }
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield lambda url: monkeypatch.setenv("https_proxy", url)
    close_shared_sessions()


@pytest.fixture
def user(django_user_model: Any) -> Any:
    """Create a staff user with these permissions, and log them in."""

    from django.contrib.auth.models import Permission

    def make(*permissions: str) -> Client:
        name = "-".join(permissions) or "none"
        made, _ = django_user_model.objects.get_or_create(
            username=name, defaults={"is_staff": True}
        )
        made.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(made)
        return client

    return make
