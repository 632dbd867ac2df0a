"""Runs a batch: submits it, starts workers or uses running ones, shows progress, and exports the results.

This is the main way to run a batch on one machine.
"""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TextIO, TypeVar
from uuid import UUID

from sqlalchemy import Engine

from db.batches import RunUnderWayError, retry_unfinished, run_under_way
from db.dispatch import capacity
from db.migrate import upgrade
from db.reports import batch_status
from db.session import opened_database
from jobs.batch import BatchStatus, BatchStatusReport
from jobs.errors import ConfigurationError
from jobs.registry import load_kind
from jobs.rejection import Dropped, Rejected
from jobs.shown import json_text, plural
from pressroom.console import Interruption, say
from pressroom.embedded.services import embedded_services, find_running
from pressroom.export import check_output
from pressroom.one_machine import DRAINING, OneMachine
from pressroom.output import unpublished_file
from pressroom.summary import Summary
from pressroom.watch import say_parked, watch_batch
from storage import open_store
from storage.store import Store
from workers.background import RUN, services_of
from workers.devices import Device
from workers.models.manifest import model_folder, read_manifest
from workers.producer import Submission
from workers.settings import Settings

REJECTED = "rejected.jsonl"
"""File in the output folder that has one JSON object for each refused line."""

MAX_REJECTED_SHOWN = 10
"""Maximum number of refused lines printed on the terminal; the file has all of them."""

ExportedT = TypeVar("ExportedT")
"""Type of a kind's report about the results that it exported."""

Export = Callable[[Engine, Store, Summary, Path], ExportedT]
"""Function that writes the results of a batch so far into a folder, and returns a report about them."""

Submit = Callable[[OneMachine, Callable[[Rejected], None]], Submission]
"""Function that submits a batch to the machine's database and store.

It calls its second argument with each refused line.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """Arguments of a command that runs a batch on this machine."""

    profiles: tuple[str, ...]
    """Worker profiles to start; the batch's jobs go to the queues of these profiles."""
    submit: Submit | None
    """Function that makes the batch; None to continue the batch `batch_id`."""
    batch_id: UUID | None = None
    retry_failed: bool = False
    out: Path | None
    """Folder for the results; None if they are not kept."""
    devices: tuple[Device, ...]
    resume_command: tuple[str, ...]
    """Command that continues the batch, without the batch id; empty if its services end with the run."""
    kind: str | None = None
    """Kind of the batches that the command runs; None if the caller checks the kind itself."""
    is_ingested: bool = False
    """Whether the input was read earlier, so its refused lines are already in the output folder."""


@dataclass(frozen=True, slots=True)
class RunResult(Generic[ExportedT]):
    """Outcome of a run."""

    summary: Summary
    exported: ExportedT
    dropped: Dropped | None = None
    """Counts of the records that were refused; None for a batch that was submitted earlier."""


def run_batch(request: RunRequest, settings: Settings, export: Export[ExportedT]) -> RunResult[ExportedT]:
    """Run one batch until it ends or Ctrl-C is pressed; `export` writes the results so far into the output
    folder."""
    begun_at = time.monotonic()
    for profile in request.profiles:
        for model in settings.profile(profile).models:
            read_manifest(model_folder(settings.models_folder, model))  # fail before anything is started
    with (
        _output(request.out) as out,
        Interruption(counting=False) as interruption,
        OneMachine(settings, request.devices, profiles=request.profiles, say=say) as machine,
    ):
        submission = _batch(request, machine, out)
        batch_id = submission.batch_id
        resume = f"Continue it with: {shlex.join([*request.resume_command, '--batch', str(batch_id)])}"
        try:
            with interruption.counted():
                say(f"Batch {batch_id}{_place(request.out) or '; Ctrl-C stops it'}")
                kind = load_kind(batch_status(machine.database, batch_id).kind)
                machine.run_beside(services_of(kind, RUN))
                first_claim_at = _work(machine, batch_id, interruption)
            summary = Summary(
                report=batch_status(machine.database, batch_id),
                elapsed_seconds=time.monotonic() - begun_at,
                startup_seconds=first_claim_at - begun_at,
            )
            exported = export(machine.database, open_store(machine.urls.s3_url), summary, out)
        except BaseException:  # a second Ctrl-C or a failed worker start: finished work is safe
            if request.resume_command:
                say(resume)
            raise
        say_parked(summary.report)
        if summary.report.status is BatchStatus.RUNNING and request.resume_command:
            say(resume)
    return RunResult(summary, exported, submission.dropped)


