"""The commands that run all or one part of Pressroom, manage the database and print the settings."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from pydantic import SecretStr

from pressroom.commands.options import DeviceOption, Json
from pressroom.commands.session import connected, devices_of_command, settings_of_command
from pressroom.console import errors_reported, print_json, print_line, say
from workers.settings import ENVIRONMENT_PREFIX, Settings

db_app = typer.Typer(no_args_is_help=True, help="Manage the schema of the database.")


def services() -> None:
    """Run Valkey, Postgres and S3 for this machine until Ctrl-C, and print their URLs."""
    from pressroom.serve import run_services

    with errors_reported():
        run_services(settings_of_command())


def dispatcher() -> None:
    """Send queued jobs to the workers and requeue the jobs of crashed workers, until Ctrl-C."""
    from pressroom.serve import run_dispatcher

    with errors_reported():
        run_dispatcher(settings_of_command())


def worker(device: DeviceOption = "auto", profile: Annotated[str, typer.Option()] = "default") -> None:
    """Run one worker process per device, with its models loaded, until Ctrl-C drains it."""
    from pressroom.serve import run_workers

    with errors_reported():
        run_workers(settings_of_command(), devices_of_command(device), profile)


@db_app.command("upgrade")
def db_upgrade() -> None:
    """Upgrade the database to the schema of this version."""
    from db import migrate

    with connected() as (database, _, _):
        migrate.upgrade(database)
        typer.echo(f"the database is at revision {migrate.revisions(database)}")


@db_app.command("reset")
def db_reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Drop Pressroom's tables, whichever version created them, and create them again."""
    from db import migrate

    with connected(any_schema=True) as (database, _, _):
        tables = migrate.existing_tables(database)
        if tables and not yes:
            say(
                f"This drops {', '.join(tables)}. All batches, schedules and rows of results are "
                "lost; objects in the store are kept. Stop workers, dispatchers and beat first. "
                "Use --yes to skip this question."
            )
            typer.confirm("Drop them?", abort=True, err=True)
        migrate.reset(database)
        typer.echo(f"the tables were created again, at revision {migrate.revisions(database)}")


def config(json: Json = False) -> None:
    """Print every setting with its value and its source; secrets are masked."""
    with errors_reported():
        settings = settings_of_command()
    rows = []
    for name in Settings.model_fields:
        variable = f"{ENVIRONMENT_PREFIX}{name.upper()}"
        value = getattr(settings, name)
        shown = str(value) if isinstance(value, SecretStr) else settings.model_dump(mode="json")[name]
        rows.append((variable, shown, "environment" if variable in os.environ else "default"))
    if json:
        print_json({variable: {"value": value, "source": source} for variable, value, source in rows})
        return
    for variable, value, source in rows:
        print_line(f"{variable}={'' if value is None else value}  ({source})")


def up(
    device: DeviceOption = "auto",
    profile: Annotated[
        list[str] | None,
        typer.Option(
            help="Worker profile; may be repeated. Defaults to all profiles whose models are installed."
        ),
    ] = None,
) -> None:
    """Run services, dispatcher, beat and workers until Ctrl-C drains them; due schedules are started."""
    from pressroom.serve import installed_profiles, run_up

    with errors_reported():
        settings = settings_of_command()
        profiles = tuple(dict.fromkeys(profile)) if profile else installed_profiles(settings)
        run_up(settings, devices_of_command(device), profiles)


def beat() -> None:
    """Start due schedules and run the services of kinds, such as deliveries, until Ctrl-C; one beat is
    active, and others stand by.
    """
    from pressroom.serve import run_beat

    with errors_reported():
        run_beat(settings_of_command())
