"""Options with which a catalogue and a log are submitted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from jobs.instants import DateOrder
from jobs.intake.columns import FieldColumns
from jobs.intake.dialect import AS_FOUND, FileOptions
from kinds.recommendation.catalogue.inputs import MatchIds
from kinds.recommendation.recommender import Recommender
from kinds.recommendation.recommender_file import (
    RecommenderFile,
    file_of,
    make_recommender_file,
    read_recommender_file,
)
from kinds.recommendation.texts.text import TextScope


class RecommendationOptions(BaseModel):
    """Options of one catalogue and log; what is not set comes from the settings file or an earlier run."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    recommender: str | None = Field(
        default=None,
        description="name of the recommender whose releases are continued; by default, the catalogue's name",
    )
    text_scope: TextScope | None = Field(
        default=None, alias="copy", description="audience of a text: user, segment, item, or none"
    )
    model: str | None = Field(default=None, description="language model that writes the texts, or none")
    embedder: str | None = Field(
        default=None, description="embedding model that finds similar items by their texts, or none"
    )
    catalogue_columns: FieldColumns = Field(
        default={}, description="columns of the catalogue's fields: FIELD=COLUMN, separated by commas"
    )
    interaction_columns: FieldColumns = Field(
        default={}, description="columns of the log's fields: FIELD=COLUMN, separated by commas"
    )
    date_order: DateOrder | None = Field(default=None, description="order of day and month in dates")
    match_ids: MatchIds | None = Field(default=None, description="how ids are compared: exact, or loose")
    max_dropped_share: float | None = Field(
        default=None, ge=0, le=1, description="share of the input that may be refused"
    )

    def over(
        self, earlier: Recommender | None, *, settings_file: Path | None, file: FileOptions = AS_FOUND
    ) -> RecommenderFile:
        """Return the settings of a run, in which these options override all others.

        All other settings come from the settings file if there is one, else from the earlier run, else from
        the defaults. Raises RecommenderFileError.
        """
        base = RecommenderFile() if earlier is None else file_of(earlier)
        base = base if settings_file is None else read_recommender_file(settings_file)
        intake = {
            "catalogue_columns": self.catalogue_columns or None,
            "interaction_columns": self.interaction_columns or None,
            "date_order": self.date_order,
            "match_ids": self.match_ids,
            "max_dropped_share": self.max_dropped_share,
            **file.given(),
        }
        changed: dict[str, object] = {"intake": base.intake.model_dump() | _without_none(intake)}
        if self.text_scope is not None:
            changed["copy"] = base.text_policy.model_dump() | {"scope": self.text_scope}
        changed |= _without_none({"model": self.model, "embedder": self.embedder})
        values = {**base.model_dump(by_alias=True), **changed}
        return make_recommender_file(values, folder=Path.cwd(), where="the options")


def _without_none(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