@contextmanager
def _output(out: Path | None) -> Iterator[Path]:
    """Yield the folder for the results, checked to be writable; a temporary one if they are not kept."""
    if out is not None:
        check_output(out)
        yield out
        return
    with tempfile.TemporaryDirectory(prefix="pressroom-") as folder:
        yield Path(folder)


def _place(out: Path | None) -> str:
    return "" if out is None else f"; results will be in {out}"


def _work(machine: OneMachine, batch_id: UUID, interruption: Interruption) -> float:
    """Watch the batch until it ends or cannot continue without help; after an interruption, drain the
    workers.

    Return the monotonic time at which the first claim was seen.
    """
    claims_seen_at: list[float] = []

    def note_claims(report: BatchStatusReport) -> None:
        if not claims_seen_at and report.counts.queued < report.counts.total:
            claims_seen_at.append(time.monotonic())

    watch_batch(machine.database, batch_id, interruption, note_claims, check=machine.check)
    first_claim_at = claims_seen_at[0] if claims_seen_at else time.monotonic()
    if interruption.count:
        say(DRAINING)
        machine.drain()
    return first_claim_at


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOnDemand:
    """A run that starts now, whatever the due times of its schedule are."""

    schedule_id: UUID | None
    """Schedule that has at most one run at a time; None if this run may overlap others."""
    profiles: tuple[str, ...]
    """Worker profiles that the run needs."""
    resume_command: tuple[str, ...]
    """Command that continues the run on this machine, without the batch id."""
    start: Callable[[Engine], UUID]
    """Function that queues the run and returns the id of its batch. Raises RunUnderWayError."""


def run_on_demand(
    find: Callable[[Engine], RunOnDemand],
    out: Path | None,
    settings: Settings,
    devices: Callable[[], tuple[Device, ...]],
    export: Export[ExportedT],
) -> RunResult[ExportedT]:
    """Run on the workers that are running if they can do the work; otherwise start workers on `devices`.

    `find` reads the run from the database. Without `out` the results are not kept.
    """
    result = _run_elsewhere(find, out, settings, export)
    return result or _run_here(find, out, settings, devices(), export)


def _run_elsewhere(
    find: Callable[[Engine], RunOnDemand], out: Path | None, settings: Settings, export: Export[ExportedT]
) -> RunResult[ExportedT] | None:
    """Queue a run and watch it; return None if no long-running services have workers for it."""
    begun_at = time.monotonic()
    urls = find_running(settings, long_running=True)
    if urls is None:
        return None
    with opened_database(urls.db_url) as database:
        run = find(database)
        if not all(capacity(database, profile).num_workers for profile in run.profiles):
            return None
        with _output(out) as folder:
            batch_id = run.start(database)
            say(
                f"Batch {batch_id} is queued for the running workers{_place(out)}. "
                "Ctrl-C stops watching; the workers continue."
            )
            with Interruption() as interruption:
                report = watch_batch(database, batch_id, interruption)
            if report is None:
                raise KeyboardInterrupt
            say_parked(report)
            elapsed_seconds = time.monotonic() - begun_at
            summary = Summary(report=report, elapsed_seconds=elapsed_seconds, startup_seconds=0)
            return RunResult(summary, export(database, open_store(urls.s3_url), summary, folder))


def _run_here(
    find: Callable[[Engine], RunOnDemand],
    out: Path | None,
    settings: Settings,
    devices: tuple[Device, ...],
    export: Export[ExportedT],
) -> RunResult[ExportedT]:
    """Run with workers that this command starts. Raises RunUnderWayError before any of them is started."""
    with embedded_services(settings, say) as urls, opened_database(urls.db_url) as database:
        upgrade(database)
        run = find(database)
        if run.schedule_id is not None:
            _check_no_run_under_way(database, run.schedule_id, run.resume_command)
    request = RunRequest(
        profiles=run.profiles,
        submit=lambda machine, _: Submission(run.start(machine.database), created=True),
        out=out,
        devices=devices,
        resume_command=run.resume_command,
    )
    return run_batch(request, settings, export)


