"""The thread that stores opens and clicks in groups."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from abmail._web_hits import Hit, recorder
from abmail._web_writer import EventWriter
from abmail.engine import Engine
from abmail.errors import StoreError
from abmail.events import Event, EventType, Signer, Verdict

NOW = datetime(2026, 3, 1, 11, tzinfo=UTC)
SIGNER = Signer(b"0123456789abcdef0123456789abcdef")
OPENED, CLICKED = EventType.OPENED, EventType.CLICKED


def hit(type_: EventType = OPENED, number: int = 0, agent: str = "Mozilla/5.0 (X11) Firefox/128.0") -> Hit:
    made = SIGNER.of(SIGNER.message_id("spring", str(number)))
    is_click = type_ is CLICKED
    signed = SIGNER.signed("oc", made.click(1, "") if is_click else made.pixel())
    assert signed is not None
    return Hit(signed, round(NOW.timestamp() * 1e6), agent.encode())


class Recording:
    """Keeps the groups; may be held up, and may fail so many times."""

    def __init__(self, *failures: Exception, held_up: bool = False) -> None:
        self.groups: list[list[Hit]] = []
        self.reached, self.go_on = threading.Event(), threading.Event()
        self._failures = list(failures)
        if not held_up:
            self.go_on.set()

    def __call__(self, hits: Sequence[Hit]) -> None:
        self.reached.set()
        assert self.go_on.wait(60)
        if self._failures:
            raise self._failures.pop(0)
        self.groups.append(list(hits))

    @property
    def types(self) -> list[EventType]:
        return [each.type for group in self.groups for each in group]


def full(record: Recording, capacity: int) -> EventWriter:
    """A writer whose thread is busy with one open while so many more wait."""
    writer = EventWriter(record, capacity=capacity, wait=0.0)
    writer.put(hit())
    assert record.reached.wait(60)
    for number in range(capacity):
        assert writer.put(hit(number=number))
    return writer


def test_what_comes_together_is_stored_together() -> None:
    record = Recording(held_up=True)
    writer = full(record, 10)
    record.go_on.set()
    assert writer.flush(60)
    assert [len(group) for group in record.groups] == [1, 10]
    assert (writer.stored, writer.waiting) == (11, 0)


def test_no_group_is_larger_than_it_may_be() -> None:
    record = Recording()
    writer = EventWriter(record, group=3, wait=60.0)
    for number in range(7):
        writer.put(hit(number=number))
    assert writer.flush(60)
    assert sum(len(group) for group in record.groups) == 7
    assert max(len(group) for group in record.groups) <= 3


def test_a_lonely_hit_is_stored_without_waiting_for_a_flush() -> None:
    record = Recording()
    EventWriter(record, wait=0.01).put(hit())
    assert record.reached.wait(60)


def test_where_there_is_no_room_opens_are_dropped_before_clicks_and_counted() -> None:
    record = Recording(held_up=True)
    writer = full(record, 3)
    assert not writer.put(hit())
    assert writer.put(hit(CLICKED))
    assert writer.put(hit(CLICKED))
    assert writer.put(hit(CLICKED))
    assert not writer.put(hit(CLICKED))
    assert not writer.put(hit())
    assert writer.dropped == {OPENED: 5, CLICKED: 1}
    record.go_on.set()
    assert writer.flush(60)
    assert record.types == [OPENED, CLICKED, CLICKED, CLICKED]


def test_answers_wait_for_a_commit_rather_than_let_more_be_at_risk_than_was_promised() -> None:
    record = Recording(held_up=True)
    writer = EventWriter(record, group=5, wait=0.0)

    async def readers() -> list[int]:
        async def ask(number: int) -> None:
            writer.put(hit(number=number))
            if writer.is_full:
                await writer.room()
            answered.append(number)

        answered: list[int] = []
        tasks = [asyncio.create_task(ask(number)) for number in range(40)]
        await asyncio.sleep(0.05)
        seen.append(len(answered))
        record.go_on.set()
        await asyncio.gather(*tasks)
        return answered

    seen: list[int] = []
    assert sorted(asyncio.run(readers())) == list(range(40))
    assert seen == [10]  # a group that is being written, and the next one


def test_nobody_waits_for_a_database_that_is_away() -> None:
    record = Recording(held_up=True)
    writer = EventWriter(record, group=1, wait=0.0)
    for number in range(5):
        writer.put(hit(number=number))
    looks, begun = [writer.is_full], time.monotonic()
    asyncio.run(writer.room())
    looks.append(writer.is_full)
    assert time.monotonic() - begun >= 0.25
    assert looks == [True, False]  # one reader found out for all
    record.go_on.set()
    assert writer.flush(60)
    writer.put(hit())
    assert writer.flush(60)


def test_closing_stores_what_waits_and_nothing_comes_after_it() -> None:
    before = set(threading.enumerate())
    record = Recording()
    writer = EventWriter(record, wait=60.0)
    for number in range(5):
        writer.put(hit(number=number))
    writer.close()
    assert len(record.types) == 5
    assert not writer.put(hit())
    assert not writer.is_well
    assert set(threading.enumerate()) <= before


def test_a_writer_that_never_had_anything_to_do_has_no_thread() -> None:
    writer = EventWriter(Recording())
    assert writer.flush(60)
    assert writer.is_well
    writer.close()


@pytest.mark.parametrize("error", [StoreError("the database is locked"), OSError("disk full")])
def test_a_database_that_is_away_is_tried_again(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    record = Recording(error, error)
    writer = EventWriter(record, wait=0.0)
    writer.put(hit())
    assert writer.flush(60)
    assert writer.is_well
    assert (len(record.groups), writer.stored, writer.failed) == (1, 1, 0)
    assert [each.levelno for each in caplog.records] == [logging.ERROR, logging.ERROR]


def test_what_cannot_be_stored_before_the_end_is_said(caplog: pytest.LogCaptureFixture) -> None:
    record = Recording(*[StoreError("the database is away")] * 9)
    writer = EventWriter(record, wait=0.0)
    writer.put(hit())
    assert record.reached.wait(60)
    writer.close()
    assert record.groups == []
    assert "1 events could not be stored before the end; they are lost" in caplog.text


def test_one_faulty_hit_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    stored: list[Hit] = []

    def record(hits: Sequence[Hit]) -> None:
        if any(each.type is CLICKED for each in hits):
            raise ValueError("nobody thought of this")
        stored.extend(hits)

    writer = EventWriter(record, wait=60.0)
    for each in (hit(number=1), hit(CLICKED, 2), hit(number=3)):
        writer.put(each)
    assert writer.flush(60)
    assert (len(stored), writer.stored, writer.failed) == (2, 2, 1)
    assert "an event clicked could not be stored" in caplog.text
    assert writer.is_well


def test_a_group_is_judged_with_one_look_at_the_ledger_and_stored_in_one_transaction() -> None:
    calls: list[str] = []

    class Sent:
        sent_at, language, keeps_requests = NOW - timedelta(hours=1), "en", False

    class Ledger:
        signer = SIGNER

        def messages(self, message_ids: Sequence[str], /) -> dict[str, Sent]:
            calls.append("look")
            assert len(message_ids) == len(set(message_ids)) == 3
            return {each: Sent() for each in message_ids if each != SIGNER.message_id("spring", "3")}

        def record_all(self, events: Sequence[Event], /) -> None:
            calls.append("store")
            self.events = list(events)

    ledger = Ledger()
    recorder(ledger)([hit(), hit(CLICKED), hit(number=2, agent=""), hit(number=3)])  # type: ignore[arg-type]
    assert calls == ["look", "store"]
    assert [(event.type, event.verdict) for event in ledger.events] == [
        (OPENED, Verdict.HUMAN), (CLICKED, Verdict.HUMAN), (OPENED, Verdict.MACHINE),
    ]  # fmt: skip


def test_hits_of_unknown_messages_touch_no_table(tmp_path: object) -> None:
    with Engine(f"sqlite:///{tmp_path}/mail.db", secret=b"0123456789abcdef") as engine:
        recorder(engine)([hit(number=number) for number in range(1_200)])
        assert engine.messages([]) == {}
