"""The store's statements that never change, built once; `abmail.store` alone imports it.

Building a statement costs several times what running it does. Parameters: ``m`` a message's id, ``w`` a worker, ``e``
an experiment's name.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from abmail import _tables as t
from abmail._records import State

__all__ = [
    "ASSIGN",
    "ASSIGN_PLANNED",
    "BEGIN",
    "CLAIMED",
    "DROP_LEASES",
    "DUE",
    "EMAIL",
    "END",
    "EPOCHS",
    "EPOCH_VERSIONS",
    "EXPERIMENT",
    "EXPERIMENT_STATES",
    "EXPIRE",
    "HELD_ZONES",
    "IN_HAND",
    "KEEP",
    "LAST_SEND",
    "LOCKED",
    "LOSE",
    "MARK_SENT",
    "MARK_SUPPRESSED",
    "MESSAGE",
    "MESSAGES",
    "NEWEST_VERSION",
    "NEXT_DUE",
    "NEXT_IN_QUEUE",
    "NEXT_PLANNED",
    "NEXT_ZONE",
    "N_EPOCHS",
    "PAUSE",
    "PUT_BACK",
    "RECIPIENTS",
    "RECLAIM",
    "RELEASE",
    "RENEW",
    "RESEND",
    "RESUME",
    "SOFT_BOUNCES",
    "STATES",
    "STOPPED_ARMS",
    "TALLY",
    "TALLY_BY_STRATUM",
    "UNSETTLED",
    "VERSION_FILES",
    "WORKERS",
    "Upserts",
]

_m: sa.BindParameter[str] = sa.bindparam("m")
_ids: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_suppressed = sa.or_(
    sa.exists().where(t.recipients.c.id == t.messages.c.recipient, t.suppressions.c.email == t.recipients.c.email),
    sa.exists().where(t.recipients.c.id == t.messages.c.recipient, t.recipients.c.erased_at.is_not(None)),
)
_sends = sa.exists().where(
    t.experiments.c.name == t.messages.c.experiment,
    t.experiments.c.state == "running",
    t.experiments.c.paused_at.is_(None),
)
_waiting = t.messages.c.id.in_(_ids) & (t.messages.c.state == State.ASSIGNED.value)
_free = t.messages.c.id.not_in(sa.select(t.leases.c.message))  # PostgreSQL makes a hash of them, once for a statement
_in_claim: sa.Select[Any] = sa.select(
    t.messages.c.id, t.messages.c.experiment, t.messages.c.recipient, t.messages.c.epoch, t.messages.c.cell,
    t.messages.c.attempts, t.messages.c.first_attempt_at, t.messages.c.expires_at, t.messages.c.tracking,
    t.messages.c.stratum,
)  # fmt: skip

DUE = (
    _in_claim.where(t.messages.c.experiment == sa.bindparam("e"), t.messages.c.state == State.ASSIGNED.value)
    .where(t.messages.c.zone == sa.bindparam("z"), t.messages.c.due_at <= sa.bindparam("now"), _free)
    .where(
        sa.exists().where(
            t.experiments.c.name == sa.bindparam("e"),
            t.experiments.c.state == "running",
            t.experiments.c.paused_at.is_(None),
        )
    )
    .order_by(t.messages.c.due_at, t.messages.c.position)
    .limit(sa.bindparam("n"))
    .with_for_update(skip_locked=True, of=t.messages)
)
"""The first messages of an experiment that are due in a zone and that nobody holds.

