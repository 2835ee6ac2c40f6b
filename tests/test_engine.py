"""The verbs of the engine on a real database, with mails kept in memory and a clock that the test moves."""

from __future__ import annotations

import email
import errno
import multiprocessing
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.policy import default as default_policy
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import abmail as ab
from abmail import _planning as planning
from abmail.engine import Engine, secret_file
from abmail.errors import ConfigError, PermanentSendError, StalePlan, StoreError, TransientSendError, UncertainSendError
from abmail.events import Event, EventType, Verdict
from abmail.recipient import Recipient
from abmail.render import RenderedMessage
from abmail.send import Memory
from abmail.spec import Experiment
from abmail.stats import FEWEST_SUCCESSES, Decision, Futility
from abmail.store import State

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)  # a Monday
TEMPLATE = '<p>{{ recipient.name }}</p><a href="https://example.com/x">{{ cta | default("go") }}</a>'


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> datetime:
        return self.time

    def forward(self, **step: float) -> None:
        self.time += timedelta(**step)


class Moody(Memory):
    """Raises what it is told for some addresses, and takes the rest."""

    def __init__(self, moods: dict[str, list[Exception]] | None = None) -> None:
        super().__init__()
        self.moods = moods or {}

    def send(self, message: RenderedMessage) -> str:
        if waiting := self.moods.get(message.recipient):
            raise waiting.pop(0)
        return super().send(message)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def transport() -> Moody:
    return Moody()


@pytest.fixture
def engine(store_url: str, clock: Clock, transport: Moody) -> Iterator[Engine]:
    with Engine(store_url, transport=transport, secret=b"0123456789abcdef", clock=clock) as opened:
        yield opened


def people(n: int, **columns: str) -> list[Recipient]:
    return [
        Recipient(
            id=f"r{i}", email=f"r{i}@c{i % 7}.example.com", attributes={"name": f"Person {i}", **columns}, zone=None
        )
        for i in range(n)
    ]


def definition(name: str = "spring", **parts: object) -> Experiment:
    return Experiment.from_dict(
        {
            "spec": 1,
            "name": name,
            "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
            "control": {"subject": "plain"},
            "message": {"template": "mails/x.html.j2", "from": "News <news@example.com>"},
            "allocation": {"policy": "uniform"},
            **parts,
        }
    )


def apply(engine: Engine, exp: Experiment, recipients: list[Recipient]) -> None:
    engine.apply(engine.plan(exp, recipients, template=TEMPLATE))


def click(engine: Engine, message: str, at: datetime, kind: EventType = EventType.CLICKED) -> None:
    engine.record(Event(type=kind, at=at, message_id=message), now=at)


def click_some(
    engine: Engine,
    messages: Iterable[RenderedMessage],
    rng: np.random.Generator,
    shares: dict[str, float],
    at: datetime,
) -> None:
    """Click shares of the mails by subject, all at once."""
    clicked = [message.message_id for message in messages if rng.random() < shares[message.subject]]
    engine.record_all([Event(type=EventType.CLICKED, at=at, message_id=each) for each in clicked], now=at)


@pytest.mark.usefixtures("in_bulk")
def test_the_whole_chain_from_plan_to_report(engine: Engine, transport: Moody, clock: Clock) -> None:
    apply(engine, definition(audience={"holdout": 0.1}), people(500))
    tick = engine.tick()
    assert tick.outbox.sent == len(transport.messages) > 400
    for message in transport.messages[:100]:
        click(engine, message.message_id, NOW + timedelta(hours=1))
    clock.forward(days=4)
    report = engine.analyze("spring")
    assert report.state == "finished"
    assert report.sent + report.held_out == 500
    assert sum(arm.successes for arm in report.arms) == 100
    assert report.mature_share == 1.0
    assert report.srm.ok
    assert ab.Report.from_dict(report.to_dict()) == report


def test_a_recipient_who_is_given_twice_gets_one_mail_and_later_ones_are_added(engine: Engine) -> None:
    twice = [*people(20), *people(5)]
    exp = definition()
    assert engine.apply(engine.plan(exp, twice, template=TEMPLATE)).added == 20
    assert engine.apply(engine.plan(exp, people(30), template=TEMPLATE)).added == 10
    assert engine.apply(engine.plan(exp, people(30), template=TEMPLATE)).added == 0
    assert engine.waiting("spring") == 30


def clicks_for(engine: Engine, transport: Moody, at: datetime, shares: dict[str, float], first: int = 0) -> None:
    """Click the given share of each subject's mails, from the ``first`` mail on."""
    click_some(engine, transport.messages[first:], np.random.default_rng(11), shares, at)


@pytest.mark.usefixtures("in_bulk")
def test_young_mails_are_shown_by_a_method_that_any_number_of_looks_leaves_valid(
    engine: Engine, transport: Moody, clock: Clock
) -> None:
    apply(engine, definition(), people(1_200))
    engine.tick()
    clicks_for(engine, transport, NOW + timedelta(hours=1), {"Hello": 0.1, "3 ways": 0.3})
    clock.forward(hours=2)

    young = engine.analyze("spring")
    assert young.method.name == "anytime"
    assert "young" in young.method.why
    assert young.method.why_ja in young.to_html(language="ja")
    assert (young.decision.state, young.decision.arm) == ("leading", "number")
    clock.forward(hours=72)
    closed = engine.analyze("spring")
    assert closed.method.name == "fixed"
    assert closed.decision.state == "winner"
    arms = [(report.arms[1].ci_lower, report.arms[1].ci_upper) for report in (young, closed)]
    assert arms[0][0] < arms[1][0] < arms[1][1] < arms[0][1]  # type: ignore[operator]


@pytest.mark.usefixtures("in_bulk")
def test_people_who_are_added_to_a_finished_test_do_not_buy_it_another_look(
    engine: Engine, transport: Moody, clock: Clock
) -> None:
    apply(engine, definition(), people(1_000))
    engine.tick()
    clicks_for(engine, transport, NOW + timedelta(hours=1), {"Hello": 0.2, "3 ways": 0.22})
    clock.forward(days=4)
    finished = engine.analyze("spring")
    apply(engine, definition(), people(1_500))
    engine.tick()
    clicks_for(engine, transport, clock() + timedelta(hours=1), {"Hello": 0.1, "3 ways": 0.5}, first=1_000)
    clock.forward(days=4)
    extended = engine.analyze("spring")

    assert extended.arms[1].n > finished.arms[1].n
    assert (extended.arms[1].effect, extended.arms[1].p_value) == (finished.arms[1].effect, finished.arms[1].p_value)
    assert extended.decision == finished.decision


@pytest.mark.usefixtures("in_bulk")
def test_people_who_are_added_while_it_runs_get_a_part_of_what_is_left(
    engine: Engine, transport: Moody, clock: Clock
) -> None:
    exp = definition(allocation=waves())
    apply(engine, exp, people(1_000))
    engine.tick()
    apply(engine, exp, people(2_000))
    for _ in range(8):
        clock.forward(hours=1)
        engine.tick()
    epochs = engine.store.epochs("spring")
    assert [e.remaining for e in epochs[:2]] == [1_000 - epochs[0].size, 2_000 - epochs[0].size - epochs[1].size]
    clicks_for(engine, transport, NOW + timedelta(hours=9), {"Hello": 0.2, "3 ways": 0.3})
    clock.forward(days=4)
    report = engine.analyze("spring")
    assert report.method.name == "sequential"
    assert report.decision.arm == "number"


