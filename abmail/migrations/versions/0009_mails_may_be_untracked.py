"""Mails may go out without pixel and tracked links, or with such that tell the variant and nobody's name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add how a mail is tracked, all older ones by person, and the hits of mails that are counted without a person."""
    op.add_column("messages", sa.Column("tracking", sa.Text(), nullable=False, server_default="person"))
    op.create_table(
        "crowd_hits",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("metric", sa.Text(), primary_key=True),
    )