Those of one epoch fall due together, and then come in the order of a hash that knows nothing of the variants: where
sending is slow or stops, all variants are hit alike. An epoch writes its rows in this order, so they lie together, and
all that a claim needs of them is read here: by their ids, each would be on another page of the index.
"""

CLAIMED = _in_claim.where(t.messages.c.id.in_(_ids), t.messages.c.epoch.is_not(None))
"""The same of the messages ``ids``, of those that have a cell."""

RECIPIENTS = sa.select(t.recipients).where(t.recipients.c.id.in_(_ids))
EPOCH_VERSIONS = sa.select(t.epochs.c.number, t.epochs.c.version).where(
    t.epochs.c.experiment == sa.bindparam("e"), t.epochs.c.number.in_(sa.bindparam("numbers", expanding=True))
)
NEXT_DUE = (
    sa.select(t.messages.c.due_at)
    .where(t.messages.c.experiment == sa.bindparam("e"), t.messages.c.state == State.ASSIGNED.value)
    .where(t.messages.c.zone == sa.bindparam("z"), t.messages.c.due_at.is_not(None), _free)
    .order_by(t.messages.c.due_at, t.messages.c.position)
    .limit(1)
)
"""When the first message of an experiment falls due in a zone that nobody holds."""

EXPIRE = (
    t.messages.update().where(t.messages.c.id.in_(_ids)).values(state=State.EXPIRED.value, error=sa.bindparam("why"))
)
BEGIN = (
    t.messages.update()
    .where(_waiting & ~_suppressed & _sends)
    .where(t.messages.c.expires_at.is_(None) | (t.messages.c.expires_at > sa.bindparam("now")))
    .values(
        state=State.SENDING.value,
        attempted_at=sa.bindparam("now"),
        first_attempt_at=sa.func.coalesce(t.messages.c.first_attempt_at, sa.bindparam("now", type_=t.UTCDateTime)),
        attempts=t.messages.c.attempts + 1,
    )
    .returning(t.messages.c.id)
)
MARK_SUPPRESSED = t.messages.update().where(_waiting & _suppressed).values(state=State.SUPPRESSED.value)
MARK_SENT = (
    t.messages.update()
    .where(t.messages.c.id == _m)
    .values(
        state=State.SENT.value, sent_at=sa.bindparam("now"), error=None,
        links=sa.func.coalesce(sa.bindparam("n", type_=sa.Integer), t.messages.c.links),
    )
)  # fmt: skip
END = (
    t.messages.update()
    .where(t.messages.c.id == _m)
    .values(state=sa.bindparam("s"), error=sa.bindparam("why"), code=sa.bindparam("said"), refusal=sa.bindparam("kind"))
)
PUT_BACK = (
    t.messages.update()
    .where(t.messages.c.id == _m)
    .values(
        state=sa.bindparam("s"), due_at=sa.bindparam("due"),
        attempts=t.messages.c.attempts - sa.bindparam("off", type_=sa.Integer),
        error=sa.func.coalesce(sa.bindparam("why", type_=sa.Text), t.messages.c.error),
        code=sa.func.coalesce(sa.bindparam("said", type_=sa.Integer), t.messages.c.code),
    )
)  # fmt: skip

EXPERIMENT_STATES = (
    sa.select(t.experiments.c.name, t.experiments.c.state)
    .where(t.experiments.c.name.in_(sa.bindparam("names", expanding=True)))
    .order_by(t.experiments.c.name)
    .with_for_update(read=True)
)
"""States of experiments, which nobody can change before this transaction ends."""

EMAIL = sa.select(t.recipients.c.email).where(t.recipients.c.id == sa.bindparam("r"))
SOFT_BOUNCES = (
    sa.select(sa.func.count())
    .select_from(t.messages)
    .where(t.messages.c.recipient == sa.bindparam("r"), t.messages.c.refusal == "soft")
    .where(t.messages.c.attempted_at > sa.bindparam("since"))
)

HELD_ZONES = (
    sa.select(t.messages.c.zone)
    .join(t.leases, t.leases.c.message == t.messages.c.id)
    .where(t.messages.c.experiment == sa.bindparam("e"), t.messages.c.state == State.ASSIGNED.value)
    .distinct()
)
"""Zones of an experiment in which somebody holds messages that are not sent yet."""

WORKERS = sa.select(t.leases.c.worker).distinct()
RENEW = t.leases.update().where(t.leases.c.worker == sa.bindparam("w")).values(until=sa.bindparam("until"))
KEEP = RENEW.where(t.leases.c.message.in_(_ids)).returning(t.leases.c.message)
"""Renew a worker's leases of the messages ``ids``, those that it still has."""

DROP_LEASES = (
    t.leases.delete()
    .where(t.leases.c.message.in_(_ids), t.leases.c.worker == sa.bindparam("w"))
    .returning(t.leases.c.message)
)
RELEASE = t.leases.delete().where(
    t.leases.c.worker == sa.bindparam("w"),
    ~sa.exists().where(t.messages.c.id == t.leases.c.message, t.messages.c.state == State.SENDING.value),
)
RECLAIM = (
    t.leases.delete()
    .where(t.leases.c.worker.in_(sa.bindparam("dead", expanding=True)) | (t.leases.c.until <= sa.bindparam("now")))
    .returning(t.leases.c.message)
)
"""Take back the leases of dead workers, and those that are over."""

LOSE = (
    t.messages.update()
    .where(t.messages.c.id.in_(_ids), t.messages.c.state == State.SENDING.value)
    .values(state=State.UNCERTAIN.value, error=sa.bindparam("why"))
)
RESEND = (
    t.messages.update()
    .where(t.messages.c.experiment == sa.bindparam("e"), t.messages.c.state == State.UNCERTAIN.value)
    .where(t.messages.c.resends == 0, t.messages.c.attempted_at <= sa.bindparam("before"))
    .values(
        state=State.ASSIGNED.value, due_at=sa.bindparam("now"),
        resends=t.messages.c.resends + 1,
    )
)  # fmt: skip

