"""The file of events against which a backtest is scored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from kinds.sentiment.backtest import EventsInvalidError, read_events
from kinds.sentiment.documents.watchlist import Entity, EntityKind, Watchlist
from kinds.sentiment.series.policy import AlertRule

GOOD = {
    "entity_id": "acme-steel",
    "kind": "surge",
    "starts_at": "2026-03-02T00:00:00Z",
    "ends_at": "2026-03-06T00:00:00Z",
}
WATCHED = Watchlist(
    name="steel",
    entities=tuple(
        Entity(id=one, kind=EntityKind.COMPANY, name=one) for one in ("acme-steel", "borealis-foods")
    ),
)


def write(folder: Path, *events: Mapping[str, object]) -> Path:
    path = folder / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def test_events_of_the_watch_list_and_the_rules_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD, {**GOOD, "kind": None})
    kinds = [event.kind for event in read_events(path, WATCHED, (AlertRule.SURGE,))]
    assert kinds == [AlertRule.SURGE, None]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"entity_id": "acme"}, "'acme' is not on the watch list, which has acme-steel, borealis-foods"),
        ({"kind": "silence"}, "kind: the rule silence is not among the applied rules (surge, slide)"),
        ({"ends_at": "2026-03-01T00:00:00Z"}, "ends_at is before starts_at"),
    ],
)
def test_an_event_that_nothing_could_catch_is_refused_with_its_line(
    tmp_path: Path, changed: dict[str, str], said: str
) -> None:
    path = write(tmp_path, GOOD, {**GOOD, **changed})
    with pytest.raises(EventsInvalidError) as refused:
        read_events(path, WATCHED, (AlertRule.SURGE, AlertRule.SLIDE))
    assert str(refused.value).startswith(f"{path}:2: {said}")
