"""Reads a recommender as its owner writes it, from a TOML file or the options of a command."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobs.errors import InputError
from jobs.intake.files import TOML_ERRORS, read_toml
from jobs.schedule import CatchUp, Cron
from jobs.validation import describe_first
from kinds.recommendation.catalogue.inputs import IntakeOptions
from kinds.recommendation.payload import RecommenderSettings
from kinds.recommendation.ranking.settings import RankingSettings, Rules
from kinds.recommendation.recommender import Recommender, ServingPlace
from kinds.recommendation.texts.text import TextPolicy, TextScope
from workers.settings import DEFAULT_EMBEDDER, DEFAULT_MODEL

NONE = "none"
"""Value that is given instead of a model's name to use no model."""


class RecommenderFileError(InputError):
    """The file is not TOML, or does not describe a recommender."""

    code = "refresh_file_invalid"


class RecommenderFile(BaseModel):
    """Contents of a recommender's TOML file; every section is optional."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    catalogue: Path | None = None
    """Path of the catalogue; a relative path is resolved against the folder of the TOML file."""
    interactions: Path | None = None
    model: str = DEFAULT_MODEL
    """Language model that writes the texts; with "none", lists have no texts."""
    embedder: str = DEFAULT_EMBEDDER
    """Embedding model that finds similar items by their texts; with "none", words and attributes are used."""
    refit_share: float = Field(default=0.05, ge=0, le=1)
    cron: str | None = None
    time_zone: str = "UTC"
    catch_up: CatchUp = CatchUp.LATEST
    serving: ServingPlace | None = None
    """Redis database from which releases are served automatically while `pressroom up` runs."""
    intake: IntakeOptions = IntakeOptions()
    rules: Rules = Rules()
    ranking: RankingSettings = RankingSettings()
    text_policy: TextPolicy = Field(default=TextPolicy(), alias="copy")

    @property
    def settings(self) -> RecommenderSettings:
        """Settings of the kind."""
        scope = self.text_policy.scope if self.language_model else TextScope.NONE
        return RecommenderSettings(
            rules=self.rules,
            ranking=self.ranking,
            text_policy=self.text_policy.model_copy(update={"scope": scope}),
            embedder=None if self.embedder == NONE else self.embedder,
            refit_share=self.refit_share,
            intake=self.intake,
        )

    @property
    def language_model(self) -> str:
        """Name of the language model, or an empty string if no texts are written."""
        return "" if NONE in (self.model, self.text_policy.scope.value) else self.model

    @property
    def schedule(self) -> Cron | None:
        """Schedule of the recommender; None if it runs only on demand. Raises CronError."""
        return None if self.cron is None else Cron(self.cron, self.time_zone)


def file_of(recommender: Recommender) -> RecommenderFile:
    """Return the file that would describe an existing recommender."""
    own = RecommenderSettings.model_validate(recommender.settings)
    return RecommenderFile(
        name=recommender.name,
        model=recommender.model or NONE,
        embedder=own.embedder or NONE,
        refit_share=own.refit_share,
        intake=own.intake,
        rules=own.rules,
        ranking=own.ranking,
        copy=own.text_policy,
    )


def read_recommender_file(path: Path) -> RecommenderFile:
    """Return the contents of the file. Raises RecommenderFileError."""
    try:
        fields = read_toml(path)
    except TOML_ERRORS as error:
        raise RecommenderFileError(f"{path} is not valid TOML: {error}") from error
    return make_recommender_file(fields, folder=path.parent, where=str(path))


def make_recommender_file(fields: dict[str, object], *, folder: Path, where: str) -> RecommenderFile:
    """Return a recommender from the values of a file or a command. Raises RecommenderFileError.

    Relative paths are resolved against `folder`; `where` names the source of the values in error messages.
    """
    try:
        file = RecommenderFile.model_validate(fields)
    except ValidationError as error:
        raise RecommenderFileError(
            f"{where}: {describe_first(error, noun='setting', advice='correct or remove it')}"
        ) from error
    paths = {
        name: (folder / path).absolute()
        for name, path in (("catalogue", file.catalogue), ("interactions", file.interactions))
        if path is not None
    }
    return file.model_copy(update=paths)
