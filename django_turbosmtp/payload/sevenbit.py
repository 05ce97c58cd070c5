"""Encodes MIME in seven bits, so that a JSON string can transport it. Pure.

Python re-encodes an 8-bit part using its charset, and loses letters if the charset is
wrong, missing or unknown. Here the bytes are kept.
"""

from __future__ import annotations

import email
import email.policy
import io
from base64 import encodebytes
from email.generator import BytesGenerator
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from email.message import Message

_Part: TypeAlias = "Message[Any, Any]"

# ASCII only, so that no JSON or MIME parser can damage it.
SEVEN_BIT = email.policy.SMTP.clone(cte_type="7bit", refold_source="none")
# For parts that are ASCII already, or must not be changed.
_AS_IT_IS = SEVEN_BIT.clone(cte_type="8bit")
_REFOLDING = email.policy.SMTP.clone(refold_source="all")


def encode_seven_bit(raw: bytes) -> bytes:
    """Return a MIME message in ASCII, or unchanged if a signature would break.

    An attached message that is signed becomes a file with the same bytes.
    """
    mime = email.message_from_bytes(raw)
    if "DKIM-Signature" in mime or _is_signed(mime):
        return raw
    _encode(mime)
    return _flatten(mime)


def _encode(part: _Part) -> None:
    _encode_headers(part)
    if not part.is_multipart():
        _encode_leaf(part)
        return
    inner: list[_Part] = part.get_payload()  # type: ignore[assignment]
    if part.get_content_maintype() == "message" and any(map(_breaks_if_encoded, inner)):
        _make_file(part, b"".join(map(_flatten, inner)))
        return
    for each in inner:
        _encode(each)
    # Mail programs do not show the text around the parts.
    part.preamble, part.epilogue = map(_replace, (part.preamble, part.epilogue))
    if "Content-Transfer-Encoding" in part:
        part.replace_header("Content-Transfer-Encoding", "7bit")


def _encode_leaf(part: _Part) -> None:
    if _flatten(part).isascii():
        return
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)  # noqa: S101 - it is not multipart
    _set_base64(part, content)


def _set_base64(part: _Part, content: bytes) -> None:
    part.set_payload(encodebytes(content).decode())
    del part["Content-Transfer-Encoding"]
    part["Content-Transfer-Encoding"] = "base64"


def _make_file(part: _Part, content: bytes) -> None:
    name = part.get_filename()
    _set_base64(part, content)
    part.replace_header("Content-Type", "application/octet-stream")
    if name is None:
        del part["Content-Disposition"]
        part.add_header("Content-Disposition", "attachment", filename="message.eml")


def _encode_headers(part: _Part) -> None:
    items = [(name, str(value)) for name, value in part.raw_items()]
    if all(value.isascii() for _, value in items):
        return
    for name in part.keys():  # noqa: SIM118 - iterating a message is deprecated
        del part[name]
    for name, value in items:
        part[name] = value if value.isascii() else _encode_header(name, value)


def _encode_header(name: str, value: str) -> str:
    raw = "".join(value.splitlines()).encode("ascii", "surrogateescape")
    # It is nearly always UTF-8; otherwise Python writes "unknown-8bit" as the charset.
    text = raw.decode("utf-8", "surrogateescape")
    folded: str = _REFOLDING.fold(name, text)
    return folded.partition(":")[2].strip()


def _replace(text: str | None) -> str | None:
    return text and text.encode("ascii", "replace").decode()


def _breaks_if_encoded(inner: _Part) -> bool:
    return _is_signed(inner) and not _flatten(inner).isascii()


def _is_signed(mime: _Part) -> bool:
    """Return whether the message is signed; attached messages do not count."""
    if mime.get_content_type() == "multipart/signed":
        return True
    if mime.get_content_maintype() != "multipart" or not mime.is_multipart():
        return False
    return any(map(_is_signed, mime.get_payload()))


def _flatten(mime: _Part) -> bytes:
    return flatten(mime, _AS_IT_IS)


def flatten(mime: Any, policy: Any) -> bytes:
    """Return a MIME message as bytes, written with ``policy``."""
    buffer = io.BytesIO()
    BytesGenerator(buffer, mangle_from_=False, policy=policy).flatten(mime)
    return buffer.getvalue()
