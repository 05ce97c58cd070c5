"""Secrets are not in errors, their frames, log lines or URLs."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.exceptions import (
    AuthenticationError,
    BadRequest,
    ConnectionFailed,
    InvalidResponse,
    OutcomeUnknown,
    TurboSMTPError,
)
from tests.messages import new
from tests.serving import Answer, exposed, hang_up, log_in, say, send


@pytest.mark.parametrize("version", [2, 1])
@pytest.mark.parametrize(
    "answer",
    [
        say(401, {"message": "bad hunter2-secret"}),
        say(400, {"errors": ["hunter2-secret"], "details": "x"}),
        say(500, b"hunter2-secret"),
        say(200, b"hunter2-secret"),
        hang_up,
        lambda handler, _: handler.wfile.write(b"garbage\r\n\r\n"),
    ],
    ids=["401", "400", "500", "200 unreadable", "hang up", "garbage"],
)
def test_not_in_errors_or_log_lines(
    version: int,
    answer: Answer,
    server: Any,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.TURBOSMTP |= {
        "API_VERSION": version,
        "AUTHUSER": "user@example.com",
        "AUTHPASS": "hunter2-secret",
    }
    caplog.set_level(logging.DEBUG)
    with pytest.raises(TurboSMTPError) as caught:
        send(server, answer)
    assert "hunter2" not in exposed(caught.value)
    assert "hunter2" not in caplog.text
    assert "hunter2" not in server.seen[0][0]  # The URL.


def test_not_in_errors_of_wrong_settings(server: Any, settings: Any) -> None:
    for build in (
        lambda: EmailBackend(timeout=-1, consumer_secret="hunter2-other"),
        lambda: EmailBackend(timeout=-1, username="hunter2", password="hunter2"),
        lambda: EmailBackend(
            consumer_key="k", consumer_secret=lambda: "hunter2\n"
        ).send_messages([new()]),
    ):
        with pytest.raises(ImproperlyConfigured) as caught:
            build()
        assert "hunter2" not in exposed(caught.value)


@pytest.mark.parametrize("secret", ['hunter2ä"/ x', "hunter2/2 pass"])
def test_not_in_other_forms(secret: str, server: Any, settings: Any) -> None:
    settings.TURBOSMTP |= {
        "API_VERSION": 1,
        "AUTHUSER": "u@x.org",
        "AUTHPASS": secret,
    }
    for shown in (secret, quote(secret), quote(secret, safe="")):
        with pytest.raises(BadRequest) as caught:
            send(server, say(400, {"errors": [f"bad {shown} here"]}))
        assert "hunter2" not in exposed(caught.value)


def test_not_in_redirects_of_a_login(server: Any, settings: Any) -> None:
    settings.TURBOSMTP |= {"API_VERSION": 1, "AUTHUSER": "u", "AUTHPASS": "p"}
    where = "https://x.example/authorize/me/hunter2%2F/"
    server.answer = say(301, b"", Location=where)
    with pytest.raises(InvalidResponse, match=r"redirect to x\.example") as caught:
        log_in()
    assert "hunter2" not in exposed(caught.value)


def test_not_the_key_of_v2(server: Any) -> None:
    with pytest.raises(AuthenticationError) as caught:
        send(server, say(401, {"message": "bad key hunter2-key"}))
    assert "hunter2" not in exposed(caught.value)
    assert "bad key ********" in str(caught.value)


def test_not_in_errors_of_an_unreachable_server(server: Any, settings: Any) -> None:
    settings.TURBOSMTP |= {"SEND_URL": "http://127.0.0.1:1/api"}
    with pytest.raises(ConnectionFailed) as caught:
        send(server)
    assert "hunter2" not in exposed(caught.value)


def test_v2_credentials_are_only_in_headers(server: Any) -> None:
    send(server)
    ((path, headers, body),) = server.seen
    assert path == "/api/mail/send"
    assert headers["consumerKey"] == "hunter2-key"
    assert headers["consumerSecret"] == "hunter2-secret"
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert b"hunter2" not in body


def test_v1_credentials_are_only_in_the_body(server: Any, settings: Any) -> None:
    settings.TURBOSMTP |= {
        "API_VERSION": 1,
        "AUTHUSER": "u@x.org",
        "AUTHPASS": 'hunter2-"ü',
    }
    send(server)
    ((path, headers, body),) = server.seen
    assert path == "/api/mail/send"
    assert "hunter2" not in str(headers)
    assert json.loads(body)["authpass"] == 'hunter2-"ü'


def test_netrc_is_not_read(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HOME", str(tmp_path))
    send(server)
    assert "authorization" not in {name.lower() for name in server.seen[0][1]}


def test_cookies_are_not_kept(server: Any) -> None:
    server.answer = say(200, {"message": "OK"}, Set_Cookie="a=b; Path=/")
    send(server)
    send(server)
    assert "cookie" not in {name.lower() for name in server.seen[1][1]}


def test_redirects_are_not_followed(server: Any) -> None:
    with pytest.raises(OutcomeUnknown, match="redirect"):
        send(server, say(307, b"", Location="/api/elsewhere"))
    assert len(server.seen) == 1


def test_a_short_secret_does_not_garble_answers(server: Any, settings: Any) -> None:
    settings.TURBOSMTP |= {"CONSUMER_SECRET": "s"}
    assert send(server).outcome == "accepted"
    with pytest.raises(BadRequest, match="missing recipients"):
        send(server, say(400, {"errors": ["missing recipients (to)"]}))


REPEATED = {
    "WWW-Authenticate": 'Basic realm="hunter2-secret"',
    "Content-Type": "text/html; hunter2-secret",
    "Location": "https://hunter2-secret.example/?key=hunter2-key",
    "X-hunter2-key": "yes",
    "Set-Cookie": "a=hunter2-secret",
}


@pytest.mark.parametrize("status", [200, 301, 401, 400, 503])
@pytest.mark.parametrize("header", REPEATED)
def test_not_in_headers(
    status: int, header: str, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answer = say(status, b"nothing readable", **{header: REPEATED[header]})
    with pytest.raises(TurboSMTPError) as caught:
        send(server, answer)
    assert "hunter2" not in exposed(caught.value)
    assert "hunter2" not in caplog.text


def test_not_in_headers_of_an_accepted_message(server: Any) -> None:
    answer = say(200, {"message": "OK", "mid": 7, "a": "hunter2-key"}, **REPEATED)
    status = send(server, answer)
    assert status.message_id == "7"
    response = status.esp_response
    assert response.headers["content-type"] == "text/html; ********"
    shown = f"{response.text}{response.data}{dict(response.headers)}"
    assert "hunter2" not in shown


def test_unreadable_headers_are_not_logged(
    server: Any, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """urllib3 would log a warning with the URL, which holds a v1 password."""
    settings.TURBOSMTP |= {
        "API_VERSION": 1,
        "AUTHUSER": "u@x.org",
        "AUTHPASS": "hunter2-password",
    }

    def answer(handler: Any, _: bytes) -> None:
        body = b'{"auth":"k","message":"OK"}'
        handler.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n"
            b"hunter2-password is no header\r\n\r\n%b" % (len(body), body)
        )
        handler.close_connection = True

    server.answer = answer
    assert log_in().key == "k"
    send(server)
    assert "hunter2" in server.seen[0][0]
    assert caplog.text == ""


PROXIES = {
    "http://user:hunter2-proxy@[::1": "the environment.s proxy",
    "http://user:hunter2-proxy@proxy:number": "the environment.s proxy",
    "http://user:hunter2-proxy@": "the environment.s proxy",
    "user:hunter2-proxy@": "the environment.s proxy",
    "http://user:hunter2-pr/xy@proxy.example.com:80": "the environment.s proxy",
    "ftp://user:hunter2-proxy@127.0.0.1:1": "the environment.s proxy",
    f"http://user:hunter2-proxy@{'x' * 64}.example.com": "the environment.s proxy",
    "http://user:hunter2-proxy@a..example.com": "the environment.s proxy",
}


@pytest.mark.parametrize("url", PROXIES)
def test_not_in_errors_of_a_malformed_proxy(url: str, proxy: Any) -> None:
    proxy(url)
    message = new()
    with pytest.raises(ConnectionFailed, match=PROXIES[url]) as caught:
        EmailBackend().send_messages([message])
    assert "hunter2" not in exposed(caught.value)
    assert "hunter2" not in str(caught.value)
    # A second attempt would have the same result.
    assert not caught.value.retryable
    assert message.turbosmtp_status.outcome == "refused"
    assert message.turbosmtp_status.attempts == 1


@pytest.mark.parametrize(
    "reason", ["hunter2-proxy", "dXNlcjpodW50ZXIyLXByb3h5", "hunter2%2Dproxy"]
)
def test_not_in_errors_of_a_proxy_that_repeats_it(
    reason: str, server: Any, proxy: Any
) -> None:
    server.RequestHandlerClass.do_CONNECT = lambda handler: handler.send_error(
        407, f"not {reason}"
    )
    proxy(f"http://user:hunter2%2Dproxy@127.0.0.1:{server.server_port}")
    with pytest.raises(ConnectionFailed, match=r"407 not \*\*") as caught:
        EmailBackend(max_retries=0).send_messages([new()])
    assert "hunter2" not in exposed(caught.value)
    assert "dXNl" not in exposed(caught.value)


def test_not_in_frames_at_any_line() -> None:
    """In a separate process: Python 3.12.1 crashes if another test also traces."""
    here = Path(__file__).parent
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:randomly"),
            # Garbage may be collected when no test is running any more.
            *("-p", "no:unraisableexception"),
            here / "sweep_of_frames.py",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=here.parent,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert "5 passed" in done.stdout
