"""What goes on after a request: jobs that are asked about."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_watches",
        sa.Column("hold_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("wait_us", sa.BigInteger(), nullable=False),
        sa.Column("longest_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hold_id", name=op.f("pk_job_watches")),
    )
    op.create_index("ix_job_watches_next_at", "job_watches", ["next_at"])
