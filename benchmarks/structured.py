"""What a JSON schema costs a decode step, and whether what is written under twenty schemas is valid.

    python -m benchmarks.structured [--model FOLDER] [--quick]

The same rows are decoded without and under a typical schema, in many short pairs whose order alternates. The
ratio of their times is printed with its quartiles, because other processes disturb a pair. What the
constraint itself takes is also timed inside of the steps, where a disturbance hits both parts of the ratio.
Then 25 texts are drawn under each schema at temperature 1, and judged by the package jsonschema. The command
prints one JSON object on stdout and, without --quick, writes benchmarks/results/structured.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import asdict, dataclass
from functools import wraps
from importlib.metadata import version
from pathlib import Path

import jsonschema
import transformers

from benchmarks.machine import machine_facts, write_result
from benchmarks.schemas import SCHEMAS, TYPICAL, Schema, messages
from jobs.inference import Completion, Constraint, FinishReason, Sampling
from workers.engine import Engine, EngineOptions, Request, Tokenizer
from workers.engines.batching import BatchingEngine
from workers.engines.constraints import Matcher
from workers.engines.token_masks import TokenMasks
from workers.engines.transformers import open_engine
from workers.models.manifest import model_folder
from workers.settings import DEFAULT_MODEL, read_settings
from workers.tokenizer import load_tokenizer

NUM_ROWS = 48
NUM_STEPS = 16
NUM_PAIRS = 24
NUM_TEXTS = 25
"""Texts for each schema."""
MAX_NEW_TOKENS = 200
MAX_CONTEXT_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall time, and processor time of this process."""

    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Time for the same rows and steps, one after the other."""

    free: Seconds
    constrained: Seconds

    @property
    def ratio(self) -> float:
        """Wall time under the schema, relative to that without."""
        return self.constrained.wall / self.free.wall

    @property
    def cpu_ratio(self) -> float:
        """The same for processor time, on which other processes have less influence."""
        return self.constrained.cpu / self.free.cpu


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the texts under one schema."""

    schema: str
    num_valid: int
    num_invalid: int
    num_cut: int
    """Texts that reached the maximum number of tokens."""


def _endless(schema: Schema) -> Constraint:
    """Return the typical schema with so many items that no text ends before the measurement does."""
    properties = {
        name: {**value, "minItems": 500, "maxItems": 500} for name, value in schema["properties"].items()
    }
    return Constraint.of_schema({**schema, "properties": properties})


def _decode(engine: Engine, tokenizer: Tokenizer, constraint: Constraint | None, num_steps: int) -> Seconds:
    """Return the time from the submission of all rows to the end of the last."""
    prompt_ids = tokenizer.encode_chat(messages(TYPICAL))
    began_at, cpu_began_at = time.perf_counter(), time.process_time()
    futures = [
        engine.submit(
            Request(
                request_id=f"row-{row}",
                prompt_ids=prompt_ids,
                sampling=Sampling(
                    max_new_tokens=num_steps,
                    temperature=1.0,
                    seed=row,
                    ignore_end_of_text=constraint is None,
                    constraint=constraint,
                ),
            )
        )
        for row in range(NUM_ROWS)
    ]
    wait(futures)
    seconds = Seconds(time.perf_counter() - began_at, time.process_time() - cpu_began_at)
    num_tokens = {future.result().usage.new_tokens for future in futures}
    if num_tokens != {num_steps}:
        raise RuntimeError(f"rows have {num_tokens} tokens instead of {num_steps}")
    return seconds


def measure_steps(engine: Engine, tokenizer: Tokenizer, *, num_pairs: int, num_steps: int) -> list[Pair]:
    """Decode all rows without and under the schema, in pairs whose order alternates."""
    constraint = _endless(SCHEMAS[TYPICAL])
    for each in (None, constraint):  # compiles the schema, and allocates whatever a first step allocates
        _decode(engine, tokenizer, each, 2)
    pairs = []
    for index in range(num_pairs):
        order = (None, constraint) if index % 2 == 0 else (constraint, None)
        seconds = {each: _decode(engine, tokenizer, each, num_steps) for each in order}
        pairs.append(Pair(seconds[None], seconds[constraint]))
    return pairs


