"""Verdicts that algebra has found, by verifier version and pair."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "known_verdicts",
        sa.Column("verifier_version", sa.Text(), nullable=False),
        sa.Column(
            "pair_key",
            sa.LargeBinary(),
            nullable=False,
            comment="names answer and reference by their content",
        ),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "cause IN ('bad_reference', 'correct', 'incorrect', 'unparsable')",
            name=op.f("ck_known_verdicts_cause_known"),
        ),
        sa.PrimaryKeyConstraint("verifier_version", "pair_key", name=op.f("pk_known_verdicts")),
        comment="what algebra has found, so that it computes no pair twice",
    )


def downgrade() -> None:
    op.drop_table("known_verdicts")
