"""Events that the sandbox posts, by the recipient's address and by a button."""

from __future__ import annotations

import base64
import http.server
import json
import re
import threading

import pytest

from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.sandbox.state.webhook import RULES, WORDS
from tests.sandbox.conftest import closing


@pytest.fixture
def project():
    """Yield the requests that a project received, and its URL with a password."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, self.headers["Authorization"], json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args): ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield seen, f"http://us%40er:p%3Aw@127.0.0.1:{server.server_port}/hook/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def telling(project):
    with Sandbox(webhook_url=project[1]) as running, closing(running) as client:
        yield running, client, project[0]


def flatten(seen):
    return [
        event
        for _, _, body in seen
        for event in (body if isinstance(body, list) else [body])
    ]


@pytest.mark.parametrize("name", [*RULES, "jane", "BOUNCE+tag"])
def test_by_the_address(name, telling):
    sandbox, client, seen = telling
    client.send(to=f"{name}@example.org", reference_id="order-1")
    assert sandbox.webhook.wait()
    events = flatten(seen)
    words = ["REPORT" if e["status"] == "SPAM" else e["status"] for e in events]
    rule = RULES.get(name.partition("+")[0].lower(), ("PROCESSED", "DELIVERED"))
    if name == "disorder":
        rule = [word for word in reversed(rule) for _ in range(2)]
    assert words == list(rule)
    for event in events:
        assert str(event["mid"]) == sandbox.latest.mid
        assert event["email"] == f"{name}@example.org"
        assert event["reference_id"] == "order-1"
    # A repetition is an identical event.
    assert len({event["id"] for event in events}) == len(set(words))


def test_events_have_both_documented_forms(telling):
    sandbox, client, seen = telling
    client.send(to="click@example.org, spam@example.org")
    assert sandbox.webhook.wait()
    assert {type(body) for _, _, body in seen} == {list, dict}
    events = flatten(seen)
    assert {type(event["mid"]) for event in events} == {int, str}
    assert {"timestamp", "Timestamp"} <= {name for event in events for name in event}


def test_the_password_is_sent_and_not_shown(telling):
    sandbox, client, seen = telling
    client.send()
    assert sandbox.webhook.wait()
    path, login, _ = seen[0]
    assert path == "/hook/"
    assert base64.b64decode(login.removeprefix("Basic ")) == b"us@er:p:w"
    text = client.get(f"/messages/{sandbox.latest.mid}").text
    assert "p%3Aw" not in text
    assert "p:w" not in text
    assert "/hook/" in text
    assert "answered 200" in text


@pytest.mark.parametrize("word", WORDS)
def test_by_a_button(word, telling):
    sandbox, client, seen = telling
    client.send(to="silent@example.org")
    page = f"/messages/{sandbox.latest.mid}"
    token = re.search(r'name="token" value="([^"]+)"', client.get(page).text)[1]
    body = f"token={token}&status={word}&address=silent%40example.org"
    assert client.form(f"{page}/events", body).status == 303
    assert sandbox.webhook.wait()
    [event] = flatten(seen)
    assert event["status"] in {word, "SPAM"}
    # Unknown recipients and unknown events are not posted.
    for bad in ("&status=X&address=silent%40example.org", "&status=OPENED&address=a@b"):
        assert client.form(f"{page}/events", f"token={token}{bad}").status == 303
    assert client.form(f"{page}/events", body.replace(token, "x")).status == 403
    assert sandbox.webhook.wait()
    assert len(seen) == 1


def test_a_project_that_is_down(telling):
    sandbox, client, _ = telling
    sandbox.webhook.url = "http://127.0.0.1:9/"
    assert client.send().status == 200
    assert sandbox.webhook.wait()
    assert [told.answer for told in sandbox.webhook.posted] == [
        "ConnectionRefusedError"
    ] * 2


def test_no_events_without_a_url(sandbox, client):
    client.send()
    assert sandbox.webhook.wait()
    assert not sandbox.webhook.posted
    assert "Result" not in client.get(f"/messages/{sandbox.latest.mid}").text


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/", "http://example.com/", "ftp://127.0.0.1/", "x", ""]
)
def test_only_urls_of_this_machine(url):
    with pytest.raises(ValueError, match="on this machine"):
        Sandbox(webhook_url=url)
