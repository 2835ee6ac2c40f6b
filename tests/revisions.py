"""Databases as an earlier version of abmail left them."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from abmail import _database


def migrate_to(url: str, revision: str) -> None:
    """Make the tables of an empty database as they were at a revision."""
    config = Config()
    config.set_main_option("script_location", str(Path(_database.__file__).parent / "migrations"))
    engine = _database.create_engine(url)
    with engine.begin() as db:
        config.attributes["connection"] = db
        command.upgrade(config, revision)
    engine.dispose()
