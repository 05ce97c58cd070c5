"""Every fault, as a client sees it."""

from __future__ import annotations

import http.client
import json
import time

import pytest

from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.sandbox.service.disguise import STATUSES
from django_turbosmtp.sandbox.state.faults import ACCEPTING, KINDS
from tests.sandbox.conftest import closing

LOST = (http.client.RemoteDisconnected, ConnectionError)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize("kind", sorted(STATUSES))
def test_statuses(sandbox, client, kind, accept, version):
    sandbox.add_fault(kind, retry_after="Wed, 21 Oct 2026 07:28:00 GMT", accept=accept)
    answer = client.send(version)
    assert answer.status == int(kind)
    assert answer.json == STATUSES[kind]
    assert answer.headers["Retry-After"] == "Wed, 21 Oct 2026 07:28:00 GMT"
    assert len(sandbox.messages) == accept
    assert client.send(version).status == 200


def test_retry_after_is_left_out(sandbox, client):
    sandbox.add_fault("503")
    assert client.send().headers["Retry-After"] is None
    sandbox.add_fault("503", retry_after=2)
    assert client.send().headers["Retry-After"] == "2"


@pytest.mark.parametrize(
    ("kind", "status", "payload"),
    [
        ("nocredit", 400, {"message": "error", "errors": ["nocredit"]}),
        (
            "old_nocredit",
            400,
            {"message": "error", "errors": {"message": "error", "errors": "nocredit"}},
        ),
        (
            "old_errors",
            400,
            {"message": "error", "errors": [["'abc' 'to' email not valid"]]},
        ),
    ],
)
def test_refusals(sandbox, client, kind, status, payload):
    sandbox.add_fault(kind)
    answer = client.send()
    assert (answer.status, answer.json) == (status, payload)
    assert sandbox.messages == []


def test_inactive_fault(sandbox, client):
    sandbox.add_fault("inactive")
    answer = client.send()
    assert answer.status == 401
    assert answer.json["message"].startswith("Account for ")
    assert answer.json["message"].endswith(" is inactive")


@pytest.mark.parametrize("accept", [False, True])
def test_odd_answers(sandbox, client, accept):
    for kind in ("html", "cut_json", "wrong_type", "empty", "redirect"):
        sandbox.add_fault(kind, accept=accept)
    html, cut, wrong, empty, redirect = [client.send() for _ in range(5)]
    assert (html.status, html.headers.get_content_type()) == (200, "text/html")
    assert cut.headers["Content-Type"] == "application/json"
    assert int(cut.headers["Content-Length"]) == len(cut.body)
    with pytest.raises(json.JSONDecodeError):
        assert cut.json
    assert wrong.headers["Content-Type"] == "text/plain"
    assert wrong.json["message"] == "OK"
    assert (empty.status, empty.body) == (200, b"")
    assert redirect.status == 302
    assert redirect.headers["Location"] == f"{sandbox.url}/api/v2/redirected"
    assert len(sandbox.messages) == (5 if accept else 0)
    # A client that follows redirects gets OK, and the request log shows it.
    assert client.get("/api/v2/redirected").json["message"] == "OK"
    assert sandbox.requests[-1].path == "/api/v2/redirected"


def test_no_mid(sandbox, client):
    sandbox.add_fault("no_mid")
    assert client.send().json == {"message": "OK"}
    assert len(sandbox.messages) == 1


@pytest.mark.parametrize(
    ("kind", "accepted"),
    [("lost_answer", 1), ("reset_before_body", 0), ("reset_after_body", 0)],
)
def test_lost_answers(sandbox, client, kind, accepted):
    sandbox.add_fault(kind)
    with pytest.raises(LOST):
        client.send()
    assert len(sandbox.messages) == accepted
    assert [r.status for r in sandbox.requests] == [None]
    assert sandbox.requests[0].body_bytes == (0 if kind == "reset_before_body" else 61)
    client.connection.close()
    assert client.send().status == 200


def test_reset_is_a_reset(sandbox, client):
    sandbox.add_fault("reset_after_body")
    with pytest.raises(ConnectionResetError) as caught:
        client.send()
    # RemoteDisconnected, the end of the stream, is a subclass.
    assert type(caught.value) is ConnectionResetError


def test_close_pretends_keep_alive(sandbox, client):
    sandbox.add_fault("close")
    answer = client.send()
    assert (answer.status, answer.headers["Connection"]) == (200, "keep-alive")
    time.sleep(0.2)
    with pytest.raises(LOST):
        client.send()
    assert len(sandbox.messages) == 1


