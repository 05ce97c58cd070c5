"""Connections, bounds, loopback, TLS, logins."""

from __future__ import annotations

import concurrent.futures
import contextlib
import gc
import http.client
import socket
import ssl
import subprocess
import sys
import time
import tracemalloc
import warnings
from urllib.parse import quote

import pytest
import trustme

from django_turbosmtp.sandbox import Received, Sandbox
from django_turbosmtp.sandbox.state import describe
from tests.sandbox.conftest import PATHS, V1, V2, closing


def port_of(sandbox):
    return int(sandbox.url.rpartition(":")[2])


class TestConnections:
    def test_keep_alive_counts_one(self, sandbox, client):
        for _ in range(5):
            assert client.send().status == 200
        assert sandbox.connections == 1
        assert len({r.connection for r in sandbox.requests}) == 1
        assert {m.connection for m in sandbox.messages} == {
            sandbox.requests[0].connection
        }

    def test_every_connection_has_its_number(self, sandbox):
        for _ in range(3):
            with closing(sandbox) as client:
                client.send()
        assert sandbox.connections == 3
        assert len({r.connection for r in sandbox.requests}) == 3

    def test_a_refusal_keeps_the_connection(self, sandbox, client):
        client.raw(b"{")
        client.get("/api/nothing")
        client.send()
        assert sandbox.connections == 1

    def test_answers_without_delay(self, client):
        client.send()
        start = time.monotonic()
        for _ in range(20):
            client.send()
        # Nagle's algorithm against delayed ACKs would cost 40 ms each.
        assert time.monotonic() - start < 0.6

    def test_many_at_once(self, sandbox):
        def send(_):
            with closing(sandbox) as client:
                return [client.send().json["mid"] for _ in range(5)]

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            mids = [mid for each in pool.map(send, range(32)) for mid in each]
        assert len(set(mids)) == sandbox.total_accepted == 160
        assert sorted(str(mid) for mid in mids) == sorted(
            m.mid for m in sandbox.messages
        )


