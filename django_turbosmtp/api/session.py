"""HTTP sessions: pooled, kept alive across backends, and without ambient credentials.

requests' own ``Session`` would read ``~/.netrc`` (turboSMTP answers an
``Authorization`` header 401), keep cookies and follow redirects with the
credentials. So its transport adapter is used directly, which does none of these.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_environ_proxies, select_proxy
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from django_turbosmtp import __version__
from django_turbosmtp._values import is_loopback
from django_turbosmtp.api.results import Response
from django_turbosmtp.exceptions import ConnectionFailed, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from django_turbosmtp.api.body import Transmission

#: An answer is some dozens of bytes; more than this is not turboSMTP's.
MAX_ANSWER_BYTES = 2**20

#: Seconds after which an unused connection is not trusted any more: a server or a
#: firewall on the way may have dropped it without a word.
MAX_IDLE_SECONDS = 20.0

#: Seconds for which connections are used once only, after one broke in the middle: a
#: server that closes without saying so would make more outcomes unknown.
SINGLE_USE_SECONDS = 60.0

_HEADERS = {
    "User-Agent": f"django-turbosmtp/{__version__} requests/{requests.__version__}",
    "Accept": "application/json",
}


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


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager


_POOLS = {"http": _HTTPPool, "https": _HTTPSPool}


class Session:
    """A pool of connections to one host, safe to use from many threads and forks."""

    def __init__(
        self, *, pool_size: int, proxies: Mapping[str, str], verify: str | bool
    ) -> None:
        """Open nothing yet. ``verify``: True, or the path of a CA bundle."""
        self._pool_size = pool_size
        self._proxies = dict(proxies)
        self._verify = verify
        self._lock = threading.Lock()
        self._inherited: list[HTTPAdapter] = []
        self._single_use_until = 0.0
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._adapter = _Adapter(
            pool_connections=1, pool_maxsize=self._pool_size, max_retries=0
        )

    def _own_adapter(self) -> HTTPAdapter:
        # After a fork the sockets belong to parent and child alike. They are kept,
        # not closed, so that nothing is said on them from here.
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._inherited.append(self._adapter)
                    self._open()
        return self._adapter

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout: tuple[float, float],
        body: Transmission | None = None,
    ) -> Response:
        """Return the answer of one request, read whole; redirects are not followed.

        ``timeout``: seconds to connect, and between two bytes of the answer. Raise
        `ConnectionFailed` where no whole request left, else `OutcomeUnknown`.
        """
        prepared = requests.PreparedRequest()
        prepared.method, prepared.url, prepared.hooks = method, url, {}
        prepared.headers = CaseInsensitiveDict(_HEADERS | dict(headers))
        if time.monotonic() < self._single_use_until:
            prepared.headers["Connection"] = "close"
        if body is not None:
            prepared.body = body  # type: ignore[assignment]
            prepared.headers["Content-Length"] = str(len(body))
        try:
            return _read(
                self._own_adapter().send(
                    prepared,
                    stream=True,
                    timeout=timeout,
                    verify=self._verify,
                    proxies=self._proxies,
                )
            )
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            cause = _root(error)
        # Raised outside the handler, so that the request, its headers and the frames
        # that hold them do not travel along as the context of our error.
        host, why = urlsplit(url).netloc, _describe(cause)
        # Not the proxy's URL in a variable: it may hold a password.
        if through := _host_of(select_proxy(url, self._proxies) or ""):
            host += f" through the proxy {through}"
        if isinstance(cause, ConnectionError) and body is not None and body.started:
            self._single_use_until = time.monotonic() + SINGLE_USE_SECONDS
        if body is not None and body.complete:
            raise OutcomeUnknown(
                f"The request reached {host}, but no answer came back ({why}):"
                " turboSMTP may have accepted it."
            ) from cause
        raise ConnectionFailed(
            f"No request could be sent to {host} ({why}); turboSMTP has not got it.",
            connected=body is not None and body.started,
        ) from cause

    def close(self) -> None:
        """Close the connections that no request is using."""
        if self._pid == os.getpid():
            self._adapter.close()


def _read(answer: requests.Response) -> Response:
    if answer.status_code < 200 and answer.raw.connection is not None:
        # An interim answer (RFC 9110, 15.2), which Python takes for the final one. The
        # final one is still to come on this connection, and must not be read as the
        # answer to the next message.
        answer.raw.connection.close()
    with answer:
        raw: bytes = answer.raw.read(MAX_ANSWER_BYTES + 1, decode_content=True) or b""
        text = raw.decode(errors="replace") if len(raw) <= MAX_ANSWER_BYTES else ""
        return Response(
            status_code=answer.status_code,
            headers=answer.headers,
            text=text,
            data=parse_json(text),
        )


def parse_json(text: str) -> Any:
    # A float would change the digits of an id; Python's ints are exact.
    try:
        return json.loads(text, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None


def _root(error: BaseException) -> OSError | None:
    """Return the operating system's own error below the libraries', bare."""
    found = None
    seen: set[int] = set()
    queue: list[Any] = [error]
    while queue:
        current = queue.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, OSError) and not isinstance(
            current, requests.RequestException
        ):
            found = current
        queue += [*current.args, getattr(current, "reason", None)]
        queue += [current.__context__, current.__cause__]
    if found is not None:
        found.__traceback__ = found.__context__ = found.__cause__ = None
    return found


def _describe(cause: OSError | None) -> str:
    if cause is None:
        return "not an HTTP answer"
    if isinstance(cause, TimeoutError):
        return "timed out"
    return f"{type(cause).__name__}: {cause.strerror or cause}"


@dataclass
class _Shared:
    session: Session
    users: int = 0
    last_used: float = 0.0


_shared: dict[tuple[Any, ...], _Shared] = {}
_shared_lock = threading.Lock()


_PROXY_VARIABLES = [
    case(name)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for case in (str.lower, str.upper)
]


def _host_of(proxy: str) -> str:
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}").hostname or ""


@lru_cache(maxsize=64)
def _proxies(url: str, *_environment: str | None) -> dict[str, str]:
    # requests walks the whole environment for it, at a tenth of a millisecond.
    return get_environ_proxies(url)


@contextlib.contextmanager
def shared_session(url: str, *, pool_size: int) -> Iterator[Session]:
    """Lend the process's session for the host of ``url``.

    Django 6.1 makes a new backend for every ``send_mail()``; the connection stays
    open between them here. Nothing else is kept: no cookie, no credential.
    """
    parts = urlsplit(url)
    proxies = _proxies(url, *map(os.environ.get, _PROXY_VARIABLES))
    if parts.scheme == "http":
        # Plain http is allowed to this machine only; a proxy elsewhere would read it.
        proxies = {k: v for k, v in proxies.items() if is_loopback(_host_of(v))}
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
        if not entry.users and now - entry.last_used > MAX_IDLE_SECONDS:
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


_inherited: list[dict[tuple[Any, ...], _Shared]] = []
atexit.register(close_shared_sessions)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
