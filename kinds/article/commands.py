"""`pressroom run articles` and `pressroom submit articles`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.errors import InputError
from jobs.ranges import MAX_PRIORITY, MAX_SECONDS, MAX_SEED
from pressroom.commands.options import (
    BatchOption,
    Decimal,
    Delimiter,
    DeviceOption,
    Encoding,
    Json,
    MaxDropped,
    Out,
    RetryFailed,
    file_argument,
    file_options,
    is_dropped_too_much,
    label,
)
from pressroom.commands.session import connected, devices_of_command, settings_of_command
from pressroom.console import EXIT_FAILURE, errors_reported, print_json, say
from workers.settings import DEFAULT_MODEL

if TYPE_CHECKING:
    from kinds.article.quality import Quality
    from pressroom.run import RunResult

ARTICLE = "article"

File = Annotated[
    Path,
    file_argument("Briefs: CSV, JSONL or Parquet, also .gz;"),
]
Briefs = Annotated[
    Path | None,
    file_argument("Briefs: CSV, JSONL or Parquet, also .gz;"),
]
Model = Annotated[str, typer.Option(help="An installed model that some worker profile has warm.")]
Seed = Annotated[
    int,
    typer.Option(min=0, max=MAX_SEED, help="Of the batch's sampling: the same seed, the same texts."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse the whole file for one bad line.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of the kind; repeat.")
]
Priority = Annotated[int, typer.Option(min=-MAX_PRIORITY, max=MAX_PRIORITY, help="Higher goes first.")]
Tenant = Annotated[
    str,
    typer.Option(callback=label, help="A label, and no boundary: tenants share the workers evenly."),
]
Key = Annotated[
    str | None,
    typer.Option(callback=label, help="The same key again returns the same batch instead of a second one."),
]
Deadline = Annotated[
    float | None,
    typer.Option(
        "--deadline",
        min=1,
        max=MAX_SECONDS,
        metavar="SECONDS",
        help="Jobs not done by then expire.",
    ),
]


def run_articles(
    file: Briefs = None,
    out: Out = Path("out"),
    batch: BatchOption = None,
    retry_failed: RetryFailed = False,
    model: Model = DEFAULT_MODEL,
    device: DeviceOption = "auto",
    seed: Seed = 0,
    settings: Set = None,
    strict: Strict = False,
    max_dropped: MaxDropped = None,
    idempotency_key: Key = None,
    deadline: Deadline = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    decimal: Decimal = None,
    json: Json = False,
) -> None:
    """Write an article for each brief: submit, work, show progress, export, stop."""
    from kinds.article.export import export_articles
    from pressroom.run import RunRequest, run_batch
    from workers.producer import Order, submit_file

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
        file=file_options(delimiter, encoding, decimal),
    )
    with errors_reported():
        configured = settings_of_command()
        request = RunRequest(
            profiles=(configured.profile_of([model]),),
            submit=None
            if file is None
            else lambda machine, on_rejected: submit_file(
                machine.database, file, order, configured, on_rejected
            ),
            batch_id=batch,
            retry_failed=retry_failed,
            out=out,
            devices=devices_of_command(device),
            go_on=("pressroom", "run", "articles", "--model", model, "--device", device, "--out", str(out)),
        )
        result = run_batch(request, configured, export_articles)
    _print(result, out, max_dropped, json=json)


def _print(result: RunResult[Quality], out: Path, max_dropped: float | None, *, json: bool) -> None:
    """What a run came to; ends with a failure if an article is missing."""
    from pressroom.export import FAILED
    from pressroom.run import REJECTED

    result.exported.print(result.summary, out, json=json)
    report = result.summary.report
    if report.counts.failed:
        say(f"What failed is in {out / FAILED}; --batch {report.batch_id} --retry-failed runs it again.")
    if report.counts.rejected:
        say(f"The refused lines are in {out / REJECTED}.")
    is_complete = replace(report.counts, rejected=0).complete if result.dropped else report.counts.complete
    if is_dropped_too_much(result.dropped, max_dropped) or not is_complete or result.summary.altered:
        raise typer.Exit(EXIT_FAILURE)


def submit_articles(
    file: File,
    model: Model = DEFAULT_MODEL,
    seed: Seed = 0,
    settings: Set = None,
    strict: Strict = False,
    max_dropped: MaxDropped = None,
    idempotency_key: Key = None,
    deadline: Deadline = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    decimal: Decimal = None,
    priority: Priority = 0,
    tenant: Tenant = "default",
    rejected: Annotated[Path, typer.Option(help="Where refused lines are written.")] = Path("rejected.jsonl"),
    json: Json = False,
) -> None:
    """Queue an article for each brief; print the batch's id once everything is accepted."""
    from db import migrate, reports
    from pressroom.run import rejected_lines
    from pressroom.show import report_json
    from workers.producer import Order, submit_file

    order = Order(
        kind=ARTICLE,
        model=model,
        settings=_parse_settings(settings),
        seed=seed,
        strict=strict,
        idempotency_key=idempotency_key,
        deadline_seconds=deadline,
        file=file_options(delimiter, encoding, decimal),
        priority=priority,
        tenant=tenant,
    )
    with connected() as (database, _, configured):
        migrate.upgrade(database)
        with rejected_lines(rejected) as on_rejected:
            submission = submit_file(database, file, order, configured, on_rejected)
            on_rejected.are_new = submission.created
        report = reports.batch_status(database, submission.batch_id)
    if json:
        print_json({**report_json(report), "created": submission.created})
    else:
        typer.echo(str(submission.batch_id))
    if is_dropped_too_much(submission.dropped, max_dropped):
        raise typer.Exit(EXIT_FAILURE)


def _parse_settings(given: list[str] | None) -> dict[str, Any]:
    """["temperature=0.7"] -> {"temperature": "0.7"}, checked by the kind's settings type."""
    from jobs.registry import load_kind
    from workers.producer import kind_settings_of

    pairs = [item.partition("=") for item in given or []]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise typer.BadParameter(f"{name!r} is not NAME=VALUE", param_hint="--set")
    settings = {name: value for name, _, value in pairs}
    try:
        kind_settings_of(load_kind(ARTICLE), settings)
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint="--set") from error
    return settings
