"""Settings from PRESSROOM_* environment variables: one typed object, read at entry points only."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from jobs.errors import ConfigurationError
from jobs.losses import MIN_CRASHES, SUSPICIOUS_LOSSES
from jobs.validation import describe_fault

ENVIRONMENT_PREFIX = "PRESSROOM_"

ENGINE_VARIABLES = frozenset({"PRESSROOM_SCRIPT"})
"""Variables that the engine itself reads (workers.engines.scripted); they are not settings of Pressroom."""

DEFAULT_MODEL = "smollm2-135m-instruct"
"""The default language model, which works offline: small enough for two cores, Apache-2.0, packaged in a PyPI
wheel."""

DEFAULT_CLASSIFIER = "finance-sentiment"
"""Pressroom's own classifier: MiniLM with an adapter that was made by `pressroom train classifier`."""

DEFAULT_EMBEDDER = "minilm"
"""The default embedding model: all-MiniLM-L6-v2, Apache-2.0, packaged in a PyPI wheel."""


MAX_TOKENS = 2**24
"""Upper limit of all settings in tokens: no model has a context of 16 million tokens."""


_DAY_SECONDS = 86_400


def default_home() -> Path:
    """Return the user's data folder for Pressroom, following the XDG base directory specification."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "pressroom"


class Profile(BaseModel):
    """The models that a worker keeps loaded.

    A profile's name is also its queue's, so a message reaches only workers that have loaded its models.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    models: tuple[str, ...] = ()
    """Names of installed models; empty for work that needs none."""


class Settings(BaseSettings):
    """All of Pressroom's settings; `pressroom config` prints each with its value and source."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, extra="forbid", allow_inf_nan=False, frozen=True
    )

    home: Path = Field(default_factory=default_home)
    """Folder for data of the embedded services, logs and locks."""
    models_dir: Path | None = None
    """Folder of installed models; if unset, `models` in the home folder."""
    db_url: SecretStr | None = None
    """URL of the database, postgresql://user:password@host:port/database; if unset, an embedded Postgres in
    the home folder."""
    redis_url: SecretStr | None = None
    """URL of the broker, redis://[:password@]host:port/number; if unset, an embedded Valkey."""
    s3_url: SecretStr | None = None
    """URL of the store, http(s)://access_key:secret_key@host:port/bucket[?region=...]; if unset, an embedded
    S3 server."""

    profiles: dict[str, Profile] = {
        "default": Profile(models=(DEFAULT_MODEL,)),
        "recommendation": Profile(models=(DEFAULT_EMBEDDER, DEFAULT_MODEL)),
        "sentiment": Profile(models=(DEFAULT_CLASSIFIER, DEFAULT_EMBEDDER, DEFAULT_MODEL)),
        "cpu": Profile(),
    }
    engine: str = "transformers"
    """The module of workers.engines that runs the models."""
    num_slots: int | None = Field(default=None, ge=1, le=4096)
    """Number of requests that the engine decodes together; if unset, chosen for the device."""
    max_context_tokens: int = Field(default=2048, ge=64, le=MAX_TOKENS)
    """Maximum prompt and new tokens of one request together; at most what the model was trained for."""
    num_threads: int | None = Field(default=None, ge=1, le=4096)
    """CPU threads of the engine; if unset, all cores of the machine, divided by the CPU workers."""

    thinking: bool = False
    """Whether models that can think may do so; otherwise thinking is turned off where the chat template
    allows it."""
    max_thought_tokens: int = Field(default=1024, ge=0, le=MAX_TOKENS)
    """Maximum tokens of a thought, in addition to those of the answer, if the context has room for them."""

    max_jobs_in_flight: int | None = Field(default=None, ge=1, le=100_000)
    """Maximum number of jobs that one worker has claimed at a time; if unset, one and a half times the
    engine's slots, and more while jobs are short."""
    lease_seconds: float = Field(default=30.0, gt=0, le=_DAY_SECONDS)
    """Duration of a lease. A lease that is not renewed for this long is lost, and the job is queued again."""
    max_attempts: int = Field(default=3, ge=1, le=1000)
    """Number of errors of the job itself after which it fails."""
    max_crashes: int = Field(default=MIN_CRASHES, ge=MIN_CRASHES, le=1000)
    """Number of workers that may crash while running only this job; then it fails as quarantined."""
    max_losses: int = Field(default=10, ge=SUSPICIOUS_LOSSES, le=1000)
    """Number of workers that may be lost under a job for unknown reasons; then it is parked."""
    backoff_seconds: float = Field(default=2.0, ge=0, le=_DAY_SECONDS)
    """Wait before the first retry; it doubles with every further retry."""
    job_timeout_seconds: float = Field(default=3600.0, gt=0, le=30 * _DAY_SECONDS)
    """Maximum duration of one attempt, including the wait for the engine; then the job is tried again. The
    default is generous: a worker full of the longest texts needs about 25 minutes for them on two CPU cores.
    """
    step_timeout_seconds: float = Field(default=300.0, gt=0, le=_DAY_SECONDS)
    """Maximum duration of an engine step. A longer step counts as hung: the worker dumps its stacks and ends,
    and its jobs are requeued when their leases expire."""
    drain_seconds: float = Field(default=30.0, ge=0, le=_DAY_SECONDS)
    """Time that a stopping worker has to finish the jobs in flight."""
    commit_interval_seconds: float = Field(default=0.2, ge=0, le=3600)
    """Results that finish within this time share one object in the store and one transaction."""
    resend_seconds: float = Field(default=60.0, gt=0, le=_DAY_SECONDS)
    """Time after which a message that is not claimed is sent again."""
    shard_jobs: int = Field(default=64, ge=1, le=1000)
    """Maximum job ids per message."""
    remote_control: bool = False
    """Whether workers obey `celery inspect` and `celery control`, and register Celery's own tasks. If so,
    anyone who can reach Redis can stop them."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Log level of workers. Commands log warnings and worse, or use this level if it is set."""
    commit: str | None = None
    """Revision of the code, for provenance; if unset, taken from git if the code is a checkout."""

    worker_id: str | None = None
    """Id of the worker. The supervisor sets this and the following five settings for each worker process."""
    start_report: Path | None = None
    """File in which the worker reports why it cannot start."""
    supervisor_pid: int | None = Field(default=None, ge=1, lt=2**31)
    heartbeat_descriptor: int | None = Field(default=None, ge=0, lt=2**20)
    worker_device: str = "cpu"
    worker_profile: str = "default"

    def require_db_url(self) -> str:
        """Return the database's URL. Raises ConfigurationError if none is configured."""
        return _required(self.db_url, "PRESSROOM_DB_URL")

    def require_redis_url(self) -> str:
        """Return the broker's URL. Raises ConfigurationError if none is configured."""
        return _required(self.redis_url, "PRESSROOM_REDIS_URL")

    def require_s3_url(self) -> str:
        """Return the store's URL. Raises ConfigurationError if none is configured."""
        return _required(self.s3_url, "PRESSROOM_S3_URL")

    def profile_of(self, models: Collection[str]) -> str:
        """Return the smallest profile that has all of these models; of equally small ones, the first.

        Raises ConfigurationError if there is none.
        """
        fitting = [name for name, profile in self.profiles.items() if set(models) <= set(profile.models)]
        if not fitting:
            listed = ", ".join(models)
            raise ConfigurationError(
                f"no worker profile includes {'the model' if len(models) == 1 else 'all of the models'} "
                f"{listed}: add one to PRESSROOM_PROFILES, for example "
                f"{json.dumps({'own': {'models': list(models)}})}",
                code="model_without_profile",
            )
        return min(fitting, key=lambda name: len(self.profiles[name].models))

    def profile(self, name: str) -> Profile:
        """Return the profile of this name. Raises ConfigurationError if there is none."""
        if name not in self.profiles:
            raise ConfigurationError(
                f"there is no worker profile {name!r}: choose one of {', '.join(self.profiles)}",
                code="profile_unknown",
            )
        return self.profiles[name]

    @property
    def models_folder(self) -> Path:
        """Return the folder of installed models."""
        return self.models_dir or self.home / "models"


