"""Installed models: what is installed, what is refused, and what a changed byte does."""

from __future__ import annotations

import json
import math
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.errors import DiskFullError, PressroomError
from tests.tiny_model import TENSORS, write_tiny_model
from workers.models.files import (
    CALIBRATION,
    MANIFEST,
    ModelFormatError,
    RemoteCodeError,
)
from workers.models.install import Installation, ModelNameTakenError, add_model
from workers.models.manifest import (
    Manifest,
    ModelNameError,
    ModelNotInstalledError,
    ModelOutdatedError,
    WeightsDigestError,
    check_installed,
    file_entry,
    list_models,
    model_folder,
    read_manifest,
    verify_model,
)
from workers.models.sources import (
    Download,
    FolderSource,
    Progress,
    RevisionNotPinnedError,
)

pytestmark = pytest.mark.usefixtures("untried")


@pytest.fixture
def source(tmp_path: Path) -> FolderSource:
    return FolderSource(write_tiny_model(tmp_path / "source"), licence="Apache-2.0")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def installed(source: FolderSource, models: Path) -> Installation:
    return add_model("tiny", models, source)


def hidden(models: Path) -> list[str]:
    return [path.name for path in models.iterdir() if path.name.endswith(".partial")]


def test_manifest_says_what_the_model_is_and_where_it_came_from(
    installed: Installation, source: FolderSource
) -> None:
    manifest = installed.manifest

    assert not installed.was_installed
    assert manifest.source == f"folder:{source.folder}"
    assert (manifest.revision, manifest.licence) == ("local", "Apache-2.0")
    assert (manifest.architecture, manifest.max_context_tokens) == ("LlamaForCausalLM", 128)
    assert manifest.num_parameters == sum(math.prod(shape) for shape in TENSORS.values())
    assert {file.path for file in manifest.files} == {path.name for path in source.folder.iterdir()}
    assert verify_model(installed.folder) == manifest


@pytest.mark.attack("home folder of somebody else")
def test_lock_of_a_model_is_its_owners_alone(installed: Installation, models: Path) -> None:
    (lock,) = models.glob(".*.lock")
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600


def test_second_install_finds_the_first_and_reads_no_weights(installed: Installation, models: Path) -> None:
    (installed.folder / "model.safetensors").unlink()

    again = add_model("tiny", models)

    assert again.was_installed
    assert again.manifest == installed.manifest


def test_same_files_have_the_same_weights_digest_under_another_name(
    installed: Installation, models: Path, source: FolderSource
) -> None:
    other = add_model("other", models, source)

    assert other.manifest.weights_sha256 == installed.manifest.weights_sha256
    assert [manifest.name for manifest in list_models(models)] == ["other", "tiny"]


def make_outdated(folder: Path) -> None:
    """As an older version left it: without a trial, and with a file that no worker loads."""
    (folder / "data_config.json").write_text("{}")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"].append(file_entry(folder / "data_config.json").model_dump())
    del manifest["trial"]
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_outdated_model_is_refused_with_the_command_that_mends_it(installed: Installation) -> None:
    make_outdated(installed.folder)

    for read in (read_manifest, check_installed, verify_model):
        with pytest.raises(ModelOutdatedError, match="run `pressroom models add tiny`") as caught:
            read(installed.folder)
        assert caught.value.code == "model_outdated"
    assert [manifest.name for manifest in list_models(installed.folder.parent)] == ["tiny"]


def test_adding_an_outdated_model_loads_its_own_files_and_keeps_its_calibration(
    installed: Installation, models: Path
) -> None:
    make_outdated(installed.folder)
    (installed.folder / CALIBRATION).write_text("{}")

    renewed = add_model("tiny", models)

    assert not renewed.was_installed
    assert renewed.manifest == installed.manifest
    assert (installed.folder / CALIBRATION).read_text() == "{}"
    assert not (installed.folder / "data_config.json").exists()
    assert verify_model(installed.folder) == installed.manifest
    assert hidden(models) == []
    assert add_model("tiny", models).was_installed


