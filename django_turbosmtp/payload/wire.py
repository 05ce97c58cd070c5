"""The fields and limits of turboSMTP's send API (docs/wire.rst)."""

from __future__ import annotations

from typing import Final

#: The fields of POST /mail/send (docs/wire.rst, "Send"). Others are not allowed.
WIRE_FIELDS: Final = frozenset(
    {
        "from",
        "to",
        "cc",
        "bcc",
        "subject",
        "content",
        "html_content",
        "custom_headers",
        "attachments",
        "mime_raw",
        "reference_id",
        "X-campaign-ID",
        "authuser",
        "authpass",
    }
)

#: Django uses these ``headers`` in this spelling only, and ignores other spellings.
SHOWN_HEADERS: Final = {
    "from": "From",
    "to": "To",
    "cc": "Cc",
    "reply-to": "Reply-To",
}

MAX_SUBJECT_LENGTH: Final = 700

#: "less than 4 MB in v1, less than 24 MB in v2" (docs/wire.rst). We assume binary
#: megabytes: to refuse a message that turboSMTP would accept would lose it, while
#: turboSMTP itself refuses a message that is too large.
MAX_MESSAGE_BYTES: Final = {1: 4 * 2**20, 2: 24 * 2**20}

#: Message attributes of django-anymail that turboSMTP has no field for.
UNSUPPORTED_ATTRIBUTES: Final = (
    "envelope_sender",
    "merge_data",
    "merge_global_data",
    "merge_headers",
    "merge_metadata",
    "template_id",
    "track_clicks",
    "track_opens",
)

#: Attributes that only the queue supports (docs/queue.rst).
QUEUE_ATTRIBUTES: Final = ("send_at", "priority", "expires_at")


class NotExact(Exception):  # noqa: N818 - a reason, not an error
    """The fields cannot express the message exactly. The text is the reason."""
