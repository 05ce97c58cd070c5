"""The log in the admin, in a real browser."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe

from django_turbosmtp.sandbox import Sandbox
from tests.browser.conftest import follow, take_shot
from tests.browser.running import log_in, run_site


@pytest.fixture(scope="module")
def site_sandbox():
    """The server to which the site sends."""
    with Sandbox() as running:
        yield running


@pytest.fixture(scope="module")
def site(site_sandbox, tmp_path_factory, _outside):
    """Yield the address of a site with a few messages, for tests that only read."""
    with run_site(site_sandbox, tmp_path_factory.mktemp("site"), _outside) as url:
        yield url


@pytest.fixture
def own_site(sandbox, tmp_path, _outside):
    """Yield the address of another one, for tests that change it."""
    with run_site(sandbox, tmp_path, _outside) as url:
        yield url


def test_did_the_customer_get_it(site, site_sandbox, page, size, scheme):
    log_in(page, site)
    page.get_by_text("Your order is on its way").wait_for()
    for status in ("sent", "unknown", "rejected", "invalid", "failed"):
        assert page.locator(".turbosmtp-status", has_text=status).count() == 1
    take_shot(page, size, scheme, "log-list")
    assert page.complaints == []
    if size == "desktop":
        # All columns are visible beside the navigation and the filters.
        beyond = "e => e.scrollWidth - e.clientWidth"
        assert page.locator("#changelist .results").evaluate(beyond) <= 0

    page.locator("#searchbar").fill("jane@example.org")
    follow(page, lambda: page.keyboard.press("Enter"))
    page.get_by_text("1 result").wait_for()
    assert page.get_by_text("Hello", exact=True).count() == 0

    follow(page, page.get_by_role("link", name="Your order is on its way").click)
    page.get_by_text("Jane Doe <jane@example.org>").first.wait_for()
    text = page.locator("#content").inner_text()
    mid = site_sandbox.messages[0].mid
    for found in (
        mid,
        "It was sent: turboSMTP accepted it",
        "rejected",
        "Prices (café).pdf",
    ):
        assert found in text
    wait_for_frame(page)
    take_shot(page, size, scheme, "log-message")


def wait_for_frame(page):
    page.frame_locator("iframe").get_by_role("heading").first.wait_for()
    page.locator("iframe").scroll_into_view_if_needed()


def test_a_hostile_message_does_nothing(site, outside, page, size, scheme):
    origin, asked = outside
    log_in(page, site)
    follow(page, page.get_by_role("link", name="Your order is on its way").click)
    inner = page.frame_locator("iframe")
    inner.get_by_role("heading", name="Your order is on its way").wait_for()
    page.wait_for_load_state("networkidle")
    # The inline picture is shown.
    assert inner.locator("#inline").evaluate("e => e.naturalWidth") == 48
    where = page.url
    # No action of the user in the frame has an effect.
    inner.locator("#go").click()
    inner.get_by_text("Track it", exact=True).click()
    inner.get_by_text("Here", exact=True).click()
    page.wait_for_timeout(300)
    assert page.url == where
    assert asked == []
    # No server is contacted for the message's content.
    known = (site, origin, "cid:")
    assert [url for url in page.seen if not url.startswith(known)] == []

    follow(page, page.get_by_role("link", name="Load them").click)
    page.wait_for_load_state("networkidle")
    assert "/remote.png" in asked
    assert set(asked) <= {"/remote.png", "/background.png", "/svg.png", "/poster"}
    take_shot(page, size, scheme, "log-pictures")


@pytest.mark.parametrize("scheme", ["light"])
@pytest.mark.parametrize("size", ["desktop"])
def test_a_preview_opened_by_itself_does_nothing(site, outside, page, size, scheme):
    _origin, asked = outside
    log_in(page, site)
    follow(page, page.get_by_role("link", name="Your order is on its way").click)
    preview = page.locator("iframe").get_attribute("src")
    page.goto(f"{site}{preview}")
    page.get_by_role("heading", name="Your order is on its way").wait_for()
    page.locator("#go").click()
    page.wait_for_timeout(300)
    assert asked == []
    assert page.evaluate("self.origin") == "null"


def test_a_person(site, page, size, scheme):
    log_in(page, site, "person/")
    page.get_by_label("Address").fill("Outside@example.net")
    follow(page, lambda: page.keyboard.press("Enter"))
    page.get_by_text("2 messages", exact=True).wait_for()
    assert page.locator(".turbosmtp-counts").inner_text().strip() == "⊘ rejected 2"
    take_shot(page, size, scheme, "log-person")
    assert page.complaints == []
    follow(page, page.get_by_role("link", name="Your order is on its way").click)
    page.get_by_text("It was sent: turboSMTP accepted it.", exact=True).wait_for()


def test_sending_again_by_keyboard(own_site, sandbox, page, size, scheme):
    log_in(page, own_site)
    press(page, "Your invoice")
    page.get_by_text("has no credit left").wait_for()
    take_shot(page, size, scheme, "log-refused")
    press(page, "Send again…")
    page.get_by_role("heading", name="Send again?").wait_for()
    assert "to: refused@example.org" in page.locator("#content").inner_text()
    take_shot(page, size, scheme, "log-resend")
    before = len(sandbox.messages)
    press(page, "Send again")
    page.locator(
        ".messagelist", has_text="It was sent: turboSMTP accepted it."
    ).wait_for()
    assert len(sandbox.messages) == before + 1
    assert page.locator(".turbosmtp-fate").inner_text().strip() == "✓ sent"
    take_shot(page, size, scheme, "log-resent")
    assert page.complaints == []


@pytest.fixture
def queue_site(sandbox, tmp_path, _outside):
    """Yield the address of a site with two queued messages."""
    with run_site(sandbox, tmp_path, _outside, "queue") as url:
        yield url


def test_the_queue(queue_site, sandbox, page, size, scheme):
    log_in(page, queue_site, "dashboard/")
    page.get_by_text("2 messages are queued.").wait_for()
    check_page(page, size, scheme, "queue-dashboard")
    page.goto(f"{queue_site}/admin/turbosmtp/message/?queue=queued")
    press(page, "See you tomorrow")
    page.get_by_text("It is queued and has not been sent yet.").wait_for()
    facts = page.locator(".turbosmtp-facts").first.inner_text()
    for label in ("Stored", "Next attempt", "Expires", "Priority\nhigh"):
        assert label in facts
    check_page(page, size, scheme, "queue-message")
    press(page, "Cancel…")
    page.get_by_role("heading", name="Cancel this message?").wait_for()
    check_page(page, size, scheme, "queue-cancel")
    press(page, "Cancel this message")
    page.get_by_text("1 message was cancelled.").wait_for()
    assert not sandbox.messages
    assert page.complaints == []


def check_page(page, size, scheme, name):
    """Save a screenshot of the page, and check its accessibility."""
    found = Axe().run(page, context={"include": ["#content"], "exclude": ["iframe"]})
    problems = [
        (problem["id"], [node["html"] for node in problem["nodes"]])
        for problem in found.response["violations"]
    ]
    assert problems == [], f"{name}: {problems}"
    take_shot(page, size, scheme, name)


def press(page, name):
    """Reach a link or button by the Tab key, see that the focus shows, press Enter."""
    read = """() => {
        const e = document.activeElement;
        return (e.value && e.type === "submit" ? e.value : e.textContent).trim();
    }"""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate(read) == name:
            break
    else:
        pytest.fail(f"{name} is out of the keyboard's reach")
    follow(page, lambda: page.keyboard.press("Enter"))


def test_the_dashboard(site, page, size, scheme):
    log_in(page, site, "dashboard/")
    page.locator("#turbosmtp-chart").wait_for()
    drawn = page.evaluate(
        """() => {
            const canvas = document.getElementById("turbosmtp-chart");
            const { data } = canvas
                .getContext("2d")
                .getImageData(0, 0, canvas.width, canvas.height);
            const good = getComputedStyle(document.documentElement)
                .getPropertyValue("--turbosmtp-good").trim();
            const wanted = [1, 3, 5].map((at) => parseInt(good.slice(at, at + 2), 16));
            let found = 0;
            for (let at = 0; at < data.length; at += 4) {
                if (wanted.every((value, n) => Math.abs(data[at + n] - value) < 3)) {
                    found += 1;
                }
            }
            return found;
        }"""
    )
    # The sent message, as a bar of its colour, and in the legend.
    assert drawn > 500
    sums = page.locator("tfoot td").all_inner_texts()
    assert sums == ["5", "1", "3", "1"]
    take_shot(page, size, scheme, "log-dashboard")
    follow(page, page.get_by_role("link", name="30 days").click)
    page.locator("#turbosmtp-chart").wait_for()
    assert page.locator("tfoot td").all_inner_texts() == sums
    assert page.complaints == []


PAGES = {
    "list": "",
    "list-filtered": "?group=failed&period=day",
    "detail": "{detail}",
    "detail-of-one": "{detail}?of=jane@example.org#turbosmtp-events",
    "detail-text": "{detail}?tab=text",
    "detail-headers": "{detail}?tab=headers",
    "detail-wire": "{detail}?tab=wire",
    "resend": "{refused}../resend/",
    "resend-many": "resend/?id={refused_key},{detail_key}",
    "person": "person/?address=jane@example.org",
    "dashboard": "dashboard/?period=week",
    "test": "test/",
    "suppressed": "../suppression/",
    "suppressed-add": "../suppression/add/",
}


def list_pages(page, site):
    """Yield the name and address of every page of the log."""
    log_in(page, site)
    links = {
        name: page.get_by_role("link", name=subject).get_attribute("href")
        for name, subject in {
            "detail": "Your order is on its way",
            "refused": "Your invoice",
        }.items()
    }
    keys = {f"{name}_key": link.split("/")[-3] for name, link in links.items()}
    for name, path in PAGES.items():
        if path.startswith("{"):
            yield name, site + path.format(**links)
        else:
            yield name, f"{site}/admin/turbosmtp/message/{path.format(**keys)}"


#: What must be visible on a phone without scrolling sideways, by page.
ESSENTIAL = {
    "list": "#result_list :is(.field-status_shown, .field-recipients_shown,"
    " .field-subject_shown, .field-time_shown)",
    "person": ".turbosmtp-cards td",
    "detail": ".turbosmtp-cards td",
}


@pytest.mark.parametrize("scheme", ["light"])
def test_rows_fit(site, page, size, scheme):
    for name, address in list_pages(page, site):
        if name not in ESSENTIAL:
            continue
        page.goto(address)
        cells = page.locator(ESSENTIAL[name])
        assert cells.count() >= 4
        width = page.viewport_size["width"]
        for box in [cell.bounding_box() for cell in cells.all()]:
            assert box["width"] > 0
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
        scrolls = "e => e.scrollWidth - e.clientWidth"
        for area in page.locator(
            ".results, .turbosmtp-scroll:has(.turbosmtp-cards)"
        ).all():
            assert area.evaluate(scrolls) <= 0


def test_pages_are_accessible(site, page, size, scheme):
    for name, address in list_pages(page, site):
        page.goto(address)
        check_page(page, size, scheme, f"page-{name}")


@pytest.mark.parametrize("scheme", ["light"])
def test_from_right_to_left(site, browser, size, scheme):
    width, height = {"phone": (390, 844), "desktop": (1280, 900)}[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        locale="ar",
        extra_http_headers={"Accept-Language": "ar"},
    )
    page = context.new_page()
    page.goto(f"{site}/admin/turbosmtp/message/")
    page.locator("#id_username").fill("admin")
    page.locator("#id_password").fill("password")
    follow(page, page.locator("input[type=submit]").click)
    for name, path in {"list": "", "dashboard": "dashboard/"}.items():
        page.goto(f"{site}/admin/turbosmtp/message/{path}")
        assert page.evaluate("document.documentElement.dir") == "rtl"
        take_shot(page, size, "rtl", f"log-{name}")
    page.goto(f"{site}/admin/turbosmtp/message/")
    follow(page, page.get_by_role("link", name="Your order is on its way").click)
    wait_for_frame(page)
    take_shot(page, size, "rtl", "log-message")
    # A value in another script is beside its label, on the right.
    gaps = page.evaluate(
        """() => [...document.querySelectorAll("dd > bdi, p > bdi:only-child")].map(
            (value) => {
                const outer = value.parentElement.getBoundingClientRect();
                const style = getComputedStyle(value.parentElement);
                const inner = outer.right - parseFloat(style.paddingRight)
                    - parseFloat(style.borderRightWidth);
                return inner - value.getBoundingClientRect().right;
            }
        )"""
    )
    assert len(gaps) > 10
    assert max(map(abs, gaps)) < 1
    context.close()


def test_without_scripts(site, browser):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    log_in(page, site, "dashboard/")
    assert page.locator("tfoot td").first.inner_text() == "5"
    assert not page.locator("#turbosmtp-chart").is_visible()
    page.goto(f"{site}/admin/turbosmtp/message/?group=unknown")
    follow(page, page.get_by_role("link", name="Hello").click)
    follow(page, page.get_by_role("link", name="Text", exact=True).click)
    page.locator("pre.turbosmtp-text").wait_for()
    context.close()
