"""Plans the jobs of each stage from the outputs of the stages before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from jobs.kind import PlanContext
from kinds.recommendation.outputs import (
    BriefOutput,
    CollectOutput,
    CopyOutput,
    EmbedOutput,
    FitOutput,
    RankOutput,
)
from kinds.recommendation.payload import (
    BriefPayload,
    CopyPayload,
    EmbedPayload,
    FitPayload,
    PublishPayload,
    RankPayload,
    RecommendationPayload,
    RecommendationSettings,
)
from kinds.recommendation.release import ReleaseCounts, ReleasedBlock
from kinds.recommendation.texts.text import CopyScope

ITEMS_PER_JOB = 2000
"""Items per `embed` job, which take an encoder a few seconds on two cores."""

Planned = Iterator[tuple[str, RecommendationPayload]]


def plan_embed(context: PlanContext, settings: RecommendationSettings) -> Planned:
    """Yield the `embed` jobs, after `collect`."""
    for _, collected in context.outputs(CollectOutput, "collect"):
        yield from embed_jobs(collected.inputs_sha256, collected.num_items, settings)


def embed_jobs(inputs_sha256: str, num_items: int, settings: RecommendationSettings) -> Planned:
    """Yield the first jobs of a batch made from files; without an embedder it starts with `fit_job`."""
    for start in range(0, num_items if settings.embedder else 0, ITEMS_PER_JOB):
        stop = min(start + ITEMS_PER_JOB, num_items)
        payload = EmbedPayload(inputs_sha256=inputs_sha256, start=start, stop=stop)
        yield f"items-{start}-{stop - 1}", RecommendationPayload(payload)


def fit_job(inputs_sha256: str, vectors: tuple[str, ...] = ()) -> tuple[str, RecommendationPayload]:
    """Return the only job of the stage `fit`."""
    return "model", RecommendationPayload(FitPayload(inputs_sha256=inputs_sha256, vectors=vectors))


def plan_fit(context: PlanContext, settings: RecommendationSettings) -> Planned:
    """Yield the `fit` job, after `embed`.

    Nothing is fitted unless all vectors are there, because items without one would resemble no other item.
    """
    vectors = tuple(embedded.vectors_sha256 for _, embedded in context.outputs(EmbedOutput, "embed"))
    collected = [output.inputs_sha256 for _, output in context.outputs(CollectOutput, "collect")]
    inputs = settings.inputs_sha256 or next(iter(collected), None)
    if inputs is not None and not context.num_failed:
        yield fit_job(inputs, vectors)


def plan_rank(context: PlanContext, settings: RecommendationSettings) -> Planned:  # noqa: ARG001
    """Yield a `rank` job for each block of users."""
    for _, fitted in context.outputs(FitOutput, "fit"):
        for block in range(fitted.num_blocks):
            payload = RankPayload(materials=fitted.materials, block=block)
            yield f"block-{block}", RecommendationPayload(payload)


def plan_brief(context: PlanContext, settings: RecommendationSettings) -> Planned:
    """Yield a `brief` job for each block if texts are per user, and otherwise one for all blocks.

    There is none if a list is missing.
    """
    if context.num_failed:
        return
    ranked = [block.lists_sha256 for _, block in context.outputs(RankOutput, "rank")]
    for _, fitted in context.outputs(FitOutput, "fit"):
        groups = [ranked]
        if settings.copy_policy.scope is CopyScope.USER:
            groups = [[sha256] for sha256 in ranked]
        for number, lists in enumerate(groups):
            payload = BriefPayload(materials=fitted.materials, first_block=number, lists=tuple(lists))
            yield f"lists-{number}", RecommendationPayload(payload)


def plan_copy(context: PlanContext, settings: RecommendationSettings) -> Planned:  # noqa: ARG001
    """Yield a `copy` job for each text that is not written yet."""
    for custom_id, brief in context.outputs(BriefOutput, "brief"):
        if brief.briefs_sha256 is None:  # there is nothing to write
            continue
        for number in range(brief.num_to_write):
            payload = CopyPayload(briefs_sha256=brief.briefs_sha256, number=number)
            yield f"{custom_id}-{number}", RecommendationPayload(payload)


def plan_publish(context: PlanContext, settings: RecommendationSettings) -> Planned:
    """Yield the `publish` job, or none if a list or a brief is missing.

    Texts that failed are counted, and the plain template takes their place.
    """
    briefs = {brief.first_block: brief for _, brief in context.outputs(BriefOutput, "brief")}
    ranked = [block for _, block in context.outputs(RankOutput, "rank")]
    per_user = settings.copy_policy.scope is CopyScope.USER
    fitted = next((fitted for _, fitted in context.outputs(FitOutput, "fit")), None)
    if fitted is None or len(ranked) != fitted.num_blocks or len(briefs) != (len(ranked) if per_user else 1):
        return
    copies = [copy for _, copy in context.outputs(CopyOutput, "copy")]
    counts = _counts(ranked, list(briefs.values()), copies)
    payload = PublishPayload(
        materials=fitted.materials,
        blocks=tuple(_block(block, briefs if per_user else {}) for block in ranked),
        copy_index_sha256=None if per_user else briefs[0].copy_index_sha256,
        counts=counts,
    )
    yield "release", RecommendationPayload(payload)


def _block(ranked: RankOutput, briefs: Mapping[int, BriefOutput]) -> ReleasedBlock:
    own = briefs.get(ranked.block)
    return ReleasedBlock(
        interactions_sha256=ranked.interactions_sha256,
        basis=ranked.basis,
        lists_sha256=ranked.lists_sha256,
        num_users=ranked.num_users,
        copy_index_sha256=None if own is None else own.copy_index_sha256,
    )


def _counts(
    ranked: Sequence[RankOutput], briefs: Sequence[BriefOutput], copies: Sequence[CopyOutput]
) -> ReleaseCounts:
    num_to_write = sum(brief.num_to_write for brief in briefs)
    return ReleaseCounts(
        num_users=sum(block.num_users for block in ranked),
        num_users_ranked=sum(block.num_ranked for block in ranked),
        num_texts_written=sum(not copy.is_known for copy in copies),
        num_texts_carried=sum(brief.num_texts for brief in briefs) - num_to_write,
        num_texts_failed=num_to_write - len(copies),
    )
