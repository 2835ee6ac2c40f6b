"""A connected database and its transactions: what the store's parts stand on; only they import this module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from abmail import _statements as sql
from abmail import _tables as t
from abmail._database import create_engine, first_line, migrate, revision_of
from abmail.errors import NotMigrated, StoreError

__all__ = ["BATCH", "Connected", "batches"]

BATCH: Final = 1_000
_T = TypeVar("_T")


class Connected:
    """A database of abmail, opened; see `abmail.store.Store`."""

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self._engine = create_engine(url, read_only=read_only)
        self._upserts = sql.Upserts(self._engine.dialect.name)
        try:
            if self.revision() is None and self._is_empty():
                if read_only and not self.is_in_memory:  # what has no tables yet is read as a database without people
                    self._engine.dispose()
                    self._engine = create_engine("sqlite://")
                    self._upserts = sql.Upserts(self._engine.dialect.name)
                migrate(self._engine)
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(f"cannot open the database {self.url}: {first_line(error)}") from error
        self._require_current()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connections."""
        self._engine.dispose()

    @property
    def url(self) -> str:
        """The database's URL with the password hidden."""
        return self._engine.url.render_as_string(hide_password=True)

    @property
    def is_in_memory(self) -> bool:
        """Whether all is gone when it is closed; then one thread alone may use it."""
        return self._engine.dialect.name == "sqlite" and self._engine.url.database in {None, "", ":memory:"}

    def ping(self) -> None:
        """Raise a StoreError where the database does not answer."""
        with self._read() as db:
            db.execute(sa.select(1))

    def revision(self) -> str | None:
        """The migration that the database stands at; None where there is none yet."""
        return revision_of(self._engine)

    def _is_empty(self) -> bool:
        return not sa.inspect(self._engine).get_table_names()

    def _require_current(self) -> None:
        found = self.revision()
        if found != t.SCHEMA_REVISION:
            self.close()
            raise NotMigrated(
                f"the database {self.url} is at revision {found}, this version of abmail needs {t.SCHEMA_REVISION}",
                hint="run `abmail db upgrade`, after a backup",
            )

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        """A transaction in which everything that is read is of one moment, whatever others write meanwhile."""
        options = {} if self._engine.dialect.name == "sqlite" else {"isolation_level": "REPEATABLE READ"}
        with self._failures(), self._engine.connect().execution_options(**options) as db, db.begin():
            yield db

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        """A transaction that may write; on SQLite it takes the write lock at once, so that it cannot fail half-way."""
        with (
            self._failures(),
            self._engine.connect().execution_options(abmail_write=True) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Say in words what the database cannot do: a full disk, a lost connection, a damaged file."""
        try:
            yield
        except sa.exc.DatabaseError as error:
            if type(error) not in {sa.exc.OperationalError, sa.exc.DatabaseError}:
                raise
            raise StoreError(
                f"the database {self.url} failed: {first_line(error)}",
                hint="nothing of this step was stored; mend the cause and run the command again",
            ) from error

    def _insert(self, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
        return postgresql.insert(table) if self._engine.dialect.name == "postgresql" else sqlite.insert(table)

    def _insert_new(self, db: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> int:
        """Insert the rows whose key is not there yet; returns how many."""
        added = 0
        for batch in batches(rows, size=500):
            statement = self._insert(table).values(list(batch)).on_conflict_do_nothing()
            added += len(db.execute(statement.returning(*table.primary_key.columns)).all())
        return added

    def _upsert(
        self, db: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], columns: list[str]
    ) -> None:
        insert = self._insert(table)
        keys = list(table.primary_key.columns)
        update = insert.on_conflict_do_update(index_elements=keys, set_={c: insert.excluded[c] for c in columns})
        db.execute(update, list(rows))


def batches(items: Iterable[_T], *, size: int = BATCH) -> Iterator[list[_T]]:
    batch: list[_T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
