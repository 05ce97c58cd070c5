"""The webhook: who gets in, what is stored, and what becomes of the statuses."""

from __future__ import annotations

import base64
import itertools
import json
import logging
import random
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.core import mail
from django.core.checks import run_checks
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.db import DatabaseError, connection, connections, transaction
from django.test import Client, override_settings
from django.utils import timezone
from django.utils.html import strip_tags

from django_turbosmtp._lib.versions import HAS_MAILERS
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.delivery.record import Recorder
from django_turbosmtp.exceptions import OutcomeUnknown
from django_turbosmtp.models import (
    Event,
    Message,
    Payload,
    Recipient,
    Suppression,
    Unmatched,
)
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.signals import tracking
from django_turbosmtp.tracking.events import EVENT_TYPES, read_event
from django_turbosmtp.tracking.record import join_events
from django_turbosmtp.tracking.view import MAX_BODY_BYTES
from tests.log.narrowing import narrow
from tests.messages import new

pytestmark = pytest.mark.django_db

URL = "/turbosmtp/webhook/"
SECRET = "hunter2:password"


@pytest.fixture
def tracked(logged: Any, settings: Any) -> Any:
    """A project whose log is on, and whose webhook is open."""
    settings.TURBOSMTP |= {"WEBHOOK_SECRET": SECRET}
    return settings


def build_login(pair: str = SECRET, scheme: str = "Basic") -> str:
    return f"{scheme} {base64.b64encode(pair.encode()).decode()}"


def post(body: Any, login: str | None = None, **headers: str) -> Any:
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    headers["Authorization"] = build_login() if login is None else login
    if login == "":
        del headers["Authorization"]
    return Client(enforce_csrf_checks=True).post(
        URL, body, content_type="application/json", headers=headers
    )


def tell(*events: dict[str, Any]) -> None:
    answer = post(list(events))
    assert answer.status_code == 200, answer.content


_numbers = itertools.count(1)


def build(status: str, row: Message | None = None, **changes: Any) -> dict[str, Any]:
    """Return an event as turboSMTP posts it."""
    number = next(_numbers)
    event = {
        "id": str(number),
        "mid": row.mid if row else "5520621607",
        "status": status,
        "email": row.first_recipient if row else "x@y.com",
        "subject": None,
        "timestamp": 1_790_000_000 + number,
    }
    return {name: v for name, v in (event | changes).items() if v is not ...}


def send(*messages: Any, **options: Any) -> list[Message]:
    EmailBackend(fail_silently=True, **options).send_messages(list(messages) or [new()])
    return list(Message.objects.order_by("created_at", "id"))


def statuses(row: Message) -> list[str]:
    return list(row.recipients.order_by("position").values_list("status", flat=True))


class TestWhoGetsIn:
    @pytest.mark.parametrize("secret", [None, [], ""])
    def test_without_a_secret_it_is_closed(self, secret: Any, tracked: Any) -> None:
        if secret == "":
            del tracked.TURBOSMTP["WEBHOOK_SECRET"]
        else:
            tracked.TURBOSMTP |= {"WEBHOOK_SECRET": secret}
        for login in ("", build_login(), build_login(":")):
            assert post(build("OPENED"), login).status_code == 403
        assert Event.objects.count() == 0

    @pytest.mark.parametrize(
        ("login", "reason"),
        [
            ("", "There are no credentials"),
            (build_login("hunter2:wrong"), "are wrong"),
            (build_login("hunter2:password "), "are wrong"),
            (build_login("hunter2"), "are wrong"),
            (build_login(""), "are wrong"),
            (build_login(scheme="Bearer"), "not HTTP Basic"),
            ("Basic", "are wrong"),
            ("Basic !!!", "cannot be read"),
            ("Basic \u00e9", "cannot be read"),
            ("hunter2:password", "not HTTP Basic"),
        ],
    )
    def test_wrong(self, login: str, reason: str, tracked: Any, caplog: Any) -> None:
        answer = post(build("OPENED"), login)
        assert answer.status_code == 401
        assert answer["WWW-Authenticate"].startswith("Basic")
        assert Event.objects.count() == 0
        assert reason in caplog.text
        assert "hunter2" not in caplog.text + answer.text
        assert "aHVudGVyMg" not in caplog.text  # in Base64

    @pytest.mark.parametrize("pair", [SECRET, "new:secret", "with:colons:in:it"])
    def test_several_while_rotating(self, pair: str, tracked: Any) -> None:
        secrets = ["new:secret", SECRET, "with:colons:in:it"]
        tracked.TURBOSMTP |= {"WEBHOOK_SECRET": secrets}
        assert post(build("OPENED"), build_login(pair)).status_code == 200
        assert post(build("OPENED"), build_login("old:one")).status_code == 401

    def test_the_right_ones_are_logged_without_their_value(
        self, tracked: Any, caplog: Any
    ) -> None:
        caplog.set_level(logging.DEBUG, "django_turbosmtp.tracking")
        tell(build("OPENED"))
        assert "the right credentials" in caplog.text
        assert "hunter2" not in caplog.text

    @pytest.mark.parametrize("method", ["get", "head"])
    def test_a_person_is_told_that_the_address_is_right(
        self, method: str, tracked: Any
    ) -> None:
        del tracked.TURBOSMTP["WEBHOOK_SECRET"]
        answer = getattr(Client(), method)(URL)
        assert answer.status_code == 200
        if method == "get":
            assert answer.text == "This is the event webhook. turboSMTP posts here.\n"

    @pytest.mark.parametrize("method", ["put", "patch", "delete", "options"])
    def test_nothing_else(self, method: str, tracked: Any) -> None:
        answer = getattr(Client(), method)(
            URL, json.dumps(build("OPENED")), headers={"Authorization": build_login()}
        )
        assert answer.status_code == 405
        assert answer["Allow"] == "GET, HEAD, POST"
        assert Event.objects.count() == 0

    def test_middleware_that_wants_a_login_lets_it_through(self, tracked: Any) -> None:
        tracked.MIDDLEWARE = [
            *tracked.MIDDLEWARE,
            "django.contrib.auth.middleware.LoginRequiredMiddleware",
        ]
        tell(build("OPENED"))
        assert Event.objects.count() == 1


