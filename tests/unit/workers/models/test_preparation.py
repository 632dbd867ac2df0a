"""Which files of a folder are the model: what is loaded is installed, the rest stays behind or is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.tiny_model import TENSORS, gguf_bytes, safetensors_bytes, write_tiny_model
from workers.models.files import ModelFormatError, ModelIncompleteError
from workers.models.install import Installation, add_model
from workers.models.manifest import WeightsDigestError, verify_model
from workers.models.preparation import AmbiguousModelError, VectorRecipeError
from workers.models.sources import FolderSource

pytestmark = pytest.mark.usefixtures("untried")

PLAIN = {
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
}
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path / "source")


def install(source: Path, progress: list[str] | None = None) -> Installation:
    told = progress if progress is not None else []
    return add_model("tiny", source.parent / "models", FolderSource(source), progress=told.append)


def names(installed: Installation) -> set[str]:
    return set(installed.manifest.digests)


def write_shards(folder: Path) -> dict[str, str]:
    """Two files and an index in place of the one; the index's map."""
    (folder / "model.safetensors").unlink()
    places = {name: (FIRST, SECOND)[number % 2] for number, name in enumerate(TENSORS)}
    for shard in (FIRST, SECOND):
        tensors = {name: shape for name, shape in TENSORS.items() if places[name] == shard}
        (folder / shard).write_bytes(safetensors_bytes(tensors))
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return places


@pytest.mark.parametrize(
    "others",
    [
        ["adapter_config.json", "adapter_model.safetensors"],
        ["adapter_config.json"],
        ["consolidated.safetensors", "params.json"],
        ["model.fp16.safetensors", "model.fp16.safetensors.index.json"],
        ["model.gguf", "model.Q8_0.gguf"],
        ["trainer_state.json", "tokenizer.model", "optimizer.safetensors", ".gitattributes"],
        ["original/model.safetensors", "openvino/openvino_model.xml"],
        [INDEX],
    ],
)
def test_what_no_worker_loads_stays_behind_and_is_named(source: Path, others: list[str]) -> None:
    for name in others:
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text("{}")
    told: list[str] = []

    installed = install(source, told)

    assert names(installed) == PLAIN
    assert {path.name for path in installed.folder.iterdir()} == {*PLAIN, "manifest.json"}
    (sentence,) = [each for each in told if each.startswith("left out")]
    assert all(name.partition("/")[0] in sentence for name in others)


def test_adapter_beside_merged_weights_is_told_not_to_be_applied(source: Path) -> None:
    (source / "adapter_config.json").write_text("{}")
    told: list[str] = []

    install(source, told)

    assert any("the adapter is not applied" in sentence for sentence in told)


def test_notes_and_the_licence_come_along(source: Path) -> None:
    for name in ("README.md", "LICENSE", "NOTICE"):
        (source / name).write_text("as it is")

    assert names(install(source)) == {*PLAIN, "README.md", "LICENSE", "NOTICE"}


def test_shards_are_installed_with_their_index(source: Path) -> None:
    write_shards(source)

    installed = install(source)

    assert names(installed) == PLAIN - {"model.safetensors"} | {FIRST, SECOND, INDEX}
    assert verify_model(installed.folder) == installed.manifest


def test_shards_of_another_set_stay_behind(source: Path) -> None:
    write_shards(source)
    shutil.copyfile(source / FIRST, source / "model-00001-of-00003.safetensors")

    assert names(install(source)) == PLAIN - {"model.safetensors"} | {FIRST, SECOND, INDEX}


def test_two_sets_of_weights_are_ambiguous(source: Path) -> None:
    shutil.copyfile(source / "model.safetensors", source.parent / "kept")
    write_shards(source)
    (source.parent / "kept").rename(source / "model.safetensors")

    with pytest.raises(AmbiguousModelError, match=f"model.safetensors and {FIRST}, {SECOND}") as caught:
        install(source)

    assert caught.value.code == "model_ambiguous"


def drop_shard(folder: Path) -> str:
    (folder / SECOND).unlink()
    return SECOND


def drop_index(folder: Path) -> str:
    (folder / INDEX).unlink()
    return INDEX


