"""How a due time of a schedule becomes a batch, for kinds without schedules of their own."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Engine

from db.batches import RunUnderWayError
from db.reports import batch_status
from db.schedules import RecurringBatch, get_schedule, put_schedule
from jobs.errors import ConfigurationError
from jobs.rejection import FileRejectedError
from workers.recurring import FileInputs, KindSchedules, UnknownStartError, schedules_of
from workers.settings import Profile, Settings

SETTINGS = Settings(profiles={"default": Profile(models=("some-model",)), "cpu": Profile()})
DUE_AT = datetime(2026, 3, 1, 6, tzinfo=UTC)


def start(database: Engine, file: Path | None, *, model: str = "some-model") -> UUID:
    """Make the batch of a schedule over this file."""
    recurring = RecurringBatch(
        kind="trial",
        name="rows",
        model=model,
        input=None if file is None else FileInputs(file=str(file)).model_dump(),
    )
    with database.begin() as connection:
        schedule_id = put_schedule(connection, recurring)
    schedule = get_schedule(database, schedule_id)
    with database.begin() as connection:
        return KindSchedules().start(connection, schedule, DUE_AT, SETTINGS)


def test_good_lines_become_the_batch_and_the_others_are_counted(database: Engine, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("id,text,act\na,one,write\nb,two,fly\nc,three,write\n")
    report = batch_status(database, start(database, file))

    assert report.name == "rows 2026-03-01 06:00Z"
    assert (report.counts.total, report.counts.rejected) == (2, 1)


def test_run_does_not_begin_while_another_one_goes_on(database: Engine, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text\none\n")
    start(database, file)
    with pytest.raises(RunUnderWayError):
        start(database, file)


def test_file_that_is_gone_is_named(database: Engine, tmp_path: Path) -> None:
    with pytest.raises(FileRejectedError, match=r"rows\.csv"):
        start(database, tmp_path / "rows.csv")


def test_schedule_without_a_file_says_what_to_do(database: Engine) -> None:
    with pytest.raises(UnknownStartError, match="create it again"):
        start(database, None)


def test_kind_that_is_gone_or_reads_no_table_has_no_start() -> None:
    assert type(schedules_of("article")) is KindSchedules
    with pytest.raises(UnknownStartError, match="'gone'"):
        schedules_of("gone")
    with pytest.raises(ConfigurationError, match="not made from a file"):
        schedules_of("sentiment_labels")
