"""Many rows in one statement: one by one they cost a message and an execution each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
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
"""Each with the same columns; values as JSON has them, UUIDs, instants and bytes."""


def fields_of(one: Any) -> dict[str, object]:
    """The fields of a dataclass as they are: dataclasses.asdict copies every value deeply."""
    return {name: getattr(one, name) for name in one.__dataclass_fields__}


def insert_rows(connection: Connection, table: type[Base], rows: Rows, *, unless_known: bool = False) -> None:
    """Insert the rows, in their order; with `unless_known` one whose key is there is left out."""
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
    """Insert the rows, no two of one key; one whose key is there is replaced if `where`, of the new row,
    holds, but for its columns `kept`.
    """
    statement = _insert(table, rows)
    replaced = {name: statement.excluded[name] for name in rows[0] if name not in (*keys, *kept)}
    connection.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=replaced, where=where(statement.excluded))
    )


def values_table(
    name: str, **columns: tuple[Sequence[object], InstrumentedAttribute[Any]]
) -> TableValuedAlias:
    """Values as a table to be joined, each column of the type of another table's."""
    arrays = [literal(list(values), postgresql.ARRAY(like.type)) for values, like in columns.values()]
    return func.unnest(*arrays).table_valued(*columns).render_derived(name)


def _insert(table: type[Base], rows: Rows) -> postgresql.Insert:
    body = json.dumps(rows, default=_plain, ensure_ascii=False, allow_nan=False)
    given = func.json_populate_recordset(
        literal_column(f"NULL::{table.__tablename__}"), cast(literal(body, Text), postgresql.JSON)
    ).table_valued(*rows[0])
    return postgresql.insert(table).from_select(list(rows[0]), select(*given.c))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    raise TypeError(f"a {type(value).__name__} is no value of a row")
