"""A monitor runs by its schedule under `pressroom up`, which is killed in the middle and started again."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from tests.acceptance.running import PATIENCE_SECONDS, Row, pressroom
from tests.integration.kinds.sentiment.test_delivery import SECRET
from tests.tiny_encoder import write_manifest, write_scripted_encoder

MODELS = {"moods": "classify", "vectors": "embed"}
QUIET_DAYS = 60
BAD_DAYS = 3

FINISHED = "SELECT count(*) FROM batches WHERE status = 'finished'"
DOCUMENTS = "SELECT count(*) FROM documents"

WATCH = """
name = "steel"

[[company]]
name = "Acme Steel"
tickers = ["ACME"]
description = "Makes steel in Ohio."
"""

MONITOR = """
name = "steel"
watch = "watch.toml"
cron = "*/2 * * * * *"
model = "moods"
embedder = "vectors"
summarizer = "none"

[[source]]
type = "file"
path = "in"

[[source]]
type = "feed"
url = "http://169.254.169.254/latest/meta-data"

[[target]]
type = "file"
name = "lines"
path = "alerts.jsonl"

[settings]
reports = "none"
"""

BY_HAND = """
name = "steel"
watch = "watch.toml"
model = "moods"
embedder = "vectors"
summarizer = "none"

[[source]]
type = "file"
path = "in"

[[target]]
type = "file"
name = "lines"
path = "alerts.jsonl"

[[target]]
type = "file"
name = "stdout"
path = "-"

[[target]]
type = "webhook"
name = "down"
url = "http://127.0.0.1:1/"
secret_variable = "ALERT_SECRET"
allow_private = true

[settings]
reports = "none"
"""


def write_news(path: Path) -> int:
    """Weeks without news, then bad ones; how many documents."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    texts = ["shares gain as orders rise", "meets its plan", "holds its dividend", "wins a contract"]
    bad = ["shares fall as orders drop", "warns of a loss", "cuts its outlook", "recalls rails"]
    lines = []
    for day in range(QUIET_DAYS, 0, -1):
        number = 12 if day <= BAD_DAYS else 4
        for hour in range(number):
            words = (bad if day <= BAD_DAYS else texts)[hour % 4]
            at = today - timedelta(days=day) + timedelta(hours=hour)
            lines.append(
                document(f"d{day}-{hour}", f"Acme Steel {words}, as reported on day {day}.{hour}", at)
            )
    path.write_text("".join(lines))
    return len(lines)


def document(id_: str, text: str, at: datetime) -> str:
    return json.dumps({"id": id_, "title": text, "text": text, "published_at": at.isoformat()}) + "\n"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    for name, task in MODELS.items():
        write_scripted_encoder(tmp_path / "models" / name, task)  # type: ignore[arg-type]
        write_manifest(tmp_path / "models" / name, name, task)  # type: ignore[arg-type]
    return {
        "engine": "scripted",
        "models_dir": str(tmp_path / "models"),
        "profiles": json.dumps({"moods": {"models": list(MODELS)}, "none": {"models": ["not-installed"]}}),
        "lease_seconds": "10",
        "drain_seconds": "5",
    }


def command(home: Path, environment: dict[str, str], *arguments: str | Path) -> str:
    """Run it to its end; what it printed."""
    with pressroom(home, *arguments, **environment) as run:
        code, printed = run.finish_text()
        assert code == 0, run.stderr
    return printed


