"""The sessions of this process: kept open between sends, apart after a fork.

Django 6.1 makes a new backend for every ``send_mail()``; the connection stays open
between them here. Nothing else is kept: no cookie, no credential.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from requests.utils import get_environ_proxies

from django_turbosmtp._values import is_loopback
from django_turbosmtp.api import pool
from django_turbosmtp.api.session import Session, find_host

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROXY_VARIABLES = [
    case(name)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for case in (str.lower, str.upper)
]


@dataclass
class _Shared:
    session: Session
    users: int = 0
    last_used: float = 0.0


_shared: dict[tuple[Any, ...], _Shared] = {}
_shared_lock = threading.Lock()
#: The parent's sessions: not closed, so that nothing is said on its connections.
_inherited: list[dict[tuple[Any, ...], _Shared]] = []


@lru_cache(maxsize=64)
def _find_proxies(url: str, *_environment: str | None) -> dict[str, str]:
    # requests walks the whole environment for it, at a tenth of a millisecond.
    return get_environ_proxies(url)


@contextlib.contextmanager
def lend_session(url: str, *, pool_size: int) -> Iterator[Session]:
    """Lend the process's session for the host of ``url``."""
    parts = urlsplit(url)
    proxies = _find_proxies(url, *map(os.environ.get, _PROXY_VARIABLES))
    if parts.scheme == "http":
        # Plain http is allowed to this machine only; a proxy elsewhere would read it.
        proxies = {k: v for k, v in proxies.items() if is_loopback(find_host(v))}
    # What requests does: a company's own authority is no ambient credential.
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    key = (parts.scheme, parts.netloc, pool_size, bundle, *sorted(proxies.items()))
    with _shared_lock:
        _close_idle(time.monotonic())
        entry = _shared.get(key)
        if entry is None:
            session = Session(
                pool_size=pool_size, proxies=proxies, verify=bundle or True
            )
            entry = _shared[key] = _Shared(session)
        entry.users += 1
    try:
        yield entry.session
    finally:
        with _shared_lock:
            entry.users -= 1
            entry.last_used = time.monotonic()


def _close_idle(now: float) -> None:
    for key, entry in list(_shared.items()):
        if not entry.users and now - entry.last_used > pool.MAX_IDLE_SECONDS:
            del _shared[key]
            entry.session.close()


def close_shared_sessions() -> None:
    """Close all connections that stay open between sends; the next send opens anew."""
    with _shared_lock:
        for entry in _shared.values():
            entry.session.close()
        _shared.clear()


def _forget_after_fork() -> None:
    global _shared, _shared_lock  # the parent's lock may be held
    _inherited.append(_shared)
    _shared, _shared_lock = {}, threading.Lock()


atexit.register(close_shared_sessions)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
