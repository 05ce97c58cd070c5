"""The sandbox's HTTP/1.1: reads requests, and answers them or simulates a fault."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django_turbosmtp.sandbox.answers import (
    Refusal,
    Reply,
    Request,
    answer_message,
    refuse,
)
from django_turbosmtp.sandbox.inbox import control, pages
from django_turbosmtp.sandbox.service import api
from django_turbosmtp.sandbox.state.store import ReceivedHeaders, Refused, RequestRecord
from django_turbosmtp.sandbox.strictjson import read_refusal, read_subject_and_to

if TYPE_CHECKING:
    from django_turbosmtp.sandbox.connections import Server
    from django_turbosmtp.sandbox.state import State

MAX_BODY = 64 * 2**20
_SECRET_HEADERS = {"consumerkey", "consumersecret", "authorization", "cookie"}
_DRIP_STEPS = 20

#: Close a connection after this many seconds without a request, and after the second
#: number in the middle of a request.
IDLE_SECONDS = 60.0
STALL_SECONDS = 10.0
_logger = logging.getLogger("django_turbosmtp.sandbox")


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's loopback."""
    host = host.strip("[]").lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Handler(BaseHTTPRequestHandler):
    """One connection, which has one request at a time."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server
    connection: socket.socket
    resetting = False

    @property
    def state(self) -> State:
        """The state of the sandbox."""
        return self.server.state

    def handle_one_request(self) -> None:
        """Wait for a request, with a shorter time-out for the rest of it."""
        try:
            self.connection.settimeout(IDLE_SECONDS)
            self.rfile.peek(1)  # type: ignore[attr-defined]
            self.connection.settimeout(STALL_SECONDS)
        except OSError:
            self.close_connection = True
            return
        super().handle_one_request()

    def do_POST(self) -> None:
        """Answer one request, whatever its method."""
        started = time.monotonic()
        # The result if the client closes the connection in the middle of its body.
        response, body, unread = Reply(manner="drop"), b"", False
        try:
            response, body = self._respond()
        except _UnreadBody as refusal:
            response, unread = refusal.response, True
            self.close_connection = True
        finally:
            # Record it before the answer is sent, so that tests find the record.
            if self.path.startswith("/api/"):
                self._record(response, started, len(body))
            if self._is_send and not response.accepted:
                self._keep_refused(response, body)
        self._transmit(response)
        if unread:
            self._drain()

    do_GET = do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_POST  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Write nothing: the sandbox has its own log."""

    def finish(self) -> None:
        """Close the files, and also the socket if it must be reset without a FIN."""
        with contextlib.suppress(OSError):
            super().finish()
        if self.resetting:
            self.connection.close()

    def _respond(self) -> tuple[Reply, bytes]:
        self._check_host()
        length = self._body_length()
        if self._is_send and self.state.faults.take(None) is not None:
            return Reply(manner="reset", fault="reset_before_body"), b""
        body = self.rfile.read(length) if length else b""
        if len(body) < length:
            return Reply(manner="drop"), body
        request = Request(
            method="GET" if self.command == "HEAD" else self.command,
            target=self.path,
            headers=self.headers,
            body=body,
            connection=self.server.connection_id(self.request),
        )
        response = self._route(request)
        if self._is_send:
            _log_send(self.state, request, response)
        return response, body

    @property
    def _is_send(self) -> bool:
        path = self.path.partition("?")[0]
        return path in api.SEND_PATHS and self.command == "POST"

    def _route(self, request: Request) -> Reply:
        if request.path.startswith("/api/"):
            handle = api.route
        elif request.path.startswith("/sandbox/"):
            handle = control.route
        else:
            handle = pages.route
        try:
            return handle(self.state, request)
        except Refusal as refusal:
            return refusal.response
        except Exception:
            # An error of the sandbox must not look like one of the client.
            _logger.exception("the sandbox failed to answer a %s", request.method)
            return answer_message("sandbox_error", status=500)

    def _check_host(self) -> None:
        # The name of any web site could resolve to loopback (DNS rebinding).
        host = self.headers.get("Host") or ""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = ""
        if not is_loopback(name):
            raise _UnreadBody(answer_message("host_is_not_loopback", status=403))

    def _body_length(self) -> int:
        if "Transfer-Encoding" in self.headers:
            answer = refuse("Content-Length is required", status=411).response
            raise _UnreadBody(answer)
        values = set(self.headers.get_all("Content-Length") or ["0"])
        value = values.pop()
        if values or not (value.isascii() and value.isdigit()):
            raise _UnreadBody(refuse("Content-Length is not a number").response)
        if len(value) > 19 or int(value) > MAX_BODY:
            text = f"the request body must not exceed {MAX_BODY} bytes"
            raise _UnreadBody(refuse(text, status=413).response)
        return int(value)

    def _record(self, response: Reply, started: float, size: int) -> None:
        headers = ReceivedHeaders()
        for name, value in self.headers.items():
            lower = name.lower()
            headers[lower] = "***" if lower in _SECRET_HEADERS else value
        self.state.store.record(
            RequestRecord(
                method=self.command,
                path=api.mask_path(self.path),
                headers=headers,
                status=response.recorded_status,
                connection=self.server.connection_id(self.request),
                at=started,
                body_bytes=size,
            )
        )

    def _keep_refused(self, response: Reply, body: bytes) -> None:
        subject, to = read_subject_and_to(body)
        refused = Refused(
            received_at=datetime.now(UTC),
            api_version=api.SEND_PATHS[self.path.partition("?")[0]],
            status=response.recorded_status,
            reason="" if response.status < 400 else read_refusal(response.body),
            fault=response.fault,
            subject=subject,
            to=to,
        )
        self.state.store.add_refused(refused)

    def _transmit(self, response: Reply) -> None:
        slow = response.manner in {"slow_headers", "slow_body"}
        if response.wait and not slow:
            self.state.stopping.wait(response.wait)
        if response.manner == "reset":
            self._reset()
        if response.manner in {"drop", "reset"}:
            self.close_connection = True
            return
        data = response.render(
            with_body=self.command != "HEAD", closing=self.close_connection
        )
        if slow:
            self._drip(response, data)
        else:
            self.wfile.write(data)
        if response.manner == "close":
            self.close_connection = True

    def _drip(self, response: Reply, data: bytes) -> None:
        if response.manner == "slow_body":
            start = len(data) - len(response.body)
            self.wfile.write(data[:start])
            data = data[start:]
        size = max(1, -(-len(data) // _DRIP_STEPS))
        pause = response.wait / max(1, -(-len(data) // size))
        for at in range(0, len(data), size):
            if self.state.stopping.wait(pause):
                self.close_connection = True
                return
            self.wfile.write(data[at : at + size])

    def _reset(self) -> None:
        # With a linger time of zero, close() sends RST; see finish().
        self.resetting = True
        self.connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )

    def _drain(self) -> None:
        """Discard the rest of the request, so that an RST does not lose the answer."""
        until = time.monotonic() + 5
        with contextlib.suppress(OSError):
            self.connection.settimeout(1)
            socket.socket.shutdown(self.connection, socket.SHUT_WR)
            while time.monotonic() < until and self.connection.recv(2**16):
                pass


class _UnreadBody(Refusal):
    """A refusal without reading the body, so the connection cannot be reused."""


def _log_send(state: State, request: Request, response: Reply) -> None:
    """Write one line about a send request, if there is a log."""
    if state.log is None:
        return
    subject, to = read_subject_and_to(request.body)
    status = response.recorded_status or "no answer"
    now = datetime.now().astimezone().strftime("%H:%M:%S")
    # repr() escapes control characters for the terminal.
    reason = f": {read_refusal(response.body)!r}" if response.status >= 400 else ""
    state.log(f"{now} {status} {subject!r} to {to!r}{reason}")
