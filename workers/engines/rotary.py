"""Rotary positions whose frequencies depend on the length of a text, chosen for each row of a batch.

LongRoPE (Ding et al. 2024) has one set of factors for texts up to the length of the model's pretraining and
one for longer texts. transformers considers the longest position of the whole batch, so that a short text
gets other tokens next to a long one than alone. Here each row has the frequencies that it would have alone.
"""

from __future__ import annotations

import torch
from transformers import PretrainedConfig, PreTrainedModel

_RECOMPUTING = frozenset({"phi3", "phimoe"})
"""Model types whose generate() recomputes all keys when a text grows past the threshold
(`prepare_inputs_for_generation`); the others keep the keys that they have."""


class LengthRotary(torch.nn.Module):
    """A model's rotary embedding, which is called separately for the rows of short and of long texts."""

    def __init__(self, rotary: torch.nn.Module, threshold: int) -> None:
        super().__init__()
        self._rotary = rotary
        self._threshold = threshold
        self.is_long = torch.zeros(0, dtype=torch.bool)
        """For each row of the next forward pass, whether its text is longer than the threshold."""

    def forward(
        self, x: torch.Tensor, position_ids: torch.Tensor, **options: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines, (R, S, D) each, for positions (R, S)."""
        is_long = self.is_long
        if not bool(is_long.any()):
            return self._rotary(x, position_ids, **options)  # type: ignore[no-any-return]
        # The embedding compares the largest position with the threshold, so that one more column decides.
        decisive = position_ids.new_full((len(position_ids), 1), self._threshold)
        long = self._rotary(x, torch.cat([position_ids, decisive], 1), **options)
        if bool(is_long.all()):
            return long[0][:, :-1], long[1][:, :-1]
        # Only a long row may have a column above the threshold.
        short = self._rotary(x, position_ids.masked_fill(is_long[:, None], 0), **options)
        rows = is_long[:, None, None]
        return (
            torch.where(rows, long[0][:, :-1], short[0]),
            torch.where(rows, long[1][:, :-1], short[1]),
        )


class LengthRotaries:
    """All such embeddings of a model, and what the engine needs to know about them."""

    def __init__(self, model: PreTrainedModel, max_context_tokens: int) -> None:
        """Replace the embeddings in the model, unless no text within this context reaches the threshold."""
        self._threshold = threshold(model.config)
        self._rotaries: list[LengthRotary] = []
        self._recomputes = model.config.model_type in _RECOMPUTING
        if self._threshold is None or self._threshold >= max_context_tokens:
            return
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if hasattr(child, "rope_type"):
                    rotary = LengthRotary(child, self._threshold)
                    self._rotaries.append(rotary)
                    setattr(parent, name, rotary)

    def __bool__(self) -> bool:
        """Whether keys depend on the length of their text."""
        return bool(self._rotaries)

    def begin(self, num_tokens: list[int], device: torch.device) -> None:
        """Set the lengths of the texts of the next forward pass, one per row."""
        if self._rotaries and self._threshold is not None:
            is_long = torch.tensor(num_tokens, device=device) > self._threshold
            for rotary in self._rotaries:
                rotary.is_long = is_long

    def is_crossing(self, num_prompt_tokens: int, num_tokens: int) -> bool:
        """Return whether a text of this many tokens has just outgrown its keys."""
        if not self._rotaries or self._threshold is None or not self._recomputes:
            return False
        return num_prompt_tokens <= self._threshold == num_tokens - 1


def threshold(config: PretrainedConfig) -> int | None:
    """Return the length up to which a LongRoPE model uses its short factors; None for any other model."""
    parameters = getattr(config, "rope_parameters", None) or {}
    # Models with several layer types keep separate parameters for each type.
    kinds = [each for each in parameters.values() if isinstance(each, dict)] or [parameters]
    thresholds = [
        int(each["original_max_position_embeddings"]) for each in kinds if each.get("rope_type") == "longrope"
    ]
    return min(thresholds, default=None)
