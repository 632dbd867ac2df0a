"""Drives `pressroom` as a user does: a process tree in a home of its own, looked at through its Postgres."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Engine, text

from db.session import open_database
from pressroom.embedded.home import Home
from pressroom.embedded.services import find_running
from tests.services import embedded_settings

PATIENCE_SECONDS = 120.0
"""For anything to happen on a loaded machine; reached only when something is wrong."""

POLL_SECONDS = 0.05

Row = Mapping[str, Any]


class PressroomRun:
    """One `pressroom` command under way."""

    def __init__(
        self, home: Path, process: subprocess.Popen[str], errors: Path, *, db_url: str | None
    ) -> None:
        """`db_url` where the command was given one; else it is that of the home's own Postgres."""
        self.home = home
        self._db_url = db_url
        self.process = process
        self._errors = errors
        self._database: Engine | None = None

    @property
    def stderr(self) -> str:
        """What it said so far."""
        return self._errors.read_text()

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Poll; fail with the command's own words if it ends or the patience does."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            if self.process.poll() is not None:
                raise AssertionError(f"ended before {what}:\n{self.stderr}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {PATIENCE_SECONDS:.0f} s: {what}\n{self.stderr}")
            time.sleep(POLL_SECONDS)

    def query(self, statement: str) -> list[Row]:
        """Rows of the run's own database; none while it is away or not migrated yet."""
        try:
            with self._connected().connect() as connection:
                return [dict(row) for row in connection.execute(text(statement)).mappings()]
        except Exception:  # noqa: BLE001 - the tests make Postgres go away
            return []

    def count(self, statement: str) -> int:
        """The single number that the statement returns; 0 while the database is away."""
        rows = self.query(statement)
        return int(next(iter(rows[0].values()))) if rows else 0

    def _connected(self) -> Engine:
        if self._database is None:
            urls = None if self._db_url else find_running(embedded_settings(self.home))
            db_url = self._db_url or (urls.db_url if urls else None)
            if db_url is None:
                raise ConnectionError("the services do not run yet")
            self._database = open_database(db_url)
        return self._database

    def reconnect(self) -> None:
        """Forget the database's URL: the services may have been started again elsewhere."""
        if self._database is not None:
            self._database.dispose()
            self._database = None

    def service_pid(self, name: str) -> int:
        """Process id of an embedded service: db_url, redis_url or s3_url."""
        state = Home(self.home).read_state()
        assert state is not None
        return state.services[name].pid

    def worker(self) -> tuple[str, int]:
        """Id and process id of the worker that was ready last."""
        rows = self.query(
            "SELECT id, pid FROM workers WHERE ready_at IS NOT NULL ORDER BY started_at DESC LIMIT 1"
        )
        return str(rows[0]["id"]), int(rows[0]["pid"])

    def service_url(self, name: str) -> str:
        """Where an embedded service answers: db_url, redis_url or s3_url."""
        state = Home(self.home).read_state()
        assert state is not None
        return state.services[name].url

    def family(self) -> list[psutil.Process]:
        """The processes that it has started, and those that they have."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """What init systems and containers send."""
        self.process.terminate()

    def finish(self, patience_seconds: float = PATIENCE_SECONDS) -> tuple[int, dict[str, Any]]:
        """Wait for the end; exit status and the object that `--json` printed."""
        code, output = self.finish_text(patience_seconds)
        return code, json.loads(output) if output.strip() else {}

    def finish_text(self, patience_seconds: float = PATIENCE_SECONDS) -> tuple[int, str]:
        """Wait for the end; exit status and what it printed on stdout."""
        output, _ = self.process.communicate(timeout=patience_seconds)
        return self.process.returncode, output

    def close(self) -> None:
        """End whatever is left of it."""
        self.reconnect()
        if self.process.poll() is None:
            family = psutil.Process(self.process.pid).children(recursive=True)
            self.process.kill()
            self.process.wait()
            for child in family:
                if child.is_running():
                    child.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def pressroom(home: Path, *arguments: str | Path, **environment: str) -> Iterator[PressroomRun]:
    """Start `pressroom ARGUMENTS` with this home and PRESSROOM_* environment."""
    settings = {f"PRESSROOM_{name.upper()}": value for name, value in environment.items()}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PRESSROOM_")}
    descriptor, name = tempfile.mkstemp(dir=home.parent, suffix=".stderr")
    errors = Path(name)
    with os.fdopen(descriptor, "w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "pressroom", *map(str, arguments)],
            env={**inherited, **settings, "PRESSROOM_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    run = PressroomRun(home, process, errors, db_url=environment.get("db_url"))
    try:
        yield run
    finally:
        run.close()


def write_briefs(path: Path, number: int, *, length: int = 40) -> Path:
    """A file of distinct short briefs."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "title", "topic", "length"])
        for index in range(number):
            writer.writerow([f"brief-{index:03}", f"Title {index}", f"the history of object {index}", length])
    return path


def write_script(path: Path, **script: object) -> Path:
    """A script for the scripted engine."""
    path.write_text(json.dumps(script))
    return path
