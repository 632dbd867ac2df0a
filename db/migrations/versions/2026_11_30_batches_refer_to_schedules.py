"""Batches refer to schedules, and what kinds run again and again is one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "2f8a6c1d94b7"
down_revision: str | None = "1c9e50d7b3a8"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("schedule_id", sa.Uuid(), nullable=True))
    op.drop_index(op.f("ix_batches_monitor"), table_name="batches")
    op.drop_index(
        op.f("ix_batches_standing"),
        table_name="batches",
        postgresql_where="(((status)::text = 'running'::text) AND (standing_for IS NOT NULL))",
    )
    op.create_index(
        "ix_batches_schedule_id",
        "batches",
        ["schedule_id"],
        unique=False,
        postgresql_where=sa.text("schedule_id IS NOT NULL"),
    )
    op.create_index(
        "ix_batches_under_way",
        "batches",
        ["schedule_id"],
        unique=True,
        postgresql_where=sa.text("status = 'running' AND schedule_id IS NOT NULL"),
    )
    op.create_foreign_key(
        op.f("fk_batches_schedule_id_schedules"),
        "batches",
        "schedules",
        ["schedule_id"],
        ["id"],
        ondelete="SET NULL",
    )
    op.drop_column("batches", "standing_for")
    op.drop_constraint(op.f("uq_monitors_tenant_name"), "monitors", type_="unique")
    op.create_foreign_key(
        op.f("fk_monitors_id_schedules"), "monitors", "schedules", ["id"], ["id"], ondelete="CASCADE"
    )
    op.drop_column("monitors", "created_at")
    op.drop_column("monitors", "model")
    op.drop_column("monitors", "settings")
    op.drop_column("monitors", "tenant")
    op.drop_column("monitors", "name")
    op.drop_constraint(op.f("uq_refreshes_tenant_name"), "refreshes", type_="unique")
    op.create_foreign_key(
        op.f("fk_refreshes_id_schedules"), "refreshes", "schedules", ["id"], ["id"], ondelete="CASCADE"
    )
    op.drop_column("refreshes", "created_at")
    op.drop_column("refreshes", "model")
    op.drop_column("refreshes", "settings")
    op.drop_column("refreshes", "tenant")
    op.drop_column("refreshes", "name")
    op.add_column("schedules", sa.Column("kind", sa.Text(), nullable=False))
    op.add_column("schedules", sa.Column("tenant", sa.Text(), nullable=False))
    op.add_column("schedules", sa.Column("name", sa.Text(), nullable=False))
    op.add_column("schedules", sa.Column("model", sa.Text(), nullable=False))
    op.add_column("schedules", sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False))
    op.add_column("schedules", sa.Column("input", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.alter_column("schedules", "cron", existing_type=sa.TEXT(), nullable=True)
    op.alter_column("schedules", "time_zone", existing_type=sa.TEXT(), nullable=True)
    op.drop_constraint(op.f("uq_schedules_starts_target_id"), "schedules", type_="unique")
    op.create_unique_constraint(
        op.f("uq_schedules_kind_tenant_name"), "schedules", ["kind", "tenant", "name"]
    )
    op.drop_column("schedules", "starts")
    op.drop_column("schedules", "target_id")


def downgrade() -> None:
    op.add_column("schedules", sa.Column("target_id", sa.UUID(), autoincrement=False, nullable=False))
    op.add_column("schedules", sa.Column("starts", sa.TEXT(), autoincrement=False, nullable=False))
    op.drop_constraint(op.f("uq_schedules_kind_tenant_name"), "schedules", type_="unique")
    op.create_unique_constraint(
        op.f("uq_schedules_starts_target_id"),
        "schedules",
        ["starts", "target_id"],
        postgresql_nulls_not_distinct=False,
    )
    op.alter_column("schedules", "time_zone", existing_type=sa.TEXT(), nullable=False)
    op.alter_column("schedules", "cron", existing_type=sa.TEXT(), nullable=False)
    op.drop_column("schedules", "input")
    op.drop_column("schedules", "settings")
    op.drop_column("schedules", "model")
    op.drop_column("schedules", "name")
    op.drop_column("schedules", "tenant")
    op.drop_column("schedules", "kind")
    op.add_column("refreshes", sa.Column("name", sa.TEXT(), autoincrement=False, nullable=False))
    op.add_column("refreshes", sa.Column("tenant", sa.TEXT(), autoincrement=False, nullable=False))
    op.add_column(
        "refreshes",
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), autoincrement=False, nullable=False),
    )
    op.add_column("refreshes", sa.Column("model", sa.TEXT(), autoincrement=False, nullable=False))
    op.add_column(
        "refreshes",
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            autoincrement=False,
            nullable=False,
        ),
    )
    op.drop_constraint(op.f("fk_refreshes_id_schedules"), "refreshes", type_="foreignkey")
    op.create_unique_constraint(
        op.f("uq_refreshes_tenant_name"), "refreshes", ["tenant", "name"], postgresql_nulls_not_distinct=False
    )
    op.add_column("monitors", sa.Column("name", sa.TEXT(), autoincrement=False, nullable=False))
    op.add_column("monitors", sa.Column("tenant", sa.TEXT(), autoincrement=False, nullable=False))
    op.add_column(
        "monitors",
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), autoincrement=False, nullable=False),
    )
    op.add_column("monitors", sa.Column("model", sa.TEXT(), autoincrement=False, nullable=False))
    op.add_column(
        "monitors",
        sa.Column(
            "created_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            autoincrement=False,
            nullable=False,
        ),
    )
    op.drop_constraint(op.f("fk_monitors_id_schedules"), "monitors", type_="foreignkey")
    op.create_unique_constraint(
        op.f("uq_monitors_tenant_name"), "monitors", ["tenant", "name"], postgresql_nulls_not_distinct=False
    )
    op.add_column("batches", sa.Column("standing_for", sa.UUID(), autoincrement=False, nullable=True))
    op.drop_constraint(op.f("fk_batches_schedule_id_schedules"), "batches", type_="foreignkey")
    op.drop_index(
        "ix_batches_under_way",
        table_name="batches",
        postgresql_where=sa.text("status = 'running' AND schedule_id IS NOT NULL"),
    )
    op.drop_index(
        "ix_batches_schedule_id", table_name="batches", postgresql_where=sa.text("schedule_id IS NOT NULL")
    )
    op.create_index(
        op.f("ix_batches_standing"),
        "batches",
        ["standing_for"],
        unique=True,
        postgresql_where="(((status)::text = 'running'::text) AND (standing_for IS NOT NULL))",
    )
    op.create_index(
        op.f("ix_batches_monitor"),
        "batches",
        [sa.literal_column("(settings ->> 'monitor_id'::text)")],
        unique=False,
    )
    op.drop_column("batches", "schedule_id")
