"""The devices of this machine, and how a process is pinned to one before torch is imported."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobs.errors import ConfigurationError

logger = logging.getLogger(__name__)

NVIDIA_SMI_TIMEOUT_SECONDS = 20
"""Time-out of nvidia-smi, which takes seconds on a machine whose driver is not in persistence mode."""

_CUDA = re.compile(r"cuda:(\d+)")


@dataclass(frozen=True, slots=True)
class Device:
    """A device for one worker process."""

    name: str
    """"cpu", or "cuda:N" with N in the driver's numbering."""
    visible_as: str | None = None
    """The device's entry in CUDA_VISIBLE_DEVICES if that is not a number: the UUID of a GPU or a MIG slice.
    """

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables that hide all GPUs from a process except this device, if it is a
        GPU."""
        match = _CUDA.fullmatch(self.name)
        return {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # in nvidia-smi's order; CUDA's own order is by speed
            "CUDA_VISIBLE_DEVICES": self.visible_as or (match[1] if match else ""),
            "PRESSROOM_WORKER_DEVICE": self.name,
        }

    @property
    def torch_name(self) -> str:
        """Return torch's name for the device in a process that `environment` has pinned."""
        return "cuda:0" if _CUDA.fullmatch(self.name) else self.name


def parse_devices(names_text: str) -> list[Device]:
    """Read "auto", "cpu", "cuda:1" or a list such as "cuda:0,cuda:1". Raises ConfigurationError.

    >>> [device.name for device in parse_devices("cuda:0,cuda:1")]
    ['cuda:0', 'cuda:1']
    """
    if names_text == "auto":
        return _cuda_devices() or [Device("cpu")]
    names = [name.strip().lower() for name in names_text.split(",")]
    for name in names:
        if name != "cpu" and not _CUDA.fullmatch(name):
            raise ConfigurationError(
                f"{name!r} is not a device: use auto, cpu, cuda:N, or several of them separated by commas",
                code="device_unknown",
            )
    if len(set(names)) < len(names) and set(names) != {"cpu"}:
        raise ConfigurationError(
            f"{names_text!r} names a GPU twice, but only one worker process can use a GPU",
            code="device_twice",
        )
    return [Device(name) for name in names]


def _cuda_devices() -> list[Device]:
    """Return the GPUs that this process may use.

    CUDA is not used for this: loading it breaks forked children (pytorch#40403).
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        entries = [entry.strip() for entry in visible.split(",") if entry.strip() not in ("", "-1")]
        return [
            Device(f"cuda:{entry}") if entry.isdigit() else Device(f"cuda:{number}", visible_as=entry)
            for number, entry in enumerate(entries)
        ]
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        listed = subprocess.run(
            [command, "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=NVIDIA_SMI_TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        logger.warning("nvidia-smi fails, so no GPU is used. Repair the driver, or use --device.")
        return []
    return [Device(f"cuda:{index}") for index in listed.stdout.split() if index.isdigit()]


def threads_for(devices: Sequence[Device], num_cores: int) -> int:
    """Return the number of CPU threads per worker: the CPU workers share the cores.

    >>> threads_for([Device("cpu"), Device("cpu")], 8), threads_for([Device("cuda:0")], 8)
    (4, 8)
    """
    return max(1, num_cores // max(1, sum(device.name == "cpu" for device in devices)))
