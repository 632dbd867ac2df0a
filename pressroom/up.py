"""`pressroom up` runs everything that schedules need on one machine; `pressroom beat` runs beat alone."""

from __future__ import annotations

import time
from collections.abc import Sequence

from jobs.errors import ConfigurationError
from pressroom.console import Interruption, say
from pressroom.one_machine import OneMachine, background_place
from pressroom.serve import POLL_SECONDS, running_urls
from workers.background import UP, services_under
from workers.beat import BeatThread
from workers.devices import Device
from workers.models.manifest import ModelNotInstalledError, model_folder, read_manifest
from workers.preflight import check_services
from workers.settings import Settings


def run_up(settings: Settings, devices: Sequence[Device], profiles: Sequence[str]) -> None:
    """Run services, dispatcher, beat and workers of the profiles until interrupted, then drain.

    A second interruption ends at once; running jobs are requeued when their leases expire.
    """
    for profile in profiles:
        for model in settings.profile(profile).models:
            read_manifest(model_folder(settings.models_folder, model))  # fail before anything is started
    with (
        Interruption(counting=False) as interruption,
        OneMachine(settings, devices, profiles=profiles, say=say, standing=True) as machine,
        interruption.counted(),
    ):
        machine.run_beside(services_under(UP))
        say(f"Up, with workers for {', '.join(profiles)}, until Ctrl-C; schedules are kept.")
        while not interruption.count:
            machine.check()
            time.sleep(POLL_SECONDS)
        say("Draining: what has begun is finished, the rest stays queued. Ctrl-C again ends at once.")
        machine.drain()


def installed_profiles(settings: Settings) -> tuple[str, ...]:
    """Return the profiles whose models are all installed.

    Raises ConfigurationError if none of these profiles has a model.
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
        say("Keeping the schedules until Ctrl-C.")
        try:
            while not interruption.count:
                beat.check()
                time.sleep(POLL_SECONDS)
        finally:
            beat.stop()
