"""Pools and connections: the one module that uses private names of urllib3.

requests makes its pools by itself; `Adapter` has it make these. `PRIVATE_NAMES` lists
what they override or read; ``pyproject.toml`` bounds the versions of urllib3, and a
test checks that each name exists.
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

#: Close a connection that was unused for this many seconds: a server or a firewall on
#: the way may have dropped it without a word.
MAX_IDLE_SECONDS = 20.0


#: Take a connection for closed this many seconds before the server said it would close
#: it (``Keep-Alive: timeout=N``): the request takes time on its way.
KEEP_ALIVE_MARGIN = 1.0

_KEEP_ALIVE = re.compile(r"\btimeout\s*=\s*\"?(\d{1,6})", re.IGNORECASE)


#: Give up a request of which fewer bytes a second leave, on the whole.
SLOWEST_RATE = 2**14

#: What this module overrides or reads, by the class whose instances have it.
PRIVATE_NAMES = {
    "HTTPConnectionPool": ("QueueCls", "_make_request", "_get_conn", "_put_conn"),
    "HTTPConnection": ("_tunnel", "response_class", "sock", "timeout"),
    "PoolManager": ("pool_classes_by_scheme", "pools"),
    "RecentlyUsedContainer": ("_container",),
}


class _Punctual:
    """A connection whose steps have a time each: connecting, sending, the answer.

    urllib3 sends under the time-out for connecting. What is sent may be large, and the
    line slow: each piece has as long as the answer may take, and the whole has longer
    the larger it is.
    """

    send_timeout: float
    _deadline: Deadline
    #: Holds the headers of a request with a body, until its first piece is there.
    _head: bytes | None = None

    def _tunnel(self: Any) -> None:
        # What is sent to a proxy before the connection stands.
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
            # One packet with what follows, and one call of the system less.
            self._head = data
            return
        if self._head is not None:
            data, self._head = self._head + data, None
        self.sock.settimeout(self._deadline.cut(self.timeout))
        super().send(data)  # type: ignore[misc]

    def response_class(self: Any, sock: socket.socket, **kwargs: Any) -> QuietAnswer:
        """Return the answer to come, with the whole time-out from here on."""
        return QuietAnswer(TimedSource(sock, self.timeout), **kwargs)  # type: ignore[arg-type]


class _Stack:
    """A ``queue.LifoQueue`` without a lock: nothing here ever blocks.

    That lock would stay held forever if a signal handler raised right after it was
    acquired. A list's append() and pop() need none.
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
    """A urllib3 pool that knows which of its connections may be used once more."""

    QueueCls: Any = _Stack

    def _make_request(self, conn: Any, *args: Any, **kwargs: Any) -> Any:
        headers = kwargs.get("headers") or {}
        asks_to_close = str(headers.get("Connection", "")).lower() == "close"
        # From here on, so that a request that breaks does not leave it trusted.
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
                # The server may close it and need not say so (RFC 9112, 9.6).
                conn.close()
        super()._put_conn(conn)  # type: ignore[misc]

    def _get_conn(self, timeout: float | None = None) -> Any:
        conn = super()._get_conn(timeout=timeout)  # type: ignore[misc]
        if _is_too_old(conn):
            conn.close()  # it opens anew by itself
        return conn


def _is_too_old(conn: Any) -> bool:
    idle_since = getattr(conn, "idle_since", None)
    if idle_since is None:
        return False
    limit = getattr(conn, "max_idle", None)
    limit = MAX_IDLE_SECONDS if limit is None else min(limit, MAX_IDLE_SECONDS)
    return bool(Clock.monotonic() - idle_since > limit)


def _adapt(pools: Mapping[str, Any]) -> dict[str, Any]:
    """Return urllib3's pool classes by scheme, plain or of SOCKS, with our habits."""
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
    """requests' transport, over pools that do not trust an old connection."""

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
        """Close the connections that no request uses, without asking for any lock.

        After an interruption a lock or a queue of urllib3's may be held for ever.
        """
        for pool in list(self.poolmanager.pools._container.values()):
            for connection in list(pool.pool.queue):
                if connection is not None:
                    connection.close()
