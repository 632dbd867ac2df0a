"""The commands that show and change batches and jobs."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from jobs.shown import plural
from pressroom.commands.options import BatchArgument, Json
from pressroom.commands.session import client_of_command, connected
from pressroom.console import EXIT_FAILURE, print_json, print_line, say

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from db.reports import JobDetail
    from pressroom.summary import Altered
    from storage.store import Store


def status(batch: BatchArgument, json: Json = False) -> None:
    """Show the progress of a batch: jobs by state, tokens and errors."""
    from db import reports
    from pressroom.describers import describer_of, lines_json
    from pressroom.show import print_status, report_json

    with connected() as (database, _, _):
        report = reports.batch_status(database, batch)
        description = list(describer_of(report.kind).describe_batch(database, report))
    if json:
        print_json({**report_json(report), "description": lines_json(description)})
    else:
        print_status(report, description=description)


def list_batches(limit: Annotated[int, typer.Option(min=1, max=1000)] = 20, json: Json = False) -> None:
    """List the newest batches."""
    from db import reports

    with connected() as (database, _, _):
        rows = reports.list_batches(database, limit=limit)
    if json:
        names = ("id", "name", "kind", "status", "created_at")
        print_json({"batches": [dict(zip(names, row, strict=True)) for row in rows]})
        return
    for batch_id, name, kind, state, created_at in rows:
        print_line(f"{batch_id}  {created_at:%Y-%m-%d %H:%M}  {state.value:<9}  {kind:<10}  {name}")


class Layout(StrEnum):
    """The form in which results are written."""

    FILES = "files"
    OBJECTS = "objects"


def results(
    batch: BatchArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", file_okay=False, help="Folder for the results.", show_default="out"),
    ] = None,
    layout: Annotated[
        Layout,
        typer.Option(
            help="files: a folder with tables and a page. objects: each artifact as an object of the store, "
            "under a readable key."
        ),
    ] = Layout.FILES,
    prefix: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX",
            help="With --layout objects: prefix of the objects' keys.",
            show_default="results",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write the results that a batch has so far into a folder, or as objects with readable keys."""
    from db import reports
    from pressroom.export import exporter_of
    from pressroom.object_export import DEFAULT_PREFIX, check_result_prefix, export_objects
    from pressroom.summary import Summary
    from storage import open_store

    if layout is Layout.FILES and prefix is not None:
        raise typer.BadParameter("use it with --layout objects", param_hint="--prefix")
    if layout is Layout.OBJECTS and out is not None:
        raise typer.BadParameter("use it without --layout objects", param_hint="--out")
    out = out or Path("out")
    with connected() as (database, urls, _):
        checked = check_result_prefix(DEFAULT_PREFIX if prefix is None else prefix)
        objects = partial(export_objects, prefix=checked)
        report = reports.batch_status(database, batch)
        summary = Summary(report=report, elapsed_seconds=0, startup_seconds=0)
        export = exporter_of(report.kind) if layout is Layout.FILES else objects
        exported = export(database, open_store(urls.s3_url), summary, out)
    exported.print(summary, out, json=json)
    if summary.altered:
        raise typer.Exit(EXIT_FAILURE)


def cancel(batch: BatchArgument) -> None:
    """Cancel a batch; its finished results are kept."""
    with client_of_command() as client:
        number = client.cancel(batch)
    print_line(f"{plural(number, 'job', 'jobs')} cancelled")


def retry(
    batch: BatchArgument,
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="[JOB]", help="Id of a job or of its input line; defaults to all jobs of the batch."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Queue failed, expired and cancelled jobs again, and release parked jobs."""
    with client_of_command() as client:
        number = client.retry(batch, job)
    if json:
        print_json({"batch_id": str(batch), "num_queued": number})
    else:
        print_line(f"{plural(number, 'job is', 'jobs are')} queued again")


def show(
    job: Annotated[
        str,
        typer.Argument(
            metavar="JOB",
            help="Id of a job, or BATCH/ID: the id of the batch and the id of the job's input line.",
        ),
    ],
    json: Json = False,
) -> None:
    """Show how a job's artifact was made: attempts, model, engine, sampling, tokens and digests."""
    from db import reports
    from jobs.job import JobStatus
    from pressroom.describers import describer_of
    from pressroom.show import print_job
    from storage import open_store

    with connected() as (database, urls, _):
        detail = reports.job_detail(database, _job_id(database, job))
        statement, altered = None, None
        if detail.result.status is JobStatus.SUCCEEDED:
            statement, altered = _checked(database, open_store(urls.s3_url), detail)
        description = list(describer_of(detail.kind).describe_job(detail))
    print_job(detail, statement, altered, description, json=json)
    if altered is not None:
        say(f"error [{altered.code}]: {altered}")
        raise typer.Exit(EXIT_FAILURE)


def _checked(database: Engine, store: Store, detail: JobDetail) -> tuple[bytes | None, Altered | None]:
    """Return the checked statement of a succeeded job, or the reason why it must not be shown."""
    from jobs.provenance import StatementAlteredError
    from pressroom.results import ArtifactAlteredError, check_job
    from pressroom.summary import Altered

    result = detail.result
    try:
        return check_job(database, store, result.job_id, result.payload), None
    except (ArtifactAlteredError, StatementAlteredError) as error:
        return None, Altered(result.job_id, result.custom_id, error.code, str(error))


def _job_id(database: Engine, job: str) -> UUID:
    from db import reports

    batch, slash, custom_id = job.partition("/")
    try:
        first = UUID(batch)
    except ValueError as error:
        raise typer.BadParameter("give the id of a job, or BATCH/ID", param_hint="JOB") from error
    return reports.find_job(database, first, custom_id) if slash else first
