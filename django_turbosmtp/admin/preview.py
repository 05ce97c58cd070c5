"""Shows a message's HTML as a separate document without any privileges."""

from __future__ import annotations

import base64
import re
from html import unescape
from typing import TYPE_CHECKING

from django.http import HttpResponse

from django_turbosmtp.log.files import read_bytes
from django_turbosmtp.log.querysets import read_related
from django_turbosmtp.payload.inline import replace_references

if TYPE_CHECKING:
    from django_turbosmtp.models import Attachment, Message

#: ``sandbox``: no scripts, forms or origin, even if the document is opened directly.
_POLICY = (
    "default-src 'none'; img-src data:{images}; style-src 'unsafe-inline'; base-uri"
    " 'none'; form-action 'none'; frame-ancestors 'self'; sandbox"
)

#: Elements for which Chromium connects to a host although the policy forbids loading
#: from it: link hints and frames (seen in Chromium 156 on 2026-11-28). Renamed, they
#: are unknown elements.
_CONNECTING = re.compile(
    r"<(/?)(link|i?frame|frameset|fencedframe|portal|object|embed|applet)\b",
    re.IGNORECASE,
)

#: The types of inline pictures that are shown.
_PICTURE = re.compile(r"image/[a-z0-9.+-]+")

#: References that a browser would load from other servers to show a message.
_REMOTE = re.compile(
    r"(?:\b(?:src|srcset|background|poster)\s*=|\burl\()\s*[\"']?\s*(?:https?:)?//",
    re.IGNORECASE,
)

#: Show inline pictures up to this total number of bytes. A picture counts each time
#: that the HTML refers to it.
_MAX_PICTURES = 5 * 1024 * 1024


def names_remote_pictures(html: str) -> bool:
    """Return whether HTML may show pictures from other servers."""
    return _REMOTE.search(unescape(html)) is not None


def show_own_pictures(html: str, message: Message) -> str:
    """Return the HTML with its inline pictures as ``data:`` URLs.

    The document has no origin and must not load anything. Pictures are only shown if
    their bytes are stored.
    """
    if "cid:" not in html.lower():
        return html
    rows = (
        read_related(message.attachments)
        .exclude(content_id="")
        .select_related("stored")
    )
    pictures = {row.content_id: row for row in rows.order_by("-position")}
    urls: dict[str, str | None] = {}
    left = _MAX_PICTURES

    def find(cid: str) -> str | None:
        nonlocal left
        # turboSMTP adds the sender's domain (docs/wire.rst, quirk 3).
        row = pictures.get(cid) or pictures.get(cid.rpartition("@")[0])
        if row is None or row.size > left:
            return None
        left -= row.size
        if row.content_id not in urls:
            urls[row.content_id] = _read_as_url(row)
        return urls[row.content_id]

    return replace_references(html, find)


def _read_as_url(picture: Attachment) -> str | None:
    """Return a ``data:`` URL, or None if it is not a picture or is not available."""
    kind = picture.type.lower()
    if picture.stored is None or not _PICTURE.fullmatch(kind):
        return None
    content = read_bytes(picture.stored)
    if content is None:
        return None
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def build_preview(html: str, *, pictures: bool) -> HttpResponse:
    """Return the document. ``pictures``: also load pictures from other servers."""
    response = HttpResponse(_CONNECTING.sub(r"<\1x-\2", html))
    remote = " https: http:" if pictures else ""
    response["Content-Security-Policy"] = _POLICY.format(images=remote)
    # For older browsers. The admin's pages must be able to show it in a frame.
    response["X-Frame-Options"] = "SAMEORIGIN"
    response["X-Content-Type-Options"] = "nosniff"
    response["X-DNS-Prefetch-Control"] = "off"
    response["Referrer-Policy"] = "no-referrer"
    response["Cache-Control"] = "private, no-store"
    return response
