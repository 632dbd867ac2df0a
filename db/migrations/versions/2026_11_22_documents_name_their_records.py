"""documents name the record that they were read from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision: str = "5e0c7a94d216"
down_revision: str | None = "b7c40d1e9f52"
branch_labels: None = None
depends_on: None = None


def upgrade() -> None:
    op.add_column("documents", sa.Column("record", sa.LargeBinary(), nullable=True))
    op.create_index(
        "ix_documents_record",
        "documents",
        ["monitor_id", "record"],
        postgresql_where=sa.text("record IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_documents_record", "documents")
    op.drop_column("documents", "record")
