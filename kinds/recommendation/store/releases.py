"""Stores the releases of recommenders.

A batch makes one release. At most one release of a recommender is published at a time; a rollback publishes
an earlier one again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import (
    Connection,
    Engine,
    RowMapping,
    ScalarResult,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql

from db.tables import BatchRow, JobRow
from jobs.errors import PermanentError
from kinds.recommendation.outputs import NewRelease, Withdrawal
from kinds.recommendation.recommender import Release
from kinds.recommendation.tables import RecommenderRow, ReleaseRow, WithdrawnItemRow


class ReleaseNotFoundError(PermanentError):
    """The recommender has no such release."""

    code = "release_not_found"


def write_releases(connection: Connection, new: Sequence[tuple[UUID, NewRelease]]) -> None:
    """Number the releases of these jobs and publish each.

    A release is not published if the release of a later batch is published already, or if a rollback has
    happened since its batch was accepted.
    """
    for job_id, release in sorted(new, key=lambda pair: (pair[1].recommender_id, pair[0])):
        recommender = connection.execute(
            select(RecommenderRow.published_release_id, RecommenderRow.rolled_back_at)
            .where(RecommenderRow.id == release.recommender_id)
            .with_for_update()  # serialises the numbering and publishing of a recommender's releases
        ).one()
        batch = connection.execute(
            select(BatchRow.id, BatchRow.created_at)
            .join(JobRow, JobRow.batch_id == BatchRow.id)
            .where(JobRow.id == job_id)
        ).one()
        of_recommender = ReleaseRow.recommender_id == release.recommender_id
        last = connection.scalar(select(func.max(ReleaseRow.number)).where(of_recommender)) or 0
        connection.execute(
            insert(ReleaseRow).values(
                id=job_id,
                recommender_id=release.recommender_id,
                number=last + 1,
                batch_id=batch.id,
                submitted_at=batch.created_at,
                manifest_sha256=release.manifest_sha256,
                figures=dict(release.figures),
            )
        )
        published_submitted_at = connection.scalar(
            select(ReleaseRow.submitted_at).where(ReleaseRow.id == recommender.published_release_id)
        )
        if all(
            at is None or at <= batch.created_at
            for at in (published_submitted_at, recommender.rolled_back_at)
        ):
            _publish(connection, release.recommender_id, job_id)
            # Later withdrawals are kept, because they may come from newer inputs than the release's.
            connection.execute(
                delete(WithdrawnItemRow).where(
                    WithdrawnItemRow.recommender_id == release.recommender_id,
                    WithdrawnItemRow.since < batch.created_at,
                )
            )


def publish(database: Engine, recommender_id: UUID, number: int) -> Release:
    """Make this release the published one. Raises ReleaseNotFoundError.

    Items that have been withdrawn since the release was made stay withdrawn.
    """
    with database.begin() as connection:
        connection.execute(
            select(RecommenderRow.id).where(RecommenderRow.id == recommender_id).with_for_update()
        )
        row = connection.scalar(
            select(ReleaseRow.id).where(
                ReleaseRow.recommender_id == recommender_id, ReleaseRow.number == number
            )
        )
        if row is None:
            raise ReleaseNotFoundError(
                f"the recommender has no release {number}: see `pressroom refresh show NAME`"
            )
        _publish(connection, recommender_id, row)
        connection.execute(
            update(RecommenderRow)
            .where(RecommenderRow.id == recommender_id)
            .values(rolled_back_at=func.clock_timestamp())
        )
    return get_release(database, row)


def _publish(connection: Connection, recommender_id: UUID, release_id: UUID) -> None:
    connection.execute(
        update(RecommenderRow)
        .where(RecommenderRow.id == recommender_id)
        .values(published_release_id=release_id)
    )
    connection.execute(
        update(ReleaseRow).where(ReleaseRow.id == release_id).values(published_at=func.clock_timestamp())
    )


def withdraw(database: Engine, recommender_id: UUID, reasons: Mapping[str, str]) -> int:
    """Withdraw items from the published lists, each with its reason; return how many are newly withdrawn."""
    with database.begin() as connection:
        return withdraw_in(connection, recommender_id, reasons)


def withdraw_in(connection: Connection, recommender_id: UUID, reasons: Mapping[str, str]) -> int:
    """Withdraw items like `withdraw`, but in the caller's transaction."""
    if not reasons:
        return 0
    rows = [
        {"recommender_id": recommender_id, "item_id": item_id, "reason": reason}
        for item_id, reason in sorted(reasons.items())
    ]
    statement = postgresql.insert(WithdrawnItemRow)
    again = {"since": func.clock_timestamp(), "reason": statement.excluded.reason}
    new: ScalarResult[bool] = connection.scalars(
        statement.on_conflict_do_update(index_elements=["recommender_id", "item_id"], set_=again).returning(
            literal_column("xmax = 0")
        ),
        rows,
    )
    return sum(new)


