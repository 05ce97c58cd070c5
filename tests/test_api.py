"""The API client: answers of every documented shape, logins, sessions, secrets."""

from __future__ import annotations

import ast
import json
import os
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import trustme
import urllib3
from urllib3.connection import HTTPConnection

import django_turbosmtp
from django_turbosmtp.api.body import Body, Transmission
from django_turbosmtp.api.client import Client
from django_turbosmtp.api.errors import build_error, read_retry_after
from django_turbosmtp.api.pool import PRIVATE_NAMES
from django_turbosmtp.api.results import Response
from django_turbosmtp.api.shared import close_shared_sessions, share_session
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.conf.settings import load
from django_turbosmtp.exceptions import (
    APIError,
    AuthenticationError,
    BadRequest,
    ConnectionFailed,
    Forbidden,
    InvalidResponse,
    NoCredit,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    ServerError,
)
from django_turbosmtp.payload import WireAttachment
from django_turbosmtp.sandbox import Sandbox
from tests.messages import new
from tests.serving import Answer, exposed, hang_up, say, send


@pytest.mark.parametrize(
    ("raw", "mid"),
    [
        (b"1688566310828572700", "1688566310828572700"),
        (b'"1688566310828572701"', "1688566310828572701"),
        (b"99999999999999999999999", "99999999999999999999999"),
        (b"1.6885663108285727e18", None),
        (b"null", None),
        (b"true", None),
        (b"-5", None),
        (b'"abc"', None),
        (b"NaN", None),
    ],
)
def test_message_id_is_exact(raw: bytes, mid: str | None, server: Any) -> None:
    status = send(server, say(200, b'{"message":"OK","mid":' + raw + b"}"))
    assert status.message_id == mid
    assert status.outcome == "accepted"


ERRORS: list[tuple[int, Any, type[APIError], tuple[str, ...]]] = [
    (400, {"message": "error", "errors": ["a", "b"]}, BadRequest, ("a", "b")),
    (400, {"message": "error", "errors": [["a"], [["b"]]]}, BadRequest, ("a", "b")),
    (400, {"message": "error", "errors": ["nocredit"]}, NoCredit, ("nocredit",)),
    (
        400,
        {"message": "error", "errors": {"message": "error", "errors": "nocredit"}},
        NoCredit,
        ("nocredit",),
    ),
    (400, {"message": "some_error"}, BadRequest, ("some_error",)),
    (400, ["x"], BadRequest, ("x",)),
    (400, b"<html>", BadRequest, ()),
    (
        401,
        {"errorCode": 3, "message": "m", "details": "d"},
        AuthenticationError,
        ("m",),
    ),
    (401, {"error": 3, "message": "m"}, AuthenticationError, ("m",)),
    (403, {"message": "feature_x"}, Forbidden, ("feature_x",)),
    (403, {"message": "wrong_credentials_specified"}, AuthenticationError, ...),
    (404, {"message": "email_not_found"}, NotFound, ("email_not_found",)),
    (413, b"", APIError, ()),
    (418, b"\xff", APIError, ()),
    (429, {"message": "slow"}, RateLimited, ("slow",)),
]


@pytest.mark.parametrize(("status", "data", "error", "errors"), ERRORS)
def test_refusals(status: int, data: Any, error: Any, errors: Any, server: Any) -> None:
    with pytest.raises(error) as caught:
        send(server, say(status, data))
    assert type(caught.value) is error
    assert caught.value.status_code == status
    if errors is not ...:
        assert caught.value.errors == errors
    assert all(text in str(caught.value) for text in caught.value.errors)


def test_evidence_of_an_error(server: Any) -> None:
    data = {"errorCode": 3, "message": "Account for x@y is inactive", "details": "why"}
    with pytest.raises(AuthenticationError) as caught:
        send(server, say(401, data))
    assert (caught.value.code, caught.value.details) == (3, "why")
    assert "Account for x@y is inactive" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (1, AuthenticationError),
        (2, AuthenticationError),
        (3, AuthenticationError),
        (4, NotFound),
        (5, ServerError),
        (6, InvalidResponse),
        (7, Forbidden),
    ],
)
def test_error_types_of_v1(code: int, error: type[APIError]) -> None:
    data = {"errorCode": code, "message": "m"}
    response = Response(status_code=200, headers={}, text="", data=data)
    assert type(build_error(response, place="x", login="y")) is error