class TestLifecycle:
    def test_stop_ends_all_threads_and_sockets(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            sandbox = Sandbox()
            sandbox.start()
            url_port = port_of(sandbox)
            with closing(sandbox) as client:
                client.send()
                start = time.monotonic()
                sandbox.stop()
                assert time.monotonic() - start < 1
                with pytest.raises((OSError, http.client.HTTPException)):
                    client.send()
            sandbox.stop()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", url_port))
            gc.collect()

    def test_starts_again(self, sandbox):
        sandbox.stop()
        sandbox.start()
        with closing(sandbox) as client:
            assert client.send().status == 200

    def test_misuse_is_reported(self, sandbox):
        with pytest.raises(RuntimeError, match="already running"):
            sandbox.start()
        with pytest.raises(RuntimeError, match="not running"):
            assert Sandbox().url
        with pytest.raises(OSError):
            Sandbox(port=port_of(sandbox)).start()
        sandbox.stop()
        assert sandbox.connections == 0

    def test_clear(self, sandbox, client):
        client.send()
        sandbox.add_fault("500")
        sandbox.clear()
        assert sandbox.messages == sandbox.requests == sandbox.faults.active == []
        assert sandbox.connections == sandbox.total_accepted == 0
        assert sandbox.latest is None
        assert client.send().status == 200

    def test_urls(self, sandbox):
        assert sandbox.send_url(2) == sandbox.api_url(2) == f"{sandbox.url}/api/v2"
        assert sandbox.send_url(1) == sandbox.api_url(1) == f"{sandbox.url}/api"
        assert sandbox.send_url() == sandbox.send_url(2)


class TestLoopback:
    @pytest.mark.parametrize("host", ["0.0.0.0", "", "10.0.0.1", "example.com", "::"])
    def test_refuses_to_bind_elsewhere(self, host):
        with pytest.raises(ValueError, match="loopback only"):
            Sandbox(host)

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "::1"])
    def test_binds_any_loopback(self, host):
        try:
            sandbox = Sandbox(host).start()
        except OSError:
            pytest.skip(f"this machine has no {host}")
        sandbox.stop()

    @pytest.mark.parametrize(
        "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "[x"]
    )
    @pytest.mark.parametrize("path", ["/", "/sandbox/messages", "/api/v2/mail/send"])
    def test_refuses_other_names(self, client, host, path):
        assert client.get(path, Host=host).status == 403

    @pytest.mark.parametrize("host", ["localhost", "a.localhost:1", "[::1]:8025"])
    def test_accepts_names_of_loopback(self, client, host):
        assert client.get("/", Host=host).status == 200


class TestBodies:
    def test_refuses_a_huge_body_without_reading_it(self, sandbox, client):
        connection = client.connection
        connection.putrequest("POST", PATHS[2])
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(64 * 2**20 + 1))
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 413
        assert answer.headers["Connection"] == "close"
        assert b"must not exceed" in answer.read()
        assert [(r.status, r.body_bytes) for r in sandbox.requests] == [(413, 0)]

    def test_answers_while_a_huge_body_is_being_sent(self, client):
        body = b"x" * (64 * 2**20 + 1)
        assert client.raw(body).status == 413

    def test_refuses_chunked_bodies(self, client):
        connection = client.connection
        connection.request("POST", PATHS[2], iter([b"{}"]), V2, encode_chunked=True)
        assert connection.getresponse().status == 411

    @pytest.mark.parametrize("value", ["-1", "x", "1, 2", "\u00b2"])
    def test_refuses_an_invalid_length(self, client, value):
        connection = client.connection
        connection.putrequest("POST", PATHS[2])
        connection.putheader("Content-Length", value.encode("latin-1"))
        connection.endheaders()
        assert connection.getresponse().status == 400

    def test_records_a_truncated_body(self, sandbox):
        with socket.create_connection(("127.0.0.1", port_of(sandbox))) as raw:
            raw.sendall(
                b"POST /api/v2/mail/send HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Length: 10\r\n\r\n{}"
            )
            raw.shutdown(socket.SHUT_WR)
            assert raw.recv(100) == b""
        assert [r.status for r in sandbox.requests] == [None]

    def test_reports_its_own_errors(self, sandbox, client, caplog):
        sandbox.accounts.consumer_keys = None
        assert client.send().status == 500
        assert [r.status for r in sandbox.requests] == [500]
        assert "the sandbox failed" in caplog.text
        assert "sandbox-secret" not in caplog.text

    def test_survives_nonsense(self, sandbox, client):
        with socket.create_connection(("127.0.0.1", port_of(sandbox))) as raw:
            raw.sendall(b"nonsense\r\n\r\n")
            assert raw.recv(100)
        assert client.send().status == 200


