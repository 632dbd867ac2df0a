"""Measures what a job costs beside the models: trivial jobs, results, intake, status, cancelling.

    python -m benchmarks.orchestration [--jobs 10000] [--lines 1000000] [--no-soak] [--only ROW,ROW]

All rows are measured in one run with the same embedded services:

    trivial    jobs that each make one small artifact and a statement, in one worker process
    request    the same with one request of 8 tokens to the scripted engine
    costs      CPU time of a worker for each step of a job of `trivial`, with timers in the worker
    request_costs
               the same for a job of `request`
    results    reading the results of `trivial`, checked
    task       a plain Celery task that puts one object and commits one row, with as many threads as the
               worker of `trivial` has jobs in flight
    nothing    a Celery task that does nothing, with as many threads
    soak       memory of a worker after a tenth of its jobs and after all of them; left out by --no-soak
    lines      `pressroom submit` of lines without a prompt
    status     status of that batch, median of 20 calls
    cancel     cancelling that batch, which no worker has begun
    retry      retrying the cancelled jobs, which queues them again
    expire     expiring them after the deadline of their batch, without the pauses of the reconciler
    articles   `pressroom submit` of articles, whose prompts are tokenized

The command prints a table and stores benchmarks/results/orchestration.json. With --only it does not, because
rows of different runs cannot be compared. The two rows of costs are also stored by themselves, in
benchmarks/results/orchestration_costs.json, whenever both are measured. The soak takes some minutes;
`--jobs 2000 --lines 20000 --no-soak` takes two to three minutes in all.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from statistics import median
from uuid import UUID

import psutil
from sqlalchemy import func, select, text, update

from benchmarks import plain_celery
from benchmarks.job_costs import COSTS_VARIABLE, Costs
from benchmarks.machine import machine_facts, write_result
from benchmarks.pipeline import write_briefs
from db.ending import EXPIRED, end_jobs
from db.session import opened_database
from db.tables import BatchRow, WorkerRow
from pressroom import Client, ServiceUrls
from pressroom.embedded.services import Services
from pressroom.one_machine import OneMachine
from pressroom.results import ResultReader
from storage import open_store
from workers.devices import Device
from workers.settings import Settings

ROOT = Path(__file__).parents[1]
PLUGINS = Path(__file__).parent / "plugins"
"""Folder with the metadata of the package that installs the benchmark's kinds."""

TRIVIAL, REQUEST = "trivial", "trivial_request"
"""Names of the benchmark's kinds."""

PROFILES = {TRIVIAL: "cpu", REQUEST: "default"}
"""Worker profile of each kind."""

POLL_SECONDS = 0.25
MEMORY_POLL_SECONDS = 0.05
STATUS_CALLS = 20

