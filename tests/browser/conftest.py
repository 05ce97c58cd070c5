"""Fixtures: a real Chromium, in several sizes and colour schemes."""

from __future__ import annotations

import http.server
import os
import threading
from pathlib import Path

import pytest
from playwright import sync_api

from django_turbosmtp.sandbox import Sandbox
from tests.browser.hostile import picture

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARTIFACTS = Path(os.environ.get("ARTIFACTS", "artifacts"))
ARGUMENTS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}


@pytest.fixture
def sandbox():
    with Sandbox() as running:
        yield running


@pytest.fixture(scope="module")
def _outside():
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "image/png")
            self.end_headers()
            self.wfile.write(picture())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def outside(_outside):
    """Yield a web server that no page may contact, and its requests."""
    _origin, asked = _outside
    asked.clear()
    return _outside


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.fixture(params=sorted(SIZES))
def size(request):
    return request.param


@pytest.fixture
def page(browser, size, scheme):
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme
    )
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.seen = []
    page.complaints = []
    page.on("request", lambda request: page.seen.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    yield page
    context.close()


def follow(page, act):
    """Do something that leads to another page, such as a click, and wait for that page.

    A click returns while the old page is still shown.
    """
    with page.expect_navigation():
        act()


def take_shot(page, size, scheme, name):
    """Save a screenshot of the page, and check that it does not scroll sideways."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    path = ARTIFACTS / f"{name}-{size}-{scheme}.png"
    page.screenshot(path=str(path), full_page=True)
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"{name} scrolls sideways by {wide} pixels"
