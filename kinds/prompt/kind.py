"""The prompt kind, which turns each row of a table into one or several texts or fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel

from jobs.inference import Completion, FinishReason, Prompt, RawPrompt, Sampling
from jobs.kind import Context, Input, Intake, Kind, Parent, PlanContext, Result, Stage
from jobs.provenance import sha256_hex
from kinds.prompt.answer import NUM_CUT, answer_of, artifacts_of
from kinds.prompt.examples import Example, ExampleMetrics
from kinds.prompt.kept import keep_result, kept_result, row_key, row_seed
from kinds.prompt.openai.blocks import run_block
from kinds.prompt.openai.generate import longest_request, run_line
from kinds.prompt.parts import check_parts, part_result, part_settings, passed_on, plan_rows, settings_of
from kinds.prompt.payload import (
    EXAMPLES,
    MAP_STAGE,
    ROWS,
    STAGE,
    PartOutput,
    PromptOutput,
    PromptPayload,
    PromptSettings,
)
from kinds.prompt.row import RowRequest, row_of, template_of
from kinds.prompt.truncation import first_text
from workers.settings import DEFAULT_MODEL


class PromptKind(Kind[PromptPayload]):
    """Sends each row of a table through a prompt template, and adds the answer as new columns."""

    name = "prompt"
    version = "1"
    payload_type = PromptPayload
    settings_type = PromptSettings
    default_model = DEFAULT_MODEL
    stages = (Stage(MAP_STAGE, PartOutput), Stage(STAGE, PromptOutput))
    """All stages. Only batches that read long documents in parts have the first one."""
    intake = Intake(
        reader="kinds.prompt.intake:read_table",
        inputs=(
            Input(ROWS, "Table whose columns the template reads: CSV, JSONL or Parquet, also .gz;"),
            Input(
                EXAMPLES,
                "Table with the same columns and the answers; the nearest rows are put into each prompt.",
                is_required=False,
            ),
        ),
    )
    exporter = "kinds.prompt.export:export_results"

    def models(self, model: str, settings: BaseModel, stage: str) -> tuple[str, ...]:  # noqa: ARG002
        """Return the batch's model, the embedder of its examples, and the models of an OpenAI batch file."""
        own = PromptSettings.model_validate(settings, from_attributes=True)
        embedder = () if own.embedder is None else (own.embedder,)
        return tuple(dict.fromkeys((model, *embedder, *own.model_map.values())))

    def first_request(
        self, payload: PromptPayload, settings: BaseModel
    ) -> tuple[Prompt | RawPrompt, Sampling] | None:
        """Return the request for the job's first text, but with seed 0, so that intake can check it.

        It contains no examples, because a job leaves out those that do not fit.
        """
        own = PromptSettings.model_validate(settings, from_attributes=True)
        if payload.request is not None:
            return longest_request(payload.request, max_new_tokens=own.max_tokens)
        if payload.block:
            return None
        if payload.part is not None and payload.part.number == 0 < payload.part.count:
            return None  # the row's prompt will contain the texts about its parts
        own = settings_of(payload, own)
        request = RowRequest.of(row_of(payload, own), own, seed=0)
        return request.prompt, request.sampling

    def run(self, payload: PromptPayload, context: Context) -> Result:
        """Generate the texts of a row or of a line, or compute the embeddings of a block of lines.

        The texts of a row may be kept ones. Raises TemplateError, AnswerCutError, AnswerInvalidError and
        errors of `Inference`.
        """
        settings = PromptSettings.model_validate(context.settings)
        if payload.request is not None:
            return run_line(
                payload.request, context.inference, max_new_tokens=settings.max_tokens, seed=context.seed
            )
        if payload.block:
            return run_block(payload.block, context.inference)
        place = payload.part
        if place is None:
            check_parts(payload)
            return self._run_row(payload, settings, context)
        if place.number == 0:
            return passed_on(payload, place)
        return part_result(self._run_row(payload, part_settings(settings), context), place)

    def plan(self, stage: str, context: PlanContext) -> Iterable[tuple[str, PromptPayload]]:
        """Return the rows with the texts about the parts of their documents."""
        return plan_rows(context.outputs(PartOutput)) if stage == STAGE else ()

    def _run_row(self, payload: PromptPayload, settings: PromptSettings, context: Context) -> Result:
        """Return the result of a row, or of a row with a part of its document: a kept one if there is any."""
        row = row_of(payload, settings)
        if settings.keep is None:
            return self._generate(row, settings, context, seed=context.seed)
        key = row_key(row, settings)
        kept = context.kept.find((key,), keep=settings.keep).get(key)
        if kept is not None:
            return kept_result(kept)
        result = self._generate(row, settings, context, seed=row_seed(key, settings))
        return keep_result(result, settings, key=key, subject=context.custom_id)

    def _generate(
        self, row: Mapping[str, object], settings: PromptSettings, context: Context, *, seed: int
    ) -> Result:
        inference = context.inference
        examples = _examples(row, settings, context)
        first = first_text(row, settings, inference, seed=seed, examples=examples)
        request = first.request
        others = [inference.generate(request.prompt, sampling) for sampling in request.other_samplings()]
        completions = [first.completion, *others]
        answers = [
            answer_of(first.completion, settings, first.cut),
            *(answer_of(completion, settings) for completion in others),
        ]
        metrics = ExampleMetrics(
            examples=tuple(example.name for example in first.examples),
            num_examples_left_out=len(examples) - len(first.examples),
        )
        return Result(
            artifacts=artifacts_of(answers),
            template=template_of(settings).identity,
            metrics=_metrics(completions) | metrics.model_dump(mode="json", exclude_defaults=True),
            output=PromptOutput(finish_reasons=tuple(each.finish_reason for each in completions)),
            parents=(*_parents(settings), *(example.parent() for example in first.examples)),
        )


def _examples(row: Mapping[str, object], settings: PromptSettings, context: Context) -> tuple[Example, ...]:
    """Return the examples for the prompt of a row, or nothing if the batch has no examples."""
    if settings.examples_sha256 is None:
        return ()
    from kinds.prompt.nearest import nearest_examples  # imported here, because it loads numpy

    return nearest_examples(template_of(settings).messages(row)[-1].content, settings, context)


def _metrics(completions: list[Completion]) -> dict[str, object]:
    """Return the figures of a row, of which only those that readers should notice are listed."""
    num_cut = sum(each.finish_reason is FinishReason.LENGTH for each in completions)
    return {"num_texts": len(completions), **({NUM_CUT: num_cut} if num_cut else {})}


def _parents(settings: PromptSettings) -> tuple[Parent, ...]:
    """Return the recipe and the files that the prompt was made from, besides the user's template."""
    sources = {"system": settings.system, "schema": settings.json_schema}
    files = tuple(
        Parent(role, settings.template_name, sha256_hex(source.encode()))
        for role, source in sources.items()
        if source is not None
    )
    recipe = settings.recipe
    if recipe is None:
        return files
    return Parent("recipe", f"{recipe.name} {recipe.version}", recipe.sha256), *files
