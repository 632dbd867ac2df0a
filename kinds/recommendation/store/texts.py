"""Stores texts by key, so that each is written only once and later releases can reuse it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, DateTime, Engine, func, select
from sqlalchemy.dialects import postgresql

from db.tables import JobRow
from kinds.recommendation.materials import RecommenderHistory
from kinds.recommendation.outputs import NewText
from kinds.recommendation.tables import TextRow
from workers.ports import RunningJob, WorkerServices

RECENT = 500
"""Number of latest texts from which the cost of the next texts is estimated."""


def write_texts(connection: Connection, texts: Sequence[tuple[UUID, NewText]]) -> None:
    """Store the texts of these jobs; a key keeps its first text, because releases may show it already."""
    if not texts:
        return
    tokens = _new_tokens(connection, [job_id for job_id, _ in texts])
    rows = {
        text.key: {
            "key": text.key,
            "audience": text.audience,
            "text": dict(text.text),
            "num_new_tokens": tokens[job_id],
            "job_id": job_id,
        }
        for job_id, text in texts
    }
    ordered = [rows[key] for key in sorted(rows)]
    connection.execute(postgresql.insert(TextRow).on_conflict_do_nothing(), ordered)


def _new_tokens(connection: Connection, job_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Return the token counts that the current transaction, which finishes the jobs, has set."""
    statement = select(JobRow.id, JobRow.new_tokens).where(JobRow.id == func.any(list(job_ids)))
    return {row[0]: row[1] for row in connection.execute(statement)}


@dataclass(frozen=True, slots=True)
class StoredText:
    """A stored text, and the job whose statement is its provenance."""

    key: str
    audience: str
    text: dict[str, object]
    job_id: UUID


def find_texts(database: Engine, keys: Collection[str]) -> list[StoredText]:
    """Return the stored texts of these keys; a key whose text was never written is left out."""
    statement = select(TextRow.key, TextRow.audience, TextRow.text, TextRow.job_id).where(
        TextRow.key == func.any(list(keys))
    )
    with database.connect() as connection:
        return [StoredText(*row) for row in connection.execute(statement)]


@dataclass(frozen=True, slots=True)
class TextCost:
    """Cost of the latest texts."""

    num_new_tokens: float
    """Average number of generated tokens per text."""
    tokens_per_second: float | None
    """Rate of all jobs of the latest batch together; None if they were deleted or took no time."""


def cost_of_text(database: Engine) -> TextCost | None:
    """Return the cost of the latest texts; None if there are none."""
    recent = (
        select(TextRow.num_new_tokens, TextRow.job_id).order_by(TextRow.made_at.desc()).limit(RECENT)
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
    return TextCost(float(mean), rate)


class DatabaseRecommenderHistory:
    """Reads the clock and the keys of written texts from Postgres; each call uses its own connection.

    Implements kinds.recommendation.materials.RecommenderHistory.
    """

    def __init__(self, database: Engine) -> None:
        self._database = database

    def now(self) -> datetime:
        """Return the time of the database's clock."""
        with self._database.connect() as connection:
            return connection.execute(
                select(func.clock_timestamp(type_=DateTime(timezone=True)))
            ).scalar_one()

    def known_texts(self, keys: Sequence[str]) -> frozenset[str]:
        """Return those of the keys whose text has already been written."""
        statement = select(TextRow.key).where(TextRow.key == func.any(list(keys)))
        with self._database.connect() as connection:
            return frozenset(connection.scalars(statement))


def open_history(services: WorkerServices) -> Callable[[RunningJob], RecommenderHistory]:
    """Return a function from a job to the history, which all jobs share.

    Implements `workers.ports.PortOpener`.
    """
    history = DatabaseRecommenderHistory(services.database)
    return lambda _: history
