"""unsettled numbers come from a sequence, so that none comes again; indexes for what every run asks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "f4a2c91b7d60"
down_revision: str | None = "e9a2476d1c38"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    # Above every number that was given out before: each was a count of changes.
    op.execute("CREATE SEQUENCE unsettled_number START 1000000000000")
    op.alter_column(
        "unsettled_series",
        "number",
        type_=sa.BigInteger(),
        server_default=sa.text("nextval('unsettled_number')"),
    )
    op.create_index(
        "ix_entity_windows_without_sums",
        "entity_windows",
        ["monitor_id", "entity_id"],
        postgresql_where=sa.text("weight IS NULL"),
    )
    op.create_index("ix_batches_monitor", "batches", [sa.text("(settings ->> 'monitor_id')")])


def downgrade() -> None:
    op.drop_index("ix_batches_monitor", "batches")
    op.drop_index("ix_entity_windows_without_sums", "entity_windows")
    op.execute("DELETE FROM unsettled_series WHERE number > 2147483647")
    op.alter_column("unsettled_series", "number", type_=sa.Integer(), server_default=sa.text("1"))
    op.execute("DROP SEQUENCE unsettled_number")
