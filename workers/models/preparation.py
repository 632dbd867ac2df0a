"""Prepares a fetched folder for loading: removes surplus files, adds a tokenizer, checks the vector recipe.

Published folders often contain more than the model: the same weights in other formats, adapters that are
already merged, or a trainer's state. A loader that found such files could use them, or apply an adapter a
second time.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from pathlib import Path

from jobs.errors import PermanentError
from workers.models.classifier import CLASSIFIER
from workers.models.files import (
    GGUF_SUFFIX,
    WEIGHT_SUFFIX,
    WEIGHTS,
    WEIGHTS_INDEX,
    MalformedFileError,
    ModelFormatError,
    ModelIncompleteError,
    parse_json,
    read_json_object,
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
"""Names of the files that a worker or a training run reads besides the weights."""
NOTES = frozenset(
    {"README.md", "MODEL_CARD.md", "LICENSE", "LICENCE", "LICENSE.md", "LICENSE.txt", "NOTICE", "NOTICE.txt"}
    | {"recipe.json", "evaluation.json"}
)
"""Names of files for people, which no loader reads."""
MODULES = "modules.json"
"""Name of the file that defines how sentence-transformers computes a vector; it is checked but not loaded."""
PROMPTS = "config_sentence_transformers.json"
POOLING = re.compile(r"[0-9]+_Pooling/config\.json")
"""Pattern of the path, below the folder, of the pooling configuration to which MODULES refers."""

_SHARD = re.compile(r"model-[0-9]+-of-[0-9]+\.safetensors")
_GGUF_PART = re.compile(r".*-[0-9]{5}-of-[0-9]{5}\.gguf")
_NAMED = 8
"""Maximum number of files that a message names."""


class AmbiguousModelError(ModelFormatError):
    """A folder contains several sets of weights, and nothing indicates which of them is the model."""

    code = "model_ambiguous"


def choose_files(names: Collection[str], where: object) -> frozenset[str]:
    """Return the names of those files of a folder, a repository or a package that can belong to its model.

    Messages name `where`, the place of the files. Raises AmbiguousModelError, ModelIncompleteError or
    ModelFormatError.
    """
    shards = [name for name in names if _SHARD.fullmatch(name)]
    if WEIGHTS in names and shards:
        raise AmbiguousModelError(
            f"{where} contains two sets of weights, {WEIGHTS} and {in_words(shards)}: keep the one that is "
            "the model, and move the other away"
        )
    if WEIGHTS in names:
        return _with_settings(names, [WEIGHTS])
    if WEIGHTS_INDEX in names:
        return _with_settings(names, [WEIGHTS_INDEX, *shards])
    if shards:
        raise ModelIncompleteError(
            f"{where} contains {in_words(shards)} without {WEIGHTS_INDEX}, which lists the file of each "
            "tensor: fetch that file too"
        )
    return frozenset({_gguf(names, where)})


def settle_files(folder: Path) -> tuple[str, ...]:
    """Reduce a folder to safetensors weights, SETTINGS and NOTES; return the names of the deleted files.

    Raises the errors of `weight_names`.
    """
    kept = {*weight_names(ModelFiles(folder)), *SETTINGS, *NOTES}
    if WEIGHTS not in kept:
        kept.add(WEIGHTS_INDEX)
    surplus = sorted(path for path in folder.iterdir() if path.name not in kept)
    for path in surplus:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return tuple(path.name for path in surplus)


def is_recipe(name: str) -> bool:
    """Return whether a file or folder defines how vectors are computed; it is checked but not loaded."""
    return name in (MODULES, PROMPTS) or name.endswith("_Pooling")


def left_behind(names: Collection[str]) -> str:
    """Describe the files that do not belong to the model, for a message."""
    adapter = any(name.startswith("adapter_") for name in names)
    applied = " (the adapter is not applied: the weights are used as they are)" if adapter else ""
    return f"left out, because they are not part of the model: {in_words(names)}{applied}"


def in_words(names: Collection[str]) -> str:
    """Return a list for a message: the first few names, and the number of the others.

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
            f"{where} contains {in_words(gguf)}, which is a part of a model: join all parts with "
            "llama-gguf-split"
        )
    if gguf:
        raise AmbiguousModelError(
            f"{where} contains {len(gguf)} GGUF files, {in_words(gguf)}: keep the one that is the model, and "
            "move the others away"
        )
    raise ModelFormatError(f"{where} contains no safetensors weights and no GGUF file{_nearly(names)}")


