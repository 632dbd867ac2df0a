"""What is kept of a training: adapters and head in fp16, and the settings with which peft reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoTokenizer, PreTrainedModel

from kinds.classifier.order import LABELS
from kinds.classifier.training.network import load_classifier, trainable
from workers.models.files import ModelIncompleteError, keys_in_words, read_safetensors_header

ADAPTER = "adapter_model.safetensors"
ADAPTER_SETTINGS = "adapter_config.json"
"""The names that peft gives them: `PeftModel.from_pretrained` reads the folder."""


def write_adapter(net: torch.nn.Module, folder: Path) -> None:
    """Round what was trained to fp16, in the network too, and write it into the folder."""
    with torch.no_grad():
        for each in trainable(net).values():
            each.copy_(each.half().float())
    state = get_peft_model_state_dict(net, save_embedding_layers=False)
    tensors = {name: each.detach().half().contiguous() for name, each in sorted(state.items())}
    save_file(tensors, folder / ADAPTER, metadata={"format": "pt"})
    os.chmod(folder / ADAPTER, 0o644)
    settings = net.peft_config["default"].to_dict()  # type: ignore[index,union-attr]
    kept = {name: _plain(value) for name, value in sorted(settings.items()) if value is not None}
    kept["inference_mode"] = True
    (folder / ADAPTER_SETTINGS).write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def shift_head(net: torch.nn.Module, offsets: Sequence[float]) -> bool:
    """Add the offsets to the logits, for good, in the head's bias; False for a head that has none."""
    heads = [
        part
        for part in net.modules()
        if isinstance(part, torch.nn.Linear) and part.out_features == len(LABELS) and part.bias is not None
    ]
    trained = [part.bias for part in heads if part.bias.requires_grad]
    if not trained:
        return False
    with torch.no_grad():
        trained[-1].add_(torch.tensor(list(offsets)))
    return True


def merge(base: Path, adapter: Path, target: Path) -> None:
    """Base and adapter -> a plain model folder in fp32, as any published classifier is.

    Raises ModelIncompleteError if base or adapter lack a tensor, have one too many or one of another shape.
    """
    config = PeftConfig.from_pretrained(str(adapter))
    config.base_model_name_or_path = None  # a name of the training's, which means nothing here
    net = get_peft_model(load_classifier(base), config)
    _check_adapter(net, adapter)  # before peft warns of a part of it, or fails in its own way
    net.load_adapter(str(adapter), "default")
    merged = merged_model(net)
    merged.save_pretrained(target)
    AutoTokenizer.from_pretrained(base, local_files_only=True).save_pretrained(target)


def _check_adapter(net: torch.nn.Module, adapter: Path) -> None:
    """peft only warns of missing tensors, and not of all: the file must hold what it would save."""
    state = get_peft_model_state_dict(net, save_embedding_layers=False)
    expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
    found = {tensor.name: tensor.shape for tensor in read_safetensors_header(adapter / ADAPTER)}
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "of another shape": sorted(
            name for name in expected.keys() & found.keys() if expected[name] != found[name]
        ),
    }
    if any(problems.values()):
        raise ModelIncompleteError(f"the adapter {ADAPTER}: {keys_in_words(problems)}")


def merged_model(net: torch.nn.Module) -> PreTrainedModel:
    """The network with its adapters added into the weights that they adapt."""
    merged: PreTrainedModel = net.merge_and_unload()  # type: ignore[operator]
    merged.train(False)
    return merged


def classifier_settings(*, temperature: float, with_targets: bool, max_tokens: int) -> dict[str, object]:
    """classifier.json: how an engine asks the model, and what its outputs mean."""
    return {
        "labels": {label: place for place, label in enumerate(LABELS)},
        "temperature": temperature,
        "input": "text_and_target" if with_targets else "text",
        "max_tokens": max_tokens,
    }


def _plain(value: Any) -> Any:
    """Settings as JSON; sets in one order, so that the same training writes the same file."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value if isinstance(value, str | int | float | bool | list | dict) else str(value)
