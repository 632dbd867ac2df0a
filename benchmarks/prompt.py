"""What a template costs, and whether the memory of tables stays flat.

    python -m benchmarks.prompt [--jobs 10000] [--rows 100000] [--pairs 3]

Jobs of the kind `prompt` run side by side with those of a kind that sends the same request without a
template: in pairs, one after the other, each in a new worker process with the scripted engine, so that the
order does not matter. Then tables of a tenth of the rows and of all rows are submitted, run and exported,
and the peak memory of each command is compared.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.machine import machine_facts, write_result
from benchmarks.orchestration import make_lines, run_pressroom, set_environment, wait_until_ready
from pressroom.client import Client
from pressroom.embedded.services import Services, ServiceUrls
from pressroom.one_machine import OneMachine
from workers.devices import Device
from workers.settings import Settings

WITHOUT_TEMPLATE = "trivial_request"
"""Kind of the benchmark that sends the text of each line."""

NEW_TOKENS = 8
SETTINGS: Mapping[str, object] = {
    "template": "{{ text }}",
    "into": "answer",
    "max_tokens": NEW_TOKENS,
}
"""Settings with which the prompts are those of the other kind."""

SMALL_SHARE = 10
"""Memory is compared between a table with one in this many rows and the whole table."""

POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Speed of one batch."""

    jobs_per_second: float
    cpu_microseconds: float
    """CPU time of the worker for each job, which other processes on the machine disturb less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Rates of two batches that ran one after the other."""

    without_template: Rate
    prompt: Rate

    def as_json(self) -> dict[str, Any]:
        """Return the rates and their ratios: above 1, prompt rows are faster, or need more CPU time."""
        return {
            **asdict(self),
            "speed_ratio": round(self.prompt.jobs_per_second / self.without_template.jobs_per_second, 3),
            "cpu_ratio": round(self.prompt.cpu_microseconds / self.without_template.cpu_microseconds, 3),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The way of a table through the commands, with the peak memory of each."""

    num_rows: int
    submit_seconds: float
    submit_megabytes: float
    export_seconds: float
    export_megabytes: float


def measure_rate(urls: ServiceUrls, kind: str, num_jobs: int) -> Rate:
    """Run jobs in one new worker, and return its speed."""
    with (
        OneMachine(Settings(), [Device("cpu")], profiles=("default",), say=_say) as machine,
        Client(urls) as client,
    ):
        worker = psutil.Process(machine.worker_pids[0])
        wait_until_ready(machine)
        cpu_before = _cpu_seconds(worker)
        settings = SETTINGS if kind == "prompt" else {}
        batch_id = client.submit(kind, make_lines(num_jobs), settings=settings).batch_id
        while (report := client.status(batch_id)).goes_on:
            machine.check()
            time.sleep(POLL_SECONDS)
        cpu_seconds = _cpu_seconds(worker) - cpu_before
    if report.counts.succeeded != num_jobs:
        raise RuntimeError(f"{report.counts.succeeded} of {num_jobs} jobs of kind {kind} succeeded")
    return Rate(
        jobs_per_second=round(num_jobs / report.working_seconds, 1),
        cpu_microseconds=round(1e6 * cpu_seconds / num_jobs, 1),
    )


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def measure_pairs(urls: ServiceUrls, num_jobs: int, num_pairs: int) -> Iterator[Pair]:
    """Yield pairs of rates. Every other pair begins with the kind that the one before ended with."""
    for number in range(num_pairs):
        kinds = (WITHOUT_TEMPLATE, "prompt") if number % 2 == 0 else ("prompt", WITHOUT_TEMPLATE)
        rates = {kind: measure_rate(urls, kind, num_jobs) for kind in kinds}
        pair = Pair(without_template=rates[WITHOUT_TEMPLATE], prompt=rates["prompt"])
        _say(str(pair.as_json()))
        yield pair


def measure_table(folder: Path, num_rows: int) -> Table:
    """Submit, run and export a table of lines."""
    path, template, out = folder / "lines.csv", folder / "lines.jinja", folder / f"out-{num_rows}"
    template.write_text(str(SETTINGS["template"]))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text"])
        writer.writeheader()
        writer.writerows(make_lines(num_rows))
    options = [word for name in ("into", "max_tokens") for word in ("--set", f"{name}={SETTINGS[name]}")]
    submit = ["submit", "prompt", str(path), "--template", str(template), *options]
    submit_seconds, submit_bytes, printed = run_pressroom(
        [*submit, "--rejected", str(folder / "rejected.jsonl")]
    )
    batch_id = printed.strip()
    run_pressroom(["run", "prompt", "--batch", batch_id, "--out", str(folder / "run")])
    export_seconds, export_bytes, _ = run_pressroom(["results", batch_id, "--out", str(out)])
    with (out / "results.jsonl").open() as lines:
        if (number := sum(1 for _ in lines)) != num_rows:
            raise RuntimeError(f"{number} of {num_rows} rows were exported")
    table = Table(
        num_rows=num_rows,
        submit_seconds=round(submit_seconds, 2),
        submit_megabytes=round(submit_bytes / 1e6, 1),
        export_seconds=round(export_seconds, 2),
        export_megabytes=round(export_bytes / 1e6, 1),
    )
    _say(str(table))
    return table


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs of each batch of a pair")
    parser.add_argument("--rows", type=int, default=100_000, help="rows of the larger table")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--slots", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pressroom-bench-") as name:
        folder = Path(name)
        embedded = Settings(home=folder / "home", db_url=None, redis_url=None, s3_url=None)
        with Services(embedded, _say) as services:
            set_environment(folder, services.urls, slots=options.slots)
            pairs = list(measure_pairs(services.urls, options.jobs, options.pairs))
            tables = [measure_table(folder, rows) for rows in (options.rows // SMALL_SHARE, options.rows)]
    small, large = tables
    measured = [pair.as_json() for pair in pairs]
    result = {
        "jobs": options.jobs,
        "slots": options.slots,
        "pairs": measured,
        **{
            f"median_{name}": median(pair[name] for pair in measured) for name in ("speed_ratio", "cpu_ratio")
        },
        "tables": [asdict(table) for table in tables],
        "memory_ratios": {
            "submit": round(large.submit_megabytes / small.submit_megabytes, 3),
            "export": round(large.export_megabytes / small.export_megabytes, 3),
        },
        "machine": machine_facts(),
    }
    print(
        f"prompt rows by requests without a template: {result['median_speed_ratio']} of the jobs a second, "
    )
    print(f"{result['median_cpu_ratio']} of the CPU time of a job")
    print(f"memory of {large.num_rows:,} rows by that of {small.num_rows:,}: {result['memory_ratios']}")
    print(write_result("prompt", result))


if __name__ == "__main__":
    main()