SOAK_SHARE = 10
"""The soak compares the memory after one in this many jobs with that after all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Sizes of the measurements."""

    jobs: int
    lines: int
    """Number of lines of each file that is submitted."""
    soak_jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the table."""

    what: str
    value: float
    unit: str
    details: Mapping[str, float] = field(default_factory=dict)
    """Further figures. Their names contain their units."""

    @property
    def is_rate(self) -> bool:
        """Whether the figure can be compared with the rates of the Celery tasks."""
        return self.unit == "jobs/s"

    def as_json(self) -> dict[str, object]:
        """Return the row as JSON."""
        return {"what": self.what, "value": round(self.value, 2), "unit": self.unit, **self.details}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRun:
    """A batch that one new worker process has finished."""

    batch_id: UUID
    num_jobs: int
    seconds: float
    """Time from the first claim to the last commit."""
    wall_seconds: float
    """Time from the start of the submission until the end of the batch was seen."""
    num_places: int
    """Number of jobs that the worker holds at a time."""
    early: tuple[int, int]
    """Number of finished jobs at which the worker's memory was first read, and its resident memory in bytes.
    """
    worker_bytes: int
    """Resident memory of the worker after the last job."""
    worker_cpu_seconds: float
    """CPU time of the worker from the submission to the end."""

    def rate(self, what: str) -> Figure:
        """Return the row for this run."""
        return Figure(
            what=what,
            value=self.num_jobs / self.seconds,
            unit="jobs/s",
            details={
                "seconds": round(self.seconds, 2),
                "wall_seconds": round(self.wall_seconds, 2),
                "worker_megabytes": _megabytes(self.worker_bytes),
                "places": self.num_places,
                "worker_cpu_microseconds_per_job": round(1e6 * self.worker_cpu_seconds / self.num_jobs),
            },
        )


class Bench:
    """Measures the rows with services that are running and named by the environment.

    What several rows need is made when the first of them is measured.
    """

    def __init__(self, folder: Path, urls: ServiceUrls, sizes: Sizes) -> None:
        self._folder = folder
        self._urls = urls
        self._sizes = sizes

    def trivial(self) -> Figure:
        return self._trivial_run.rate(f"{self._sizes.jobs} trivial jobs")

    def request(self) -> Figure:
        return self._run_jobs(REQUEST, self._sizes.jobs).rate(f"{self._sizes.jobs} jobs with a request")

    def costs(self) -> Figure:
        return self._costs(TRIVIAL, "a trivial job")

    def request_costs(self) -> Figure:
        return self._costs(REQUEST, "a job with a request")

    def _costs(self, kind: str, what: str) -> Figure:
        """Run jobs in a worker that measures their steps."""
        path = self._folder / f"{kind}_costs.json"
        os.environ[COSTS_VARIABLE] = str(path)
        try:
            self._run_jobs(kind, self._sizes.jobs)
        finally:
            del os.environ[COSTS_VARIABLE]
        steps = Costs.read(path).microseconds()
        return Figure(
            what=f"CPU time of {what} in the worker",
            value=sum(steps.values()),
            unit="us",
            details={f"{step}_microseconds": value for step, value in steps.items()},
        )

    def soak(self) -> Figure:
        run = self._run_jobs(TRIVIAL, self._sizes.soak_jobs)
        figure = run.rate(f"soak of {run.num_jobs} trivial jobs")
        num_early, early_bytes = run.early
        memory = {
            "early_jobs": num_early,
            "early_megabytes": _megabytes(early_bytes),
            "memory_ratio": round(run.worker_bytes / early_bytes, 3),
        }
        return replace(figure, details={**figure.details, **memory})

    def results(self) -> Figure:
        store = open_store(self._urls.s3_url)
        batch_id = self._trivial_run.batch_id
        with opened_database(self._urls.db_url) as database:
            begun_at = time.perf_counter()
            number = sum(1 for _ in ResultReader(database, store).read_batch(batch_id))
            seconds = time.perf_counter() - begun_at
        _require_number(number, self._sizes.jobs, "results were read")
        return Figure(
            what=f"{number} results read and checked",
            value=seconds,
            unit="s",
            details={"results_per_second": round(number / seconds, 1)},
        )

    def task(self) -> Figure:
        with opened_database(self._urls.db_url) as database:
            with database.begin() as connection:
                connection.execute(text(plain_celery.CREATE_TABLE))
            figure = self._run_tasks(plain_celery.write, "plain Celery tasks: object, row")
            with database.connect() as connection:
                number = connection.execute(text(plain_celery.COUNT)).scalar_one()
        _require_number(number, self._sizes.jobs, "plain tasks have committed")
        return figure

    def nothing(self) -> Figure:
        return self._run_tasks(plain_celery.nothing, "Celery tasks that do nothing")

    def _run_tasks(self, task: plain_celery.PlainTask, what: str) -> Figure:
        num_tasks, num_threads = self._sizes.jobs, self._trivial_run.num_places
        log = self._folder / "celery.log"
        seconds = plain_celery.measure_tasks(task, num_tasks, num_threads=num_threads, log=log)
        return Figure(
            what=f"{num_tasks} {what}",
            value=num_tasks / seconds,
            unit="jobs/s",
            details={"seconds": round(seconds, 2), "threads": num_threads},
        )

    def lines(self) -> Figure:
        return self._lines_submission[0]

    def articles(self) -> Figure:
        path = self._folder / "articles.csv"
        write_briefs(path, self._sizes.lines)
        return self._submit("articles", path, "articles")[0]

    def status(self) -> Figure:
        _, batch_id = self._lines_submission
        milliseconds = []
        with Client(self._urls) as client:
            client.status(batch_id)  # connects
            for _ in range(STATUS_CALLS):
                begun_at = time.perf_counter()
                client.status(batch_id)
                milliseconds.append((time.perf_counter() - begun_at) * 1000)
        return Figure(
            what=f"status of {self._sizes.lines} queued jobs",
            value=median(milliseconds),
            unit="ms",
            details={"slowest_milliseconds": round(max(milliseconds), 2)},
        )

    def cancel(self) -> Figure:
        return self._change("cancel", "queued", Client.cancel)

    def retry(self) -> Figure:
        return self._change("retry", "cancelled", Client.retry)

    def expire(self) -> Figure:
        """Let the deadline of the batch pass, and expire its jobs without the pauses of the reconciler."""
        _, batch_id = self._lines_submission
        with opened_database(self._urls.db_url) as database:
            passed = update(BatchRow).where(BatchRow.id == batch_id).values(deadline_at=func.now())
            with database.begin() as connection:
                connection.execute(passed)
            return self._change("expiry", "queued", lambda _, batch: end_jobs(database, batch, EXPIRED))

    def _change(self, what: str, status: str, change: Callable[[Client, UUID], int]) -> Figure:
        """Measure a change of all submitted lines, which must be in this status; it returns their number."""
        _, batch_id = self._lines_submission
        with Client(self._urls) as client:
            begun_at = time.perf_counter()
            number = change(client, batch_id)
            seconds = time.perf_counter() - begun_at
        _require_number(number, self._sizes.lines, f"{status} jobs were changed by {what}")
        return Figure(
            what=f"{what} of {number} {status} jobs",
            value=seconds,
            unit="s",
            details={"jobs_per_second": round(number / seconds)},
        )

    @cached_property
    def _trivial_run(self) -> WorkerRun:
        return self._run_jobs(TRIVIAL, self._sizes.jobs)

    def _run_jobs(self, kind: str, num_jobs: int) -> WorkerRun:
        """Submit jobs to one new worker process that is ready, and wait until the batch ends."""
        early: tuple[int, int] | None = None
        with (
            OneMachine(Settings(), [Device("cpu")], profiles=(PROFILES[kind],), say=_say) as machine,
            Client(self._urls) as client,
        ):
            worker = psutil.Process(machine.worker_pids[0])
            num_places = wait_until_ready(machine)
            cpu_before = _cpu_seconds(worker)
            begun_at = time.perf_counter()
            batch_id = client.submit(kind, make_lines(num_jobs)).batch_id
            while (report := client.status(batch_id)).goes_on:
                machine.check()
                if early is None and report.counts.succeeded >= num_jobs // SOAK_SHARE:
                    early = report.counts.succeeded, worker.memory_info().rss
                time.sleep(POLL_SECONDS)
            wall_seconds = time.perf_counter() - begun_at
            worker_bytes = worker.memory_info().rss  # raises NoSuchProcess if the worker was restarted
            cpu_seconds = _cpu_seconds(worker) - cpu_before
        _require_number(report.counts.succeeded, num_jobs, f"jobs of batch {batch_id} succeeded")
        return WorkerRun(
            batch_id=batch_id,
            num_jobs=num_jobs,
            seconds=report.working_seconds,
            wall_seconds=wall_seconds,
            num_places=num_places,
            early=early or (num_jobs, worker_bytes),
            worker_bytes=worker_bytes,
            worker_cpu_seconds=cpu_seconds,
        )

    @cached_property
    def _lines_submission(self) -> tuple[Figure, UUID]:
        path = self._folder / "lines.csv"
        write_lines(path, self._sizes.lines)
        return self._submit(TRIVIAL, path, "lines without a prompt")

    def _submit(self, command: str, path: Path, what: str) -> tuple[Figure, UUID]:
        """Run `pressroom submit`; return the row for it, and the batch."""
        rejected = self._folder / "rejected.jsonl"
        arguments = ["submit", command, str(path), "--rejected", str(rejected)]
        seconds, peak_bytes, printed = run_pressroom(arguments)
        num_lines = self._sizes.lines
        figure = Figure(
            what=f"submit of {num_lines} {what}",
            value=seconds,
            unit="s",
            details={
                "lines_per_second": round(num_lines / seconds),
                "peak_megabytes": _megabytes(peak_bytes),
            },
        )
        return figure, UUID(printed.strip())


ROWS: Mapping[str, Callable[[Bench], Figure]] = {
    "trivial": Bench.trivial,
    "request": Bench.request,
    "costs": Bench.costs,
    "request_costs": Bench.request_costs,
    "results": Bench.results,
    "task": Bench.task,
    "nothing": Bench.nothing,
    "soak": Bench.soak,
    "lines": Bench.lines,
    "status": Bench.status,
    "cancel": Bench.cancel,
    "retry": Bench.retry,
    "expire": Bench.expire,
    "articles": Bench.articles,
}
"""Rows in the order of their measurement: no worker may start after a million jobs have been queued."""


COST_ROWS = ("costs", "request_costs")
"""Rows that are compared only with each other."""


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def make_lines(number: int) -> Iterator[dict[str, object]]:
    """Yield distinct lines of a hundred characters."""
    for index in range(number):
        yield {"id": f"line-{index:07}", "text": f"Line {index:07} of {number:07}, {'which is plain ' * 5}."}


def write_lines(path: Path, number: int) -> None:
    """Write the same lines as a CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text"])
        writer.writeheader()
        writer.writerows(make_lines(number))


