"""Translation without a server: messages, and their fields or the reason for MIME."""

from __future__ import annotations

import email
import socket
import time
from collections.abc import Callable
from email import policy
from typing import Any

import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives

from django_turbosmtp.exceptions import MessageError
from django_turbosmtp.payload import Translation, WireAttachment, translate
from django_turbosmtp.payload.attributes import read_attributes
from django_turbosmtp.payload.header_values import encode_value, fold
from django_turbosmtp.payload.inline import (
    find_mentioned,
    find_referenced,
    rename_references,
)
from tests.messages import new, picture, with_pictures

Build = Callable[[], EmailMessage]

HTML = ("<p>Hé</p>", "text/html")


def translate_alone(message: EmailMessage, **arguments: Any) -> Translation:
    message.reference_id = "order-1"  # type: ignore[attr-defined]
    return translate(message, read_attributes(message, {}), **arguments)


def with_attributes(**attributes: Any) -> EmailMessage:
    message = new()
    for name, value in attributes.items():
        setattr(message, name, value)
    return message


# Fields in addition to from, to, subject, content and reference_id.
PLAIN = {
    "from": "shop@example.com",
    "to": "to@example.org",
    "subject": "Subject",
    "content": "Body",
    "reference_id": "order-1",
}
FIELDS: dict[str, tuple[Build, dict[str, Any]]] = {
    "plain text": (lambda: new(), {}),
    "text and HTML": (lambda: new(alternatives=[HTML]), {"html_content": "<p>Hé</p>"}),
    "HTML alone": (
        lambda: new(body="", alternatives=[HTML]),
        {"html_content": "<p>Hé</p>", "content": None},
    ),
    "HTML by subtype": (
        lambda: new(body="<p>", content_subtype="html"),
        {"html_content": "<p>", "content": None},
    ),
    "names": (
        lambda: new(from_email="Shop <shop@example.com>", to=["Jane <j@x.org>"]),
        {"from": "Shop <shop@example.com>", "to": "Jane <j@x.org>"},
    ),
    "comma in a recipient's name": (
        lambda: new(to=['"Doe, Jane" <j@x.org>']),
        {"to": "=?utf-8?q?Doe=2C_Jane?= <j@x.org>"},
    ),
    "comma in the sender's name": (
        lambda: new(from_email='"Doe, Jane" <shop@example.com>'),
        {"from": '"Doe, Jane" <shop@example.com>'},
    ),
    "name beyond ASCII": (
        lambda: new(to=["Zoë <z@x.org>"]),
        {"to": "=?utf-8?q?Zo=C3=AB?= <z@x.org>"},
    ),
    "domain beyond ASCII": (
        lambda: new(to=["a@bücher.de"]),
        {"to": "a@xn--bcher-kva.de"},
    ),
    "copies and blind copies": (
        lambda: new(cc=["c@x.org", "d@x.org"], bcc=["e@x.org"]),
        {"cc": "c@x.org, d@x.org", "bcc": "e@x.org"},
    ),
    "the same in two fields": (
        lambda: new(bcc=["To <to@EXAMPLE.org>", "b@x.org"]),
        {"bcc": "b@x.org"},
    ),
    "reply-to": (
        lambda: new(reply_to=['"B, C" <b@x.org>', "c@x.org"]),
        {"custom_headers": {"reply-to": '"B, C" <b@x.org>, c@x.org'}},
    ),
    "custom headers": (
        lambda: new(headers={"X-A": "1", "X-B": "é"}),
        {"custom_headers": {"X-A": "1", "X-B": "=?utf-8?b?w6k=?="}},
    ),
    "From header with a name": (
        lambda: new(headers={"From": "The Shop <shop@example.com>"}),
        {"from": "The Shop <shop@example.com>"},
    ),
    "attachment": (
        lambda: new(attachments=[("a.bin", b"\1\2", "application/zip")]),
        {
            "attachments": [
                WireAttachment(name="a.bin", type="application/zip", content=b"\1\2")
            ]
        },
    ),
    "inline picture": (
        lambda: with_pictures('<img src="cid:logo">', "logo"),
        {
            "html_content": '<img src="cid:logo@example.com">',
            "attachments": [
                WireAttachment(
                    name="0.png",
                    type="image/png",
                    content=picture("logo").get_payload(decode=True) + b"\0",
                    content_id="logo",
                )
            ],
        },
    ),
    "tags": (
        lambda: with_attributes(tags=["orders", "b"]),
        {"X-campaign-ID": "orders"},
    ),
}


