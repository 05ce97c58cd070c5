"""Every strict rule, tested with HTTP requests."""

from __future__ import annotations

import json

import pytest

from tests.sandbox.conftest import V1, V2

PICTURE = {"content": "YWJj", "name": "a.png", "type": "image/png"}
MIME = "From: a@x.com\nTo: b@x.com\nSubject: s\n\nbody\n"


def errors(answer, status=400):
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json["message"] == "error"
    return answer.json["errors"]


@pytest.mark.parametrize("version", [1, 2])
def test_accepts_a_minimal_message(sandbox, client, version):
    answer = client.send(version)
    assert answer.status == 200
    [received] = sandbox.messages
    expected = {"message": "OK"}
    if version == 2:
        expected["mid"] = int(received.mid)
        assert int(received.mid) > 2**53
        # The answer contains the exact digits, because no float is used.
        assert received.mid in answer.text
    assert answer.json == expected
    assert received.api_version == version
    assert received.account == ("sandbox-key" if version == 2 else V1["authuser"])
    assert received.sender == "shop@example.com"
    assert received.recipients == [("to", "jane@example.org")]
    assert received.received_at.utcoffset().total_seconds() == 0


def test_mids_are_unique_and_increase(sandbox, client):
    mids = [client.send().json["mid"] for _ in range(20)]
    assert mids == sorted(set(mids))
    assert [int(m.mid) for m in sandbox.messages] == mids


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"from_": ""}, "missing or not valid sender email (from)"),
        ({"from": None}, "missing or not valid sender email (from)"),
        ({"from_": "nobody"}, "missing or not valid sender email (from)"),
        ({"from_": "Doe, Jane <a@x.com>"}, "missing or not valid sender email (from)"),
        ({"from_": "a@x.com, b@x.com"}, "missing or not valid sender email (from)"),
        ({"to": None}, "missing recipients (to)"),
        ({"to": " "}, "missing recipients (to)"),
        ({"to": "abc"}, "'abc' 'to' email not valid"),
        ({"cc": "abc"}, "'abc' 'cc' email not valid"),
        ({"bcc": "a@x.com, abc"}, "'abc' 'bcc' email not valid"),
        ({"to": "a@x.com,"}, "'' 'to' email not valid"),
        ({"to": "a@x.com;b@x.com"}, "'a@x.com;b@x.com' 'to' email not valid"),
        ({"to": "a@"}, "'a@' 'to' email not valid"),
        ({"to": "a@-x.com"}, "'a@-x.com' 'to' email not valid"),
        ({"to": "jos\u00e9@x.com"}, "'jos\u00e9@x.com' 'to' email not valid"),
        ({"to": "a@b\u00fccher.de"}, "'a@b\u00fccher.de' 'to' email not valid"),
        ({"to": "A <a@x.com"}, "'A <a@x.com' 'to' email not valid"),
        ({"to": "A (B) <a@x.com>"}, "'A (B) <a@x.com>' 'to' email not valid"),
        ({"to": "<a@x.com> b"}, "'<a@x.com> b' 'to' email not valid"),
        ({"to": "a@x.com <b@x.com>"}, "'a@x.com <b@x.com>' 'to' email not valid"),
        ({"to": "x" * 65 + "@x.com"}, f"'{'x' * 65}@x.com' 'to' email not valid"),
        (
            {"to": "=?utf-8?q?a=0D=0AX?= <a@x.com>"},
            "'=?utf-8?q?a=0D=0AX?= <a@x.com>' 'to' email not valid",
        ),
        (
            {"to": "=?nonsense?q?a=ff?= <a@x.com>"},
            "'=?nonsense?q?a=ff?= <a@x.com>' 'to' email not valid",
        ),
        ({"to": "a@x.com\n"}, "to contains a line break"),
        ({"cc": "A\r <a@x.com>"}, "cc contains a line break"),
        ({"from_": "A\n <a@x.com>"}, "from contains a line break"),
        ({"subject": "a\r\nBcc: x@x.com"}, "subject contains a line break"),
        ({"subject": "x" * 701}, "subject is longer than 700 characters"),
        ({"surprise": 1}, "unknown field 'surprise' in API v{version}"),
        ({"From": "a@x.com"}, "unknown field 'From' in API v{version}"),
        ({"reply_to": "a@x.com"}, "unknown field 'reply_to' in API v{version}"),
        ({"to": ["a@x.com"]}, "to must be a string"),
        ({"subject": 1}, "subject must be a string"),
        ({"custom_headers": []}, "custom_headers must be an object"),
        ({"custom_headers": {"X-A": 1}}, "custom_headers 'X-A' must be a string"),
        ({"custom_headers": {"X A": "1"}}, "custom_headers 'X A' is not a header name"),
        ({"custom_headers": {"": "1"}}, "custom_headers '' is not a header name"),
        (
            {"custom_headers": {"X-A:": "1"}},
            "custom_headers 'X-A:' is not a header name",
        ),
        (
            {"custom_headers": {"X-\n": "1"}},
            "custom_headers 'X-\\n' is not a header name",
        ),
        (
            {"custom_headers": {"X-A": "a\nb"}},
            "custom_headers 'X-A' contains a line break",
        ),
        (
            {"custom_headers": {"reply-to": "a@x.com", "Reply-To": "b@x.com"}},
            "custom_headers names 'reply-to' twice",
        ),
        *(
            ({"custom_headers": {name: "x"}}, f"custom_headers may not set {name!r}")
            for name in ("From", "TO", "cc", "Bcc", "Subject", "MIME-Version")
        ),
        (
            {"custom_headers": {"Content-type": "x"}},
            "custom_headers may not set 'Content-type'",
        ),
        ({"attachments": {}}, "attachments must be an array"),
        ({"attachments": ["x"]}, "attachments[0] must be an object"),
        ({"attachments": [{"name": "a"}]}, "attachments[0] lacks content, type"),
        (
            {"attachments": [PICTURE, PICTURE | {"cid": "x"}]},
            "attachments[1] has unknown keys: 'cid'",
        ),
        (
            {"attachments": [PICTURE | {"content": 1}]},
            "attachments[0] content must be a string",
        ),
        (
            {"attachments": [PICTURE | {"content": "YWJ"}]},
            "attachments[0] content is not valid base64",
        ),
        (
            {"attachments": [PICTURE | {"content": "YW\nJj"}]},
            "attachments[0] content is not valid base64",
        ),
        (
            {"attachments": [PICTURE | {"content": "\u00e9"}]},
            "attachments[0] content is not valid base64",
        ),
        (
            {"attachments": [PICTURE | {"name": ""}]},
            "attachments[0] name is empty or contains a line break",
        ),
        (
            {"attachments": [PICTURE | {"name": "a\nb"}]},
            "attachments[0] name is empty or contains a line break",
        ),
        (
            {"attachments": [PICTURE | {"type": "png"}]},
            "attachments[0] type is not a media type",
        ),
        (
            {"attachments": [PICTURE | {"type": "image/png\r\nX: y"}]},
            "attachments[0] type is not a media type",
        ),
        (
            {"attachments": [PICTURE | {"type": "multipart/mixed"}]},
            "attachments[0] type may not be multipart",
        ),
        *(
            (
                {"attachments": [PICTURE | {"content_id": bad}]},
                "attachments[0] content_id must be bare: no @, <, > or space",
            )
            for bad in ("logo@x.com", "<logo>", "lo go", "", "lo\ngo")
        ),
        (
            {"attachments": [PICTURE | {"content_id": "a"}] * 2},
            "attachments[1] repeats a content_id",
        ),
        (
            {"mime_raw": MIME, "content": "x", "custom_headers": {}},
            "mime_raw replaces the message: it excludes content, custom_headers",
        ),
        ({"mime_raw": "no header here"}, "Invalid Mime"),
        ({"mime_raw": "To: b@x.com\n\nno sender"}, "Invalid Mime"),
        ({"mime_raw": "From: a@x.com\nnonsense\n\nbody"}, "Invalid Mime"),
        ({"mime_raw": " From: a@x.com\n\nbody"}, "Invalid Mime"),
        ({"mime_raw": "From: \u00e9 <a@x.com>\n\nbody"}, "Invalid Mime"),
        ({"mime_raw": "From: a@x.com\nFrom: b@x.com\n\nx"}, "Invalid Mime"),
        (
            {"mime_raw": "From: a@x.com\nContent-Type: multipart/mixed\n\nx"},
            "Invalid Mime",
        ),
        (
            {
                "mime_raw": "From: a@x.com\nContent-Type: multipart/mixed; "
                "boundary=b\n\n--b\n\nnever closed"
            },
            "Invalid Mime",
        ),
    ],
)
def test_refuses(sandbox, client, version, fields, error):
    assert error.format(version=version) in errors(client.send(version, **fields))
    assert sandbox.messages == []
    assert [r.status for r in sandbox.requests] == [400]


