"""Shows a message's HTML without any privileges."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from django_turbosmtp.sandbox.answers import HeaderPairs, Refusal, Reply
from django_turbosmtp.sandbox.inbox import render
from django_turbosmtp.sandbox.inbox.control import NO_CONTENT, SECURITY, find_file

if TYPE_CHECKING:
    from django_turbosmtp.sandbox.state.store import Received

_POLICY = (
    "default-src 'none'; img-src {images}; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox"
)
_LOCAL_IMAGES = "'self' data:"
_REFERENCE = re.compile(r"cid:([^\s\"'<>()\\]+)", re.IGNORECASE)
# A browser connects to the hosts of link hints and frames in spite of the policy.
_CONNECTING = re.compile(
    r"<(/?)(link|i?frame|frameset|fencedframe|portal|object|embed|applet)\b",
    re.IGNORECASE,
)
# SVG is excluded: opened directly, it is a document that can have scripts.
_IMAGES = {"image/png", "image/jpeg", "image/gif", "image/webp"}

#: References that a browser would load from other servers to show a message.
_REMOTE = re.compile(
    r"(?:\b(?:src|srcset|background|poster)\s*=|\burl\()\s*[\"']?\s*(?:https?:)?//",
    re.IGNORECASE,
)


def names_remote_pictures(text: str) -> bool:
    """Return whether HTML may show pictures from other servers."""
    return _REMOTE.search(html.unescape(text)) is not None


def show_document(received: Received, *, remote: bool) -> Reply:
    """Return the HTML with a policy that allows no connections."""
    images = f"{_LOCAL_IMAGES} https: http:" if remote else _LOCAL_IMAGES
    text = _CONNECTING.sub(r"<\1x-\2", received.details.html)
    response = render.render_html(
        link_pictures(received, text), policy=_POLICY.format(images=images)
    )
    prefetch = ("X-DNS-Prefetch-Control", "off")
    return Reply(
        body=response.body,
        content_type=response.content_type,
        headers=(*response.headers, prefetch),
    )


def link_pictures(received: Received, text: str) -> str:
    """Return the HTML with cid: references replaced by URLs of the inline parts."""
    numbers = {
        info.content_id: number
        for number, info in enumerate(received.details.files, start=1)
        if info.content_id is not None
    }

    def replace(found: re.Match[str]) -> str:
        number = numbers.get(unquote(html.unescape(found[1])))
        if number is None:
            return found[0]
        return f"/messages/{received.mid}/inline/{number}"

    return _REFERENCE.sub(replace, text)


def show_picture(received: Received, number: str) -> Reply:
    """Return an inline picture for the preview; other files are not shown."""
    info, content = find_file(received, number)
    if info.type not in _IMAGES:
        raise Refusal(render.render_not_found())
    headers: HeaderPairs = (
        *SECURITY,
        ("Content-Disposition", "inline"),
        ("Content-Security-Policy", NO_CONTENT),
    )
    return Reply(body=content, content_type=info.type, headers=headers)
