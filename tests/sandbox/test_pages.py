"""The inbox: escaping, content security policies, tokens, search."""

from __future__ import annotations

import base64
import http.client
import re

import pytest

from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.sandbox.inbox.faultpage import _MEANINGS
from django_turbosmtp.sandbox.state.faults import KINDS
from tests.sandbox.conftest import closing

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)
TABS = ("html", "text", "headers", "source", "json", "attachments", "nonsense")


def policy(answer):
    parts = answer.headers["Content-Security-Policy"].split(";")
    pairs = [part.strip().partition(" ") for part in parts]
    return {name: value for name, _, value in pairs}


@pytest.fixture
def mid(sandbox, client):
    answer = client.send(
        from_=f'"{HOSTILE.replace(chr(34), chr(92) + chr(34))}" <shop@example.com>',
        subject=HOSTILE,
        content=HOSTILE,
        html_content=f"{HOSTILE}<img src='cid:logo@example.com'>"
        "<link rel=preconnect href=https://evil.example><base href=//evil.example>",
        reference_id=HOSTILE,
        X_campaign_ID=HOSTILE,
        custom_headers={"X-Hostile": HOSTILE},
        attachments=[
            {"content": PNG, "name": HOSTILE, "type": "text/html"},
            {
                "content": PNG,
                "name": "l.png",
                "type": "image/png",
                "content_id": "logo",
            },
        ],
    )
    assert answer.status == 200, answer.text
    return sandbox.latest.mid


def test_pages_escape_everything(client, mid):
    paths = ["/", "/?q=%3Cscript%3E", "/faults", "/messages/%3Cscript%3E"]
    paths += [f"/messages/{mid}?tab={tab}" for tab in TABS]
    for path in paths:
        answer = client.get(path)
        assert "<script" not in answer.text, path
        assert "<img" not in answer.text, path
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        rules = policy(answer)
        assert rules["default-src"] == "'none'"
        assert rules["frame-ancestors"] == "'none'"
        assert rules["base-uri"] == "'none'"
        assert rules["form-action"] == "'self'"
        assert "script-src" not in rules
        assert 'lang="en"' in answer.text
        assert "style=" not in answer.text


def test_the_frame_is_sandboxed(client, mid):
    text = client.get(f"/messages/{mid}").text
    [frame] = re.findall(r"<iframe[^>]*>", text)
    assert 'sandbox=""' in frame
    assert f'src="/messages/{mid}/preview"' in frame
    for width in ("phone", "tablet", "desktop"):
        text = client.get(f"/messages/{mid}?width={width}").text
        assert f'<iframe class="{width}"' in text


def test_the_preview_makes_no_requests(client, mid):
    answer = client.get(f"/messages/{mid}/preview")
    rules = policy(answer)
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "'self' data:"
    assert rules["frame-ancestors"] == "'self'"
    assert rules["base-uri"] == "'none'"
    assert "sandbox" in rules
    assert answer.headers["X-DNS-Prefetch-Control"] == "off"
    assert "<link" not in answer.text
    remote = client.get(f"/messages/{mid}/preview?remote=1")
    assert policy(remote)["img-src"] == "'self' data: https: http:"
    assert policy(remote)["default-src"] == "'none'"


def test_inline_pictures_are_shown(client, mid):
    text = client.get(f"/messages/{mid}/preview").text
    [path] = re.findall(r"src='(/messages/[^']+)'", text)
    answer = client.get(path)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Disposition"] == "inline"
    assert answer.body == base64.b64decode(PNG)
    listed = client.get(f"/messages/{mid}?tab=attachments").text
    assert "inline picture" in listed
    assert "logo@example.com" in listed


def test_only_pictures_are_inline(client, mid):
    files = client.get(f"/sandbox/messages/{mid}").json["attachments"]
    assert {info["type"] for info in files} == {"text/html", "image/png"}
    for number, info in enumerate(files, start=1):
        inline = client.get(f"/messages/{mid}/inline/{number}")
        assert inline.status == (200 if info["type"] == "image/png" else 404)
        download = client.get(info["url"])
        disposition = download.headers["Content-Disposition"]
        assert disposition.startswith("attachment; filename=")
        assert (
            "<"
            not in disposition.replace("<script>alert('x')<_script>", "").split(
                "filename*"
            )[1]
        )
        assert download.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in policy(download)


@pytest.mark.parametrize("name", ["a\tb.txt", "\u202egnp.exe", 'a"; x="y', "..\\..\\a"])
def test_file_names_stay_in_their_header(client, name):
    client.send(
        attachments=[{"content": PNG, "name": name, "type": "image/svg+xml"}],
    )
    answer = client.get("/sandbox/messages/latest/attachments/1")
    assert re.fullmatch(
        r"attachment; filename=\"[^\"\\]*\"; filename\*=UTF-8''[A-Za-z0-9._~%-]*",
        answer.headers["Content-Disposition"],
    )