_opened_at = (
    sa.select(t.epochs.c.opened_at)
    .where(t.epochs.c.experiment == t.messages.c.experiment, t.epochs.c.number == t.messages.c.epoch)
    .scalar_subquery()
)
MESSAGE = (
    sa.select(t.messages, t.recipients.c.email, _opened_at.label("opened_at"))
    .join(t.recipients)
    .where(t.messages.c.id == _m)
)
"""A message with its recipient's address and the time its epoch opened."""

MESSAGES = sa.select(t.messages, t.recipients.c.email).join(t.recipients).where(t.messages.c.id.in_(_ids))
"""Several messages with their recipients' addresses."""

LOCKED = MESSAGE.with_for_update(of=t.messages)
IN_HAND: sa.Select[Any] = (
    sa.select(
        t.messages.c.id, t.messages.c.experiment, t.messages.c.recipient, t.messages.c.epoch, t.messages.c.cell,
        t.messages.c.stratum, t.messages.c.state, t.messages.c.tracking,
        t.messages.c.attempted_at, _opened_at.label("opened_at"),
    )
    .where(t.messages.c.id.in_(_ids))
    .order_by(t.messages.c.id)
    .with_for_update(of=t.messages)
)  # fmt: skip
"""The messages ``ids`` as far as their outcome needs them, locked in one order."""

_e: sa.BindParameter[str] = sa.bindparam("e")

NEXT_IN_QUEUE = (
    sa.select(t.messages.c.id.label("message"), t.recipients)
    .join(t.recipients)
    .where(t.messages.c.experiment == _e, t.messages.c.state == State.QUEUED.value, t.messages.c.due_at.is_(None))
    .where(t.messages.c.zone.in_(sa.bindparam("zones", expanding=True)))
    .order_by(t.messages.c.position, t.messages.c.id)
    .limit(sa.bindparam("n"))
)
"""The first ``n`` of the queue in some ``zones``, in the order of the waves."""

NEXT_PLANNED = (
    sa.select(t.messages.c.id.label("message"), t.recipients)
    .join(t.recipients)
    .where(t.messages.c.experiment == _e, t.messages.c.state == State.QUEUED.value)
    .where(t.messages.c.due_at < sa.bindparam("before"), t.messages.c.zone.in_(sa.bindparam("zones", expanding=True)))
    .order_by(t.messages.c.position, t.messages.c.id)
    .limit(sa.bindparam("n"))
)
"""The first ``n`` of those whose own moment comes ``before`` another, in the order of the waves."""

ASSIGN_PLANNED = (
    t.messages.update()
    .where(t.messages.c.id == _m)
    .values(
        state=State.ASSIGNED.value, epoch=sa.bindparam("number"), cell=sa.bindparam("c"),
        propensity=sa.bindparam("p"), stratum=sa.bindparam("s"), tracking=sa.bindparam("t"),
    )
)  # fmt: skip
"""A cell for a message that keeps its own moment."""

ASSIGN = (
    t.messages.update()
    .where(t.messages.c.id == _m)
    .values(
        state=State.ASSIGNED.value, epoch=sa.bindparam("number"), due_at=sa.bindparam("due"),
        expires_at=sa.bindparam("late"), cell=sa.bindparam("c"), propensity=sa.bindparam("p"),
        stratum=sa.bindparam("s"), tracking=sa.bindparam("t"),
    )
)  # fmt: skip
NEXT_ZONE = sa.select(sa.func.min(t.messages.c.zone)).where(
    t.messages.c.experiment == _e, t.messages.c.state == sa.bindparam("s"), t.messages.c.zone > sa.bindparam("after")
)
"""The first zone of the messages in a state that comes ``after`` another: a few steps in an index, not a scan."""

PAUSE = (
    t.experiments.update()
    .where(t.experiments.c.name == _e, t.experiments.c.state == "running", t.experiments.c.paused_at.is_(None))
    .values(paused_at=sa.bindparam("now"), pause_reason=sa.bindparam("why"))
)
RESUME = (
    t.experiments.update()
    .where(t.experiments.c.name == _e, t.experiments.c.paused_at.is_not(None))
    .values(paused_at=None, pause_reason=None)
)

