"""Proxies and hosts that cannot be used: a clear error, and no second attempt."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.exceptions import ConnectionFailed
from django_turbosmtp.sandbox import Sandbox
from tests.messages import new
from tests.serving import serving

Asked = list[tuple[str, int]]


@pytest.fixture
def asked(
    sandbox: Sandbox, project: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Asked]:
    """Yield the requests to a SOCKS5 server without a password (RFC 1928).

    It is the proxy of the environment, and connects to the sandbox for every request.
    """
    host, _, port = sandbox.send_url(2).split("/")[2].partition(":")
    found: Asked = []

    def serve(connection: socket.socket) -> None:
        with socket.create_connection((host, int(port))) as target:
            connection.recv(2 + 255)
            connection.sendall(b"\x05\x00")
            request = connection.recv(262)
            assert request[3] == 1  # An IPv4 address.
            name = socket.inet_ntoa(request[4:8])
            found.append((name, struct.unpack(">H", request[8:])[0]))
            connection.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
            back = threading.Thread(target=pump, args=(target, connection))
            back.start()
            pump(connection, target)
            back.join()

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(serve) as socks_port:
        monkeypatch.setenv("http_proxy", f"socks5h://127.0.0.1:{socks_port}")
        yield found


def pump(source: socket.socket, sink: socket.socket) -> None:
    while data := source.recv(2**16):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)


def test_socks(asked: Asked, sandbox: Sandbox) -> None:
    for _ in range(2):
        assert EmailBackend().send_messages([new()]) == 1
    assert len(sandbox.messages) == 2
    # One connection for both, as without a proxy.
    assert len(asked) == 1


WITHOUT_PYSOCKS = """
import sys
sys.modules["socks"] = None
from django.conf import settings
settings.configure(TURBOSMTP={"CONSUMER_KEY": "k", "CONSUMER_SECRET": "s"})
from django.core.mail import EmailMessage
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.exceptions import ConnectionFailed
message = EmailMessage("S", "B", "a@x.org", ["b@x.org"])
try:
    EmailBackend().send_messages([message])
except ConnectionFailed as error:
    print(error, error.retryable, message.turbosmtp_status.attempts)
"""


def test_socks_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYSOCKS],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "a SOCKS proxy needs the package PySocks" in done.stdout, done.stderr
    assert done.stdout.endswith("False 1\n")


@pytest.mark.parametrize(
    "host", [f"{'x' * 64}.example.com", "a..example.com", ".example.com"]
)
def test_an_invalid_host_name(host: str, project: Any) -> None:
    project.TURBOSMTP |= {"SEND_URL": f"https://{host}/api"}
    messages = [new(), new()]
    with pytest.raises(ConnectionFailed, match="host name.*SEND_URL") as caught:
        EmailBackend().send_messages(messages)
    assert not caught.value.retryable
    assert not any(error.retryable for _, error in caught.value.failures)  # type: ignore[attr-defined]
    assert [m.turbosmtp_status.attempts for m in messages] == [1, 0]  # type: ignore[attr-defined]


def test_an_unknown_host_is_retryable(project: Any) -> None:
    project.TURBOSMTP |= {"SEND_URL": "https://nowhere.invalid/api", "MAX_RETRIES": 0}
    with pytest.raises(ConnectionFailed) as caught:
        EmailBackend().send_messages([new()])
    assert caught.value.retryable
