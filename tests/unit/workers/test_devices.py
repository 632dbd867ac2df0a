"""Devices: found without CUDA, and each worker process pinned to its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.errors import ConfigurationError
from workers.devices import Device, parse_devices, threads_for


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH; no GPU is hidden by the environment."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def nvidia_smi(folder: Path, script: str) -> None:
    command = folder / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)


def names(given: str) -> list[str]:
    return [device.name for device in parse_devices(given)]


def test_a_machine_without_the_driver_has_its_cpu(commands: Path) -> None:
    assert names("auto") == ["cpu"]


def test_every_gpu_of_the_machine_is_found(commands: Path) -> None:
    nvidia_smi(commands, '[ "$1" = --query-gpu=index ] && printf "0\\n1\\n2\\n"')
    assert names("auto") == ["cuda:0", "cuda:1", "cuda:2"]


def test_a_driver_that_fails_leaves_the_cpu(commands: Path) -> None:
    nvidia_smi(commands, "echo 'Failed to initialize NVML'; exit 9")
    assert names("auto") == ["cpu"]


@pytest.mark.parametrize(
    ("visible", "expected"), [("2,3", ["cuda:2", "cuda:3"]), ("", ["cpu"]), ("-1", ["cpu"])]
)
def test_gpus_that_the_environment_hides_are_not_used(
    commands: Path, monkeypatch: pytest.MonkeyPatch, visible: str, expected: list[str]
) -> None:
    nvidia_smi(commands, 'printf "0\\n1\\n2\\n3\\n"')
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert names("auto") == expected


def test_a_list_is_read_as_it_is_written() -> None:
    assert names(" CUDA:1 ,cpu") == ["cuda:1", "cpu"]
    assert names("cpu,cpu") == ["cpu", "cpu"]


@pytest.mark.parametrize("given", ["gpu", "cuda", "cuda:x", "", "cpu,", "cuda:-1", "mps"])
def test_an_unknown_device_is_refused_with_what_to_give(given: str) -> None:
    with pytest.raises(ConfigurationError, match="auto, cpu, cuda:N") as refusal:
        parse_devices(given)
    assert refusal.value.code == "device_unknown"


def test_a_gpu_has_one_owner() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parse_devices("cuda:0,cpu,cuda:0")
    assert refusal.value.code == "device_twice"


def test_a_worker_sees_its_own_gpu_and_no_other() -> None:
    environment = Device("cuda:3").environment()
    assert environment["CUDA_VISIBLE_DEVICES"] == "3"
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert Device("cpu").environment()["CUDA_VISIBLE_DEVICES"] == ""


def test_cpu_workers_share_the_cores() -> None:
    cpu, gpu = Device("cpu"), Device("cuda:0")
    assert threads_for([cpu, cpu, gpu], 8) == 4
    assert threads_for([gpu, gpu], 8) == 8
    assert threads_for([cpu] * 4, 2) == 1


def test_gpus_named_by_uuid_keep_their_name(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8f2a,MIG-77")
    devices = parse_devices("auto")
    assert [device.name for device in devices] == ["cuda:0", "cuda:1"]
    assert [device.environment()["CUDA_VISIBLE_DEVICES"] for device in devices] == ["GPU-8f2a", "MIG-77"]
