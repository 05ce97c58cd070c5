"""The sessions of this process, which stay open between sends.

Django 6.1 creates a new backend for every ``send_mail()``; here, the connection stays
open between them. Cookies and credentials are not kept. A forked process has its own
sessions.
"""

from __future__ import annotations

import atexit
import os
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from requests.utils import get_environ_proxies

from django_turbosmtp._lib.clocks import Clock
from django_turbosmtp._lib.hosts import is_loopback
from django_turbosmtp._lib.secrets import Secret, shows_no_locals
from django_turbosmtp.api import pool
from django_turbosmtp.api.session import BUNDLE_VARIABLES, Session, find_host

_PROXY_VARIABLES = [
    case(name)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for case in (str.lower, str.upper)
]


# No lock, because an exception in a signal handler could leave it held forever. Every
# step is one atomic dict operation, and a closed session is reopened on use.
_shared: dict[tuple[Any, ...], Session] = {}
#: The parent's sessions. Not closed: TLS would send a closing message to the server.
_inherited: list[dict[tuple[Any, ...], Session]] = []


@lru_cache(maxsize=64)
def _find_proxies(url: str, *_environment: str | None) -> dict[str, str]:
    # requests reads the whole environment, which takes a tenth of a millisecond.
    return get_environ_proxies(url)


@shows_no_locals
def share_session(url: str, *, pool_size: int) -> Session:
    """Return the process's session for the host of ``url``."""
    parts = urlsplit(url)
    proxies = _find_proxies(url, *map(os.environ.get, _PROXY_VARIABLES))
    if parts.scheme == "http":
        # Plain http is only allowed to this machine; a remote proxy could read it.
        proxies = {k: v for k, v in proxies.items() if is_loopback(find_host(v))}
    # requests does the same. A company's certificate authority is not a credential.
    bundle = next(filter(None, map(os.environ.get, BUNDLE_VARIABLES)), None)
    # A proxy's URL may have a password.
    hidden = ((name, Secret(proxy)) for name, proxy in sorted(proxies.items()))
    key = (parts.scheme, parts.netloc, pool_size, bundle, *hidden)
    session = _shared.get(key)
    if session is None:
        _close_idle()
        session = _shared.setdefault(
            key,
            Session(pool_size=pool_size, proxies=proxies, verify=bundle or True),
        )
    return session


def _close_idle() -> None:
    """Close the sessions of hosts that were not used recently."""
    bound = Clock.monotonic() - pool.MAX_IDLE_SECONDS
    for key, session in list(_shared.items()):
        if session.last_used < bound:
            _shared.pop(key, session).close()


def close_shared_sessions() -> None:
    """Close all connections that stay open between sends; the next send reopens one."""
    while _shared:
        _, session = _shared.popitem()
        session.close()


def _forget_after_fork() -> None:
    global _shared
    _inherited.append(_shared)
    _shared = {}


atexit.register(close_shared_sessions)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
