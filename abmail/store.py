"""The database: recipients, experiment versions, epochs, the message ledger, events, suppressions and counts.

SQLite (in WAL mode) by default, PostgreSQL by URL; both through SQLAlchemy, with the same behaviour. Every method is
one transaction. Nothing here decides anything: which cell, which weights and when is the engine's part.

The ledger. A message is a row from the moment an experiment is applied::

    queued -> assigned -> sending -> sent
                 ^           |-> failed | uncertain
                 '-- retry --'
    held_out | suppressed | cancelled       (never sent)

``sending`` is committed before the transport is called, ``sent`` after. A row that is found ``sending`` when its worker
is gone may or may not have reached the server; it becomes ``uncertain`` and is never sent again on its own.

Counts are one additive table: experiment x epoch x cell x stratum x metric x 10-minute bin. Sends are binned by the age
of their epoch, outcomes by their delay after the send; from it come the totals, the delay histogram and the exposure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from abmail import _statements as sql
from abmail import _tables as t
from abmail._connection import BATCH as _BATCH
from abmail._connection import batches as _batches
from abmail._database import is_dead, upgrade, worker_name
from abmail._people import People
from abmail._records import (
    BIN_SECONDS,
    Claimed,
    Epoch,
    Imported,
    Recorded,
    Snapshot,
    State,
    StoredExperiment,
    StoredMessage,
    Tally,
    ValuedMail,
    bin_of,
    counted_anew,
    epoch_row,
    metrics_of,
    proves_delivery,
    suppression_reason,
    to_epoch,
    to_experiment,
    to_message,
    to_recipient,
    to_tally,
)
from abmail._soft_bounces import soft_bouncer
from abmail._strata import tallies_by
from abmail._valued import values_of
from abmail.errors import StalePlan, StoreError, UnknownExperiment
from abmail.events import Event
from abmail.recipient import Recipient

__all__ = [
    "BIN_SECONDS",
    "Claimed",
    "Epoch",
    "Imported",
    "Recorded",
    "Snapshot",
    "State",
    "Store",
    "StoredExperiment",
    "StoredMessage",
    "Tally",
    "ValuedMail",
    "upgrade",
    "worker_name",
]

_LEASE: Final = timedelta(minutes=15)
_TRIES: Final = 5
_DEADLOCK: Final = "40P01"  # PostgreSQL: two batches met the same counts in another order
_LOOK_AGAIN: Final = timedelta(seconds=1)


class Store(People):
    """A database of abmail.

    Args:
        url: An SQLAlchemy URL: ``sqlite:///mail.db``, ``postgresql://user@host/name``; ``sqlite://`` is a database in
            memory, for one thread.

    Raises:
        ConfigError: The URL is not one that abmail can use.
        NotMigrated: The database belongs to an older or newer version of abmail.
        StoreError: The database cannot be reached.
    """

    # -- experiments and epochs -------------------------------------------------------------------------------------

    def experiments(self) -> tuple[StoredExperiment, ...]:
        """All applied experiments with their newest version, by name."""
        with self._read() as db:
            names = db.execute(sa.select(t.experiments.c.name).order_by(t.experiments.c.name)).scalars().all()
            return tuple(_experiment(db, name) for name in names)

    def experiment(self, name: str) -> StoredExperiment:
        """One applied experiment with its newest version.

        Raises:
            UnknownExperiment: None of that name was applied.
        """
        with self._read() as db:
            return _experiment(db, name)

    def version(self, name: str, number: int) -> StoredExperiment:
        """One applied experiment as an older version of it stands."""
        with self._read() as db:
            return _experiment(db, name, number)

    def files(self, name: str, version: int) -> dict[str, bytes]:
        """What the mails of a version are made of beside its templates: path in the project -> content."""
        with self._read() as db:
            return {row.path: row.content for row in db.execute(sql.VERSION_FILES, {"e": name, "v": version})}

    def apply(
        self,
        name: str,
        *,
        spec_hash: str,
        content_hash: str,
        definition: Mapping[str, Any],
        template: str,
        text_template: str | None,
        waves: Sequence[int],
        messages: Iterable[Mapping[str, Any]],
        after_version: int,
        now: datetime,
        files: Mapping[str, bytes] | None = None,
    ) -> tuple[int, int]:
        """Store a version and its outbox rows, all or nothing.

        Args:
            name: The experiment.
            spec_hash: Hash of the definition.
            content_hash: Hash of definition and templates; an unchanged one adds no version.
            definition: The resolved definition, JSON-able.
            template: The HTML template's source.
            text_template: The text template's source.
            waves: Planned size of each epoch.
            messages: Rows with id, recipient, state, position, zone and propensity; those already in the ledger stay.
            after_version: The version that the plan was made against, 0 for none.
            now: Time of the deed.
            files: What the templates include, and what is attached: path in the project -> content.

        Returns:
            The version in force and the number of new ledger rows.

        Raises:
            StalePlan: Another version was applied since.
        """
        with self._write() as db:
            current = _version_number(db, name)
            if current != after_version:
                raise StalePlan(
                    f"experiment {name} is at version {current}, the plan was made against version {after_version}",
                    hint="make the plan again",
                )
            if current == 0:
                db.execute(t.experiments.insert().values(name=name, state="running", started_at=now))
            version = current
            if current == 0 or _experiment(db, name).content_hash != content_hash:
                version = current + 1
                db.execute(
                    t.versions.insert().values(
                        experiment=name, version=version, spec_hash=spec_hash, content_hash=content_hash,
                        definition=dict(definition), template=template, text_template=text_template,
                        waves=list(waves), applied_at=now,
                    )
                )  # fmt: skip
                for path, content in (files or {}).items():
                    kept = {"experiment": name, "version": version, "path": path, "content": content}
                    db.execute(t.version_files.insert(), kept)
            added = sum(
                self._insert_new(db, t.messages, [{"experiment": name, "step": 0, **row} for row in batch])
                for batch in _batches(messages)
            )
            return version, added

    def in_ledger(self, name: str) -> frozenset[str]:
        """Ids of the recipients who already have a row in this experiment."""
        with self._read() as db:
            query = sa.select(t.messages.c.recipient).where(t.messages.c.experiment == name)
            return frozenset(db.execute(query).scalars())

    def end_experiment(self, name: str, *, state: str, verdict: Mapping[str, Any], now: datetime) -> None:
        """Note how the experiment was settled, and leave what is still queued to the caller."""
        with self._write() as db:
            db.execute(
                t.experiments.update()
                .where(t.experiments.c.name == name)
                .values(state=state, verdict=dict(verdict), ended_at=now)
            )

    def note_verdict(self, name: str, verdict: Mapping[str, Any]) -> None:
        """Note the decision of a running experiment; the first one stays."""
        with self._write() as db:
            running = (t.experiments.c.name == name) & t.experiments.c.verdict.is_(sa.null())
            db.execute(t.experiments.update().where(running).values(verdict=dict(verdict)))

    def cancel_queued(self, name: str) -> int:
        """Cancel every message that was not handed to a transport; returns how many."""
        with self._write() as db:
            waiting = (t.messages.c.experiment == name) & t.messages.c.state.in_([State.QUEUED, State.ASSIGNED])
            return db.execute(t.messages.update().where(waiting).values(state=State.CANCELLED)).rowcount

    def epochs(self, name: str) -> tuple[Epoch, ...]:
        """The epochs of an experiment, first to last."""
        with self._read() as db:
            return _epochs(db, name)

    def queued(self, name: str, *, zones: Sequence[str] | None = None) -> int:
        """Number of messages that wait for an epoch, in some zones or in all."""
        waiting = (t.messages.c.experiment == name) & (t.messages.c.state == State.QUEUED)
        return self._number(t.messages, waiting if zones is None else waiting & t.messages.c.zone.in_(zones))

    def count_due(self, name: str, *, zones: Sequence[str], now: datetime) -> int:
        """Number of messages with a cell that may go out now in some zones, whoever holds them."""
        due = (t.messages.c.experiment == name) & (t.messages.c.state == State.ASSIGNED) & (t.messages.c.due_at <= now)
        return self._number(t.messages, due & t.messages.c.zone.in_(zones))

    def zones(self, name: str, *, state: State | None = None) -> tuple[str, ...]:
        """Time zones of the messages that still wait: of those in one state, or of all that are queued or assigned."""
        with self._read() as db:
            waiting = t.messages.c.state.in_([State.QUEUED, State.ASSIGNED] if state is None else [state])
            query = sa.select(t.messages.c.zone).where((t.messages.c.experiment == name) & waiting).distinct()
            return tuple(sorted(db.execute(query).scalars()))

    def open_epoch(
        self,
        name: str,
        epoch: Epoch,
        *,
        zones: Sequence[str],
        assign: Callable[[Sequence[Recipient]], Sequence[tuple[int, float]]],
        now: datetime,
    ) -> int:
        """Open an epoch: take its recipients from the queue and fix their cells, all or nothing.

        Args:
            name: The experiment.
            epoch: Number, weights and the rest; ``planned`` is the number of recipients to take at most.
            zones: Only recipients in these zones.
            assign: Gives (cell, propensity) for each recipient.
            now: When the messages fall due.

        Returns:
            The number of recipients taken; 0 leaves no epoch behind: nobody waits in these zones, or another process
            opened this epoch first.
        """
        with self._write() as db:
            last = sa.select(sa.func.coalesce(sa.func.max(t.epochs.c.number), -1)).where(t.epochs.c.experiment == name)
            db.execute(sa.select(t.experiments.c.name).where(t.experiments.c.name == name).with_for_update())
            if db.execute(last).scalar_one() != epoch.number - 1:
                return 0
            taken = db.execute(sql.NEXT_IN_QUEUE, {"e": name, "zones": list(zones), "n": epoch.planned}).all()
            if not taken:
                return 0
            waiting = _states(db, name).get(State.QUEUED, 0) - len(taken)
            db.execute(
                t.epochs.insert().values(experiment=name, **epoch_row(epoch, size=len(taken), remaining=waiting))
            )
            cells = assign([to_recipient(row) for row in taken])
            update = (
                t.messages.update()
                .where(t.messages.c.id == sa.bindparam("message"))
                .values(
                    state=State.ASSIGNED, epoch=epoch.number, due_at=now,
                    cell=sa.bindparam("c"), propensity=sa.bindparam("p"),
                )
            )  # fmt: skip
            pairs = zip(taken, cells, strict=True)
            db.execute(update, [{"message": row.message, "c": c, "p": p} for row, (c, p) in pairs])
            return len(taken)

    # -- the outbox -------------------------------------------------------------------------------------------------

    def claim(
        self, *, worker: str, limit: int, now: datetime, open_zones: Mapping[str, Sequence[str]]
    ) -> list[Claimed]:
        """Lease due messages of running experiments to a worker, in the order of the waves.

        Args:
            worker: `worker_name` of the caller.
            limit: At most so many.
            now: Decides what is due.
            open_zones: Per running experiment, the zones in which mail may go out now.
        """
        claimable = sa.or_(
            *(
                (t.messages.c.experiment == name) & t.messages.c.zone.in_(zones)
                for name, zones in open_zones.items()
                if zones
            ),
            sa.false(),
        )
        due = (
            sa.select(t.messages.c.id)
            .where(t.messages.c.state == State.ASSIGNED, claimable, t.messages.c.due_at <= now)
            .where(t.messages.c.lease_until.is_(None) | (t.messages.c.lease_until <= now))
            .order_by(t.messages.c.epoch, t.messages.c.position)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self._write() as db:
            ids = list(db.execute(due).scalars())
            if not ids:
                return []
            for batch in _batches(ids):
                lease = t.messages.update().where(t.messages.c.id.in_(batch))
                db.execute(lease.values(worker=worker, lease_until=now + _LEASE))
            return self._claimed(db, ids)

    def _claimed(self, db: sa.Connection, ids: Sequence[str]) -> list[Claimed]:
        found: dict[str, Claimed] = {}
        for batch in _batches(ids):
            for row in db.execute(sql.CLAIMED, {"ids": batch}):
                found[row.message] = Claimed(
                    id=row.message, experiment=row.experiment, version=row.version, epoch=row.epoch, cell=row.cell,
                    attempts=row.attempts, recipient=to_recipient(row),
                )  # fmt: skip
        return [found[i] for i in ids if i in found]

    def mark_sending(self, message: str, *, worker: str, now: datetime) -> bool:
        """Commit the intent to send, before the transport is called.

        Returns:
            False where the message is no longer this worker's to send: cancelled, leased to another, or suppressed.
        """
        known = {"m": message, "w": worker}
        with self._write() as db:
            if db.execute(sql.MARK_SENDING, {**known, "now": now, "until": now + _LEASE}).rowcount:
                return True
            db.execute(sql.MARK_SUPPRESSED, known)
            return False

    def mark_sent(self, message: str, *, now: datetime) -> None:
        """Commit that the server accepted the message."""
        with self._write() as db:
            row = _message(db, message, lock=True)
            if row is not None and row.state in {State.SENDING, State.UNCERTAIN}:
                self._settle_sent(db, row, now)

    def mark_retry(self, message: str, *, due_at: datetime, error: str, attempted: bool = True) -> bool:
        """Put a message back, to be tried again from ``due_at`` on; ``attempted=False`` does not count the try.

        Returns:
            False where its experiment was stopped meanwhile: the message is cancelled then.
        """
        attempts = t.messages.c.attempts if attempted else t.messages.c.attempts - 1
        with self._write() as db:
            running = db.execute(sql.EXPERIMENT_STATE, {"m": message}).scalar() == "running"
            state = State.ASSIGNED if running else State.CANCELLED
            waiting = {"state": state, "due_at": due_at, "worker": None, "lease_until": None}
            _finish(db, message, **waiting, attempts=attempts, error=error)
            return running

    def mark_failed(self, message: str, *, error: str) -> None:
        """Commit that the message will never be sent."""
        with self._write() as db:
            _finish(db, message, state=State.FAILED, error=error)

    def mark_uncertain(self, message: str, *, error: str) -> None:
        """Commit that nobody knows whether the server has the message."""
        with self._write() as db:
            _finish(db, message, state=State.UNCERTAIN, error=error)

    def release(self, worker: str) -> int:
        """Give back what a worker holds but has not begun to send."""
        with self._write() as db:
            held = (t.messages.c.worker == worker) & (t.messages.c.state == State.ASSIGNED)
            return db.execute(t.messages.update().where(held).values(worker=None, lease_until=None)).rowcount

    def fail_claimed(self, message: str, *, worker: str, error: str) -> None:
        """Commit that a claimed message cannot be made (its mail does not render)."""
        with self._write() as db:
            mine = (t.messages.c.id == message) & (t.messages.c.worker == worker)
            db.execute(
                t.messages.update()
                .where(mine & (t.messages.c.state == State.ASSIGNED))
                .values(state=State.FAILED, error=error)
            )

    def recover(self, *, now: datetime) -> int:
        """Settle what dead workers left: leases go back, half-sent messages become ``uncertain``; returns how many are.

        A worker is dead when its process is gone (seen on the same machine) or its lease is over.
        """
        held = t.messages.c.worker.is_not(None) & t.messages.c.state.in_([State.ASSIGNED, State.SENDING])
        with self._read() as db:
            workers = db.execute(sa.select(t.messages.c.worker).where(held).distinct()).scalars().all()
        dead = [worker for worker in workers if worker and is_dead(worker)]
        gone = held & (t.messages.c.worker.in_(dead) | (t.messages.c.lease_until <= now))
        with self._write() as db:
            lost = db.execute(
                t.messages.update()
                .where(gone & (t.messages.c.state == State.SENDING))
                .values(state=State.UNCERTAIN, error="the sender ended before the server's answer was noted")
            ).rowcount
            db.execute(
                t.messages.update()
                .where(gone & (t.messages.c.state == State.ASSIGNED))
                .values(worker=None, lease_until=None)
            )
        return lost

    def settle(self, message: str, *, sent: bool, now: datetime) -> bool:
        """An operator's word on an ``uncertain`` message; returns False where it is not uncertain."""
        with self._write() as db:
            row = _message(db, message, lock=True)
            if row is None or row.state != State.UNCERTAIN:
                return False
            if sent:
                self._settle_sent(db, row, now)
            else:
                db.execute(t.messages.update().where(t.messages.c.id == message).values(state=State.FAILED))
            return True

    def _settle_sent(self, db: sa.Connection, row: sa.Row[Any], now: datetime) -> None:
        db.execute(sql.MARK_SENT, {"m": row.id, "now": now})
        self._add(db, row, "sent", bin_of(row.opened_at, row.attempted_at), 1)
        for body in db.execute(sql.BODIES, {"m": row.id}).scalars():  # those that came before we knew
            self._count(db, row, Event.from_dict(body))

    def message(self, message: str) -> StoredMessage | None:
        """One row of the ledger; None where there is none."""
        with self._read() as db:
            row = _message(db, message)
            return None if row is None else to_message(row)

    def assigned(self, message: str) -> Claimed | None:
        """What a message that has a cell is made of, whoever holds it; None where there is none."""
        with self._read() as db:
            return next(iter(self._claimed(db, [message])), None)

    def messages(self, name: str, *, states: Sequence[State] | None = None) -> Iterator[StoredMessage]:
        """Rows of the ledger of one experiment, in the order of the waves."""
        query = _message_query().where(t.messages.c.experiment == name).order_by(t.messages.c.position)
        if states is not None:
            query = query.where(t.messages.c.state.in_(states))
        with self._read() as db:
            for row in db.execution_options(yield_per=_BATCH).execute(query):
                yield to_message(row)

    def states(self, name: str) -> dict[State, int]:
        """Number of messages in each state."""
        with self._read() as db:
            return _states(db, name)

    def next_due(self, name: str, *, now: datetime) -> dict[str, datetime]:
        """Per time zone, when the next assigned message falls due; zones in which none is assigned are left out.

        One that another worker holds may come back at any time: it is worth a look every second.
        """
        lease = t.messages.c.lease_until
        free = sa.case((lease.is_(None) | (lease <= now), t.messages.c.due_at))
        held = sa.func.count(sa.case((lease > now, lease)))
        query = (
            sa.select(t.messages.c.zone, sa.func.min(free), held)
            .where(t.messages.c.experiment == name, t.messages.c.state == State.ASSIGNED)
            .group_by(t.messages.c.zone)
        )
        again = now + _LOOK_AGAIN
        with self._read() as db:
            return {zone: min(due or again, again) if n_held else due for zone, due, n_held in db.execute(query)}

    # -- events and counts ------------------------------------------------------------------------------------------

    def record(self, events: Iterable[Event], *, now: datetime) -> list[Recorded]:
        """Append events and bring the counts, the ledger and the suppressions up to date with them.

        Events may come in any order, late and more than once. One whose message is not known is kept apart.

        Args:
            events: The events.
            now: When they reached us.

        Returns:
            What became of each, in order.
        """
        batch = tuple(events)
        for _ in range(_TRIES):
            try:
                with self._write() as db:
                    return [self._record(db, event, now) for event in batch]
            except StoreError as error:
                if not isinstance(error.__cause__, sa.exc.DBAPIError):
                    raise
                if getattr(error.__cause__.orig, "sqlstate", None) != _DEADLOCK:
                    raise
        raise StoreError(f"{len(batch)} events could not be recorded: other writers were in the way {_TRIES} times")

    def _record(self, db: sa.Connection, event: Event, now: datetime) -> Recorded:
        row = self._find(db, event)
        entry = {
            "key": event.key, "message": None if row is None else row.id, "type": event.type, "at": event.at,
            "seen_at": now, "verdict": event.verdict, "body": event.to_dict(),
        }  # fmt: skip
        if not db.execute(self._upserts.event, entry).all():
            return Recorded.DUPLICATE
        if row is None:
            return Recorded.UNKNOWN_MESSAGE
        if row.state == State.SENT:
            self._count(db, row, event)
        elif row.attempted_at is not None and proves_delivery(row.state, event):
            self._settle_sent(db, row, now)
        if reason := suppression_reason(event) or soft_bouncer(db, row.email, event):
            db.execute(self._upserts.suppression, {"email": row.email, "reason": reason, "at": event.at})
        return Recorded.NEW

    def _find(self, db: sa.Connection, event: Event) -> sa.Row[Any] | None:
        if event.message_id:
            return _message(db, event.message_id, lock=True)
        where = (t.messages.c.experiment == event.experiment) & (t.messages.c.recipient == event.recipient)
        newest = sa.select(t.messages.c.id).where(where).order_by(t.messages.c.step.desc()).limit(1)
        message = db.execute(newest).scalar()
        return None if message is None else _message(db, message, lock=True)

    def _count(self, db: sa.Connection, row: sa.Row[Any], event: Event) -> None:
        for metric in metrics_of(event):
            self._note_first(db, row, metric, event.at)

    def _note_first(self, db: sa.Connection, row: sa.Row[Any], metric: str, at: datetime) -> None:
        """Count the first event of a kind; one that was earlier than the first we knew moves the count."""
        known = {"m": row.id, "k": metric}
        before = db.execute(sql.FIRST, known).scalar()
        if before is None:
            db.execute(t.outcomes.insert(), {"message": row.id, "metric": metric, "at": at})
            self._add(db, row, metric, bin_of(row.attempted_at, at), 1)
        elif at < before:
            db.execute(sql.MOVE_FIRST, {**known, "new": at})
            self._add(db, row, metric, bin_of(row.attempted_at, before), -1)
            self._add(db, row, metric, bin_of(row.attempted_at, at), 1)

    def _add(self, db: sa.Connection, row: sa.Row[Any], metric: str, where: int, n: int) -> None:
        key = {"experiment": row.experiment, "epoch": row.epoch, "cell": row.cell, "stratum": "", "metric": metric}
        db.execute(self._upserts.count, {**key, "bin": where, "n": n})

    def tally(self, name: str, *, n_cells: int) -> Tally:
        """The counts of one experiment."""
        with self._read() as db:
            return _tally(db, name, n_cells)

    def snapshot(
        self, name: str, *, n_cells: int, by: str | None = None, valued: str | None = None, window: float = math.inf
    ) -> Snapshot:
        """All that is known of an experiment at one moment; what others write meanwhile does not show in it.

        With ``by``, the counts also for each value of that attribute of the recipients (or ``domain``). With
        ``valued``, a type of event, what each mail brought in by such events within ``window`` seconds.

        Raises:
            UnknownExperiment: None of that name was applied.
            ValueError: No recipient has the attribute.
        """
        known = {"e": name}
        with self._read() as db:
            stored, epochs = _experiment(db, name), _epochs(db, name)
            return Snapshot(
                stored=stored,
                epochs=epochs,
                waves=_experiment(db, name, epochs[0].version).waves if epochs else stored.waves,
                tally=_tally(db, name, n_cells),
                states=_states(db, name),
                last_send=dict(db.execute(sql.LAST_SEND, known).all()),
                unsettled=dict(db.execute(sql.UNSETTLED, known).all()),
                segments={} if by is None else tallies_by(db, name, by, n_epochs=len(epochs), n_cells=n_cells),
                values=() if valued is None else values_of(db, name, valued, window=window),
            )

    def recount(self, name: str, *, n_cells: int) -> Tally:
        """The same counts, made anew from the ledger and the events; what `tally` must equal."""
        with self._read() as db:
            opened = {epoch.number: epoch.opened_at for epoch in _epochs(db, name)}
            sent = (t.messages.c.experiment == name) & (t.messages.c.state == State.SENT)
            ledger = {row.id: row for row in db.execute(_message_query().where(sent))}
            bodies = db.execute(sa.select(t.events.c.message, t.events.c.body))
            events = ((message, Event.from_dict(body)) for message, body in bodies if message in ledger)
            return to_tally(counted_anew(opened, ledger, events), len(opened), n_cells)

    def events(self, name: str) -> Iterator[Event]:
        """The events of one experiment's messages, by time."""
        query = (
            sa.select(t.events.c.body)
            .join(t.messages, t.messages.c.id == t.events.c.message)
            .where(t.messages.c.experiment == name)
            .order_by(t.events.c.at, t.events.c.key)
        )
        with self._read() as db:
            for (body,) in db.execution_options(yield_per=_BATCH).execute(query):
                yield Event.from_dict(body)


