"""An encoder's arithmetic in a process of its own, seen from the engine: batches out, answers in."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from typing import cast

from jobs.errors import ConfigurationError, EngineLostError
from workers.encoder import EncoderInfo, EncoderRow, Vector
from workers.engines.encoder_messages import Answer, Batch, EncoderOrder, Failed, Loaded, Refused

STOP_SECONDS = 10.0
"""After which a process that was asked to end is killed."""


class EncoderProcess:
    """Implements workers.engines.encoding.EncoderExecutor by `workers.engines.encoder_child`.

    Each call takes a connection that no other call uses; as many may run at once as there are connections.
    When the process has ended, every call raises EngineLostError.
    """

    def __init__(self, order: EncoderOrder, num_connections: int) -> None:
        """Returns once the model is loaded. Raises ConfigurationError, or EngineLostError if it dies."""
        pairs: list[tuple[Connection, Connection]] = [Pipe() for _ in range(num_connections)]
        theirs = [their.fileno() for _, their in pairs]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "workers.engines.encoder_child", *map(str, theirs)],
            stdin=subprocess.PIPE,  # closed when this process ends, however it ends, and the child with it
            pass_fds=theirs,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        for _, their in pairs:
            their.close()
        self._connections = [own for own, _ in pairs]
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        for connection in self._connections:
            self._idle.put(connection)
        self._loaded = self._load(order)

    def _load(self, order: EncoderOrder) -> Loaded:
        loaded = self._ask(order)
        if isinstance(loaded, Refused):
            self.close()
            raise ConfigurationError(loaded.message, code=loaded.code)
        if not isinstance(loaded, Loaded):
            raise TypeError(f"the encoder's process said {loaded!r}")
        return loaded

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
        answer = cast(Answer, self._ask(batch))
        if isinstance(answer, Failed):
            raise MemoryError(answer.error) if answer.is_memory else RuntimeError(answer.error)
        return list(answer.vectors)

    def _ask(self, message: object) -> object:
        connection = self._idle.get()
        try:
            connection.send(message)
            return connection.recv()
        except (EOFError, OSError) as error:
            raise EngineLostError(f"the encoder's process {self._end()}") from error
        finally:
            self._idle.put(connection)

    def _end(self) -> str:
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its connections"
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for connection in self._connections:
            connection.close()