class TestBodies:
    @pytest.mark.parametrize("body", [b"", b"{", b"5", b"a=b", b"[" * 50_000, b"\xff"])
    def test_malformed(self, body: bytes, tracked: Any) -> None:
        assert post(body).status_code == 400
        assert Event.objects.count() == 0

    def test_too_large(self, tracked: Any) -> None:
        assert post(b" " * (MAX_BODY_BYTES + 1)).status_code == 413

    def test_larger_than_django_lets_forms_be(self, tracked: Any) -> None:
        tracked.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
        tell(*(build("OPENED") for _ in range(20)))
        assert Event.objects.count() == 20

    def test_a_bad_event_keeps_nobody_out(self, tracked: Any) -> None:
        bad = [None, 5, "x", [], {}, {"status": "NEW WORD"}, {"mid": {}}]
        tell(*bad, build("OPENED"), *bad)  # type: ignore[arg-type]
        assert Event.objects.filter(event_type="opened").count() == 1
        kept = Event.objects.filter(event_type="unknown").values_list("raw", flat=True)
        assert sorted(map(str, kept)) == sorted(
            "null" if part is None else str(part) for part in bad
        )

    @pytest.mark.parametrize("status", ["BOUNCED", "SPAM", "UNSUBSCRIBED"])
    @pytest.mark.parametrize("letter", ["\0", "\ud800", "😀"])
    def test_letters_that_no_database_takes(
        self, letter: str, status: str, tracked: Any
    ) -> None:
        names = ["id", "mid", "email", "reference_id", "useragent", "ip", "url"]
        odd = dict.fromkeys(names, f"{letter}@") | {"status": status}
        told: list[Any] = []

        def receive(event: Any, **kwargs: Any) -> None:
            told.append(event)

        tracking.connect(receive)
        try:
            tell(odd | {"reason": f"550 5.1.1 {letter}"}, build("OPENED"))
        finally:
            tracking.disconnect(receive)
        assert {event.event_type for event in told} == {EVENT_TYPES[status], "opened"}
        kept = Event.objects.exclude(event_type="opened").get()
        [event] = [one for one in told if one.event_type != "opened"]
        shown = {"\0": "\u2400@", "\ud800": "\ufffd@"}.get(letter, "😀@")
        assert kept.address == event.recipient == event.user_agent == shown
        assert Suppression.objects.get().address == shown

    def test_hostile_bodies(self, tracked: Any) -> None:
        """Whatever comes, no 5xx, and a good event beside it is there."""
        picked = random.Random(7)
        values = [
            *(None, True, -1, 0, 2**70, 1e300, "", "x" * 3000, "\0", "\ud800", "🚚"),
            *("'; DROP TABLE", "a@b", {}, [], {"0": "\0"}, [[1]], {"response": 5}),
            *("9" * 60, "NaN", "1790000000", "\u2028", "a" * 400 + "@x.org"),
        ]
        names = [*build("OPENED"), "Timestamp", "reason", "useragent", "ip", "url"]
        names += ["reference_id", "attempt", "\0", ""]
        for number in range(300):
            event = {name: picked.choice(values) for name in names}
            event["status"] = picked.choice([*EVENT_TYPES, "x", *values])
            good = build("DELIVERED", id=f"good-{number}")
            text = json.dumps([event, good]).encode("utf-8", "surrogatepass")
            answer = post(text)
            assert answer.status_code == 200, event
            assert Event.objects.filter(event_id=f"good-{number}").exists(), event

    def test_spoilt_bodies(self, tracked: Any, sandbox: Sandbox) -> None:
        """Bytes of good ones put in, taken out and exchanged: 200 or 400."""
        picked = random.Random(11)
        [row] = send(new(to=["a@x.org"]))
        odd = [
            b"\x00",
            b"\xff",
            b"\xed\xa0\x80",
            b"\\u0000",
            b"\\ud800",
            b"\xe2\x80\xa8",
        ]
        odd += [b"[", b"]", b"{", b"}", b'"', b"\\", b",", b":", b"null", b"\r\n", b"@"]
        odd += [b"1e999", b"-", b"NaN", b"9" * 400, b"[" * 2000, b"550 5.1.1"]
        good = [
            build(status, row, reason="550 5.1.1 no", url="x", useragent="y")
            for status in EVENT_TYPES
        ]
        answers = {200: 0, 400: 0}
        for _ in range(1_000):
            body = json.dumps(picked.sample(good, picked.randint(1, 4))).encode()
            for _ in range(picked.randint(1, 3)):
                at = picked.randrange(len(body))
                # Mostly inside of a text, where JSON stays JSON.
                if picked.random() < 0.7:
                    at = body.find(picked.choice([b"no", b"@x", b"x", b"y"]), at)
                end = at + picked.choice([0, 0, 0, 1, 9])
                body = body[:at] + picked.choice(odd) + body[end:]
            code = post(body).status_code
            answers[code] += 1
            if is_json(body):
                assert code == 200, body
        assert min(answers.values()) > 100, answers


