"""Controls whether a model may think, through the variables of its chat template."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from jobs.errors import PermanentError
from jobs.text.thoughts import ThoughtMarks

_SWITCHES = ("enable_thinking", "thinking", "enable_reasoning", "reasoning", "think")
"""Boolean variables in the chat templates of Qwen 3, SmolLM 3, GLM, Hunyuan, EXAONE 4 and Nemotron, of
DeepSeek 3.1, Granite and Kimi, and of Command A. Other names with "think" in them (`keep_past_thinking`,
`clear_thinking`) concern the thoughts of earlier turns."""
_BUDGETS = ("thinking_budget",)
"""Variables that set a token budget for thinking (Seed-OSS); 0 turns thinking off."""
_EFFORTS = ("reasoning_effort", "thinking_effort")
"""Variables that name a level, in the templates of gpt-oss, Mistral, Solar and Command A."""
_LEAST_EFFORTS = ("none", "minimal", "low")
"""The lowest levels in order. The first that the template names is chosen, or `low` if it names none."""
_MODES = ("thinking_mode",)
"""Variables that name one of two modes, in the templates of MiniMax."""
_MODE_NAMES = {True: ("enabled", "on", "thinking"), False: ("disabled", "off", "no_think", "chat")}


class ThoughtUnfinishedError(PermanentError):
    """The model reached its token limit while it was still thinking, so it produced no answer."""

    code = "thought_unfinished"


@dataclass(frozen=True, slots=True)
class Thinking:
    """The settings for models that can think."""

    is_requested: bool = False
    """Whether models may think; otherwise thinking is turned off where the chat template allows it."""
    max_tokens: int = 1024
    """Maximum tokens of a thought, in addition to those of the answer, if the context has room for them."""


@dataclass(frozen=True, slots=True)
class ThoughtPlan:
    """The marks and limits by which an engine recognises the thoughts in one text.

    Stop strings and the limit of new tokens apply to the answer only.
    """

    marks: ThoughtMarks
    is_inside: bool
    """Whether the prompt ends inside a thought."""
    max_tokens: int
    """Maximum tokens of the thought, in addition to those that the sampling allows for the answer."""
    decode: Callable[[tuple[int, ...]], str]
    """Returns the text of token ids including the marks, even if these are special tokens."""
    begin_ids: tuple[int, ...] = ()
    """Ids of the tokens that are a mark with which a thought begins."""


TemplateSettings = tuple[tuple[str, bool | int | str], ...]
"""Variables for a chat template and their values."""


def template_settings(names: Collection[str], template: str, *, is_requested: bool) -> TemplateSettings:
    """Return the variables that tell a chat template whether the model should think.

    `names` are the variables that the template reads.

    >>> template_settings({"messages", "enable_thinking"}, "", is_requested=False)
    (('enable_thinking', False),)
    """
    settings: dict[str, bool | int | str] = {name: is_requested for name in _SWITCHES if name in names}
    if (mode := _quoted(template, _MODE_NAMES[is_requested])) is not None:
        settings |= {name: mode for name in _MODES if name in names}
    if not is_requested:
        settings |= {name: 0 for name in _BUDGETS if name in names}
        effort = _quoted(template, _LEAST_EFFORTS) or "low"
        settings |= {name: effort for name in _EFFORTS if name in names}
    return tuple(settings.items())


def _quoted(template: str, words: Iterable[str]) -> str | None:
    """Return the first of the words that the template contains in quotation marks, or None."""
    return next((word for word in words if f"'{word}'" in template or f'"{word}"' in template), None)
