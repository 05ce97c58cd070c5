"""Unsupported messages raise an error that names the problem; nothing is sent."""

from __future__ import annotations

from collections.abc import Callable
from email.header import decode_header, make_header
from typing import Any

import pytest
from django.core.mail import EmailMessage

from django_turbosmtp._lib.versions import MODERN_MIME, BadHeaderError
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.exceptions import (
    InvalidAddress,
    MessageError,
    MessageTooLarge,
    UnsupportedFeature,
)
from django_turbosmtp.sandbox import Sandbox
from tests.messages import new


def with_attribute(**attributes: Any) -> EmailMessage:
    message = new()
    for name, value in attributes.items():
        setattr(message, name, value)
    return message


class Injecting(EmailMessage):
    def message(self, **kwargs: Any) -> Any:
        return Raw()


class Raw:
    def as_bytes(self) -> bytes:
        return b"From: a@b.de\r\nSubject: x\ry\r\n\r\nbody"


BAD_ADDRESSES = {
    "no domain": "webmaster",
    "no local part": "@example.org",
    "no name server": "a@",
    "non-ASCII local part": "jörg@example.org",
    "two": "a@example.org, b@example.org",
    "group": "Friends: a@example.org, b@example.org;",
    "space": "a b@example.org",
    "no brackets": "Jane jane@example.org",
    "unquoted comma": "Doe, Jane <jane@example.org>",
    "empty brackets": "<>",
    "domain too long": f"a@{'ü' * 80}.example",
    "line feed": "a@example.org\nBcc: b@example.org",
    "carriage return": "a@example.org\rBcc: b@example.org",
    "encoded line break in name": "=?utf-8?q?a=0AB?= <a@example.org>",
    "line break in name": '"A\r\nBcc: x@example.org" <a@example.org>',
    "null": "a\0@example.org",
    "a thousand brackets": f"{'(' * 1000} <a@example.org>",
    "unpaired surrogate": "A\ud83d <a@example.org>",
}


@pytest.mark.parametrize("field", ["from_email", "to", "cc", "bcc"])
@pytest.mark.parametrize("label", BAD_ADDRESSES)
def test_bad_address(label: str, field: str, project: Any, sandbox: Sandbox) -> None:
    address = BAD_ADDRESSES[label]
    message = new(**{field: address if field == "from_email" else [address]})

    with pytest.raises(InvalidAddress, match=f"^{field}: "):
        EmailBackend().send_messages([message])

    assert sandbox.requests == []
    assert message.turbosmtp_status.outcome == "refused"
    assert message.turbosmtp_status.status == {"invalid"}
    assert message.turbosmtp_status.attempts == 0


AS_ON_5_2 = {
    "taro..y@example.ne.jp": ("", "taro..y@example.ne.jp"),
    "taro.@example.ne.jp": ("", "taro.@example.ne.jp"),
    ".taro@example.ne.jp": ("", ".taro@example.ne.jp"),
    "山田 <taro..y@bücher.de>": ("山田", "taro..y@xn--bcher-kva.de"),
    "A\x07B <a@example.org>": ("A\x07B", "a@example.org"),
    "A\x1bB <a@example.org>": ("A\x1bB", "a@example.org"),
    "A\x7fB <a@example.org>": ("A\x7fB", "a@example.org"),
    "A <a@example.org": ("A", "a@example.org"),
}


@pytest.mark.parametrize("field", ["to", "cc", "bcc"])
@pytest.mark.parametrize("address", AS_ON_5_2, ids=ascii)
def test_addresses_that_django_5_2_sends_and_6_refuses(
    address: str, field: str, project: Any, sandbox: Sandbox
) -> None:
    message = new(**{"to": ["other@example.org"], field: [address]})
    if MODERN_MIME:
        with pytest.raises(InvalidAddress, match=f"^{field}: "):
            EmailBackend().send_messages([message])
        return
    assert EmailBackend().send_messages([message]) == 1
    [received] = sandbox.messages
    name, spec = AS_ON_5_2[address]
    assert (field, spec) in received.recipients
    assert received.fields[field].isascii()
    written = received.fields[field].removesuffix(f"<{spec}>").strip()
    shown = str(make_header(decode_header(written))) if name else ""
    assert shown == name