def is_json(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), (dict, list))
    except (ValueError, RecursionError):
        return False


class TestStatuses:
    @pytest.mark.parametrize(
        ("status", "wanted"),
        [
            ("PROCESSED", "sent"),
            ("DEFERRED", "deferred"),
            ("DELIVERED", "delivered"),
            ("DROPPED", "rejected"),
            ("BOUNCED", "bounced"),
            ("OPENED", "opened"),
            ("CLICKED", "clicked"),
            ("UNSUBSCRIBED", "unsubscribed"),
            ("REPORT", "complained"),
            ("SPAM", "complained"),
            ("NEW", "sent"),
        ],
    )
    def test_each(
        self, status: str, wanted: str, tracked: Any, sandbox: Sandbox
    ) -> None:
        [row] = send()
        tell(build(status, row))
        row.refresh_from_db()
        assert (row.status, statuses(row)) == (wanted, [wanted])
        event = Event.objects.get()
        assert (event.message_id, event.position) == (row.pk, 0)
        assert not Unmatched.objects.exists()

    def test_in_every_order_and_twice(self, tracked: Any, sandbox: Sandbox) -> None:
        words = ["PROCESSED", "DEFERRED", "DELIVERED", "OPENED"]
        for order in itertools.permutations(words):
            Message.objects.all().delete()
            [row] = send()
            events = {word: build(word, row) for word in words}
            for word in order:
                tell(events[word])
                tell(events[word])
            row.refresh_from_db()
            assert (row.status, statuses(row)) == ("opened", ["opened"]), order
            assert Event.objects.count() == 4
            tell(*events.values())
            assert Event.objects.count() == 4

    def test_a_bounce_after_delivery_shows(
        self, tracked: Any, sandbox: Sandbox
    ) -> None:
        [row] = send()
        tell(build("DELIVERED", row))
        tell(build("BOUNCED", row))
        tell(build("DEFERRED", row))
        row.refresh_from_db()
        assert row.status == "bounced"

    def test_a_machine_that_opens(self, tracked: Any, sandbox: Sandbox) -> None:
        [row] = send()
        tell(build("OPENED", row, useragent="Mozilla/5.0"))
        assert statuses(row) == ["scanned"]
        tell(build("OPENED", row, useragent="Mozilla/5.0 (iPhone)"))
        assert statuses(row) == ["opened"]
        tell(build("CLICKED", row, useragent="Barracuda"))
        assert statuses(row) == ["opened"]

    @pytest.mark.parametrize("turned", [False, True])
    def test_a_bounce_after_a_machine_s_look_shows(
        self, turned: bool, tracked: Any, sandbox: Sandbox
    ) -> None:
        [row] = send()
        events = [
            build("OPENED", row, useragent="Barracuda Sentinel (EE)"),
            build("BOUNCED", row, reason="554 5.7.1 spam"),
        ]
        for event in reversed(events) if turned else events:
            tell(event)
        row.refresh_from_db()
        assert (row.status, statuses(row)) == ("bounced", ["bounced"])

    def test_one_recipient_s_event_is_hers_alone(
        self, tracked: Any, sandbox: Sandbox
    ) -> None:
        [row] = send(new(to=["a@x.org", "B <B@x.org>"], cc=["c@x.org"]))
        tell(build("OPENED", row, email="a@x.org"))
        assert statuses(row) == ["opened", "sent", "sent"]
        tell(build("DELIVERED", row, email="b@X.org"))
        tell(build("DELIVERED", row, email="c@x.org"))
        row.refresh_from_db()
        assert statuses(row) == ["opened", "delivered", "delivered"]
        assert row.status == "delivered"
        tell(build("BOUNCED", row, email="c@x.org"))
        row.refresh_from_db()
        assert statuses(row) == ["opened", "delivered", "bounced"]
        assert row.status == "bounced"
        tell(build("OPENED", row, email="nobody@x.org"))
        assert statuses(row) == ["opened", "delivered", "bounced"]
        # Kept with the message all the same.
        assert row.events.count() == 5  # type: ignore[attr-defined]

    def test_who_is_named_twice(self, tracked: Any, sandbox: Sandbox) -> None:
        [row] = send(new(to=["a@x.org", "A <A@x.org>", "b@x.org"]))
        tell(build("OPENED", row, email="a@x.org"))
        assert statuses(row) == ["opened", "opened", "sent"]
        assert Event.objects.get().position == 0
        tell(build("DELIVERED", row, email="b@x.org"))
        row.refresh_from_db()
        assert row.status == "delivered"

    def test_blind_copies_have_ids_of_their_own(
        self, tracked: Any, sandbox: Sandbox
    ) -> None:
        [row] = send(new(to=[], bcc=["a@x.org", "b@x.org"]))
        mids = list(row.recipients.order_by("position").values_list("mid", flat=True))
        tell(build("BOUNCED", row, mid=mids[1], email="b@x.org"))
        assert statuses(row) == ["sent", "bounced"]

    def test_whom_we_left_out_has_no_part_in_it(
        self, tracked: Any, sandbox: Sandbox
    ) -> None:
        tracked.TURBOSMTP |= {"RECIPIENT_GUARD": ["x.org"]}
        [row] = send(new(to=["a@x.org", "b@elsewhere.org"]))
        tell(build("DELIVERED", row, email="a@x.org"))
        row.refresh_from_db()
        assert statuses(row) == ["delivered", "rejected"]
        assert row.status == "delivered"

    def test_exact_ids(self, tracked: Any, sandbox: Sandbox) -> None:
        first, second = send(new(subject="1"), new(subject="2"))
        Recipient.objects.filter(message=first).update(mid="9007199254740992")
        Recipient.objects.filter(message=second).update(mid="9007199254740993")
        body = json.dumps(build("OPENED", first)).replace(
            json.dumps(first.mid), "9007199254740993"
        )
        assert post(body.encode()).status_code == 200
        assert (statuses(first), statuses(second)) == (["sent"], ["opened"])


