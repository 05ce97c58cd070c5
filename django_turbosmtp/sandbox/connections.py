"""The connections of a sandbox, each served in a separate thread."""

from __future__ import annotations

import contextlib
import itertools
import socket
import socketserver
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from socketserver import BaseRequestHandler

    from django_turbosmtp.sandbox.state import State

_JOIN_SECONDS = 5.0


class Server(socketserver.ThreadingTCPServer):
    """Accepts connections and knows which are open."""

    allow_reuse_address = True
    daemon_threads = True
    # socketserver's default of 5 would refuse connections of a batch.
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[BaseRequestHandler],
        *,
        state: State,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.state = state
        self._tls = tls
        self._lock = threading.Lock()
        self._open: dict[Any, int] = {}
        self._workers: set[threading.Thread] = set()
        self._ids = itertools.count(1)
        self.accepted = 0
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection; its thread does the TLS handshake."""
        # No handshake here, so that a slow client does not delay other connections.
        connection, address = self.socket.accept()
        if self._tls is not None:
            connection = self._tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection in a separate thread."""
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
        """Ignore errors of clients that closed the connection; show others."""
        # Tests close connections on purpose, so these errors are not printed.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def close_connections(self) -> None:
        """Wake and end every connection's thread."""
        with self._lock:
            connections, threads = list(self._open), list(self._workers)
        for connection in connections:
            # Avoid SSLSocket.shutdown(), which removes TLS while a thread is reading.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in threads:
            thread.join(_JOIN_SECONDS)
