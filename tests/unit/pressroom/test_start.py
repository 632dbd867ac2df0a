"""A worker that cannot start ends its supervisor once; one that could before is started again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import EngineError, PressroomError
from tests.factories import wait_until
from workers import process
from workers.devices import Device
from workers.heartbeat import StartReport, report_failure, take_report
from workers.models.files import ModelUnloadableError
from workers.process import EXIT_NOT_STARTED, EXIT_START_FAILED
from workers.settings import Settings
from workers.supervisor import Supervisor, WorkerStartError

REPORT = "import os; report = open(os.environ['PRESSROOM_START_REPORT'], 'w')\n"
READY = (
    "import os; from workers.heartbeat import Pulse\n"
    "Pulse(int(os.environ['PRESSROOM_HEARTBEAT_DESCRIPTOR'])).ready()\n"
)
FORBIDDEN = (
    REPORT
    + 'report.write(\'{"code": "store_permission_missing", "reason": "s3:PutObject"}\'); report.flush()\n'
)


def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *texts: str) -> Supervisor:
    """A supervisor whose workers run these programs in turn, the last one from then on."""
    remaining = list(texts)

    def popen(_: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        text = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        return original([sys.executable, "-c", text], **options)

    original = subprocess.Popen
    monkeypatch.setattr("workers.supervisor.subprocess.Popen", popen)
    monkeypatch.setattr("workers.supervisor.RESTART_SECONDS", (0.0,))
    settings = Settings.model_validate({"home": tmp_path, "db_url": "postgresql://app:pw@127.0.0.1:1/none"})
    return Supervisor(settings, [Device("cpu")], profile="cpu", environment={})


def deaths_until_given_up(supervisor: Supervisor) -> tuple[list[str], str]:
    """What the supervisor told before it gave up, and why it did."""
    told: list[str] = []

    def never() -> bool:
        told.extend(supervisor.check())
        return False

    with pytest.raises(WorkerStartError) as refusal:
        wait_until(never, "it gave up")
    return told, str(refusal.value)


def test_permanent_fault_is_told_once_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = program(monkeypatch, tmp_path, f"{FORBIDDEN}raise SystemExit({EXIT_NOT_STARTED})")
    told, reason = deaths_until_given_up(supervisor)
    assert told == []
    assert "s3:PutObject [store_permission_missing]" in reason


def test_worker_that_crashes_at_each_start_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = program(monkeypatch, tmp_path, "import os; print('no memory', flush=True); os.abort()")
    told, reason = deaths_until_given_up(supervisor)
    assert len(told) == 2
    assert "SIGABRT" in reason
    assert "no memory" in reason


@pytest.mark.parametrize(
    "first",
    [
        f"{READY}raise SystemExit({EXIT_NOT_STARTED})",
        f"raise SystemExit({EXIT_START_FAILED})",
        f"import os, signal; os.kill(os.getpid(), {signal.SIGKILL:d})",
    ],
)
def test_what_worked_before_or_may_pass_is_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    again = f"{FORBIDDEN}raise SystemExit({EXIT_START_FAILED})"
    supervisor = program(monkeypatch, tmp_path, first, first, again)
    told: list[str] = []

    def is_told() -> bool:
        told.extend(supervisor.check())
        return len(told) >= 4

    wait_until(is_told, "it was started again")
    assert "s3:PutObject [store_permission_missing]" in told[-1]


@pytest.mark.parametrize("error", [KeyError("pressroom_slots"), EngineError("no step"), MemoryError()])
def test_model_that_cannot_be_loaded_is_permanent_whatever_its_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(process, "load_models", load)
    with pytest.raises(ModelUnloadableError, match="smollm2"):
        process._load_models(Settings.model_validate({"home": tmp_path}))


def test_start_report_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "worker.start"
    report_failure(path, PressroomError("two\nlines", code="some_code"))
    assert take_report(path) == StartReport(code="some_code", reason="two\nlines")
    assert take_report(path) is None
    report_failure(None, PressroomError("nobody supervises"))