def test_applying_the_same_plan_twice_changes_nothing(engine: Engine, transport: Moody) -> None:
    exp = definition()
    apply(engine, exp, people(50))
    again = engine.apply(engine.plan(exp, people(50), template=TEMPLATE))
    assert (again.version, again.new_version, again.added) == (1, False, 0)
    engine.tick()
    engine.tick()
    assert len(transport.messages) == 50


def test_people_who_are_added_later_get_their_mail_too(engine: Engine, transport: Moody, clock: Clock) -> None:
    exp = definition()
    apply(engine, exp, people(50))
    engine.tick()
    apply(engine, exp, people(80))
    clock.forward(hours=2)
    engine.tick()
    assert Counter(Counter(m.recipient for m in transport.messages).values()) == {1: 80}


def test_two_recipients_with_one_address_get_one_mail(engine: Engine, transport: Moody) -> None:
    twins = [*people(5), Recipient(id="twin", email="r1@c1.example.com", attributes={"name": "Twin"}, zone=None)]
    apply(engine, definition(), twins)
    later = [Recipient(id="later", email="r2@c2.example.com", attributes={"name": "Later"}, zone=None)]
    apply(engine, definition(), later)
    engine.tick()
    assert Counter(m.recipient for m in transport.messages) == Counter(p.email for p in people(5))


@pytest.mark.usefixtures("in_bulk")
def test_the_time_limit_counts_from_the_first_wave(engine: Engine, transport: Moody, clock: Clock) -> None:
    apply(engine, definition(allocation=waves(), stop={"after": "2d"}), people(1_600))
    clock.forward(days=3)
    assert engine.tick().opened[0].weights == {"plain": 0.5, "number": 0.5}
    clock.forward(days=2)
    engine.tick()
    assert {m.subject for m in transport.messages[400:]} == {"Hello"}
    assert len(transport.messages) == 1_600


@pytest.mark.usefixtures("in_bulk")
def test_the_holdout_is_recorded_and_never_mailed(engine: Engine, transport: Moody) -> None:
    apply(engine, definition(audience={"holdout": 0.3}), people(400))
    engine.tick()
    held = {m.email for m in engine.store.messages("spring", states=[State.HELD_OUT])}
    assert 80 < len(held) < 160
    assert not held & {m.recipient for m in transport.messages}


def test_only_the_segment_is_mailed_and_suppressed_people_are_not(engine: Engine, transport: Moody) -> None:
    engine.store.suppress(["r1@c1.example.com"], reason="asked", now=NOW)
    mixed = people(10, stage="hot") + [replace(p, id=f"x{p.id}", email=f"x{p.email}") for p in people(5, stage="cold")]
    plan = engine.plan(definition(audience={"segment": "stage == 'hot'"}), mixed, template=TEMPLATE)
    assert (plan.selection.chosen, plan.selection.suppressed, plan.selection.outside) == (9, 1, 5)
    engine.apply(plan)
    engine.tick()
    assert {m.recipient for m in transport.messages} == {p.email for p in mixed[:10]} - {"r1@c1.example.com"}


def test_an_unsubscribe_after_the_plan_still_stops_the_mail(engine: Engine, transport: Moody) -> None:
    apply(engine, definition("one"), people(3))
    engine.tick()
    engine.unsubscribe(transport.messages[0].message_id, at=NOW, reason="one click")
    apply(engine, definition("two"), people(3))
    engine.tick()
    second = transport.messages[3:]
    assert transport.messages[0].recipient not in {m.recipient for m in second}
    assert len(second) == 2


def test_a_change_that_would_break_a_running_test_is_refused_and_named(engine: Engine) -> None:
    apply(engine, definition(), people(20))
    changed = definition(factors={"subject": {"plain": "Hello", "number": "4 ways"}})
    plan = engine.plan(changed, people(20), template=TEMPLATE)
    assert [change.path for change in plan.risky] == ["factors.subject.number"]
    with pytest.raises(StoreError, match=r"factors\.subject\.number"):
        engine.apply(plan)


def test_a_changed_mail_is_a_risky_change_too(engine: Engine) -> None:
    apply(engine, definition(), people(20))
    plan = engine.plan(definition(), people(20), template=TEMPLATE + "!")
    assert [change.path for change in plan.risky] == ["template"]


def test_a_harmless_change_makes_a_new_version(engine: Engine) -> None:
    apply(engine, definition(), people(20))
    applied = engine.apply(engine.plan(definition(stop={"after": "3d"}), people(20), template=TEMPLATE))
    assert (applied.version, applied.new_version) == (2, True)


def test_a_plan_that_was_overtaken_is_stale(engine: Engine) -> None:
    old = engine.plan(definition(), people(20), template=TEMPLATE)
    apply(engine, definition(stop={"after": "3d"}), people(20))
    with pytest.raises(StalePlan):
        engine.apply(old)


def test_each_mail_shows_its_cell_and_the_ledger_knows_it(engine: Engine, transport: Moody) -> None:
    exp = definition()
    apply(engine, exp, people(60))
    engine.tick()
    ledger = {m.id: m for m in engine.store.messages("spring")}
    for message in transport.messages:
        entry = ledger[message.message_id]
        assert entry.cell is not None
        assert message.subject == exp.cells[entry.cell].content["subject"]
        assert entry.cell == ab.assign(exp, entry.recipient, weights=[0.5, 0.5]).cell
        assert entry.propensity == 0.5


def test_a_retry_after_a_temporary_refusal_keeps_the_cell(engine: Engine, transport: Moody, clock: Clock) -> None:
    apply(engine, definition(), people(3))
    transport.moods = {"r1@c1.example.com": [TransientSendError("451 busy"), TransientSendError("421 later")]}
    first = engine.tick()
    assert (first.outbox.sent, first.outbox.retried) == (2, 1)
    before = {m.email: m.cell for m in engine.store.messages("spring")}
    assert first.next_at is not None
    assert NOW < first.next_at <= NOW + timedelta(minutes=1)
    for _ in range(2):
        clock.forward(minutes=6)
        engine.tick()
    after = {m.email: (m.cell, m.state) for m in engine.store.messages("spring")}
    assert after == {address: (cell, State.SENT) for address, cell in before.items()}


def test_a_mail_that_is_always_put_off_fails_in_the_end(engine: Engine, transport: Moody, clock: Clock) -> None:
    apply(engine, definition(), people(1))
    transport.moods = {"r0@c0.example.com": [TransientSendError("451 busy") for _ in range(50)]}
    for _ in range(12):
        engine.tick()
        clock.forward(hours=13)
    (message,) = engine.store.messages("spring")
    assert message.state == State.FAILED
    assert re.fullmatch(r"given up after 1[01] tries: 451 busy", str(message.error))


