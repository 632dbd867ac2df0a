"""The command line: parse -> call -> print."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from sqlalchemy import Engine

from db import batches, migrate, reports
from db.session import opened_database
from jobs.batch import BatchStatusReport
from pressroom import models_cli
from pressroom.articles import INDEX, export_articles
from pressroom.config import print_configuration
from pressroom.console import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    errors_reported,
    print_json,
    say,
    set_up_logging,
)
from pressroom.embedded.services import ServiceUrls, embedded_services
from pressroom.quality import Quality
from pressroom.run import REJECTED, RunRequest, rejected_lines, run_batch
from pressroom.serve import run_dispatcher, run_services, run_workers
from pressroom.show import print_job, print_quality, print_status
from pressroom.summary import Summary
from storage import open_store
from workers.devices import parse_devices
from workers.producer import Order, submit_file
from workers.settings import (
    DEFAULT_MODEL,
    ENVIRONMENT_PREFIX,
    Settings,
    read_settings,
    unknown_variables,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Batch content production on your own machines: nothing lost, nothing twice, with provenance.",
)
run_app = typer.Typer(no_args_is_help=True, help="Run a batch on this machine, from file to results.")
submit_app = typer.Typer(no_args_is_help=True, help="Queue a batch for workers that run elsewhere.")
db_app = typer.Typer(no_args_is_help=True, help="The database's schema.")
app.add_typer(run_app, name="run")
app.add_typer(submit_app, name="submit")
app.add_typer(db_app, name="db")
app.add_typer(models_cli.app, name="models")

ARTICLE = "article"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
File = Annotated[
    Path,
    typer.Argument(exists=True, dir_okay=False, readable=True, help="CSV or JSONL, also .gz."),
]
Out = Annotated[Path, typer.Option("--out", "-o", file_okay=False, help="Folder for the results.")]
Model = Annotated[str, typer.Option(help="An installed model that some worker profile has warm.")]
Seed = Annotated[int, typer.Option(help="Of the batch's sampling: the same seed, the same texts.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse the whole file for one bad line.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of the kind; repeat.")
]
Priority = Annotated[int, typer.Option(min=-100, max=100, help="Higher goes first.")]
Tenant = Annotated[str, typer.Option(help="Tenants share the workers evenly.")]
Key = Annotated[
    str | None, typer.Option(help="The same key again returns the same batch instead of a second one.")
]
Deadline = Annotated[
    float | None, typer.Option("--deadline", min=1, metavar="SECONDS", help="Jobs not done by then expire.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda:N, or several with commas.")]
BatchArgument = Annotated[UUID, typer.Argument(metavar="BATCH")]


@run_app.command("articles")
def run_articles(
    file: Annotated[
        Path | None,
        typer.Argument(exists=True, dir_okay=False, readable=True, help="Briefs: CSV or JSONL, also .gz."),
    ] = None,
    out: Out = Path("out"),
    batch: Annotated[UUID | None, typer.Option(help="Go on with this batch; no FILE then.")] = None,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="With --batch: run failed, cancelled and expired jobs again."),
    ] = False,
    model: Model = DEFAULT_MODEL,
    device: DeviceOption = "auto",
    seed: Seed = 0,
    settings: Set = None,
    strict: Strict = False,
    idempotency_key: Key = None,
    deadline: Deadline = None,
    json: Json = False,
) -> None:
    """Write an article for each brief: submit, work, show progress, export, stop."""
    if (file is None) == (batch is None):
        raise typer.BadParameter("give a FILE, or --batch to go on with one", param_hint="FILE")
    order = Order(
        kind=ARTICLE,
        model=model,
        settings=_parse_settings(settings),
        seed=seed,
        strict=strict,
        idempotency_key=idempotency_key,
        deadline_seconds=deadline,
    )
    with errors_reported():
        request = RunRequest(
            order=order,
            file=file,
            batch_id=batch,
            retry_failed=retry_failed,
            out=out,
            devices=tuple(parse_devices(device)),
        )
        result = run_batch(request, _settings(), export_articles)
    _print_summary(result.summary, result.exported, out, json=json)
    if result.interrupted:
        say(f"Go on with: pressroom run articles --batch {result.summary.batch_id} --out {out}")
        raise typer.Exit(EXIT_INTERRUPTED)
    if not result.summary.report.counts.complete:
        raise typer.Exit(EXIT_FAILURE)


@submit_app.command("articles")
def submit_articles(
    file: File,
    model: Model = DEFAULT_MODEL,
    seed: Seed = 0,
    settings: Set = None,
    strict: Strict = False,
    idempotency_key: Key = None,
    deadline: Deadline = None,
    priority: Priority = 0,
    tenant: Tenant = "default",
    rejected: Annotated[Path, typer.Option(help="Where refused lines are written.")] = Path(REJECTED),
    json: Json = False,
) -> None:
    """Queue an article for each brief; print the batch's id once everything is accepted."""
    order = Order(
        kind=ARTICLE,
        model=model,
        settings=_parse_settings(settings),
        seed=seed,
        strict=strict,
        idempotency_key=idempotency_key,
        deadline_seconds=deadline,
        priority=priority,
        tenant=tenant,
    )
    configured = _settings()
    with _connected(configured) as (database, _):
        migrate.upgrade(database)
        with rejected_lines(rejected) as on_rejected:
            submission = submit_file(database, file, order, configured, on_rejected)
        report = reports.batch_status(database, submission.batch_id)
    if json:
        print_json({**_report_json(report), "created": submission.created})
    else:
        typer.echo(str(submission.batch_id))
    if report.counts.rejected:
        raise typer.Exit(EXIT_FAILURE)


