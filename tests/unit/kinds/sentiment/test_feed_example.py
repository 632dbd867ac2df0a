"""The demo's feed: equal for equal seeds, without hints at the planted events, and readable as documents."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from examples.sentiment.feed import EVENTS, FEED, WATCHLIST, event_row, make_feed, write_feed
from examples.sentiment.moods import Turn
from jobs.documents.document import Document
from jobs.documents.reading import read_documents
from kinds.sentiment.documents.watchlist_file import read_watchlist

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("feed")
    write_feed(1, folder)
    return folder


def test_same_seed_makes_the_same_files_and_another_seed_others(folder: Path, tmp_path: Path) -> None:
    write_feed(1, tmp_path / "again")
    write_feed(2, tmp_path / "other")

    for name in (FEED, WATCHLIST, EVENTS):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert (tmp_path / "other" / FEED).read_bytes() != (folder / FEED).read_bytes()


def test_feed_says_nothing_of_its_turns_but_in_the_events_file(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / FEED).read_text().splitlines()]
    ids = [row["id"] for row in rows]

    assert {key for row in rows for key in row} == {
        *("id", "text", "title", "source", "published_at", "language"),
    }
    assert len(set(ids)) == len(ids)
    assert all(turn.value not in (folder / WATCHLIST).read_text() for turn in Turn)


def test_each_kind_of_turn_is_planted_twice_on_entities_of_the_watch_list(folder: Path) -> None:
    events = [json.loads(line) for line in (folder / EVENTS).read_text().splitlines()]
    known = {entity.id for entity in read_watchlist(folder / WATCHLIST).watchlist.entities}

    assert Counter(event["kind"] for event in events) == {turn.value: 2 for turn in Turn}
    assert {event["entity_id"] for event in events} <= known
    assert all(event["starts_at"] < event["ends_at"] for event in events)
    assert events == [event_row(event) for event in make_feed(1)[1]]


def test_bad_rows_are_refused_and_all_others_read(folder: Path) -> None:
    read = list(read_documents(folder / FEED, now=NOW))
    documents = [one for one in read if isinstance(one, Document)]

    assert 6_000 <= len(documents) <= 11_000
    assert 4 <= len(read) - len(documents) <= 9
    assert documents != sorted(documents, key=lambda document: document.published_at)


def test_silence_is_planted_as_an_absence_of_documents(folder: Path) -> None:
    rows, events = make_feed(1)
    names = {e.id: e.name for e in read_watchlist(folder / WATCHLIST).watchlist.entities}
    for event in (event for event in events if event.turn is Turn.SILENCE):
        about = [
            str(row["published_at"])[:10]
            for row in rows
            if names[event.entity_id] in f"{row['title']} {row['text']}"
        ]
        inside = sum(event.begins.isoformat() <= day <= event.ends.isoformat() for day in about)
        assert inside <= len(about) * 0.05
