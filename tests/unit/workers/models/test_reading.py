"""Files of a model folder: opened once, no link followed, digested as they are read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny_model import write_tiny_model
from workers.models.calibration import read_calibration
from workers.models.classifier import CLASSIFIER, read_classifier_settings
from workers.models.files import (
    CALIBRATION,
    MAX_JSON_DEPTH,
    MalformedFileError,
    ModelIncompleteError,
    check_formats,
    read_json_object,
)
from workers.models.install import add_model
from workers.models.manifest import check_installed, verify_model
from workers.models.reading import (
    MAX_SETTINGS_BYTES,
    ModelFiles,
    NotAFileError,
    WeightsDigestError,
    read_digested,
)
from workers.models.sources import FolderSource
from workers.tokenizer import load_tokenizer

pytestmark = pytest.mark.usefixtures("untried")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.mkdir()


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_elsewhere(path: Path) -> None:
    other = path.parent.parent / "elsewhere"
    other.write_text("{}")
    path.symlink_to(other)


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


IRREGULAR = [make_pipe, make_folder, link_to_device, link_elsewhere, link_to_itself]


def test_digest_is_that_of_the_bytes_that_were_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"weights")

    body, digest = read_digested(tmp_path / "a")
    assert (bytes(body), digest) == (b"weights", hashlib.sha256(b"weights").hexdigest())


@pytest.mark.attack("FIFO, device or folder in place of a file")
@pytest.mark.parametrize("make", IRREGULAR)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "README.md"])
def test_what_is_no_regular_file_is_refused_before_it_is_opened(
    tmp_path: Path, make: Callable[[Path], None], name: str
) -> None:
    """A named pipe would wait for a writer for ever, a device has no end."""
    folder = write_tiny_model(tmp_path / "source")
    (folder / name).unlink(missing_ok=True)
    make(folder / name)

    with pytest.raises(NotAFileError, match=name) as caught:
        add_model("tiny", tmp_path / "models", FolderSource(folder))

    assert caught.value.code == "model_file_irregular"


@pytest.mark.parametrize("make", IRREGULAR)
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "chat_template.jinja"])
def test_installed_file_that_became_a_pipe_or_a_link_is_refused(
    tmp_path: Path, make: Callable[[Path], None], name: str
) -> None:
    folder = add_model(
        "tiny", tmp_path / "models", FolderSource(write_tiny_model(tmp_path / "source"))
    ).folder
    (folder / name).unlink()
    make(folder / name)

    with pytest.raises(NotAFileError, match=name):
        verify_model(folder)


def test_calibration_that_became_a_pipe_is_told_with_the_way_out(tmp_path: Path) -> None:
    folder = add_model(
        "tiny", tmp_path / "models", FolderSource(write_tiny_model(tmp_path / "source"))
    ).folder
    os.mkfifo(folder / CALIBRATION)

    with pytest.raises(MalformedFileError, match=r"a named pipe.*--remove"):
        read_calibration(folder, verify_model(folder))


def test_settings_of_more_layers_than_the_weights_can_have_are_refused(tmp_path: Path) -> None:
    """Before a library builds them."""
    folder = write_tiny_model(tmp_path / "source")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "num_hidden_layers": 10**7}))

    with pytest.raises(ModelIncompleteError, match="num_hidden_layers is 10000000"):
        add_model("tiny", tmp_path / "models", FolderSource(folder))


def test_link_to_the_same_bytes_is_refused_too(tmp_path: Path) -> None:
    """What stands behind it could be changed by whoever owns that place."""
    folder = add_model(
        "tiny", tmp_path / "models", FolderSource(write_tiny_model(tmp_path / "source"))
    ).folder
    (folder / "model.safetensors").rename(tmp_path / "blob")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")

    with pytest.raises(NotAFileError, match="a symbolic link"):
        verify_model(folder)


def test_links_of_the_hubs_cache_and_inside_a_folder_are_followed(tmp_path: Path) -> None:
    cache = tmp_path / "models--a--b"
    snapshot = write_tiny_model(cache / "snapshots" / "0123")
    (cache / "blobs").mkdir()
    (snapshot / "tokenizer.json").rename(cache / "blobs" / "f00")
    (snapshot / "tokenizer.json").symlink_to("../../blobs/f00")
    (snapshot / "config.json").rename(snapshot / "other")
    (snapshot / "config.json").symlink_to("other")

    folder = add_model("tiny", tmp_path / "models", FolderSource(snapshot)).folder

    assert not (folder / "tokenizer.json").is_symlink()
    assert verify_model(folder).name == "tiny"


def test_huge_settings_are_refused_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(MAX_SETTINGS_BYTES + 1)  # a file of holes: nothing is written

    with pytest.raises(MalformedFileError, match="at most"):
        read_json_object(path)


@pytest.mark.parametrize("depth", [MAX_JSON_DEPTH + 1, 900, 100_000])
def test_deep_settings_are_refused(tmp_path: Path, depth: int) -> None:
    (tmp_path / "config.json").write_text('{"a":' * depth + "1" + "}" * depth)

    with pytest.raises(MalformedFileError):
        check_formats(tmp_path)


def test_file_of_other_bytes_than_the_manifest_names_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"installed")
    files = ModelFiles(tmp_path, {"a": hashlib.sha256(b"installed").hexdigest()})
    assert files.read("a") == b"installed"
    (tmp_path / "a").write_bytes(b"swapped")

    with pytest.raises(WeightsDigestError, match="changed after the installation"):
        files.read("a")


def test_file_that_the_manifest_does_not_name_is_not_there_for_a_loader(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"planted")
    files = ModelFiles(tmp_path, {})

    assert not files.has("a")
    with pytest.raises(WeightsDigestError, match="is not listed in the manifest"):
        files.read("a")


@pytest.mark.attack("model swapped after its digest was taken")
@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"]
)
def test_tokenizer_swapped_after_the_check_is_not_loaded(tmp_path: Path, name: str) -> None:
    folder = add_model(
        "tiny", tmp_path / "models", FolderSource(write_tiny_model(tmp_path / "source"))
    ).folder
    manifest = check_installed(folder)
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")

    with pytest.raises(WeightsDigestError, match=name):
        load_tokenizer(folder, manifest.digests)


def test_classifier_settings_swapped_after_the_check_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / CLASSIFIER).write_text("{}")

    with pytest.raises(WeightsDigestError):
        read_classifier_settings(tmp_path, {CLASSIFIER: "0" * 64})
