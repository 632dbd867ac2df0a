"""Leader election between processes of the same role, by a lease on a row and the database's clock.

An advisory lock would not work, because it belongs to a session, and a transaction pooler shares sessions.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, Engine, case, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from db.tables import CandidateRow, LeadRow

DISPATCHER = "dispatcher"
BEAT = "beat"
SWEEP = "sweep"

FORGOTTEN_AFTER = timedelta(days=1)
"""Minimum time since a candidate was last seen before the next process that resigns deletes its row. Such a
candidate was killed, because a candidate that resigns deletes its own row."""


def contend(database: Engine, role: str, holder: str, *, host: str, lease_seconds: float) -> int | None:
    """Take or extend the lead; return its fence, or None while another process leads.

    The fence increases whenever the lead changes hands. Raises DBAPIError.
    """
    now = func.clock_timestamp()
    candidate = insert(CandidateRow).values(holder=holder, role=role, host=host, seen_at=now)
    lead = insert(LeadRow).values(
        role=role, holder=holder, fence=1, expires_at=now + timedelta(seconds=lease_seconds)
    )
    is_mine = LeadRow.holder == holder
    with database.begin() as connection:
        connection.execute(
            candidate.on_conflict_do_update(
                index_elements=[CandidateRow.holder], set_={"seen_at": candidate.excluded.seen_at}
            )
        )
        row = connection.execute(
            lead.on_conflict_do_update(
                index_elements=[LeadRow.role],
                set_={
                    "holder": holder,
                    "expires_at": lead.excluded.expires_at,
                    "fence": LeadRow.fence + case((is_mine, 0), else_=1),
                },
                where=or_(is_mine, LeadRow.expires_at < now),
            ).returning(LeadRow.fence)
        ).one_or_none()
    return None if row is None else row.fence


def is_current(connection: Connection, role: str, fence: int) -> bool:
    """Return whether this is still the fence of the role's lead.

    If so, no other process can take the lead until the transaction ends. Raises DBAPIError.
    """
    lead = select(LeadRow.fence).where(LeadRow.role == role, LeadRow.fence == fence)
    return connection.scalar(lead.with_for_update()) is not None


def resign(database: Engine, role: str, holder: str) -> None:
    """Give up the lead, so that another process can take it at once. Raises DBAPIError."""
    with database.begin() as connection:
        connection.execute(
            update(LeadRow)
            .where(LeadRow.role == role, LeadRow.holder == holder)
            .values(expires_at=func.clock_timestamp())
        )
        stale = CandidateRow.seen_at < func.now() - FORGOTTEN_AFTER
        connection.execute(delete(CandidateRow).where((CandidateRow.holder == holder) | stale))


def has_candidate(database: Engine, role: str, host: str, *, max_silence_seconds: float) -> bool:
    """Return whether a process of this role on the host was seen recently, as leader or standby."""
    seen = CandidateRow.seen_at > func.now() - timedelta(seconds=max_silence_seconds)
    candidates = select(CandidateRow.holder).where(CandidateRow.role == role, CandidateRow.host == host, seen)
    with database.connect() as connection:
        return bool(connection.scalar(select(candidates.exists())))
