"""Services of kinds beside a command: started, watched and stopped, and none can end the command."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jobs.kind import Background
from workers import background
from workers.background import (
    BackgroundEndedError,
    BackgroundPlace,
    BackgroundServices,
    BackgroundThread,
    background_thread,
    services_under,
)
from workers.settings import Settings

PLACE = BackgroundPlace(db_url="postgresql://:secret@x/y", redis_url=None, s3_url=None, settings=Settings())

events: list[str] = []


class Service:
    """Runs until its end is set."""

    def __init__(self) -> None:
        self.has_ended = False

    def check(self) -> None:
        if self.has_ended:
            raise BackgroundEndedError("it crashed")


running: list[Service] = []


@contextmanager
def open_service(place: BackgroundPlace) -> Iterator[Service]:
    assert place is PLACE
    service = Service()
    events.append("started")
    running.append(service)
    try:
        yield service
    finally:
        running.remove(service)
        events.append("stopped")


@contextmanager
def open_nothing(_: BackgroundPlace) -> Iterator[Service]:
    events.append("tried")
    raise RuntimeError("this service cannot be started")
    yield


@contextmanager
def open_unstoppable(_: BackgroundPlace) -> Iterator[Service]:
    yield Service()
    raise RuntimeError("this service cannot be stopped")


@pytest.fixture(autouse=True)
def nothing_has_happened() -> None:
    events.clear()
    running.clear()


def services(*openers: str) -> BackgroundServices:
    return BackgroundServices(
        [("trial", Background(name, f"{__name__}:{name}", frozenset({"beat"}))) for name in openers], PLACE
    )


def test_services_start_with_the_first_check_and_stop_at_the_end_once() -> None:
    made = services("open_service")
    assert not events
    made.check()
    made.check()
    made.close()
    made.close()
    assert events == ["started", "stopped"]


@pytest.mark.parametrize("broken", ["open_nothing", "open_what_is_not_there"])
def test_a_service_that_cannot_be_started_is_logged_and_leaves_the_others(
    broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = services(broken, "open_service")
    made.check()
    assert len(running) == 1
    (record,) = caplog.records
    assert (record.kind, record.service) == ("trial", broken)  # type: ignore[attr-defined]
    made.close()


def test_a_start_that_failed_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    made = services("open_nothing")
    made.check()
    made.check()
    assert events == ["tried"]
    monkeypatch.setattr(background, "RESTART_SECONDS", 0)
    made = services("open_nothing")
    made.check()
    made.check()
    assert events == ["tried"] * 3


def test_a_service_that_has_ended_is_closed_and_started_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "RESTART_SECONDS", 0)
    made = services("open_service")
    made.check()
    running[0].has_ended = True
    made.check()
    assert events == ["started", "stopped"]
    assert "has ended" in caplog.text
    made.check()
    assert events == ["started", "stopped", "started"]
    made.close()


def test_a_service_that_does_not_stop_is_logged_and_leaves_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = services("open_service", "open_unstoppable")
    made.check()
    made.close()
    assert events == ["started", "stopped"]
    assert "did not stop" in caplog.text


def test_no_service_starts_after_the_end() -> None:
    made = services("open_service")
    made.close()
    made.check()
    assert not events


def test_a_thread_that_crashed_is_noticed() -> None:
    crashed = threading.Event()

    def run(_: threading.Event) -> None:
        crashed.set()

    thread = BackgroundThread("trial", run)
    assert crashed.wait(10)
    thread.stop(10)
    with pytest.raises(BackgroundEndedError):
        thread.check()


def test_a_thread_runs_until_its_block_ends() -> None:
    ended = threading.Event()

    def run(stopping: threading.Event) -> None:
        stopping.wait(30)
        ended.set()

    with background_thread("trial", run, join_seconds=10) as thread:
        thread.check()
    assert ended.is_set()


def test_alerts_are_delivered_beside_beat_and_releases_served_under_up() -> None:
    assert [(kind, each.name) for kind, each in services_under("beat")] == [("sentiment_report", "notifier")]
    assert [(kind, each.name) for kind, each in services_under("up")] == [("recommendation", "serving")]


def test_a_place_shows_no_password(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger(__name__).warning("%r", PLACE)
    assert "secret" not in caplog.text
