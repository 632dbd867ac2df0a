"""An outage is named when it begins and when it is over, and never in between."""

from __future__ import annotations

import logging

import pytest

from workers.outage import Outage

logger = logging.getLogger("workers.test")


def test_an_outage_is_named_once_and_its_end_is_told(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage(logger, "Valkey", meanwhile="what is queued waits")
    outage.end()
    assert not caplog.messages
    for _ in range(3):
        outage.note(ConnectionError("refused\nand more"))
        assert outage.is_on
    outage.end()
    outage.end()
    assert not outage.is_on
    assert caplog.messages == ["Valkey is unavailable; what is queued waits.", "Valkey answers again."]
    assert caplog.records[0].__dict__["reason"] == "ConnectionError: refused"


def test_an_outage_that_changes_its_kind_is_named_again(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage(logger, "Postgres", meanwhile="it is tried again")
    outage.note(OSError("gone"))
    outage.note(OSError("no such table"), "rejects a statement")
    outage.end()
    assert caplog.messages == [
        "Postgres is unavailable; it is tried again.",
        "Postgres rejects a statement; it is tried again.",
        "Postgres answers again.",
    ]
