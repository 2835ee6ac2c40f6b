"""Versions keep what their templates include, and what is attached."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the files of a version; those that were applied before have none."""
    op.create_table(
        "version_files",
        sa.Column("experiment", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment", "version"],
            ["versions.experiment", "versions.version"],
            name=op.f("fk_version_files_experiment_versions"),
        ),
        sa.PrimaryKeyConstraint("experiment", "version", "path", name=op.f("pk_version_files")),
    )
