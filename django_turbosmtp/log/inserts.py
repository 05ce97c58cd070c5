"""Inserts that need half the CPU of ``bulk_create()``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models import CharField, IntegerField, TextField
from django.db.models.constants import OnConflict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from django.db.models import Model

#: Fields whose values every database takes as they are, if they have the right type.
_PLAIN = (CharField, TextField, IntegerField)


def insert_models(rows: Sequence[Model], alias: str) -> None:
    """Insert instances of one model, whose values have the types of their fields.

    Keys that the database generates are not set on them.
    """
    if not rows:
        return
    meta = rows[0]._meta
    fields = [field for field in meta.concrete_fields if field is not meta.auto_field]
    steps = [(_choose_converter(field, alias), field.pre_save) for field in fields]
    values = [[convert(read(row, True)) for convert, read in steps] for row in rows]
    columns = [str(field.column) for field in fields]
    _insert(type(rows[0]), columns, values, alias, None)


def insert_new(
    model: type[Model], rows: Sequence[Mapping[str, Any]], alias: str
) -> int:
    """Insert the rows that are not there already, and return their number.

    ``rows``: values by column, JSON as text. ``bulk_create(ignore_conflicts=True)``
    returns no number.
    """
    columns = list(rows[0])
    by_column = {field.column: field for field in model._meta.concrete_fields}
    convert = [_choose_converter(by_column[column], alias) for column in columns]
    values = [
        [
            value if isinstance(value, str) else change(value)
            for change, value in zip(convert, row.values(), strict=True)
        ]
        for row in rows
    ]
    return _insert(model, columns, values, alias, OnConflict.IGNORE)


def _choose_converter(field: Any, alias: str) -> Callable[[Any], Any]:
    if isinstance(field, _PLAIN):
        return lambda value: value
    connection = connections[alias]
    return lambda value: field.get_db_prep_save(value, connection)


def _insert(
    model: type[Model],
    columns: Sequence[str],
    values: Sequence[Sequence[Any]],
    alias: str,
    conflict: OnConflict | None,
) -> int:
    connection = connections[alias]
    ops = connection.ops
    start = ops.insert_statement(on_conflict=conflict)
    end = ops.on_conflict_suffix_sql([], conflict, [], [])
    table = ops.quote_name(model._meta.db_table)
    into = ", ".join(map(ops.quote_name, columns))
    # SQLite binds few values by one statement, and runs in this process.
    together = not connection.features.max_query_params
    place = f"({', '.join(['%s'] * len(columns))})"
    places = ", ".join([place] * (len(values) if together else 1))
    sql = f"{start} {table} ({into}) VALUES {places} {end or ''}"
    with connection.cursor() as cursor:
        if together:
            cursor.execute(sql, [value for row in values for value in row])
        else:
            cursor.executemany(sql, values)
        return int(cursor.rowcount)
