"""`pressroom run KIND` and `pressroom submit KIND`, for every kind that makes batches from files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from jobs.errors import InputError
from jobs.ranges import MAX_PRIORITY, MAX_SECONDS, MAX_SEED
from pressroom.commands.option_groups import with_option_groups
from pressroom.commands.options import (
    BatchOption,
    DeviceOption,
    Json,
    MaxDropped,
    Out,
    RetryFailed,
    TableFormat,
    file_argument,
    input_path,
    is_dropped_too_much,
    label,
)
from pressroom.commands.session import connected, devices_of_command, settings_of_command
from pressroom.console import EXIT_FAILURE, errors_reported, print_json, say

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from jobs.intake.dialect import FileOptions
    from jobs.rejection import Dropped, Rejected
    from pressroom.embedded.services import ServiceUrls
    from pressroom.export import ExportReport
    from pressroom.one_machine import OneMachine
    from pressroom.run import RunResult
    from workers.intake import BatchRequest
    from workers.producer import Submission

_FILE_HELP = (
    "First input of the kind: by default a table with a row for each job, as CSV, JSONL or Parquet, also .gz;"
)

File = Annotated[Path, file_argument(_FILE_HELP)]
OptionalFile = Annotated[Path | None, file_argument(_FILE_HELP)]
InputFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=FILE",
        help="Additional input as NAME=FILE; may be repeated. `pressroom kinds show KIND` lists the inputs.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="Installed model that a worker profile includes; defaults to the kind's default model."
    ),
]
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
RejectedFile = Annotated[Path, typer.Option(help="File that receives the refused lines.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionOptions:
    """Options of the commands that make a batch of any kind from files."""

    inputs: InputFiles = None
    model: Model = None
    seed: Annotated[
        int,
        typer.Option(min=0, max=MAX_SEED, help="Seed of the sampling: the same seed gives the same texts."),
    ] = 0
    settings: Set = None
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse the whole file if any line is refused.")
    ] = False
    max_dropped: MaxDropped = None
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            callback=label,
            help="Idempotency key: submitting again with the same key returns the same batch.",
        ),
    ] = None
    deadline: Annotated[
        float | None,
        typer.Option(
            "--deadline",
            min=1,
            max=MAX_SECONDS,
            metavar="SECONDS",
            help="Time after which unfinished jobs expire.",
        ),
    ] = None

    def request(self, kind: str, file: FileOptions) -> BatchRequest:
        """Return the request for a batch of a kind. Raises ConfigurationError or BadParameter."""
        from workers.intake import BatchRequest
        from workers.producer import model_of

        return BatchRequest(
            kind=kind,
            model=model_of(kind, self.model),
            settings=self.kind_settings(kind),
            seed=self.seed,
            strict=self.strict,
            idempotency_key=self.idempotency_key,
            deadline_seconds=self.deadline,
            file=file,
        )

    def resume_options(self) -> tuple[str, ...]:
        """Return the options that the command which continues the batch needs, too."""
        return tuple(word for pair in self.settings or () for word in ("--set", pair))

    def named_inputs(self) -> list[str]:
        """Return the additional inputs as NAME=FILE, including those of a kind's own options."""
        return list(self.inputs or ())

    def run_instead(
        self,
        request: BatchRequest,  # noqa: ARG002
        inputs: Mapping[str, Path],  # noqa: ARG002
        device: str,  # noqa: ARG002
        *,
        json: bool,  # noqa: ARG002
    ) -> bool:
        """Do what the options of a kind request instead of a run, such as a preview; return whether any do.

        Raises PressroomError or BadParameter.
        """
        return False

    def kind_settings(self, kind: str) -> dict[str, object]:
        """Return the values of the kind's settings. Raises ConfigurationError, InputError or BadParameter."""
        return parse_settings(kind, self.settings)


def run_command(
    kind: str,
    summary: str,
    *,
    name: str | None = None,
    options_type: type[SubmissionOptions] = SubmissionOptions,
) -> Callable[..., None]:
    """Return the function of `pressroom run NAME`.

    `summary` is its help; `name` defaults to the name of the kind. A kind may add options of its own with a
    subclass as `options_type`.
    """

    def run(
        file: OptionalFile = None,
        out: Out = Path("out"),
        batch: BatchOption = None,
        retry_failed: RetryFailed = False,
        device: DeviceOption = "auto",
        json: Json = False,
        *,
        options: SubmissionOptions,
        table_format: TableFormat,
    ) -> None:
        if (file is None) == (batch is None):
            raise typer.BadParameter("give a FILE, or --batch to continue a batch", param_hint="FILE")
        with errors_reported():
            request = options.request(kind, table_format.options())
            inputs = input_files(kind, file, options.named_inputs())
            if options.run_instead(request, inputs, device, json=json):
                return
            run = _Run(name or kind, inputs, batch, retry_failed, device, out, options.resume_options())
            result = _run_request(request, run)
        _print_result(result, out, options.max_dropped, json=json)

    run.__doc__ = summary
    run.__annotations__["options"] = options_type
    return with_option_groups(run)


