"""The arithmetic of an encoder on a CPU: `python -m workers.engines.encoder_child DESCRIPTOR...`.

Each descriptor is an end of a connection. The first brings an EncoderOrder and takes back Loaded or Refused;
then each brings batches and takes back answers, computed by one core. The process ends when its stdin is
closed, in the middle of a step if need be: it does not outlive the worker that started it, and leaves the
signals of a terminal or of a service manager to that worker.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from jobs.errors import ConfigurationError
from workers.encoder import EncoderRow
from workers.engines.encoder_messages import Answer, Answers, Batch, EncoderOrder, Failed, Loaded, Refused

if TYPE_CHECKING:
    from workers.engines.encoder_model import TransformersEncoder


def main() -> None:
    """Load what is ordered, and serve each connection in a thread of its own."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m workers.engines.encoder_child DESCRIPTOR...")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    first, *others = (Connection(int(descriptor)) for descriptor in sys.argv[1:])
    order: EncoderOrder = first.recv()
    try:
        encoder = _load(order)
    except ConfigurationError as error:
        first.send(Refused(str(error), error.code))
        return
    first.send(Loaded(info=encoder.info, num_tokens=encoder.num_tokens, step_tokens=encoder.step_tokens))
    lanes = [threading.Thread(target=_serve, args=(connection, encoder)) for connection in (first, *others)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()


def _end_with_parent() -> None:
    while os.read(0, 1024):  # not sys.stdin: its lock would be held when this process ends by itself
        pass
    os._exit(0)


def _load(order: EncoderOrder) -> TransformersEncoder:
    try:
        from workers.engines.encoder_model import TransformersEncoder
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the encoder cannot be loaded ({error}): install the extra `pressroom[engine]`",
            code="engine_not_installed",
        ) from error
    return TransformersEncoder(order.model_folder, order.max_tokens, order.options, order.task)


def _serve(connection: Connection, encoder: TransformersEncoder) -> None:
    """Answer batches until the engine closes the connection."""
    encoder.use_one_core()
    while True:
        try:
            batch: Batch = connection.recv()
        except EOFError:
            return
        connection.send(_answer(encoder, [EncoderRow(*ids) for ids in batch]))


def _answer(encoder: TransformersEncoder, rows: list[EncoderRow]) -> Answer:
    try:
        return Answers(encoder.encode(rows))
    except Exception as error:  # noqa: BLE001 - whatever it is, the engine decides whose it is
        return Failed(repr(error), is_memory=isinstance(error, MemoryError))


if __name__ == "__main__":
    main()
