"""Quota by time zones and anchors, with rollover."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("plan_versions", sa.Column("quota_timezone", sa.Text(), nullable=False, server_default="UTC"))
    op.add_column("plan_versions", sa.Column("quota_day_starts", sa.Text(), nullable=False, server_default="00:00"))
    op.add_column("plan_versions", sa.Column("quota_month", sa.Text(), nullable=False, server_default="calendar"))
    op.add_column("plan_versions", sa.Column("daily_rollover", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("plan_versions", sa.Column("monthly_rollover", sa.BigInteger(), nullable=False, server_default="0"))
    # Empty is "from the beginning", which is right for all that there are: their plans carry nothing over.
    op.add_column("subscriptions", sa.Column("plan_since", sa.BigInteger(), nullable=True))
    _remake_quota_windows()


def _remake_quota_windows() -> None:
    """With the metric before the start in its key, so that the newest window of an account is found by one look."""
    if op.get_bind().dialect.name == "postgresql":
        # Names of keys are those of a schema there, not of a table.
        op.drop_constraint("pk_quota_windows", "quota_windows")
    op.rename_table("quota_windows", "quota_windows_0003")
    op.create_table(
        "quota_windows",
        sa.Column("account_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("window_start", sa.BigInteger(), nullable=False),
        sa.Column("window_end", sa.BigInteger(), nullable=False),
        sa.Column("regular_start", sa.BigInteger(), nullable=True),
        sa.Column("limit", sa.BigInteger(), nullable=False),
        sa.Column("carried", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("plan_version_id", sa.BigInteger(), nullable=False),
        sa.Column("opened_by", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("carried >= 0 AND used >= 0", name=op.f("ck_quota_windows_amounts")),
        sa.PrimaryKeyConstraint("account_id", "metric", "window_start", name=op.f("pk_quota_windows")),
        sqlite_with_rowid=False,
    )
    kept = 'account_id, metric, window_start, window_end, "limit", used, plan_version_id'
    op.execute(
        f"INSERT INTO quota_windows ({kept}, carried, opened_by) SELECT {kept}, 0, plan_version_id FROM quota_windows_0003"
    )
    op.drop_table("quota_windows_0003")
