"""What was seen and is not judged yet: a queue in the database; only `abmail.store` imports it.

Judging an event among those around it costs ten times what keeping it does. The tracker keeps at once, and judges when
there is time; whoever decides by events judges what is left first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from abmail import _tables as t
from abmail.events import Event

__all__ = ["ADD", "length", "take"]

_log = logging.getLogger("abmail")

ADD: Final = t.journal.insert()
_FIRST = sa.select(t.journal).order_by(t.journal.c.number).limit(sa.bindparam("n"))
_numbers: sa.BindParameter[Any] = sa.bindparam("numbers", expanding=True)
_GONE = t.journal.delete().where(t.journal.c.number.in_(_numbers))
_LENGTH = sa.select(sa.func.count()).select_from(t.journal)


def take(db: sa.Connection, read: Callable[[str], Event], limit: int) -> tuple[int, Sequence[Event]]:
    """Take the oldest notes out: how many they were, and their events. One that cannot be read is logged."""
    rows = db.execute(_FIRST, {"n": limit}).all()
    if rows:
        db.execute(_GONE, {"numbers": [row.number for row in rows]})
    return len(rows), [event for row in rows if (event := _read(row.note, read)) is not None]


def _read(note: str, read: Callable[[str], Event]) -> Event | None:
    try:
        return read(note)
    except ValueError as error:
        _log.error("an open or click is lost: %s", error)
        return None


def length(db: sa.Connection) -> int:
    """Number of notes that wait."""
    return db.execute(_LENGTH).scalar_one()
