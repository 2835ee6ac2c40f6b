"""The database: recipients, experiment versions, epochs, the message ledger, events, suppressions and counts.

SQLite (in WAL mode) by default, PostgreSQL by URL; both through SQLAlchemy, with the same behaviour. Every method is
one transaction. Nothing here decides anything: which cell, which weights and when is the engine's part.

The ledger. A message is a row from the moment an experiment is applied::

    queued -> assigned -> sending -> sent
                 ^           |-> failed | uncertain
                 '-- retry --'
    held_out | suppressed | cancelled | expired      (never sent)

``sending`` is committed before the transport is called, ``sent`` after. A row that is found ``sending`` when its worker
is gone may or may not have reached the server; it becomes ``uncertain`` and is never sent again on its own.

Counts are one additive table: experiment x epoch x cell x stratum x metric x 10-minute bin. Sends are binned by the age
of their epoch, outcomes by their delay after the send; from it come the totals, the delay histogram and the exposure.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from abmail import _journal as journal
from abmail import _statements as sql
from abmail import _tables as t
from abmail._bulk import candidates, insert_messages
from abmail._claims import LEASE, Claims
from abmail._companies import companies_of
from abmail._connection import BATCH as _BATCH
from abmail._connection import batches
from abmail._crowd_counts import count_crowd
from abmail._database import is_dead, upgrade, worker_name
from abmail._erasure import Forgotten, Retired
from abmail._journal import Backlog
from abmail._matching import known_messages, messages_to
from abmail._outcomes import take_turns
from abmail._past_mails import past_mails
from abmail._recording import Recorder
from abmail._records import (
    BIN_SECONDS,
    UNTRACKED,
    Candidate,
    Claimed,
    CompanyMails,
    CrowdHit,
    Epoch,
    EventFacts,
    Imported,
    Outcome,
    PastMail,
    Placed,
    Recorded,
    Rejudged,
    Release,
    Slot,
    SlotMail,
    Snapshot,
    State,
    StoppedArm,
    StoredExperiment,
    StoredMessage,
    Tally,
    Tracking,
    ValuedMail,
    Waiting,
    counted_anew,
    epoch_row,
    to_epoch,
    to_event,
    to_experiment,
    to_message,
    to_recipient,
    to_stopped,
    to_tally,
)
from abmail._rejudging import Rejudging, facts_of_events, settled_only
from abmail._strata import tallies_by
from abmail._valued import values_of
from abmail._values import nearest
from abmail.errors import StalePlan, StoreError, UnknownExperiment
from abmail.events import Event
from abmail.recipient import Recipient

__all__ = [
    "BIN_SECONDS",
    "UNTRACKED",
    "Backlog",
    "Candidate",
    "Claimed",
    "CompanyMails",
    "CrowdHit",
    "Epoch",
    "EventFacts",
    "Forgotten",
    "Imported",
    "Outcome",
    "PastMail",
    "Placed",
    "Recorded",
    "Rejudged",
    "Release",
    "Retired",
    "Slot",
    "SlotMail",
    "Snapshot",
    "State",
    "StoppedArm",
    "Store",
    "StoredExperiment",
    "StoredMessage",
    "Tally",
    "Tracking",
    "ValuedMail",
    "Waiting",
    "upgrade",
    "worker_name",
]

_EPOCH_BATCH: Final = 20_000
_TRIES: Final = 5
_DEADLOCK: Final = "40P01"  # PostgreSQL: two batches met the same counts in another order
_T = TypeVar("_T")
_LOOK_AGAIN: Final = timedelta(seconds=1)


class Store(Rejudging):
    """A database of abmail.

    Args:
        url: An SQLAlchemy URL: ``sqlite:///mail.db``, ``postgresql://user@host/name``; ``sqlite://`` is a database in
            memory, for one thread.
        read_only: Whether nothing may be written; the right to read is then enough. A database that is not there yet is
            read as an empty one.

    Raises:
        ConfigError: The URL is not one that abmail can use.
        NotMigrated: The database belongs to an older or newer version of abmail.
        StoreError: The database cannot be reached.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        super().__init__(url, read_only=read_only)
        self._claims = Claims(self._upserts, self._outcomes)
        self._recorder = Recorder(self._upserts, self._claims, self._outcomes, self._sources)

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
        messages: Callable[[Iterator[Candidate]], Iterable[Mapping[str, Any]]],
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
            messages: Makes rows with id, recipient, state, position, zone and propensity; it is given everybody,
                page by page. Rows that are already in the ledger stay.
            after_version: The version that the plan was made against, 0 for none.
            now: Time of the deed.
            files: What the templates include, and what is attached: path in the project -> content.

        Returns:
            The version in force and the number of new ledger rows.

        Raises:
            StalePlan: Another version was applied since, or the experiment was stopped. The same content again is no
                other version.
        """
        with self._write() as db:
            self._insert_new(db, t.experiments, [{"name": name, "state": "running", "started_at": now}])
            named = t.experiments.c.name == name  # of two processes that come at once, the second one waits here
            state = db.execute(sa.select(t.experiments.c.state).where(named).with_for_update()).scalar_one()
            current = _version_number(db, name)
            done = current == after_version + 1 and _experiment(db, name).content_hash == content_hash
            if current != after_version and not done:
                raise StalePlan(
                    f"experiment {name} is at version {current}, the plan was made against version {after_version}",
                    hint="make the plan again",
                )
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
            added = insert_messages(db, name, messages(candidates(db, name)))
            if state != "running" and (added or version != current):
                raise StalePlan(f"experiment {name} was stopped after the plan was made", hint="make the plan again")
            self._recorder.join_known(db, name, now=now)
            if self._sources.set(db, name, definition):
                self._recorder.recount(db, [name])
            return version, added

    def candidates(self, name: str) -> Iterator[Candidate]:
        """Everybody, by id, with what bars a mail of one experiment."""
        with self._read() as db:
            yield from candidates(db, name)

    def pause(self, name: str, *, reason: str, now: datetime) -> bool:
        """Let no further mail of an experiment go out until it is resumed; returns False where it was paused before."""
        with self._write() as db:
            return bool(db.execute(sql.PAUSE, {"e": name, "why": reason, "now": now}).rowcount)

    def resume(self, name: str) -> bool:
        """Let mails go out again; returns False where nothing was paused."""
        with self._write() as db:
            return bool(db.execute(sql.RESUME, {"e": name}).rowcount)

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

    def stop_arm(self, name: str, arm: StoppedArm) -> bool:
        """Note that a cell gets no more mail; returns False where it had been stopped before."""
        with self._write() as db:
            row = {"experiment": name, "cell": arm.cell, "at": arm.at, "reason": arm.reason, "by": arm.by}
            return bool(self._insert_new(db, t.stopped_arms, [row]))

    def stopped_arms(self, name: str) -> tuple[StoppedArm, ...]:
        """The cells that get no more mail, in the order of their stops."""
        with self._read() as db:
            return _stopped(db, name)

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
        """Number of messages that wait and have no moment of their own, in some zones or in all."""
        waiting = (
            (t.messages.c.experiment == name) & (t.messages.c.state == State.QUEUED) & t.messages.c.due_at.is_(None)
        )
        return self._number(t.messages, waiting if zones is None else waiting & t.messages.c.zone.in_(zones))

    def count_due(self, name: str, *, zones: Sequence[str], now: datetime) -> int:
        """Number of messages with a cell that may go out now in some zones, whoever holds them."""
        due = (t.messages.c.experiment == name) & (t.messages.c.state == State.ASSIGNED) & (t.messages.c.due_at <= now)
        return self._number(t.messages, due & t.messages.c.zone.in_(zones))

    def zones(self, name: str, *, state: State | None = None) -> tuple[str, ...]:
        """Time zones of the messages that still wait: of those in one state, or of all that are queued or assigned."""
        states = (State.QUEUED, State.ASSIGNED) if state is None else (state,)
        with self._read() as db:
            return tuple(sorted({zone for each in states for zone in _zones(db, name, each)}))

    def open_epoch(
        self,
        name: str,
        epoch: Epoch,
        *,
        zones: Sequence[str],
        assign: Callable[[Sequence[Recipient]], Sequence[Placed]],
        now: datetime,
        expires: timedelta | None = None,
        whole: bool = False,
        before: datetime | None = None,
    ) -> int:
        """Open an epoch: take its recipients from the queue and fix their cells, all or nothing.

        Args:
            name: The experiment.
            epoch: Number, weights and the rest; ``planned`` is the number of recipients to take at most.
            zones: Only recipients in these zones.
            assign: Gives cell, propensity and segment of each recipient; called for some thousands at a time.
            now: When the messages fall due.
            expires: How long after that they may still be sent; None for ever.
            whole: Whether ``assign`` has to be given everybody at once, as exact shares need it.
            before: Only messages with a moment of their own before this one, which they keep; by default only those
                without one.

        Returns:
            The number of recipients taken; 0 leaves no epoch behind: nobody waits in these zones, or another process
            opened this epoch first.
        """
        with self._write() as db:
            last = sa.select(sa.func.coalesce(sa.func.max(t.epochs.c.number), -1)).where(t.epochs.c.experiment == name)
            db.execute(sa.select(t.experiments.c.name).where(t.experiments.c.name == name).with_for_update())
            if db.execute(last).scalar_one() != epoch.number - 1:
                return 0
            waiting = _states(db, name).get(State.QUEUED, 0)
            size = 0
            due = {"due": now, "late": None if expires is None else now + expires} if before is None else {}
            while taken := self._next_in_queue(
                db, name, zones, min(epoch.planned - size, epoch.planned if whole else _EPOCH_BATCH), before
            ):
                cells = assign([to_recipient(row) for row in taken])
                pairs = zip(taken, cells, strict=True)
                rows = [
                    {"m": row.message, "c": one.cell, "p": one.propensity, "s": one.stratum, "t": one.tracking}
                    for row, one in pairs
                ]
                assigned = sql.ASSIGN if before is None else sql.ASSIGN_PLANNED
                db.execute(assigned, [{**row, **due, "number": epoch.number} for row in rows])
                size += len(taken)
            if size:
                row = epoch_row(epoch, size=size, remaining=waiting - size)
                db.execute(t.epochs.insert().values(experiment=name, **row))
            return size

    def _next_in_queue(
        self, db: sa.Connection, name: str, zones: Sequence[str], n: int, before: datetime | None
    ) -> Sequence[sa.Row[Any]]:
        wanted: dict[str, Any] = {"e": name, "zones": list(zones), "n": n}
        if before is None:
            return db.execute(sql.NEXT_IN_QUEUE, wanted).all() if n > 0 else ()
        return db.execute(sql.NEXT_PLANNED, {**wanted, "before": before}).all() if n > 0 else ()

    # -- the outbox -------------------------------------------------------------------------------------------------

    def claim(
        self, *, worker: str, limit: int, now: datetime, open_zones: Mapping[str, Sequence[str]]
    ) -> list[Claimed]:
        """Lease due messages to a worker, in the order of the waves; those that are past their time expire instead.

        Args:
            worker: `worker_name` of the caller.
            limit: At most so many.
            now: Decides what is due.
            open_zones: Per running experiment, the zones in which mail may go out now.
        """
        return self._in_turn(
            lambda db: self._claims.claim(db, worker=worker, limit=limit, now=now, open_zones=open_zones), relaxed=True
        )

    def advance(
        self, *, worker: str, now: datetime, begin: Sequence[str] = (), done: Sequence[Outcome] = ()
    ) -> frozenset[str]:
        """Commit what became of some messages, and the intent to send others, before the transport is called.

        A killed process loses nothing of it; a power cut can lose the last half second (as `synchronous_commit=off`
        and SQLite's `synchronous=NORMAL` do).

        Args:
            worker: `worker_name` of the caller.
            now: Time of the deed.
            begin: Messages that the caller holds and wants to send.
            done: Messages that are through.

        Returns:
            Those of ``begin`` that may be sent now. The others are no longer this worker's to send: cancelled, paused,
            past their time, leased to another, or suppressed.
        """
        return self._in_turn(lambda db: self._advance(db, worker, now, begin, done), relaxed=True)

    def _advance(
        self, db: sa.Connection, worker: str, now: datetime, begin: Sequence[str], done: Sequence[Outcome]
    ) -> frozenset[str]:
        if done:
            self._claims.finish(db, done, worker=worker)
        return self._claims.begin(db, begin, worker=worker, now=now) if begin else frozenset()

    def renew(self, worker: str, *, now: datetime) -> int:
        """Keep what a worker holds for another quarter of an hour; returns how many messages that are."""
        return self._in_turn(lambda db: db.execute(sql.RENEW, {"w": worker, "until": now + LEASE}).rowcount)

    def release(self, worker: str) -> int:
        """Give back what a worker holds but has not begun to send."""
        return self._in_turn(lambda db: db.execute(sql.RELEASE, {"w": worker}).rowcount)

    def recover(self, *, now: datetime) -> int:
        """Settle what dead workers left: leases go back, half-sent messages become ``uncertain``; returns how many are.

        A worker is dead when its process is gone (seen on the same machine) or its lease is over.
        """
        with self._read() as db:
            workers = db.execute(sql.WORKERS).scalars().all()
        if not workers:
            return 0
        dead = [worker for worker in workers if is_dead(worker)]
        return self._in_turn(lambda db: self._claims.recover(db, dead, now=now))

    def resend(self, name: str, *, before: datetime, now: datetime) -> int:
        """Send uncertain messages again that were handed over before some time, each once; returns how many."""
        with self._write() as db:
            return self._claims.resend(db, name, before=before, now=now)

    def retry(self, name: str, *, state: State, now: datetime, messages: Sequence[str] = ()) -> int:
        """Put messages of one state (failed, expired or uncertain) back into the row; returns how many.

        Args:
            name: The experiment.
            state: Theirs.
            now: From when on they are due.
            messages: Their ids; all of that state by default.
        """
        with self._write() as db:
            return self._claims.retry(db, name, state=state, now=now, messages=messages)

    def settle(self, message: str, *, sent: bool, now: datetime) -> bool:
        """An operator's word on an ``uncertain`` message; returns False where it is not uncertain."""
        with self._write() as db:
            row = _message(db, message, lock=True)
            if row is None or row.state != State.UNCERTAIN:
                return False
            if sent:
                self._claims.settle_sent(db, row, now)
            else:
                db.execute(t.messages.update().where(t.messages.c.id == message).values(state=State.FAILED))
            return True

    def untrack(self, message: str) -> None:
        """Note that a message which waits goes out without pixel and tracked links after all."""
        with self._write() as db:
            waiting = (t.messages.c.id == message) & (t.messages.c.state != State.SENT)
            db.execute(t.messages.update().where(waiting).values(tracking=Tracking.NONE))

    def message(self, message: str) -> StoredMessage | None:
        """One row of the ledger; None where there is none."""
        with self._read() as db:
            row = _message(db, message)
            return None if row is None else to_message(row)

    def messages_of(self, messages: Sequence[str]) -> list[StoredMessage]:
        """Some rows of the ledger by their ids, in no order; those that there are not are left out."""
        with self._read() as db:
            found = (db.execute(sql.MESSAGES, {"ids": batch}) for batch in batches(messages))
            return [to_message(row) for rows in found for row in rows]

    def assigned(self, message: str) -> Claimed | None:
        """What a message that has a cell is made of, whoever holds it; None where there is none."""
        with self._read() as db:
            return self._claims.assigned(db, message)

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
        with self._read() as db:
            moments = dict.fromkeys(db.execute(sql.HELD_ZONES, {"e": name}).scalars(), now + _LOOK_AGAIN)
            for zone in _zones(db, name, State.ASSIGNED):
                due = db.execute(sql.NEXT_DUE, {"e": name, "z": zone}).scalar()
                if due is not None:
                    moments[zone] = min(due, moments.get(zone, due))
        return moments

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
        return self._in_turn(lambda db: self._recorder.record(db, batch, now=now))

    def journal(self, notes: Sequence[str], *, now: datetime) -> None:
        """Keep what was seen, a line a note, in one transaction until `digest` takes it."""
        if notes:
            with self._write() as db:
                journal.keep(db, notes, now)

    def digest(self, read: Callable[[str], Event], *, limit: int, now: datetime) -> tuple[int, Sequence[Event]]:
        """Record what was kept by `journal`, the oldest first: taken out and recorded in one transaction.

        Args:
            read: Makes an event of a note; a ValueError drops it, with a line in the log.
            limit: At most so many.
            now: When they reached us.

        Returns:
            Number of notes that were taken, and their events.
        """

        def work(db: sa.Connection) -> tuple[int, Sequence[Event]]:
            take_turns(db)
            taken, events = journal.take(db, read, limit)
            self._recorder.record(db, events, now=now)
            return taken, events

        return self._in_turn(work)

    def backlog(self) -> Backlog:
        """The notes that wait to be recorded."""
        with self._read() as db:
            return journal.backlog(db)

    def _in_turn(self, work: Callable[[sa.Connection], _T], *, relaxed: bool = False) -> _T:
        """Run a transaction, again where PostgreSQL broke it off because two writers waited for each other."""
        for _ in range(_TRIES - 1):
            try:
                return self._once(work, relaxed)
            except StoreError as error:
                cause = error.__cause__.orig if isinstance(error.__cause__, sa.exc.DBAPIError) else None
                if getattr(cause, "sqlstate", None) != _DEADLOCK:
                    raise
        return self._once(work, relaxed)

    def _once(self, work: Callable[[sa.Connection], _T], relaxed: bool) -> _T:
        with self._write() as db:
            if relaxed and db.dialect.name == "postgresql":
                db.exec_driver_sql("SET LOCAL synchronous_commit TO off")
            return work(db)

    def known_messages(self, ids: Sequence[str]) -> frozenset[str]:
        """Those of some message ids that are in the ledger."""
        with self._read() as db:
            return known_messages(db, ids)

    def messages_to(self, name: str, *, recipients: Sequence[str], emails: Sequence[str]) -> dict[str, str]:
        """The last message that an experiment has for each of some people, by their ids and by their addresses.

        Those without one are left out.
        """
        with self._read() as db:
            return messages_to(db, name, recipients=recipients, emails=emails)

    def count_crowd(self, hits: Iterable[CrowdHit]) -> int:
        """Count opens and clicks of mails that are counted without a person; returns how many hits changed something.

        The first open and click of each mail count, as a person's and as anybody's.
        """
        batch = tuple(hits)
        return self._in_turn(lambda db: count_crowd(db, batch, self._upserts))

    def tally(self, name: str, *, n_cells: int) -> Tally:
        """The counts of one experiment."""
        with self._read() as db:
            return _tally(db, name, n_cells)

    def snapshot(
        self, name: str, *, n_cells: int, by: str | None = None, valued: str | None = None,
        companies: str | None = None, window: float = math.inf, belongs_within: float = math.inf,
        provisional: float = 0.0, settled_at: datetime | None = None,
    ) -> Snapshot:  # fmt: skip
        """All that is known of an experiment at one moment; what others write meanwhile does not show in it.

        With ``by``, the counts also for each value of that attribute of the recipients (``domain``, ``hour``). With
        ``valued``, a type of event, what each mail brought in by such events within ``belongs_within`` seconds; with
        ``companies``, an outcome, what the recipients of each company did within ``window`` seconds. Opens and
        clicks are ``provisional`` for so many seconds; with ``settled_at``, a moment, those that are it still then are
        left out of the counts of everybody and of the strata.

        Raises:
            UnknownExperiment: None of that name was applied.
            ValueError: No recipient has the attribute.
        """
        known = {"e": name}
        with self._read() as db:
            stored, epochs = _experiment(db, name), _epochs(db, name)
            counts = dict(self._sources.chosen(db, [name])[name])
            tally, strata = _tally(db, name, n_cells), _strata(db, name, len(epochs), n_cells)
            if settled_at is not None:
                since = settled_at - timedelta(seconds=provisional)
                tally, *rest = settled_only(db, name, since, [("*", tally), *strata.items()])
                strata = dict(zip(strata, rest, strict=True))
            return Snapshot(
                stored=stored,
                epochs=epochs,
                waves=_experiment(db, name, epochs[0].version).waves if epochs else stored.waves,
                tally=tally,
                states=_states(db, name),
                last_send=dict(db.execute(sql.LAST_SEND, known).all()),
                unsettled=dict(db.execute(sql.UNSETTLED, known).all()),
                segments={} if by is None else tallies_by(db, name, by, n_epochs=len(epochs), n_cells=n_cells),
                values=()
                if valued is None
                else values_of(db, name, valued, window=belongs_within, source=counts.get(valued)),
                companies=() if companies is None else companies_of(db, name, companies, window=window),
                strata=strata,
                stopped=_stopped(db, name),
                facts=facts_of_events(db, name, counts=counts, provisional=provisional),
            )

    def past_mails(self, *, before: datetime) -> Iterator[PastMail]:
        """Mails of all experiments that were sent until a moment, the oldest first."""
        with self._read() as db:
            yield from past_mails(db, before)

    def recount(self, name: str, *, n_cells: int) -> Tally:
        """The same counts, made anew from the ledger and the events; what `tally` must equal."""
        with self._read() as db:
            opened = {epoch.number: epoch.opened_at for epoch in _epochs(db, name)}
            sent = (t.messages.c.experiment == name) & (t.messages.c.state == State.SENT)
            ledger = {row.id: row for row in db.execute(_message_query().where(sent))}
            firsts = self._outcomes.anew(db, name)
            return to_tally(counted_anew(opened, ledger, firsts), len(opened), n_cells)

    def events(self, name: str) -> Iterator[Event]:
        """The events of one experiment's messages, by time, with the verdicts that they have now."""
        query = (
            sa.select(t.events.c.body, t.events.c.verdict, t.events.c.reasons, t.events.c.rules)
            .join(t.messages, t.messages.c.id == t.events.c.message)
            .where(t.messages.c.experiment == name)
            .order_by(t.events.c.at, t.events.c.key)
        )
        with self._read() as db:
            for row in db.execution_options(yield_per=_BATCH).execute(query):
                yield to_event(row)


def _version_number(db: sa.Connection, name: str) -> int:
    return int(db.execute(sql.NEWEST_VERSION, {"e": name}).scalar_one())


def _experiment(db: sa.Connection, name: str, version: int | None = None) -> StoredExperiment:
    number = _version_number(db, name) if version is None else version
    row = db.execute(sql.EXPERIMENT, {"e": name, "v": number}).one_or_none()
    if row is None:
        near = nearest(name, db.execute(sa.select(t.experiments.c.name)).scalars())
        hint = f"did you mean {near}?" if near else f"run `abmail apply {name}` first; `abmail status` lists them all"
        raise UnknownExperiment(f"no experiment '{name}' was applied", hint=hint)
    return to_experiment(row)


def _epochs(db: sa.Connection, name: str) -> tuple[Epoch, ...]:
    return tuple(to_epoch(row) for row in db.execute(sql.EPOCHS, {"e": name}))


def _zones(db: sa.Connection, name: str, state: State) -> Iterator[str]:
    """Time zones of the messages in a state, in order."""
    zone = ""
    while zone := db.execute(sql.NEXT_ZONE, {"e": name, "s": state, "after": zone}).scalar() or "":
        yield zone


def _states(db: sa.Connection, name: str) -> dict[State, int]:
    return {State(state): n for state, n in db.execute(sql.STATES, {"e": name})}


def _tally(db: sa.Connection, name: str, n_cells: int) -> Tally:
    n_epochs = db.execute(sql.N_EPOCHS, {"e": name}).scalar_one()
    return to_tally(db.execute(sql.TALLY, {"e": name}).all(), n_epochs, n_cells)


def _stopped(db: sa.Connection, name: str) -> tuple[StoppedArm, ...]:
    return tuple(to_stopped(row) for row in db.execute(sql.STOPPED_ARMS, {"e": name}))


def _strata(db: sa.Connection, name: str, n_epochs: int, n_cells: int) -> dict[str, Tally]:
    rows = db.execute(sql.TALLY_BY_STRATUM, {"e": name}).all()
    grouped = itertools.groupby(rows, key=lambda row: str(row.stratum))
    return {stratum: to_tally([tuple(row)[1:] for row in own], n_epochs, n_cells) for stratum, own in grouped}


def _message_query() -> sa.Select[Any]:
    return sa.select(t.messages, t.recipients.c.email).join(t.recipients)


def _message(db: sa.Connection, message: str, *, lock: bool = False) -> sa.Row[Any] | None:
    return db.execute(sql.LOCKED if lock else sql.MESSAGE, {"m": message}).one_or_none()
