"""The payload of a job, the settings of a batch, and the output of a job."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from jobs.inference import FinishReason
from jobs.ranges import MAX_SEED, MAX_TOKEN_ID, MAX_TOKENS
from kinds.prompt.openai.lines import BlockLine, LineRequest

ROWS = "rows"
EXAMPLES = "examples"
"""Names of the inputs of a batch."""

MAX_TEXTS = 16
"""Maximum number of texts for each row."""

MAX_SCALAR = 2**53 - 1
"""Maximum absolute value of a number for a chat template: all integers up to it are exact in JSON."""

MAX_ROW_SEED = 2**53 - 1 - MAX_TEXTS
"""Maximum seed of a row. The last of its texts has a seed that JSON still represents exactly."""

MAX_SOURCE_CHARACTERS = 100_000
"""Maximum length of a template. A longer one leaves no room for the row in any model's context."""

DEFAULT_COLUMN = "text"

DEFAULT_NUM_EXAMPLES = 3

MAX_NUM_EXAMPLES = 32
"""Maximum number of examples in a prompt. More of them hardly fit the context of a small model."""

STAGE = "generate"
"""Stage that generates the results."""

MAP_STAGE = "map"
"""Stage before it, which reads the parts of long documents; only some batches have it."""


def _list(value: object) -> object:
    """Parse a text as a JSON list, or else as one that is separated by commas; keep any other value."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


def _texts(value: object) -> object:
    """Parse a text as a JSON list of texts if it is one, or else as the only item of a list."""
    if not isinstance(value, str):
        return value
    try:
        items = json.loads(value)
    except (ValueError, RecursionError):  # a text such as [END] only looks like a list
        return [value]
    are_texts = isinstance(items, list) and all(isinstance(item, str) for item in items)
    return items if are_texts else [value]


def _mapping(value: object) -> object:
    """Parse a text as a JSON object, or else as NAME=VALUE pairs separated by commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return json.loads(value)
    pairs = [pair.partition("=") for pair in value.split(",")]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise ValueError(f"{value!r} is not a list of NAME=VALUE, separated by commas")
    return {name.strip(): scalar_of(text.strip()) for name, _, text in pairs}


def scalar_of(text: str) -> str | int | float | bool:
    """Return the boolean or the number that a text represents, or else the text itself.

    >>> scalar_of("true"), scalar_of("1024"), scalar_of("low")
    (True, 1024, 'low')
    """
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


Names = Annotated[tuple[str, ...], BeforeValidator(_list)]
Texts = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=500)], ...], BeforeValidator(_texts)]
Biases = Annotated[
    dict[Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)], Annotated[float, Field(ge=-100, le=100)]],
    BeforeValidator(_mapping),
]
_Integer = Annotated[int, Field(ge=-MAX_SCALAR, le=MAX_SCALAR)]
_Decimal = Annotated[float, Field(ge=-MAX_SCALAR, le=MAX_SCALAR)]
Scalars = Annotated[dict[str, bool | _Integer | _Decimal | str], BeforeValidator(_mapping)]
TextMap = Annotated[dict[str, str], BeforeValidator(_mapping)]
Source = Annotated[str, Field(max_length=MAX_SOURCE_CHARACTERS)]


class InputFormat(StrEnum):
    """What the lines of an input are."""

    TABLE = "table"
    """Rows of a table, for a template."""
    OPENAI = "openai"
    """Requests of an OpenAI batch file."""