def test_a_dead_address_fails_and_is_never_mailed_again(engine: Engine, transport: Moody) -> None:
    apply(engine, definition(), people(2))
    transport.moods = {"r0@c0.example.com": [PermanentSendError("550 5.1.1 unknown", code=550, kind="hard")]}
    tick = engine.tick()
    assert (tick.outbox.sent, tick.outbox.failed) == (1, 1)
    assert engine.store.suppressed() == {"r0@c0.example.com": "bounced"}


def test_an_answer_that_never_came_leaves_the_mail_uncertain(engine: Engine, transport: Moody, clock: Clock) -> None:
    apply(engine, definition(), people(2))
    transport.moods = {"r0@c0.example.com": [UncertainSendError("no answer after the final dot")]}
    assert engine.tick().outbox.uncertain == 1
    clock.forward(days=1)
    assert engine.tick().outbox.total == 0


def test_a_relay_that_refuses_us_stops_the_tick_and_loses_nothing(engine: Engine, transport: Moody) -> None:
    apply(engine, definition(), people(3))
    transport.moods = {p.email: [ConfigError("535 wrong password")] for p in people(3)}
    with pytest.raises(ConfigError, match="535"):
        engine.tick()
    assert engine.store.states("spring") == {State.ASSIGNED: 3}
    transport.moods = {}
    assert engine.tick().outbox.sent == 3


def test_one_recipient_whose_mail_cannot_be_made_does_not_stop_the_others(engine: Engine, transport: Moody) -> None:
    nameless = Recipient(id="n", email="n@example.com", attributes={}, zone=None)
    apply(engine, definition(), [*people(5), nameless])
    tick = engine.tick()
    assert (tick.outbox.sent, tick.outbox.failed) == (5, 1)
    (failed,) = engine.store.messages("spring", states=[State.FAILED])
    assert failed.email == "n@example.com"
    assert "name" in str(failed.error)


def waves(**settings: object) -> dict[str, object]:
    return {"policy": "thompson", "first_wave": 0.25, "every": "1h", "waves": 4, **settings}


@pytest.mark.usefixtures("in_bulk")
def test_thompson_sends_in_waves_and_shifts_towards_what_works(engine: Engine, transport: Moody, clock: Clock) -> None:
    apply(engine, definition(allocation=waves()), people(1_600))
    rng = np.random.default_rng(5)
    seen = 0
    for number in range(4):
        tick = engine.tick()
        (opened,) = tick.opened
        assert (opened.number, opened.size) == (number, 400)
        click_some(
            engine, transport.messages[seen:], rng, {"Hello": 0.1, "3 ways": 0.4}, clock() + timedelta(minutes=5)
        )
        seen = len(transport.messages)
        assert engine.tick().outbox.total == 0
        clock.forward(hours=1)
    weights = [epoch.weights[1] for epoch in engine.store.epochs("spring")]
    assert weights[0] == 0.5
    assert weights[-1] == pytest.approx(0.9)
    assert all(w * 2**20 == round(w * 2**20) for e in engine.store.epochs("spring") for w in e.weights)


@pytest.mark.usefixtures("in_bulk")
def test_the_first_wave_is_a_sample_of_the_list_and_not_its_beginning(engine: Engine, transport: Moody) -> None:
    apply(engine, definition(allocation=waves()), people(1_600))
    engine.tick()
    numbers = [int(m.recipient.split("@")[0][1:]) for m in transport.messages]
    assert 700 < np.mean(numbers) < 900


@pytest.mark.usefixtures("in_bulk")
def test_a_winner_is_noted_once_and_the_rest_of_the_list_gets_it(
    engine: Engine, transport: Moody, clock: Clock
) -> None:
    exp = definition(allocation=waves(every="1h"), metrics={"primary": "clicked", "window": "30m"})
    apply(engine, exp, people(1_600))
    rng = np.random.default_rng(5)
    seen = 0
    while engine.store.queued("spring"):
        engine.tick()
        click_some(
            engine, transport.messages[seen:], rng, {"Hello": 0.1, "3 ways": 0.5}, clock() + timedelta(minutes=5)
        )
        seen = len(transport.messages)
        clock.forward(hours=1)
    epochs = engine.store.epochs("spring")
    assert epochs[-1].weights == (0.0, 1.0)
    assert "everybody else gets number" in epochs[-1].reason
    assert len(epochs) < 4
    report = engine.analyze("spring")
    assert (report.decision.state, report.decision.arm) == ("winner", "number")
    assert report.state == "finished"
    assert report.srm.ok


@pytest.mark.usefixtures("in_bulk")
def test_no_winner_is_named_before_the_window_has_closed(engine: Engine, transport: Moody, clock: Clock) -> None:
    apply(engine, definition(), people(600))
    engine.tick()
    rng = np.random.default_rng(5)
    click_some(engine, transport.messages, rng, {"Hello": 0.0, "3 ways": 1.0}, NOW + timedelta(minutes=3))
    clock.forward(hours=1)
    early = engine.analyze("spring")
    assert (early.decision.state, early.decision.arm) == ("leading", "number")
    assert "72 hours" in early.decision.reason
    clock.forward(hours=72)
    assert engine.analyze("spring").decision.state == "winner"


def test_mail_waits_for_the_window_of_each_recipients_own_zone(engine: Engine, transport: Moody, clock: Clock) -> None:
    zones = {"r0": "Asia/Tokyo", "r1": "America/New_York", "r2": "Europe/Berlin"}
    recipients = [replace(p, zone=zones[p.id]) for p in people(3)]
    apply(engine, definition(send_time={"between": "08:00-18:00", "days": ["mon", "tue"]}), recipients)
    sent_at = {}
    for _ in range(40):
        before = len(transport.messages)
        engine.tick()
        sent_at.update({m.recipient[:2]: clock.time for m in transport.messages[before:]})
        clock.forward(minutes=30)
    assert sent_at == {
        "r2": NOW,  # 10:00 in Berlin
        "r1": NOW + timedelta(hours=4),  # 8:00 in New York
        "r0": NOW + timedelta(hours=14),  # 8:00 on Tuesday in Tokyo
    }


@pytest.mark.usefixtures("in_bulk")
def test_a_tick_tells_when_there_is_something_to_do_next(engine: Engine, clock: Clock) -> None:
    apply(engine, definition(allocation=waves(), send_time={"between": "08:00-10:00"}), people(1_600))
    assert engine.tick().next_at == NOW + timedelta(hours=23)  # in an hour the window is closed; 8:00 tomorrow
    clock.forward(hours=23)
    assert engine.tick().next_at == NOW + timedelta(hours=24)


def in_two_zones(n: int) -> list[Recipient]:
    return [replace(p, zone="Asia/Tokyo" if i % 2 else "Europe/Berlin") for i, p in enumerate(people(n))]


