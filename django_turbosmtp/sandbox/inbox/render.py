"""Renders pages from templates, with a content security policy without scripts."""

from __future__ import annotations

import hmac
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from django.template import Context, Engine

from django_turbosmtp.sandbox.answers import (
    HeaderPairs,
    Refusal,
    Reply,
    Request,
)
from django_turbosmtp.sandbox.inbox.control import SECURITY

if TYPE_CHECKING:
    from django_turbosmtp.sandbox.state import State

_HERE = Path(__file__).parent
_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; frame-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_STATIC = {
    "sandbox.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@cache
def _load_engine() -> Engine:
    # A separate engine, which needs neither settings nor installed apps.
    return Engine(dirs=[str(_HERE / "templates")], autoescape=True)


def render_page(template: str, context: dict[str, Any], *, status: int = 200) -> Reply:
    """Return an HTML page."""
    # Otherwise Django would read the format of numbers from its settings.
    values = Context(context, use_l10n=False, use_tz=False)
    text = _load_engine().get_template(template).render(values)
    return render_html(text, policy=_PAGE_POLICY, status=status)


def render_html(text: str, *, policy: str, status: int = 200) -> Reply:
    """Return HTML with this content security policy."""
    return Reply(
        status=status,
        body=text.encode("utf-8", "replace"),
        content_type="text/html; charset=utf-8",
        headers=(
            *SECURITY,
            ("Content-Security-Policy", policy),
            ("Cross-Origin-Opener-Policy", "same-origin"),
        ),
    )


def render_not_found() -> Reply:
    """Return the page for missing or deleted messages."""
    return render_page("missing.html", {}, status=404)


def redirect(target: str) -> Reply:
    """Redirect the browser after a form."""
    headers: HeaderPairs = (*SECURITY, ("Location", target))
    return Reply(status=303, headers=headers, content_type="")


def serve_static(name: str) -> Reply:
    """Return a static file of the pages."""
    if name not in _STATIC:
        return render_not_found()
    return Reply(
        body=(_HERE / "static" / name).read_bytes(),
        content_type=_STATIC[name],
        headers=(*SECURITY, ("Content-Security-Policy", "default-src 'none'")),
    )


def read_form(state: State, request: Request) -> dict[str, str]:
    """Return the fields of a form. Refuse forms of other sites."""
    fields: dict[str, str] = {}
    if request.media_type == "application/x-www-form-urlencoded":
        text = request.body.decode("utf-8", "replace")
        fields = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=50))
    token = fields.pop("token", "").encode()
    own = hmac.compare_digest(token, state.form_token.encode())
    # If the browser hides the origin ("null", because of our no-referrer policy), the
    # token decides.
    origin = request.headers.get("Origin") or "null"
    if origin != "null" and urlsplit(origin).netloc != request.headers.get("Host"):
        own = False
    if not own:
        raise Refusal(render_page("forbidden.html", {}, status=403))
    return fields
