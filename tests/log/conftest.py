"""Users of the admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client


@pytest.fixture
def user(django_user_model: Any) -> Any:
    """Make a member of the staff with these permissions, and log her in."""

    def make(*permissions: str) -> Client:
        name = "-".join(permissions) or "none"
        made, _ = django_user_model.objects.get_or_create(
            username=name, defaults={"is_staff": True}
        )
        made.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(made)
        return client

    return make
