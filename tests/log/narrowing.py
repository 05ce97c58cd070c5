"""A database charset with fewer characters than Python: MySQL's "utf8"."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from django.apps import apps

from django_turbosmtp.models import ExactCharField
from tests.worlds import connection


@contextlib.contextmanager
def narrow(*tables: str) -> Iterator[None]:
    """Give tables of the log the narrower charset, on MySQL and MariaDB."""
    _convert(tables, "utf8mb3")
    try:
        yield
    finally:
        _convert(tables, "utf8mb4")


def _convert(tables: tuple[str, ...], charset: str) -> None:
    if connection.vendor != "mysql":
        return
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(
                f"ALTER TABLE turbosmtp_{table} CONVERT TO CHARACTER SET {charset}"
            )
            # Exact columns have their own charset in any database.
            for field in apps.get_model("turbosmtp", table)._meta.concrete_fields:
                if isinstance(field, ExactCharField):
                    collation = field.db_parameters(connection)["collation"]
                    cursor.execute(
                        f"ALTER TABLE turbosmtp_{table} MODIFY {field.column}"
                        f" {field.db_type(connection)} COLLATE {collation} NOT NULL"
                    )
