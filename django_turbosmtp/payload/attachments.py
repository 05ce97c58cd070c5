"""Translates attachments to turboSMTP's field, or reports why that is not exact.

Pure. The bytes of an attachment are not copied: they are read when the request is sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import TYPE_CHECKING, Any

from django_turbosmtp._lib.interrupts import raise_interrupt
from django_turbosmtp._lib.text import encode_utf8, refuse_header_injection, shorten
from django_turbosmtp.payload.contents import read_attachment
from django_turbosmtp.payload.inline import (
    choose_bare_ids,
    find_mentioned,
    find_referenced,
    rename_references,
)
from django_turbosmtp.payload.wire import NotExact

if TYPE_CHECKING:
    from collections.abc import Iterable

_SIMPLE_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+")
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_PART_HEADERS = {
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
    "content-id",
    "mime-version",
}


@dataclass(frozen=True, kw_only=True)
class WireAttachment:
    """One attachment. ``content``: bytes-like. ``content_id``: bare, or ""."""

    name: str
    type: str
    content: bytes | bytearray | memoryview
    content_id: str = ""


def refuse_injection(attachments: Iterable[Any]) -> None:
    """Raise `MessageError` for an attachment that would become more than one part.

    A line break in its name, type or Content-ID would end the header, and Django's
    releases handle that differently.
    """
    for attachment in attachments:
        if isinstance(attachment, Message):
            # Nested parts, too: all of them are in the MIME that is sent.
            for part in attachment.walk():
                _refuse_injection_in_part(part)
        else:
            name, _, mimetype = read_attachment(attachment)
            for what, value in (("name", name), ("type", mimetype)):
                text = "" if value is None else str(value)
                refuse_header_injection(text, f"attachment {what} {shorten(text)!r}")


def _refuse_injection_in_part(part: Message[Any, Any]) -> None:
    for name, value in part.raw_items():
        # A header may be folded; then the next line begins with white space.
        text = _FOLD.sub(" ", str(value))
        refuse_header_injection(f"{name}: {text}", f"an attachment's {shorten(name)!r}")
    try:
        shown = part.get_filename() or ""
    except Exception as error:  # noqa: BLE001 - Python's parser fails: no program reads it
        raise_interrupt(error)
        shown = ""
    refuse_header_injection(shown, "an attachment's file name")


def translate_attachments(
    attachments: Iterable[Any], html: str | None, domain: str
) -> tuple[list[WireAttachment], str | None]:
    """Return the attachments as fields, and the HTML that refers to them.

    Raise `NotExact` if the field cannot express one of them, and `MessageError` for a
    name that would inject a header.
    """
    parts = [_translate(attachment) for attachment in attachments]
    cids = [part.content_id for part in parts if part.content_id]
    if not cids:
        return parts, html
    # A reference would be ambiguous.
    if len(set(cids)) < len(cids):
        raise NotExact("two parts have the same Content-ID")
    referenced = find_referenced(html or "")
    if not set(cids) <= referenced:
        raise NotExact("a part has a Content-ID that the HTML does not refer to")
    # Rewriting the id would change a visible text, or break the link.
    if find_mentioned(html or "") & set(cids):
        raise NotExact("a Content-ID in a link or in the text")
    # It is not documented how turboSMTP compares the reference with the domain.
    if domain != domain.lower():
        raise NotExact("inline pictures, and capitals in the sender's domain")
    bare = choose_bare_ids(cids, domain, avoid=referenced - set(cids))
    html = rename_references(
        html or "", {cid: f"{name}@{domain}" for cid, name in bare.items()}
    )
    return [
        replace(part, content_id=bare.get(part.content_id, "")) for part in parts
    ], html


def _translate(attachment: Any) -> WireAttachment:
    if isinstance(attachment, Message):
        part = _translate_mime(attachment)
    else:
        part = _translate_tuple(*attachment)
    if not part.name:
        raise NotExact("an attachment without a name")
    refuse_header_injection(part.name, f"attachment name {part.name!r}")
    if not part.name.isprintable():
        raise NotExact("an attachment's name has control characters")
    # The documentation does not state whether content may be empty.
    if not len(part.content):
        raise NotExact("an empty attachment")
    return part


def _translate_tuple(
    filename: Any, content: Any, mimetype: Any = None
) -> WireAttachment:
    if not isinstance(mimetype, str) or not _SIMPLE_TYPE.fullmatch(mimetype):
        raise NotExact(f"an attachment of type {mimetype!r}")
    maintype = mimetype.partition("/")[0].lower()
    # Base64 is not allowed for these (RFC 2046, 5.2.1), so turboSMTP could not attach
    # them.
    if maintype in {"message", "multipart"}:
        raise NotExact(f"an attachment of type {mimetype!r}")
    if isinstance(content, memoryview):
        # len() of a memoryview counts its items, which may be larger than a byte.
        content = content.cast("B") if content.contiguous else bytes(content)
    elif not isinstance(content, (bytes, bytearray)):
        content = encode_utf8(str(content), f"attachment {filename!r}")
    if maintype == "text" and not bytes(content).isascii():
        # The field has no charset, and mail programs would have to guess it.
        raise NotExact("a text attachment that needs a charset")
    return WireAttachment(name=_text(filename), type=mimetype, content=content)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _translate_mime(part: Message[Any, Any]) -> WireAttachment:
    mimetype = part.get_content_type()
    if part.is_multipart() or mimetype.startswith(("text/", "message/", "multipart/")):
        raise NotExact(f"a MIME part of type {mimetype!r}")
    if not {name.lower() for name in part} <= _PART_HEADERS:
        raise NotExact("a MIME part with additional headers")
    _refuse_parameters(part, "content-type", {"name"})
    _refuse_parameters(part, "content-disposition", {"filename"})
    name = _text(part.get_filename())
    # Programs prefer one of the two names, but not the same one.
    other_name = part.get_param("name")
    if "=?" in name or (other_name and collapse_rfc2231_value(other_name) != name):
        raise NotExact("a MIME part with an ambiguous name")
    cid = _text(part["content-id"]).strip().removeprefix("<").removesuffix(">")
    disposition = part.get_content_disposition()
    wanted = {"inline", None} if cid else {"attachment"}
    if disposition not in wanted:
        raise NotExact(f"a MIME part with the disposition {disposition!r}")
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        raise NotExact("a MIME part without content")
    return WireAttachment(name=name, type=mimetype, content=content, content_id=cid)


def _refuse_parameters(part: Message[Any, Any], header: str, known: set[str]) -> None:
    parameters = part.get_params(header=header) or []
    if not {name.lower() for name, _ in parameters[1:]} <= known:
        raise NotExact(f"a MIME part with parameters in its {header}")
