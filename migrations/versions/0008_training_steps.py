"""The curve of every training, what it learns from, and what has happened to it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_METRICS = (
    "loss",
    "reward_chosen",
    "reward_rejected",
    "reward_margin",
    "reward_accuracy",
    "token_accuracy",
    "grad_norm",
    "learning_rate",
    "tokens_per_second",
)
_VIEW = """
CREATE VIEW training_curves AS
SELECT
    runs.name AS run,
    rounds.number AS iteration,
    models.name AS model,
    training_runs.objective,
    training_steps.step,
    training_runs.steps,
    training_steps.loss,
    training_steps.reward_margin,
    training_steps.reward_accuracy,
    training_steps.reward_chosen,
    training_steps.reward_rejected,
    training_steps.token_accuracy,
    training_steps.grad_norm,
    training_steps.learning_rate,
    training_steps.tokens_per_second,
    training_steps.recorded_at
FROM training_steps
JOIN training_runs ON training_runs.id = training_steps.training_run_id
JOIN models ON models.id = training_runs.model_id
JOIN rounds ON rounds.id = training_runs.round_id
JOIN runs ON runs.id = rounds.run_id
"""


def upgrade() -> None:
    for column in (
        sa.Column(
            "item_ids",
            postgresql.ARRAY(sa.BigInteger()),
            nullable=False,
            server_default=sa.text("'{}'::bigint[]"),
            comment="of preference_pairs, or of samples for supervised fine-tuning",
        ),
        sa.Column(
            "left_out", sa.Integer(), nullable=True, comment="of the items, those without room for a response"
        ),
        sa.Column(
            "lengths",
            postgresql.JSONB(),
            nullable=True,
            comment="tokens before any cut, by part and quantile",
        ),
        sa.Column(
            "resumed_at",
            sa.Integer(),
            nullable=True,
            comment="steps that were done when the last attempt began",
        ),
        sa.Column(
            "log", sa.Text(), nullable=False, server_default="", comment="what has happened, a line each"
        ),
    ):
        op.add_column("training_runs", column)
    op.create_table(
        "training_steps",
        sa.Column("training_run_id", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        *(sa.Column(metric, sa.Double(), nullable=True) for metric in _METRICS),
        sa.Column("recorded_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["training_run_id"],
            ["training_runs.id"],
            name=op.f("fk_training_steps_training_run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("training_run_id", "step", name=op.f("pk_training_steps")),
        comment="a row per optimiser step",
    )
    op.execute(_VIEW)


def downgrade() -> None:
    op.execute("DROP VIEW training_curves")
    op.drop_table("training_steps")
    for column in ("log", "resumed_at", "lengths", "left_out", "item_ids"):
        op.drop_column("training_runs", column)
