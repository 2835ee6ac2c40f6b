"""Indexes are built on PostgreSQL while people write, and one that was left half-made is made anew."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from abmail._database import create_engine, migrate
from abmail._indexes import build
from abmail.recipient import Recipient
from abmail.store import Store, upgrade

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DOMAIN = "ix_recipients_domain"
ADD = "INSERT INTO recipients (id, email, attributes, imported_at) VALUES ('{0}', '{0}@example.com', '{{}}', now())"


@pytest.fixture
def engine(postgres_url: str) -> Iterator[sa.Engine]:
    with Store(postgres_url) as store:
        store.import_recipients([Recipient(id="r", email="r@example.com")], now=NOW)
    engine = create_engine(postgres_url)
    yield engine
    engine.dispose()


def valid(engine: sa.Engine) -> dict[str, bool]:
    query = "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    with engine.connect() as db:
        return {str(row[0]): bool(row[1]) for row in db.exec_driver_sql(query)}


def drop(engine: sa.Engine) -> None:
    with engine.begin() as db:
        db.exec_driver_sql(f"DROP INDEX {DOMAIN}")


def building(engine: sa.Engine) -> int | None:
    """The process that builds an index now, once it has come as far as to wait for a writer."""
    query = (
        "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%%' AND wait_event_type = 'Lock'"
    )
    with engine.connect() as db:
        pid: int | None = db.exec_driver_sql(query).scalar()
        return pid


def wait_for_builder(engine: sa.Engine) -> int:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if (pid := building(engine)) is not None:
            return pid
        time.sleep(0.01)
    raise AssertionError("no index is built")


def build_alone(engine: sa.Engine, failed: list[str]) -> None:
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            build(db)
    except sa.exc.DBAPIError as error:
        failed.append(type(error.orig).__name__)


def test_writers_write_while_an_index_is_built(engine: sa.Engine) -> None:
    drop(engine)
    failed: list[str] = []
    with engine.connect() as slow:
        slow.exec_driver_sql(ADD.format("slow"))  # not committed yet: the builder waits for it
        builder = threading.Thread(target=build_alone, args=(engine, failed), daemon=True)
        builder.start()
        wait_for_builder(engine)
        with engine.begin() as other:
            other.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
            other.exec_driver_sql(ADD.format("quick"))  # behind a plain CREATE INDEX it would wait in vain
        slow.commit()
    builder.join(timeout=60)
    assert failed == []
    assert valid(engine)[DOMAIN]


def test_an_index_that_was_left_half_made_is_made_anew_by_the_next_upgrade(
    engine: sa.Engine, postgres_url: str
) -> None:
    drop(engine)
    failed: list[str] = []
    with engine.connect() as slow:
        slow.exec_driver_sql(ADD.format("slow"))
        builder = threading.Thread(target=build_alone, args=(engine, failed), daemon=True)
        builder.start()
        pid = wait_for_builder(engine)
        with engine.connect() as other:
            other.exec_driver_sql(f"SELECT pg_cancel_backend({pid})")
        builder.join(timeout=60)
        slow.commit()
    assert failed == ["QueryCanceled"]
    assert not valid(engine)[DOMAIN]
    upgrade(postgres_url)
    assert all(valid(engine).values())


def test_who_comes_while_another_migrates_waits_without_stopping_it(engine: sa.Engine) -> None:
    drop(engine)
    migrating = [threading.Thread(target=migrate, args=(engine,), daemon=True) for _ in range(3)]
    for thread in migrating:
        thread.start()
    for thread in migrating:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in migrating)
    assert valid(engine)[DOMAIN]
    with engine.connect() as db:
        assert db.exec_driver_sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").scalar() == 0
