"""Compares two checkouts on the same files, to see whether a change made anything slower.

`python -m benchmarks.before_after --before FOLDER [--rounds 3] [--jobs 100] [--documents 20000]`: FOLDER is
another checkout (`git worktree add FOLDER COMMIT`). Articles and documents go through `pressroom run` of the
two checkouts in turn, each time in a new home, so that changes in the machine's speed affect both alike. The
command prints the ratios after / before of each pair for three figures: seconds from the first claim to the
last commit, seconds of the whole command, and processor seconds of all its processes. It stores the result in
benchmarks/results/before_after.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.machine import machine_facts, write_result
from benchmarks.pipeline import write_briefs
from benchmarks.sentiment_files import make_files
from workers.settings import Settings

FIGURES = ("working_seconds", "elapsed_seconds", "cpu_seconds")
HERE = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Checkout:
    """Code to measure, with its own installed models, because the format of their manifests may differ."""

    folder: Path
    models: Path


def run(checkout: Checkout, arguments: Sequence[str], folder: Path) -> dict[str, float]:
    """Run `pressroom run ARGUMENTS` in a new home inside the folder; return the values of FIGURES."""
    folder.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout.folder),
        "PRESSROOM_HOME": str(folder / "home"),
        "PRESSROOM_MODELS_DIR": str(checkout.models),
    }
    cpu_seconds = _cpu_seconds_of_children()
    completed = subprocess.run(
        [sys.executable, "-m", "pressroom", "run", *arguments, "--out", str(folder / "out"), "--json"],
        cwd=checkout.folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    if completed.returncode:
        raise SystemExit(f"{checkout.folder} failed:\n{completed.stderr}")
    summary = json.loads(completed.stdout)
    return {
        "working_seconds": float(summary["working_seconds"]),
        "elapsed_seconds": float(summary["elapsed_seconds"]),
        "cpu_seconds": _cpu_seconds_of_children() - cpu_seconds,
    }


def _cpu_seconds_of_children() -> float:
    """Return the processor seconds of all ended child processes; a command waits for its own children."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def compare(
    before: Checkout, after: Checkout, arguments: Sequence[str], *, rounds: int, folder: Path
) -> dict[str, object]:
    """Return the figures of both checkouts in each round, and the medians of the ratios after / before."""
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    for number in range(rounds):
        first = run(before, arguments, folder / f"before-{number}")
        second = run(after, arguments, folder / f"after-{number}")
        pairs.append((first, second))
    return {
        "before": [_rounded(first) for first, _ in pairs],
        "after": [_rounded(second) for _, second in pairs],
        "ratios": {name: [round(b[name] / a[name], 3) for a, b in pairs] for name in FIGURES},
        "median_ratios": {name: round(median(b[name] / a[name] for a, b in pairs), 3) for name in FIGURES},
    }


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the code from before")
    parser.add_argument("--before-models", type=Path, help="a models folder that its `models add` has filled")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=100, help="articles a round")
    parser.add_argument("--documents", type=int, default=20_000, help="documents a round")
    parser.add_argument("--only", choices=("articles", "sentiment"))
    options = parser.parse_args()
    models = Settings().models_folder
    before = Checkout(options.before.resolve(), options.before_models or models)
    after = Checkout(HERE, models)
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="pressroom-bench-") as name:
        folder = Path(name)
        for part in ("articles", "sentiment"):
            if options.only not in (None, part):
                continue
            (folder / part).mkdir()
            if part == "articles":
                write_briefs(folder / "briefs.csv", options.jobs)
                arguments = ["articles", str(folder / "briefs.csv")]
            else:
                files = make_files(folder, options.documents)
                own = ["--reports", "none", "--embedder", "none", "--summarizer", "none"]
                arguments = ["sentiment", str(files.first), "--watch", str(files.watch), *own]
            figures = compare(before, after, arguments, rounds=options.rounds, folder=folder / part)
            results[part] = figures
            print(f"{part:10} after / before, medians of {options.rounds}: {figures['median_ratios']}")
    write_result("before_after", {**results, "machine": machine_facts()})


if __name__ == "__main__":
    main()