class TestUnknown:
    @pytest.mark.parametrize("api_version", [2])
    @pytest.mark.parametrize("fault", ["lost_answer", "500"])
    def test_an_event_settles_it(
        self, fault: str, tracked: Any, sandbox: Sandbox
    ) -> None:
        sandbox.add_fault(fault)
        [row] = send()
        assert (row.outcome, row.mid) == ("unknown", "")
        assert Payload.objects.exists()
        tell(build("DELIVERED", row, mid="77", reference_id=row.reference_id))
        row.refresh_from_db()
        assert (row.outcome, row.status, row.mid) == ("accepted", "delivered", "77")
        assert row.error == ""
        assert statuses(row) == ["delivered"]
        # Accepted: it is not to be sent again, and nothing is kept for that.
        assert not Payload.objects.exists()
        tell(build("OPENED", row))
        row.refresh_from_db()
        assert row.status == "opened"

    @pytest.mark.parametrize("api_version", [2])
    @pytest.mark.parametrize("later", [{}, {"reference_id": ...}])
    def test_to_several_all_that_its_request_took(
        self, later: Any, tracked: Any, sandbox: Sandbox
    ) -> None:
        tracked.TURBOSMTP |= {"RECIPIENT_GUARD": ["x.org"]}
        sandbox.add_fault("lost_answer")
        [row] = send(new(to=["a@x.org", "b@x.org", "left@out.org"], cc=["c@x.org"]))
        ids = {"mid": "77", "reference_id": row.reference_id}
        tell(build("DELIVERED", row, email="a@x.org", **ids))
        # Accepted is the request as a whole; delivered, hers alone.
        assert statuses(row) == ["delivered", "sent", "sent", "rejected"]
        row.refresh_from_db()
        assert (row.status, row.outcome) == ("sent", "accepted")
        tell(build("OPENED", row, email="b@x.org", **ids | later))
        tell(build("BOUNCED", row, email="c@x.org", **ids | later))
        assert statuses(row) == ["delivered", "opened", "bounced", "rejected"]
        assert [r.mid for r in row.recipients.all()] == ["77", "77", "77", ""]
        assert not Payload.objects.exists()

    @pytest.mark.parametrize("api_version", [2])
    @pytest.mark.parametrize("together", [False, True])
    def test_in_every_order_of_two_recipients(
        self, together: bool, tracked: Any, sandbox: Sandbox
    ) -> None:
        """Only one of the events names the message in a way that is known here."""
        events = [
            ("DELIVERED", {"email": "a@x.org"}),
            ("OPENED", {"email": "b@x.org", "reference_id": "order-9"}),
            ("BOUNCED", {"email": "c@x.org"}),
        ]
        for order in itertools.permutations(events):
            Message.objects.all().delete()
            Event.objects.all().delete()
            sandbox.add_fault("lost_answer")
            message = new(to=["a@x.org", "b@x.org", "c@x.org"])
            message.reference_id = "order-9"
            [row] = send(message)
            bodies = [build(word, mid="77", **more) for word, more in order]
            for told in [bodies] if together else [[body] for body in bodies]:
                tell(*told)
            assert statuses(row) == ["delivered", "opened", "bounced"], order
            row.refresh_from_db()
            assert (row.status, row.outcome, row.mid) == ("bounced", "accepted", "77")
            assert not Unmatched.objects.exists()
            assert [e.position for e in row.events.order_by("address")] == [0, 1, 2]

    @pytest.mark.parametrize("api_version", [2])
    def test_a_message_of_version_1_has_no_part_in_it(
        self, tracked: Any, sandbox: Sandbox
    ) -> None:
        """Its reference id, though the same, was never sent."""
        sandbox.add_fault("lost_answer")
        one, two = new(), new()
        one.reference_id = two.reference_id = "order"
        rows = send(one, two, max_connections=1)
        Message.objects.filter(pk=rows[1].pk).update(api_version=1, mid="")
        rows[1].recipients.update(mid="")
        tell(build("DELIVERED", rows[0], mid="77", reference_id="order"))
        assert [statuses(row) for row in rows] == [["delivered"], ["sent"]]

    @pytest.mark.parametrize("api_version", [2])
    def test_a_request_is_settled_once(
        self, tracked: Any, sandbox: Sandbox, django_assert_max_num_queries: Any
    ) -> None:
        """However many of its recipients are told of together."""
        addresses = [f"r{number}@x.org" for number in range(50)]
        sandbox.add_fault("lost_answer")
        [row] = send(new(to=addresses))
        ids = {"mid": "77", "reference_id": row.reference_id}
        events = [build("DELIVERED", row, email=a, **ids) for a in addresses]
        with django_assert_max_num_queries(25):
            tell(*events)
        assert set(statuses(row)) == {"delivered"}

    @pytest.mark.parametrize("api_version", [2])
    def test_blind_copies_are_settled_one_by_one(
        self, tracked: Any, sandbox: Sandbox
    ) -> None:
        sandbox.add_fault("lost_answer", times=2)
        [row] = send(new(to=[], bcc=["a@x.org", "b@x.org"]), max_connections=1)
        ids = {"reference_id": row.reference_id}
        tell(build("DELIVERED", row, email="a@x.org", mid="77", **ids))
        assert statuses(row) == ["delivered", "unknown"]
        row.refresh_from_db()
        assert (row.outcome, row.error_class) == ("accepted", "OutcomeUnknown")
        assert row.status == "unknown"
        assert Payload.objects.exists()
        tell(build("OPENED", row, email="b@x.org", mid="78", **ids))
        assert statuses(row) == ["delivered", "opened"]
        row.refresh_from_db()
        assert row.status == "delivered"
        assert (row.error, row.error_class) == ("", "")
        assert not Payload.objects.exists()

    @pytest.mark.parametrize("api_version", [2])
    def test_accepted_without_an_id(self, tracked: Any, sandbox: Sandbox) -> None:
        [row] = send(new(to=["a@x.org", "b@x.org"]))
        Message.objects.update(mid="")
        Recipient.objects.update(mid="")
        ids = {"mid": "77", "reference_id": row.reference_id}
        tell(build("OPENED", row, email="a@x.org", **ids))
        tell(build("BOUNCED", row, email="b@x.org", **ids | {"reference_id": ...}))
        row.refresh_from_db()
        assert (row.mid, statuses(row)) == ("77", ["opened", "bounced"])

    @pytest.mark.parametrize("api_version", [2])
    def test_a_row_left_sending(self, tracked: Any, sandbox: Sandbox) -> None:
        [row] = send()
        Message.objects.update(status="sending", outcome="", mid="", concluded_at=None)
        Recipient.objects.update(status="sending", mid="")
        tell(build("PROCESSED", row, reference_id=row.reference_id))
        row.refresh_from_db()
        assert (row.outcome, row.status) == ("accepted", "sent")
        assert row.concluded_at

    @pytest.mark.parametrize("api_version", [2])
    def test_a_repeated_reference_id_settles_nobody(
        self, tracked: Any, sandbox: Sandbox
    ) -> None:
        sandbox.add_fault("500", times=2)
        one, two = new(), new()
        one.reference_id = two.reference_id = "order"
        rows = send(one, two, max_connections=1)
        tell(build("DELIVERED", rows[0], mid="77", reference_id="order"))
        assert [statuses(row) for row in rows] == [["unknown"], ["unknown"]]
        assert Unmatched.objects.count() == 1

    @pytest.mark.parametrize("api_version", [2])
    @pytest.mark.parametrize("fault", [None, "lost_answer"])
    def test_an_event_that_comes_before_the_answer(
        self, fault: str | None, tracked: Any, sandbox: Sandbox, monkeypatch: Any
    ) -> None:
        """Its status stands, whatever the answer says."""
        conclude = Recorder.conclude

        def tell_first(recorder: Any, jobs: Any) -> None:
            if jobs:
                row, mid = Message.objects.get(), sandbox.latest.mid  # type: ignore[union-attr]
                assert row.status == "sending"
                tell(build("OPENED", row, mid=mid, reference_id=row.reference_id))
            conclude(recorder, jobs)

        monkeypatch.setattr(Recorder, "conclude", tell_first)
        if fault:
            sandbox.add_fault(fault)
        [row] = send()
        assert (row.status, statuses(row)) == ("opened", ["opened"])
        assert row.outcome == "accepted"
        assert row.mid == sandbox.latest.mid  # type: ignore[union-attr]


