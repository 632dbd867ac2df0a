"""The settings and service connections that every command starts with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING

import typer

from jobs.errors import ConfigurationError
from pressroom.console import EXIT_FAILURE, errors_reported, say
from workers.devices import Device, parse_devices
from workers.settings import ENVIRONMENT_PREFIX, Settings, read_settings, unknown_variables

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from pressroom.client import Client
    from pressroom.embedded.services import ServiceUrls
    from pressroom.results import OnAltered
    from pressroom.summary import Altered


@contextmanager
def connected(*, any_schema: bool = False) -> Iterator[tuple[Engine, ServiceUrls, Settings]]:
    """Yield the database, the service URLs and the settings of one command; errors are reported.

    A database whose schema has a different version is refused, unless `any_schema` is set.
    """
    from db.schema import refuse_unknown_schema
    from db.session import connection_parameters, opened_database, weakness
    from pressroom.embedded.services import embedded_services

    with errors_reported():
        settings = settings_of_command()
        with embedded_services(settings, say) as urls, opened_database(urls.db_url) as database:
            weak = weakness(connection_parameters(urls.db_url))
            if weak is not None:
                say(f"warning: {weak}")
            if not any_schema:
                refuse_unknown_schema(database)
            yield database, urls, settings


@contextmanager
def client_of_command() -> Iterator[Client]:
    """Yield a client of the services; errors are reported and end the command."""
    from pressroom.client import Client

    with connected() as (_, urls, _), Client(urls) as client:
        yield client


@contextmanager
def altered_named() -> Iterator[OnAltered]:
    """Yield a function that records altered results; if there were any, list them and exit with status 1."""
    from pressroom.show import say_altered

    left_out: dict[Altered, None] = {}  # an ordered set, because results are read more than once
    yield lambda altered: left_out.update({altered: None})
    if left_out:
        say_altered(list(left_out))
        raise typer.Exit(EXIT_FAILURE)


def settings_of_command() -> Settings:
    from workers.logs import set_up_logging

    settings = read_settings()
    set_up_logging(settings.log_level if "log_level" in settings.model_fields_set else "WARNING")
    for name in unknown_variables():
        near = get_close_matches(
            name, [f"{ENVIRONMENT_PREFIX}{field.upper()}" for field in Settings.model_fields]
        )
        say(f"warning: {name} is not a setting{f'; did you mean {near[0]}?' if near else ''}")
    return settings


def devices_of_command(text: str) -> tuple[Device, ...]:
    """Return the devices that --device names; an unknown one is reported as wrong usage."""
    try:
        return tuple(parse_devices(text))
    except ConfigurationError as error:
        raise typer.BadParameter(str(error), param_hint="--device") from error
