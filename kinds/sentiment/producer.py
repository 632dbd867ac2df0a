"""Submits a file of documents as a batch of blocks, leaving out documents that were analysed before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Engine

from db import batches
from db.stages import NewJob
from jobs.documents.document import Document
from jobs.documents.reading import read_documents
from jobs.instants import DateOrder
from jobs.intake.dialect import AS_FOUND, FileOptions
from jobs.provenance import payload_digest
from jobs.rejection import DroppedTally, Rejected
from kinds.sentiment.documents.blocks import blocks
from kinds.sentiment.documents.watchlist import Watchlist
from kinds.sentiment.documents.watchlist_file import WatchlistFile
from kinds.sentiment.known import KnownFilter
from kinds.sentiment.monitor import KIND, Monitor
from kinds.sentiment.payload import ANALYSIS_VERSION, MOODS
from kinds.sentiment.store.history import DatabaseHistory
from kinds.sentiment.store.source_reports import NEVER, observed_until
from kinds.sentiment.store.writer import write_records
from storage.resources import put_resource, read_resource
from storage.store import Store
from workers.models.manifest import ModelNotInstalledError, model_digest, require_labels
from workers.producer import Order, StrictIntakeError, Submission, new_batch
from workers.settings import Settings

FILE_STAGES = ("documents", "windows", "reports")
"""Stages of a batch made from a file; the file is read on submission, so `collect` is left out."""


@dataclass(slots=True)
class Intake:
    """Counts of what happened to the records of a file."""

    num_documents: int = 0
    """Documents that will be analysed."""
    num_known: int = 0
    """Documents that were analysed before, in the same way and with the same content."""
    num_rejected: int = 0
    num_repeated: int = 0
    """Records left out because the same id occurs earlier in the file, in the same or a later version."""
    notes: list[str] = field(default_factory=list)
    """Notes about the file for the user, one line each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentsOrder:
    """A file of documents to be run through a monitor."""

    monitor: Monitor
    settings: Mapping[str, object]
    """Settings of the kind that override those of the monitor."""
    columns: Mapping[str, str] = field(default_factory=dict)
    date_order: DateOrder | None = None
    file: FileOptions = AS_FOUND
    strict: bool = False
    stages: tuple[str, ...] = FILE_STAGES
    idempotency_key: str | None = None


def put_watchlist(store: Store, file: WatchlistFile) -> str:
    """Store a watch list for the workers and return its digest."""
    return put_resource(store, file.body, media_type="application/json")


def get_watchlist(store: Store, monitor: Monitor) -> Watchlist:
    """Return the watch list of a monitor. Raises ResourceMissingError or StoreError."""
    return Watchlist.model_validate_json(read_resource(store, monitor.watchlist_sha256))


def kind_settings(monitor: Monitor, own: Mapping[str, object], settings: Settings) -> dict[str, object]:
    """Return the settings that a batch of the monitor fixes: the monitor's own, overridden by `own`.

    Raises ModelTaskError or OtherLabelsError for a model that does not classify into the three moods.
    """
    merged = {
        **monitor.settings,
        **own,
        "monitor_id": str(monitor.id),
        "watchlist_sha256": monitor.watchlist_sha256,
        "num_entities": monitor.num_entities,
        "policy": monitor.policy.model_dump(mode="json"),
    }
    with suppress(ModelNotInstalledError):  # it may be on the workers' machines alone
        require_labels(settings.models_folder, monitor.model, MOODS)
    models = [monitor.model, *(str(merged[name]) for name in ("embedder",) if merged.get(name))]
    merged["analysis"] = payload_digest(
        {
            "kind": ANALYSIS_VERSION,
            "watchlist": monitor.watchlist_sha256,
            "models": [model_digest(settings.models_folder, model) for model in models],
            "min_relevance": monitor.policy.min_relevance,
        }
    )
    return merged


def observed_setting(connection: Connection, monitor: Monitor) -> dict[str, object]:
    """Return the setting that tells until when all the monitor's sources were read; empty if it has none."""
    if not monitor.sources:
        return {}
    return {"observed_until": (observed_until(connection, monitor.id) or NEVER).isoformat()}


def submit_documents(
    database: Engine,
    path: Path,
    order: DocumentsOrder,
    settings: Settings,
    on_rejected: Callable[[Rejected], None],
) -> tuple[Submission, Intake]:
    """Accept the documents of a file that are not known yet as one batch of blocks.

    Raises what `workers.producer.submit_rows` raises; nothing is accepted in that case.
    """
    monitor = order.monitor
    with database.connect() as connection:
        observed = observed_setting(connection, monitor)
    own = kind_settings(monitor, {**order.settings, **observed}, settings)
    batch = new_batch(
        Order(
            kind=KIND,
            model=monitor.model,
            settings=own,
            tenant=monitor.tenant,
            idempotency_key=order.idempotency_key,
        ),
        settings,
        name=path.name,
        stages=order.stages,
    )
    known = KnownFilter(DatabaseHistory(database), monitor_id=monitor.id, analysis=str(own["analysis"]))
    intake = Intake()
    documents = read_documents(
        path,
        now=datetime.now(UTC),
        columns=order.columns,
        date_order=order.date_order,
        options=order.file,
        known=known.records,
        on_note=intake.notes.append,
    )
    tally = DroppedTally(path, on_rejected)
    jobs = _jobs(_unknown(database, known, documents), intake, tally, strict=order.strict)
    batch_id, created = batches.accept(database, batch, jobs, lambda: intake.num_rejected)
    intake.num_known = known.num_known
    identities = documents.identities
    intake.num_repeated = identities.num_duplicates + identities.num_superseded + known.num_repeated
    num_used = intake.num_documents + intake.num_known + intake.num_repeated
    return Submission(batch_id, created, tally.dropped(num_used)), intake


def _unknown(
    database: Engine, known: KnownFilter, documents: Iterable[Document | Rejected]
) -> Iterator[Document | Rejected]:
    """Yield documents that are not known, and store the records of those recognized by their content alone.

    Such documents are recognized by their record the next time.
    """
    yield from known.unknown(documents)
    for read_again in known.read_again():
        with database.begin() as connection:
            write_records(connection, [(read_again.monitor_id, read_again)])


def _jobs(
    stream: Iterable[Document | Rejected],
    intake: Intake,
    on_rejected: Callable[[Rejected], None],
    *,
    strict: bool,
) -> Iterator[NewJob]:
    def accepted() -> Iterator[Document]:
        for one in stream:
            if isinstance(one, Rejected):
                intake.num_rejected += 1
                on_rejected(one)
            else:
                intake.num_documents += 1
                yield one

    for number, block in enumerate(blocks(accepted())):
        documents = [document.model_dump(mode="json", exclude_none=True) for document in block]
        yield NewJob(f"block-{number}", {"stage": "documents", "documents": documents}, "documents")
    if strict and intake.num_rejected:
        raise StrictIntakeError(
            f"{intake.num_rejected} documents were refused and nothing was accepted: correct them, or leave "
            "--strict away to run the others"
        )
