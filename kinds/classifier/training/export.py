"""Writes the trained parameters: adapters and head in fp16, and the settings with which peft reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file

from kinds.classifier.order import LABELS
from kinds.classifier.training.network import trainable
from workers.models.adapters import ADAPTER, ADAPTER_SETTINGS


def write_adapter(net: torch.nn.Module, folder: Path) -> None:
    """Round the trained parameters to fp16, also in the network, and write them into the folder."""
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
    """Add the offsets to the head's bias, and so to all logits; return False if there is no trained bias."""
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


def classifier_settings(*, temperature: float, with_targets: bool, max_tokens: int) -> dict[str, object]:
    """Return the content of classifier.json: the model's input format and the meaning of its outputs."""
    return {
        "labels": {label: place for place, label in enumerate(LABELS)},
        "temperature": temperature,
        "input": "text_and_target" if with_targets else "text",
        "max_tokens": max_tokens,
    }


def _plain(value: Any) -> Any:
    """Return a setting as JSON; sets are sorted, so that the same training writes the same file."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    return value if isinstance(value, str | int | float | bool | list | dict) else str(value)