class Stopwatch:
    """Adds up the wall time of the calls of methods."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self, owner: type, name: str) -> None:
        """Time all calls of a method from now on."""
        method: Callable[..., object] = getattr(owner, name)

        @wraps(method)
        def timed(*arguments: object) -> object:
            began_at = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                self.seconds += time.perf_counter() - began_at

        setattr(owner, name, timed)


def measure_share(engine: Engine, tokenizer: Tokenizer, *, num_steps: int) -> float:
    """Return the constraint's part of the time in which the rows are decoded under the schema."""
    own, whole = Stopwatch(), Stopwatch()
    own.time(TokenMasks, "apply")
    own.time(Matcher, "accept")
    whole.time(BatchingEngine, "_step")
    _decode(engine, tokenizer, _endless(SCHEMAS[TYPICAL]), num_steps)
    return own.seconds / whole.seconds


def measure_texts(engine: Engine, tokenizer: Tokenizer, *, num_texts: int) -> list[Verdict]:
    """Draw texts under every schema at temperature 1, and judge them."""
    futures = [
        (
            name,
            engine.submit(
                Request(
                    request_id=f"{name}-{seed}",
                    prompt_ids=tokenizer.encode_chat(messages(name)),
                    sampling=Sampling(
                        max_new_tokens=MAX_NEW_TOKENS,
                        temperature=1.0,
                        seed=seed,
                        constraint=Constraint.of_schema(schema),
                    ),
                )
            ),
        )
        for name, schema in SCHEMAS.items()
        for seed in range(num_texts)
    ]
    verdicts = Counter((name, _verdict(future.result(), SCHEMAS[name])) for name, future in futures)
    return [
        Verdict(name, *(verdicts[name, verdict] for verdict in ("valid", "invalid", "cut")))
        for name in SCHEMAS
    ]


def _verdict(completion: Completion, schema: Schema) -> str:
    if completion.finish_reason is FinishReason.LENGTH:
        return "cut"
    try:
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        jsonschema.validate(json.loads(completion.text), schema, format_checker=checker)
    except (ValueError, jsonschema.ValidationError) as error:
        print(f"invalid: {completion.text!r}: {error}", file=sys.stderr)
        return "invalid"
    return "valid"


def _quartiles(values: list[float]) -> dict[str, float]:
    return dict(zip(("lower", "median", "upper"), statistics.quantiles(values, n=4), strict=True))


def run(folder: Path, *, is_quick: bool) -> dict[str, object]:
    """Return all measurements with the facts needed to read them, ready for JSON."""
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer = load_tokenizer(folder)
    options = EngineOptions(num_slots=NUM_ROWS, max_context_tokens=MAX_CONTEXT_TOKENS)
    engine = open_engine(folder, tokenizer, options)
    try:
        engine.warm()
        num_pairs, num_steps = (2, 4) if is_quick else (NUM_PAIRS, NUM_STEPS)
        pairs = measure_steps(engine, tokenizer, num_pairs=num_pairs, num_steps=num_steps)
        share = measure_share(engine, tokenizer, num_steps=4 * num_steps)
        verdicts = measure_texts(engine, tokenizer, num_texts=2 if is_quick else NUM_TEXTS)
    finally:
        engine.close()
    return {
        "machine": {**machine_facts(), "llguidance": version("llguidance")},
        "steps": {
            "schema": TYPICAL,
            "num_rows": NUM_ROWS,
            "num_steps": num_steps,
            "pairs": [{**asdict(pair), "ratio": pair.ratio, "cpu_ratio": pair.cpu_ratio} for pair in pairs],
            "ratio": _quartiles([pair.ratio for pair in pairs]),
            "cpu_ratio": _quartiles([pair.cpu_ratio for pair in pairs]),
            "constraint_share": share,
        },
        "texts": {
            "num_valid": sum(verdict.num_valid for verdict in verdicts),
            "num_invalid": sum(verdict.num_invalid for verdict in verdicts),
            "num_cut": sum(verdict.num_cut for verdict in verdicts),
            "schemas": [asdict(verdict) for verdict in verdicts],
        },
    }


def main() -> None:
    """Parse the arguments, run the benchmark, print the results and write them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structured", description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of a model; default: the default model, installed")
    parser.add_argument("--quick", action="store_true", help="fewer steps and texts, nothing written")
    arguments = parser.parse_args()
    folder = arguments.model or model_folder(read_settings().models_folder, DEFAULT_MODEL)
    result = run(folder, is_quick=arguments.quick)
    print(json.dumps(result, indent=2, ensure_ascii=False))
    if not arguments.quick:
        write_result("structured", result)


if __name__ == "__main__":
    main()
