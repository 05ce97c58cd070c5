"""Inline pictures: from any Content-ID to the only form turboSMTP knows.

turboSMTP turns an attachment with ``content_id`` X into a part with ``Content-ID:
<X@sender-domain>``, and only where the HTML says ``cid:X@sender-domain``; a picture
referred to otherwise becomes an ordinary attachment (WIRE.md, quirk 3). So ids and
references are rewritten together. Pure.
"""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Sequence

# A whole cid: URL, up to what ends it in an attribute, a srcset or a CSS url(), be
# the quotes written as characters or as entities. Matching the whole URL is what
# keeps "cid:logo" from being found in "cid:logo2".
_CID_URL = re.compile(
    r"""(?<![\w.-])cid:(?P<id>(?:(?!&(?:quot|apos|\#34|\#39|\#x22|\#x27);)[^\s"'<>()\\])+)""",
    re.IGNORECASE | re.VERBOSE,
)
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def referenced(html: str) -> set[str]:
    """Return the Content-IDs (without angle brackets) that ``html`` refers to."""
    found = (_decode(match["id"]) for match in _CID_URL.finditer(html))
    return {form for cid in found for form in (cid, cid.rstrip(",;"))}


def rewrite(html: str, renamed: dict[str, str]) -> str:
    """Return ``html`` with each ``cid:`` reference in ``renamed`` replaced."""

    def replace(match: re.Match[str]) -> str:
        cid = _decode(match["id"])
        # A comma or semicolon may end a URL in a srcset or a style, or belong to it.
        bare = cid.rstrip(",;")
        if cid in renamed:
            return f"cid:{renamed[cid]}"
        if bare in renamed:
            return f"cid:{renamed[bare]}{cid[len(bare) :]}"
        return match[0]

    return _CID_URL.sub(replace, html)


def bare_ids(cids: Sequence[str], domain: str) -> dict[str, str]:
    """Return a bare id (no ``@``, no ``<>``) for each Content-ID, all different."""
    result: dict[str, str] = {}
    # Those that already name the sender's domain keep their id before all others.
    own_first = sorted(cids, key=lambda cid: not cid.endswith(f"@{domain}"))
    for cid in own_first:
        stem = _UNSAFE.sub("-", cid.rpartition("@")[0] or cid).strip("-.") or "image"
        result[cid] = _free(stem, {name.lower() for name in result.values()})
    return result


def _free(stem: str, taken: set[str]) -> str:
    name, number = stem, 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}"
    return name


def _decode(url: str) -> str:
    return unquote(unescape(url))
