"""The statements of the hot path, built once, to send a mail and to record an event; `abmail.store` alone imports it.

Building a statement costs several times what running it does. Parameters: ``m`` a message's id, ``w`` a worker.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from abmail import _tables as t
from abmail._records import State

__all__ = [
    "BODIES",
    "FIRST",
    "LOCKED",
    "MARK_SENDING",
    "MARK_SENT",
    "MARK_SUPPRESSED",
    "MESSAGE",
    "MOVE_FIRST",
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
