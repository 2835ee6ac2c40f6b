"""Leases: who holds a message, what ends a lease, and that a claim changes no message."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from abmail import _claims, _database
from abmail import _statements as sql
from abmail import _tables as t
from abmail._claims import Claims
from abmail.recipient import Recipient
from abmail.store import Claimed, Epoch, Outcome, Placed, State, Store, upgrade, worker_name

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
AFTER = NOW + timedelta(hours=1)  # every lease of NOW is over
HERE, ELSEWHERE = worker_name(), "elsewhere:1:1"
OLD = {"worker": "TEXT", "lease_until": "TIMESTAMP"}


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with Store(store_url) as opened:
        yield opened


def prepare(store: Store, n: int) -> None:
    """Messages with a cell, due now."""
    people = [Recipient(id=f"r{i}", email=f"r{i}@example.com") for i in range(n)]
    rows: list[dict[str, object]] = [
        {
            "id": f"{i:032x}", "recipient": f"r{i}", "state": State.QUEUED, "position": i, "zone": "UTC",
            "propensity": None,
        }
        for i in range(n)
    ]  # fmt: skip
    store.import_recipients(people, now=NOW)
    store.apply(
        "spring", spec_hash="h1", content_hash="c1", definition={}, template="<p>", text_template=None, waves=[n],
        messages=lambda _: rows, after_version=0, now=NOW,
    )  # fmt: skip
    first = Epoch(
        number=0, version=1, opened_at=NOW, size=0, planned=n, weights=(0.5, 0.5), policy={"name": "uniform"}, seed=7,
        reason="first wave",
    )  # fmt: skip
    store.open_epoch(
        "spring", first, zones=["UTC"], assign=lambda taken: [Placed(cell=0, propensity=0.5) for _ in taken], now=NOW
    )


def claim(store: Store, limit: int = 100, *, worker: str = HERE, now: datetime = NOW) -> list[Claimed]:
    return store.claim(worker=worker, limit=limit, now=now, open_zones={"spring": ["UTC"]})


def leases(store: Store) -> dict[str, str]:
    """Message -> who holds it."""
    with store._read() as db:
        return {row.message: row.worker for row in db.execute(sa.select(t.leases))}


def dead_worker() -> str:
    child = multiprocessing.get_context("fork").Process(target=os._exit, args=(0,))
    child.start()
    name = worker_name(child.pid)
    child.join()
    return name


def test_a_claim_changes_no_message(store: Store) -> None:
    """So its cost does not grow with the table: a changed message has new entries in all of its indexes."""
    prepare(store, 20)
    written: list[str] = []

    @sa.event.listens_for(store._engine, "before_cursor_execute")
    def note(_db: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            written.append(" ".join(statement.split()[:3]))

    assert len(claim(store, 10)) == 10
    assert written == ["INSERT INTO leases"]


def test_a_message_is_held_from_its_claim_until_its_outcome(store: Store) -> None:
    prepare(store, 4)
    first, second, third = (claimed.id for claimed in claim(store, 3))
    assert set(leases(store)) == {first, second, third}
    store.advance(worker=HERE, now=NOW, begin=[first])
    assert set(leases(store)) == {first, second, third}
    done = [Outcome(message=first, state=State.SENT, at=NOW, links=3)]
    assert store.advance(worker=HERE, now=NOW, done=done, begin=[second]) == {second}
    assert set(leases(store)) == {second, third}
    store.advance(worker=HERE, now=NOW, done=[Outcome(message=second, state=State.ASSIGNED, at=NOW, due_at=NOW)])
    assert set(leases(store)) == {third}
    store.advance(worker=HERE, now=NOW, begin=[third])
    store.advance(worker=HERE, now=NOW, done=[Outcome(message=third, state=State.FAILED, at=NOW)])
    assert leases(store) == {}
    with store._read() as db:
        assert db.execute(sa.select(t.messages.c.links).where(t.messages.c.id == first)).scalar_one() == 3
    assert store.states("spring") == {State.SENT: 1, State.ASSIGNED: 2, State.FAILED: 1}


def test_to_release_gives_back_all_but_what_is_on_its_way(store: Store) -> None:
    prepare(store, 5)
    held = [claimed.id for claimed in claim(store, 3)]
    claim(store, 1, worker=ELSEWHERE)
    store.advance(worker=HERE, now=NOW, begin=held[:1])
    store.suppress(["r1@example.com"], reason="asked", now=NOW)
    assert store.advance(worker=HERE, now=NOW, begin=held[1:2]) == frozenset()
    assert store.release(HERE) == 2
    assert leases(store) == {held[0]: HERE, f"{3:032x}": ELSEWHERE}
    assert [claimed.id for claimed in claim(store)] == [held[2], f"{4:032x}"]


def test_a_lease_that_is_over_goes_back_with_the_next_recovery_and_not_before(store: Store) -> None:
    prepare(store, 2)
    begun, waits = (claimed.id for claimed in claim(store, 2, worker=ELSEWHERE))
    store.advance(worker=ELSEWHERE, now=NOW, begin=[begun])
    assert claim(store, now=AFTER) == []
    assert store.recover(now=AFTER) == 1
    assert store.states("spring") == {State.UNCERTAIN: 1, State.ASSIGNED: 1}
    assert [claimed.id for claimed in claim(store, now=AFTER)] == [waits]
    assert store.advance(worker=ELSEWHERE, now=AFTER, begin=[waits]) == frozenset()
    assert store.advance(worker=HERE, now=AFTER, begin=[waits]) == {waits}


def test_to_begin_a_message_renews_its_lease(store: Store) -> None:
    prepare(store, 2)
    first, second = (claimed.id for claimed in claim(store, 2, worker=ELSEWHERE))
    late = NOW + timedelta(minutes=14)
    assert store.advance(worker=ELSEWHERE, now=late, begin=[first]) == {first}
    assert store.recover(now=NOW + timedelta(minutes=16)) == 0
    assert leases(store) == {first: ELSEWHERE}
    assert store.renew(ELSEWHERE, now=AFTER) == 1
    assert store.recover(now=AFTER) == 0
    assert [claimed.id for claimed in claim(store, now=AFTER)] == [second]


def test_of_two_who_find_the_same_messages_free_the_first_gets_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on PostgreSQL, where a lease may be committed while another worker's search goes on."""
    prepare(store, 4)
    real = Claims._due

    def overtaken(self: Claims, db: sa.Connection, where: Any, limit: int) -> list[sa.Row[Any]]:
        rows = real(self, db, where, limit)
        if rows and not leases_in(db):
            holder = {"ids": f'["{rows[0].id}"]', "w": ELSEWHERE, "until": AFTER}
            db.execute(store._upserts.lease, holder)
        return rows

    monkeypatch.setattr(_claims.Claims, "_due", overtaken)
    assert [claimed.recipient.id for claimed in claim(store, 2)] == ["r1", "r2"]
    assert leases(store) == {f"{0:032x}": ELSEWHERE, f"{1:032x}": HERE, f"{2:032x}": HERE}


