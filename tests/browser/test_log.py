"""The log in the admin, in a real browser."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.browser.conftest import take_shot

SITE = Path(__file__).with_name("site.py")


@pytest.fixture
def site(sandbox, tmp_path, outside):
    """Yield the address of a running site that has sent a few messages."""
    sandbox.add_fault("500", match="lost@")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    arguments = [str(tmp_path / "db.sqlite3"), sandbox.send_url(), port, outside[0]]
    url = f"http://127.0.0.1:{port}"
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, SITE, *arguments], stdout=log, stderr=log, env=os.environ
        ) as process,
    ):
        try:
            deadline = time.monotonic() + 30
            while not answers(f"{url}/favicon.ico"):
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


def test_did_the_customer_get_it(site, sandbox, page, size, scheme):
    log_in(page, site)
    page.get_by_text("Your order is on its way").wait_for()
    for status in ("sent", "unknown", "rejected", "invalid"):
        assert page.locator(".turbosmtp-status", has_text=status).count() == 1
    take_shot(page, size, scheme, "log-list")
    assert page.complaints == []

    page.locator("#searchbar").fill("jane@example.org")
    page.keyboard.press("Enter")
    page.get_by_text("1 result").wait_for()
    assert page.get_by_text("Hello", exact=True).count() == 0

    page.get_by_role("link", name="Your order is on its way").click()
    page.get_by_text("Jane Doe <jane@example.org>").first.wait_for()
    text = page.locator("#content").inner_text()
    mid = sandbox.messages[0].mid
    for found in (mid, "turboSMTP accepted it", "rejected", "Prices (café).pdf"):
        assert found in text
    take_shot(page, size, scheme, "log-message")


def log_in(page, site, path=""):
    page.goto(f"{site}/admin/turbosmtp/message/{path}")
    page.get_by_label("Username:").fill("admin")
    page.get_by_label("Password:").fill("password")
    page.get_by_role("button", name="Log in").click()


def test_a_hostile_message_does_nothing(site, outside, page, size, scheme):
    origin, asked = outside
    log_in(page, site)
    page.get_by_role("link", name="Your order is on its way").click()
    inner = page.frame_locator("iframe")
    inner.get_by_role("heading", name="Your order is on its way").wait_for()
    page.wait_for_load_state("networkidle")
    where = page.url
    # What a reader may do in it: nothing comes of it.
    inner.locator("#go").click()
    inner.get_by_text("Track it", exact=True).click()
    inner.get_by_text("Here", exact=True).click()
    page.wait_for_timeout(300)
    assert page.url == where
    assert asked == []
    # No server is asked for what the message itself would bring.
    known = (site, origin, "cid:")
    assert [url for url in page.seen if not url.startswith(known)] == []

    page.get_by_role("link", name="Load them").click()
    page.wait_for_load_state("networkidle")
    assert "/remote.png" in asked
    assert set(asked) <= {"/remote.png", "/background.png", "/svg.png", "/poster"}
    take_shot(page, size, scheme, "log-pictures")


def test_a_preview_opened_by_itself_does_nothing(site, outside, page):
    _origin, asked = outside
    log_in(page, site)
    page.get_by_role("link", name="Your order is on its way").click()
    preview = page.locator("iframe").get_attribute("src")
    page.goto(f"{site}{preview}")
    page.get_by_role("heading", name="Your order is on its way").wait_for()
    page.locator("#go").click()
    page.wait_for_load_state("networkidle")
    assert asked == []
    assert page.evaluate("self.origin") == "null"


def test_a_person(site, page, size, scheme):
    log_in(page, site, "person/")
    page.get_by_label("Address").fill("Outside@example.net")
    page.keyboard.press("Enter")
    page.get_by_text("2 messages", exact=True).wait_for()
    assert page.locator(".turbosmtp-counts").inner_text().strip() == "⊘ rejected 2"
    take_shot(page, size, scheme, "log-person")
    assert page.complaints == []
    page.get_by_role("link", name="Your order is on its way").click()
    page.get_by_text("turboSMTP accepted it").wait_for()