def test_a_zone_that_is_closed_does_not_call_for_a_tick_because_another_one_is_open(
    engine: Engine, transport: Moody, clock: Clock
) -> None:
    exp = definition(allocation=waves(), send_time={"between": "08:00-18:30"})
    apply(engine, exp, in_two_zones(1_600))
    engine.tick(limit=10)  # 10:00 in Berlin, 18:00 in Tokyo
    clock.forward(minutes=40)
    tick = engine.tick()  # Berlin's mails go out; those to Tokyo are due and have to wait for the morning
    assert 0 < engine.store.states("spring")[State.ASSIGNED] < 390
    assert tick.next_at == NOW + timedelta(hours=1)  # the next wave, in Berlin
    clock.forward(minutes=20)
    assert engine.tick().opened[0].number == 1


def test_a_sender_that_wakes_when_it_is_told_finds_work_each_time(
    engine: Engine, transport: Moody, clock: Clock
) -> None:
    apply(engine, definition(allocation=waves(), send_time={"between": "08:00-18:30"}), in_two_zones(1_600))
    engine.tick(limit=10)
    clock.forward(minutes=40)
    transport.moods = {f"r{i}@c{i % 7}.example.com": [TransientSendError("451 busy")] for i in (8, 9)}
    wakes = 0
    while (tick := engine.tick()).next_at is not None:
        assert tick.opened or tick.outbox.total
        assert tick.next_at > clock.time
        clock.time = tick.next_at
        wakes += 1
        assert wakes < 15
    assert Counter(Counter(m.recipient for m in transport.messages).values()) == {1: 1_600}


@pytest.mark.usefixtures("in_bulk")
def test_a_decided_test_ships_the_rest_as_soon_as_a_zone_opens(engine: Engine, transport: Moody, clock: Clock) -> None:
    exp = definition(allocation=waves(every="3d"), send_time={"between": "08:00-18:30"})
    apply(engine, exp, in_two_zones(1_600))
    engine.tick()
    engine.stop("spring", ship="number")
    clock.forward(hours=1)
    assert engine.tick().next_at == NOW + timedelta(hours=14)  # 8:00 in Tokyo
    clock.forward(hours=13)
    assert engine.tick().next_at is None
    assert len(transport.messages) == 1_600


