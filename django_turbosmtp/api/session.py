"""One HTTP session: pooled, and without ambient credentials.

requests' own ``Session`` would read ``~/.netrc`` (turboSMTP answers an
``Authorization`` header 401), keep cookies and follow redirects with the
credentials. So its transport adapter is used directly, which does none of these.
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

#: Take no longer answer for turboSMTP's: its own are some dozens of bytes.
MAX_ANSWER_BYTES = 2**20

#: Use each connection only once for this many seconds after one broke in the middle: a
#: server that closes without saying so would make more outcomes unknown.
SINGLE_USE_SECONDS = 60.0

#: Raised for an invalid host name or URL, before anything is sent.
_UNUSABLE = (requests.exceptions.InvalidURL, LocationValueError, UnicodeError)
_PROXY_SCHEMES = {"http", "https", "socks4", "socks4a", "socks5", "socks5h"}

_BAD_PROXY = (
    "the proxy of the environment (HTTPS_PROXY, ALL_PROXY ...) is not a URL that can"
    " be used; correct or remove it"
)

_HEADERS = {
    "User-Agent": f"django-turbosmtp/{__version__} requests/{requests.__version__}",
    "Accept": "application/json",
}


#: Where requests finds a CA bundle of the site, in this order.
BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


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
        #: When the last request began, by Clock.monotonic().
        self.last_used = Clock.monotonic()
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._adapter = Adapter(
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
        """Return the answer of one request, read whole; redirects are not followed.

        ``timeout``: seconds to connect, and for the whole of the answer. ``place``:
        what errors call the other side. Raise `ConnectionFailed` where no whole
        request left, else `OutcomeUnknown`.
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
            # Ctrl-C, or what a signal handler raises of another kind.
            self._abandon()
            raise
        # Raised outside the handler, so that the request, its headers and the frames
        # that hold them do not travel along as the context of our error.
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
            f"No request could be sent to {place} ({why}); turboSMTP has not got it."
            f"{hint}",
            connected=body is not None and body.started,
        ) from cause

    def _pass_interrupt(self, error: BaseException) -> None:
        try:
            raise_interrupt(error)
        except Interrupted:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """Begin with a new pool: nobody knows which lock of it is held for ever."""
        abandoned = self._adapter
        self._open()
        abandoned.abandon()

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


def _find_cause(error: BaseException) -> OSError | None:
    """Return the operating system's own error below the libraries', bare."""
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
    """Return the cause without the proxy's password, should a proxy repeat it."""
    userinfo = (proxy or "").rpartition("@")[0].rpartition("://")[2]
    password = userinfo.partition(":")[2]
    basic = b64encode(unquote(userinfo).encode()).decode()
    forms = list_forms([password, unquote(password), basic])
    text = str(cause)
    return cause if redact(text, forms) == text else OSError(redact(text, forms))


def _suggest_sandbox(url: str, cause: Exception | None) -> str:
    """Return what to do where nobody listens on this machine, else ""."""
    host = urlsplit(url).hostname or ""
    if isinstance(cause, ConnectionRefusedError) and is_loopback(host):
        return " Is it the sandbox? Start it: python manage.py turbosmtp_sandbox"
    return ""


def _refuse(place: str, setting: str) -> ConnectionFailed:
    """Return the error of a setting that no further try can be sent with either."""
    error = ConnectionFailed(
        f"Nothing can be sent to {place}: {setting}. turboSMTP has not got the message."
    )
    error.retryable = False
    return error


def _explain(error: Exception) -> str:
    """Return what of our settings nothing can be sent with, "" for another failure."""
    chain = list(walk_chain(error))
    if any(isinstance(found, requests.exceptions.InvalidSchema) for found in chain):
        return "a SOCKS proxy needs the package PySocks; install requests[socks]"
    if any(isinstance(found, _UNUSABLE) for found in chain):
        return "no such host name can be looked up; correct SEND_URL or API_URL"
    return ""


def _explain_bundle(verify: str | bool) -> str:
    """Return what is wrong with the CA bundle, "" if it can be used.

    Trying again would not help. requests raises the same OSError as for a network.
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
        _ = parts.port  # raises where it is none
        # As it is looked up: no label is empty or longer than 63 characters.
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
    """Return the parts of a proxy's URL; raise ValueError where it has none."""
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def find_host(proxy: str) -> str:
    """Return the host of a proxy, given as a URL or as host and port, "" for none."""
    try:
        return _split(proxy).hostname or ""
    except ValueError:
        return ""