@app.command()
def status(batch: BatchArgument, json: Json = False) -> None:
    """Print a batch's jobs by state, tokens and errors."""
    with _connected(_settings()) as (database, _):
        report = reports.batch_status(database, batch)
    if json:
        print_json(_report_json(report))
    else:
        print_status(report)


@app.command("batches")
def list_batches(limit: Annotated[int, typer.Option(min=1, max=1000)] = 20, json: Json = False) -> None:
    """List the newest batches."""
    with _connected(_settings()) as (database, _):
        rows = reports.list_batches(database, limit=limit)
    if json:
        names = ("id", "name", "kind", "status", "created_at")
        print_json({"batches": [dict(zip(names, row, strict=True)) for row in rows]})
        return
    for batch_id, name, kind, state, created_at in rows:
        typer.echo(f"{batch_id}  {created_at:%Y-%m-%d %H:%M}  {state.value:<9}  {kind:<10}  {name}")


@app.command()
def results(batch: BatchArgument, out: Out = Path("out"), json: Json = False) -> None:
    """Write a batch's results so far into a folder."""
    with _connected(_settings()) as (database, urls):
        summary = Summary(report=reports.batch_status(database, batch), elapsed_seconds=0, startup_seconds=0)
        quality = export_articles(database, open_store(urls.s3_url), summary, out)
    _print_summary(summary, quality, out, json=json)


@app.command()
def cancel(batch: BatchArgument) -> None:
    """End a batch; what is finished stays."""
    with _connected(_settings()) as (database, _):
        number = batches.cancel(database, batch)
    typer.echo(f"{number} jobs cancelled")


@app.command()
def show(
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job's id, or BATCH/ID with the line's id.")],
    json: Json = False,
) -> None:
    """Show how one job's artifact was made: attempts, model, engine, sampling, tokens, digests."""
    with _connected(_settings()) as (database, _):
        detail = reports.job_detail(database, _job_id(database, job))
    print_job(detail, json=json)


@app.command()
def services() -> None:
    """Run Valkey, Postgres and S3 for this machine until Ctrl-C; print their URLs."""
    with errors_reported():
        run_services(_settings())


@app.command()
def dispatcher() -> None:
    """Send queued jobs to the workers and repair what crashes leave, until Ctrl-C."""
    with errors_reported():
        run_dispatcher(_settings())


@app.command()
def worker(device: DeviceOption = "auto", profile: Annotated[str, typer.Option()] = "default") -> None:
    """Run one worker process for each device, its models warm, until Ctrl-C drains it."""
    with errors_reported():
        run_workers(_settings(), parse_devices(device), profile)


@db_app.command("upgrade")
def db_upgrade() -> None:
    """Bring the database to this version's schema."""
    with _connected(_settings()) as (database, _):
        migrate.upgrade(database)
        typer.echo(f"the database is at revision {migrate.revisions(database)[0]}")


@app.command()
def config(json: Json = False) -> None:
    """Print every setting with its value and source; secrets are masked."""
    with errors_reported():
        print_configuration(_settings(), json=json)


@contextmanager
def _connected(settings: Settings) -> Iterator[tuple[Engine, ServiceUrls]]:
    """The database and where the services are, for one command; errors end it as they should."""
    with (
        errors_reported(),
        embedded_services(settings, say) as urls,
        opened_database(urls.db_url) as database,
    ):
        yield database, urls


def _settings() -> Settings:
    settings = read_settings()
    set_up_logging(settings)
    for name in unknown_variables():
        near = get_close_matches(
            name, [f"{ENVIRONMENT_PREFIX}{field.upper()}" for field in Settings.model_fields]
        )
        say(f"warning: {name} is no setting{f', did you mean {near[0]}?' if near else ''}")
    return settings


def _parse_settings(given: list[str] | None) -> dict[str, Any]:
    """["temperature=0.7"] -> {"temperature": "0.7"}; the kind's settings type converts and checks."""
    pairs = [item.partition("=") for item in given or []]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise typer.BadParameter(f"{name!r} is not NAME=VALUE", param_hint="--set")
    return {name: value for name, _, value in pairs}


def _job_id(database: Engine, job: str) -> UUID:
    batch, slash, custom_id = job.partition("/")
    try:
        first = UUID(batch)
    except ValueError as error:
        raise typer.BadParameter("give a job's id, or BATCH/ID", param_hint="JOB") from error
    return reports.find_job(database, first, custom_id) if slash else first


def _report_json(report: BatchStatusReport) -> dict[str, object]:
    return Summary(report=report, elapsed_seconds=0, startup_seconds=0).as_json()


def _print_summary(summary: Summary, quality: Quality, out: Path, *, json: bool) -> None:
    if json:
        print_json({**summary.as_json(), "quality": quality.as_json(), "out": str(out)})
    else:
        print_status(summary.report)
        print_quality(quality)
        typer.echo(f"results: {out / INDEX}")


def main() -> None:
    """Entry point of the `pressroom` command."""
    app()
