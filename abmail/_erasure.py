"""Erasing people: what is known of somebody, and how their mails stay in the counts without them.

Only `abmail.store` imports this module. A mail whose person is erased keeps its variant, its times and what was counted
of it, under a new id that nobody can work out, as the mail of a stand-in without address or attributes.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from abmail import _tables as t
from abmail._company import company_of
from abmail._connection import BATCH, batches
from abmail._records import State, to_event
from abmail._releases import Releases
from abmail.errors import StoreError
from abmail.recipient import email_domain

__all__ = ["Erasing", "Forgotten", "Retired"]

_Company = Callable[[str], str]
_NOWHERE: Final = ".erased.invalid"
_WAITING: Final = (State.QUEUED.value, State.ASSIGNED.value)
_email: sa.BindParameter[str] = sa.bindparam("email")
_ids: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_names: sa.BindParameter[Any] = sa.bindparam("names", expanding=True)
_before: sa.BindParameter[datetime] = sa.bindparam("before", type_=t.UTCDateTime)

_PERSON: Final = sa.select(t.recipients).where(t.recipients.c.email == _email, t.recipients.c.erased_at.is_(None))
_SUPPRESSION: Final = sa.select(t.suppressions).where(t.suppressions.c.email == _email)
_MAILS: Final = (
    sa.select(t.messages, t.recipients.c.email)
    .join(t.recipients)
    .where(t.messages.c.recipient == sa.bindparam("r"))
    .order_by(t.messages.c.experiment, t.messages.c.step)
)
_EVENTS: Final = sa.select(t.events).where(t.events.c.message.in_(_ids)).order_by(t.events.c.at, t.events.c.key)
_SLOTS: Final = sa.select(t.send_slots).where(t.send_slots.c.message.in_(_ids))
_APART: Final = sa.select(t.events.c.key, t.events.c.body).where(t.events.c.message.is_(None))

_old: sa.BindParameter[str] = sa.bindparam("old")
_new: sa.BindParameter[str] = sa.bindparam("new")
_CHANGED: Final[Mapping[str, Any]] = {
    "id": _new, "recipient": sa.bindparam("stand_in"), "position": sa.literal(0), "error": sa.null(),
}  # fmt: skip
_COPY: Final = t.messages.insert().from_select(
    [column.name for column in t.messages.columns],
    sa.select(*(_CHANGED.get(each.name, each).label(each.name) for each in t.messages.columns)).where(
        t.messages.c.id == _old
    ),
)
_MOVES: Final = tuple(
    table.update().where(table.c.message == _old).values(message=_new) for table in (t.outcomes, t.send_slots)
)
_DROP: Final = (t.leases.delete().where(t.leases.c.message == _old), t.messages.delete().where(t.messages.c.id == _old))
_STRIP: Final = (
    t.events.update()
    .where(t.events.c.key == sa.bindparam("k"))
    .values(key=sa.bindparam("new_key"), message=sa.bindparam("m"), body=sa.bindparam("b", type_=sa.JSON), network=None)
)

_last_send = (
    sa.select(sa.func.max(t.messages.c.attempted_at))
    .where(t.messages.c.experiment == t.experiments.c.name)
    .scalar_subquery()
)
_waits = sa.exists().where(
    t.messages.c.experiment == t.experiments.c.name, t.messages.c.state.in_((*_WAITING, State.SENDING.value))
)
_ENDED: Final = (
    sa.select(t.experiments.c.name, t.experiments.c.state)
    .where(~_waits, sa.func.coalesce(_last_send, t.experiments.c.ended_at, type_=t.UTCDateTime) < _before)
    .order_by(t.experiments.c.name)
)
_LINKED: Final = (
    sa.select(t.messages.c.id, t.messages.c.recipient, t.recipients.c.email)
    .join(t.recipients)
    .where(t.messages.c.experiment.in_(_names), t.recipients.c.erased_at.is_(None))
    .order_by(t.messages.c.recipient)
)
_OLD_EVENTS: Final = (
    sa.select(t.events)
    .where(t.events.c.message.is_not(None), t.events.c.at < _before, t.events.c.key > sa.bindparam("after"))
    .order_by(t.events.c.key)
    .limit(BATCH)
)
_old_apart = t.events.c.message.is_(None) & (t.events.c.seen_at < _before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was erased of a person.

    Attributes:
        before: When the person had been forgotten before; None for never.
        recipient: Their id; empty where there was nobody.
        messages: Ids of their mails in the ledger.
        waiting: Mails among them that will not go out.
        events: Events of these mails.
        apart: Events that named them and belonged to no mail.
        suppression: Why they were suppressed; empty where they were not.
        in_send_times: Whether the file of send times knew them.
    """

    before: datetime | None = None
    recipient: str = ""
    messages: tuple[str, ...] = ()
    waiting: int = 0
    events: int = 0
    apart: int = 0
    suppression: str = ""
    in_send_times: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """What a retention run dropped.

    Attributes:
        bodies: Events of which only what counts was left.
        apart: Events that belonged to no mail.
        messages: Mails that were cut loose from their recipients.
        experiments: Names of the experiments that have ended for good.
    """

    bodies: int = 0
    apart: int = 0
    messages: int = 0
    experiments: tuple[str, ...] = ()


