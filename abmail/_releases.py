"""Moments of their own for waiting mails, and what came of them; only `abmail.store` imports this module."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from abmail import _tables as t
from abmail._connection import BATCH, batches
from abmail._people import People
from abmail._records import Release, Slot, SlotMail, State, Tracking, Waiting, to_recipient

__all__ = ["Releases"]

_CHUNK: Final = 20_000
_e: sa.BindParameter[str] = sa.bindparam("e")
_queued = (t.messages.c.experiment == _e) & (t.messages.c.state == State.QUEUED.value)
_planned = _queued & t.messages.c.due_at.is_not(None)
_NEXT: Final = (
    sa.select(t.messages.c.id.label("message"), t.messages.c.zone.label("clock"), t.recipients)
    .join(t.recipients)
    .where(_queued & t.messages.c.due_at.is_(None))
    .order_by(t.messages.c.position, t.messages.c.id)
    .limit(sa.bindparam("n"))
)
_PLAN: Final = (
    t.messages.update()
    .where(t.messages.c.id == sa.bindparam("m"), t.messages.c.state == State.QUEUED.value)
    .values(due_at=sa.bindparam("due"), expires_at=sa.bindparam("late"))
)
_SKIP: Final = (
    t.messages.update()
    .where(t.messages.c.id == sa.bindparam("m"), t.messages.c.state == State.QUEUED.value)
    .values(state=State.EXPIRED.value, error=sa.bindparam("why"))
)
_LAST: Final = sa.select(sa.func.coalesce(sa.func.max(t.releases.c.number), -1)).where(t.releases.c.experiment == _e)
_moment = sa.func.coalesce(t.messages.c.attempted_at, t.messages.c.due_at, type_=t.UTCDateTime)
_OTHERS: Final = (
    sa.select(t.messages.c.recipient, _moment)
    .where(t.messages.c.experiment != _e, _moment > sa.bindparam("since"))
    .where(t.messages.c.state.in_([State.QUEUED, State.ASSIGNED, State.SENDING, State.SENT, State.UNCERTAIN]))
)
_due = _planned & (t.messages.c.due_at < sa.bindparam("before"))
_own = t.messages.alias("own")
_OTHERS_OF_DUE: Final = _OTHERS.where(
    t.messages.c.recipient.in_(
        sa.select(_own.c.recipient).where(
            _own.c.experiment == _e, _own.c.state == State.QUEUED.value, _own.c.due_at < sa.bindparam("before")
        )
    )
)
_DUE: Final = (
    sa.select(t.messages.c.id.label("message"), t.messages.c.zone.label("clock"), t.messages.c.due_at.label("due"))
    .add_columns(*t.recipients.c)
    .join(t.recipients)
    .where(_due)
    .order_by(t.messages.c.position, t.messages.c.id)
)
_UNPLAN: Final = t.send_slots.delete().where(t.send_slots.c.message == sa.bindparam("m"))
_RECOUNT: Final = (
    t.releases.update()
    .where(t.releases.c.experiment == _e, t.releases.c.number == sa.bindparam("of"))
    .values(skipped=t.releases.c.skipped + sa.bindparam("late"))
)
_AHEAD: Final = (
    sa.select(t.messages.c.zone, t.messages.c.due_at, sa.func.count())
    .where(t.messages.c.experiment == _e)
    .where(t.messages.c.state.in_([State.QUEUED.value, State.ASSIGNED.value]))
    .group_by(t.messages.c.zone, t.messages.c.due_at)
    .order_by(t.messages.c.zone, t.messages.c.due_at)
)
_opened, _clicked = (t.outcomes.alias(name) for name in ("opened", "clicked"))
_ledger = t.send_slots.join(t.messages)
for _table, _metric in ((_opened, "opened"), (_clicked, "clicked")):
    _ledger = _ledger.outerjoin(_table, (_table.c.message == t.messages.c.id) & (_table.c.metric == _metric))
_SLOT_MAILS: Final = (
    sa.select(
        t.messages.c.recipient, t.messages.c.experiment, t.send_slots.c.release, t.send_slots.c.hour,
        t.send_slots.c.arm, t.send_slots.c.control, t.send_slots.c.propensity, t.messages.c.attempted_at,
        _opened.c.at.label("opened_at"), _clicked.c.at.label("clicked_at"),
        t.send_slots.c.ahead,
    )
    .select_from(_ledger)
    .where(t.messages.c.state == State.SENT.value, t.messages.c.attempted_at <= sa.bindparam("before"))
    .where(t.messages.c.tracking == Tracking.PERSON)
    .order_by(t.messages.c.attempted_at, t.messages.c.id)
)  # fmt: skip
_BEFORE: Final = (
    sa.select(t.messages.c.recipient, sa.func.count(), sa.func.count(_opened.c.at))
    .select_from(t.messages.outerjoin(_opened, (_opened.c.message == t.messages.c.id) & (_opened.c.metric == "opened")))
    .where(t.messages.c.state == State.SENT.value, t.messages.c.attempted_at < sa.bindparam("start"))
    .where(t.messages.c.tracking == Tracking.PERSON)
    .group_by(t.messages.c.recipient)
)


class Releases(People):
    """The part of the store in which mails get a moment of their own before they get a variant."""

    def releases(self, name: str) -> tuple[Release, ...]:
        """The releases of an experiment, first to last."""
        query = sa.select(t.releases).where(t.releases.c.experiment == name).order_by(t.releases.c.number)
        with self._read() as db:
            return tuple(_to_release(row) for row in db.execute(query))

    def planned(self, name: str, *, zones: Sequence[str] | None = None, before: datetime | None = None) -> int:
        """Number of messages that wait for a moment of their own, in some zones or in all, ``before`` some time."""
        where = _planned if zones is None else _planned & t.messages.c.zone.in_(zones)
        where = where if before is None else where & (t.messages.c.due_at < before)
        with self._read() as db:
            return int(db.execute(sa.select(sa.func.count()).where(where), {"e": name}).scalar_one())

    def next_planned(self, name: str) -> dict[str, datetime]:
        """Per time zone, the first moment for which a message without a variant waits."""
        query = sa.select(t.messages.c.zone, sa.func.min(t.messages.c.due_at)).where(_planned).group_by("zone")
        with self._read() as db:
            return {row.zone: row[1] for row in db.execute(query, {"e": name})}

    def ahead(self, name: str) -> list[tuple[str, datetime | None, int]]:
        """Mails that are to go out: zone, moment (None for those that wait for a wave), and how many."""
        with self._read() as db:
            return [(row[0], row[1], row[2]) for row in db.execute(_AHEAD, {"e": name})]

    def waiting(self, name: str, *, n: int) -> list[Waiting]:
        """The first mails in the queue that have no moment of their own."""
        with self._read() as db:
            rows = db.execute(_NEXT, {"e": name, "n": n}).all()
        return [Waiting(row.message, row.clock, to_recipient(row)) for row in rows]

    def others(self, name: str, *, since: datetime, recipients: Sequence[str]) -> list[tuple[str, datetime]]:
        """What other experiments sent to some recipients since a moment, or will send: recipient and moment."""
        found: list[tuple[str, datetime]] = []
        with self._read() as db:
            for batch in batches(recipients, size=500):
                query = _OTHERS.where(t.messages.c.recipient.in_(batch))
                found += [(row[0], row[1]) for row in db.execute(query, {"e": name, "since": since})]
        return found

    def schedule(
        self,
        name: str,
        release: Release,
        *,
        n: int,
        plan: Callable[[Sequence[Waiting], Sequence[tuple[str, datetime]]], Sequence[Slot]],
        whole: bool = False,
        others_since: datetime | None = None,
    ) -> Release | None:
        """Give the next mails of the queue their moments, all or nothing.

        Args:
            name: The experiment.
            release: Its number and the rest; the sizes are counted here.
            n: Mails to take at most.
            plan: Gives each of them its moment, or why there is none; called for some thousands at a time. It is also
                given what other experiments sent or will send: recipient and moment.
            whole: Whether ``plan`` has to be given everybody at once, as a limit on the throughput needs it.
            others_since: Since when it wants to know that; without it, it is told nothing.

        Returns:
            The release, None where nobody waits or another process made it first.
        """
        with self._write() as db:
            wanted = t.experiments.c.name == name if others_since is None else sa.true()  # caps hold over all of them
            db.execute(sa.select(t.experiments.c.name).where(wanted).order_by(t.experiments.c.name).with_for_update())
            if db.execute(_LAST, {"e": name}).scalar_one() != release.number - 1:
                return None
            others = () if others_since is None else db.execute(_OTHERS, {"e": name, "since": others_since}).all()
            known = [(row[0], row[1]) for row in others]
            size = skipped = 0
            moments: list[datetime] = []  # the first and the last
            while left := n - size - skipped:
                rows = db.execute(_NEXT, {"e": name, "n": left if whole else min(left, _CHUNK)}).all()
                if not rows:
                    break
                slots = plan([Waiting(row.message, row.clock, to_recipient(row)) for row in rows], known)
                late = _note(db, release.number, slots)
                size, skipped = size + len(slots) - late, skipped + late
                moments += [slot.due_at for slot in slots if slot.due_at is not None]
                moments = [min(moments), max(moments)] if moments else []
            if not size + skipped:
                return None
            first, last = moments or (None, None)
            made = replace(release, size=size, skipped=skipped, first_at=first, last_at=last)
            db.execute(t.releases.insert().values(experiment=name, **_release_row(made)))
            return made

    def reschedule(
        self,
        name: str,
        number: int,
        *,
        before: datetime,
        since: datetime,
        plan: Callable[[Sequence[Waiting], Sequence[datetime], Sequence[tuple[str, datetime]]], Sequence[Slot]],
    ) -> int:
        """Give other moments to mails that wait for theirs and must move, all or nothing.

        Args:
            name: The experiment.
            number: The release that those belong to from then on.
            before: Which mails are looked at: those with moments before it.
            since: Since when mails of other experiments matter.
            plan: Gets the mails to people whom other experiments mailed or will mail, their moments, and those mails:
                recipient and moment. Returns new slots for mails that must move.

        Returns:
            Number of mails that were moved or have no moment left.
        """
        own = {"e": name, "before": before}
        with self._write() as db:
            db.execute(sa.select(t.experiments.c.name).order_by(t.experiments.c.name).with_for_update())
            others = [(row[0], row[1]) for row in db.execute(_OTHERS_OF_DUE, own | {"since": since})]
            moments: list[datetime] = []
            waiting: list[Waiting] = []
            for batch in batches(sorted({who for who, _ in others}), size=500):
                for row in db.execute(_DUE.where(t.messages.c.recipient.in_(batch)), own):
                    waiting.append(Waiting(row.message, row.clock, to_recipient(row)))
                    moments.append(row.due)
            slots = plan(waiting, moments, others) if waiting else ()
            if slots:
                db.execute(_UNPLAN, [{"m": slot.message} for slot in slots])
                late = _note(db, number, slots)
                db.execute(_RECOUNT, {"e": name, "of": number, "late": late})
            return len(slots)

    def slot_mails(self, *, before: datetime, name: str | None = None) -> Iterator[SlotMail]:
        """Mails that were sent at a moment of their own until some time, of one experiment or of all."""
        query = _SLOT_MAILS if name is None else _SLOT_MAILS.where(t.messages.c.experiment == name)
        with self._read() as db:
            for row in db.execute(query, {"before": before}, execution_options={"yield_per": BATCH}):
                yield SlotMail(*tuple(row))

    def open_rates(self, *, start: datetime) -> dict[str, float]:
        """Per recipient, the share of the mails before some time that a person opened."""
        with self._read() as db:
            return {who: opens / sends for who, sends, opens in db.execute(_BEFORE, {"start": start})}


def _note(db: sa.Connection, number: int, slots: Sequence[Slot]) -> int:
    """Write moments down; returns the number of mails for which there is none."""
    timed = [slot for slot in slots if slot.due_at is not None]
    late = [slot for slot in slots if slot.due_at is None]
    if timed:
        db.execute(_PLAN, [{"m": slot.message, "due": slot.due_at, "late": slot.expires_at} for slot in timed])
        db.execute(t.send_slots.insert(), [_slot_row(slot, number) for slot in timed])
    if late:
        db.execute(_SKIP, [{"m": slot.message, "why": slot.reason} for slot in late])
    return len(late)


def _slot_row(slot: Slot, number: int) -> dict[str, Any]:
    return {
        "message": slot.message, "release": number, "hour": slot.hour, "ahead": slot.ahead, "arm": slot.arm,
        "control": slot.control, "propensity": _finite(slot.propensity), "chance": _finite(slot.chance),
        "chance_fixed": _finite(slot.chance_fixed),
    }  # fmt: skip


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _release_row(release: Release) -> Mapping[str, Any]:
    weights = {str(hour): share for hour, share in release.weights.items()}
    return {
        "number": release.number, "at": release.at, "size": release.size, "skipped": release.skipped,
        "weights": weights or None, "habits": dict(release.habits) or None, "reason": release.reason,
    }  # fmt: skip


def _to_release(row: sa.Row[Any]) -> Release:
    return Release(
        number=row.number, at=row.at, size=row.size, skipped=row.skipped, reason=row.reason, habits=row.habits or {},
        weights={int(hour): share for hour, share in (row.weights or {}).items()},
    )  # fmt: skip
