"""A message's HTML, as a document of its own that can do nothing."""

from __future__ import annotations

import re

from django.http import HttpResponse

#: ``sandbox``: without scripts, forms and an origin, also where it is opened by itself.
_POLICY = (
    "default-src 'none'; img-src data:{images}; style-src 'unsafe-inline'; base-uri"
    " 'none'; form-action 'none'; frame-ancestors 'self'; sandbox"
)

#: No policy stops what a link element only hints at: it opens connections.
_LINK = re.compile(r"<(/?)link\b", re.IGNORECASE)


def build_preview(html: str, *, pictures: bool) -> HttpResponse:
    """Return the document; ``pictures``: those from other servers are loaded too."""
    response = HttpResponse(_LINK.sub(r"<\1x-link", html))
    remote = " https: http:" if pictures else ""
    response["Content-Security-Policy"] = _POLICY.format(images=remote)
    # Older browsers; and the admin's own pages are to show it.
    response["X-Frame-Options"] = "SAMEORIGIN"
    response["X-Content-Type-Options"] = "nosniff"
    response["X-DNS-Prefetch-Control"] = "off"
    response["Referrer-Policy"] = "no-referrer"
    response["Cache-Control"] = "private, no-store"
    return response
