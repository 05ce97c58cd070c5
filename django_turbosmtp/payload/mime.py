"""Builds MIME messages for ``mime_raw`` with Django, and encodes them for JSON.

Pure, except that Django's ``message()`` reads settings.
"""

from __future__ import annotations

import copy
import email
import email.errors
import email.policy
import inspect
import re
from email.utils import formatdate, make_msgid
from typing import TYPE_CHECKING, Any

from django.core.mail import DNS_NAME, EmailMessage

from django_turbosmtp._lib.text import HeaderInjection
from django_turbosmtp._lib.versions import MESSAGE_STEPS, MODERN_MIME, BadHeaderError
from django_turbosmtp.exceptions import MessageError
from django_turbosmtp.payload.contents import are_djangos_own
from django_turbosmtp.payload.envelope import Envelope, join
from django_turbosmtp.payload.header_values import fold
from django_turbosmtp.payload.headers import needs_mime
from django_turbosmtp.payload.sevenbit import SEVEN_BIT, encode_seven_bit, flatten
from django_turbosmtp.statuses import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from django_turbosmtp.payload.addresses import Mailbox
    from django_turbosmtp.payload.headers import Headers

_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")

_BLIND = {"bcc", "resent-bcc"}

#: The recipients of a forwarded ("resent") message (RFC 5322, 3.6.6).
_RESENT = {"resent-to", "resent-cc"}

#: Python folds longer words inside; a line must not be longer (RFC 5322, 2.1.1).
_MAX_WORD, _MAX_LINE = 60, 900

#: The headers that Django sets.
_OF_DJANGO = {
    *("from", "to", "cc", "reply-to", "subject", "date", "message-id"),
    *("mime-version", "content-type", "content-transfer-encoding"),
}

# Not allowed in headers; checked after Django has written them.
_INJECTION = re.compile(rb"(?<!\r)\n|\r(?!\n)|\0|\n(?![ \t]|[!-9;-~]+:)")


def is_customised(message: Any) -> bool:
    """Return whether the message overrides how Django builds its MIME."""
    if not isinstance(message, EmailMessage):
        return True
    if not vars(message).keys().isdisjoint(MESSAGE_STEPS):
        return True
    cls = type(message)
    # Do not cache it: a method of Django's class may be replaced while the site runs.
    return not are_djangos_own(*[getattr(cls, step, None) for step in MESSAGE_STEPS])


def render(
    message: Any, headers: Headers, envelope: Envelope, *, customised: bool
) -> str:
    """Return the whole message as Django's SMTP backend would transmit it.

    It has ``headers``, and shows the recipients of ``envelope`` if the envelope was
    changed. ``customised``: the result of `is_customised`. Lines end in CRLF. The text
    is ASCII, unless a signature forbids re-encoding an 8-bit part. Raise `MessageError`
    if Django cannot build the message.
    """
    wanted = headers.as_mime_headers()
    raw = _render_shown(message, wanted, envelope, customised=customised)
    names = {name for name, _ in _split_headers(raw)[0]}
    # All recipients would see these headers.
    hidden = _BLIND | _RESENT if envelope.changed else _BLIND
    if names & hidden:
        raw = _replace_headers(raw, dict.fromkeys(hidden, ""))
    if not customised and (
        odd := names - _OF_DJANGO - {name.lower() for name in wanted}
    ):
        raise MessageError(
            f"The message would get a header that was not set ({odd.pop()!r}): one of"
            " its headers has a hidden line break. Remove it."
        )
    if MODERN_MIME and not customised:
        raw = _restore_long_words(raw, wanted)
    return raw


def _restore_long_words(raw: str, headers: Mapping[str, Any]) -> str:
    """Return the MIME with long ids and URLs unencoded.

    Python writes words that are longer than a line as encoded words of RFC 2047.
    """
    long = {
        name: fold(value, used=len(name) + 2)
        for name, value in headers.items()
        if isinstance(value, str)
        and _MAX_WORD < max(map(len, value.split()), default=0) < _MAX_LINE
        and not needs_mime(value)
        and name.lower() not in _OF_DJANGO
    }
    return _replace_headers(raw, long) if long else raw


def _render_shown(
    message: Any, headers: Mapping[str, Any], envelope: Envelope, *, customised: bool
) -> str:
    own = getattr(message, "extra_headers", None)
    if own is None or (dict(own.items()) == headers and not envelope.changed):
        return _write(message, customised=customised)
    clone = copy.copy(message)
    clone.extra_headers = dict(headers)
    if not envelope.changed:
        return _write(clone, customised=customised)
    shown = {"To": envelope.list_kind(Kind.TO), "Cc": envelope.list_kind(Kind.CC)}
    for name, mailboxes in shown.items():
        clone.extra_headers.pop(name, None)
        setattr(clone, name.lower(), [str(mailbox) for mailbox in mailboxes])
    clone.bcc = []
    raw = _write(clone, customised=customised)
    if customised:
        # The header may show addresses that are not in these lists.
        raw = show_recipients(raw, *shown.values())
    return raw


