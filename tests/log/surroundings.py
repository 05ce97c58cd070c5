"""Features of worlds that are not settings: closed connections, pools, ASGI."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.db import OperationalError, close_old_connections, connections
from django.db.backends.signals import connection_created
from django.db.transaction import atomic
from django.test.client import AsyncClientHandler, ClientHandler, FakePayload
from django.test.utils import CaptureQueriesContext

from tests import worlds

Enter = Callable[[Any], AbstractContextManager[None]]
SURROUNDINGS: dict[str, Enter] = {}


def clear_tables(_: Any) -> None:
    """Delete all rows of all apps; much faster than "flush"."""
    kept = {"auth.permission", "contenttypes.contenttype"}
    models: dict[str, list[Any]] = {}
    for model in apps.get_models(include_auto_created=True):
        is_of_log = model._meta.app_label == "turbosmtp"
        alias = worlds.WORLD.alias if is_of_log else "default"
        if model._meta.label_lower not in kept:
            models.setdefault(alias, []).append(model)
    for alias, of_alias in models.items():
        # The order does not matter: PostgreSQL checks foreign keys at the commit.
        with connections[alias].constraint_checks_disabled(), atomic(using=alias):
            for model in of_alias:
                model._base_manager.using(alias).all()._raw_delete(alias)


def count_queries(captured: CaptureQueriesContext) -> int:
    """Return the number of statements, except those that set up a connection."""
    parting = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", "SET ")
    return sum(not (query["sql"] or "").startswith(parting) for query in captured)


@contextmanager
def assert_max_queries(most: int) -> Iterator[None]:
    """Check that a block makes at most this many statements in the log's database."""
    with CaptureQueriesContext(connections[worlds.WORLD.alias]) as captured:
        yield
    made = count_queries(captured)
    assert made <= most, [query["sql"] for query in captured.captured_queries]


def surround(name: str) -> Callable[[Callable[[Any], Iterator[None]]], Enter]:
    def register(enter: Callable[[Any], Iterator[None]]) -> Enter:
        SURROUNDINGS[name] = contextmanager(enter)
        return SURROUNDINGS[name]

    return register


class Killer:
    """Closes connections on the server's side, as a server does with idle ones."""

    def __init__(self) -> None:
        self._own: Any = None
        self._lock = threading.Lock()

    def close_all(self) -> None:
        """Close each connection of this thread that is not in a transaction."""
        for wrapper in connections.all(initialized_only=True):
            if wrapper.connection is not None and not wrapper.in_atomic_block:
                self.close(wrapper)

    def close(self, wrapper: Any) -> None:
        """Close a connection; SQLite has no server, so its connection stays open."""
        if wrapper.vendor == "sqlite":
            return
        wrapper.ensure_connection()
        if wrapper.vendor == "postgresql":
            key = wrapper.connection.info.backend_pid
            end = "SELECT pg_terminate_backend(%s)"
        else:
            key, end = wrapper.connection.thread_id(), "KILL %s"
        with self._lock:
            if self._own is None:
                self._own = wrapper.copy("killer")
                self._own.inc_thread_sharing()
                self._own.connect()
            try:
                with self._own.cursor() as cursor:
                    cursor.execute(end, [key])
            except OperationalError as error:
                # A test that closes connections has already closed it.
                if "Unknown thread" not in str(error):
                    raise
        if wrapper.vendor == "postgresql":
            # The server closes the connection a moment later.
            select.select([wrapper.connection.fileno()], [], [], 2)

    def leave(self) -> None:
        if self._own is not None:
            self._own.close()


def forget_closed_connections() -> None:
    """Reconnect connections that the request did not use; the test uses them."""
    for wrapper in connections.all(initialized_only=True):
        is_open = wrapper.connection is not None and not wrapper.in_atomic_block
        if is_open and not wrapper.is_usable():
            wrapper.close()


