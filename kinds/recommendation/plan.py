"""How each stage is planned from what the ones before left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from jobs.kind import PlanContext
from kinds.recommendation.payload import (
    BriefPayload,
    CopyPayload,
    EmbedPayload,
    FitPayload,
    Materials,
    PublishPayload,
    RankPayload,
    RecommendationPayload,
    RecommendationSettings,
)
from kinds.recommendation.releases.release import ReleaseCounts, ReleasedBlock
from kinds.recommendation.texts.policy import CopyScope

ITEMS_PER_JOB = 2000
"""Of an `embed` job: a few seconds of an encoder on two cores."""

Planned = Iterator[tuple[str, RecommendationPayload]]


def plan_embed(context: PlanContext, settings: RecommendationSettings) -> Planned:
    """After `collect`."""
    for _, facts in context.results("collect"):
        yield from embed_jobs(str(facts["inputs_sha256"]), cast("int", facts["num_items"]), settings)


def embed_jobs(inputs_sha256: str, num_items: int, settings: RecommendationSettings) -> Planned:
    """A batch that is made from files begins with these, or, without an embedder, with `fit_job`."""
    for start in range(0, num_items if settings.embedder else 0, ITEMS_PER_JOB):
        stop = min(start + ITEMS_PER_JOB, num_items)
        payload = EmbedPayload(inputs_sha256=inputs_sha256, start=start, stop=stop)
        yield f"items-{start}-{stop - 1}", RecommendationPayload(payload)


def fit_job(inputs_sha256: str, vectors: tuple[str, ...] = ()) -> tuple[str, RecommendationPayload]:
    """The one of its stage."""
    return "model", RecommendationPayload(FitPayload(inputs_sha256=inputs_sha256, vectors=vectors))


def plan_fit(context: PlanContext, settings: RecommendationSettings) -> Planned:
    """After `embed`. Without all of the vectors nothing is fitted: some items would be unlike all others."""
    embedded = [facts for _, facts in context.results("embed")]
    collected = [str(facts["inputs_sha256"]) for _, facts in context.results("collect")]
    inputs = settings.inputs_sha256 or next(iter(collected), None)
    if inputs is not None and not context.num_failed:
        yield fit_job(inputs, tuple(str(facts["vectors_sha256"]) for facts in embedded))


def plan_rank(context: PlanContext, settings: RecommendationSettings) -> Planned:  # noqa: ARG001
    """A job for each block of users."""
    for _, facts in context.results("fit"):
        materials = Materials.model_validate(facts["materials"])
        for block in range(cast("int", facts["num_blocks"])):
            yield f"block-{block}", RecommendationPayload(RankPayload(materials=materials, block=block))


def plan_brief(context: PlanContext, settings: RecommendationSettings) -> Planned:
    """A job for each block where texts are per user, else one for all; none without every list."""
    if context.num_failed:
        return
    ranked = [str(facts["lists_sha256"]) for _, facts in context.results("rank")]
    for _, facts in context.results("fit"):
        materials = Materials.model_validate(facts["materials"])
        groups = [ranked]
        if settings.copy_policy.scope is CopyScope.USER:
            groups = [[sha256] for sha256 in ranked]
        for number, lists in enumerate(groups):
            payload = BriefPayload(materials=materials, first_block=number, lists=tuple(lists))
            yield f"lists-{number}", RecommendationPayload(payload)


def plan_copy(context: PlanContext, settings: RecommendationSettings) -> Planned:  # noqa: ARG001
    """A job for each text that is not known."""
    for custom_id, facts in context.results("brief"):
        for number in range(cast("int", facts["num_to_write"])):
            payload = CopyPayload(briefs_sha256=str(facts["briefs_sha256"]), number=number)
            yield f"{custom_id}-{number}", RecommendationPayload(payload)


def plan_publish(context: PlanContext, settings: RecommendationSettings) -> Planned:
    """One job; none without every list and brief. Texts that failed are told, and stand as templates."""
    briefs = {cast("int", facts["first_block"]): facts for _, facts in context.results("brief")}
    ranked = [facts for _, facts in context.results("rank")]
    per_user = settings.copy_policy.scope is CopyScope.USER
    fitted = next((facts for _, facts in context.results("fit")), None)
    if (
        fitted is None
        or len(ranked) != fitted["num_blocks"]
        or len(briefs) != (len(ranked) if per_user else 1)
    ):
        return
    copies = [facts for _, facts in context.results("copy")]
    counts = _counts(ranked, list(briefs.values()), copies)
    payload = PublishPayload(
        materials=Materials.model_validate(fitted["materials"]),
        blocks=tuple(_block(facts, briefs if per_user else {}) for facts in ranked),
        copy_index_sha256=None if per_user else str(briefs[0]["copy_index_sha256"]),
        counts=counts,
    )
    yield "release", RecommendationPayload(payload)


def _block(facts: Mapping[str, object], briefs: Mapping[int, Mapping[str, object]]) -> ReleasedBlock:
    own = briefs.get(cast("int", facts["block"]))
    return ReleasedBlock(
        interactions_sha256=str(facts["interactions_sha256"]),
        basis=str(facts["basis"]),
        lists_sha256=str(facts["lists_sha256"]),
        num_users=cast("int", facts["num_users"]),
        copy_index_sha256=None if own is None else str(own["copy_index_sha256"]),
    )


def _counts(
    ranked: list[Mapping[str, object]],
    briefs: list[Mapping[str, object]],
    copies: list[Mapping[str, object]],
) -> ReleaseCounts:
    num_to_write = _total(briefs, "num_to_write")
    return ReleaseCounts(
        num_users=_total(ranked, "num_users"),
        num_users_ranked=_total(ranked, "num_ranked"),
        num_texts_written=sum(not facts["is_known"] for facts in copies),
        num_texts_carried=_total(briefs, "num_texts") - num_to_write,
        num_texts_failed=num_to_write - len(copies),
    )


def _total(many: list[Mapping[str, object]], name: str) -> int:
    return sum(cast("int", facts[name]) for facts in many)
