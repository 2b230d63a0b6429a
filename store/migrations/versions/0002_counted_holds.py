"""What is held and what is left are counted from holds and grants, and stored nowhere else."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_credit_grants_alive", "credit_grants")
    op.add_column("credit_grants", sa.Column("unspent", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("credit_grants", sa.Column("spent", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.execute("UPDATE credit_grants SET unspent = remaining + held, spent = (remaining + held = 0)")
    with op.batch_alter_table("credit_grants") as batch:
        batch.drop_constraint(op.f("ck_credit_grants_parts"), type_="check")
        batch.drop_column("remaining")
        batch.drop_column("held")
        batch.alter_column("unspent", server_default=None)
        batch.alter_column("spent", server_default=None)
        batch.create_check_constraint(op.f("ck_credit_grants_unspent"), "unspent >= 0 AND unspent <= amount")
        batch.create_check_constraint(op.f("ck_credit_grants_spent"), "spent = (unspent = 0)")
    unspent = sa.text("NOT spent")
    op.create_index(
        "ix_credit_grants_unspent", "credit_grants", ["account_id"], sqlite_where=unspent, postgresql_where=unspent
    )
    with op.batch_alter_table("quota_windows", table_kwargs={"sqlite_with_rowid": False}) as batch:
        batch.drop_constraint(op.f("ck_quota_windows_amounts"), type_="check")
        batch.drop_column("held")
        batch.create_check_constraint(op.f("ck_quota_windows_amounts"), "used >= 0")
    with op.batch_alter_table("accounts") as batch:
        batch.drop_constraint(op.f("ck_accounts_pending"), type_="check")
        batch.drop_constraint(op.f("ck_accounts_available"), type_="check")
        for name in ("posted", "pending", "version", "may_overdraw"):
            batch.drop_column(name)
    is_open = sa.text("state = 'reserved'")
    op.create_index("ix_holds_open_of_account", "holds", ["account_id"], sqlite_where=is_open, postgresql_where=is_open)