def test_shows_who_sent_it(sandbox, client):
    client.send(from_="J\u00e4ne <jane@example.com>")
    text = client.get(f"/messages/{sandbox.latest.mid}").text
    assert "J\u00e4ne &lt;jane@example.com&gt;" in text
    assert "Sent as" not in text
    client.send(from_="other@example.com", mime_raw="From: jane@example.com\n\nx")
    text = client.get(f"/messages/{sandbox.latest.mid}").text
    assert "<dt>Sent as</dt><dd>other@example.com</dd>" in text


def test_an_empty_inbox_shows_the_send_url(sandbox, client):
    text = client.get("/").text
    assert f"{sandbox.send_url(2)}/mail/send" in text
    assert "Clear inbox" not in text


class TestRefused:
    def test_shows_the_reason(self, sandbox, client):
        client.send(to="nobody", subject="<b>Invoice")
        client.raw(b"{}", consumerSecret="wrong")
        client.send(subject="Fine")
        text = client.get("/").text
        assert "1 message, 2 refused" in text
        assert "Refused, answered 400" in text
        assert "&lt;b&gt;Invoice" in text
        assert "&#x27;nobody&#x27; &#x27;to&#x27; email not valid" in text
        assert "Refused, answered 401" in text
        assert "Wrong credentials specified (Unknown key or wrong secret)" in text
        assert text.index("Fine") < text.index("answered 401") < text.index("Invoice")
        assert "wrong-secret" not in text

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("429", "answered 429"),
            ("html", "answered 200"),
            ("reset_after_body", "not answered"),
            ("reset_before_body", "not answered"),
        ],
    )
    def test_a_fault_is_named(self, kind, words, sandbox, client):
        sandbox.add_fault(kind)
        try:
            client.send(subject="Invoice")
        except OSError:
            client.connection.close()
        text = client.get("/").text
        assert f"Refused, {words}" in text
        assert f"(fault {kind})" in text

    @pytest.mark.parametrize("kind", ["lost_answer", "no_mid", "close", "latency"])
    def test_accepted_messages_are_not_listed_as_refused(self, kind, sandbox, client):
        sandbox.add_fault(kind, seconds=0)
        try:
            client.send()
        except (OSError, http.client.HTTPException):
            client.connection.close()
        assert (len(sandbox.messages), sandbox.refused) == (1, [])

    def test_a_request_whose_body_was_not_read(self, sandbox, client):
        client.raw(b"x", Content_Length=str(2**30))
        (refused,) = sandbox.refused
        assert refused.status == 413
        assert "must not exceed" in refused.reason

    def test_can_be_found(self, sandbox, client):
        client.send(to="nobody", subject="Invoice")
        client.send(to="nobody", subject="Welcome")
        text = client.get("/?q=INVOICE").text
        assert "1 of 2 messages found" in text
        assert "Welcome" not in text

    def test_are_kept_within_the_bound(self):
        with Sandbox(max_messages=3) as small, closing(small) as client:
            for number in range(5):
                client.send(to="nobody", subject=str(number))
            assert [refused.subject for refused in small.refused] == ["2", "3", "4"]

    def test_as_json(self, client):
        client.send(to="nobody", subject="Invoice")
        answer = client.get("/sandbox/refused").json
        assert answer["count"] == 1
        (refused,) = answer["results"]
        assert (refused["status"], refused["to"]) == (400, "nobody")


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ("<p>https://example.com/a.png", False),
        ("<a href='https://example.com/'>x</a>", False),
        ("<img src='cid:logo@example.com'>", False),
        ("<img src='data:image/png;base64,AAAA'>", False),
        ("<img alt=x src='https://example.com/a.png'>", True),
        ("<IMG SRC = //example.com/a.png>", True),
        ("<img src='&#104;ttp://example.com/a.png'>", True),
        ("<td background=http://example.com/a.png>", True),
        ("<p style='background: url( https://example.com/a.png)'>", True),
    ],
)
def test_remote_pictures_are_only_mentioned_if_there_are_some(
    html, found, sandbox, client
):
    client.send(html_content=html)
    text = client.get(f"/messages/{sandbox.latest.mid}").text
    assert ("Remote pictures are blocked" in text) == found


@pytest.mark.parametrize(
    "query",
    ["INVOICE", "jane@", "blind@", "shop@example", "ref-77", "body%20text", "markup"],
)
def test_search_finds(client, query):
    client.send(
        subject="Your invoice",
        bcc="blind@x.com",
        reference_id="ref-77",
        content="Body text",
        html_content="<b>markup",
    )
    client.send(subject="other", from_="z@z.com", to="z@z.com")
    text = client.get(f"/?q={query}").text
    assert "Your invoice" in text
    assert ">other<" not in text
    assert "1 of 2 messages found" in text
    assert "No message matches" in client.get("/?q=absent").text


def test_list_pages(sandbox, client):
    for number in range(101):
        client.send(subject=f"number {number}.")
    first = client.get("/").text
    assert "number 100." in first
    assert "number 0." not in first
    assert "Page 1 of 2" in first
    for asked in ("2", "99"):
        assert "number 0." in client.get(f"/?page={asked}").text
    assert "Page 1 of 2" in client.get("/?page=x").text


