"""From the events of a mail to what counts of it; only `abmail.store` imports this module.

The outcomes of a mail are the first events of each kind that count; the counts of an experiment are the sums of its
outcomes. Both are brought up to date with the events in the transaction that changes these, so that a verdict, an
event or a correction that comes late leaves them as if it had been there from the beginning.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import sqlalchemy as sa

from abmail import _statements as sql
from abmail import _tables as t
from abmail._judging import judge_around
from abmail._records import State, Tracking, bin_of, metrics_of
from abmail.events import RULES_VERSION, EventType, Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from abmail._event_sources import Sources
    from abmail._verdict_rules import Judged

__all__ = ["First", "Outcomes", "add_to_counts", "firsts_of", "locked", "take_turns"]

_CHUNK: Final = 5_000
_FOLLOWED: Final = frozenset({EventType.OPENED, EventType.CLICKED})
_LOCK: Final = 0x61626D61696C  # "abmail": a number that no other program's advisory locks are likely to have
_m: sa.BindParameter[str] = sa.bindparam("m")
_ids: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_judged = sa.select(
    t.events.c.key, t.events.c.message, t.events.c.type, t.events.c.at, t.events.c.seen_at, t.events.c.verdict,
    t.events.c.reasons, t.events.c.rules, t.events.c.source,
)  # fmt: skip
_EVENTS = _judged.where(t.events.c.message.in_(_ids))
_ALL_EVENTS = (
    _judged.add_columns(t.messages.c.tracking)
    .join(t.messages, t.messages.c.id == t.events.c.message)
    .where(t.messages.c.experiment == sa.bindparam("e"), t.messages.c.state == State.SENT.value)
)
_OUTCOMES = sa.select(t.outcomes).where(t.outcomes.c.message.in_(_ids))
_mine = (t.outcomes.c.message == _m) & (t.outcomes.c.metric == sa.bindparam("k"))
_MOVE = t.outcomes.update().where(_mine).values(at=sa.bindparam("new"), seen_at=sa.bindparam("seen"))
_DROP = t.outcomes.delete().where(_mine)


class _Counted(NamedTuple):
    """What counts of an event."""

    type: str
    at: datetime
    seen_at: datetime
    verdict: str
    reasons: int
    rules: int
    source: str
    tracking: str

    @classmethod
    def of(cls, row: Any, other: Judged | None) -> _Counted:
        if other is None:
            verdict, reasons, rules = row.verdict, row.reasons, row.rules
        else:
            verdict, reasons, rules = other.verdict, other.reasons, RULES_VERSION
        return cls(row.type, row.at, row.seen_at, verdict, reasons, rules, row.source, row.tracking)


class First(NamedTuple):
    """The first event of a kind that counts: when it happened, and when we learned of it."""

    at: datetime
    seen_at: datetime


def firsts_of(rows: Iterable[Any], counts: Mapping[str, str], *, tracked: bool) -> dict[str, First]:
    """The outcomes of one mail.

    Args:
        rows: Its events: type, at, seen_at, verdict, reasons, rules, source.
        counts: Kind of event -> the one source whose reports count; the others' are kept beside.
        tracked: Whether opens and clicks of it count, whoever reports them.
    """
    found: dict[str, First] = {}
    for row in rows:
        if counts.get(row.type, row.source) != row.source or (row.type in _FOLLOWED and not tracked):
            continue
        first = First(row.at, row.seen_at)
        for metric in metrics_of(
            EventType(row.type), Verdict(row.verdict), Reason(row.reasons), judged=bool(row.rules)
        ):
            found[metric] = min(first, found.get(metric, first))
    return found


def _is_tracked(row: Any) -> bool:
    return bool(row.tracking == Tracking.PERSON)


class Outcomes:
    """Keeps outcomes and counts up to date.

    Args:
        upserts: The statements whose form depends on the database.
        sources: Whose reports count.
    """

    def __init__(self, upserts: sql.Upserts, sources: Sources) -> None:
        self._upserts = upserts
        self._sources = sources

    def judge(self, db: sa.Connection, mails: Iterable[str], new: frozenset[str], *, now: datetime) -> None:
        """Judge new events and those around them, and bring what follows from their verdicts up to date.

        Args:
            db: The transaction.
            mails: The messages that the new events belong to.
            new: Keys of the new events.
            now: When they reached us.
        """
        mails = frozenset(mails)
        rows = locked(db, mails | judge_around(db, mails, new, now=now))
        self.refresh(db, {message: row for message, row in rows.items() if row.state == State.SENT})

    def refresh(self, db: sa.Connection, rows: Mapping[str, sa.Row[Any]]) -> None:
        """Make the outcomes of some mails anew, and correct the counts by what changed.

        Args:
            db: A transaction that holds the mails' rows locked.
            rows: Id -> row of a mail that was sent.
        """
        for ids in _chunks(rows):
            self._refresh(db, {each: rows[each] for each in ids})

    def anew(
        self, db: sa.Connection, name: str, verdicts: Mapping[str, Judged] | None = None
    ) -> dict[tuple[str, str], datetime]:
        """Message and metric -> first time, for the sent mails of an experiment, by its events alone.

        ``verdicts`` has other verdicts than the stored ones, by the events' keys.
        """
        counts = self._sources.chosen(db, [name])[name]
        events: defaultdict[str, list[Any]] = defaultdict(list)
        for row in db.execute(_ALL_EVENTS, {"e": name}):
            events[row.message].append(_Counted.of(row, (verdicts or {}).get(row.key)))
        return {
            (message, metric): first.at
            for message, own in events.items()
            for metric, first in firsts_of(own, counts, tracked=_is_tracked(own[0])).items()
        }

    def _refresh(self, db: sa.Connection, rows: Mapping[str, sa.Row[Any]]) -> None:
        known = {"ids": list(rows)}
        events: defaultdict[str, list[Any]] = defaultdict(list)
        for row in db.execute(_EVENTS, known):
            events[row.message].append(row)
        before = {(row.message, row.metric): First(row.at, row.seen_at) for row in db.execute(_OUTCOMES, known)}
        counts = self._sources.chosen(db, {row.experiment for row in rows.values()})
        after = {
            (message, metric): first
            for message, own in events.items()
            for metric, first in firsts_of(
                own, counts[rows[message].experiment], tracked=_is_tracked(rows[message])
            ).items()
        }
        self._write(db, before, after)
        add_to_counts(db, self._upserts, _changes(rows, before, after))

    def _write(
        self, db: sa.Connection, before: Mapping[tuple[str, str], First], after: Mapping[tuple[str, str], First]
    ) -> None:
        new = [{"message": m, "metric": k, **after[m, k]._asdict()} for m, k in sorted(after.keys() - before.keys())]
        gone = [{"m": m, "k": k} for m, k in sorted(before.keys() - after.keys())]
        moved = [
            {"m": m, "k": k, "new": after[m, k].at, "seen": after[m, k].seen_at}
            for m, k in sorted(before.keys() & after.keys())
            if before[m, k] != after[m, k]
        ]
        for statement, values in ((t.outcomes.insert(), new), (_DROP, gone), (_MOVE, moved)):
            if values:
                db.execute(statement, values)


def _changes(
    rows: Mapping[str, sa.Row[Any]],
    before: Mapping[tuple[str, str], First],
    after: Mapping[tuple[str, str], First],
) -> Counter[tuple[str, int, int, str, str, int]]:
    total: Counter[tuple[str, int, int, str, str, int]] = Counter()
    for sign, firsts in ((-1, before), (1, after)):
        for (message, metric), first in firsts.items():
            row = rows[message]
            where = bin_of(row.attempted_at, first.at)
            total[row.experiment, row.epoch, row.cell, row.stratum, metric, where] += sign
    return total


def take_turns(db: sa.Connection) -> None:
    """Let one transaction at a time judge events: those that come together must see one another. SQLite always does."""
    if db.dialect.name == "postgresql":
        db.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def locked(db: sa.Connection, ids: Iterable[str]) -> dict[str, sa.Row[Any]]:
    """Rows of the ledger by id, locked in one order; those that are not known are left out."""
    wanted = sorted(ids)
    return {row.id: row for row in db.execute(sql.IN_HAND, {"ids": wanted})} if wanted else {}


def add_to_counts(
    db: sa.Connection, upserts: sql.Upserts, numbers: Mapping[tuple[str, int, int, str, str, int], int]
) -> None:
    """Add to rows of the counts, always in the same order: two writers must not wait for each other."""
    rows = [
        {"experiment": e, "epoch": epoch, "cell": cell, "stratum": s, "metric": metric, "bin": where, "n": n}
        for (e, epoch, cell, s, metric, where), n in sorted(numbers.items())
        if n
    ]
    if rows:
        db.execute(upserts.count, rows)


def _chunks(rows: Mapping[str, sa.Row[Any]]) -> Iterable[list[str]]:
    ids = sorted(rows)
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
