"""The kind `recommendation`: its stages and the functions that run them."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel

from jobs.kind import Background, Context, Input, Intake, Kind, PlanContext, Port, Result, Stage, Tables
from kinds.recommendation.collect import collect
from kinds.recommendation.materials import Clock
from kinds.recommendation.options import RecommendationOptions
from kinds.recommendation.outputs import (
    CollectOutput,
    EmbedOutput,
    FitOutput,
    RankOutput,
    TextOutput,
    TextPlanOutput,
)
from kinds.recommendation.payload import (
    CollectPayload,
    EmbedPayload,
    FitPayload,
    PublishPayload,
    RankPayload,
    RecommendationPayload,
    RecommendationSettings,
    RecommenderSettings,
    TextPayload,
    TextPlanPayload,
)
from kinds.recommendation.plan import (
    plan_embed,
    plan_fit,
    plan_publish,
    plan_rank,
    plan_text_jobs,
    plan_text_plans,
)
from kinds.recommendation.publish import publish
from kinds.recommendation.rank import embed_items, fit_model, rank_users
from kinds.recommendation.texts.plan import plan_texts
from kinds.recommendation.texts.write import write_text

ENGINE_STAGES = frozenset({"embed", "texts"})
"""Stages that need an engine; the other stages run without one, so that they never block it."""


class RecommendationKind(Kind[RecommendationPayload]):
    """Ranks items of a catalogue for each user and writes texts about them."""

    name = "recommendation"
    version = "2"
    intake = Intake(
        reader="kinds.recommendation.intake:read_shop",
        inputs=(
            Input("catalogue", "Table of items: CSV, JSONL or Parquet, also .gz;"),
            Input("interactions", "Log of interactions between users and items, in the same formats"),
            Input("settings", "TOML file with models, rules and other settings", is_required=False),
        ),
        options_type=RecommendationOptions,
    )
    stages = (
        Stage("collect", CollectOutput),
        Stage("embed", EmbedOutput),
        Stage("fit", FitOutput),
        Stage("rank", RankOutput),
        Stage("plan_texts", TextPlanOutput),
        Stage("texts", TextOutput),
        Stage("publish"),
    )
    """All stages. A batch made from files starts with `embed` or `fit`; a plan ends with `plan_texts`."""
    ports = (Port(Clock, "kinds.recommendation.store.clock:open_clock"),)
    payload_type = RecommendationPayload
    settings_type = RecommendationSettings
    tables = Tables(
        module="kinds.recommendation.tables",
        migrations="kinds.recommendation.migrations",
        writer="kinds.recommendation.store.releases:write_records",
    )
    recurring = "kinds.recommendation.recommender_runs:RecommenderSchedules"
    describer = "kinds.recommendation.describer:RecommendationDescriber"
    exporter = "kinds.recommendation.export.outcome:export_outcome"
    background = (
        Background("serving", "kinds.recommendation.serving.follower:serve_in_background", frozenset({"up"})),
    )

    def prompt_prefix(self, payload: RecommendationPayload) -> str:
        """Return the stage: all texts begin with the same instructions, and other stages have no prompt."""
        return payload.root.stage

    def models(self, model: str, settings: BaseModel, stage: str) -> tuple[str, ...]:
        """Return the language model and the embedder, or nothing if the stage needs no engine.

        A worker that gets both at once divides the device's memory only once.
        """
        own = RecommenderSettings.model_validate(settings, from_attributes=True)
        return tuple(name for name in (model, own.embedder) if name) if stage in ENGINE_STAGES else ()

    def run(self, payload: RecommendationPayload, context: Context) -> Result:
        """Run a job of any stage. Raises the errors of the stage's function."""
        settings = RecommendationSettings.model_validate(context.settings)
        match payload.root:
            case CollectPayload():
                return collect(settings, context)
            case EmbedPayload() as own:
                return embed_items(own, settings, context)
            case FitPayload() as own:
                return fit_model(own, settings, context)
            case RankPayload() as own:
                return rank_users(own, settings, context)
            case TextPlanPayload() as own:
                return plan_texts(own, settings, context)
            case TextPayload() as own:
                return write_text(own, settings, context)
            case PublishPayload() as own:
                return publish(own, settings, context)

    def plan(self, stage: str, context: PlanContext) -> Iterable[tuple[str, RecommendationPayload]]:
        """Return the jobs of a stage, planned from the outputs of earlier stages."""
        settings = RecommendationSettings.model_validate(context.settings)
        plans = {
            "embed": plan_embed,
            "fit": plan_fit,
            "rank": plan_rank,
            "plan_texts": plan_text_plans,
            "texts": plan_text_jobs,
            "publish": plan_publish,
        }
        return plans[stage](context, settings)
