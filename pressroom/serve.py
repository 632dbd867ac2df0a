"""The long-running commands: services, dispatcher, beat and workers, together or as separate processes."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from contextlib import suppress

import psutil
import typer
from sqlalchemy.exc import OperationalError

from db.migrate import upgrade
from db.session import opened_database
from db.workers import unfinished_pids
from jobs.errors import ConfigurationError
from pressroom.console import Interruption, say
from pressroom.embedded.services import Services, ServiceUrls, find_running
from pressroom.one_machine import DRAINING, DispatcherThread, OneMachine, background_place
from workers.background import UP, services_under
from workers.beat import BeatThread
from workers.devices import Device
from workers.models.manifest import ModelNotInstalledError, model_folder, read_manifest
from workers.preflight import check_services
from workers.settings import Settings
from workers.supervisor import KILL_GRACE_SECONDS, Supervisor

POLL_SECONDS = 0.5


def run_services(settings: Settings) -> None:
    """Run the embedded services until interrupted; print `export` lines with their URLs on stdout."""
    with Interruption() as interruption, Services(settings, say, long_running=True) as services:
        with opened_database(services.urls.db_url) as database:
            upgrade(database)
        for variable, url in services.urls.environment().items():
            typer.echo(f"export {variable}='{url}'")
        say("The services run until Ctrl-C. Commands on this machine find and use them.")
        while not interruption.count:
            services.check()
            time.sleep(POLL_SECONDS)
        _outlive_workers(services, settings)


def _outlive_workers(services: Services, settings: Settings) -> None:
    """Keep the services running while workers of this machine drain, for as long as a drain may take.

    A signal to every process of a control group also ends the servers, which are then started again.
    """
    until = time.monotonic() + settings.drain_seconds + KILL_GRACE_SECONDS
    has_said = False
    with opened_database(services.urls.db_url) as database:
        while time.monotonic() < until:
            services.check()
            with suppress(OperationalError):
                if not any(map(psutil.pid_exists, unfinished_pids(database, platform.node()))):
                    return
                if not has_said:
                    say(
                        "Workers are still using the services; waiting for them. Press Ctrl-C "
                        "again to end at once."
                    )
                    has_said = True
            time.sleep(POLL_SECONDS)


def run_dispatcher(settings: Settings) -> None:
    """Dispatch jobs until interrupted; stand by while another dispatcher is active. Raises
    DispatcherEndedError."""
    urls = running_urls(settings)
    check_services(db_url=urls.db_url, redis_url=urls.redis_url, is_migrated=True, say=say)
    with Interruption() as interruption:
        dispatcher = DispatcherThread(urls.db_url, urls.redis_url, settings)
        say("Dispatching jobs until Ctrl-C.")
        try:
            while not interruption.count:
                dispatcher.check()
                time.sleep(POLL_SECONDS)
        finally:
            dispatcher.stop()


def run_workers(settings: Settings, devices: Sequence[Device], profile: str) -> None:
    """Supervise one worker per device until interrupted, then drain them."""
    for model in settings.profile(profile).models:
        read_manifest(model_folder(settings.models_folder, model))
    urls = running_urls(settings)
    check_services(db_url=urls.db_url, redis_url=urls.redis_url, is_migrated=True, say=say)
    with Interruption() as interruption:
        supervisor = Supervisor(settings, devices, profile=profile, environment=urls.environment())
        try:
            say(f"Running workers on {', '.join(device.name for device in devices)} until Ctrl-C.")
            while not interruption.count:
                for death in supervisor.check():
                    say(death)
                time.sleep(POLL_SECONDS)
            say(DRAINING)
            supervisor.stop()
        except KeyboardInterrupt:  # a second Ctrl-C; expired leases requeue the jobs
            supervisor.stop(timeout_seconds=0)
            raise
        except BaseException:  # if one worker cannot start, the others finish their running jobs
            supervisor.stop()
            raise


def running_urls(settings: Settings) -> ServiceUrls:
    """Return the URLs of services that are already running. Raises ConfigurationError if there are none.

    The commands `dispatcher`, `worker` and `beat` use it, because they start no services.
    """
    running = find_running(settings, long_running=True)
    if running is not None:
        return running
    settings.require_db_url()
    settings.require_redis_url()
    settings.require_s3_url()
    raise AssertionError("unreachable: with every URL set, the services are found")


def run_up(settings: Settings, devices: Sequence[Device], profiles: Sequence[str]) -> None:
    """Run services, dispatcher, beat and workers of the profiles until interrupted, then drain.

    A second interruption ends at once; running jobs are requeued when their leases expire.
    """
    for profile in profiles:
        for model in settings.profile(profile).models:
            read_manifest(model_folder(settings.models_folder, model))  # fail before anything is started
    with (
        Interruption(counting=False) as interruption,
        OneMachine(settings, devices, profiles=profiles, say=say, long_running=True) as machine,
        interruption.counted(),
    ):
        machine.run_beside(services_under(UP))
        say(f"Running workers for {', '.join(profiles)} until Ctrl-C. Due schedules are started.")
        while not interruption.count:
            machine.check()
            time.sleep(POLL_SECONDS)
        say(DRAINING)
        machine.drain()


def installed_profiles(settings: Settings) -> tuple[str, ...]:
    """Return the profiles whose models are all installed.

    Profiles without a model are included. Raises ConfigurationError if none of the returned profiles would
    use a model.
    """
    usable = tuple(name for name in settings.profiles if _is_installed(settings, name))
    if not any(settings.profile(name).models for name in usable):
        listed = "; ".join(
            f"{name}: {', '.join(p.models)}" for name, p in settings.profiles.items() if p.models
        )
        raise ConfigurationError(
            f"no worker profile has all its models installed ({listed}): install them with "
            "`pressroom models add NAME`",
            code="no_profile_installed",
        )
    return usable


def _is_installed(settings: Settings, profile: str) -> bool:
    try:
        for model in settings.profile(profile).models:
            model_folder(settings.models_folder, model)
    except ModelNotInstalledError:
        return False
    return True


def run_beat(settings: Settings) -> None:
    """Start due schedules until interrupted; stand by while another beat is active. Raises BeatEndedError."""
    urls = running_urls(settings)
    check_services(db_url=urls.db_url, is_migrated=True, say=say)
    with Interruption() as interruption:
        beat = BeatThread(background_place(urls, settings))
        say("Starting due schedules until Ctrl-C.")
        try:
            while not interruption.count:
                beat.check()
                time.sleep(POLL_SECONDS)
        finally:
            beat.stop()
