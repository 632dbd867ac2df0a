"""Whether a model is let think, and the words by which its chat template is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from jobs.errors import PermanentError
from jobs.text.thoughts import ThoughtMarks

_SWITCHES = ("enable_thinking", "thinking", "enable_reasoning", "reasoning", "think")
"""Variables of chat templates that are true or false: Qwen 3, SmolLM 3, GLM, Hunyuan, EXAONE 4 and Nemotron;
DeepSeek 3.1, Granite and Kimi; Command A. What else has "think" in its name (`keep_past_thinking`,
`clear_thinking`) is about the thoughts of earlier turns."""
_BUDGETS = ("thinking_budget",)
"""Variables that count tokens: Seed-OSS. 0 turns thinking off."""
_EFFORTS = ("reasoning_effort", "thinking_effort")
"""Variables that name a degree: gpt-oss, Mistral, Solar, Command A."""
_LEAST_EFFORTS = ("none", "minimal", "low")
"""From none to least; the first that the template knows is chosen, `low` where it names none."""
_MODES = ("thinking_mode",)
"""Variables that name one of two modes: MiniMax."""
_MODE_NAMES = {True: ("enabled", "on", "thinking"), False: ("disabled", "off", "no_think", "chat")}


class ThoughtUnfinishedError(PermanentError):
    """A model was still thinking when its text had to end: there is no answer, and the thought is none."""

    code = "thought_unfinished"


@dataclass(frozen=True, slots=True)
class Thinking:
    """What the settings say of models that can think."""

    is_asked: bool = False
    """Let them think; otherwise those whose chat template has a switch are told not to."""
    max_tokens: int = 1024
    """Of a thought, beside the tokens of the answer, where the context has room for them."""


@dataclass(frozen=True, slots=True)
class ThoughtPlan:
    """What an engine must know of the thoughts in one text: stop strings and the limit are for the answer."""

    marks: ThoughtMarks
    is_inside: bool
    """The prompt ends inside a thought."""
    max_tokens: int
    """Of the thought, beside the tokens that the sampling allows for the answer."""
    decode: Callable[[tuple[int, ...]], str]
    """Text of token ids with the marks in it, even where these are special tokens."""


TemplateSettings = tuple[tuple[str, bool | int | str], ...]
"""Variables for a chat template, and their values."""


def template_settings(names: Collection[str], template: str, *, is_asked: bool) -> TemplateSettings:
    """What tells a chat template that reads the variables `names` whether the model shall think.

    >>> template_settings({"messages", "enable_thinking"}, "", is_asked=False)
    (('enable_thinking', False),)
    """
    settings: dict[str, bool | int | str] = {name: is_asked for name in _SWITCHES if name in names}
    if (mode := _quoted(template, _MODE_NAMES[is_asked])) is not None:
        settings |= {name: mode for name in _MODES if name in names}
    if not is_asked:
        settings |= {name: 0 for name in _BUDGETS if name in names}
        effort = _quoted(template, _LEAST_EFFORTS) or "low"
        settings |= {name: effort for name in _EFFORTS if name in names}
    return tuple(settings.items())


def _quoted(template: str, words: Iterable[str]) -> str | None:
    """The first of the words that the template compares something with."""
    return next((word for word in words if f"'{word}'" in template or f'"{word}"' in template), None)