@pytest.mark.parametrize("accept", [False, True])
def test_timeout(sandbox, accept):
    sandbox.add_fault("timeout", seconds=5, accept=accept)
    with closing(sandbox, timeout=0.2) as client, pytest.raises(TimeoutError):
        client.send()
    assert len(sandbox.messages) == accept
    assert [r.status for r in sandbox.requests] == [None]


def test_timeout_ends_by_closing(sandbox, client):
    sandbox.add_fault("timeout", seconds=0.1)
    with pytest.raises(http.client.RemoteDisconnected):
        client.send()


@pytest.mark.parametrize("kind", ["slow_headers", "slow_body", "latency"])
def test_slow_answers(sandbox, client, kind):
    sandbox.add_fault(kind, seconds=0.3)
    start = time.monotonic()
    answer = client.send()
    assert time.monotonic() - start >= 0.25
    assert (answer.status, answer.json["message"]) == (200, "OK")
    assert len(sandbox.messages) == 1


def test_slow_headers_are_sent_byte_by_byte(sandbox):
    sandbox.add_fault("slow_headers", seconds=2)
    with closing(sandbox) as client:
        client.connection.connect()
        client.connection.sock.settimeout(10)
        client.connection.request("POST", "/api/v2/mail/send", "{}")
        pieces = [client.connection.sock.recv(4096) for _ in range(3)]
    assert all(0 < len(piece) < 40 for piece in pieces)


def test_latency_delays_every_send(sandbox, client):
    sandbox.latency = 0.15
    start = time.monotonic()
    assert client.send().status == 200
    assert time.monotonic() - start >= 0.15
    start = time.monotonic()
    client.get("/")
    assert time.monotonic() - start < 0.15


def test_times_skip_and_order(sandbox, client):
    fault = sandbox.add_fault("429", times=2, skip=1)
    sandbox.add_fault("500", skip=1)
    statuses = [client.send().status for _ in range(6)]
    # The second fault counts only requests that the first one did not handle.
    assert statuses == [200, 429, 429, 500, 200, 200]
    assert (fault.used, fault.skipped, fault.spent) == (2, 1, True)


def test_until_cleared(sandbox, client):
    sandbox.add_fault("503", times=None)
    assert {client.send().status for _ in range(5)} == {503}
    sandbox.clear_faults()
    assert client.send().status == 200


def test_match(sandbox, client):
    sandbox.add_fault("500", match="b@x.com")
    sandbox.add_fault("429", match="Gr\u00fc\u00dfe")
    assert client.send(to="a@x.com").status == 200
    assert client.send(to="b@x.com").status == 500
    # As JSON escapes and as plain text.
    assert client.send(subject="Gr\u00fc\u00dfe").status == 429
    assert client.send(subject="Gr\u00fc\u00dfe", to="b@x.com").status == 200


def test_reset_before_body_keeps_its_place(sandbox, client):
    sandbox.add_fault("429")
    sandbox.add_fault("reset_before_body")
    assert client.send().status == 429
    with pytest.raises(LOST):
        client.send()
    client.connection.close()
    assert client.send().status == 200


@pytest.mark.parametrize("kind", sorted(ACCEPTING - {"lost_answer"}))
def test_a_bad_message_is_refused_despite_a_fault(sandbox, client, kind):
    sandbox.add_fault(kind, seconds=0.05)
    assert client.send(to="nobody").status == 400
    sandbox.add_fault("500", accept=True)
    client.connection.close()
    assert client.send(to="nobody").status == 400
    assert sandbox.messages == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"kind": "418"},
        {"kind": "500", "times": 0},
        {"kind": "500", "times": True},
        {"kind": "500", "skip": -1},
        {"kind": "500", "skip": 1.5},
        {"kind": "latency", "seconds": "3"},
        {"kind": "latency", "seconds": float("nan")},
        {"kind": "500", "retry_after": "1\r\nX: y"},
        {"kind": "500", "retry_after": [1]},
        {"kind": "500", "match": 3},
        {"kind": "500", "accept": "yes"},
        {"kind": "reset_before_body", "match": "x"},
    ],
)
def test_refuses_impossible_faults(sandbox, arguments):
    with pytest.raises(ValueError):
        sandbox.add_fault(**arguments)
    assert sandbox.faults.active == []


def test_every_kind_of_fault_can_be_added(sandbox):
    assert {sandbox.add_fault(kind).kind for kind in KINDS} == set(KINDS)


def test_stop_wakes_sleepers():
    sandbox = Sandbox().start()
    sandbox.add_fault("timeout", seconds=60)
    sandbox.add_fault("slow_body", seconds=60)
    with closing(sandbox, 0.2) as one, closing(sandbox, 0.2) as two:
        for client in (one, two):
            with pytest.raises(TimeoutError):
                client.send()
        start = time.monotonic()
        sandbox.stop()
    assert time.monotonic() - start < 2
