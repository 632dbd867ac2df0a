"""The request of a row: its turns and its sampling parameters, from the row and the settings of the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from jobs.errors import InputError
from jobs.inference import Constraint, Message, Prompt, Sampling
from jobs.validation import describe_first
from kinds.prompt.payload import PromptPayload, PromptSettings, SamplingSettings
from kinds.prompt.schema import schema_constraint
from kinds.prompt.template import RowTemplate, row_template

PART_BORDER = "\n\n"
"""Text between the texts about two parts of a document."""


@dataclass(frozen=True, slots=True)
class RowRequest:
    """What is sent to the model for one row."""

    prompt: Prompt
    sampling: Sampling
    """Parameters of the first text."""
    num_texts: int

    @classmethod
    def of(
        cls,
        row: Mapping[str, object],
        settings: PromptSettings,
        *,
        seed: int,
        examples: Sequence[Message] = (),
    ) -> RowRequest:
        """Return the request of a row; `seed` applies unless the settings or the row have one.

        `examples` are turns that come before the row's own turn.

        Raises TemplateError, or an InputError for a cell that is no valid sampling parameter.
        """
        own = row_settings(row, settings)
        *system, turn = template_of(settings).messages(row)
        return cls(
            Prompt((*system, *examples, turn), tuple(settings.template_arguments.items())),
            _sampling(own, seed if own.seed is None else own.seed, constraint_of(settings)),
            own.n,
        )

    def other_samplings(self) -> list[Sampling]:
        """Return the parameters of the other texts, which have the seeds that follow that of the first."""
        seed = self.sampling.seed
        return [replace(self.sampling, seed=seed + number) for number in range(1, self.num_texts)]


def row_of(payload: PromptPayload, settings: PromptSettings) -> Mapping[str, object]:
    """Return the row of a job under the names that the template has for its columns.

    A column that gets another name replaces a column that has this name already. The texts about the parts of
    a long document replace the document.
    """
    row: Mapping[str, object] = payload.row
    if settings.column_names:
        renamed = {name: row.get(column) for name, column in settings.column_names.items()}
        sources = set(settings.column_names.values())
        row = {name: value for name, value in row.items() if name not in sources} | renamed
    if payload.parts and settings.map_column is not None:
        row = {**row, settings.map_column: PART_BORDER.join(part or "" for part in payload.parts)}
    return row


def template_columns(settings: PromptSettings) -> tuple[str, ...]:
    """Return the columns of the table under the names that the template has for them."""
    sources = set(settings.column_names.values())
    kept = (name for name in settings.columns if name not in sources)
    return tuple(dict.fromkeys((*settings.column_names, *kept)))


def columns_read(settings: PromptSettings) -> frozenset[str]:
    """Return the columns of the table that the template reads. Raises TemplateError."""
    return frozenset(settings.column_names.get(name, name) for name in template_of(settings).columns)


def template_of(settings: PromptSettings) -> RowTemplate:
    """Return the compiled template of a batch, which is cached. Raises TemplateError."""
    return row_template(settings.template_name, settings.template, settings.system)


def row_settings(row: Mapping[str, object], settings: PromptSettings) -> SamplingSettings:
    """Return the sampling settings of a row: those of the batch, unless a cell of the row overrides them.

    An empty cell overrides nothing. Raises InputError (`setting_invalid`).
    """
    cells = {name: row.get(name) for name in settings.settings_columns}
    own = {name: cell for name, cell in cells.items() if cell is not None and cell != ""}
    if not own:
        return settings
    batch = {name: getattr(settings, name) for name in SamplingSettings.model_fields}
    try:
        return SamplingSettings.model_validate(batch | own)
    except ValidationError as error:
        raise InputError(f"column {describe_first(error)}", code="setting_invalid") from error


def constraint_of(settings: PromptSettings) -> Constraint | None:
    """Return what the answers of a batch must look like, or None. Raises SchemaInvalidError."""
    if settings.json_schema is not None:
        return schema_constraint(settings.json_schema)
    if settings.choice:
        return Constraint.of_choice(settings.choice)
    return None if settings.regex is None else Constraint.of_regex(settings.regex)


def _sampling(own: SamplingSettings, seed: int, constraint: Constraint | None) -> Sampling:
    return Sampling(
        max_new_tokens=own.max_tokens,
        min_new_tokens=own.min_tokens,
        temperature=own.temperature,
        top_p=own.top_p,
        top_k=own.top_k,
        min_p=own.min_p,
        repetition_penalty=own.repetition_penalty,
        presence_penalty=own.presence_penalty,
        frequency_penalty=own.frequency_penalty,
        logit_bias=tuple(sorted(own.logit_bias.items())),
        stop=own.stop,
        seed=seed,
        num_logprobs=own.logprobs,
        constraint=constraint,
    )
