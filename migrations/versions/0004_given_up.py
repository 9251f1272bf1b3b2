"""A failed job can be given up, so that its iteration goes on without it."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATES = {
    "state_known": (
        "state IN ('queued', 'running', 'done', 'failed', 'given_up')",
        "state IN ('queued', 'running', 'done', 'failed')",
    ),
    "ended_has_time": (
        "(state IN ('done', 'failed', 'given_up')) = (finished_at IS NOT NULL)",
        "(state IN ('done', 'failed')) = (finished_at IS NOT NULL)",
    ),
    "failed_has_error": (
        "state NOT IN ('failed', 'given_up') OR error IS NOT NULL",
        "state <> 'failed' OR error IS NOT NULL",
    ),
}


def _replace(which: int) -> None:
    for name, conditions in STATES.items():
        full_name = op.f(f"ck_jobs_{name}")
        op.drop_constraint(full_name, "jobs", type_="check")
        op.create_check_constraint(full_name, "jobs", conditions[which])


def upgrade() -> None:
    _replace(0)


def downgrade() -> None:
    op.execute("UPDATE jobs SET state = 'failed' WHERE state = 'given_up'")
    _replace(1)
