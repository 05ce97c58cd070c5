"""MIME in seven bits: what a JSON string carries whole. Pure.

Python re-encodes an 8-bit part by the charset it names: where that is wrong, missing or
unknown, letters are lost. Here its bytes stay, whatever they are said to be.
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

# ASCII only: a picky JSON or MIME reader on the way cannot spoil it.
SEVEN_BIT = email.policy.SMTP.clone(cte_type="7bit", refold_source="none")
# For what is in ASCII already, or has to stay as it is.
_AS_IT_IS = SEVEN_BIT.clone(cte_type="8bit")
_REFOLDING = email.policy.SMTP.clone(refold_source="all")


def encode_seven_bit(raw: bytes) -> bytes:
    """Return a MIME message in ASCII; as it is, where that would break a signature.

    An attached message that is signed becomes a file of the same bytes.
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
    # Nobody reads what stands around the parts.
    part.preamble, part.epilogue = map(_replace, (part.preamble, part.epilogue))
    if "Content-Transfer-Encoding" in part:
        part.replace_header("Content-Transfer-Encoding", "7bit")


def _encode_leaf(part: _Part) -> None:
    if _flatten(part).isascii():
        return
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)  # noqa: S101 - of what is not multipart
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
    for name in part.keys():  # noqa: SIM118 - a message is not iterated by names
        del part[name]
    for name, value in items:
        part[name] = value if value.isascii() else _encode_header(name, value)


def _encode_header(name: str, value: str) -> str:
    raw = "".join(value.splitlines()).encode("ascii", "surrogateescape")
    # UTF-8 it is nearly always; where not, the words say that nobody knows.
    text = raw.decode("utf-8", "surrogateescape")
    folded: str = _REFOLDING.fold(name, text)
    return folded.partition(":")[2].strip()


def _replace(text: str | None) -> str | None:
    return text and text.encode("ascii", "replace").decode()


def _breaks_if_encoded(inner: _Part) -> bool:
    return _is_signed(inner) and not _flatten(inner).isascii()


def _is_signed(mime: _Part) -> bool:
    """Tell whether there is a signature, but for one in an attached message."""
    if mime.get_content_type() == "multipart/signed":
        return True
    if mime.get_content_maintype() != "multipart" or not mime.is_multipart():
        return False
    return any(map(_is_signed, mime.get_payload()))


def _flatten(mime: _Part) -> bytes:
    return flatten(mime, _AS_IT_IS)


def flatten(mime: Any, policy: Any) -> bytes:
    """Return a MIME message as bytes, written by ``policy`` and not by its own."""
    buffer = io.BytesIO()
    BytesGenerator(buffer, mangle_from_=False, policy=policy).flatten(mime)
    return buffer.getvalue()
