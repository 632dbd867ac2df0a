"""A process that lives and stands still is told from one that was stopped, starved or is just slow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.factories import wait_until
from workers.heartbeat import DUMP_SIGNAL, MAX_GAP_SECONDS, PulseWatch

pytestmark = pytest.mark.attack("process that holds the interpreter lock")

CHILD = """
import ctypes, sys
from workers.heartbeat import Pulse

pulse = Pulse(int(sys.argv[1]))
pulse.ready()
for line in sys.stdin:
    if line == "drain\\n":
        pulse.draining()
    print(line, end="", flush=True)
    if line == "hold\\n":
        ctypes.PyDLL(None).sleep(600)  # a PyDLL call keeps the interpreter's lock
"""


@dataclass(slots=True)
class Beating:
    """A process that beats, and its monitor with a clock of the test's own."""

    process: subprocess.Popen[str]
    monitor: PulseWatch
    now: float = 0.0

    def look(self, seconds: float = 1.0) -> float:
        """As if so much time had passed; for how long it is silent."""
        self.now += seconds
        self.monitor.look(self.process.pid, self.now)
        return self.monitor.silent_seconds

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == f"{word}\n"

    def state(self) -> str:
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def beating(tmp_path: Path) -> Iterator[Beating]:
    monitor = PulseWatch()
    with (tmp_path / "stderr").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(monitor.descriptor)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            pass_fds=[monitor.descriptor],
        )
    monitor.release()
    beating = Beating(process, monitor)

    def ready() -> bool:
        beating.look()
        return monitor.is_ready

    wait_until(ready, "it beats")
    yield beating
    process.kill()
    process.communicate()
    monitor.close()


def test_process_whose_interpreter_is_held_is_silent_and_still_writes_its_stacks(
    beating: Beating, tmp_path: Path
) -> None:
    beating.tell("hold")
    wait_until(lambda: beating.look() > 20, "twenty looks without a beat")
    beating.process.send_signal(DUMP_SIGNAL)
    errors = tmp_path / "stderr"
    wait_until(lambda: errors.read_text().count("most recent call first") >= 2, "the stacks of both threads")
    assert "in _beat" in errors.read_text()


def test_stopped_process_is_not_blamed_for_its_silence(beating: Beating) -> None:
    os.kill(beating.process.pid, signal.SIGSTOP)
    wait_until(lambda: beating.state() == "T", "it is stopped")
    beating.look()
    assert max(beating.look() for _ in range(100)) <= MAX_GAP_SECONDS
    os.kill(beating.process.pid, signal.SIGCONT)
    wait_until(lambda: beating.look() == 0, "it beats again")


def test_time_in_which_the_supervisor_stood_still_says_nothing(beating: Beating) -> None:
    beating.tell("hold")
    before = beating.look()
    assert beating.look(24 * 3600.0) <= before + MAX_GAP_SECONDS


def test_drain_is_told_before_the_end(beating: Beating) -> None:
    beating.tell("drain")
    beating.look()
    assert beating.monitor.is_draining


def test_process_that_is_gone_is_not_silent(beating: Beating) -> None:
    beating.process.kill()
    beating.process.wait()
    assert [beating.look() for _ in range(30)] == [0.0] * 30
