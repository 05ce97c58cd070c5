"""Every hard message arrives as Django's own SMTP backend would have delivered it."""

from __future__ import annotations

import copy
import inspect
from email.policy import SMTP
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.core.mail.backends.smtp import EmailBackend as SMTPBackend

from django_turbosmtp._lib.versions import MODERN_MIME
from django_turbosmtp.backends import EmailBackend
from django_turbosmtp.sandbox import Received, Sandbox
from tests.messages import MESSAGES
from tests.reading import OF_THE_WAY, read

OWN = tuple(OF_THE_WAY - {"content-type", "content-transfer-encoding", "mime-version"})


def by_smtp(message: EmailMessage) -> tuple[set[str], bytes]:
    """Return the recipients and the mail that Django's SMTP backend sends."""
    if MODERN_MIME:
        backend = SMTPBackend.__new__(SMTPBackend)
        # Django 6 refuses an unquoted full stop in a name; this package accepts it.
        everybody = {
            backend.prep_address(str(a).replace("Q.", "Q").replace("Dr.", "Dr"))
            for a in message.recipients()
        }
        takes = inspect.signature(message.message).parameters
        mime = message.message(**({"policy": SMTP} if takes else {}))
        return everybody, mime.as_bytes()
    from django.core.mail.message import sanitize_address

    everybody = {
        sanitize_address(a, "utf-8").rpartition("<")[2].rstrip(">")
        for a in message.recipients()
    }
    return everybody, message.message().as_bytes()


def snapshot(message: EmailMessage) -> dict[str, Any]:
    return {
        name: copy.copy(value)
        for name, value in vars(message).items()
        if name != "turbosmtp_status"
    }


def arrived(received: list[Received]) -> tuple[list[str], bytes]:
    """Return all recipients, and the mail, which is the same for all."""
    mails = {r.raw for r in received}
    if received[0].fields.get("mime_raw"):
        assert len(mails) == 1
    return [address for r in received for _, address in r.recipients], received[0].raw


@pytest.mark.parametrize("api_version", [2, 1])
@pytest.mark.parametrize("name", MESSAGES)
def test_arrives_as_with_smtp(
    name: str, api_version: int, project: Any, sandbox: Sandbox
) -> None:
    message = MESSAGES[name]()
    expected_to, expected = by_smtp(message)
    before = snapshot(message)

    assert EmailBackend().send_messages([message]) == 1

    recipients, raw = arrived(sandbox.messages)
    assert len(recipients) == len(set(recipients)), "somebody got it twice"
    assert {r.lower() for r in recipients} == {r.lower() for r in expected_to}
    own = {str(header).lower() for header in message.extra_headers} & set(OWN)
    own -= {"from", "to", "cc", "reply-to"}
    seen = read(raw, own_headers=tuple(own))
    assert seen == read(expected, own_headers=tuple(own))
    assert seen["twice"] == (["x-shop"] if name == "two spellings" else [])
    assert snapshot(message) == before
    assert message.turbosmtp_status.outcome == "accepted"


def test_fields_are_used_if_they_are_exact(project: Any, sandbox: Sandbox) -> None:
    went_as_mime = set()
    for name, build in MESSAGES.items():
        EmailBackend().send_messages([build()])
        if "mime_raw" in sandbox.messages[-1].fields:
            went_as_mime.add(name)

    exact = {
        name
        for name in MESSAGES
        if name in {"text", "html", "html only", "html by subtype", "unicode", "lazy"}
        or name.startswith(
            ("to ", "cc ", "bcc ", "reply-to ", "from ", "custom", "idn")
        )
        or (name.startswith("inline ") and name not in NEEDS_MIME)
        or name in {"attached bytes", "attached text", "attached non-ASCII name"}
        or name in {"same names", "several", "hundreds", "same in to and bcc"}
    }
    # Composers may split a long name into encoded words at different places.
    exact -= {name for name in exact if name.endswith(" long") and name != "bcc long"}
    assert (exact - NEEDS_MIME) & went_as_mime == set()
    assert went_as_mime >= NEEDS_MIME & MESSAGES.keys()


NEEDS_MIME = {
    "only Bcc",
    "cc header",
    "charset koi8-r",
    "comment",
    "only Cc",
    "date",
    "from header, other address",
    "html and calendar",
    "inline one of two",
    "inline text and link",
    "reply-to header, empty",
    "inline unreferenced",
    "inline, id twice",
    "message-id",
    "rfc822 text",
    "same in to and cc",
    "signed",
    "to header",
    "to header, group",
    "two html",
}
