"""Events keep why they got their verdict, who reported them, and which message they wait for."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from abmail._indexes import create_later
from abmail._tables import UTCDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_PAGE = 5_000
_DOMAINS = {
    "sqlite": "UPDATE recipients SET domain = substr(email, instr(email, '@') + 1)",
    "postgresql": "UPDATE recipients SET domain = substring(email from position('@' in email) + 1)",
}


def upgrade() -> None:
    """Add the columns and tables, and fill what is known of older events.

    Their verdicts stay as they were given, and the strict counts of older experiments come with the first
    `abmail events rejudge`.
    """
    op.add_column("experiments", sa.Column("sources", sa.JSON(), nullable=True))
    op.add_column("messages", sa.Column("links", sa.Integer(), nullable=True))
    op.add_column("recipients", sa.Column("domain", sa.Text(), nullable=False, server_default=""))
    op.execute(_DOMAINS[op.get_bind().dialect.name])
    create_later("ix_recipients_domain", "recipients", ["domain"])
    op.add_column("events", sa.Column("source", sa.Text(), nullable=False, server_default=""))
    op.add_column("events", sa.Column("reasons", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("events", sa.Column("rules", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("events", sa.Column("network", sa.Text(), nullable=True))
    op.add_column("events", sa.Column("changed_at", UTCDateTime(), nullable=True))
    where = sa.text("network IS NOT NULL")
    create_later("ix_events_network", "events", ["network", "at"], sqlite_where=where, postgresql_where=where)
    op.create_table(
        "unmatched_events",
        sa.Column("key", sa.Text(), sa.ForeignKey("events.key"), primary_key=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("experiment", sa.Text(), nullable=False),
        sa.Column("recipient", sa.Text(), nullable=False),
    )
    op.create_index("ix_unmatched_events_message", "unmatched_events", ["message"])
    op.create_index("ix_unmatched_events_named", "unmatched_events", ["experiment", "recipient"])
    op.create_table(
        "event_sources",
        sa.Column("experiment", sa.Text(), primary_key=True),
        sa.Column("type", sa.Text(), primary_key=True),
        sa.Column("source", sa.Text(), primary_key=True),
        sa.Column("first_at", UTCDateTime(), nullable=False),
    )
    op.add_column("outcomes", sa.Column("seen_at", UTCDateTime(), nullable=True))
    op.execute("UPDATE outcomes SET seen_at = at")
    with op.batch_alter_table("outcomes") as outcomes:
        outcomes.alter_column("seen_at", existing_type=UTCDateTime(), nullable=False)
    create_later("ix_outcomes_seen_at", "outcomes", ["seen_at"])
    _fill(op.get_bind())


def _fill(db: sa.Connection) -> None:
    events = sa.table(
        "events", sa.column("key", sa.Text()), sa.column("message", sa.Text()), sa.column("type", sa.Text()),
        sa.column("at", UTCDateTime()), sa.column("body", sa.JSON()), sa.column("source", sa.Text()),
    )  # fmt: skip
    after = ""
    page = sa.select(events).where(events.c.key > sa.bindparam("after")).order_by(events.c.key).limit(_PAGE)
    named = events.update().where(events.c.key == sa.bindparam("k")).values(source=sa.bindparam("s"))
    while rows := db.execute(page, {"after": after}).all():
        db.execute(named, [{"k": row.key, "s": row.body["source"]} for row in rows])
        stray = [_named(row) for row in rows if row.message is None]
        if stray:
            db.execute(sa.table("unmatched_events", *(sa.column(name) for name in stray[0])).insert(), stray)
        after = rows[-1].key
    db.execute(
        sa.text(
            "INSERT INTO event_sources (experiment, type, source, first_at) "
            "SELECT messages.experiment, events.type, events.source, min(events.at) "
            "FROM events JOIN messages ON messages.id = events.message "
            "GROUP BY messages.experiment, events.type, events.source"
        )
    )


def _named(row: sa.Row[Any]) -> dict[str, str]:
    body = row.body
    return {
        "key": row.key, "message": body["message_id"], "experiment": body["experiment"],
        "recipient": body["recipient"],
    }  # fmt: skip
