"""lost attempts keep evidence, suspects are halved, and jobs that nothing convicts are parked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision: str = "b81e4d2f6c07"
down_revision: str | None = "a7d3f05c9e12"
branch_labels: None = None
depends_on: None = None

OPEN = "status IN ('queued', 'running')"


def upgrade() -> None:
    op.add_column("workers", sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("workers", sa.Column("ending", JSONB(), nullable=True))
    op.add_column(
        "attempts", sa.Column("alone", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column("attempts", sa.Column("evidence", JSONB(), nullable=True))
    op.create_index(
        "ix_attempts_lost", "attempts", ["worker_id"], postgresql_where=sa.text("outcome = 'lost'")
    )
    op.add_column("jobs", sa.Column("suspect_group", sa.Uuid(), nullable=True))
    op.add_column("jobs", sa.Column("parked_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "jobs", sa.Column("cleared_attempt", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    op.drop_index("ix_jobs_suspect", "jobs")
    op.drop_column("jobs", "num_crashes")
    op.create_index(
        "ix_jobs_suspect",
        "jobs",
        ["batch_id"],
        postgresql_where=sa.text(f"suspect_group IS NOT NULL AND {OPEN}"),
    )


def downgrade() -> None:
    op.drop_index("ix_jobs_suspect", "jobs")
    op.add_column(
        "jobs", sa.Column("num_crashes", sa.SmallInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.create_index(
        "ix_jobs_suspect", "jobs", ["batch_id"], postgresql_where=sa.text(f"num_crashes >= 2 AND {OPEN}")
    )
    for name in ("cleared_attempt", "parked_at", "suspect_group"):
        op.drop_column("jobs", name)
    op.drop_index("ix_attempts_lost", "attempts")
    for name in ("evidence", "alone"):
        op.drop_column("attempts", name)
    for name in ("ending", "ended_at"):
        op.drop_column("workers", name)