NEWEST_VERSION = sa.select(sa.func.coalesce(sa.func.max(t.versions.c.version), 0)).where(t.versions.c.experiment == _e)
EXPERIMENT = (
    sa.select(t.experiments, t.versions)
    .join(t.versions)
    .where(t.experiments.c.name == _e, t.versions.c.version == sa.bindparam("v"))
)
"""An experiment with its version ``v``."""

VERSION_FILES = (
    sa.select(t.version_files.c.path, t.version_files.c.content)
    .where(t.version_files.c.experiment == _e, t.version_files.c.version == sa.bindparam("v"))
    .order_by(t.version_files.c.path)
)

EPOCHS = sa.select(t.epochs).where(t.epochs.c.experiment == _e).order_by(t.epochs.c.number)
N_EPOCHS = sa.select(sa.func.count()).select_from(t.epochs).where(t.epochs.c.experiment == _e)

_mails = t.messages.c.experiment == _e
STATES = sa.select(t.messages.c.state, sa.func.count()).where(_mails).group_by(t.messages.c.state)
LAST_SEND = (
    sa.select(t.messages.c.epoch, sa.func.max(t.messages.c.attempted_at))
    .where(_mails, t.messages.c.attempted_at.is_not(None))
    .group_by(t.messages.c.epoch)
)
"""Per epoch, when its last message was handed over."""

UNSETTLED = (
    sa.select(t.messages.c.epoch, sa.func.count())
    .where(_mails, t.messages.c.epoch.is_not(None))
    .where(t.messages.c.state.in_([State.ASSIGNED.value, State.SENDING.value]))
    .group_by(t.messages.c.epoch)
)
"""Per epoch, the number of messages that may still go out."""

_place = (t.counts.c.epoch, t.counts.c.cell, t.counts.c.metric, t.counts.c.bin)
TALLY = (
    sa.select(*_place, sa.func.sum(t.counts.c.n)).where(t.counts.c.experiment == _e).group_by(*_place).order_by(*_place)
)
"""The counts over all strata."""

TALLY_BY_STRATUM = (
    sa.select(t.counts.c.stratum, *_place, t.counts.c.n)
    .where(t.counts.c.experiment == _e, t.counts.c.stratum != "")
    .order_by(t.counts.c.stratum, *_place)
)
"""The counts of each segment that has weights of its own."""

STOPPED_ARMS = sa.select(t.stopped_arms).where(t.stopped_arms.c.experiment == _e).order_by(t.stopped_arms.c.at)


def _each_id(dialect: str) -> sa.ColumnElement[str]:
    """The texts of a list in JSON, one a row: a parameter each takes the database as long as the rest of a claim."""
    ids = sa.bindparam("ids", type_=sa.Text)
    if dialect == "postgresql":
        return sa.func.json_array_elements_text(sa.cast(ids, sa.JSON), type_=sa.Text)
    return sa.func.json_each(ids).table_valued("value").c.value


class Upserts:
    """The statements whose form depends on the database.

    Attributes:
        count: Adds ``n`` to a row of the counts, or makes the row.
        crowd: Notes that a hit was counted and returns its key, or nothing where it had been.
        event: Appends an event and returns its key, or nothing where it is known.
        lease: Notes who holds the messages ``ids`` (JSON) and returns their ids, without those of another worker.
        source: Notes who reports a kind of event, and since when.
        suppression: As ``event``, for a suppressed address.
    """

    __slots__ = ("count", "crowd", "event", "lease", "source", "suppression")

    def __init__(self, dialect: str) -> None:
        make: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
        add = make(t.counts)
        self.count = add.on_conflict_do_update(
            index_elements=list(t.counts.primary_key.columns), set_={"n": t.counts.c.n + add.excluded.n}
        )
        first = make(t.event_sources)
        known, new = t.event_sources.c.first_at, first.excluded.first_at
        self.source = first.on_conflict_do_update(
            index_elements=list(t.event_sources.primary_key.columns),
            set_={"first_at": sa.case((new < known, new), else_=known)},
        )
        self.crowd = make(t.crowd_hits).on_conflict_do_nothing().returning(t.crowd_hits.c.id, t.crowd_hits.c.metric)
        holder = (sa.bindparam("w", type_=sa.Text), sa.bindparam("until", type_=t.UTCDateTime))
        columns = [column.name for column in t.leases.columns]
        lease = make(t.leases).from_select(columns, sa.select(_each_id(dialect), *holder).where(sa.true()))
        self.lease = lease.on_conflict_do_nothing().returning(t.leases.c.message)
        self.event = make(t.events).on_conflict_do_nothing().returning(t.events.c.key)
        self.suppression = make(t.suppressions).on_conflict_do_nothing().returning(t.suppressions.c.email)
