"""Tests recovery from crashes: workers are killed repeatedly, and one job crashes every worker that runs it.

    python -m benchmarks.kills [--jobs 600] [--kills 15] [--seed 1] [--models DIR]

The command runs `pressroom run articles` with the scripted engine. At random times it sends SIGKILL to the
worker that is ready, and one brief makes the worker process end with SIGSEGV. No other job may fail, be
parked, be lost or be done twice, and the job of that brief must be quarantined. The command prints one JSON
object on stdout and writes benchmarks/results/kills.json; the exit status is 1 if a condition is violated.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from benchmarks.machine import machine_facts, write_result
from pressroom.embedded.services import Services
from tests.acceptance.running import PressroomRun, pressroom, write_briefs, write_script
from tests.services import embedded_settings
from workers.settings import default_home

POISON = "poisonous mushrooms"
ENDS = "SELECT count(*) FROM workers WHERE ended_at IS NOT NULL"
SUCCEEDED = "SELECT count(*) FROM jobs WHERE status = 'succeeded'"
POISONED = (
    "SELECT a.started_at, a.ended_at, a.evidence FROM attempts a JOIN jobs j ON j.id = a.job_id "
    "WHERE j.custom_id = 'poison' ORDER BY a.attempt"
)
READY = (
    "SELECT pid FROM workers WHERE ready_at IS NOT NULL AND ended_at IS NULL ORDER BY started_at DESC LIMIT 1"
)
DONE_TWICE = (
    "SELECT count(*) FROM (SELECT job_id FROM attempts WHERE outcome = 'succeeded' GROUP BY job_id "
    "HAVING count(*) > 1) twice"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=600)
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", type=Path, default=default_home() / "models")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pressroom-kills-") as folder:
        result = drill(Path(folder), options.models, options.jobs, options.kills, random.Random(options.seed))
    result |= {"num_jobs": options.jobs, "seed": options.seed, "machine": machine_facts()}
    write_result("kills", result)
    print(json.dumps(result))
    return 0 if result["is_just"] else 1


def drill(
    folder: Path, models: Path, num_jobs: int, num_kills: int, chance: random.Random
) -> dict[str, object]:
    briefs = write_briefs(folder / "briefs.csv", num_jobs)
    lines = briefs.read_text().splitlines(keepends=True)
    lines.insert(len(lines) // 3, f"poison,Title,{POISON},40\n")
    briefs.write_text("".join(lines))
    script = write_script(
        folder / "script.json",
        step_seconds=0.01,
        kill_text=POISON,
        kill_signal="SIGSEGV",
        kill_after_tokens=20,
    )
    arguments = ("run", "articles", briefs, "--out", folder / "out", "--json")
    environment = {"engine": "scripted", "script": str(script), "models_dir": str(models), "num_slots": "16"}
    begun_at = time.monotonic()
    with pressroom(folder / "home", *arguments, **environment) as run:
        killed = kill_workers(run, num_kills, chance)
        _, summary = run.finish(1800.0)
    seconds = time.monotonic() - begun_at
    with Services(embedded_settings(folder / "home"), lambda _: None):
        run.reconnect()
        poisoned = run.query(POISONED)
        done_twice, ends = run.count(DONE_TWICE), run.count(ENDS)
        run.reconnect()
    counts, errors = summary["counts"], summary["top_errors"]
    is_just = (counts["succeeded"], counts["failed"], done_twice, summary["parked"]) == (
        num_jobs,
        1,
        0,
        [],
    ) and errors == [{"code": "quarantined", "jobs": 1}]
    return {
        "is_just": is_just,
        "counts": counts,
        "num_killed_from_outside": killed,
        "num_workers_ended": ends,
        "seconds": round(seconds, 1),
        "poison_seconds": round(_seconds(poisoned[0]["started_at"], poisoned[-1]["ended_at"]), 1),
        "poison_evidence": [
            {name: row["evidence"][name] for name in ("cause", "signal", "alone", "num_in_flight")}
            for row in poisoned
            if row["evidence"]
        ],
    }


def kill_workers(run: PressroomRun, num_kills: int, chance: random.Random) -> int:
    """Kill the worker that is ready at random times while the batch runs; return the number of kills."""
    killed: set[int] = set()
    while len(killed) < num_kills and run.process.poll() is None:
        time.sleep(chance.uniform(1.0, 10.0))
        ready = run.query(READY)
        if ready and ready[0]["pid"] not in killed and run.count(SUCCEEDED):
            killed.add(ready[0]["pid"])
            os.kill(ready[0]["pid"], signal.SIGKILL)
    return len(killed)


def _seconds(begun_at: datetime, ended_at: datetime) -> float:
    return (ended_at - begun_at).total_seconds()


if __name__ == "__main__":
    sys.exit(main())
