"""Ways out that cannot be used: the cause in words, and no second try."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from django_turbosmtp.api.shared import close_shared_sessions
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.exceptions import ConnectionFailed
from django_turbosmtp.sandbox import Sandbox
from tests.messages import new


class SocksServer:
    """SOCKS5 without a password (RFC 1928), to one place whatever it is asked for."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.asked: list[tuple[str, int]] = []
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(
                target=self._serve, args=(connection,), daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, socket.create_connection(self._target) as target:
            connection.recv(2 + 255)
            connection.sendall(b"\x05\x00")
            request = connection.recv(262)
            if request[3] == 1:
                host, rest = socket.inet_ntoa(request[4:8]), request[8:]
            else:
                end = 5 + request[4]
                host, rest = request[5:end].decode(), request[end:]
            self.asked.append((host, struct.unpack(">H", rest)[0]))
            connection.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
            pump = threading.Thread(
                target=self._pump, args=(target, connection), daemon=True
            )
            pump.start()
            self._pump(connection, target)
            pump.join()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        while data := source.recv(2**16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def socks(
    sandbox: Sandbox, project: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SocksServer]:
    host, _, port = sandbox.send_url(2).split("/")[2].partition(":")
    server = SocksServer((host, int(port)))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"socks5h://127.0.0.1:{server.port}")
    yield server
    close_shared_sessions()
    server.close()


def test_socks(socks: SocksServer, sandbox: Sandbox) -> None:
    for _ in range(2):
        assert EmailBackend().send_messages([new()]) == 1
    assert len(sandbox.messages) == 2
    # One connection for both, as without a proxy.
    assert len(socks.asked) == 1


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
def test_a_host_that_is_no_name(host: str, project: Any) -> None:
    project.TURBOSMTP |= {"SEND_URL": f"https://{host}/api"}
    messages = [new(), new()]
    with pytest.raises(ConnectionFailed, match="host name.*SEND_URL") as caught:
        EmailBackend().send_messages(messages)
    assert not caught.value.retryable
    assert not any(error.retryable for _, error in caught.value.failures)  # type: ignore[attr-defined]
    assert [m.turbosmtp_status.attempts for m in messages] == [1, 0]  # type: ignore[attr-defined]


def test_a_host_that_nobody_knows_may_be_known_later(project: Any) -> None:
    project.TURBOSMTP |= {"SEND_URL": "https://nowhere.invalid/api", "MAX_RETRIES": 0}
    with pytest.raises(ConnectionFailed) as caught:
        EmailBackend().send_messages([new()])
    assert caught.value.retryable
