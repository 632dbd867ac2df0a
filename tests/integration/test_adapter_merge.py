"""Base and adapter are merged whole: peft only warns of what is missing, and not of all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kinds.classifier.labelled_texts import LABELS
from kinds.classifier.training.network import with_adapters, write_adapter
from kinds.classifier.training_spec import Recipe
from tests.tiny_bert import write_tiny_bert
from workers.engines.adapter import load_classifier, merge
from workers.models.adapters import ADAPTER, AdapterSource
from workers.models.files import ModelIncompleteError
from workers.models.reading import WeightsDigestError
from workers.models.sources import FolderSource

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft calls it

Tensors = dict[str, torch.Tensor]

LORA = "base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"
HEAD = "base_model.model.classifier.weight"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base, and an adapter with a head that fits it."""
    folder = tmp_path_factory.mktemp("merge")
    base, adapter = write_tiny_bert(folder / "base"), folder / "adapter"
    adapter.mkdir()
    write_adapter(with_adapters(load_classifier(base, LABELS), Recipe(rank=2), base="base"), adapter)
    return base, adapter


def copy_of(folder: Path, target: Path, name: str, change: Callable[[Tensors], object]) -> Path:
    """The folder again, one of its files with other tensors."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    tensors = load_file(target / name)
    change(tensors)
    save_file(tensors, target / name, metadata={"format": "pt"})
    return target


def test_whole_adapter_is_merged(folders: tuple[Path, Path], tmp_path: Path) -> None:
    base, adapter = folders
    merge(base, adapter, tmp_path, LABELS)

    merged, head = load_file(tmp_path / "model.safetensors"), load_file(adapter / ADAPTER)[HEAD]
    assert torch.equal(merged["classifier.weight"], head.float())


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (f"1 tensor is missing: {LORA}", lambda tensors: tensors.pop(LORA)),
        (f"1 tensor is missing: {HEAD}", lambda tensors: tensors.pop(HEAD)),
        ("1 tensor is unexpected: stray", lambda tensors: tensors.update(stray=torch.zeros(2))),
        (f"of a different shape: {LORA}", lambda tensors: tensors.update({LORA: torch.zeros(3, 32)})),
    ],
)
def test_adapter_that_is_not_whole_is_model_incomplete(
    folders: tuple[Path, Path], tmp_path: Path, message: str, change: Callable[[Tensors], object]
) -> None:
    base, adapter = folders
    faulty = copy_of(adapter, tmp_path / "faulty", ADAPTER, change)

    with pytest.raises(ModelIncompleteError, match=message):
        merge(base, faulty, tmp_path / "merged", LABELS)


def test_base_that_lacks_a_tensor_is_model_incomplete_for_a_training_too(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    """Its head may be absent, since that is trained whole."""
    name = "encoder.layer.1.output.dense.bias"
    base = copy_of(folders[0], tmp_path / "base", "model.safetensors", lambda tensors: tensors.pop(name))

    with pytest.raises(ModelIncompleteError, match=rf"1 tensor is missing: bert\.{name}$"):
        load_classifier(base, LABELS)


def test_adapter_exchanged_after_its_digest_was_taken_is_not_merged(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    base, adapter = folders
    planted = copy_of(adapter, tmp_path / "adapter", ADAPTER, lambda tensors: tensors[HEAD].add_(0))
    target = tmp_path / "target"
    target.mkdir()
    source = AdapterSource("mine", planted, FolderSource(base))
    assert str(source).endswith(source.revision)
    tensors = load_file(planted / ADAPTER)
    save_file({**tensors, HEAD: tensors[HEAD] + 1}, planted / ADAPTER, metadata={"format": "pt"})

    with pytest.raises(WeightsDigestError, match="was changed while it was read"):
        source._copy_adapter(target)
