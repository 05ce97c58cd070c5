"""The one engine: prepare in the caller's thread, transmit, conclude."""

from django_turbosmtp.delivery.engine import deliver
from django_turbosmtp.delivery.jobs import Job

__all__ = ["Job", "deliver"]
