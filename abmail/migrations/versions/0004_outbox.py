"""The outbox: pauses, times after which nothing is sent, what servers answered, and indexes for claims."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from abmail._indexes import create_later

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and indexes; senders of the version before may go on meanwhile."""
    time = sa.DateTime(timezone=True)
    op.add_column("experiments", sa.Column("paused_at", time))
    op.add_column("experiments", sa.Column("pause_reason", sa.Text()))
    op.add_column("messages", sa.Column("expires_at", time))
    op.add_column("messages", sa.Column("first_attempt_at", time))
    op.add_column("messages", sa.Column("code", sa.Integer()))
    op.add_column("messages", sa.Column("refusal", sa.Text()))
    op.add_column("messages", sa.Column("resends", sa.Integer(), nullable=False, server_default="0"))
    create_later("ix_messages_due", "messages", ["experiment", "state", "zone", "due_at", "position"])
    op.drop_index("ix_messages_queue", "messages")
    op.drop_index("ix_messages_worker", "messages")
    _create_partial("ix_messages_worker", ["state", "worker"], "worker IS NOT NULL")
    _create_partial("ix_messages_soft", ["recipient"], "refusal = 'soft'")


def _create_partial(name: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    create_later(name, "messages", columns, sqlite_where=where, postgresql_where=where)
