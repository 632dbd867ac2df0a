"""The process that computes an encoder on a CPU: `python -m workers.engines.encoder_child DESCRIPTOR...`.

Each descriptor is one end of a connection. On the first, the process receives a LoadRequest and returns
ModelReady or LoadFailure; then it receives batches on every connection and returns their answers. Each batch
is computed by one core. The process ends when its stdin is closed, even in the middle of a step, so that it
does not outlive the worker that started it. It ignores the signals of a terminal or of a service manager,
which that worker handles.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from jobs.errors import ConfigurationError, PressroomError
from workers.child_process import begin_child
from workers.engine import EncoderRow
from workers.engines.encoder_process import (
    Answer,
    Batch,
    BatchAnswers,
    BatchFailure,
    LoadFailure,
    LoadRequest,
    ModelReady,
)

if TYPE_CHECKING:
    from workers.engines.encoder_model import TransformersEncoder

_computing: set[int] = set()
"""Ids of the threads that are computing a batch."""


def main() -> None:
    """Load the model that the LoadRequest names, and serve each connection in its own thread."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m workers.engines.encoder_child DESCRIPTOR...")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    begin_child(0, before_exit=_dump_hung_step)
    connections = [Connection(int(descriptor)) for descriptor in sys.argv[1:]]
    request: LoadRequest = connections[0].recv()
    try:
        encoder = _load(request)
    except PressroomError as error:
        connections[0].send(LoadFailure(error))
        return
    connections[0].send(
        ModelReady(info=encoder.info, num_tokens=encoder.num_tokens, step_tokens=encoder.step_tokens)
    )
    lanes = [threading.Thread(target=_serve, args=(connection, encoder)) for connection in connections]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()


def _dump_hung_step() -> None:
    if _computing:  # the worker's watchdog cannot tell where a step hangs
        faulthandler.dump_traceback(file=2, all_threads=True)


def _load(request: LoadRequest) -> TransformersEncoder:
    try:
        from workers.engines.encoder_model import TransformersEncoder
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the encoder cannot be loaded ({error}): install the extra `pressroom[engine]`",
            code="engine_not_installed",
        ) from error
    return TransformersEncoder(request.model_folder, request.max_tokens, request.options, request.task)


def _serve(connection: Connection, encoder: TransformersEncoder) -> None:
    """Answer batches until the engine closes the connection.

    An error here closes the connection, which ends the engine.
    """
    encoder.use_one_core()
    with connection:
        while True:
            try:
                batch: Batch = connection.recv()
            except EOFError:
                return
            connection.send(_answer(encoder, batch))


def _answer(encoder: TransformersEncoder, batch: Batch) -> Answer:
    _computing.add(threading.get_ident())
    try:
        return BatchAnswers(encoder.encode([EncoderRow(*ids) for ids in batch]))
    except Exception as error:  # noqa: BLE001 - the engine decides whether a row or the device caused it
        traceback.print_exc()
        return BatchFailure(str(error), is_memory=isinstance(error, MemoryError))
    finally:
        _computing.discard(threading.get_ident())


if __name__ == "__main__":
    main()
