"""The app: label ``turbosmtp``."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import Tags, register
from django.utils.translation import gettext_lazy as _


class TurboSMTPConfig(AppConfig):
    """Registers the system checks."""

    name = "django_turbosmtp"
    label = "turbosmtp"
    verbose_name = _("turboSMTP")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_turbosmtp import checks

        register(checks.check_settings, checks.TAG)
        register(checks.check_use, checks.TAG)
        register(checks.check_webhook, checks.TAG)
        register(checks.check_deployment, checks.TAG, deploy=True)
        register(checks.check_tables, Tags.database)
        register(checks.check_events, Tags.database)
