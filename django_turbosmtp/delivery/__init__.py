"""The one engine: prepare in the caller's thread, transmit, conclude."""

from django_turbosmtp.delivery.engine import Delivery, deliver

__all__ = ["Delivery", "deliver"]
