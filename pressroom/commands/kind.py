"""`pressroom run KIND` and `pressroom submit KIND`, for every kind whose jobs are the rows of one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

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

if TYPE_CHECKING:
    from pressroom.export import ExportReport
    from pressroom.run import RunResult
    from workers.producer import Order

_FILE_HELP = "Table with a row for each job: CSV, JSONL or Parquet, also .gz;"

File = Annotated[Path, file_argument(_FILE_HELP)]
OptionalFile = Annotated[Path | None, file_argument(_FILE_HELP)]
Model = Annotated[
    str | None,
    typer.Option(help="Installed model of a worker profile; defaults to the model of the kind."),
]
Seed = Annotated[
    int,
    typer.Option(min=0, max=MAX_SEED, help="Seed of the sampling: the same seed gives the same texts."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse the whole file if a single line is refused.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Setting of the kind; may be repeated."),
]
Priority = Annotated[
    int, typer.Option(min=-MAX_PRIORITY, max=MAX_PRIORITY, help="Batches with a higher priority go first.")
]
Tenant = Annotated[
    str,
    typer.Option(
        callback=label,
        help="Label of the owner. Tenants share the workers evenly; a tenant is not an access boundary.",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        callback=label,
        help="Key of the submission: submitting again with the same key returns the same batch.",
    ),
]
Deadline = Annotated[
    float | None,
    typer.Option(
        "--deadline",
        min=1,
        max=MAX_SECONDS,
        metavar="SECONDS",
        help="Time after which unfinished jobs expire.",
    ),
]
RejectedFile = Annotated[Path, typer.Option(help="File that receives the refused lines.")]


def run_command(kind: str, summary: str, *, name: str | None = None) -> Callable[..., None]:
    """Return the function of `pressroom run NAME`.

    `summary` is its help; `name` defaults to the name of the kind.
    """

    def run(
        file: OptionalFile = None,
        out: Out = Path("out"),
        batch: BatchOption = None,
        retry_failed: RetryFailed = False,
        model: Model = None,
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
        from workers.producer import Order, model_of

        if (file is None) == (batch is None):
            raise typer.BadParameter("give a FILE, or --batch to continue a batch", param_hint="FILE")
        with errors_reported():
            order = Order(
                kind=kind,
                model=model_of(kind, model),
                settings=parse_settings(kind, settings),
                seed=seed,
                strict=strict,
                idempotency_key=idempotency_key,
                deadline_seconds=deadline,
                file=file_options(delimiter, encoding, decimal),
            )
            request = _Run(name or kind, file, batch, retry_failed, device, out)
            result = _run_order(order, request, settings or [])
        _print_result(result, out, max_dropped, json=json)

    run.__doc__ = summary
    return run


def submit_command(kind: str, summary: str) -> Callable[..., None]:
    """Return the function of `pressroom submit` for the kind; `summary` is its help."""

    def submit(
        file: File,
        model: Model = None,
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
        rejected: RejectedFile = Path("rejected.jsonl"),
        json: Json = False,
    ) -> None:
        from workers.producer import Order, model_of

        with errors_reported():
            order = Order(
                kind=kind,
                model=model_of(kind, model),
                settings=parse_settings(kind, settings),
                seed=seed,
                strict=strict,
                idempotency_key=idempotency_key,
                deadline_seconds=deadline,
                file=file_options(delimiter, encoding, decimal),
                priority=priority,
                tenant=tenant,
            )
        _submit_order(order, file, rejected, max_dropped, json=json)

    submit.__doc__ = summary
    return submit


def refused_command(kind: str, path: str, summary: str) -> Callable[..., None]:
    """Return a command that fails and names the command that makes the kind's batches."""

    def refuse(arguments: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:  # noqa: ARG001
        raise typer.BadParameter(f"batches of kind {kind} are made by `pressroom {path}`: see its --help")

    refuse.__doc__ = summary
    return refuse


def parse_settings(kind: str, pairs: list[str] | None) -> dict[str, object]:
    """Parse ["temperature=0.7"] to {"temperature": "0.7"} and check it against the kind's settings."""
    from jobs.registry import load_kind
    from workers.producer import kind_settings_of

    settings: dict[str, object] = {}
    for name, equals, value in (pair.partition("=") for pair in pairs or ()):
        if not name or not equals:
            raise typer.BadParameter(f"{name!r} is not NAME=VALUE", param_hint="--set")
        settings[name] = value
    try:
        kind_settings_of(load_kind(kind), settings)
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint="--set") from error
    return settings


@dataclass(frozen=True, slots=True)
class _Run:
    """Arguments of `pressroom run` that are not part of the batch request."""

    name: str
    """Name of the command."""
    file: Path | None
    batch_id: UUID | None
    retry_failed: bool
    device: str
    out: Path

    def resume_command(self, model: str, settings: list[str]) -> tuple[str, ...]:
        """Return the command that continues the batch, without the batch id."""
        return (
            *("pressroom", "run", self.name),
            *(("--model", model) if model else ()),
            *(word for pair in settings for word in ("--set", pair)),
            *("--device", self.device, "--out", str(self.out)),
        )


def _run_order(order: Order, run: _Run, settings: list[str]) -> RunResult[ExportReport]:
    """Submit the file, or continue the batch, and run it on this machine."""
    from pressroom.export import exporter_of
    from pressroom.run import RunRequest, run_batch
    from workers.producer import new_batch, submit_rows

    configured = settings_of_command()
    file = run.file
    request = RunRequest(
        profiles=new_batch(order, configured, name=order.kind).profiles,
        submit=None
        if file is None
        else lambda machine, on_rejected: submit_rows(machine.database, file, order, configured, on_rejected),
        batch_id=run.batch_id,
        retry_failed=run.retry_failed,
        out=run.out,
        devices=devices_of_command(run.device),
        resume_command=run.resume_command(order.model, settings),
        kind=order.kind,
    )
    return run_batch(request, configured, exporter_of(order.kind))


def _print_result(
    result: RunResult[ExportReport], out: Path, max_dropped: float | None, *, json: bool
) -> None:
    """Print the outcome of a run; exit with a failure if a result is missing."""
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


def _submit_order(order: Order, file: Path, rejected: Path, max_dropped: float | None, *, json: bool) -> None:
    """Queue the file's valid lines and print the batch's id."""
    from db import migrate, reports
    from pressroom.run import rejected_lines
    from pressroom.show import report_json
    from workers.producer import submit_rows

    with connected() as (database, _, configured):
        migrate.upgrade(database)
        with rejected_lines(rejected) as on_rejected:
            submission = submit_rows(database, file, order, configured, on_rejected)
            on_rejected.are_new = submission.created
        report = reports.batch_status(database, submission.batch_id)
    if json:
        print_json({**report_json(report), "created": submission.created})
    else:
        typer.echo(str(submission.batch_id))
    if is_dropped_too_much(submission.dropped, max_dropped):
        raise typer.Exit(EXIT_FAILURE)
