"""The schema of the first release: tables, and the views that users query. Its SQL is in the folder 0001."""

from pathlib import Path

from alembic import op

revision = "0001_initial"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    "installation", "datasets", "problems", "problem_overlaps", "models", "reward_models", "runs",
    "run_rewards", "run_sources", "rounds", "round_problems", "iterations", "evaluations", "jobs",
    "job_items", "samples", "sample_responses", "sample_counts", "majority_votes", "verdicts",
    "known_verdicts", "source_rounds", "step_rounds", "step_prefixes", "rewards", "difficulty_labels",
    "stored_outcomes", "allocation_waves", "allocations", "preference_pairs", "training_runs",
    "layer_updates", "training_steps", "notifications", "actions", "workers", "sweeper",
)  # fmt: skip
VIEWS = (
    "sample_facts", "remaining_budget", "problem_statistics", "iteration_statistics", "worker_activity",
    "evaluation_results", "training_curves", "weight_updates", "budget_ledger", "problem_lifelines",
    "response_lengths", "round_states", "verdict_history", "problem_outcomes", "responses", "sample_rewards",
    "action_log", "source_samples",
)  # fmt: skip
FUNCTIONS = (
    "check_problems_of_rounds", "check_samples_of_pairs", "check_items_of_jobs",
    "delete_of_problems", "delete_of_samples", "delete_of_jobs", "heartbeat", "rounds_of", "token_limit",
    "count_outcomes", "wave_of", "reward_of", "times_reward", "rewards_by_name",
)  # fmt: skip


def upgrade() -> None:
    for name in (
        "tables",
        "row_checks",
        "heartbeat",
        "rounds_of",
        "token_limit",
        "count_outcomes",
        "wave_of",
        "reward_of",
        "rewards_by_name",
        *VIEWS,
    ):  # problem_statistics reads remaining_budget
        op.execute((Path(__file__).with_name("0001") / f"{name}.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    op.execute(f"DROP VIEW {', '.join(VIEWS)}")
    op.execute(f"DROP TABLE {', '.join(TABLES)}")
    op.execute("DROP AGGREGATE product_of_rewards(double precision)")
    op.execute(f"DROP FUNCTION {', '.join(FUNCTIONS)}")
