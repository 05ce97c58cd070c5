"""Whole MIME messages for ``mime_raw``: built by Django, made fit for a JSON string.

Pure but for Django's own settings, which its ``message()`` reads.
"""

from __future__ import annotations

import contextlib
import email
import email.policy
import inspect
import io
import re
from email.generator import BytesGenerator
from functools import lru_cache
from typing import Any

from django.core.mail import EmailMessage, EmailMultiAlternatives

from django_turbosmtp._compat import MODERN_MIME
from django_turbosmtp.exceptions import MessageError

# Django's own steps of building a message, of 5.2 and of 6.x.
_STEPS = (
    "message",
    "_create_message",
    "_create_attachments",
    "_create_attachment",
    "_create_alternatives",
    "_create_mime_attachment",
    "_add_bodies",
    "_add_attachments",
    "_add_attachment",
    "_set_list_header_if_not_empty",
)

# ASCII only: a picky JSON or MIME reader on the way cannot spoil it.
_SEVEN_BIT = email.policy.SMTP.clone(cte_type="7bit", refold_source="none")

_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")

# What no header may hold. Our checks come before Django writes them; this one after.
_INJECTION = re.compile(rb"(?<!\r)\n|\r(?!\n)|\0|\n(?![ \t]|[!-9;-~]+:)")


def is_customised(message: Any) -> bool:
    """Tell whether the message builds its MIME in a way of its own."""
    if not isinstance(message, EmailMessage):
        return True
    cls: Any = type(message)
    return _class_is_customised(cls) or not vars(message).keys().isdisjoint(_STEPS)


@lru_cache(maxsize=256)
def _class_is_customised(cls: Any) -> bool:
    base = (
        EmailMultiAlternatives
        if issubclass(cls, EmailMultiAlternatives)
        else EmailMessage
    )
    return any(
        getattr(cls, step, None) is not getattr(base, step, None) for step in _STEPS
    )


def render(message: Any) -> str:
    """Return the whole message as Django's SMTP backend would transmit it.

    Lines end in CRLF. The text is ASCII, unless a signature forbids re-encoding an
    8-bit part. Raise `MessageError` where Django cannot build the message.
    """
    try:
        raw = _transmitted(message)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise MessageError(
            f"Django cannot build this message: {type(error).__name__}: {error}"
        ) from error
    if not raw.isascii():
        raw = _seven_bit(raw)
    if _INJECTION.search(raw.partition(b"\r\n\r\n")[0]):
        raise MessageError(
            "A header of this message holds a line break or a null character, perhaps"
            " in an encoded word. Remove it."
        )
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise MessageError(
            "The message has 8-bit parts that are not UTF-8 and, being signed or"
            " binary, may not be re-encoded; turboSMTP takes MIME as JSON text only."
            " Build it with a base64 or quoted-printable transfer encoding."
        ) from None


def _transmitted(message: Any) -> bytes:
    if not MODERN_MIME or not _takes_policy(message.message):
        return _as_bytes(message.message())
    if not is_customised(message):
        # Python writes UTF-16 and the like in 8 bits, which no line survives, and
        # cannot write an 8-bit message/rfc822 in 7.
        with contextlib.suppress(UnicodeError):
            return _as_bytes(message.message(policy=_SEVEN_BIT))
    return _as_bytes(message.message(policy=email.policy.SMTP))


def _takes_policy(function: Any) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == "policy" or p.kind is p.VAR_KEYWORD for p in parameters)


def _as_bytes(mime: Any) -> bytes:
    # Not mime.as_bytes(): its line ends depend on the class and the Django release.
    # A class that overrides it, as some signers' do, has a reason and is believed.
    own = type(mime).as_bytes
    if own.__module__ in {"email.message", "django.core.mail.message"}:
        buffer = io.BytesIO()
        policy = mime.policy.clone(linesep="\r\n")
        BytesGenerator(buffer, mangle_from_=False, policy=policy).flatten(mime)
        return buffer.getvalue()
    raw: bytes = mime.as_bytes()
    return _BARE_LINE_FEED.sub(b"\r\n", raw)


def _seven_bit(raw: bytes) -> bytes:
    mime = email.message_from_bytes(raw, policy=_SEVEN_BIT)
    if "DKIM-Signature" in mime or any(
        part.get_content_type() == "multipart/signed" for part in mime.walk()
    ):
        return raw
    try:
        return mime.as_bytes()
    except UnicodeError:  # an 8-bit part that names no charset, or a wrong one
        return raw


def subject_of(raw: str) -> str:
    """Return the decoded Subject of a MIME message, "" where there is none."""
    head = raw.partition("\r\n\r\n")[0]
    parsed = email.message_from_string(head, policy=email.policy.default)
    return str(parsed.get("Subject", ""))


def replace_headers(raw: str, headers: dict[str, str]) -> str:
    """Return the MIME with these headers in place of its own; "" removes one."""
    head, separator, body = raw.partition("\r\n\r\n")
    unfolded: list[str] = []
    for line in head.split("\r\n"):
        if line[:1] in {" ", "\t"} and unfolded:
            unfolded[-1] += f"\r\n{line}"
        else:
            unfolded.append(line)
    names = {name.lower() for name in headers}
    kept = [h for h in unfolded if h.partition(":")[0].strip().lower() not in names]
    added = [f"{name}: {value}" for name, value in headers.items() if value]
    return "\r\n".join([*added, *kept]) + separator + body
