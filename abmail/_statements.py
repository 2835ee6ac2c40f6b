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
    "BODIES",
    "CLAIMED",
    "EPOCHS",
    "EXPERIMENT",
    "EXPERIMENT_STATE",
    "FIRST",
    "LAST_SEND",
    "LOCKED",
    "MARK_SENDING",
    "MARK_SENT",
    "MARK_SUPPRESSED",
    "MESSAGE",
    "MOVE_FIRST",
    "NEWEST_VERSION",
    "NEXT_IN_QUEUE",
    "N_EPOCHS",
    "STATES",
    "TALLY",
    "UNSETTLED",
    "VERSION_FILES",
    "Upserts",
]

_m: sa.BindParameter[str] = sa.bindparam("m")
_suppressed = sa.exists().where(
    t.recipients.c.id == t.messages.c.recipient, t.suppressions.c.email == t.recipients.c.email
)
_mine = (
    (t.messages.c.id == _m) & (t.messages.c.worker == sa.bindparam("w")) & (t.messages.c.state == State.ASSIGNED.value)
)

MARK_SENDING = (
    t.messages.update()
    .where(_mine & ~_suppressed)
    .values(
        state=State.SENDING.value,
        attempted_at=sa.bindparam("now"),
        lease_until=sa.bindparam("until"),
        attempts=t.messages.c.attempts + 1,
    )
)
MARK_SUPPRESSED = t.messages.update().where(_mine & _suppressed).values(state=State.SUPPRESSED.value)
MARK_SENT = (
    t.messages.update()
    .where(t.messages.c.id == _m)
    .values(state=State.SENT.value, sent_at=sa.bindparam("now"), error=None)
)

EXPERIMENT_STATE = (
    sa.select(t.experiments.c.state)
    .join(t.messages)
    .where(t.messages.c.id == _m)
    .with_for_update(read=True, of=t.experiments)
)
"""State of a message's experiment, which nobody can change before this transaction ends."""

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

LOCKED = MESSAGE.with_for_update(of=t.messages)
BODIES = sa.select(t.events.c.body).where(t.events.c.message == _m)

_first = (t.outcomes.c.message == _m) & (t.outcomes.c.metric == sa.bindparam("k"))
FIRST = sa.select(t.outcomes.c.at).where(_first)
MOVE_FIRST = t.outcomes.update().where(_first).values(at=sa.bindparam("new"))

CLAIMED = (
    sa.select(
        t.messages.c.id.label("message"), t.messages.c.experiment, t.messages.c.epoch, t.messages.c.cell,
        t.messages.c.attempts, t.epochs.c.version, t.recipients,
    )
    .select_from(
        t.messages.join(t.recipients).join(
            t.epochs, (t.epochs.c.experiment == t.messages.c.experiment) & (t.epochs.c.number == t.messages.c.epoch)
        )
    )
    .where(t.messages.c.id.in_(sa.bindparam("ids", expanding=True)))
)  # fmt: skip
"""What it takes to send the messages ``ids``."""

_e: sa.BindParameter[str] = sa.bindparam("e")

NEXT_IN_QUEUE = (
    sa.select(t.messages.c.id.label("message"), t.recipients)
    .join(t.recipients)
    .where(t.messages.c.experiment == _e, t.messages.c.state == State.QUEUED.value)
    .where(t.messages.c.zone.in_(sa.bindparam("zones", expanding=True)))
    .order_by(t.messages.c.position, t.messages.c.id)
    .limit(sa.bindparam("n"))
)
"""The first ``n`` of the queue in some ``zones``, in the order of the waves."""

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


class Upserts:
    """The statements whose form depends on the database.

    Attributes:
        count: Adds ``n`` to a row of the counts, or makes the row.
        event: Appends an event and returns its key, or nothing where it is known.
        suppression: Likewise for a suppressed address.
    """

    __slots__ = ("count", "event", "suppression")

    def __init__(self, dialect: str) -> None:
        make: Any = postgresql.insert if dialect == "postgresql" else sqlite.insert
        add = make(t.counts)
        self.count = add.on_conflict_do_update(
            index_elements=list(t.counts.primary_key.columns), set_={"n": t.counts.c.n + add.excluded.n}
        )
        self.event = make(t.events).on_conflict_do_nothing().returning(t.events.c.key)
        self.suppression = make(t.suppressions).on_conflict_do_nothing().returning(t.suppressions.c.email)
