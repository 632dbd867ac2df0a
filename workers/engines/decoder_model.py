"""Checks whether the slot engine can compute a transformers decoder, and prepares it for slots.

The configuration is checked first, before any weight is read. Then probes of one and two tokens show what the
model really requires of its cache and its attention, because configurations may contain values that no layer
reads.

If the frequencies of rotary positions depend on the length of a text, they are chosen for each row of a
batch. LongRoPE (Ding et al. 2024) has one set of factors for texts up to the length of the model's
pretraining and one for longer texts. transformers uses the longest position of the whole batch, so a short
text gets different tokens when it is batched with a long one. Here each row gets the same frequencies as when
it is computed alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from workers.engine import ModelUnsupportedError
from workers.engines.attention import register_attention, slot_attention
from workers.engines.packed_linear import pack_linears
from workers.engines.slot_cache import CacheShape

ENGINE_NAME = "transformers"
_PROBE_NAME = "pressroom_probe"
_WINDOWED = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
"""Layer types that see only a part of the text, and the setting that contains the size of that part."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """A model that the slot engine can run."""

    model: PreTrainedModel
    shape: CacheShape
    group: int
    """Number of query heads per key-value head."""
    rotaries: LengthRotaries


def check_settings(config: PretrainedConfig, max_context_tokens: int) -> None:
    """Refuse models that the slot cache would compute wrongly. Raises ModelUnsupportedError."""
    max_tokens = context_tokens(config, max_context_tokens)
    layer_types = set(getattr(config, "layer_types", None) or ())
    strange = sorted(layer_types - {"full_attention"} - _WINDOWED.keys())
    chunk = getattr(config, "attention_chunk_size", None)
    problems = [
        problem
        for is_so, problem in (
            (
                type(config) not in AutoModelForCausalLM._model_mapping,
                "transformers has no text-only language model for it",
            ),
            (config.is_encoder_decoder, "it is an encoder with a decoder"),
            (
                bool(strange),
                f"it has layers of the type {', '.join(strange)} in addition to or instead of attention",
            ),
            (
                "chunked_attention" in layer_types and chunk is not None and chunk < max_tokens,
                f"it attends in chunks of {chunk} tokens",
            ),
            (getattr(config, "use_bidirectional_attention", False) is True, "its attention is not causal"),
            (getattr(config, "alibi", False) is True, "it has linear position biases (ALiBi)"),
        )
        if is_so
    ]
    if problems:
        raise unsupported(config, " and ".join(problems))


def threshold_lengths(config: PretrainedConfig) -> list[int]:
    """Return the text lengths at which the model's computation changes: sliding windows, LongRoPE factors."""
    windows = (getattr(config, name, None) for name in _WINDOWED.values())
    return [length for length in (*windows, threshold(config)) if isinstance(length, int) and length > 0]


def context_tokens(config: PretrainedConfig, max_context_tokens: int) -> int:
    """Return the context's size in tokens: the engine's limit, or the model's own if that is smaller."""
    own = getattr(config, "max_position_embeddings", None)
    return min(max_context_tokens, own) if isinstance(own, int) and own > 0 else max_context_tokens


