"""A model is loaded once when it is added: in a child process, bounded, and ended with its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.errors import ConfigurationError
from tests.factories import wait_until
from tests.tiny_llama import write_tiny_llama
from workers import child_process
from workers.child_process import LIBRARY_BYTES, run_child
from workers.engines import trial
from workers.engines.trial import try_model
from workers.models.files import ModelIncompleteError
from workers.models.install import add_model
from workers.models.manifest import Trial, list_models, read_manifest
from workers.models.sources import FolderSource


def install(folder: Path, models: Path) -> Trial | None:
    return add_model("tiny", models, FolderSource(folder)).manifest.trial


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_missing_tensor_is_model_incomplete_at_add(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "source")
    change_weights(folder, lambda tensors: tensors.pop("model.norm.weight"))

    with pytest.raises(ModelIncompleteError, match=r"source: 1 tensor is missing: model\.norm\.weight"):
        install(folder, tmp_path / "models")

    assert list_models(tmp_path / "models") == ()


def test_added_model_was_compared_with_generate_whatever_its_generation_config_asks_for(
    tmp_path: Path,
) -> None:
    folder = write_tiny_llama(tmp_path / "source")
    flags = {"do_sample": True, "temperature": 0.6, "repetition_penalty": 1.3, "max_length": 5}
    (folder / "generation_config.json").write_text(json.dumps({**flags, "eos_token_id": [256]}))

    found = install(folder, tmp_path / "models")

    assert found is not None
    assert found.engines == {"transformers": ""}
    assert set(found.versions) == {"torch", "transformers"}
    assert read_manifest(tmp_path / "models" / "tiny").trial == found


def test_weights_that_compute_no_numbers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tiny_llama(tmp_path / "source")
    change_weights(folder, lambda tensors: tensors["model.norm.weight"].fill_(float("nan")))

    assert "NaN" in answer_here(folder, tmp_path / "models", monkeypatch)


def test_tokenizer_of_a_larger_vocabulary_than_the_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tiny_llama(tmp_path / "source")
    settings = json.loads((folder / "tokenizer.json").read_text())
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    settings["added_tokens"].append({"id": 400, "content": "<extra>", "special": True, **plain})
    (folder / "tokenizer.json").write_text(json.dumps(settings))

    assert "the tokenizer has 259 tokens, but the weights have 258" in answer_here(
        folder, tmp_path / "models", monkeypatch
    )


def answer_here(folder: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the child process would refuse, found in this process, which has loaded torch already."""

    def try_here(tried: Path, *, num_parameters: int) -> Trial:
        answer = trial._answer(tried)
        if answer.trial is None:
            raise ConfigurationError(answer.message, code=answer.code)
        return answer.trial

    monkeypatch.setattr("workers.models.install.try_model", try_here)
    with pytest.raises(ConfigurationError) as caught:
        install(folder, models)
    return str(caught.value)


def test_child_that_dies_without_an_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.engines.trial.CHILD", "tests.no_such_module")

    with pytest.raises(ConfigurationError, match=r"ended with exit code 1: .*No module named") as caught:
        try_model(tmp_path, num_parameters=1)

    assert caught.value.code == "model_unloadable"


def test_child_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "SECONDS_TO_START", 3.0)

    ended = run_child("tests.sleeping_child", str(tmp_path / "sign"), model_bytes=0)

    assert ended.code is None
    assert ended.reason.startswith("took too long")
    assert not [each for each in psutil.Process().children() if "sleeping_child" in " ".join(each.cmdline())]


def test_child_that_wants_more_memory_than_a_model_takes_gets_none() -> None:
    ended = run_child("tests.sleeping_child", "allocate", str(2 * LIBRARY_BYTES), model_bytes=0)

    assert ended.code == 1
    assert "MemoryError" in ended.stderr


def test_child_ends_with_its_parent(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    code = (
        "import sys; from workers.child_process import run_child;"
        "run_child('tests.sleeping_child', sys.argv[1], model_bytes=0)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(sign)]) as parent:
        wait_until(sign.exists, "the child")
        (process,) = psutil.Process(parent.pid).children()
        os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "its end")
