"""The meaning of refusals: each rule, and the corpus of tests/refusals.py."""

from __future__ import annotations

import time

import pytest

from django_turbosmtp.tracking import refusals
from django_turbosmtp.tracking.bounces import HARD, classify, normalize
from django_turbosmtp.tracking.refusals import Rule
from tests.refusals import CORPUS

RULES = [
    *refusals.EXACT,
    *refusals.NOT_THE_RECIPIENT,
    *refusals.BEFORE_CODES,
    *refusals.MISSING,
    *refusals.OTHERS,
]
TEXTS = [(text, kind) for kind, texts in CORPUS.items() for text in texts]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.example)
def test_each_rule_decides_its_example(rule: Rule) -> None:
    assert classify(rule.example) == rule.bounce
    assert rule.pattern.search(normalize(rule.example))
    assert rule.source
    assert [other.example for other in RULES].count(rule.example) == 1


def test_the_corpus_is_large() -> None:
    assert len({text for text, _ in TEXTS}) == len(TEXTS) > 230


@pytest.mark.parametrize(("text", "kind"), TEXTS, ids=lambda value: value[:60])
def test_a_real_refusal(text: str, kind: str) -> None:
    found = classify(text).kind
    assert found == kind if kind else found not in HARD


@pytest.mark.parametrize(("text", "kind"), TEXTS, ids=lambda value: value[:60])
def test_a_refusal_with_line_breaks_and_capitals(text: str, kind: str) -> None:
    """Line breaks, capitals and the host name do not change the result."""
    assert classify(text.upper().replace(" ", "\r\n", 9)) == classify(text)
    wrapped = (
        f"host mx.abuse-policy.example[192.0.2.9] said: {text} (in reply to RCPT TO)"
    )
    assert (classify(wrapped).kind in HARD) == (kind in HARD)


@pytest.mark.parametrize("text", [text for text, kind in TEXTS if kind in HARD])
@pytest.mark.parametrize(
    "condition",
    [
        "Sender verify failed",
        "Please try again later",
        "rejected due to policy",
        "your IP is on a blocklist",
        "mailbox over quota",
    ],
)
def test_other_conditions_take_precedence(text: str, condition: str) -> None:
    if text.startswith("Dropped") or "Access denied" in text:
        # Complete texts of one service; the rules match them only exactly.
        condition += " 5.7.1"
        text = "550 5.1.1 user unknown"
    assert classify(f"{text} {condition}").kind not in HARD
    assert classify(f"550 {condition}: {text}").kind not in HARD


def test_long_texts_are_fast() -> None:
    pieces = ["mailbox ", "user @ ", "boite x ", "domain a b ", "550-5.1.1 ", "<a@b>."]
    started = time.process_time()
    for piece in pieces:
        classify(piece * 4_000)
    assert time.process_time() - started < 2
