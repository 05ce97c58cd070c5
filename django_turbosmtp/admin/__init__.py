"""The log in Django's admin, and who is not written to."""

from django_turbosmtp.admin.messages import MessageAdmin
from django_turbosmtp.admin.suppressions import SuppressionAdmin

__all__ = ["MessageAdmin", "SuppressionAdmin"]
