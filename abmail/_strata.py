"""The counts of an experiment, one set for each value of an attribute; only `abmail.store` imports this module."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from abmail import _tables as t
from abmail._records import State, Tally, bin_of, sends_of, to_tally
from abmail.recipient import email_domain

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DOMAIN", "HOUR", "tallies_by"]

DOMAIN: Final = "domain"
"""What stands for the domain of the recipient's address, instead of the name of an attribute."""

HOUR: Final = "hour"
"""What stands for the part of the day in which the mail went out, by the recipient's clock."""

_BATCH: Final = 1_000
_PARTS: Final = (0, 6, 10, 14, 18, 24)  # hours at which the parts of the day begin, and the end
_e: sa.BindParameter[str] = sa.bindparam("e")
_ledger = t.messages.join(t.recipients).outerjoin(
    t.epochs, (t.epochs.c.experiment == t.messages.c.experiment) & (t.epochs.c.number == t.messages.c.epoch)
)
_place = (
    t.messages.c.epoch, t.messages.c.cell, t.messages.c.attempted_at, t.messages.c.zone, t.recipients.c.email,
    t.recipients.c.attributes,
)  # fmt: skip
_SENDS: sa.Select[Any] = (
    sa.select(t.messages.c.state, t.messages.c.tracking, t.epochs.c.opened_at, *_place)
    .select_from(_ledger)
    .where(t.messages.c.experiment == _e)
)
_OUTCOMES: sa.Select[Any] = (
    sa.select(t.outcomes.c.metric, t.outcomes.c.at, *_place)
    .select_from(t.outcomes.join(t.messages).join(t.recipients))
    .where(t.messages.c.experiment == _e)
)


def tallies_by(db: sa.Connection, name: str, by: str, *, n_epochs: int, n_cells: int) -> dict[str, Tally]:
    """Group the ledger and its outcomes by an attribute of the recipients, in the bins of the kept counts.

    Attributes are read in Python, in batches: their names are any text, which no path into JSON is safe for.

    Args:
        db: The transaction; what it sees is of one moment.
        name: The experiment.
        by: Name of an attribute, ``domain`` for the domain of the address, or ``hour`` for the part of the day.
        n_epochs: Number of epochs.
        n_cells: Number of cells.

    Returns:
        Value -> counts, by value; ``""`` for recipients without the attribute. They add up to the kept counts.

    Raises:
        ValueError: No recipient of the experiment has the attribute; the message names those there are.
    """
    totals: defaultdict[str, Counter[tuple[int, int, str, int]]] = defaultdict(Counter)
    known: set[str] = set()
    batches = {"yield_per": _BATCH}
    for row in db.execute(_SENDS, {"e": name}, execution_options=batches):
        known.update(row.attributes)
        if by == HOUR and row.attempted_at is None:
            continue
        total = totals[_value(row, by)]
        if row.state == State.SENT:
            for metric in sends_of(row):
                total[row.epoch, row.cell, metric, bin_of(row.opened_at, row.attempted_at)] += 1
    if by not in {DOMAIN, HOUR, *known}:
        raise ValueError(
            f"no recipient of {name} has the attribute '{by}'; there are: {', '.join(sorted({*known, DOMAIN, HOUR}))}"
        )
    for row in db.execute(_OUTCOMES, {"e": name}, execution_options=batches):
        place = row.epoch, row.cell, row.metric, bin_of(row.attempted_at, row.at)
        totals[_value(row, by)][place] += 1
    return {value: _tally(totals[value], n_epochs, n_cells) for value in sorted(totals)}


def _value(row: Any, by: str) -> str:
    if by == DOMAIN:
        return email_domain(row.email)
    if by == HOUR:
        return _part_of_day(row.attempted_at.astimezone(ZoneInfo(row.zone)).hour)
    return str(row.attributes.get(by, ""))


def _part_of_day(hour: int) -> str:
    """``10:00-14:00`` for the hours from 10 to 13."""
    start, end = next((start, end) for start, end in pairwise(_PARTS) if hour < end)
    return f"{start:02d}:00-{end:02d}:00"


def _tally(total: Mapping[tuple[int, int, str, int], int], n_epochs: int, n_cells: int) -> Tally:
    return to_tally([(*place, n) for place, n in sorted(total.items())], n_epochs, n_cells)