@pytest.mark.usefixtures("in_bulk")
def test_a_definition_is_read_once_however_often_the_engine_ticks(
    engine: Engine, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(engine, definition(allocation=waves()), people(1_600))
    read: list[object] = []

    def counting(plain: dict[str, object]) -> Experiment:
        read.append(plain)
        return from_dict(plain)

    from_dict = Experiment.from_dict
    monkeypatch.setattr(Experiment, "from_dict", counting)
    for _ in range(3):
        engine.tick()
        clock.forward(hours=1)
    engine.analyze("spring")
    assert len(read) == 1


def test_several_ticks_with_a_limit_send_everybody_once(engine: Engine, transport: Moody) -> None:
    apply(engine, definition(), people(50))
    for _ in range(8):
        engine.tick(limit=7)
    assert Counter(Counter(m.recipient for m in transport.messages).values()) == {1: 50}


@pytest.mark.usefixtures("in_bulk")
def test_a_look_at_what_is_due_changes_nothing(engine: Engine, transport: Moody) -> None:
    apply(engine, definition(allocation=waves()), people(1_600))
    due = engine.due("spring")
    assert due.outbox.sent == 400
    assert engine.store.epochs("spring") == ()
    assert transport.messages == []
    assert engine.tick().opened == due.opened


@pytest.mark.usefixtures("in_bulk")
def test_a_look_at_what_is_due_knows_the_verdict_that_a_tick_would_note(
    engine: Engine, transport: Moody, clock: Clock
) -> None:
    apply(engine, definition(allocation=waves(), stop={"after": "2d"}), people(1_600))
    engine.tick()
    clock.forward(days=3)
    due = engine.due("spring")
    assert engine.store.experiment("spring").verdict is None
    assert due.opened[0].weights == {"plain": 1.0, "number": 0.0}
    assert due.outbox.sent == 1_200
    assert engine.tick().opened == due.opened


def test_a_look_at_a_test_that_its_time_limit_stops_shows_nothing_to_send(
    engine: Engine, transport: Moody, clock: Clock
) -> None:
    apply(engine, definition(allocation=waves(), stop={"after": "2d", "inconclusive": "stop"}), people(1_600))
    engine.tick(limit=10)
    clock.forward(days=3)
    assert engine.due("spring").outbox.sent == 0
    assert engine.tick().outbox.sent == 0
    assert engine.store.experiment("spring").state == "stopped"
    decision = engine.analyze("spring").decision
    assert decision.reason == "The time that the definition allows is over"
    assert decision.reason_ja == "定義で定めた期間が終わりました。"


def test_a_stop_without_words_says_in_the_readers_language_that_it_was_by_hand(
    engine: Engine, transport: Moody
) -> None:
    apply(engine, definition(), people(100))
    engine.tick()
    engine.stop("spring")
    report = engine.analyze("spring")
    assert (report.decision.reason, report.decision.reason_ja) == ("Stopped by hand", "手動で停止しました。")
    assert "手動で停止しました。" in report.to_text(language="ja")


def test_a_look_counts_no_mail_that_is_put_off_or_whose_zone_is_closed(
    engine: Engine, transport: Moody, clock: Clock
) -> None:
    apply(engine, definition(send_time={"between": "08:00-18:30"}), in_two_zones(40))
    transport.moods = {p.email: [TransientSendError("451 busy", retry_after=36_000)] for p in people(40)}
    assert engine.tick(limit=10).outbox.retried == 10
    transport.moods = {}
    clock.forward(minutes=40)  # 18:40 in Tokyo
    due = engine.due("spring").outbox.sent
    assert 0 < due < 20
    assert engine.tick().outbox.sent == due
    assert engine.waiting() == engine.waiting("spring") == 40 - due


@pytest.mark.usefixtures("in_bulk")
def test_the_status_tells_when_the_next_wave_is_due(engine: Engine, clock: Clock) -> None:
    apply(engine, definition(allocation=waves()), people(1_600))
    assert engine.status()[0].next_at == NOW
    engine.tick()
    assert engine.status()[0].next_at == NOW + timedelta(hours=1)
    engine.stop("spring")
    assert engine.status()[0].next_at is None


@pytest.mark.usefixtures("in_bulk")
def test_a_stop_cancels_what_waits(engine: Engine, transport: Moody) -> None:
    apply(engine, definition(allocation=waves()), people(1_600))
    engine.tick()
    assert engine.stop("spring", why="webinar full") == 1_200
    assert engine.tick().outbox.total == 0
    report = engine.analyze("spring")
    assert report.state == "stopped"
    assert (report.decision.reason, report.decision.reason_ja) == ("webinar full", "webinar full")
    assert report.sentence == "The test was stopped before anything was proved."
    assert report.sentence_ja == "何かが証明される前に実験を停止しました。"
    with pytest.raises(StoreError, match="has ended"):
        apply(engine, definition(), people(1_700))


def test_a_mail_that_is_put_off_while_its_test_is_stopped_is_cancelled_too(
    engine: Engine, transport: Moody, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_and_refuse(_: RenderedMessage) -> str:
        engine.stop("spring")
        raise TransientSendError("451 busy")

    monkeypatch.setattr(transport, "send", stop_and_refuse)
    apply(engine, definition(), people(3))
    tick = engine.tick()
    assert (tick.outbox.retried, tick.outbox.skipped) == (1, 2)  # the stop came after the first was put off
    assert engine.store.states("spring") == {State.CANCELLED: 3}
    assert tick.next_at is None


@pytest.mark.usefixtures("in_bulk")
def test_complaints_and_unsubscribes_count_however_late_they_come(engine: Engine, transport: Moody) -> None:
    exp = definition(metrics={"window": "2h", "guardrails": {"unsubscribed": 0.005}})
    apply(engine, exp, people(100))
    engine.tick()
    late = NOW + timedelta(hours=30)
    for kind, number in ((EventType.UNSUBSCRIBED, 8), (EventType.COMPLAINED, 5), (EventType.CLICKED, 9)):
        for message in transport.messages[:number]:
            click(engine, message.message_id, late, kind)
    arms = engine.analyze("spring").arms
    totals = [sum(getattr(arm, name) for arm in arms) for name in ("unsubscribes", "complaints", "clicks")]
    assert totals == [8, 5, 0]
    rates = {g.arm: g.rate for g in engine.analyze("spring").guardrails}
    assert rates == {arm.name: arm.unsubscribes / arm.n for arm in arms}


@pytest.mark.usefixtures("in_bulk")
def test_a_stop_that_ships_a_variant_sends_it_to_the_rest_at_once(engine: Engine, transport: Moody) -> None:
    apply(engine, definition(allocation=waves()), people(1_600))
    engine.tick()
    engine.stop("spring", ship="number")
    engine.tick()
    assert len(transport.messages) == 1_600
    assert {m.subject for m in transport.messages[400:]} == {"3 ways"}


def test_a_list_that_could_never_name_a_winner_gets_the_control(engine: Engine, transport: Moody) -> None:
    exp = definition(analysis={"baseline": 0.02}, allocation=waves())
    plan = engine.plan(exp, people(100), template=TEMPLATE)
    assert any("least from which a winner is named" in warning for warning in plan.warnings)
    engine.apply(plan)
    engine.tick()
    assert {m.subject for m in transport.messages} == {"Hello"}
    assert len(transport.messages) == 100


def test_with_the_company_as_unit_colleagues_get_the_same_variant(engine: Engine, transport: Moody) -> None:
    apply(engine, definition(audience={"unit": "company"}), people(70))
    engine.tick()
    subjects: dict[str, set[str]] = {}
    for message in transport.messages:
        subjects.setdefault(message.recipient.split("@")[1], set()).add(message.subject)
    assert len(subjects) == 7
    assert all(len(each) == 1 for each in subjects.values())


@pytest.mark.usefixtures("in_bulk")
def test_main_effects_are_reported_for_each_factor(engine: Engine, transport: Moody, clock: Clock) -> None:
    factors = {"subject": {"a": "A", "b": "B"}, "cta": {"x": "X", "y": "Y"}}
    exp = definition(factors=factors, control={"subject": "a", "cta": "x"})
    apply(engine, exp, people(1_500))
    engine.tick()
    rng = np.random.default_rng(2)
    clicked = [m.message_id for m in transport.messages if rng.random() < (0.35 if m.subject == "B" else 0.1)]
    at = NOW + timedelta(hours=1)
    engine.record_all([Event(type=EventType.CLICKED, at=at, message_id=message) for message in clicked], now=at)
    clock.forward(days=4)
    subject, cta = engine.analyze("spring").factors
    assert [level.level for level in subject.levels] == ["a", "b"]
    assert subject.levels[1].ci_lower is not None
    assert subject.levels[1].ci_lower > 0.1
    assert cta.levels[1].ci_lower is not None
    assert cta.levels[1].ci_upper is not None
    assert cta.levels[1].ci_lower < 0 < cta.levels[1].ci_upper


@pytest.mark.usefixtures("in_bulk")
def test_a_broken_guardrail_is_reported_and_asks_for_a_stop(engine: Engine, transport: Moody) -> None:
    exp = definition(metrics={"guardrails": {"unsubscribed": 0.005}})
    apply(engine, exp, people(600))
    engine.tick()
    for message in transport.messages:
        if message.subject == "3 ways" and int(message.recipient.split("@")[0][1:]) % 8 == 0:
            click(engine, message.message_id, NOW, EventType.UNSUBSCRIBED)
    report = engine.analyze("spring")
    assert {(g.arm, g.ok) for g in report.guardrails} == {("plain", True), ("number", False)}
    (action,) = [action for action in report.actions if "breaks the limit on unsubscribes" in action]
    assert action.startswith("'number' breaks")
    assert action.endswith("Consider stopping it: `abmail stop spring --arm number`.")
    (broken,) = [g for g in report.guardrails if not g.ok]
    assert (broken.verdict, broken.upper is not None and broken.upper > 0.005) == ("broken", True)


def test_a_test_with_nothing_left_to_gain_ends_when_the_stop_rule_says_so() -> None:
    exp = definition(stop={"when": ["winner", "futile"], "inconclusive": "send_control"})
    hopeless = Futility(
        stop=True, reason="conditional_power", champion="plain", value_remaining=0.1, conditional_power=0.02,
        level=0.95, mde=0.02,
    )  # fmt: skip
    leading = Decision(state="leading", arm="number", reason="ahead")
    verdict = planning.verdict_on(exp, leading, age=timedelta(hours=1), futility=hopeless)
    assert verdict is not None
    assert (verdict["state"], verdict["arm"], verdict["then"]) == ("stopped", "plain", "send_control")
    assert "chance of still proving a winner is 2 %" in verdict["reason"]
    assert verdict["reason_ja"] == hopeless.sentence_in("ja")
    going = replace(hopeless, stop=False, reason="go_on")
    assert planning.verdict_on(exp, leading, age=timedelta(hours=1), futility=going) is None
    patient = definition(stop={"when": ["winner"]})
    assert planning.verdict_on(patient, leading, age=timedelta(hours=1), futility=hopeless) is None


def test_the_report_shows_the_words_of_a_text_that_depends_on_the_reader(engine: Engine, transport: Moody) -> None:
    number = "{% if recipient.language == 'ja' %}3つの方法{% else %}3 ways{% endif %}"
    apply(engine, definition(factors={"subject": {"plain": "Hello", "number": number}}), people(10, language="en"))
    engine.tick()
    content = [arm.content for arm in engine.analyze("spring").arms]
    assert content == [{"subject": "Hello"}, {"subject": "3つの方法 / 3 ways"}]


@pytest.mark.usefixtures("in_bulk")
def test_machine_clicks_are_shown_beside_the_result_and_do_not_count(engine: Engine, transport: Moody) -> None:
    apply(engine, definition(), people(100))
    engine.tick()
    for message in transport.messages:
        fields = {"type": "clicked", "at": NOW.isoformat(), "message_id": message.message_id, "verdict": "machine"}
        engine.record(Event.from_dict(fields))
    report = engine.analyze("spring")
    assert sum(report.bot_sensitivity.all.values()) == 100
    assert sum(report.bot_sensitivity.human_likely.values()) == 0


def test_a_link_in_a_delivered_mail_leads_back_to_its_message(engine: Engine, transport: Moody) -> None:
    apply(engine, definition(), people(1))
    engine.tick()
    (mail,) = transport.messages
    parsed = email.message_from_bytes(mail.raw, policy=default_policy)
    body = parsed.get_body(("html",))
    assert body is not None
    (found,) = re.findall(r'href="http://127\.0\.0\.1:8025/c/([\w-]+)\?u=([^"&]+)"', body.get_content())
    token = engine.signer.verify("c", found[0], target="https://example.com/x")
    assert token is not None
    tracked = engine.message(token.message_id)
    assert tracked is not None
    assert (tracked.sent_at, tracked.language) == (NOW, "en")


@pytest.mark.usefixtures("in_bulk")
def test_a_crash_between_two_ticks_changes_neither_epochs_nor_weights(
    store_url: str, clock: Clock, tmp_path: Path
) -> None:
    """Two engines in turn on one database do exactly what a single one does on another."""

    def live(urls: list[str]) -> list[tuple[int, tuple[float, ...]]]:
        clock.time = NOW
        rng = np.random.default_rng(1)
        for step in range(4):
            box = Memory()
            with Engine(urls[step % len(urls)], transport=box, secret=b"0123456789abcdef", clock=clock) as opened:
                if step == 0:
                    apply(opened, definition(allocation=waves(seed=3)), people(1_600))
                opened.tick()
                click_some(
                    opened,
                    sorted(box.messages, key=lambda m: m.recipient),
                    rng,
                    {"Hello": 0.2, "3 ways": 0.3},
                    clock() + timedelta(minutes=9),
                )
                clock.forward(hours=1)
                epochs = opened.store.epochs("spring")
        return [(e.size, e.weights) for e in epochs]

    other = f"sqlite:///{tmp_path / 'other.db'}"
    assert live([store_url]) == live([other])


def test_mails_that_go_out_in_bulk_leave_the_same_ledger_and_counts_as_one_by_one(
    store_url: str, clock: Clock, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """What the tests with many mails stand on; the faults are those that a mail can have of itself."""

    def sent(url: str) -> tuple[Any, ...]:
        box = Moody({
            "r1@c1.example.com": [TransientSendError("451 busy")],
            "r2@c2.example.com": [PermanentSendError("550 5.1.1 unknown", code=550, kind="hard")],
            "r3@c3.example.com": [UncertainSendError("no answer after the final dot")],
        })  # fmt: skip
        nameless = Recipient(id="n", email="n@example.com", attributes={}, zone=None)
        with Engine(url, transport=box, secret=b"0123456789abcdef", clock=clock) as opened:
            apply(opened, definition(), [*people(250), nameless])
            opened.tick(limit=0)
            opened.store.suppress(["r4@c4.example.com"], reason="asked", now=NOW)
            early = [m.id for m in opened.store.messages("spring") if m.recipient in {"r5", "r6"}]
            opened.record_all([Event(type=EventType.CLICKED, at=NOW, message_id=each) for each in early], now=NOW)
            tick = opened.tick()
            ledger = list(opened.store.messages("spring"))
            return (
                tick.outbox, ledger, opened.store.suppressed(), opened.store.tally("spring", n_cells=2),
                [(m.recipient, m.message_id, m.raw) for m in box.messages], opened.waiting("spring"),
            )  # fmt: skip

    one_by_one = sent(store_url)
    request.getfixturevalue("in_bulk")
    in_bulk = sent(f"sqlite:///{tmp_path / 'other.db'}")
    assert (one_by_one[0].sent, one_by_one[0].failed, one_by_one[0].uncertain) == (246, 2, 1)
    for single, together in zip(one_by_one, in_bulk, strict=True):
        assert str(together) == str(single)


def test_without_a_transport_nothing_is_sent_and_the_error_says_what_to_do(store_url: str, clock: Clock) -> None:
    with Engine(store_url, secret=b"0123456789abcdef", clock=clock) as bare:
        apply(bare, definition(), people(2))
        with pytest.raises(ConfigError, match="no transport"):
            bare.tick()
        assert bare.store.states("spring") == {State.ASSIGNED: 2}


def test_a_signing_key_is_made_beside_a_sqlite_database_for_its_owner_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'mail.db'}"
    with Engine(url) as first, Engine(url) as second:
        assert first.signer.message_id("a", "b") == second.signer.message_id("a", "b")
    key = tmp_path / "mail.db.secret"
    assert key.stat().st_mode & 0o777 == 0o600


def make_keys(folder: Path, together: Barrier, rounds: int, found: SimpleQueue[list[bytes | str]]) -> None:
    """Ask for a new key in each round, at the same moment as the other processes."""
    keys: list[bytes | str] = []
    for number in range(rounds):
        together.wait()
        try:
            keys.append(secret_file(folder / f"{number}.secret"))
        except ConfigError as error:
            keys.append(str(error))
    found.put(keys)


def test_processes_that_need_a_new_signing_key_at_the_same_time_get_the_same_one(tmp_path: Path) -> None:
    processes, rounds = 4, 200
    context = multiprocessing.get_context("fork")
    together, found = context.Barrier(processes), context.SimpleQueue()
    started = [
        context.Process(target=make_keys, args=(tmp_path, together, rounds, found), daemon=True)
        for _ in range(processes)
    ]
    for process in started:
        process.start()
    keys = [found.get() for _ in started]
    assert keys == [keys[0]] * processes
    assert all(isinstance(key, bytes) and len(key) >= 32 for key in keys[0])
    assert len(set(keys[0])) == rounds
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert len(list(tmp_path.iterdir())) == rounds


def test_a_signing_key_can_be_made_where_files_cannot_be_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    key = secret_file(tmp_path / "key")
    assert len(key) >= 32
    assert secret_file(tmp_path / "key") == key
    assert [(path.name, path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == [("key", 0o600)]


def test_a_signing_key_that_cannot_be_made_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/key cannot be used: Not a directory"):
        secret_file(tmp_path / "file" / "key")


@pytest.mark.parametrize("content", ["", "short\n"])
def test_a_file_with_too_short_a_signing_key_is_named_with_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "key").write_text(content, encoding="ascii")
    with pytest.raises(ConfigError, match=rf"key in .*key cannot be used: .* {len(content.strip())} bytes") as refused:
        secret_file(tmp_path / "key")
    assert "remove the file" in refused.value.hint


def test_the_warning_of_too_small_a_list_names_the_number_that_the_statistics_ask_for(engine: Engine) -> None:
    exp = definition(analysis={"baseline": 0.02})
    (warning,) = engine.plan(exp, people(100), template=TEMPLATE).warnings
    assert f"{FEWEST_SUCCESSES} is the least" in warning


def test_another_database_needs_a_key_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABMAIL_SECRET", raising=False)
    with pytest.raises(ConfigError, match="no signing key"):
        Engine("postgresql://nobody@127.0.0.1:1/none")


def industries(n: int) -> list[Recipient]:
    """Two industries and people without one."""
    columns = [{"industry": "retail"}, {"industry": "health"}, {}]
    return [replace(p, attributes={**p.attributes, **columns[i % 3]}) for i, p in enumerate(people(n))]


def clicks_by_industry(engine: Engine, transport: Moody, at: datetime, rates: dict[tuple[int, str], float]) -> None:
    """Click the share of mails that is given for each number of industry (of `industries`) and subject."""
    rng = np.random.default_rng(7)
    clicked = []
    for message in transport.messages:
        number = int(message.recipient.split("@")[0][1:]) % 3
        if rng.random() < rates[number, message.subject]:
            clicked.append(Event(type=EventType.CLICKED, at=at, message_id=message.message_id))
    engine.record_all(clicked, now=at)


OPPOSED = {
    (0, "Hello"): 0.1, (0, "3 ways"): 0.5, (1, "Hello"): 0.5, (1, "3 ways"): 0.1, (2, "Hello"): 0.3, (2, "3 ways"): 0.3,
}  # fmt: skip
ALIKE = {(number, subject): 0.2 for number in range(3) for subject in ("Hello", "3 ways")}


def opposed(engine: Engine, transport: Moody, rates: dict[tuple[int, str], float] = OPPOSED) -> None:
    apply(engine, definition(), industries(900))
    engine.tick()
    clicks_by_industry(engine, transport, NOW + timedelta(hours=1), rates)


def registered(report: ab.Report) -> ab.Report:
    """The report without what was asked for beside it."""
    return replace(report, second_opinion=None, segments=(), segment_summary=None)


METHODS = ("fixed", "sequential", "anytime", "exact", "aipw", "bayes")


@pytest.mark.usefixtures("in_bulk")
def test_a_second_look_stands_beside_the_registered_analysis_and_leaves_it_as_it_is(
    engine: Engine, transport: Moody, clock: Clock
) -> None:
    apply(engine, definition(), people(1_000))
    engine.tick()
    clicks_for(engine, transport, NOW + timedelta(hours=1), {"Hello": 0.15, "3 ways": 0.3})
    for hours in (2, 98):
        clock.forward(hours=hours)
        plain = engine.analyze("spring")
        assert plain.second_opinion is None
        for method in METHODS:
            holds_beside(plain, engine.analyze("spring", method=method, alpha=0.01), method)


def holds_beside(plain: ab.Report, report: ab.Report, method: str) -> None:
    assert registered(report) == plain
    second = report.second_opinion
    assert second is not None
    assert (second.method, second.alpha, second.verdicts) == (method, 0.01, "human-likely")
    assert [arm.successes for arm in second.arms] == [arm.successes for arm in plain.arms]
    assert second.decision is not None
    assert second.decision.arm == "number"
    low, effect, high = (getattr(second.arms[1], key) for key in ("ci_lower", "effect", "ci_upper"))
    assert -1 < low < effect < high < 1
    assert (second.arms[1].p_value is None) == (method == "bayes")
    assert ab.Report.from_dict(report.to_dict()) == report


@pytest.mark.usefixtures("in_bulk")
def test_a_second_look_at_a_stricter_level_has_wider_ranges(engine: Engine, transport: Moody, clock: Clock) -> None:
    opposed(engine, transport)
    clock.forward(days=4)
    report = engine.analyze("spring", alpha=0.001)
    second = report.second_opinion
    assert second is not None
    assert second.method == report.method.name
    first, own = report.arms[1], second.arms[1]
    assert own.effect == first.effect
    assert own.ci_lower < first.ci_lower < first.ci_upper < own.ci_upper  # type: ignore[operator]


@pytest.mark.usefixtures("in_bulk")
def test_a_second_look_can_count_machine_traffic(engine: Engine, transport: Moody, clock: Clock) -> None:
    apply(engine, definition(), people(400))
    engine.tick()
    for message in transport.messages[:90]:
        click(engine, message.message_id, NOW + timedelta(hours=1))
    for message in transport.messages[90:150]:
        engine.record(
            Event(
                type=EventType.CLICKED,
                at=NOW + timedelta(minutes=1),
                message_id=message.message_id,
                verdict=Verdict.MACHINE,
            )
        )
    clock.forward(days=4)
    report = engine.analyze("spring", verdicts="all")
    assert report.second_opinion is not None
    assert sum(arm.successes for arm in report.arms) == 90
    assert {arm.name: arm.successes for arm in report.second_opinion.arms} == report.bot_sensitivity.all
    assert sum(report.bot_sensitivity.all.values()) == 150
    assert "machine traffic counts" in report.second_opinion.note


@pytest.mark.usefixtures("in_bulk")
def test_a_second_look_is_not_told_the_verdict_that_was_noted(engine: Engine, transport: Moody, clock: Clock) -> None:
    apply(engine, definition(), people(400))
    engine.tick()
    engine.stop("spring", ship="number", why="the boss likes it")
    clock.forward(days=4)
    report = engine.analyze("spring", method="anytime")
    assert report.decision.reason == "the boss likes it"
    assert report.second_opinion is not None
    assert report.second_opinion.decision is not None
    assert report.second_opinion.decision.state == "too_early"


@pytest.mark.usefixtures("in_bulk")
def test_a_method_that_the_data_do_not_allow_says_so_in_its_note(
    engine: Engine, transport: Moody, clock: Clock
) -> None:
    before = engine_with_waves(engine, transport, clock)
    assert any(len(set(epoch.weights.values())) == 2 for epoch in before.epochs)
    fixed, aipw = (engine.analyze("spring", method=method) for method in ("fixed", "aipw"))
    assert registered(fixed) == registered(aipw) == before
    assert fixed.second_opinion is not None
    assert (fixed.second_opinion.arms, fixed.second_opinion.decision) == ((), None)
    assert "the weights changed between epochs" in fixed.second_opinion.note
    assert "the weights changed between epochs" in fixed.to_text(width=200)
    assert aipw.second_opinion is not None
    assert aipw.second_opinion.arms[1].effect is not None
    assert aipw.second_opinion.arms[1].ci_lower is aipw.second_opinion.arms[1].p_value is None
    assert "aipw gives no range" in aipw.second_opinion.note


def engine_with_waves(engine: Engine, transport: Moody, clock: Clock) -> ab.Report:
    """Two waves in, with weights that moved and few clicks."""
    apply(engine, definition(allocation=waves()), people(1_600))
    engine.tick()
    clicks_for(engine, transport, NOW + timedelta(minutes=1), {"Hello": 0.05, "3 ways": 0.1})
    clock.forward(hours=1)
    engine.tick()
    return engine.analyze("spring")


def test_a_second_look_before_the_first_mail_has_nothing_to_say(engine: Engine) -> None:
    apply(engine, definition(), people(50))
    second = engine.analyze("spring", method="aipw").second_opinion
    assert second is not None
    assert (second.arms, second.note) == ((), "no mail has been sent yet")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"method": "magic"}, "method is 'magic', must be one of auto, fixed"),
        ({"alpha": 5}, r"alpha is 5, must be in \(0, 1\)"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"verdicts": "machine"}, "verdicts is 'machine', must be one of human-likely, all"),
        (
            {"by": "industri"},
            "no recipient of spring has the attribute 'industri'; there are: domain, hour, industry, name",
        ),
    ],
)
def test_a_look_that_makes_no_sense_is_refused_in_words(engine: Engine, asked: dict[str, Any], words: str) -> None:
    apply(engine, definition(), industries(50))
    with pytest.raises(ValueError, match=words):
        engine.analyze("spring", **asked)


