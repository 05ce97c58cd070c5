"""No content of a message becomes another header, part or recipient."""

from __future__ import annotations

import email
from email import policy
from email.message import EmailMessage as PythonMessage
from email.mime.base import MIMEBase
from typing import Any

import pytest
from django.core.mail import EmailMessage

from django_turbosmtp._lib.text import refuse_header_injection
from django_turbosmtp._lib.versions import BadHeaderError
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.exceptions import InvalidAddress, MessageError, UnsupportedFeature
from django_turbosmtp.sandbox import Sandbox
from tests.messages import new

HIDDEN = {
    "after a word that cannot be decoded": (
        "Re: =?utf-8?b?A?= =?utf-8?q?x=0D=0ABcc:_evil@x.com?="
    ),
    "after a word of no charset": "=?nonsense?q?a?= =?utf-8?q?x=0ABcc:_evil@x.com?=",
    "inside a broken one": "=?utf-8?b?!!=?utf-8?q?x=0ABcc:_evil@x.com?=",
    "base64 without its end": "=?utf-8?b?YQpCY2M6IGV2aWxAeC5jb20?=",
    "base64 with blanks": "=?utf-8?b?YQpC Y2M6IGV2aWxAeC5jb20=?=",
    "UTF-7": "=?utf-7?q?a+AAo-Bcc:_evil@x.com?=",
    "in capitals": "=?UTF-8?Q?x=0aBcc:_evil@x.com?=",
    "with a language": "=?utf-8*en?q?x=0ABcc:_evil@x.com?=",
    "null": "=?utf-8?q?x=00y?=",
    "a word in a word": "=?utf-8?q?=3D=3Futf-8=3Fq=3Fx=3D0AB=3F=3D?=",
}
HARMLESS = [
    "=?utf-8?q?caf=C3=A9?= time",
    "=?utf-8?b?w6k=?=",
    "=?x-unknown?q?y?= z",
    "a =? b ?= c",
    "=?utf-8?b?A?=",
    "100 % = ok?=",
]


@pytest.mark.parametrize("label", HIDDEN)
@pytest.mark.parametrize("where", ["subject", "header", "reply-to header", "cc"])
def test_a_hidden_line_break(
    label: str, where: str, project: Any, sandbox: Sandbox
) -> None:
    text = HIDDEN[label]
    message = {
        "subject": lambda: new(subject=text),
        "header": lambda: new(headers={"X-A": text}),
        "reply-to header": lambda: new(headers={"Reply-To": f"{text} <a@x.org>"}),
        "cc": lambda: new(cc=[f"{text} <a@x.org>"]),
    }[where]()
    try:
        EmailBackend().send_messages([message])
    except MessageError:
        assert sandbox.requests == []
        return
    # If it is sent, it is sent as text.
    for received in sandbox.messages:
        names = {name.lower() for name in received.message}
        assert "bcc" not in names
        assert not any(name.startswith("evil") for name in names)
        assert "evil@x.com" not in [address for _, address in received.recipients]
        assert "\n" not in received.fields.get("subject", "")


@pytest.mark.parametrize("label", HIDDEN)
def test_subjects_and_headers_are_refused(label: str) -> None:
    with pytest.raises(MessageError, match="inject"):
        refuse_header_injection(HIDDEN[label], "subject")


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_encoded_words_are_accepted(text: str) -> None:
    refuse_header_injection(text, "subject")


def test_many_incomplete_encoded_words_are_fast() -> None:
    import time

    started = time.process_time()
    refuse_header_injection("=?utf-8?q?" * 20_000, "headers['X-A']")
    refuse_header_injection("=?" * 100_000, "headers['X-A']")
    assert time.process_time() - started < 5


def part_with(header: str, value: str) -> MIMEBase:
    part = MIMEBase("application", "zip")
    part.set_payload("x")
    part._headers.append((header, value))  # type: ignore[attr-defined]
    return part


BREAKS = "a\r\n\r\nX-Evil: 1"
PARTS: dict[str, Any] = {
    "name": (BREAKS, b"x", "application/zip"),
    "type": ("a.zip", b"x", f"application/zip; x={BREAKS}"),
    "name of text": (BREAKS, "x", "text/plain"),
    "name of a message": (BREAKS, "x", "message/rfc822"),
    "own header": part_with("X-A", BREAKS),
    "content id": part_with("Content-ID", f"<{BREAKS}>"),
    "disposition": part_with("Content-Disposition", f'inline; filename="{BREAKS}"'),
    "encoded name": part_with(
        "Content-Disposition", 'attachment; filename="=?utf-8?q?x=0AX-Evil:_1?="'
    ),
    "name by RFC 2231": part_with(
        "Content-Disposition", "attachment; filename*=utf-8''a%0D%0AX-Evil%3A1"
    ),
}


@pytest.mark.parametrize("mime", [False, True], ids=["fields", "MIME"])
@pytest.mark.parametrize("label", PARTS)
def test_a_line_break_in_an_attachment(
    label: str, mime: bool, project: Any, sandbox: Sandbox
) -> None:
    headers = {"Message-ID": "<a@x.org>"} if mime else {}
    message = new(headers=headers)
    message.attachments.append(PARTS[label])
    with pytest.raises(MessageError, match="inject"):
        EmailBackend().send_messages([message])
    assert sandbox.requests == []


@pytest.mark.filterwarnings("ignore:MIMEBase attachments are deprecated")
def test_a_folded_header_of_a_part_is_accepted(project: Any, sandbox: Sandbox) -> None:
    message = new(attachments=[part_with("X-A", "a\r\n b")])
    assert EmailBackend().send_messages([message]) == 1


