"""API keys: what each may do, and which one has taken its place."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What keys could do before they had scopes.
    op.add_column("api_keys", sa.Column("scopes", sa.Text(), server_default='["use","read","manage"]', nullable=False))
    op.add_column("api_keys", sa.Column("replaced_by", sa.Text(), nullable=True))
