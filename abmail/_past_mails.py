"""Mails that were sent and what people did with them; only `abmail.store` imports this module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from abmail import _tables as t
from abmail._connection import BATCH
from abmail._records import PastMail, State, Tracking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

__all__ = ["past_mails"]


_opened, _any_open, _clicked = (t.outcomes.alias(name) for name in ("opened", "any_open", "clicked"))
_ledger = t.messages.join(t.recipients)
for _table, _metric in ((_opened, "opened"), (_any_open, "opened_all"), (_clicked, "clicked")):
    _ledger = _ledger.outerjoin(_table, (_table.c.message == t.messages.c.id) & (_table.c.metric == _metric))
_PAST: Final = (
    sa.select(
        t.messages.c.recipient, t.messages.c.experiment, t.messages.c.zone, t.messages.c.attempted_at.label("sent_at"),
        t.recipients.c.attributes, _opened.c.at.label("opened_at"), _any_open.c.at.label("any_open_at"),
        _clicked.c.at.label("clicked_at"),
    )
    .select_from(_ledger)
    .where(t.messages.c.state == State.SENT.value, t.messages.c.attempted_at <= sa.bindparam("before"))
    .where(t.messages.c.tracking == Tracking.PERSON)
    .order_by(t.messages.c.attempted_at, t.messages.c.id)
)  # fmt: skip


def past_mails(db: sa.Connection, before: datetime) -> Iterator[PastMail]:
    """Mails sent until a moment, the oldest first.

    Args:
        db: The transaction.
        before: Aware UTC datetime.
    """
    for row in db.execute(_PAST, {"before": before}, execution_options={"yield_per": BATCH}):
        yield PastMail(
            recipient=row.recipient, experiment=row.experiment, zone=row.zone, sent_at=row.sent_at,
            attributes=row.attributes, opened_at=row.opened_at, clicked_at=row.clicked_at,
            machine=row.any_open_at is not None and row.opened_at is None,
        )  # fmt: skip