def _version_number(db: sa.Connection, name: str) -> int:
    return int(db.execute(sql.NEWEST_VERSION, {"e": name}).scalar_one())


def _experiment(db: sa.Connection, name: str, version: int | None = None) -> StoredExperiment:
    number = _version_number(db, name) if version is None else version
    row = db.execute(sql.EXPERIMENT, {"e": name, "v": number}).one_or_none()
    if row is None:
        raise UnknownExperiment(
            f"no experiment '{name}' was applied",
            hint=f"run `abmail apply {name}` first; `abmail status` lists them all",
        )
    return to_experiment(row)


def _epochs(db: sa.Connection, name: str) -> tuple[Epoch, ...]:
    return tuple(to_epoch(row) for row in db.execute(sql.EPOCHS, {"e": name}))


def _states(db: sa.Connection, name: str) -> dict[State, int]:
    return {State(state): n for state, n in db.execute(sql.STATES, {"e": name})}


def _tally(db: sa.Connection, name: str, n_cells: int) -> Tally:
    n_epochs = db.execute(sql.N_EPOCHS, {"e": name}).scalar_one()
    return to_tally(db.execute(sql.TALLY, {"e": name}).all(), n_epochs, n_cells)


def _finish(db: sa.Connection, message: str, **values: Any) -> None:
    sending = (t.messages.c.id == message) & (t.messages.c.state == State.SENDING)
    db.execute(t.messages.update().where(sending).values(**values))


def _message_query() -> sa.Select[Any]:
    return sa.select(t.messages, t.recipients.c.email).join(t.recipients)


def _message(db: sa.Connection, message: str, *, lock: bool = False) -> sa.Row[Any] | None:
    return db.execute(sql.LOCKED if lock else sql.MESSAGE, {"m": message}).one_or_none()
