"""Submitting rows: what is read is shown, and a batch is accepted whole or not at all."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Mapping

import pytest
from sqlalchemy import Engine, func, select

from db.reports import batch_status
from db.tables import BatchRow, JobRow
from jobs.rejection import Rejected
from workers.intake import BatchRequest
from workers.producer import StrictIntakeError, Submission, submit
from workers.settings import Profile, Settings

SETTINGS = Settings(profiles={"cpu": Profile(models=("fake",))})


class Producer:
    """Submits rows of the trial kind, and keeps what it is told about them."""

    def __init__(self, database: Engine) -> None:
        self.database = database
        self.rejected: list[Rejected] = []
        self.progress: list[int] = []

    def submit(self, rows: Iterable[Mapping[str, object]], *, strict: bool = False) -> Submission:
        request = BatchRequest(kind="trial", model="fake", settings={}, strict=strict)
        return submit(
            self.database,
            {"rows": rows},
            request,
            SETTINGS,
            self.rejected.append,
            on_progress=self.progress.append,
        )

    def num_stored(self) -> tuple[int, int]:
        """Numbers of batches and of jobs."""
        with self.database.connect() as connection:
            tables = (BatchRow, JobRow)
            batches, jobs = (connection.scalar(select(func.count()).select_from(table)) for table in tables)
        return batches or 0, jobs or 0


@pytest.fixture
def producer(database: Engine) -> Producer:
    return Producer(database)


def rows(number: int, *, bad: frozenset[int] = frozenset()) -> Iterator[Mapping[str, object]]:
    """Rows with an id each; the bad ones have a column too many."""
    for n in range(number):
        yield {"id": f"id-{n}", "text": f"text {n} " + "x" * 300, **({"wrong": 1} if n in bad else {})}


def test_records_are_counted_as_they_are_read_with_those_that_are_refused(producer: Producer) -> None:
    submission = producer.submit(rows(3_500, bad=frozenset({1, 2_000})))
    assert producer.progress == [1_000, 2_000, 3_000]
    assert [refused.line for refused in producer.rejected] == [2, 2_001]
    counts = batch_status(producer.database, submission.batch_id).counts
    assert (counts.total, counts.rejected) == (3_498, 2)


def test_no_row_is_left_when_the_user_interrupts_in_the_middle(producer: Producer) -> None:
    def interrupted() -> Iterator[Mapping[str, object]]:
        yield from rows(5_000)
        signal.raise_signal(signal.SIGINT)
        yield from rows(1)

    with pytest.raises(KeyboardInterrupt):
        producer.submit(interrupted())
    assert producer.num_stored() == (0, 0)
    producer.submit(rows(5_000))
    assert producer.num_stored() == (1, 5_000)


def test_no_row_is_left_when_the_last_one_is_refused_of_a_strict_submission(producer: Producer) -> None:
    with pytest.raises(StrictIntakeError, match="1 line was refused"):
        producer.submit(rows(5_000, bad=frozenset({4_999})), strict=True)
    assert producer.num_stored() == (0, 0)
