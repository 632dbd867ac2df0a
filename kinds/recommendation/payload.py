"""Payloads of the jobs of each stage, and the settings that a batch fixes for all of them."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, RootModel

from kinds.recommendation.catalogue.inputs import IntakeOptions
from kinds.recommendation.ranking.settings import RankingSettings, Rules
from kinds.recommendation.recommender import RecommenderSources
from kinds.recommendation.release import ReleaseCounts, ReleasedBlock
from kinds.recommendation.texts.text import TextPolicy

Sha256 = str


class StagePayload(BaseModel):
    """Base of the payloads of all stages."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


class CollectPayload(StagePayload):
    """Read the files that the settings name."""

    stage: Literal["collect"] = "collect"


class EmbedPayload(StagePayload):
    """Embed the texts of consecutive items of the catalogue."""

    stage: Literal["embed"] = "embed"
    inputs_sha256: Sha256
    start: int = Field(ge=0, le=2**31)
    stop: int = Field(ge=1, le=2**31)
    """End of the range of positions, exclusive."""


class FitPayload(StagePayload):
    """Fit the ranking model to all interactions."""

    stage: Literal["fit"] = "fit"
    inputs_sha256: Sha256
    vectors: tuple[Sha256, ...]
    """Digests of the vectors of the `embed` jobs."""


class Materials(StagePayload):
    """Resources that ranking needs besides the users' interactions."""

    inputs_sha256: Sha256
    model_sha256: Sha256
    fitted_inputs_sha256: Sha256
    """Inputs that the model was fitted to."""
    vectors_sha256: Sha256 | None


class RankPayload(StagePayload):
    """Rank for one block of users."""

    stage: Literal["rank"] = "rank"
    materials: Materials
    block: int = Field(ge=0, le=2**31)


class TextPlanPayload(StagePayload):
    """Find out which texts these lists need, and which of them are not written yet."""

    stage: Literal["plan_texts"] = "plan_texts"
    materials: Materials
    first_block: int = Field(ge=0, le=2**31)
    lists: tuple[Sha256, ...]
    """Lists of the first block and the blocks after it."""


class TextPayload(StagePayload):
    """Write one text."""

    stage: Literal["texts"] = "texts"
    requests_sha256: Sha256
    number: int = Field(ge=0, le=2**31)
    """Position of the text in the file of requests."""


class PublishPayload(StagePayload):
    """Put the release together."""

    stage: Literal["publish"] = "publish"
    materials: Materials
    blocks: tuple[ReleasedBlock, ...]
    text_index_sha256: Sha256 | None
    counts: ReleaseCounts


class RecommendationPayload(
    RootModel[
        Annotated[
            CollectPayload
            | EmbedPayload
            | FitPayload
            | RankPayload
            | TextPlanPayload
            | TextPayload
            | PublishPayload,
            Field(discriminator="stage"),
        ]
    ]
):
    """The payload of a job, by its stage."""


class RecommenderSettings(BaseModel):
    """Settings of a recommender that apply to all its runs."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    rules: Rules = Rules()
    ranking: RankingSettings = RankingSettings()
    text_policy: TextPolicy = TextPolicy()
    embedder: str | None = None
    """Embedding model for the items' texts; None ranks by behaviour and attributes alone."""
    refit_share: float = Field(default=0.05, ge=0, le=1)
    """Share of changed users above which the model is fitted again. Otherwise the model is kept, and with it
    the lists of all other users."""
    intake: IntakeOptions = IntakeOptions()


class RecommendationSettings(RecommenderSettings):
    """Settings that a batch fixes for all its jobs."""

    recommender: str
    recommender_id: UUID
    as_of: AwareDatetime
    """Instant by which availability is judged."""
    language_model: str | None = None
    """Name of the language model, for the manifest; None writes no texts."""
    language_model_digest: str = ""
    """Digest of the model's files, which is part of a text's key."""
    inputs_sha256: Sha256 | None = None
    """Digest of the inputs; None if the batch collects them from `sources`."""
    sources: RecommenderSources | None = None
    plan_only: bool = False
    """Whether the batch only plans and leaves everything published as it is."""
    previous_sha256: Sha256 | None = None
    """Manifest of the published release, from which everything unchanged is carried over."""