def test_reports_every_bad_address(client):
    answer = client.send(to='"Doe, Jane" <a@x.com>', cc="x, y@y.com", subject="x" * 800)
    assert errors(answer) == [
        "subject is longer than 700 characters",
        "'\"Doe' 'to' email not valid",
        "'Jane\" <a@x.com>' 'to' email not valid",
        "'x' 'cc' email not valid",
    ]


def test_accepts_what_is_at_the_limit(client):
    assert client.send(subject="x" * 700).status == 200


@pytest.mark.parametrize("name", ["reference_id", "X-campaign-ID"])
def test_fields_of_version_2_only(sandbox, client, name):
    assert client.send(2, **{name: "a"}).status == 200
    assert errors(client.send(1, **{name: "a"})) == [
        f"unknown field {name!r} in API v1"
    ]
    assert errors(client.send(2, **{name: "a\nb"})) == [f"{name} contains a line break"]
    [received] = sandbox.messages
    assert {received.reference_id, received.campaign} == {"a", None}


@pytest.mark.parametrize("name", ["authuser", "authpass"])
def test_version_2_refuses_credentials_in_the_body(client, name):
    assert errors(client.send(2, **{name: "a"})) == [
        f"unknown field {name!r} in API v2"
    ]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "body is not valid JSON"),
        (b"{", "body is not valid JSON"),
        (b"\xff", "body is not UTF-8"),
        (b"\xef\xbb\xbf{}", "body is not valid JSON"),
        (b"[]", "body must be a JSON object, not list"),
        (b'{"to": "a", "to": "b"}', "body is not valid JSON: duplicate key 'to'"),
        (
            b'{"custom_headers": {"a": "1", "a": "2"}}',
            "body is not valid JSON: duplicate key 'a'",
        ),
        (b'{"to": NaN}', "body is not valid JSON: NaN is not JSON"),
        (b'{"to": -Infinity}', "body is not valid JSON: -Infinity is not JSON"),
        (b'{"subject": "\\ud800"}', "subject contains a lone surrogate"),
        (
            b'{"attachments": [{"name": "\\udc00"}]}',
            "name contains a lone surrogate",
        ),
        (b'{"\\ud800": 1}', "a field name contains a lone surrogate"),
        (b"[" * 100_000, "body is not valid JSON: nested too deep"),
    ],
)
def test_refuses_invalid_json(client, body, error):
    [found] = errors(client.raw(body))
    assert found.startswith(error)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "",
    ],
)
def test_refuses_other_content_types(client, content_type):
    body = json.dumps({"from": "a@x.com", "to": "b@x.com"}).encode()
    assert errors(client.raw(body, Content_Type=content_type), 415)


