"""Stores results under the digest of what they were made from, and estimates what further results cost.

Kept results outlive the batches that made them: a row names its job, but does not refer to it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Engine, and_, func, select

from db.bulk import insert_rows
from db.tables import JobRow, KeptResultRow
from jobs.kept import Cost, Kept, KeptResult, KeptStatus

RECENT = 500
"""Number of latest results from which the cost of further results is estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResults:
    """The results that one succeeded job keeps."""

    kind: str
    job_id: UUID
    statement_sha256: str
    num_new_tokens: int
    """Number of tokens that the job generated. Its results have equal shares of them."""
    results: Sequence[Kept]


def write_kept(connection: Connection, jobs: Iterable[JobResults]) -> None:
    """Keep the results of these jobs; a key that has a result already keeps it.

    Rows are written in the order of their primary key, so that transactions do not deadlock.
    """
    rows: dict[tuple[str, str, str], dict[str, object]] = {
        (job.kind, kept.keep, kept.key): {
            "kind": job.kind,
            "keep": kept.keep,
            "key": kept.key,
            "subject": kept.subject,
            "value": dict(kept.value),
            "num_new_tokens": job.num_new_tokens // len(job.results),
            "job_id": job.job_id,
            "statement_sha256": job.statement_sha256,
        }
        for job in jobs
        for kept in job.results
    }
    if rows:
        ordered = [rows[key] for key in sorted(rows)]
        insert_rows(connection, KeptResultRow, ordered, unless_known=True)


def _is_under(kind: str, keep: str) -> ColumnElement[bool]:
    return and_(KeptResultRow.kind == kind, KeptResultRow.keep == keep)


def find_kept(database: Engine, kind: str, keys: Collection[str], *, keep: str = "") -> dict[str, KeptResult]:
    """Return the kept results by key; a key without a result is left out."""
    statement = select(
        KeptResultRow.key,
        KeptResultRow.subject,
        KeptResultRow.value,
        KeptResultRow.job_id,
        KeptResultRow.statement_sha256,
    ).where(_is_under(kind, keep), KeptResultRow.key == func.any(list(keys)))
    with database.connect() as connection:
        return {
            row.key: KeptResult(
                key=row.key,
                subject=row.subject,
                value=row.value,
                job_id=row.job_id,
                statement_sha256=row.statement_sha256,
            )
            for row in connection.execute(statement)
        }


def known_keys(database: Engine, kind: str, keys: Collection[str], *, keep: str = "") -> frozenset[str]:
    """Return those of the keys that have a result."""
    with database.connect() as connection:
        return _known(connection, _is_under(kind, keep), keys)


def _known(connection: Connection, are_kept: ColumnElement[bool], keys: Collection[str]) -> frozenset[str]:
    statement = select(KeptResultRow.key).where(are_kept, KeptResultRow.key == func.any(list(keys)))
    return frozenset(connection.scalars(statement))


def classify(
    database: Engine, kind: str, keys: Sequence[tuple[str, str]], *, keep: str = ""
) -> list[KeptStatus]:
    """Return for each pair of subject and key whether its result is new, changed or unchanged."""
    are_kept = _is_under(kind, keep)
    subjects = select(KeptResultRow.subject).where(
        are_kept, KeptResultRow.subject == func.any([subject for subject, _ in keys])
    )
    with database.connect() as connection:
        known = _known(connection, are_kept, [key for _, key in keys])
        earlier = frozenset(connection.scalars(subjects))
    statuses = []
    for subject, key in keys:
        status = KeptStatus.CHANGED if subject in earlier else KeptStatus.NEW
        statuses.append(KeptStatus.UNCHANGED if key in known else status)
    return statuses


def cost_of_kept(database: Engine, kind: str, *, keep: str = "") -> Cost | None:
    """Return the cost of the latest results; None if there are none.

    The rate is that of the batch that made most of them: a batch of a few jobs does not fill the engine.
    """
    recent = (
        select(KeptResultRow.num_new_tokens, KeptResultRow.job_id)
        .where(_is_under(kind, keep))
        .order_by(KeptResultRow.made_at.desc())
        .limit(RECENT)
    ).subquery()
    jobs = select(recent.c.job_id).distinct().subquery()
    began = func.min(JobRow.started_at)
    seconds = func.extract("epoch", func.max(JobRow.finished_at) - began)
    rates = (
        select(func.sum(JobRow.new_tokens), seconds)
        .join(jobs, jobs.c.job_id == JobRow.id)
        .group_by(JobRow.batch_id)
        .order_by(func.count().desc(), began.desc())
        .limit(1)
    )
    with database.connect() as connection:
        mean = connection.scalar(select(func.avg(recent.c.num_new_tokens)))
        batch = connection.execute(rates).one_or_none()
    if mean is None:
        return None
    rate = float(batch[0]) / float(batch[1]) if batch is not None and batch[0] and batch[1] else None
    return Cost(float(mean), rate)


class DatabaseKeptResults:
    """Reads the kept results of one kind from Postgres. Implements jobs.kept.KeptResults."""

    def __init__(self, database: Engine, kind: str) -> None:
        self._database = database
        self._kind = kind

    def find(self, keys: Collection[str], *, keep: str = "") -> Mapping[str, KeptResult]:
        """Return the kept results by key; a key without a result is left out."""
        return find_kept(self._database, self._kind, keys, keep=keep)

    def known(self, keys: Collection[str], *, keep: str = "") -> frozenset[str]:
        """Return those of the keys that have a result, without reading the results."""
        return known_keys(self._database, self._kind, keys, keep=keep)
