"""An index of the queued jobs in the order in which workers take them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_jobs_queued", "jobs", ["id"], postgresql_where=sa.text("state = 'queued'"))


def downgrade() -> None:
    op.drop_index("ix_jobs_queued", "jobs")
