"""`pressroom schedule`: manages schedules, which make batches of any kind again and again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.errors import ConfigurationError
from jobs.schedule import CatchUp, Cron, CronError, TimeZoneUnknownError
from pressroom.commands.kind import InputFiles, Model, Set, Tenant, input_files, parse_settings
from pressroom.commands.options import (
    Decimal,
    Delimiter,
    Encoding,
    Json,
    file_options,
    label,
    standing_path,
)
from pressroom.commands.session import connected
from pressroom.console import print_json, print_line, say

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Engine

    from db.schedules import Schedule, ScheduleRun
    from jobs.kind import Kind
    from workers.settings import Settings

NUM_RUNS_SHOWN = 20

app = typer.Typer(no_args_is_help=True, help="Manage schedules, which run a batch repeatedly.")

Name = Annotated[str, typer.Argument(metavar="NAME", callback=label, help="Name of the schedule.")]
KindOption = Annotated[
    str | None,
    typer.Option(
        "--kind", help="Kind of the schedule, needed if several kinds have a schedule of this name."
    ),
]
OfTenant = Annotated[
    str | None,
    typer.Option("--tenant", help="Tenant of the schedule, needed if several tenants have one of this name."),
]
Input = Annotated[
    Path,
    typer.Argument(
        parser=standing_path,
        metavar="FILE",
        help="Table with a row for each job: CSV, JSONL or Parquet, also .gz; read again at each run.",
    ),
]


@app.command()
def create(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="Installed kind whose jobs are the rows of a table.")
    ],
    name: Name,
    file: Input,
    inputs: InputFiles = None,
    cron: Annotated[
        str | None,
        typer.Option(help='When it runs, such as "0 6 * * *"; unset: only by `pressroom schedule run`.'),
    ] = None,
    time_zone: Annotated[
        str, typer.Option(help="Time zone of the cron expression, such as Europe/Berlin.")
    ] = "UTC",
    catch_up: Annotated[
        CatchUp,
        typer.Option(
            help="Which due times are caught up that passed while nothing ran: the latest, all or none."
        ),
    ] = CatchUp.LATEST,
    model: Model = None,
    settings: Set = None,
    tenant: Tenant = "default",
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    decimal: Decimal = None,
    json: Json = False,
) -> None:
    """Make a batch of a file's rows at each due time, or change when and how that is done."""
    from db import migrate, schedules
    from jobs.registry import load_kind
    from workers.intake import BatchRequest, intake_of
    from workers.producer import model_of, new_batch
    from workers.recurring import FileInputs

    times = None if cron is None else _cron(cron, time_zone)
    options = file_options(delimiter, encoding, decimal)
    with connected() as (database, _, configured):
        intake = intake_of(load_kind(kind))
        _check_default_starter(load_kind(kind))
        others = {each: path for each, path in input_files(kind, file, inputs).items() if path != file}
        recurring = schedules.Recurring(
            kind=kind,
            name=name,
            tenant=tenant,
            model=model_of(kind, model),
            settings=parse_settings(kind, settings),
            input=FileInputs(
                file=str(file.resolve()),
                inputs={each: str(path.resolve()) for each, path in others.items()},
                **options.given(),
            ).model_dump(),
        )
        if intake.options_type is None:  # refuse now what every run would be refused for
            request = BatchRequest(
                kind=kind, model=recurring.model, settings=recurring.settings, tenant=tenant
            )
            new_batch(request, configured, name=name)
        migrate.upgrade(database)
        with database.begin() as connection:
            schedule_id = schedules.put_schedule(connection, recurring)
            if times is None:
                schedules.clear_times(connection, schedule_id)
            else:
                schedules.set_times(connection, schedule_id, times, catch_up)
        _print(database, schedules.get_schedule(database, schedule_id), json=json)
    if times is not None:
        say("It runs while `pressroom up`, or `pressroom beat` with dispatcher and workers, does.")


@app.command("list")
def list_schedules(json: Json = False) -> None:
    """List the schedules of all kinds: when each runs next, and what came of its last run."""
    from db import schedules

    with connected() as (database, _, _):
        states = [
            (schedule, schedules.list_runs(database, schedule.id, limit=1))
            for schedule in schedules.list_schedules(database)
        ]
    if json:
        print_json({"schedules": [_as_json(schedule, runs) for schedule, runs in states]})
        return
    for schedule, runs in states:
        last = f"; last {runs[0].due_at:%Y-%m-%d %H:%M}Z {runs[0].outcome.value}" if runs else ""
        print_line(f"{schedule.name:<24}  {schedule.kind:<20}  {_times(schedule)}{last}")


@app.command()
def show(name: Name, kind: KindOption = None, tenant: OfTenant = None, json: Json = False) -> None:
    """Show a schedule: what it reads, when it runs, and what came of its due times."""
    with connected() as (database, _, _):
        _print(database, _find(database, name, kind, tenant), json=json)


@app.command()
def pause(name: Name, kind: KindOption = None, tenant: OfTenant = None) -> None:
    """Start nothing by itself any more; a batch under way goes on."""
    from db import schedules

    with connected() as (database, _, _):
        schedules.pause(database, _timed(database, name, kind, tenant).id)
    say(f"{name} is paused; `pressroom schedule run {name}` runs it all the same.")


@app.command()
def resume(name: Name, kind: KindOption = None, tenant: OfTenant = None) -> None:
    """Start a paused schedule by itself again, from its next due time on."""
    from db import schedules

    with connected() as (database, _, _):
        schedule_id = _timed(database, name, kind, tenant).id
        schedules.resume(database, schedule_id)
        print_line(f"{name}  {_times(schedules.get_schedule(database, schedule_id))}")


