"""What was seen and is not judged yet: a queue in the database; only `abmail.store` imports it.

Judging an event among those around it costs ten times what keeping it does. The tracker keeps at once, and judges when
there is time; whoever decides by events judges what is left first. What came together is one row, a note a line.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from abmail import _tables as t
from abmail.events import Event

__all__ = ["Backlog", "backlog", "keep", "take"]

_log = logging.getLogger("abmail")

_j: Final = t.journal_groups
_number: sa.BindParameter[Any] = sa.bindparam("first")
_numbers: sa.BindParameter[Any] = sa.bindparam("numbers", expanding=True)
_ADD: Final = _j.insert()
_SIZES: Final = sa.select(_j.c.number, _j.c.size).order_by(_j.c.number).limit(sa.bindparam("n"))
_NOTES: Final = sa.select(_j.c.notes).where(_j.c.number.in_(_numbers)).order_by(_j.c.number)
_GONE: Final = _j.delete().where(_j.c.number.in_(_numbers))
_REST: Final = _j.update().where(_j.c.number == _number).values(size=sa.bindparam("left"), notes=sa.bindparam("rest"))
_BACKLOG: Final = sa.select(sa.func.coalesce(sa.func.sum(_j.c.size), 0), sa.func.min(_j.c.kept_at))


class Backlog(NamedTuple):
    """What waits to be judged.

    Attributes:
        size: Number of opens and clicks.
        since: When the one that waits longest was kept, aware UTC; None where none waits.
    """

    size: int
    since: datetime | None


def keep(db: sa.Connection, notes: Sequence[str], now: datetime) -> None:
    """Put notes at the end, as one row."""
    db.execute(_ADD, {"size": len(notes), "kept_at": now, "notes": "\n".join(notes)})


def take(db: sa.Connection, read: Callable[[str], Event], limit: int) -> tuple[int, Sequence[Event]]:
    """Take the oldest notes out: how many they were, and their events. One that cannot be read is logged."""
    groups = db.execute(_SIZES, {"n": limit}).all()
    sums = itertools.accumulate(row.size for row in groups)
    numbers = [row.number for row, up_to in zip(groups, sums, strict=True) if up_to - row.size < limit]
    if not numbers:
        return 0, []
    lines = [line for notes in db.execute(_NOTES, {"numbers": numbers}).scalars() for line in notes.split("\n")]
    if rest := lines[limit:]:
        db.execute(_REST, {"first": numbers.pop(), "left": len(rest), "rest": "\n".join(rest)})
    if numbers:
        db.execute(_GONE, {"numbers": numbers})
    taken = lines[:limit]
    return len(taken), [event for line in taken if (event := _read(line, read)) is not None]


def _read(note: str, read: Callable[[str], Event]) -> Event | None:
    try:
        return read(note)
    except ValueError as error:
        _log.error("an open or click is lost: %s", error)
        return None


def backlog(db: sa.Connection) -> Backlog:
    """What waits."""
    size, since = db.execute(_BACKLOG).one()
    return Backlog(int(size), since)
