"""The app: label ``turbosmtp``."""

from __future__ import annotations

from importlib import import_module

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
        from django_turbosmtp.queue.engines import uses_celery

        register(checks.check_settings, checks.TAG)
        register(checks.check_use, checks.TAG)
        register(checks.check_webhook, checks.TAG)
        register(checks.check_deployment, checks.TAG, deploy=True)
        register(checks.check_tables, Tags.database)
        register(checks.check_engine, checks.TAG)
        register(checks.check_events, Tags.database)
        register(checks.check_queue, Tags.database)
        if uses_celery():
            # Import it, so that a worker knows the tasks without autodiscovery.
            import_module("django_turbosmtp.celery")
