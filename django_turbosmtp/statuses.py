"""Statuses and outcomes."""

from __future__ import annotations

from typing import Final, Literal

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
