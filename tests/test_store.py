"""The same behaviour on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from abmail import _database
from abmail._tables import SCHEMA_REVISION
from abmail.errors import ConfigError, NotMigrated, StalePlan, StoreError, UnknownExperiment
from abmail.events import Event, EventType, Verdict
from abmail.recipient import Recipient
from abmail.store import (
    BIN_SECONDS,
    Claimed,
    Epoch,
    Outcome,
    Placed,
    Recorded,
    Snapshot,
    State,
    StoppedArm,
    Store,
    worker_name,
)

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=10)
ZONES = {"spring": ["UTC"]}


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with Store(store_url) as opened:
        yield opened


def person(number: int, **attributes: str) -> Recipient:
    return Recipient(id=f"r{number}", email=f"r{number}@example.com", attributes=attributes, zone=None)


def message_id(number: int) -> str:
    return f"{number:032x}"


def row(number: int, state: State = State.QUEUED) -> dict[str, object]:
    return {
        "id": message_id(number), "recipient": f"r{number}", "state": state, "position": number, "zone": "UTC",
        "propensity": None,
    }  # fmt: skip


def apply(
    store: Store, n: int = 10, *, after_version: int = 0, content: str = "c1", name: str = "spring"
) -> tuple[int, int]:
    store.import_recipients([person(i, stage="hot") for i in range(n)], now=NOW)
    return store.apply(
        name, spec_hash="h1", content_hash=content, definition={"name": name}, template="<p>", text_template=None,
        waves=[n], messages=lambda _: [row(i) for i in range(n)], after_version=after_version, now=NOW,
    )  # fmt: skip


def epoch(number: int = 0, planned: int = 1_000) -> Epoch:
    return Epoch(
        number=number, version=1, opened_at=NOW, size=0, planned=planned, weights=(0.5, 0.5),
        policy={"name": "uniform"}, seed=7, reason="first wave",
    )  # fmt: skip


def alternate(taken: Sequence[Recipient]) -> list[Placed]:
    return [Placed(cell=i % 2, propensity=0.5) for i in range(len(taken))]


def open_epoch(store: Store, number: int = 0, planned: int = 1_000) -> int:
    return store.open_epoch("spring", epoch(number, planned), zones=["UTC"], assign=alternate, now=NOW)


def claim(store: Store, limit: int = 100, worker: str = "", now: datetime = NOW) -> list[Claimed]:
    return store.claim(worker=worker or worker_name(), limit=limit, now=now, open_zones=ZONES)


def begin(store: Store, message: str, *, worker: str = "", now: datetime = NOW) -> bool:
    return message in store.advance(worker=worker or worker_name(), now=now, begin=[message])


def finish(store: Store, message: str, state: State, *, at: datetime = NOW, worker: str = "", **fields: Any) -> None:
    outcome = Outcome(message=message, state=state, at=at, **fields)
    store.advance(worker=worker or worker_name(), now=at, done=[outcome])


def send_all(store: Store, *, at: datetime = NOW) -> list[str]:
    claimed = claim(store, now=at)
    for message in claimed:
        assert begin(store, message.id, worker=worker_name(), now=at)
        finish(store, message.id, State.SENT, at=at)
    return [message.id for message in claimed]


def happened(kind: EventType, number: int, minutes: float = 5, **fields: object) -> Event:
    at = NOW + timedelta(minutes=minutes)
    return Event.from_dict({"type": kind, "at": at.isoformat(), "message_id": message_id(number), **fields})


def test_a_new_database_gets_its_tables_and_stands_at_the_newest_migration(store: Store) -> None:
    from alembic.script import ScriptDirectory

    import abmail

    scripts = ScriptDirectory(Path(abmail.__file__).parent / "migrations")
    assert store.revision() == scripts.get_current_head()


def test_the_migrations_build_exactly_the_tables_that_the_code_declares(store_url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from abmail import _tables

    with Store(store_url) as store, store._read() as db:
        assert compare_metadata(MigrationContext.configure(db, opts={"compare_type": True}), _tables.metadata) == []


def open_together(url: str, together: Barrier, outcome: SimpleQueue[str | None]) -> None:
    """Open a new database at the same moment as the other processes."""
    together.wait()
    try:
        with Store(url) as store:
            store.suppress([f"{os.getpid()}@example.com"], reason="asked", now=NOW)
            outcome.put(store.revision())
    except Exception as error:
        outcome.put(repr(error))


def test_processes_that_open_a_new_database_at_the_same_time_find_it_whole(empty_url: str) -> None:
    context = multiprocessing.get_context("fork")
    together, outcome = context.Barrier(4), context.SimpleQueue()
    started = [context.Process(target=open_together, args=(empty_url, together, outcome)) for _ in range(4)]
    for process in started:
        process.start()
    assert [outcome.get() for _ in started] == [SCHEMA_REVISION] * 4
    for process in started:
        process.join()
    with Store(empty_url) as store:
        assert len(store.suppressed()) == 4


def test_a_database_that_another_process_is_just_switching_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Contested(sqlite3.Connection):
        refusals = 3

        def execute(self, *arguments: Any) -> sqlite3.Cursor:
            if self.refusals:
                self.refusals -= 1
                busy = sqlite3.OperationalError("database is locked")
                busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise busy
            return super().execute(*arguments)

    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    _database._use_wal(sqlite3.connect(":memory:", factory=Contested))
    assert len(pauses) == 3


def test_a_database_of_another_revision_is_refused_with_the_command_that_helps(store_url: str) -> None:
    with Store(store_url) as store, store._write() as db:
        db.execute(sa.text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(NotMigrated, match="0000") as refused:
        Store(store_url)
    assert "abmail db upgrade" in refused.value.hint


@pytest.mark.parametrize("url", ["mysql://root@localhost/x", "not a url"])
def test_a_url_of_another_kind_is_refused_in_words(url: str) -> None:
    with pytest.raises(ConfigError, match="database"):
        Store(url)


def test_a_database_that_cannot_be_reached_is_named_without_its_password() -> None:
    with pytest.raises(StoreError, match="cannot open the database") as refused:
        Store("postgresql://me:s3cret@127.0.0.1:1/none")
    assert "s3cret" not in str(refused.value)


def test_an_import_tells_new_updated_unchanged_and_conflicting_rows(store: Store) -> None:
    first = store.import_recipients([person(1, stage="hot"), person(2)], now=NOW)
    assert (first.new, first.updated, first.unchanged, first.conflicts) == (2, 0, 0, ())
    thief = Recipient(id="other", email="r1@example.com", attributes={}, zone=None)
    again = store.import_recipients([person(1, stage="cold"), person(2), person(3), thief], now=NOW)
    assert (again.new, again.updated, again.unchanged, again.conflicts) == (1, 1, 1, ("other",))
    assert {r.id: dict(r.attributes) for r in store.recipients()} == {"r1": {"stage": "cold"}, "r2": {}, "r3": {}}


def test_times_come_back_as_aware_utc_whatever_zone_they_were_given_in(store: Store) -> None:
    tokyo = timezone(timedelta(hours=9))
    apply(store)
    store.end_experiment("spring", state="stopped", verdict={"state": "stopped"}, now=NOW.astimezone(tokyo))
    ended = store.experiment("spring").ended_at
    assert ended == NOW
    assert ended.tzinfo is UTC


def test_a_naive_time_is_refused(store: Store) -> None:
    with pytest.raises(sa.exc.StatementError, match="has no zone"):
        store.suppress(["a@example.com"], reason="x", now=NOW.replace(tzinfo=None))


def test_applying_the_same_content_twice_adds_neither_version_nor_rows(store: Store) -> None:
    assert apply(store) == (1, 10)
    assert apply(store, after_version=1) == (1, 0)
    assert apply(store, n=12, after_version=1, content="c2") == (2, 2)


def test_a_plan_against_an_older_version_is_stale_and_changes_nothing(store: Store) -> None:
    apply(store)
    with pytest.raises(StalePlan, match="version 1"):
        apply(store, n=20, after_version=0, content="c2")
    assert store.states("spring") == {State.QUEUED: 10}


def test_an_unknown_experiment_is_an_error_that_is_also_a_lookup_error(store: Store) -> None:
    with pytest.raises(UnknownExperiment) as unknown:
        store.experiment("nope")
    assert isinstance(unknown.value, LookupError)


def test_an_epoch_takes_its_recipients_in_the_order_of_the_positions(store: Store) -> None:
    apply(store)
    assert open_epoch(store, planned=4) == 4
    assert [c.id for c in claim(store)] == [message_id(i) for i in range(4)]
    assert store.queued("spring") == 6
    (stored,) = store.epochs("spring")
    assert (stored.size, stored.weights, stored.seed) == (4, (0.5, 0.5), 7)


def test_an_epoch_without_recipients_leaves_no_trace(store: Store) -> None:
    apply(store)
    assert store.open_epoch("spring", epoch(), zones=["Asia/Tokyo"], assign=alternate, now=NOW) == 0
    assert store.epochs("spring") == ()


def test_the_same_epoch_cannot_be_opened_twice(store: Store) -> None:
    apply(store)
    open_epoch(store, planned=2)
    assert open_epoch(store, planned=2) == 0
    assert store.queued("spring") == 8


def test_two_claims_never_share_a_message(store: Store) -> None:
    apply(store)
    open_epoch(store)
    first, second = claim(store, limit=6, worker="elsewhere:1:1"), claim(store, limit=6, worker="elsewhere:2:2")
    assert len(first) == 6
    assert len(second) == 4
    assert not {c.id for c in first} & {c.id for c in second}


def test_a_claim_takes_from_each_open_zone_alike_and_fills_up_from_the_others(store: Store) -> None:
    store.import_recipients([person(i) for i in range(40)], now=NOW)
    zones = ["Asia/Tokyo", "Europe/Paris", "UTC"]
    store.apply(
        "spring", spec_hash="h1", content_hash="c1", definition={}, template="<p>", text_template=None, waves=[40],
        messages=lambda _: [{**row(i), "zone": zones[i % 3] if i < 12 else "UTC"} for i in range(40)],
        after_version=0, now=NOW,
    )  # fmt: skip
    store.open_epoch("spring", epoch(), zones=zones, assign=alternate, now=NOW)
    assert store.zones("spring") == ("Asia/Tokyo", "Europe/Paris", "UTC")
    of_zone = {message_id(i): zones[i % 3] if i < 12 else "UTC" for i in range(40)}
    claimed = [
        Counter(
            of_zone[c.id]
            for c in store.claim(
                worker=worker_name(), limit=9, now=NOW, open_zones={"spring": zones, "summer": ["UTC"]}
            )
        )
        for _ in range(5)
    ]
    assert claimed[0] == {"Asia/Tokyo": 3, "Europe/Paris": 3, "UTC": 3}
    assert claimed[1] == {"Asia/Tokyo": 1, "Europe/Paris": 1, "UTC": 7}
    assert claimed[2:] == [{"UTC": 9}, {"UTC": 9}, {"UTC": 4}]


def test_workers_that_claim_at_the_same_time_share_the_work_without_overlap(store: Store) -> None:
    apply(store, n=200)
    open_epoch(store)
    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(lambda k: claim(store, limit=50, worker=f"elsewhere:{k}:1"), range(4)))
    claimed = [c.id for batch in batches for c in batch]
    assert len(claimed) == len(set(claimed))
    rest = claim(store, limit=200, worker="elsewhere:9:9")
    assert len(claimed) + len(rest) == 200


def test_only_the_holder_of_the_lease_may_send(store: Store) -> None:
    apply(store)
    open_epoch(store)
    (mine,) = claim(store, limit=1, worker="elsewhere:1:1")
    assert not begin(store, mine.id, worker="elsewhere:2:2", now=NOW)
    assert begin(store, mine.id, worker="elsewhere:1:1", now=NOW)
    assert not begin(store, mine.id, worker="elsewhere:1:1", now=NOW)


def test_an_address_that_was_suppressed_after_the_claim_is_not_mailed(store: Store) -> None:
    apply(store, n=1)
    open_epoch(store)
    (mine,) = claim(store)
    assert store.suppress([mine.recipient.email, mine.recipient.email], reason="asked", now=NOW) == 1
    assert not begin(store, mine.id, worker=worker_name(), now=NOW)
    assert store.states("spring") == {State.SUPPRESSED: 1}


def test_a_stopped_experiment_sends_nothing_that_was_claimed_before(store: Store) -> None:
    apply(store, n=3)
    open_epoch(store)
    (mine,) = claim(store, limit=1)
    assert store.cancel_queued("spring") == 3
    assert not begin(store, mine.id, worker=worker_name(), now=NOW)


def test_a_retry_waits_until_it_is_due_and_keeps_its_cell(store: Store) -> None:
    apply(store, n=1)
    open_epoch(store)
    (mine,) = claim(store)
    begin(store, mine.id, worker=worker_name(), now=NOW)
    finish(store, mine.id, State.ASSIGNED, due_at=NOW + timedelta(minutes=5), error="451 busy")
    assert claim(store, now=NOW + timedelta(minutes=4)) == []
    (again,) = claim(store, now=NOW + timedelta(minutes=5))
    assert (again.cell, again.epoch, again.attempts) == (mine.cell, mine.epoch, 1)


def test_what_a_dead_worker_had_begun_becomes_uncertain_and_the_rest_goes_back(store: Store) -> None:
    apply(store, n=3)
    open_epoch(store)
    child = multiprocessing.get_context("fork").Process(target=os._exit, args=(0,))
    child.start()
    dead = worker_name(child.pid)
    child.join()
    claimed = claim(store, worker=dead)
    begin(store, claimed[0].id, worker=dead, now=NOW)
    assert store.recover(now=NOW) == 1
    assert store.states("spring") == {State.UNCERTAIN: 1, State.ASSIGNED: 2}
    assert len(claim(store)) == 2


def test_what_a_living_worker_holds_stays_its_own(store: Store) -> None:
    apply(store, n=3)
    open_epoch(store)
    held = claim(store)
    begin(store, held[0].id, worker=worker_name(), now=NOW)
    assert store.recover(now=NOW) == 0
    assert store.states("spring") == {State.SENDING: 1, State.ASSIGNED: 2}


def test_a_lease_on_another_machine_ends_by_time(store: Store) -> None:
    apply(store, n=1)
    open_epoch(store)
    (mine,) = claim(store, worker="elsewhere:1:1")
    begin(store, mine.id, worker="elsewhere:1:1", now=NOW)
    assert store.recover(now=NOW + timedelta(minutes=1)) == 0
    assert store.recover(now=NOW + timedelta(hours=1)) == 1


@pytest.mark.parametrize("sent", [True, False])
def test_an_operator_settles_an_uncertain_message_once(store: Store, sent: bool) -> None:
    apply(store, n=1)
    open_epoch(store)
    (mine,) = claim(store)
    begin(store, mine.id, worker=worker_name(), now=NOW)
    finish(store, mine.id, State.UNCERTAIN, error="no answer")
    assert store.settle(mine.id, sent=sent, now=NOW)
    assert not store.settle(mine.id, sent=sent, now=NOW)
    assert store.tally("spring", n_cells=2).matrix("sent").sum() == int(sent)


def test_a_later_open_proves_that_an_uncertain_message_arrived(store: Store) -> None:
    apply(store, n=1)
    open_epoch(store)
    (mine,) = claim(store)
    begin(store, mine.id, worker=worker_name(), now=NOW)
    finish(store, mine.id, State.UNCERTAIN, error="no answer")
    store.record([happened(EventType.OPENED, 0)], now=LATER)
    assert store.states("spring") == {State.SENT: 1}
    tally = store.tally("spring", n_cells=2)
    assert tally.matrix("sent").tolist() == tally.matrix("opened").tolist() == [[1, 0]]


def test_an_event_of_a_mail_that_was_never_tried_counts_nothing(store: Store) -> None:
    apply(store)
    open_epoch(store)
    assert store.record([happened(EventType.OPENED, 0)], now=LATER) == [Recorded.NEW]
    assert store.tally("spring", n_cells=2).n.sum() == 0


def test_a_human_click_outweighs_an_operators_word_that_the_mail_was_lost(store: Store) -> None:
    apply(store, n=1)
    open_epoch(store)
    (mine,) = claim(store)
    begin(store, mine.id, worker=worker_name(), now=NOW)
    finish(store, mine.id, State.UNCERTAIN, error="no answer")
    store.settle(mine.id, sent=False, now=NOW)
    store.record([happened(EventType.BOUNCED, 0)], now=LATER)
    assert store.states("spring") == {State.FAILED: 1}
    store.record([happened(EventType.CLICKED, 0)], now=LATER)
    assert store.states("spring") == {State.SENT: 1}
    assert store.tally("spring", n_cells=2).matrix("clicked").sum() == 1


def test_an_event_counts_once_however_often_it_comes(store: Store) -> None:
    apply(store)
    open_epoch(store)
    send_all(store)
    event = happened(EventType.OPENED, 0)
    assert store.record([event, event], now=LATER) == [Recorded.NEW, Recorded.DUPLICATE]
    assert store.record([event, happened(EventType.OPENED, 0, 90)], now=LATER) == [Recorded.DUPLICATE, Recorded.NEW]
    assert store.tally("spring", n_cells=2).matrix("opened").sum() == 1


def test_an_earlier_event_that_comes_later_moves_the_delay(store: Store) -> None:
    apply(store)
    open_epoch(store)
    send_all(store)
    store.record([happened(EventType.OPENED, 0, 90), happened(EventType.OPENED, 0, 15)], now=LATER)
    _, _, bins, n = store.tally("spring", n_cells=2).rows("opened")
    assert (bins.tolist(), n.tolist()) == ([15 * 60 // BIN_SECONDS], [1])


def test_machine_traffic_is_kept_and_counted_apart(store: Store) -> None:
    apply(store)
    open_epoch(store)
    send_all(store)
    store.record([happened(EventType.CLICKED, 0, verdict=Verdict.MACHINE), happened(EventType.CLICKED, 1)], now=LATER)
    tally = store.tally("spring", n_cells=2)
    assert tally.matrix("clicked").tolist() == [[0, 1]]
    assert tally.matrix("clicked_all").tolist() == [[1, 1]]


def test_only_outcomes_within_the_window_are_successes(store: Store) -> None:
    apply(store)
    open_epoch(store)
    send_all(store)
    store.record([happened(EventType.CLICKED, 0, 30), happened(EventType.CLICKED, 1, 200)], now=LATER)
    tally = store.tally("spring", n_cells=2)
    assert tally.matrix("clicked", window=3_600).tolist() == [[1, 0]]
    assert tally.matrix("clicked").tolist() == [[1, 1]]


def test_an_event_of_an_unknown_message_is_kept_apart(store: Store) -> None:
    stray = replace(happened(EventType.OPENED, 0), message_id="f" * 32, key="k")
    assert store.record([stray, stray], now=LATER) == [Recorded.UNKNOWN_MESSAGE, Recorded.DUPLICATE]


def test_an_event_may_name_experiment_and_recipient_instead_of_the_message(store: Store) -> None:
    apply(store)
    open_epoch(store)
    send_all(store)
    event = Event(type=EventType.CLICKED, at=NOW, experiment="spring", recipient="r3")
    assert store.record([event], now=LATER) == [Recorded.NEW]
    assert store.tally("spring", n_cells=2).matrix("clicked").tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("kind", "hard", "reason"),
    [
        (EventType.UNSUBSCRIBED, False, "unsubscribed"),
        (EventType.COMPLAINED, False, "complained"),
        (EventType.BOUNCED, True, "bounced"),
        (EventType.BOUNCED, False, None),
        (EventType.OPENED, False, None),
    ],
)
def test_who_unsubscribes_complains_or_bounces_for_good_is_suppressed(
    store: Store, kind: EventType, hard: bool, reason: str | None
) -> None:
    apply(store)
    open_epoch(store)
    send_all(store)
    store.record([happened(kind, 0, hard=hard)], now=LATER)
    assert store.suppressed().get("r0@example.com") == reason


def test_the_kept_counts_equal_a_recount_after_any_history(store: Store) -> None:
    rng = np.random.default_rng(11)
    apply(store, n=60)
    for number in range(3):
        open_epoch(store, number, planned=20)
        claimed = claim(store)
        for message in claimed:
            begin(store, message.id, worker=worker_name(), now=NOW + timedelta(minutes=int(rng.integers(90))))
            match int(rng.integers(8)):
                case 0:
                    finish(store, message.id, State.UNCERTAIN, error="?")
                case 1:
                    finish(store, message.id, State.FAILED, error="550")
                case _:
                    finish(store, message.id, State.SENT, at=NOW)
        kinds = [EventType.OPENED, EventType.CLICKED, EventType.UNSUBSCRIBED, EventType.BOUNCED, EventType.DELIVERED]
        drawn = [
            happened(
                kinds[int(rng.integers(5))], int(rng.integers(60)), float(rng.integers(0, 5_000)),
                verdict=[Verdict.HUMAN, Verdict.MACHINE][int(rng.integers(2))],
            )
            for _ in range(80)
        ]  # fmt: skip
        store.record(drawn, now=LATER)
        kept, anew = store.tally("spring", n_cells=2), store.recount("spring", n_cells=2)
        assert kept.n.sum() > 0
        for field in ("epoch", "cell", "metric", "bin", "n"):
            assert getattr(kept, field).tolist() == getattr(anew, field).tolist()


@pytest.mark.parametrize("by", ["industry", "domain", 'a "name" $.[0] it\'s'])
def test_the_counts_of_the_segments_add_up_to_the_kept_counts(store: Store, by: str) -> None:
    rng = np.random.default_rng(3)
    apply(store, n=60)
    values = ["retail", "health", ""]
    people = [
        replace(person(i, **{by: values[i % 3]} if i % 3 < 2 else {}), email=f"r{i}@c{i % 5}.example")
        for i in range(60)
    ]
    store.import_recipients(people, now=NOW)
    for number in range(2):
        open_epoch(store, number, planned=25)
        for message in claim(store):
            begin(store, message.id, worker=worker_name(), now=NOW + timedelta(minutes=int(rng.integers(90))))
            if rng.random() < 0.8:
                finish(store, message.id, State.SENT, at=NOW)
    drawn = [
        happened(
            [EventType.OPENED, EventType.CLICKED, EventType.BOUNCED][int(rng.integers(3))], int(rng.integers(60)),
            float(rng.integers(-30, 5_000)), verdict=[Verdict.HUMAN, Verdict.MACHINE][int(rng.integers(2))],
        )
        for _ in range(200)
    ]  # fmt: skip
    store.record(drawn, now=LATER)

    snapshot = store.snapshot("spring", n_cells=2, by=by)
    assert list(snapshot.segments) == ([f"c{i}.example" for i in range(5)] if by == "domain" else sorted(values))
    kept = snapshot.tally
    assert {"sent", "opened", "clicked", "clicked_all", "bounced"} <= set(kept.metric.tolist())
    assert added_up(snapshot) == added_up(replace(snapshot, segments={"": kept}))
    sent = [int(tally.matrix("sent").sum()) for tally in snapshot.segments.values()]
    assert min(sent) > 0


def added_up(snapshot: Snapshot) -> Counter[tuple[int, int, str, int]]:
    """The counts of all segments together, by epoch, cell, metric and bin."""
    total: Counter[tuple[int, int, str, int]] = Counter()
    for part in snapshot.segments.values():
        columns = (part.epoch, part.cell, part.metric, part.bin, part.n)
        for *place, n in zip(*(column.tolist() for column in columns), strict=True):
            total[tuple(place)] += n
    return total


def test_an_attribute_that_nobody_has_is_refused_and_the_known_ones_are_named(store: Store) -> None:
    apply(store)
    known = "no recipient of spring has the attribute 'stag'; there are: domain, hour, stage"
    with pytest.raises(ValueError, match=known):
        store.snapshot("spring", n_cells=2, by="stag")


def as_lists(snapshot: Snapshot) -> tuple[object, ...]:
    """A snapshot in plain values that can be compared."""
    tally = snapshot.tally
    rows = [getattr(tally, field).tolist() for field in ("epoch", "cell", "metric", "bin", "n")]
    parts = (snapshot.stored, snapshot.epochs, snapshot.states, snapshot.last_send, snapshot.unsettled)
    return (*parts, tally.n_epochs, rows, added_up(snapshot))


@pytest.mark.parametrize("statement", range(10))
def test_an_epoch_that_another_process_opens_while_a_snapshot_is_taken_is_in_none_of_its_parts(
    store: Store, store_url: str, statement: int
) -> None:
    apply(store)
    open_epoch(store, planned=4)
    send_all(store)
    before = as_lists(store.snapshot("spring", n_cells=2, by="stage"))
    seen = itertools.count()

    @sa.event.listens_for(store._engine, "after_cursor_execute")
    def interfere(_connection: object, _cursor: object, text: str, *_: object) -> None:
        if text.startswith("SELECT") and next(seen) == statement:
            with Store(store_url) as other:
                assert open_epoch(other, 1, planned=4) == 4
                send_all(other)
                other.note_verdict("spring", {"state": "winner"})

    during = store.snapshot("spring", n_cells=2, by="stage")
    sa.event.remove(store._engine, "after_cursor_execute", interfere)
    assert next(seen) > statement
    assert as_lists(during) == before
    after = store.snapshot("spring", n_cells=2, by="stage")
    assert (len(after.epochs), after.tally.n_epochs, after.states) == (2, 2, {State.QUEUED: 2, State.SENT: 8})
    assert after.stored.verdict == {"state": "winner"}


def test_events_from_many_threads_are_all_counted(store: Store) -> None:
    apply(store, n=40)
    open_epoch(store)
    send_all(store)
    events = [happened(EventType.CLICKED, i % 40, i) for i in range(200)]
    with ThreadPoolExecutor(8) as pool:
        recorded = list(pool.map(lambda e: store.record([e], now=LATER), events))
    assert recorded == [[Recorded.NEW]] * 200
    assert store.tally("spring", n_cells=2).matrix("clicked").sum() == 40
    assert store.tally("spring", n_cells=2).n.tolist() == store.recount("spring", n_cells=2).n.tolist()


def test_a_database_in_memory_serves_one_process(tmp_path: Path) -> None:
    with Store("sqlite://") as store:
        apply(store)
        open_epoch(store)
        assert len(send_all(store)) == 10


def test_a_stopped_arm_is_noted_once_with_its_reason(store: Store) -> None:
    apply(store)
    arm = StoppedArm(cell="number", at=NOW, reason="not our tone", by="hand")
    assert store.stop_arm("spring", arm)
    assert not store.stop_arm("spring", replace(arm, reason="again", by="guardrail"))
    assert store.stopped_arms("spring") == (arm,) == store.snapshot("spring", n_cells=2).stopped


def test_counts_of_segments_are_kept_apart_and_add_up_to_the_whole(store: Store) -> None:
    apply(store)
    segments = {"steel": (0.25, 0.75), "books": (0.5, 0.5)}

    def by_turns(taken: Sequence[Recipient]) -> list[Placed]:
        return [Placed(cell=i % 2, propensity=0.5, stratum=("steel", "books", "")[i % 3]) for i in range(len(taken))]

    opened = replace(epoch(), segments=segments)
    size = store.open_epoch("spring", opened, zones=["UTC"], assign=by_turns, now=NOW, whole=True)
    assert store.epochs("spring")[0].segments == segments
    send_all(store)
    found = store.snapshot("spring", n_cells=2)
    parts = {name: int(tally.matrix("sent").sum()) for name, tally in found.strata.items()}
    assert set(parts) == {"books", "steel"}
    assert found.tally.matrix("sent").sum() == size == sum(parts.values()) + len(range(2, size, 3))
    assert np.array_equal(store.recount("spring", n_cells=2).matrix("sent"), found.tally.matrix("sent"))
