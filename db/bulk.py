"""Writes many rows in one statement, because each statement costs a round trip and an execution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic_core import to_json
from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    TableValuedAlias,
    Text,
    cast,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import InstrumentedAttribute

from db.tables import Base

Rows = Sequence[Mapping[str, object]]
"""Rows with the same columns. Each value is a JSON value, a UUID, an instant or bytes."""


def fields_of(one: Any) -> dict[str, object]:
    """Return the fields of a dataclass without the deep copies that dataclasses.asdict makes."""
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


def insert_rows(connection: Connection, table: type[Base], rows: Rows, *, unless_known: bool = False) -> None:
    """Insert the rows in order. With `unless_known`, rows whose key exists already are left out."""
    statement = _insert(table, rows)
    connection.execute(statement.on_conflict_do_nothing() if unless_known else statement)


def upsert_rows(
    connection: Connection,
    table: type[Base],
    rows: Rows,
    *,
    keys: tuple[str, ...],
    where: Callable[[Any], ColumnElement[bool]],
    kept: tuple[str, ...] = (),
) -> None:
    """Insert the rows, or replace those whose key exists already.

    No two rows may have the same key. `where` receives the new row and returns the condition under which the
    existing one is replaced. The columns `kept` of an existing row are not changed.
    """
    statement = _insert(table, rows)
    replaced = {name: statement.excluded[name] for name in rows[0] if name not in (*keys, *kept)}
    connection.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=replaced, where=where(statement.excluded))
    )


def values_table(
    name: str, **columns: tuple[Sequence[object], InstrumentedAttribute[Any]]
) -> TableValuedAlias:
    """Return the values as a table for joins. Each column has the type of the attribute given with it."""
    arrays = [_array(values, like) for values, like in columns.values()]
    return func.unnest(*arrays).table_valued(*columns).render_derived(name)


def _array(values: Sequence[object], like: InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    # The values are sent as one text. The driver converts an array value by value in Python, which takes ten
    # times as long.
    given = [_bytea(value) for value in values] if isinstance(like.type, LargeBinary) else list(values)
    texts = func.json_array_elements_text(_json(given)).column_valued()
    return func.array(select(cast(texts, like.type)).scalar_subquery())


def _insert(table: type[Base], rows: Rows) -> postgresql.Insert:
    columns = table.__table__.columns
    binary = [name for name in rows[0] if isinstance(columns[name].type, LargeBinary)]
    if binary:
        rows = [{**row, **{name: _bytea(row[name]) for name in binary}} for row in rows]
    given = func.json_populate_recordset(
        literal_column(f"NULL::{table.__tablename__}"), _json(rows)
    ).table_valued(*rows[0])
    return postgresql.insert(table).from_select(list(rows[0]), select(*given.c))


def _json(value: object) -> ColumnElement[Any]:
    return cast(literal(to_json(value).decode(), Text), postgresql.JSON)


def _bytea(value: object) -> object:
    return f"\\x{value.hex()}" if isinstance(value, bytes) else value
