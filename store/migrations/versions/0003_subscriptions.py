"""Trials, credits, waiting upgrades that lapse, and a book of payments."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CURRENT = "status IN ('incomplete', 'trialing', 'active', 'past_due')"


def upgrade() -> None:
    op.add_column("plan_versions", sa.Column("trial_days", sa.Integer(), nullable=True))
    op.add_column("subscriptions", sa.Column("trial_end", sa.BigInteger(), nullable=True))
    op.add_column("subscriptions", sa.Column("pending_until", sa.BigInteger(), nullable=True))
    for table, column in (
        ("subscriptions", "carried"),
        ("subscriptions", "refund_quoted"),
        ("subscription_events", "amount_due"),
        ("subscription_events", "carried"),
    ):
        op.add_column(table, sa.Column(column, sa.BigInteger(), server_default="0", nullable=False))
    for name, column, unique in (
        ("uq_subscriptions_current", "account_id", True),
        ("ix_subscriptions_due", "period_end", False),
    ):
        op.drop_index(name, table_name="subscriptions")
        op.create_index(
            name,
            "subscriptions",
            [column],
            unique=unique,
            sqlite_where=sa.text(CURRENT),
            postgresql_where=sa.text(CURRENT),
        )
    op.create_index("ix_subscriptions_account_id_id", "subscriptions", ["account_id", "id"], unique=False)
    op.create_table(
        "payments",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("subscription_id", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("plan_version_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount > 0", name=op.f("ck_payments_amount")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_payments_account_id")),
        sa.ForeignKeyConstraint(["plan_version_id"], ["plan_versions.id"], name=op.f("fk_payments_plan_version_id")),
        sa.ForeignKeyConstraint(
            ["subscription_id", "seq"],
            ["subscription_events.subscription_id", "subscription_events.seq"],
            name=op.f("fk_payments_subscription_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payments")),
        sa.UniqueConstraint("key", name=op.f("uq_payments_key")),
        sa.UniqueConstraint("subscription_id", "seq", name=op.f("uq_payments_subscription_id_seq")),
    )
    op.create_index("ix_payments_account_id_id", "payments", ["account_id", "id"], unique=False)
    _book_what_was_paid()


def _book_what_was_paid() -> None:
    """Until now nothing but a start or a renewal was an event `paid`, and each cost the price of its plan's version.

    Of upgrades only the present one that waits is known; those that were paid are events `plan_changed` without a
    payment, as they stay.
    """
    price = "(SELECT price FROM plan_versions WHERE plan_versions.id = subscription_events.plan_version_id)"
    op.execute(f"UPDATE subscription_events SET amount_due = {price} WHERE status IN ('incomplete', 'past_due')")
    last = (
        "SELECT MAX(other.seq) FROM subscription_events AS other "
        "WHERE other.subscription_id = subscription_events.subscription_id"
    )
    due = "(SELECT amount_due FROM subscriptions WHERE subscriptions.id = subscription_events.subscription_id)"
    op.execute(f"UPDATE subscription_events SET amount_due = {due} WHERE seq = ({last})")
    op.execute(
        "INSERT INTO payments (account_id, subscription_id, seq, purpose, amount, currency, plan_version_id, key, "
        "actor, at) "
        "SELECT subscriptions.account_id, paid.subscription_id, paid.seq, "
        "CASE WHEN before.status = 'incomplete' THEN 'start' ELSE 'renew' END, "
        "plan_versions.price, plan_versions.currency, paid.plan_version_id, "
        "'before-0003:' || paid.subscription_id || ':' || paid.seq, paid.actor, paid.at "
        "FROM subscription_events AS paid "
        "JOIN subscription_events AS before "
        "ON before.subscription_id = paid.subscription_id AND before.seq = paid.seq - 1 "
        "JOIN subscriptions ON subscriptions.id = paid.subscription_id "
        "JOIN plan_versions ON plan_versions.id = paid.plan_version_id "
        "WHERE paid.event = 'paid' ORDER BY paid.at, paid.subscription_id, paid.seq"
    )
