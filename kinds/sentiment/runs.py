"""Runs a file of documents through a monitor, either up to the reports or replayed as if it had come live."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine

from jobs.documents.reading import read_documents
from jobs.errors import ConfigurationError
from jobs.instants import DateOrder
from jobs.intake.dialect import AS_FOUND, FileOptions
from jobs.intake.files import digest_of
from jobs.rejection import Rejected
from kinds.sentiment.alerts.delivery import export_and_deliver
from kinds.sentiment.backtest import MONITOR_PREFIX, Backtest, backtest, is_of_backtest
from kinds.sentiment.documents.watchlist_file import WatchlistFile, read_watchlist
from kinds.sentiment.export import SentimentFigures
from kinds.sentiment.monitor import Monitor
from kinds.sentiment.monitor_file import NONE
from kinds.sentiment.producer import FILE_STAGES, DocumentsOrder, put_watchlist, submit_documents
from kinds.sentiment.series.policy import AlertRule, Policy
from kinds.sentiment.series.replay import Event
from kinds.sentiment.series.time_windows import WindowSize
from kinds.sentiment.series.trading_days import with_calendar
from kinds.sentiment.store import monitors
from kinds.sentiment.store.monitors import MonitorNotFoundError
from pressroom.console import say
from pressroom.one_machine import OneMachine
from pressroom.run import RunRequest, RunResult, Submit, run_batch
from pressroom.summary import Summary
from storage import open_store
from storage.store import Store
from workers.devices import Device
from workers.producer import Submission
from workers.settings import Settings

REPLAY_STAGES = FILE_STAGES[:1]
"""Stages of a replay, which computes the windows itself, once for each replayed day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorOptions:
    """Options of the command line about the monitor; None keeps the monitor's value or uses the default."""

    name: str | None
    watch: Path | None
    model: str
    windows: tuple[WindowSize, ...] | None
    time_zone: str | None
    rules: tuple[AlertRule, ...] | None
    false_alarms_per_week: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRun:
    """Options of a command that runs a file of documents."""

    file: Path | None
    """None resumes the batch `batch_id`."""
    monitor: MonitorOptions
    embedder: str | None
    summarizer: str | None = None
    reports: str | None = None
    max_reports: int | None = None
    """None uses the monitor's value, as it does for `reports`."""
    columns: Mapping[str, str] = field(default_factory=dict)
    date_order: DateOrder | None = None
    file_options: FileOptions = AS_FOUND
    strict: bool = False
    batch_id: UUID | None = None
    retry_failed: bool = False
    device: str
    """The device as the user wrote it."""
    devices: tuple[Device, ...]

    def check_file(self) -> None:
        """Read the first record, before anything is started or a monitor is created.

        Raises FileRejectedError or ColumnMappingError if no document can be read from the file.
        """
        if self.file is not None:
            documents = read_documents(
                self.file,
                now=datetime.now(UTC),
                columns=self.columns,
                date_order=self.date_order,
                options=self.file_options,
            )
            next(documents, None)

    def request(
        self, settings: Settings, out: Path | None, stages: tuple[str, ...], resume: tuple[str, ...]
    ) -> RunRequest:
        """Return the request for the batch to run. Raises ConfigurationError if no worker has its models."""
        models = [name for name in (self.monitor.model, self.embedder, self.summarizer) if name]
        return RunRequest(
            profiles=(settings.profile_of(models),),
            submit=None if self.file is None else self._submitter(self.file, settings, stages),
            batch_id=self.batch_id,
            retry_failed=self.retry_failed,
            out=out,
            devices=self.devices,
            resume_command=("pressroom", *resume),
        )

    @property
    def own_settings(self) -> dict[str, object]:
        """Settings of the kind that override those of the monitor."""
        limits = {"reports": self.reports, "max_reports": self.max_reports}
        given = {name: value for name, value in limits.items() if value is not None}
        return {"embedder": self.embedder, "summarizer": self.summarizer, **given}

    def _submitter(self, file: Path, settings: Settings, stages: tuple[str, ...]) -> Submit:
        def submit(machine: OneMachine, on_rejected: Callable[[Rejected], None]) -> Submission:
            monitor = put_monitor_of(machine.database, open_store(machine.urls.s3_url), self.monitor)
            order = DocumentsOrder(
                monitor=monitor,
                settings=self.own_settings,
                columns=self.columns,
                date_order=self.date_order,
                file=self.file_options,
                strict=self.strict,
                stages=stages,
            )
            submission, intake = submit_documents(machine.database, file, order, settings, on_rejected)
            for note in intake.notes:
                say(f"note: {note}")
            repeated = f"{intake.num_repeated} repeated in the file, " if intake.num_repeated else ""
            say(
                f"{intake.num_documents} documents to analyse, {intake.num_known} known already, "
                f"{repeated}{intake.num_rejected} refused; monitor {monitor.name}"
            )
            return submission

        return submit


