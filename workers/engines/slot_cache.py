"""Keys and values of all slots, preallocated; a step writes its tokens in place and reads views.

Shapes: L layers, N slots, H key-value heads, T positions, D head size; a batch has R neighbouring slots of S
query columns each. DynamicCache would copy the whole cache at every step instead (half of the step's time).
"""

from __future__ import annotations

import math
import mmap

import torch

from workers.scheduler import PrefixSave, SlotMove

_READ_STEP = 32
"""Attention reads a multiple of this many positions: few distinct shapes, at most 31 masked columns."""


class SlotCache:
    """The cache that a transformers model is given as past_key_values. The engine's thread uses it.

    Position T - 1 is scratch: padding columns write there, and no query reads it.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_slots: int,
        num_heads: int,
        head_size: int,
        max_context_tokens: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (2, num_layers, num_slots, num_heads, max_context_tokens + 1, head_size)
        self._data = _zeros(shape, dtype, device)  # (2, L, N, H, T, D): keys, values
        self._scratch = max_context_tokens
        self._prefixes: dict[int, torch.Tensor] = {}
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._rows = self._positions = torch.empty(0)

    def begin(self, first_slot: int, positions: torch.Tensor, group: int) -> torch.Tensor:
        """Set the batch of the next forward pass and return its mask.

        positions: (R, S) int64, where each column's key and value go; -1 marks padding. The mask is to be
        added to the scores, (R, 1, G * S, K) for G query heads a group and K positions read, (R, 1, 1, K)
        if S is 1; each query sees up to its own position.
        """
        num_rows = positions.shape[0]
        longest = int(positions.max()) + 1
        num_read = min(-(-longest // _READ_STEP) * _READ_STEP, self._scratch)
        self._rows = torch.arange(num_rows, device=positions.device)[:, None]
        self._positions = torch.where(positions < 0, self._scratch, positions)
        view = self._data[:, :, first_slot : first_slot + num_rows]
        self._layers = list(zip(view[0].unbind(0), view[1].unbind(0), strict=True))
        self._num_read = num_read
        columns = torch.arange(num_read, device=positions.device)
        # A padding query sees position 0, not nothing: softmax over nothing is NaN.
        hidden = columns > positions.clamp(min=0)[:, None, :, None]  # (R, 1, S, K)
        if positions.shape[1] > 1:
            hidden = hidden.repeat(1, 1, group, 1)
        return torch.zeros_like(hidden, dtype=self._data.dtype).masked_fill_(hidden, float("-inf"))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write (R, H, S, D) keys and values in place; returns (R, H, K, D) views of what attention reads."""
        keys, values = self._layers[layer_idx]
        keys[self._rows, :, self._positions] = key_states.transpose(1, 2)
        values[self._rows, :, self._positions] = value_states.transpose(1, 2)
        return keys[:, :, : self._num_read], values[:, :, : self._num_read]

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002  transformers' cache interface
        """Models ask this only where no position ids are given; the engine always gives them."""
        return 0

    def move(self, move: SlotMove) -> None:
        """Copy the beginning of a slot to another."""
        self._data[:, :, move.target, :, : move.num_tokens] = self._data[
            :, :, move.source, :, : move.num_tokens
        ]

    def clear(self, slot: int) -> None:
        """Zero a slot: a masked NaN is still NaN times zero for the next row that reads past its own end."""
        self._data[:, :, slot].zero_()

    def save_prefix(self, save: PrefixSave) -> None:
        """Keep a copy of a slot's beginning."""
        self._prefixes[save.key] = self._data[:, :, save.slot, :, : save.num_tokens].clone()

    def load_prefix(self, key: int, slot: int, num_tokens: int) -> None:
        """Copy the first num_tokens of a kept prefix into a slot."""
        self._data[:, :, slot, :, :num_tokens] = self._prefixes[key][:, :, :, :num_tokens]

    def drop_prefix(self, key: int) -> None:
        """Release a kept prefix."""
        self._prefixes.pop(key, None)

    def drop_prefixes(self) -> None:
        """Release all kept prefixes."""
        self._prefixes.clear()


def slot_bytes(
    *, num_layers: int, num_heads: int, head_size: int, max_context_tokens: int, dtype: torch.dtype
) -> int:
    """Memory of one slot."""
    return 2 * num_layers * num_heads * head_size * (max_context_tokens + 1) * dtype.itemsize


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros; on a CPU in pages that the kernel gives when they are first written.

    Most requests are far shorter than the context: memory then follows what is used. torch.zeros would write
    every page.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    num_bytes = math.prod(shape) * dtype.itemsize
    pages = mmap.mmap(-1, num_bytes)
    return torch.frombuffer(pages, dtype=dtype).view(shape)
