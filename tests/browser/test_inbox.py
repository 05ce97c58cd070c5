"""The sandbox's inbox in a real browser, with a hostile message."""

from __future__ import annotations

import base64
import http.client
import json

import pytest

from django_turbosmtp.sandbox import Sandbox
from tests.browser.conftest import follow, take_shot
from tests.browser.hostile import build_hostile_html, picture

KEYS = {"consumerKey": "sandbox-key", "consumerSecret": "sandbox-secret"}


def send(sandbox, wanted=200, **fields):
    port = int(sandbox.url.rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = {"from": "Shop <shop@example.com>", "to": "jane@example.org"} | fields
    headers = {"Content-Type": "application/json", **KEYS}
    connection.request("POST", "/api/v2/mail/send", json.dumps(body), headers)
    answer = connection.getresponse()
    assert answer.status == wanted, answer.read()
    connection.close()


def send_hostile(sandbox, outside):
    encoded = base64.b64encode(picture()).decode()
    html = build_hostile_html(outside)
    name = '"><script>alert(1)</script>.png'
    logo = {"content": encoded, "name": name, "type": "image/png", "content_id": "logo"}
    notes = {"content": encoded, "name": "terms & conditions.pdf"}
    notes["type"] = "application/pdf"
    send(
        sandbox,
        subject='<img src=x onerror=alert("subject")> Your order is on its way',
        content="Thank you, Jane.\n\n<script>alert('text')</script>\n",
        html_content=html,
        cc="Accounts <accounts@example.org>",
        bcc="archive@example.com",
        reference_id="order-2041",
        custom_headers={"reply-to": "Help <help@example.com>"},
        attachments=[logo, notes],
        **{"X-campaign-ID": "orders"},
    )


def test_a_hostile_message_does_nothing(sandbox, outside, page, size, scheme):
    origin, asked = outside
    send(sandbox, subject="Welcome", content="Plain text only.")
    send_hostile(sandbox, origin)
    page.goto(sandbox.url)
    assert page.locator("ul.messages li").count() == 2
    take_shot(page, size, scheme, "inbox-list")

    follow(page, page.get_by_role("link", name="Your order is on its way").click)
    inner = page.frame_locator("iframe")
    inner.locator("#inline").wait_for()
    frame = page.frames[1]
    page.wait_for_load_state("networkidle")
    assert frame.locator("#inline").evaluate("image => image.naturalWidth") == 160
    take_shot(page, size, scheme, "inbox-html")

    # No action of the user in the frame has an effect.
    inner.locator("#go").click()
    inner.get_by_text("Track it").click()
    page.wait_for_timeout(300)
    assert page.url.startswith(f"{sandbox.url}/messages/")
    assert asked == []
    left = [url for url in page.seen if not url.startswith(sandbox.url)]
    assert [url for url in left if not url.startswith(origin)] == []

    for width, pixels in (("Phone", 375), ("Tablet", 768)):
        follow(page, page.get_by_role("link", name=width).click)
        box = page.locator("iframe").bounding_box()
        assert box["width"] == pixels
    take_shot(page, size, scheme, "inbox-tablet")


def test_remote_pictures_on_request(sandbox, outside, page):
    origin, asked = outside
    send_hostile(sandbox, origin)
    page.goto(f"{sandbox.url}/messages/{sandbox.latest.mid}")
    page.wait_for_load_state("networkidle")
    assert asked == []
    follow(page, page.get_by_role("link", name="Load them").click)
    page.wait_for_load_state("networkidle")
    assert "/remote.png" in asked
    # Only pictures are loaded, and still no script, frame, style sheet or form.
    allowed = {"/remote.png", "/background.png", "/svg.png", "/poster"}
    assert set(asked) <= allowed
    assert page.get_by_text("Remote pictures are loaded").is_visible()


def test_tabs_by_keyboard(sandbox, outside, page, size, scheme):
    send_hostile(sandbox, outside[0])
    page.goto(f"{sandbox.url}/messages/{sandbox.latest.mid}?tab=text")
    expected = {
        "Headers": "Help <help@example.com>",
        "Source": "Content-Transfer-Encoding",
        "Request (JSON)": '"reference_id": "order-2041"',
        "Attachments (2)": "terms & conditions.pdf",
        "Text": "<script>alert('text')</script>",
    }
    for name, content in expected.items():
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent").strip() == name:
                break
        else:
            pytest.fail(f"the tab {name} is out of the keyboard's reach")
        style = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(style) == "solid"
        follow(page, lambda: page.keyboard.press("Enter"))
        assert page.locator(".tabs [aria-current]").inner_text() == name
        assert content in page.locator(".panel").inner_text()
        take_shot(page, size, scheme, name.split()[0].lower())
    assert page.complaints == []


def test_faults_and_clearing(sandbox, page, size, scheme):
    send(sandbox, subject="One")
    send(sandbox, subject="Two", to="nobody", wanted=400)
    page.goto(f"{sandbox.url}/faults")
    follow(page, page.get_by_role("button", name="lost_answer").click)
    page.get_by_label("Fault", exact=True).select_option("429")
    page.get_by_label("Only if the request contains").fill("jane@")
    page.get_by_label("Until cleared").check()
    follow(page, page.get_by_role("button", name="Add fault").click)
    assert [fault.kind for fault in sandbox.faults.active] == ["lost_answer", "429"]
    take_shot(page, size, scheme, "inbox-faults")
    follow(page, page.get_by_role("button", name="Clear all faults").click)
    assert sandbox.faults.active == []
    page.get_by_label("Seconds").last.fill("0.5")
    follow(page, page.get_by_role("button", name="Set latency").click)
    assert sandbox.latency == 0.5
    follow(page, page.get_by_role("link", name="Inbox").click)
    take_shot(page, size, scheme, "inbox-refused")
    follow(page, page.get_by_role("link", name="Clear inbox").click)
    assert len(sandbox.messages) == 1
    take_shot(page, size, scheme, "inbox-clear")
    follow(page, page.get_by_role("button", name="Clear inbox").click)
    assert page.get_by_text("No messages yet").is_visible()
    assert sandbox.messages == []
    take_shot(page, size, scheme, "inbox-empty")
    assert page.complaints == []


def test_sending_events(outside, page, size, scheme):
    with Sandbox(webhook_url=outside[0]) as sandbox:
        send(sandbox, subject="Hello", to="jane@example.org")
        page.goto(f"{sandbox.url}/messages/{sandbox.latest.mid}")
        page.get_by_label("Event for").select_option("BOUNCED")
        follow(page, page.get_by_role("button", name="Send event").click)
        page.get_by_text("BOUNCED jane@example.org").wait_for()
        assert page.locator(".events li").count() == 3
        take_shot(page, size, scheme, "inbox-told")
        assert page.complaints == []


def test_search(sandbox, page):
    send(sandbox, subject="Your invoice", content="Please pay")
    send(sandbox, subject="Welcome")
    page.goto(sandbox.url)
    page.get_by_label("Search").fill("PLEASE PAY")
    follow(page, lambda: page.keyboard.press("Enter"))
    page.get_by_text("1 of 2 messages found").wait_for()
    assert page.locator("ul.messages h2").all_inner_texts() == ["Your invoice"]
