"""Retention: usage added up by day, and what has been moved into archives."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "usage_daily",
        sa.Column("account_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("day", sa.BigInteger(), nullable=False),
        sa.Column("model_key", sa.Text(), nullable=False),
        sa.Column("funding", sa.Text(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("charged", sa.BigInteger(), nullable=False),
        sa.Column("refunded", sa.BigInteger(), nullable=False),
        sa.Column("estimated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "day", "model_key", "funding", name=op.f("pk_usage_daily")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "archived_usage",
        sa.Column("account_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("funding", sa.Text(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("charges", sa.BigInteger(), nullable=False),
        sa.Column("charged", sa.BigInteger(), nullable=False),
        sa.Column("refunded", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "funding", name=op.f("pk_archived_usage")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_archives",
        sa.Column("month", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("ended_by", sa.BigInteger(), nullable=False),
        sa.Column("file", sa.Text(), nullable=True),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("deleted_through", sa.BigInteger(), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("month", name=op.f("pk_usage_archives")),
    )
    # Fifteen minutes after the request, in the words of `store.usage_tables`.
    late = sa.text("at - id / 4194304 * 1000 > 1704068100000000")
    op.create_index("ix_usage_events_late", "usage_events", ["at"], sqlite_where=late, postgresql_where=late)
    refunded = sa.text("refunded_amount > 0")
    op.create_index(
        "ix_holds_refunded", "holds", ["account_id", "id"], sqlite_where=refunded, postgresql_where=refunded
    )
