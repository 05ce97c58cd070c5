"""Inserts that need half the CPU of ``bulk_create()``."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models import (
    BooleanField,
    CharField,
    DateTimeField,
    IntegerField,
    JSONField,
    TextField,
    UUIDField,
)
from django.db.models.constants import OnConflict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from django.db.models import Model

#: Fields whose values every database takes as they are, if they have the right type.
_PLAIN = (CharField, TextField, IntegerField)


def insert_values(
    model: type[Model], rows: Sequence[Mapping[str, Any]], alias: str
) -> None:
    """Insert rows: the values of all fields, by ``attname``, with the fields' types.

    JSON is text. Keys that the database generates are left out. Not instances of the
    model: to make them takes longer than all the rest.
    """
    if not rows:
        return
    meta = model._meta
    fields = [field for field in meta.concrete_fields if field is not meta.auto_field]
    columns = zip(*map(itemgetter(*[f.attname for f in fields]), rows), strict=True)
    converted = [
        _convert_column(field, column, alias)
        for field, column in zip(fields, columns, strict=True)
    ]
    values = list(zip(*converted, strict=True))
    _insert(model, [str(field.column) for field in fields], values, alias, None)


def _convert_column(field: Any, column: Sequence[Any], alias: str) -> Iterable[Any]:
    """Return the values of a column as the database takes them.

    Many rows have the same time: it is converted once.
    """
    if isinstance(field, (*_PLAIN, JSONField)):
        return column
    convert = _choose_converter(field, alias)
    if isinstance(field, (DateTimeField, BooleanField)):
        known = {value: convert(value) for value in set(column)}
        return map(known.__getitem__, column)
    return map(convert, column)


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
    while field.remote_field:
        field = field.target_field
    if isinstance(field, UUIDField) and not connection.features.has_native_uuid_field:
        # As the field converts it, in a tenth of the time.
        return lambda value: value and value.hex
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