def test_accepts_a_charset(client):
    body = json.dumps({"from": "a@x.com", "to": "b@x.com"}).encode()
    kind = "Application/JSON; charset=UTF-8"
    assert client.raw(body, Content_Type=kind).status == 200


@pytest.mark.parametrize(("version", "megabytes"), [(1, 4), (2, 24)], ids=["v1", "v2"])
def test_measures_the_composed_message(sandbox, client, version, megabytes):
    limit = megabytes * 2**20
    head = "From: a@x.com\n\n"
    accepted = client.send(version, mime_raw=head + "x" * (limit - len(head) - 1))
    assert accepted.status == 200
    refused = client.send(version, mime_raw=head + "x" * (limit - len(head)))
    [error] = errors(refused, 413)
    assert str(limit) in error
    assert len(sandbox.messages) == 1


class TestCredentials:
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"consumerKey": "sandbox-key"},
            {"consumerSecret": "sandbox-secret"},
            {"consumerKey": "sandbox-key", "consumerSecret": "wrong"},
            {"consumerKey": "other", "consumerSecret": "sandbox-secret"},
            {**V2, "Authorization": "anything"},
        ],
    )
    def test_v2_requires_only_its_pair(self, sandbox, client, headers):
        answer = client.request(
            "POST",
            "/api/v2/mail/send",
            "{}",
            Content_Type="application/json",
            **headers,
        )
        assert answer.status == 401
        assert answer.json.keys() == {"errorCode", "message", "details"}
        assert answer.json["errorCode"] == 3
        assert sandbox.messages == []

    @pytest.mark.parametrize(
        "changed",
        [{"authuser": None}, {"authpass": None}, {"authpass": "x"}, {"authuser": 1}],
    )
    def test_v1_requires_them_in_the_body(self, client, changed):
        answer = client.send(1, **changed)
        assert answer.status == 401
        assert answer.json["errorCode"] == 1

    @pytest.mark.parametrize("version", [1, 2])
    def test_refused_in_the_query_string(self, sandbox, client, version):
        path = "/api/mail/send" if version == 1 else "/api/v2/mail/send"
        answer = client.request(
            "POST",
            f"{path}?authuser=a&authpass=hidden&consumerSecret=hidden",
            "{}",
            Content_Type="application/json",
            **V2,
        )
        [error] = errors(answer)
        assert error == (
            "credentials in the query string: authpass, authuser, consumerSecret"
        )
        assert "hidden" not in repr(sandbox.requests)


def test_unknown_paths_and_methods(client):
    assert client.get("/api/v2/mail/send").status == 405
    assert client.request("POST", "/api/v3/mail/send", "{}").status == 404
    assert client.get("/api/v2/user/consumerKeys").status == 404
