"""Opening a database, its migrations, and telling live workers from dead ones; only `abmail.store` imports it."""

from __future__ import annotations

import itertools
import os
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa

from abmail._indexes import build
from abmail._tables import SCHEMA_REVISION
from abmail.errors import ConfigError, MissingExtra, StoreError

__all__ = ["create_engine", "first_line", "is_dead", "migrate", "revision_of", "upgrade", "worker_name"]

_MIGRATING: Final = 0x61626D61696C  # "abmail": the advisory lock of a migration
_PAUSES: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # seconds


def first_line(error: Exception) -> str:
    """What a driver says, without the statement and the parameters that follow."""
    return str(error).partition("\n")[0]


def revision_of(engine: sa.Engine) -> str | None:
    """The migration that a database stands at; None where there is none yet."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def migrate(engine: sa.Engine) -> None:
    """Run the migrations that a database lacks (alembic, with the scripts that ship inside the package).

    Of several processes that come at once, the first one does it; the others wait and find nothing left to do.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))

    def upgrade_tables() -> None:
        new = revision_of(engine) is None
        with engine.connect().execution_options(abmail_write=True) as connection, connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            if new and engine.dialect.name == "postgresql":  # nobody writes to it yet
                build(connection, beside_writers=False)

    if engine.dialect.name != "postgresql":  # SQLite's own write lock lets one process in
        upgrade_tables()
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        _take_turns(connection)
        try:
            upgrade_tables()
            build(connection)
        finally:
            connection.execute(sa.select(sa.func.pg_advisory_unlock(_MIGRATING)))


def _take_turns(connection: sa.Connection) -> None:
    """Wait until no other process migrates.

    Asked again and again: a session that waits for the lock itself would hold a snapshot, for whose end the building
    of an index in the other session waits.
    """
    pauses = itertools.chain(_PAUSES, itertools.repeat(1.0))
    while not connection.execute(sa.select(sa.func.pg_try_advisory_lock(_MIGRATING))).scalar_one():
        time.sleep(next(pauses))


def upgrade(url: str) -> tuple[str | None, str]:
    """Bring the tables of a database to this version of abmail.

    Returns:
        The revision before (None for an empty database) and after.

    Raises:
        ConfigError: The URL is not one that abmail can use.
        StoreError: The database cannot be reached, or comes from a newer version of abmail.
    """
    from alembic.util import CommandError as AlembicError  # 0.7 s, needed here alone

    engine = create_engine(url)
    try:
        before = revision_of(engine)
        migrate(engine)
    except (sa.exc.SQLAlchemyError, AlembicError) as error:
        raise StoreError(f"cannot upgrade the database: {first_line(error)}") from error
    finally:
        engine.dispose()
    return before, SCHEMA_REVISION


def create_engine(url: str, *, read_only: bool = False) -> sa.Engine:
    """An engine for a database; ``read_only`` lets nothing be written, and needs no right to write.

    An SQLite file that is not there yet is then read as an empty database.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise ConfigError(
            "the database's URL cannot be read", hint="write it as sqlite:///mail.db or postgresql://user@host/name"
        ) from error
    if parsed.drivername in {"postgres", "postgresql"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed, read_only=read_only)
    if parsed.get_backend_name() != "postgresql":
        raise ConfigError(f"the database {parsed.get_backend_name()} is not supported", hint="use SQLite or PostgreSQL")
    try:
        options = {"postgresql_readonly": True} if read_only else {}
        return sa.create_engine(parsed, pool_pre_ping=True, execution_options=options)
    except ImportError as error:
        raise MissingExtra("PostgreSQL", "postgres") from error


def _sqlite_engine(url: sa.URL, *, read_only: bool) -> sa.Engine:
    in_memory = url.database in {None, "", ":memory:"}
    if read_only and not in_memory and not Path(str(url.database)).exists():
        return _sqlite_engine(sa.make_url("sqlite://"), read_only=False)
    reading = read_only and not in_memory
    options: dict[str, Any] = {"poolclass": sa.pool.StaticPool} if in_memory else {}
    if reading:
        options["creator"] = lambda: _read_only(Path(str(url.database)))
    engine = sa.create_engine(url, connect_args={"timeout": 60, "check_same_thread": False}, **options)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # sqlite3 must not begin transactions on its own
        if not reading:
            _use_wal(connection)
        for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writing = connection.get_execution_options().get("abmail_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


def _read_only(path: Path) -> sqlite3.Connection:
    """Open a file for reading alone.

    Readers share a small file with writers, beside the database; where a folder lets nobody make it and none is there,
    nobody writes, and SQLite may take the database for one that does not change.
    """
    place = f"file:{quote(str(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(place, uri=True, timeout=60, check_same_thread=False)
    try:
        connection.execute("SELECT 1 FROM sqlite_master")
    except sqlite3.OperationalError as error:
        connection.close()
        denied = error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
        if not denied or Path(f"{path}-wal").exists():
            raise
        return sqlite3.connect(f"{place}&immutable=1", uri=True, timeout=60, check_same_thread=False)
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Let readers and a writer work side by side; the database remembers it.

    Of two processes that switch a new database at the same time SQLite refuses one at once, whatever its timeout.
    """
    for pause in _PAUSES:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            time.sleep(pause)
        else:
            return
    connection.execute("PRAGMA journal_mode=WAL")


def worker_name(pid: int | None = None) -> str:
    """Name this process so that another one on the same machine can tell whether it still lives."""
    pid = os.getpid() if pid is None else pid
    return f"{socket.gethostname()}:{pid}:{_started(pid)}"


def _started(pid: int) -> str:
    """The process's start time in clock ticks where the system tells it: tells a reused process id from the old one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0"


def is_dead(worker: str) -> bool:
    """Whether a worker certainly no longer runs; False where that cannot be known (another machine)."""
    host, pid, started = worker.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _started(int(pid)) != started
