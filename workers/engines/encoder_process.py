"""The engine's side of an encoder that computes in a separate process. It sends batches and receives answers.

The messages between the two processes are pickled.
"""

from __future__ import annotations

import logging
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import cast

from jobs.errors import EngineLostError, PressroomError
from jobs.losses import FAULT_SIGNALS
from workers.child_process import start_child
from workers.engine import EncoderInfo, EncoderRow, EncoderTask, EngineOptions, Vector

RowIds = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids and type ids of a row; tuples of integers are pickled without calls into Python."""

Batch = list[RowIds]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """The first message to the process: the model to load."""

    model_folder: Path
    task: EncoderTask
    max_tokens: int
    options: EngineOptions
    """Options without `on_broken`, which is only called in the engine's process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReady:
    """The answer to a LoadRequest if the model was loaded: from now on, each connection accepts batches."""

    info: EncoderInfo
    num_tokens: int
    step_tokens: int


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """The answer to a LoadRequest if the model cannot be loaded; the process then ends."""

    error: PressroomError


@dataclass(frozen=True, slots=True)
class BatchAnswers:
    """The answers to a batch, in the order of its rows."""

    vectors: Sequence[Vector]


@dataclass(frozen=True, slots=True)
class BatchFailure:
    """The error that a batch raised in the process."""

    error: str
    is_memory: bool


Answer = BatchAnswers | BatchFailure


logger = logging.getLogger(__name__)

STOP_SECONDS = 10.0
"""Time after which a process that was asked to end is killed."""

LAST_SECONDS = 1.0
"""Time to wait for the process to end after a call has failed, before it is reported as unreachable."""


class EncoderProcess:
    """Implements workers.engines.encoding.EncoderExecutor with a process of `workers.engines.encoder_child`.

    Each call has a connection to itself, so as many calls can run at once as there are connections. When the
    process has ended, every call raises EngineLostError.
    """

    def __init__(self, request: LoadRequest, num_connections: int, on_lost: Callable[[], None]) -> None:
        """Start the process and return once the model is loaded.

        Raises what loading the model raises, or EngineLostError. If the process ends later, but before
        `close`, `on_lost` is called once, in a separate thread.
        """
        pairs: list[tuple[Connection, Connection]] = [Pipe() for _ in range(num_connections)]
        theirs = [their.fileno() for _, their in pairs]
        self._process = start_child("workers.engines.encoder_child", *map(str, theirs), pass_fds=theirs)
        for _, their in pairs:
            their.close()
        self._connections = [own for own, _ in pairs]
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        for connection in self._connections:
            self._idle.put(connection)
        self._is_closing = False
        self._on_lost = on_lost
        try:
            self._loaded = self._load(request)
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._watch, name="encoder-process", daemon=True).start()

    def _load(self, request: LoadRequest) -> ModelReady:
        answer = cast("ModelReady | LoadFailure", self._send(request))
        if isinstance(answer, LoadFailure):
            raise answer.error
        return answer

    def _watch(self) -> None:
        code = self._process.wait()
        if not self._is_closing:
            logger.error("The encoder's process ended.", extra={"exit_code": code})
            self._on_lost()

    @property
    def info(self) -> EncoderInfo:
        return self._loaded.info

    @property
    def num_tokens(self) -> int:
        return self._loaded.num_tokens

    @property
    def step_tokens(self) -> int:
        return self._loaded.step_tokens

    def encode(self, rows: Sequence[EncoderRow]) -> list[Vector]:
        batch: Batch = [(row.token_ids, row.type_ids) for row in rows]
        answer = cast(Answer, self._send(batch))
        if isinstance(answer, BatchFailure):
            raise MemoryError(answer.error) if answer.is_memory else RuntimeError(answer.error)
        return list(answer.vectors)

    def _send(self, message: object) -> object:
        connection = self._idle.get()
        try:
            connection.send(message)
            return connection.recv()
        except BaseException as error:
            connection.close()  # a late answer in it would go to another call
            if isinstance(error, Exception):
                raise EngineLostError(f"the encoder's process {self._end()}: {error!r}") from error
            raise
        finally:
            self._idle.put(connection)  # if it is closed, the next call fails, too, instead of blocking

    def _end(self) -> str:
        try:
            code = self._process.wait(LAST_SECONDS)
        except subprocess.TimeoutExpired:
            return "cannot be reached"
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    @property
    def was_killed(self) -> bool:
        """Whether a signal from outside ended the process, rather than a fault of its own."""
        code = self._process.poll()
        return code is not None and code < 0 and signal.Signals(-code) not in FAULT_SIGNALS

    def close(self) -> None:
        self._is_closing = True
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for connection in self._connections:
            connection.close()