@pytest.mark.parametrize("field", ["from_email", "to", "cc"])
@pytest.mark.parametrize(
    "spec",
    [
        '"taro..y"@example.org',
        '"plain"@example.org',
        '"a b"@example.org',
        r'"a\"b"@x.org',
    ],
)
def test_quotes_are_kept(spec: str, field: str, project: Any, sandbox: Sandbox) -> None:
    for address, named in ((spec, spec), (f"Ann <{spec}>", f"Ann <{spec}>")):
        message = new(**{field: address if field == "from_email" else [address]})
        assert EmailBackend().send_messages([message]) == 1
        name = "from" if field == "from_email" else field
        assert sandbox.messages[-1].fields[name] == named


def test_quotes_do_not_make_a_second_mailbox(project: Any, sandbox: Sandbox) -> None:
    message = new(to=['"plain"@example.org'], cc=["plain@example.org"])
    EmailBackend().send_messages([message])
    [received] = sandbox.messages
    assert len(received.recipients) == 1


INJECTIONS = {
    "subject": lambda: new(subject="a\nBcc: x@example.org"),
    "to": lambda: new(to=["a@example.org\nBcc: x@example.org"]),
    "from_email": lambda: new(from_email="a@example.org\rX: y"),
    "reply_to": lambda: new(reply_to=["a@example.org\nX: y"]),
    "header": lambda: new(headers={"X-A": "a\nX: y"}),
    "header name": lambda: new(headers={"X\nY": "a"}),
    "encoded": lambda: new(subject="=?utf-8?q?a=0Ab?="),
    "attachment": lambda: new(attachments=[("a\nb.txt", "x", "text/plain")]),
    "own MIME": lambda: Injecting("S", "B", "a@x.org", ["b@x.org"]),
}


