"""Custom headers, tags and attributes: machine-readable values are not changed."""

from __future__ import annotations

import email
import email.header
from collections.abc import Mapping
from typing import Any

import pytest
from anymail.message import AnymailMessage
from django.core.mail import EmailMessage
from django.http import QueryDict
from django.utils.datastructures import CaseInsensitiveMapping, MultiValueDict
from requests.structures import CaseInsensitiveDict

from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.exceptions import MessageError
from django_turbosmtp.sandbox import Sandbox
from tests.messages import new


def build(headers: Any, as_mime: bool) -> EmailMessage:
    message = new(headers=headers)
    if as_mime:
        # Fields have no charset, so the whole message is sent as MIME.
        message.attach("a.txt", "größe", "text/plain")
    return message


def send(sandbox: Sandbox, headers: Any, as_mime: bool) -> email.message.Message:
    EmailBackend().send_messages([build(headers, as_mime)])
    received = sandbox.messages[-1]
    assert ("mime_raw" in received.fields) == as_mime
    return email.message_from_bytes(received.raw)


def unfold(value: Any) -> str:
    return "".join(str(value).splitlines()).strip()


def decode(value: Any) -> str:
    return str(email.header.make_header(email.header.decode_header(unfold(value))))


URL = f"<https://example.com/u/{'x' * 120}?a=1&b=2>"
#: The value, and the parts that must be unchanged.
STRUCTURED = {
    "List-Id": ("Büro Köln <buero.example.com>", "<buero.example.com>"),
    "List-ID": ('"Büro, Köln" <buero.example.com>', "<buero.example.com>"),
    "List-Unsubscribe": (f"{URL}, <mailto:u@x.org> (für alle)", f"{URL}, <mailto:u@"),
    "List-Help": ("(Hilfe für Sie) <https://x.org/h>", "<https://x.org/h>"),
    "List-Archive": ("<https://bücher.de/ä?q=ö>", "<https://xn--bcher-kva.de/%C3%A4?"),
    "List-Post": ("<mailto:büro@x.org>", "<mailto:b%C3%BCro@x.org>"),
    "List-Owner": ("Jörg <mailto:j@x.org>", "<mailto:j@x.org>"),
    "Disposition-Notification-To": ("Jörg <j@x.org>, a@x.org", "<j@x.org>, a@x.org"),
    "Return-Receipt-To": ('"Müller, Jörg" <j@bücher.de>', "<j@xn--bcher-kva.de>"),
    "Errors-To": ("jörg <j@x.org>", "<j@x.org>"),
    "X-Confirm-Reading-To": ("Jörg <j@x.org>", "<j@x.org>"),
    "References": ("<1@x.org> (für) <2@x.org>", "<2@x.org>"),
    "X-Ticket": ("Größe <4711@x.org>", "<4711@x.org>"),
    "X-Link": ("siehe https://x.org/p?id=5 für mehr", "https://x.org/p?id=5"),
    "X-Page": ("https://x.org/größe", "https://x.org/gr%C3%B6%C3%9Fe"),
}


@pytest.mark.parametrize("as_mime", [False, True])
@pytest.mark.parametrize("name", STRUCTURED)
def test_only_words_are_encoded(
    name: str, as_mime: bool, project: Any, sandbox: Sandbox
) -> None:
    value, kept = STRUCTURED[name]
    shown = unfold(send(sandbox, {name: value}, as_mime)[name])
    assert shown.isascii()
    assert kept in shown
    assert kept in decode(shown)


@pytest.mark.parametrize("as_mime", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        "Grüße an alle",
        "alle Grüße",
        "Grüße  für   ganz Köln",
        "ä" * 200,
        "Müller, Schmidt & Söhne (GmbH)",
        "日本語 の ヘッダー",
    ],
)
def test_encoded_words_decode_to_the_original(
    value: str, as_mime: bool, project: Any, sandbox: Sandbox
) -> None:
    shown = send(sandbox, {"X-Words": value}, as_mime)["X-Words"]
    assert unfold(shown).isascii()
    assert decode(shown) == value


LONG = {
    "List-Unsubscribe": f"{URL}, <mailto:u@x.org?subject={'y' * 90}>",
    "References": " ".join(f"<{n}{'r' * 70}@x.org>" for n in range(3)),
    "X-Token": "t" * 300,
    "X-Words": "word " * 30 + "t" * 100,
}


@pytest.mark.parametrize("as_mime", [False, True])
@pytest.mark.parametrize("name", LONG)
def test_values_longer_than_a_line(
    name: str, as_mime: bool, project: Any, sandbox: Sandbox
) -> None:
    """Python 3.12 and later would write it as encoded words."""
    assert unfold(send(sandbox, {name: LONG[name]}, as_mime)[name]) == LONG[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [("List-Id", "x <ö@ä..de>"), ("X-Confirm", "<jörg@x.org>")],
)
def test_values_without_an_ascii_form(
    name: str, value: str, project: Any, sandbox: Sandbox
) -> None:
    with pytest.raises(MessageError, match=rf"headers\['{name}'\]: .* ASCII"):
        EmailBackend().send_messages([new(headers={name: value})])


