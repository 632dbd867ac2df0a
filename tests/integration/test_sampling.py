"""The sampler against transformers' logits processors: the same tokens stay, as probable as there."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from jobs.inference import Sampling
from workers.engine import Request
from workers.engines.sampling import Sampler
from workers.scheduler import Generation

NUM_TOKENS = 1000
NUM_DRAWS = 4000
PROMPT = (3, 14, 15, 92, 65, 35, 14)


def logits(seed: int, scale: float) -> torch.Tensor:
    return torch.randn(1, NUM_TOKENS, generator=torch.Generator().manual_seed(seed)) * scale


def generation(sampling: Sampling, draw: float) -> Generation:
    made = Generation(Request(request_id="r", prompt_ids=PROMPT, sampling=sampling), slot=0)
    made.draws.append(draw)
    return made


def processed(scores: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities (V,) as transformers' sampling has them."""
    steps = LogitsProcessorList()
    if sampling.repetition_penalty != 1.0:
        steps.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    steps.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        steps.append(TopPLogitsWarper(sampling.top_p))
    return steps(torch.tensor([PROMPT]), scores.clone())[0].softmax(-1)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [0.3, 3.0], ids=["flat", "peaked"])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_new_tokens=1, temperature=1.0),
        Sampling(max_new_tokens=1, temperature=0.7, top_k=5),
        Sampling(max_new_tokens=1, temperature=1.0, top_k=600, top_p=0.9),
        Sampling(max_new_tokens=1, temperature=1.3, top_p=0.8),
        Sampling(max_new_tokens=1, temperature=0.9, top_p=0.95, repetition_penalty=1.4),
    ],
)
def test_evenly_spaced_draws_give_the_distribution_of_transformers(sampling: Sampling, scale: float) -> None:
    """Draws at (i + 1/2) / n walk the inverse distribution: counts may be off by one draw, not more."""
    scores = logits(seed=4, scale=scale)
    sampler = Sampler(num_slots=NUM_DRAWS, max_context_tokens=10, device=torch.device("cpu"))
    rows = [generation(sampling, (i + 0.5) / NUM_DRAWS) for i in range(NUM_DRAWS)]
    for slot, row in enumerate(rows):
        sampler.begin(row, slot)
    chosen = Counter(token.token_id for token in sampler.choose(scores.repeat(NUM_DRAWS, 1), 0, rows))
    expected = processed(scores, sampling) * NUM_DRAWS
    for token_id in range(NUM_TOKENS):
        assert chosen[token_id] == pytest.approx(float(expected[token_id]), abs=1.1)


def test_penalty_and_choice_leave_other_rows_alone() -> None:
    sampler = Sampler(num_slots=2, max_context_tokens=10, device=torch.device("cpu"))
    greedy = Sampling(max_new_tokens=1)
    penalised = Sampling(max_new_tokens=1, repetition_penalty=2.0)
    scores = torch.zeros(2, NUM_TOKENS)
    scores[:, PROMPT[0]], scores[:, 500] = 3.0, 2.0
    rows = [generation(greedy, 0.0), generation(penalised, 0.0)]
    for slot, row in enumerate(rows):
        row.slot = slot
        sampler.begin(row, slot)
    assert [token.token_id for token in sampler.choose(scores, 0, rows)] == [PROMPT[0], 500]


def test_request_draws_the_same_numbers_whenever_it_begins() -> None:
    sampler = Sampler(num_slots=2, max_context_tokens=10, device=torch.device("cpu"))
    sampling = Sampling(max_new_tokens=4, temperature=1.0, seed=11)
    first, second = (
        Generation(Request(request_id=name, prompt_ids=PROMPT, sampling=sampling)) for name in ("a", "b")
    )
    sampler.begin(first, 0)
    torch.rand(100)
    sampler.begin(second, 1)
    assert first.draws == second.draws
    assert len(set(first.draws)) == 4
