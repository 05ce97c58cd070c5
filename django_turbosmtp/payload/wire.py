"""turboSMTP's send API in constants: its fields and limits (docs/wire.rst)."""

from __future__ import annotations

from typing import Final

#: Fields of POST /mail/send (docs/wire.rst, "Send"). No other is allowed.
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

#: Django takes these from ``headers`` in this spelling only, and skips all others.
SHOWN_HEADERS: Final = {
    "from": "From",
    "to": "To",
    "cc": "Cc",
    "reply-to": "Reply-To",
}

MAX_SUBJECT_LENGTH: Final = 700

#: "less than 4 MB in v1, less than 24 MB in v2" (docs/wire.rst). Read as binary
#: megabytes: refusing here what turboSMTP would have taken loses a mail, while
#: what is over a smaller bound there comes back as a refusal.
MAX_MESSAGE_BYTES: Final = {1: 4 * 2**20, 2: 24 * 2**20}

#: django-anymail's message attributes that turboSMTP has no field for.
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