def _write(message: Any, *, customised: bool) -> str:
    try:
        raw = _build(message, customised=customised)
    except (
        *(ValueError, TypeError, AttributeError, LookupError),
        email.errors.MessageError,
    ) as error:
        # Contact forms catch Django's BadHeaderError, which Django 6 no longer has.
        is_injection = not MODERN_MIME and isinstance(error, BadHeaderError)
        raise (HeaderInjection if is_injection else MessageError)(
            f"Django cannot build this message: {type(error).__name__}: {error}"
        ) from error
    if not raw.isascii():
        raw = encode_seven_bit(raw)
    if _INJECTION.search(raw.partition(b"\r\n\r\n")[0]):
        raise HeaderInjection(
            "A header of this message contains a line break or a null character,"
            " perhaps in an encoded word. Remove it."
        )
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise MessageError(
            "The message has 8-bit parts that are not UTF-8, and that cannot be"
            " re-encoded because they are signed or binary; turboSMTP accepts MIME as"
            " JSON text only. Build it with the transfer encoding base64 or"
            " quoted-printable."
        ) from None


def _build(message: Any, *, customised: bool) -> bytes:
    if not MODERN_MIME or not _takes_policy(message.message):
        return _flatten(message.message())
    # Python writes UTF-16 in 8 bits, and its line breaks would be changed.
    policy = email.policy.SMTP if customised else SEVEN_BIT
    return _flatten(message.message(policy=policy))


def _takes_policy(function: Any) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == "policy" or p.kind is p.VAR_KEYWORD for p in parameters)


def _flatten(mime: Any) -> bytes:
    # mime.as_bytes() is not used: its line ends depend on class and Django release.
    # But if a class overrides it, as some signing libraries do, use its method.
    own = type(mime).as_bytes
    if own.__module__ in {"email.message", "django.core.mail.message"}:
        # Keep 8-bit parts: Python would re-encode them by their charset.
        policy = mime.policy.clone(linesep="\r\n", cte_type="8bit")
        return flatten(mime, policy)
    raw: bytes = mime.as_bytes()
    return _BARE_LINE_FEED.sub(b"\r\n", raw)


def show_recipients(raw: str, to: Sequence[Mailbox], cc: Sequence[Mailbox]) -> str:
    """Return the MIME with these recipients in To and Cc; [] removes the header."""
    lists = {"To": to, "Cc": cc}
    shown = {name: join(boxes).replace(", ", ",\r\n ") for name, boxes in lists.items()}
    return _replace_headers(raw, shown | dict.fromkeys(_RESENT, ""))


def renew(raw: str, *, keeps_id: bool) -> str:
    """Return the MIME with a new Date and, unless ``keeps_id``, a new Message-ID.

    Mail programs and servers hide a second message with the same id.
    """
    headers = {"Date": formatdate()}
    if not keeps_id:
        headers["Message-ID"] = make_msgid(domain=str(DNS_NAME))
    return _replace_headers(raw, headers)


def read_subject(raw: str) -> str:
    """Return the decoded Subject of a MIME message, "" if it has none."""
    head = raw.partition("\r\n\r\n")[0]
    parsed = email.message_from_string(head, policy=email.policy.default)
    return str(parsed.get("Subject", ""))


def _replace_headers(raw: str, headers: Mapping[str, str]) -> str:
    """Return the MIME with these headers replaced; "" removes one."""
    fields, body = _split_headers(raw)
    names = {name.lower() for name in headers}
    kept = [field for name, field in fields if name not in names]
    added = [f"{name}: {value}" for name, value in headers.items() if value]
    return "\r\n".join([*added, *kept]) + body


def _split_headers(raw: str) -> tuple[list[tuple[str, str]], str]:
    """Return the headers (name in lower case, lines), and the rest of the message."""
    head, separator, body = raw.partition("\r\n\r\n")
    unfolded: list[str] = []
    for line in head.split("\r\n"):
        if line[:1] in {" ", "\t"} and unfolded:
            unfolded[-1] += f"\r\n{line}"
        else:
            unfolded.append(line)
    fields = [(field.partition(":")[0].strip().lower(), field) for field in unfolded]
    return fields, separator + body
