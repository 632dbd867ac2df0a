"""The timers around the steps of a job, which the benchmark of orchestration starts in a worker."""

from __future__ import annotations

import time
from pathlib import Path
from pkgutil import resolve_name

import pytest

from benchmarks.job_costs import MESSAGE, REST, STEPS, Costs, Timers


@pytest.mark.parametrize("target", [target for targets in STEPS.values() for target in targets])
def test_steps_name_functions_of_the_worker(target: str) -> None:
    assert callable(resolve_name(target))


def test_time_of_a_step_excludes_that_of_steps_that_it_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def work(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(time, "thread_time", lambda: clock[0])
    timers = Timers(tmp_path / "costs.json")
    upload = timers._timed("upload", work)

    def pack() -> str:
        work(3.0)
        upload(0.25)
        upload(0.5)
        return "packed"

    assert timers._timed("run", timers._timed("pack", pack))() == "packed"
    timers._timed("commit", work)(1.0)
    costs = Costs.read(tmp_path / "costs.json")
    assert (costs.num_jobs, set(costs.seconds)) == (1, {*STEPS, MESSAGE, REST})
    assert [costs.seconds[step] for step in ("run", "pack", "upload", "commit")] == [0.0, 3.0, 0.75, 1.0]


def test_step_that_fails_is_measured_and_raises(tmp_path: Path) -> None:
    def fail() -> None:
        raise LookupError("no such job")

    with pytest.raises(LookupError, match="no such job"):
        Timers(tmp_path / "costs.json")._timed("commit", fail)()
    assert (tmp_path / "costs.json").exists()


def test_costs_are_divided_by_the_number_of_jobs() -> None:
    assert Costs(num_jobs=4, seconds={"claim": 0.001}).microseconds() == {"claim": 250.0}
