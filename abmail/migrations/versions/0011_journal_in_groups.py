"""The journal keeps a group of notes in one row, with their number and the moment."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from abmail._tables import UTCDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the new table, and move what waits into it, each note a group of its own."""
    groups = op.create_table(
        "journal_groups",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("kept_at", UTCDateTime(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
    )
    old = sa.table("journal", sa.column("number"), sa.column("note"))
    now = sa.literal(datetime.now(UTC), UTCDateTime())
    waiting = sa.select(sa.literal(1), now, old.c.note).order_by(old.c.number)
    op.execute(groups.insert().from_select(["size", "kept_at", "notes"], waiting))
    op.drop_table("journal")
