"""Verdicts as a whole: made anew when rules change, and what they did to the counts; `abmail.store` stands on it."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from abmail import _statements as sql
from abmail import _tables as t
from abmail._erasure import Erasing
from abmail._event_sources import ONE_SOURCE, Sources
from abmail._judging import changed_verdicts, judge_all, write_verdicts
from abmail._outcomes import Outcomes, locked, take_turns
from abmail._records import EventFacts, Rejudged, State, Tally, bin_of, counted_anew, to_tally
from abmail.events import EventType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from abmail._judging import Seen
    from abmail._verdict_rules import Judged

__all__ = ["Rejudging", "facts_of_events", "settled_only"]

_CHUNK: Final = 1_000
_ROUNDS: Final = 5
_e: sa.BindParameter[str] = sa.bindparam("e")
_of_experiment = t.events.join(t.messages, t.messages.c.id == t.events.c.message)
_CHANGED = (
    sa.select(t.events.c.seen_at, t.events.c.changed_at)
    .select_from(_of_experiment)
    .where(t.messages.c.experiment == _e, t.events.c.changed_at.is_not(None))
)
_TALLIED = (EventType.OPENED, EventType.CLICKED)
_BY_SOURCE = (
    sa.select(t.events.c.type, t.events.c.source, t.events.c.rules, sa.func.count().label("n"))
    .select_from(_of_experiment)
    .where(t.messages.c.experiment == _e, t.events.c.type.in_([kind.value for kind in ONE_SOURCE]))
    .group_by(t.events.c.type, t.events.c.source, t.events.c.rules)
)
_YOUNG = (
    sa.select(
        t.messages.c.stratum, t.messages.c.epoch, t.messages.c.cell, t.messages.c.attempted_at, t.outcomes.c.metric,
        t.outcomes.c.at,
    )
    .select_from(t.outcomes.join(t.messages))
    .where(t.messages.c.experiment == _e, t.outcomes.c.seen_at > sa.bindparam("since", type_=t.UTCDateTime))
)  # fmt: skip
_SENT = (
    sa.select(t.messages, t.epochs.c.opened_at)
    .select_from(
        t.messages.join(
            t.epochs, (t.epochs.c.experiment == t.messages.c.experiment) & (t.epochs.c.number == t.messages.c.epoch)
        )
    )
    .where(t.messages.c.experiment == _e, t.messages.c.state == State.SENT.value)
)


class Rejudging(Erasing):
    """The part of the store that judges stored events anew."""

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        super().__init__(url, read_only=read_only)
        self._sources = Sources(self._upserts)
        self._outcomes = Outcomes(self._upserts, self._sources)

    def rejudged(self, name: str, *, n_cells: int) -> Rejudged:
        """What the rules of today would make of an experiment's events; changes nothing."""
        with self._read() as db:
            changed = changed_verdicts(judge_all(db, name))
            ledger = {row.id: row for row in db.execute(_SENT, {"e": name})}
            opened = {row.epoch: row.opened_at for row in ledger.values()}
            new = {one.sighting.key: found for one, found in changed}
            before = counted_anew(opened, ledger, self._outcomes.anew(db, name))
            after = counted_anew(opened, ledger, self._outcomes.anew(db, name, new))
            moves = Counter(
                (ledger[one.sighting.mail].cell, one.sighting.type.value, one.judged.verdict.value, found.verdict.value)
                for one, found in changed
                if found.verdict != one.judged.verdict and one.sighting.mail in ledger
            )
            total = Counter({tuple(row)[:4]: row[4] for row in db.execute(sql.TALLY, {"e": name})})
            total.subtract({row[:4]: row[4] for row in before})
            total.update({row[:4]: row[4] for row in after})
            rows = [(*place, n) for place, n in sorted(total.items())]
            n_epochs = db.execute(sql.N_EPOCHS, {"e": name}).scalar_one()
            return Rejudged(
                events=sum(found.verdict != one.judged.verdict for one, found in changed),
                touched=len(changed),
                moves=dict(sorted(moves.items())),
                tally=to_tally(rows, n_epochs, n_cells),
            )

    def rejudge(self, name: str, *, now: datetime) -> int:
        """Judge an experiment's events anew, and correct outcomes and counts; returns how many verdicts changed.

        A thousand mails at a time, each time all that follows from their verdicts in one transaction: the counts are
        right at any moment, and what was broken off goes on where it stopped.
        """
        total = 0
        for _ in range(_ROUNDS):  # events that come in meanwhile may move others once more
            with self._read() as db:
                changed = changed_verdicts(judge_all(db, name))
            if not changed:
                break
            for part in _by_mails(changed):
                with self._write() as db:
                    take_turns(db)
                    rows = locked(db, {one.sighting.mail for one, _ in part})
                    write_verdicts(db, part, now=now)
                    self._outcomes.refresh(db, {key: row for key, row in rows.items() if row.state == State.SENT})
                total += sum(found.verdict != one.judged.verdict for one, found in part)
        return total


def _by_mails(changed: Iterable[tuple[Seen, Judged]]) -> Iterable[list[tuple[Seen, Judged]]]:
    """The changes, some thousand mails at a time; those of one mail stay together."""
    part: list[tuple[Seen, Judged]] = []
    mails: set[str] = set()
    for one, found in sorted(changed, key=lambda each: each[0].sighting.mail):
        if one.sighting.mail not in mails and len(mails) == _CHUNK:
            yield part
            part, mails = [], set()
        mails.add(one.sighting.mail)
        part.append((one, found))
    if part:
        yield part


def facts_of_events(db: sa.Connection, name: str, *, counts: dict[str, str], provisional: float) -> EventFacts:
    """What there is to know of an experiment's events beside their counts."""
    patience = timedelta(seconds=provisional)
    late = sum(row.changed_at > row.seen_at + patience for row in db.execute(_CHANGED, {"e": name}))
    beside: Counter[tuple[str, str]] = Counter()
    unjudged = 0
    for row in db.execute(_BY_SOURCE, {"e": name}):
        if counts.get(row.type, row.source) != row.source:
            beside[row.type, row.source] += row.n
        if not row.rules and row.type in _TALLIED:
            unjudged += row.n
    return EventFacts(reclassified=late, unjudged=unjudged, sources=counts, beside=dict(sorted(beside.items())))


def settled_only(db: sa.Connection, name: str, since: datetime, tallies: Sequence[tuple[str, Tally]]) -> list[Tally]:
    """Counts without the opens and clicks that we learned of since a moment: their verdicts may still change.

    Args:
        db: The transaction.
        name: The experiment.
        since: The moment.
        tallies: Stratum and its counts; ``*`` for those of all strata.
    """
    young: list[Any] = [
        row for row in db.execute(_YOUNG, {"e": name, "since": since}) if row.metric.startswith(_TALLIED)
    ]
    return [_without(tally, [row for row in young if stratum in {"*", row.stratum}]) for stratum, tally in tallies]


def _without(tally: Tally, young: Sequence[Any]) -> Tally:
    if not young:
        return tally
    columns = (tally.epoch, tally.cell, tally.metric, tally.bin)
    total = Counter(dict(zip(zip(*(c.tolist() for c in columns), strict=True), tally.n.tolist(), strict=True)))
    total.subtract(Counter((row.epoch, row.cell, row.metric, bin_of(row.attempted_at, row.at)) for row in young))
    return to_tally([(*place, n) for place, n in sorted(total.items())], tally.n_epochs, tally.n_cells)
