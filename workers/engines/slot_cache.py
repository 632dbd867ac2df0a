"""The preallocated keys and values of all slots; a step writes its tokens in place and reads views.

Shapes: N slots, H key-value heads, T positions, D head size; a batch has R adjacent slots of S query columns
each. transformers' DynamicCache would instead copy the whole cache at every step, which takes half of the
step's time.
"""

from __future__ import annotations

import contextlib
import math
import mmap
from dataclasses import dataclass

import torch

from workers.scheduler import PrefixSave, SlotMove

_READ_STEP = 32
"""Attention reads a multiple of this many positions, so that there are few distinct shapes and at most 31
masked columns."""
_GROW_STEP = 256
"""Number of positions by which a CPU's cache grows when a row needs more. The cache starts small, because
most contexts are never filled."""


@dataclass(frozen=True, slots=True)
class CacheShape:
    """The dimensions of the cache that a model requires."""

    num_layers: int
    num_heads: int
    """Number of key-value heads."""
    head_size: int
    max_context_tokens: int
    dtype: torch.dtype

    @property
    def slot_bytes(self) -> int:
        """Return the memory of one slot with a full context."""
        head_bytes = self.head_size * (self.max_context_tokens + 1) * self.dtype.itemsize
        return 2 * self.num_layers * self.num_heads * head_bytes


class SlotCache:
    """The cache that a transformers model receives as past_key_values. Used by the engine's thread.

    The last position is scratch: padding columns write there, and no query reads it.
    """

    def __init__(self, shape: CacheShape, num_slots: int, device: torch.device) -> None:
        self._max_positions = shape.max_context_tokens + 1
        self._dtype, self._device = shape.dtype, device
        # A CPU's cache grows; a GPU's is allocated in full now, so that it cannot run out of memory later.
        first = _GROW_STEP if device.type == "cpu" else self._max_positions
        self._num_positions = min(first, self._max_positions)
        size = (2, num_slots, shape.num_heads, self._num_positions, shape.head_size)  # keys, values
        self._layers = [_zeros(size, shape.dtype, device) for _ in range(shape.num_layers)]
        self._prefixes: dict[int, list[torch.Tensor]] = {}
        self._views: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._rows = self._positions = torch.empty(0)
        self._num_read = 0

    def begin(self, first_slot: int, positions: torch.Tensor, group: int) -> torch.Tensor:
        """Set the batch of the next forward pass and return its mask.

        positions (R, S), int64, contains the position to which each column's key and value are written; -1
        marks padding. The mask is to be added to the scores: (R, 1, G * S, K) for G query heads per group and
        K positions read, or (R, 1, 1, K) if S is 1. Each query sees up to its own position. Raises
        MemoryError if the cache cannot grow.
        """
        num_rows, num_columns = positions.shape
        longest = int(positions.max()) + 1
        self._grow(longest + 1)
        scratch = self._num_positions - 1
        self._num_read = min(-(-longest // _READ_STEP) * _READ_STEP, scratch)
        self._rows = torch.arange(num_rows, device=self._device)[:, None]
        self._positions = torch.where(positions < 0, scratch, positions)
        batch = slice(first_slot, first_slot + num_rows)
        self._views = [(layer[0, batch], layer[1, batch]) for layer in self._layers]
        columns = torch.arange(self._num_read, device=self._device)
        # A padding query sees position 0 rather than nothing, because softmax over nothing is NaN.
        hidden = columns > positions.clamp(min=0)[:, None, :, None]  # (R, 1, S, K)
        if num_columns > 1:
            hidden = hidden.repeat(1, 1, group, 1)
        return torch.zeros_like(hidden, dtype=self._dtype).masked_fill_(hidden, float("-inf"))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write (R, H, S, D) keys and values in place; return (R, H, K, D) views of what attention reads."""
        keys, values = self._views[layer_idx]
        keys[self._rows, :, self._positions] = key_states.transpose(1, 2)
        values[self._rows, :, self._positions] = value_states.transpose(1, 2)
        return keys[:, :, : self._num_read], values[:, :, : self._num_read]

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002  transformers' cache interface
        """Return 0. Models only need this if they get no position ids, which the engine always passes."""
        return 0

    def move(self, move: SlotMove) -> None:
        """Copy the first `move.num_tokens` of a slot to another slot."""
        for layer in self._layers:
            layer[:, move.target, :, : move.num_tokens] = layer[:, move.source, :, : move.num_tokens]

    def clear(self, slot: int) -> None:
        """Fill a slot with zeros, because even a masked NaN would affect the next row: 0 * NaN is NaN."""
        for layer in self._layers:
            layer[:, slot].zero_()

    def save_prefix(self, save: PrefixSave) -> None:
        """Keep a copy of the first `save.num_tokens` of a slot as a prefix."""
        self._prefixes[save.key] = [
            layer[:, save.slot, :, : save.num_tokens].clone() for layer in self._layers
        ]

    def load_prefix(self, key: int, slot: int, num_tokens: int) -> None:
        """Copy the first num_tokens of a kept prefix into a slot.

        Raises MemoryError if the cache cannot grow.
        """
        self._grow(num_tokens + 1)
        for layer, prefix in zip(self._layers, self._prefixes[key], strict=True):
            layer[:, slot, :, :num_tokens] = prefix[:, :, :num_tokens]

    def drop_prefix(self, key: int) -> None:
        """Release a kept prefix."""
        self._prefixes.pop(key, None)

    def _grow(self, num_positions: int) -> None:
        """Make room for this many positions, including the scratch position, one layer after the other."""
        if num_positions <= self._num_positions:
            return
        wanted = min(-(-num_positions // _GROW_STEP) * _GROW_STEP, self._max_positions)
        for index, layer in enumerate(self._layers):
            if layer.shape[3] < wanted:
                grown = _zeros((*layer.shape[:3], wanted, layer.shape[4]), self._dtype, self._device)
                grown[:, :, :, : layer.shape[3]] = layer
                self._layers[index] = grown
        self._num_positions = wanted


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return zeros; on a CPU in huge pages if the kernel supports them.

    Decoding streams the whole cache once per step: with pages of 4 KiB, attention took four times longer.
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    try:
        pages = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    except OSError as error:
        raise MemoryError(f"not enough memory for a key-value cache of shape {shape}") from error
    with contextlib.suppress(OSError, AttributeError):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=dtype).view(shape)
