"""The sandbox: a server on loopback and everything it keeps."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import socket
import socketserver
import sys
import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from django_turbosmtp.sandbox.faults import Fault, Faults
from django_turbosmtp.sandbox.handler import Handler, is_loopback
from django_turbosmtp.sandbox.store import Received, RequestRecord, Store
from django_turbosmtp.sandbox.strictjson import refusal_reason, subject_and_to

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping

    from django_turbosmtp.sandbox.answers import Request, Response

CONSUMER_KEYS = {"sandbox-key": "sandbox-secret"}
USERS = {"sandbox@example.com": "sandbox-password"}
MAX_REQUESTS = 2000
_JOIN_SECONDS = 5.0


class Server(socketserver.ThreadingTCPServer):
    """Accepts connections and knows which are open."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], sandbox: Sandbox, tls: ssl.SSLContext | None
    ) -> None:
        self.sandbox = sandbox
        self._tls = tls
        self._lock = threading.Lock()
        self._open: dict[Any, int] = {}
        self._workers: set[threading.Thread] = set()
        self._ids = itertools.count(1)
        self.accepted = 0
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, Handler)

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; its TLS handshake is left to its own thread."""
        connection, address = self.socket.accept()
        if self._tls is not None:
            connection = self._tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection in a thread of its own."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="turbosmtp-sandbox-connection",
            daemon=True,
        )
        with self._lock:
            self.accepted += 1
            self._open[request] = next(self._ids)
            self._workers.add(thread)
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve the connection and forget it."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)
                self._workers.discard(threading.current_thread())

    def connection_id(self, request: Any) -> int:
        """Return the number of an open connection."""
        with self._lock:
            return self._open.get(request, 0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about clients that went away; show our own errors."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def close_connections(self) -> None:
        """Wake and end every connection's thread."""
        with self._lock:
            connections, threads = list(self._open), list(self._workers)
        for connection in connections:
            # Not SSLSocket.shutdown(): it takes TLS away under a reading thread.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in threads:
            thread.join(_JOIN_SECONDS)


class Sandbox:
    """A stand-in turboSMTP on loopback; start() and stop(), or a with statement."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        consumer_keys: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
        inactive: Iterable[str] = (),
        max_messages: int = 500,
        max_bytes: int = 256 * 2**20,
        latency: float = 0.0,
        ssl_context: ssl.SSLContext | None = None,
        log: Callable[[str], object] | None = None,
    ) -> None:
        if not is_loopback(host):
            raise ValueError(
                f"the sandbox binds loopback only, not {host!r}: it shows mail to "
                "anyone who can reach it. Use 127.0.0.1, ::1 or localhost."
            )
        # Not left to the resolver, which could answer anything.
        self._host = "127.0.0.1" if host.endswith("localhost") else host.strip("[]")
        self._port = port
        self.consumer_keys = dict(
            CONSUMER_KEYS if consumer_keys is None else consumer_keys
        )
        self.users = dict(USERS if users is None else users)
        self.inactive = frozenset(inactive)
        self.latency = latency
        self.store = Store(
            max_messages=max_messages, max_bytes=max_bytes, max_requests=MAX_REQUESTS
        )
        self.faults = Faults()
        self.stopping = threading.Event()
        # In every form of the pages: another site cannot know it.
        self.form_token = secrets.token_urlsafe(24)
        self._tls = ssl_context
        self._log = log
        self._tokens: dict[str, str] = {}
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Listen and serve in a thread."""
        if self._server is not None:
            raise RuntimeError("the sandbox is already running")
        self.stopping.clear()
        self._server = Server((self._host, self._port), self, self._tls)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.02},
            name="turbosmtp-sandbox",
            daemon=True,
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close every socket and wait for the threads; harmless when stopped."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        self.stopping.set()
        server.shutdown()
        thread.join()
        server.server_close()
        server.close_connections()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The origin, such as http://127.0.0.1:8025."""
        if self._server is None:
            raise RuntimeError("the sandbox is not running: call start() first")
        host = f"[{self._host}]" if ":" in self._host else self._host
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{host}:{self._server.server_address[1]}"

    def send_url(self, version: int = 2) -> str:
        """Return the base URL to send to."""
        return self.url + {1: "/api", 2: "/api/v2"}[version]

    def api_url(self, version: int = 2) -> str:
        """Return the base URL of everything else: the same origin here."""
        return self.send_url(version)

    @property
    def messages(self) -> list[Received]:
        """The kept messages, oldest first."""
        return self.store.messages

    @property
    def latest(self) -> Received | None:
        """The newest message."""
        messages = self.store.messages
        return messages[-1] if messages else None

    @property
    def requests(self) -> list[RequestRecord]:
        """Every kept API request, refused ones included, oldest first."""
        return self.store.requests

    @property
    def connections(self) -> int:
        """How many TCP connections were accepted since start() or clear()."""
        return self._server.accepted if self._server is not None else 0

    @property
    def total_accepted(self) -> int:
        """How many messages were accepted, dropped ones included."""
        return self.store.total_accepted

    def clear(self) -> None:
        """Forget messages, requests, faults and counters."""
        self.store.clear()
        self.faults.clear()
        if self._server is not None:
            self._server.accepted = 0

    def add_fault(
        self,
        kind: str,
        *,
        times: int | None = 1,
        skip: int = 0,
        retry_after: float | str | None = None,
        match: str | None = None,
        seconds: float | None = None,
        accept: bool = False,
    ) -> Fault:
        """Fail the next matching sends in this way."""
        fault = Fault(
            kind=kind,
            times=times,
            skip=skip,
            retry_after=retry_after,
            match=match,
            seconds=seconds,
            accept=accept,
        )
        return self.faults.add(fault)

    def clear_faults(self) -> None:
        """Forget all faults."""
        self.faults.clear()

    def new_token(self, user: str) -> str:
        """Return a login's authorization key."""
        token = secrets.token_hex(16)
        self._tokens[token] = user
        return token

    def drop_token(self, token: str) -> bool:
        """Revoke an authorization key; False when it was none."""
        return self._tokens.pop(token, None) is not None

    def log_send(self, request: Request, response: Response) -> None:
        """Write one line about a send request, if anyone reads the log."""
        if self._log is None:
            return
        subject, to = subject_and_to(request.body)
        status = response.recorded_status or "no answer"
        now = datetime.now().astimezone().strftime("%H:%M:%S")
        reason = refusal_reason(response.body) if response.status >= 400 else ""
        self._log(f"{now} {status} {subject!r} to {to!r}{reason}")
