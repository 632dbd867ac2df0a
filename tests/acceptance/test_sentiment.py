"""`pressroom run sentiment` and `monitor backtest` as a user gives them; with a scripted classifier."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from tests.acceptance.running import pressroom
from tests.tiny_encoder import write_manifest, write_scripted_encoder

MODEL = "moods"
BEGIN = datetime(2026, 1, 5, 9, tzinfo=UTC)
NUM_DAYS = 60
OPTIONS = ("--model", MODEL, "--embedder", "none", "--device", "cpu", "--json")
WORDS = ("mill", "order", "harbour", "autumn", "river", "night", "road", "wheel", "paper", "glass", "field")
WATCHLIST = '[[company]]\nname = "Acme Steel"\n[[company]]\nname = "Borealis Foods"\n'


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    write_manifest(write_scripted_encoder(folder / MODEL), MODEL, "classify")
    profiles = json.dumps({MODEL: {"models": [MODEL]}})
    return {"models_dir": str(folder), "engine": "scripted", "profiles": profiles}


def write_feed(folder: Path) -> tuple[Path, Path, Path]:
    """Two documents a day about each company; Acme's turn bad on the last five days. And one bad row."""
    draw = Random(0)
    lines = [json.dumps({"id": "undated", "text": "Acme Steel beats forecasts"})]
    for day in range(NUM_DAYS):
        for name in ("Acme Steel", "Borealis Foods"):
            is_bad = name == "Acme Steel" and day >= NUM_DAYS - 5
            for number in range(14 if is_bad else 2):
                said = "warns of a loss" if is_bad else "beats forecasts"
                at = BEGIN + timedelta(days=day, minutes=17 * number)
                words = " ".join(draw.choices(WORDS, k=7))  # or they would be follow-ups of one another
                text = f"{name} {said} {words} {day}"
                line = {
                    "id": f"{name}-{day}-{number}",
                    "text": text,
                    "published_at": at.isoformat(),
                    "language": "en",
                }
                lines.append(json.dumps(line))
    feed, watch, events = folder / "feed.jsonl", folder / "watch.toml", folder / "events.jsonl"
    feed.write_text("\n".join(lines) + "\n")
    watch.write_text('name = "trial"\n' + WATCHLIST)
    begins = BEGIN + timedelta(days=NUM_DAYS - 5)
    event = {"entity_id": "acme-steel", "starts_at": begins.isoformat()}
    events.write_text(json.dumps({**event, "ends_at": (begins + timedelta(days=5)).isoformat()}) + "\n")
    return feed, watch, events


def test_a_feed_ends_in_reports_and_the_same_feed_again_costs_nothing(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    feed, watch, _ = write_feed(tmp_path)
    out = tmp_path / "out"
    asked = ("--reports", "all", "--max-reports", "12", "--summarizer", "none")
    command = ("run", "sentiment", feed, "--watch", watch, "--out", out, *asked, *OPTIONS)
    with pressroom(tmp_path / "home", *command, **environment) as run:
        code, printed = run.finish()
    assert (code, printed["counts"]["rejected"]) == (1, 1), run.stderr  # the undated row
    assert printed["figures"]["num_reports"] == 12
    assert printed["figures"]["num_reports_left_out"] > NUM_DAYS
    assert len(list((out / "reports").glob("*.documents.jsonl"))) == 12
    assert printed["counts"]["failed"] == 0
    assert json.loads((out / "rejected.jsonl").read_text())["code"] == "document_undated"
    mentions = [json.loads(line) for line in (out / "mentions.jsonl").read_text().splitlines()]
    assert len(mentions) == printed["figures"]["documents"]["num_documents"] == 2 * 2 * NUM_DAYS + 5 * 12
    alerts = [json.loads(line) for line in (out / "alerts.jsonl").read_text().splitlines()]
    assert {alert["entity_id"] for alert in alerts} == {"acme-steel"}
    reports = sorted((out / "reports").glob("acme-steel-*.md"))
    assert reports
    assert "Acme Steel" in reports[-1].read_text()
    assert "Acme Steel" in (out / "index.html").read_text()
    with pressroom(tmp_path / "home", *command, **environment) as again:
        code, printed = again.finish()
    assert printed["figures"]["documents"]["num_documents"] == 0, again.stderr
    assert "0 documents to analyse" in again.stderr


def test_a_backtest_says_what_was_caught_and_when(tmp_path: Path, environment: dict[str, str]) -> None:
    feed, watch, events = write_feed(tmp_path)
    command = ("monitor", "backtest", feed, "--watch", watch, "--events", events, *OPTIONS)
    with pressroom(tmp_path / "home", *command, **environment) as run:
        code, printed = run.finish()
    assert code == 0, run.stderr
    score = printed["score"]
    assert (score["num_events"], score["num_caught"], score["num_false"]) == (1, 1, 0)
    assert 0 < score["outcomes"][0]["delay_days"] <= 5