@pytest.mark.parametrize("label", FIELDS)
def test_fields(label: str) -> None:
    build, expected = FIELDS[label]
    wanted = {k: v for k, v in (PLAIN | expected).items() if v is not None}

    translation = translate_alone(build())

    assert translation.why_mime == ""
    [payload] = translation.requests
    assert payload.fields == wanted
    everybody = [r.mailbox.addr_spec for r in payload.recipients]
    assert len(everybody) == len(set(everybody))


class Signed(EmailMultiAlternatives):
    def message(self, **kwargs: Any) -> Any:
        return super().message(**kwargs)


WHY_MIME: dict[str, tuple[Build, str]] = {
    "own class": (
        lambda: Signed("S", "B", to=["a@x.org"]),
        "a message that builds its own MIME",
    ),
    "own method on the instance": (
        lambda: with_attributes(message=new().message),
        "a message that builds its own MIME",
    ),
    "date": (lambda: new(headers={"Date": "x"}), "a custom Date header"),
    "message id": (
        lambda: new(headers={"Message-ID": "<a@b>"}),
        "a custom Message-ID header",
    ),
    "resent": (
        lambda: new(headers={"Resent-To": "a@x.org"}),
        "a custom Resent-To header",
    ),
    "control character in a header": (
        lambda: new(headers={"X-A": "a\x01b"}),
        "control characters in X-A",
    ),
    "two spellings": (
        lambda: new(headers={"X-A": "1", "x-a": "2"}),
        "x-a twice, in different spellings",
    ),
    "encoded subject": (
        lambda: new(subject="=?utf-8?q?a?="),
        "control characters or encoded words in the subject",
    ),
    "charset": (lambda: new(encoding="iso-8859-1"), "a charset other than UTF-8"),
    "mixed_subtype": (
        lambda: with_attributes(mixed_subtype="related"),
        "another mixed_subtype",
    ),
    "alternative_subtype": (
        lambda: with_attributes(alternative_subtype="related"),
        "another alternative_subtype",
    ),
    "only Cc": (lambda: new(to=[], cc=["a@x.org"]), "only Cc recipients"),
    "only Bcc": (lambda: new(to=[], bcc=["a@x.org"]), "only Bcc recipients"),
    "other To": (
        lambda: new(headers={"To": "list@x.org"}),
        "a To header that differs from the recipients",
    ),
    "To is a group": (
        lambda: new(headers={"To": "undisclosed-recipients:;"}),
        "a To header that cannot be parsed",
    ),
    "comment": (
        lambda: new(to=["b@example.com (Bob)"]),
        "a comment or a long name in To",
    ),
    "other From": (
        lambda: new(headers={"From": "boss@example.com"}),
        "a From header that differs from the sender",
    ),
    "long name in From": (
        lambda: new(from_email=f"{'Ünïcode ' * 30}<a@x.org>"),
        "a comment or a long name in From",
    ),
    "empty Reply-To": (lambda: new(headers={"Reply-To": ""}), "an empty Reply-To"),
    "markdown": (
        lambda: new(content_subtype="markdown"),
        "a body of type text/markdown",
    ),
    "two alternatives": (
        lambda: new(alternatives=[HTML, HTML]),
        "alternatives other than one HTML body",
    ),
    "two HTML bodies": (
        lambda: new(content_subtype="html", alternatives=[HTML]),
        "two HTML bodies",
    ),
    "no body": (
        lambda: new(body="", attachments=[("a", b"x", "image/gif")]),
        "attachments without a body",
    ),
    "attachment without a name": (
        lambda: new(attachments=[(None, b"x", "image/gif")]),
        "an attachment without a name",
    ),
    "empty attachment": (
        lambda: new(attachments=[("a", b"", "image/gif")]),
        "an empty attachment",
    ),
    "text beyond ASCII attached": (
        lambda: new(attachments=[("a.txt", "é", "text/plain")]),
        "a text attachment that needs a charset",
    ),
    "picture not shown": (
        lambda: with_pictures("<p>", "a"),
        "a part has a Content-ID that the HTML does not refer to",
    ),
    "one id twice": (
        lambda: with_pictures('<img src="cid:a">', "a", "a"),
        "two parts have the same Content-ID",
    ),
    "id in the text": (
        lambda: with_pictures('<img src="cid:a"> see cid:a', "a"),
        "a Content-ID in a link or in the text",
    ),
}


