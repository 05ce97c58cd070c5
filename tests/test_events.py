"""Parsing the webhook's JSON: every documented form, and invalid ones."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from django_turbosmtp.tracking.bounces import classify
from django_turbosmtp.tracking.events import (
    MalformedBody,
    is_machine,
    read_body,
    read_event,
)

#: The example in docs/wire.rst.
DROP = {
    "id": "5943799537",
    "mid": "5520621607",
    "status": "DROPPED",
    "email": "x@y.com",
    "subject": None,
    "timestamp": 1576710200,
    "reason": {
        "0": "Dropped due to complaining recipient",
        "response": "Dropped due to complaining recipient",
    },
}


def read_one(**changes: Any) -> Any:
    raw = {name: v for name, v in (DROP | changes).items() if v is not ...}
    [event] = read_body(json.dumps(raw).encode())
    return event


def test_the_example() -> None:
    event = read_one()
    assert event.event_type == "rejected"
    assert event.timestamp == datetime(2019, 12, 18, 23, 3, 20, tzinfo=UTC)
    assert (event.event_id, event.message_id) == ("5943799537", "5520621607")
    assert event.recipient == "x@y.com"
    assert event.reject_reason == "spam"
    assert event.mta_response == "Dropped due to complaining recipient"
    assert event.esp_event == DROP
    assert event.suppresses


@pytest.mark.parametrize(
    ("status", "event_type"),
    [
        ("PROCESSED", "queued"),
        ("DELIVERED", "delivered"),
        ("DEFERRED", "deferred"),
        ("BOUNCED", "bounced"),
        ("DROPPED", "rejected"),
        ("OPENED", "opened"),
        ("CLICKED", "clicked"),
        ("UNSUBSCRIBED", "unsubscribed"),
        ("REPORT", "complained"),
        ("SPAM", "complained"),
        ("delivered", "delivered"),
        (" Opened ", "opened"),
        ("TELEPORTED", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
        (5, "unknown"),
        (["BOUNCED"], "unknown"),
        (..., "unknown"),
    ],
)
def test_event_types(status: Any, event_type: str) -> None:
    assert read_one(status=status).event_type == event_type


@pytest.mark.parametrize(
    ("raw", "digits"),
    [
        ("1688566310828572700", "1688566310828572700"),
        ('"1688566310828572701"', "1688566310828572701"),
        ('" 1688566310828572701 "', "1688566310828572701"),
        ("1688566310828572700.0", "1688566310828572700"),
        ("1.6885663108285727e18", "1688566310828572700"),
        ("99999999999999999999999", "99999999999999999999999"),
        ("-5", None),
        ("1.5", None),
        ("true", None),
        ("null", None),
        ('"abc"', None),
        ("[1]", None),
        ("NaN", None),
        ("Infinity", None),
        ("1e999999999", None),
        ("9" * 5000, None),
        ('"\u0661"', None),
    ],
)
def test_ids_are_exact(raw: str, digits: str | None) -> None:
    body = '[{"status": "OPENED", "mid": RAW}, {"status": "OPENED", "mid": 7}]'
    body = body.replace("RAW", raw)
    first, second = read_body(body.encode())
    assert first.message_id == digits
    # An invalid event does not affect the next one.
    assert second.message_id == "7"
    json.dumps(first.esp_event, allow_nan=False)


@pytest.mark.parametrize(
    "given",
    [
        {"timestamp": 1576710200},
        {"timestamp": "1576710200"},
        {"timestamp": ..., "Timestamp": 1576710200},
        {"timestamp": ..., "Timestamp": "1576710200.0"},
        {"timestamp": ..., "TIMESTAMP": 1576710200.0},
        {"timestamp": 1576710200000},
    ],
)
def test_times(given: Any) -> None:
    assert read_one(**given).timestamp == datetime(2019, 12, 18, 23, 3, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    "value", [None, "", "soon", -1, 0, True, "NaN", "inf", 10**30, {}, [1576710200]]
)
def test_no_time(value: Any) -> None:
    assert read_one(timestamp=value).timestamp is None


@pytest.mark.parametrize(
    "reason",
    [
        "550 no",
        {"0": "550 no"},
        {"response": "550 no"},
        {"0": "550", "response": "550 no"},
        {"Response": "550 no"},
        {"response": {"text": "550 no"}},
        {"0": "550 no", "response": ""},
        [{"0": "550 no"}, "no"],
        {"detail": "550 no"},
        ["550 no"],
        {"0": None, "x": 5, "response": "550 no"},
    ],
)
def test_reasons(reason: Any) -> None:
    assert read_one(reason=reason).mta_response == "550 no"


def test_a_reason_with_two_texts_keeps_both() -> None:
    event = read_one(reason={"0": "550 5.1.1 no such user", "response": "550 no"})
    assert event.mta_response == "550 no\n550 5.1.1 no such user"
    assert (event.description, event.bounce_kind) == ("550 no", "no_mailbox")


@pytest.mark.parametrize(
    "given",
    ["JANE@BÜCHER.example", " jane@xn--bcher-kva.example ", "J <jane@bücher.example>"],
)
def test_addresses_are_normalized(given: str) -> None:
    assert read_one(email=given).recipient == "jane@xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("given", "address"),
    [("jane", "jane"), ("a@" + "ü" * 80, "a@" + "ü" * 80), (None, ""), (["a@b"], "")],
)
def test_invalid_addresses(given: Any, address: str) -> None:
    assert read_one(email=given).recipient == address


@pytest.mark.parametrize("nothing", [None, ""])
@pytest.mark.parametrize(
    "order", [("Timestamp", "timestamp"), ("timestamp", "Timestamp")]
)
def test_the_nonempty_one_of_two_spellings_is_used(
    order: tuple[str, str], nothing: Any
) -> None:
    event = read_one(**{"timestamp": ...} | {order[0]: 1576710200, order[1]: nothing})
    assert event.digest == read_one().digest


@pytest.mark.parametrize("reason", [None, "", {}, [], True, {"0": {}}, [[]]])
def test_no_reason(reason: Any) -> None:
    event = read_one(reason=reason)
    assert event.mta_response == ""
    assert event.reject_reason == "other"
    assert not event.suppresses


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"[{}",
        b"status=OPENED",
        b"\xff\xfe",
        b"5",
        b'"x"',
        b"null",
        b"true",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[1," + b"[" * 100_000,
        b'["' * 100_000,
    ],
)
def test_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        read_body(body)


def test_one_or_many() -> None:
    assert len(read_body(json.dumps(DROP).encode())) == 1
    assert len(read_body(json.dumps([DROP] * 3).encode())) == 3
    assert read_body(b"[]") == []
    assert len(read_body(b"\xef\xbb\xbf" + json.dumps(DROP).encode())) == 1


@pytest.mark.parametrize(
    "part", [None, 5, "x", True, [], [[]], {}, {"a": 1}, {"status": {}}, {"": ""}]
)
def test_invalid_events_do_not_affect_others(part: Any) -> None:
    events = read_body(json.dumps([part, DROP]).encode())
    assert [event.event_type for event in events] == ["unknown", "rejected"]
    assert events[0].esp_event == part


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_endless_nesting_does_not_affect_others(opened: str, closed: str) -> None:
    deep = f"{opened * 50_000}5{closed * 50_000}"
    good = json.dumps(DROP | {"subject": '"]}[{\\'})
    body = f'[{good}, {{"status": "OPENED", "x": {deep}, "mid": 5}}, {good}]'
    first, bad, last = read_body(body.encode())
    assert first == last == read_event(DROP | {"subject": '"]}[{\\'})
    assert (bad.event_type, bad.message_id) == ("opened", "5")
    assert "nested too deep" in json.dumps(bad.esp_event)


def test_an_invalid_character_does_not_affect_others() -> None:
    body = json.dumps([DROP | {"subject": "caf?"}, DROP]).encode()
    first, second = read_body(body.replace(b"?", b"\xe9"))
    assert (first.message_id, second) == ("5520621607", read_event(DROP))


def test_deep_nesting_is_truncated() -> None:
    deep: Any = "bottom"
    for _ in range(400):
        deep = {"a": [deep]}
    event = read_one(reason=deep, id="1")
    assert "nested too deep" in json.dumps(event.esp_event)
    assert event.event_type == "rejected"


class TestDigest:
    def test_the_same_event(self) -> None:
        first, second = read_one(), read_one(subject="x", timestamp="1576710200")
        assert first.digest == second.digest

    @pytest.mark.parametrize(
        "change",
        [
            {"id": "1"},
            {"status": "BOUNCED"},
            {"email": "a@b.com"},
            {"timestamp": 1576710201},
            {"url": "https://example.org/"},
        ],
    )
    def test_another_event(self, change: Any) -> None:
        assert read_one().digest != read_one(**change).digest

    def test_without_an_id(self) -> None:
        one = {"id": ..., "status": "CLICKED", "url": "https://x.org/1"}
        assert read_one(**one).digest == read_one(**one).digest
        assert read_one(**one).digest != read_one(**one | {"url": "y"}).digest
        assert read_one(**one).digest != read_one(**one | {"mid": 5}).digest

    def test_without_any_id_the_whole_event_is_compared(self) -> None:
        first, second = read_event({"a": 1}), read_event({"a": 2})
        assert first.digest == read_event({"a": 1}).digest != second.digest

    def test_digests_are_ordered_by_time(self) -> None:
        digests = [read_one(timestamp=1576710200 + n).digest for n in range(50)]
        assert digests == sorted(digests)
        assert {len(digest) for digest in digests} == {36}


@pytest.mark.parametrize(
    ("text", "reason", "kind"),
    [
        ("550 5.1.1 <x@y.com>: Recipient address rejected", "bounced", "no_mailbox"),
        ("5.1.1", "bounced", "no_mailbox"),
        ("550-5.1.1 The email account that you tried", "bounced", "no_mailbox"),
        ("550 No such user here", "bounced", "no_mailbox"),
        ("550 Unknown recipient", "bounced", "no_mailbox"),
        ("550 user unknown", "bounced", "no_mailbox"),
        ("Dropped due to bouncing recipient", "bounced", "no_mailbox"),
        ("550 5.2.1 mailbox disabled", "bounced", "no_mailbox"),
        ("501 5.1.3 bad address syntax", "invalid", "no_mailbox"),
        ("550 5.1.2 Host unknown", "bounced", "no_domain"),
        ("556 5.1.10 Null MX", "bounced", "no_domain"),
        ("Domain does not exist", "bounced", "no_domain"),
        ("552 5.2.2 mailbox full", "bounced", "full"),
        ("452 4.2.2 Over quota", "bounced", "full"),
        ("mailbox is full", "bounced", "full"),
        ("450 4.1.1 user unknown, try again", "bounced", "other"),
        ("451 no such user for now", "bounced", "other"),
        ("550 5.7.1 Message rejected due to spam content", "spam", "spam"),
        ("550 5.7.26 unauthenticated mail", "blocked", "blocked"),
        ("554 blocked by Spamhaus", "spam", "spam"),
        ("550 rejected by policy", "blocked", "blocked"),
        ("421 4.7.0 greylisted", "blocked", "blocked"),
        ("552 5.3.4 message too big", "other", "too_large"),
        ("550 5.4.7 delivery time expired", "timed_out", "slow"),
        ("4.4.7 queue", "timed_out", "slow"),
        ("connection timed out", "timed_out", "slow"),
        ("Dropped due to unsubscribed recipient", "unsubscribed", "other"),
        ("The code is 5.1.1.", "bounced", "no_mailbox"),
        ("550 5.1.1 mailbox of jane@x.org is over quota", "bounced", "full"),
        ("552 The mailbox of jane is full", "bounced", "full"),
        ("550 Mailbox jane@x.org unavailable", "bounced", "other"),
        ("550 user\r\nunknown", "bounced", "no_mailbox"),
        ("550 Unrouteable address", "bounced", "no_mailbox"),
        ("550 account has been disabled", "bounced", "no_mailbox"),
        ("550 <jane@x.org> is not a valid mailbox", "bounced", "no_mailbox"),
        ("550 5.1.8 Sender address rejected: Domain not found", "blocked", "blocked"),
        ("550 Sender address rejected: Domain not found", "blocked", "blocked"),
        ("Host not found, try again", "bounced", "other"),
        ("Mailbox temporarily disabled, address not found", "bounced", "other"),
        ("Domain not found.", "bounced", "no_domain"),
        ("552 message size exceeds fixed limit", "other", "too_large"),
        ("550 sorry", "other", "other"),
        ("version 15.1.1.5 of 10.5.1.1 said no", "other", "other"),
        ("", "other", "other"),
    ],
)
def test_bounces(text: str, reason: str, kind: str) -> None:
    assert classify(text) == (reason, kind)


def test_only_final_bounces_suppress() -> None:
    hard = read_one(status="BOUNCED", reason={"0": "550 5.1.1 no such user"})
    soft = read_one(status="BOUNCED", reason={"0": "452 4.2.2 mailbox full"})
    odd = read_one(status="BOUNCED", reason={"0": "no"})
    deferred = read_one(status="DEFERRED", reason="450 4.1.1 user unknown")
    assert [e.suppresses for e in (hard, soft, odd, deferred)] == [True] + [False] * 3
    assert read_one(status="UNSUBSCRIBED").suppresses
    assert read_one(status="SPAM").suppresses
    assert not read_one(status="OPENED").suppresses


@pytest.mark.parametrize(
    ("reason", "suppresses"),
    [
        ("Dropped due to complaining recipient", True),
        ("Dropped due to unsubscribed recipient", True),
        ("Dropped due to bouncing recipient", True),
        ("Dropped: complaint rate of the account", False),
        ("Dropped: without a List-Unsubscribe header", False),
        ("Dropped due to a low reputation", False),
        ("no credit", False),
    ],
)
def test_only_actions_of_the_recipient_suppress(reason: str, suppresses: bool) -> None:
    dropped = read_one(status="DROPPED", reason={"0": reason, "response": reason})
    assert dropped.suppresses is suppresses


@pytest.mark.parametrize(
    ("agent", "machine"),
    [
        ("Mozilla/5.0", True),
        ("Mozilla/5.0 (compatible; bingbot/2.0)", True),
        ("python-requests/2.32", True),
        ("Barracuda Sentinel (EE)", True),
        ("curl/8.0", True),
        ("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", True),
        ("Mozilla/5.0 (Linux; Android 6; Nexus 5X) (compatible; Googlebot/2.1)", True),
        ("Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)", True),
        ("Twitterbot/1.0", True),
        ("Mozilla/5.0 (compatible; Some bot; info)", True),
        ("Mimecast Targeted Threat Protection", True),
        ("MessageLabs URL scanner", True),
        ("Mozilla/5.0 (Linux; Android 10; CUBOT_X30) AppleWebKit/537.36", False),
        ("Mozilla/5.0 (Linux; Android 11; CUBOT NOTE 20) Chrome/119.0", False),
        ("Mozilla/5.0 (Linux; Android 8.1; CUBOT Build/O11019)", False),
        ("Mozilla/5.0 (Linux; Android 7.0; M bot 60) AppleWebKit/537.36", False),
        ("Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/120.0", True),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)", False),
        ("Mozilla/5.0 (Windows NT 5.1) (via ggpht.com GoogleImageProxy)", False),
        ("YahooMailProxy; https://help.yahoo.com/kb", False),
        ("Mozilla/5.0 (Windows NT 10.0) Outlook/16.0", False),
        ("", False),
    ],
)
def test_machines(agent: str, machine: bool) -> None:
    assert is_machine(agent) is machine
    assert read_one(status="OPENED", useragent=agent).is_machine is machine
    assert not read_one(status="DELIVERED", useragent=agent).is_machine


def test_hostile_texts_are_fast() -> None:
    for text in ("5.1" * 100_000, "no such " * 100_000, "a" * 500_000, "4" * 300_000):
        assert classify(text)
