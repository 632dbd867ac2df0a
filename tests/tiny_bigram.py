"""A model that always writes the same words: each token has one successor, by the weights of a Llama."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM

END = "<|im_end|>"
TEMPLATE = "{% for message in messages %}<|im_start|> {{ message.content }} <|im_end|> {% endfor %}assistant"


def write_bigram_model(
    folder: Path, words: Sequence[str], *, template: str = TEMPLATE, special: Sequence[str] = ()
) -> Path:
    """Fill the folder, which is made, with a model that goes on from each word to the next, then ends.

    The words differ from each other, and the template ends with the first. Those in `special` are special
    tokens. The folder again.
    """
    vocabulary = ["[UNK]", "<|im_start|>", END, *words]
    vocabulary += [f"[{number}]" for number in range(-len(vocabulary) % 4)]
    num_tokens = len(vocabulary)
    config = LlamaConfig(
        vocab_size=num_tokens,
        hidden_size=num_tokens,
        intermediate_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(num_tokens))
        model.lm_head.weight.zero_()
        for place in range(3, 3 + len(words)):
            is_last = place == 2 + len(words)
            model.lm_head.weight[2 if is_last else place + 1, place] = 30.0
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(
        WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in ("<|im_start|>", END, *special)])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(template)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END}))
    return folder
