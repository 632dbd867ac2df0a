"""Facts about the machine that runs a benchmark, and the file that stores its result."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def machine_facts() -> dict[str, object]:
    """Return the processor, the number of cores, and the versions of libraries that the figures depend on."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def write_result(name: str, result: Mapping[str, object]) -> Path:
    """Store a result as benchmarks/results/NAME.json, with the time of its measurement."""
    path = RESULTS / f"{name}.json"
    measured = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), **result}
    path.write_text(json.dumps(measured, indent=2) + "\n")
    return path


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
