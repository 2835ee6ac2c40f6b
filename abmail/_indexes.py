"""Indexes of large tables: PostgreSQL builds them beside the writers; only the store and its migrations import it.

`CREATE INDEX` keeps writers away from a table until it is done. `CONCURRENTLY` doesn't, but cannot stand in the
transaction of a migration. So migrations leave such an index to `build`, which runs when they are through and makes
whatever index is declared and missing, or was left half-made by a run that broke off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from abmail import _tables as t

__all__ = ["build", "create_later"]

_FOUND: Final = sa.text(
    "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
    "WHERE c.relnamespace = current_schema()::regnamespace"
)


def create_later(name: str, table: str, columns: Sequence[str], **options: Any) -> None:
    """Create an index in a migration, on PostgreSQL once the migrations are through."""
    from alembic import op

    if op.get_bind().dialect.name != "postgresql":
        op.create_index(name, table, list(columns), **options)


def build(connection: sa.Connection, *, beside_writers: bool = True) -> None:
    """Make the indexes that are declared and not there, or not valid.

    Args:
        connection: To PostgreSQL.
        beside_writers: Whether writers go on meanwhile; the connection is then outside of a transaction (AUTOCOMMIT).
    """
    how = "INDEX CONCURRENTLY" if beside_writers else "INDEX"
    for index, broken in _wanting(connection):
        if broken:
            connection.exec_driver_sql(f'DROP {how} IF EXISTS "{index.name}"')
        statement = str(sa.schema.CreateIndex(index).compile(dialect=connection.dialect))
        connection.exec_driver_sql(statement.replace("INDEX", how, 1))


def _wanting(connection: sa.Connection) -> Iterator[tuple[sa.Index, bool]]:
    """Indexes to make, each with whether a broken one is in its place."""
    valid = {name: bool(good) for name, good in connection.execute(_FOUND)}
    for table in t.metadata.sorted_tables:
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            if not valid.get(str(index.name), False):
                yield index, str(index.name) in valid
