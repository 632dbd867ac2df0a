"""Merges a classifier's LoRA adapters into its base model, which is loaded with a head.

`python -m workers.engines.adapter BASE ADAPTER TARGET LABEL...` runs in a child process, so that torch is
never loaded in the process that installs a model.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from peft import PeftConfig, get_peft_model, get_peft_model_state_dict
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from workers.child_process import end_incomplete
from workers.engines.loading import load_config, load_model, outline
from workers.models.adapters import ADAPTER
from workers.models.files import ModelIncompleteError, keys_in_words, read_safetensors_header
from workers.models.reading import ModelFiles


def load_classifier(
    folder: Path, labels: Sequence[str], digests: Mapping[str, str] | None = None
) -> PreTrainedModel:
    """Return the folder's model in fp32, with one output per label; a missing head is created at random.

    `digests` are those of the model's manifest. Layers after the encoder's may be missing, because they are
    trained in full; the head of a masked language model is ignored. Raises ModelIncompleteError for any other
    missing or superfluous tensor, and what `workers.engines.loading` raises.
    """
    files = ModelFiles(folder, digests)
    config = load_config(files)
    names: dict[int, str] = dict(enumerate(labels))
    config.id2label, config.label2id = names, {label: place for place, label in names.items()}
    is_masked = any(name.endswith("ForMaskedLM") for name in config.architectures or ())
    spare = set(outline(AutoModelForMaskedLM, config).state_dict()) if is_masked else set()
    _, outer = linear_parts(outline(AutoModelForSequenceClassification, config))
    spare.update(f"{name}.{tensor}" for name in outer for tensor in ("weight", "bias"))
    return load_model(files, AutoModelForSequenceClassification, config, dtype=torch.float32, spare=spare)


def linear_parts(model: PreTrainedModel) -> tuple[list[str], list[str]]:
    """Return the names of the linear layers inside the encoder's layers, and of those outside them."""
    linear = [name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
    inner = [name for name in linear if ".layer." in name or ".layers." in name]
    return inner, [name for name in linear if name not in inner]


def merge(base: Path, adapter: Path, target: Path, labels: Sequence[str]) -> None:
    """Merge base and adapter into a plain model folder in fp32, in the form of a published classifier.

    Raises ModelIncompleteError if a tensor of base or adapter is missing, superfluous or of the wrong shape.
    """
    config = PeftConfig.from_pretrained(str(adapter))
    config.base_model_name_or_path = None  # a name from the training run, meaningless here
    net = get_peft_model(load_classifier(base, labels), config)
    _check_adapter(net, adapter)  # before peft warns about some faults, or fails in its own way
    net.load_adapter(str(adapter), "default")
    merged = merged_model(net)
    merged.save_pretrained(target)
    AutoTokenizer.from_pretrained(base, local_files_only=True).save_pretrained(target)


def merged_model(net: torch.nn.Module) -> PreTrainedModel:
    """Return the network with its adapters added to the weights that they adapt."""
    merged: PreTrainedModel = net.merge_and_unload()  # type: ignore[operator]
    merged.train(False)
    return merged


def _check_adapter(net: torch.nn.Module, adapter: Path) -> None:
    """Raise ModelIncompleteError unless the file contains exactly what peft would save.

    peft itself only warns of missing tensors, and not even of all of them.
    """
    state = get_peft_model_state_dict(net, save_embedding_layers=False)
    expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
    present = {tensor.name: tensor.shape for tensor in read_safetensors_header(adapter / ADAPTER)}
    problems = {
        "missing": sorted(expected.keys() - present.keys()),
        "unexpected": sorted(present.keys() - expected.keys()),
        "of a different shape": sorted(
            name for name in expected.keys() & present.keys() if expected[name] != present[name]
        ),
    }
    if any(problems.values()):
        raise ModelIncompleteError(f"the adapter {ADAPTER}: {keys_in_words(problems)}")


def main() -> None:
    """Merge the base and adapter in the first two arguments into the folder in the third.

    The other arguments are the labels of the classifier, in the order of its outputs.
    """
    if len(sys.argv) < 5:
        sys.exit("usage: python -m workers.engines.adapter BASE_FOLDER ADAPTER_FOLDER TARGET_FOLDER LABEL...")
    try:
        base, adapter, target = map(Path, sys.argv[1:4])
        merge(base, adapter, target, sys.argv[4:])
    except ModelIncompleteError as error:
        end_incomplete(error)


if __name__ == "__main__":
    main()
