"""A message's HTML, as a document of its own that can do nothing."""

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

#: ``sandbox``: without scripts, forms and an origin, also where it is opened by itself.
_POLICY = (
    "default-src 'none'; img-src data:{images}; style-src 'unsafe-inline'; base-uri"
    " 'none'; form-action 'none'; frame-ancestors 'self'; sandbox"
)

#: Elements for which Chromium connects to a host although the policy forbids to load
#: anything from it: a link's hints, and frames (seen in Chromium 156 on 2026-11-28). By
#: another name they are unknown elements.
_CONNECTING = re.compile(
    r"<(/?)(link|i?frame|frameset|fencedframe|portal|object|embed|applet)\b",
    re.IGNORECASE,
)

#: What may stand in the type of a picture that came along.
_PICTURE = re.compile(r"image/[a-z0-9.+-]+")

#: What a browser would fetch from another server to show a message.
_REMOTE = re.compile(
    r"(?:\b(?:src|srcset|background|poster)\s*=|\burl\()\s*[\"']?\s*(?:https?:)?//",
    re.IGNORECASE,
)

#: Show pictures that came along up to so many bytes of them all, each as often as the
#: HTML refers to it.
_MAX_PICTURES = 5 * 1024 * 1024


def names_remote_pictures(html: str) -> bool:
    """Return whether HTML may show pictures from other servers."""
    return _REMOTE.search(unescape(html)) is not None


def show_own_pictures(html: str, message: Message) -> str:
    """Return the HTML with the pictures in it that came with the message.

    As ``data:`` URLs: the document has no origin, and may ask nobody for anything. Only
    those whose bytes were kept.
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
    """Return a ``data:`` URL, None for no picture, or one that is not to be had."""
    kind = picture.type.lower()
    if picture.stored is None or not _PICTURE.fullmatch(kind):
        return None
    content = read_bytes(picture.stored)
    if content is None:
        return None
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def build_preview(html: str, *, pictures: bool) -> HttpResponse:
    """Return the document; ``pictures``: those from other servers are loaded too."""
    response = HttpResponse(_CONNECTING.sub(r"<\1x-\2", html))
    remote = " https: http:" if pictures else ""
    response["Content-Security-Policy"] = _POLICY.format(images=remote)
    # Older browsers; and the admin's own pages are to show it.
    response["X-Frame-Options"] = "SAMEORIGIN"
    response["X-Content-Type-Options"] = "nosniff"
    response["X-DNS-Prefetch-Control"] = "off"
    response["Referrer-Policy"] = "no-referrer"
    response["Cache-Control"] = "private, no-store"
    return response
