"""What happens to a message after turboSMTP accepted it."""

from typing import Any

from django.dispatch import receiver

from django_turbosmtp.signals import tracking
from example.models import Parcel


@receiver(tracking)
def note_event(event: Any, **kwargs: Any) -> None:
    """Store the news on the parcel that the message was about.

    ``event.metadata`` is what ``mail.compose()`` set on the message. The webhook calls
    this once for each new event; events may arrive in any order.
    """
    if "parcel" in event.metadata:
        parcels = Parcel.objects.filter(pk=event.metadata["parcel"])
        parcels.update(news=event.event_type)
