"""Writes the rows that jobs leave besides their artifacts, in the transaction that makes the jobs succeed.

Rows are written in the order of their keys, so that no two transactions deadlock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql

from db.monitoring_tables import (
    AlertRow,
    ClassificationRow,
    DeliveryRow,
    DocumentRow,
    EntityWindowRow,
    MentionRow,
    MonitorRow,
)
from jobs.monitor import AlertStatus
from jobs.records import AnalysedDocuments, Classifications, EntityHistory, Record

DELIVERED_AGE = timedelta(days=7)
"""An alert about an older window is kept and not delivered: a file of last year's news is no news."""


def write_records(connection: Connection, records: Iterable[tuple[UUID, Record]]) -> None:
    """Write what these jobs leave; each record comes with the id of its job."""
    by_job = list(records)
    _write_documents(connection, [(j, r) for j, r in by_job if isinstance(r, AnalysedDocuments)])
    _write_classifications(connection, [r for _, r in by_job if isinstance(r, Classifications)])
    histories = [(j, r) for j, r in by_job if isinstance(r, EntityHistory)]
    for job_id, history in sorted(histories, key=lambda pair: (pair[1].monitor_id, pair[1].entity_id)):
        _write_history(connection, job_id, history)


def _write_documents(connection: Connection, blocks: Sequence[tuple[UUID, AnalysedDocuments]]) -> None:
    documents = {
        (block.monitor_id, document.id): {
            "monitor_id": block.monitor_id,
            "job_id": job_id,
            "analysis": block.analysis,
            **asdict(document),
            "flags": list(document.flags),
        }
        for job_id, block in blocks
        for document in block.documents
    }
    if not documents:
        return
    rows = [documents[key] for key in sorted(documents)]
    _upsert(
        connection,
        DocumentRow,
        rows,
        keys=("monitor_id", "id"),
        where=lambda new: (
            tuple_(DocumentRow.published_at, DocumentRow.sha256) <= tuple_(new.published_at, new.sha256)
        ),
    )
    standing = _standing(connection, documents)
    # What an earlier version of a document said is gone; under the lock of its row nobody else writes them.
    connection.execute(
        delete(MentionRow).where(tuple_(MentionRow.monitor_id, MentionRow.document_id).in_(standing))
    )
    mentions = {
        (block.monitor_id, mention.entity_id, mention.document_id): {
            "monitor_id": block.monitor_id,
            **asdict(mention),
        }
        for _, block in blocks
        for mention in block.mentions
        if (block.monitor_id, mention.document_id) in standing
    }
    if mentions:
        connection.execute(insert(MentionRow), [mentions[key] for key in sorted(mentions)])


def _standing(
    connection: Connection, documents: Mapping[tuple[UUID, str], Mapping[str, object]]
) -> set[tuple[UUID, str]]:
    """Which of the documents are in their rows now: of two versions of one, the later stays."""
    rows = connection.execute(
        select(DocumentRow.monitor_id, DocumentRow.id, DocumentRow.sha256, DocumentRow.job_id).where(
            tuple_(DocumentRow.monitor_id, DocumentRow.id).in_(sorted(documents))
        )
    )
    found = {(row.monitor_id, row.id): (row.sha256, row.job_id) for row in rows}
    return {key for key, given in documents.items() if found[key] == (given["sha256"], given["job_id"])}


def _write_classifications(connection: Connection, some: Sequence[Classifications]) -> None:
    rows = {
        (one.model_sha256, digest): {
            "model_sha256": one.model_sha256,
            "digest": digest,
            "negative": negative,
            "neutral": neutral,
            "positive": positive,
        }
        for one in some
        for digest, negative, neutral, positive in one.probabilities
    }
    if rows:
        statement = postgresql.insert(ClassificationRow).on_conflict_do_nothing()
        connection.execute(statement, [rows[key] for key in sorted(rows)])


def _write_history(connection: Connection, job_id: UUID, history: EntityHistory) -> None:
    _write_novelties(connection, history)
    _write_windows(connection, job_id, history)
    _write_alerts(connection, job_id, history)


def _write_novelties(connection: Connection, history: EntityHistory) -> None:
    if not history.novelties:
        return
    novelties = sorted(history.novelties, key=lambda novelty: novelty.document_id)
    given = (
        func.unnest(
            literal([n.document_id for n in novelties], postgresql.ARRAY(MentionRow.document_id.type)),
            literal([n.number for n in novelties], postgresql.ARRAY(MentionRow.novelty.type)),
            literal([n.first_id for n in novelties], postgresql.ARRAY(MentionRow.first_id.type)),
        )
        .table_valued("document_id", "number", "first_id")
        .render_derived("given")
    )
    connection.execute(
        update(MentionRow)
        .where(
            MentionRow.monitor_id == history.monitor_id,
            MentionRow.entity_id == history.entity_id,
            MentionRow.document_id == given.c.document_id,
            or_(MentionRow.novelty_read_at.is_(None), MentionRow.novelty_read_at <= history.read_at),
        )
        .values(
            novelty=given.c.number,
            first_id=given.c.first_id,
            novelty_read_at=history.read_at,
        )
    )


