"""Turns a file of documents into jobs for blocks of documents, leaving out those analysed before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, Engine

from db.stages import NewJob
from jobs.documents.document import Document
from jobs.documents.reading import read_documents
from jobs.errors import ConfigurationError
from jobs.intake.dialect import FileOptions
from jobs.provenance import payload_digest
from jobs.rejection import Rejected
from jobs.shown import plural
from kinds.sentiment.backtest import is_of_backtest
from kinds.sentiment.document_filter import DocumentFilter
from kinds.sentiment.documents.blocks import BlockCutter
from kinds.sentiment.documents.watchlist import Watchlist
from kinds.sentiment.documents.watchlist_file import WatchlistFile, read_watchlist
from kinds.sentiment.monitor import Monitor
from kinds.sentiment.options import SentimentOptions
from kinds.sentiment.payload import ANALYSIS_VERSION, MOODS
from kinds.sentiment.series.policy import Policy
from kinds.sentiment.series.trading_days import with_calendar
from kinds.sentiment.store import monitors
from kinds.sentiment.store.history import DatabaseHistory, write_records
from kinds.sentiment.store.monitors import NEVER, MonitorNotFoundError, observed_until
from storage.resources import put_resource, read_resource
from storage.store import Store
from workers.intake import InputMissingError, IntakePlan, IntakeSource
from workers.models.manifest import ModelNotInstalledError, model_digest, require_labels
from workers.settings import Settings

DOCUMENTS = "documents"
WATCHLIST = "watchlist"
"""Names of the inputs: the file of documents, and the watch list as TOML or JSON."""

FILE_STAGES = ("documents", "windows", "reports")
"""Stages of a batch made from a file; the file is read on submission, so `collect` is left out."""


@dataclass(slots=True)
class IntakeCounts:
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
    with suppress(ModelNotInstalledError):  # it may be installed only on the workers' machines
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
    """Return a mapping with the setting `observed_until`, which is empty if the monitor has no sources."""
    if not monitor.sources:
        return {}
    return {"observed_until": (observed_until(connection, monitor.id) or NEVER).isoformat()}


def plan_documents(
    source: IntakeSource, path: Path, monitor: Monitor, options: SentimentOptions, counts: IntakeCounts
) -> IntakePlan:
    """Plan the blocks of documents that are not known yet; streaming the blocks fills in `counts`."""
    observed = observed_setting(source.connection, monitor)
    own = kind_settings(monitor, {**options.own_settings, **observed}, source.settings)
    database = source.connection.engine
    known = DocumentFilter(DatabaseHistory(database), monitor_id=monitor.id, analysis=str(own["analysis"]))
    documents = read_documents(
        path,
        now=datetime.now(UTC),
        columns=options.columns,
        date_order=options.date_order,
        options=source.request.file,
        known=known.records,
        on_note=counts.notes.append,
    )

    def jobs() -> Iterator[NewJob | Rejected]:
        yield from _block_jobs(_unknown(database, known, documents), counts)
        identities = documents.identities
        counts.num_known = known.num_known
        counts.num_repeated = identities.num_duplicates + identities.num_superseded + known.num_repeated

    return IntakePlan(
        jobs=jobs(),
        settings=own,
        model=monitor.model,
        name=path.name,
        stages=source.request.stages or FILE_STAGES,
        num_records=lambda: counts.num_documents + counts.num_known + counts.num_repeated,
    )


def _unknown(
    database: Engine, known: DocumentFilter, documents: Iterable[Document | Rejected]
) -> Iterator[Document | Rejected]:
    """Yield the documents that are not known yet.

    For known documents that were recognised only by their content, store the digests of their new records, so
    that the next run recognises them by their records.
    """
    yield from known.unknown(documents)
    for record_digests in known.record_digests():
        with database.begin() as connection:
            write_records(connection, [(record_digests.monitor_id, record_digests)])


def _block_jobs(stream: Iterable[Document | Rejected], counts: IntakeCounts) -> Iterator[NewJob | Rejected]:
    """Yield a job for each block of documents, and each refused record, in the order of the file."""
    cutter, number = BlockCutter(), 0
    for record in stream:
        if isinstance(record, Rejected):
            counts.num_rejected += 1
            yield record
            continue
        counts.num_documents += 1
        if block := cutter.add(record):
            yield _block_job(number, block)
            number += 1
    if rest := cutter.rest():
        yield _block_job(number, rest)


def _block_job(number: int, block: Sequence[Document]) -> NewJob:
    documents = [document.model_dump(mode="json", exclude_none=True) for document in block]
    return NewJob(f"block-{number}", {"stage": "documents", "documents": documents}, "documents")


def read_sentiment_inputs(source: IntakeSource) -> IntakePlan:
    """Plan the batch of a file of documents, and create or change its monitor according to the options.

    This is the intake of the kind; see workers.intake.IntakeReader.
    """
    path = source.path(DOCUMENTS)
    if path is None:
        raise InputMissingError("a sentiment batch needs a file of documents")
    options = SentimentOptions.model_validate(source.options)
    request = source.request
    check_first_record(path, options, request.file)
    monitor = put_monitor_of(
        source.connection.engine,
        source.open_store(),
        options,
        watch=source.path(WATCHLIST),
        model=request.model,
        on_note=source.on_note,
    )
    counts = IntakeCounts()
    plan = plan_documents(source, path, monitor, options, counts)

    def jobs() -> Iterator[NewJob | Rejected]:
        yield from plan.jobs
        for note in counts.notes:
            source.on_note(f"note: {note}")
        repeated = f"{counts.num_repeated} repeated in the file, " if counts.num_repeated else ""
        source.on_note(
            f"{plural(counts.num_documents, 'document', 'documents')} to analyse, {counts.num_known} known "
            "already, "
            f"{repeated}{counts.num_rejected} refused; monitor {monitor.name}"
        )

    return replace(plan, jobs=jobs())


def check_first_record(path: Path, options: SentimentOptions, file: FileOptions) -> None:
    """Read the first record, before a monitor is created.

    Raises FileRejectedError or ColumnMappingError if no document can be read from the file.
    """
    documents = read_documents(
        path, now=datetime.now(UTC), columns=options.columns, date_order=options.date_order, options=file
    )
    next(documents, None)


def put_monitor_of(
    database: Engine,
    store: Store,
    options: SentimentOptions,
    *,
    watch: Path | None,
    model: str,
    on_note: Callable[[str], None],
) -> Monitor:
    """Return the monitor that the options name, created or changed according to them, with this classifier.

    `watch` is the file of its watch list; None keeps the list of an existing monitor. A monitor with sources
    is used unchanged, because only `monitor create` may change it. Raises MonitorNotFoundError or
    ConfigurationError (`monitor_stands`).
    """
    watched = None if watch is None else read_watchlist(watch)
    for warning in () if watched is None else watched.warnings:
        on_note(f"warning: {watch}: {warning}")
    name = options.monitor or (watched.watchlist.name if watched else "")
    try:
        earlier: Monitor | None = monitors.find_monitor(database, name)
    except MonitorNotFoundError:
        earlier = None
    if earlier is not None and earlier.sources:
        return _unchanged(earlier, options, watch=watch, model=model)
    if watched is not None:
        watchlist_sha256, num_entities = put_watchlist(store, watched), len(watched.watchlist.entities)
    elif earlier is not None:
        watchlist_sha256, num_entities = earlier.watchlist_sha256, earlier.num_entities
    else:
        raise MonitorNotFoundError(
            f"no monitor is named {name!r}: give its watch list (--watch, or --input watchlist=FILE)"
        )
    monitor = Monitor(
        id=earlier.id if earlier else monitors.new_id(),
        tenant="default",
        name=name,
        watchlist_sha256=watchlist_sha256,
        num_entities=num_entities,
        policy=_policy(
            options, earlier.policy if earlier and not is_of_backtest(earlier) else Policy(), watched
        ),
        sources=(),
        targets=earlier.targets if earlier else (),
        settings=earlier.settings if earlier else {},
        model=model,
    )
    with database.begin() as connection:
        monitors.put_monitor(connection, monitor)
    return monitor


def _unchanged(monitor: Monitor, options: SentimentOptions, *, watch: Path | None, model: str) -> Monitor:
    if watch is not None or options.has_policy or model != monitor.model:
        raise ConfigurationError(
            f"the monitor {monitor.name!r} has its own sources and settings, and its classifier is "
            f"{monitor.model}. To run files through it, give only --monitor {monitor.name} --model "
            f"{monitor.model}; to change its settings, run `pressroom monitor create`; otherwise choose "
            "another name with --monitor",
            code="monitor_stands",
        )
    return monitor


def _policy(options: SentimentOptions, earlier: Policy, watched: WatchlistFile | None) -> Policy:
    values = {
        "windows": options.windows,
        "alert_window": options.windows[0] if options.windows else None,
        "time_zone": options.time_zone,
        "rules": options.rules,
        "false_alarms_per_week": options.false_alarms_per_week,
    }
    changed = {name: value for name, value in values.items() if value is not None}
    try:
        policy = Policy.model_validate({**earlier.model_dump(), **changed})
        if watched is None:
            return policy
        return with_calendar(policy, watched.calendar, has_zone=options.time_zone is not None)
    except ValueError as error:
        raise ConfigurationError(str(error), code="policy_invalid") from error
