"""Overruns that are owed, and charges that come after a hold has expired."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("holds", sa.Column("on_late", sa.Text(), server_default="none", nullable=False))
    op.add_column("holds", sa.Column("overrun", sa.Text(), server_default="cap", nullable=False))
    op.add_column("holds", sa.Column("late_at", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("accounts") as batch:
        # Nobody has owed anything yet.
        batch.add_column(sa.Column("overdrawn", sa.BigInteger(), server_default="0", nullable=False))
        batch.create_check_constraint(op.f("ck_accounts_overdrawn"), "overdrawn >= 0")
