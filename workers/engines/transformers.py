"""The default engine: continuous batching over any transformers decoder that keeps keys and values.

The computation is the model's own forward(). This project provides the slot cache that it receives, the
attention function that it calls, the layout of its weights on a CPU, and the batching.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

from workers.engine import Engine, EngineInfo, EngineOptions, Tokenizer
from workers.engines.batching import BatchingEngine, NextToken
from workers.engines.decoder_model import ENGINE_NAME, check_settings, prepare
from workers.engines.loading import (
    dtype_name,
    load_config,
    load_model,
    memory_errors,
    num_embeddings,
    open_device,
    release_memory,
)
from workers.engines.packed_linear import can_pack
from workers.engines.sampling import Sampler
from workers.engines.slot_cache import SlotCache
from workers.models.reading import ModelFiles
from workers.prefix import common_prefix_length
from workers.scheduler import Generation, PrefillRow, PrefixSave, SlotMove

_CPU_SLOTS = 48
"""Default number of slots on a CPU. Measured on two cores, 48 rows decode 1.3 times as many tokens per second
as 16; more rows gain little."""
_MAX_GPU_SLOTS = 256
"""Upper limit of the default number of slots on a GPU. With more, the interpreter's work per row would be a
large part of a step."""
_GPU_CACHE_SHARE = 0.7
"""Share of the memory left after loading the weights that is used for the cache; the rest is for activations
and kept prefixes."""
_MIN_SHARED_ROWS, _MIN_SHARED_TOKENS = 4, 64
"""Minimum rows and tokens for reading a shared prefix once. Fewer are faster to read separately (measured).
"""
_CPU_PREFILL_TOKENS = 1024
_GPU_PREFILL_TOKENS = 8192


def open_engine(model_folder: Path, tokenizer: Tokenizer, options: EngineOptions) -> Engine:
    """Load a model from a local folder and start its engine. Raises ConfigurationError.

    Sets the process's thread count if the options specify one, and silences transformers' progress bars.
    """
    executor = TransformersExecutor(model_folder, options)
    return BatchingEngine(executor, tokenizer, replace(options, max_prefix_tokens=executor.max_prefix_tokens))


class TransformersExecutor:
    """Implements workers.engines.batching.Executor with a transformers model."""

    def __init__(self, model_folder: Path, options: EngineOptions) -> None:
        self._device = open_device(options)
        is_cpu = self._device.type == "cpu"
        name = dtype_name(options, self._device)
        dtype: torch.dtype = getattr(torch, name)
        files = ModelFiles(model_folder, options.digests)
        self._model = _load(files, dtype, self._device, options.max_context_tokens)
        self._num_tokens = num_embeddings(self._model)
        is_packed = is_cpu and dtype == torch.float32 and can_pack()
        decoder = prepare(self._model, options.max_context_tokens, dtype, pack=is_packed)
        shape, self._group, self._rotaries = decoder.shape, decoder.group, decoder.rotaries
        self._max_prefix_tokens = 0 if self._rotaries else options.max_prefix_tokens
        # In half precision, one softmax over both parts would lose precision that the fused kernel keeps.
        self._reads_shared = self._max_prefix_tokens > 0 and dtype == torch.float32
        num_slots = options.num_slots or _default_slots(self._device, shape.slot_bytes)
        # There is one slot more than the scheduler has, for staging prompts that are longer than a step.
        self._cache = SlotCache(shape, num_slots + 1, self._device)
        self._sampler = Sampler(
            num_slots=num_slots + 1, max_context_tokens=shape.max_context_tokens, device=self._device
        )
        default_prefill_tokens = _CPU_PREFILL_TOKENS if is_cpu else _GPU_PREFILL_TOKENS
        self._max_prefill_tokens = options.max_prefill_tokens or default_prefill_tokens
        self._info = EngineInfo(
            name=ENGINE_NAME,
            versions=(("torch", torch.__version__), ("transformers", transformers.__version__)),
            dtype=name,
            device=options.device,
            attention="sdpa over slots, grouped heads folded" + (", packed weights" if is_packed else ""),
            num_slots=num_slots,
            max_context_tokens=shape.max_context_tokens,
        )

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def num_tokens(self) -> int:
        return self._num_tokens

    @property
    def max_prefill_tokens(self) -> int:
        return self._max_prefill_tokens

    @property
    def max_prefix_tokens(self) -> int:
        """Maximum tokens of kept prefixes; 0 if keys depend on the length of the whole text."""
        return self._max_prefix_tokens

    def prefill(self, rows: Sequence[PrefillRow]) -> list[NextToken]:
        for row in rows:
            if row.prefix_key is not None:
                self._cache.load_prefix(row.prefix_key, row.slot, row.start)
            self._sampler.begin(row.generation, row.slot)
        longest = max(row.stop - row.start for row in rows)
        # Rows end in the same column, so that the model computes only the logits of the last column.
        token_ids, positions = [], []
        for row in rows:
            padding = longest - (row.stop - row.start)
            token_ids.append([0] * padding + list(row.generation.prompt_ids[row.start : row.stop]))
            positions.append([-1] * padding + list(range(row.start, row.stop)))
        self._rotaries.begin([len(row.generation.prompt_ids) for row in rows], self._device)
        return self._compute(token_ids, positions, rows[0].slot, [row.generation for row in rows], 0)

    def decode(self, rows: Sequence[Generation]) -> list[NextToken]:
        token_ids = [[row.output_ids[-1]] for row in rows]
        positions = [[row.num_tokens - 1] for row in rows]
        for row in rows:
            if self._rotaries.is_crossing(len(row.prompt_ids), row.num_tokens):
                self._recompute(row)
        self._rotaries.begin([row.num_tokens for row in rows], self._device)
        return self._compute(token_ids, positions, rows[0].slot, rows, self._num_shared(rows))

    def _num_shared(self, rows: Sequence[Generation]) -> int:
        """Return how many leading prompt tokens all rows share, or 0 if reading them once saves no time."""
        if not self._reads_shared or len(rows) < _MIN_SHARED_ROWS:
            return 0
        first = rows[0].prompt_ids
        num_shared = len(first)
        for row in rows:
            if row.prompt_ids[:num_shared] != first[:num_shared]:
                num_shared = common_prefix_length(row.prompt_ids, first[:num_shared])
        return num_shared if num_shared >= _MIN_SHARED_TOKENS else 0

    def move(self, move: SlotMove) -> None:
        self._cache.move(move)
        self._sampler.move(move.source, move.target)

    def clear(self, slot: int) -> None:
        self._cache.clear(slot)

    def save_prefix(self, save: PrefixSave) -> None:
        self._cache.save_prefix(save)

    def drop_prefix(self, key: int) -> None:
        self._cache.drop_prefix(key)

    def close(self) -> None:
        del self._model, self._cache, self._sampler
        release_memory(self._device)

    def _recompute(self, row: Generation) -> None:
        """Recompute a row's keys, except the last token's, because its text has just passed the threshold."""
        token_ids = [*row.prompt_ids, *row.output_ids[:-1]]
        self._rotaries.begin([row.num_tokens], self._device)
        with memory_errors(self._device), torch.no_grad():
            for start in range(0, len(token_ids), self._max_prefill_tokens):
                part = token_ids[start : start + self._max_prefill_tokens]
                self._forward([part], [list(range(start, start + len(part)))], row.slot, 0)

    def _compute(
        self,
        token_ids: list[list[int]],
        positions: list[list[int]],
        first_slot: int,
        generations: Sequence[Generation],
        num_shared_tokens: int,
    ) -> list[NextToken]:
        """Run a forward pass over (R, S) tokens of adjacent slots, and return the next token of each row."""
        # Not inference_mode: a cache that grew in that mode could not be written outside of it.
        with memory_errors(self._device), torch.no_grad():
            logits = self._forward(token_ids, positions, first_slot, num_shared_tokens)
            return self._sampler.choose(logits, first_slot, generations)

    def _forward(
        self, token_ids: list[list[int]], positions: list[list[int]], first_slot: int, num_shared_tokens: int
    ) -> torch.Tensor:
        """Return the logits (R, V) of the last column."""
        where = torch.tensor(positions, device=self._device)
        mask = self._cache.begin(first_slot, where, self._group)
        logits: torch.Tensor = self._model(
            input_ids=torch.tensor(token_ids, device=self._device),
            attention_mask=mask,
            position_ids=where.clamp(min=0),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
            num_shared_tokens=num_shared_tokens,
        ).logits
        return logits[:, -1]


def _load(
    files: ModelFiles, dtype: torch.dtype, device: torch.device, max_context_tokens: int
) -> PreTrainedModel:
    """Load the model from a local folder's safetensors; no code from the folder is run and no hub is used."""
    config = load_config(files)
    check_settings(config, max_context_tokens)
    model = load_model(files, AutoModelForCausalLM, config, dtype=dtype)
    torch.nn.Module.to(model, device)  # through the base class: transformers' own wrapper is untyped
    return model


def _default_slots(device: torch.device, num_bytes: int) -> int:
    if device.type == "cpu":
        return _CPU_SLOTS
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return max(1, min(_MAX_GPU_SLOTS, int(free_bytes * _GPU_CACHE_SHARE) // num_bytes - 1))
