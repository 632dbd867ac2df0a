"""Linear layers whose weights are stored as oneDNN's kernels read them: on a CPU the largest single gain.

A plain linear layer repacks its weight at every call; at batch 8 to 48 that costs as much as the product.
"""

from __future__ import annotations

from typing import Literal

import torch
from transformers.activations import GELUActivation

_PACK_ROWS = 48
"""Batch size that the weight layout is chosen for; the layout measured best for 8 to 1,024 rows alike."""


class PackedLinear(torch.nn.Module):
    """y = f(x W^T + b) with W in oneDNN's blocked layout. Replaces torch.nn.Linear for inference on a CPU."""

    def __init__(self, linear: torch.nn.Linear, *, activation: Literal["none", "gelu"] = "none") -> None:
        """`gelu` is the exact one, by the error function."""
        super().__init__()
        self._activation = activation
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), _PACK_ROWS)
        self.bias = linear.bias

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features)."""
        output: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            states, self._packed, self.bias, self._activation, [], "none"
        )
        return output


def can_pack() -> bool:
    """Whether this build of torch brings oneDNN and its prepacked linear operator."""
    return (
        bool(torch._C._has_mkldnn)
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


def pack_linears(model: torch.nn.Module) -> int:
    """Replace every linear layer of the model; returns how many."""
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is torch.nn.Linear
    ]
    for parent, name, child in found:
        setattr(parent, name, PackedLinear(child))
    return len(found)


def pack_encoder(model: torch.nn.Module) -> int:
    """As pack_linears, with BERT's activation computed inside the product before it: a tenth less time."""
    num_fused = 0
    for layer in model.modules():
        dense, act = getattr(layer, "dense", None), getattr(layer, "intermediate_act_fn", None)
        if type(dense) is torch.nn.Linear and type(act) is GELUActivation:
            layer.dense = PackedLinear(dense, activation="gelu")
            layer.intermediate_act_fn = torch.nn.Identity()
            num_fused += 1
    return pack_linears(model) + num_fused
