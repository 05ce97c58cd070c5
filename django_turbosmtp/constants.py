"""The words of the package: statuses, outcomes, wire fields, hosts and limits."""

from __future__ import annotations

from typing import Final, Literal

ESP_NAME: Final = "turboSMTP"

#: What became of one message (docs/outcomes.rst).
Outcome = Literal["accepted", "refused", "unknown", "queued", "suppressed", "cancelled"]
ACCEPTED: Final = "accepted"
REFUSED: Final = "refused"
UNKNOWN: Final = "unknown"
CANCELLED: Final = "cancelled"
SUPPRESSED: Final = "suppressed"

#: The status of a row from before the request leaves until its outcome is known.
SENDING: Final = "sending"

#: What became of one recipient, in django-anymail's words.
RecipientState = Literal["sent", "queued", "invalid", "rejected", "failed", "unknown"]

RecipientKind = Literal["to", "cc", "bcc"]
KINDS: Final[tuple[RecipientKind, ...]] = ("to", "cc", "bcc")

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

#: Length of the reference id column; turboSMTP names no bound.
MAX_REFERENCE_LENGTH: Final = 255

#: Length of the address column: a local part of 64, "@" and a domain of 255 (RFC 5321,
#: 4.5.3.1). What is longer, and so refused, is cut there.
MAX_ADDRESS_LENGTH: Final = 320

#: Keep at most this many characters of a tag in the log.
MAX_TAG_LENGTH: Final = 255

SEND_HOSTS: Final = {
    (2, "global"): "https://api.turbo-smtp.com/api/v2",
    (2, "eu"): "https://api.eu.turbo-smtp.com/api/v2",
    (1, "global"): "https://api.turbo-smtp.com/api",
}
API_HOSTS: Final = {
    2: "https://pro.api.serversmtp.com/api/v2",
    1: "https://dashboard.serversmtp.com/api",
}

#: django-anymail's message attributes that turboSMTP has no field for.
UNSUPPORTED_ATTRIBUTES: Final = (
    "envelope_sender",
    "merge_data",
    "merge_global_data",
    "merge_headers",
    "merge_metadata",
    "send_at",
    "template_id",
    "track_clicks",
    "track_opens",
)
