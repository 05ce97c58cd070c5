"""Stores messages and requests, up to a limit."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django_turbosmtp.sandbox.state import describe

if TYPE_CHECKING:
    from datetime import datetime
    from email.message import EmailMessage


class ReceivedHeaders(dict[str, str]):
    """HTTP headers, whose names are not case-sensitive."""

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value or `default`."""
        return super().get(name.lower(), default)


@dataclass(frozen=True, kw_only=True)
class RequestRecord:
    """One API request. `status`: None if it was not answered."""

    method: str
    path: str
    headers: ReceivedHeaders
    status: int | None
    connection: int
    at: float
    body_bytes: int

    @cached_property
    def kept_bytes(self) -> int:
        """The memory that it needs."""
        return measure(self.path, self.headers)


@dataclass(frozen=True, kw_only=True)
class Refused:
    """One send that was not accepted, as far as it could be read.

    ``status``: None if there was no answer. ``reason``: the text of the answer.
    ``fault``: the kind of the simulated fault, "" for an invalid request.
    """

    received_at: datetime
    api_version: int
    status: int | None
    reason: str
    fault: str
    subject: str
    to: str


@dataclass(frozen=True, kw_only=True)
class Received:
    """One accepted message."""

    mid: str
    received_at: datetime
    api_version: int
    account: str
    reference_id: str | None
    campaign: str | None
    fields: dict[str, Any]
    sender: str
    recipients: list[tuple[str, str]]
    raw: bytes
    connection: int

    @cached_property
    def kept_bytes(self) -> int:
        """The memory it needs: the mail, the data for the pages, and the fields."""
        # Twice, because `details` contains decoded copies of the parts.
        return 2 * len(self.raw) + measure(self.fields, self.recipients)

    @property
    def message(self) -> EmailMessage:
        """The delivered message, parsed at each access."""
        return describe.parse(self.raw)

    @cached_property
    def details(self) -> describe.Details:
        """The data for the pages, read once."""
        return describe.read_details(self.raw)


def measure(*values: Any) -> int:
    """Return the bytes of memory of values and all values in them.

    Many small strings need ten times as much memory as in JSON.
    """
    total, left = 0, list(values)
    while left:
        value = left.pop()
        total += sys.getsizeof(value)
        if isinstance(value, dict):
            left += value.keys()
            left += value.values()
        elif isinstance(value, (list, tuple)):
            left += value
    return total


class Store:
    """Accepted messages and the request log. The oldest are deleted first.

    The log of requests, whose headers are chosen by clients, uses at most an eighth of
    ``max_bytes``.
    """

    def __init__(self, *, max_messages: int, max_bytes: int, max_requests: int) -> None:
        self._lock = threading.Lock()
        self._messages: deque[Received] = deque()
        self._by_mid: dict[str, Received] = {}
        self._requests: deque[RequestRecord] = deque()
        # They only have short texts, so their bytes are not counted.
        self._refused: deque[Refused] = deque(maxlen=max_messages)
        self._max_requests = max_requests
        self._request_bytes = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._bytes = 0
        self._last_mid = 0
        self.total_accepted = 0

    def next_mid(self) -> int:
        """Return a unique, increasing 64-bit integer that a float cannot represent."""
        with self._lock:
            # Nanoseconds have 61 bits, more than a float's 53, like turboSMTP's ids.
            self._last_mid = max(self._last_mid + 1, time.time_ns())
            return self._last_mid

    def add(self, received: Received) -> None:
        """Store a message, and delete the oldest beyond the limits."""
        with self._lock:
            self.total_accepted += 1
            self._messages.append(received)
            self._by_mid[received.mid] = received
            self._bytes += received.kept_bytes
            while self._messages and (
                len(self._messages) > self._max_messages
                or self._bytes > self._max_bytes - self._max_bytes // 8
            ):
                oldest = self._messages.popleft()
                self._bytes -= oldest.kept_bytes
                del self._by_mid[oldest.mid]

    def record(self, record: RequestRecord) -> None:
        """Store a request."""
        with self._lock:
            self._requests.append(record)
            self._request_bytes += record.kept_bytes
            while self._requests and (
                len(self._requests) > self._max_requests
                or self._request_bytes > self._max_bytes // 8
            ):
                self._request_bytes -= self._requests.popleft().kept_bytes

    @property
    def messages(self) -> list[Received]:
        """The stored messages, oldest first."""
        with self._lock:
            return list(self._messages)

    @property
    def requests(self) -> list[RequestRecord]:
        """The stored requests, oldest first."""
        with self._lock:
            return list(self._requests)

    def add_refused(self, refused: Refused) -> None:
        """Store a send that was not accepted; delete the oldest beyond the limit."""
        with self._lock:
            self._refused.append(refused)

    @property
    def refused(self) -> list[Refused]:
        """The stored sends that were not accepted, oldest first."""
        with self._lock:
            return list(self._refused)

    def get(self, mid: str) -> Received | None:
        """Return the message with this id, if it is still stored."""
        with self._lock:
            return self._by_mid.get(mid)

    def clear(self, *, requests: bool = True) -> None:
        """Delete messages and refusals and, if ``requests``, the request log."""
        with self._lock:
            self._messages.clear()
            self._refused.clear()
            self._by_mid.clear()
            self._bytes = 0
            self.total_accepted = 0
            if requests:
                self._requests.clear()
                self._request_bytes = 0
