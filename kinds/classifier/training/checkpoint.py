"""Checkpoints, each with the whole state of a training in one safetensors file.

Unlike a pickle, such a file is safe to load whoever wrote it.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from jobs.errors import PermanentError

_NAME = re.compile(r"step-(\d{8})\.safetensors")


class CheckpointError(PermanentError):
    """A checkpoint belongs to another training."""

    code = "training_checkpoint_unusable"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation on the dev part."""

    step: int
    loss: float
    """Mean of the training loss since the last evaluation."""
    macro_f1: float
    """Macro-F1 as the mean over the files."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of the trainings whose mean is the model, once it has ended."""

    best_step: int
    """Step of its best weights, which are kept; counted over all members."""
    macro_f1: float
    """Macro-F1 on the dev part as the mean over the files."""


@dataclass(slots=True)
class Progress:
    """State of a training without its tensors. The random numbers of a step follow from its number."""

    step: int = 0
    """Number of the step over all members; a member that ends early skips the numbers of its last steps."""
    loss_sum: float = 0.0
    loss_steps: int = 0
    best_f1: float = -1.0
    """Best dev macro-F1 of the member that is being trained."""
    best_step: int = 0
    seconds: float = 0.0
    """Training time so far, including that before restarts."""
    history: list[Evaluation] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    """Members whose training has ended."""


def write_checkpoint(
    folder: Path, progress: Progress, groups: dict[str, dict[str, Tensor]], *, order_sha256: str
) -> Path:
    """Write a file for the step atomically; `groups` are parameters, moments and averages."""
    path = folder / f"step-{progress.step:08d}.safetensors"
    partial = path.with_suffix(".partial")
    tensors = {
        f"{group}/{name}": each.contiguous()
        for group, named in groups.items()
        for name, each in named.items()
    }
    metadata = {"progress": json.dumps(asdict(progress)), "order_sha256": order_sha256}
    save_file(tensors, partial, metadata=metadata)
    os.replace(partial, path)
    return path


def read_newest(folder: Path, *, order_sha256: str) -> tuple[Progress, dict[str, dict[str, Tensor]]] | None:
    """Return the state of the latest step, or None. Raises CheckpointError if it is of another order."""
    found = sorted(path for path in folder.glob("*.safetensors") if _NAME.fullmatch(path.name))
    if not found:
        return None
    groups: dict[str, dict[str, Tensor]] = {}
    with safe_open(found[-1], framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("order_sha256") != order_sha256:
            raise CheckpointError(
                f"{found[-1].name} is a checkpoint of another order: delete it to begin anew"
            )
        for key in file.keys():  # noqa: SIM118 - not a mapping
            group, _, name = key.partition("/")
            groups.setdefault(group, {})[name] = file.get_tensor(key)
    values = json.loads(metadata["progress"])
    values["history"] = [Evaluation(**each) for each in values["history"]]
    values["members"] = [Member(**each) for each in values["members"]]
    return Progress(**values), groups


def copied(named: dict[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    """Return copies of the current values of the parameters."""
    return {name: each.detach().clone() for name, each in named.items()}


def put(named: dict[str, torch.nn.Parameter], values: dict[str, Tensor]) -> None:
    """Set the parameters to the values."""
    with torch.no_grad():
        for name, each in named.items():
            each.copy_(values[name])
