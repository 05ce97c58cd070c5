"""The .eml file of a message: its headers are those of the log."""

from __future__ import annotations

import base64
import email
import email.policy
from email.header import Header
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from django_turbosmtp.models import Message, Recipient
from django_turbosmtp.sandbox import Sandbox
from tests.log.test_detail import send
from tests.messages import new
from tests.worlds import WORLDS

pytestmark = [
    pytest.mark.django_db,
    # Writing headers does not depend on settings.
    pytest.mark.except_in(*WORLDS.keys() - {"plain"}),
]

#: Texts that would end a header, and begin others or a body.
INJECTION = "Hello\r\nBcc: evil@example.org\r\nX-Evil: 1\r\n\r\nEvil body"


def encode(text: str) -> str:
    return f"=?utf-8?b?{base64.b64encode(text.encode()).decode()}?="


HOSTILE = {
    "plain": INJECTION,
    "encoded": encode(INJECTION),
    "quoted": "=?utf-8?q?a=0D=0ABcc=3A_evil=40example=2Eorg=0D=0A=0D=0AEvil_body?=",
    "twice": encode(encode(INJECTION)),
    "four times": encode(encode(encode(encode(INJECTION)))),
    "in parts": "=?utf-8?q?a=0D=0AB?= =?utf-8?q?cc=3A_evil=40example.org?=",
    "by Python": Header(INJECTION.replace("\r\n", "\u2028"), "utf-8").encode(),
    "another charset": "=?utf-7?q?+AA0ACg-Bcc:_evil@example.org?=",
    "unknown charset": "=?evil?q?a=0ABcc:_evil@example.org?=",
    "cut": "=?utf-8?b?" + base64.b64encode(INJECTION.encode()).decode(),
    "separators": "a\x0bBcc: evil@example.org\x85X-Evil: 1\u2029b\x1cc",
    "folded": "a\n Bcc: evil@example.org",
    "NUL": "a\x00b\r\x00\nBcc: evil@example.org",
}
NAMES = [
    "Doe, Jane",
    "Jane: the boss;",
    "evil@example.org",
    "Jane <evil@example.org>",
    'Jane "JD" Doe',
    "Jane (evil@example.org)",
    "a\\b",
    "[Jane]",
    "Jäne, Döe",
    "日本; 太郎",
    "=?utf-8?q?Doe=2C_Jane?=",
    "undisclosed-recipients:;",
    "x" * 300,
    "Jane\u200bDoe",
]


def save(client: Client, row: Message) -> Any:
    answer = client.get(reverse("admin:turbosmtp_message_eml", args=[row.pk]))
    assert answer.status_code == 200
    return email.message_from_bytes(answer.content, policy=email.policy.default)


def list_names(mail: Any) -> set[str]:
    return {name.lower().removeprefix("x-turbosmtp-") for name in mail}


KNOWN = {"from", "to", "cc", "bcc", "subject", "date", "log", "x-own", "reply-to"}
KNOWN |= {"content-type", "content-transfer-encoding", "mime-version"}


@pytest.mark.parametrize("label", HOSTILE)
@pytest.mark.parametrize("field", ["subject", "from_email", "headers", "shown"])
def test_no_header_becomes_another(
    field: str, label: str, logged: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    row = send(new(body="The body", to=["jane@example.org"]))
    text = HOSTILE[label].replace("\0", "\u2400")
    if field == "shown":
        Recipient.objects.update(shown=f"{text} <jane@example.org>")
    else:
        value: Any = {"X-Own": text, "Reply-To": text} if field == "headers" else text
        Message.objects.update(**{field: value})
    mail = save(admin_client, row)
    assert list_names(mail) <= KNOWN
    assert mail["Bcc"] is None
    assert len(mail.get_all("Subject", [])) <= 1
    assert mail.get_content().strip() == "The body"
    for name in ("To", "Reply-To", "From"):
        for address in getattr(mail[name], "addresses", ()):
            assert address.addr_spec != "evil@example.org"
    if field == "subject":
        said = f"{mail['Subject'] or ''}{mail['X-Turbosmtp-Subject'] or ''}"
        assert said.strip()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["to", "cc", "bcc"])
def test_a_name_is_one_recipient(
    kind: str, name: str, logged: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    row = send(new(to=["joe@example.org"]))
    Recipient.objects.create(
        message=row,
        position=1,
        kind=kind,
        address="jane@example.org",
        shown=f"{name} <jane@example.org>",
    )
    mail = save(admin_client, row)
    found = [a for header in ("to", "cc", "bcc") for a in _read(mail, header)]
    assert [a.addr_spec for a in found] == ["joe@example.org", "jane@example.org"]
    expected = "Doe, Jane" if name.startswith("=?") else name
    assert found[1].display_name == expected
    assert list_names(mail) <= KNOWN


def _read(mail: Any, name: str) -> list[Any]:
    return list(mail[name].addresses) if mail[name] else []


@pytest.mark.parametrize("headers", [{}, {"Date": "Fri, 09 Nov 2001 01:08:47 -0000"}])
def test_reply_to(
    headers: dict[str, str], logged: Any, sandbox: Sandbox, admin_client: Client
) -> None:
    """Messages sent as JSON and as MIME."""
    message = new(reply_to=['"Help, please" <help@example.com>'], headers=headers)
    row = send(message)
    assert bool(row.why_mime) == bool(headers)
    [address] = _read(save(admin_client, row), "Reply-To")
    assert (address.display_name, address.addr_spec) == (
        "Help, please",
        "help@example.com",
    )
