"""The long-running commands: everything on one machine, or beat alone."""

from __future__ import annotations

from typing import Annotated

import typer

from pressroom.commands.options import DeviceOption
from pressroom.commands.session import devices_of_command, settings_of_command
from pressroom.console import errors_reported


def up(
    device: DeviceOption = "auto",
    profile: Annotated[
        list[str] | None,
        typer.Option(help="Worker profile; repeat. Defaults to all profiles whose models are installed."),
    ] = None,
) -> None:
    """Run services, dispatcher, beat and workers until Ctrl-C drains them; schedules are kept."""
    from pressroom.up import installed_profiles, run_up

    with errors_reported():
        settings = settings_of_command()
        profiles = tuple(dict.fromkeys(profile)) if profile else installed_profiles(settings)
        run_up(settings, devices_of_command(device), profiles)


def beat() -> None:
    """Start what is due by its schedule and run the services of kinds, such as deliveries, until Ctrl-C; one
    is active, others stand by.
    """
    from pressroom.up import run_beat

    with errors_reported():
        run_beat(settings_of_command())
