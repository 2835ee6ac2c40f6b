"""Arms can stop before their experiment does, and segments have weights of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from abmail._tables import UTCDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the stopped arms, the segments' weights of an epoch and the segment of a message; none in older rows."""
    op.create_table(
        "stopped_arms",
        sa.Column("experiment", sa.Text(), sa.ForeignKey("experiments.name"), primary_key=True),
        sa.Column("cell", sa.Text(), primary_key=True),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
    )
    op.add_column("epochs", sa.Column("segments", sa.JSON(), nullable=True))
    op.add_column("messages", sa.Column("stratum", sa.Text(), nullable=False, server_default=""))