class TestBounds:
    def test_messages(self):
        with Sandbox(max_messages=3) as sandbox, closing(sandbox) as client:
            mids = [str(client.send().json["mid"]) for _ in range(5)]
            assert [m.mid for m in sandbox.messages] == mids[2:]
            assert sandbox.total_accepted == 5
            assert client.get(f"/messages/{mids[0]}").status == 404
            assert client.get(f"/messages/{mids[4]}").status == 200

    def test_bytes(self):
        with Sandbox(max_bytes=50_000) as sandbox, closing(sandbox) as client:
            for size in (10_000, 10_000, 10_000, 100_000, 1_000):
                assert client.send(content="x" * size).status == 200
                assert sum(m.kept_bytes for m in sandbox.messages) <= 50_000
            assert sandbox.total_accepted == 5
            assert len(sandbox.messages) == 1

    def test_small_parts_count_with_their_overhead(self):
        headers = {f"X-{n}": "" for n in range(2_000)}
        tracemalloc.start()
        try:
            with Sandbox(max_bytes=2**21) as sandbox, closing(sandbox) as client:
                before = tracemalloc.get_traced_memory()[0]
                for _ in range(40):
                    assert client.send(custom_headers=headers).status == 200
                gc.collect()
                taken = tracemalloc.get_traced_memory()[0] - before
                assert 1 < len(sandbox.messages) < 40
        finally:
            tracemalloc.stop()
        assert taken < 2**21 * 1.5

    def test_headers_of_requests_count(self):
        with Sandbox(max_bytes=2**21) as sandbox, closing(sandbox) as client:
            for _ in range(60):
                client.get("/api/nothing", **{f"X-{n}": "x" * 500 for n in range(60)})
            kept = sum(record.kept_bytes for record in sandbox.requests)
            assert 1 < len(sandbox.requests) < 60
            assert kept <= 2**21 // 8

    @pytest.mark.parametrize(
        "begun",
        [
            b"",
            b"POST /api",
            b"POST /api/v2/mail/send HTTP/1.1\r\nHost: 127.0.0.1\r\n",
            (
                b"POST /api/v2/mail/send HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                b"Content-Length: 100\r\n\r\n{"
            ),
        ],
        ids=["nothing", "half a line", "half the headers", "half the body"],
    )
    def test_incomplete_requests_time_out(self, begun, sandbox, monkeypatch):
        handler = "django_turbosmtp.sandbox.handler"
        monkeypatch.setattr(f"{handler}.STALL_SECONDS", 0.2)
        monkeypatch.setattr(f"{handler}.IDLE_SECONDS", 0.3)
        address = ("127.0.0.1", port_of(sandbox))
        with socket.create_connection(address, timeout=5) as connection:
            connection.sendall(begun)
            assert connection.recv(100) == b""

    def test_an_idle_connection_is_kept_for_a_while(self, sandbox, client, monkeypatch):
        monkeypatch.setattr("django_turbosmtp.sandbox.handler.STALL_SECONDS", 0.1)
        client.send()
        time.sleep(0.4)
        client.send()
        assert sandbox.connections == 1

    @pytest.mark.parametrize("page", ["9" * 5000, "0", "-1", "x", "\u0661", "1" * 10])
    def test_page_numbers_of_any_length(self, page, client):
        client.send()
        assert client.get(f"/?page={quote(page)}").status == 200

    def test_numbers_of_any_length(self, client):
        body = b'{"from":"a@x.com","to":"b@x.com","reference_id":%s}' % (b"9" * 5000)
        answer = client.raw(body)
        assert answer.status in {200, 400}

    def test_request_log(self, sandbox, client):
        for _ in range(2010):
            client.get("/api/nothing")
        assert len(sandbox.requests) == 2000


class TestAccounts:
    def test_several_and_inactive(self):
        with (
            Sandbox(
                consumer_keys={"one": "1", "two": "2", "off": "3"},
                users={"a@x.com": "p\u00e4ss/word", "b@x.com": "q"},
                inactive=["off", "b@x.com"],
            ) as sandbox,
            closing(sandbox) as client,
        ):
            body = b'{"from": "a@x.com", "to": "b@x.com"}'
            for key, secret in (("one", "1"), ("two", "2")):
                pair = {"consumerKey": key, "consumerSecret": secret}
                assert client.raw(body, **pair).status == 200
            answer = client.raw(body, consumerKey="off", consumerSecret="3")
            assert answer.status == 401
            assert answer.json["message"].endswith("is inactive")
            assert client.raw(body).status == 401
            good = {"authuser": "a@x.com", "authpass": "p\u00e4ss/word"}
            assert client.send(1, **good).status == 200
            answer = client.send(1, authuser="b@x.com", authpass="q")
            assert answer.json["errorCode"] == 2
            assert answer.json["message"] == "Account for b@x.com is inactive"
            accounts = [m.account for m in sandbox.messages]
            assert accounts == ["one", "two", "a@x.com"]
            login = client.get("/api/authorize/a%40x.com/p%C3%A4ss%2Fword")
            assert login.json.keys() == {"auth"}

    def test_login_v2(self, sandbox, client):
        def login(**fields):
            return client.request(
                "POST",
                "/api/v2/authorize",
                str(fields).replace("'", '"').replace("False", "false"),
                Content_Type="application/json",
            )

        good = {"email": V1["authuser"], "password": V1["authpass"]}
        answer = login(**good, no_expire=False)
        assert answer.status == 200
        token = answer.json["auth"]
        wrong = login(**good | {"password": "x"})
        assert (wrong.status, wrong.json["message"]) == (
            403,
            "wrong_credentials_specified",
        )
        assert login(email="x").status == 400
        out = "/api/v2/deauthorize"
        assert client.request("POST", out).status == 401
        assert client.request("POST", out, Authorization=token).status == 200
        assert client.request("POST", out, Authorization=token).status == 401

    def test_login_v1(self, sandbox, client):
        answer = client.get("/api/authorize/sandbox%40example.com/wrong-one")
        assert answer.json == {"errorCode": 1, "message": "Wrong credentials specified"}
        assert "wrong-one" not in repr(sandbox.requests)
        assert sandbox.requests[0].path.endswith("/***")

    def test_the_request_log_masks_secrets(self, sandbox, client):
        client.send(Cookie="c")
        client.raw(b"{}", Authorization="bearer-secret", Cookie="cookie-secret")
        [_, record] = sandbox.requests
        assert (
            record.headers["consumerKey"] == record.headers["CONSUMERSECRET"] == "***"
        )
        assert "authorization" in record.headers
        assert "Authorization" in record.headers
        assert record.headers.get("X-Missing") is None
        for secret in ("sandbox-secret", "bearer-secret", "cookie-secret"):
            assert secret not in repr(sandbox.requests)


def test_tls():
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with Sandbox(ssl_context=server) as sandbox:
        assert sandbox.url.startswith("https://")
        port = port_of(sandbox)
        with socket.create_connection(("127.0.0.1", port)):
            pass
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            plain.settimeout(2)
            with contextlib.suppress(ConnectionError):
                assert not plain.recv(1000).startswith(b"HTTP")
        connection = http.client.HTTPSConnection("localhost", port, context=trusting)
        connection.request("GET", "/")
        assert connection.getresponse().read()
        connection.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            http.client.HTTPSConnection(
                "localhost", port, context=ssl.create_default_context()
            ).request("GET", "/")


def test_log_lines_are_safe():
    lines = []
    with Sandbox(log=lines.append) as sandbox, closing(sandbox) as client:
        client.send(subject="hello\x1b[31m \u202e")
        client.send(to="\x07nobody")
        client.raw(b"not json sandbox-secret")
        sandbox.add_fault("lost_answer")
        with pytest.raises(http.client.RemoteDisconnected):
            client.send()
    assert len(lines) == 4
    assert " 200 'hello\\x1b[31m \\u202e' to 'jane@example.org'" in lines[0]
    assert " 400 " in lines[1]
    assert "no answer" in lines[3]
    assert all(line.isprintable() for line in lines)
    assert "secret" not in "".join(lines)


def test_imports_nothing_else_of_the_package():
    code = (
        "import sys, django_turbosmtp.sandbox.cli\n"
        "print(*sorted(m for m in sys.modules if m.startswith('django_turbosmtp')"
        " and not m.startswith('django_turbosmtp.sandbox')), 'requests' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["django_turbosmtp", "False"]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"From: a\nSubject: =?utf-8?b?////?=\nTo: <<>>,,;\nDate: x\n\n",
        b"Content-Type: text/plain; charset=nonsense\n\ncaf\xe9",
        (
            b"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Disposition: "
            b"attachment; filename*=x'y'%ff%zz\nContent-ID: \xff\n\nx"
        ),
        b"Content-Type: message/rfc822\n\n",
        b"Content-Transfer-Encoding: base64\n\n!!!",
    ],
)
def test_reads_broken_messages_back(raw):
    details = describe.read_details(raw)
    for number in range(1, len(details.files) + 1):
        assert isinstance(describe.read_file(raw, number), bytes)
    repr(details).encode()


def test_received_parses_anew(sandbox, client):
    client.send(subject="s")
    received = sandbox.latest
    assert isinstance(received, Received)
    del received.message["Subject"]
    assert received.message["Subject"] == "s"
