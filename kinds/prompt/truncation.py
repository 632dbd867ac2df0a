"""Cuts the end of a column if a row is too long for the model's context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.errors import PromptTooLongError
from jobs.inference import Completion, Inference
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


def first_completion(
    row: Mapping[str, object], settings: PromptSettings, inference: Inference, *, seed: int
) -> tuple[RowRequest, Completion, Cut | None]:
    """Generate the first text of a row, and cut a column at its end until the prompt fits, if so chosen.

    The cut is estimated from the length of the prompt in tokens, so it may be a few percent too large. Raises
    PromptTooLongError if the prompt is too long even without the column, and the errors of generate().
    """
    column = cut_column(row, settings) if settings.truncate is not None else None
    text = "" if column is None else str(row[column])
    num_kept = len(text)
    while True:
        kept = text[:num_kept].rstrip() if num_kept < len(text) else text
        shown = row if column is None else {**row, column: kept}
        request = RowRequest.of(shown, settings, seed=seed)
        try:
            completion = inference.generate(request.prompt, request.sampling)
        except PromptTooLongError as error:
            if not num_kept:
                raise
            num_kept = _shorter(num_kept, request, error)
        else:
            is_cut = column is not None and num_kept < len(text)
            return request, completion, Cut(column, len(kept), len(text)) if is_cut and column else None


def _shorter(num_kept: int, request: RowRequest, error: PromptTooLongError) -> int:
    """Return the number of characters to keep in the next attempt, if tokens are equally long everywhere."""
    num_characters = sum(len(message.content) for message in request.prompt.messages)
    excess = error.num_excess_tokens * num_characters / error.num_prompt_tokens
    return max(0, num_kept - max(int(excess) + 1, int(num_kept * _MIN_STEP) + 1))
