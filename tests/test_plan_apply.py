"""A plan is applied as it was shown, or not at all: also when other processes change the store meanwhile."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from abmail.engine import Engine, Plan
from abmail.errors import StalePlan, StoreError
from abmail.recipient import Recipient
from abmail.spec import Experiment
from abmail.store import State, Store

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SECRET = b"0123456789abcdef"
TEMPLATE = "<p>Hello</p>"
NOBODY = 65_534


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    with Engine(store_url, secret=SECRET, clock=lambda: NOW) as opened:
        opened.store.import_recipients(people(0, 30), now=NOW)
        yield opened


def people(first: int, last: int, stage: str = "hot") -> list[Recipient]:
    return [
        Recipient(id=f"r{i}", email=f"r{i}@example.com", attributes={"stage": stage}, zone=None)
        for i in range(first, last)
    ]


def definition(**parts: object) -> Experiment:
    return Experiment.from_dict({
        "spec": 1, "name": "spring", "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
        "control": {"subject": "plain"}, "message": {"template": "x.html.j2", "from": "News <news@example.com>"},
        "allocation": {"policy": "uniform"}, "audience": {"segment": "stage == 'hot'"}, **parts,
    })  # fmt: skip


def plan(engine: Engine, **parts: object) -> Plan:
    return engine.plan(definition(**parts), template=TEMPLATE)


def test_one_plan_applied_twice_is_applied_once(engine: Engine) -> None:
    made = plan(engine)
    first = engine.apply(made)
    assert (first.version, first.added, first.new_version) == (1, 30, True)
    second = engine.apply(made)
    assert (second.version, second.added, second.new_version) == (1, 0, False)


JOINED: dict[str, Callable[[Store], object]] = {
    "somebody new is in the segment": lambda store: store.import_recipients(people(30, 31), now=NOW),
    "somebody left it": lambda store: store.import_recipients(people(4, 5, "cold"), now=NOW),
    "one left and another came": lambda store: store.import_recipients(
        [*people(4, 5, "cold"), *people(30, 31)], now=NOW
    ),
}
KEPT: dict[str, Callable[[Store], object]] = {
    "somebody new is outside of the segment": lambda store: store.import_recipients(people(30, 31, "cold"), now=NOW),
    "the same list again": lambda store: store.import_recipients(people(0, 30), now=NOW),
}


@pytest.mark.parametrize("change", JOINED.values(), ids=list(JOINED))
def test_a_plan_for_other_people_than_there_are_now_is_refused_whole(
    engine: Engine, change: Callable[[Store], object]
) -> None:
    made = plan(engine)
    change(engine.store)
    with pytest.raises(StalePlan, match="joined the segment, or left"):
        engine.apply(made)
    assert engine.store.experiments() == ()
    engine.apply(plan(engine))


@pytest.mark.parametrize("change", KEPT.values(), ids=list(KEPT))
def test_what_does_not_touch_the_audience_makes_no_plan_stale(
    engine: Engine, change: Callable[[Store], object]
) -> None:
    made = plan(engine)
    change(engine.store)
    assert engine.apply(made).added == 30


def test_an_unsubscribe_after_the_plan_only_takes_a_mail_away(engine: Engine) -> None:
    made = plan(engine)
    engine.store.suppress(["r7@example.com"], reason="", now=NOW)
    assert engine.apply(made).added == 29
    assert plan(engine).selection.suppressed == 1


def test_a_plan_for_a_running_experiment_is_stale_once_that_is_stopped(engine: Engine) -> None:
    engine.apply(plan(engine))
    made = plan(engine, stop={"after": "3d"})
    engine.stop("spring")
    with pytest.raises(StoreError, match="has ended"):
        engine.apply(made)
    with pytest.raises(StalePlan, match="stopped after"):  # as if it had happened after that was looked at
        engine.store.apply(
            "spring", spec_hash="x", content_hash="x", definition={}, template="", text_template=None, waves=[],
            messages=lambda _: (), after_version=1, now=NOW,
        )  # fmt: skip
    assert engine.store.experiment("spring").version == 1


def test_a_plan_of_another_database_is_stale(engine: Engine) -> None:
    with pytest.raises(StalePlan, match="not in this database"):
        engine.apply(replace(plan(engine), against_version=3))


def _apply_together(url: str, days: int, together: Any, found: Any) -> None:
    with Engine(url, secret=SECRET, clock=lambda: NOW) as engine:
        made = plan(engine, stop={"after": f"{days}d"})
        together.wait(timeout=60)
        try:
            applied = engine.apply(made)
        except StalePlan as error:
            found.put(("stale", str(error)))
        else:
            found.put(("applied", applied.added))


@pytest.mark.parametrize("alike", [True, False], ids=["the same plan", "plans that differ"])
def test_of_two_processes_that_apply_at_once_one_does_it(store_url: str, alike: bool) -> None:
    with Engine(store_url, secret=SECRET, clock=lambda: NOW) as engine:
        engine.store.import_recipients(people(0, 2_000), now=NOW)
    context = multiprocessing.get_context("fork")
    together, found = context.Barrier(3), context.SimpleQueue()
    started = [
        context.Process(target=_apply_together, args=(store_url, 3 if alike else 3 + i, together, found), daemon=True)
        for i in range(3)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(timeout=120)
    outcomes = sorted((found.get() for _ in started), key=str)
    if alike:
        assert outcomes == [("applied", 0), ("applied", 0), ("applied", 2_000)]
    else:
        assert [kind for kind, _ in outcomes] == ["applied", "stale", "stale"]
        assert outcomes[0] == ("applied", 2_000)
    with Store(store_url) as store:
        assert store.experiment("spring").version == 1
        assert store.states("spring") == {State.QUEUED: 2_000}


# --- reading alone ----------------------------------------------------------------------------------------------------


def test_a_store_that_is_read_only_plans_and_lets_nothing_be_written(engine: Engine, store_url: str) -> None:
    engine.apply(plan(engine))
    with Engine(Store(store_url, read_only=True), secret=SECRET) as reading:
        assert plan(reading, stop={"after": "3d"}).selection.chosen == 30
        for deed in (
            lambda: reading.store.suppress(["r1@example.com"], reason="x", now=NOW),
            lambda: reading.apply(plan(reading, stop={"after": "3d"}), now=NOW),
        ):
            with pytest.raises((StoreError, sa.exc.DBAPIError), match=r"read.?only"):
                deed()
    assert engine.store.suppressed() == {}


def test_a_plan_under_way_holds_no_lock_that_a_writer_waits_for(engine: Engine, store_url: str) -> None:
    with Store(store_url, read_only=True) as reading:
        everybody = reading.candidates("spring")
        next(everybody)
        engine.store.import_recipients(people(30, 40), now=NOW)  # waits for a minute if it has to
        engine.apply(plan(engine))
        assert sum(1 for _ in everybody) == 29  # all of them as they were when the plan began


def test_reading_leaves_a_file_as_it_was_even_after_a_crash(tmp_path: Path) -> None:
    file = tmp_path / "mail.db"
    if not (child := os.fork()):  # leaves a journal behind that a writer would work off
        store = Store(f"sqlite:///{file}")
        store.import_recipients(people(0, 30), now=NOW)
        os._exit(0)
    os.waitpid(child, 0)
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    with Store(f"sqlite:///{file}", read_only=True) as reading:
        assert reading.count_recipients() == 30
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before


def test_a_database_that_is_not_there_is_read_as_an_empty_one_and_not_made(tmp_path: Path) -> None:
    file = tmp_path / "mail.db"
    with Store(f"sqlite:///{file}", read_only=True) as reading:
        assert reading.count_recipients() == 0
        assert reading.experiments() == ()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_postgres_database_is_read_as_an_empty_one_and_gets_no_tables(postgres_url: str) -> None:
    with Store(postgres_url, read_only=True) as reading:
        assert reading.count_recipients() == 0
    plain = sa.create_engine(sa.make_url(postgres_url).set(drivername="postgresql+psycopg"))
    assert sa.inspect(plain).get_table_names() == []
    plain.dispose()


def _count_as_a_stranger(url: str, found: Any) -> None:
    if os.geteuid() == 0:  # root may write everywhere
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    with Store(url, read_only=True) as store:
        found.put(store.count_recipients())


def test_a_folder_in_which_nothing_may_be_written_is_enough_to_read() -> None:
    with tempfile.TemporaryDirectory() as outer:
        folder = Path(outer) / "100 % ours"
        folder.mkdir()
        url = f"sqlite:///{folder / 'mail.db'}"
        with Store(url) as store:
            store.import_recipients(people(0, 30), now=NOW)
        Path(outer).chmod(0o755)
        (folder / "mail.db").chmod(0o444)
        folder.chmod(0o555)
        context = multiprocessing.get_context("fork")
        found = context.SimpleQueue()
        reader = context.Process(target=_count_as_a_stranger, args=(url, found), daemon=True)
        reader.start()
        reader.join(timeout=60)
        folder.chmod(0o755)
        assert reader.exitcode == 0
        assert found.get() == 30
        assert [path.name for path in folder.iterdir()] == ["mail.db"]