def run_file(
    run: FileRun, out: Path, settings: Settings, *, json: bool = False
) -> RunResult[SentimentFigures]:
    """Analyse the new documents of the file and produce the windows, alerts and reports that result."""
    resume = (
        *("run", "sentiment", "--model", run.monitor.model, "--embedder", run.embedder or NONE),
        *("--summarizer", run.summarizer or NONE, "--device", run.device, "--out", str(out)),
    )
    run.check_file()
    request = run.request(settings, out, FILE_STAGES, resume)
    return run_batch(request, settings, partial(export_and_deliver, json=json))


def replay_file(
    run: FileRun, events: Sequence[Event] | None, settings: Settings
) -> RunResult[Backtest | None]:
    """Analyse the new documents of the file, then replay all of them.

    The result has no backtest if some documents are still to be analysed.
    """

    def replayed(database: Engine, _store: Store, summary: Summary, _out: Path) -> Backtest | None:
        if summary.report.counts.open:
            return None  # interrupted: what is missing would look like silence
        return backtest(database, monitors.find_monitor(database, run.monitor.name or ""), events)

    run.check_file()
    resume = ("monitor", "backtest", str(run.file), "--watch", str(run.monitor.watch))
    return run_batch(run.request(settings, None, REPLAY_STAGES, resume), settings, replayed)


def backtest_name(*parts: object) -> str:
    """Return the name of a monitor that is separate from live history.

    The name is the same for the same files and values, so that known documents are not analysed again.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            digest.update(bytes.fromhex(digest_of(part)))
        else:
            digest.update(repr(part).encode())
    return f"{MONITOR_PREFIX}{digest.hexdigest()[:16]}"


def put_monitor_of(database: Engine, store: Store, options: MonitorOptions) -> Monitor:
    """Return the monitor that the options name, created or changed as they say.

    A monitor with sources is used as it is, because only `monitor create` may change it. Raises
    MonitorNotFoundError or ConfigurationError (`monitor_stands`).
    """
    watched = None if options.watch is None else read_watchlist(options.watch)
    for warning in () if watched is None else watched.warnings:
        say(f"warning: {options.watch}: {warning}")
    name = options.name or (watched.watchlist.name if watched else "")
    try:
        earlier: Monitor | None = monitors.find_monitor(database, name)
    except MonitorNotFoundError:
        earlier = None
    if earlier is not None and earlier.sources:
        return _standing(earlier, options)
    if watched is not None:
        watchlist_sha256, num_entities = put_watchlist(store, watched), len(watched.watchlist.entities)
    elif earlier is not None:
        watchlist_sha256, num_entities = earlier.watchlist_sha256, earlier.num_entities
    else:
        raise MonitorNotFoundError(f"no monitor is named {name!r}: give its watch list with --watch")
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
        model=options.model,
    )
    with database.begin() as connection:
        monitors.put_monitor(connection, monitor)
    return monitor


def _standing(monitor: Monitor, options: MonitorOptions) -> Monitor:
    given = (options.watch, options.windows, options.time_zone, options.rules, options.false_alarms_per_week)
    if any(one is not None for one in given) or options.model != monitor.model:
        raise ConfigurationError(
            f"the monitor {monitor.name!r} stands by itself, with the classifier {monitor.model}: run files "
            f"through it with --monitor {monitor.name} --model {monitor.model} and none of its other "
            "options, change it with `pressroom monitor create`, or give --monitor another name",
            code="monitor_stands",
        )
    return monitor


def _policy(options: MonitorOptions, earlier: Policy, watched: WatchlistFile | None) -> Policy:
    given = {
        "windows": options.windows,
        "alert_window": options.windows[0] if options.windows else None,
        "time_zone": options.time_zone,
        "rules": options.rules,
        "false_alarms_per_week": options.false_alarms_per_week,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    try:
        policy = Policy.model_validate({**earlier.model_dump(), **changed})
        if watched is None:
            return policy
        return with_calendar(policy, watched.calendar, has_zone=options.time_zone is not None)
    except ValueError as error:
        raise ConfigurationError(str(error), code="policy_invalid") from error
