"""Inline pictures: from any Content-ID to the only form turboSMTP knows.

turboSMTP turns an attachment with ``content_id`` X into a part with ``Content-ID:
<X@sender-domain>``, and only where the HTML says ``cid:X@sender-domain``; a picture
referred to otherwise becomes an ordinary attachment (docs/wire.rst, quirk 3). So ids
and references are rewritten together. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from html import unescape
from urllib.parse import unquote

# References stand where a browser loads them: an attribute that is a cid: URL, one of
# a srcset, or a url() in a style. Text and links that merely say "cid:" are left alone.
# Tags are found in comments too, for Outlook's conditional ones load pictures.
_TAG = re.compile(r"""<[A-Za-z](?:"[^"]*"|'[^']*'|[^'">])*+>""")
_ATTRIBUTE = re.compile(
    r"""(?P<head>\s(?P<name>[^\s=>"'/]+)\s*=\s*)
        (?P<value>"[^"]*"|'[^']*'|[^\s"'>]+)""",
    re.VERBOSE,
)
_STYLE = re.compile(r"(?is)(<style\b[^>]*>)(.*?)(</style)")
_CSS_URL = re.compile(
    r"""(?P<head>\burl\(\s*(?P<quote>["']|&(?:quot|apos|\#34|\#39|\#x22|\#x27);)?)
        (?P<url>cid:[^"'()\s]*?)
        (?P<tail>(?P=quote)?\s*\))""",
    re.IGNORECASE | re.VERBOSE,
)
_WHOLE = re.compile(
    r"(?P<head>[\"']?\s*)(?P<url>cid:.*?)(?P<tail>\s*[\"']?)", re.IGNORECASE | re.DOTALL
)
_CANDIDATE = re.compile(
    r"(?P<head>(?:^|,)[\"'\s]*)(?P<url>cid:[^\s\"']*?)(?P<tail>,?[\"']?(?=\s|,|$))",
    re.IGNORECASE,
)
_MENTION = re.compile(r"""(?i)cid:([^\s"'<>(),;]+)""")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")

#: A long id makes a long header, which Python folds in the middle (seen on 3.11.7).
_MAX_ID = 40

Rename = Callable[[str], "str | None"]


def find_referenced(html: str) -> set[str]:
    """Return the Content-IDs (without angle brackets) that ``html`` loads."""
    found: set[str] = set()

    def note(cid: str) -> None:
        found.add(cid)

    _walk(html, note)
    return found


def find_mentioned(html: str) -> set[str]:
    """Return the Content-IDs that stand after a ``cid:`` anywhere else.

    In a link or in the text it may mean the same or not; nobody can rewrite that.
    """
    rest = _walk(html, lambda _: "")
    return {unquote(unescape(match[1])) for match in _MENTION.finditer(rest)}


def rename_references(html: str, renamed: dict[str, str]) -> str:
    """Return ``html`` with each ``cid:`` reference in ``renamed`` replaced."""
    return _walk(html, renamed.get)


def _walk(html: str, rename: Rename) -> str:
    def url(match: re.Match[str]) -> str:
        new = rename(unquote(unescape(match["url"]))[len("cid:") :])
        return match[0] if new is None else f"{match['head']}cid:{new}{match['tail']}"

    def attribute(match: re.Match[str]) -> str:
        name, value = match["name"].lower(), match["value"]
        if "cid:" not in value.lower():
            return match[0]
        if name.endswith("srcset"):
            value = _CANDIDATE.sub(url, value)
        elif whole := _WHOLE.fullmatch(value):
            # A link is not loaded; but then it does no harm to keep it right.
            value = url(whole)
        else:
            value = _CSS_URL.sub(url, value)
        return match["head"] + value

    def style(match: re.Match[str]) -> str:
        return match[1] + _CSS_URL.sub(url, match[2]) + match[3]

    if "cid:" not in html.lower():
        return html
    html = _TAG.sub(lambda tag: _ATTRIBUTE.sub(attribute, tag[0]), html)
    return _STYLE.sub(style, html)


def choose_bare_ids(
    cids: Iterable[str], domain: str, *, avoid: Iterable[str]
) -> dict[str, str]:
    """Return a bare id (no ``@``, no ``<>``) for each Content-ID, all different.

    ``avoid``: Content-IDs that the HTML refers to, and that no picture has.
    """
    suffix = f"@{domain}"
    taken = {cid.removesuffix(suffix).lower() for cid in avoid if cid.endswith(suffix)}
    result: dict[str, str] = {}
    # Those that already name the sender's domain keep their id before all others.
    for cid in sorted(cids, key=lambda cid: not cid.endswith(suffix)):
        stem = _UNSAFE.sub("-", cid.rpartition("@")[0] or cid).strip("-.")[:_MAX_ID]
        result[cid] = _find_free_name(stem or "image", taken)
        taken.add(result[cid].lower())
    return result


def _find_free_name(stem: str, taken: set[str]) -> str:
    name, number = stem, 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}"
    return name
