"""A browser, as far as the demo needs one."""

from __future__ import annotations

import html
import html.parser
import http.cookiejar
import re
import urllib.error
import urllib.parse
import urllib.request

from demo_kit.processes import Failed

HTTP_SECONDS = 30

# Without the proxies of this shell: all of it stays on this machine.
_NO_PROXY = urllib.request.ProxyHandler({})


def fetch(url: str) -> bytes:
    """Return what a URL of this machine answers."""
    opener = urllib.request.build_opener(_NO_PROXY)
    with opener.open(url, timeout=HTTP_SECONDS) as answer:
        return answer.read()


class _FormToken(html.parser.HTMLParser):
    token = ""

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "input" and values.get("name") == "csrfmiddlewaretoken":
            self.token = values.get("value") or ""


def send_form(site: str, path: str, fields: dict[str, str]) -> str:
    """Open the page, fill in its form, send it, and return the page that follows."""
    cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    opener = urllib.request.build_opener(_NO_PROXY, cookies)
    with opener.open(f"{site}/", timeout=HTTP_SECONDS) as answer:
        reader = _FormToken()
        reader.feed(answer.read().decode())
    # Browsers end the lines of a text area with CRLF.
    data = {name: value.replace("\n", "\r\n") for name, value in fields.items()}
    data["csrfmiddlewaretoken"] = reader.token
    request = urllib.request.Request(
        f"{site}{path}",
        data=urllib.parse.urlencode(data).encode(),
        headers={"Referer": f"{site}/", "Origin": site},
    )
    try:
        with opener.open(request, timeout=HTTP_SECONDS) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            page = error.read().decode("utf-8", "replace")
        raise Failed(
            f"The example project answered {error.code}: {alert_of(page)}"
        ) from None


def alert_of(page: str) -> str:
    """Return what the page says went wrong."""
    found = re.search(r'role="alert">(.*?)</p>', page, re.DOTALL)
    return html.unescape(found[1]) if found else "see its log"


def answers(url: str) -> bool:
    """Return whether a server answers a page here."""
    try:
        fetch(url)
    except OSError:
        return False
    return True
