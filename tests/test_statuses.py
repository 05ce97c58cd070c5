"""The one table of statuses: complete, consistent, and spelled once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import django_turbosmtp
from django_turbosmtp.admin.show import show_status
from django_turbosmtp.models import Message, Recipient, Suppression
from django_turbosmtp.statuses import (
    COMBINED_ORDER,
    EVENT_TYPES,
    UNKNOWN_EVENT,
    Group,
    Outcome,
    Reason,
    Stage,
    Status,
    find_event_status,
)
from django_turbosmtp.tracking.statements import WITHOUT_RANK, list_lower

PACKAGE = Path(django_turbosmtp.__file__).parent

#: Modules in which these words have another meaning, with that meaning.
OTHER_VOCABULARIES = {
    "statuses.py": "the table itself",
    "tracking/refusals.py": "reasons and kinds of bounces",
    "management/suppression_file.py": "words of other services' exports",
    "testing/outcomes.py": "names of failures that a test asks for",
}

#: Words of other vocabularies that look like ours.
OTHER_MEANINGS = {("models.py", "queued"), ("conf/keys.py", "unknown")}


@pytest.mark.parametrize("status", Status)
def test_a_status_has_every_column(status):
    for text in (status.label, status.sentence, status.group.label):
        assert str(text).strip()
    assert len(status.icon) == 1
    assert status.tone in {"good", "doubt", "bad", "plain"}
    assert bool(status.events) == bool(status.event_type)
    css = (PACKAGE / "static" / "turbosmtp" / "admin.css").read_text()
    assert f".turbosmtp-{status.tone}" in css or status.tone == "plain"
    html = show_status(status)
    assert status.icon in html
    assert str(status.label) in html


@pytest.mark.parametrize("words", [Group, Stage, Outcome, Reason])
def test_every_word_has_a_label(words):
    assert all(str(word.label).strip() for word in words)
    assert [value for value, _ in words.list_choices()] == list(words)


@pytest.mark.parametrize("status", Status)
def test_a_status_fits_its_columns(status):
    for model in (Message, Recipient):
        field = model._meta.get_field("status")
        assert len(status) <= field.max_length
        assert dict(field.flatchoices)[status] == status.label


def test_outcomes_and_reasons_fit_their_columns():
    outcomes = Message._meta.get_field("outcome")
    reasons = Suppression._meta.get_field("reason")
    assert list(dict(outcomes.flatchoices)) == list(Outcome)
    assert list(dict(reasons.flatchoices)) == list(Reason)
    assert max(map(len, Outcome)) <= outcomes.max_length
    assert max(map(len, Reason)) <= reasons.max_length


def test_a_word_without_a_row_is_an_error():
    with pytest.raises(ValueError, match="delivred"):
        show_status("delivred")
    with pytest.raises(KeyError):
        find_event_status("delivred", is_machine=False)


def test_ranks_are_unique():
    ranks = [status.rank for status in Status if status.rank is not None]
    assert sorted(ranks) == list(range(len(ranks)))


def test_every_group_and_stage_has_a_status():
    assert all(group.statuses for group in Group)
    assert all(stage.statuses for stage in Stage)
    assert sorted(s for group in Group for s in group.statuses) == sorted(Status)


def test_events_match_the_documents():
    """turboSMTP's event names, and django-anymail's."""
    assert EVENT_TYPES == {
        "PROCESSED": "queued",
        "DELIVERED": "delivered",
        "DEFERRED": "deferred",
        "BOUNCED": "bounced",
        "DROPPED": "rejected",
        "OPENED": "opened",
        "CLICKED": "clicked",
        "UNSUBSCRIBED": "unsubscribed",
        "REPORT": "complained",
        "SPAM": "complained",
    }
    assert find_event_status("queued", is_machine=False) is Status.SENT
    assert find_event_status("opened", is_machine=True) is Status.SCANNED
    assert find_event_status(UNKNOWN_EVENT, is_machine=False) is None


def test_an_event_never_lowers_a_status():
    order = ["sent", "deferred", "delivered", "scanned", "rejected", "bounced"]
    order += ["opened", "clicked", "unsubscribed", "complained"]
    ours = ["sending", "queued", "unknown", "failed"]
    for position, word in enumerate(order):
        assert sorted(list_lower(Status(word))) == sorted(order[:position] + ours)
    assert sorted(WITHOUT_RANK) == sorted(ours)
    for final in ("invalid", "cancelled"):
        assert not any(status.can_replace(Status(final)) for status in Status)


def test_the_status_of_several_recipients():
    """The most urgent problem of any recipient, or the status that all have reached."""
    problems = ["unknown", "failed", "invalid", "bounced", "rejected"]
    assert COMBINED_ORDER[: len(problems)] == problems
    assert COMBINED_ORDER[len(problems) :] == [
        *("sent", "deferred", "delivered", "scanned"),
        *("opened", "clicked", "unsubscribed", "complained"),
    ]


def test_messages_at_turbosmtp_are_not_sent_again():
    without = {status for status in Status if not status.is_at_turbosmtp}
    ours = {"unknown", "failed", "invalid", "sending", "queued", "cancelled"}
    assert without == {*ours, "rejected"}


def test_a_word_has_the_repr_of_a_string():
    assert repr({Status.SENT}) == "{'sent'}"
    assert f"{Outcome.ACCEPTED}" == "accepted"


def test_each_word_is_spelled_once():
    """Code refers to statuses by member, so that a misspelt one raises an error."""
    words = {*Status, *Outcome} - {""}
    found = []
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if name in OTHER_VOCABULARIES or name.startswith(("sandbox/", "migrations/")):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            value = node.value if isinstance(node, ast.Constant) else None
            if value in words and (name, value) not in OTHER_MEANINGS:
                found.append(f"{name}:{node.lineno}: {value!r}")
    assert found == []
