"""Schedules and their due times. Each due time is settled in the transaction that creates its batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    case,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import OperationalError

from db.batches import RunUnderWayError
from db.tables import BatchRow, ScheduleRow, ScheduleRunRow
from jobs.batch import BatchStatus
from jobs.errors import PermanentError, PressroomError, TransientError
from jobs.schedule import CatchUp, Cron, CronError, RunOutcome, settle

logger = logging.getLogger(__name__)

SESSION_NAME = "pressroom-beat"
"""Application name of the connections of the scheduler, beat, as Postgres shows it."""

MAX_DUE = 1_000
"""Maximum number of due times that one transaction settles. The next transaction settles those that
follow."""

MAX_SKIPPED_ROWS = 100
"""Maximum number of skipped due times that get a row each. If more are skipped at once, they share one row,
because a schedule that misses every minute of a year would otherwise get half a million rows."""


class ScheduleNotFoundError(PermanentError):
    """No schedule has this id or name."""

    code = "schedule_not_found"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurringBatch:
    """The settings and the input for the batches that a schedule creates."""

    kind: str
    name: str
    """Name of the schedule, unique among those of its kind and tenant."""
    tenant: str = "default"
    model: str = ""
    """Name of the model; empty for a kind that uses none."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Settings of the kind, without those that are added for each run."""
    input: Mapping[str, object] | None = None
    """Input of each run, for a kind whose schedules read a table; None for other kinds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The due times of a schedule, and the instant up to which they are settled."""

    cron: Cron
    catch_up: CatchUp
    paused_at: datetime | None
    seen_until: datetime

    @property
    def next_due_at(self) -> datetime | None:
        """Instant of the next automatic start; None while the schedule is paused or if no due time
        follows."""
        if self.paused_at is not None:
            return None
        return next(self.cron.due(after=max(self.seen_until, datetime.now(UTC))), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule(RecurringBatch):
    """A schedule as stored in Postgres."""

    id: UUID
    timing: Timing | None
    """Times at which the schedule starts; None if it is only started by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRun:
    """The outcome of one due time."""

    due_at: datetime
    outcome: RunOutcome
    batch_id: UUID | None
    error_code: str | None
    error_message: str | None


Start = Callable[[Connection, Schedule, datetime], UUID]
"""Function that creates the batch for a due time in the given transaction, and returns its id. If it raises a
TransientError or an OperationalError, the due time stays unsettled. After any other exception, the run counts
as failed."""


def put_schedule(connection: Connection, recurring: RecurringBatch, *, new_id: UUID | None = None) -> UUID:
    """Create the schedule, or change the one with the same kind, tenant and name; return its id.

    A new schedule gets `new_id`, if given, and has no times until `set_times` sets them.
    """
    changing = {
        "model": recurring.model,
        "settings": dict(recurring.settings),
        "input": None if recurring.input is None else dict(recurring.input),
    }
    statement = postgresql.insert(ScheduleRow).values(
        id=new_id or uuid4(),
        kind=recurring.kind,
        tenant=recurring.tenant,
        name=recurring.name,
        catch_up=CatchUp.LATEST,
        **changing,
    )
    return connection.execute(
        statement.on_conflict_do_update(
            index_elements=["kind", "tenant", "name"],
            set_={name: statement.excluded[name] for name in changing},
        ).returning(ScheduleRow.id)
    ).scalar_one()


def set_times(connection: Connection, schedule_id: UUID, cron: Cron, catch_up: CatchUp) -> None:
    """Set the times at which the schedule starts automatically. A change takes effect from now on."""
    same = (ScheduleRow.cron == cron.expression) & (ScheduleRow.time_zone == cron.time_zone)
    connection.execute(
        update(ScheduleRow)
        .where(ScheduleRow.id == schedule_id)
        .values(
            cron=cron.expression,
            time_zone=cron.time_zone,
            catch_up=catch_up,
            seen_until=case((same, ScheduleRow.seen_until), else_=func.clock_timestamp()),
        )
    )


def clear_times(connection: Connection, schedule_id: UUID) -> None:
    """Stop the schedule from starting automatically, and delete the outcomes of its due times."""
    connection.execute(delete(ScheduleRunRow).where(ScheduleRunRow.schedule_id == schedule_id))
    connection.execute(
        update(ScheduleRow)
        .where(ScheduleRow.id == schedule_id)
        .values(cron=None, time_zone=None, paused_at=None)
    )


def remove_schedule(connection: Connection, schedule: Schedule, *, id_setting: str | None = None) -> None:
    """Delete the schedule, the outcomes of its due times, and the rows of its kind that refer to it.

    Its batches are kept. Raises RunUnderWayError while one of them is running. With `id_setting`, the error
    is also raised while any batch of the same kind is running whose setting of this name is the schedule's
    id.
    """
    connection.execute(select(ScheduleRow.id).where(ScheduleRow.id == schedule.id).with_for_update())
    uses = BatchRow.schedule_id == schedule.id
    if id_setting is not None:
        names = BatchRow.settings[id_setting].astext == str(schedule.id)
        uses |= (BatchRow.kind == schedule.kind) & names
    under_way = select(BatchRow.id).where(uses, BatchRow.status == BatchStatus.RUNNING).limit(1)
    batch_id = connection.scalar(under_way)
    if batch_id is not None:
        raise RunUnderWayError(batch_id)
    connection.execute(delete(ScheduleRow).where(ScheduleRow.id == schedule.id))


def pause(database: Engine, schedule_id: UUID) -> None:
    """Pause the schedule: nothing starts from now on, but a running batch continues."""
    with database.begin() as connection:
        connection.execute(
            update(ScheduleRow)
            .where(ScheduleRow.id == schedule_id, ScheduleRow.paused_at.is_(None))
            .values(paused_at=func.clock_timestamp())
        )


def resume(database: Engine, schedule_id: UUID) -> None:
    """Resume the schedule at its next due time. Due times that passed during the pause are skipped."""
    with database.begin() as connection:
        connection.execute(
            update(ScheduleRow)
            .where(ScheduleRow.id == schedule_id, ScheduleRow.paused_at.is_not(None))
            .values(paused_at=None, seen_until=func.clock_timestamp())
        )


def get_schedule(database: Engine, schedule_id: UUID) -> Schedule:
    """Return the schedule with this id. Raises ScheduleNotFoundError."""
    with database.connect() as connection:
        row = (
            connection.execute(select(ScheduleRow.__table__).where(ScheduleRow.id == schedule_id))
            .mappings()
            .one_or_none()
        )
    if row is None:
        raise ScheduleNotFoundError(f"no schedule has the id {schedule_id}: see `pressroom schedule list`")
    return _schedule(row)


def list_schedules(database: Engine, kind: str | None = None) -> list[Schedule]:
    """Return all schedules, or all schedules of a kind, oldest first, including those without times."""
    statement = select(ScheduleRow.__table__).order_by(ScheduleRow.created_at, ScheduleRow.id)
    if kind is not None:
        statement = statement.where(ScheduleRow.kind == kind)
    with database.connect() as connection:
        return [_schedule(row) for row in connection.execute(statement).mappings()]


def due_schedules(database: Engine) -> list[Schedule]:
    """Return the schedules that are not paused and have a due time to settle, by the database's clock."""
    statement = select(ScheduleRow.__table__, func.clock_timestamp().label("now")).where(_is_automatic())
    with database.connect() as connection:
        rows = connection.execute(statement).mappings().all()
    due = []
    for row in rows:
        try:
            schedule = _schedule(row)
        except CronError:  # this machine no longer has its time zone
            logger.exception("A schedule cannot be read.", extra={"schedule_id": str(row["id"])})
            continue
        timing = schedule.timing
        if timing is not None and timing.cron.due_between(timing.seen_until, row["now"], at_most=1):
            due.append(schedule)
    return due


def _is_automatic() -> ColumnElement[bool]:
    return ScheduleRow.cron.is_not(None) & ScheduleRow.paused_at.is_(None)


def list_runs(database: Engine, schedule_id: UUID, *, limit: int = 20) -> list[ScheduleRun]:
    """Return the outcomes of the latest due times, newest first."""
    with database.connect() as connection:
        rows = connection.execute(
            select(
                ScheduleRunRow.due_at,
                ScheduleRunRow.outcome,
                ScheduleRunRow.batch_id,
                ScheduleRunRow.error_code,
                ScheduleRunRow.error_message,
            )
            .where(ScheduleRunRow.schedule_id == schedule_id)
            .order_by(ScheduleRunRow.due_at.desc())
            .limit(limit)
        )
        return [ScheduleRun(**row._mapping) for row in rows]


def settle_due(database: Engine, schedule_id: UUID, start: Start) -> bool:
    """Settle due times that have passed; return whether more may be due immediately.

    Due times are compared with the database's clock. A lock on the schedule's row keeps two beat processes
    from settling the same due time: the second one finds `seen_until` advanced. Raises DBAPIError or
    TransientError; in that case nothing is settled, and the next call tries again.
    """
    with database.begin() as connection:
        schedule = _lock_unpaused(connection, schedule_id)
        if schedule is None or schedule.timing is None:
            return False
        timing = schedule.timing
        now = connection.execute(select(func.clock_timestamp())).scalar_one()
        due = timing.cron.due_between(timing.seen_until, now, at_most=MAX_DUE)
        if not due:
            return False
        settled = settle(
            due,
            now=now,
            catch_up=timing.catch_up,
            is_busy=_is_busy(connection, schedule),
            more_follow=len(due) == MAX_DUE,
        )
        _write(connection, schedule, settled, start)
        return bool(settled) and (len(settled) < len(due) or len(due) == MAX_DUE)


def _lock_unpaused(connection: Connection, schedule_id: UUID) -> Schedule | None:
    # FOR NO KEY UPDATE lets other transactions refer to the row. Otherwise a run started by hand, whose batch
    # refers to the schedule, would wait for this transaction, and this transaction for that batch.
    statement = (
        select(ScheduleRow.__table__)
        .where(ScheduleRow.id == schedule_id, _is_automatic())
        .with_for_update(skip_locked=True, key_share=True)
    )
    row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else _schedule(row)


def _write(
    connection: Connection, schedule: Schedule, settled: Sequence[tuple[datetime, RunOutcome]], start: Start
) -> None:
    if not settled:
        return
    rows = _skipped_rows([due_at for due_at, outcome in settled if outcome is RunOutcome.SKIPPED])
    latest, outcome = settled[-1]
    if outcome is RunOutcome.STARTED:
        rows.append(_started_row(connection, schedule, latest, start))
    elif outcome is RunOutcome.OVERLAPPED:
        rows.append({"due_at": latest, "outcome": outcome})
    columns = ("due_at", "outcome", "batch_id", "error_code", "error_message")
    connection.execute(
        insert(ScheduleRunRow),
        [{"schedule_id": schedule.id, **{name: row.get(name) for name in columns}} for row in rows],
    )
    connection.execute(update(ScheduleRow).where(ScheduleRow.id == schedule.id).values(seen_until=latest))


def _skipped_rows(skipped: Sequence[datetime]) -> list[dict[str, object]]:
    if len(skipped) <= MAX_SKIPPED_ROWS:
        return [{"due_at": due_at, "outcome": RunOutcome.SKIPPED} for due_at in skipped]
    message = f"this one and the {len(skipped) - 1} before it, from {skipped[0]:%Y-%m-%dT%H:%M:%SZ} on"
    return [{"due_at": skipped[-1], "outcome": RunOutcome.SKIPPED, "error_message": message}]


def _started_row(
    connection: Connection, schedule: Schedule, due_at: datetime, start: Start
) -> dict[str, object]:
    try:
        with connection.begin_nested():  # undoes what a failed start wrote, but keeps the run's row
            batch_id = start(connection, schedule, due_at)
        return {"due_at": due_at, "outcome": RunOutcome.STARTED, "batch_id": batch_id}
    except (TransientError, OperationalError):
        raise
    except PressroomError as error:
        code, message = error.code, str(error)
    except Exception as error:
        logger.exception("A scheduled run failed to start.", extra={"schedule_id": str(schedule.id)})
        code, message = "unexpected", f"{type(error).__name__}: {error}"
    return {
        "due_at": due_at,
        "outcome": RunOutcome.FAILED,
        "error_code": code,
        "error_message": message,
    }


def _is_busy(connection: Connection, schedule: Schedule) -> bool:
    """Return whether a run of the schedule is unfinished, no matter whether it was started by hand.

    If a run begins after this check, the start raises RunUnderWayError, and the next check sees that run.
    """
    latest = (
        select(ScheduleRunRow.batch_id)
        .where(ScheduleRunRow.schedule_id == schedule.id, ScheduleRunRow.batch_id.is_not(None))
        .order_by(ScheduleRunRow.due_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    is_run = (BatchRow.id == latest) | (BatchRow.schedule_id == schedule.id)
    under_way = select(BatchRow.id).where(is_run, BatchRow.status == BatchStatus.RUNNING)
    return connection.scalar(select(under_way.exists())) is True


def _schedule(row: RowMapping) -> Schedule:
    timing = None
    if row["cron"] is not None:
        timing = Timing(
            cron=Cron(row["cron"], row["time_zone"]),
            catch_up=row["catch_up"],
            paused_at=row["paused_at"],
            seen_until=row["seen_until"],
        )
    fields = {name: row[name] for name in ("id", "kind", "tenant", "name", "model", "settings", "input")}
    return Schedule(timing=timing, **fields)
