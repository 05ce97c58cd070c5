"""The migrations: forward, back and forward again, on each database."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.core.management import call_command

from django_turbosmtp.models import Message
from tests.worlds import WORLD, connection


@pytest.mark.django_db(transaction=True)
def test_back_and_forward() -> None:
    wanted = {
        model._meta.db_table
        for model in apps.get_app_config("turbosmtp").models.values()
    }
    try:
        call_command("migrate", "turbosmtp", "zero", database=WORLD.alias, verbosity=0)
        assert not wanted & set(connection.introspection.table_names())
    finally:
        call_command("migrate", "turbosmtp", database=WORLD.alias, verbosity=0)
    assert wanted <= set(connection.introspection.table_names())
    assert not Message.objects.exists()


@pytest.mark.django_db
def test_every_index_is_there() -> None:
    with connection.cursor() as cursor:
        found = {
            (table, tuple(constraint["columns"]))
            for table in ("turbosmtp_message", "turbosmtp_recipient", "turbosmtp_tag")
            for constraint in connection.introspection.get_constraints(
                cursor, table
            ).values()
            if constraint["index"] or constraint["unique"] or constraint["primary_key"]
        }
    assert found >= {
        ("turbosmtp_message", ("id",)),
        ("turbosmtp_message", ("mid",)),
        ("turbosmtp_message", ("reference_id",)),
        ("turbosmtp_message", ("created_at", "id", "status")),
        ("turbosmtp_message", ("status", "created_at", "id")),
        ("turbosmtp_message", ("mailer", "created_at", "id", "status")),
        ("turbosmtp_message", ("campaign", "created_at", "id", "status")),
        ("turbosmtp_message", ("subject_start", "created_at", "id")),
        ("turbosmtp_tag", ("name", "message_id")),
        ("turbosmtp_recipient", ("address",)),
        ("turbosmtp_recipient", ("mid",)),
        ("turbosmtp_recipient", ("message_id", "position")),
    }
