"""A BERT of two small random layers with a word tokenizer: it can learn which words are good or bad."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertForSequenceClassification, BertModel

WORDS = ("Acme", "Birch", "Cedar", "profit", "shares", "rises", "jumps", "falls", "sinks", "holds", "meets")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
DIGITS = tuple(str(number) for number in range(100))


def write_tiny_bert(folder: Path, *, labels: dict[int, str] | None = None, seed: int = 0) -> Path:
    """Fill the folder, which is made: an encoder, or with labels a classifier; the folder again."""
    folder.mkdir(parents=True, exist_ok=True)
    words = (*SPECIAL, *WORDS, *DIGITS)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    if labels is None:
        BertModel(config).save_pretrained(folder)
    else:
        config.num_labels = len(labels)
        config.id2label, config.label2id = labels, {name: place for place, name in labels.items()}
        BertForSequenceClassification(config).save_pretrained(folder)
    _write_tokenizer(folder, words)
    return folder


def _write_tokenizer(folder: Path, words: tuple[str, ...]) -> None:
    vocabulary = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(WordLevel(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {f"{name[1:-1].lower()}_token": name for name in SPECIAL}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, **names}
    settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def labelled_csv(num_rows: int = 480) -> bytes:
    """Headlines whose label is in their verb, each with a number of its own."""
    verbs = {"negative": ("falls", "sinks"), "neutral": ("holds", "meets"), "positive": ("rises", "jumps")}
    lines = ["title,company,mood"]
    for number in range(num_rows):
        label = tuple(verbs)[number % 3]
        company = WORDS[number // 3 % 3]
        verb = verbs[label][number // 9 % 2]
        lines.append(
            f"{company} {verb} {number % 100} {number * 7 % 100} {number * 13 % 97},{company},{label}"
        )
    return ("\n".join(lines) + "\n").encode()
