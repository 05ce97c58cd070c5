"""A real Chromium, at the sizes and colour schemes that people have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright import sync_api

from django_turbosmtp.sandbox import Sandbox

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


def take_shot(page, size, scheme, name):
    """Keep a picture of the page, which may not scroll sideways."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    path = ARTIFACTS / f"{name}-{size}-{scheme}.png"
    page.screenshot(path=str(path), full_page=True)
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0, f"{name} scrolls sideways by {wide} pixels"
