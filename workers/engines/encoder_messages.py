"""The messages between an encoder's process and the engine that uses it, pickled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import PressroomError
from workers.encoder import EncoderInfo, EncoderTask, Vector
from workers.engine import EngineOptions

RowIds = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids and type ids of a row; tuples of integers are pickled without calls into Python."""

Batch = list[RowIds]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderOrder:
    """The first message to the process: the model to load."""

    model_folder: Path
    task: EncoderTask
    max_tokens: int
    options: EngineOptions
    """Options without `on_broken`, which is for the process that has the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The model is loaded; from now on each connection accepts batches."""

    info: EncoderInfo
    num_tokens: int
    step_tokens: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The model cannot be loaded, and the process ends."""

    error: PressroomError


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of a batch, in its order."""

    vectors: Sequence[Vector]


@dataclass(frozen=True, slots=True)
class Failed:
    """The error with which a batch ended."""

    error: str
    is_memory: bool


Answer = Answers | Failed
