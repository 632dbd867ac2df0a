"""`pressroom run`: submits a batch, starts everything, shows progress, exports the results and stops.

This is the main way to run a batch on one machine.
"""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TextIO, TypeVar
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from db.batches import RunUnderWayError, retry_unfinished, run_under_way
from db.faults import DatabaseFault, fault_of
from db.reports import batch_status
from jobs.batch import BatchStatus, BatchStatusReport
from jobs.dropped import Dropped
from jobs.errors import ConfigurationError
from jobs.registry import load_kind
from jobs.rejection import Rejected
from jobs.shown import json_text
from pressroom.console import Interruption, say
from pressroom.export import check_output
from pressroom.one_machine import OneMachine
from pressroom.output import unpublished_file
from pressroom.progress import BatchProgress
from pressroom.summary import Summary
from storage import open_store
from storage.store import Store
from workers.background import RUN, services_of
from workers.devices import Device
from workers.models.manifest import model_folder, read_manifest
from workers.outage import Outage
from workers.producer import Submission
from workers.settings import Settings

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""Seconds between two queries for the state of the batch."""

REJECTED = "rejected.jsonl"
"""File in the output folder that has one JSON object for each refused line."""

MAX_REJECTED_SHOWN = 10
"""Maximum number of refused lines printed on the terminal; the file has all of them."""

ExportedT = TypeVar("ExportedT")
"""Type of a kind's report about the results that it exported."""

MAX_PARKED_SHOWN = 5

ReadT = TypeVar("ReadT")

Submit = Callable[[OneMachine, Callable[[Rejected], None]], Submission]
"""Function that submits a batch to the machine's database and store.

It passes each refused line to its second argument.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """Arguments of a command that runs a batch on this machine."""

    profiles: tuple[str, ...]
    """Worker profiles to start; their queues hold the batch's stages."""
    submit: Submit | None
    """Function that makes the batch; None to continue the batch `batch_id`."""
    batch_id: UUID | None
    retry_failed: bool
    out: Path
    devices: tuple[Device, ...]
    go_on: tuple[str, ...]
    """Command that continues the batch, without the batch id."""
    kind: str | None = None
    """Kind of the batches that the command runs; None if the caller checks the kind itself."""
    is_taken_in: bool = False
    """Whether the input was read earlier, so that its refused lines are already in the output folder."""


@dataclass(frozen=True, slots=True)
class RunResult(Generic[ExportedT]):
    """Outcome of a run."""

    summary: Summary
    exported: ExportedT
    dropped: Dropped | None = None
    """Records that were refused from the file; None for a batch that was submitted earlier."""


def run_batch(
    request: RunRequest, settings: Settings, export: Callable[[Engine, Store, Summary, Path], ExportedT]
) -> RunResult[ExportedT]:
    """Run one batch until it ends or Ctrl-C; `export` writes the results so far into the output folder."""
    begun_at = time.monotonic()
    for profile in request.profiles:
        for model in settings.profile(profile).models:
            read_manifest(model_folder(settings.models_folder, model))  # fail before anything is started
    check_output(request.out)
    with (
        Interruption(counting=False) as interruption,
        OneMachine(settings, request.devices, profiles=request.profiles, say=say) as machine,
    ):
        submission = _batch(request, machine)
        batch_id = submission.batch_id
        go_on = f"Go on with: {shlex.join([*request.go_on, '--batch', str(batch_id)])}"
        try:
            with interruption.counted():
                say(f"Batch {batch_id}; results will be in {request.out}")
                kind = load_kind(batch_status(machine.database, batch_id).kind)
                machine.run_beside(services_of(kind, RUN))
                first_claim_at = _work(machine, batch_id, interruption)
            summary = Summary(
                report=batch_status(machine.database, batch_id),
                elapsed_seconds=time.monotonic() - begun_at,
                startup_seconds=first_claim_at - begun_at,
            )
            exported = export(machine.database, open_store(machine.urls.s3_url), summary, request.out)
        except BaseException:  # after a second Ctrl-C or a failed worker start, finished work is safe
            say(go_on)
            raise
        say_parked(summary.report)
        if summary.report.status is BatchStatus.RUNNING:
            say(go_on)
    return RunResult(summary, exported, submission.dropped)


def _work(machine: OneMachine, batch_id: UUID, interruption: Interruption) -> float:
    """Watch the batch until it is final, or drain after an interruption.

    Return the monotonic time at which the first claim was seen.
    """
    first_claim_at = _watch(machine, batch_id, interruption)
    if interruption.count:
        say("Draining: what has begun is finished, the rest stays queued. Ctrl-C again ends at once.")
        machine.drain()
    return first_claim_at


def _batch(request: RunRequest, machine: OneMachine) -> Submission:
    """Return the batch to run: either the given one or a newly submitted one."""
    if request.batch_id is not None:
        report = batch_status(machine.database, request.batch_id)
        if request.kind is not None:
            check_kind(report, request.kind)
        check_profile(report, request.profiles)
        if request.retry_failed:
            say(f"{retry_unfinished(machine.database, request.batch_id)} jobs are queued again")
            if num_failed := batch_status(machine.database, request.batch_id).counts.failed:
                say(
                    f"{num_failed} failed jobs of earlier stages stay so: what followed was planned without "
                    "them. Submit the input again; what is done is not done twice"
                )
        return Submission(request.batch_id, created=False)
    if request.submit is None:
        raise ValueError("neither a batch nor how to make one was given")
    if request.is_taken_in:
        return request.submit(machine, lambda _: None)
    with rejected_lines(request.out / REJECTED) as on_rejected:
        submission = request.submit(machine, on_rejected)
        on_rejected.are_new = submission.created
    if not submission.created:
        say("This idempotency key has a batch already; going on with it.")
    return submission


