"""The sandbox: a server on loopback."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from django_turbosmtp.sandbox.connections import Server
from django_turbosmtp.sandbox.handler import Handler, is_loopback
from django_turbosmtp.sandbox.state import Accounts, State, Store

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Mapping

CONSUMER_KEYS = {"sandbox-key": "sandbox-secret"}
USERS = {"sandbox@example.com": "sandbox-password"}
MAX_REQUESTS = 2000


def _check_webhook(url: str) -> None:
    """Raise ValueError for a URL to which events cannot, or must not, be posted."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not is_loopback(parts.hostname or ""):
        raise ValueError(
            "the webhook has to be at http:// and on this machine, such as"
            " http://user:password@127.0.0.1:8000/turbosmtp/webhook/"
        )


class Sandbox(State):
    """A simulated turboSMTP on loopback. Use start() and stop(), or ``with``."""

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
        webhook_url: str | None = None,
    ) -> None:
        if not is_loopback(host):
            raise ValueError(
                f"the sandbox binds loopback only, not {host!r}: it shows mail to "
                "anyone who can reach it. Use 127.0.0.1, ::1 or localhost."
            )
        if webhook_url is not None:
            _check_webhook(webhook_url)
        # Do not resolve the name, because a resolver could return another address.
        self._host = "127.0.0.1" if host.endswith("localhost") else host.strip("[]")
        self._port = port
        self._tls = ssl_context
        super().__init__(
            accounts=Accounts(
                consumer_keys=CONSUMER_KEYS if consumer_keys is None else consumer_keys,
                users=USERS if users is None else users,
                inactive=inactive,
            ),
            store=Store(
                max_messages=max_messages,
                max_bytes=max_bytes,
                max_requests=MAX_REQUESTS,
            ),
            latency=latency,
            log=log,
            webhook_url=webhook_url,
        )
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Start to serve in a thread."""
        if self._server is not None:
            raise RuntimeError("the sandbox is already running")
        self.stopping.clear()
        self._server = Server(
            (self._host, self._port), Handler, state=self, tls=self._tls
        )
        self.origin = self._name_origin(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            # socketserver's default of half a second would delay every stop() in tests.
            kwargs={"poll_interval": 0.02},
            name="turbosmtp-sandbox",
            daemon=True,
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close all sockets and wait for the threads. May be called repeatedly."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        self.stopping.set()
        self.webhook.stop()
        # First no new connections, then the open ones: their threads may be waiting.
        server.shutdown()
        thread.join()
        server.server_close()
        server.close_connections()
        self._server = self._thread = self.origin = None

    def _name_origin(self, port: int) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{host}:{port}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def connections(self) -> int:
        """The number of TCP connections accepted since start() or clear()."""
        return self._server.accepted if self._server is not None else 0

    def clear(self) -> None:
        """Delete messages, requests, faults and counters."""
        self.store.clear()
        self.faults.clear()
        if self._server is not None:
            self._server.accepted = 0
