"""The descriptions that a kind adds to its batches and jobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from jobs.registry import kind_names, load_kind, load_target

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from db.reports import JobDetail
    from jobs.batch import BatchStatusReport

Line = tuple[str, str]
"""One line of a description: a label of at most eleven characters, and a text."""


class Describer:
    """Describes batches and jobs of a kind; a kind may override either method."""

    def describe_batch(self, database: Engine, report: BatchStatusReport) -> Iterable[Line]:  # noqa: ARG002
        """Yield lines about the batch's results so far, for `pressroom status` and the end of a run; by
        default none."""
        return ()

    def describe_job(self, detail: JobDetail) -> Iterable[Line]:
        """Yield lines about a job's result, for `pressroom show`; by default, the counts among its
        metrics."""
        counts = [
            f"{value:,} {name.removeprefix('num_').replace('_', ' ')}"
            for name, value in detail.result.metrics.items()
            if name.startswith("num_") and isinstance(value, int)
        ]
        if counts:
            yield "figures", ", ".join(counts)


def describer_of(kind: str) -> Describer:
    """Return the describer that a kind declares, or the default one.

    Batches of a kind that is no longer installed get the default one. Raises ConfigurationError
    (`target_unknown`).
    """
    target = load_kind(kind).describer if kind in kind_names() else None
    if target is None:
        return Describer()
    describer: Describer = load_target(target)()
    return describer


def lines_json(lines: Iterable[Line]) -> list[dict[str, str]]:
    """Return the lines as JSON objects."""
    return [{"label": label, "text": text} for label, text in lines]
