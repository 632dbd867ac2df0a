"""Combines several trainings from the same initial weights into one model: the mean of their changes.

The model has the rank of a single training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

LOW, HIGH = ".lora_A.", ".lora_B."
"""Parts of peft's names for a pair of factors A and B, whose product B A is the change of a weight."""


def mean_of_members(members: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of every parameter by name; for a pair of factors, factors of the mean product.

    The mean of the products has up to the sum of the ranks; its best approximation at one member's rank is
    kept (Eckart, Young 1936). Such a mean is better than its members only if all of them start from the same
    weights (Wortsman et al. 2022, "Model soups").
    """
    first, *others = members
    if not others:
        return dict(first)
    mean: dict[str, Tensor] = {}
    for name in first:
        if LOW in name:
            high = name.replace(LOW, HIGH)
            mean[name], mean[high] = _mean_factors(
                [each[name] for each in members], [each[high] for each in members]
            )
        elif HIGH not in name:
            mean[name] = torch.stack([each[name] for each in members]).mean(dim=0)
    return {name: mean[name] for name in first}


def _mean_factors(low: Sequence[Tensor], high: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return A of shape (rank, in) and B of shape (out, rank) with B A nearest to the mean of the products.

    The products are never formed: with B = Q R and A' = P S for all members side by side, the singular
    values of B A are those of R S', a square matrix of the sum of the ranks.
    """
    rank, dtype = len(low[0]), low[0].dtype
    high_basis, high_parts = torch.linalg.qr(torch.cat(list(high), dim=1).double() / len(high))
    low_basis, low_parts = torch.linalg.qr(torch.cat(list(low), dim=0).double().T)
    left, values, right = torch.linalg.svd(high_parts @ low_parts.T)
    roots = values[:rank].sqrt()
    mean_low = roots[:, None] * (right[:rank] @ low_basis.T)
    mean_high = (high_basis @ left[:, :rank]) * roots
    return mean_low.to(dtype), mean_high.to(dtype)
