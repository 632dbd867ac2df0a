"""Why a worker process did not start, passed to its supervisor in a file, which needs no service."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.errors import PressroomError

logger = logging.getLogger(__name__)


class StartReport(BaseModel):
    """The error that ended the start of a worker."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.reason} [{self.code}]"


def report_failure(path: Path | None, error: PressroomError) -> None:
    """Write why the start failed. Without a path, there is no supervisor to read it."""
    if path is None:
        return
    try:
        path.write_text(StartReport(code=error.code, reason=str(error)).model_dump_json(), encoding="utf-8")
    except OSError:
        logger.warning("The supervisor is not told why the start failed.", exc_info=True)


def take_report(path: Path) -> StartReport | None:
    """Return and delete the report of a process that has ended; None if there is none."""
    try:
        return StartReport.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    finally:
        path.unlink(missing_ok=True)
