"""A send ends within the configured time, however slow the server is.

Each server here sends or receives a byte at intervals, much longer than TIMEOUT.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trustme

from django_turbosmtp.api.client import Client
from django_turbosmtp.api.shared import share_session
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.conf.settings import load
from django_turbosmtp.exceptions import ConnectionFailed, OutcomeUnknown
from tests.messages import new
from tests.serving import serving

SECONDS = 0.3
#: Servers send for this long, unless the client disconnects first.
LONG = 5.0


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(2**16) or b"\r\n\r\n"
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            while len(body) < int(line.split(b":")[1]):
                body += connection.recv(2**16)
    return head


def drip(connection: socket.socket, data: bytes) -> None:
    started = time.perf_counter()
    for number in range(len(data)):
        if time.perf_counter() - started > LONG:
            return
        connection.sendall(data[number : number + 1])
        time.sleep(SECONDS / 4)


JSON = b'{"message":"OK","mid":1}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 24\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#: The part that is sent immediately, and the part that is sent byte by byte.
ANSWERS = {
    "status line": (b"", HEAD + b"\r\n" + JSON),
    "headers": (HEAD, b"X-Slow: " + b"x" * 60 + b"\r\n\r\n" + JSON),
    "body": (HEAD + b"\r\n", JSON.rjust(24)),
    "body of no length": (b"HTTP/1.1 200 OK\r\n\r\n" + JSON, b" " * 100),
    "chunks": (CHUNKED, b"".join(b"1\r\n%c\r\n" % c for c in JSON) + b"0\r\n\r\n"),
    "trailers": (CHUNKED + b"18\r\n%b\r\n0\r\n" % JSON, b"X-Slow: " + b"x" * 60),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 9),
}


@pytest.fixture
def dripping(settings: Any) -> Any:
    settings.TURBOSMTP = {
        "LOG": False,
        "CONSUMER_KEY": "k",
        "CONSUMER_SECRET": "s",
        "TIMEOUT": SECONDS,
        "MAX_RETRIES": 0,
    }
    return settings


@contextmanager
def bounded(least: float = 0.0) -> Iterator[None]:
    started = time.perf_counter()
    yield
    assert least <= time.perf_counter() - started < 4 * SECONDS


@pytest.mark.parametrize(
    ("case", "threaded"),
    [*((case, False) for case in ANSWERS), ("headers", True), ("body", True)],
)
def test_answer(case: str, threaded: bool, dripping: Any) -> None:
    at_once, slowly = ANSWERS[case]
    served = []

    def answer(connection: socket.socket) -> None:
        read_request(connection)
        served.append(connection.getpeername())
        if len(served) > 1:
            connection.sendall(HEAD + b"\r\n" + JSON)
            return
        connection.sendall(at_once)
        drip(connection, slowly)

    seen = []

    def send() -> None:
        message = new()
        with pytest.raises(OutcomeUnknown, match="timed out"):
            EmailBackend().send_messages([message])
        seen.append(message.turbosmtp_status.outcome)

    with serving(answer) as port:
        dripping.TURBOSMTP |= {"SEND_URL": f"http://127.0.0.1:{port}"}
        with bounded(least=SECONDS * 0.9):
            if threaded:
                thread = threading.Thread(target=send)
                thread.start()
                thread.join()
            else:
                send()
        assert seen == ["unknown"]
        # The rest of that answer is not read as the next one.
        assert EmailBackend().send_messages([new()]) == 1
    assert len(set(served)) == 2


@pytest.mark.parametrize("version", [2, 1])
@pytest.mark.parametrize("case", ["headers", "body"])
def test_login(case: str, version: int, dripping: Any) -> None:
    at_once, slowly = ANSWERS[case]

    def answer(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(at_once)
        drip(connection, slowly)

    with serving(answer) as port:
        dripping.TURBOSMTP |= {
            "API_VERSION": version,
            "AUTHUSER": "u@x.org",
            "AUTHPASS": "p",
            "API_URL": f"http://127.0.0.1:{port}",
        }
        session = share_session(f"http://127.0.0.1:{port}", pool_size=1)
        client = Client(session, load(), None)
        with bounded(), pytest.raises(ConnectionFailed):
            client.login("u@x.org", "p")


def test_proxy(dripping: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(connection: socket.socket) -> None:
        read_request(connection)
        drip(connection, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 60)

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    dripping.TURBOSMTP |= {"SEND_URL": "https://mail.example.com"}
    with serving(answer) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with bounded(), pytest.raises(ConnectionFailed, match="timed out"):
            EmailBackend().send_messages([new()])


def test_handshake(
    dripping: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))

    def shake_hands(connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(connection.recv(2**16))
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        drip(connection, outgoing.read())

    with serving(shake_hands) as port:
        dripping.TURBOSMTP |= {"SEND_URL": f"https://127.0.0.1:{port}"}
        with bounded(), pytest.raises(ConnectionFailed, match="timed out"):
            EmailBackend().send_messages([new()])


def test_sending(dripping: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is sent in time, but the complete request would take nine seconds."""
    monkeypatch.setattr("django_turbosmtp.api.pool.SLOWEST_RATE", 2**26)

    def read_slowly(connection: socket.socket) -> None:
        while connection.recv(2**15):
            time.sleep(0.015)

    with serving(read_slowly) as port:
        dripping.TURBOSMTP |= {"SEND_URL": f"http://127.0.0.1:{port}"}
        message = new(attachments=[("a.zip", bytes(15_000_000), "application/zip")])
        with bounded(), pytest.raises(ConnectionFailed, match="timed out"):
            EmailBackend().send_messages([message])
        assert message.turbosmtp_status.outcome == "refused"


def test_frozen_clock(dripping: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(connection: socket.socket) -> None:
        read_request(connection)
        drip(connection, HEAD)

    with serving(answer) as port:
        dripping.TURBOSMTP |= {"SEND_URL": f"http://127.0.0.1:{port}"}
        # As freezegun does.
        monkeypatch.setattr("time.monotonic", lambda: 1000.0)
        with bounded(), pytest.raises(OutcomeUnknown, match="timed out"):
            EmailBackend().send_messages([new()])