def submit_command(
    kind: str, summary: str, *, options_type: type[SubmissionOptions] = SubmissionOptions
) -> Callable[..., None]:
    """Return the function of `pressroom submit` for the kind; the arguments are those of `run_command`."""

    def submit(
        file: File,
        priority: Priority = 0,
        tenant: Tenant = "default",
        rejected: RejectedFile = Path("rejected.jsonl"),
        json: Json = False,
        *,
        options: SubmissionOptions,
        table_format: TableFormat,
    ) -> None:
        with errors_reported():
            request = options.request(kind, table_format.options())
            request = replace(request, priority=priority, tenant=tenant)
        inputs = input_files(kind, file, options.named_inputs())
        _submit_request(request, inputs, rejected, options.max_dropped, json=json)

    submit.__doc__ = summary
    submit.__annotations__["options"] = options_type
    return with_option_groups(submit)


def refused_command(kind: str, path: str, summary: str) -> Callable[..., None]:
    """Return a command that fails and names the command that makes the kind's batches."""

    def refuse(arguments: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:  # noqa: ARG001
        raise typer.BadParameter(f"batches of kind {kind} are made by `pressroom {path}`: see its --help")

    refuse.__doc__ = summary
    return refuse


def parse_settings(
    kind: str, pairs: list[str] | None, others: Mapping[str, object] = MappingProxyType({})
) -> dict[str, object]:
    """Parse ["temperature=0.7"] into {"temperature": "0.7"} and check it against the kind's settings.

    `others` are settings that come from other options, with which these must agree.
    """
    from jobs.registry import load_kind
    from workers.intake import options_of

    settings: dict[str, object] = {}
    for name, equals, value in (pair.partition("=") for pair in pairs or ()):
        if not name or not equals:
            raise typer.BadParameter(f"{name!r} is not of the form NAME=VALUE", param_hint="--set")
        settings[name] = value
    try:
        options_of(load_kind(kind), {**others, **settings} if settings else settings)
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint="--set") from error
    return settings


@dataclass(frozen=True, slots=True)
class _Run:
    """Arguments of `pressroom run` that are not part of the batch request."""

    name: str
    """Name of the command, as in `pressroom run NAME`."""
    inputs: Mapping[str, Path]
    """Files by the names of the inputs; empty to continue the batch `batch_id`."""
    batch_id: UUID | None
    retry_failed: bool
    device: str
    out: Path
    options: tuple[str, ...]
    """Options of the kind that the command which continues the batch needs, too."""

    def resume_command(self, model: str) -> tuple[str, ...]:
        """Return the command that continues the batch, without the batch id."""
        return (
            *("pressroom", "run", self.name),
            *(("--model", model) if model else ()),
            *self.options,
            *("--device", self.device, "--out", str(self.out)),
        )


def input_files(
    kind: str,
    file: Path | None,
    others: list[str] | None,
    *,
    read: Callable[[str], Path] = input_path,
) -> dict[str, Path]:
    """Return the files of a command by the names of the kind's inputs; `read` turns a text into a path."""
    from jobs.registry import load_kind
    from workers.intake import check_inputs, intake_of

    if file is None and others:
        raise typer.BadParameter(
            "--batch continues a batch that already has its inputs; omit this option", param_hint="--input"
        )
    if file is None:
        return {}
    intake = intake_of(load_kind(kind))
    named = {intake.inputs[0].name: file}
    for name, equals, path in (pair.partition("=") for pair in others or ()):
        if not name or not equals or not path:
            raise typer.BadParameter(f"{name!r} is not of the form NAME=FILE", param_hint="--input")
        if name in named:
            raise typer.BadParameter(f"the input {name!r} is given twice", param_hint="--input")
        try:
            named[name] = read(path)
        except typer.BadParameter as error:
            raise typer.BadParameter(error.message, param_hint=f"--input {name}") from error
    try:
        check_inputs(kind, intake, named)
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint="--input") from error
    return named


