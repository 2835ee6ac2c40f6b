"""Leases have a table of their own, so that a claim changes no message."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from abmail._tables import UTCDateTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the leases.

    A sender of the version before that still runs ends with an error before its next mail; what it has in its hands
    keeps its lease, and becomes uncertain as after any other crash.
    """
    if op.get_bind().dialect.name == "postgresql":  # nobody claims or begins between the copy and the end
        op.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
    op.create_table(
        "leases",
        sa.Column("message", sa.String(32), primary_key=True),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("until", UTCDateTime(), nullable=False),
    )
    op.execute(
        "INSERT INTO leases (message, worker, until) SELECT id, worker, lease_until FROM messages "
        "WHERE worker IS NOT NULL AND state IN ('assigned', 'sending')"
    )
    op.drop_index("ix_messages_worker", "messages", if_exists=True)  # PostgreSQL may not have come to build it
    for column in ("worker", "lease_until"):
        op.drop_column("messages", column)
