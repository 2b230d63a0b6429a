"""Emptying the database that many tests use after each other.

On PostgreSQL: the triggers of the audit log refuse that to everybody, so they are switched off meanwhile; the link that
its chain begins with is put back. On SQLite such tests write no audit log.
"""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from sqlalchemy import Connection

from store.tables import metadata

_TABLES = [table.name for table in reversed(metadata.sorted_tables)]
_DIGEST = hashlib.sha256(b'["start",0]').hexdigest()
_CHAIN = hashlib.sha256(f"1::start:0:{_DIGEST}".encode()).hexdigest()
_QUIET = "SET LOCAL session_replication_role = replica"
_BEGINNING = (
    f"INSERT INTO audit_links (number, kind, entry_id, digest, chain) VALUES (1, 'start', 0, '{_DIGEST}', '{_CHAIN}')"
)

EMPTYING = ";".join([_QUIET, *(f"DELETE FROM {name}" for name in _TABLES), _BEGINNING])
"""For one transaction on PostgreSQL."""


def empty(connection: Connection, *, truncate: bool = False) -> None:
    """Delete all rows; with `truncate`, on PostgreSQL, so that none has to be read over until it is vacuumed."""
    if connection.dialect.name == "sqlite":
        deleting = [f"DELETE FROM {name}" for name in _TABLES if not name.startswith("audit_")]
    elif truncate:
        deleting = [_QUIET, f"TRUNCATE {', '.join(_TABLES)}", _BEGINNING]
    else:
        deleting = EMPTYING.split(";")
    for statement in deleting:
        connection.execute(sa.text(statement))
