"""The description of a monitor: a TOML file, or the options of `pressroom monitor create`.

An example of the file:

name = "steel"
watch = "watchlist.toml"
cron = "0 * * * *"
time_zone = "Europe/Berlin"

[[source]]
type = "feed"
url = "https://example.com/news.rss"

[[source]]
type = "feed"
url_variable = "PAID_NEWS_URL"

[[source]]
type = "file"
path = "inbox"
columns = { published_at = "when", text = "story" }

[[target]]
type = "file"
name = "lines"
path = "alerts.jsonl"

[[target]]
type = "webhook"
name = "ops"
url_variable = "OPS_URL"
secret_variable = "OPS_SECRET"

[policy]
windows = ["day", "week"]

[settings]
reports = "all"
max_reports = 2000
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from jobs.errors import InputError
from jobs.intake.files import TOML_ERRORS, read_toml
from jobs.schedule import CatchUp, Cron
from jobs.sources import FeedSource, FileSource, PrefixSource, Source
from jobs.validation import describe_fault
from kinds.sentiment.options import NONE
from kinds.sentiment.series.policy import Policy
from workers.delivery import FileTarget, Target, WebhookTarget
from workers.settings import DEFAULT_CLASSIFIER, DEFAULT_EMBEDDER, DEFAULT_MODEL

STDOUT = "-"


class MonitorFileError(InputError):
    """The description of a monitor is invalid; the message names the field and the values it accepts."""

    code = "monitor_invalid"


class MonitorFile(BaseModel):
    """The description of a monitor as a user writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    watch: Path
    """Path of the watch list; a relative one is relative to the TOML file."""
    sources: tuple[Source, ...] = Field(default=(), alias="source")
    targets: tuple[Target, ...] = Field(default=(), alias="target")
    cron: str | None = None
    """Cron expression of the schedule; None if the monitor runs on demand only."""
    time_zone: str = "UTC"
    """Time zone of the schedule and, unless the policy has its own, of days and weeks."""
    catch_up: CatchUp = CatchUp.LATEST
    policy: Policy = Policy()
    model: str = DEFAULT_CLASSIFIER
    embedder: str | None = DEFAULT_EMBEDDER
    summarizer: str | None = DEFAULT_MODEL
    settings: dict[str, Any] = {}
    """Further settings of the kind, such as `reports` and `max_reports`; see
    kinds.sentiment.payload.SentimentSettings."""

    @model_validator(mode="before")
    @classmethod
    def _use_time_zone_in_policy(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and "time_zone" in fields:
            policy = fields.get("policy", {})
            if isinstance(policy, dict) and "time_zone" not in policy:
                return {**fields, "policy": {**policy, "time_zone": fields["time_zone"]}}
        return fields

    @model_validator(mode="after")
    def _targets_have_names(self) -> Self:
        names = [target.name for target in self.targets]
        if len(set(names)) < len(names):
            raise ValueError(
                "two targets have the same name, so their deliveries could not be distinguished: give "
                "each a unique name"
            )
        return self

    @property
    def has_time_zone(self) -> bool:
        """Whether the file or the options name a time zone."""
        return "time_zone" in self.model_fields_set or "time_zone" in self.policy.model_fields_set

    @property
    def schedule(self) -> Cron | None:
        """The schedule of the monitor; None if it runs on demand only. Raises CronError."""
        return None if self.cron is None else Cron(self.cron, self.time_zone)


def read_monitor_file(path: Path) -> MonitorFile:
    """Read a TOML file, in which paths are relative to its folder. Raises MonitorFileError or CronError."""
    try:
        fields = read_toml(path)
    except TOML_ERRORS as error:
        raise MonitorFileError(f"{path} is not valid TOML: {error}") from error
    return make_monitor_file(fields, folder=path.parent, where=str(path))


def make_monitor_file(fields: dict[str, Any], *, folder: Path, where: str) -> MonitorFile:
    """Check the fields and make paths absolute; `none` means no model. Raises MonitorFileError, CronError."""
    for name in ("embedder", "summarizer"):
        if fields.get(name) == NONE:
            fields = {**fields, name: None}
    try:
        monitor = MonitorFile.model_validate(fields)
    except ValidationError as error:
        faults = "; ".join(describe_fault(fault, noun="setting") for fault in error.errors())
        raise MonitorFileError(f"{where}: {faults}") from error
    monitor.schedule  # noqa: B018 - reading the property checks the schedule
    return monitor.model_copy(
        update={
            "watch": _beside(folder, monitor.watch),
            "sources": tuple(_source_beside(folder, source) for source in monitor.sources),
            "targets": tuple(_target_beside(folder, target) for target in monitor.targets),
        }
    )


def source_of(text: str) -> Source:
    """Return the source that a text denotes.

    The text is a feed's URL, `s3://PREFIX` in Pressroom's store, or the path of a file or folder.

    >>> source_of("s3://news/").type, source_of("https://example.com/rss").type, source_of("in/").type
    ('s3', 'feed', 'file')
    """
    if text.startswith(("http://", "https://")):
        return FeedSource(url=text)
    if text.startswith("s3://"):
        return PrefixSource(prefix=text.removeprefix("s3://"))
    return FileSource(path=text)


def targets_of(texts: Iterable[str], *, secret_variable: str) -> tuple[Target, ...]:
    """Return the targets that texts denote: a webhook's URL, a file, or - for stdout.

    Targets are named after their host or file; equal names are numbered.
    """
    targets: list[Target] = []
    for text in texts:
        is_url = text.startswith(("http://", "https://"))
        plain = (
            (urlsplit(text).hostname or text) if is_url else "stdout" if text == STDOUT else Path(text).name
        )
        used = {target.name for target in targets}
        numbered = (f"{plain[:60]}-{number}" for number in range(2, 1_000))
        name = plain[:64] if plain[:64] not in used else next(each for each in numbered if each not in used)
        if is_url:
            targets.append(WebhookTarget(name=name, url=text, secret_variable=secret_variable))
        else:
            targets.append(FileTarget(name=name, path=text))
    return tuple(targets)


def _beside(folder: Path, path: Path) -> Path:
    return (folder / path.expanduser()).absolute()


def _source_beside(folder: Path, source: Source) -> Source:
    if isinstance(source, FileSource):
        return source.model_copy(update={"path": str(_beside(folder, Path(source.path)))})
    return source


def _target_beside(folder: Path, target: Target) -> Target:
    if isinstance(target, FileTarget) and target.path != STDOUT:
        return target.model_copy(update={"path": str(_beside(folder, Path(target.path)))})
    return target
