"""A process that owns embedded services, for tests that kill it: `python -m tests.service_owner HOME`.

Prints one line of JSON (pid, urls, pids) when they answer, or {"code", "message"} if they do not start; ends
them when its standard input closes. With FORBID_NAMESPACES as second argument it first makes a world in which
it is root and user namespaces are forbidden, as in a default Docker container.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import PressroomError
from pressroom.embedded.launch import CLONE_NEWUSER
from pressroom.embedded.services import Services, ServiceUrls
from workers.settings import Settings

FORBID_NAMESPACES = "forbid-namespaces"


@dataclass(frozen=True, slots=True)
class Owner:
    """A running owner, as its parent sees it."""

    process: subprocess.Popen[str]
    urls: ServiceUrls
    pids: dict[str, int]

    def end(self) -> None:
        """Let it end in its own way."""
        self.process.communicate()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an owner could not start its services."""

    code: str
    message: str


@contextmanager
def owner_of(
    home: Path, *, uid: int | None = None, forbid_namespaces: bool = False
) -> Iterator[Owner | Refusal]:
    """Start an owner, as another user if a uid is given, and end it afterwards if the test has not."""
    command = [sys.executable, "-m", "tests.service_owner", str(home)]
    if uid is not None:
        command = [*_setpriv(uid), *command]
    with subprocess.Popen(
        command + ([FORBID_NAMESPACES] if forbid_namespaces else []),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},  # no HOME, no PRESSROOM_*
    ) as process:
        if forbid_namespaces:
            _map_all_users(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the owner ended with exit code {process.wait()}"
        answer = json.loads(line)
        if "code" in answer:
            yield Refusal(answer["code"], answer["message"])
        else:
            yield Owner(process, ServiceUrls(**answer["urls"]), answer["pids"])
        if process.stdin is not None and not process.stdin.closed:
            process.communicate()


def _setpriv(uid: int) -> list[str]:
    """Run as the uid. A Python below a closed folder of root's may still be read, nothing else is granted."""
    command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    if not all(parent.stat().st_mode & 0o001 for parent in Path(sys.executable).resolve().parents):
        command += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return command


def _map_all_users(process: subprocess.Popen[str]) -> None:
    """Give the owner's user namespace the users of this one; only a process outside it may."""
    assert process.stdout is not None
    assert process.stdin is not None
    if process.stdout.readline() == "unshared\n":  # else the machine forbids namespaces anyway
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{name}").write_text("0 0 65536\n", encoding="ascii")
    process.stdin.write("mapped\n")
    process.stdin.flush()


def _forbid_namespaces() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    unshared = libc.unshare(CLONE_NEWUSER) == 0
    print("unshared" if unshared else "forbidden", flush=True)
    sys.stdin.readline()
    if unshared:
        Path("/proc/sys/user/max_user_namespaces").write_text("0", encoding="ascii")


def main() -> None:
    """Own the services until standard input closes."""
    if FORBID_NAMESPACES in sys.argv[2:]:
        _forbid_namespaces()
    settings = Settings(home=Path(sys.argv[1]), db_url=None, redis_url=None, s3_url=None)
    try:
        with Services(settings, lambda line: print(line, file=sys.stderr)) as services:
            urls = {
                "db_url": services.urls.db_url,
                "redis_url": services.urls.redis_url,
                "s3_url": services.urls.s3_url,
            }
            print(json.dumps({"urls": urls, "pids": services.pids}), flush=True)
            sys.stdin.read()
    except PressroomError as error:
        print(json.dumps({"code": error.code, "message": str(error)}), flush=True)


if __name__ == "__main__":
    main()
