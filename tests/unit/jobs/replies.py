"""A language model that answers from a list, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from jobs.inference import Completion, FinishReason, Inference, Prompt, Sampling, Usage


class Replies:
    """Implements jobs.inference.Inference; the last reply is given again and again."""

    def __init__(self, replies: Iterable[str]) -> None:
        self._replies = list(replies)
        self.asked: list[tuple[Prompt, Sampling]] = []

    def generate(self, prompt: Prompt, sampling: Sampling) -> Completion:
        text = self._replies[min(len(self.asked), len(self._replies) - 1)]
        self.asked.append((prompt, sampling))
        return Completion(
            text=text,
            token_ids=(),
            finish_reason=FinishReason.STOP,
            usage=Usage(new_tokens=len(text.split())),
        )

    @property
    def questions(self) -> list[str]:
        """The last message of every prompt."""
        return [prompt.messages[-1].content for prompt, _ in self.asked]


@dataclass(frozen=True)
class JobContext:
    """Implements jobs.kind.Context."""

    inference: Inference
    seed: int = 7
    custom_id: str = "bread"
    settings: Mapping[str, object] = field(default_factory=dict)
