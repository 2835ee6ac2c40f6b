"""Epochs know how many mails were left when they opened."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the number of mails that waited for later epochs; NULL in epochs that were opened before."""
    op.add_column("epochs", sa.Column("remaining", sa.Integer(), nullable=True))