@pytest.mark.parametrize(
    "answer",
    [
        say(200, {"message": "ok"}),
        say(200, {"message": "error", "errors": ["x"]}),
        say(200, ["OK"]),
        say(200, b""),
        say(200, b"null"),
        say(200, b"[" * 100_000),
        say(200, b'"' + b"x" * (2**20 + 10) + b'"'),
        say(202, {"message": "OK", "mid": 1}),
        say(301, b"", Location="https://example.com/?a=hunter2"),
        say(303, b"", Location="/elsewhere"),
        say(500, {"message": "OK", "mid": 1}),
        say(503, b"", Retry_After="soon"),
        say(599, b""),
    ],
)
def test_unreadable_is_unknown(answer: Answer, server: Any) -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        send(server, answer)
    assert isinstance(caught.value.__cause__, APIError)
    assert len(server.seen) == 1
    assert "hunter2" not in str(caught.value)


def test_an_interim_answer_is_not_used(server: Any) -> None:
    def hint(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        handler.wfile.flush()
        time.sleep(0.05)
        say(200, {"message": "OK", "mid": len(server.seen)})(handler, body)

    server.answer = hint
    first, second = new(), new()
    with pytest.raises(OutcomeUnknown):
        EmailBackend().send_messages([first, second])
    for number, message in enumerate((first, second), 1):
        # Some versions of Python skip it. None returns the answer to another message.
        status = message.turbosmtp_status
        assert status.outcome == "unknown" or status.message_id == str(number)


def test_a_connection_that_closes_silently_is_not_reused(server: Any) -> None:
    send(server)
    with pytest.raises(OutcomeUnknown):
        send(server, hang_up)
    send(server, say(200, {"message": "OK"}))
    headers = [{k.lower(): v for k, v in seen[1].items()} for seen in server.seen]
    assert [h.get("connection") for h in headers] == [None, None, "close"]


@pytest.mark.parametrize(
    "data", [{"message": "bad", "error": True}, {"message": "bad", "error": 3}]
)
def test_error_is_only_a_code_in_a_401(data: Any, server: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        send(server, say(400, data))
    assert type(caught.value) is BadRequest
    assert caught.value.code is None


def test_answer_in_pieces_and_in_gzip(server: Any) -> None:
    import gzip

    body = gzip.compress(b'{"message":"OK","mid":5}')

    def answer(handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in (body[:5], body[5:]):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")

    assert send(server, answer).message_id == "5"
    assert send(server, answer).message_id == "5"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("9" * 30, None),
        ("Fri, 09 Nov 2001 01:08:47 GMT", 0),
        ("Fri, 09 Nov 2001 01:08:47 -0000", 0),
        ("Fri, 31 Dec 9999999 00:00:00 GMT", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    response = Response(status_code=429, headers={"Retry-After": value}, text="")
    assert read_retry_after(response) == seconds


class TestLogin:
    def login(self, **kwargs: Any) -> Any:
        settings = load()
        session = share_session(settings.api_url, pool_size=1)
        return Client(session, settings, None).login(
            "me@example.com", "hunter2/?#ü", **kwargs
        )

    def test_v2(self, server: Any) -> None:
        server.answer = say(200, {"auth": "the-key"})
        login = self.login(no_expire=True)
        assert login.key == "the-key"
        assert "the-key" not in repr(login)
        ((path, headers, body),) = server.seen
        assert path == "/api/authorize"
        assert json.loads(body) == {
            "email": "me@example.com",
            "password": "hunter2/?#ü",
            "no_expire": True,
        }
        assert not {"consumerkey", "authorization"} & {h.lower() for h in headers}

    def test_v1(self, server: Any, settings: Any) -> None:
        settings.TURBOSMTP |= {"API_VERSION": 1, "AUTHUSER": "u", "AUTHPASS": "p"}
        server.answer = say(200, {"auth": "the-key"})
        assert self.login().key == "the-key"
        path = "/api/authorize/me%40example.com/hunter2%2F%3F%23%C3%BC"
        assert server.seen[0][0] == path

    @pytest.mark.parametrize(
        ("version", "answer", "error"),
        [
            (
                2,
                say(403, {"message": "wrong_credentials_specified"}),
                AuthenticationError,
            ),
            (1, say(200, {"errorCode": 1, "message": "Wrong"}), AuthenticationError),
            (1, say(401, {"errorCode": 1, "message": "Wrong"}), AuthenticationError),
            (2, say(200, {"auth": ""}), InvalidResponse),
            (2, say(200, b"<html>"), InvalidResponse),
            (2, say(429, b""), RateLimited),
            (2, say(502, b""), ServerError),
        ],
    )
    def test_errors(
        self, version: int, answer: Answer, error: Any, server: Any, settings: Any
    ) -> None:
        settings.TURBOSMTP |= {"API_VERSION": version, "AUTHUSER": "u", "AUTHPASS": "p"}
        server.answer = answer
        with pytest.raises(error) as caught:
            self.login()
        assert type(caught.value) is error
        assert "hunter2" not in exposed(caught.value)

    @pytest.mark.parametrize("version", [2, 1])
    def test_no_answer(self, version: int, server: Any, settings: Any) -> None:
        settings.TURBOSMTP |= {"API_VERSION": version, "AUTHUSER": "u", "AUTHPASS": "p"}
        server.answer = hang_up
        with pytest.raises(ConnectionFailed) as caught:
            self.login()
        assert "hunter2" not in exposed(caught.value)

    def test_against_the_sandbox(self, project: Any, sandbox: Sandbox) -> None:
        with pytest.raises(AuthenticationError):
            self.login()


class TestConnections:
    @pytest.fixture
    def proxy(self, server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
        return server

    def test_proxy_of_the_environment(self, proxy: Any, settings: Any) -> None:
        asked = []

        def refuse(handler: Any) -> None:
            asked.append(handler.path)
            handler.send_error(403)

        proxy.RequestHandlerClass.do_CONNECT = refuse
        settings.TURBOSMTP |= {"SEND_URL": "https://api.example.invalid/api"}
        with pytest.raises(ConnectionFailed, match="through the proxy 127.0.0.1"):
            send(proxy)
        assert asked == ["api.example.invalid:443"]

    def test_plain_http_uses_a_proxy_on_this_machine(
        self, proxy: Any, settings: Any
    ) -> None:
        settings.TURBOSMTP |= {"SEND_URL": "http://127.7.7.7:9/api"}
        send(proxy)
        assert proxy.seen[0][0] == "http://127.7.7.7:9/api/mail/send"

    def test_plain_http_uses_no_other_proxy(
        self, project: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", "http://proxy.example.invalid:3128")
        EmailBackend().send_messages([new()])
        assert len(sandbox.messages) == 1

    def test_sends_one_by_one_reuse_a_connection(
        self, project: Any, sandbox: Sandbox
    ) -> None:
        for _ in range(20):
            EmailBackend().send_messages([new()])
        assert sandbox.connections == 1

    def test_an_idle_connection_is_not_reused(
        self, project: Any, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with EmailBackend() as backend:
            backend.send_messages([new()])
            backend.send_messages([new()])
            assert sandbox.connections == 1
            monkeypatch.setattr("django_turbosmtp.api.pool.MAX_IDLE_SECONDS", 0.0)
            backend.send_messages([new()])
        assert sandbox.connections == 2

    def test_after_a_broken_connection_others_are_not_reused(
        self, server: Any, settings: Any
    ) -> None:
        settings.TURBOSMTP |= {"MAX_RETRIES": 0}
        with pytest.raises(OutcomeUnknown):
            send(server, hang_up)
        server.answer = answer = say(200, {"message": "OK", "mid": 1})
        used = []

        def note_and_stay_open(handler: BaseHTTPRequestHandler, body: bytes) -> None:
            # A server may honour "close" without repeating it in its answer. The
            # client notices only after its next request that the connection is closed.
            used.append((handler.client_address, handler.headers["Connection"]))
            answer(handler, body)

        for _ in range(10):
            send(server, note_and_stay_open)
        assert {header for _, header in used} == {"close"}
        assert len({address for address, _ in used}) == 10

    @pytest.mark.parametrize(
        ("header", "reused"),
        [
            ("timeout=60", True),
            ("timeout=1", False),
            ("max=5, timeout=0", False),
            ('Timeout="1", max=100', False),
            ("max=100", True),
            ("nonsense", True),
        ],
    )
    def test_the_server_s_keep_alive_time_is_honoured(
        self, header: str, reused: bool, server: Any
    ) -> None:
        used = []
        answer = say(200, {"message": "OK", "mid": 1}, Keep_Alive=header)

        def note(handler: BaseHTTPRequestHandler, body: bytes) -> None:
            used.append(handler.client_address)
            answer(handler, body)

        with EmailBackend() as backend:
            server.answer = note
            backend.send_messages([new()])
            backend.send_messages([new()])
        assert (used[0] == used[1]) == reused

    def test_from_many_threads(self, project: Any, sandbox: Sandbox) -> None:
        backend = EmailBackend()

        def work() -> None:
            for _ in range(10):
                backend.send_messages([new()])

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sandbox.total_accepted == 40
        assert sandbox.connections <= 8

    @pytest.mark.parametrize("opened", [False, True])
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_after_a_fork(self, opened: bool, project: Any, sandbox: Sandbox) -> None:
        backend = EmailBackend()
        if opened:
            backend.open()
        backend.send_messages([new(subject="before")])
        child = os.fork()
        if not child:
            sent = backend.send_messages([new(subject="child")])
            os._exit(0 if sent == 1 else 1)
        _, status = os.waitpid(child, 0)
        backend.send_messages([new(subject="parent")])
        backend.close()

        assert status == 0
        by = {m.fields["subject"]: m.connection for m in sandbox.messages}
        assert by["before"] == by["parent"] != by["child"]

    def test_certificates_are_verified(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        with Sandbox(ssl_context=context) as sandbox:
            settings.TURBOSMTP = {
                "CONSUMER_KEY": "sandbox-key",
                "CONSUMER_SECRET": "sandbox-secret",
                "SEND_URL": sandbox.send_url(2).replace("http:", "https:"),
                "MAX_RETRIES": 0,
            }
            with pytest.raises(ConnectionFailed, match="certificate|CERTIFICATE"):
                EmailBackend().send_messages([new()])
            assert sandbox.messages == []

            bundle = tmp_path / "ca.pem"
            authority.cert_pem.write_to_path(str(bundle))
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
            assert EmailBackend().send_messages([new()]) == 1
            close_shared_sessions()

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (None, r"CA bundle '.*ca\.pem' of REQUESTS_CA_BUNDLE cannot be read"),
            (b"", "has no certificates"),
            (b"no certificate", "has no certificates"),
        ],
    )
    def test_a_ca_bundle_that_cannot_be_used(
        self,
        content: bytes | None,
        said: str,
        settings: Any,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        bundle = tmp_path / "ca.pem"
        if content is not None:
            bundle.write_bytes(content)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        with Sandbox(ssl_context=context) as sandbox:
            settings.TURBOSMTP = {
                "CONSUMER_KEY": "sandbox-key",
                "CONSUMER_SECRET": "sandbox-secret",
                "SEND_URL": sandbox.send_url(2).replace("http:", "https:"),
            }
            message = new()
            with pytest.raises(ConnectionFailed, match=said) as caught:
                EmailBackend().send_messages([message])
            assert not caught.value.retryable
            assert message.turbosmtp_status.attempts == 1
        close_shared_sessions()


class TestTransmission:
    @pytest.mark.parametrize("size", [0, 1, 3 * 2**14, 3 * 2**14 + 1, 200_000])
    def test_complete_is_set_before_the_last_byte(self, size: int) -> None:
        body = Body({"mime_raw": "x" * size})
        transmission = Transmission(body)
        sent = b""
        for piece in transmission:
            assert piece
            assert len(piece) <= 2**16
            sent += piece
            assert transmission.complete == (len(sent) == len(body))
        assert sent == b"".join(body)
        assert len(sent) == len(transmission)

    def test_an_interruption_at_any_part_is_never_certainly_not_accepted(self) -> None:
        body = Body({"mime_raw": "x" * 200_000})
        for stop in range(1, 10):
            transmission = Transmission(body)
            pieces = iter(transmission)
            sent = sum(len(next(pieces, b"")) for _ in range(stop))
            # At an interruption here, it is complete if all bytes may have been sent.
            assert transmission.complete or sent < len(body)


@pytest.mark.parametrize("part", ["mime_raw", "attachment"])
def test_a_slow_upload_may_use_the_read_timeout(
    part: str, settings: Any, sandbox: Sandbox
) -> None:
    settings.TURBOSMTP = {
        "LOG": False,
        "CONSUMER_KEY": "k",
        "CONSUMER_SECRET": "s",
        "TIMEOUT": (0.3, 5),
        "MAX_RETRIES": 0,
    }
    received = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(2**12)
            head, _, rest = data.partition(b"\r\n\r\n")
            [length] = [
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            ]
            got = len(rest)
            while got < length:
                time.sleep(0.004)
                got += len(connection.recv(2**13))
            received.append(got == length)
            answer = b'{"message":"OK","mid":1}'
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer)
            connection.sendall(head + answer)

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**13)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        settings.TURBOSMTP |= {"SEND_URL": url}
        message = (
            new(body="x" * 2_500_000, headers={"Message-ID": "<a@x.org>"})
            if part == "mime_raw"
            else new(attachments=[("a.bin", bytes(1_900_000), "application/zip")])
        )
        started = time.monotonic()
        assert EmailBackend().send_messages([message]) == 1
        assert time.monotonic() - started > 0.6
        thread.join()
    close_shared_sessions()
    assert received == [True]


class TestBody:
    def test_is_json_of_the_declared_length(self) -> None:
        parts = [
            WireAttachment(
                name="a\"'ü.bin", type="x/y", content=bytes(range(256)) * size
            )
            for size in (1, 300, 301, 302)
        ]
        parts.append(WireAttachment(name="b", type="x/y", content=b"a", content_id="c"))
        body = Body({"from": "ü", "attachments": parts, "to": "a"})
        raw = b"".join(body)
        assert len(raw) == len(body)
        data = json.loads(raw)
        assert list(data) == ["from", "to", "attachments"]
        import base64

        for part, sent in zip(parts, data["attachments"], strict=True):
            assert base64.b64decode(sent["content"], validate=True) == part.content
            assert sent["name"] == part.name
        assert data["attachments"][-1]["content_id"] == "c"
        assert b"".join(body) == raw, "a retry sends the same"

    def test_repr_shows_nothing(self) -> None:
        assert "hunter2" not in repr(Body({"authpass": "hunter2"}))


def test_urllib3_has_every_private_name_that_we_use() -> None:
    """Overridden names must exist in every version that pyproject.toml allows."""
    made: dict[str, Any] = {
        "HTTPConnectionPool": urllib3.HTTPConnectionPool("example.org"),
        "HTTPConnection": HTTPConnection("example.org"),
        "PoolManager": urllib3.PoolManager(),
        "RecentlyUsedContainer": urllib3.PoolManager().pools,
    }
    assert set(made) == set(PRIVATE_NAMES)
    for owner, names in PRIVATE_NAMES.items():
        assert type(made[owner]).__name__ == owner
        assert [name for name in names if not hasattr(made[owner], name)] == []


def test_only_one_module_uses_them() -> None:
    package = Path(django_turbosmtp.__file__).parent
    private = {n for names in PRIVATE_NAMES.values() for n in names if n[0] == "_"}
    using = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = getattr(node, "attr", getattr(node, "name", ""))
            if name in private:
                using.add(path.relative_to(package).as_posix())
    assert using == {"api/pool.py"}
