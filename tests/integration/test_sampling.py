"""The sampler against transformers' logits processors: the same tokens stay, as probable as there."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from jobs.inference import LEAST_LOGPROB, Sampling
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
    if sampling.logit_bias:
        bias: list[list[list[int] | float]] = [[[token], value] for token, value in sampling.logit_bias]
        steps.append(SequenceBiasLogitsProcessor(bias))
    if sampling.repetition_penalty != 1.0:
        steps.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    steps.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        steps.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        steps.append(MinPLogitsWarper(sampling.min_p))
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
        Sampling(max_new_tokens=1, temperature=1.0, min_p=0.2),
        Sampling(max_new_tokens=1, temperature=1.5, min_p=0.01),
        Sampling(max_new_tokens=1, temperature=1.0, min_p=1.0),
        Sampling(max_new_tokens=1, temperature=1.0, top_k=600, min_p=0.1),
        Sampling(max_new_tokens=1, temperature=1.2, top_k=600, top_p=0.8, min_p=0.05),
        Sampling(max_new_tokens=1, temperature=1.2, top_p=0.7, min_p=0.02),
        Sampling(max_new_tokens=1, temperature=1.2, top_k=9, top_p=0.9, min_p=0.3),
        Sampling(max_new_tokens=1, temperature=1.0, logit_bias=((3, 5.0), (7, -100.0), (999, 2.5))),
        Sampling(
            max_new_tokens=1, temperature=0.8, repetition_penalty=1.5, min_p=0.02, logit_bias=((14, -3.0),)
        ),
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


OUTPUT = (7, 8, 7, 3, 7, 500)


def begin(sampler: Sampler, row: Generation, slot: int) -> None:
    """Begin a row in a slot, and record its output token by token."""
    output = list(row.output_ids)
    row.output_ids.clear()
    sampler.begin(row, slot)
    for place in range(len(output)):
        row.output_ids[:] = output[: place + 1]
        sampler.choose(torch.zeros(1, NUM_TOKENS), slot, [row])


def written(sampling: Sampling, output: Sequence[int] = OUTPUT) -> Generation:
    """A row with this output."""
    row = Generation(Request(request_id="r", prompt_ids=PROMPT, sampling=sampling))
    row.output_ids.extend(output)
    return row


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_new_tokens=9, frequency_penalty=0.5),
        Sampling(max_new_tokens=9, presence_penalty=-1.5),
        Sampling(max_new_tokens=9, frequency_penalty=-2.0, presence_penalty=2.0),
        Sampling(max_new_tokens=9, frequency_penalty=1.3, presence_penalty=0.7, repetition_penalty=1.2),
    ],
)
def test_frequency_and_presence_penalties_follow_the_formula_of_openai(sampling: Sampling) -> None:
    scores = logits(seed=5, scale=3.0)
    expected = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty)(
        torch.tensor([[*PROMPT, *OUTPUT]]),
        scores.clone(),
    )[0]
    for token_id, count in Counter(OUTPUT).items():
        expected[token_id] -= count * sampling.frequency_penalty + (count > 0) * sampling.presence_penalty
    rows = [written(sampling), written(sampling, OUTPUT[:2]), written(sampling, OUTPUT * 3)]
    sampler = Sampler(num_slots=3, max_context_tokens=40, device=torch.device("cpu"))
    for slot, row in enumerate(rows):
        begin(sampler, row, slot)
    changed = scores.repeat(3, 1)
    sampler.choose(changed, 0, rows)  # changes the logits in place
    torch.testing.assert_close(changed[0], expected, rtol=1e-6, atol=1e-6)
    assert set(changed[1].sub(scores[0]).nonzero().flatten().tolist()) <= {*PROMPT, *OUTPUT[:2]}


def test_prompt_does_not_count_for_frequency_and_presence() -> None:
    sampling = Sampling(max_new_tokens=9, frequency_penalty=2.0, presence_penalty=2.0)
    rows = [written(sampling, ())]
    sampler = Sampler(num_slots=1, max_context_tokens=40, device=torch.device("cpu"))
    sampler.begin(rows[0], 0)
    scores = logits(seed=6, scale=1.0)
    changed = scores.clone()
    sampler.choose(changed, 0, rows)
    assert torch.equal(changed, scores)


def test_barred_tokens_are_excluded_as_transformers_excludes_them() -> None:
    scores = logits(seed=7, scale=3.0)
    steps = MinNewTokensLengthLogitsProcessor(0, min_new_tokens=3, eos_token_id=[5, 8])
    expected = steps(torch.tensor([[1, 2]]), scores.clone())
    row = written(Sampling(max_new_tokens=9), ())
    row.barred_ids = (5, 8)
    sampler = Sampler(num_slots=1, max_context_tokens=40, device=torch.device("cpu"))
    sampler.begin(row, 0)
    changed = scores.clone()
    sampler.choose(changed, 0, [row])
    assert torch.equal(changed, expected)


def test_log_probabilities_are_those_of_the_unchanged_logits() -> None:
    """Neither temperature, nor penalties, nor bias, nor bars affect them."""
    sampling = Sampling(
        max_new_tokens=9,
        num_logprobs=4,
        temperature=2.0,
        repetition_penalty=1.5,
        frequency_penalty=1.0,
        logit_bias=((int(logits(seed=8, scale=3.0).argmax()), -100.0),),
    )
    scores = logits(seed=8, scale=3.0)
    expected = scores.log_softmax(-1)[0]
    rows = [written(sampling), written(replace(sampling, num_logprobs=None)), written(sampling)]
    rows[2].request = replace(rows[2].request, sampling=replace(sampling, num_logprobs=0))
    sampler = Sampler(num_slots=3, max_context_tokens=40, device=torch.device("cpu"))
    for slot, row in enumerate(rows):
        begin(sampler, row, slot)
    first, second, third = sampler.choose(scores.repeat(3, 1), 0, rows)
    best = expected.topk(4)
    assert first.scores is not None
    assert third.scores is not None
    assert [token_id for token_id, _ in first.scores.top] == best.indices.tolist()
    assert [logprob for _, logprob in first.scores.top] == pytest.approx(best.values.tolist())
    assert first.scores.logprob == pytest.approx(float(expected[first.token_id]))
    assert second.scores is None
    assert third.scores.logprob == pytest.approx(float(expected[third.token_id]))
    assert third.scores.top == ()


def test_impossible_token_has_the_least_log_probability() -> None:
    scores = torch.full((1, NUM_TOKENS), float("-inf"))
    scores[0, 9] = 1.0
    row = written(Sampling(max_new_tokens=1, num_logprobs=2), ())
    sampler = Sampler(num_slots=1, max_context_tokens=40, device=torch.device("cpu"))
    sampler.begin(row, 0)
    (token,) = sampler.choose(scores, 0, [row])
    assert token.scores is not None
    assert token.scores.logprob == 0.0
    assert [logprob for _, logprob in token.scores.top] == [0.0, LEAST_LOGPROB]


samplings = st.builds(
    Sampling,
    max_new_tokens=st.just(20),
    temperature=st.sampled_from([0.0, 0.0, 0.7, 1.0, 1.6]),
    top_p=st.sampled_from([1.0, 1.0, 0.9, 0.3]),
    top_k=st.sampled_from([0, 0, 5, 400]),
    min_p=st.sampled_from([0.0, 0.0, 0.05, 0.5]),
    repetition_penalty=st.sampled_from([1.0, 1.0, 1.4]),
    presence_penalty=st.sampled_from([0.0, 0.0, 1.1, -0.6]),
    frequency_penalty=st.sampled_from([0.0, 0.0, 0.3, -1.0]),
    logit_bias=st.sampled_from([(), (), ((4, 3.0),), ((0, -100.0), (7, 1.5))]),
    num_logprobs=st.sampled_from([None, None, 0, 3]),
    seed=st.integers(0, 2**32),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(samplings, st.integers(0, 12)), min_size=2, max_size=9), st.integers(0, 999))
def test_row_has_the_same_logits_and_token_alone_and_among_any_others(
    chosen: list[tuple[Sampling, int]], seed: int
) -> None:
    draw = random.Random(seed)
    scores = logits(seed, scale=2.0).repeat(len(chosen), 1)
    outputs = [[draw.randrange(30) for _ in range(length)] for _, length in chosen]
    device = torch.device("cpu")
    together = Sampler(num_slots=len(chosen), max_context_tokens=40, device=device)
    rows = [written(sampling, output) for (sampling, _), output in zip(chosen, outputs, strict=True)]
    for slot, row in enumerate(rows):
        begin(together, row, slot)
    shared = scores.clone()
    tokens = together.choose(shared, 0, rows)
    for index, (sampling, _) in enumerate(chosen):
        alone = Sampler(num_slots=1, max_context_tokens=40, device=device)
        row = written(sampling, outputs[index])
        begin(alone, row, 0)
        own = scores[index : index + 1].clone()
        (token,) = alone.choose(own, 0, [row])
        assert token.token_id == tokens[index].token_id
        assert torch.equal(own[0], shared[index])
        if sampling == Sampling(max_new_tokens=20, temperature=sampling.temperature, seed=sampling.seed):
            assert torch.equal(shared[index], scores[index])


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


@pytest.mark.parametrize(
    ("draw", "values", "is_near"),
    [
        (0.25, (2.0, 1.0), False),
        (0.731, (2.0, 1.0), False),
        (0.731_058, (2.0, 1.0), True),  # 1 / (1 + exp(-1)) = 0.7310586
        (0.731_059, (2.0, 1.0), True),
        (1e-9, (2.0, 1.0), False),  # there is no token before the first one
        (0.999_999_9, (2.0, 1.0), False),  # nor after the last one
        (0.25, (1.000_01, 1.0), True),  # either of them may come first
    ],
)
def test_draw_that_rounding_can_change_is_a_near_tie(
    draw: float, values: tuple[float, ...], is_near: bool
) -> None:
    scores = torch.full((1, NUM_TOKENS), float("-inf"))
    scores[0, 200 : 200 + len(values)] = torch.tensor(values)
    row = generation(Sampling(max_new_tokens=1, temperature=1.0), draw)
    sampler = Sampler(num_slots=1, max_context_tokens=10, device=torch.device("cpu"))
    sampler.begin(row, 0)
    assert sampler.choose(scores, 0, [row])[0].is_near_tie is is_near


@pytest.mark.parametrize("temperature", [1e-300, 1e-46, 1e-39, 1e-6])
@pytest.mark.parametrize("limits", [{}, {"top_p": 0.9}, {"top_k": 50}, {"min_p": 0.1}])
def test_lowest_temperatures_take_the_most_likely_token(
    temperature: float, limits: dict[str, float | int]
) -> None:
    scores = logits(seed=5, scale=3.0)
    row = generation(Sampling(max_new_tokens=1, temperature=temperature, **limits), 0.7)  # type: ignore[arg-type]
    sampler = Sampler(num_slots=1, max_context_tokens=10, device=torch.device("cpu"))
    sampler.begin(row, 0)
    token = sampler.choose(scores.clone(), 0, [row])[0]
    assert token.is_finite
    assert token.token_id == int(scores.argmax())


@pytest.mark.parametrize("limits", [{}, {"top_p": 0.9}, {"top_k": 50}, {"min_p": 0.1}])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_row_without_finite_logits_is_told_and_its_neighbour_goes_on(
    value: float, limits: dict[str, float | int]
) -> None:
    sampling = Sampling(max_new_tokens=1, temperature=1.0, **limits)  # type: ignore[arg-type]
    good = logits(seed=5, scale=3.0)
    sampler = Sampler(num_slots=2, max_context_tokens=10, device=torch.device("cpu"))
    rows = [generation(sampling, 0.7), generation(sampling, 0.7)]
    for slot, row in enumerate(rows):
        row.slot = slot
        sampler.begin(row, slot)
    alone = sampler.choose(good.clone(), 1, rows[1:])[0]
    both = sampler.choose(torch.cat([torch.full_like(good, value), good]), 0, rows)
    assert [token.is_finite for token in both] == [False, True]
    assert both[1].token_id == alone.token_id
