"""Make the demo's staff user, or give it the password of this start."""

import os
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """Used by demo.py; a project of your own uses createsuperuser."""

    help = "Make the demo's admin user. Reads DEMO_ADMIN_USER and DEMO_ADMIN_PASSWORD."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Make or change the user."""
        # From the environment: every process on the machine can read arguments.
        name = os.environ.get("DEMO_ADMIN_USER", "admin")
        password = os.environ.get("DEMO_ADMIN_PASSWORD")
        if not password:
            raise CommandError("DEMO_ADMIN_PASSWORD is not set.")
        user, _ = get_user_model().objects.get_or_create(
            username=name, defaults={"is_staff": True, "is_superuser": True}
        )
        if not user.check_password(password):
            user.set_password(password)
            user.save()
