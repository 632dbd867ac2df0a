"""Recommenders and their releases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "recommendation_0001"
down_revision: None = None
branch_labels: tuple[str, ...] = ("recommendation",)
depends_on: str = "core_0001"


def upgrade() -> None:
    op.create_table(
        "recommenders",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("sources", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("serving", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("published_release_id", sa.Uuid(), nullable=True),
        sa.Column("rolled_back_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["id"], ["schedules.id"], name=op.f("fk_recommenders_id_schedules"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recommenders")),
    )
    op.create_table(
        "releases",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("recommender_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("manifest_sha256", sa.Text(), nullable=False),
        sa.Column("figures", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["recommender_id"],
            ["recommenders.id"],
            name=op.f("fk_releases_recommender_id_recommenders"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
        sa.UniqueConstraint("recommender_id", "number", name=op.f("uq_releases_recommender_id_number")),
    )
    op.create_table(
        "withdrawn_items",
        sa.Column("recommender_id", sa.Uuid(), nullable=False),
        sa.Column("item_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["recommender_id"],
            ["recommenders.id"],
            name=op.f("fk_withdrawn_items_recommender_id_recommenders"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("recommender_id", "item_id", name=op.f("pk_withdrawn_items")),
    )


def downgrade() -> None:
    op.drop_table("withdrawn_items")
    op.drop_table("releases")
    op.drop_table("recommenders")