@pytest.mark.parametrize("by", ["industry", "domain"])
@pytest.mark.usefixtures("in_bulk")
def test_the_counts_of_the_segments_are_of_one_shape_and_add_up_to_the_whole(
    engine: Engine, transport: Moody, clock: Clock, by: str
) -> None:
    apply(engine, definition(allocation=waves()), industries(1_600))
    engine.tick()
    clicks_by_industry(engine, transport, NOW + timedelta(hours=1), OPPOSED)
    clock.forward(hours=1)
    engine.tick()
    clock.forward(hours=5)
    whole, parts = engine.counts("spring"), engine.counts("spring", by=by)
    assert list(parts) == (["", "health", "retail"] if by == "industry" else [f"c{i}.example.com" for i in range(7)])
    assert (whole.n_epochs, whole.n.sum()) == (2, 800)
    assert sum(part.n for part in parts.values()).tolist() == whole.n.tolist()  # type: ignore[union-attr]
    assert sum(part.successes for part in parts.values()).tolist() == whole.successes.tolist()  # type: ignore[union-attr]
    assert whole.successes.sum() > 100
    exposed = sum(float(part.exposure.sum()) for part in parts.values())
    assert exposed == pytest.approx(float(whole.exposure.sum()), rel=0.02)
    assert exposed < 0.99 * float(whole.n.sum())
    assert whole.weights is not None
    for part in parts.values():
        assert part.weights is not None
        assert part.weights.tolist() == whole.weights.tolist()
    assert ab.stats.compare_segments(parts).n_segments == len(parts)


