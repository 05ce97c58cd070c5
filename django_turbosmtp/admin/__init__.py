"""The log in Django's admin."""

from django_turbosmtp.admin.messages import MessageAdmin

__all__ = ["MessageAdmin"]
