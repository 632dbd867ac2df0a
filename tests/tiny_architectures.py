"""Tiny random models of many architectures, scaled up so that their logits are far apart.

Windows have 16 tokens and LongRoPE changes its factors at 64, in a context of 512.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from tests.tiny_llama import END_OF_TEXT_ID, NUM_TOKENS

WINDOW = 16
THRESHOLD = 64
_SIZES = {
    "vocab_size": NUM_TOKENS,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": END_OF_TEXT_ID,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
    "initializer_range": 0.3,
}
_GPT = {"vocab_size": NUM_TOKENS, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.1 * n for n in range(8)],
    "long_factor": [2.0 + 3 * n for n in range(8)],
    "original_max_position_embeddings": THRESHOLD,
}


def _rope(kind: str, **settings: float) -> dict[str, Any]:
    scaling = {"rope_type": kind, "rope_theta": 10000.0, "factor": 8.0, **settings}
    return {"rope_parameters": scaling}


SUPPORTED: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, dynamic rope": ("Llama", _rope("dynamic")),
    "llama, yarn": ("Llama", _rope("yarn", original_max_position_embeddings=THRESHOLD)),
    "llama, llama3 rope": (
        "Llama",
        _rope(
            "llama3",
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=THRESHOLD,
        ),
    ),
    "llama, longrope": ("Llama", {"rope_parameters": _LONGROPE}),
    "phi3, longrope": (
        "Phi3",
        {"rope_parameters": _LONGROPE, "original_max_position_embeddings": THRESHOLD},
    ),
    "phi3, window": ("Phi3", {"sliding_window": WINDOW}),
    "mistral, window": ("Mistral", {"sliding_window": WINDOW}),
    "mistral, window wider than the context": ("Mistral", {"sliding_window": 4096}),
    "qwen2, window in some layers": (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1},
    ),
    "gemma2, capped scores": ("Gemma2", {"head_dim": 16, "sliding_window": WINDOW}),
    "gpt-oss, sinks": ("GptOss", {"head_dim": 16, "sliding_window": WINDOW, **_EXPERTS}),
    "mixtral, experts": ("Mixtral", {"sliding_window": None, **_EXPERTS}),
    "gpt-neox, partial rotary": ("GPTNeoX", {"num_key_value_heads": None}),
    "cohere2": ("Cohere2", {"sliding_window": WINDOW}),
    "gpt2, learned positions": ("GPT2", _GPT),
}
"""Those that the slot engine runs; each with the name of its settings in transformers and what is special."""

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "falcon": ("Falcon", {"num_kv_heads": 4}, "FalconForCausalLM: .*attention with its own code"),
    "falcon, alibi": ("Falcon", {"alibi": True}, "FalconForCausalLM: .*ALiBi"),
    "bloom": ("Bloom", {"n_head": 4, "n_layer": 2}, "BloomForCausalLM: .*attention with its own code"),
    "mamba": ("Mamba", {}, "MambaForCausalLM: .*linear_attention"),
    "jamba": (
        "Jamba",
        {"num_experts": 2, "use_mamba_kernels": False},
        "JambaForCausalLM: .*linear_attention",
    ),
    "deepseek": (
        "DeepseekV2",
        {"kv_lora_rank": 16, "q_lora_rank": None, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8}
        | {"v_head_dim": 16, "num_key_value_heads": 4, "n_routed_experts": 4, "first_k_dense_replace": 2},
        "DeepseekV2ForCausalLM: .*different sizes",
    ),
    "jetmoe": ("JetMoe", {"kv_channels": 16, **_EXPERTS}, "JetMoeForCausalLM: a probe of two tokens failed"),
    "llama4, chunks": (
        "Llama4Text",
        {"head_dim": 16, "intermediate_size_mlp": 96, "attention_chunk_size": WINDOW, **_EXPERTS},
        "Llama4ForCausalLM: .*chunks of 16",
    ),
    "t5": ("T5", {"d_model": 64, "num_heads": 4}, "T5ForConditionalGeneration: .*encoder with a decoder"),
}
"""Those that it refuses, with what the message must say."""


def build(name: str, changes: dict[str, Any], seed: int = 0) -> PreTrainedModel:
    """A random model of the architecture whose settings are `NAMEConfig` in transformers."""
    torch.manual_seed(seed)
    config = getattr(transformers, f"{name}Config")(**_SIZES | changes)
    auto: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model: PreTrainedModel = auto.from_config(config)
    torch.nn.Module.eval(model)
    return model
