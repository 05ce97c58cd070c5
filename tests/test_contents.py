"""Types of content in messages, and replaced methods of message classes."""

from __future__ import annotations

import array
import email
import email.header
import io
import itertools
import mmap
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.http import HttpResponse
from django.utils.functional import SimpleLazyObject, lazy

from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.exceptions import MessageError
from django_turbosmtp.sandbox import Sandbox
from tests.messages import new


def attach(content: Any, mimetype: str = "application/pdf") -> EmailMessage:
    message = new()
    message.attach("a.bin", content, mimetype)
    return message


def with_html(content: Any) -> EmailMessage:
    message = EmailMultiAlternatives("S", "B", "a@x.org", ["b@x.org"])
    message.attach_alternative(content, "text/html")
    return message


def with_attribute(name: str, value: Any) -> EmailMessage:
    message = new()
    setattr(message, name, value)
    return message


UNREADABLE: dict[str, tuple[Callable[[], EmailMessage], str]] = {
    **{
        f"attached {type(content).__name__} as {mimetype}": (
            lambda content=content, mimetype=mimetype: attach(content, mimetype),  # type: ignore[misc]
            f"attachment 'a.bin' is of type {type(content).__name__}, not text or",
        )
        for content in [
            io.BytesIO(b"x"),
            io.StringIO("x"),
            Path(__file__),
            SimpleUploadedFile("a.pdf", b"x"),
            HttpResponse("x"),
            {"a": 1},
            [1],
            5,
            EmailMessage("not as message/rfc822"),
        ]
        for mimetype in ["application/pdf", "text/plain"]
    },
    "HTML": (lambda: with_html(HttpResponse("x")), "alternative of type text/html is"),
    "HTML file": (lambda: with_html(io.BytesIO(b"x")), "text/html is of type BytesIO"),
    "body": (lambda: with_attribute("body", HttpResponse("x")), "^body is of type"),
    "number": (lambda: with_attribute("body", 5), "^body is of type int"),
    "subject": (lambda: with_attribute("subject", b"x"), "^subject is of type bytes"),
    "subject, list": (lambda: with_attribute("subject", ["x"]), "is of type list"),
    "header": (lambda: new(headers={"X-A": io.BytesIO()}), r"headers\['X-A'\] is of"),
}


@pytest.mark.parametrize("label", UNREADABLE)
def test_unreadable_content_is_refused(
    label: str, project: Any, sandbox: Sandbox
) -> None:
    build, text = UNREADABLE[label]
    with pytest.raises(MessageError, match=text):
        EmailBackend().send_messages([build()])
    assert sandbox.requests == []


def map_file(content: bytes) -> mmap.mmap:
    mapped = mmap.mmap(-1, len(content))
    mapped.write(content)
    return mapped


BYTES_LIKE: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "memoryview of every other": lambda b: memoryview(
        bytes(itertools.chain.from_iterable((x, 0) for x in b))
    )[::2],
    "mmap": map_file,
    "array": lambda b: array.array("B", b),
    "array of 16 bits": lambda b: array.array("H", b),
}