@surround("closed_connections")
def close_connections(blocker: Any) -> Iterator[None]:
    killer = Killer()
    call = ClientHandler.__call__

    def serve(handler: Any, environ: dict[str, Any]) -> Any:
        killer.close_all()
        if not environ["PATH_INFO"].startswith("/turbosmtp/"):
            # Django does this before each request, but not with its test client.
            # Without it, the session would fail before the page. The webhook uses no
            # session, and many sites have no CONN_HEALTH_CHECKS.
            close_old_connections()
        try:
            return call(handler, environ)
        finally:
            forget_closed_connections()

    from django_turbosmtp.backends import EmailBackend

    send = EmailBackend.send_messages

    def send_messages(backend: Any, messages: Any) -> int:
        killer.close_all()
        try:
            return send(backend, messages)
        finally:
            forget_closed_connections()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientHandler, "__call__", serve)
        patch.setattr(EmailBackend, "send_messages", send_messages)
        yield
    killer.leave()


@surround("replica")
def forbid_reading_the_log(blocker: Any) -> Iterator[None]:
    """Fail if the package reads the log from the replica, which lags behind."""

    def check(execute: Any, sql: str, *arguments: Any) -> Any:
        if "turbosmtp_" in sql and not worlds.is_asked_by_a_test():
            raise AssertionError(f"The package reads from the replica: {sql}")
        return execute(sql, *arguments)

    def watch(connection: Any, **_: Any) -> None:
        if connection.alias == "replica" and check not in connection.execute_wrappers:
            connection.execute_wrappers.append(check)

    connection_created.connect(watch)
    with blocker.unblock():
        connections["replica"].close()
    yield
    connection_created.disconnect(watch)


@surround("pgbouncer")
def run_pgbouncer(blocker: Any) -> Iterator[None]:
    """Connect through a new pgbouncer, after the test databases have been created."""
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    database = connections["default"].settings_dict
    (folder / "pgbouncer.ini").write_text(
        f"""[databases]
* = host={database["HOST"]} port={database["PORT"] or 5432} user={database["USER"]}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 5
"""
    )
    folder.chmod(0o755)
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    assert program, "The world needs pgbouncer: apt-get install pgbouncer"
    log = (folder / "log").open("wb")
    # pgbouncer does not run as root.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    command = [program, *user, str(folder / "pgbouncer.ini")]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    before = {alias: connections[alias].settings_dict["PORT"] for alias in connections}
    try:
        _wait_for(port, process, folder / "log")
        _use_port(dict.fromkeys(before, port))
        yield
    finally:
        _use_port(before)
        process.terminate()
        process.wait(10)
        log.close()
        shutil.rmtree(folder)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as trying:
            if trying.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"pgbouncer does not answer: {log.read_text()}")


def _use_port(ports: dict[str, Any]) -> None:
    for alias, port in ports.items():
        connections[alias].close()
        # Connections of other threads are created from the same dicts.
        connections.settings[alias]["PORT"] = port
        connections[alias].settings_dict["PORT"] = port


@surround("asgi")
def serve_by_asgi(blocker: Any) -> Iterator[None]:
    """Serve the requests of Django's test client with the ASGI handler."""

    def serve(handler: Any, environ: dict[str, Any]) -> Any:
        asgi = AsyncClientHandler(enforce_csrf_checks=handler.enforce_csrf_checks)
        response = async_to_sync(asgi)(_build_scope(environ))
        if getattr(response, "is_async", False):
            response.streaming_content = iter(async_to_sync(_collect)(response))
        # The test client expects attributes of a WSGI request.
        response.wsgi_request = response.asgi_request
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientHandler, "__call__", serve)
        yield


async def _collect(response: Any) -> list[bytes]:
    return [part async for part in response.streaming_content]


def _build_scope(environ: dict[str, Any]) -> dict[str, Any]:
    headers = [
        (name[5:].replace("_", "-").lower().encode(), str(value).encode("latin1"))
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            value = str(environ[name]).encode()
            headers.append((name.replace("_", "-").lower().encode(), value))
    path = environ["PATH_INFO"].encode("latin1").decode()
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "client": ["127.0.0.1", 0],
        "server": (environ["SERVER_NAME"], environ["SERVER_PORT"]),
        "scheme": environ["wsgi.url_scheme"],
        "method": environ["REQUEST_METHOD"],
        "path": path,
        "raw_path": path.encode(),
        "query_string": environ["QUERY_STRING"].encode("latin1"),
        "headers": headers,
        "_body_file": FakePayload(environ["wsgi.input"].read()),
    }
