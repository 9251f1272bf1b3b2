"""What a worker computes on, how much it has drawn, which hsstar it is, and whether it was asked to stop."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("gpu", sa.Text(), nullable=True, comment="the GPUs that it may use"))
    op.add_column(
        "workers",
        sa.Column(
            "tokens_done",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="tokens of the samples that it drew",
        ),
    )
    op.add_column(
        "workers", sa.Column("version", sa.Text(), nullable=True, comment="of the hsstar that it runs")
    )
    op.add_column("workers", sa.Column("stop_requested_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(Path(__file__).with_name("0005_views.sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    earlier = Path(__file__).with_name("0003_views.sql").read_text(encoding="utf-8")
    op.execute("DROP VIEW worker_activity")
    op.execute(earlier[earlier.index("CREATE OR REPLACE VIEW worker_activity AS") :])
    for column in ("stop_requested_at", "version", "tokens_done", "gpu"):
        op.drop_column("workers", column)