def wait_until_ready(machine: OneMachine) -> int:
    """Wait until the machine's newest worker is ready; return the number of jobs that it holds at a time."""
    pid = machine.worker_pids[0]
    ready = select(WorkerRow.max_jobs_in_flight).where(
        WorkerRow.pid == pid, WorkerRow.ready_at.is_not(None), WorkerRow.stopped_at.is_(None)
    )
    while True:
        machine.check()
        with machine.database.connect() as connection:
            if num_places := connection.scalar(ready):
                return num_places
        time.sleep(POLL_SECONDS)


def run_pressroom(arguments: Sequence[str]) -> tuple[float, int, str]:
    """Run a command; return its seconds from start to end, its peak memory in bytes, and what it printed.

    The peak is read from /proc while the command runs. `ru_maxrss` would not do, because a child inherits it
    from the process that forks it.
    """
    with tempfile.TemporaryFile("w+") as stdout:
        begun_at = time.perf_counter()
        command = [sys.executable, "-m", "pressroom", *arguments]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout)
        peak_bytes = 0
        while process.poll() is None:
            peak_bytes = max(peak_bytes, _peak_bytes(process.pid))
            time.sleep(MEMORY_POLL_SECONDS)
        seconds = time.perf_counter() - begun_at
        if process.returncode:
            raise RuntimeError(f"`{' '.join(command)}` ended with status {process.returncode}")
        stdout.seek(0)
        return seconds, peak_bytes, stdout.read()