@pytest.mark.usefixtures("in_bulk")
def test_segments_that_differ_get_winners_of_their_own(engine: Engine, transport: Moody, clock: Clock) -> None:
    opposed(engine, transport)
    clock.forward(hours=2)
    young = engine.analyze("spring", by="industry")
    clock.forward(days=4)
    report = engine.analyze("spring", by="industry")
    assert registered(report) == engine.analyze("spring")
    for one, method in ((young, "anytime"), (report, "fixed")):
        assert one.segment_summary is not None
        assert (one.segment_summary.method, one.segment_summary.differs) == (method, True)
        assert {s.segment: s.winner for s in one.segments} == {"retail": "number", "health": "plain", "": None}
        for place, whole in enumerate(one.arms):
            assert sum(s.arms[place].n for s in one.segments) == whole.n
            assert sum(s.arms[place].successes for s in one.segments) == whole.successes
    counts = engine.counts("spring", by="industry")
    expected = ab.stats.compare_segments(counts, names=["plain", "number"])
    effects = {one.segment: one for one in expected.effects}
    for segment in report.segments:
        own, arm = effects[segment.segment], segment.arms[1]
        assert (arm.effect, arm.ci_lower, arm.ci_upper) == (own.effect, own.ci_lower, own.ci_upper)
        assert (arm.shrunk_effect, arm.p_value) == (own.shrunk_effect, own.p_adjusted)
    assert report.segment_summary is not None
    assert report.segment_summary.p_value == expected.p_value
    assert ab.Report.from_dict(report.to_dict()) == report