KINDS: dict[str, tuple[Any, dict[str, str]]] = {
    "QueryDict": (QueryDict("X-A=1&X-A=2&X-B=3"), {"X-A": "2", "X-B": "3"}),
    "MultiValueDict": (MultiValueDict({"X-A": ["1", "2"]}), {"X-A": "2"}),
    "CaseInsensitiveMapping": (CaseInsensitiveMapping({"x-a": "1"}), {"X-A": "1"}),
    "of any casing": (
        CaseInsensitiveDict({"to": "Shown <s@x.org>", "reply-to": "r@x.org"}),
        {"To": "Shown <s@x.org>", "Reply-To": "r@x.org"},
    ),
    "sender of any casing": (
        CaseInsensitiveDict({"from": "Shop <shop@example.com>"}),
        {"From": "Shop <shop@example.com>"},
    ),
}


@pytest.mark.parametrize("as_mime", [False, True])
@pytest.mark.parametrize("label", KINDS)
def test_other_kinds_of_dict(
    label: str, as_mime: bool, project: Any, sandbox: Sandbox
) -> None:
    headers, expected = KINDS[label]
    EmailBackend().send_messages([build(headers, as_mime)])
    raw = email.message_from_bytes(sandbox.messages[0].raw)
    shown: Mapping[str, Any] = {name: raw[name] for name in expected}
    assert shown == expected


# --- Tags and references ---

JOINED = ["می\u200cخواهم", "👨\u200d👩\u200d👧", "a\u00a0b", "a\u3000b", "\u202bעברית"]
BROKEN = ["a\nb", "a\rb", "a\x00b", "a\x1bb", "a\x85b", "a\u2028b", "a\u2029b", "a\tb"]


@pytest.mark.parametrize("value", JOINED, ids=ascii)
def test_joiners_are_accepted(value: str, project: Any, sandbox: Sandbox) -> None:
    message: Any = new()
    message.tags, message.reference_id = [value], value
    EmailBackend().send_messages([message])
    [received] = sandbox.messages
    assert received.fields["X-campaign-ID"] == value
    assert received.fields["reference_id"] == value


@pytest.mark.parametrize("name", ["tags", "reference_id"])
@pytest.mark.parametrize("value", BROKEN, ids=ascii)
def test_line_separators_are_refused(
    value: str, name: str, project: Any, sandbox: Sandbox
) -> None:
    message = new()
    setattr(message, name, [value] if name == "tags" else value)
    with pytest.raises(MessageError, match=f"^{name}: .*control character"):
        EmailBackend().send_messages([message])


# --- Attributes that have no effect ---


def test_anymail_s_message_with_nothing_set(project: Any, sandbox: Sandbox) -> None:
    message = AnymailMessage("S", "B", "a@x.org", ["b@x.org"])
    assert EmailBackend().send_messages([message]) == 1
    tagged = AnymailMessage("S", "B", "a@x.org", ["b@x.org"], tags=["x"], metadata={})
    assert EmailBackend().send_messages([tagged]) == 1
    assert [m.fields.get("X-campaign-ID") for m in sandbox.messages] == [None, "x"]


EMPTY: dict[str, Any] = {
    "merge_data": {},
    "merge_global_data": {},
    "merge_headers": {},
    "merge_metadata": {},
    "template_id": "",
    "track_opens": False,
    "track_clicks": False,
    "send_at": None,
    "envelope_sender": "",
    "tags": None,
    "metadata": {},
    "esp_extra": None,
    "reference_id": "",
}


@pytest.mark.parametrize("name", EMPTY)
def test_empty_attributes(name: str, project: Any, sandbox: Sandbox) -> None:
    message: EmailMessage = new()
    setattr(message, name, EMPTY[name])
    assert EmailBackend().send_messages([message]) == 1


@pytest.mark.parametrize("picture_in_it", [False, True], ids=["fields", "mime"])
def test_a_header_whose_value_is_none_is_left_out(
    picture_in_it: bool, project: Any, sandbox: Sandbox
) -> None:
    """As in django-helpdesk."""
    project.TURBOSMTP |= {"SEND_DEFAULTS": {"headers": {"X-Default": "default"}}}
    message = new(headers={"In-Reply-To": None, "X-Own": "own", "X-Default": None})
    if picture_in_it:
        message.attach_alternative("BEGIN:VCALENDAR", "text/calendar")
    EmailBackend().send_messages([message])
    arrived = sandbox.latest.message  # type: ignore[union-attr]
    assert arrived["X-Own"] == "own"
    assert "In-Reply-To" not in arrived
    assert "X-Default" not in arrived
    assert message.extra_headers["In-Reply-To"] is None
