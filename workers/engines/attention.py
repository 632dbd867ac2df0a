"""Attention over slots, registered with transformers under a name of its own."""

from __future__ import annotations

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION_NAME = "pressroom_slots"


def register_attention() -> str:
    """Make the function known to transformers; returns its name for `attn_implementation`.

    Only a 4-D mask reaches the function: transformers makes no masks for names that it does not know.
    """
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, slot_attention)
    return ATTENTION_NAME


def slot_attention(
    module: torch.nn.Module,  # noqa: ARG001  part of transformers' attention interface
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention that reads every key once.

    query (R, Q, S, D), key and value (R, H, K, D), mask (R, 1, S, K) bool -> (R, S, Q, D). The Q/H query
    heads of a group become further query positions of their key-value head (grouped-query attention, Ainslie
    et al. 2023, section 2.2), so that keys and values need not be repeated for them.
    """
    num_rows, num_query_heads, num_queries, head_size = query.shape
    num_heads, num_read = key.shape[1], key.shape[2]
    group = num_query_heads // num_heads
    folded = query.reshape(num_rows, num_heads, group * num_queries, head_size)
    if num_queries > 1:
        attention_mask = attention_mask[:, :, None].expand(num_rows, 1, group, num_queries, num_read)
        attention_mask = attention_mask.reshape(num_rows, 1, group * num_queries, num_read)
    output = torch.nn.functional.scaled_dot_product_attention(
        folded, key, value, attn_mask=attention_mask, scale=scaling
    )
    output = output.reshape(num_rows, num_query_heads, num_queries, head_size)
    return output.transpose(1, 2), None
