"""Reads the lines of an OpenAI batch file as requests.

A line is `{"custom_id", "method", "url", "body"}`, as in OpenAI's guide to its Batch API. Ranges and defaults
are those of the official `openai` package (types/chat/completion_create_params.py,
types/completion_create_params.py and types/embedding_create_params.py, version 3.57), except that a seed is
from 0 to MAX_LINE_SEED, `top_p` is above 0, and a text has at least one token. A parameter that is not served
is refused by its name, because a result without it would differ from what its author expects.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from jobs.inference import Constraint, ConstraintForm, Message, Prompt, RawPrompt, Role, Sampling
from jobs.ranges import MAX_TOKENS
from jobs.rejection import quoted
from jobs.validation import problem_of

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
EMBEDDINGS: Final = "/v1/embeddings"

CUSTOM_ID = "custom_id"
LINE_MEMBERS = frozenset({CUSTOM_ID, "method", "url", "body"})

GENERATE = "generate"
EMBED = "embed"

MAX_LINE_SEED = 2**53 - 1
"""Maximum seed: the largest integer that canonical JSON, and so a statement, represents exactly."""

MAX_CHOICES = 128
"""Maximum number of texts that one line requests, over all of its prompts; OpenAI's maximum of `n`."""

MAX_STOP_STRINGS = 4

MAX_INPUTS = 2048
"""Maximum number of texts in the `input` of an embedding line, as OpenAI defines it."""

DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's default of `max_tokens` for /v1/completions."""

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",  # OpenAI's newer name for the same role
    "user": "user",
    "assistant": "assistant",
}


class LineFault(Exception):
    """A line cannot be served."""

    def __init__(self, code: str, parameter: str, reason: str, advice: str) -> None:
        super().__init__(f"{parameter} {reason}: {advice}")
        self.code = code
        """Stable code, which is one of OpenAI's where it has one for the case."""
        self.parameter = parameter
        """Name of the member that is wrong, such as `temperature` or `messages.0.content`."""
        self.reason = reason
        self.advice = advice


def _texts(value: object) -> object:
    """Turn a single text into a list. Refuse token ids."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return value
    raise ValueError("must be a text or a list of texts; token ids are not served")


def _stop_strings(value: object) -> object:
    texts = [value] if isinstance(value, str) else value
    if (
        not isinstance(texts, list)
        or len(texts) > MAX_STOP_STRINGS
        or not all(isinstance(each, str) and each for each in texts)
    ):
        raise ValueError(f"must be a text or a list of at most {MAX_STOP_STRINGS} texts, none of them empty")
    return texts


def _content(value: object) -> object:
    """Join the parts of a message's content, each on a line of its own."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise ValueError("must be a text or a list of parts of the type text")
    texts = []
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            shown = f" {quoted(kind)}" if isinstance(kind, str) else ""
            raise ValueError(f"has a part of the type{shown}: only parts of the type 'text' are served")
        if part.keys() != {"type", "text"} or not isinstance(part["text"], str):
            raise ValueError("has a part with other members than type and text: leave them out")
        texts.append(part["text"])
    return "\n".join(texts)


def _no_stream(value: object) -> object:
    if value is not False:
        raise ValueError("must be false: leave it out, because a batch has no streams")
    return value


def _role(value: object) -> object:
    if not isinstance(value, str) or value not in _ROLES:
        raise ValueError(f"must be one of {', '.join(_ROLES)}")
    return _ROLES[value]


def _biases(value: object) -> object:
    """Check that the keys are token ids; the values are checked by their own type."""
    if not isinstance(value, dict) or not all(_is_token_id(key) for key in value):
        raise ValueError("must map token ids of the model to numbers from -100 to 100")
    return value


def _is_token_id(key: object) -> bool:
    return isinstance(key, str) and key.isascii() and key.isdigit() and len(key) <= 9


def _without_nulls(value: object) -> object:
    """Leave out members that are null, which mean the same as absent ones in OpenAI's API."""
    if not isinstance(value, dict):
        return value
    return {name: member for name, member in value.items() if member is not None}


