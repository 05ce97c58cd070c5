"""Rewrites the Content-IDs of inline pictures to the only form turboSMTP supports.

turboSMTP turns an attachment with ``content_id`` X into a part with ``Content-ID:
<X@sender-domain>``, but only if the HTML contains ``cid:X@sender-domain``. With any
other reference, it becomes an ordinary attachment (docs/wire.rst, quirk 3). So ids and
references are rewritten together. Pure.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from html import unescape
from urllib.parse import unquote

# A reference is a URL that a mail program loads: an attribute with a cid: URL, an item
# of a srcset, or a url() in a style. Other occurrences of "cid:" are not changed. Tags
# in comments count, because Outlook's conditional comments load pictures.
_TAG_START = re.compile(r"<[A-Za-z]")
_DELIMITER = re.compile(r"""["'>]""")
_ATTRIBUTE = re.compile(
    r"""(?P<head>\s(?P<name>[^\s=>"'/]+)\s*=\s*)
        (?P<value>"[^"]*"|'[^']*'|[^\s"'>]+)""",
    re.VERBOSE,
)
_STYLE_START = re.compile(r"<style\b", re.IGNORECASE | re.ASCII)
_STYLE_END = re.compile(r"</style", re.IGNORECASE | re.ASCII)
_CSS_URL = re.compile(
    r"""(?P<head>\burl\(\s*(?P<quote>["']|&(?:quot|apos|\#34|\#39|\#x22|\#x27);)?)
        (?P<url>cid:[^"'()\s]*?)
        (?P<tail>(?P=quote)?\s*\))""",
    re.IGNORECASE | re.VERBOSE,
)
_CANDIDATE = re.compile(
    r"(?P<head>(?:^|,)[\"'\s]*)(?P<url>cid:[^\s\"']*?)(?P<tail>,?[\"']?(?=\s|,|$))",
    re.IGNORECASE,
)
_MENTION = re.compile(r"""(?i)cid:([^\s"'<>(),;]+)""")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")

#: Cut ids to this length: Python folds a long header inside the id (seen on 3.11.7).
_MAX_ID = 40

Find = Callable[[str], "str | None"]


def find_referenced(html: str) -> set[str]:
    """Return the Content-IDs (without angle brackets) that ``html`` loads."""
    found: set[str] = set()

    def note(cid: str) -> None:
        found.add(cid)

    replace_references(html, note)
    return found


def find_mentioned(html: str) -> set[str]:
    """Return the Content-IDs after ``cid:`` that are not references.

    In a link or in the text, they may mean the picture or not, so they cannot be
    rewritten.
    """
    rest = replace_references(html, lambda _: "cid:")
    return {unquote(unescape(match[1])) for match in _MENTION.finditer(rest)}


def rename_references(html: str, renamed: dict[str, str]) -> str:
    """Return ``html`` with each ``cid:`` reference in ``renamed`` replaced."""
    return replace_references(
        html, lambda cid: f"cid:{renamed[cid]}" if cid in renamed else None
    )


def replace_references(html: str, find: Find) -> str:
    """Return ``html`` with each ``cid:`` reference replaced by the result of ``find``.

    ``find`` takes a Content-ID and returns a URL, or None to keep the reference.
    """

    def change(url: str) -> str:
        new = find(unquote(unescape(url))[len("cid:") :])
        return url if new is None else new

    def change_match(match: re.Match[str]) -> str:
        return f"{match['head']}{change(match['url'])}{match['tail']}"

    def change_value(match: re.Match[str]) -> str:
        name, value = match["name"].lower(), match["value"]
        if "cid:" not in value.lower():
            return match[0]
        url = (value[1:-1] if value[0] in "\"'" else value).strip()
        if name.endswith("srcset"):
            value = _CANDIDATE.sub(change_match, value)
        elif url[: len("cid:")].lower() == "cid:":
            # It may be a link, which is not loaded; changing it does no harm.
            head, _, tail = value.partition(url)
            value = f"{head}{change(url)}{tail}"
        else:
            value = _CSS_URL.sub(change_match, value)
        return match["head"] + value

    if "cid:" not in html.lower():
        return html
    html = _replace(html, _find_tags(html), lambda t: _ATTRIBUTE.sub(change_value, t))
    return _replace(html, _find_styles(html), lambda t: _CSS_URL.sub(change_match, t))


def _replace(
    html: str, spans: Iterable[tuple[int, int]], change: Callable[[str], str]
) -> str:
    parts, done = [], 0
    for start, end in spans:
        parts += [html[done:start], change(html[start:end])]
        done = end
    return "".join([*parts, html[done:]])


def _find_tags(html: str) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each tag, in linear time.

    A tag ends at the first ``>`` outside quotes; without one, it is not a tag. To
    search for it from every "<a" of a long text would take quadratic time, so the end
    that follows each quote is computed first, beginning at the end of the text.
    """
    marks = [match.start() for match in _DELIMITER.finditer(html)]
    ends: list[int | None] = [None] * (len(marks) + 1)
    following: dict[str, int] = {}
    for index in range(len(marks) - 1, -1, -1):
        mark = html[marks[index]]
        if mark == ">":
            ends[index] = marks[index] + 1
            continue
        if mark in following:
            ends[index] = ends[following[mark] + 1]
        following[mark] = index
    position = 0
    while start := _TAG_START.search(html, position):
        end = ends[bisect_left(marks, start.end())]
        if end is not None:
            yield start.start(), end
        position = end or start.end()


def _find_styles(html: str) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of the content of each style element."""
    position = 0
    while start := _STYLE_START.search(html, position):
        begin = html.find(">", start.end())
        end = _STYLE_END.search(html, begin)
        if begin < 0 or end is None:
            return
        yield begin + 1, end.start()
        position = end.end()


def choose_bare_ids(
    cids: Iterable[str], domain: str, *, avoid: Iterable[str]
) -> dict[str, str]:
    """Return a unique bare id (without ``@`` and ``<>``) for each Content-ID.

    ``avoid``: Content-IDs in the HTML that do not belong to a picture.
    """
    suffix = f"@{domain}"
    taken = {cid.removesuffix(suffix).lower() for cid in avoid if cid.endswith(suffix)}
    result: dict[str, str] = {}
    # First those with the sender's domain, so that they keep their ids.
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
