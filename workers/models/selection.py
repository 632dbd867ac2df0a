"""Selects the files of a folder that belong to its model: those that a worker loads, and notes about them.

Published folders contain more: the same weights in other formats, adapters that are already merged, a
trainer's state. A loader that found these could use them, or apply an adapter a second time.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from pathlib import Path

from workers.models.classifier import CLASSIFIER
from workers.models.files import (
    GGUF_SUFFIX,
    WEIGHT_SUFFIX,
    WEIGHTS,
    WEIGHTS_INDEX,
    ModelFormatError,
    ModelIncompleteError,
    weight_names,
)
from workers.models.reading import ModelFiles

SETTINGS = frozenset(
    {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "chat_template.jinja",
        "sentence_bert_config.json",
        CLASSIFIER,
    }
)
"""Files that a worker or a training reads besides the weights."""
NOTES = frozenset(
    {"README.md", "MODEL_CARD.md", "LICENSE", "LICENCE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.txt"}
    | {"recipe.json", "evaluation.json"}
)
"""Files for people, which no loader reads."""
MODULES = "modules.json"
"""File that defines how sentence-transformers computes a vector; vectors.py checks it, and nothing loads it.
"""
PROMPTS = "config_sentence_transformers.json"
POOLING = re.compile(r"[0-9]+_Pooling/config\.json")
"""Path, below the folder, of the configuration to which MODULES refers."""

_SHARD = re.compile(r"model-[0-9]+-of-[0-9]+\.safetensors")
_GGUF_PART = re.compile(r".*-[0-9]{5}-of-[0-9]{5}\.gguf")
_NAMED = 8
"""Maximum files that a message names."""


class AmbiguousModelError(ModelFormatError):
    """A folder contains several sets of weights, and nothing indicates which of them is the model."""

    code = "model_ambiguous"


def choose_files(names: Collection[str], where: object) -> frozenset[str]:
    """Return the files of a folder, a repository or a package that can belong to its model, by path alone.

    `where` is named in errors. Raises AmbiguousModelError, ModelIncompleteError or ModelFormatError.
    """
    shards = [name for name in names if _SHARD.fullmatch(name)]
    if WEIGHTS in names and shards:
        raise AmbiguousModelError(
            f"{where} holds two sets of weights, {WEIGHTS} and {in_words(shards)}: leave the one that is the "
            "model, and move the other away"
        )
    if WEIGHTS in names:
        return _with_settings(names, [WEIGHTS])
    if WEIGHTS_INDEX in names:
        return _with_settings(names, [WEIGHTS_INDEX, *shards])
    if shards:
        raise ModelIncompleteError(
            f"{where} holds {in_words(shards)} without {WEIGHTS_INDEX}, which says which tensor is where: "
            "fetch that file too"
        )
    return frozenset({_gguf(names, where)})


def settle_files(folder: Path) -> tuple[str, ...]:
    """Remove from a folder with safetensors weights what no worker loads; return the removed names.

    Raises what reading the index of the weights raises.
    """
    kept = {*weight_names(ModelFiles(folder)), *SETTINGS, *NOTES}
    if WEIGHTS not in kept:
        kept.add(WEIGHTS_INDEX)
    surplus = sorted(path for path in folder.iterdir() if path.name not in kept)
    for path in surplus:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return tuple(path.name for path in surplus)


def is_recipe(name: str) -> bool:
    """Return whether the file defines how vectors are computed; it is checked but not loaded."""
    return name in (MODULES, PROMPTS) or name.endswith("_Pooling")


def left_behind(names: Collection[str]) -> str:
    """Describe the files that do not belong to the model, for a message."""
    adapter = any(name.startswith("adapter_") for name in names)
    applied = " (an adapter is not applied: the weights are taken as they are)" if adapter else ""
    return f"left behind, no part of the model: {in_words(names)}{applied}"


def in_words(names: Collection[str]) -> str:
    """Return the first names, and how many more there are.

    >>> in_words(["a", "b"])
    'a, b'
    """
    plain = [name if name.isprintable() else repr(name) for name in sorted(names)]
    more = f" and {len(plain) - _NAMED} more" if len(plain) > _NAMED else ""
    return ", ".join(plain[:_NAMED]) + more


def _with_settings(names: Collection[str], weights: Collection[str]) -> frozenset[str]:
    beside = SETTINGS | NOTES | {MODULES, PROMPTS}
    return frozenset(weights).union(name for name in names if name in beside or POOLING.fullmatch(name))


def _gguf(names: Collection[str], where: object) -> str:
    gguf = [name for name in names if name.endswith(GGUF_SUFFIX)]
    if len(gguf) == 1 and not _GGUF_PART.fullmatch(gguf[0]):
        return gguf[0]
    if len(gguf) == 1:
        raise ModelIncompleteError(
            f"{where} holds {in_words(gguf)}, a part of a model: join all its parts with llama-gguf-split"
        )
    if gguf:
        raise AmbiguousModelError(
            f"{where} holds {len(gguf)} GGUF files, {in_words(gguf)}: leave the one that is the model, and "
            "move the others away"
        )
    raise ModelFormatError(f"{where} holds no safetensors weights and no GGUF file{_nearly(names)}")


def _nearly(names: Collection[str]) -> str:
    """Describe what the folder contains instead, and what can be done about it."""
    others = [name for name in names if name.endswith(WEIGHT_SUFFIX)]
    if any(name.startswith("adapter_") for name in names):
        return (
            ", but an adapter: merge it into its base (merge_and_unload of peft, then save_pretrained), "
            "and add the result"
        )
    if not others:
        return ": use a model that is published with them"
    if any(name.startswith("consolidated") for name in others):
        advice = "in Mistral's own format: use the files model-*.safetensors beside them"
    else:
        advice = f"and none of the names {WEIGHTS}, or model-*.safetensors with an index"
    return f", but {in_words(others)}, {advice}"
