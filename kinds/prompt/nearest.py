"""Finds the examples whose turns are most like the turn of a row, by the cosine of their embeddings."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from jobs.errors import InputError
from jobs.inference import Inference, embedded
from jobs.kind import Context
from jobs.rejection import Refusal
from kinds.prompt.examples import Example, read_examples
from kinds.prompt.payload import PromptSettings

BLOCK_EXAMPLES = 256
"""Number of examples that are embedded at a time, about a second of a CPU core. Between two blocks, a job
notices that it was cancelled."""

NUM_DECIMALS = 5
"""Number of decimals in which similarities are compared. Embeddings of the same text in different batches
differ in later ones, which must not decide about the order of examples."""

Vectors = npt.NDArray[np.float32]


class ExampleSet:
    """The examples of a batch and their embeddings. Any thread may use it.

    A worker process keeps one object per examples file (`jobs.kind.Resources.load`), so each file is embedded
    once per process, by the first job that needs it, while other jobs wait.
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = tuple(examples)
        self._lock = threading.Lock()
        self._vectors: dict[str, Vectors] = {}

    def nearest(self, turn: str, number: int, inference: Inference, embedder: str) -> tuple[Example, ...]:
        """Return at most `number` examples, the nearest last, so that it stands next to the row's own turn.

        Of equally near examples, the first ones in the file are taken. An example with the same turn as the
        row is the row itself and is left out. The embedder reads the beginning of a turn that is too long for
        it. Raises InputError for a turn that cannot be embedded, and the errors of `Inference.embed`.
        """
        vectors = self._embedded(inference, embedder)
        if not vectors.shape[1]:
            return ()
        (query,) = embedded([turn], inference, model=embedder)
        if isinstance(query, Refusal):
            raise InputError(f"no examples can be found for this row: {query.reason}", code=query.code)
        similarities = np.round(vectors @ np.array(query, np.float32), NUM_DECIMALS)
        return tuple(islice(self._others(turn, similarities), number))[::-1]

    def _others(self, turn: str, similarities: Vectors) -> Iterator[Example]:
        """Yield the examples with other turns, the nearest first, without those that have no embedding."""
        for place in np.argsort(-similarities, kind="stable"):  # NaN, for no embedding, comes last
            if np.isnan(similarities[place]):
                return
            example = self._examples[place]
            if example.turn != turn:
                yield example

    def _embedded(self, inference: Inference, embedder: str) -> Vectors:
        """Return the embeddings, shape (num_examples, width), of norm 1; NaN for a turn without one.

        The width is 0 if no turn can be embedded.
        """
        with self._lock:
            vectors = self._vectors.get(embedder)
            if vectors is None:
                vectors = _vectors([example.turn for example in self._examples], inference, embedder)
                self._vectors[embedder] = vectors
            return vectors


def nearest_examples(turn: str, settings: PromptSettings, context: Context) -> tuple[Example, ...]:
    """Return the examples for the prompt of a row with this turn, the nearest last.

    Raises ResourceMissingError, and the errors of `ExampleSet.nearest`.
    """
    if settings.examples_sha256 is None or settings.embedder is None:
        return ()
    examples = context.resources.load(settings.examples_sha256, _read_set)
    return examples.nearest(turn, settings.num_examples, context.inference, settings.embedder)


def _read_set(body: bytes) -> ExampleSet:
    return ExampleSet(read_examples(body))


def _vectors(turns: Sequence[str], inference: Inference, embedder: str) -> Vectors:
    rows: list[tuple[float, ...] | Refusal] = []
    for start in range(0, len(turns), BLOCK_EXAMPLES):
        rows += embedded(turns[start : start + BLOCK_EXAMPLES], inference, model=embedder)
    width = next((len(row) for row in rows if not isinstance(row, Refusal)), 0)
    missing = (np.nan,) * width
    return np.array([missing if isinstance(row, Refusal) else row for row in rows], np.float32)
