"""Chooses the next tokens of a batch, for all rows at once; only the random numbers are drawn per row.

The steps have the order of transformers' generate(): repetition penalty, temperature, top-k, top-p, draw.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from workers.engines.batching import NextToken
from workers.scheduler import Generation

NEAR_TIE_GAP = 1e-4
"""Gap between two logits below which a greedy choice counts as a near tie. fp32 logits of one row differ by
up to about 1e-5 between batch shapes (measured); this is ten times that."""
_TOP_TOKENS = 256
"""Number of best tokens that nucleus sampling examines first. The whole vocabulary is sorted only if these do
not reach top_p: sorting 49,152 logits takes 100 times longer."""


class Sampler:
    """Chooses tokens for rows of slots, and remembers each slot's tokens for the repetition penalty."""

    def __init__(self, *, num_slots: int, max_context_tokens: int, device: torch.device) -> None:
        # Shape (slots, tokens), with prompt and output. The rest of a row repeats its first token, so that
        # whole rows can be gathered and scattered without a mask.
        self._history = torch.zeros(num_slots, max_context_tokens + 1, dtype=torch.int64, device=device)
        self._device = device

    def begin(self, generation: Generation, slot: int) -> None:
        """Record a prompt in a slot, and draw its random numbers; a retry uses the same numbers."""
        sampling, prompt_ids = generation.request.sampling, generation.prompt_ids
        row = self._history[slot]
        row.fill_(prompt_ids[0])
        row[: len(prompt_ids)] = torch.tensor(prompt_ids, device=self._device)
        if sampling.temperature > 0 and not generation.draws:
            random = torch.Generator().manual_seed(sampling.seed)
            draws = torch.rand(generation.request.max_new_tokens, generator=random, dtype=torch.float64)
            generation.draws.extend(draws.tolist())

    def move(self, source: int, target: int) -> None:
        """Copy the recorded tokens of one slot to another."""
        self._history[target] = self._history[source]

    def choose(
        self, logits: torch.Tensor, first_slot: int, generations: Sequence[Generation]
    ) -> list[NextToken]:
        """Choose a token for each row of the logits (R, V), which are those of adjacent slots, in any float
        dtype."""
        logits = logits.float()
        self._record(first_slot, generations)
        self._penalise(logits, first_slot, generations)
        best, second, best_ids = _best_two(logits)
        gaps, tops, ids = (best - second).tolist(), best.tolist(), best_ids.tolist()
        sampled = [i for i, row in enumerate(generations) if row.request.sampling.temperature > 0]
        for index, token_id in zip(sampled, self._draw(logits, sampled, generations), strict=True):
            ids[index] = token_id
            gaps[index] = float("inf")
        return [
            NextToken(token_id, gap < NEAR_TIE_GAP, abs(top) < float("inf"))
            for token_id, gap, top in zip(ids, gaps, tops, strict=True)
        ]

    def _record(self, first_slot: int, generations: Sequence[Generation]) -> None:
        """Write each row's last output token into its history; this is safe to repeat."""
        rows = [
            (first_slot + i, g.num_tokens - 1, g.output_ids[-1])
            for i, g in enumerate(generations)
            if g.output_ids
        ]
        if rows:
            slots, positions, tokens = torch.tensor(rows, device=self._device).unbind(1)
            self._history[slots, positions] = tokens

    def _penalise(self, logits: torch.Tensor, first_slot: int, generations: Sequence[Generation]) -> None:
        """Apply the repetition penalty to prompt and output, in place.

        After Keskar et al. 2019, section 4.1, as implemented in transformers.
        """
        rows = [i for i, g in enumerate(generations) if g.request.sampling.repetition_penalty != 1.0]
        if not rows:
            return
        penalties = [generations[i].request.sampling.repetition_penalty for i in rows]
        longest = max(generations[i].num_tokens for i in rows)
        index = torch.tensor(rows, device=self._device)
        seen = self._history[index + first_slot, :longest]  # (P, T)
        penalty = torch.tensor(penalties, device=self._device)[:, None]
        scores = logits[index[:, None], seen]
        logits[index[:, None], seen] = torch.where(scores < 0, scores * penalty, scores / penalty)

    def _draw(self, logits: torch.Tensor, rows: list[int], generations: Sequence[Generation]) -> list[int]:
        """Draw one token for each of these rows by inverse transform sampling.

        One uniform number is used per row.
        """
        if not rows:
            return []
        settings = [generations[i].request.sampling for i in rows]
        draws = [generations[i].draws[len(generations[i].output_ids)] for i in rows]
        temperatures = torch.tensor([s.temperature for s in settings], device=self._device)
        scores = logits[torch.tensor(rows, device=self._device)].div_(temperatures[:, None])
        probabilities = scores.softmax(-1)
        num_tokens = scores.shape[1]
        top_k = [min(s.top_k or num_tokens, num_tokens) for s in settings]
        top_p = [s.top_p for s in settings]
        chosen = _draw_from_top(probabilities, top_k, top_p, draws, min(_TOP_TOKENS, num_tokens))
        # Flat distributions need more than the best few tokens: these rows need a full sort.
        flat = [i for i, token_id in enumerate(chosen) if token_id < 0]
        if flat:
            full = _draw_from_top(
                probabilities[torch.tensor(flat, device=self._device)],
                [top_k[i] for i in flat],
                [top_p[i] for i in flat],
                [draws[i] for i in flat],
                num_tokens,
            )
            for index, token_id in zip(flat, full, strict=True):
                chosen[index] = token_id
        return chosen


def _best_two(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the two largest values of each row (R, V), and the first index of the largest, like argmax."""
    values, ids = logits.topk(2, dim=-1)
    best, second = values.unbind(-1)
    return best, second, torch.where(best == second, ids.amin(-1), ids[:, 0])


def _draw_from_top(
    probabilities: torch.Tensor, top_k: list[int], top_p: list[float], draws: list[float], num_top: int
) -> list[int]:
    """Draw from the num_top best tokens of each row (P, V); return -1 for rows where these do not suffice.

    They suffice if they contain the row's top-k or its nucleus or, in a row with neither limit, the token
    drawn.
    """
    device, num_tokens = probabilities.device, probabilities.shape[1]
    values, ids = probabilities.topk(num_top, dim=-1)
    k = torch.tensor(top_k, device=device)
    p = torch.tensor(top_p, dtype=torch.float64, device=device)
    mass = values.double().masked_fill(torch.arange(num_top, device=device) >= k[:, None], 0.0)
    is_cut = k <= num_top
    mass /= torch.where(is_cut, mass.sum(-1), 1.0)[:, None]
    # Select the smallest set that reaches top_p: a token is kept if the tokens before it do not reach top_p.
    mass = mass.masked_fill(mass.cumsum(-1) - mass >= p[:, None], 0.0)
    cumulative = mass.cumsum(-1)
    reached = cumulative[:, -1]
    is_whole = is_cut | ((k >= num_tokens) & (p < 1) & (reached >= p)) | (num_top == num_tokens)
    is_open = (k >= num_tokens) & (p >= 1)
    target = torch.tensor(draws, dtype=torch.float64, device=device) * torch.where(is_whole, reached, 1.0)
    position = (cumulative <= target[:, None]).sum(-1)
    # Rounding may put the target at the very end: take the last token that has any mass.
    position = torch.where(is_whole, torch.minimum(position, (mass > 0).sum(-1) - 1), position)
    chosen = ids.gather(1, position.clamp(max=num_top - 1)[:, None])[:, 0]
    decided: list[int] = torch.where(is_whole | (is_open & (position < num_top)), chosen, -1).tolist()
    return decided
