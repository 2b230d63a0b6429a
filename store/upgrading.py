"""Running migrations with Alembic. Called by `store.schema`, and only when there is something to run: Alembic and what
it brings along take longer to load than the rest of the store, and most processes find their schema as it should be.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

MIGRATIONS = Path(__file__).parent / "migrations"


def config() -> Config:
    """Alembic's settings, which live here instead of in a file."""
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS))
    return made


def upgrade(connection: Connection) -> None:
    """Run every migration that has not been applied, in the transaction of `connection`."""
    settings = config()
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")