Number = Annotated[float, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1, le=MAX_TOKENS)]
Flag = Annotated[bool, Field(strict=True)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Bias = Annotated[float, Field(strict=True, ge=-100, le=100)]
Penalty = Annotated[float, Field(strict=True, ge=-2, le=2)]


class _Object(BaseModel):
    """An object of a line. Unknown members are refused, and members that are null count as absent."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: object) -> object:
        return _without_nulls(value)


class ChatMessage(_Object):
    """One turn of a chat."""

    role: Annotated[Role, BeforeValidator(_role)]
    content: Annotated[str, BeforeValidator(_content)]


class JsonSchema(_Object):
    """A JSON schema that the text must satisfy."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    schema_: dict[str, Any] = Field(alias="schema")
    strict: Flag = False
    """Has no effect: the text satisfies the schema in any case."""


class ResponseFormat(_Object):
    """What a text must look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _check_schema(self) -> ResponseFormat:
        if (self.json_schema is not None) != (self.type == "json_schema"):
            raise ValueError("must have the member json_schema if its type is json_schema, and otherwise not")
        return self

    def constraint(self) -> Constraint | None:
        """Return the constraint of the text; None for a free text."""
        if self.json_schema is not None:
            return Constraint(ConstraintForm.JSON_SCHEMA, compact_json(self.json_schema.schema_))
        return Constraint(ConstraintForm.JSON_OBJECT, "") if self.type == "json_object" else None


class _Body(_Object):
    """Parameters that all endpoints have."""

    model: str = Field(min_length=1)
    user: str | None = None
    """Label of the end user on whose behalf the request is made. It is kept with the job."""


class _TextBody(_Body, ABC):
    """Parameters that both endpoints for texts have."""

    default_max_tokens: ClassVar[int | None]
    """Value of `max_tokens` for a line that has none; None for the value of the batch."""

    temperature: Number = Field(default=1.0, ge=0, le=2)
    top_p: Number = Field(default=1.0, gt=0, le=1)
    max_tokens: Count | None = None
    stop: Annotated[tuple[str, ...], BeforeValidator(_stop_strings)] = ()
    seed: Annotated[int, Field(strict=True, ge=0, le=MAX_LINE_SEED)] | None = None
    n: Annotated[int, Field(strict=True, ge=1, le=MAX_CHOICES)] = 1
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    logit_bias: Annotated[dict[str, Bias], BeforeValidator(_biases)] = Field(default_factory=dict)
    stream: Annotated[bool, BeforeValidator(_no_stream)] = False

    @property
    @abstractmethod
    def prompts(self) -> tuple[Prompt | RawPrompt, ...]:
        """Return the prompts, each of which gets `n` texts."""

    @property
    @abstractmethod
    def num_logprobs(self) -> int | None:
        """Return the number of log-probabilities at each place, as in Sampling."""

    @property
    def constraint(self) -> Constraint | None:
        """Return what the texts must look like."""
        return None

    @property
    def num_choices(self) -> int:
        """Return the number of texts of the line."""
        return self.n * len(self.prompts)

    def max_new_tokens(self, default: int) -> int:
        """Return the maximum length of a text; `default` is the batch's own."""
        return self.max_tokens or self.default_max_tokens or default

    def sampling(self, number: int, *, max_new_tokens: int, seed: int) -> Sampling:
        """Return the sampling of the text `number`, from 0.

        `max_new_tokens` and `seed` hold if the line has none of its own. Each text has a seed of its own.
        """
        first = seed if self.seed is None else self.seed
        return Sampling(
            max_new_tokens=self.max_new_tokens(max_new_tokens),
            temperature=self.temperature,
            top_p=self.top_p,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=tuple((int(token), bias) for token, bias in self.logit_bias.items()),
            seed=(first + number) % (MAX_LINE_SEED + 1),
            stop=self.stop,
            num_logprobs=self.num_logprobs,
            constraint=self.constraint,
        )


class ChatBody(_TextBody):
    """Body of a line for /v1/chat/completions."""

    default_max_tokens = None

    messages: tuple[ChatMessage, ...] = Field(min_length=1)
    max_completion_tokens: Count | None = None
    logprobs: Flag = False
    top_logprobs: Annotated[int, Field(strict=True, ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="after")
    def _check_together(self) -> ChatBody:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("max_completion_tokens means the same as max_tokens: give one of them")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError('top_logprobs needs logprobs: add "logprobs": true')
        return self

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Return the chat as the only prompt."""
        return (Prompt(tuple(Message(turn.role, turn.content) for turn in self.messages)),)

    @property
    def num_logprobs(self) -> int | None:
        """Return `top_logprobs`, or 0 for those of the generated tokens alone."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def constraint(self) -> Constraint | None:
        """Return the constraint of the response format."""
        return None if self.response_format is None else self.response_format.constraint()

    def max_new_tokens(self, default: int) -> int:
        """Return the maximum length of a text; `default` is the batch's own."""
        return self.max_completion_tokens or super().max_new_tokens(default)


class CompletionBody(_TextBody):
    """Body of a line for /v1/completions, whose prompts the model continues without a chat template."""

    default_max_tokens = DEFAULT_COMPLETION_TOKENS

    prompt: Texts
    logprobs: Annotated[int, Field(strict=True, ge=0, le=5)] | None = None

    @model_validator(mode="after")
    def _check_choices(self) -> CompletionBody:
        if self.num_choices > MAX_CHOICES:
            raise ValueError(f"n requests {self.num_choices} texts in all: request at most {MAX_CHOICES}")
        return self

    @property
    def prompts(self) -> tuple[RawPrompt, ...]:
        """Return the texts to continue."""
        return tuple(RawPrompt(text) for text in self.prompt)

    @property
    def num_logprobs(self) -> int | None:
        """Return `logprobs`."""
        return self.logprobs


class EmbeddingBody(_Body):
    """Body of a line for /v1/embeddings."""

    input: Annotated[Texts, Field(max_length=MAX_INPUTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Count | None = None
    """Served only if it is the number of dimensions that the model has."""

    @model_validator(mode="after")
    def _check_texts(self) -> EmbeddingBody:
        if not all(self.input):
            raise ValueError("input contains an empty text: leave it out")
        return self


TextBody = ChatBody | CompletionBody

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]


class LineRequest(BaseModel):
    """A checked line, as it is stored with its job."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    custom_id: str
    """Id of the line, kept exactly as it is."""
    url: Endpoint
    model: str
    """Name of the installed model that serves the line. The body has the name that the line gives."""
    body: str
    """Body of the line as JSON. It is a text, because Postgres would change the order of a schema's
    properties, which is the order in which a model writes them."""

    def text_body(self) -> TextBody:
        """Return the body of a line for a text."""
        return (ChatBody if self.url == CHAT else CompletionBody).model_validate_json(self.body)

    def embedding_body(self) -> EmbeddingBody:
        """Return the body of a line for embeddings."""
        return EmbeddingBody.model_validate_json(self.body)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a line has no result."""

    code: str
    message: str
    parameter: str | None = None
    """Name of the parameter that is wrong; None if the fault is not in a single one."""
    is_refused: bool = True
    """Whether the line is at fault, rather than the server."""


class RefusedLine(BaseModel):
    """A line that intake refused, as it is stored for the error file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    custom_id: str
    failure: Failure


BlockLine = LineRequest | RefusedLine
"""A line that shares its job with others."""


@dataclass(frozen=True, slots=True)
class ModelMap:
    """The models that serve the lines of a file."""

    names: Mapping[str, str]
    """Installed models by the names that lines have; from `--model-map`."""
    models: Sequence[str]
    """Models of the batch's worker profile. A line that names one of them needs no entry in `names`."""
    task_of: Callable[[str], str | None]
    """Returns what an installed model does, such as "generate" or "embed"; None if it is not known here."""

    def model_for(self, name: str, url: str) -> str:
        """Return the model that serves a line. Raises LineFault."""
        model = self.names.get(name)
        if model is None and name in self.models:
            model = name
        if model is None:
            advice = f"map it with --model-map NAME=MODEL to one of {', '.join(self.models)}"
            raise LineFault("model_not_found", "model", f"{quoted(name)} is not mapped to a model", advice)
        needed = EMBED if url == EMBEDDINGS else GENERATE
        task = self.task_of(model)
        if task is not None and task != needed:
            reason = f"{quoted(name)} is served by {model}, which cannot {needed}"
            raise LineFault("model_not_found", "model", reason, f"map it to a model that can {needed}")
        return model


def is_batch_line(fields: Mapping[str, object]) -> bool:
    """Return whether a record looks like a line of an OpenAI batch file.

    >>> is_batch_line({"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {}})
    True
    """
    return fields.keys() >= LINE_MEMBERS and isinstance(fields["body"], dict)


def custom_id_of(fields: Mapping[str, object]) -> str | None:
    """Return the line's own id, or None if it has no usable one."""
    custom_id = fields.get(CUSTOM_ID)
    return custom_id if isinstance(custom_id, str) and custom_id else None


def read_request(fields: Mapping[str, object], models: ModelMap) -> LineRequest:
    """Return the request of a line, whose members are `fields`. Raises LineFault."""
    custom_id = custom_id_of(fields)
    if custom_id is None:
        raise LineFault(
            "invalid_custom_id", CUSTOM_ID, "is missing or empty", "give each line an id of its own"
        )
    for name in fields:
        if name not in LINE_MEMBERS:
            raise LineFault("unsupported_parameter", name, "is not served", "leave it out")
    if fields.get("method") != "POST":
        raise LineFault("invalid_method", "method", "is not POST", 'write "method": "POST"')
    url, body = fields.get("url"), fields.get("body")
    if not isinstance(body, dict):
        raise LineFault("missing_required_parameter", "body", "is not an object", "write the request there")
    endpoint = next((each for each in _BODIES if each == url), None)
    if endpoint is None:
        raise LineFault("invalid_url", "url", "is not served", f"use {', '.join(_BODIES)}")
    model = models.model_for(_checked(_BODIES[endpoint], body).model, endpoint)
    kept = compact_json(_without_nulls(body))
    return LineRequest(custom_id=custom_id, url=endpoint, model=model, body=kept)


_BODIES: Mapping[Endpoint, type[_Body]] = {
    CHAT: ChatBody,
    COMPLETIONS: CompletionBody,
    EMBEDDINGS: EmbeddingBody,
}

_BodyT = TypeVar("_BodyT", bound=_Body)


def _checked(body_type: type[_BodyT], body: Mapping[str, object]) -> _BodyT:
    """Return the body of a line. Raises LineFault for its first fault."""
    try:
        return body_type.model_validate(body)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
    # A parameter that is not served is what most lines are refused for, so it is named first.
    faults.sort(key=lambda fault: fault["type"] != "extra_forbidden")
    raise _line_fault(faults[0], body_type)


def _line_fault(fault: ErrorDetails, body_type: type[_Body]) -> LineFault:
    parameter = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        served = f"; {', '.join(body_type.model_fields)} are served" if len(fault["loc"]) == 1 else ""
        return LineFault("unsupported_parameter", parameter, "is not served", f"leave it out{served}")
    if fault["type"] == "missing":
        return LineFault("missing_required_parameter", parameter, "is missing", "add it")
    problem = problem_of(fault)
    if not parameter:  # the messages of validators of a whole body begin with a parameter
        parameter, _, problem = problem.partition(" ")
    reason, _, advice = problem.partition(": ")
    return LineFault("invalid_value", parameter, reason, advice or "correct it")


def compact_json(value: object) -> str:
    """Return a value as JSON without spaces, with the members of objects in their order."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
