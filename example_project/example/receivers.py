"""Receives the events of messages."""

from typing import Any

from django.dispatch import receiver

from django_turbosmtp.signals import tracking
from example.models import Parcel


@receiver(tracking)
def note_event(event: Any, **kwargs: Any) -> None:
    """Store the last event of a message on its parcel.

    ``event.metadata`` was set by ``mail.compose()``. The webhook calls this once for
    each new event. Events may arrive in any order.
    """
    if "parcel" in event.metadata:
        parcels = Parcel.objects.filter(pk=event.metadata["parcel"])
        parcels.update(news=event.event_type)