def _check_no_run_under_way(database: Engine, schedule_id: UUID, resume_command: Sequence[str]) -> None:
    """Raise RunUnderWayError, before any worker is started, if a run of the schedule is still under way.

    The error names the command that continues the run, because the run may have no workers.
    """
    with database.connect() as connection:
        batch_id = run_under_way(connection, schedule_id)
    if batch_id is not None:
        raise RunUnderWayError(batch_id, shlex.join([*resume_command, "--batch", str(batch_id)]))


def _batch(request: RunRequest, machine: OneMachine, out: Path) -> Submission:
    """Return the batch to run: the one to continue or a newly submitted one."""
    if request.batch_id is not None:
        report = batch_status(machine.database, request.batch_id)
        if request.kind is not None:
            check_kind(report, request.kind)
        check_profile(report, request.profiles)
        if request.retry_failed:
            num_queued = retry_unfinished(machine.database, request.batch_id)
            say(f"{plural(num_queued, 'job is', 'jobs are')} queued again.")
            if num_failed := batch_status(machine.database, request.batch_id).counts.failed:
                say(
                    f"{plural(num_failed, 'failed job', 'failed jobs')} of earlier stages cannot run again, "
                    "because later stages have already been planned. To retry the failed work, submit the "
                    "input again; finished work is not repeated."
                )
        return Submission(request.batch_id, created=False)
    if request.submit is None:
        raise ValueError("a run needs a batch, or a function that submits one")
    if request.is_ingested:
        return request.submit(machine, lambda _: None)
    with rejected_lines(out / REJECTED) as on_rejected:
        submission = request.submit(machine, on_rejected)
        on_rejected.are_new = submission.created
    if not submission.created:
        say("A batch with this idempotency key exists already; continuing it.")
    return submission


def check_kind(report: BatchStatusReport, kind: str) -> None:
    """Raise ConfigurationError if the batch is not of the kind that the command runs."""
    if report.kind != kind:
        raise ConfigurationError(
            f"batch {report.batch_id} is of kind {report.kind}, not {kind}: `pressroom kinds show "
            f"{report.kind}` names the command that continues it",
            code="batch_of_another_kind",
        )


def check_profile(report: BatchStatusReport, profiles: Collection[str]) -> None:
    """Raise ConfigurationError if the workers of this run would never receive the batch's messages."""
    if report.profile in profiles:
        return
    if report.model:
        advice = f"uses the model {report.model!r}: give --model {report.model}"
    else:
        advice = f"uses no model, and its jobs wait for workers of profile {report.profile!r}: omit --model"
    raise ConfigurationError(f"batch {report.batch_id} {advice}", code="batch_of_another_model")


@contextmanager
def rejected_lines(path: Path) -> Iterator[RefusedLines]:
    """Yield a function that writes each refused line to the file and prints the first few.

    The file is created even if no line is refused. If intake fails, the new file still replaces an earlier
    one, because it shows the reason.
    """
    with unpublished_file(path) as new:
        lines = RefusedLines(new.file)
        try:
            yield lines
        finally:
            if lines.are_new or lines.number:
                new.publish()
    if lines.number > MAX_REJECTED_SHOWN:
        more = plural(lines.number - MAX_REJECTED_SHOWN, "more refused line", "more refused lines")
        say(f"... and {more}: see {path}")


class RefusedLines:
    """Records refused lines; call it with each one."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.number = 0
        self.are_new = True
        """Whether the input was read now; False if it was submitted earlier and not read again."""

    def __call__(self, rejected: Rejected) -> None:
        self.number += 1
        self._file.write(json_text(rejected.as_json()) + "\n")
        if self.number <= MAX_REJECTED_SHOWN:
            say(f"refused: {rejected}")
