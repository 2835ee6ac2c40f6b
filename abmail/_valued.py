"""What the mails of an experiment brought in, mail by mail; only `abmail.store` imports this module."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from abmail import _tables as t
from abmail._company import home_of
from abmail._records import State, ValuedMail
from abmail.events import HUMAN_LIKELY

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["values_of"]

_BATCH: Final = 1_000
_VALUED: Final = (
    sa.select(
        t.messages.c.id,
        t.messages.c.epoch,
        t.messages.c.cell,
        t.messages.c.attempted_at,
        t.events.c.at,
        t.events.c.body,
        t.events.c.source,
        t.recipients.c.email,
    )
    .select_from(
        t.events.join(t.messages, t.messages.c.id == t.events.c.message).join(
            t.recipients, t.recipients.c.id == t.messages.c.recipient
        )
    )
    .where(
        t.messages.c.experiment == sa.bindparam("e"),
        t.messages.c.state == State.SENT.value,
        t.events.c.type == sa.bindparam("type"),
        t.events.c.verdict.in_([verdict.value for verdict in HUMAN_LIKELY]),
    )
)


def values_of(db: sa.Connection, name: str, event: str, *, window: float, source: str | None) -> tuple[ValuedMail, ...]:
    """Sum the values of each mail's events; an event without a value counts as 1.

    Args:
        db: The transaction; what it sees is of one moment.
        name: The experiment.
        event: The type of event that carries values.
        window: Longest delay after the send that counts, seconds.
        source: Whose reports count; None for all.
    """
    total: defaultdict[str, float] = defaultdict(float)
    place: dict[str, tuple[int, int, str]] = {}
    found = db.execute(_VALUED, {"e": name, "type": event}, execution_options={"yield_per": _BATCH})
    for row in found:
        if source not in {None, row.source}:
            continue
        if (row.at - row.attempted_at).total_seconds() < window:
            total[row.id] += _value(row.body)
            place[row.id] = row.epoch, row.cell, home_of(row.email)
    # By what they are, not by their ids: sums stay the same to the last bit when a mail gets a new one.
    return tuple(sorted((ValuedMail(*place[mail], total[mail]) for mail in total), key=_in_order))


def _in_order(mail: ValuedMail) -> tuple[int, int, float, str]:
    return mail.epoch, mail.cell, mail.value, mail.company


def _value(body: Mapping[str, object]) -> float:
    value = body.get("value")
    return float(value) if isinstance(value, int | float) else 1.0