@pytest.mark.parametrize("mimetype", ["application/pdf", "text/plain"])
@pytest.mark.parametrize("content", [b"plain ..", "größe…!".encode(), b"\x80\xff 8 "])
@pytest.mark.parametrize("label", BYTES_LIKE)
def test_bytes_like(
    label: str, content: bytes, mimetype: str, project: Any, sandbox: Sandbox
) -> None:
    content = content[: len(content) // 2 * 2]
    given = BYTES_LIKE[label](content)
    EmailBackend().send_messages([attach(given, mimetype)])

    [*_, part] = email.message_from_bytes(sandbox.messages[0].raw).walk()
    arrived = part.get_payload(decode=True)
    assert isinstance(arrived, bytes)
    # Python appends a line break to a text.
    assert arrived.removesuffix(b"\r\n") == content
    as_text = mimetype == "text/plain" and content[:1] != b"\x80"
    assert (part.get_content_maintype() == "text") == as_text
    if label == "mmap":
        given.close()  # No reference exists.


def test_subjects_of_other_types(project: Any, sandbox: Sandbox) -> None:
    for subject in (42, ValueError("wrong"), None):
        EmailBackend().send_messages([with_attribute("subject", subject)])
    assert [m.fields.get("subject") for m in sandbox.messages] == ["42", "wrong", ""]


# --- Attached messages in 8 bits ---

LATIN, UTF8 = "größe\r\n".encode("latin-1"), "größe €\r\n".encode()


def inner(charset: str | None, body: bytes, encoding: str = "8bit") -> bytes:
    named = f"; charset={charset}" if charset else ""
    return (
        "From: i@x.org\r\nTo: j@x.org\r\nSubject: inner\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: text/plain{named}\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    ).encode() + body


def enclose(content_type: str, *parts: bytes) -> bytes:
    head = f"Subject: outer\r\nMIME-Version: 1.0\r\nContent-Type: {content_type}"
    if content_type.startswith("message/"):
        return f"{head}\r\n\r\n".encode() + parts[0]
    body = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts)
    return f'{head}; boundary="x"\r\n\r\n'.encode() + body + b"--x--\r\n"


EIGHT_BIT = {
    "as it says": inner("iso-8859-1", LATIN),
    "UTF-8": inner("utf-8", UTF8),
    "another charset than it says": inner("utf-8", LATIN),
    "UTF-8 said to be ASCII": inner("us-ascii", UTF8),
    "no charset": inner(None, LATIN),
    "unknown charset": inner("x-unknown", LATIN),
    "unknown charset, quoted": inner('"klingon 8"', UTF8),
    "said to be 7bit": inner("iso-8859-1", LATIN, "7bit"),
    "binary": inner("utf-8", LATIN, "binary"),
    "unknown encoding": inner("utf-8", LATIN, "8bits"),
    "no MIME": b"From: i@x.org\r\nSubject: inner\r\n\r\n" + LATIN,
    "line feeds": inner("x", LATIN).replace(b"\r\n", b"\n"),
    "parts": enclose("multipart/mixed", inner("x", LATIN), inner(None, UTF8)),
    "in a message": enclose("message/rfc822", inner("x", LATIN)),
    "bytes of every kind": inner("x", bytes(range(128, 256)) + b"\r\n"),
    "quoted-printable": inner("utf-8", b"gr=F6=DFe\r\n", "quoted-printable"),
}


def read_leaves(message: Message[str, str]) -> list[tuple[Any, ...]]:
    leaves: list[tuple[Any, ...]] = []
    for part in message.walk():
        if not part.is_multipart():
            payload = part.get_payload(decode=True)
            assert isinstance(payload, bytes)
            text = payload.replace(b"\r\n", b"\n").strip()
            leaves.append((part.get_content_type(), part.get_param("charset"), text))
    return leaves


@pytest.mark.parametrize("parsed", [False, True])
@pytest.mark.parametrize("label", EIGHT_BIT)
def test_bytes_of_an_attached_message_arrive(
    label: str, parsed: bool, project: Any, sandbox: Sandbox
) -> None:
    raw = EIGHT_BIT[label]
    original = email.message_from_bytes(raw)
    EmailBackend().send_messages(
        [attach(original if parsed else raw, "message/rfc822")]
    )

    received = sandbox.messages[0].raw
    assert received.isascii()
    assert read_leaves(email.message_from_bytes(received))[1:] == read_leaves(original)


def test_headers_of_an_attached_message(project: Any, sandbox: Sandbox) -> None:
    raw = inner("utf-8", UTF8).replace(b"inner", "größer".encode())
    EmailBackend().send_messages([attach(raw, "message/rfc822")])
    [_, _, _, message, *_] = email.message_from_bytes(sandbox.messages[0].raw).walk()
    [(words, _)] = email.header.decode_header(message["Subject"])
    assert words == "größer".encode()


def test_a_signed_message_becomes_a_file(project: Any, sandbox: Sandbox) -> None:
    """Its bytes must not change, and JSON cannot contain 8-bit bytes."""
    signature = b"Content-Type: application/pgp-signature\r\n\r\nabc"
    raw = enclose("multipart/signed", inner("iso-8859-1", LATIN), signature)
    EmailBackend().send_messages([attach(raw, "message/rfc822")])
    [*_, part] = email.message_from_bytes(sandbox.messages[0].raw).walk()
    assert part.get_content_type() == "application/octet-stream"
    assert part.get_filename() == "a.bin"
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert raw.partition(b"--x")[2].strip() in payload


# --- Replaced methods, and values that change between two readings ---


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
    """Replaces a method of Django's class, as other packages do."""
    return lambda name, function: monkeypatch.setattr(EmailMessage, name, function)


def test_replaced_message_method(replaced: Any, project: Any, sandbox: Sandbox) -> None:
    EmailBackend().send_messages([new()])  # The previous state is not cached.
    original = EmailMessage.message

    def stamp(self: EmailMessage, *args: Any, **kwargs: Any) -> Any:
        mime = original(self, *args, **kwargs)
        mime["X-Stamp"] = "stamped"
        return mime

    stamp.__module__, stamp.__qualname__ = original.__module__, original.__qualname__
    replaced("message", stamp)
    EmailBackend().send_messages([new()])
    assert [b"X-Stamp" in m.raw for m in sandbox.messages] == [False, True]


@pytest.mark.parametrize("where", ["class", "instance"])
def test_recipients(where: str, replaced: Any, project: Any, sandbox: Sandbox) -> None:
    def recipients(self: EmailMessage) -> list[str]:
        return ["other@x.org"]

    message = new()
    if where == "class":
        replaced("recipients", recipients)
    else:
        vars(message)["recipients"] = MethodType(recipients, message)
    EmailBackend().send_messages([message])
    [received] = sandbox.messages
    assert [address for _, address in received.recipients] == ["other@x.org"]


class Changing(EmailMessage):
    """Has another recipient, sender and subject at each reading."""

    numbers = itertools.count()

    @property
    def to(self) -> Any:
        return [f"{next(self.numbers)}@x.org"]

    @to.setter
    def to(self, value: Any) -> None: ...

    @property
    def subject(self) -> Any:
        return f"Number {next(self.numbers)}"

    @subject.setter
    def subject(self, value: Any) -> None: ...


def changing_items() -> EmailMessage:
    numbers = itertools.count()
    number = lazy(lambda: f"{next(numbers)}@x.org", str)
    message = new(to=[number()], cc=[number()])
    message.from_email, message.subject = number(), number()  # type: ignore[assignment]
    return message


def changing_list() -> EmailMessage:
    numbers = itertools.count()
    to = lazy(lambda: [f"{next(numbers)}@x.org"], list)()
    return with_attribute("to", to)


@pytest.mark.parametrize("as_mime", [False, True])
@pytest.mark.parametrize(
    "build", [lambda: Changing("S", "B", "a@x.org"), changing_items, changing_list]
)
def test_values_that_change_between_two_readings(
    build: Callable[[], EmailMessage], as_mime: bool, project: Any, sandbox: Sandbox
) -> None:
    message = build()
    if as_mime:
        message.extra_headers = {"Message-ID": "<1@x.org>"}
    EmailBackend().send_messages([message])
    [received] = sandbox.messages
    assert ("mime_raw" in received.fields) == as_mime
    shown = email.message_from_bytes(received.raw)
    envelope = [address for _, address in received.recipients]
    assert [shown["To"], *filter(None, [shown["Cc"]])] == envelope
    assert received.fields["from"] == shown["From"]
    assert received.fields["subject"] == shown["Subject"]
    assert type(message) in {Changing, EmailMessage, EmailMultiAlternatives}


def test_proxies_of_strings(project: Any, sandbox: Sandbox) -> None:
    message = new(to=[SimpleLazyObject(lambda: "a@x.org")])
    assert EmailBackend().send_messages([message]) == 1
