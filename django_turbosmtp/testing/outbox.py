"""The outbox: assertions about sent messages, and errors for the next ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.core import mail

from django_turbosmtp.exceptions import MessageError
from django_turbosmtp.payload.addresses import parse
from django_turbosmtp.testing.outcomes import FAILURES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django_turbosmtp.exceptions import TurboSMTPError


class Outbox:
    """The accepted messages, and the errors of the next requests."""

    @property
    def messages(self) -> list[Any]:
        """The accepted messages, in order: ``django.core.mail.outbox``."""
        found: list[Any] = mail.outbox
        return found

    def clear(self) -> None:
        """Delete the messages, and the errors of the next requests."""
        mail.outbox.clear()
        FAILURES.clear()

    def fail_next(
        self, error: TurboSMTPError, *, to: str | None = None, times: int | None = 1
    ) -> None:
        """Raise ``error`` for the next request, or for ``times`` of them (None: all).

        ``to``: only for requests with this recipient.
        """
        FAILURES.add(error, to, times)

    def assert_sent(self, **expected: Any) -> Any:
        """Return the newest message that matches, or raise AssertionError.

        The error lists the sent messages. ``to``, ``cc``, ``bcc``: an address, or
        several, which must all be in the list. ``subject``, ``from_email``: the whole
        text, or a compiled pattern to search. ``body``, ``html``: a part of the text,
        or such a pattern. ``attachment``: a file name. ``tag``: one of the tags.
        """
        unknown = expected.keys() - _CHECKS.keys()
        if unknown:
            known = ", ".join(_CHECKS)
            raise TypeError(
                f"assert_sent() has no argument {unknown.pop()!r}; it has {known}."
            )
        # The newest first: a test usually checks the message that it has just sent.
        for message in reversed(self.messages):
            if all(_CHECKS[name](message, value) for name, value in expected.items()):
                return message
        wanted = ", ".join(f"{name}={value!r}" for name, value in expected.items())
        text = f"with {wanted} " if wanted else ""
        raise AssertionError(f"No message {text}was sent. {self._list()}")

    def assert_count(self, number: int) -> None:
        """Raise AssertionError unless this number of messages was sent."""
        found = len(self.messages)
        if found != number:
            raise AssertionError(f"{number} expected, {found} sent. {self._list()}")

    def assert_nothing_sent(self) -> None:
        """Raise AssertionError if any message was sent."""
        self.assert_count(0)

    def _list(self) -> str:
        if not self.messages:
            return "The outbox is empty."
        lines = [
            f"  {number}. {_describe(message)}"
            for number, message in enumerate(self.messages, 1)
        ]
        return "\n".join(["Sent messages:", *lines])


def _describe(message: Any) -> str:
    parts = [
        f"{name}={list(addresses)!r}"
        for name in ("to", "cc", "bcc")
        if (addresses := getattr(message, name, None))
    ]
    parts.append(f"subject={str(message.subject)!r}")
    if names := _list_names(message):
        parts.append(f"attachments={names!r}")
    return " ".join(parts)


def _list_names(message: Any) -> list[str]:
    names = []
    for attachment in message.attachments:
        named = getattr(attachment, "get_filename", None)
        names.append(str((named() if named else attachment[0]) or ""))
    return names


def _read_address(text: Any) -> str:
    try:
        return parse(str(text), "address").addr_spec.lower()
    except MessageError:
        return str(text).lower()


def _has_addresses(found: Iterable[Any], wanted: Any) -> bool:
    each = [wanted] if isinstance(wanted, str) else wanted
    known = {_read_address(address) for address in found or ()}
    return all(_read_address(address) in known for address in each)


def _is_text(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, re.Pattern):
        return wanted.search(str(found)) is not None
    return str(found) == str(wanted)


def _has_text(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, re.Pattern):
        return wanted.search(str(found)) is not None
    return str(wanted) in str(found)


def _read_html(message: Any) -> str:
    if message.content_subtype == "html":
        return str(message.body)
    for alternative in getattr(message, "alternatives", None) or ():
        content, mimetype = tuple(alternative)[:2]
        if mimetype == "text/html":
            return str(content)
    return ""


_CHECKS: dict[str, Any] = {
    "to": lambda message, wanted: _has_addresses(message.to, wanted),
    "cc": lambda message, wanted: _has_addresses(message.cc, wanted),
    "bcc": lambda message, wanted: _has_addresses(message.bcc, wanted),
    "from_email": lambda message, wanted: _is_text(message.from_email, wanted),
    "subject": lambda message, wanted: _is_text(message.subject, wanted),
    "body": lambda message, wanted: _has_text(message.body, wanted),
    "html": lambda message, wanted: _has_text(_read_html(message), wanted),
    "attachment": lambda message, wanted: wanted in _list_names(message),
    "tag": lambda message, wanted: wanted in (getattr(message, "tags", None) or ()),
}