def test_outdated_model_that_was_changed_is_not_renewed(installed: Installation, models: Path) -> None:
    make_outdated(installed.folder)
    (installed.folder / "tokenizer.json").write_text("{}")

    with pytest.raises(WeightsDigestError, match=r"delete .*tiny and run"):
        add_model("tiny", models)

    with pytest.raises(ModelOutdatedError):
        read_manifest(installed.folder)


def test_name_is_not_given_to_a_second_source(installed: Installation, models: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNameTakenError, match="another name"):
        add_model("tiny", models, FolderSource(write_tiny_model(tmp_path / "second")))


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "Tiny", "a\n", "x" * 65, "a b"])
def test_name_that_is_no_folder_name_is_refused(models: Path, source: FolderSource, name: str) -> None:
    with pytest.raises(ModelNameError):
        add_model(name, models, source)
    with pytest.raises(ModelNameError):
        model_folder(models, name)
    assert not models.exists()


def test_model_not_installed_tells_the_command(models: Path) -> None:
    with pytest.raises(ModelNotInstalledError, match="run `pressroom models add tiny`") as caught:
        verify_model(models / "tiny")

    assert caught.value.code == "model_not_installed"
    assert list_models(models) == ()


@pytest.mark.attack("pickled weights or code in a model folder")
@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "weights.pt", "weights.PKL", "modeling_x.py", "original/consolidated.pth"]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_file_that_can_run_code_is_refused(source: FolderSource, models: Path, name: str, when: str) -> None:
    """Attack 5, at intake and in the installed folder."""
    if when == "after":
        add_model("tiny", models, source)
    path = (models / "tiny" if when == "after" else source.folder) / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"cos\nsystem\n")

    with pytest.raises(ModelFormatError, match="only from safetensors and GGUF") as caught:
        verify_model(models / "tiny") if when == "after" else add_model("tiny", models, source)

    assert caught.value.code == "model_format_refused"


@pytest.mark.attack("auto_map in a model's files")
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("nested", [False, True])
def test_auto_map_is_refused(source: FolderSource, models: Path, name: str, nested: bool) -> None:
    """Attack 6."""
    settings = json.loads((source.folder / name).read_text())
    auto_map = {"auto_map": {"AutoModel": "modeling_x.Model"}}
    settings.update({"text_config": [auto_map]} if nested else auto_map)
    (source.folder / name).write_text(json.dumps(settings))

    with pytest.raises(RemoteCodeError) as caught:
        add_model("tiny", models, source)

    assert caught.value.code == "model_remote_code_refused"
    assert list_models(models) == ()
    assert hidden(models) == []


def test_auto_map_as_a_word_of_the_vocabulary_is_no_code(source: FolderSource, models: Path) -> None:
    (source.folder / "vocab.json").write_text(json.dumps({"auto_map": 7}))

    assert add_model("tiny", models, source).manifest.name == "tiny"


@pytest.mark.attack("altered weights")
@settings(deadline=None)  # it installs a model each time, and asserts nothing about speed
@given(position=st.integers(min_value=0, max_value=10_000), flip=st.integers(min_value=1, max_value=255))
def test_any_changed_byte_of_the_weights_is_found(
    tmp_path_factory: pytest.TempPathFactory, position: int, flip: int
) -> None:
    """Attack 7; header bytes too: the digest is compared before anything parses them."""
    root = tmp_path_factory.mktemp("flip")
    folder = add_model("tiny", root / "models", FolderSource(write_tiny_model(root / "source"))).folder
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[position % len(weights)] ^= flip
    (folder / "model.safetensors").write_bytes(weights)

    with pytest.raises(WeightsDigestError) as caught:
        verify_model(folder)

    assert caught.value.code == "weights_digest_mismatch"


def drop_a_file(folder: Path) -> None:
    (folder / "config.json").unlink()