class SamplingSettings(BaseModel):
    """Sampling parameters of a row. The names and meanings are those of jobs.inference.Sampling or OpenAI."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    temperature: float = Field(default=0.0, ge=0, le=2, description="0 takes the most likely token")
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, le=MAX_TOKEN_ID, description="0 keeps all tokens")
    min_p: float = Field(default=0.0, ge=0, le=1)
    max_tokens: int = Field(default=256, ge=1, le=MAX_TOKENS, description="maximum tokens of a text")
    min_tokens: int = Field(default=0, ge=0, le=MAX_TOKENS, description="minimum tokens of a text")
    repetition_penalty: float = Field(default=1.0, gt=0, le=10)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    logit_bias: Biases = Field(
        default_factory=dict, max_length=1_000, description="numbers from -100 to 100 by token id"
    )
    stop: Texts = Field(default=(), max_length=16, description="a text, or a JSON list of texts")
    seed: int | None = Field(
        default=None,
        ge=0,
        le=MAX_ROW_SEED,
        description="by default, derived from the batch's seed",
    )
    n: int = Field(default=1, ge=1, le=MAX_TEXTS, description="number of texts for each row")
    logprobs: int | None = Field(
        default=None,
        ge=0,
        le=20,
        description="number of likely tokens with log-probabilities at each place, besides the generated one",
    )

    @model_validator(mode="after")
    def _tokens_fit(self) -> Self:
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens is {self.min_tokens}, but max_tokens is {self.max_tokens}")
        return self


class RecipeIdentity(BaseModel):
    """The recipe that the settings of a batch came from, for provenance."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    sha256: str
    """Digest of the recipe's files that affect results."""


SAMPLING_NAMES = tuple(SamplingSettings.model_fields)
"""Names of the settings that a column may override for its row."""


class PromptSettings(SamplingSettings):
    """Settings of a batch. They contain templates and schemas themselves rather than the paths of files."""

    template: Source = Field(default="", description="source of the template of the user's turn")
    template_name: str = Field(default="prompt", max_length=200, description="its name, for provenance")
    system: Source | None = Field(default=None, description="source of the template of the system's turn")
    json_schema: Source | None = Field(default=None, description="JSON schema whose properties are columns")
    choice: Names = Field(default=(), max_length=1_000, description="texts of which an answer is one")
    regex: Source | None = Field(default=None, description="regular expression that an answer matches")
    template_arguments: Scalars = Field(
        default_factory=dict, description="variables for the model's chat template, such as enable_thinking"
    )
    truncate: Literal["end"] | None = Field(
        default=None, description="whether a row that is too long is cut at the end of a column"
    )
    truncate_column: str | None = Field(
        default=None, description="column to cut; by default, the longest text that the template reads"
    )
    into: str = Field(
        default=DEFAULT_COLUMN, min_length=1, max_length=200, description="name of the new column"
    )
    settings_columns: Names = Field(
        default=(), description="columns that override a sampling parameter of their row"
    )
    map_template: Source | None = Field(
        default=None, description="source of the template for the parts of a long document"
    )
    map_column: str | None = Field(
        default=None, description="what the template calls the column whose documents are divided into parts"
    )
    map_part_tokens: int = Field(
        default=1_200,
        ge=16,
        le=MAX_TOKENS,
        description="maximum tokens of a part; shorter documents are whole",
    )
    map_max_tokens: int = Field(
        default=96, ge=1, le=100_000, description="maximum tokens of the text about a part"
    )
    column_names: TextMap = Field(
        default_factory=dict, description="columns of the table by the names that the template has for them"
    )
    labels: str | None = Field(
        default=None, min_length=1, description="column with the right answers, for accuracy and macro-F1"
    )
    recipe: RecipeIdentity | None = Field(default=None, description="recipe of the settings; set by --with")
    columns: tuple[str, ...] = Field(default=(), description="columns of the table; set by intake")
    model_map: TextMap = Field(
        default_factory=dict, description="installed models by the names in an OpenAI batch file"
    )
    input_format: InputFormat = Field(default=InputFormat.TABLE, description="set by intake")
    num_examples: int = Field(
        default=DEFAULT_NUM_EXAMPLES,
        ge=1,
        le=MAX_NUM_EXAMPLES,
        description="number of examples in the prompt of each row, if the batch has an examples file",
    )
    embedder: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="installed model that finds the nearest examples; set by intake if there are examples",
    )
    embedder_digest: str = Field(
        default="", description="digest of its files; set by intake with examples and keep"
    )
    examples_sha256: str | None = Field(default=None, description="digest of the examples; set by intake")
    keep: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="name under which results are kept, so that unchanged rows are not generated again",
    )
    model_digest: str = Field(default="", description="digest of the model's files; set by intake with keep")
    thinking: bool = Field(default=False, description="whether models may think; set by intake with keep")
    batch_seed: int = Field(
        default=0, ge=0, le=MAX_SEED, description="seed of the batch; set by intake with keep"
    )

    @property
    def is_constrained(self) -> bool:
        """Whether answers must satisfy a schema, a list of choices or a regular expression."""
        return self.json_schema is not None or bool(self.choice) or self.regex is not None

    @model_validator(mode="after")
    def _one_constraint(self) -> Self:
        forms = {"json_schema": self.json_schema, "choice": self.choice or None, "regex": self.regex}
        named = [name for name, value in forms.items() if value is not None]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} exclude each other: choose one of them")
        return self

    @model_validator(mode="after")
    def _parts_are_named(self) -> Self:
        if self.map_template is not None and self.map_column is None:
            raise ValueError("map_template needs map_column: name the column whose documents are divided")
        if self.map_template is not None and self.truncate is not None:
            raise ValueError("truncate and map_template exclude each other: long documents are read in parts")
        return self

    @model_validator(mode="after")
    def _texts_differ(self) -> Self:
        if self.n > 1 and not self.temperature and "temperature" not in self.settings_columns:
            raise ValueError(
                f"n is {self.n}, but with temperature 0 all texts would be the same: raise the temperature"
            )
        return self


