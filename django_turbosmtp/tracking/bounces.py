"""Classifies bounces: from a server's text to a reason and a kind.

Pure. The texts and codes are in `refusals`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from django_turbosmtp.tracking.refusals import (
    BEFORE_CODES,
    BLOCKED,
    CODES,
    EXACT,
    MISSING,
    NOT_THE_RECIPIENT,
    OTHER,
    OTHERS,
    UNCERTAIN,
    Bounce,
    BounceKind,
    RejectReason,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django_turbosmtp.tracking.refusals import Rule

__all__ = ["HARD", "Bounce", "BounceKind", "RejectReason", "classify"]

#: Never send again to an address that bounced for one of these reasons.
HARD: Final[frozenset[BounceKind]] = frozenset({"no_mailbox", "no_domain"})

_MAX_LENGTH = 2_000
#: The end of a code, which is not part of a number or an IP address.
_END = r"(?!\d|\.\d)"
#: Enhanced codes (RFC 3463, 2), with subjects 0 to 7, but not version numbers.
_ENHANCED = re.compile(
    r"(?<![\d.])(?<!exim )(?<!postfix )(?<!sendmail )(?<!exchange )(?<!version )"
    rf"(?<!dovecot )(?<!qmail )(?<!mdaemon )([245])\.([0-7])\.(\d{{1,3}}){_END}"
)
_BASIC = re.compile(rf"(?<![\d.])([245])\d\d(?=[ \-]|$){_END}")
_URL = re.compile(r"\b(?:https?|ftp)://([\w.\-]+)\S*")
_ADDRESS = re.compile(r"<?[^\s<>()\[\]\"',;:=]+@[^\s<>()\[\]\"',;:]+>?")
#: The name of the host before its answer, as in reports of Postfix and Exim.
_HOST = re.compile(r"\bhost [\w.\-]+ ?\[[^\]]*\](?: said)?:?")


def classify(text: str) -> Bounce:
    """Return the meaning of a server's refusal.

    ``text``: all lines of the refusal, with codes. A text about the sender, a policy or
    a temporary condition has precedence over its code, and a code over the rest of the
    text. Any other refusal is "other": in doubt, the recipient is not suppressed.
    """
    words = normalize(text)
    enhanced = [
        (found[1], (int(found[2]), int(found[3])))
        for found in _ENHANCED.finditer(words)
    ]
    basic = _BASIC.search(words)
    is_temporary = (basic is not None and basic[1] == "4") or any(
        digit == "4" for digit, _ in enhanced
    )
    bounce = _find_meaning(words, {code for _, code in enhanced})
    if is_temporary and bounce.kind in HARD:
        return Bounce(bounce.reason, "other")
    return bounce


def _find_meaning(words: str, codes: set[tuple[int, int]]) -> Bounce:
    for rules in (EXACT, NOT_THE_RECIPIENT, BEFORE_CODES):
        if found := _match(rules, words):
            return found
    meanings = {CODES[code] for code in codes if code in CODES}
    is_policy = any(subject == 7 for subject, _ in codes)
    if len(meanings) > 1 or (meanings and is_policy):
        # One of the codes is quoted from another answer.
        return UNCERTAIN
    if meanings and meanings != {UNCERTAIN}:
        return meanings.pop()
    # 7.1 is also used for unknown users, but the other codes of policies are not.
    if is_policy and not codes <= {(7, 0), (7, 1)}:
        return BLOCKED
    if found := _match(MISSING, words):
        return found
    if is_policy:
        return BLOCKED
    return UNCERTAIN if meanings else (_match(OTHERS, words) or OTHER)


def _match(rules: Iterable[Rule], words: str) -> Bounce | None:
    """Return the meaning of the first rule that matches."""
    return next((r.bounce for r in rules if r.pattern.search(words)), None)


def normalize(text: str) -> str:
    """Return the text in the form for the rules: in lower case, on one line.

    The codes that servers repeat on each line, inside sentences, are removed. Addresses
    become ``@``, and URLs ``www-example-com``.
    """
    words = " ".join(text[:_MAX_LENGTH].lower().split()).replace("\u2019", "'")
    words = _URL.sub(lambda found: found[1].replace(".", "-"), words)
    words = _ADDRESS.sub("@", _HOST.sub("", words))
    basic = _BASIC.search(words)
    if basic is None:
        return words
    prefix = re.compile(
        rf"(?<![\d.]){words[basic.start() : basic.start() + 3]}[ \-]"
        r"(?:#?[245]\.\d\.\d{1,3} )?"
    )
    first = prefix.search(words)
    if first is None:
        return words
    head, rest = words[: first.end()], words[first.end() :]
    return head + prefix.sub("", rest)
