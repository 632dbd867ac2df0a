"""Plans the jobs of each stage from the outputs of the stages before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from jobs.kind import PlanContext
from kinds.recommendation.outputs import (
    CollectOutput,
    EmbedOutput,
    FitOutput,
    RankOutput,
    TextOutput,
    TextPlanOutput,
)
from kinds.recommendation.payload import (
    EmbedPayload,
    FitPayload,
    PublishPayload,
    RankPayload,
    RecommendationPayload,
    RecommendationSettings,
    TextPayload,
    TextPlanPayload,
)
from kinds.recommendation.release import ReleaseCounts, ReleasedBlock
from kinds.recommendation.texts.text import TextScope

ITEMS_PER_JOB = 2000
"""Number of items per `embed` job; an encoder embeds them in a few seconds on two cores."""

Jobs = Iterator[tuple[str, RecommendationPayload]]


def plan_embed(context: PlanContext, settings: RecommendationSettings) -> Jobs:
    """Yield the `embed` jobs for the items that `collect` has ingested."""
    for _, collected in context.outputs(CollectOutput, "collect"):
        yield from embed_jobs(collected.inputs_sha256, collected.num_items, settings)


def embed_jobs(inputs_sha256: str, num_items: int, settings: RecommendationSettings) -> Jobs:
    """Yield the `embed` jobs, each for a range of items; there are none without an embedder."""
    for start in range(0, num_items if settings.embedder else 0, ITEMS_PER_JOB):
        stop = min(start + ITEMS_PER_JOB, num_items)
        payload = EmbedPayload(inputs_sha256=inputs_sha256, start=start, stop=stop)
        yield f"items-{start}-{stop - 1}", RecommendationPayload(payload)


def fit_job(inputs_sha256: str, vectors: tuple[str, ...] = ()) -> tuple[str, RecommendationPayload]:
    """Return the only job of the stage `fit`."""
    return "model", RecommendationPayload(FitPayload(inputs_sha256=inputs_sha256, vectors=vectors))


def plan_fit(context: PlanContext, settings: RecommendationSettings) -> Jobs:
    """Yield the `fit` job for the vectors that the `embed` jobs have computed, or none if a job failed.

    A failed job's items would have no vectors, and would therefore resemble no other item.
    """
    vectors = tuple(embedded.vectors_sha256 for _, embedded in context.outputs(EmbedOutput, "embed"))
    collected = [output.inputs_sha256 for _, output in context.outputs(CollectOutput, "collect")]
    inputs = settings.inputs_sha256 or next(iter(collected), None)
    if inputs is not None and not context.num_failed:
        yield fit_job(inputs, vectors)


def plan_rank(context: PlanContext, settings: RecommendationSettings) -> Jobs:  # noqa: ARG001
    """Yield a `rank` job for each block of users."""
    for _, fitted in context.outputs(FitOutput, "fit"):
        for block in range(fitted.num_blocks):
            payload = RankPayload(materials=fitted.materials, block=block)
            yield f"block-{block}", RecommendationPayload(payload)


def plan_text_plans(context: PlanContext, settings: RecommendationSettings) -> Jobs:
    """Yield a `plan_texts` job for each block if texts are per user, and otherwise one for all blocks.

    No job is yielded if the lists of a block are missing.
    """
    if context.num_failed:
        return
    ranked = [block.lists_sha256 for _, block in context.outputs(RankOutput, "rank")]
    for _, fitted in context.outputs(FitOutput, "fit"):
        groups = [ranked]
        if settings.text_policy.scope is TextScope.USER:
            groups = [[sha256] for sha256 in ranked]
        for number, lists in enumerate(groups):
            payload = TextPlanPayload(materials=fitted.materials, first_block=number, lists=tuple(lists))
            yield f"lists-{number}", RecommendationPayload(payload)


def plan_text_jobs(context: PlanContext, settings: RecommendationSettings) -> Jobs:  # noqa: ARG001
    """Yield a `texts` job for each text that is not written yet."""
    for custom_id, text_plan in context.outputs(TextPlanOutput, "plan_texts"):
        if text_plan.requests_sha256 is None:  # there is nothing to write
            continue
        for number in range(text_plan.num_to_write):
            payload = TextPayload(requests_sha256=text_plan.requests_sha256, number=number)
            yield f"{custom_id}-{number}", RecommendationPayload(payload)


def plan_publish(context: PlanContext, settings: RecommendationSettings) -> Jobs:
    """Yield the `publish` job, or none if a list or a text plan is missing.

    Texts that failed are counted; readers get the plain template instead.
    """
    text_plans = {
        text_plan.first_block: text_plan for _, text_plan in context.outputs(TextPlanOutput, "plan_texts")
    }
    ranked = [block for _, block in context.outputs(RankOutput, "rank")]
    per_user = settings.text_policy.scope is TextScope.USER
    fitted = next((fitted for _, fitted in context.outputs(FitOutput, "fit")), None)
    if (
        fitted is None
        or len(ranked) != fitted.num_blocks
        or len(text_plans) != (len(ranked) if per_user else 1)
    ):
        return
    texts = [text for _, text in context.outputs(TextOutput, "texts")]
    counts = _counts(ranked, list(text_plans.values()), texts)
    payload = PublishPayload(
        materials=fitted.materials,
        blocks=tuple(_block(block, text_plans if per_user else {}) for block in ranked),
        text_index_sha256=None if per_user else text_plans[0].text_index_sha256,
        counts=counts,
    )
    yield "release", RecommendationPayload(payload)


def _block(ranked: RankOutput, text_plans: Mapping[int, TextPlanOutput]) -> ReleasedBlock:
    own = text_plans.get(ranked.block)
    return ReleasedBlock(
        interactions_sha256=ranked.interactions_sha256,
        basis=ranked.basis,
        lists_sha256=ranked.lists_sha256,
        num_users=ranked.num_users,
        text_index_sha256=None if own is None else own.text_index_sha256,
    )


def _counts(
    ranked: Sequence[RankOutput], text_plans: Sequence[TextPlanOutput], texts: Sequence[TextOutput]
) -> ReleaseCounts:
    num_to_write = sum(text_plan.num_to_write for text_plan in text_plans)
    return ReleaseCounts(
        num_users=sum(block.num_users for block in ranked),
        num_users_ranked=sum(block.num_ranked for block in ranked),
        num_texts_written=sum(not text.is_known for text in texts),
        num_texts_carried=sum(text_plan.num_texts for text_plan in text_plans) - num_to_write,
        num_texts_failed=num_to_write - len(texts),
    )