def add_a_file(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")


def truncate_the_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")


def forge_the_digest(folder: Path) -> None:
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace(read_manifest(folder).weights_sha256, "0" * 64))


@pytest.mark.parametrize("change", [drop_a_file, add_a_file, truncate_the_tokenizer, forge_the_digest])
def test_folder_that_is_not_its_manifest_is_refused(
    installed: Installation, change: Callable[[Path], None]
) -> None:
    change(installed.folder)

    with pytest.raises(WeightsDigestError):
        verify_model(installed.folder)


@pytest.mark.attack("model of a moving revision")
def test_manifest_that_names_a_moving_revision_is_refused(installed: Installation) -> None:
    manifest = json.loads((installed.folder / MANIFEST).read_text())
    manifest.update(source="hub:organisation/name@main", revision="main")
    (installed.folder / MANIFEST).write_text(json.dumps(manifest))

    with pytest.raises(RevisionNotPinnedError):
        verify_model(installed.folder)


def test_folder_without_weights_is_refused(source: FolderSource, models: Path) -> None:
    (source.folder / "model.safetensors").unlink()

    with pytest.raises(ModelFormatError, match="no safetensors weights"):
        add_model("tiny", models, source)


class FailingSource:
    """Breaks off after its first file, as a lost connection does."""

    revision = "1"
    licence = None

    def describe(self) -> Download:
        return Download("half a model", None, None)

    def fetch(self, target: Path, progress: Progress) -> None:
        (target / "config.json").write_text("{}")
        raise ConnectionResetError("gone")


def test_install_that_breaks_off_leaves_nothing(models: Path, source: FolderSource) -> None:
    with pytest.raises(ConnectionResetError):
        add_model("tiny", models, FailingSource())

    assert list_models(models) == ()
    assert hidden(models) == []
    assert not add_model("tiny", models, source).was_installed


def test_leftover_of_a_killed_install_is_swept_and_never_listed(models: Path, source: FolderSource) -> None:
    leftover = models / ".other.abcd1234.partial"
    write_tiny_model(leftover / "fetched")
    (leftover / MANIFEST).write_text("{}")

    assert list_models(models) == ()
    add_model("tiny", models, source)

    assert hidden(models) == []


class HugeSource(FailingSource):
    """More than any disk has."""

    def describe(self) -> Download:
        return Download("a huge model", 10**18, None)


def test_full_disk_is_told_before_the_download(models: Path) -> None:
    with pytest.raises(DiskFullError, match="PRESSROOM_MODELS_DIR"):
        add_model("tiny", models, HugeSource())


def test_manifest_with_an_unknown_field_or_a_path_is_refused(installed: Installation) -> None:
    text = (installed.folder / MANIFEST).read_text()
    for changed in (text.replace('"name"', '"nom"'), text.replace("config.json", "../config.json")):
        (installed.folder / MANIFEST).write_text(changed)
        with pytest.raises(PressroomError) as caught:
            read_manifest(installed.folder)
        assert caught.value.code == "model_file_malformed"


def test_manifest_survives_its_own_json(installed: Installation) -> None:
    assert Manifest.model_validate_json(installed.manifest.model_dump_json()) == installed.manifest


def test_installing_and_verifying_needs_no_torch(source: FolderSource, models: Path) -> None:
    code = (
        "import sys, pathlib;"
        "from pressroom.commands import models;"
        "from workers.models.install import add_model;"
        "from workers.models.sources import FolderSource;"
        "from workers.models.manifest import verify_model;"
        "source, models = map(pathlib.Path, sys.argv[1:]);"
        "from workers.models.manifest import Trial;"
        "nothing = lambda folder, num_parameters: Trial(engines={}, versions={});"
        "verify_model(add_model('tiny', models, FolderSource(source), trial=nothing).folder);"
        "print(sorted({'torch', 'transformers', 'huggingface_hub'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(source.folder), str(models)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert done.stdout.strip() == "[]"
