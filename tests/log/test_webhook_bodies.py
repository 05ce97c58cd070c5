"""The webhook: accepted bodies, and the stored events."""

from __future__ import annotations

import gzip
import io
import json
import random
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.db import DatabaseError
from django.test import Client, RequestFactory, override_settings

from django_turbosmtp.models import (
    Event,
    Suppression,
    Unmatched,
)
from django_turbosmtp.sandbox import Sandbox
from django_turbosmtp.signals import tracking
from django_turbosmtp.tracking.events import EVENT_TYPES
from django_turbosmtp.tracking.view import MAX_BODY_BYTES, webhook
from tests.log.narrowing import narrow
from tests.log.posting import (
    URL,
    build,
    build_login,
    is_json,
    post,
    send,
    statuses,
    tell,
)
from tests.messages import new
from tests.worlds import connection

pytestmark = pytest.mark.django_db


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

    def test_a_bad_event_does_not_affect_others(self, tracked: Any) -> None:
        bad = [None, 5, "x", [], {}, {"status": "NEW WORD"}, {"mid": {}}]
        tell(*bad, build("OPENED"), *bad)  # type: ignore[arg-type]
        assert Event.objects.filter(event_type="opened").count() == 1
        kept = Event.objects.filter(event_type="unknown").values_list("raw", flat=True)
        assert sorted(map(str, kept)) == sorted(
            "null" if part is None else str(part) for part in bad
        )

    @pytest.mark.parametrize("status", ["BOUNCED", "SPAM", "UNSUBSCRIBED"])
    @pytest.mark.parametrize("letter", ["\0", "\ud800", "😀"])
    def test_characters_that_no_database_stores(
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
        """No body causes a 5xx, and a valid event next to it is stored."""
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

    def test_corrupted_bodies(self, tracked: Any, sandbox: Sandbox) -> None:
        """Valid bodies with inserted, removed and exchanged bytes: 200 or 400."""
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
                # Mostly inside a string, so that the JSON stays valid.
                if picked.random() < 0.7:
                    at = body.find(picked.choice([b"no", b"@x", b"x", b"y"]), at)
                end = at + picked.choice([0, 0, 0, 1, 9])
                body = body[:at] + picked.choice(odd) + body[end:]
            code = post(body).status_code
            answers[code] += 1
            if is_json(body):
                assert code == 200, body
        assert min(answers.values()) > 100, answers


class TestFaults:
    def test_an_internal_error_is_500_and_stores_nothing(
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


@pytest.mark.django_db(transaction=True)
def test_a_narrower_charset_of_the_database(tracked: Any, sandbox: Sandbox) -> None:
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
    # Exact columns have their own charset.
    assert Unmatched.objects.get().reference_id == "é😀"
    notes = Suppression.objects.order_by("since").values_list("address", "note")
    assert list(notes) == [
        ("jane@x.org", f"550 5.1.1 é{face}"),
        ("😀@x.org", ""),
    ]


@pytest.mark.django_db(transaction=True)
def test_committed_before_2xx(tracked: Any, sandbox: Sandbox) -> None:
    """Also with ATOMIC_REQUESTS."""
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


def test_too_many_events(tracked: Any) -> None:
    """Millions of events would take minutes."""
    for body in (b"[" + b"[]," * 1_700_000 + b"[]]", b"[" + b"{}," * 10_000 + b"{}]"):
        answer = post(body)
        assert answer.status_code == 413
        assert b"at most 10000 are read" in answer.content
    assert not Event.objects.exists()


def read_body_after_the_view(get_response: Any) -> Any:
    """For example, the middleware of a debugging tool."""

    def middleware(request: Any) -> Any:
        response = get_response(request)
        response["X-Length"] = str(len(request.body))
        return response

    return middleware


def test_middleware_may_read_the_body_after_the_view(
    tracked: Any, sandbox: Sandbox
) -> None:
    tracked.MIDDLEWARE = [f"{__name__}.read_body_after_the_view", *tracked.MIDDLEWARE]
    [row] = send()
    body = json.dumps(build("OPENED", row)).encode()
    answer = post(body)
    assert (answer.status_code, answer["X-Length"]) == (200, str(len(body)))
    assert Event.objects.count() == 1
    assert post(body, "").status_code == 401


class TestEncodings:
    """Bodies that are not plain JSON with a Content-Length."""

    def post(self, body: bytes, **headers: str) -> Any:
        return Client().post(
            URL,
            body,
            content_type="application/json",
            headers={"Authorization": build_login(), **headers},
        )

    @pytest.mark.parametrize("name", ["gzip", "GZIP", "x-gzip"])
    def test_gzip(self, name: str, tracked: Any) -> None:
        body = gzip.compress(json.dumps([build("OPENED"), build("SENT")]).encode())
        assert self.post(body, **{"Content-Encoding": name}).status_code == 200
        assert Event.objects.count() == 2

    def test_gzip_in_several_members(self, tracked: Any) -> None:
        parts = [b"[", json.dumps(build("OPENED")).encode(), b","]
        parts += [json.dumps(build("SENT")).encode(), b"]"]
        body = b"".join(gzip.compress(part) for part in parts)
        assert self.post(body, **{"Content-Encoding": "gzip"}).status_code == 200
        assert Event.objects.count() == 2
        too_large = b"".join(gzip.compress(b" " * 2**20) for _ in range(6))
        answer = self.post(too_large, **{"Content-Encoding": "gzip"})
        assert answer.status_code == 413

    @pytest.mark.parametrize(
        ("body", "name", "status", "words"),
        [
            (b"[{}]", "br", 415, "'br'; only gzip is supported"),
            (b"[{}]", "gzip", 400, "not gzip"),
            (gzip.compress(b"[{}]", mtime=0)[:-9], "gzip", 400, "is incomplete"),
            (gzip.compress(b" " * 6 * 2**20, mtime=0), "gzip", 413, "too large"),
            (b"[{}]", "identity", 200, "1 events"),
        ],
    )
    def test_other_encodings_are_refused(
        self, body: bytes, name: str, status: int, words: str, tracked: Any
    ) -> None:
        answer = self.post(body, **{"Content-Encoding": name})
        assert answer.status_code == status
        assert words in answer.text

    def test_one_event_on_each_line(self, tracked: Any) -> None:
        lines = [json.dumps(build("OPENED")), "", json.dumps(build("SENT")), ""]
        assert self.post("\r\n".join(lines).encode()).status_code == 200
        assert Event.objects.count() == 2

    @pytest.mark.parametrize("body", [b"{}\n{", b"1\n2", b"{}\n[]", b"x\ny", b"{"])
    def test_lines_that_are_not_events(self, body: bytes, tracked: Any) -> None:
        answer = self.post(body)
        assert answer.status_code == 400
        assert "not JSON" in answer.text

    def test_too_many_lines(self, tracked: Any) -> None:
        assert self.post(b"{}\n" * 10_001).status_code == 413

    @pytest.mark.parametrize(("ends", "status"), [(True, 200), (False, 411)])
    def test_chunked(self, ends: bool, status: int, tracked: Any) -> None:
        """As with gunicorn; wsgiref does not end the stream."""
        body = json.dumps(build("OPENED")).encode()
        request = RequestFactory().post(
            URL,
            headers={"Authorization": build_login(), "Transfer-Encoding": "chunked"},
        )
        del request.environ["CONTENT_LENGTH"]
        request.environ["wsgi.input"] = io.BytesIO(body)
        request.environ["wsgi.input_terminated"] = ends
        answer = webhook(WSGIRequest(request.environ))
        assert answer.status_code == status, answer.content
        assert Event.objects.count() == ends
        if not ends:
            assert b"send Content-Length" in answer.content
