"""Pools of connections: urllib3's internals, and nothing of ours but their age.

requests makes its pools by itself; `Adapter` has it make these.
"""

from __future__ import annotations

import time
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

#: Close a connection that was unused for this many seconds: a server or a firewall on
#: the way may have dropped it without a word.
MAX_IDLE_SECONDS = 20.0


class _Aging:
    """A urllib3 pool that does not trust a connection that was idle for long."""

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.idle_since = time.monotonic()
        super()._put_conn(conn)  # type: ignore[misc]

    def _get_conn(self, timeout: float | None = None) -> Any:
        conn = super()._get_conn(timeout=timeout)  # type: ignore[misc]
        now = time.monotonic()
        if now - getattr(conn, "idle_since", now) > MAX_IDLE_SECONDS:
            conn.close()  # it opens anew by itself
        return conn


class _HTTPPool(_Aging, HTTPConnectionPool):
    pass


class _HTTPSPool(_Aging, HTTPSConnectionPool):
    pass


class Adapter(HTTPAdapter):
    """requests' transport, over pools that do not trust an old connection."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}