class Own(EmailMessage):
    """Builds custom MIME, with headers that must not be visible."""

    shown: tuple[tuple[str, str], ...] = ()

    def message(self, **kwargs: Any) -> Any:
        made = PythonMessage()
        made["From"] = "shop@example.com"
        made["Subject"] = "S"
        for name, value in self.shown:
            made[name] = value
        made.set_content("Body")
        return made


@pytest.mark.parametrize("name", ["Bcc", "BCC", "Resent-Bcc"])
def test_bcc_headers_of_custom_mime_do_not_arrive(
    name: str, project: Any, sandbox: Sandbox
) -> None:
    message = Own("S", "B", "shop@example.com", [], bcc=["a@x.org", "b@x.org"])
    message.shown = (("To", "list@x.org"), (name, "a@x.org, b@x.org"))
    assert EmailBackend().send_messages([message]) == 1
    assert len(sandbox.messages) == 2
    for received in sandbox.messages:
        mail = email.message_from_bytes(received.raw, policy=policy.default)
        assert mail["To"] == "list@x.org"
        assert "a@x.org" not in str(mail)
        assert "Body" in str(mail)


@pytest.mark.parametrize("name", ["bcc", "Resent-Bcc"])
def test_a_bcc_header_is_refused(name: str, project: Any, sandbox: Sandbox) -> None:
    with pytest.raises(UnsupportedFeature, match="Bcc recipients"):
        EmailBackend().send_messages([new(headers={name: "a@x.org"})])


# --- The guard ---


@pytest.mark.parametrize(
    "guard",
    [["friend.org"], {"redirect": "dev@friend.org"}],
    ids=["list", "redirect"],
)
@pytest.mark.parametrize(
    "build",
    [
        lambda: new(to=["dev@friend.org"], headers={"To": "customer@prod.com"}),
        lambda: new(to=["dev@friend.org"], headers={"Cc": "customer@prod.com"}),
        lambda: new(to=["dev@friend.org", "customer@prod.com"]),
        lambda: new(to=["dev@friend.org"], bcc=["customer@prod.com"]),
        lambda: own_message(("Cc", "customer@prod.com")),
        lambda: own_message(("To", "customer@prod.com")),
        lambda: own_message(("Bcc", "customer@prod.com")),
        lambda: own_message(("Resent-To", "customer@prod.com")),
        lambda: new(to=["dev@friend.org"], headers={"Resent-Cc": "customer@prod.com"}),
    ],
    ids=[
        "To header",
        "Cc header",
        "to",
        "bcc",
        "own Cc",
        "own To",
        "own Bcc",
        "own Resent-To",
        "Resent-Cc",
    ],
)
def test_recipients_left_out_by_the_guard_are_not_shown(
    build: Any, guard: Any, project: Any, sandbox: Sandbox
) -> None:
    EmailBackend(recipient_guard=guard).send_messages([build()])
    [received] = sandbox.messages
    assert [address for _, address in received.recipients] == ["dev@friend.org"]
    assert b"customer@prod.com" not in received.raw
    assert "customer@prod.com" not in str(received.fields)


def own_message(*shown: tuple[str, str]) -> Own:
    message = Own("S", "B", "shop@example.com", ["dev@friend.org"])
    message.shown = shown
    return message


@pytest.mark.parametrize("entry", ["jane@bücher.de", "bücher.de", "@Bücher.DE"])
def test_a_guard_with_non_ascii_domains(
    entry: str, project: Any, sandbox: Sandbox
) -> None:
    EmailBackend(recipient_guard=[entry]).send_messages([new(to=["Jane@bücher.de"])])
    assert [m.recipients for m in sandbox.messages] == [
        [("to", "Jane@xn--bcher-kva.de")]
    ]


STANDS_FOR = "\uff1e\uff1c\uff20\uff0c\uff1b\uff02\u3000\u00a0"


@pytest.mark.parametrize("character", STANDS_FOR)
@pytest.mark.parametrize("field", ["to", "cc", "bcc", "from_email", "reply_to"])
def test_a_domain_that_becomes_another_address(
    character: str, field: str, project: Any, sandbox: Sandbox
) -> None:
    address = f"a@prod.com{character}x.allowed.com"
    value = address if field == "from_email" else [address]
    message = new(**{field: value})
    if field == "reply_to":
        # Django may change the displayed name, but there is only one address.
        try:
            EmailBackend().send_messages([message])
        except MessageError:
            assert sandbox.requests == []
        return
    with pytest.raises(InvalidAddress):
        EmailBackend().send_messages([message])
    assert sandbox.requests == []


BREAKS: dict[str, dict[str, Any]] = {
    "subject": {"subject": "a\nb"},
    "from": {"from_email": "A\nB <a@b.org>"},
    "to": {"to": ["a@b.org\nBcc: x@y.org"]},
    "reply-to": {"reply_to": ["a@b.org\nBcc: x@y.org"]},
    "reply-to name": {"reply_to": ["A\nB <a@b.org>"]},
    "reply-to end": {"reply_to": ["a@b.org\n"]},
    "header": {"headers": {"X-A": "a\nb"}},
    "reply-to header": {"headers": {"Reply-To": "a@b.org\nX: y"}},
}


@pytest.mark.parametrize("api_version", [1, 2])
@pytest.mark.parametrize("mime", [False, True], ids=["fields", "MIME"])
@pytest.mark.parametrize("label", BREAKS)
def test_contact_forms_catch_what_django_raises(
    label: str, mime: bool, project: Any, sandbox: Sandbox
) -> None:
    """BadHeaderError on Django 5.2; Django 6 advises to catch ValueError instead."""
    message = new(**BREAKS[label])
    if mime:
        message.attach_alternative("BEGIN:VCALENDAR", "text/calendar")
    with pytest.raises(BadHeaderError):
        EmailBackend().send_messages([message])
    assert sandbox.requests == []