def test_monitor_runs_by_its_schedule_and_loses_and_doubles_nothing_when_everything_is_killed(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    home = tmp_path / "home"
    (tmp_path / "in").mkdir()
    num_documents = write_news(tmp_path / "in" / "news.jsonl")
    (tmp_path / "watch.toml").write_text(WATCH)
    (tmp_path / "steel.toml").write_text(MONITOR)
    created = json.loads(command(home, environment, "monitor", "create", tmp_path / "steel.toml", "--json"))
    assert created["next_due_at"] is not None

    with pressroom(home, "up", "--device", "cpu", **environment) as up:
        up.wait_until(lambda: up.count(FINISHED) >= 2, "two runs that ended")
        assert up.count(DOCUMENTS) == num_documents
        up.wait_until(lambda: (tmp_path / "alerts.jsonl").exists(), "an alert about the bad days")
        family = up.family()
        up.process.send_signal(signal.SIGKILL)
        up.process.wait()
        _, alive = psutil.wait_procs(family, PATIENCE_SECONDS)
        assert alive == []  # nobody is left behind

    late = document("late", "Acme Steel recalls rails, too", datetime.now(UTC) - timedelta(days=1))
    (tmp_path / "in" / "late.jsonl").write_text(late)
    with pressroom(home, "up", "--device", "cpu", **environment) as up:
        known = up.count(FINISHED)
        up.wait_until(lambda: up.count(FINISHED) >= known + 2, "two more runs that ended")
        up.wait_until(lambda: up.count(DOCUMENTS) == num_documents + 1, "the late document")
        check_every_due_time(up.query)
        command(home, environment, "monitor", "pause", "steel")
        shown = json.loads(command(home, environment, "monitor", "show", "steel", "--json"))
        assert shown["paused_at"] is not None
        alerts = json.loads(command(home, environment, "alerts", "list", "--json"))["alerts"]
        up.interrupt()
        code, _ = up.finish_text()
        assert code == 0, up.stderr

    lines = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text().splitlines()]
    ids = [line["data"]["alert_id"] for line in lines]
    assert len(set(ids)) == len(ids)  # one line an alert
    assert set(ids) <= {alert["id"] for alert in alerts}
    assert {line["data"]["entity_id"] for line in lines} == {"acme-steel"}


def test_run_by_hand_delivers_its_alerts_where_no_beat_runs(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALERT_SECRET", SECRET)
    home, out = tmp_path / "home", tmp_path / "out"
    (tmp_path / "in").mkdir()
    write_news(tmp_path / "in" / "news.jsonl")
    (tmp_path / "watch.toml").write_text(WATCH)
    (tmp_path / "steel.toml").write_text(BY_HAND)
    command(home, environment, "monitor", "create", tmp_path / "steel.toml")
    options = ("--out", out, "--device", "cpu")
    with pressroom(home, "monitor", "run", "steel", *options, "--json", **environment) as run:
        code, printed = run.finish()
        assert code == 0, run.stderr
    lines = (tmp_path / "alerts.jsonl").read_text().splitlines()
    number = len(lines)
    assert number == printed["figures"]["num_alerts"] > 0
    waiting = f"{2 * number} waiting for `pressroom up` or `pressroom beat`"
    assert f"Alert deliveries: {number} completed, {waiting}" in run.stderr

    late = tmp_path / "late.jsonl"
    late.write_text(document("late", "Acme Steel recalls rails, too", datetime.now(UTC) - timedelta(days=1)))
    of_monitor = ("--monitor", "steel", "--model", "moods", "--embedder", "vectors", "--summarizer", "none")
    said = command(home, environment, "run", "sentiment", late, *of_monitor, *options)
    on_stdout = [json.loads(line)["data"]["alert_id"] for line in said.splitlines()[:number]]
    assert sorted(on_stdout) == sorted(json.loads(line)["data"]["alert_id"] for line in lines)


def check_every_due_time(query: Callable[[str], list[Row]]) -> None:
    """One row a due time without a gap, one batch a started run, and a feed's fault stays its own."""
    runs = query("SELECT due_at, outcome, batch_id FROM schedule_runs ORDER BY due_at")
    batches = query("SELECT id FROM batches")
    failed = query("SELECT DISTINCT error_code, custom_id FROM jobs WHERE status = 'failed'")
    assert {later["due_at"] - sooner["due_at"] for sooner, later in pairwise(runs)} == {timedelta(seconds=2)}
    started = [run["batch_id"] for run in runs if run["outcome"] == "started"]
    # Read one after the other: a run that started in between is among the batches alone.
    assert len(set(started)) == len(started)
    assert set(started) <= {batch["id"] for batch in batches}
    assert len(batches) - len(started) <= 1
    assert [(row["error_code"], row["custom_id"]) for row in failed] == [("feed_private_address", "source-1")]
