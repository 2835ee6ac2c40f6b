"""People can be forgotten: a keyed hash keeps them from being mailed again, and stand-ins keep their mails counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from abmail._tables import UTCDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of those who were forgotten, and what tells a stand-in; there are none of older times."""
    op.create_table(
        "forgotten",
        sa.Column("hash", sa.Text(), primary_key=True),
        sa.Column("at", UTCDateTime(), nullable=False),
    )
    op.add_column("recipients", sa.Column("erased_at", UTCDateTime(), nullable=True))
