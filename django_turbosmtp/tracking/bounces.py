"""What a refusing server meant: its words and codes to a reason and a kind of bounce.

Pure. Codes are those of SMTP (RFC 5321, 4.2) and the enhanced ones of RFC 3463 and the
IANA registry of RFC 5248. Reasons are django-anymail's.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

#: Why a recipient is not to be written to again, in django-anymail's words.
RejectReason = Literal[
    "invalid", "bounced", "timed_out", "blocked", "spam", "unsubscribed", "other"
]

#: What is wrong, for staff. Only the first two stay as they are.
BounceKind = Literal[
    "no_mailbox", "no_domain", "full", "blocked", "spam", "too_large", "slow", "other"
]

#: Never send again to an address that bounced for one of these reasons.
HARD: Final[frozenset[str]] = frozenset({"no_mailbox", "no_domain"})


class Bounce(NamedTuple):
    """``reason``: django-anymail's word. ``kind``: what is wrong."""

    reason: RejectReason
    kind: BounceKind


#: Not a part of a number or of an IP address; a full stop may end the sentence.
_END = r"(?!\d|\.\d)"
_ENHANCED = re.compile(rf"(?<![\d.])([245])\.(\d{{1,3}})\.(\d{{1,3}}){_END}")
_BASIC = re.compile(rf"(?<![\d.])([245])\d\d{_END}")

#: Said of what may be otherwise tomorrow.
_TRANSIENT = re.compile(
    r"\b(?:try(?:ing)? (?:again|later)|later again|temporar\w+|greylist\w*)\b"
)

#: The sender was refused, not the recipient.
_SENDER = Bounce("blocked", "blocked")

#: By subject and detail of an enhanced code, whatever its class.
_BY_CODE: dict[tuple[int, int], Bounce] = {
    (1, 1): Bounce("bounced", "no_mailbox"),
    (1, 2): Bounce("bounced", "no_domain"),
    (1, 3): Bounce("invalid", "no_mailbox"),
    (1, 6): Bounce("bounced", "no_mailbox"),
    (1, 7): _SENDER,
    (1, 8): _SENDER,
    (1, 10): Bounce("bounced", "no_domain"),
    (2, 1): Bounce("bounced", "no_mailbox"),
    (2, 2): Bounce("bounced", "full"),
    (2, 3): Bounce("other", "too_large"),
    (3, 4): Bounce("other", "too_large"),
    (4, 7): Bounce("timed_out", "slow"),
}

#: Said beside any code: a mailbox that is full is there.
_FULL = re.compile(
    r"\b(?:quota|(?:mailbox|inbox|account)\b[^.;]{0,80}\bfull|out of storage"
    r"|storage (?:limit|allocation)|exceeded storage)\b"
)

_WORDS: list[tuple[Bounce, re.Pattern[str]]] = [
    (
        Bounce("spam", "spam"),
        re.compile(
            r"\b(?:complain\w*|abuse|spam\w*|unsolicited|junk|dnsbl|rbl|black ?list\w*"
            r"|block ?list\w*|reputation|spamhaus)\b"
        ),
    ),
    (Bounce("unsubscribed", "other"), re.compile(r"\bunsubscri\w+")),
    (Bounce("bounced", "full"), _FULL),
    (
        _SENDER,
        re.compile(
            r"\b(?:sender|from|return[- ]path)(?:'s)?"
            r" (?:address|domain|e-?mail|verif\w+|(?:is |was )?rejected|denied)\b"
        ),
    ),
    (
        Bounce("bounced", "no_domain"),
        re.compile(
            r"\b(?:no such domain|domain (?:does not exist|not found)|host not found"
            r"|unknown host|nxdomain|null mx|domain name not found)\b"
        ),
    ),
    (
        Bounce("bounced", "no_mailbox"),
        re.compile(
            r"\b(?:(?:user|recipient|mailbox|account|address|alias)(?: \S+@\S+)?"
            r" (?:is |was |has been )?(?:unknown|not found|does ?n[o'\u2019]t exist"
            r"|not exist\w*|disabled|deactivated|inactive|invalid"
            r"|unavailable|not available|no longer \w+|not (?:a )?(?:known|valid))"
            r"|(?:no such|unknown|invalid|non-?existent|not a (?:known|valid))"
            r" (?:\w+ )?(?:user|recipient|mailbox|account|address|person|local part)"
            r"|no mailbox here|user doesn't have|address rejected|bouncing recipient"
            r"|does not like recipient|dropped due to bouncing|unrouteable address)\b"
        ),
    ),
    (
        Bounce("timed_out", "slow"),
        re.compile(
            r"\b(?:timed out|timeout|delivery time expired|too long in (?:the )?queue"
            r"|retry time(?:out| not reached)|connection refused)\b"
        ),
    ),
    (
        Bounce("blocked", "blocked"),
        re.compile(
            r"\b(?:blocked|denied|polic(?:y|ies)|not authori[sz]ed|spf|dkim|dmarc"
            r"|greylist\w*|rate limit\w*|too many|prohibited|banned|refused)\b"
        ),
    ),
    (
        Bounce("other", "too_large"),
        re.compile(
            r"\b(?:message (?:is )?too (?:large|big)|size limit|size exceeds"
            r"|exceeds (?:the )?(?:fixed |maximum )?(?:message )?size)\b"
        ),
    ),
]


def classify(text: str) -> Bounce:
    """Return what a server's refusal means.

    ``text``: the whole of what it said, codes and words. A code that speaks for itself
    goes before words; a code of policy (x.7.x), or none, lets the words decide. What
    nothing is known of is "other", never a hard bounce: nobody is given up by mistake.
    """
    words = " ".join(text.lower()[:2000].split())
    code = _ENHANCED.search(words)
    permanent = not words.startswith("4") and not _TRANSIENT.search(words)
    if code:
        permanent = code[1] == "5"
        subject, detail = int(code[2]), int(code[3])
        found = _BY_CODE.get((subject, detail))
        if found is not None and found.kind in HARD and _FULL.search(words):
            found = Bounce("bounced", "full")
        if found is not None:
            return _soften(found, permanent=permanent)
        if subject == 7:
            return next(
                (b for b, pattern in _WORDS[:1] if pattern.search(words)),
                Bounce("blocked", "blocked"),
            )
    elif basic := _BASIC.search(words):
        permanent = permanent and basic[1] == "5"
    for bounce, pattern in _WORDS:
        if pattern.search(words):
            return _soften(bounce, permanent=permanent)
    return Bounce("other", "other")


def _soften(bounce: Bounce, *, permanent: bool) -> Bounce:
    """Return a bounce as what it is where its code says "try again" (4xx, 4.x.x)."""
    if permanent or bounce.kind not in HARD:
        return bounce
    return Bounce(bounce.reason, "other")