def _run_request(request: BatchRequest, run: _Run) -> RunResult[ExportReport]:
    """Submit the files, or continue the batch, and run it on this machine."""
    from jobs.registry import load_kind
    from pressroom.export import check_output, exporter_of
    from pressroom.run import RunRequest, run_batch
    from workers.producer import new_batch

    configured = settings_of_command()
    kind = load_kind(request.kind)
    if kind.intake is None or kind.intake.options_type is None:
        inputs, batch_id, dropped = run.inputs, run.batch_id, None
        profiles = new_batch(request, configured, name=request.kind).profiles
    else:
        # The models that the batch needs are known only after its intake has created its settings.
        check_output(run.out)
        inputs, (batch_id, dropped, profiles) = {}, _submit_first(request, run)

    def submit_inputs(machine: OneMachine, on_rejected: Callable[[Rejected], None]) -> Submission:
        return _accept(machine.urls, request, inputs, on_rejected)

    run_request = RunRequest(
        profiles=profiles,
        submit=submit_inputs if inputs else None,
        batch_id=batch_id,
        retry_failed=run.retry_failed,
        out=run.out,
        devices=devices_of_command(run.device),
        resume_command=run.resume_command(request.model),
        kind=request.kind,
    )
    result = run_batch(run_request, configured, exporter_of(request.kind))
    return result if dropped is None else replace(result, dropped=dropped)


def _submit_first(request: BatchRequest, run: _Run) -> tuple[UUID, Dropped | None, tuple[str, ...]]:
    """Submit the inputs before any worker is started; return the batch and the profiles of its stages."""
    from db.stages import stage_profiles
    from pressroom.run import REJECTED

    with connected() as (database, urls, _):
        batch_id, dropped = run.batch_id, None
        if batch_id is None:
            submission = _submit(database, urls, request, run.inputs, run.out / REJECTED)
            batch_id, dropped = submission.batch_id, submission.dropped
        return batch_id, dropped, stage_profiles(database, batch_id)


def _submit(
    database: Engine, urls: ServiceUrls, request: BatchRequest, inputs: Mapping[str, Path], rejected: Path
) -> Submission:
    """Submit the inputs as a batch, and write the refused records to a file."""
    from db import migrate
    from pressroom.run import rejected_lines

    migrate.upgrade(database)
    with rejected_lines(rejected) as on_rejected:
        submission = _accept(urls, request, inputs, on_rejected)
        on_rejected.are_new = submission.created
    return submission


def _accept(
    urls: ServiceUrls,
    request: BatchRequest,
    inputs: Mapping[str, Path],
    on_rejected: Callable[[Rejected], None],
) -> Submission:
    """Submit the inputs as a batch, and show how many records have been read."""
    from pressroom.client import Client
    from pressroom.watch import IntakeProgress

    with Client(urls) as client, IntakeProgress() as progress:
        return client.submit_request(
            request, inputs, on_rejected=on_rejected, on_note=say, on_progress=progress.show
        )


def _print_result(
    result: RunResult[ExportReport], out: Path, max_dropped: float | None, *, json: bool
) -> None:
    """Print the outcome of a run; exit with a failure if results are missing or too many records were
    refused."""
    from jobs.batch import BatchStatus
    from jobs.registry import load_kind
    from pressroom.export import FAILED
    from pressroom.run import REJECTED

    result.exported.print(result.summary, out, json=json)
    report = result.summary.report
    if report.counts.failed:
        again = "them" if len(load_kind(report.kind).stages) == 1 else "those of the last stage"
        say(
            f"The failures are listed in {out / FAILED}. "
            f"`--batch {report.batch_id} --retry-failed` runs {again} again."
        )
    if report.counts.rejected:
        say(f"The refused lines are in {out / REJECTED}.")
    is_complete = replace(report.counts, rejected=0).complete if result.dropped else report.counts.complete
    has_failed = report.status is BatchStatus.FAILED or not is_complete or bool(result.summary.altered)
    if is_dropped_too_much(result.dropped, max_dropped) or has_failed:
        raise typer.Exit(EXIT_FAILURE)


def _submit_request(
    request: BatchRequest,
    inputs: Mapping[str, Path],
    rejected: Path,
    max_dropped: float | None,
    *,
    json: bool,
) -> None:
    """Queue the valid records of the files and print the batch's id."""
    from db import reports
    from pressroom.show import report_json

    with connected() as (database, urls, _):
        submission = _submit(database, urls, request, inputs, rejected)
        report = reports.batch_status(database, submission.batch_id)
    if json:
        print_json({**report_json(report), "created": submission.created})
    else:
        typer.echo(str(submission.batch_id))
    if is_dropped_too_much(submission.dropped, max_dropped):
        raise typer.Exit(EXIT_FAILURE)
