"""The migrations: forward, back and forward again, on each database."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from django_turbosmtp.models import Message, Tag


@pytest.mark.django_db(transaction=True)
def test_back_and_forward() -> None:
    wanted = {
        model._meta.db_table
        for model in apps.get_app_config("turbosmtp").models.values()
    }
    try:
        call_command("migrate", "turbosmtp", "zero", verbosity=0)
        assert not wanted & set(connection.introspection.table_names())
    finally:
        call_command("migrate", "turbosmtp", verbosity=0)
    assert wanted <= set(connection.introspection.table_names())
    assert not Message.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_rows_of_the_first_release_can_be_searched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = import_module("django_turbosmtp.migrations.0002_search")
    monkeypatch.setattr(module, "CHUNK", 2)
    try:
        call_command("migrate", "turbosmtp", "0001", verbosity=0)
        state = MigrationExecutor(connection).loader.project_state(
            ("turbosmtp", "0001_log")
        )
        old = state.apps.get_model("turbosmtp", "Message")
        for number in range(5):
            old.objects.create(
                created_at=timezone.now(),
                status="sent",
                subject=f"Your ORDER {number}",
                reference_id=f"{number}",
                campaign="order",
                tags=["order", f"tag{number}"],
                api_version=2,
            )
    finally:
        call_command("migrate", "turbosmtp", verbosity=0)
    starts = Message.objects.order_by("reference_id").values_list("subject_start")
    assert [start for (start,) in starts] == [f"your order {n}" for n in range(5)]
    assert sorted(Tag.objects.values_list("name", "message__reference_id")) == [
        (f"tag{n}", f"{n}") for n in range(5)
    ]
    Message.objects.all().delete()


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
