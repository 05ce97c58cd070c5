"""The JSON body of a send, in pieces: attachments are encoded while they leave.

`json.dumps` of 15 MB of attachments needs three to four times as much memory. This body
knows its length and encodes its pieces again for every attempt, so that a retry needs
no memory either.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from django_turbosmtp._lib.text import SURROGATE
from django_turbosmtp.exceptions import MessageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Send in pieces of about this many bytes, each within the read time-out. It is a
# multiple of 3, so that the encoded pieces together are the base64 of the whole.
_PIECE = 3 * 2**14

# ``json.dumps()`` would make an encoder for each message.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Body:
    """A JSON object as an iterable of bytes with a known length."""

    __slots__ = ("_length", "_segments")

    def __init__(self, fields: Mapping[str, Any]) -> None:
        """Take wire fields; ``attachments`` is a list of `payload.WireAttachment`.

        Raise `MessageError` for an unpaired surrogate in any of them.
        """
        attachments = fields.get("attachments", ())
        head = {name: v for name, v in fields.items() if name != "attachments"}
        text = _dumps(head)
        # Text is stored as bytes, the content of an attachment as a memoryview.
        self._segments: list[bytes | memoryview] = []
        if attachments:
            text = text[:-1] + b',"attachments":['
            for number, part in enumerate(attachments):
                about = {"name": part.name, "type": part.type}
                if part.content_id:
                    about["content_id"] = part.content_id
                text += b"," if number else b""
                self._segments += [
                    text + _dumps(about)[:-1] + b',"content":"',
                    memoryview(part.content),
                ]
                text = b'"}'
            text += b"]}"
        self._segments.append(text)
        self._length = sum(
            4 * -(-segment.nbytes // 3)
            if isinstance(segment, memoryview)
            else len(segment)
            for segment in self._segments
        )

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        for segment in self._segments:
            size = len(segment) if isinstance(segment, bytes) else segment.nbytes
            for start in range(0, size, _PIECE):
                piece = segment[start : start + _PIECE]
                yield piece if isinstance(piece, bytes) else b64encode(piece)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._length} bytes>"


class Transmission:
    """One attempt to send a body. Records whether all of it may have been sent.

    The HTTP client asks for the next piece only after the previous one is written. The
    last byte is a separate piece, and ``complete`` is set before it. So an error while
    ``complete`` is False means that turboSMTP did not receive a whole request, no
    matter when and how the sending was interrupted.
    """

    __slots__ = ("_body", "complete", "started")

    def __init__(self, body: Body) -> None:
        self._body = body
        self.started = False
        self.complete = False

    def __len__(self) -> int:
        return len(self._body)

    def __iter__(self) -> Iterator[bytes]:
        self.started = True
        held = b""
        for piece in self._body:
            if held:
                yield held
            held = piece
        if len(held) > 1:
            yield held[:-1]
        self.complete = True
        yield held[-1:]


def _dumps(value: Any) -> bytes:
    text = _encode(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        pass
    # Raise it here, because the frames of the first error may contain credentials.
    del value, text
    raise MessageError(f"A field of the message contains {SURROGATE}. Remove it.")