def say_parked(report: BatchStatusReport) -> None:
    """Print which jobs are parked until a user releases them, if there are any."""
    if report.num_parked:
        names = ", ".join(repr(job.custom_id) for job in report.parked[:MAX_PARKED_SHOWN])
        more = ", ..." if report.num_parked > MAX_PARKED_SHOWN else ""
        say(
            f"{report.num_parked} jobs are parked ({names}{more}): their workers were lost again and again, "
            f"and nothing says why. `pressroom status {report.batch_id}` lists the evidence, "
            f"`pressroom retry {report.batch_id}` releases them"
        )


def check_kind(report: BatchStatusReport, kind: str) -> None:
    """Raise ConfigurationError if the batch is of another kind than the command runs."""
    if report.kind != kind:
        raise ConfigurationError(
            f"batch {report.batch_id} is of kind {report.kind}, not {kind}: `pressroom kinds show "
            f"{report.kind}` names the command that goes on with it",
            code="batch_of_another_kind",
        )


def check_profile(report: BatchStatusReport, profiles: Collection[str]) -> None:
    """Raise ConfigurationError if the workers of this run would never receive the batch's messages."""
    if report.profile in profiles:
        return
    if report.model:
        advice = f"asks for the model {report.model!r}: give --model {report.model}"
    else:
        advice = (
            f"asks no model, and its jobs wait for workers of profile {report.profile!r}: give no --model"
        )
    raise ConfigurationError(f"batch {report.batch_id} {advice}", code="batch_of_another_model")


def check_no_run_under_way(database: Engine, schedule_id: UUID, go_on: Sequence[str]) -> None:
    """Raise RunUnderWayError, before any worker is started, if a run of the schedule is still under way.

    The error names the command that continues the run, because possibly nobody works on it.
    """
    with database.connect() as connection:
        batch_id = run_under_way(connection, schedule_id)
    if batch_id is not None:
        raise RunUnderWayError(batch_id, shlex.join([*go_on, "--batch", str(batch_id)]))


@contextmanager
def rejected_lines(path: Path) -> Iterator[RefusedLines]:
    """Yield a function that writes each refused line to the file and prints the first few.

    The file is created even if no line is refused. It also replaces an earlier file when intake fails, since
    it then shows why.
    """
    with unpublished_file(path) as new:
        lines = RefusedLines(new.file)
        try:
            yield lines
        finally:
            if lines.are_new or lines.number:
                new.publish()
    if lines.number > MAX_REJECTED_SHOWN:
        say(f"... and {lines.number - MAX_REJECTED_SHOWN} more refused lines: see {path}")


class RefusedLines:
    """Records refused lines; call it with each one."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.number = 0
        self.are_new = True
        """False if a batch was made from the input earlier, so that the input is not read again."""

    def __call__(self, rejected: Rejected) -> None:
        self.number += 1
        self._file.write(json_text(rejected.as_json()) + "\n")
        if self.number <= MAX_REJECTED_SHOWN:
            say(f"refused: {rejected}")


def _watch(machine: OneMachine, batch_id: UUID, interruption: Interruption) -> float:
    """Show progress until the batch is final or the user interrupts.

    Return the monotonic time at which the first claim was seen.
    """
    first_claim_at: float | None = None
    outage = postgres_outage()
    with BatchProgress() as progress:
        while not interruption.count:
            machine.check()
            report = if_possible(partial(batch_status, machine.database, batch_id), outage)
            if report is not None:
                progress.show(report)
                if first_claim_at is None and report.counts.queued < report.counts.total:
                    first_claim_at = time.monotonic()
                if not report.goes_on:
                    break
            time.sleep(POLL_SECONDS)
    return first_claim_at or time.monotonic()


def postgres_outage() -> Outage:
    """Return an outage for `if_possible` that prints when Postgres is away and when it is back, once each."""
    return Outage(logger, "Postgres", meanwhile="waiting for it", say=say)


def if_possible(read: Callable[[], ReadT], outage: Outage) -> ReadT | None:
    """Return what `read` reads from the database, or None while the database is away.

    Raises SQLAlchemyError if the database refuses the query.
    """
    try:
        value = read()
    except SQLAlchemyError as error:
        fault = fault_of(error)
        if fault is DatabaseFault.MISUSE:
            raise
        outage.note(error, fault)
        return None
    outage.end()
    return value


def watch_elsewhere(database: Engine, batch_id: UUID) -> BatchStatusReport:
    """Show the progress of a batch that other processes work on, until it is final or the user interrupts."""
    outage = postgres_outage()
    with Interruption() as interruption, BatchProgress() as progress:
        while True:
            report = if_possible(partial(batch_status, database, batch_id), outage)
            if report is not None:
                progress.show(report)
                if not report.goes_on or interruption.count:
                    break
            elif interruption.count:
                raise KeyboardInterrupt
            time.sleep(POLL_SECONDS)
    say_parked(report)
    return report
