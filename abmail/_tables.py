"""The tables of the store. Only `abmail.store` and the migrations import this module."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

__all__ = [
    "SCHEMA_REVISION",
    "UTCDateTime",
    "counts",
    "crowd_hits",
    "epochs",
    "event_sources",
    "events",
    "experiments",
    "forgotten",
    "journal_groups",
    "leases",
    "messages",
    "metadata",
    "outcomes",
    "recipients",
    "releases",
    "send_slots",
    "stopped_arms",
    "suppressions",
    "unmatched_events",
    "versions",
]

SCHEMA_REVISION = "0012"
"""The newest migration; a test holds it against alembic's own head."""


class UTCDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on every database; SQLite, which knows no zones, holds it as naive UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Refuse naive times, and store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"the time {value} has no zone, must be an aware datetime")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, _dialect: sa.Dialect) -> datetime | None:
        """Return aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

recipients = sa.Table(
    "recipients",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("email", sa.Text, nullable=False, unique=True),
    sa.Column("attributes", sa.JSON, nullable=False),
    sa.Column("zone", sa.Text),
    sa.Column("imported_at", UTCDateTime, nullable=False),
    sa.Column("domain", sa.Text, nullable=False, server_default="", index=True),  # of the address
    sa.Column("erased_at", UTCDateTime),  # a stand-in for somebody who was erased: without address and attributes
)

suppressions = sa.Table(
    "suppressions",
    metadata,
    sa.Column("email", sa.Text, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", UTCDateTime, nullable=False),
)

forgotten = sa.Table(
    "forgotten",
    metadata,
    sa.Column("hash", sa.Text, primary_key=True),  # of the address, under a key that is not in the database
    sa.Column("at", UTCDateTime, nullable=False),
)

experiments = sa.Table(
    "experiments",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),  # running, finished, stopped
    sa.Column("started_at", UTCDateTime, nullable=False),
    sa.Column("ended_at", UTCDateTime),
    sa.Column("verdict", sa.JSON),  # how the test was settled: {state, arm, reason, then, by}
    sa.Column("paused_at", UTCDateTime),  # no mail goes out until it is resumed
    sa.Column("pause_reason", sa.Text),
    sa.Column("sources", sa.JSON(none_as_null=True)),  # {kind of event: whose reports count}, where that was set
)

versions = sa.Table(
    "versions",
    metadata,
    sa.Column("experiment", sa.Text, sa.ForeignKey("experiments.name"), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("spec_hash", sa.Text, nullable=False),
    sa.Column("content_hash", sa.Text, nullable=False),  # definition and templates
    sa.Column("definition", sa.JSON, nullable=False),
    sa.Column("template", sa.Text, nullable=False),
    sa.Column("text_template", sa.Text),
    sa.Column("waves", sa.JSON, nullable=False),  # planned size of each epoch
    sa.Column("applied_at", UTCDateTime, nullable=False),
)

version_files = sa.Table(
    "version_files",
    metadata,
    sa.Column("experiment", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),  # in the project
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.ForeignKeyConstraint(["experiment", "version"], ["versions.experiment", "versions.version"]),
)

epochs = sa.Table(
    "epochs",
    metadata,
    sa.Column("experiment", sa.Text, sa.ForeignKey("experiments.name"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("opened_at", UTCDateTime, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("planned", sa.Integer, nullable=False),
    sa.Column("weights", sa.JSON, nullable=False),
    sa.Column("policy", sa.JSON, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("remaining", sa.Integer),  # mails that waited for later epochs when it opened
    sa.Column("segments", sa.JSON(none_as_null=True)),  # {segment: weights} where segments have weights of their own
)

stopped_arms = sa.Table(
    "stopped_arms",
    metadata,
    sa.Column("experiment", sa.Text, sa.ForeignKey("experiments.name"), primary_key=True),
    sa.Column("cell", sa.Text, primary_key=True),
    sa.Column("at", UTCDateTime, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("by", sa.Text, nullable=False),  # hand, guardrail
)


def _where(name: str, condition: str, *columns: str) -> sa.Index:
    """An index over a few of the rows."""
    where = sa.text(condition)
    return sa.Index(name, *columns, sqlite_where=where, postgresql_where=where)


messages = sa.Table(
    "messages",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("experiment", sa.Text, sa.ForeignKey("experiments.name"), nullable=False),
    sa.Column("recipient", sa.Text, sa.ForeignKey("recipients.id"), nullable=False),
    sa.Column("step", sa.Integer, nullable=False, server_default="0"),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),  # the order of the waves: a hash of its own
    sa.Column("zone", sa.Text, nullable=False),
    sa.Column("epoch", sa.Integer),
    sa.Column("cell", sa.Integer),
    sa.Column("propensity", sa.Float),
    sa.Column("stratum", sa.Text, nullable=False, server_default=""),  # its segment when it got its cell
    sa.Column("due_at", UTCDateTime),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("attempted_at", UTCDateTime),  # the last time that the transport was called
    sa.Column("sent_at", UTCDateTime),
    sa.Column("error", sa.Text),
    sa.Column("expires_at", UTCDateTime),  # never sent after this
    sa.Column("first_attempt_at", UTCDateTime),
    sa.Column("code", sa.Integer),  # the server's last reply code
    sa.Column("refusal", sa.Text),  # hard, soft, policy or other, where it was refused for good
    sa.Column("resends", sa.Integer, nullable=False, server_default="0"),  # times it was sent again while uncertain
    sa.Column("links", sa.Integer),  # tracked links in it
    sa.Column("tracking", sa.Text, nullable=False, server_default="person"),  # person, crowd, none
    sa.UniqueConstraint("experiment", "recipient", "step"),
    sa.Index("ix_messages_due", "experiment", "state", "zone", "due_at", "position"),
    _where("ix_messages_soft", "refusal = 'soft'", "recipient"),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("message", sa.String(32), primary_key=True),  # no foreign key: each check would look for its row anew
    sa.Column("worker", sa.Text, nullable=False),
    sa.Column("until", UTCDateTime, nullable=False),
)
"""The messages that workers hold: what each has claimed and not sent yet, and what it sends now."""

releases = sa.Table(
    "releases",
    metadata,
    sa.Column("experiment", sa.Text, sa.ForeignKey("experiments.name"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("at", UTCDateTime, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("skipped", sa.Integer, nullable=False),  # mails that no hour was left for
    sa.Column("weights", sa.JSON(none_as_null=True)),  # {hour of the day: share} where hours are compared
    sa.Column("habits", sa.JSON(none_as_null=True)),  # when people read, as it was known then
    sa.Column("reason", sa.Text, nullable=False),
)

send_slots = sa.Table(
    "send_slots",
    metadata,
    sa.Column("message", sa.String(32), sa.ForeignKey("messages.id"), primary_key=True),
    sa.Column("release", sa.Integer, nullable=False),
    sa.Column("hour", sa.Integer, nullable=False),  # of the recipient's week, 0 = Monday 00:00
    sa.Column("ahead", sa.Integer, nullable=False),  # seconds that the recipient's clock is ahead of UTC then
    sa.Column("arm", sa.Text, nullable=False),  # best, explore, control, forced, test, moved
    sa.Column("control", sa.Boolean, nullable=False),  # whether the recipient is one of those with the fixed hour
    sa.Column("propensity", sa.Float),
    sa.Column("chance", sa.Float),  # of an open at this hour, as it was predicted
    sa.Column("chance_fixed", sa.Float),
)

events = sa.Table(
    "events",
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("message", sa.String(32), index=True),  # NULL: no message of ours is known by that id
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("at", UTCDateTime, nullable=False),  # as its source claims, but never after it was seen
    sa.Column("seen_at", UTCDateTime, nullable=False),
    sa.Column("verdict", sa.Text, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),  # the whole event as it came
    sa.Column("source", sa.Text, nullable=False, server_default=""),
    sa.Column("reasons", sa.BigInteger, nullable=False, server_default="0"),  # bits of abmail.events.Reason
    sa.Column("rules", sa.Integer, nullable=False, server_default="0"),  # version that judged it, 0 for none yet
    sa.Column("network", sa.Text),  # keyed hash of where the request came from
    sa.Column("changed_at", UTCDateTime),  # when its verdict last changed
    _where("ix_events_network", "network IS NOT NULL", "network", "at"),
)

unmatched_events = sa.Table(
    "unmatched_events",
    metadata,
    sa.Column("key", sa.Text, sa.ForeignKey("events.key"), primary_key=True),
    sa.Column("message", sa.Text, nullable=False, index=True),  # the id that the event names, else empty
    sa.Column("experiment", sa.Text, nullable=False),
    sa.Column("recipient", sa.Text, nullable=False),
    sa.Index("ix_unmatched_events_named", "experiment", "recipient"),
)
"""Events that wait for their message to become known."""

event_sources = sa.Table(
    "event_sources",
    metadata,
    sa.Column("experiment", sa.Text, primary_key=True),
    sa.Column("type", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("first_at", UTCDateTime, nullable=False),
)
"""Who reports which kinds of events of an experiment, and since when."""

journal_groups = sa.Table(
    "journal_groups",
    metadata,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("size", sa.Integer, nullable=False),  # before the notes: it is summed without reading these
    sa.Column("kept_at", UTCDateTime, nullable=False),
    sa.Column("notes", sa.Text, nullable=False),  # one a line
)
"""Opens and clicks that were seen together and are not judged yet; see `abmail._event_notes`."""

outcomes = sa.Table(
    "outcomes",
    metadata,
    sa.Column("message", sa.String(32), sa.ForeignKey("messages.id"), primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("at", UTCDateTime, nullable=False),  # the first such event
    sa.Column("seen_at", UTCDateTime, nullable=False, index=True),  # when we learned of it
)

crowd_hits = sa.Table(
    "crowd_hits",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),  # of a mail's token, which no table knows beside its recipient
    sa.Column("metric", sa.Text, primary_key=True),
)
"""What was counted once already of mails that are counted without a person."""

counts = sa.Table(
    "counts",
    metadata,
    sa.Column("experiment", sa.Text, primary_key=True),
    sa.Column("epoch", sa.Integer, primary_key=True),
    sa.Column("cell", sa.Integer, primary_key=True),
    sa.Column("stratum", sa.Text, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("bin", sa.Integer, primary_key=True),  # 10-minute steps: age of the epoch for sends, delay for outcomes
    sa.Column("n", sa.Integer, nullable=False),
)
