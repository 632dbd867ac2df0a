"""The network: dropout from random bytes, and the mean of several members."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kinds.classifier.training.network import ByteDropout, mean_of_members, use_byte_dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_elements_are_dropped_in_their_share_and_the_mean_stays(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    said = ByteDropout(p)(torch.ones(999, 1001, dtype=dtype)).float()
    share = round(p * 256) / 256
    assert float((said == 0).float().mean()) == pytest.approx(share, abs=0.002)
    assert said.unique().tolist() == pytest.approx([0, 1 / (1 - share)], rel=0.005)  # of bfloat16
    places = (said == 0).flatten()[: 999 * 1000].view(-1, 8).float().mean(dim=0)
    assert places.tolist() == pytest.approx([share] * 8, abs=0.006)  # no byte of a draw is another


def test_the_gradient_passes_where_the_value_did() -> None:
    torch.manual_seed(3)
    inputs = torch.ones(50, 3, requires_grad=True)
    said = ByteDropout(0.25)(inputs)
    said.sum().backward()
    assert inputs.grad is not None
    assert torch.equal(inputs.grad, said.detach())


def test_the_same_seed_drops_the_same_and_nothing_is_dropped_when_not_training() -> None:
    dropout, inputs = ByteDropout(0.25), torch.ones(7, 9)
    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(dropout(inputs))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert torch.equal(dropout.train(False)(inputs), inputs)


def test_every_dropout_of_a_network_is_replaced_at_any_depth() -> None:
    inner = torch.nn.ModuleDict({"default": torch.nn.Dropout(0.3)})
    outer = torch.nn.Dropout(0.1)
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Sequential(outer, inner))
    use_byte_dropout(net)
    assert [type(part) for part in net.modules() if isinstance(part, torch.nn.Dropout)] == [ByteDropout] * 2
    assert [part.p for part in net.modules() if isinstance(part, ByteDropout)] == [
        0.1,
        0.3,
    ]  # attention reads it


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