@pytest.mark.parametrize("label", INJECTIONS)
def test_injection_is_django_s_error_too(
    label: str, project: Any, sandbox: Sandbox
) -> None:
    """Django's documentation catches it in a contact form: BadHeaderError on 5.2."""
    with pytest.raises(BadHeaderError) as caught:
        EmailBackend().send_messages([INJECTIONS[label]()])
    assert isinstance(caught.value, MessageError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("field", ["to", "cc", "bcc"])
def test_comma_before_the_at_sign(field: str, project: Any, sandbox: Sandbox) -> None:
    with pytest.raises(InvalidAddress, match="comma before the '@'"):
        EmailBackend().send_messages([new(**{field: ['"a,b"@example.org']})])

    assert sandbox.requests == []


REFUSED: dict[str, tuple[Callable[[], EmailMessage], type[MessageError], str]] = {
    "subject line feed": (
        lambda: new(subject="a\nBcc: b@c.de"),
        MessageError,
        "subject",
    ),
    "subject return": (lambda: new(subject="a\rb"), MessageError, "subject"),
    "subject surrogate": (lambda: new(subject="\udc80"), MessageError, "subject"),
    "subject of 701": (lambda: new(subject="é" * 701), MessageTooLarge, "701.*700"),
    "subject of 701 as MIME": (
        lambda: new(subject="é" * 701, bcc=["a@b.de"], to=[]),
        MessageTooLarge,
        "701.*700",
    ),
    "header value": (lambda: new(headers={"X-A": "a\r\nB: c"}), MessageError, "X-A"),
    "header value in MIME": (
        lambda: new(headers={"X-A": "a\nB: c", "Date": "x"}),
        MessageError,
        "X-A",
    ),
    "header name": (lambda: new(headers={"X-A\nB": "c"}), MessageError, "header name"),
    "header name with colon": (lambda: new(headers={"X:": "c"}), MessageError, "'X:'"),
    "header surrogate": (lambda: new(headers={"X": "\ud83d"}), MessageError, "'X'"),
    "header bcc": (
        lambda: new(headers={"bCC": "a@b.de"}),
        UnsupportedFeature,
        "bcc list",
    ),
    "header subject": (lambda: new(headers={"subject": "x"}), MessageError, "only one"),
    "header type": (
        lambda: new(headers={"Content-Type": "x/y"}),
        MessageError,
        "only one",
    ),
    "reply-to": (lambda: new(reply_to=["a@b.de\nX: y"]), MessageError, "reply_to"),
    "reply-to header": (
        lambda: new(headers={"Reply-To": "a@b.de\rX: y"}),
        MessageError,
        "Reply-To",
    ),
    "subject, encoded break": (
        lambda: new(subject="=?utf-8?q?a=0D=0ABcc=3A_e?="),
        MessageError,
        "subject contains a line break",
    ),
    "header, encoded break": (
        lambda: new(headers={"X-A": "=?utf-8?b?YQpCOiBj?="}),
        MessageError,
        "X-A",
    ),
    "message-id, encoded break": (
        lambda: new(headers={"Message-ID": "=?utf-8?q?a=0AB=3A_x?="}),
        MessageError,
        "Message-ID",
    ),
    "reply-to, encoded null": (
        lambda: new(reply_to=["=?utf-8?q?a=00?= <a@b.de>"]),
        MessageError,
        "reply_to",
    ),
    "break in MIME of its own": (
        lambda: Injecting("s", "b", "shop@example.com", ["a@b.de"]),
        MessageError,
        "contains a line break",
    ),
    "body surrogate": (
        lambda: new(body="x\ud83d"),
        MessageError,
        "content.*position 1",
    ),
    "html surrogate": (
        lambda: new(alternatives=[("\udc80", "text/html")]),
        MessageError,
        "html_content",
    ),
    "body surrogate as MIME": (
        lambda: new(body="x\ud83d", headers={"Date": "x"}),
        MessageError,
        "Django cannot build",
    ),
    "attachment name": (
        lambda: new(attachments=[("a\r\nX: y.txt", "x", "text/plain")]),
        MessageError,
        "attachment name",
    ),
    "attachment surrogate": (
        lambda: new(attachments=[("a.json", "\ud83d", "application/json")]),
        MessageError,
        r"a\.json",
    ),
    "unknown charset": (lambda: new(encoding="no-such"), MessageError, "no-such"),
    "metadata": (lambda: with_attribute(metadata=["x"]), MessageError, "metadata"),
    "tags": (lambda: with_attribute(tags="x"), MessageError, "tags"),
    "tag with line break": (
        lambda: with_attribute(tags=["a\nb"]),
        MessageError,
        "tags",
    ),
    "reference too long": (
        lambda: with_attribute(reference_id="x" * 256),
        MessageError,
        "256",
    ),
    "reference with line break": (
        lambda: with_attribute(reference_id="a\nb"),
        MessageError,
        "reference_id",
    ),
    "esp_extra unknown": (
        lambda: with_attribute(esp_extra={"campaign": "x"}),
        UnsupportedFeature,
        "'campaign' is|'campaign'. is unknown",
    ),
    "esp_extra credentials": (
        lambda: with_attribute(esp_extra={"authpass": "hunter2"}),
        UnsupportedFeature,
        "authpass",
    ),
    "esp_extra recipients": (
        lambda: with_attribute(esp_extra={"bcc": "a@b.de"}),
        UnsupportedFeature,
        "on the message itself",
    ),
    "esp_extra headers": (
        lambda: with_attribute(esp_extra={"custom_headers": "X: y"}),
        MessageError,
        "custom_headers",
    ),
    "esp_extra injection": (
        lambda: with_attribute(esp_extra={"custom_headers": {"X": "a\nb"}}),
        MessageError,
        "'X'",
    ),
}
if MODERN_MIME:
    # Python's modern header parser splits lines at other characters than CR and LF.
    REFUSED["subject separator"] = (
        lambda: new(subject="a\u2028b"),
        MessageError,
        "linefeed|line",
    )


@pytest.mark.parametrize("label", REFUSED)
def test_refused(label: str, project: Any, sandbox: Sandbox) -> None:
    build, error, text = REFUSED[label]
    message = build()

    with pytest.raises(error, match=text) as caught:
        EmailBackend().send_messages([message])

    # Also Django's error for header injection, if there is one.
    public = caught.value.__class__.__mro__
    assert next(cls for cls in public if cls.__module__ == error.__module__) is error
    assert "hunter2" not in str(caught.value)
    assert sandbox.requests == []
    assert message.turbosmtp_status.outcome == "refused"


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("template_id", "welcome"),
        ("merge_data", {"a@x.org": {}}),
        ("merge_global_data", {"a": 1}),
        ("merge_metadata", {"a": {}}),
        ("merge_headers", {"a": {}}),
        ("track_opens", True),
        ("track_clicks", True),
        ("envelope_sender", "bounces@example.com"),
    ],
)
def test_attribute_without_a_field(
    attribute: str, value: Any, project: Any, sandbox: Sandbox
) -> None:
    with pytest.raises(UnsupportedFeature, match=f"{attribute}.*IGNORE_UNSUPPORTED"):
        EmailBackend().send_messages([with_attribute(**{attribute: value})])
    assert sandbox.requests == []

    EmailBackend(ignore_unsupported_features=True).send_messages(
        [with_attribute(**{attribute: value})]
    )
    assert len(sandbox.messages) == 1


