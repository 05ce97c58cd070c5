"""The composed message for each posted request."""

from __future__ import annotations

import base64
import random

import pytest

from django_turbosmtp.sandbox.service import rules

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAA"
    "AABJRU5ErkJggg=="
)


def attachment(content=b"abc", **changes):
    encoded = base64.b64encode(content).decode()
    return {"content": encoded, "name": "a.txt", "type": "text/plain"} | changes


def test_headers(sandbox, client):
    client.send(
        from_='"Doe, J\u00e4ne" <jane@example.com>',
        to="=?utf-8?q?Doe=2C_J=C3=B6?= <a@x.com>, J\u00fcrgen <b@x.com>, c@x.com",
        cc='"O\'Hara \\"X\\"" <d@x.com>',
        bcc="blind@x.com",
        subject="Gr\u00fc\u00dfe \U0001f600 " + "lang " * 60,
        custom_headers={
            "reply-to": "=?utf-8?q?D=C3=A9j=C3=A0=2C_vu?= <r@x.com>, s@x.com",
            "X-Raw": "caf\u00e9 \u2013 na\u00efve",
            "X-Plain": "as is;  with  spaces",
        },
    )
    message = sandbox.latest.message
    assert message["From"] == '"Doe, J\u00e4ne" <jane@example.com>'
    assert [a.display_name for a in message["To"].addresses] == [
        "Doe, J\u00f6",
        "J\u00fcrgen",
        "",
    ]
    assert [a.addr_spec for a in message["To"].addresses] == [
        "a@x.com",
        "b@x.com",
        "c@x.com",
    ]
    [cc] = message["Cc"].addresses
    assert (cc.display_name, cc.addr_spec) == ('O\'Hara "X"', "d@x.com")
    assert message["Subject"] == "Gr\u00fc\u00dfe \U0001f600 " + "lang " * 60
    replies = message["Reply-To"].addresses
    assert [(a.display_name, a.addr_spec) for a in replies] == [
        ("D\u00e9j\u00e0, vu", "r@x.com"),
        ("", "s@x.com"),
    ]
    assert message["X-Raw"] == "caf\u00e9 \u2013 na\u00efve"
    assert message["X-Plain"] == "as is;  with  spaces"
    assert message["Bcc"] is None
    assert b"blind" not in sandbox.latest.raw
    assert sandbox.latest.raw.partition(b"\r\n\r\n")[0].isascii()
    assert message["Date"].datetime is not None
    assert message["Message-ID"]
    assert message.defects == []


def test_recipients_are_deliveries(sandbox, client):
    client.send(to="a@x.com, A <a@x.com>", cc="a@x.com", bcc="a@x.com, b@x.com")
    assert sandbox.latest.recipients == [
        ("to", "a@x.com"),
        ("to", "a@x.com"),
        ("cc", "a@x.com"),
        ("bcc", "a@x.com"),
        ("bcc", "b@x.com"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        "two\nlines\n",
        "cr\r\nlf\r\nmixed\nlone\rend",
        "trailing space \nand tab\t\n ",
        "\u00e9" * 500,
        "\u4e2d\u6587" * 500,
        "x" * 5000,
        ".\n.\nFrom me\n--=_sandbox_\n=3D = =0A",
    ],
)
def test_texts_arrive_exactly(sandbox, client, text):
    client.send(content=text, html_content=f"<p>{text}")
    message = sandbox.latest.message
    assert message.get_content_type() == "multipart/alternative"
    plain, html = message.iter_parts()
    assert plain.get_payload(decode=True).decode() == text
    assert html.get_payload(decode=True).decode() == f"<p>{text}"
    assert all(len(line) <= 998 for line in sandbox.latest.raw.split(b"\r\n"))


def test_random_texts_arrive_exactly(sandbox, client):
    letters = "ab =\n\r\t.\u00e9\U0001f600\x00"
    for _ in range(60):
        text = "".join(random.choices(letters, k=random.randrange(300)))
        client.send(content=text)
        assert sandbox.latest.message.get_payload(decode=True).decode() == text
        assert sandbox.latest.details.text == text


def test_attachments(sandbox, client):
    content = random.randbytes(10_000)
    client.send(
        content="x",
        attachments=[
            attachment(content, name='a "b" \\ c.bin', type="application/octet-stream"),
            attachment(b"", name="\u00fcber.txt", type="text/plain; charset=utf-8"),
            attachment(b"Subject: inner\n\nhello", name="m.eml", type="message/rfc822"),
        ],
    )
    message = sandbox.latest.message
    assert message.get_content_type() == "multipart/mixed"
    first, second, third = message.iter_attachments()
    assert first.get_content() == content
    assert first.get_filename() == 'a "b" \\ c.bin'
    assert second.get_filename() == "\u00fcber.txt"
    assert second.get_content() == ""
    assert third.get_content()["Subject"] == "inner"
    assert [info.name for info in sandbox.latest.details.files] == [
        'a "b" \\ c.bin',
        "\u00fcber.txt",
        "m.eml",
    ]


@pytest.mark.parametrize(
    ("reference", "shown"),
    [
        ("cid:logo@example.com", True),
        ("cid:logo", False),
        ("cid:logo@example.com.evil", False),
        ("cid:logo@example.org", False),
        ("cid:logo%40example.com", False),
    ],
)
def test_inline_pictures(sandbox, client, reference, shown):
    client.send(
        content="text",
        html_content=f'<img src="{reference}">',
        attachments=[
            attachment(PNG, name="logo.png", type="image/png", content_id="logo"),
            attachment(),
        ],
    )
    message = sandbox.latest.message
    body, *files = message.iter_parts()
    assert body.get_content_type() == "multipart/alternative"
    _, html = body.iter_parts()
    if shown:
        assert html.get_content_type() == "multipart/related"
        _, picture = html.iter_parts()
        assert picture["Content-ID"] == "<logo@example.com>"
        assert picture.get_content_disposition() == "inline"
        assert picture.get_content() == PNG
        assert [part.get_filename() for part in files] == ["a.txt"]
    else:
        assert html.get_content_type() == "text/html"
        assert [part.get_filename() for part in files] == ["logo.png", "a.txt"]
        assert all(part["Content-ID"] is None for part in files)


def test_mime_raw_is_delivered_as_given(sandbox, client):
    mime = "From: a@x.com\r\nSubject: =?utf-8?q?h=C3=A9?=\r\n\r\nraw \u00e9\r\n"
    client.send(mime_raw=mime, bcc="b@x.com")
    assert sandbox.latest.raw == mime.encode()
    assert sandbox.latest.message["Subject"] == "h\u00e9"
    assert [kind for kind, _ in sandbox.latest.recipients] == ["to", "bcc"]


def test_attached_messages_may_be_broken():
    raw = (
        b"From: a@x.com\nContent-Type: multipart/mixed; boundary=b\n\n"
        b"--b\nContent-Type: message/rfc822\n\nno header\n\n--b--\n"
    )
    assert rules.find_mime_problem(raw) == ""


def test_fields_contain_no_credentials(sandbox, client):
    client.send(1, subject="one")
    client.send(2, subject="two")
    for received in sandbox.messages:
        assert received.fields.keys() == {"from", "to", "subject"}
        assert "sandbox-password" not in repr(received)
        assert "sandbox-secret" not in repr(received)
