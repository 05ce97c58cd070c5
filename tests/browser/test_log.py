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
from tests.browser.site import HTML

SITE = Path(__file__).with_name("site.py")


@pytest.fixture
def site(sandbox, tmp_path):
    """Yield the address of a running site that has sent a few messages."""
    sandbox.add_fault("500", match="lost@")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    arguments = [str(tmp_path / "db.sqlite3"), sandbox.send_url(), port]
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
    page.goto(f"{site}/admin/turbosmtp/message/")
    page.get_by_label("Username:").fill("admin")
    page.get_by_label("Password:").fill("password")
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("Your order is on its way").wait_for()
    for status in ("sent", "unknown", "rejected", "invalid"):
        assert page.locator(".turbosmtp-status", has_text=status).count() == 1
    take_shot(page, size, scheme, "log-list")

    page.locator("#searchbar").fill("jane@example.org")
    page.keyboard.press("Enter")
    page.get_by_text("1 result").wait_for()
    assert page.get_by_text("Hello", exact=True).count() == 0

    page.get_by_role("link", name="Your order is on its way").click()
    page.get_by_text("Jane Doe <jane@example.org>").first.wait_for()
    text = page.locator("#content").inner_text()
    mid = sandbox.messages[0].mid
    for found in (mid, "accepted", "rejected", "Prices (café).pdf", HTML):
        assert found in text
    take_shot(page, size, scheme, "log-message")
    assert page.complaints == []
