"""The page of a prompt batch: each row's new columns beside the columns that they were made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from db.reports import JobResult
from jobs.shown import json_text
from kinds.prompt.answer import NUM_CUT
from kinds.prompt.columns import id_column, new_columns
from kinds.prompt.labels import LabelFigures
from kinds.prompt.payload import PromptSettings
from kinds.prompt.row import columns_read
from pressroom.pages import Page
from pressroom.summary import Summary

MAX_PAGE_ROWS = 200
"""Maximum number of rows on the page; the tables have all of them."""

MAX_CELL_CHARACTERS = 4_000
"""Maximum length of a cell on the page, in characters; the tables have all of it."""

MAX_PAGE_COLUMNS = 24
"""Maximum number of columns of the input that the page shows for a row."""

PAGE = Page(package="kinds.prompt", template="table.html.jinja", style="table.css")


@dataclass(frozen=True, slots=True)
class PageCell:
    """One cell in the form that the page shows."""

    name: str
    text: str
    is_cut: bool

    @classmethod
    def of(cls, name: str, value: object) -> PageCell:
        """Return the cell for a value of a table."""
        text = "" if value is None else value if isinstance(value, str) else json_text(value)
        return cls(name, text[:MAX_CELL_CHARACTERS], len(text) > MAX_CELL_CHARACTERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRow:
    """One row in the form that the page shows."""

    custom_id: str
    inputs: tuple[PageCell, ...]
    answers: tuple[PageCell, ...]
    """New columns that every row has."""
    remarks: tuple[PageCell, ...]
    """Further new columns, such as the thoughts of the model."""
    is_long: bool
    """Whether a text reached its maximum number of tokens."""
    error: tuple[str, str] | None
    """Code and message of the error; None for a row with an answer."""
    is_kept: bool
    """Whether the row had not changed, so that its result is a kept one."""

    @classmethod
    def of(
        cls,
        job: JobResult,
        inputs: Mapping[str, object],
        outputs: Mapping[str, object],
        settings: PromptSettings,
    ) -> PageRow:
        """Return the row of a job that has ended. The columns that the template reads come first."""
        has_failed = job.artifact_name is None
        read = columns_read(settings)
        names = sorted(inputs, key=lambda name: name not in read)  # otherwise in the order of the table
        ids = id_column(settings.columns)
        names = [name for name in names if name != ids]  # the id is shown above the row
        cells = [] if has_failed else [PageCell.of(*column) for column in outputs.items()]
        new = set(new_columns(settings))
        return cls(
            custom_id=job.custom_id,
            inputs=tuple(PageCell.of(name, inputs[name]) for name in names),
            answers=tuple(cell for cell in cells if cell.name in new),
            remarks=tuple(cell for cell in cells if cell.name not in new),
            is_long=bool(job.metrics.get(NUM_CUT)) and not has_failed,
            error=(job.error_code or job.status.value, job.error_message or "") if has_failed else None,
            is_kept=not has_failed and job.metrics.get("is_kept") is True,
        )


def render_table_page(
    summary: Summary,
    settings: PromptSettings,
    rows: Sequence[PageRow],
    counts: Mapping[str, int],
    *,
    has_rejected: bool,
    labels: LabelFigures | None = None,
) -> str:
    """Return the page as HTML, with a note if it does not show all rows. `counts` are those of the report."""
    return PAGE.render(
        summary.report.created_at,
        summary=summary,
        report=summary.report,
        settings=settings,
        sources=_sources(settings),
        rows=rows,
        **counts,
        max_columns=MAX_PAGE_COLUMNS,
        has_rejected=has_rejected,
        labels=labels,
    )


def _sources(settings: PromptSettings) -> list[tuple[str, str]]:
    """Return the names and the sources of the templates and the schema."""
    named = (
        ("System template", settings.system),
        ("Template for parts", settings.map_template),
        ("Template", settings.template),
        ("Schema", settings.json_schema),
    )
    return [(name, source) for name, source in named if source is not None]
