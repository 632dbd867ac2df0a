"""Closing stages: an outage of Postgres is no fault of the kind that plans the next stage."""

from __future__ import annotations

import logging
from uuid import uuid4

import pytest
from sqlalchemy import QueuePool, create_engine
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from workers.stages import close_stages


def test_a_connection_that_does_not_come_free_is_no_fault_of_a_plan(
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = create_engine("sqlite://", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0)
    with database.connect(), caplog.at_level(logging.DEBUG), pytest.raises(PoolTimeoutError):
        close_stages(database, uuid4())
    assert not caplog.records