def _peak_bytes(pid: int) -> int:
    """Return the largest resident memory of a process so far; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line[:6] == "VmHWM:"), 0)


def _require_number(number: int, expected: int, what: str) -> None:
    if number != expected:
        raise RuntimeError(f"{number} {what}, not {expected}")


def _megabytes(number: int) -> float:
    return round(number / 1e6, 1)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def table(figures: Mapping[str, Figure]) -> Iterator[str]:
    """Yield the lines of the table. Rates are divided by those of the Celery tasks, if measured."""
    yield f"{'':54} / task  / nothing"
    for figure in figures.values():
        ratios = [_ratio(figure, figures.get(row)) for row in ("task", "nothing")]
        details = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figure.details.items())
        value = f"{figure.value:6.1f} {figure.unit:6}"
        yield f"{figure.what:40} {value} {ratios[0]:>6} {ratios[1]:>10}  {details}"


def _ratio(figure: Figure, other: Figure | None) -> str:
    return f"{figure.value / other.value:.2f}" if other is not None and figure.is_rate else ""


def set_environment(folder: Path, urls: ServiceUrls, *, slots: int) -> None:
    """Let this process and its children use the services, the scripted engine and the benchmark's kinds."""
    models = Settings().models_folder
    os.environ |= {
        **urls.environment(),
        "PRESSROOM_HOME": str(folder / "home"),
        "PRESSROOM_MODELS_DIR": str(models),
        "PRESSROOM_ENGINE": "scripted",
        "PRESSROOM_NUM_SLOTS": str(slots),
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(ROOT), str(PLUGINS), os.environ.get("PYTHONPATH", "")])
        ),
        plain_celery.BROKER_VARIABLE: urls.redis_url.rpartition("/")[0] + "/1",  # Pressroom's is /0
    }
    sys.path.append(str(PLUGINS))