def test_automatic_refresh_is_a_link(client):
    assert "http-equiv" not in client.get("/").text
    assert "?refresh=5" in client.get("/").text
    assert '<meta http-equiv="refresh" content="5">' in client.get("/?refresh=5").text


def test_pages_show_no_secret(sandbox, client, mid):
    client.send(1)
    for path in ("/", "/faults", *(f"/messages/{mid}?tab={tab}" for tab in TABS)):
        text = client.get(path).text
        assert "sandbox-key" not in text
        assert "sandbox-secret" not in text
        assert "sandbox-password" not in text


def test_head_has_no_body(client):
    answer = client.request("HEAD", "/")
    assert (answer.status, answer.body) == (200, b"")
    assert client.get("/").status == 200


def test_static_files(client):
    css = client.get("/static/sandbox.css")
    assert css.headers["Content-Type"] == "text/css; charset=utf-8"
    for width in ("375px", "768px", "100%"):
        assert f"width: {width}" in css.text
    assert client.get("/static/icon.svg").status == 200
    assert client.get("/static/..%2Fpages.py").status == 404
    assert client.get("/static/../pages.py").status == 404


def test_long_texts_are_cut(client):
    client.send(content="x" * 500_000)
    mid = client.get("/sandbox/messages/latest").json["mid"]
    answer = client.get(f"/messages/{mid}?tab=text")
    assert "Only the beginning is shown" in answer.text
    assert len(answer.body) < 450_000


class TestForms:
    def token(self, client):
        return re.search(r'name="token" value="([^"]+)"', client.get("/faults").text)[1]

    @pytest.mark.parametrize("path", ["/clear", "/faults"])
    @pytest.mark.parametrize("token", ["", "token=", "token=wrong", "token=%C3%A9"])
    def test_need_the_token(self, sandbox, client, path, token):
        client.send()
        answer = client.form(path, f"{token}&action=add&kind=500")
        assert answer.status == 403
        assert len(sandbox.messages) == 1
        assert sandbox.faults.active == []

    def test_refuse_other_origins(self, sandbox, client):
        client.send()
        body = f"token={self.token(client)}"
        assert client.form("/clear", body, Origin="https://evil.example").status == 403
        assert len(sandbox.messages) == 1
        own = client.form("/clear", body, Origin=sandbox.url)
        assert (own.status, own.headers["Location"]) == (303, "/")
        assert sandbox.messages == []

    def test_clearing_asks_for_confirmation(self, sandbox, client):
        client.send()
        client.send(to="nobody")
        answer = client.get(f"/clear?token={self.token(client)}")
        assert "1 message and 1 refused request will be deleted" in answer.text
        assert (len(sandbox.messages), len(sandbox.refused)) == (1, 1)
        assert 'href="/clear"' in client.get("/").text
        client.form("/clear", f"token={self.token(client)}")
        assert (len(sandbox.messages), len(sandbox.refused)) == (0, 0)
        assert 'href="/clear"' not in client.get("/").text

    def test_faults(self, sandbox, client):
        token = self.token(client)
        click = client.form("/faults", f"token={token}&action=add&kind=429")
        assert (click.status, click.headers["Location"]) == (303, "/faults")
        client.form(
            "/faults",
            f"token={token}&action=add&kind=latency&times=3&skip=2&match=a%26b"
            "&retry_after=&seconds=0.5&accept=1",
        )
        client.form(
            "/faults",
            f"token={token}&action=add&kind=503&until_cleared=1&retry_after=9",
        )
        first, second, third = sandbox.faults.active
        assert (first.kind, first.times, first.accept) == ("429", 1, False)
        assert (second.times, second.skip, second.match) == (3, 2, "a&b")
        assert (second.seconds, second.accept) == (0.5, True)
        assert (third.times, third.retry_after) == (None, "9")
        text = client.get("/faults").text
        assert "a&amp;b" in text
        assert "until cleared" in text
        client.form("/faults", f"token={token}&action=clear")
        assert sandbox.faults.active == []

    def test_latency(self, sandbox, client):
        token = self.token(client)
        client.form("/faults", f"token={token}&action=latency&latency=0.25")
        assert sandbox.latency == 0.25
        for bad in ("x", "-1", "nan", "1e9", ""):
            answer = client.form(
                "/faults", f"token={token}&action=latency&latency={bad}"
            )
            assert answer.status == 400
            assert "Error:" in answer.text
        assert sandbox.latency == 0.25

    @pytest.mark.parametrize(
        "fields", ["kind=nonsense", "kind=500&times=x", "kind=500&times=0", ""]
    )
    def test_bad_input_is_explained(self, sandbox, client, fields):
        answer = client.form(
            "/faults", f"token={self.token(client)}&action=add&{fields}"
        )
        assert answer.status == 400
        assert 'role="alert"' in answer.text
        assert sandbox.faults.active == []


def test_every_fault_is_explained():
    assert set(_MEANINGS) == set(KINDS)
