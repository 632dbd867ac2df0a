"""Child processes that end with their parent, however it ends.

The parent keeps the other end of the child's stdin open while it lives, and the child exits when its stdin
closes. `run_child` runs everything that needs torch in such a process, bounded in time and memory: `python -m
workers.child_process BYTES MODULE ARGUMENT...` runs `python -m MODULE ARGUMENT...` under the limit.

Servers of other projects do not watch their stdin, so pressroom.embedded.launch makes the kernel send them a
signal when the parent dies.
"""

from __future__ import annotations

import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, NoReturn

from jobs.errors import PressroomError

POLL_SECONDS = 0.5

STDIN = 0
"""File descriptor of stdin. sys.stdin is not used, because the watching thread would still hold its lock when
the process ends."""

LIBRARY_BYTES = 4_000_000_000
"""Memory that torch, transformers and the allocator need besides a model, with room to spare."""

SECONDS_TO_START = 600.0
"""Time allowed for the start: importing torch on a machine with a busy disk takes a minute or two."""

BYTES_PER_SECOND = 10_000_000
"""Rate, in bytes of the model per second, at which even a slow machine can read, convert and run it."""

EXIT_INCOMPLETE = 3
"""Exit code of a child that found the weights incomplete; the last line of its stderr is the error's message.
"""

_OUTPUT_CHARACTERS = 20_000
"""Maximum characters that are kept from the end of each output."""


def start_child(module: str, *arguments: str, **options: Any) -> subprocess.Popen[Any]:
    """Start `python -m MODULE ARGUMENT...`; `options` are Popen's. The child must call `begin_child`."""
    # The child's stdin closes when this process ends, however it ends, and that ends the child.
    return subprocess.Popen([sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, **options)


def begin_child(exit_code: int, before_exit: Callable[[], None] | None = None) -> None:
    """Make this child process exit at once when its parent ends, and forbid it to contact a model hub.

    `before_exit` is called first, in the watching thread.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"  # all files are in the models' folders
    threading.Thread(target=_exit_at_end, args=(exit_code, before_exit), name="parent", daemon=True).start()


def _exit_at_end(exit_code: int, before_exit: Callable[[], None] | None) -> None:
    while os.read(STDIN, 1024):
        pass
    if before_exit is not None:
        before_exit()
    os._exit(exit_code)


def drain_when_parent_dies(parent_pid: int) -> None:
    """Send a single SIGTERM to this process when the given parent ends for any reason, or at once if it has
    already ended.

    prctl(2)'s PR_SET_PDEATHSIG is not used: if the parent has several threads, that signal can arrive more
    than once, and Celery's handler deadlocks on itself when a second signal arrives while it runs.
    """
    threading.Thread(target=_drain_at_end, args=(parent_pid,), name="parent", daemon=True).start()


def _drain_at_end(parent_pid: int) -> None:
    while os.getppid() == parent_pid:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The exit code of a child process, and its output."""

    code: int | None
    """Exit code, negative for a signal; None if the time ran out and the process was killed."""
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """Return the last line of stderr, which is the error's message if the process called
        `end_incomplete`."""
        return self.stderr.strip().rpartition("\n")[2]

    @property
    def reason(self) -> str:
        """Describe how the process ended, with the last lines of stderr, which contain a library's error."""
        output = last_lines(self.stderr)
        if self.code is None:
            return f"took too long and was killed: {output}"
        if self.code < 0:
            return f"was killed by signal {-self.code}: {output}"
        return f"ended with exit code {self.code}: {output}"


def run_child(module: str, *arguments: str, model_bytes: int) -> Outcome:
    """Run the module within limits of time and memory derived from `model_bytes`, the model's size in
    fp32."""
    max_bytes = LIBRARY_BYTES + 4 * model_bytes
    timeout_seconds = SECONDS_TO_START + model_bytes / BYTES_PER_SECOND
    limited = ("workers.child_process", str(max_bytes), module, *arguments)
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        with start_child(*limited, stdout=stdout, stderr=stderr) as process:
            try:
                code: int | None = process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                process.kill()
        return Outcome(code, _end_of(stdout), _end_of(stderr))


def end_incomplete(error: PressroomError) -> NoReturn:
    """Report an error to the parent of this child process, and exit with EXIT_INCOMPLETE."""
    sys.stderr.write(f"\n{error}\n")
    sys.exit(EXIT_INCOMPLETE)


def last_lines(output: str, count: int = 3) -> str:
    """Join the last lines of a child process's output into one line, since they contain its error."""
    return " / ".join(output.strip().splitlines()[-count:]) or "it wrote nothing"


def _end_of(output: IO[bytes]) -> str:
    output.seek(max(0, output.seek(0, os.SEEK_END) - _OUTPUT_CHARACTERS))
    return output.read().decode(errors="replace")


def main() -> None:
    """Run the module that the arguments name."""
    if len(sys.argv) < 3:
        sys.exit("usage: python -m workers.child_process BYTES MODULE ARGUMENT...")
    begin_child(1)
    # Not RLIMIT_AS: libraries reserve far more addresses than they use.
    resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]), resource.RLIM_INFINITY))
    module = sys.argv[2]
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
