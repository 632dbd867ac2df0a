"""Chooses the next tokens of a batch, for all rows at once; only the random numbers are drawn per row.

The steps have the order of transformers' generate() (`_get_logits_processor` in generation/utils.py): logit
bias, repetition penalty, minimum length, temperature, top-k, top-p, min-p, draw. OpenAI's frequency and
presence penalties, which transformers does not have, follow the repetition penalty, as in vLLM. Constraints
come just before the temperature, so that limits such as top-k count only the tokens that may come next. A
step changes the logits of only those rows that use it, and costs nothing if no row does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import torch

from jobs.inference import LEAST_LOGPROB, Sampling
from workers.engines.batching import NextToken, TokenScores
from workers.engines.token_masks import TokenMasks
from workers.scheduler import Generation

NEAR_TIE_GAP = 1e-4
"""Gap between two logits below which a greedy choice counts as a near tie. fp32 logits of one row differ by
up to about 1e-5 between batch shapes (measured); this is ten times that."""
NEAR_DRAW_GAP = 2e-5
"""A sampled token is a near tie if the number drawn is closer than this to the share of another token, or if
another token's probability differs by less than this share. Logits that differ by 1e-5 between batch shapes
change sums of probabilities by about as much."""

MIN_TEMPERATURE = 1e-30
"""Lowest temperature by which logits are divided. fp32 can represent it, and it draws the likeliest token."""

_TOP_TOKENS = 256
"""Number of best tokens that nucleus sampling examines first. The whole vocabulary is sorted only if these do
not reach top_p: sorting 49,152 logits takes 100 times longer."""
_MAX_BIASES = 256
"""Number of different logit biases whose tensors are kept between steps. Requests of a batch usually share
one."""


class Sampler:
    """Chooses tokens for rows of slots, and remembers each slot's tokens for the penalties."""

    def __init__(self, *, num_slots: int, max_context_tokens: int, device: torch.device) -> None:
        # Shape (slots, tokens), with prompt and output. The rest of a row repeats its first token, so that
        # whole rows can be gathered and scattered without a mask.
        self._history = torch.zeros(num_slots, max_context_tokens + 1, dtype=torch.int64, device=device)
        self._device = device
        self._masks = TokenMasks(device)
        self._bias = lru_cache(_MAX_BIASES)(partial(_bias_tensors, device))

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
        scores = _ModelScores(logits, generations)
        self._add_bias(logits, generations)
        self._penalise(logits, first_slot, generations)
        self._penalise_output(logits, first_slot, generations)
        _bar(logits, generations)
        errors = self._masks.apply(logits, generations)
        best, second, best_ids = _best_two(logits)
        gaps, tops, ids = (best - second).tolist(), best.tolist(), best_ids.tolist()
        are_near = [gap < NEAR_TIE_GAP for gap in gaps]
        sampled = [i for i, row in enumerate(generations) if row.request.sampling.temperature > 0]
        for index, drawn in zip(sampled, self._draw(logits, sampled, generations), strict=True):
            ids[index], are_near[index] = drawn
        return [
            NextToken(token_id, is_near, abs(top) < float("inf"), row_scores, errors.get(i))
            for i, (token_id, is_near, top, row_scores) in enumerate(
                zip(ids, are_near, tops, scores.of(ids), strict=True)
            )
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

    def _add_bias(self, logits: torch.Tensor, generations: Sequence[Generation]) -> None:
        """Add each row's logit bias, in place, like transformers' SequenceBiasLogitsProcessor for single
        tokens."""
        rows = [i for i, g in enumerate(generations) if g.request.sampling.logit_bias]
        if not rows:
            return
        biases = [self._bias(generations[i].request.sampling.logit_bias) for i in rows]
        counts = torch.tensor([len(ids) for ids, _ in biases], device=self._device)
        index = torch.tensor(rows, device=self._device).repeat_interleave(counts)
        logits[index, torch.cat([ids for ids, _ in biases])] += torch.cat([values for _, values in biases])

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

    def _penalise_output(
        self, logits: torch.Tensor, first_slot: int, generations: Sequence[Generation]
    ) -> None:
        """Apply frequency and presence penalties to the output's tokens, in place.

        A token that occurs c > 0 times in the output loses c * frequency_penalty + presence_penalty
        (OpenAI, "Frequency and presence penalties": mu[j] - c[j] * alpha_frequency - (c[j] > 0) *
        alpha_presence).
        """
        rows = [i for i, g in enumerate(generations) if g.output_ids and _penalises_output(g)]
        if not rows:
            return
        chosen = [generations[i] for i in rows]
        longest = max(len(row.output_ids) for row in chosen)
        facts = [(i, len(g.prompt_ids), len(g.output_ids)) for i, g in zip(rows, chosen, strict=True)]
        index, begin, length = torch.tensor(facts, device=self._device).unbind(1)
        place = torch.arange(longest, device=self._device)
        # Places after a row's end repeat its first output token, which then gets the same value again.
        place = torch.where(place < length[:, None], place, 0)  # (P, T)
        output = self._history[(index + first_slot)[:, None], begin[:, None] + place]
        is_real = torch.arange(longest, device=self._device) < length[:, None]
        in_order = output.masked_fill(~is_real, logits.shape[1]).sort(-1).values
        count = torch.searchsorted(in_order, output, right=True) - torch.searchsorted(in_order, output)
        settings = [row.request.sampling for row in chosen]
        penalties = [(s.frequency_penalty, s.presence_penalty) for s in settings]
        frequency, presence = torch.tensor(penalties, device=self._device).unbind(1)
        scores = logits[index[:, None], output]
        logits[index[:, None], output] = scores - count * frequency[:, None] - presence[:, None]

    def _draw(
        self, logits: torch.Tensor, rows: list[int], generations: Sequence[Generation]
    ) -> list[tuple[int, bool]]:
        """Draw one token for each of these rows by inverse transform sampling.

        One uniform number is used per row. Returns the tokens, and whether each draw is a near tie.
        """
        if not rows:
            return []
        num_tokens = logits.shape[1]
        draws = [_Draw.of(generations[i], num_tokens) for i in rows]
        settings = [generations[i].request.sampling for i in rows]
        temperatures = torch.tensor([s.temperature for s in settings], device=self._device)
        scores = logits[torch.tensor(rows, device=self._device)]
        # Below the maximum, no score overflows at a low temperature. Rows without a finite maximum have no
        # probabilities: whatever is drawn for them is not used.
        scores = (scores - scores.amax(-1, keepdim=True)).div_(
            temperatures.clamp(min=MIN_TEMPERATURE)[:, None]
        )
        probabilities = scores.softmax(-1).nan_to_num_(0.0)
        chosen = _draw_from_top(probabilities, draws, min(_TOP_TOKENS, num_tokens))
        # Flat distributions need more than the best few tokens: these rows need a full sort.
        flat = [i for i, (token_id, _) in enumerate(chosen) if token_id < 0]
        if flat:
            unsorted = probabilities[torch.tensor(flat, device=self._device)]
            full = _draw_from_top(unsorted, [draws[i] for i in flat], num_tokens)
            for index, drawn in zip(flat, full, strict=True):
                chosen[index] = drawn
        return chosen


class _ModelScores:
    """The model's own log-probabilities in the rows that request them, computed before logits change."""

    def __init__(self, logits: torch.Tensor, generations: Sequence[Generation]) -> None:
        wanted = [g.request.sampling.num_logprobs for g in generations]
        self._nums = {i: num for i, num in enumerate(wanted) if num is not None}
        self._num_rows = len(wanted)
        if not self._nums:
            return
        rows = torch.tensor(list(self._nums), device=logits.device)
        self._logprobs = logits[rows].log_softmax(-1).clamp_(min=LEAST_LOGPROB)  # (R, V)
        self._top = self._logprobs.topk(min(max(self._nums.values()), logits.shape[1]), dim=-1)

    def of(self, token_ids: Sequence[int]) -> list[TokenScores | None]:
        """Return for each row the scores of its chosen token and its most likely ones, or None."""
        scores: list[TokenScores | None] = [None] * self._num_rows
        if not self._nums:
            return scores
        ids = torch.tensor([[token_ids[i]] for i in self._nums], device=self._logprobs.device)
        chosen: list[float] = self._logprobs.gather(1, ids)[:, 0].tolist()
        tops = zip(self._top.indices.tolist(), self._top.values.tolist(), strict=True)
        for (i, num), logprob, (top_ids, values) in zip(self._nums.items(), chosen, tops, strict=True):
            scores[i] = TokenScores(logprob, tuple(zip(top_ids[:num], values[:num], strict=True)))
        return scores


def _bias_tensors(
    device: torch.device, logit_bias: tuple[tuple[int, float], ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids and the numbers that are added to their logits, each of shape (B,)."""
    ids, values = zip(*logit_bias, strict=True)
    return torch.tensor(ids, device=device), torch.tensor(values, dtype=torch.float32, device=device)


def _penalises_output(generation: Generation) -> bool:
    sampling = generation.request.sampling
    return sampling.frequency_penalty != 0 or sampling.presence_penalty != 0


def _bar(logits: torch.Tensor, generations: Sequence[Generation]) -> None:
    """Exclude the tokens that must not come next in a row, in place.

    Like transformers' MinNewTokensLengthLogitsProcessor, if these are the end-of-text tokens.
    """
    # Under a constraint, the end is excluded only where the text can go on, which TokenMasks knows.
    free = [(i, row) for i, row in enumerate(generations) if row.matcher is None]
    barred = [(i, token_id) for i, row in free for token_id in row.barred_ids]
    if barred:
        index, ids = torch.tensor(barred, device=logits.device).unbind(1)
        logits[index, ids] = float("-inf")


@dataclass(frozen=True, slots=True)
class _Draw:
    """A uniform number in [0, 1), and the limits of the tokens from which it selects one."""

    number: float
    top_k: int
    """The number of tokens in the vocabulary if there is no limit."""
    top_p: float
    min_p: float

    @classmethod
    def of(cls, generation: Generation, num_tokens: int) -> _Draw:
        sampling: Sampling = generation.request.sampling
        top_k = min(sampling.top_k or num_tokens, num_tokens)
        number = generation.draws[len(generation.output_ids)]
        return cls(number, top_k, sampling.top_p, sampling.min_p)


def _best_two(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the two largest values of each row (R, V), and the first index of the largest, like argmax."""
    values, ids = logits.topk(2, dim=-1)
    best, second = values.unbind(-1)
    return best, second, torch.where(best == second, ids.amin(-1), ids[:, 0])


def _draw_from_top(
    probabilities: torch.Tensor, draws: Sequence[_Draw], num_top: int
) -> list[tuple[int, bool]]:
    """Draw from the num_top best tokens of each row (P, V); return -1 for rows where these do not suffice.

    They suffice if they contain all tokens that the row's limits keep or, in a row without limits, the token
    drawn. The second value of each pair is True if the draw is a near tie, see NEAR_DRAW_GAP.
    """
    device, num_tokens = probabilities.device, probabilities.shape[1]
    values, ids = probabilities.topk(num_top, dim=-1)
    k = torch.tensor([draw.top_k for draw in draws], device=device)
    p = torch.tensor([draw.top_p for draw in draws], dtype=torch.float64, device=device)
    mass = values.double().masked_fill(torch.arange(num_top, device=device) >= k[:, None], 0.0)
    is_cut = k <= num_top
    mass /= torch.where(is_cut, mass.sum(-1), 1.0)[:, None]
    # Select the smallest set that reaches top_p: a token is kept if the tokens before it do not reach top_p.
    mass = mass.masked_fill(mass.cumsum(-1) - mass >= p[:, None], 0.0)
    cumulative = mass.cumsum(-1)
    reached = cumulative[:, -1]
    is_whole = is_cut | ((k >= num_tokens) & (p < 1) & (reached >= p)) | (num_top == num_tokens)
    is_open = (k >= num_tokens) & (p >= 1)
    if any(draw.min_p for draw in draws):
        min_p = torch.tensor([draw.min_p for draw in draws], device=device)
        is_likely = values >= min_p[:, None] * values[:, :1]
        # All limits keep the best tokens up to some place, so the shortest of these sets remains. Only a
        # nucleus of the top-k depends on tokens that min-p excludes.
        is_whole |= ~is_likely[:, -1] & ((k >= num_tokens) | (p >= 1))
        is_open &= min_p == 0
        mass = mass.masked_fill(~is_likely, 0.0)
        cumulative = mass.cumsum(-1)
        reached = cumulative[:, -1]
    number = torch.tensor([draw.number for draw in draws], dtype=torch.float64, device=device)
    target = number * torch.where(is_whole, reached, 1.0)
    position = (cumulative <= target[:, None]).sum(-1)
    # Rounding may put the target at the very end: take the last token that has any mass.
    position = torch.where(is_whole, torch.minimum(position, (mass > 0).sum(-1) - 1), position)
    place = position.clamp(0, num_top - 1)[:, None]
    chosen = ids.gather(1, place)[:, 0]
    decided: list[int] = torch.where(is_whole | (is_open & (position < num_top)), chosen, -1).tolist()
    return list(zip(decided, _are_near_ties(values, mass, cumulative, target, place), strict=True))


def _are_near_ties(
    values: torch.Tensor,
    mass: torch.Tensor,
    cumulative: torch.Tensor,
    target: torch.Tensor,
    place: torch.Tensor,
) -> list[bool]:
    """Return for each row whether a different batch shape may draw another token.

    `values` are the probabilities (P, T) in descending order, `mass` the part of them that may be drawn,
    `cumulative` its sums, `target` (P,) the sum at which a token is drawn, and `place` (P, 1) its place.
    """
    end = cumulative.gather(1, place)[:, 0]
    begin = end - mass.gather(1, place)[:, 0]
    has_before, has_after = begin > 0, end < cumulative[:, -1]
    is_edge = (has_before & (target - begin < NEAR_DRAW_GAP)) | (has_after & (end - target < NEAR_DRAW_GAP))
    # Two tokens of nearly the same probability may change places.
    own = values.gather(1, place)[:, 0]
    before = values.gather(1, (place - 1).clamp(min=0))[:, 0]
    after = values.gather(1, (place + 1).clamp(max=values.shape[1] - 1))[:, 0]
    gap = own * NEAR_DRAW_GAP
    is_swap = (has_before & (before - own < gap)) | (has_after & (own - after < gap))
    near: list[bool] = (is_edge | is_swap).tolist()
    return near
