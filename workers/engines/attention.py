"""An attention function for slots, and its registration with transformers."""

from __future__ import annotations

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION_NAME = "pressroom_slots"
_UNKNOWN_MEANINGS = frozenset({"position_bias", "indices", "block_indices", "sinks"})
"""Arguments that some models of transformers pass to their attention. `slot_attention` refuses them, because
it would otherwise ignore them silently."""


def register_attention() -> str:
    """Register the function with transformers; return its name for `attn_implementation`.

    The function only receives 4-D masks from the engine: transformers creates no masks for names that it does
    not know.
    """
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, slot_attention)
    return ATTENTION_NAME


def slot_attention(
    module: torch.nn.Module,  # noqa: ARG001  part of transformers' attention interface
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    num_shared_tokens: int = 0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **others: object,
) -> tuple[torch.Tensor, None]:
    """Compute scaled dot-product attention that reads every key once.

    query (R, Q, S, D), key and value (R, H, K, D) -> (R, S, Q, D). The G = Q/H query heads of a group become
    further query positions of their key-value head (grouped-query attention, Ainslie et al. 2023, section
    2.2), so that keys and values need not be repeated for them. The mask is added to the scores and is folded
    in the same way: (R, 1, 1 or G * S, K). The first num_shared_tokens keys and values are the same for all
    rows; for single queries they are read from row 0 only.

    sliding_window, softcap and s_aux are the layer's settings, with the same meaning as in transformers'
    eager attention. Raises NotImplementedError for a layer whose attention needs anything else.
    """
    if attention_mask is None or attention_mask.dim() != 4:
        raise NotImplementedError("the model creates its own masks")
    for name in _UNKNOWN_MEANINGS & others.keys():
        if others[name] is not None:
            raise NotImplementedError(f"its attention requires {name}")
    num_rows, num_query_heads, num_queries, head_size = query.shape
    group = num_query_heads // key.shape[1]
    folded = query.reshape(num_rows, key.shape[1], group * num_queries, head_size)
    scale = head_size**-0.5 if scaling is None else scaling
    if sliding_window is not None and sliding_window < key.shape[2]:
        attention_mask, num_shared_tokens = _windowed(attention_mask, sliding_window), 0
    if softcap is not None or s_aux is not None:
        output = _spelled_attention(folded * scale, key, value, attention_mask, softcap, s_aux)
    elif num_shared_tokens and num_queries == 1:
        output = _shared_prefix_attention(folded * scale, key, value, attention_mask, num_shared_tokens)
    else:
        output = torch.nn.functional.scaled_dot_product_attention(
            folded, key, value, attn_mask=attention_mask, scale=scaling
        )
    output = output.reshape(num_rows, num_query_heads, num_queries, -1)
    return output.transpose(1, 2), None


def _windowed(mask: torch.Tensor, window: int) -> torch.Tensor:
    """Narrow a causal mask, so that each query only sees the last `window` positions.

    In a causal mask, a query sees its own position and all earlier ones, so the number of visible positions
    gives the position of the query.
    """
    num_visible = (mask == 0).sum(-1, keepdim=True)
    columns = torch.arange(mask.shape[-1], device=mask.device)
    return mask.masked_fill(columns < num_visible - window, float("-inf"))


def _spelled_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Compute attention of (R, H, G * S, D) scaled queries with features that the fused kernel lacks.

    Scores are capped by a hyperbolic tangent (Gemma 2, arXiv 2408.00118, section 2). A sink is an additional
    score per head, which takes a share of the softmax but has no value (gpt-oss, after Xiao et al. 2023).
    """
    scores = query @ key.transpose(2, 3)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores + mask
    if sinks is not None:
        num_rows, num_heads, num_folded, _ = scores.shape
        by_head = sinks.to(scores.dtype).view(1, num_heads, -1, 1)
        column = by_head.repeat_interleave(num_folded // by_head.shape[2], 2)
        scores = torch.cat([scores, column.expand(num_rows, -1, -1, -1)], -1)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)[..., : key.shape[2]]
    return weights @ value


def _shared_prefix_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, num_shared: int
) -> torch.Tensor:
    """Compute attention of (R, H, G, D) scaled queries, with one product of the shared keys for all rows.

    Decoding is limited by memory bandwidth: reading 220 of 300 keys once instead of R times is most of the
    possible saving (the idea of Hydragen, Juravsky et al. 2024, section 3.1; here with one softmax over both
    parts).
    """
    num_rows, num_heads, group, head_size = query.shape
    num_own = key.shape[2] - num_shared
    by_head = query.transpose(0, 1).reshape(num_heads, num_rows * group, head_size)
    by_row = query.reshape(num_rows * num_heads, group, head_size)
    own_key = key[:, :, num_shared:].flatten(0, 1)
    own_value = value[:, :, num_shared:].flatten(0, 1)
    own_mask = mask[..., num_shared:].expand(num_rows, num_heads, 1, num_own).flatten(0, 1)
    shared_scores = torch.bmm(by_head, key[0, :, :num_shared].transpose(1, 2))
    own_scores = torch.baddbmm(own_mask, by_row, own_key.transpose(1, 2))
    scores = query.new_empty(num_rows, num_heads, group, num_shared + num_own)
    scores[..., :num_shared] = shared_scores.view(num_heads, num_rows, group, num_shared).transpose(0, 1)
    scores[..., num_shared:] = own_scores.view(num_rows, num_heads, group, num_own)
    weights = scores.softmax(-1)
    shared_weights = (
        weights[..., :num_shared].transpose(0, 1).reshape(num_heads, num_rows * group, num_shared)
    )
    shared = torch.bmm(shared_weights, value[0, :, :num_shared])
    own = torch.bmm(weights[..., num_shared:].flatten(0, 1), own_value)
    shared = shared.view(num_heads, num_rows, group, head_size).transpose(0, 1)
    return own.view(num_rows, num_heads, group, head_size) + shared