class TestUnmatched:
    def test_of_nobody_s_message(self, tracked: Any) -> None:
        tell(build("BOUNCED"), build("OPENED", mid=..., id=...))
        assert Event.objects.filter(message=None).count() == 2
        assert Unmatched.objects.count() == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("api_version", [2])
@pytest.mark.parametrize("fault", [None, "lost_answer"])
def test_joined_when_the_row_is_committed(
    fault: str | None, tracked: Any, sandbox: Sandbox
) -> None:
    """Its sender's transaction is still open when the event comes."""
    if fault:
        sandbox.add_fault(fault)
    message = new()
    with transaction.atomic():
        EmailBackend(fail_silently=True).send_messages([message])
        row = Message.objects.get()
        mid = sandbox.latest.mid  # type: ignore[union-attr]
        event = build("BOUNCED", row, mid=mid, reference_id=row.reference_id)
        # As another process would find it: nothing is committed.
        row_id, reference = row.pk, row.reference_id
        Event.objects.bulk_create([build_unmatched(event)])
        Unmatched.objects.create(
            event=Event.objects.get(), mid=mid, reference_id=reference
        )
    row = Message.objects.get(pk=row_id)
    assert (row.status, statuses(row)) == ("bounced", ["bounced"])
    assert (row.outcome, row.mid) == ("accepted", mid)
    assert Event.objects.get().message_id == row.pk
    assert not Unmatched.objects.exists()


if HAS_MAILERS:

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("api_version", [2])
    def test_joined_where_the_secret_is_another_mailer_s(
        tracked: Any, sandbox: Sandbox
    ) -> None:
        del tracked.TURBOSMTP["WEBHOOK_SECRET"]
        ours = {"BACKEND": "django_turbosmtp.backends.EmailBackend"}
        tracked.MAILERS = {
            "default": ours | {"OPTIONS": {"webhook_secret": SECRET}},
            "bulk": ours,
        }
        sandbox.add_fault("lost_answer")
        early = build("BOUNCED", mid="77", email="x@y.com", reference_id="order-1")
        tell(early)
        message = new(to=["x@y.com"])
        message.reference_id = "order-1"
        with pytest.raises(OutcomeUnknown):
            mail.mailers["bulk"].send_messages([message])
        row = Message.objects.get()
        assert (row.mailer, row.status, row.mid) == ("bulk", "bounced", "77")


