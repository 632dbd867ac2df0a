"""A child process for everything that needs torch: bounded in time and memory, and ended with its parent.

`python -m workers.models.child BYTES MODULE ARGUMENT...` runs `python -m MODULE ARGUMENT...` under the limit.
"""

from __future__ import annotations

import os
import resource
import runpy
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO, NoReturn

from workers.models.files import ModelIncompleteError
from workers.parent import exit_when_stdin_closes

LIBRARY_BYTES = 4_000_000_000
"""Memory that torch, transformers and the allocator need besides a model, with room to spare."""
SECONDS_TO_START = 600.0
"""Time to start: importing torch on a machine with a busy disk takes a minute or two."""
BYTES_PER_SECOND = 10_000_000
"""Bytes of a model that even a slow machine reads, converts and computes with per second."""
EXIT_INCOMPLETE = 3
"""Exit code of a child that found the weights incomplete; its last line names what is missing."""
_OUTPUT_CHARACTERS = 20_000
"""Maximum characters that are kept from the end of each output."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The outcome of a child process."""

    code: int | None
    """Exit code, negative for a signal; None if the time ran out and the process was killed."""
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        """Return the last line of stderr, which is the message of a process that ended regularly."""
        return self.stderr.strip().rpartition("\n")[2]

    @property
    def reason(self) -> str:
        """Return in words how the process ended; its last lines contain a library's error."""
        last = " / ".join(self.stderr.strip().splitlines()[-3:]) or "it wrote nothing"
        if self.code is None:
            return f"took too long and was ended: {last}"
        return (
            f"was killed by signal {-self.code}: {last}"
            if self.code < 0
            else f"ended with {self.code}: {last}"
        )


def run_child(module: str, *arguments: str, model_bytes: int) -> Ended:
    """Run the module; `model_bytes` of the model in fp32 determine the limits of its time and its memory."""
    max_bytes = LIBRARY_BYTES + 4 * model_bytes
    timeout_seconds = SECONDS_TO_START + model_bytes / BYTES_PER_SECOND
    command = [sys.executable, "-m", "workers.models.child", str(max_bytes), module, *arguments]
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        # Its stdin is closed when this process ends in any way, which ends the child
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr) as process:
            try:
                code: int | None = process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                process.kill()
        return Ended(code, _end_of(stdout), _end_of(stderr))


def end_incomplete(error: ModelIncompleteError) -> NoReturn:
    """End this process, a child, so that its parent can report what is missing."""
    sys.stderr.write(f"\n{error}\n")
    sys.exit(EXIT_INCOMPLETE)


def _end_of(output: IO[bytes]) -> str:
    output.seek(max(0, output.seek(0, os.SEEK_END) - _OUTPUT_CHARACTERS))
    return output.read().decode(errors="replace")


def main() -> None:
    """Run the module that the arguments name."""
    if len(sys.argv) < 3:
        sys.exit("usage: python -m workers.models.child BYTES MODULE ARGUMENT...")
    os.environ["HF_HUB_OFFLINE"] = "1"  # everything is in the folders; no hub may be contacted
    exit_when_stdin_closes(1)
    # Not RLIMIT_AS: libraries reserve far more addresses than they use
    resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]), resource.RLIM_INFINITY))
    module = sys.argv[2]
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
