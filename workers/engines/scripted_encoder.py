"""A deterministic encoder without a model, for tests: with real threads and batches, but made-up answers.

It counts words of good and bad news, and hashes words into vectors, so that answers are plausible. The script
of the scripted engine can pause or slow the encoder, and make a marked text fail, hang, or kill the process.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from workers.engine import Encoder, EncoderInfo, EncoderRow, EncoderTask, EngineOptions, Vector
from workers.engines.encoding import EncodingEngine
from workers.engines.scripted import Script, play, script_of_environment
from workers.models.classifier import read_classifier_settings
from workers.tokenizer import RowTokenizer

LABELS = ("negative", "neutral", "positive")
"""Labels of a scripted classifier that has no folder."""

_DEFAULT_BATCH_TOKENS = 4096
_NUM_DIMENSIONS = 64
_WORD = re.compile(r"[a-z]+")
_GOOD = re.compile(
    r"beat|rise|rose|gain|surge|soar|profit|record|grow|upgrad|win|won|strong|rall|jump|good|approv|rais"
)
_BAD = re.compile(
    r"miss|fall|fell|loss|lose|plung|slump|drop|cut|weak|downgrad|fraud|probe|sue|lawsuit|recall|layoff|bad|warn"
)


def open_encoder(
    model_folder: Path,
    tokenizer: RowTokenizer,
    options: EngineOptions,
    task: EncoderTask,
) -> Encoder:
    """Start the encoder with the script that PRESSROOM_SCRIPT names, if any; raises ConfigurationError."""
    labels = read_classifier_settings(model_folder, options.digests).names if task == "classify" else ()
    executor = ScriptedEncoder(tokenizer, options, task, script_of_environment(), labels=labels)
    return EncodingEngine(executor, options)


def scripted_encoder(
    tokenizer: RowTokenizer,
    options: EngineOptions,
    task: EncoderTask,
    script: Script,
    gate: Callable[[], None] | None = None,
) -> EncodingEngine:
    """Start the encoder in this process; `gate` is called before each batch, in the engine's thread."""
    return EncodingEngine(ScriptedEncoder(tokenizer, options, task, script, gate), options)


class ScriptedEncoder:
    """Implements workers.engines.encoding.EncoderExecutor without arithmetic."""

    def __init__(
        self,
        tokenizer: RowTokenizer,
        options: EngineOptions,
        task: EncoderTask,
        script: Script,
        gate: Callable[[], None] | None = None,
        labels: tuple[str, ...] = LABELS,
    ) -> None:
        self._tokenizer = tokenizer
        self._script = script
        self._gate = gate
        self._info = EncoderInfo(
            name="scripted",
            task=task,
            versions=(),
            dtype="none",
            device="none",
            attention="none",
            max_batch_tokens=options.max_prefill_tokens or _DEFAULT_BATCH_TOKENS,
            max_tokens=tokenizer.max_tokens,
            labels=labels if task == "classify" else (),
        )

    @property
    def info(self) -> EncoderInfo:
        return self._info

    @property
    def num_tokens(self) -> int:
        return self._tokenizer.num_tokens

    @property
    def step_tokens(self) -> int:
        return 32

    def encode(self, rows: Sequence[EncoderRow]) -> list[Vector]:
        texts = [" about ".join(filter(None, self._tokenizer.decode(row))) for row in rows]
        if self._gate is not None:
            self._gate()
        play(self._script, texts, marked=texts)
        labels = self._info.labels
        return [_probabilities(text, labels) if labels else _vector(text) for text in texts]

    def close(self) -> None:
        pass


def _probabilities(text: str, labels: tuple[str, ...]) -> Vector:
    """Return probabilities that depend on the number of good and bad words, and slightly on a checksum."""
    words = _WORD.findall(text.lower())
    noise = zlib.crc32(text.encode()) / 2**32 - 0.5
    good = sum(_GOOD.match(word) is not None for word in words)
    bad = sum(_BAD.match(word) is not None for word in words)
    scores = {"negative": 2.5 * bad + noise, "positive": 2.5 * good - noise}
    weights = [math.exp(scores.get(label, 1.0)) for label in labels]
    return tuple(weight / sum(weights) for weight in weights)


def _vector(text: str) -> Vector:
    """Return hashed features (Weinberger et al. 2009), scaled to length 1: each word adds 1 or -1 to one of
    the dimensions."""
    counts = [0.0] * _NUM_DIMENSIONS
    for word in _WORD.findall(text.lower()) or [text]:
        digest = zlib.crc32(word.encode())
        counts[digest % _NUM_DIMENSIONS] += 1 if digest & 2**31 else -1
    if not any(counts):
        counts[0] = 1.0
    length = math.hypot(*counts)
    return tuple(count / length for count in counts)