def test_joined_to_the_message_alone_where_no_recipient_is_named(
    tracked: Any, sandbox: Sandbox
) -> None:
    [row] = send()
    raw = build("OPENED", row, email="somebody@else.org")
    Event.objects.bulk_create([build_unmatched(raw)])
    event = Event.objects.get()
    Unmatched.objects.create(event=event, mid=row.mid)
    join_events([row.mid], [], "default")
    event.refresh_from_db()
    assert (event.message_id, event.position) == (row.pk, None)
    assert not Unmatched.objects.exists()
    assert statuses(row) == ["sent"]


def test_joined_when_it_is_told_again(tracked: Any, sandbox: Sandbox) -> None:
    """As turboSMTP does where joining it failed, after it was stored."""
    [row] = send()
    raw = build("OPENED", row)
    Event.objects.bulk_create([build_unmatched(raw)])
    Unmatched.objects.create(event=Event.objects.get(), mid=row.mid)
    tell(raw, build("CLICKED"))
    assert statuses(row) == ["opened"]
    assert row.events.get().event_type == "opened"
    tell(raw)
    assert row.events.count() == 1


def build_unmatched(raw: dict[str, Any]) -> Event:
    event = read_event(raw)
    return Event(
        digest=event.digest,
        event_type=event.event_type,
        occurred_at=event.timestamp,
        received_at=event.timestamp,
        mid=event.message_id,
        raw=raw,
    )


class TestFaults:
    def test_our_own_fault_is_500_and_stores_nothing(
        self, tracked: Any, sandbox: Sandbox, monkeypatch: Any, caplog: Any
    ) -> None:
        [row] = send()
        event = build("OPENED", row)

        def fail(*args: Any, **kwargs: Any) -> None:
            raise DatabaseError("no space left")

        with monkeypatch.context() as patch:
            patch.setattr("django_turbosmtp.tracking.record.apply_events", fail)
            assert post(event).status_code == 500
        assert Event.objects.count() == 0
        assert statuses(row) == ["sent"]
        tell(event)
        assert statuses(row) == ["opened"]

    def test_a_wrong_setting_is_500(self, tracked: Any) -> None:
        tracked.TURBOSMTP |= {"WEBHOOK_SECRET": "no colon"}
        assert post(build("OPENED")).status_code == 500


class TestSignal:
    def test_one_for_each_new_event(self, tracked: Any, sandbox: Sandbox) -> None:
        told: list[Any] = []

        def receive(event: Any, esp_name: str, **kwargs: Any) -> None:
            told.append((event, esp_name))

        message = new()
        message.metadata = {"order": 7}
        message.tags = ["a", "b"]
        [row] = send(message)
        tracking.connect(receive)
        try:
            event = build("CLICKED", row, url="https://x.org/", useragent="Firefox")
            tell(event)
            tell(event, event)
        finally:
            tracking.disconnect(receive)
        [(found, esp_name)] = told
        assert esp_name == "turboSMTP"
        assert found.event_type == "clicked"
        assert found.message_id == row.mid
        assert found.metadata == {"order": 7}
        assert found.tags == ("a", "b")
        assert found.click_url == "https://x.org/"
        assert found.esp_event == event

    def test_what_a_receiver_raises_stays_here(
        self, tracked: Any, sandbox: Sandbox, caplog: Any
    ) -> None:
        def receive(**kwargs: Any) -> None:
            raise LookupError("a receiver failed")

        [row] = send()
        tracking.connect(receive)
        try:
            tell(build("OPENED", row), build("CLICKED", row))
        finally:
            tracking.disconnect(receive)
        assert statuses(row) == ["clicked"]
        assert "a receiver failed" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_database_that_knows_fewer_letters(tracked: Any, sandbox: Sandbox) -> None:
    [row] = send(new(to=["jane@x.org"]))
    with narrow("event", "unmatched", "suppression"):
        tell(
            build("BOUNCED", row, reason="550 5.1.1 é😀"),
            build("SPAM", email="😀@x.org", reference_id="é😀"),
        )
    fewer = connection.vendor == "mysql"
    face = "?" if fewer else "😀"
    assert statuses(row) == ["bounced"]
    assert Event.objects.get(event_type="bounced").answer == f"550 5.1.1 é{face}"
    assert Unmatched.objects.get().reference_id == f"é{face}"
    notes = Suppression.objects.order_by("since").values_list("address", "note")
    assert list(notes) == [
        ("jane@x.org", f"550 5.1.1 é{face}"),
        (f"{face}@x.org", ""),
    ]


@pytest.mark.django_db(transaction=True)
def test_committed_before_2xx(tracked: Any, sandbox: Sandbox) -> None:
    """With ATOMIC_REQUESTS, too."""
    [row] = send()
    seen: list[bool] = []

    def receive(**kwargs: Any) -> None:
        seen.append(connection.in_atomic_block)

    tracking.connect(receive)
    try:
        with override_settings():
            connection.settings_dict["ATOMIC_REQUESTS"] = True
            try:
                tell(build("OPENED", row))
            finally:
                connection.settings_dict["ATOMIC_REQUESTS"] = False
    finally:
        tracking.disconnect(receive)
    assert seen == [False]
    assert Event.objects.count() == 1


