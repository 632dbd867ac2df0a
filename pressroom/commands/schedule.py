"""`pressroom schedule`, and the commands of every group that manages schedules of one kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.errors import ConfigurationError
from jobs.schedule import CatchUp, Cron, CronError, TimeZoneUnknownError
from pressroom.commands.kind import InputFiles, Model, Set, Tenant, input_files, parse_settings
from pressroom.commands.option_groups import with_option_groups
from pressroom.commands.options import Json, TableFormat, label, reread_path
from pressroom.commands.session import connected
from pressroom.console import print_json, print_line, say

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from db.schedules import Schedule
    from jobs.kind import Kind

STARTS_UNDER_UP = "Runs start while `pressroom up` runs, or `pressroom beat` with a dispatcher and workers."

Name = Annotated[str, typer.Argument(metavar="NAME", callback=label)]
KindOption = Annotated[
    str | None,
    typer.Option("--kind", help="Kind of the schedule, if several kinds have a schedule of this name."),
]
OfTenant = Annotated[
    str | None,
    typer.Option("--tenant", help="Tenant of the schedule, if several tenants have one of this name."),
]
All = Annotated[
    bool, typer.Option("--all", help="Include schedules that other commands created for their own use.")
]
Input = Annotated[
    Path,
    typer.Argument(
        parser=reread_path,
        metavar="FILE",
        help="Table with a row for each job: CSV, JSONL or Parquet, also .gz; read again at each run.",
    ),
]


@dataclass(frozen=True, slots=True)
class ScheduleGroup:
    """A group of commands that manage the schedules of one kind, or of all kinds."""

    command: str = "schedule"
    """Name of the group on the command line; its error codes begin with this word."""
    noun: str = "schedule"
    """Word for a schedule in messages."""
    kind: str | None = None
    code_without_times: str = "schedule_without_times"
    """Code of the error for a schedule that has no times."""

    def find(self, database: Engine, name: str, kind: str | None, tenant: str | None) -> Schedule:
        """Return the schedule of this name.

        Raises ScheduleNotFoundError, or BadParameter if there are several.
        """
        from db import schedules

        fitting = [
            schedule
            for schedule in schedules.list_schedules(database, self.kind or kind)
            if schedule.name == name and tenant in (None, schedule.tenant)
        ]
        if not fitting:
            raise schedules.ScheduleNotFoundError(
                f"no {self.noun} is named {name!r}: see `pressroom {self.command} list`",
                code=f"{self.command}_not_found",
            )
        if len(fitting) > 1:
            owners = ", ".join(f"--kind {each.kind} --tenant {each.tenant}" for each in fitting)
            raise typer.BadParameter(
                f"several schedules are named {name!r}: run `pressroom schedule` with one of {owners}"
            )
        return fitting[0]

    def find_timed(self, database: Engine, name: str, kind: str | None, tenant: str | None) -> Schedule:
        """Return the schedule as `find` does; also raise ConfigurationError if it has no times."""
        from workers.recurring import schedules_of

        schedule = self.find(database, name, kind, tenant)
        if schedule.timing is None:
            create = schedules_of(schedule.kind).create_command
            raise ConfigurationError(
                f"the {self.noun} {name!r} runs on demand only: set its times with `pressroom {create} "
                "--cron`",
                code=self.code_without_times,
            )
        return schedule


def list_schedules(group: ScheduleGroup, all_: All = False, json: Json = False) -> None:
    """List the {noun}s by name: when each one runs next, and the outcome of its last run."""
    from db import schedules
    from pressroom.schedules import state_of

    with connected() as (database, _, _):
        listed = sorted(schedules.list_schedules(database, group.kind), key=lambda schedule: schedule.name)
        states = [state_of(database, schedule, num_runs=1) for schedule in listed]
    states = [state for state in states if all_ or not state.description.is_hidden]
    if json:
        print_json({f"{group.noun}s": [state.as_json() for state in states]})
        return
    for state in states:
        state.print_line()


def show(
    group: ScheduleGroup, name: Name, kind: KindOption = None, tenant: OfTenant = None, json: Json = False
) -> None:
    """Show a {noun}: what it reads, when it runs, and the outcomes of its latest due times."""
    with connected() as (database, _, _):
        print_schedule(database, group.find(database, name, kind, tenant), group.noun, json=json)


def pause(group: ScheduleGroup, name: Name, kind: KindOption = None, tenant: OfTenant = None) -> None:
    """Pause a {noun}: it no longer starts by its schedule, but a run under way continues."""
    from db import schedules

    with connected() as (database, _, _):
        schedules.pause(database, group.find_timed(database, name, kind, tenant).id)
    say(f"The {group.noun} {name} is paused; `pressroom {group.command} run {name}` still runs it.")


def resume(group: ScheduleGroup, name: Name, kind: KindOption = None, tenant: OfTenant = None) -> None:
    """Resume a paused {noun} with its next due time; due times during the pause are skipped."""
    from db import schedules
    from pressroom.schedules import state_of

    with connected() as (database, _, _):
        schedule_id = group.find_timed(database, name, kind, tenant).id
        schedules.resume(database, schedule_id)
        state_of(database, schedules.get_schedule(database, schedule_id), num_runs=0).print_line()


def remove(group: ScheduleGroup, name: Name, kind: KindOption = None, tenant: OfTenant = None) -> None:
    """Remove a {noun} with its history; its batches and their artifacts stay."""
    from workers.recurring import schedules_of

    with connected() as (database, _, _):
        schedule = group.find(database, name, kind, tenant)
        with database.begin() as connection:
            schedules_of(schedule.kind).remove(connection, schedule)
    say(f"The {group.noun} {name} is removed.")


def run(
    group: ScheduleGroup, name: Name, kind: KindOption = None, tenant: OfTenant = None, json: Json = False
) -> None:
    """Queue a batch of the {noun} now for running workers, and print the batch's id."""
    from datetime import UTC, datetime

    from db import migrate, reports
    from pressroom.show import report_json
    from workers.recurring import schedules_of

    with connected() as (database, _, settings):
        migrate.upgrade(database)
        schedule = group.find(database, name, kind, tenant)
        with database.begin() as connection:
            own = schedules_of(schedule.kind)
            batch_id = own.start(connection, schedule, datetime.now(UTC), settings)
        report = reports.batch_status(database, batch_id)
    if json:
        print_json(report_json(report))
    else:
        print_line(str(batch_id))


