"""Which engine drew a sample and how long it took, and what went wrong with a worker's engine last."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

VIEWS = ("sample_facts", "worker_activity")


def upgrade() -> None:
    op.add_column(
        "samples", sa.Column("engine", sa.Text(), nullable=True, comment="name and version of what drew it")
    )
    op.add_column("samples", sa.Column("milliseconds", sa.Double(), nullable=True))
    op.add_column(
        "workers",
        sa.Column("note", sa.Text(), nullable=True, comment="what went wrong with its engine last"),
    )
    op.add_column("workers", sa.Column("noted_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(Path(__file__).with_name("0003_views.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    first = Path(__file__).with_name("0001_views.sql").read_text(encoding="utf-8")
    for view in VIEWS:
        op.execute(f"DROP VIEW {view}")
        begin = first.index(f"CREATE VIEW {view} AS")
        op.execute(first[begin : first.index(";", begin)])
    op.drop_column("workers", "noted_at")
    op.drop_column("workers", "note")
    op.drop_column("samples", "milliseconds")
    op.drop_column("samples", "engine")
