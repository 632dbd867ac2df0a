"""Texts by key: written once, found by every later release that would ask for the same."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.dialects import postgresql

from db.tables import JobRow
from kinds.recommendation.records import WrittenCopy
from kinds.recommendation.tables import CopyRow

RECENT = 500
"""Texts that the cost of the next one is estimated from."""


def write_copies(connection: Connection, written: Sequence[tuple[UUID, WrittenCopy]]) -> None:
    """Keep the texts of these jobs; of two for one key the first stands: releases may show it already."""
    if not written:
        return
    tokens = _new_tokens(connection, [job_id for job_id, _ in written])
    rows = {
        copy.key: {
            "key": copy.key,
            "audience": copy.audience,
            "text": dict(copy.text),
            "num_new_tokens": tokens[job_id],
            "job_id": job_id,
        }
        for job_id, copy in written
    }
    ordered = [rows[key] for key in sorted(rows)]
    connection.execute(postgresql.insert(CopyRow).on_conflict_do_nothing(), ordered)


def _new_tokens(connection: Connection, job_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Return the tokens as the transaction that ends the jobs has set them."""
    statement = select(JobRow.id, JobRow.new_tokens).where(JobRow.id == func.any(list(job_ids)))
    return {row[0]: row[1] for row in connection.execute(statement)}


@dataclass(frozen=True, slots=True)
class KeptCopy:
    """A text as it is kept, and the job whose statement is its provenance."""

    key: str
    audience: str
    text: dict[str, object]
    job_id: UUID


def find_copies(database: Engine, keys: Collection[str]) -> list[KeptCopy]:
    """The texts of these keys, as kept; those that were never written are left out."""
    statement = select(CopyRow.key, CopyRow.audience, CopyRow.text, CopyRow.job_id).where(
        CopyRow.key == func.any(list(keys))
    )
    with database.connect() as connection:
        return [KeptCopy(*row) for row in connection.execute(statement)]


@dataclass(frozen=True, slots=True)
class CopyCost:
    """What texts have cost lately."""

    num_new_tokens: float
    """A text, on average."""
    tokens_per_second: float | None
    """Of the jobs of the latest batch, all together; None where they are gone or took no time."""


def cost_of_a_copy(database: Engine) -> CopyCost | None:
    """Return what the latest texts cost each; None before there is one."""
    recent = (
        select(CopyRow.num_new_tokens, CopyRow.job_id).order_by(CopyRow.made_at.desc()).limit(RECENT)
    ).subquery()
    began = func.min(JobRow.started_at)
    seconds = func.extract("epoch", func.max(JobRow.finished_at) - began)
    rates = (
        select(func.sum(JobRow.new_tokens), seconds)
        .join(recent, recent.c.job_id == JobRow.id)
        .group_by(JobRow.batch_id)
        .order_by(began.desc())
        .limit(1)
    )
    with database.connect() as connection:
        mean = connection.scalar(select(func.avg(recent.c.num_new_tokens)))
        latest = connection.execute(rates).one_or_none()
    if mean is None:
        return None
    rate = float(latest[0]) / float(latest[1]) if latest is not None and latest[0] and latest[1] else None
    return CopyCost(float(mean), rate)
