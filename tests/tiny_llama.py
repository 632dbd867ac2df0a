"""A Llama of two small random layers over a byte tokenizer: real arithmetic, nonsense text."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tests.tiny_model import CHAT_TEMPLATE

END_OF_TEXT_ID = 256
NUM_TOKENS = 258


def build_tiny_llama(seed: int = 0) -> LlamaForCausalLM:
    """Grouped heads (4 over 2), untied output weights; scaled up so that logits are far apart."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=NUM_TOKENS,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=END_OF_TEXT_ID,
        pad_token_id=END_OF_TEXT_ID,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config)
    torch.nn.Module.eval(model)
    return model


def write_tiny_llama(folder: Path, model: PreTrainedModel | None = None) -> Path:
    """Fill the folder, which is made, with the model and its tokenizer; the folder again."""
    folder.mkdir(parents=True, exist_ok=True)
    (model or build_tiny_llama()).save_pretrained(folder)
    alphabet = sorted(ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={piece: index for index, piece in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(["<|im_end|>", "<|im_start|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})
    )
    return folder
