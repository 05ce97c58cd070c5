"""Makes the pictures of the documents from pages of a small shop."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from django_turbosmtp.sandbox import Sandbox
from tests.browser.conftest import ARTIFACTS, CHROMIUM, follow  # noqa: F401
from tests.browser.running import log_in, run_site

DOCS = Path(__file__).parents[2] / "docs"
#: The folder for the pictures: docs/pictures, to update them.
WHERE = Path(os.environ.get("DOCS_PICTURES", ARTIFACTS / "pictures"))


@pytest.fixture(scope="module")
def shop_sandbox():
    with Sandbox() as running:
        running.add_fault("500", match="lost@", times=None)
        yield running


@pytest.fixture(scope="module")
def shop(shop_sandbox, tmp_path_factory, _outside):
    folder = tmp_path_factory.mktemp("shop")
    with run_site(shop_sandbox, folder, _outside, "shop") as url:
        yield url


@pytest.fixture
def screen(browser):
    context = browser.new_context(viewport={"width": 1440, "height": 800})
    page = context.new_page()
    page.set_default_timeout(10_000)
    yield page
    context.close()


def keep(screen, name):
    WHERE.mkdir(parents=True, exist_ok=True)
    screen.screenshot(path=str(WHERE / f"{name}.png"))
    text = "".join(path.read_text("utf-8") for path in DOCS.glob("*.rst"))
    assert f"pictures/{name}.png" in text
    assert (DOCS / "pictures" / f"{name}.png").is_file()


def test_the_list(shop, screen):
    log_in(screen, shop)
    screen.locator(".paginator").get_by_text("90 messages").wait_for()
    assert screen.locator(".turbosmtp-status").count() == 50
    keep(screen, "list")


def test_a_message(shop, screen):
    log_in(screen, shop, "?q=jane@example.org")
    follow(screen, screen.get_by_role("link", name="Your parcel").first.click)
    screen.frame_locator("iframe").get_by_role("heading").first.wait_for()
    keep(screen, "message")


def test_the_dashboard(shop, screen):
    log_in(screen, shop, "dashboard/?period=week")
    screen.locator("#turbosmtp-chart").wait_for()
    screen.wait_for_timeout(1500)  # Wait for the animation of the bars.
    keep(screen, "dashboard")


def test_the_inbox(shop, shop_sandbox, screen):
    screen.goto(shop_sandbox.url)
    screen.get_by_text("refused").first.wait_for()
    keep(screen, "inbox")