def add_schedule_commands(app: typer.Typer, group: ScheduleGroup) -> None:
    """Add the commands that list, show, pause, resume and remove the schedules of the group."""
    for name, command in (
        ("list", list_schedules),
        ("show", show),
        ("pause", pause),
        ("resume", resume),
        ("remove", remove),
    ):
        _add(app, name, command, group)


def _add(app: typer.Typer, name: str, command: Callable[..., None], group: ScheduleGroup) -> None:
    """Add a command to the group; in a group of a single kind, it has no options for kind and tenant."""
    dropped = {"group"} if group.kind is None else {"group", "kind", "tenant"}
    signature = inspect.signature(command, eval_str=True)

    @wraps(command)
    def of_group(**options: Any) -> None:
        command(group, **options)

    of_group.__signature__ = signature.replace(  # type: ignore[attr-defined]  # read by typer
        parameters=[each for each in signature.parameters.values() if each.name not in dropped]
    )
    app.command(name, help=(command.__doc__ or "").format(noun=group.noun))(of_group)


def print_schedule(database: Engine, schedule: Schedule, noun: str, *, json: bool) -> None:
    """Print everything about a schedule, as `show` does."""
    from pressroom.schedules import state_of

    state = state_of(database, schedule)
    if json:
        print_json(state.as_json())
    else:
        state.print_page(noun)


ALL_KINDS = ScheduleGroup()

app = typer.Typer(no_args_is_help=True, help="Manage schedules, which run a batch repeatedly.")


@app.command()
@with_option_groups
def create(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="Installed kind that makes batches from files.")
    ],
    name: Name,
    file: Input,
    inputs: InputFiles = None,
    cron: Annotated[
        str | None,
        typer.Option(
            help='Cron expression, such as "0 6 * * *" for six every morning; by default, runs start only on '
            "demand."
        ),
    ] = None,
    time_zone: Annotated[
        str, typer.Option(help="Time zone of the cron expression, such as Europe/Berlin.")
    ] = "UTC",
    catch_up: Annotated[
        CatchUp,
        typer.Option(help="Which missed runs are started later: the latest, all, or none."),
    ] = CatchUp.LATEST,
    model: Model = None,
    settings: Set = None,
    tenant: Tenant = "default",
    json: Json = False,
    *,
    table_format: TableFormat,
) -> None:
    """Create or change a schedule, which makes a batch of a file's rows at each due time."""
    from db import migrate, schedules
    from jobs.registry import load_kind
    from workers.intake import BatchRequest, intake_of
    from workers.producer import model_of, new_batch
    from workers.recurring import FileInputs

    times = None if cron is None else _cron(cron, time_zone)
    file_options = table_format.options()
    with connected() as (database, _, configured):
        intake = intake_of(load_kind(kind))
        _check_reads_files(load_kind(kind))
        _, *others = input_files(kind, file, inputs, read=reread_path).items()
        recurring = schedules.RecurringBatch(
            kind=kind,
            name=name,
            tenant=tenant,
            model=model_of(kind, model),
            settings=parse_settings(kind, settings),
            input=FileInputs(
                file=str(file.resolve()),
                inputs={each: str(path.resolve()) for each, path in others},
                **file_options.given(),
            ).model_dump(),
        )
        if intake.options_type is None:  # fail now if every run would fail
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
        print_schedule(database, schedules.get_schedule(database, schedule_id), ALL_KINDS.noun, json=json)
    if times is not None:
        say(STARTS_UNDER_UP)


add_schedule_commands(app, ALL_KINDS)
_add(app, "run", run, ALL_KINDS)


def _check_reads_files(kind: Kind[Any]) -> None:
    """Raise ConfigurationError if the kind creates its schedules with a command of its own
    (`Kind.recurring`)."""
    if kind.recurring is not None:
        raise ConfigurationError(
            f"schedules of kind {kind.name} are not created from a file: `pressroom kinds show {kind.name}` "
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
