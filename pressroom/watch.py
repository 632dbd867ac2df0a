"""Watches a batch: reads its state until it ends, through outages of Postgres, and shows its progress."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Self, TypeVar
from uuid import UUID

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.status import Status
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from db.faults import DatabaseAwayError, DatabaseFault, fault_of
from db.reports import batch_status
from jobs.batch import BatchStatusReport
from jobs.shown import plural
from pressroom.console import Interruption, console, say
from workers.outage import Outage

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""Seconds between two reads of the state of a batch."""

LINE_SECONDS = 10.0
"""Seconds between two lines of progress without a terminal, so that a log file stays readable."""

INTAKE_LINE_SECONDS = 60.0
"""Seconds between two lines about an input that is being read. A million records take about a minute, so
smaller inputs cause no line."""

MAX_PARKED_SHOWN = 5

StateT = TypeVar("StateT")


def poll(read: Callable[[], StateT], *, say: Callable[[str], None] | None = None) -> Iterator[StateT | None]:
    """Yield the results of calling `read` repeatedly; None while Postgres is unavailable.

    The caller ends the loop. The beginning and the end of an outage are passed to `say`, or logged if it is
    None. Raises SQLAlchemyError if Postgres refuses the query.
    """
    outage = Outage(logger, "Postgres", meanwhile="waiting for it", say=say)
    while True:
        state: StateT | None = None
        try:
            state = read()
        except DatabaseAwayError as error:
            outage.note(error)
        except SQLAlchemyError as error:
            fault = fault_of(error)
            if fault is DatabaseFault.MISUSE:
                raise
            outage.note(error, fault)
        else:
            outage.end()
        yield state
        time.sleep(POLL_SECONDS)


def watch_batch(
    database: Engine,
    batch_id: UUID,
    interruption: Interruption,
    on_report: Callable[[BatchStatusReport], None] | None = None,
    *,
    check: Callable[[], object] = lambda: None,
) -> BatchStatusReport | None:
    """Show the progress of a batch until it ends, cannot continue without help, or the user interrupts.

    `on_report` gets each state. `check` is called after each read; it may restart workers and services that
    have ended. Return the last state, or None if Postgres was unavailable when the user interrupted.
    """
    report = None
    with BatchProgress() as progress:
        for report in poll(partial(batch_status, database, batch_id), say=say):
            if report is not None:
                progress.show(report)
                if on_report is not None:
                    on_report(report)
                if not report.goes_on:
                    break
            if interruption.count:
                break
            check()
    return report


class _Display:
    """A display that changes on a terminal; elsewhere it prints lines, so that a log file stays readable."""

    def __init__(self, live: Progress | Status, line_seconds: float) -> None:
        self._live = live
        self._line_seconds = line_seconds
        self._next_line_at = 0.0

    def __enter__(self) -> Self:
        if console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if console.is_terminal:
            self._live.stop()

    def _print_line(self, sentence: str) -> None:
        """Print the line, unless the previous one was printed less than `line_seconds` ago."""
        if time.monotonic() >= self._next_line_at:
            self._next_line_at = time.monotonic() + self._line_seconds
            say(sentence)


class BatchProgress(_Display):
    """Shows the state of one batch. Use it in a `with` block, and call `show` for each new state."""

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
        super().__init__(self._bar, LINE_SECONDS)

    def show(self, report: BatchStatusReport) -> None:
        """Update the display with a new state of the batch."""
        counts = report.counts
        done = counts.total - counts.open
        figures = _figures(report)
        doing = "working" if done or counts.running else "starting the workers"
        if console.is_terminal:
            self._bar.update(
                self._task, description=doing, total=counts.total, completed=done, figures=figures
            )
        else:
            self._print_line(", ".join(filter(None, [f"{done} of {counts.total} jobs done", figures, doing])))


class IntakeProgress(_Display):
    """Shows how many records of an input have been read. Use it in a `with` block."""

    def __init__(self) -> None:
        self._status = console.status("reading the input")
        super().__init__(self._status, INTAKE_LINE_SECONDS)
        self._next_line_at = time.monotonic() + INTAKE_LINE_SECONDS  # most inputs are read before that

    def show(self, num_records: int) -> None:
        """Update the display with the number of records read so far."""
        sentence = f"{num_records:,} records read"
        if console.is_terminal:
            self._status.update(sentence)
        else:
            self._print_line(sentence)


def _figures(report: BatchStatusReport) -> str:
    figures = []
    if report.counts.failed:
        figures.append(f"{report.counts.failed} failed")
    if report.usage.new_tokens and report.working_seconds:
        figures.append(f"{report.usage.new_tokens / report.working_seconds:.0f} tokens/s")
    return ", ".join(figures)


def say_parked(report: BatchStatusReport) -> None:
    """Print which jobs are parked until a user releases them, if there are any."""
    if report.num_parked:
        names = ", ".join(repr(job.custom_id) for job in report.parked[:MAX_PARKED_SHOWN])
        more = ", ..." if report.num_parked > MAX_PARKED_SHOWN else ""
        say(
            f"{plural(report.num_parked, 'job is', 'jobs are')} parked ({names}{more}), because workers were "
            f"lost repeatedly for an unknown reason. `pressroom status {report.batch_id}` shows the "
            "evidence; "
            f"`pressroom retry {report.batch_id}` queues parked jobs again."
        )