def prepare(model: PreTrainedModel, max_context_tokens: int, dtype: torch.dtype, *, pack: bool) -> Decoder:
    """Prepare a loaded model to compute in slots; `pack` stores its weights in the CPU's packed layout.

    Raises ModelUnsupportedError if a probe shows that the model cannot be used.
    """
    config = model.config
    if model._is_stateful:
        raise unsupported(config, "it keeps a recurrent state instead of keys and values")
    if not model._can_set_attn_implementation():
        raise unsupported(config, "it computes attention with its own code, which cannot read the slots")
    max_tokens = context_tokens(config, max_context_tokens)
    probe = _Probe()
    ALL_ATTENTION_FUNCTIONS.register(_PROBE_NAME, probe.attend)
    try:
        rotaries = LengthRotaries(model, max_tokens)
        if pack:
            pack_linears(model)
        model.set_attn_implementation(_PROBE_NAME)
        _forward(model, rotaries, probe, torch.zeros(1, 1, 1, 1))
        _check_windows(config, probe, max_tokens)
        num_query_heads, num_heads, head_size = _sizes(config, probe)
        group = num_query_heads // num_heads
        model.set_attn_implementation(register_attention())
        # This probe has two tokens, because a model that reads the mask itself does not expect the heads of a
        # group in the mask's rows, and fails.
        hidden = torch.tensor([[False, True], [False, False]]).repeat(group, 1)[None, None]
        _forward(model, rotaries, _Probe(), torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf")))
    except (ModelUnsupportedError, MemoryError):
        raise
    except Exception as error:  # any type: the architecture's own code raises it
        raise unsupported(
            config, f"a probe of two tokens failed ({type(error).__name__}: {error})"
        ) from error
    shape = CacheShape(
        num_layers=len(probe.kept),
        num_heads=num_heads,
        head_size=head_size,
        max_context_tokens=max_tokens,
        dtype=dtype,
    )
    return Decoder(model, shape, group, rotaries)


def unsupported(config: PretrainedConfig, reason: str) -> ModelUnsupportedError:
    """Return the error for an architecture that this engine cannot run."""
    architectures = getattr(config, "architectures", None) or [config.model_type]
    return ModelUnsupportedError(str(architectures[0]), ENGINE_NAME, reason)


@dataclass(slots=True)
class _Probe:
    """A stand-in for the cache and the attention, which records what each layer passes to them."""

    kept: dict[int, tuple[torch.Size, torch.Size]] = field(default_factory=dict)
    """Shapes of the keys and values that each layer writes into its cache."""
    attended: list[tuple[int, int | None]] = field(default_factory=list)
    """Query heads and sliding window of each call to the attention function."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if layer_idx in self.kept:
            raise NotImplementedError(f"layer {layer_idx} updates its keys twice")
        self.kept[layer_idx] = (key_states.shape, value_states.shape)
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002  transformers' cache interface
        return 0

    def attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        sliding_window: int | None = None,
        **others: Any,
    ) -> tuple[torch.Tensor, None]:
        self.attended.append((query.shape[1], sliding_window))
        return slot_attention(module, query, key, value, attention_mask, **others)


def _forward(model: PreTrainedModel, rotaries: LengthRotaries, probe: _Probe, mask: torch.Tensor) -> None:
    """Run the model on a placeholder text with one token per column of the mask (1, 1, G * S, S)."""
    positions = torch.arange(mask.shape[-1], device=model.device)[None]
    rotaries.begin([mask.shape[-1]], model.device)
    with torch.no_grad():
        model(
            input_ids=torch.zeros_like(positions),
            attention_mask=mask.to(model.device, model.dtype),
            position_ids=positions,
            past_key_values=probe,
            use_cache=True,
            logits_to_keep=1,
        )


def _check_windows(config: PretrainedConfig, probe: _Probe, max_tokens: int) -> None:
    """Raise ModelUnsupportedError unless exactly the windowed layers passed a window to their attention."""
    window = getattr(config, "sliding_window", None)
    if window is None or window >= max_tokens:
        return
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        is_windowed = [getattr(config, "use_sliding_window", True) is not False] * len(probe.attended)
    else:
        is_windowed = [attention == "sliding_attention" for attention in kinds]
    if is_windowed != [seen is not None for _, seen in probe.attended]:
        raise unsupported(
            config,
            f"its configuration does not specify which layers have the sliding window of {window} tokens",
        )


def _sizes(config: PretrainedConfig, probe: _Probe) -> tuple[int, int, int]:
    """Return the numbers of query and key-value heads and the head size, which all layers must share."""
    if not probe.kept or len(probe.kept) != len(probe.attended) or max(probe.kept) >= len(probe.kept):
        raise unsupported(config, "some layers do not keep their own keys, or do not attend to them")
    sizes = {
        (num_queries, *shape[1::2])
        for (num_queries, _), shapes in zip(probe.attended, probe.kept.values(), strict=True)
        for shape in shapes
    }
    if len(sizes) > 1:
        raise unsupported(config, "its keys and values, or those of its layers, have different sizes")
    (size,) = sizes
    return size


_RECOMPUTING = frozenset({"phi3", "phimoe"})
"""Model types whose generate() recomputes all keys when a text grows past the threshold
(`prepare_inputs_for_generation`); all others keep the keys computed so far."""


class LengthRotary(torch.nn.Module):
    """A wrapper of a model's rotary embedding that calls it separately for short and for long texts."""

    def __init__(self, rotary: torch.nn.Module, threshold: int) -> None:
        super().__init__()
        self._rotary = rotary
        self._threshold = threshold
        self.is_long = torch.zeros(0, dtype=torch.bool)
        """For each row of the next forward pass, whether its text is longer than the threshold."""

    def forward(
        self, x: torch.Tensor, position_ids: torch.Tensor, **options: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines, (R, S, D) each, for positions (R, S)."""
        is_long = self.is_long
        if not bool(is_long.any()):
            return self._rotary(x, position_ids, **options)  # type: ignore[no-any-return]
        # The embedding compares the largest position with the threshold, so an added column makes it choose
        # the factors for long texts.
        decisive = position_ids.new_full((len(position_ids), 1), self._threshold)
        long = self._rotary(x, torch.cat([position_ids, decisive], 1), **options)
        if bool(is_long.all()):
            return long[0][:, :-1], long[1][:, :-1]
        # Here no position may reach the threshold, so the positions of long rows are replaced by 0.
        short = self._rotary(x, position_ids.masked_fill(is_long[:, None], 0), **options)
        rows = is_long[:, None, None]
        return (
            torch.where(rows, long[0][:, :-1], short[0]),
            torch.where(rows, long[1][:, :-1], short[1]),
        )


class LengthRotaries:
    """The rotary embeddings in a model that choose their frequencies by the length of the text."""

    def __init__(self, model: PreTrainedModel, max_context_tokens: int) -> None:
        """Replace the embeddings in the model if texts in this context can be longer than the threshold."""
        self._threshold = threshold(model.config)
        self._rotaries: list[LengthRotary] = []
        self._recomputes = model.config.model_type in _RECOMPUTING
        if self._threshold is None or self._threshold >= max_context_tokens:
            return
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if hasattr(child, "rope_type"):
                    rotary = LengthRotary(child, self._threshold)
                    self._rotaries.append(rotary)
                    setattr(parent, name, rotary)

    def __bool__(self) -> bool:
        """Return whether the keys of a text depend on its length."""
        return bool(self._rotaries)

    def begin(self, num_tokens: list[int], device: torch.device) -> None:
        """Set the lengths of the texts of the next forward pass, one per row."""
        if self._rotaries and self._threshold is not None:
            is_long = torch.tensor(num_tokens, device=device) > self._threshold
            for rotary in self._rotaries:
                rotary.is_long = is_long

    def is_crossing(self, num_prompt_tokens: int, num_tokens: int) -> bool:
        """Return whether a text has just passed the threshold, in which case its keys must be recomputed."""
        if not self._rotaries or self._threshold is None or not self._recomputes:
            return False
        return num_prompt_tokens <= self._threshold == num_tokens - 1


def threshold(config: PretrainedConfig) -> int | None:
    """Return the length up to which a LongRoPE model uses its short factors; None for any other model."""
    parameters = getattr(config, "rope_parameters", None) or {}
    # Models with several layer types keep separate parameters for each type.
    kinds = [each for each in parameters.values() if isinstance(each, dict)] or [parameters]
    thresholds = [
        int(each["original_max_position_embeddings"]) for each in kinds if each.get("rope_type") == "longrope"
    ]
    return min(thresholds, default=None)
