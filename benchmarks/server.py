"""A fast local server that accepts and counts mail, with HTTP and SMTP.

It answers every POST with success after a latency. It uses only the standard library.
Control requests:

``POST /reset?latency=0.04&refuse=429,503&verify=1``
    resets the counts. ``refuse``: statuses of the next answers to messages, each with
    ``Retry-After: 0``. ``verify``: store bodies, and hash their attachments.
``GET /stats``
    returns the counts since the reset, as JSON.

It ends when its standard input is closed, and so with the process that started it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import sys
from urllib.parse import parse_qs, urlsplit


class State:
    """The parameters of the last reset, and the counts since."""

    def __init__(self, query: dict[str, list[str]] | None = None) -> None:
        query = query or {}
        self.latency = float(query.get("latency", ["0"])[0])
        self.verify = query.get("verify") == ["1"]
        self.refuse = [
            int(status) for status in query.get("refuse", [""])[0].split(",") if status
        ]
        self.connections: set[int] = set()
        self.messages = 0
        self.bytes = 0
        self.requests = 0
        self.attachments: list[str] = []

    def report(self) -> dict[str, object]:
        return {
            "messages": self.messages,
            "requests": self.requests,
            # Only connections with a message since the reset.
            "connections": len(self.connections),
            "bytes": self.bytes,
            "attachments": self.attachments,
        }


class Server:
    """Common methods of all connections."""

    def __init__(self) -> None:
        self.state = State()
        self.loop = asyncio.get_running_loop()
        self._connections = 0

    def number(self) -> int:
        self._connections += 1
        return self._connections

    def later(self, connection: asyncio.Protocol, data: bytes) -> None:
        """Write an answer to a message after the latency."""
        write = connection.transport.write
        if self.state.latency:
            self.loop.call_later(self.state.latency, write, data)
        else:
            write(data)


class Http(asyncio.Protocol):
    """HTTP/1.1 with keep-alive. asyncio sets TCP_NODELAY.

    A protocol needs a third of the CPU of asyncio's streams. On a small machine, the
    measured client would lack this CPU.
    """

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.connection = server.number()
        self.head = b""
        self.left: int | None = None
        self.body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.left is None:
            self.head += data
            head, found, data = self.head.partition(b"\r\n\r\n")
            if not found:
                return
            self._begin(head.decode("latin-1"))
        self.left -= len(data)
        if self.server.state.verify:
            self.body.append(data)
        if self.left <= 0:
            self._answer()

    def _begin(self, head: str) -> None:
        request, *lines = head.split("\r\n")
        self.method, self.target, _ = request.split(" ")
        self.left = self.length = 0
        for line in lines:
            name, _, value = line.partition(":")
            if name.lower() == "content-length":
                self.left = self.length = int(value)

    def _answer(self) -> None:
        state, path = self.server.state, urlsplit(self.target).path
        body, self.body = self.body, []
        self.head, self.left = b"", None
        if path == "/reset":
            self.server.state = State(parse_qs(urlsplit(self.target).query))
            self.transport.write(_http(200, {}))
        elif path == "/stats":
            self.transport.write(_http(200, state.report()))
        elif self.method == "POST":
            state.requests += 1
            state.connections.add(self.connection)
            state.bytes += self.length
            if state.verify:
                state.attachments = _hashes(b"".join(body))
            self.server.later(self, self._of_message(state, path))
        else:
            self.transport.write(_http(404, {}))

    def _of_message(self, state: State, path: str) -> bytes:
        if state.refuse:
            status = state.refuse.pop(0)
            return _http(status, {"message": "error"}, "Retry-After: 0\r\n")
        state.messages += 1
        if path.startswith("/postmark/"):
            return _http(
                200,
                {
                    "ErrorCode": 0,
                    "Message": "OK",
                    "MessageID": f"00000000-0000-0000-0000-{state.messages:012}",
                    "SubmittedAt": "2026-01-01T00:00:00Z",
                    "To": "reader@example.com",
                },
            )
        return _http(200, {"message": "OK", "mid": state.messages})


def _http(status: int, data: object, extra: str = "") -> bytes:
    body = json.dumps(data).encode()
    head = (
        f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\n{extra}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _hashes(body: bytes) -> list[str]:
    """Return the SHA-256 of each attachment, decoded from a received body."""
    attachments = json.loads(body).get("attachments") or ()
    return [
        hashlib.sha256(base64.b64decode(part["content"], validate=True)).hexdigest()
        for part in attachments
    ]


class Smtp(asyncio.Protocol):
    """The SMTP commands that smtplib uses. Only the answer that accepts the data of a
    message has the latency; all others are immediate."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.connection = server.number()
        self.buffer = b""
        self.in_data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.write(b"220 benchmark\r\n")

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            end = b"\r\n.\r\n" if self.in_data else b"\r\n"
            line, found, rest = self.buffer.partition(end)
            if not found:
                return
            self.buffer = rest
            if self.in_data:
                self._take(len(line))
            else:
                self._command(line[:4].upper())

    def _take(self, length: int) -> None:
        self.in_data = False
        state = self.server.state
        state.requests += 1
        state.messages += 1
        state.bytes += length
        state.connections.add(self.connection)
        self.server.later(self, b"250 accepted\r\n")

    def _command(self, verb: bytes) -> None:
        if verb == b"DATA":
            self.in_data = True
            self.transport.write(b"354 go on\r\n")
        elif verb == b"QUIT":
            self.transport.write(b"221 bye\r\n")
            self.transport.close()
        else:
            self.transport.write(b"250 OK\r\n")


async def main() -> None:
    loop = asyncio.get_running_loop()
    shared = Server()
    ports = {}
    for name, protocol in (("http", Http), ("smtp", Smtp)):
        listener = await loop.create_server(
            lambda protocol=protocol: protocol(shared), "127.0.0.1", 0, backlog=512
        )
        ports[name] = listener.sockets[0].getsockname()[1]
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    ended = asyncio.Event()
    loop.add_reader(0, lambda: None if os.read(0, 1024) else ended.set())
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