@pytest.mark.usefixtures("in_bulk")
def test_segments_that_are_not_proved_to_differ_get_no_winners(engine: Engine, transport: Moody, clock: Clock) -> None:
    opposed(engine, transport, ALIKE)
    clock.forward(days=4)
    report = engine.analyze("spring", by="industry")
    assert report.segment_summary is not None
    assert not report.segment_summary.differs
    assert report.segment_summary.p_value is not None
    assert {segment.winner for segment in report.segments} == {None}
    assert "judge them together" in report.to_text()


@pytest.mark.usefixtures("in_bulk")
def test_a_test_in_waves_compares_its_segments_by_its_plan(engine: Engine, transport: Moody, clock: Clock) -> None:
    apply(engine, definition(allocation=waves()), industries(1_600))
    for _ in range(4):
        engine.tick()
        clock.forward(hours=1)
    clicks_by_industry(engine, transport, clock(), OPPOSED)
    clock.forward(days=4)
    report = engine.analyze("spring", by="industry")
    expected = ab.stats.compare_segments(
        engine.counts("spring", by="industry"), names=["plain", "number"], weights=[400] * 4
    )
    assert report.segment_summary is not None
    assert report.segment_summary.method == report.method.name == expected.method == "sequential"
    ends = {(one.segment, one.ci_lower, one.ci_upper) for one in expected.effects}
    assert {(s.segment, s.arms[1].ci_lower, s.arms[1].ci_upper) for s in report.segments} == ends


@pytest.mark.usefixtures("in_bulk")
def test_the_largest_segments_are_shown_and_the_page_says_how_many_are_not(
    engine: Engine, transport: Moody, clock: Clock
) -> None:
    crowd = [replace(p, attributes={**p.attributes, "town": f"t{min(i % 40, 30)}"}) for i, p in enumerate(people(800))]
    apply(engine, definition(), crowd)
    engine.tick()
    clicks_for(engine, transport, NOW + timedelta(hours=1), {"Hello": 0.3, "3 ways": 0.3})
    clock.forward(days=4)
    report = engine.analyze("spring", by="town")
    assert report.segment_summary is not None
    assert (len(report.segments), report.segment_summary.n_segments, report.segment_summary.left_out) == (20, 31, 11)
    assert report.segments[0].segment == "t30"
    assert "the 20 largest of 31 segments" in report.to_text(width=200)


@pytest.mark.usefixtures("in_bulk")
def test_segments_of_a_test_with_a_broken_split_get_no_winners(engine: Engine, transport: Moody, clock: Clock) -> None:
    exp = definition()
    for person in industries(900):
        if int(person.id[1:]) % 3 and ab.assign(exp, person.id, weights=[0.5, 0.5]).cell:
            transport.moods[person.email] = [PermanentSendError("550 5.1.1 unknown", code=550, kind="hard")]
    engine.store.pause = lambda *_, **__: False  # type: ignore[method-assign]  # so many failures would pause it
    opposed(engine, transport)
    clock.forward(days=4)
    report = engine.analyze("spring", by="industry", method="anytime")
    assert not report.srm.ok
    assert report.segment_summary is not None
    assert not report.segment_summary.differs
    assert {segment.winner for segment in report.segments} == {None}
    assert "Nothing is said about segments" in report.to_text(width=200)
    assert report.second_opinion is not None
    assert report.second_opinion.decision is not None
    assert report.second_opinion.decision.state == "stopped"
    assert "It would say" not in report.to_text(width=200)


def test_segments_before_the_first_mail_have_nothing_to_say(engine: Engine) -> None:
    apply(engine, definition(), industries(50))
    report = engine.analyze("spring", by="industry")
    assert report.segments == ()
    assert report.segment_summary is not None
    assert (report.segment_summary.n_segments, report.segment_summary.differs) == (0, False)
