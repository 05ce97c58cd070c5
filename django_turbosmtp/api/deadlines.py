"""Deadlines of requests and answers, however slowly the other side goes on.

A socket's time-out is that of one read or write. A server that says a byte now and
then would hold a send for as long as it likes.
"""

from __future__ import annotations

import io
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

from django_turbosmtp._lib.clocks import Clock

if TYPE_CHECKING:
    import socket


class Deadline:
    """The moment at which a step has to be over."""

    def __init__(self, seconds: float) -> None:
        self._until = Clock.monotonic() + seconds

    def cut(self, seconds: float) -> float:
        """Return what is left of ``seconds``; raise TimeoutError for nothing."""
        left = min(seconds, self._until - Clock.monotonic())
        if left <= 0:
            raise TimeoutError("timed out")
        return left


class TimedSource(io.RawIOBase):
    """What comes from a socket until the deadline; to HTTPResponse it is the socket."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self._seconds = seconds
        self._deadline = Deadline(seconds)
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


class QuietAnswer(HTTPResponse):
    """An answer of whose unreadable headers nothing is said."""

    def begin(self) -> None:
        super().begin()
        # urllib3 would log them as a warning, with the URL. What a server repeats of us
        # may stand in the first, and a login's password in the second.
        self.msg.defects.clear()
        self.msg.set_payload("")
