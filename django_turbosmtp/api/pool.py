"""Pools and connections: the only module that uses private names of urllib3.

`Adapter` makes requests use these pools instead of urllib3's. `PRIVATE_NAMES` lists the
names that they override or read; ``pyproject.toml`` limits the versions of urllib3, and
a test checks that each name exists.
"""

from __future__ import annotations

import queue
import re
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from urllib3.poolmanager import pool_classes_by_scheme

from django_turbosmtp._lib.clocks import Clock
from django_turbosmtp._lib.loggers import guard_logger
from django_turbosmtp.api.deadlines import Deadline, QuietAnswer, TimedSource

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

#: Close a connection that was unused for this many seconds: the server or a firewall
#: may have dropped it without closing it.
MAX_IDLE_SECONDS = 20.0


#: Stop using a connection this many seconds before the server closes it
#: (``Keep-Alive: timeout=N``), because the request needs time to arrive.
KEEP_ALIVE_MARGIN = 1.0

_KEEP_ALIVE = re.compile(r"\btimeout\s*=\s*\"?(\d{1,6})", re.IGNORECASE)


#: Abort a request that is sent more slowly than this many bytes a second on average.
SLOWEST_RATE = 2**14

#: The private names that this module overrides or reads, by class.
PRIVATE_NAMES = {
    "HTTPConnectionPool": ("QueueCls", "_make_request", "_get_conn", "_put_conn"),
    "HTTPConnection": ("_tunnel", "response_class", "sock", "timeout"),
    "PoolManager": ("pool_classes_by_scheme", "pools"),
    "RecentlyUsedContainer": ("_container",),
}


class _Punctual:
    """A connection with time limits on connecting, sending, and waiting for the answer.

    urllib3 sends with the time-out for connecting, which is too short for large
    requests on slow lines. Here, each piece has the time-out of the answer, and the
    limit for the whole request grows with its size.
    """

    send_timeout: float
    _deadline: Deadline
    #: The headers of a request, until they are sent with the first piece of its body.
    _head: bytes | None = None

    def _tunnel(self: Any) -> None:
        # With this header, the request asks a proxy for the connection.
        self._deadline = Deadline(self.timeout)
        super()._tunnel()  # type: ignore[misc]

    def request(self: Any, *args: Any, **kwargs: Any) -> None:
        if self.sock is None:
            self.connect()
        self.timeout = self.send_timeout
        size = int(kwargs["headers"].get("Content-Length", 0))
        self._deadline = Deadline(self.send_timeout + size / SLOWEST_RATE)
        self._head = b"" if size else None
        super().request(*args, **kwargs)  # type: ignore[misc]

    def send(self: Any, data: Any) -> None:
        if self._head == b"":
            # Send them with the body: one packet and one system call less.
            self._head = data
            return
        if self._head is not None:
            data, self._head = self._head + data, None
        self.sock.settimeout(self._deadline.cut(self.timeout))
        super().send(data)  # type: ignore[misc]

    def response_class(self: Any, sock: socket.socket, **kwargs: Any) -> QuietAnswer:
        """Return the answer to read; its time-out begins now."""
        return QuietAnswer(TimedSource(sock, self.timeout), **kwargs)  # type: ignore[arg-type]


class _Stack:
    """A ``queue.LifoQueue`` without a lock, which never blocks.

    If a signal handler raised an exception right after the lock was acquired, it would
    be held forever. A list's append() and pop() need no lock.
    """

    def __init__(self, maxsize: int = 0) -> None:
        self.maxsize = maxsize
        self.queue: list[Any] = []

    def put(self, item: Any, block: bool = False) -> None:  # noqa: ARG002
        if len(self.queue) >= self.maxsize > 0:
            raise queue.Full
        self.queue.append(item)

    def get(self, block: bool = False, timeout: float | None = None) -> Any:  # noqa: ARG002
        try:
            return self.queue.pop()
        except IndexError:
            raise queue.Empty from None

    def qsize(self) -> int:
        return len(self.queue)


class _Aging:
    """A urllib3 pool that knows which of its connections may be used again."""

    QueueCls: Any = _Stack

    def _make_request(self, conn: Any, *args: Any, **kwargs: Any) -> Any:
        headers = kwargs.get("headers") or {}
        asks_to_close = str(headers.get("Connection", "")).lower() == "close"
        # Set them before the request, so that they are also set if it fails.
        conn.single_use, conn.max_idle = asks_to_close, None
        conn.send_timeout = kwargs["timeout"].read_timeout
        response = super()._make_request(conn, *args, **kwargs)  # type: ignore[misc]
        if found := _KEEP_ALIVE.search(response.headers.get("Keep-Alive", "")):
            conn.max_idle = max(0.0, int(found[1]) - KEEP_ALIVE_MARGIN)
        return response

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = Clock.monotonic()
            if getattr(conn, "single_use", False):
                # The server may close it without an announcement (RFC 9112, 9.6).
                conn.close()
        super()._put_conn(conn)  # type: ignore[misc]

    def _get_conn(self, timeout: float | None = None) -> Any:
        conn = super()._get_conn(timeout=timeout)  # type: ignore[misc]
        if _is_too_old(conn):
            conn.close()  # The next request reopens it.
        return conn


def _is_too_old(conn: Any) -> bool:
    idle_since = getattr(conn, "idle_since", None)
    if idle_since is None:
        return False
    limit = getattr(conn, "max_idle", None)
    limit = MAX_IDLE_SECONDS if limit is None else min(limit, MAX_IDLE_SECONDS)
    return bool(Clock.monotonic() - idle_since > limit)


def _adapt(pools: Mapping[str, Any]) -> dict[str, Any]:
    """Return urllib3's pool classes by scheme, plain or SOCKS, with our changes."""
    return {
        scheme: type(
            pool.__name__,
            (_Aging, pool),
            {
                "ConnectionCls": type(
                    pool.ConnectionCls.__name__, (_Punctual, pool.ConnectionCls), {}
                )
            },
        )
        for scheme, pool in pools.items()
    }


_POOLS = _adapt(pool_classes_by_scheme)

for _name in ("connection", "connectionpool", "util.retry"):
    guard_logger(f"urllib3.{_name}")


class Adapter(HTTPAdapter):
    """The transport of requests, with pools that do not reuse old connections."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            manager.pool_classes_by_scheme = _adapt(manager.pool_classes_by_scheme)
        return manager

    def abandon(self) -> None:
        """Close the idle connections without acquiring a lock.

        After an interruption, urllib3 may hold a lock forever.
        """
        for pool in list(self.poolmanager.pools._container.values()):
            for connection in list(pool.pool.queue):
                if connection is not None:
                    connection.close()
