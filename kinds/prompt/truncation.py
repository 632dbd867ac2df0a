"""Makes prompts fit the model's context: leaves out examples, and cuts the end of a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.errors import PromptTooLongError
from jobs.inference import Completion, Inference
from kinds.prompt.examples import Example
from kinds.prompt.payload import PromptSettings
from kinds.prompt.row import RowRequest, template_of

_MIN_STEP = 0.02
"""Minimum share of the column that is cut at a time, so that few attempts are needed."""


@dataclass(frozen=True, slots=True)
class Cut:
    """How much of a column the prompt contains."""

    column: str
    num_kept: int
    """Number of characters that were kept."""
    num_characters: int

    def __str__(self) -> str:
        return f"{self.column}: {self.num_kept:,} of {self.num_characters:,} characters"

    @classmethod
    def parse(cls, text: str) -> Cut:
        """Return the cut that a text of `str(cut)` describes.

        >>> Cut.parse("body: 7,251 of 33,000 characters")
        Cut(column='body', num_kept=7251, num_characters=33000)
        """
        column, _, numbers = text.rpartition(": ")
        num_kept, _, num_characters, _ = numbers.replace(",", "").split()
        return cls(column, int(num_kept), int(num_characters))

    def apply(self, row: Mapping[str, object]) -> Mapping[str, object]:
        """Return the row with what was kept of the column."""
        return {**row, self.column: str(row[self.column])[: self.num_kept]}


def cut_column(row: Mapping[str, object], settings: PromptSettings) -> str | None:
    """Return the column to cut: that of the settings, or else the longest text that the template reads."""
    if settings.truncate_column is not None:
        return settings.truncate_column if isinstance(row.get(settings.truncate_column), str) else None
    lengths = {
        name: len(text)
        for name in sorted(template_of(settings).columns)
        if isinstance(text := row.get(name), str)
    }
    return max(lengths, key=lambda name: lengths[name], default=None)


@dataclass(frozen=True, slots=True)
class FirstText:
    """The first text of a row, and what of the row its prompt contains."""

    request: RowRequest
    completion: Completion
    cut: Cut | None
    """Column that was cut; None if the prompt contains the whole row."""
    examples: tuple[Example, ...]
    """Examples in the prompt, in their order."""


def first_text(
    row: Mapping[str, object],
    settings: PromptSettings,
    inference: Inference,
    *,
    seed: int,
    examples: Sequence[Example] = (),
) -> FirstText:
    """Generate the first text of a row. Until the prompt fits, examples are left out and a column is cut.

    The first of the examples are left out first. A column is cut at its end, if so chosen, and only when no
    example is left. The cut is estimated from the length of the prompt in tokens, so it may be a few percent
    too large. Raises PromptTooLongError if the prompt is too long nevertheless, and the errors of generate().
    """
    column = cut_column(row, settings) if settings.truncate is not None else None
    text = "" if column is None else str(row[column])
    num_kept = len(text)
    left = tuple(examples)
    while True:
        kept = text[:num_kept].rstrip() if num_kept < len(text) else text
        shown = row if column is None else {**row, column: kept}
        turns = [message for example in left for message in example.messages()]
        request = RowRequest.of(shown, settings, seed=seed, examples=turns)
        try:
            completion = inference.generate(request.prompt, request.sampling)
        except PromptTooLongError as error:
            if left:
                left = left[1:]
            elif num_kept:
                num_kept = _shorter(num_kept, request, error)
            else:
                raise
        else:
            is_cut = column is not None and num_kept < len(text)
            cut = Cut(column, len(kept), len(text)) if is_cut and column else None
            return FirstText(request, completion, cut, left)


def _shorter(num_kept: int, request: RowRequest, error: PromptTooLongError) -> int:
    """Return the number of characters to keep in the next attempt, if tokens are equally long everywhere."""
    num_characters = sum(len(message.content) for message in request.prompt.messages)
    excess = error.num_excess_tokens * num_characters / error.num_prompt_tokens
    return max(0, num_kept - max(int(excess) + 1, int(num_kept * _MIN_STEP) + 1))