SET_BY_INTAKE = (
    "columns",
    "input_format",
    "embedder_digest",
    "examples_sha256",
    "model_digest",
    "thinking",
    "batch_seed",
)
"""Names of the settings that only intake may set: they are facts about a batch rather than choices."""


class PartPlace(BaseModel):
    """The place of a job in the stage that reads the parts of documents."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    row_id: str
    number: int = Field(ge=0)
    """Number of the part, from 1; 0 for the job that passes the row itself on."""
    count: int = Field(ge=0)
    """Number of the document's parts; 0 for a document that fits."""


class PromptPayload(BaseModel):
    """What one job is about: a row of a table, a line of an OpenAI batch file, or a block of such lines."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    row: dict[str, JsonValue] = Field(default_factory=dict)
    """All columns of the row, as they were read; empty for lines of a batch file."""
    part: PartPlace | None = None
    """Place among the parts of a document, which the row then has instead of the document; None in the stage
    that generates the results."""
    parts: tuple[str | None, ...] = ()
    """Texts about the parts of the row's document, which the prompt has in its place; None for a part whose
    job failed. Empty for a document that fits."""
    request: LineRequest | None = None
    """Line that requests texts."""
    block: tuple[BlockLine, ...] = ()
    """Lines that share the job: those that request embeddings, and those that were refused."""

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if bool(self.row) + (self.request is not None) + bool(self.block) > 1:
            raise ValueError("a job has a row, a request or a block of lines, and not several of them")
        return self

    def stored(self) -> dict[str, object]:
        """Return the payload as its job stores it."""
        return self.model_dump(mode="json", exclude_defaults=True)


class PartOutput(BaseModel):
    """What a job of the stage `map` passes on: a row, or the text about a part of its document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    place: PartPlace
    row: dict[str, JsonValue] | None = None
    text: str = ""


class PromptOutput(BaseModel):
    """Facts about the result of a job. The texts are in its artifacts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    finish_reasons: tuple[FinishReason, ...]
    """Why each text ended."""
    is_kept: bool = False
    """Whether an earlier job generated the texts, so that this one only returned them."""