# The largest attachment: Base64 in lines makes 78 bytes of 57.
LIMITS = {2: 24 * 2**20, 1: 4 * 2**20}


@pytest.mark.parametrize("api_version", [2, 1])
@pytest.mark.parametrize("as_mime", [False, True])
def test_size_is_of_the_whole_message(
    api_version: int, as_mime: bool, project: Any, sandbox: Sandbox
) -> None:
    # 24 MB can take long on a busy machine.
    project.TURBOSMTP = {**project.TURBOSMTP, "TIMEOUT": 60}
    raw = LIMITS[api_version] * 57 // 78
    headers = {"Date": "Fri, 09 Nov 2001 01:08:47 -0000"} if as_mime else {}

    def message(size: int) -> EmailMessage:
        part = ("a.bin", bytes(size), "application/zip")
        return new(attachments=[part], headers=headers)

    with pytest.raises(MessageTooLarge, match=f"API v{api_version} accepts less than"):
        EmailBackend().send_messages([message(raw)])
    assert sandbox.requests == []

    assert EmailBackend().send_messages([message(raw - 4000)]) == 1


def test_one_bad_message_does_not_stop_the_others(
    project: Any, sandbox: Sandbox
) -> None:
    messages = [new(subject=str(n)) for n in range(5)]
    messages[1].to = ["webmaster"]
    messages[3].subject = "a\nb"

    with pytest.raises(InvalidAddress) as caught:
        EmailBackend().send_messages(messages)

    assert [message for message, _ in caught.value.failures] == [
        messages[1],
        messages[3],
    ]
    assert caught.value.sent_count == 3
    assert sorted(m.fields["subject"] for m in sandbox.messages) == ["0", "2", "4"]


@pytest.mark.parametrize("to", [5, [object()], ["x" * 5000]])
def test_an_invalid_object_does_not_stop_other_messages(
    to: Any, project: Any, sandbox: Sandbox
) -> None:
    bad = new()
    bad.to = to
    messages = [new(), bad, new()]

    with pytest.raises((TypeError, MessageError)) as caught:
        EmailBackend().send_messages(messages)

    assert len(str(caught.value)) < 500
    assert len(sandbox.messages) == 2
    assert bad.turbosmtp_status.outcome == "refused"


def test_no_recipients(project: Any, sandbox: Sandbox) -> None:
    message = new(to=[], cc=[""], bcc=[])

    assert EmailBackend().send_messages([message]) == 0
    assert message.send() == 0

    assert sandbox.requests == []
