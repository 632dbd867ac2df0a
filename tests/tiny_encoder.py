"""Encoders of two small random layers over a byte tokenizer, and folders of scripted ones without weights."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing

from tests.tiny_model import safetensors_bytes
from workers.engine import EncoderTask
from workers.models.classifier import CLASSIFIER
from workers.models.files import MANIFEST
from workers.models.manifest import Manifest, Trial, file_entry, weights_digest

NUM_TOKENS = 260
MAX_TOKENS = 96
MAX_POSITIONS = 128

_SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
_ARCHITECTURES = {"classify": "BertForSequenceClassification", "embed": "BertModel"}


def byte_tokenizer() -> Tokenizer:
    """A token for each byte behind four special ones; pairs as BERT has them."""
    pieces = (*_SPECIAL, *sorted(ByteLevel.alphabet()))
    tokenizer = Tokenizer(BPE(vocab={piece: place for place, piece in enumerate(pieces)}, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return tokenizer


def write_scripted_encoder(
    folder: Path, task: EncoderTask = "classify", *, max_tokens: int = MAX_TOKENS
) -> Path:
    """A folder that installs and verifies, with weights that mean nothing: for the scripted encoder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(safetensors_bytes({"embed": (NUM_TOKENS, 4)}))
    positions = max(max_tokens, MAX_POSITIONS)
    config = {"model_type": "bert", "max_position_embeddings": positions, "pad_token_id": 0}
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [_ARCHITECTURES[task]]}))
    _write_rest(folder, task, max_tokens)
    return folder


def write_tiny_bert(folder: Path, task: EncoderTask = "classify", *, seed: int = 0) -> Path:
    """Real arithmetic, answers without sense."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=NUM_TOKENS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_POSITIONS,
        initializer_range=0.5,
    )
    config.num_labels = 3
    model = BertForSequenceClassification(config) if task == "classify" else BertModel(config)
    model.save_pretrained(folder)
    _write_rest(folder, task, MAX_TOKENS)
    return folder


def write_manifest(folder: Path, name: str, task: EncoderTask) -> Manifest:
    """As an installation leaves it."""
    files = tuple(file_entry(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST)
    manifest = Manifest(
        name=name,
        source="tests",
        revision="1",
        licence=None,
        architecture=_ARCHITECTURES[task],
        task=task,
        files=files,
        weights_sha256=weights_digest(files),
        tokenizer_sha256=next(file.sha256 for file in files if file.path == "tokenizer.json"),
        chat_template_sha256="",
        num_parameters=0,
        max_context_tokens=MAX_POSITIONS,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        trial=Trial(engines={}, versions={}),
    )
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2))
    return manifest


def _write_rest(folder: Path, task: EncoderTask, max_tokens: int) -> None:
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    if task == "embed":
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_tokens}))
        return
    settings = {
        "labels": {"positive": 0, "negative": 1, "neutral": 2},
        "temperature": 1.7,
        "input": "text_and_target",
        "max_tokens": max_tokens,
    }
    (folder / CLASSIFIER).write_text(json.dumps(settings))