def leases_in(db: sa.Connection) -> int:
    return int(db.execute(sa.select(sa.func.count()).select_from(t.leases)).scalar_one())


def test_what_another_holds_is_looked_at_again_in_a_second(store: Store) -> None:
    prepare(store, 3)
    assert store.next_due("spring", now=NOW) == {"UTC": NOW}
    claim(store, 2, worker=ELSEWHERE)
    later = NOW + timedelta(minutes=5)
    assert store.next_due("spring", now=later) == {"UTC": NOW}
    (last,) = claim(store)
    assert store.next_due("spring", now=later) == {"UTC": later + timedelta(seconds=1)}
    store.advance(worker=HERE, now=NOW, begin=[last.id])
    due = NOW + timedelta(days=1)
    store.advance(worker=HERE, now=NOW, done=[Outcome(message=last.id, state=State.ASSIGNED, at=NOW, due_at=due)])
    assert store.next_due("spring", now=later) == {"UTC": later + timedelta(seconds=1)}
    store.recover(now=AFTER)
    claim(store, 2)
    store.cancel_queued("spring")
    assert store.next_due("spring", now=later) == {}


def to_revision_0011(url: str, held: Sequence[tuple[str, str, str]]) -> None:
    """Take the tables back to the version before leases had a table of their own: message, state and worker of some."""
    engine = _database.create_engine(url)
    with engine.begin() as db:
        db.execute(t.leases.delete())
        for column, kind in OLD.items():
            more = " WITH TIME ZONE" if kind == "TIMESTAMP" and db.dialect.name == "postgresql" else ""
            db.exec_driver_sql(f"ALTER TABLE messages ADD COLUMN {column} {kind}{more}")
        db.exec_driver_sql("CREATE INDEX ix_messages_worker ON messages (state, worker) WHERE worker IS NOT NULL")
        change = "UPDATE messages SET state = :s, worker = :w, lease_until = :until WHERE id = :m"
        until = "2026-03-02 09:15:00.000000"
        for message, state, worker in held:
            db.execute(sa.text(change), {"m": message, "s": state, "w": worker, "until": until})
        db.exec_driver_sql("DROP TABLE leases")
        db.exec_driver_sql("UPDATE alembic_version SET version_num = '0011'")
    engine.dispose()


