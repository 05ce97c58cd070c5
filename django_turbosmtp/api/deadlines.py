"""Deadlines for whole requests and answers.

The time-out of a socket is for one read or write. A server that sends one byte at a
time could delay a send forever.
"""

from __future__ import annotations

import io
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

from django_turbosmtp._lib.clocks import Clock

if TYPE_CHECKING:
    import socket


class Deadline:
    """The time by which a step must be finished."""

    def __init__(self, seconds: float) -> None:
        self._until = Clock.monotonic() + seconds

    def cut(self, seconds: float) -> float:
        """Return the seconds left, at most ``seconds``; raise TimeoutError if none."""
        left = min(seconds, self._until - Clock.monotonic())
        if left <= 0:
            raise TimeoutError("timed out")
        return left


class TimedSource(io.RawIOBase):
    """Reads from a socket until a deadline. HTTPResponse uses it as a socket."""

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
    """An answer whose invalid headers are not logged."""

    def begin(self) -> None:
        super().begin()
        # urllib3 would log them as a warning, with the URL. The headers may repeat our
        # request, and the URL of a login contains the password.
        self.msg.defects.clear()
        self.msg.set_payload("")