def _write_windows(connection: Connection, job_id: UUID, history: EntityHistory) -> None:
    rows = [
        {
            "monitor_id": history.monitor_id,
            **asdict(window),
            "read_at": history.read_at,
            "job_id": job_id,
        }
        for window in sorted(history.windows, key=lambda window: (window.size, window.starts_at))
    ]
    if rows:
        keys = ("monitor_id", "entity_id", "size", "starts_at")
        _upsert(
            connection,
            EntityWindowRow,
            rows,
            keys=keys,
            where=lambda new: EntityWindowRow.read_at <= new.read_at,
        )
    # One that a document left, corrected to another time or entity, and that nothing else is in.
    connection.execute(
        delete(EntityWindowRow).where(
            EntityWindowRow.monitor_id == history.monitor_id,
            EntityWindowRow.entity_id == history.entity_id,
            EntityWindowRow.size.in_(history.sizes),
            EntityWindowRow.starts_at >= history.since,
            EntityWindowRow.read_at < history.read_at,
        )
    )


def _write_alerts(connection: Connection, job_id: UUID, history: EntityHistory) -> None:
    rows = [
        {
            "id": uuid5(history.monitor_id, alert.key),
            "monitor_id": history.monitor_id,
            "key": alert.key,
            **asdict(alert),
            "document_ids": list(alert.document_ids),
            "status": AlertStatus.OPEN,
            "read_at": history.read_at,
            "job_id": job_id,
        }
        for alert in sorted(history.alerts, key=lambda alert: alert.key)
    ]
    known: set[UUID] = set()
    if rows:
        ids = [row["id"] for row in rows]
        known = set(connection.scalars(select(AlertRow.id).where(AlertRow.id.in_(ids))))
        _upsert(
            connection,
            AlertRow,
            rows,
            keys=("monitor_id", "key"),
            where=lambda new: AlertRow.read_at <= new.read_at,
            kept=("id", "status"),
        )
    _reopen_and_withdraw(connection, history, [row["id"] for row in rows])
    new = [row["id"] for row in rows if row["id"] not in known]
    if new:
        _enqueue_deliveries(connection, history, new)


def _reopen_and_withdraw(connection: Connection, history: EntityHistory, standing: Sequence[object]) -> None:
    ours = (
        AlertRow.monitor_id == history.monitor_id,
        AlertRow.entity_id == history.entity_id,
        AlertRow.starts_at >= history.since,
        AlertRow.read_at <= history.read_at,
    )
    connection.execute(
        update(AlertRow)
        .where(*ours, AlertRow.id.in_(standing), AlertRow.status == AlertStatus.WITHDRAWN)
        .values(status=AlertStatus.OPEN)
    )
    connection.execute(
        update(AlertRow)
        .where(*ours, AlertRow.id.not_in(standing), AlertRow.status != AlertStatus.WITHDRAWN)
        .values(status=AlertStatus.WITHDRAWN, read_at=history.read_at)
    )


def _enqueue_deliveries(connection: Connection, history: EntityHistory, new: Sequence[object]) -> None:
    targets = connection.scalar(select(MonitorRow.targets).where(MonitorRow.id == history.monitor_id)) or {}
    listed = targets.get("targets", [])
    names = [target["name"] for target in listed] if isinstance(listed, list) else []
    recent = {alert.key for alert in history.alerts if alert.starts_at >= history.read_at - DELIVERED_AGE}
    ids = [uuid5(history.monitor_id, key) for key in sorted(recent)]
    rows = [{"alert_id": id_, "target": name} for id_ in ids if id_ in new for name in sorted(names)]
    if rows:
        connection.execute(postgresql.insert(DeliveryRow).on_conflict_do_nothing(), rows)


def _upsert(
    connection: Connection,
    table: type[DocumentRow] | type[EntityWindowRow] | type[AlertRow],
    rows: Sequence[Mapping[str, object]],
    *,
    keys: tuple[str, ...],
    where: Callable[[Any], ColumnElement[bool]],
    kept: tuple[str, ...] = (),
) -> None:
    """Insert the rows; one whose key is there is replaced if `where`, of the new row, holds."""
    statement = postgresql.insert(table).values({name: bindparam(name) for name in rows[0]})
    replaced = {name: statement.excluded[name] for name in rows[0] if name not in (*keys, *kept)}
    connection.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=replaced, where=where(statement.excluded)),
        rows,
    )