def rows_of(selected: str) -> list[str]:
    """Return the selected rows in the order of their measurement. Raises ArgumentTypeError."""
    names = selected.split(",")
    if unknown := sorted(set(names) - set(ROWS)):
        raise argparse.ArgumentTypeError(
            f"there is no row {', '.join(unknown)}: choose one of {', '.join(ROWS)}"
        )
    return [row for row in ROWS if row in names]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs and tasks of each row")
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines of each submitted file")
    parser.add_argument(
        "--slots", type=int, default=64, help="requests that the scripted engine decodes together"
    )
    parser.add_argument("--no-soak", action="store_true", help="leave out the soak, which takes minutes")
    parser.add_argument("--soak-jobs", type=int, default=200_000)
    parser.add_argument("--only", type=rows_of, metavar="ROW,ROW", help="measure these rows alone")
    options = parser.parse_args()
    sizes = Sizes(jobs=options.jobs, lines=options.lines, soak_jobs=options.soak_jobs)
    rows = options.only or [row for row in ROWS if row != "soak" or not options.no_soak]
    with tempfile.TemporaryDirectory(prefix="pressroom-bench-") as name:
        folder = Path(name)
        embedded = Settings(home=folder / "home", db_url=None, redis_url=None, s3_url=None)
        with Services(embedded, _say) as services:
            set_environment(folder, services.urls, slots=options.slots)
            bench = Bench(folder, services.urls, sizes)
            figures = {}
            for row in rows:
                figures[row] = ROWS[row](bench)
                _say(f"{figures[row].what}: {figures[row].value:.1f} {figures[row].unit}")
    print("\n".join(table(figures)))
    if options.only is None:
        report("orchestration", figures, sizes, options.slots)
    if figures.keys() >= set(COST_ROWS):
        report("orchestration_costs", {row: figures[row] for row in COST_ROWS}, sizes, options.slots)


def report(name: str, figures: Mapping[str, Figure], sizes: Sizes, slots: int) -> None:
    """Store the figures as benchmarks/results/NAME.json."""
    result = {
        "sizes": asdict(sizes),
        "slots": slots,
        "rows": {row: figure.as_json() for row, figure in figures.items()},
        "libraries": {name: version(name) for name in ("celery", "boto3", "sqlalchemy", "psycopg")},
        "machine": machine_facts(),
    }
    print(write_result(name, result))


if __name__ == "__main__":
    main()
