"""stages that cannot be planned."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "8b0f3c6e2d17"
down_revision: str | None = "594e3267f392"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column(
        "batches",
        sa.Column("num_plan_failures", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
    )
    op.add_column("batches", sa.Column("plan_retry_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("batches", sa.Column("plan_error", sa.Text(), nullable=True))
    _allow("running", "finished", "cancelled", "failed")


def downgrade() -> None:
    op.execute("UPDATE batches SET status = 'cancelled' WHERE status = 'failed'")
    _allow("running", "finished", "cancelled")
    op.drop_column("batches", "plan_error")
    op.drop_column("batches", "plan_retry_at")
    op.drop_column("batches", "num_plan_failures")


def _allow(*statuses: str) -> None:
    op.drop_constraint(op.f("ck_batches_status"), "batches")
    op.create_check_constraint(op.f("ck_batches_status"), "batches", sa.column("status").in_(statuses))