class TestPages:
    @pytest.mark.parametrize("api_version", [2])
    def test_the_story_of_a_message(
        self, tracked: Any, sandbox: Sandbox, user: Any
    ) -> None:
        [row] = send(new(to=["jane@example.org"]))
        reason = {"0": "x", "response": "452 4.2.2 <b>mailbox full"}
        tell(
            build("OPENED", row, useragent="Mozilla/5.0 (iPhone)", subject="Secret"),
            build("DEFERRED", row, timestamp=1_700_000_000, reason="450 wait"),
            build("BOUNCED", row, reason=reason),
        )
        client = user("view_message")
        url = f"/admin/turbosmtp/message/{row.pk}/change/"
        text = client.get(url).text
        # In order of time, in words, with what the server said.
        places = [
            text.index("asked to wait; turboSMTP goes on trying"),
            text.index("It was opened.", text.index("After that")),
            text.index("refused it: it did not arrive. The mailbox is full."),
        ]
        assert places == sorted(places)
        assert "450 wait" in text
        assert "452 4.2.2 &lt;b&gt;mailbox full" in text
        assert "Mozilla/5.0 (iPhone)" in text
        # As it came, it has the subject, which may be a part of the body's secret.
        assert "As turboSMTP told it" not in text
        full = user("view_message", "view_message_body")
        assert "As turboSMTP told it" in full.get(url).text

    @pytest.mark.parametrize("api_version", [2])
    def test_of_several_recipients_the_story_of_one(
        self, tracked: Any, sandbox: Sandbox, admin_client: Any
    ) -> None:
        [row] = send(new(to=["jane@x.org", "bob@x.org"]))
        tell(
            build("OPENED", row, email="jane@x.org"),
            build("BOUNCED", row, email="bob@x.org", reason="550 5.1.1 nobody"),
        )
        url = f"/admin/turbosmtp/message/{row.pk}/change/"
        text = admin_client.get(url).text
        assert "It was opened." in text
        assert "550 5.1.1 nobody" in text
        assert 'href="?r=1&amp;of=bob%40x.org#turbosmtp-events"' in text
        hers = admin_client.get(f"{url}?r=1&of=BOB@x.org").text
        assert "550 5.1.1 nobody" in hers
        assert "What happened to bob@x.org alone." in hers
        assert "It was opened." not in hers
        nobody = admin_client.get(f"{url}?of=<b>%00").text
        assert "turboSMTP has told nothing yet." in nobody
        assert "<b>" not in nobody

    @pytest.mark.parametrize("api_version", [2])
    def test_of_very_many_events_the_last(
        self, tracked: Any, sandbox: Sandbox, admin_client: Any
    ) -> None:
        [row] = send(new(to=["jane@x.org"]))
        urls = [f"https://x.org/{number}." for number in range(203)]
        tell(*(build("CLICKED", row, url=url) for url in urls))
        text = admin_client.get(f"/admin/turbosmtp/message/{row.pk}/change/").text
        assert "Only the last 200 are shown." in text
        shown = [url for url in urls if f'<bdi dir="ltr">{url}</bdi>' in text]
        assert shown == urls[3:]

    @pytest.mark.parametrize("api_version", [2])
    def test_the_story_of_a_person(
        self, tracked: Any, sandbox: Sandbox, admin_client: Any
    ) -> None:
        send(new(to=["jane@x.org", "bob@x.org"]), new(to=["jane@x.org"], subject="2"))
        first, second = Message.objects.order_by("created_at", "id")
        tell(
            build("OPENED", first, email="jane@x.org", timestamp=1_790_000_002),
            build("DELIVERED", first, email="jane@x.org", timestamp=1_790_000_001),
            build("BOUNCED", first, email="bob@x.org"),
            build("CLICKED", second, email=None),
        )
        context = admin_client.get(
            "/admin/turbosmtp/message/person/", {"address": "Jane@x.org"}
        ).context
        told = [
            [strip_tags(step["status"]).split()[-1] for step in shown["story"]]
            for shown in context["rows"]
        ]
        assert told == [["clicked"], ["delivered", "opened"]]

    def test_the_list_and_its_filters(
        self, tracked: Any, sandbox: Sandbox, admin_client: Client
    ) -> None:
        first, second, third = send(new(), new(), new(), max_connections=1)
        tell(build("DELIVERED", first), build("BOUNCED", second))
        url = "/admin/turbosmtp/message/"
        for group, row in {
            "delivered": first,
            "bounced": second,
            "accepted": third,
        }.items():
            text = admin_client.get(url, {"group": group}).text
            shown = [r.pk for r in (first, second, third) if str(r.pk) in text]
            assert shown == [row.pk], group
        tell(build("DROPPED", third))
        attention = admin_client.get(url, {"attention": "yes"}).context["cl"]
        assert list(attention.result_list) == [third, second]

    def test_a_person(self, tracked: Any, sandbox: Sandbox, admin_client: Any) -> None:
        [row] = send(new(to=["jane@example.org", "joe@example.org"]))
        tell(
            build("DROPPED", row, email="joe@example.org"),
            build("CLICKED", row, email="jane@example.org"),
        )
        url = "/admin/turbosmtp/message/person/"
        text = admin_client.get(url, {"address": "jane@example.org"}).text
        assert "A link in it was followed." in text
        text = admin_client.get(url, {"address": "joe@example.org"}).text
        assert "turboSMTP did not send it." in text


class TestRemoving:
    def test_prune(self, tracked: Any, sandbox: Sandbox) -> None:
        [row] = send()
        tell(build("OPENED", row), build("OPENED"))
        with pytest.MonkeyPatch.context() as patch:
            later = time.time() + 400 * 86400
            patch.setattr("time.time", lambda: later)
            call_command("turbosmtp_prune", verbosity=0)
        assert not Message.objects.exists()
        assert not Event.objects.exists()
        assert not Unmatched.objects.exists()

    def test_erase(self, tracked: Any, sandbox: Sandbox, tmp_path: Any) -> None:
        [row] = send(new(to=["jane@x.org", "joe@x.org"], subject="Hello"))
        tell(
            build("OPENED", row, email="jane@x.org", subject="Hello"),
            build("OPENED", row, email="joe@x.org", subject="Hello"),
            build("BOUNCED", email="jane@x.org"),
            build("BOUNCED", email="joe@x.org"),
        )
        path = tmp_path / "jane.json"
        call_command("turbosmtp_erase", "jane@x.org", export=path, no_input=True)
        kept = Event.objects.order_by("address").values_list("address", "raw")
        assert [address for address, _ in kept] == ["joe@x.org"] * 2
        assert "Hello" not in str(list(kept))
        [exported] = json.loads(path.read_text())["messages"]
        assert [event["event_type"] for event in exported["events"]] == ["opened"]