def _nearly(names: Collection[str]) -> str:
    """Describe the unsupported weights in a folder without supported ones, and what to do about them."""
    others = [name for name in names if name.endswith(WEIGHT_SUFFIX)]
    if any(name.startswith("adapter_") for name in names):
        return (
            ", but it contains an adapter: merge it into its base (merge_and_unload of peft, then "
            "save_pretrained), and add the result"
        )
    if not others:
        return ": use a model that is published with them"
    if any(name.startswith("consolidated") for name in others):
        advice = "in Mistral's own format: use the files model-*.safetensors next to them"
    else:
        advice = f"and neither {WEIGHTS} nor model-*.safetensors with an index"
    return f", but it contains {in_words(others)}, {advice}"


_MEAN = "pooling_mode_mean_tokens"


class VectorRecipeError(PermanentError):
    """An embedding model requires its vectors to be computed in a way that no engine here supports."""

    code = "model_unsupported"


def check_vectors(folder: Path) -> None:
    """Raise VectorRecipeError unless a text's vector is the mean over its tokens, as the engine computes it.

    A folder without MODULES defines no computation and is accepted. Also raises MalformedFileError.
    """
    files = ModelFiles(folder)
    if not files.has(MODULES):
        return
    modules = parse_json(files, MODULES)
    if not isinstance(modules, list) or not all(isinstance(each, dict) for each in modules):
        raise MalformedFileError(f"{folder / MODULES} is not a list of modules: fetch the model again")
    for module in modules:
        module_type = str(module.get("type", "")).rpartition(".")[2][:40]
        if module_type == "Pooling":
            _check_pooling(folder, str(module.get("path", "")))
        elif module_type not in {"Transformer", "Normalize"}:
            raise VectorRecipeError(
                f"{folder / MODULES}: the model's vectors go through a module {module_type!r}, but the "
                "engine computes only the mean of the tokens; use a model without such a module"
            )
    if files.has(PROMPTS) and read_json_object(folder / PROMPTS).get("default_prompt_name") is not None:
        raise VectorRecipeError(
            f"{folder / PROMPTS}: the model requires a prompt before each text (default_prompt_name), which "
            "the engine does not add; use a model without one"
        )


def _check_pooling(folder: Path, place: str) -> None:
    path = f"{place}/config.json"
    if not POOLING.fullmatch(path) or not (folder / path).exists():
        raise VectorRecipeError(
            f"{folder / MODULES} refers to {place[:40]!r}, which does not exist, so it is unknown how the "
            "model computes its vectors; add the whole folder as it was published"
        )
    settings = read_json_object(folder / path)
    modes = {name for name, value in settings.items() if name.startswith("pooling_mode_") and value is True}
    if isinstance(mode := settings.get("pooling_mode"), str):  # newer versions of sentence-transformers
        modes = {f"pooling_mode_{mode}_tokens"}
    if modes != {_MEAN}:
        names = ", ".join(sorted(name.removeprefix("pooling_mode_")[:40] for name in modes)) or "nothing"
        raise VectorRecipeError(
            f"{folder / path}: the model's vector is computed from {names}, but the engine computes the mean "
            "of the tokens; use a model with mean pooling"
        )


TOKENIZER = "tokenizer.json"
VOCABULARY = "vocab.txt"

_WORDPIECE_MODELS = frozenset({"bert", "distilbert", "electra", "mobilebert"})
"""Values of `model_type` in config.json whose vocab.txt is read like BERT's."""

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def settle_tokenizer(folder: Path) -> None:
    """If a BERT-like model has no tokenizer.json, write it from vocab.txt and tokenizer_config.json.

    The defaults are those of transformers' BertTokenizer. Raises MalformedFileError.
    """
    vocabulary, config = folder / VOCABULARY, read_json_object(folder / "config.json")
    if (folder / TOKENIZER).is_file() or not vocabulary.is_file():
        return
    if config.get("model_type") not in _WORDPIECE_MODELS:
        return
    from tokenizers import BertWordPieceTokenizer  # loaded only when a tokenizer has to be written

    words = set(vocabulary.read_text(encoding="utf-8", errors="replace").split())
    if missing := [token for token in _SPECIAL if token not in words]:
        raise MalformedFileError(
            f"{vocabulary} has no {', '.join(missing)}: put the model's own tokenizer.json next to it"
        )
    path = folder / "tokenizer_config.json"
    settings = read_json_object(path) if path.is_file() else {}
    strips = settings.get("strip_accents")
    try:
        tokenizer = BertWordPieceTokenizer(
            str(vocabulary),
            lowercase=settings.get("do_lower_case") is not False,
            handle_chinese_chars=settings.get("tokenize_chinese_chars") is not False,
            strip_accents=strips if isinstance(strips, bool) else None,
        )
    except Exception as error:  # the library raises plain Exception
        raise MalformedFileError(
            f"tokenizers cannot read the vocabulary {vocabulary} ({error}): fetch the model again"
        ) from error
    tokenizer.save(str(folder / TOKENIZER))
