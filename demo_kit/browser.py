"""A minimal browser for the demo."""

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

# Ignore the shell's proxies, because all requests are to this machine.
_NO_PROXY = urllib.request.ProxyHandler({})


def fetch(url: str) -> bytes:
    """Return the answer of a URL on this machine."""
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
    """Open a page, fill in and submit its form, and return the next page."""
    cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    opener = urllib.request.build_opener(_NO_PROXY, cookies)
    with opener.open(f"{site}/", timeout=HTTP_SECONDS) as answer:
        reader = _FormToken()
        reader.feed(answer.read().decode())
    # Browsers use CRLF as line ends of a text area.
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
    """Return the error on the page."""
    found = re.search(r'role="alert">(.*?)</p>', page, re.DOTALL)
    return html.unescape(found[1]) if found else "see its log"


def answers(url: str) -> bool:
    """Return whether a server answers at this URL."""
    try:
        fetch(url)
    except OSError:
        return False
    return True
