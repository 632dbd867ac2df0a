"""Create the tables of the core: batches, jobs, artifacts, schedules and workers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "core_0001"
down_revision: None = None
branch_labels: tuple[str, ...] = ("core",)
depends_on: None = None


def upgrade() -> None:
    op.create_table(
        "candidates",
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("holder", name=op.f("pk_candidates")),
    )
    op.create_table(
        "leads",
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("role", name=op.f("pk_leads")),
    )
    op.create_table(
        "kept_results",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("keep", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("value", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("num_new_tokens", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("statement_sha256", sa.Text(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("kind", "keep", "key", name=op.f("pk_kept_results")),
    )
    op.create_index("ix_kept_results_made_at", "kept_results", ["kind", "keep", "made_at"], unique=False)
    op.create_index("ix_kept_results_subject", "kept_results", ["kind", "keep", "subject"], unique=False)
    op.create_table(
        "models",
        sa.Column("manifest_sha256", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("manifest", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "first_loaded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("manifest_sha256", name=op.f("pk_models")),
    )
    op.create_table(
        "schedules",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("input", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("cron", sa.Text(), nullable=True),
        sa.Column("time_zone", sa.Text(), nullable=True),
        sa.Column(
            "catch_up",
            sa.Enum(
                "latest", "all", "none", name="catch_up", native_enum=False, create_constraint=True, length=16
            ),
            nullable=False,
        ),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_until", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sa.UniqueConstraint("kind", "tenant", "name", name=op.f("uq_schedules_kind_tenant_name")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("max_jobs_in_flight", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ending", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workers")),
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("kind_version", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("max_attempts", sa.SmallInteger(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("schedule_id", sa.Uuid(), nullable=True),
        sa.Column(
            "status",
            sa.Enum(
                "running",
                "finished",
                "cancelled",
                "failed",
                name="status",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("num_rejected", sa.Integer(), nullable=False),
        sa.Column("num_jobs", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("num_succeeded", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("num_failed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("num_cancelled", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("num_expired", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("new_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_claim_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_commit_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("num_plan_failures", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("plan_retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("plan_error", sa.Text(), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["schedule_id"],
            ["schedules.id"],
            name=op.f("fk_batches_schedule_id_schedules"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batches")),
        sa.UniqueConstraint("tenant", "idempotency_key", name=op.f("uq_batches_tenant_idempotency_key")),
    )
    op.create_index(
        "ix_batches_ending",
        "batches",
        ["id"],
        unique=False,
        postgresql_where=sa.text("status = 'cancelled' AND finished_at IS NULL"),
    )
    op.create_index(
        "ix_batches_running",
        "batches",
        ["profile", "priority"],
        unique=False,
        postgresql_where=sa.text("status = 'running'"),
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
    op.create_table(
        "schedule_runs",
        sa.Column("schedule_id", sa.Uuid(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "outcome",
            sa.Enum(
                "started",
                "overlapped",
                "skipped",
                "failed",
                name="outcome",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("batch_id", sa.Uuid(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["schedule_id"],
            ["schedules.id"],
            name=op.f("fk_schedule_runs_schedule_id_schedules"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("schedule_id", "due_at", name=op.f("pk_schedule_runs")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("stage", sa.SmallInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("custom_id", sa.Text(), nullable=False),
        sa.Column("prefix_group", sa.Text(), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "queued",
                "running",
                "succeeded",
                "failed",
                "cancelled",
                "expired",
                name="status",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("num_failures", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("suspect_group", sa.Uuid(), nullable=True),
        sa.Column("parked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cleared_attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "available_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("queued_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("metrics", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("output", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("progress", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("cached_tokens", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("new_tokens", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batches.id"], name=op.f("fk_jobs_batch_id_batches"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("batch_id", "stage", "custom_id", name=op.f("uq_jobs_batch_id_stage_custom_id")),
        sa.UniqueConstraint("batch_id", "stage", "position", name=op.f("uq_jobs_batch_id_stage_position")),
    )
    op.create_index(
        "ix_jobs_failed",
        "jobs",
        ["batch_id", "error_code"],
        unique=False,
        postgresql_where=sa.text("status = 'failed'"),
    )
    op.create_index(
        "ix_jobs_leased",
        "jobs",
        ["lease_expires_at"],
        unique=False,
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_index(
        "ix_jobs_open",
        "jobs",
        ["batch_id", "status"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_index(
        "ix_jobs_sent",
        "jobs",
        ["sent_at"],
        unique=False,
        postgresql_where=sa.text("status = 'queued' AND sent_at IS NOT NULL"),
    )
    op.create_index(
        "ix_jobs_suspect",
        "jobs",
        ["batch_id"],
        unique=False,
        postgresql_where=sa.text("suspect_group IS NOT NULL AND status IN ('queued', 'running')"),
    )
    op.create_index(
        "ix_jobs_unsent",
        "jobs",
        ["batch_id", "prefix_group", "position"],
        unique=False,
        postgresql_where=sa.text("status = 'queued' AND sent_at IS NULL"),
    )
    op.create_table(
        "stages",
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batches.id"], name=op.f("fk_stages_batch_id_batches"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("batch_id", "number", name=op.f("pk_stages")),
    )
    op.create_table(
        "artifacts",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("byte_offset", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("num_bytes", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_artifacts_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("pk_artifacts")),
    )
    op.create_index(op.f("ix_artifacts_object_key"), "artifacts", ["object_key"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("celery_task_id", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "outcome",
            sa.Enum(
                "running",
                "succeeded",
                "failed",
                "given_back",
                "lost",
                "ended",
                name="outcome",
                native_enum=False,
                create_constraint=True,
                length=16,
            ),
            nullable=False,
        ),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("alone", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_attempts_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "attempt", name=op.f("pk_attempts")),
    )
    op.create_index(
        "ix_attempts_lost",
        "attempts",
        ["worker_id"],
        unique=False,
        postgresql_where=sa.text("outcome = 'lost'"),
    )
    op.create_table(
        "statements",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("byte_offset", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_statements_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_statements")),
    )
    op.create_index(op.f("ix_statements_object_key"), "statements", ["object_key"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_statements_object_key"), table_name="statements")
    op.drop_table("statements")
    op.drop_index("ix_attempts_lost", table_name="attempts", postgresql_where=sa.text("outcome = 'lost'"))
    op.drop_table("attempts")
    op.drop_index(op.f("ix_artifacts_object_key"), table_name="artifacts")
    op.drop_table("artifacts")
    op.drop_table("stages")
    op.drop_index(
        "ix_jobs_unsent", table_name="jobs", postgresql_where=sa.text("status = 'queued' AND sent_at IS NULL")
    )
    op.drop_index(
        "ix_jobs_suspect",
        table_name="jobs",
        postgresql_where=sa.text("suspect_group IS NOT NULL AND status IN ('queued', 'running')"),
    )
    op.drop_index(
        "ix_jobs_sent",
        table_name="jobs",
        postgresql_where=sa.text("status = 'queued' AND sent_at IS NOT NULL"),
    )
    op.drop_index(
        "ix_jobs_open", table_name="jobs", postgresql_where=sa.text("status IN ('queued', 'running')")
    )
    op.drop_index("ix_jobs_leased", table_name="jobs", postgresql_where=sa.text("status = 'running'"))
    op.drop_index("ix_jobs_failed", table_name="jobs", postgresql_where=sa.text("status = 'failed'"))
    op.drop_table("jobs")
    op.drop_table("schedule_runs")
    op.drop_index(
        "ix_batches_under_way",
        table_name="batches",
        postgresql_where=sa.text("status = 'running' AND schedule_id IS NOT NULL"),
    )
    op.drop_index(
        "ix_batches_schedule_id", table_name="batches", postgresql_where=sa.text("schedule_id IS NOT NULL")
    )
    op.drop_index("ix_batches_running", table_name="batches", postgresql_where=sa.text("status = 'running'"))
    op.drop_index(
        "ix_batches_ending",
        table_name="batches",
        postgresql_where=sa.text("status = 'cancelled' AND finished_at IS NULL"),
    )
    op.drop_table("batches")
    op.drop_table("workers")
    op.drop_table("schedules")
    op.drop_table("models")
    op.drop_index("ix_kept_results_subject", table_name="kept_results")
    op.drop_index("ix_kept_results_made_at", table_name="kept_results")
    op.drop_table("kept_results")
    op.drop_table("leads")
    op.drop_table("candidates")
