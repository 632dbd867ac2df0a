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
    """Payload of the `collect` job, which reads the files that the settings name."""

    stage: Literal["collect"] = "collect"


class EmbedPayload(StagePayload):
    """Payload of an `embed` job, which embeds the texts of consecutive items of the catalogue."""

    stage: Literal["embed"] = "embed"
    inputs_sha256: Sha256
    start: int = Field(ge=0, le=2**31)
    stop: int = Field(ge=1, le=2**31)
    """End of the range of positions, exclusive."""


class FitPayload(StagePayload):
    """Payload of the `fit` job, which fits the ranking model to all interactions."""

    stage: Literal["fit"] = "fit"
    inputs_sha256: Sha256
    vectors: tuple[Sha256, ...]
    """Digests of the vectors that the `embed` jobs wrote."""


class Materials(StagePayload):
    """Resources that ranking needs besides the users' interactions."""

    inputs_sha256: Sha256
    model_sha256: Sha256
    fitted_inputs_sha256: Sha256
    """Digest of the inputs that the model was fitted to."""
    vectors_sha256: Sha256 | None


class RankPayload(StagePayload):
    """Payload of a `rank` job, which ranks items for one block of users."""

    stage: Literal["rank"] = "rank"
    materials: Materials
    block: int = Field(ge=0, le=2**31)


class TextPlanPayload(StagePayload):
    """Payload of a `plan_texts` job, which finds the texts that lists need and that are not written yet."""

    stage: Literal["plan_texts"] = "plan_texts"
    materials: Materials
    first_block: int = Field(ge=0, le=2**31)
    lists: tuple[Sha256, ...]
    """Digests of the lists of `first_block` and of the blocks that follow it."""


class TextPayload(StagePayload):
    """Payload of a `texts` job, which writes one text."""

    stage: Literal["texts"] = "texts"
    requests_sha256: Sha256
    number: int = Field(ge=0, le=2**31)
    """Position of the text in the file of requests."""


class PublishPayload(StagePayload):
    """Payload of the `publish` job, which assembles the release."""

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
    """The payload of a job of any stage; its field `stage` determines which one it is."""


class RecommenderSettings(BaseModel):
    """Settings of a recommender that apply to all its runs."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    rules: Rules = Rules()
    ranking: RankingSettings = RankingSettings()
    text_policy: TextPolicy = TextPolicy()
    embedder: str | None = None
    """Embedding model for the items' texts; if it is None, items are compared by words and attributes."""
    refit_share: float = Field(default=0.05, ge=0, le=1)
    """Share of changed users above which the model is fitted again. Up to this share, the model is kept, and
    so are the lists of all unchanged users."""
    intake: IntakeOptions = IntakeOptions()


class RecommendationSettings(RecommenderSettings):
    """Settings that a batch fixes for all its jobs."""

    recommender: str
    recommender_id: UUID
    as_of: AwareDatetime
    """Instant at which availability is judged."""
    language_model: str | None = None
    """Name of the language model, for the manifest; None if no texts are written."""
    language_model_digest: str = ""
    """Digest of the model's files, which is part of a text's key."""
    inputs_sha256: Sha256 | None = None
    """Digest of the inputs; None if the batch collects them from `sources`."""
    sources: RecommenderSources | None = None
    plan_only: bool = False
    """Whether the batch only plans and leaves everything published as it is."""
    previous_sha256: Sha256 | None = None
    """Digest of the manifest of the published release, from which unchanged results are carried over."""
