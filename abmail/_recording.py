"""Takes events in: each once, in any order, before or after its message is known; only `abmail.store` imports it.

Everything that follows from an event is done in the transaction that stores it: verdicts, the ledger, outcomes and
counts (and with these the delays that policies learn from), suppressions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from abmail import _statements as sql
from abmail import _tables as t
from abmail._outcomes import locked, take_turns
from abmail._records import Recorded, State, proves_delivery, suppression_reason
from abmail._soft_bounces import soft_bouncer
from abmail.events import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from abmail._claims import Claims
    from abmail._event_sources import Sources
    from abmail._outcomes import Outcomes

__all__ = ["Recorder"]

_CHUNK: Final = 1_000
_NEWEST = (
    sa.select(t.messages.c.id)
    .where(t.messages.c.experiment == sa.bindparam("e"), t.messages.c.recipient == sa.bindparam("r"))
    .order_by(t.messages.c.step.desc())
    .limit(1)
)
_KNOWN_NOW = (
    sa.select(t.events.c.key, t.events.c.body, t.events.c.seen_at, t.messages.c.id.label("found"))
    .select_from(t.unmatched_events.join(t.events))
    .join(
        t.messages,
        (t.messages.c.id == t.unmatched_events.c.message)
        | (
            (t.unmatched_events.c.message == "")
            & (t.messages.c.experiment == t.unmatched_events.c.experiment)
            & (t.messages.c.recipient == t.unmatched_events.c.recipient)
        ),
    )
    .where(t.messages.c.experiment == sa.bindparam("e"))
    .order_by(t.events.c.key, t.messages.c.step)
)
_JOIN = t.events.update().where(t.events.c.key == sa.bindparam("k")).values(message=sa.bindparam("m"))
_JOINED = t.unmatched_events.delete().where(t.unmatched_events.c.key == sa.bindparam("k"))
_ANY_APART = sa.select(sa.exists().select_from(t.unmatched_events))
_WITH_EVENTS = (
    sa.select(t.events.c.message)
    .select_from(t.events.join(t.messages, t.messages.c.id == t.events.c.message))
    .where(t.messages.c.experiment == sa.bindparam("e"), t.messages.c.state == State.SENT.value)
    .distinct()
)


class Recorder:
    """Stores events with all that follows from them.

    Args:
        upserts: The statements whose form depends on the database.
        claims: The ledger.
        outcomes: Counts.
        sources: Whose reports count.
    """

    def __init__(self, upserts: sql.Upserts, claims: Claims, outcomes: Outcomes, sources: Sources) -> None:
        self._upserts = upserts
        self._claims = claims
        self._outcomes = outcomes
        self._sources = sources

    def record(self, db: sa.Connection, events: Sequence[Event], *, now: datetime) -> list[Recorded]:
        """Store events; says what became of each, in order."""
        take_turns(db)
        return [
            outcome
            for start in range(0, len(events), _CHUNK)
            for outcome in self._record(db, events[start : start + _CHUNK], now)
        ]

    def _record(self, db: sa.Connection, events: Sequence[Event], now: datetime) -> list[Recorded]:
        named = [_message_of(db, event) for event in events]
        rows = locked(db, {each for each in named if each is not None})
        places = [rows.get(each) if each is not None else None for each in named]
        entries = [_entry(event, row, now) for event, row in zip(events, places, strict=True)]
        first = {entry["key"]: number for number, entry in reversed(list(enumerate(entries)))}
        stored = set(db.execute(self._upserts.event, [entries[number] for number in sorted(first.values())]).scalars())
        new = [number for number in sorted(first.values()) if entries[number]["key"] in stored]
        apart = [events[number] for number in new if places[number] is None]
        if apart:
            db.execute(t.unmatched_events.insert(), [_apart(event) for event in apart])
        mine = [(events[number], row) for number in new if (row := places[number]) is not None]
        self._follow(db, mine, now)
        outcomes = [Recorded.DUPLICATE] * len(events)
        for number in new:
            outcomes[number] = Recorded.UNKNOWN_MESSAGE if places[number] is None else Recorded.NEW
        return outcomes

    def join_known(self, db: sa.Connection, experiment: str, *, now: datetime) -> int:
        """Join the events that were kept apart to the messages that are known by now; returns how many."""
        if not db.execute(_ANY_APART).scalar_one():
            return 0
        take_turns(db)
        found = {row.key: row for row in db.execute(_KNOWN_NOW, {"e": experiment})}
        if not found:
            return 0
        db.execute(_JOIN, [{"k": key, "m": row.found} for key, row in found.items()])
        db.execute(_JOINED, [{"k": key} for key in found])
        rows = locked(db, {row.found for row in found.values()})
        self._follow(db, [(Event.from_dict(row.body), rows[row.found]) for row in found.values()], now)
        return len(found)

    def recount(self, db: sa.Connection, experiments: Iterable[str]) -> None:
        """Make all outcomes and counts of experiments anew from their events."""
        for name in sorted(experiments):
            self._outcomes.refresh(db, locked(db, set(db.execute(_WITH_EVENTS, {"e": name}).scalars())))

    def _follow(self, db: sa.Connection, events: Sequence[tuple[Event, sa.Row[Any]]], now: datetime) -> None:
        """What follows from events that were just stored and whose messages are known."""
        if not events:
            return
        sources = self._sources.note(
            db, ((row.experiment, event.type, event.source, min(event.at, now)) for event, row in events)
        )
        self._settle(db, events, now)
        new = frozenset(event.key for event, _ in events)
        self._outcomes.judge(db, (row.id for _, row in events), new, now=now)
        self.recount(db, sources)
        self._suppress(db, events)

    def _settle(self, db: sa.Connection, events: Sequence[tuple[Event, sa.Row[Any]]], now: datetime) -> None:
        """Mark messages as sent of which an event shows that they were; it counts their events, too."""
        proved = {
            row.id: row
            for event, row in events
            if row.state != State.SENT and row.attempted_at is not None and proves_delivery(row.state, event)
        }
        for row in proved.values():
            self._claims.settle_sent(db, row, now)

    def _suppress(self, db: sa.Connection, events: Sequence[tuple[Event, sa.Row[Any]]]) -> None:
        for event, row in events:
            if reason := suppression_reason(event) or soft_bouncer(db, row.recipient, event):
                email = db.execute(sql.EMAIL, {"r": row.recipient}).scalar_one()
                db.execute(self._upserts.suppression, {"email": email, "reason": reason, "at": event.at})


def _message_of(db: sa.Connection, event: Event) -> str | None:
    if event.message_id:
        return event.message_id
    found: str | None = db.execute(_NEWEST, {"e": event.experiment, "r": event.recipient}).scalar()
    return found


def _entry(event: Event, row: sa.Row[Any] | None, now: datetime) -> dict[str, Any]:
    """A row of the events. A clock that is ahead puts nothing into the future; what it claims stays in the body.

    The own tracker saw a request when it came, not when its group was stored.
    """
    at = min(event.at, now)
    seen_at = at if event.source == "own" and event.facts is not None else now
    return {
        "key": event.key, "message": None if row is None else row.id, "type": event.type, "at": at, "seen_at": seen_at,
        "verdict": event.verdict, "body": event.to_dict(), "source": event.source,
        "network": (event.facts and event.facts.network) or None,
    }  # fmt: skip


def _apart(event: Event) -> dict[str, str]:
    return {
        "key": event.key, "message": event.message_id, "experiment": event.experiment, "recipient": event.recipient,
    }  # fmt: skip