def test_few_queries(
    tracked: Any, sandbox: Sandbox, django_assert_max_num_queries: Any
) -> None:
    rows = send(*(new(subject=str(number)) for number in range(40)))
    words = ["DELIVERED", "OPENED", "BOUNCED", "CLICKED"]
    events = [build(words[n % 4], row) for n, row in enumerate(rows)]
    with django_assert_max_num_queries(22):
        tell(*events)
    with django_assert_max_num_queries(9):
        tell(*events)
    with django_assert_max_num_queries(10):
        tell(build("COMPLAINED", rows[0]))


@pytest.mark.django_db(transaction=True)
def test_two_at_once(tracked: Any, sandbox: Sandbox) -> None:
    """The same events, and others of the same messages, in several processes' order."""
    rows = send(
        *(new(to=[f"a{n}@x.org", f"b{n}@x.org"]) for n in range(6)),
        *(new(to=[f"c{n}@x.org"]) for n in range(6)),
    )
    told: list[Any] = []
    lock = threading.Lock()

    def receive(event: Any, **kwargs: Any) -> None:
        with lock:
            told.append(event.event_id)

    words = ["DELIVERED", "OPENED", "DEFERRED", "CLICKED", "PROCESSED"]
    events = [
        build(word, row, email=address)
        for row in rows
        for address in row.recipients.values_list("address", flat=True)  # type: ignore[attr-defined]
        for word in words
    ]
    answers: list[int] = []
    ready = threading.Barrier(4)

    def work(number: int) -> None:
        shuffled = random.Random(number).sample(events, len(events))
        ready.wait()
        try:
            for start in range(0, len(shuffled), 9):
                while True:
                    code = post(shuffled[start : start + 9]).status_code
                    answers.append(code)
                    # As turboSMTP does, where it could not be stored.
                    if code == 200:
                        break
        finally:
            connections.close_all()

    tracking.connect(receive)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        tracking.disconnect(receive)
    assert set(answers) == {200}
    assert Event.objects.count() == len(events)
    assert sorted(told) == sorted(event["id"] for event in events)
    assert set(Recipient.objects.values_list("status", flat=True)) == {"clicked"}
    assert set(Message.objects.values_list("status", flat=True)) == {"clicked"}


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002


@pytest.fixture
def site_port() -> Iterator[int]:
    """Serve the site in a thread, whose connections to the database are its own."""
    server = make_server("127.0.0.1", 0, WSGIHandler(), handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("jane", "delivered"),
        ("open", "opened"),
        ("bounce", "bounced"),
        ("disorder", "opened"),
        ("spam", "complained"),
        ("silent", "sent"),
    ],
)
def test_the_sandbox_tells_it(
    name: str, status: str, tracked: Any, site_port: int
) -> None:
    """From the send to the webhook, over the wire both ways."""
    url = f"http://{SECRET}@127.0.0.1:{site_port}{URL}"
    with Sandbox(webhook_url=url) as sandbox:
        tracked.TURBOSMTP |= {
            "SEND_URL": sandbox.send_url(),
            "API_VERSION": 2,
            "CONSUMER_KEY": "sandbox-key",
            "CONSUMER_SECRET": "sandbox-secret",
        }
        [row] = send(new(to=[f"{name}@example.org"]))
        assert sandbox.webhook.wait()
        assert {told.answer for told in sandbox.webhook.told} <= {"200"}
    row.refresh_from_db()
    assert (row.status, statuses(row)) == (status, [status])


class TestSilence:
    TEXT = "turboSMTP told nothing of it"

    def ask(self, client: Client) -> tuple[bool, bool]:
        """Tell whether the dashboard and the checks say that no events come."""
        page = client.get("/admin/turbosmtp/message/dashboard/").text
        found = run_checks(tags=["database"], databases=["default"])
        return self.TEXT in page, "turbosmtp.W010" in {message.id for message in found}

    @pytest.mark.parametrize(
        ("hours", "said"), [(0.5, False), (5, True), (71, True), (80, False)]
    )
    def test_mail_goes_out_and_nothing_comes(
        self,
        hours: float,
        said: bool,
        tracked: Any,
        sandbox: Sandbox,
        admin_client: Client,
    ) -> None:
        send()
        then = timezone.now() - timedelta(hours=hours)
        Message.objects.update(created_at=then)
        assert self.ask(admin_client) == (said, said)

    def test_one_event_is_enough(
        self, tracked: Any, sandbox: Sandbox, admin_client: Client
    ) -> None:
        send()
        Message.objects.update(created_at=timezone.now() - timedelta(hours=5))
        tell(build("OPENED"))
        assert self.ask(admin_client) == (False, False)

    def test_who_has_no_webhook_is_not_bothered(
        self, tracked: Any, sandbox: Sandbox, admin_client: Client
    ) -> None:
        send()
        Message.objects.update(created_at=timezone.now() - timedelta(hours=5))
        del tracked.TURBOSMTP["WEBHOOK_SECRET"]
        assert self.ask(admin_client) == (False, False)