def test_the_leases_of_the_version_before_are_moved(store_url: str) -> None:
    with Store(store_url) as store:
        prepare(store, 5)
    dead = dead_worker()
    ids = [f"{i:032x}" for i in range(5)]
    to_revision_0011(
        store_url,
        [
            (ids[0], "sent", dead),
            (ids[1], "sending", dead),
            (ids[2], "assigned", dead),
            (ids[3], "assigned", ELSEWHERE),
        ],
    )
    assert upgrade(store_url) == ("0011", t.SCHEMA_REVISION)
    with Store(store_url) as store:
        assert leases(store) == {ids[1]: dead, ids[2]: dead, ids[3]: ELSEWHERE}
        assert store.recover(now=NOW) == 1
        assert leases(store) == {ids[3]: ELSEWHERE}
        assert store.states("spring") == {State.SENT: 1, State.UNCERTAIN: 1, State.ASSIGNED: 3}
        assert [claimed.id for claimed in claim(store)] == [ids[2], ids[4]]
        assert store.recover(now=AFTER) == 0
        assert ids[3] in {claimed.id for claimed in claim(store, now=AFTER)}


def test_an_index_that_was_never_built_does_not_stop_the_move(postgres_url: str) -> None:
    with Store(postgres_url) as store:
        prepare(store, 1)
    to_revision_0011(postgres_url, [])
    engine = _database.create_engine(postgres_url)
    with engine.begin() as db:
        db.exec_driver_sql("DROP INDEX ix_messages_worker")
    engine.dispose()
    assert upgrade(postgres_url) == ("0011", t.SCHEMA_REVISION)


def test_a_search_for_free_messages_walks_an_index_in_order_and_looks_leases_up(tmp_path: Path) -> None:
    with Store(f"sqlite:///{tmp_path}/mail.db") as store, store._read() as db:
        compiled = sql.DUE.compile(db)
        values = {**compiled.params, "e": "spring", "z": "UTC", "now": "2026-03-02 09:00:00.000000", "n": 10}
        bound = tuple(values[name] for name in compiled.positiontup or ())
        plan = " ".join(str(row[3]) for row in db.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", bound))
    assert "SEARCH messages USING INDEX ix_messages_due" in plan
    assert "TEMP B-TREE" not in plan
    assert "USING INDEX sqlite_autoindex_leases_1 FOR IN-OPERATOR" in plan