def read_settings() -> Settings:
    """Read the settings from the environment. Raises a ConfigurationError that names the faulty variables."""
    try:
        return Settings()
    except ValidationError as error:
        faults = "; ".join(
            describe_fault(fault, noun="setting", place=_place(fault["loc"])) for fault in error.errors()
        )
        raise ConfigurationError(f"{faults}: correct or unset it", code="setting_invalid") from error
    except SettingsError as error:
        message = f"{_variable_of(error)} is not valid JSON: correct or unset it"
        raise ConfigurationError(message, code="setting_invalid") from error


def _place(path: tuple[int | str, ...]) -> str:
    """Return the faulty variable and the place in its value, as in "default.modles in PRESSROOM_PROFILES"."""
    variable = f"{ENVIRONMENT_PREFIX}{str(path[0]).upper()}"
    return f"{'.'.join(map(str, path[1:]))} in {variable}" if len(path) > 1 else variable


def _variable_of(error: SettingsError) -> str:
    """Return the variable that could not be parsed; pydantic-settings names its field in the message only."""
    field = re.search(r'field "(\w+)"', str(error))
    return _place((field[1],)) if field else "a variable"


def unknown_variables() -> list[str]:
    """Return environment variables that look like settings but are not, usually because of a typing error."""
    known = {f"{ENVIRONMENT_PREFIX}{name}".upper() for name in Settings.model_fields} | ENGINE_VARIABLES
    return sorted(name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX) and name not in known)


def _required(url: SecretStr | None, variable: str) -> str:
    if url is None:
        raise ConfigurationError(
            f"{variable} is not set: set it to the service's URL, or start the embedded services with "
            "`pressroom services`"
        )
    return url.get_secret_value()
