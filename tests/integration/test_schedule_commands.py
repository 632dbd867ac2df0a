"""The commands over schedules are the same for every kind: rows of a table, monitors, recommenders."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, func, insert, select, update

from db.batches import cancel
from db.schedules import Schedule, get_schedule
from db.tables import BatchRow, ScheduleRow
from kinds.recommendation.tables import RecommenderRow, ReleaseRow, WithdrawnItemRow
from kinds.sentiment.tables import AlertRow, DeliveryRow, DocumentRow, MonitorRow
from tests.commands import Run
from tests.integration.kinds.sentiment.test_delivery import alert
from workers.recurring import schedules_of
from workers.settings import DEFAULT_MODEL, Settings

CRON, ZONE = "0 7 * * *", "Europe/Berlin"


@dataclass(frozen=True)
class Group:
    """A group of commands, with one that creates a schedule."""

    command: str
    noun: str
    kind: str
    create: tuple[str, ...]


TABLE = Group(
    "schedule",
    "schedule",
    "two_stage",
    ("schedule", "create", "two_stage", "daily", "rows.csv", "--model", DEFAULT_MODEL),
)
MONITOR = Group(
    "monitor",
    "monitor",
    "sentiment_report",
    ("monitor", "create", "daily", "--watch", "watch.toml", "--source", "in"),
)
RECOMMENDER = Group("refresh", "recommender", "recommendation", ("refresh", "create", "daily.toml"))
GROUPS = pytest.mark.parametrize("group", [TABLE, MONITOR, RECOMMENDER], ids=lambda group: group.noun)


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    """Inputs in the folder where the commands run."""
    (tmp_path / "watch.toml").write_text('name = "steel"\n[[company]]\nname = "Acme Steel"\n')
    (tmp_path / "rows.csv").write_text("text\none\n")
    (tmp_path / "daily.toml").write_text(
        'catalogue = "rows.csv"\ninteractions = "rows.csv"\nmodel = "none"\nembedder = "none"\n'
    )


def start(database: Engine, schedule_id: UUID) -> UUID:
    """Start a run of the schedule, whose jobs nobody does."""
    schedule = get_schedule(database, schedule_id)
    with database.begin() as connection:
        now = datetime.now(UTC)
        return schedules_of(schedule.kind).start(connection, schedule, now, Settings())


def number_of(database: Engine, table: type) -> int:
    with database.connect() as connection:
        return connection.scalar(select(func.count()).select_from(table)) or 0


def create(run: Run, group: Group) -> dict[str, Any]:
    """Create a schedule that runs every day at seven."""
    if group is RECOMMENDER:
        file = Path("daily.toml")
        file.write_text(f'cron = "{CRON}"\ntime_zone = "{ZONE}"\n{file.read_text()}')
        times: tuple[str, ...] = ()
    else:
        times = ("--cron", CRON, "--time-zone", ZONE)
    created: dict[str, Any] = run(*group.create, *times, "--json")
    return created


@GROUPS
def test_every_group_shows_the_same_fields_and_pauses_and_resumes(run: Run, group: Group) -> None:
    created = create(run, group)
    own = run(group.command, "show", "daily", "--json")
    of_any_kind = run("schedule", "show", "daily", "--kind", group.kind, "--json")
    assert created == own == of_any_kind
    assert (own["kind"], own["cron"], own["catch_up"]) == (group.kind, CRON, "latest")
    assert own["time_zone"] == ZONE
    assert own["next_due_at"].endswith("Z")
    assert run(group.command, "list", "--json") == {f"{group.noun}s": [own]}
    assert run(group.command, "show", "daily").startswith(f"{group.noun:<11} daily of kind {group.kind}")

    run(group.command, "pause", "daily")
    paused = run("schedule", "list", "--json")["schedules"][0]
    assert paused["next_due_at"] is None
    assert paused["paused_at"] is not None
    assert "(paused)" in run(group.command, "list")
    assert "next" in run(group.command, "resume", "daily")
    assert run("schedule", "show", "daily", "--json")["paused_at"] is None


@GROUPS
def test_every_group_names_a_schedule_that_is_not_there_or_has_no_times(run: Run, group: Group) -> None:
    assert f"error [{group.command}_not_found]" in run(group.command, "show", "weekly", code=1)
    run(*group.create)
    code = "schedule_without_times" if group is TABLE else f"{group.command}_without_schedule"
    assert f"error [{code}]" in run(group.command, "pause", "daily", code=1)
    assert "on demand only" in run(group.command, "show", "daily")


@GROUPS
@pytest.mark.parametrize("is_bound", [True, False])
def test_removed_schedule_is_gone_once_its_run_has_ended_and_its_batch_stays(
    run: Run, database: Engine, group: Group, is_bound: bool
) -> None:
    created = create(run, group)
    under_way = start(database, UUID(created["id"]))
    remove = (group.command if is_bound else "schedule", "remove", "daily")
    refused = run(*remove, code=1)
    assert "error [run_under_way]" in refused
    assert f"pressroom cancel {under_way}" in refused
    assert run(group.command, "show", "daily", "--json")["id"] == created["id"]

    cancel(database, under_way)
    run(*remove)
    assert run(group.command, "list", "--json") == {f"{group.noun}s": []}
    assert number_of(database, ScheduleRow) == 0
    with database.connect() as connection:
        batch = connection.execute(select(BatchRow.id, BatchRow.schedule_id)).one()
    assert tuple(batch) == (under_way, None)
    assert run(*group.create, "--json")["id"] != created["id"]  # the name is free again


def test_removed_monitor_takes_its_documents_alerts_and_deliveries_with_it(
    run: Run, database: Engine
) -> None:
    created = run(*MONITOR.create, "--json")
    monitor_id = UUID(created["id"])
    alert(database, monitor_id, ["stdout"])
    with database.begin() as connection:
        connection.execute(insert(DocumentRow).values(monitor_id=monitor_id, **document()))
    run("monitor", "remove", "daily")
    kept = {table: number_of(database, table) for table in (MonitorRow, DocumentRow, AlertRow, DeliveryRow)}
    assert set(kept.values()) == {0}, kept
    assert run("alerts", "list", "--json") == {"alerts": []}


def test_monitor_cannot_be_removed_while_a_file_is_run_through_it(run: Run, database: Engine) -> None:
    created = run(*MONITOR.create, "--json")
    batch_id = start(database, UUID(created["id"]))
    with database.begin() as connection:  # runs of files name the monitor in their settings alone
        connection.execute(update(BatchRow).values(schedule_id=None))
    assert str(batch_id) in run("monitor", "remove", "daily", code=1)


def test_removed_recommender_takes_its_releases_with_it(run: Run, database: Engine) -> None:
    created = run(*RECOMMENDER.create, "--json")
    recommender_id = UUID(created["id"])
    with database.begin() as connection:
        release = {"id": recommender_id, "recommender_id": recommender_id, "number": 1}
        release |= {"batch_id": recommender_id, "submitted_at": datetime.now(UTC)}
        connection.execute(insert(ReleaseRow).values(manifest_sha256="0" * 64, figures={}, **release))
        item = {"recommender_id": recommender_id, "item_id": "a", "reason": "sold out"}
        connection.execute(insert(WithdrawnItemRow).values(**item))
    (shown,) = run("refresh", "show", "daily", "--json")["releases"]
    assert (shown["number"], shown["is_published"]) == (1, False)
    run("refresh", "remove", "daily")
    tables = (RecommenderRow, ReleaseRow, WithdrawnItemRow)
    assert {number_of(database, table) for table in tables} == {0}


def test_schedule_whose_kind_is_gone_is_listed_with_the_reason_and_kept(run: Run, database: Engine) -> None:
    created = run(*TABLE.create, "--json")
    with database.begin() as connection:
        connection.execute(update(ScheduleRow).values(kind="gone"))
    assert "cannot run" in run("schedule", "list")
    assert "error       schedule_unknown" in run("schedule", "show", "daily")
    assert "error [schedule_unknown]" in run("schedule", "remove", "daily", code=1)
    assert isinstance(get_schedule(database, UUID(created["id"])), Schedule)


def document() -> dict[str, object]:
    """The columns of a document that was analysed."""
    now = datetime.now(UTC)
    return {
        "id": "d1",
        "sha256": "0" * 64,
        "analysis": "a",
        "published_at": now,
        "num_mentions": 0,
        "flags": [],
        "job_id": UUID(int=1),
        "submitted_at": now,
    }
