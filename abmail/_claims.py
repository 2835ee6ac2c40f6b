"""The outbox in SQL: claims, what workers commit, and what is left of dead ones; only `abmail.store` imports it.

Every function works inside its caller's transaction. One commit carries the steps of all of a worker's connections:
the outcomes of the messages that are through, and the intents to send the next ones.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from abmail import _statements as sql
from abmail import _tables as t
from abmail._connection import batches
from abmail._outcomes import Outcomes, add_to_counts
from abmail._records import Claimed, Outcome, State, bin_of, sends_of, to_claimed, to_recipient
from abmail.bounces import SOFT_BOUNCES, SOFT_DAYS

__all__ = ["LEASE", "Claims"]

LEASE: Final = timedelta(minutes=15)
_SOFT_WITHIN: Final = timedelta(days=SOFT_DAYS)
_EARLY: Final = sa.select(t.events.c.key, t.events.c.message).where(
    t.events.c.message.in_(sa.bindparam("ids", expanding=True))
)
_LATE: Final = "not sent in time"
_CRASHED: Final = "the sender ended before the server's answer was noted"


class Claims:
    """The statements of the outbox and of the counts that follow from it.

    Args:
        upserts: The statements whose form depends on the database.
        outcomes: Counts the events that came before a mail was known to be sent.
    """

    def __init__(self, upserts: sql.Upserts, outcomes: Outcomes) -> None:
        self._upserts = upserts
        self._outcomes = outcomes

    # -- claims -----------------------------------------------------------------------------------------------------

    def claim(
        self, db: sa.Connection, *, worker: str, limit: int, now: datetime, open_zones: Mapping[str, Sequence[str]]
    ) -> list[Claimed]:
        """Lease due messages, of each experiment and zone alike; those that are past their time are put aside."""
        found: list[Claimed] = []
        places = [(experiment, zone) for experiment, zones in open_zones.items() for zone in zones]
        while places and len(found) < limit:
            share = math.ceil((limit - len(found)) / len(places))
            for experiment, zone in tuple(places):
                where = {"e": experiment, "z": zone, "now": now}
                wanted = min(share, limit - len(found))
                rows = self._due(db, where, wanted) if wanted else []
                if rows:
                    found += self._leased(db, rows, worker, now + LEASE)
                else:
                    places.remove((experiment, zone))
        return found

    def _leased(self, db: sa.Connection, rows: Sequence[sa.Row[Any]], worker: str, until: datetime) -> list[Claimed]:
        """Those of some messages of one experiment that the worker gets.

        Another worker's lease that was committed while PostgreSQL looked for free messages stands in the way only here.
        """
        wanted = {"ids": json.dumps([row.id for row in rows]), "w": worker, "until": until}
        got = frozenset(db.execute(self._upserts.lease, wanted).scalars())
        return _claimed(db, [row for row in rows if row.id in got])

    def _due(self, db: sa.Connection, where: Mapping[str, Any], limit: int) -> list[sa.Row[Any]]:
        """The next messages that are due and in time; empty where there are none."""
        while rows := db.execute(sql.DUE, {**where, "n": limit}).all():
            late = [row.id for row in rows if row.expires_at is not None and row.expires_at <= where["now"]]
            if late:
                db.execute(sql.EXPIRE, {"ids": late, "why": _LATE})
            if len(late) < len(rows):
                gone = set(late)
                return [row for row in rows if row.id not in gone]
        return []

    def assigned(self, db: sa.Connection, message: str) -> Claimed | None:
        """A message that has a cell, whoever holds it."""
        return next(iter(_claimed(db, db.execute(sql.CLAIMED, {"ids": [message]}).all())), None)

    # -- what workers commit ----------------------------------------------------------------------------------------

    def begin(self, db: sa.Connection, messages: Sequence[str], *, worker: str, now: datetime) -> frozenset[str]:
        """Note the intent to send; gives the messages that this worker may send now."""
        renewed = {"ids": list(messages), "w": worker, "until": now + LEASE}
        held = db.execute(sql.KEEP, renewed).scalars().all()  # locked: nobody can take them back before the commit
        if not held:
            return frozenset()
        begun = frozenset(db.execute(sql.BEGIN, {"ids": held, "now": now}).scalars())
        if len(begun) < len(held):
            db.execute(sql.MARK_SUPPRESSED, {"ids": held})
        return begun

    def finish(self, db: sa.Connection, outcomes: Sequence[Outcome], *, worker: str) -> None:
        """Note what became of messages; where another process settled one meanwhile, its word stays."""
        by_id = {outcome.message: outcome for outcome in outcomes}
        ids = sorted(by_id)
        held = frozenset(db.execute(sql.DROP_LEASES, {"ids": ids, "w": worker}).scalars())
        rows = db.execute(sql.IN_HAND, {"ids": ids}).all()
        mine = [(by_id[row.id], row) for row in rows if _is_ours(row, by_id[row.id], held)]
        self._settle_sent(
            db, [(row, outcome.at, outcome.links) for outcome, row in mine if outcome.state == State.SENT]
        )
        again = [(outcome, row) for outcome, row in mine if outcome.state == State.ASSIGNED]
        ended = _ended(db, {row.experiment for _, row in again}) if again else frozenset()
        if again:
            db.execute(sql.PUT_BACK, [_put_back(outcome, row, ended) for outcome, row in again])
        lost = [(outcome, row) for outcome, row in mine if outcome.state in {State.FAILED, State.UNCERTAIN}]
        if lost:
            db.execute(sql.END, [_end(outcome) for outcome, _ in lost])
        self._suppress(db, lost)

    def _suppress(self, db: sa.Connection, lost: Iterable[tuple[Outcome, sa.Row[Any]]]) -> None:
        """Never mail a dead address again, nor one that was full too often."""
        for outcome, row in lost:
            if outcome.refusal == "hard":
                reason = "bounced"
            elif outcome.refusal == "soft" and _is_often_full(db, row, outcome.at):
                reason = "soft-bounced"
            else:
                continue
            email = db.execute(sql.EMAIL, {"r": row.recipient}).scalar_one()
            db.execute(self._upserts.suppression, {"email": email, "reason": reason, "at": outcome.at})

    def _settle_sent(self, db: sa.Connection, sent: Sequence[tuple[sa.Row[Any], datetime, int | None]]) -> None:
        """Mark messages as sent and count them, and the events that came before we knew."""
        if not sent:
            return
        db.execute(sql.MARK_SENT, [{"m": row.id, "now": at, "n": links} for row, at, links in sent])
        add_to_counts(db, self._upserts, Counter(_sends(row for row, _, _ in sent)))
        ids = {"ids": [row.id for row, _, _ in sent]}
        early: dict[str, str] = {row.key: row.message for row in db.execute(_EARLY, ids)}
        if early:  # they were judged without knowing when the mail went out
            self._outcomes.judge(db, early.values(), frozenset(early), now=max(at for _, at, _ in sent))

    def settle_sent(self, db: sa.Connection, row: sa.Row[Any], now: datetime) -> None:
        """Mark one message as sent, and count it."""
        self._settle_sent(db, [(row, now, None)])

    # -- what dead workers left, and what operators decide -----------------------------------------------------------

    def recover(self, db: sa.Connection, dead: Sequence[str], *, now: datetime) -> int:
        """Give leases of dead workers back; their half-sent messages become uncertain; returns how many."""
        left = db.execute(sql.RECLAIM, {"dead": list(dead), "now": now}).scalars().all()
        return sum(db.execute(sql.LOSE, {"ids": some, "why": _CRASHED}).rowcount for some in batches(left))

    def retry(self, db: sa.Connection, name: str, *, state: State, now: datetime, messages: Sequence[str] = ()) -> int:
        """Put failed, late or uncertain messages back into the row, as if they had never been tried."""
        where = (t.messages.c.experiment == name) & (t.messages.c.state == state)
        if messages:
            where &= t.messages.c.id.in_(list(messages))
        fresh = {
            "state": State.ASSIGNED, "due_at": now, "expires_at": None, "first_attempt_at": None, "attempts": 0,
            "refusal": None, "code": None,
        }  # fmt: skip
        has_cell = t.messages.c.cell.is_not(None)
        anew = db.execute(t.messages.update().where(where & has_cell).values(**fresh)).rowcount
        if state != State.EXPIRED:
            return anew
        # Those without a cell never had an hour: they wait for one.
        waiting = {"state": State.QUEUED, "due_at": None, "expires_at": None, "error": None}
        return anew + db.execute(t.messages.update().where(where & ~has_cell).values(**waiting)).rowcount

    def resend(self, db: sa.Connection, name: str, *, before: datetime, now: datetime) -> int:
        """Put uncertain messages that were handed over before some time back into the row, each once at most."""
        return db.execute(sql.RESEND, {"e": name, "before": before, "now": now}).rowcount


def _claimed(db: sa.Connection, rows: Sequence[sa.Row[Any]]) -> list[Claimed]:
    """Messages of one experiment with their recipients, in order."""
    if not rows:
        return []
    epochs = {"e": rows[0].experiment, "numbers": sorted({row.epoch for row in rows})}
    versions = {row.number: row.version for row in db.execute(sql.EPOCH_VERSIONS, epochs)}
    people = {row.id: to_recipient(row) for row in db.execute(sql.RECIPIENTS, {"ids": [row.recipient for row in rows]})}
    return [to_claimed(row, people[row.recipient], versions[row.epoch]) for row in rows]


def _is_ours(row: sa.Row[Any], outcome: Outcome, held: frozenset[str]) -> bool:
    """Whether an outcome may be noted: an answer of the server counts even after another process gave us up."""
    if outcome.state == State.SENT and row.state in {State.SENDING, State.UNCERTAIN}:
        return True
    return row.id in held and row.state in {State.SENDING, State.ASSIGNED}


def _ended(db: sa.Connection, names: set[str]) -> frozenset[str]:
    """Those of some experiments that have ended; none of them can end before this transaction does."""
    rows = db.execute(sql.EXPERIMENT_STATES, {"names": sorted(names)})
    return frozenset(row.name for row in rows if row.state != "running")


def _put_back(outcome: Outcome, row: sa.Row[Any], ended: frozenset[str]) -> dict[str, Any]:
    counts = outcome.attempted or row.state == State.ASSIGNED  # a claim that was never begun counted no attempt
    return {
        "m": row.id, "s": State.CANCELLED if row.experiment in ended else State.ASSIGNED, "due": outcome.due_at,
        "off": 0 if counts else 1, "why": outcome.error, "said": outcome.code,
    }  # fmt: skip


def _end(outcome: Outcome) -> dict[str, Any]:
    return {
        "m": outcome.message, "s": outcome.state, "why": outcome.error, "said": outcome.code,
        "kind": outcome.refusal or None,
    }  # fmt: skip


def _is_often_full(db: sa.Connection, row: sa.Row[Any], now: datetime) -> bool:
    known = {"r": row.recipient, "since": now - _SOFT_WITHIN}
    return bool(db.execute(sql.SOFT_BOUNCES, known).scalar_one() >= SOFT_BOUNCES)


def _sends(rows: Iterable[sa.Row[Any]]) -> Iterator[tuple[str, int, int, str, str, int]]:
    return (
        (r.experiment, r.epoch, r.cell, r.stratum, metric, bin_of(r.opened_at, r.attempted_at))
        for r in rows
        for metric in sends_of(r)
    )
