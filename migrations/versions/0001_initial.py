"""The first schema: corpus, runs, rounds, jobs, samples, rewards, labels, pairs, training, workers."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

VIEWS = ("worker_activity", "iteration_statistics", "problem_statistics", "remaining_budget", "sample_facts")


def upgrade() -> None:

    op.create_table(
        "datasets",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
        sa.UniqueConstraint("name", name=op.f("uq_datasets_name")),
    )
    op.create_table(
        "models",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False, comment="folder, hub name or builtin: name"),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["models.id"], name=op.f("fk_models_parent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint("name", name=op.f("uq_models_name")),
        comment="policy checkpoints",
    )
    op.create_table(
        "reward_models",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reward_models")),
        sa.UniqueConstraint("name", name=op.f("uq_reward_models_name")),
    )
    op.create_table(
        "workers",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("process", sa.Integer(), nullable=False, comment="operating system process id"),
        sa.Column("role", sa.Text(), nullable=False, comment="the queues it serves, comma-separated"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("jobs_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "last_heartbeat", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("state IN ('idle', 'busy', 'stopped')", name=op.f("ck_workers_state_known")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )
    op.create_table(
        "problems",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("dataset_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="names the statement by its content"),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("reference_answer", sa.Text(), nullable=False),
        sa.Column("reference_readable", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("solution", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("level", sa.Text(), nullable=True),
        sa.Column("source_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_problems_dataset_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_problems")),
        sa.UniqueConstraint("dataset_id", "key", name=op.f("uq_problems_dataset_id_key")),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "recipe",
            postgresql.JSONB(),
            nullable=False,
            comment="whole, every default written out",
        ),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("reward_model_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_runs_model_id")),
        sa.ForeignKeyConstraint(
            ["reward_model_id"], ["reward_models.id"], name=op.f("fk_runs_reward_model_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint("name", name=op.f("uq_runs_name")),
    )
    op.create_table(
        "rounds",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "number", sa.Integer(), nullable=False, comment="of the iteration, or t of the evaluated M_t"
        ),
        sa.Column("model_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("kind IN ('iteration', 'evaluation')", name=op.f("ck_rounds_kind_known")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_rounds_model_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_rounds_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rounds")),
        sa.UniqueConstraint("run_id", "kind", "number", name=op.f("uq_rounds_run_id_kind_number")),
    )
    op.create_table(
        "difficulty_labels",
        sa.Column("round_id", sa.BigInteger(), nullable=False),
        sa.Column("problem_id", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("accuracy", sa.Double(), nullable=False),
        sa.Column("process_quality", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "level IN ('inlier', 'boundary', 'outlier')", name=op.f("ck_difficulty_labels_level_known")
        ),
        sa.ForeignKeyConstraint(
            ["problem_id"], ["problems.id"], name=op.f("fk_difficulty_labels_problem_id")
        ),
        sa.ForeignKeyConstraint(
            ["round_id"], ["rounds.id"], name=op.f("fk_difficulty_labels_round_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("round_id", "problem_id", name=op.f("pk_difficulty_labels")),
        postgresql_with={"autovacuum_analyze_scale_factor": "0.01"},
    )
    op.create_table(
        "evaluations",
        sa.Column("round_id", sa.BigInteger(), nullable=False),
        sa.Column("accuracy", sa.Double(), nullable=True),
        sa.Column("standard_error", sa.Double(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["round_id"], ["rounds.id"], name=op.f("fk_evaluations_round_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("round_id", name=op.f("pk_evaluations")),
    )
    op.create_table(
        "iterations",
        sa.Column("round_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("budget", sa.Integer(), server_default="0", nullable=False, comment="n · |D_t|"),
        sa.Column("pre_samples", sa.Integer(), nullable=False, comment="n_p: slots below it are pre-samples"),
        sa.Column("output_model_id", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'done') = (finished_at IS NOT NULL)", name=op.f("ck_iterations_done_has_time")
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'pre_sampling', 're_sampling', 'training', 'evaluating', 'done')",
            name=op.f("ck_iterations_state_known"),
        ),
        sa.ForeignKeyConstraint(
            ["output_model_id"], ["models.id"], name=op.f("fk_iterations_output_model_id")
        ),
        sa.ForeignKeyConstraint(
            ["round_id"], ["rounds.id"], name=op.f("fk_iterations_round_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("round_id", name=op.f("pk_iterations")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("round_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="queued", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("traceback", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "available_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("announced_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'running') = (lease_token IS NOT NULL)", name=op.f("ck_jobs_running_has_lease")
        ),
        sa.CheckConstraint(
            "(state IN ('done', 'failed')) = (finished_at IS NOT NULL)", name=op.f("ck_jobs_ended_has_time")
        ),
        sa.CheckConstraint("kind IN ('sample', 'verify', 'score', 'train')", name=op.f("ck_jobs_kind_known")),
        sa.CheckConstraint("state <> 'failed' OR error IS NOT NULL", name=op.f("ck_jobs_failed_has_error")),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'done', 'failed')", name=op.f("ck_jobs_state_known")
        ),
        sa.CheckConstraint(
            "(lease_token IS NULL) = (lease_expires_at IS NULL)", name=op.f("ck_jobs_lease_has_expiry")
        ),
        sa.ForeignKeyConstraint(
            ["round_id"], ["rounds.id"], name=op.f("fk_jobs_round_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(
        "ix_jobs_held",
        "jobs",
        ["round_id", "kind"],
        unique=False,
        postgresql_where=sa.text("state <> 'done'"),
    )
    op.create_index(
        "ix_jobs_live",
        "jobs",
        ["state", "kind"],
        unique=False,
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )
    op.create_table(
        "round_problems",
        sa.Column("round_id", sa.BigInteger(), nullable=False),
        sa.Column("problem_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, comment="in the run's seeded order"),
        sa.Column("allotment", sa.Integer(), nullable=False, comment="samples to draw in the whole round"),
        sa.Column(
            "exclusion", sa.Text(), nullable=True, comment="why the problem is left out; null where it is not"
        ),
        sa.CheckConstraint("allotment >= 0", name=op.f("ck_round_problems_allotment_not_negative")),
        sa.ForeignKeyConstraint(["problem_id"], ["problems.id"], name=op.f("fk_round_problems_problem_id")),
        sa.ForeignKeyConstraint(
            ["round_id"], ["rounds.id"], name=op.f("fk_round_problems_round_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("round_id", "problem_id", name=op.f("pk_round_problems")),
        postgresql_with={"autovacuum_analyze_scale_factor": "0.01"},
    )
    op.create_table(
        "samples",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("round_id", sa.BigInteger(), nullable=False),
        sa.Column("problem_id", sa.BigInteger(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.Column("min_reward", sa.Double(), nullable=True),
        sa.Column("tokens", sa.Integer(), nullable=True),
        sa.Column("finish_reason", sa.Text(), nullable=True),
        sa.Column("cumulative_logprob", sa.Double(), nullable=True),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("model_id", sa.BigInteger(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "cause IN ('correct', 'incorrect', 'no_answer', 'unparsable', 'timed_out', 'crashed', 'bad_reference')",
            name=op.f("ck_samples_cause_known"),
        ),
        sa.CheckConstraint("verdict IN ('correct', 'incorrect')", name=op.f("ck_samples_verdict_known")),
        sa.CheckConstraint("min_reward BETWEEN 0 AND 1", name=op.f("ck_samples_reward_in_range")),
        sa.CheckConstraint("slot >= 0", name=op.f("ck_samples_slot_not_negative")),
        sa.CheckConstraint("verdict IS NULL OR cause IS NOT NULL", name=op.f("ck_samples_verdict_has_cause")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_samples_model_id")),
        sa.ForeignKeyConstraint(["problem_id"], ["problems.id"], name=op.f("fk_samples_problem_id")),
        sa.ForeignKeyConstraint(
            ["round_id"], ["rounds.id"], name=op.f("fk_samples_round_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_samples")),
        sa.UniqueConstraint(
            "round_id", "problem_id", "slot", name=op.f("uq_samples_round_id_problem_id_slot")
        ),
        postgresql_with={"fillfactor": "80", "autovacuum_analyze_scale_factor": "0.01"},
    )
    op.create_table(
        "job_items",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("problem_id", sa.BigInteger(), nullable=False),
        sa.Column("slots", sa.ARRAY(sa.Integer()), nullable=False),
        sa.CheckConstraint("cardinality(slots) > 0", name=op.f("ck_job_items_slots_not_empty")),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_items_job_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["problem_id"], ["problems.id"], name=op.f("fk_job_items_problem_id")),
        sa.PrimaryKeyConstraint("job_id", "problem_id", name=op.f("pk_job_items")),
        comment="the addresses that a job samples, verifies or scores",
    )
    op.create_table(
        "preference_pairs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("round_id", sa.BigInteger(), nullable=False),
        sa.Column("problem_id", sa.BigInteger(), nullable=False),
        sa.Column("chosen_sample_id", sa.BigInteger(), nullable=False),
        sa.Column("rejected_sample_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["chosen_sample_id"],
            ["samples.id"],
            name=op.f("fk_preference_pairs_chosen_sample_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["problem_id"], ["problems.id"], name=op.f("fk_preference_pairs_problem_id")),
        sa.ForeignKeyConstraint(
            ["rejected_sample_id"],
            ["samples.id"],
            name=op.f("fk_preference_pairs_rejected_sample_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["round_id"], ["rounds.id"], name=op.f("fk_preference_pairs_round_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_preference_pairs")),
        sa.UniqueConstraint("chosen_sample_id", name=op.f("uq_preference_pairs_chosen_sample_id")),
        sa.UniqueConstraint("rejected_sample_id", name=op.f("uq_preference_pairs_rejected_sample_id")),
    )
    op.create_index(
        "ix_preference_pairs_round_id_problem_id",
        "preference_pairs",
        ["round_id", "problem_id"],
        unique=False,
    )
    op.create_table(
        "rewards",
        sa.Column("sample_id", sa.BigInteger(), nullable=False),
        sa.Column("reward_model_id", sa.BigInteger(), nullable=False),
        sa.Column("step_rewards", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("truncated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.ForeignKeyConstraint(
            ["reward_model_id"], ["reward_models.id"], name=op.f("fk_rewards_reward_model_id")
        ),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["samples.id"], name=op.f("fk_rewards_sample_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sample_id", "reward_model_id", name=op.f("pk_rewards")),
    )
    op.create_table(
        "sample_responses",
        sa.Column("sample_id", sa.BigInteger(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["sample_id"], ["samples.id"], name=op.f("fk_sample_responses_sample_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("sample_id", name=op.f("pk_sample_responses")),
    )
    op.create_table(
        "training_runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("round_id", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("model_id", sa.BigInteger(), nullable=False),
        sa.Column("output_model_id", sa.BigInteger(), nullable=True),
        sa.Column("objective", sa.Text(), nullable=False),
        sa.Column("settings", postgresql.JSONB(), nullable=False),
        sa.Column("pairs", sa.Integer(), nullable=False),
        sa.Column("truncated", sa.Integer(), nullable=True),
        sa.Column("steps_done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("steps", sa.Integer(), nullable=True),
        sa.Column("metrics", postgresql.JSONB(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_training_runs_job_id"), ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_training_runs_model_id")),
        sa.ForeignKeyConstraint(
            ["output_model_id"], ["models.id"], name=op.f("fk_training_runs_output_model_id")
        ),
        sa.ForeignKeyConstraint(
            ["round_id"], ["rounds.id"], name=op.f("fk_training_runs_round_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_runs")),
    )
    op.create_index("ix_training_runs_round_id", "training_runs", ["round_id"], unique=False)

    op.execute(Path(__file__).with_name("0001_views.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    for view in VIEWS:
        op.execute(f"DROP VIEW {view}")

    op.drop_index("ix_training_runs_round_id", table_name="training_runs")
    op.drop_table("training_runs")
    op.drop_table("sample_responses")
    op.drop_table("rewards")
    op.drop_index("ix_preference_pairs_round_id_problem_id", table_name="preference_pairs")
    op.drop_table("preference_pairs")
    op.drop_table("job_items")
    op.drop_table("samples")
    op.drop_table("round_problems")
    op.drop_index(
        "ix_jobs_live", table_name="jobs", postgresql_where=sa.text("state IN ('queued', 'running')")
    )
    op.drop_index("ix_jobs_held", table_name="jobs", postgresql_where=sa.text("state <> 'done'"))
    op.drop_table("jobs")
    op.drop_table("iterations")
    op.drop_table("evaluations")
    op.drop_table("difficulty_labels")
    op.drop_table("rounds")
    op.drop_table("runs")
    op.drop_table("problems")
    op.drop_table("workers")
    op.drop_table("reward_models")
    op.drop_table("models")
    op.drop_table("datasets")
