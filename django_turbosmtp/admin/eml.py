"""One message of the log as a file that mail programs open (RFC 5322).

The log also stores invalid messages that could not be sent. So each header is written,
parsed again and compared: its text must not become another header, another recipient
or a body.
"""

from __future__ import annotations

import email.message
import email.policy
import re
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from django_turbosmtp._lib.interrupts import raise_as_it_was, raise_interrupt
from django_turbosmtp._lib.loggers import get_logger
from django_turbosmtp._lib.times import make_aware
from django_turbosmtp.delivery.stored import read_mailbox
from django_turbosmtp.exceptions import MessageError
from django_turbosmtp.log.files import read_bytes
from django_turbosmtp.log.querysets import read_payload, read_related
from django_turbosmtp.models import Content
from django_turbosmtp.payload.addresses import Mailbox, parse_list
from django_turbosmtp.payload.stored import (
    UnreadablePayloadError,
    read_raw_fields,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django_turbosmtp.models import Attachment, Message

logger = get_logger("django_turbosmtp.admin")

#: A token (RFC 5322, "field-name"; RFC 2045, "token") without separators.
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ADDRESS_HEADERS = ("from", "sender", "reply-to", "to", "cc", "bcc")


@raise_as_it_was
def build_eml(message: Message) -> bytes | None:
    """Return a message in the form of RFC 5322; None if its body is not stored.

    If the payload of a message that was sent as MIME is stored, return that MIME. Other
    messages are rebuilt from the log; a header reports that, and which attachments are
    missing.
    """
    content = Content.objects.using(message._state.db).filter(pk=message.pk).first()
    if content is None:
        return None
    if message.why_mime and (mime := _read_mime(message)):
        return mime
    built = email.message.EmailMessage(policy=email.policy.SMTP)
    for name, value in _list_headers(message):
        _set_header(built, name, value)
    # A message without a body still has a text part, because Django sends one.
    if content.text or not content.html:
        built.set_content(content.text)
        if content.html:
            built.add_alternative(content.html, subtype="html")
    else:
        built.set_content(content.html, subtype="html")
    missing = [
        attachment.name or attachment.type
        for attachment in read_related(message.attachments).select_related("stored")
        if not _attach(built, attachment)
    ]
    note = _("Rebuilt from the log: not byte for byte what was sent.")
    if missing:
        lost = _("Attachments not stored: %s") % ", ".join(missing)
        note = f"{note} {lost}"
    _set_header(built, "X-Turbosmtp-Log", note)
    return built.as_bytes()


def _read_mime(message: Message) -> bytes | None:
    try:
        return str(read_raw_fields(read_payload(message))["mime_raw"]).encode()
    except (UnreadablePayloadError, LookupError):
        return None


def _list_headers(message: Message) -> Iterator[tuple[str, str | list[Mailbox]]]:
    """Yield the name and the value of each header: a text, or mailboxes."""
    # The caller's headers replace those of the same name, as they do in Django.
    own = {str(name): str(value) for name, value in message.headers.items()}
    replaced = {name.lower() for name in own}
    lists: dict[str, list[Mailbox]] = {"to": [], "cc": [], "bcc": []}
    for recipient in read_related(message.recipients).order_by("position"):
        lists[recipient.kind].append(read_mailbox(recipient))
    headers: dict[str, str | list[Mailbox]] = {
        "From": message.from_email,
        **{kind.capitalize(): found for kind, found in lists.items()},
        "Subject": message.subject,
        "Date": format_datetime(make_aware(message.created_at)),
    }
    for name, value in headers.items():
        if value and name.lower() not in replaced:
            yield name, value
    yield from own.items()


def _set_header(
    built: email.message.EmailMessage, name: str, value: str | list[Mailbox]
) -> None:
    """Set a header; if its value cannot be written exactly, under another name.

    Headers of the message's MIME structure are not changed.
    """
    if not _NAME.fullmatch(name):
        return
    # The message's own Content-Type would contradict the parts that are built here.
    is_of_structure = name.lower().startswith(("content-", "mime-version"))
    if not is_of_structure and name not in built:
        written = _write_addresses(name, value)
        if written is not None and _survives(name, written):
            built[name] = written
            return
    text = value if isinstance(value, str) else ", ".join(map(str, value))
    text = _flatten(text)
    other = f"X-Turbosmtp-{name}"
    if text and other not in built and _survives(other, text):
        built[other] = text


def _write_addresses(
    name: str, value: str | list[Mailbox]
) -> str | Sequence[Address] | None:
    """Return the value of a header in Python's form; None if it has none."""
    if name.lower() not in _ADDRESS_HEADERS:
        return _flatten(str(value)) or None
    try:
        if isinstance(value, str):
            value = parse_list(value, name)
        return [
            Address(_flatten(mailbox.name), addr_spec=mailbox.addr_spec)
            for mailbox in value
        ]
    except Exception as error:  # noqa: BLE001 - Python's parsers raise of any kind
        raise_interrupt(error)
        return None


def _survives(name: str, value: str | Sequence[Address]) -> bool:
    """Return whether a header is the same after it is written and parsed again."""
    probe = email.message.EmailMessage(policy=email.policy.SMTP)
    try:
        probe[name] = value
        written = probe.as_bytes()
        parsed = email.message_from_bytes(written, policy=email.policy.default)
        body = parsed.get_payload()
        if [n.lower() for n in parsed] != [name.lower()] or body:
            return False
        return bool(_read_header(parsed[name]) == _read_value(value))
    except Exception as error:  # noqa: BLE001 - Python's parsers raise of any kind
        raise_interrupt(error)
        return False


def _read_header(header: Any) -> Any:
    addresses = getattr(header, "addresses", None)
    if addresses is not None:
        return [(found.display_name, found.addr_spec) for found in addresses]
    return " ".join(str(header).split())


def _read_value(value: str | Sequence[Address]) -> Any:
    if isinstance(value, str):
        return value
    return [(found.display_name, found.addr_spec) for found in value]


def _flatten(text: str) -> str:
    """Return a text on one line, with its encoded words decoded.

    Python decodes them when it writes a header, and a line break in one would begin
    another header. Encoded words may be nested, so each layer is decoded.
    """
    for _round in range(5):
        decoded = _decode_words(text)
        if decoded == text:
            break
        text = decoded
    else:
        text = text.replace("=?", "= ?")
    # The log may contain unpaired surrogates in headers of refused messages.
    text = text.encode("utf-8", "replace").decode()
    return " ".join(_CONTROLS.sub(" ", text).split())


def _decode_words(text: str) -> str:
    if "=?" not in text:
        return text
    try:
        return str(make_header(decode_header(text)))
    except (ValueError, LookupError, MessageError):
        return text.replace("=?", "= ?")


def _attach(built: email.message.EmailMessage, attachment: Attachment) -> bool:
    """Attach the bytes of an attachment; return whether they are stored."""
    data = read_bytes(attachment.stored) if attachment.stored else None
    if data is None:
        return False
    kind, _slash, subtype = attachment.type.partition(";")[0].strip().partition("/")
    # Python parses message/* and builds multipart/* itself, which would change the
    # bytes.
    is_plain = _NAME.fullmatch(kind) and _NAME.fullmatch(subtype)
    if not is_plain or kind in {"message", "multipart"}:
        kind, subtype = "application", "octet-stream"
    built.add_attachment(
        data, maintype=kind, subtype=subtype, filename=_flatten(attachment.name) or None
    )
    return True
