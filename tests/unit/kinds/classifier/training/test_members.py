"""The mean of several trainings: what each changed, in factors of one member's rank."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kinds.classifier.training.members import mean_of_members

LOW, HIGH, HEAD = "query.lora_A.default.weight", "query.lora_B.default.weight", "classifier.weight"
RANK, INPUTS, OUTPUTS = 6, 20, 30


def member(seed: int, *, num_directions: int = RANK) -> dict[str, Tensor]:
    """Factors of which only the first rows and columns say anything, and a head."""
    draw = torch.Generator().manual_seed(seed)
    low = torch.randn(RANK, INPUTS, generator=draw)
    high = torch.randn(OUTPUTS, RANK, generator=draw)
    high[:, num_directions:] = 0
    return {LOW: low, HIGH: high, HEAD: torch.randn(3, OUTPUTS, generator=draw)}


def change(of: dict[str, Tensor]) -> Tensor:
    return of[HIGH] @ of[LOW]


def test_the_mean_of_changes_that_fit_the_rank_is_exact() -> None:
    members = [member(seed, num_directions=RANK // 3) for seed in range(3)]
    mean = mean_of_members(members)
    assert {name: each.shape for name, each in mean.items()} == {
        name: each.shape for name, each in members[0].items()
    }
    expected = torch.stack([change(each) for each in members]).mean(dim=0)
    torch.testing.assert_close(change(mean), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mean[HEAD], torch.stack([each[HEAD] for each in members]).mean(dim=0))


def test_a_mean_beyond_the_rank_is_as_near_as_that_rank_can_be() -> None:
    members = [member(seed) for seed in range(2)]
    exact = torch.stack([change(each) for each in members]).mean(dim=0)
    distance = torch.linalg.norm(change(mean_of_members(members)) - exact)
    least = torch.linalg.norm(torch.linalg.svdvals(exact)[RANK:])
    assert float(distance) == pytest.approx(float(least), rel=1e-4)


def test_the_mean_of_one_member_is_that_member_bit_for_bit() -> None:
    only = member(4)
    assert all(torch.equal(only[name], each) for name, each in mean_of_members([only]).items())
