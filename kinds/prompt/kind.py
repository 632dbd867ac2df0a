"""The prompt kind, which turns each row of a table into one or several texts or fields."""

from __future__ import annotations

from pydantic import BaseModel

from jobs.inference import Completion, FinishReason, Prompt, Sampling
from jobs.kind import Context, Input, Intake, Kind, Parent, Result, Stage
from jobs.provenance import sha256_hex
from kinds.prompt.answer import answer_of, artifacts_of
from kinds.prompt.payload import PromptOutput, PromptPayload, PromptSettings
from kinds.prompt.row import RowRequest, template_of
from workers.settings import DEFAULT_MODEL

STAGE = "generate"
ROWS = "rows"


class PromptKind(Kind[PromptPayload]):
    """Sends each row of a table through a prompt template, and adds the answer as new columns."""

    name = "prompt"
    version = "1"
    payload_type = PromptPayload
    settings_type = PromptSettings
    default_model = DEFAULT_MODEL
    stages = (Stage(STAGE, PromptOutput),)
    intake = Intake(
        reader="kinds.prompt.intake:read_table",
        inputs=(Input(ROWS, "Table whose columns the template reads: CSV, JSONL or Parquet, also .gz;"),),
    )
    exporter = "kinds.prompt.export:export_table"

    def first_request(self, payload: PromptPayload, settings: BaseModel) -> tuple[Prompt, Sampling]:
        """Return the request for the row's first text, but with seed 0, so that intake can check it."""
        own = PromptSettings.model_validate(settings, from_attributes=True)
        request = RowRequest.of(payload.row, own, seed=0)
        return request.prompt, request.sampling

    def run(self, payload: PromptPayload, context: Context) -> Result:
        """Generate the texts of a row. Raises TemplateError, AnswerInvalidError and errors of generate()."""
        settings = PromptSettings.model_validate(context.settings)
        request = RowRequest.of(payload.row, settings, seed=context.seed)
        completions = [context.inference.generate(request.prompt, each) for each in request.samplings()]
        answers = [answer_of(completion, settings) for completion in completions]
        return Result(
            artifacts=artifacts_of(answers),
            template=template_of(settings).identity,
            metrics=_metrics(completions),
            output=PromptOutput(finish_reasons=tuple(each.finish_reason for each in completions)),
            parents=_parents(settings),
        )


def _metrics(completions: list[Completion]) -> dict[str, object]:
    """Return the figures of a row, of which only those that readers should notice are listed."""
    num_cut = sum(each.finish_reason is FinishReason.LENGTH for each in completions)
    return {"num_texts": len(completions), **({"num_cut": num_cut} if num_cut else {})}


def _parents(settings: PromptSettings) -> tuple[Parent, ...]:
    """Return the files that the prompt was made from, besides the template of the user's turn."""
    sources = {"system": settings.system, "schema": settings.json_schema}
    return tuple(
        Parent(role, settings.template_name, sha256_hex(source.encode()))
        for role, source in sources.items()
        if source is not None
    )
