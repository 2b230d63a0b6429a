"""Schema versions: migrations make exactly the tables of the code, from any number of processes, or change nothing."""

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from config.clock import utc_now
from store.engine import Database
from store.schema import migrate
from store.tables import metadata


async def test_x(empty_database_url: str) -> None:
    print(await migrate(empty_database_url))
    print(await migrate(empty_database_url))
    database = Database(empty_database_url, utc_now)

    def diff(c):
        return compare_metadata(
            MigrationContext.configure(c, opts={"compare_type": True, "compare_server_default": True}), metadata
        )

    print(await database.read(diff))
    await database.close()
