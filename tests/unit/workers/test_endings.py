"""What an exit status says: a fault, a stop, a kill, or a kill that the kernel counted."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from jobs.losses import Cause
from workers.endings import MemoryKills, ending_of
from workers.engines.request_engine import HUNG_EXIT_CODE, KILLED_EXIT_CODE
from workers.process import EXIT_CUT_OFF, EXIT_STALLED


def cause_of(status: int, *, was_stopped: bool = False, stood_still: bool = False) -> Cause:
    return ending_of(
        status, MemoryKills(Path("/nowhere")), was_stopped=was_stopped, stood_still=stood_still
    ).cause


@pytest.mark.parametrize(
    ("statuses", "cause"),
    [
        (
            (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGILL, -signal.SIGFPE),
            Cause.FAULT_SIGNAL,
        ),
        ((0, 1, 3, 255, HUNG_EXIT_CODE, EXIT_STALLED), Cause.EXIT_CODE),
        ((-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP, EXIT_CUT_OFF), Cause.STOPPED),
        (
            (-signal.SIGKILL, -signal.SIGQUIT, -signal.SIGUSR1, -signal.SIGALRM, KILLED_EXIT_CODE),
            Cause.KILLED,
        ),
    ],
    ids=lambda value: value.value if isinstance(value, Cause) else "",
)
def test_exit_status_says_whose_doing_it_was(statuses: tuple[int, ...], cause: Cause) -> None:
    assert {cause_of(status) for status in statuses} == {cause}
    assert {cause_of(status, was_stopped=True) for status in statuses} == {Cause.STOPPED}


def test_a_worker_killed_for_its_silence_is_told_from_one_killed_by_somebody() -> None:
    assert cause_of(-signal.SIGKILL, stood_still=True) is Cause.HEARTBEAT_LOST


LAYOUTS = {
    "v2": ("0::/jobs/worker", "sys/fs/cgroup/jobs/worker/memory.events", "low 0\noom 1\noom_kill {}\n"),
    "v2 in a container": ("0::/hidden", "sys/fs/cgroup/memory.events", "oom_kill {}\noom_group_kill 0\n"),
    "v1": (
        "5:cpu:/a\n4:memory:/a/b\n0::/",
        "sys/fs/cgroup/memory/a/b/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n",
    ),
    "no group": ("1:cpu:/", "proc/vmstat", "nr_free_pages 12\noom_kill {}\nnuma_hit 7\n"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sigkill_is_memory_exhaustion_only_while_the_kernels_count_rises(layout: str, tmp_path: Path) -> None:
    group, file, text = LAYOUTS[layout]
    for path, content in {"proc/self/cgroup": group, file: text.format(4)}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    kills = MemoryKills(tmp_path)

    def killed(now: float) -> Cause:
        kills.look(now)
        return ending_of(-signal.SIGKILL, kills, was_stopped=False, stood_still=False).cause

    assert killed(1.0) is Cause.KILLED
    (tmp_path / file).write_text(text.format(5))
    assert [killed(2.0), killed(3.0)] == [Cause.MEMORY, Cause.KILLED]  # one kill explains one end
    (tmp_path / file).write_text(text.format(6))
    kills.look(4.0)
    assert killed(4.0 + 3600) is Cause.KILLED  # too long ago to be the reason