class Erasing(Releases):
    """The part of the store that erases people."""

    def holdings(self, email: str) -> dict[str, Any]:
        """All that is kept of a person: rows by kind; None and empty where there is nothing."""
        with self._read() as db:
            return {**_holdings(db, email), "forgotten_at": self._forgotten_at(db, email)}

    def forget(self, email: str, *, now: datetime, dry_run: bool = False) -> Forgotten:
        """Erase a person, and keep by a hash alone that no mail may ever go to the address again.

        The counts stay, and the mails that they are made of, without the person. Harmless when repeated.

        Args:
            email: The address, normalised.
            now: Time of the deed.
            dry_run: Only say what would be erased.

        Raises:
            StoreError: A mail to the person is on its way at this moment, or the signing key is not known.
        """
        if dry_run:
            with self._read() as db:
                return _traces(_holdings(db, email), self._forgotten_at(db, email))
        with self._write() as db:
            found = _traces(_holdings(db, email), self._forgotten_at(db, email))
            _erase(db, email, found, self._company, now=now)
            self._insert_new(db, t.forgotten, [{"hash": self._hashes(email)[0], "at": now}])
        self._tidy()
        return found

    def retire(self, *, before: datetime, now: datetime, dry_run: bool = False) -> Retired:
        """Drop what is older than some time and tells of people; the counts and what reports say of them stay.

        Of events only what counts is left, and the mails of experiments that ended are cut loose from their recipients.
        An experiment has ended when none of its mails waits and the last one went out before then; it is closed, as
        nobody could tell any more who had its mail.

        Args:
            before: What is older is dropped.
            now: Time of the deed.
            dry_run: Only say what would be dropped.
        """
        names = self._close_ended(before, now, dry_run=dry_run)
        linked = {"names": list(names)}
        with self._read() as db:
            mails: int = db.execute(sa.select(sa.func.count()).select_from(_LINKED.subquery()), linked).scalar_one()
            apart: int = db.execute(sa.select(sa.func.count()).where(_old_apart), {"before": before}).scalar_one()
        bodies = self._strip_old(before, dry_run=dry_run)
        if not dry_run:
            for _ in range(0, mails, BATCH):
                with self._write() as db:
                    _cut_loose(db, db.execute(_LINKED.limit(BATCH), linked).all(), self._company, now=now)
            with self._write() as db:
                _drop_events(
                    db, db.execute(sa.select(t.events.c.key).where(_old_apart), {"before": before}).scalars().all()
                )
            self._tidy()
        return Retired(bodies=bodies, apart=apart, messages=mails, experiments=names)

    def _close_ended(self, before: datetime, now: datetime, *, dry_run: bool) -> tuple[str, ...]:
        with self._read() as db:
            ended = db.execute(_ENDED, {"before": before}).all()
        running = [row.name for row in ended if row.state == "running"]
        if running and not dry_run:
            with self._write() as db:
                closed = t.experiments.update().where(t.experiments.c.name.in_(running))
                db.execute(closed.values(state="finished", ended_at=now))
        return tuple(row.name for row in ended)

    def _strip_old(self, before: datetime, *, dry_run: bool) -> int:
        """Leave of old events what counts, some at a time; returns how many had more."""
        done, after = 0, ""
        while True:
            with self._read() if dry_run else self._write() as db:
                rows = db.execute(_OLD_EVENTS, {"before": before, "after": after}).all()
                if not rows:
                    return done
                changes = _stripped(rows, {})
                if changes and not dry_run:
                    db.execute(_STRIP, changes)
                done, after = done + len(changes), rows[-1].key

    def _forgotten_at(self, db: sa.Connection, email: str) -> datetime | None:
        """When a person was forgotten before."""
        query = sa.select(sa.func.min(t.forgotten.c.at, type_=t.UTCDateTime))
        found: datetime | None = db.execute(query.where(t.forgotten.c.hash.in_(self._hashes(email)))).scalar()
        return found

    def _company(self, domain: str) -> str:
        """A name that stands for a domain: nobody can read it, and it is the same for all of a company's people."""
        return domain if domain.endswith(_NOWHERE) else f"d{self._hashes(domain)[0][:24]}{_NOWHERE}"

    def _tidy(self) -> None:
        """Write SQLite's file anew: what was deleted, now or earlier, lies about in its pages and in its log."""
        if self._engine.dialect.name != "sqlite" or self.is_in_memory:
            return
        connection = self._engine.raw_connection()
        try:
            for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                connection.cursor().execute(statement)
        except sqlite3.OperationalError as error:
            hint = "run the command again when nothing else uses the database"
            raise StoreError(f"all is erased, but the file could not be tidied: {error}", hint=hint) from error
        finally:
            connection.close()


