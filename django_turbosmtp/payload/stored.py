"""Reads and writes the stored form of a request: versioned JSON. Pure.

Version 1 is ``{"version": 1, "ignore_suppressions": false, "fields": {...}}``, with the
wire fields of the message's first request as turboSMTP receives them. A payload that
was stored before there were versions has only the fields.
"""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django_turbosmtp.payload.attachments import WireAttachment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Increase this if an earlier release would misread what is written now.
VERSION: Final = 1

_TEXTS = frozenset(
    {
        *("from", "to", "cc", "bcc", "subject", "content", "html_content"),
        *("mime_raw", "reference_id", "X-campaign-ID"),
    }
)


class UnreadablePayloadError(ValueError):
    """A stored payload cannot be read. The text has the reason, never the content."""


class NewerPayloadError(UnreadablePayloadError):
    """A newer release stored the payload, and may have changed what a field means."""


@dataclass(kw_only=True, slots=True)
class StoredPayload:
    """A payload as it was read. ``fields``: as `RequestFields` has them."""

    fields: dict[str, Any]
    ignore_suppressions: bool = False


@dataclass(kw_only=True, slots=True)
class PayloadToStore:
    """The stored form of a request, in pieces; each iteration yields all of them.

    ``fields``: the JSON object that turboSMTP receives, in pieces.
    """

    fields: Iterable[bytes]
    ignore_suppressions: bool = False

    def __iter__(self) -> Iterator[bytes]:
        flag = "true" if self.ignore_suppressions else "false"
        head = f'{{"version":{VERSION},"ignore_suppressions":{flag},"fields":'
        yield head.encode()
        yield from self.fields
        yield b"}"


def read_raw_fields(data: bytes) -> dict[str, Any]:
    """Return the wire fields as JSON, attachments in base64.

    Raise `UnreadablePayloadError`.
    """
    return _read(data)[0]


def read_payload(data: bytes) -> StoredPayload:
    """Return a stored payload. Raise `UnreadablePayloadError`."""
    fields, ignore_suppressions = _read(data)
    for name in _TEXTS & fields.keys():
        if not isinstance(fields[name], str):
            raise UnreadablePayloadError(f"{name} is a {type(fields[name]).__name__}.")
    headers = fields.get("custom_headers", {})
    if not isinstance(headers, dict):
        raise UnreadablePayloadError(f"custom_headers is a {type(headers).__name__}.")
    # "to" is missing if its only address was erased while others wait.
    if "from" not in fields:
        raise UnreadablePayloadError("from is missing.")
    if "attachments" in fields:
        fields["attachments"] = _read_attachments(fields["attachments"])
    return StoredPayload(fields=fields, ignore_suppressions=ignore_suppressions)


def _read(data: bytes) -> tuple[dict[str, Any], bool]:
    if not data:
        raise UnreadablePayloadError("There is none.")
    try:
        stored = json.loads(data)
    except ValueError:
        # Do not show the text of the error, which may contain the content.
        raise UnreadablePayloadError("It is not JSON.") from None
    if not isinstance(stored, dict):
        raise UnreadablePayloadError(f"It is a {type(stored).__name__}.")
    if "version" not in stored:
        return stored, False
    version, fields = stored["version"], stored.get("fields")
    if not isinstance(version, int):
        raise UnreadablePayloadError(f"version is a {type(version).__name__}.")
    if version > VERSION:
        raise NewerPayloadError(f"Version {version} is newer than {VERSION}.")
    if not isinstance(fields, dict):
        raise UnreadablePayloadError(f"fields is a {type(fields).__name__}.")
    return fields, stored.get("ignore_suppressions") is True


def _read_attachments(stored: Any) -> list[WireAttachment]:
    try:
        return [
            WireAttachment(
                name=part["name"],
                type=part["type"],
                content=b64decode(part["content"], validate=True),
                content_id=part.get("content_id", ""),
            )
            for part in stored
        ]
    except (TypeError, LookupError, AttributeError, Base64Error) as error:
        raise UnreadablePayloadError(
            f"attachments cannot be read ({type(error).__name__})."
        ) from None


def drop_recipients(fields: dict[str, Any], addresses: Iterable[str]) -> dict[str, Any]:
    """Return address fields without these addresses (in lower case).

    If ``to`` becomes empty, it has the addresses of ``cc``, as in a new message that
    has only copies.
    """
    dropped = set(addresses)
    kept = dict(fields)
    for name in ("to", "cc", "bcc"):
        # No mailbox contains a comma (docs/wire.rst, quirk 1).
        entries = [entry.strip() for entry in fields.get(name, "").split(",")]
        left = [e for e in entries if e and read_address(e).lower() not in dropped]
        kept.pop(name, None)
        if left:
            kept[name] = ", ".join(left)
    if "to" not in kept and "cc" in kept:
        kept["to"] = kept.pop("cc")
    return kept


def drop_from_payload(data: bytes, addresses: Iterable[str]) -> bytes:
    """Return a stored payload without these addresses (see `drop_recipients`).

    Raise `UnreadablePayloadError`.
    """
    fields, ignore_suppressions = _read(data)
    stored = {
        "version": VERSION,
        "ignore_suppressions": ignore_suppressions,
        "fields": drop_recipients(fields, addresses),
    }
    return json.dumps(stored, ensure_ascii=False).encode()


def read_address(entry: str) -> str:
    """Return the address of one entry of an address field."""
    _, bracket, rest = entry.rpartition("<")
    return rest.removesuffix(">") if bracket else entry
