"""Runs a file of documents through a monitor, to write reports or to replay them as if they arrived live."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine

from jobs.intake.dialect import AS_FOUND, FileOptions
from jobs.intake.files import digest_of
from jobs.rejection import Rejected
from kinds.sentiment.alerts.delivery import export_and_deliver
from kinds.sentiment.backtest import MONITOR_PREFIX, Backtest, backtest
from kinds.sentiment.export_files import SentimentFigures
from kinds.sentiment.intake import DOCUMENTS, FILE_STAGES, WATCHLIST, check_first_record
from kinds.sentiment.monitor import KIND
from kinds.sentiment.options import SentimentOptions
from kinds.sentiment.series.replay import Event
from kinds.sentiment.store import monitors
from pressroom.console import say
from pressroom.one_machine import OneMachine
from pressroom.run import RunRequest, RunResult, Submit, run_batch
from pressroom.summary import Summary
from storage.store import Store
from workers.devices import Device
from workers.intake import BatchRequest
from workers.producer import Submission, submit
from workers.settings import Settings

REPLAY_STAGES = FILE_STAGES[:1]
"""Stages of a replay. The command itself then computes the windows and alerts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRun:
    """Options of a command that runs a file of documents."""

    file: Path | None
    """File of documents; None to resume the batch `batch_id`."""
    watch: Path | None
    """File of the watch list; None to use that of the monitor."""
    model: str
    """Installed classifier that determines the mood of the documents."""
    options: SentimentOptions
    file_options: FileOptions = AS_FOUND
    strict: bool = False
    batch_id: UUID | None = None
    retry_failed: bool = False
    device: str
    """The device as the user wrote it."""
    devices: tuple[Device, ...]

    def check_file(self) -> None:
        """Read the first record, before anything is started; raises as `check_first_record` does."""
        if self.file is not None:
            check_first_record(self.file, self.options, self.file_options)

    def request(
        self, settings: Settings, out: Path | None, stages: tuple[str, ...], resume: tuple[str, ...]
    ) -> RunRequest:
        """Return the request for the batch to run. Raises ConfigurationError if no worker has its models."""
        own = self.options.own_settings
        models = [str(name) for name in (self.model, own["embedder"], own["summarizer"]) if name]
        return RunRequest(
            profiles=(settings.profile_of(models),),
            submit=None if self.file is None else self._submitter(self.file, settings, stages),
            batch_id=self.batch_id,
            retry_failed=self.retry_failed,
            out=out,
            devices=self.devices,
            resume_command=("pressroom", *resume),
        )

    def _submitter(self, file: Path, settings: Settings, stages: tuple[str, ...]) -> Submit:
        inputs = {DOCUMENTS: file} | ({} if self.watch is None else {WATCHLIST: self.watch})
        request = BatchRequest(
            kind=KIND,
            model=self.model,
            settings=self.options.model_dump(exclude_unset=True),
            strict=self.strict,
            file=self.file_options,
            stages=stages,
        )

        def submit_file(machine: OneMachine, on_rejected: Callable[[Rejected], None]) -> Submission:
            return submit(
                machine.database,
                inputs,
                request,
                settings,
                on_rejected,
                on_note=say,
                s3_url=machine.urls.s3_url,
            )

        return submit_file


def run_file(
    run: FileRun, out: Path, settings: Settings, *, json: bool = False
) -> RunResult[SentimentFigures]:
    """Analyse the new documents of the file and produce the windows, alerts and reports that result."""
    resume = (
        *("run", "sentiment", "--model", run.model, "--embedder", run.options.embedder),
        *("--summarizer", run.options.summarizer, "--device", run.device, "--out", str(out)),
    )
    run.check_file()
    request = run.request(settings, out, FILE_STAGES, resume)
    return run_batch(request, settings, partial(export_and_deliver, json=json))


def replay_file(
    run: FileRun, events: Sequence[Event] | None, settings: Settings
) -> RunResult[Backtest | None]:
    """Analyse the new documents of the file, then replay all its documents.

    The result has no backtest if some documents are still to be analysed.
    """

    def replayed(database: Engine, _store: Store, summary: Summary, _out: Path) -> Backtest | None:
        if summary.report.counts.open:
            return None  # interrupted: missing documents would look like silence
        return backtest(database, monitors.find_monitor(database, run.options.monitor or ""), events)

    run.check_file()
    resume = ("monitor", "backtest", str(run.file), "--watch", str(run.watch))
    return run_batch(run.request(settings, None, REPLAY_STAGES, resume), settings, replayed)


def backtest_name(*parts: object) -> str:
    """Return the name of the separate monitor that keeps a backtest apart from live history.

    The name depends only on the contents of the files and the values in `parts`, so that a repeated backtest
    does not analyse the documents again.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            digest.update(bytes.fromhex(digest_of(part)))
        else:
            digest.update(repr(part).encode())
    return f"{MONITOR_PREFIX}{digest.hexdigest()[:16]}"