def drop_tensor(folder: Path) -> str:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["model.layers.0.lost"] = SECOND
    (folder / INDEX).write_text(json.dumps(index))
    return "model.layers.0.lost"


def add_tensor_twice(folder: Path) -> str:
    first = next(iter(TENSORS))
    tensors = {
        name: shape for number, (name, shape) in enumerate(TENSORS.items()) if number % 2 or name == first
    }
    (folder / SECOND).write_bytes(safetensors_bytes(tensors))
    return first


@pytest.mark.parametrize("change", [drop_shard, drop_index, drop_tensor, add_tensor_twice])
def test_shards_that_are_not_those_of_their_index_are_incomplete(source: Path, change: object) -> None:
    write_shards(source)
    assert callable(change)
    missing = change(source)

    with pytest.raises(ModelIncompleteError, match=missing) as caught:
        install(source)

    assert caught.value.code == "model_incomplete"


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        (["adapter_model.safetensors", "adapter_config.json"], "merge it into its base"),
        (["consolidated.safetensors"], "Mistral's own format"),
        (["model.fp16.safetensors"], "neither model.safetensors"),
        (["a.Q4_0.gguf", "a.Q8_0.gguf"], "keep the one that is the model"),
        (["a-00001-of-00002.gguf"], "join all parts"),
        ([], "published with them"),
    ],
)
def test_folder_without_a_clear_model_is_refused_with_what_to_do(
    source: Path, files: list[str], advice: str
) -> None:
    (source / "model.safetensors").unlink()
    for name in files:
        (source / name).write_bytes(gguf_bytes())

    with pytest.raises((ModelFormatError, ModelIncompleteError), match=advice):
        install(source)


@pytest.mark.parametrize("name", ["adapter_config.json", "pytorch_model.safetensors", "1_Pooling", ".hidden"])
def test_file_planted_in_an_installed_folder_is_refused(source: Path, name: str) -> None:
    installed = install(source)
    (installed.folder / name).write_text("{}")

    with pytest.raises(WeightsDigestError, match=name):
        verify_model(installed.folder)


def write_recipe(
    folder: Path, modes: list[str], modules: tuple[str, ...] = ("Transformer", "Pooling")
) -> None:
    """As sentence-transformers writes how a vector is made."""
    places = {"Transformer": "", "Pooling": "1_Pooling"}
    listed = [
        {"idx": number, "path": places.get(kind, f"{number}_{kind}"), "type": f"sentence_transformers.{kind}"}
        for number, kind in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    settings = {f"pooling_mode_{mode}_tokens": mode in modes for mode in ("cls", "mean", "max", "lasttoken")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))


def test_recipe_of_mean_pooling_is_checked_and_stays_behind(source: Path) -> None:
    write_recipe(source, ["mean"], ("Transformer", "Pooling", "Normalize"))

    told: list[str] = []
    assert names(install(source, told)) == PLAIN
    assert not any("left out" in sentence for sentence in told)


@pytest.mark.parametrize("modes", [["cls"], ["mean", "max"], ["lasttoken"], []])
def test_vector_of_another_pooling_is_refused_by_name(source: Path, modes: list[str]) -> None:
    write_recipe(source, modes)

    with pytest.raises(VectorRecipeError, match="the engine computes the mean") as caught:
        install(source)

    assert caught.value.code == "model_unsupported"
    assert all(mode in str(caught.value) for mode in modes)


def test_vector_that_goes_through_a_dense_layer_is_refused_by_name(source: Path) -> None:
    write_recipe(source, ["mean"], ("Transformer", "Pooling", "Dense"))

    with pytest.raises(VectorRecipeError, match="'Dense'"):
        install(source)


def test_recipe_without_its_pooling_is_refused(source: Path) -> None:
    write_recipe(source, ["mean"])
    shutil.rmtree(source / "1_Pooling")

    with pytest.raises(VectorRecipeError, match="1_Pooling"):
        install(source)


def test_prompt_that_a_model_wants_before_each_text_is_refused(source: Path) -> None:
    write_recipe(source, ["mean"])
    (source / "config_sentence_transformers.json").write_text('{"default_prompt_name": "query"}')

    with pytest.raises(VectorRecipeError, match="default_prompt_name"):
        install(source)
