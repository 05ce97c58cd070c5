"""Connections that keep to their times, however slowly the other side goes on.

A socket's time-out is that of one read or write. A server that says a byte now and
then would hold a send for as long as it likes.
"""

from __future__ import annotations

import io
import time
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

#: Give up a request of which fewer bytes a second leave, on the whole.
SLOWEST_RATE = 2**14


class _Deadline:
    """The moment at which a step has to be over."""

    # Kept here, where a clock that a test holds still (freezegun) does not replace it.
    _now = staticmethod(time.monotonic)

    def __init__(self, seconds: float) -> None:
        self._until = self._now() + seconds

    def cut(self, seconds: float) -> float:
        """Return what is left of ``seconds``; raise TimeoutError for nothing."""
        left = min(seconds, self._until - self._now())
        if left <= 0:
            raise TimeoutError("timed out")
        return left


class _Source(io.RawIOBase):
    """What comes from a socket until the deadline; to HTTPResponse it is the socket."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self._seconds = seconds
        self._deadline = _Deadline(seconds)
        self._raw = sock.makefile("rb", buffering=0)

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._deadline.cut(self._seconds))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        super().close()
        self._raw.close()


class _Answer(HTTPResponse):
    """An answer of whose unreadable headers nothing is said."""

    def begin(self) -> None:
        super().begin()
        # urllib3 would log them as a warning, with the URL. What a server repeats of us
        # may stand in the first, and a login's password in the second.
        self.msg.defects.clear()
        self.msg.set_payload("")


class _Punctual:
    """A connection whose steps have a time each: connecting, sending, the answer.

    urllib3 sends under the time-out for connecting. What is sent may be large, and the
    line slow: each piece has as long as the answer may take, and the whole has longer
    the larger it is.
    """

    send_timeout: float
    _deadline: _Deadline
    #: Holds the headers of a request with a body, until its first piece is there.
    _head: bytes | None = None

    def _tunnel(self: Any) -> None:
        # What is sent to a proxy before the connection stands.
        self._deadline = _Deadline(self.timeout)
        super()._tunnel()  # type: ignore[misc]

    def request(self: Any, *args: Any, **kwargs: Any) -> None:
        if self.sock is None:
            self.connect()
        self.timeout = self.send_timeout
        size = int(kwargs["headers"].get("Content-Length", 0))
        self._deadline = _Deadline(self.send_timeout + size / SLOWEST_RATE)
        self._head = b"" if size else None
        super().request(*args, **kwargs)  # type: ignore[misc]

    def send(self: Any, data: Any) -> None:
        if self._head == b"":
            # One packet with what follows, and one call of the system less.
            self._head = data
            return
        if self._head is not None:
            data, self._head = self._head + data, None
        self.sock.settimeout(self._deadline.cut(self.timeout))
        super().send(data)  # type: ignore[misc]

    def response_class(self: Any, sock: socket.socket, **kwargs: Any) -> HTTPResponse:
        """Return the answer to come, with the whole time-out from here on."""
        return _Answer(_Source(sock, self.timeout), **kwargs)  # type: ignore[arg-type]


def make_punctual(connection: type[Any]) -> type[Any]:
    """Return a connection class of urllib3's, whichever it is, that keeps its times."""
    return type(connection.__name__, (_Punctual, connection), {})
