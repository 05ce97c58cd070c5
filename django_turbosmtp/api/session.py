"""An HTTP session with a pool of connections, and without ambient credentials.

The ``Session`` of requests would read ``~/.netrc`` (turboSMTP answers an
``Authorization`` header with 401), keep cookies, and follow redirects with the
credentials. Its transport adapter, used here directly, does none of these.
"""

from __future__ import annotations

import os
import threading
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import requests
from requests.structures import CaseInsensitiveDict
from requests.utils import select_proxy
from urllib3.exceptions import HTTPError, LocationValueError

from django_turbosmtp import __version__
from django_turbosmtp._lib.clocks import Clock
from django_turbosmtp._lib.hosts import is_loopback
from django_turbosmtp._lib.interrupts import Interrupted, raise_interrupt, walk_chain
from django_turbosmtp._lib.loggers import guard_records
from django_turbosmtp._lib.secrets import list_forms, redact, shows_no_locals
from django_turbosmtp.api.pool import Adapter
from django_turbosmtp.api.results import Response, parse_json
from django_turbosmtp.exceptions import ConnectionFailed, OutcomeUnknown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

    from requests.adapters import HTTPAdapter

    from django_turbosmtp.api.body import Transmission

#: Do not read a longer answer: turboSMTP's have some dozens of bytes.
MAX_ANSWER_BYTES = 2**20

#: After a connection broke during a request, use each connection only once for this
#: many seconds: a server that closes idle connections would make more outcomes unknown.
SINGLE_USE_SECONDS = 60.0

#: Raised for an invalid host name or URL, before anything is sent.
_UNUSABLE = (requests.exceptions.InvalidURL, LocationValueError, UnicodeError)
_PROXY_SCHEMES = {"http", "https", "socks4", "socks4a", "socks5", "socks5h"}

_BAD_PROXY = (
    "the environment's proxy (HTTPS_PROXY, ALL_PROXY ...) is not a valid URL; correct"
    " or remove it"
)

_HEADERS = {
    "User-Agent": f"django-turbosmtp/{__version__} requests/{requests.__version__}",
    "Accept": "application/json",
}


#: The variables in which requests looks for the site's CA bundle, in this order.
BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class Session:
    """A pool of connections to one host, safe to use from many threads and forks."""

    def __init__(
        self, *, pool_size: int, proxies: Mapping[str, str], verify: str | bool
    ) -> None:
        """Create a session without connections. ``verify``: True, or a CA bundle."""
        self._pool_size = pool_size
        self._proxies = dict(proxies)
        self._verify = verify
        self._lock = threading.Lock()
        self._inherited: list[HTTPAdapter] = []
        self._single_use_until = 0.0
        #: When the last request began, by Clock.monotonic().
        self.last_used = Clock.monotonic()
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._adapter = Adapter(
            pool_connections=1, pool_maxsize=self._pool_size, max_retries=0
        )

    def _own_adapter(self) -> HTTPAdapter:
        # After a fork, parent and child share the sockets. Keep a reference, so that
        # they are not closed: TLS would send a closing message to the server.
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._inherited.append(self._adapter)
                    self._open()
        return self._adapter

    @shows_no_locals
    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout: tuple[float, float],
        place: str,
        body: Transmission | None = None,
    ) -> Response:
        """Return the answer to one request. Redirects are not followed.

        ``timeout``: seconds for connecting, and for the whole answer. ``place``: the
        name of the server in errors. Raise `ConnectionFailed` if the request was not
        completely sent, and `OutcomeUnknown` after any other failure.
        """
        prepared = requests.PreparedRequest()
        prepared.method, prepared.url, prepared.hooks = method, url, {}
        prepared.headers = CaseInsensitiveDict(_HEADERS | dict(headers))
        self.last_used = Clock.monotonic()
        if self.last_used < self._single_use_until:
            prepared.headers["Connection"] = "close"
        if body is not None:
            prepared.body = body  # type: ignore[assignment]
            prepared.headers["Content-Length"] = str(len(body))
        proxy = select_proxy(url, self._proxies)
        if proxy and not _is_usable(proxy):
            raise _refuse(place, _BAD_PROXY)
        try:
            with guard_records():
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
            self._pass_interrupt(error)
            cause = _redact(_find_cause(error), proxy)
            setting = "" if cause is not None else _explain(error)
            if url.startswith("https:") and not (body and body.started):
                setting = setting or _explain_bundle(self._verify)
        except BaseException:
            # Ctrl-C, or another exception of a signal handler.
            self._abandon()
            raise
        # Raise it outside the handler, so that the context of our error has no
        # reference to the request and its headers.
        why = _describe(cause)
        if through := find_host(proxy or ""):
            place += f" through the proxy {through}"
        if isinstance(cause, ConnectionError) and body is not None and body.started:
            self._single_use_until = Clock.monotonic() + SINGLE_USE_SECONDS
        if body is not None and body.complete:
            raise OutcomeUnknown(
                f"The request reached {place}, but no answer came back ({why}):"
                " turboSMTP may have accepted it."
            ) from cause
        if setting:
            raise _refuse(place, setting)
        hint = "" if proxy else _suggest_sandbox(url, cause)
        raise ConnectionFailed(
            f"No request could be sent to {place} ({why}); turboSMTP did not receive"
            f" it.{hint}",
            connected=body is not None and body.started,
        ) from cause

    def _pass_interrupt(self, error: BaseException) -> None:
        try:
            raise_interrupt(error)
        except Interrupted:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """Replace the pool: after an interruption, its locks may be held forever."""
        abandoned = self._adapter
        self._open()
        abandoned.abandon()

    def close(self) -> None:
        """Close the connections that no request is using."""
        if self._pid == os.getpid():
            self._adapter.close()


