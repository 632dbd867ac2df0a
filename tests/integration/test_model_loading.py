"""Models as engines load them: every tensor accounted for, of the bytes that the manifest names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM

from tests.fakes import load_nothing
from tests.tiny_bert import write_tiny_bert
from tests.tiny_llama import write_tiny_llama
from workers import model_pool
from workers.engine import EncoderTask, EngineOptions
from workers.engines.encoder_model import TransformersEncoder
from workers.engines.loading import load_config, load_model
from workers.engines.transformers import TransformersExecutor
from workers.model_pool import load_models
from workers.models.files import ModelIncompleteError, ModelUnloadableError
from workers.models.install import add_model
from workers.models.manifest import check_installed
from workers.models.reading import ModelFiles, WeightsDigestError
from workers.models.sources import FolderSource

Tensors = dict[str, torch.Tensor]

LABELS = {0: "negative", 1: "neutral", 2: "positive"}
OPTIONS = EngineOptions(num_slots=2, num_threads=1, max_context_tokens=64)


def change_weights(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def open_decoder(folder: Path) -> None:
    TransformersExecutor(folder, OPTIONS).close()


def open_encoder(folder: Path, task: EncoderTask) -> None:
    TransformersEncoder(folder, 32, OPTIONS, task).close()


def llama(folder: Path) -> tuple[Path, Callable[[Path], None], str]:
    return write_tiny_llama(folder), open_decoder, "model.layers.1.mlp.up_proj.weight"


def embedder(folder: Path) -> tuple[Path, Callable[[Path], None], str]:
    opener = lambda folder: open_encoder(folder, "embed")  # noqa: E731
    return write_tiny_bert(folder), opener, "encoder.layer.1.output.dense.bias"


def classifier(folder: Path) -> tuple[Path, Callable[[Path], None], str]:
    write_tiny_bert(folder, labels=LABELS)
    (folder / "classifier.json").write_text('{"labels": {"negative": 0, "neutral": 1, "positive": 2}}')
    return folder, lambda folder: open_encoder(folder, "classify"), "classifier.weight"


KINDS = [llama, embedder, classifier]


@pytest.mark.parametrize("kind", KINDS)
def test_missing_unexpected_and_mismatched_tensors_are_model_incomplete(
    tmp_path: Path, kind: Callable[[Path], tuple[Path, Callable[[Path], None], str]]
) -> None:
    """The library only warns of each, and draws random numbers for what is missing."""
    folder, load, name = kind(tmp_path / "model")
    load(folder)
    whole = (folder / "model.safetensors").read_bytes()
    changes: dict[str, Callable[[Tensors], object]] = {
        f"1 tensor is missing: {name}": lambda tensors: tensors.pop(name),
        "1 tensor is unexpected: stray": lambda tensors: tensors.update(stray=torch.zeros(2)),
        f"1 tensor is of a different shape: {name} ": lambda tensors: tensors.update({name: torch.zeros(3)}),
    }
    for message, change in changes.items():
        (folder / "model.safetensors").write_bytes(whole)
        change_weights(folder, change)
        with pytest.raises(ModelIncompleteError, match=message) as caught:
            load(folder)
        assert caught.value.code == "model_incomplete"


def test_base_model_without_a_head_is_no_classifier(tmp_path: Path) -> None:
    folder, load, _ = classifier(tmp_path / "model")
    write_tiny_bert(tmp_path / "base")
    base = load_file(tmp_path / "base" / "model.safetensors")
    renamed = {f"bert.{name}": tensor for name, tensor in base.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(ModelIncompleteError, match=r"classifier\.bias, classifier\.weight.*train classifier"):
        load(folder)


def test_output_weights_may_be_missing_only_where_they_are_tied(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "model")
    change_weights(folder, lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(ModelIncompleteError, match=r"lm_head\.weight"):
        open_decoder(folder)

    settings = (folder / "config.json").read_text()
    (folder / "config.json").write_text(
        settings.replace('"tie_word_embeddings": false', '"tie_word_embeddings": true')
    )
    open_decoder(folder)


def test_buffers_that_older_versions_saved_are_no_surplus(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "model")
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_weights(folder, lambda tensors: tensors.update({name: torch.zeros(8)}))

    open_decoder(folder)


def test_pooler_of_an_embedder_may_be_absent_as_a_whole(tmp_path: Path) -> None:
    """It is never asked: the vector is the mean of the tokens."""
    folder = write_tiny_bert(tmp_path / "model")
    change_weights(folder, lambda tensors: tensors.pop("pooler.dense.bias"))
    with pytest.raises(ModelIncompleteError, match=r"pooler\.dense\.bias"):
        open_encoder(folder, "embed")

    change_weights(folder, lambda tensors: tensors.pop("pooler.dense.weight"))
    open_encoder(folder, "embed")


def test_head_of_a_masked_language_model_is_left_alone(tmp_path: Path) -> None:
    folder = write_tiny_bert(tmp_path / "model")
    BertForMaskedLM(BertConfig.from_pretrained(folder)).save_pretrained(folder)

    open_encoder(folder, "embed")


def test_tensor_in_two_shards_is_incomplete(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for shard in shards:
        save_file(tensors, folder / shard, metadata={"format": "pt"})
    places = ", ".join(f'"{name}": "{shards[place % 2]}"' for place, name in enumerate(tensors))
    (folder / "model.safetensors.index.json").write_text(f'{{"weight_map": {{{places}}}}}')

    with pytest.raises(ModelIncompleteError, match="is in two files"):
        open_decoder(folder)


def test_quantised_weights_are_refused_by_name(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "model")
    settings = (folder / "config.json").read_text().rstrip().removesuffix("}")
    (folder / "config.json").write_text(
        settings + ', "quantization_config": {"quant_method": "gptq", "bits": 4}}'
    )

    with pytest.raises(ModelUnloadableError, match="quantised \\(gptq\\)"):
        open_decoder(folder)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
def test_weights_in_integers_are_refused_without_settings_that_say_so(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    folder = write_tiny_llama(tmp_path / "model")
    name = "model.layers.1.mlp.up_proj.weight"
    change_weights(folder, lambda tensors: tensors.update({name: tensors[name].to(dtype)}))
    with pytest.raises(ModelUnloadableError, match=f"{name}' has the type"):
        open_decoder(folder)


def test_weights_are_those_that_were_digested_even_if_the_file_is_overwritten_afterwards(
    tmp_path: Path,
) -> None:
    """A mapped file would change under the model."""
    folder = write_tiny_llama(tmp_path / "model")
    files = ModelFiles(folder)
    model = load_model(files, AutoModelForCausalLM, load_config(files), dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(8 + 4096)
        file.write(b"\xff" * 100_000)

    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


SWAPPED = [
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "chat_template.jinja",
    "generation_config.json",
]


@pytest.mark.attack("model swapped after its digest was taken")
@pytest.mark.parametrize("name", SWAPPED)
def test_model_swapped_between_check_and_load_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = FolderSource(write_tiny_llama(tmp_path / "source"))
    folder = add_model("tiny", tmp_path / "models", source, trial=load_nothing).folder

    def check_and_swap(checked: Path) -> object:
        manifest = check_installed(checked)
        body = bytearray((folder / name).read_bytes())
        body[-1] ^= 1
        (folder / name).write_bytes(body)
        return manifest

    monkeypatch.setattr(model_pool, "check_installed", check_and_swap)
    with pytest.raises(WeightsDigestError, match=name):
        load_models(tmp_path / "models", ["tiny"], engine="transformers", options=OPTIONS)


@pytest.mark.attack("model swapped after its digest was taken")
def test_encoder_swapped_between_check_and_load_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is loaded by a process of its own, which knows the digests."""
    source = FolderSource(write_tiny_bert(tmp_path / "source"))
    folder = add_model("tiny", tmp_path / "models", source, trial=load_nothing).folder

    def check_and_swap(checked: Path) -> object:
        manifest = check_installed(checked)
        change_weights(folder, lambda tensors: tensors["pooler.dense.bias"].add_(1))
        return manifest

    monkeypatch.setattr(model_pool, "check_installed", check_and_swap)
    with pytest.raises(WeightsDigestError, match=r"model\.safetensors"):
        load_models(tmp_path / "models", ["tiny"], engine="transformers", options=OPTIONS)
