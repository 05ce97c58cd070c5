"""Translates a Django message to wire fields. Pure, and without credentials."""

from django_turbosmtp.payload.attachments import WireAttachment
from django_turbosmtp.payload.envelope import EnvelopeRecipient, Guard
from django_turbosmtp.payload.translation import (
    OWN_MIME,
    RequestFields,
    Translation,
    translate,
)

__all__ = [
    "OWN_MIME",
    "EnvelopeRecipient",
    "Guard",
    "RequestFields",
    "Translation",
    "WireAttachment",
    "translate",
]
