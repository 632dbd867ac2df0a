"""Texts by key: written once, found by every later release that would ask for the same."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.dialects import postgresql

from db.refresh_tables import CopyRow
from jobs.records import WrittenCopy

RECENT = 500
"""Texts that the cost of the next one is estimated from."""


def write_copies(connection: Connection, written: Sequence[tuple[UUID, WrittenCopy]]) -> None:
    """Keep the texts of these jobs; of two for one key the first stands: releases may show it already."""
    rows = {
        copy.key: {
            "key": copy.key,
            "audience": copy.audience,
            "text": dict(copy.text),
            "num_new_tokens": copy.num_new_tokens,
            "job_id": job_id,
        }
        for job_id, copy in written
    }
    if rows:
        ordered = [rows[key] for key in sorted(rows)]
        connection.execute(postgresql.insert(CopyRow).on_conflict_do_nothing(), ordered)


def find_copies(database: Engine, keys: Collection[str]) -> dict[str, dict[str, object]]:
    """The texts of these keys, as kept; those that were never written are left out."""
    statement = select(CopyRow.key, CopyRow.text).where(CopyRow.key == func.any(list(keys)))
    with database.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(statement)}


def tokens_of_a_copy(database: Engine) -> float | None:
    """New tokens that a text has cost lately, on average; None before there is one."""
    recent = select(CopyRow.num_new_tokens).order_by(CopyRow.made_at.desc()).limit(RECENT).subquery()
    with database.connect() as connection:
        mean = connection.scalar(select(func.avg(recent.c.num_new_tokens)))
    return None if mean is None else float(mean)