def _read(answer: requests.Response) -> Response:
    if answer.status_code < 200 and answer.raw.connection is not None:
        # An interim answer (RFC 9110, 15.2), which Python treats as the final one. The
        # final one follows on this connection, and must not be read as the answer to
        # the next message.
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


def _find_cause(error: BaseException) -> OSError | None:
    """Return the operating system's error in the chain, without its context."""
    found = None
    for current in walk_chain(error):
        if isinstance(current, OSError) and not isinstance(
            current, requests.RequestException
        ):
            found = current
    if found is not None:
        found.__traceback__ = found.__context__ = found.__cause__ = None
    return found


def _redact(cause: OSError | None, proxy: str | None) -> OSError | None:
    """Return the cause without the proxy's password, in case a proxy repeated it."""
    userinfo = (proxy or "").rpartition("@")[0].rpartition("://")[2]
    password = userinfo.partition(":")[2]
    basic = b64encode(unquote(userinfo).encode()).decode()
    forms = list_forms([password, unquote(password), basic])
    text = str(cause)
    return cause if redact(text, forms) == text else OSError(redact(text, forms))


def _suggest_sandbox(url: str, cause: Exception | None) -> str:
    """Return a hint if no server listens on this machine, else ""."""
    host = urlsplit(url).hostname or ""
    if isinstance(cause, ConnectionRefusedError) and is_loopback(host):
        return " Is it the sandbox? Start it: python manage.py turbosmtp_sandbox"
    return ""


def _refuse(place: str, setting: str) -> ConnectionFailed:
    """Return the error for a wrong setting, with which a retry would fail too."""
    error = ConnectionFailed(
        f"Nothing can be sent to {place}: {setting}. turboSMTP did not receive the"
        " message."
    )
    error.retryable = False
    return error


def _explain(error: Exception) -> str:
    """Return which setting is wrong and how to fix it, "" for other errors."""
    chain = list(walk_chain(error))
    if any(isinstance(found, requests.exceptions.InvalidSchema) for found in chain):
        return "a SOCKS proxy needs the package PySocks; install requests[socks]"
    if any(isinstance(found, _UNUSABLE) for found in chain):
        return "the host name is invalid; correct SEND_URL or API_URL"
    return ""


def _explain_bundle(verify: str | bool) -> str:
    """Return the problem of the CA bundle, "" if it can be used.

    requests raises an OSError for it, as for network errors, but a retry cannot help.
    """
    if isinstance(verify, bool) or Path(verify).is_dir():
        return ""
    name = next((n for n in BUNDLE_VARIABLES if os.environ.get(n) == verify), "")
    where = f"the CA bundle {verify!r}" + (f" of {name}" if name else "")
    try:
        if b"-----BEGIN" in Path(verify).read_bytes():
            return ""
    except OSError as error:
        raise_interrupt(error)
        return f"{where} cannot be read ({error.strerror}); correct the path"
    return f"{where} has no certificates in PEM form"


def _is_usable(proxy: str) -> bool:
    try:
        parts = _split(proxy)
        _ = parts.port  # It raises ValueError if it is invalid.
        # The name is looked up in this form: no label is empty, or too long.
        (parts.hostname or ".").rstrip(".").encode("idna")
    except ValueError:
        return False
    return bool(parts.hostname) and parts.scheme in _PROXY_SCHEMES


def _describe(cause: OSError | None) -> str:
    if cause is None:
        return "not an HTTP answer"
    if isinstance(cause, TimeoutError):
        return "timed out"
    return f"{type(cause).__name__}: {cause.strerror or cause}"


def _split(proxy: str) -> SplitResult:
    """Return the parts of a proxy's URL; raise ValueError if it is invalid."""
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def find_host(proxy: str) -> str:
    """Return the host of a proxy, given as a URL or as host and port, "" for none."""
    try:
        return _split(proxy).hostname or ""
    except ValueError:
        return ""
