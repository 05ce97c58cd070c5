"""The log and the suppressed addresses in Django's admin."""

from django_turbosmtp.admin.messages import MessageAdmin
from django_turbosmtp.admin.suppressions import SuppressionAdmin

__all__ = ["MessageAdmin", "SuppressionAdmin"]
