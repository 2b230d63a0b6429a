"""Operators' roles and what they moved, a chain over the audit log, and triggers that keep its rows as they are."""

import hashlib

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

ROWS = {"audit_entries": "id", "audit_outcomes": "entry_id"}
"""The tables that retention may take rows from, each with the column that a cut counts by."""

STAYING = ("audit_links", "audit_cuts")
"""Those that nothing ever leaves."""

SAID = "the audit log is append-only: its rows are neither changed nor taken away"


def upgrade() -> None:
    op.add_column("audit_entries", sa.Column("role", sa.Text(), nullable=True))
    op.add_column("audit_entries", sa.Column("moved", sa.BigInteger(), nullable=True))
    op.create_table(
        "audit_links",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("entry_id", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_links")),
    )
    op.create_table(
        "audit_cuts",
        sa.Column("through", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("through", name=op.f("pk_audit_cuts")),
    )
    _begin_chain()
    if op.get_bind().dialect.name == "sqlite":
        _sqlite()
    else:
        _postgresql()


def _begin_chain() -> None:
    """The first link names the last entry that has none."""
    last = op.get_bind().execute(sa.text("SELECT coalesce(max(id), 0) FROM audit_entries")).scalar_one()
    digest = hashlib.sha256(f'["start",{last}]'.encode()).hexdigest()
    chain = hashlib.sha256(f"1::start:{last}:{digest}".encode()).hexdigest()
    columns: list[sa.ColumnClause[object]] = [
        sa.column(name) for name in ("number", "kind", "entry_id", "digest", "chain")
    ]
    values = {"number": 1, "kind": "start", "entry_id": last, "digest": digest, "chain": chain}
    op.execute(sa.insert(sa.table("audit_links", *columns)).values(values))


def _sqlite() -> None:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{SAID}'); END"
    for table in (*ROWS, *STAYING):
        op.execute(f"CREATE TRIGGER {table}_stay BEFORE UPDATE ON {table} {refuse}")
    # REPLACE takes a row away without asking the triggers that are for that.
    for table, number in {**ROWS, "audit_links": "number", "audit_cuts": "through"}.items():
        there = f"EXISTS (SELECT 1 FROM {table} WHERE {number} = NEW.{number})"
        op.execute(f"CREATE TRIGGER {table}_once BEFORE INSERT ON {table} WHEN {there} {refuse}")
    for table, number in ROWS.items():
        kept = f"OLD.{number} > (SELECT coalesce(max(through), 0) FROM audit_cuts)"
        op.execute(f"CREATE TRIGGER {table}_last BEFORE DELETE ON {table} WHEN {kept} {refuse}")
    for table in STAYING:
        op.execute(f"CREATE TRIGGER {table}_last BEFORE DELETE ON {table} {refuse}")


def _postgresql() -> None:
    op.execute(
        "CREATE FUNCTION farebox_audit_stays() RETURNS trigger LANGUAGE plpgsql AS $$ "
        f"BEGIN RAISE EXCEPTION '{SAID}' USING ERRCODE = 'insufficient_privilege'; END $$"
    )
    for table in (*ROWS, *STAYING):
        op.execute(
            f"CREATE TRIGGER {table}_stay BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION farebox_audit_stays()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_whole BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION farebox_audit_stays()"
        )
    # The condition of a trigger on PostgreSQL cannot ask another table; its function can.
    for table, number in ROWS.items():
        op.execute(
            f"CREATE FUNCTION farebox_{table}_last() RETURNS trigger LANGUAGE plpgsql AS $$ "
            f"BEGIN IF OLD.{number} > (SELECT coalesce(max(through), 0) FROM audit_cuts) "
            f"THEN RAISE EXCEPTION '{SAID}' USING ERRCODE = 'insufficient_privilege'; END IF; RETURN OLD; END $$"
        )
        op.execute(
            f"CREATE TRIGGER {table}_last BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION farebox_{table}_last()"
        )
    for table in STAYING:
        op.execute(
            f"CREATE TRIGGER {table}_last BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION farebox_audit_stays()"
        )
