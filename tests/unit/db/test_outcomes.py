"""Records of jobs reach the writers of their kinds."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection

from db import outcomes
from db.outcomes import RecordsWithoutWriterError, write_records, writer_of
from jobs.kind import Tables
from kinds.sentiment.store import history as sentiment_writer

written: list[tuple[str, UUID, object]] = []


def write_ants(_: Connection, some: Sequence[tuple[UUID, object]]) -> None:
    written.extend(("ant", *pair) for pair in some)


def write_bees(_: Connection, some: Sequence[tuple[UUID, object]]) -> None:
    written.extend(("bee", *pair) for pair in some)


def kind_with_writer(name: str) -> Any:
    writers = {"ant": "write_ants", "bee": "write_bees"}
    tables = Tables(module="none", migrations="none", writer=f"{__name__}:{writers[name]}")
    return SimpleNamespace(name=name, tables=tables)


def test_each_kind_writes_its_own_records_and_the_kinds_come_in_the_order_of_their_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outcomes, "load_kind", kind_with_writer)
    written.clear()
    connection = create_autospec(Connection)
    first, second, third = uuid4(), uuid4(), uuid4()
    write_records(connection, [("bee", first, "b1"), ("ant", second, "a1"), ("bee", third, "b2")])
    assert written == [("ant", second, "a1"), ("bee", first, "b1"), ("bee", third, "b2")]


def test_kind_that_names_a_writer_is_given_it() -> None:
    assert writer_of("sentiment_report") is sentiment_writer.write_records


@pytest.mark.parametrize("kind", ["article", "trial"])
def test_records_of_a_kind_without_a_writer_are_an_error_that_names_the_kind(kind: str) -> None:
    with pytest.raises(RecordsWithoutWriterError, match=f"'{kind}'") as raised:
        writer_of(kind)
    assert raised.value.code == "records_without_writer"
