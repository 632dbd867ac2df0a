"""A model folder of some hundred bytes with everything that intake looks at; its weights mean nothing."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + ' ' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}"
)
WORDS = ("<|im_start|>", "<|im_end|>", "[UNK]", "system", "user", "assistant", "hello", "world")
_LAYER = "model.layers.0"
TENSORS: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (8, 4),
    "model.norm.weight": (4,),
    f"{_LAYER}.input_layernorm.weight": (4,),
    f"{_LAYER}.post_attention_layernorm.weight": (4,),
    **{f"{_LAYER}.self_attn.{part}_proj.weight": (4, 4) for part in "qkvo"},
    **{f"{_LAYER}.mlp.{part}_proj.weight": (4, 4) for part in ("gate", "up", "down")},
}
"""Of a Llama with one layer, whose output weights are those of its embedding."""
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "max_position_embeddings": 128,
    "vocab_size": 8,
    "hidden_size": 4,
    "intermediate_size": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "tie_word_embeddings": True,
    "eos_token_id": 1,
}


def write_tiny_model(folder: Path) -> Path:
    """Fill the folder, which is made; the folder again."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(safetensors_bytes(TENSORS))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})
    )
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    tokenizer = Tokenizer(
        WordLevel(vocab={word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def safetensors_bytes(tensors: dict[str, tuple[int, ...]]) -> bytes:
    """A file of fp32 zeros by the format's page, not by the library that is checked against it."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, shape in tensors.items():
        num_bytes = 4
        for size in shape:
            num_bytes *= size
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [position, position + num_bytes]}
        position += num_bytes
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(position)


def gguf_bytes(*, version: int = 3, num_tensors: int = 0, num_pairs: int = 1, name_bytes: int = 20) -> bytes:
    """A GGUF header with `general.architecture`; the arguments let it lie."""
    key = b"general.architecture"
    pair = struct.pack("<Q", name_bytes) + key + struct.pack("<IQ", 8, 5) + b"llama"
    return b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_pairs) + pair + bytes(32)
