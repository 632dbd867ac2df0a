"""Measures the cost of a refresh: for all users, with 1% of the users changed, and with nothing changed.

`python -m benchmarks.refresh [--users 200] [--items 300]` measures the invented shop in two shapes: with a
text for each user, so that the tokens are proportional to the users, and in the demo's shape (5,000 users,
2,000 items, texts for segments), where ranking takes more of the time. The command starts its own services
and worker, whose models are warm before the first measurement. It prints tokens and seconds from the first
claim to the last commit, with their shares of the full run, and stores them in
benchmarks/results/refresh.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy import func, select

from benchmarks.machine import machine_facts, write_result
from db.reports import batch_status
from db.tables import JobRow, StageRow
from examples.recommendations.shop import CATALOGUE, INTERACTIONS, write_shop
from jobs.batch import BatchStatus
from kinds.recommendation.recommender_file import (
    RecommenderFile,
    make_recommender_file,
    read_recommender_file,
)
from kinds.recommendation.recommender_runs import profiles_of, start_run
from kinds.recommendation.recommenders import ingest_run, make_recommender, sources_of
from kinds.recommendation.texts.text import TextScope
from pressroom.one_machine import OneMachine
from storage import open_store
from workers.devices import parse_devices
from workers.settings import Settings, read_settings

SETTINGS = Path(__file__).parent.parent / "examples" / "recommendations" / "refresh.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Figures of one run."""

    num_texts: int
    new_tokens: int
    take_in_seconds: float
    seconds: float
    """Seconds from the first claim to the last commit; 0 if there was nothing to do."""
    stage_seconds: dict[str, float]


def main() -> None:
    """Parse the arguments, measure, print the results and store them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--items", type=int, default=300)
    given = parser.parse_args()
    shapes = {
        "a text for each user": (given.users, given.items, TextScope.USER),
        "the demo's shop": (5_000, 2_000, TextScope.SEGMENT),
    }
    result: dict[str, object] = {"machine": machine_facts()}
    with tempfile.TemporaryDirectory(prefix="pressroom-bench-") as name:
        for what, (num_users, num_items, scope) in shapes.items():
            rounds = measure(Path(name) / scope.value, num_users, num_items, scope)
            result[what] = {
                "users": num_users,
                "items": num_items,
                **{kind: asdict(one) for kind, one in rounds.items()},
                "shares": report(what, rounds),
            }
    print(f"kept in {write_result('refresh', result)}")


def measure(folder: Path, num_users: int, num_items: int, scope: TextScope) -> dict[str, Round]:
    """Measure the three runs one after the other."""
    installed = read_settings()
    settings = Settings(home=folder / "home", models_dir=installed.models_folder)
    given = read_recommender_file(SETTINGS)
    copy = given.text_policy.model_dump() | {"scope": scope}
    given = make_recommender_file(
        {**given.model_dump(by_alias=True), "copy": copy}, folder=folder, where="benchmark"
    )
    profiles = profiles_of(given.language_model, given.settings, settings)
    rounds = {}
    with OneMachine(settings, parse_devices("auto"), profiles=profiles, say=print) as machine:
        for kind in ("full", "1% changed", "nothing changed"):
            write_shop(folder, num_users=num_users, num_items=num_items, next_day=kind != "full")
            rounds[kind] = run_once(machine, folder, given, settings)
    return rounds


def run_once(machine: OneMachine, folder: Path, given: RecommenderFile, settings: Settings) -> Round:
    """Ingest the files and run what has changed."""
    begun_at = time.monotonic()
    store = open_store(machine.urls.s3_url)
    recommender, _ = make_recommender(machine.database, given, "shop", settings, has_sources=False)
    sources = sources_of(folder / CATALOGUE, folder / INTERACTIONS)
    ingest = ingest_run(machine.database, store, recommender, sources, settings, lambda _: None)
    take_in_seconds = round(time.monotonic() - begun_at, 2)
    if ingest.unchanged is not None:
        return Round(num_texts=0, new_tokens=0, take_in_seconds=take_in_seconds, seconds=0, stage_seconds={})
    with machine.database.begin() as connection:
        batch_id = start_run(connection, ingest.run, settings).batch_id
    while (report := batch_status(machine.database, batch_id)).status is BatchStatus.RUNNING:
        machine.check()
        time.sleep(0.2)
    if report.counts.failed:
        raise RuntimeError(f"{report.counts.failed} jobs failed: {report.top_errors}")
    stages = stage_seconds(machine, batch_id)
    return Round(
        num_texts=num_texts(machine, batch_id),
        new_tokens=report.usage.new_tokens,
        take_in_seconds=take_in_seconds,
        seconds=round(report.working_seconds, 2),
        stage_seconds=stages,
    )


def num_texts(machine: OneMachine, batch_id: UUID) -> int:
    """Return the number of texts that the batch wrote."""
    statement = (
        select(func.count())
        .select_from(JobRow)
        .join(StageRow, (StageRow.batch_id == JobRow.batch_id) & (StageRow.number == JobRow.stage))
        .where(JobRow.batch_id == batch_id, StageRow.name == "texts")
    )
    with machine.database.connect() as connection:
        return connection.scalar(statement) or 0


def stage_seconds(machine: OneMachine, batch_id: UUID) -> dict[str, float]:
    """Return the seconds from first claim to last commit of each stage that had jobs."""
    span = func.max(JobRow.finished_at) - func.min(JobRow.started_at)
    statement = (
        select(StageRow.name, func.extract("epoch", span))
        .join(JobRow, (StageRow.batch_id == JobRow.batch_id) & (StageRow.number == JobRow.stage))
        .where(StageRow.batch_id == batch_id)
        .group_by(StageRow.name, StageRow.number)
        .order_by(StageRow.number)
    )
    with machine.database.connect() as connection:
        return {row[0]: round(float(row[1]), 2) for row in connection.execute(statement)}


def report(what: str, rounds: dict[str, Round]) -> dict[str, dict[str, float]]:
    """Print the rounds of one shape; return their tokens and seconds as shares of the full run."""
    full = rounds["full"]
    whole = full.take_in_seconds + full.seconds
    shares = {}
    for kind, one in rounds.items():
        seconds = one.take_in_seconds + one.seconds
        tokens = one.new_tokens / full.new_tokens if full.new_tokens else 0.0
        shares[kind] = {"tokens": round(tokens, 4), "seconds": round(seconds / whole, 4)}
        print(
            f"{what}, {kind}: {one.num_texts} texts, {one.new_tokens} tokens ({tokens:.1%}), "
            f"{seconds:.1f} s ({seconds / whole:.1%}; {one.take_in_seconds:.1f} s of them taking files in) "
            f"{one.stage_seconds}"
        )
    return shares


if __name__ == "__main__":
    main()
