"""Alembic's scripts: one file a change of the tables, run by `abmail.store.migrate`."""
