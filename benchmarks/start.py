"""Measures the start of commands: seconds and peak memory of new processes.

`python -m benchmarks.start [CHECKOUT ...]` measures several checkouts in turn, round by round, so that other
load on the machine affects all of them.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.machine import machine_facts, write_result

ROUNDS = 5
COMMANDS = (
    "--version",
    "--help",
    "run --help",
    "run articles --help",
    "monitor --help",
    "models list",
    "config",
)


def measure(checkout: Path, command: str) -> tuple[float, float]:
    """Run a command; return the seconds from start to end, and its peak resident memory in MB."""
    begun = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "pressroom", *command.split()],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, _, usage = os.wait4(child.pid, 0)
    child.returncode = 0
    return time.perf_counter() - begun, _megabytes(usage)


def _megabytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / 1024


def main() -> None:
    """Print a table and store it in results/start.json."""
    checkouts = [Path(given).resolve() for given in sys.argv[1:]] or [Path.cwd()]
    figures: defaultdict[tuple[Path, str], list[tuple[float, float]]] = defaultdict(list)
    for _ in range(ROUNDS):
        for command in COMMANDS:
            for checkout in checkouts:
                figures[checkout, command].append(measure(checkout, command))
    result: dict[str, dict[str, object]] = {}
    for command in COMMANDS:
        for number, checkout in enumerate(checkouts):
            seconds, megabytes = zip(*figures[checkout, command], strict=True)
            name = command if len(checkouts) == 1 else f"{command} ({number + 1})"
            result[name] = {
                "seconds": round(statistics.median(seconds), 3),
                "slowest_seconds": round(max(seconds), 3),
                "megabytes": round(max(megabytes), 1),
            }
            print(f"{name:28} {statistics.median(seconds):6.2f} s {max(megabytes):7.1f} MB")
    print(write_result("start", {"machine": machine_facts(), "rounds": ROUNDS, "commands": result}))


if __name__ == "__main__":
    main()
