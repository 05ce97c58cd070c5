"""Translation: a Django message to wire fields. Pure, and without credentials."""

from django_turbosmtp.payload.attachments import Part
from django_turbosmtp.payload.envelope import Keep, Recipient
from django_turbosmtp.payload.translation import Payload, Translation, translate

__all__ = ["Keep", "Part", "Payload", "Recipient", "Translation", "translate"]
