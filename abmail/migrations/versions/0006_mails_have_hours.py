"""Mails can have a moment of their own before they get a variant."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from abmail._tables import UTCDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the releases of an experiment, and how each mail came by its hour; there are none of older mails."""
    op.create_table(
        "releases",
        sa.Column("experiment", sa.Text(), sa.ForeignKey("experiments.name"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("weights", sa.JSON(), nullable=True),
        sa.Column("habits", sa.JSON(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
    )
    op.create_table(
        "send_slots",
        sa.Column("message", sa.String(32), sa.ForeignKey("messages.id"), primary_key=True),
        sa.Column("release", sa.Integer(), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("ahead", sa.Integer(), nullable=False),
        sa.Column("arm", sa.Text(), nullable=False),
        sa.Column("control", sa.Boolean(), nullable=False),
        sa.Column("propensity", sa.Float(), nullable=True),
        sa.Column("chance", sa.Float(), nullable=True),
        sa.Column("chance_fixed", sa.Float(), nullable=True),
    )