@pytest.mark.parametrize("label", WHY_MIME)
def test_reasons_for_mime(label: str) -> None:
    build, why = WHY_MIME[label]

    translation = translate_alone(build())

    assert translation.why_mime == why
    for payload in translation.requests:
        mail = email.message_from_string(payload.fields["mime_raw"], policy=policy.SMTP)
        assert mail["From"]
        beside = {"content", "html_content", "attachments", "custom_headers"}
        assert beside.isdisjoint(payload.fields)
        assert translation.size == len(payload.fields["mime_raw"].encode())


def test_a_message_that_builds_its_own_mime_does_so_once() -> None:
    asked = []

    class Asked(EmailMessage):
        def message(self, **kwargs: Any) -> Any:
            asked.append(kwargs)
            return super().message(**kwargs)

    translate_alone(Asked("S", "B", to=["a@x.org"]))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"subject": "a\ud800"}, r"subject .* at position 1"),
        ({"body": "ab\udfff"}, r"content .* at position 2"),
        ({"headers": {"X-A": "\udc80"}}, r"headers\['X-A'\] .* at position 0"),
        ({"headers": {"To": "\udc80 <to@example.org>"}}, r"headers\['To'\]"),
        ({"attachments": [("a.json", "\ud800", "application/json")]}, "'a.json'"),
        ({"to": ["\ud800 <a@x.org>"]}, "^to: "),
    ],
)
def test_an_unpaired_surrogate_is_named_the_same_everywhere(
    arguments: dict[str, Any], where: str
) -> None:
    wanted = "an unpaired surrogate, which is not valid Unicode"
    with pytest.raises(MessageError, match=where) as caught:
        translate_alone(new(**arguments))
    assert wanted in str(caught.value)


def test_translation_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    for build, _ in [*FIELDS.values(), *WHY_MIME.values()]:
        assert translate_alone(build()).requests


PICTURE = '<img src="cid:pic1">'
SLOW = [
    *("<a ", "<style>", "<style ", '<a "', "<a '", "<a \"'", "<style>url(", "<"),
    *("<style>/*", '<img srcset="cid:a,', '<p style="url( ', "<!--", "<a =", " a="),
]


@pytest.mark.parametrize("piece", SLOW)
def test_html_is_read_in_linear_time(piece: str) -> None:
    """At this length, quadratic time would be more than a minute."""
    html = PICTURE + piece * (300_000 // len(piece))
    started = time.process_time()
    find_referenced(html)
    find_mentioned(html)
    renamed = rename_references(html, {"pic1": "other@x.org"})
    assert time.process_time() - started < 5
    assert renamed.startswith('<img src="cid:other@x.org">')


@pytest.mark.parametrize("name", ["X-Words", "List-Id", "Errors-To"])
@pytest.mark.parametrize(
    "value",
    [
        '"\\' * 20_000,
        "<" + "." * 40_000,
        "<." * 20_000,
        " " * 40_000,
        '"' * 40_001,
        "ä ",
    ],
    ids=["escapes", "bracket", "brackets", "space", "quotes", "words"],
)
def test_headers_are_read_in_linear_time(name: str, value: str) -> None:
    text = "ä" + (value * 10_000 if value == "ä " else value)
    started = time.process_time()
    assert encode_value(name, text).isascii()
    fold(text, used=10)
    assert time.process_time() - started < 3