def withdrawn_items(database: Engine, recommender_id: UUID) -> dict[str, str]:
    """Return the ids of the items that are withdrawn from the published lists, each with its reason."""
    statement = select(WithdrawnItemRow.item_id, WithdrawnItemRow.reason).where(
        WithdrawnItemRow.recommender_id == recommender_id
    )
    with database.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(statement)}


def get_release(database: Engine, release_id: UUID) -> Release:
    """Return the release with this id. Raises ReleaseNotFoundError."""
    statement = select(ReleaseRow.__table__).where(ReleaseRow.id == release_id)
    with database.connect() as connection:
        row = connection.execute(statement).mappings().one_or_none()
    if row is None:
        raise ReleaseNotFoundError(f"no release has the id {release_id}")
    return _release(row)


def find_release(database: Engine, recommender_id: UUID, number: int) -> Release:
    """Return the release with this number. Raises ReleaseNotFoundError."""
    release = next((each for each in list_releases(database, recommender_id) if each.number == number), None)
    if release is None:
        raise ReleaseNotFoundError(
            f"the recommender has no release {number}: see `pressroom refresh show NAME`"
        )
    return release


def release_of_batch(database: Engine, batch_id: UUID) -> Release | None:
    """Return the release that the batch made, or None if it made none."""
    statement = select(ReleaseRow.__table__).where(ReleaseRow.batch_id == batch_id)
    with database.connect() as connection:
        row = connection.execute(statement).mappings().one_or_none()
    return None if row is None else _release(row)


def list_releases(database: Engine, recommender_id: UUID) -> list[Release]:
    """Return all releases of a recommender, newest first."""
    statement = (
        select(ReleaseRow.__table__)
        .where(ReleaseRow.recommender_id == recommender_id)
        .order_by(ReleaseRow.number.desc())
    )
    with database.connect() as connection:
        return [_release(row) for row in connection.execute(statement).mappings()]


def _release(row: RowMapping) -> Release:
    return Release(
        id=row["id"],
        recommender_id=row["recommender_id"],
        number=row["number"],
        batch_id=row["batch_id"],
        manifest_sha256=row["manifest_sha256"],
        figures=row["figures"],
        submitted_at=row["submitted_at"],
        made_at=row["made_at"],
        published_at=row["published_at"],
    )


def write_records(connection: Connection, records: Sequence[tuple[UUID, object]]) -> None:
    """Write the records of these jobs; each record comes with the id of its job.

    Withdrawals are written first and then releases, both in the order of their recommenders, so that
    transactions do not deadlock. Implements db.outcomes.RecordWriter.
    """
    withdrawals = [r for _, r in records if isinstance(r, Withdrawal)]
    for withdrawal in sorted(withdrawals, key=lambda withdrawal: withdrawal.recommender_id):
        withdraw_in(connection, withdrawal.recommender_id, withdrawal.reasons)
    write_releases(connection, [(j, r) for j, r in records if isinstance(r, NewRelease)])