def _holdings(db: sa.Connection, email: str) -> dict[str, Any]:
    known = {"email": email}
    person = db.execute(_PERSON, known).mappings().one_or_none()
    mails = [] if person is None else db.execute(_MAILS, {"r": person["id"]}).mappings().all()
    ids = {"ids": [mail["id"] for mail in mails]}
    return {
        "recipient": person,
        "suppression": db.execute(_SUPPRESSION, known).mappings().one_or_none(),
        "messages": mails,
        "slots": {row["message"]: row for row in db.execute(_SLOTS, ids).mappings()},
        "events": db.execute(_EVENTS, ids).mappings().all(),
        "apart": list(_apart(db, email, "" if person is None else person["id"])),
    }


def _apart(db: sa.Connection, email: str, recipient: str) -> Iterator[sa.RowMapping]:
    """Events of no known message that name the person."""
    written = json.dumps(email)[1:-1]
    for row in db.execute(_APART, execution_options={"yield_per": BATCH}).mappings():
        if row["body"].get("recipient") in {email, recipient or email} or written in json.dumps(row["body"]).lower():
            yield row


def _traces(found: Mapping[str, Any], before: datetime | None) -> Forgotten:
    return Forgotten(
        before=before,
        recipient=found["recipient"]["id"] if found["recipient"] else "",
        messages=tuple(mail["id"] for mail in found["messages"]),
        waiting=sum(mail["state"] in _WAITING for mail in found["messages"]),
        events=len(found["events"]),
        apart=len(found["apart"]),
        suppression=found["suppression"]["reason"] if found["suppression"] else "",
    )


def _erase(db: sa.Connection, email: str, found: Forgotten, company: _Company, *, now: datetime) -> None:
    """Erase what was found of a person; that the address is suppressed is the caller's to keep."""
    mails = db.execute(_MAILS, {"r": found.recipient}).all()
    if any(mail.state == State.SENDING for mail in mails):
        raise StoreError("a mail to this person is on its way right now", hint="nothing was erased; try again later")
    _drop_events(db, [row["key"] for row in _apart(db, email, found.recipient)])
    db.execute(t.suppressions.delete().where(t.suppressions.c.email == email))
    if found.recipient:
        waiting = (t.messages.c.recipient == found.recipient) & t.messages.c.state.in_(_WAITING)
        db.execute(t.messages.update().where(waiting).values(state=State.SUPPRESSED))
        for batch in batches(mails):
            _cut_loose(db, batch, company, now=now)
        db.execute(t.recipients.delete().where(t.recipients.c.id == found.recipient))


def _drop_events(db: sa.Connection, keys: Sequence[str]) -> None:
    for some in batches(keys):
        for table in (t.unmatched_events, t.events):
            db.execute(table.delete().where(table.c.key.in_(some)))


def _cut_loose(db: sa.Connection, mails: Sequence[Any], company: _Company, *, now: datetime) -> None:
    """Give mails to stand-ins, one for each person, under new ids; colleagues stay colleagues, and nobody else is."""
    people = {mail.recipient: f"erased-{secrets.token_hex(12)}" for mail in mails}
    homes = {}
    for mail in mails:
        stand_in = people[mail.recipient]
        homes[stand_in] = company(company_of(email_domain(mail.email)) or stand_in)
    moved = {mail.id: secrets.token_hex(16) for mail in mails}
    if not mails:
        return
    db.execute(t.recipients.insert(), [_stand_in(ident, home, now) for ident, home in homes.items()])
    pairs = [{"old": m.id, "new": moved[m.id], "stand_in": people[m.recipient]} for m in mails]
    statements: tuple[sa.Executable, ...] = (_COPY, *_MOVES)
    for statement in statements:
        db.execute(statement, pairs)
    if changes := _stripped(db.execute(_EVENTS, {"ids": list(moved)}).all(), moved):
        db.execute(_STRIP, changes)
    for statement in _DROP:
        db.execute(statement, pairs)


def _stand_in(ident: str, home: str, now: datetime) -> dict[str, Any]:
    return {
        "id": ident, "email": f"{ident}@{home}", "attributes": {}, "zone": None, "imported_at": now,
        "erased_at": now, "domain": "",
    }  # fmt: skip


def _stripped(events: Sequence[Any], moved: Mapping[str, str]) -> list[dict[str, Any]]:
    """What to change so that events keep what counts and tell nothing of a person.

    Args:
        events: Rows: key, message and body.
        moved: Message -> its new id, for those that are cut loose from their person.
    """
    changes = []
    for row in events:
        event = to_event(row)
        policy = "policy:" if event.detail.startswith("policy:") else ""  # it tells what a soft bounce was about
        key = f"erased-{secrets.token_hex(12)}" if row.message in moved else row.key
        message = moved.get(row.message, row.message)
        bare = replace(event, message_id=message, experiment="", recipient="", detail=policy, key=key, facts=None)
        if bare != event or row.network is not None:
            changes.append({"k": row.key, "new_key": key, "m": message, "b": bare.to_dict()})
    return changes
