"""What the companies of an experiment did; only `abmail.store` imports this module."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from abmail import _tables as t
from abmail._company import home_of
from abmail._records import CompanyMails, State, Tracking

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["companies_of"]

_BATCH: Final = 10_000
_UNWANTED: Final = ("unsubscribed", "complained", "bounced")
_MAILS = t.messages.join(t.recipients, t.recipients.c.id == t.messages.c.recipient)
_SENT: Final = (
    sa.select(t.messages.c.epoch, t.messages.c.cell, t.messages.c.stratum, t.recipients.c.email)
    .select_from(_MAILS)
    .where(t.messages.c.experiment == sa.bindparam("e"), t.messages.c.state == State.SENT.value)
    .where(t.messages.c.tracking == Tracking.PERSON)
)
_ANSWERED: Final = (
    _SENT.add_columns(t.messages.c.attempted_at, t.outcomes.c.metric, t.outcomes.c.at)
    .select_from(_MAILS.join(t.outcomes, t.outcomes.c.message == t.messages.c.id))
    .where(
        t.outcomes.c.metric.startswith(sa.bindparam("metric"))
        | t.outcomes.c.metric.in_(_UNWANTED)
    )
)  # fmt: skip

_Place = tuple[int, int, str, str]


def companies_of(db: sa.Connection, name: str, metric: str, *, window: float) -> tuple[CompanyMails, ...]:
    """Count each company's tracked mails, those that were answered, and those that brought an unwanted event.

    Args:
        db: The transaction; what it sees is of one moment.
        name: The experiment.
        metric: The outcome that counts; it is counted by every choice of verdicts.
        window: Longest delay after the send that counts for ``metric``, seconds.
    """
    sent = Counter(place for place, _ in _rows(db, _SENT, {"e": name}))
    answers = _rows(db, _ANSWERED, {"e": name, "metric": metric})
    answered: dict[_Place, Counter[str]] = {}
    for place, row in answers:
        if row.metric in _UNWANTED or (row.at - row.attempted_at).total_seconds() < window:
            answered.setdefault(place, Counter())[row.metric] += 1
    return tuple(CompanyMails(*place, n, answered.get(place, {})) for place, n in sorted(sent.items()))


def _rows(
    db: sa.Connection, query: sa.Select[tuple[object, ...]], known: dict[str, str]
) -> Iterator[tuple[_Place, sa.Row[tuple[object, ...]]]]:
    for row in db.execute(query, known, execution_options={"yield_per": _BATCH}):
        yield (row.epoch, row.cell, row.stratum, home_of(row.email)), row
