"""Inserts that need half the CPU of ``bulk_create()``."""

from __future__ import annotations

from itertools import chain
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

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model

#: Fields whose values every database accepts unchanged, if their type is right.
_PLAIN = (CharField, TextField, IntegerField)

#: psycopg needs 3 microseconds for each parameter, so a column is sent to PostgreSQL as
#: one array if a table has at least this many columns. Tables with fewer columns have
#: long texts, which are longer in an array: it escapes each quote and backslash.
_MANY_COLUMNS = 6


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
    names = [field.attname for field in fields]
    _insert(model, fields, zip(*map(itemgetter(*names), rows), strict=True), alias)


def _convert_column(field: Any, column: Sequence[Any], alias: str) -> Iterable[Any]:
    """Return the values of a column in the form that the database accepts.

    Many rows have the same time: it is converted once. JSON is text already.
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
    by_column = {field.column: field for field in model._meta.concrete_fields}
    fields = [by_column[column] for column in rows[0]]
    columns = zip(*(row.values() for row in rows), strict=True)
    return _insert(model, fields, columns, alias, OnConflict.IGNORE)


def _choose_converter(field: Any, alias: str) -> Callable[[Any], Any]:
    connection = connections[alias]
    while field.remote_field:
        field = field.target_field
    if isinstance(field, UUIDField) and not connection.features.has_native_uuid_field:
        # The same as the field's conversion, in a tenth of the time.
        return lambda value: value and value.hex
    return lambda value: field.get_db_prep_save(value, connection)


def _insert(
    model: type[Model],
    fields: Sequence[Any],
    columns: Iterable[Sequence[Any]],
    alias: str,
    conflict: OnConflict | None = None,
) -> int:
    """Insert columns of values, one for each of the fields."""
    connection = connections[alias]
    ops = connection.ops
    start = ops.insert_statement(on_conflict=conflict)
    end = ops.on_conflict_suffix_sql([], conflict, [], [])
    into = ", ".join(ops.quote_name(field.column) for field in fields)
    head = f"{start} {ops.quote_name(model._meta.db_table)} ({into})"
    values = [
        _convert_column(field, column, alias)
        for field, column in zip(fields, columns, strict=True)
    ]
    suffix = f" {end}" if end else ""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql" and len(fields) >= _MANY_COLUMNS:
            arrays = ", ".join(f"(%s)::{_find_type(f, connection)}[]" for f in fields)
            sql = f"{head} SELECT * FROM UNNEST({arrays}){suffix}"  # noqa: S608
            cursor.execute(sql, list(map(_build_array, values)))
        elif connection.features.max_query_params:
            # SQLite binds few values by one statement, and runs in this process.
            place = _build_place(fields)
            cursor.executemany(
                f"{head} VALUES {place}{suffix}", list(zip(*values, strict=True))
            )
        else:
            rows = list(zip(*values, strict=True))
            places = ", ".join([_build_place(fields)] * len(rows))
            cursor.execute(
                f"{head} VALUES {places}{suffix}", list(chain.from_iterable(rows))
            )
        return int(cursor.rowcount)


def _build_place(fields: Sequence[Any]) -> str:
    return f"({', '.join(['%s'] * len(fields))})"


def _find_type(field: Any, connection: BaseDatabaseWrapper) -> str:
    # Omit the length, because a cast to varchar(5) would cut the text.
    return str(field.db_type(connection)).partition("(")[0]


def _build_array(column: Iterable[Any]) -> list[Any]:
    # The items of an array have one type, also for psycopg: no str beside a StrEnum.
    return [str(value) if isinstance(value, str) else value for value in column]
