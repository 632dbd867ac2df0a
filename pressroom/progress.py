"""Live progress on stderr: a bar on a terminal, and an occasional line elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from jobs.batch import BatchStatusReport
from pressroom.console import console, say

LINE_SECONDS = 10.0
"""Seconds between two lines if there is no terminal, so that a log file stays readable."""


class BatchProgress:
    """Shows the state of one batch; enter it as a context, and call `show` as often as you like."""

    def __init__(self) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("starting", total=None, figures="")
        self._line_at = 0.0

    def __enter__(self) -> Self:
        if console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if console.is_terminal:
            self._bar.stop()

    def show(self, report: BatchStatusReport) -> None:
        """Update the display."""
        counts = report.counts
        done = counts.total - counts.open
        figures = _figures(report)
        doing = "working" if done or counts.running else "starting the workers"
        if console.is_terminal:
            self._bar.update(
                self._task, description=doing, total=counts.total, completed=done, figures=figures
            )
        elif time.monotonic() - self._line_at >= LINE_SECONDS:
            self._line_at = time.monotonic()
            say(", ".join(filter(None, [f"{done} of {counts.total} jobs done", figures, doing])))


def _figures(report: BatchStatusReport) -> str:
    figures = []
    if report.counts.failed:
        figures.append(f"{report.counts.failed} failed")
    if report.usage.new_tokens and report.working_seconds:
        figures.append(f"{report.usage.new_tokens / report.working_seconds:.0f} tokens/s")
    return ", ".join(figures)