@app.command()
def remove(name: Name, kind: KindOption = None, tenant: OfTenant = None) -> None:
    """Forget a schedule and what came of its due times; its batches stay."""
    from db import schedules
    from jobs.registry import load_kind
    from workers.intake import intake_of

    with connected() as (database, _, _):
        schedule = _find(database, name, kind, tenant)
        intake_of(load_kind(schedule.kind))  # other kinds store more than this command can remove
        schedules.remove_schedule(database, schedule.id)
    say(f"{name} is removed.")


@app.command()
def run(name: Name, kind: KindOption = None, tenant: OfTenant = None, json: Json = False) -> None:
    """Make a schedule's batch now, for the workers that run; print the batch's id."""
    from db import migrate, reports
    from pressroom.show import report_json

    with connected() as (database, _, settings):
        migrate.upgrade(database)
        batch_id = _start(database, _find(database, name, kind, tenant), settings)
        report = reports.batch_status(database, batch_id)
    if json:
        print_json(report_json(report))
    else:
        print_line(str(batch_id))


def _start(database: Engine, schedule: Schedule, settings: Settings) -> UUID:
    from datetime import UTC, datetime

    from workers.recurring import starter_of

    with database.begin() as connection:
        return starter_of(schedule.kind)(connection, schedule, datetime.now(UTC), settings)


def _check_default_starter(kind: Kind[Any]) -> None:
    """Raise ConfigurationError if the kind's schedules are not made from files."""
    if kind.starter is not None:
        raise ConfigurationError(
            f"schedules of kind {kind.name} do not read files again: `pressroom kinds show {kind.name}` "
            "names the command that creates them",
            code="kind_without_rows",
        )


def _cron(expression: str, time_zone: str) -> Cron:
    try:
        return Cron(expression, time_zone)
    except TimeZoneUnknownError as error:
        raise typer.BadParameter(str(error), param_hint="--time-zone") from error
    except CronError as error:
        raise typer.BadParameter(str(error), param_hint="--cron") from error


def _find(database: Engine, name: str, kind: str | None, tenant: str | None) -> Schedule:
    """Return the schedule of this name.

    Raises ScheduleNotFoundError, or BadParameter if there are several.
    """
    from db import schedules

    fitting = [
        schedule
        for schedule in schedules.list_schedules(database, kind)
        if schedule.name == name and tenant in (None, schedule.tenant)
    ]
    if not fitting:
        raise schedules.ScheduleNotFoundError(f"no schedule is named {name!r}: see `pressroom schedule list`")
    if len(fitting) > 1:
        owners = ", ".join(f"--kind {each.kind} --tenant {each.tenant}" for each in fitting)
        raise typer.BadParameter(f"several schedules are named {name!r}: give one of {owners}")
    return fitting[0]


def _timed(database: Engine, name: str, kind: str | None, tenant: str | None) -> Schedule:
    """Return the schedule as `_find` does; also raise ConfigurationError (`schedule_without_times`)."""
    schedule = _find(database, name, kind, tenant)
    if schedule.timing is None:
        raise ConfigurationError(
            f"the schedule {name!r} runs by hand only: create it again with --cron to give it times",
            code="schedule_without_times",
        )
    return schedule


def _print(database: Engine, schedule: Schedule, *, json: bool) -> None:
    from db import schedules
    from pressroom.show import print_labelled

    runs = schedules.list_runs(database, schedule.id, limit=NUM_RUNS_SHOWN)
    if json:
        print_json(_as_json(schedule, runs))
        return
    print_labelled("schedule", f"{schedule.name} of kind {schedule.kind}, tenant {schedule.tenant}")
    print_labelled("runs", _times(schedule))
    if schedule.input is not None:
        from workers.recurring import FileInputs

        files = FileInputs.model_validate(schedule.input)
        for path in (files.file, *files.inputs.values()):
            print_labelled("reads", path)
    if schedule.model:
        print_labelled("model", schedule.model)
    for run in runs:
        came_to = run.outcome.value + (f", batch {run.batch_id}" if run.batch_id else "")
        reason = f": {run.error_code or ''} {run.error_message}" if run.error_message else ""
        print_labelled("due", f"{run.due_at:%Y-%m-%d %H:%M:%S}Z  {came_to}{reason}")


def _times(schedule: Schedule) -> str:
    timing = schedule.timing
    if timing is None:
        return "when told to"
    when = f"{timing.cron.expression} {timing.cron.time_zone}"
    if timing.paused_at is not None:
        return f"{when} (paused)"
    next_due_at = timing.next_due_at
    return when if next_due_at is None else f"{when}, next {next_due_at:%Y-%m-%d %H:%M}Z"


def _as_json(schedule: Schedule, runs: list[ScheduleRun]) -> dict[str, object]:
    """Return the schedule and its runs as JSON; docs/kinds.md documents the names, which are stable."""
    timing = schedule.timing
    next_due_at = None if timing is None else timing.next_due_at
    return {
        "name": schedule.name,
        "kind": schedule.kind,
        "tenant": schedule.tenant,
        "model": schedule.model,
        "settings": dict(schedule.settings),
        "input": None if schedule.input is None else dict(schedule.input),
        "cron": None if timing is None else timing.cron.expression,
        "time_zone": None if timing is None else timing.cron.time_zone,
        "paused": timing is not None and timing.paused_at is not None,
        "next_due_at": None if next_due_at is None else next_due_at.isoformat(),
        "runs": [
            {
                "due_at": run.due_at.isoformat(),
                "outcome": run.outcome.value,
                "batch_id": None if run.batch_id is None else str(run.batch_id),
                "error": None
                if run.error_code is None
                else {"code": run.error_code, "message": run.error_message},
            }
            for run in runs
        ],
    }
