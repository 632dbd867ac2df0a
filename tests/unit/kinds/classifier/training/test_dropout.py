"""Dropout drawn by bytes: the share, the scale, the independence of what torch's own has."""

from __future__ import annotations

import pytest
import torch

from kinds.classifier.training.dropout import ByteDropout, use_byte_dropout


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
