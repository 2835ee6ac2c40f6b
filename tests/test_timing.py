"""Mails with an hour of their own: planned, given a variant at that hour, sent, and what the report says of it."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abmail import sendtime
from abmail._free_days import CountryDay
from abmail._opening import is_open, next_opening, rules_of
from abmail._slot_test import compared_hours
from abmail._timing_report import account_uplift
from abmail.check import check
from abmail.engine import Engine
from abmail.errors import SpecError
from abmail.events import Event, EventType
from abmail.recipient import Recipient
from abmail.report import Report
from abmail.send import Memory
from abmail.spec import Experiment, decode, load
from abmail.store import SlotMail, State

EXAMPLES = Path(__file__).parent.parent / "experiments"
MONDAY = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ZONES = ("Europe/Berlin", "Asia/Tokyo", "America/New_York")
OFFICE = {"between": "08:00-20:00", "days": ["mon", "tue", "wed", "thu", "fri"]}


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.time = MONDAY

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(store_url: str, clock: Clock) -> Iterator[Engine]:
    with Engine(store_url, transport=Memory(), secret=b"0123456789abcdef", clock=clock) as opened:
        yield opened


@pytest.fixture
def light(clock: Clock) -> Iterator[Engine]:
    """An engine in memory, where the database makes no difference."""
    with Engine("sqlite://", transport=Memory(), secret=b"0123456789abcdef", clock=clock) as opened:
        yield opened


def people(n: int, *, zones: tuple[str, ...] = ZONES) -> list[Recipient]:
    return [
        Recipient(id=f"r{i}", email=f"r{i}@c{i % 40}.example.com", attributes={}, zone=zones[i % len(zones)])
        for i in range(n)
    ]


def definition(name: str = "spring", **parts: Any) -> Experiment:
    times = {**OFFICE, **parts.pop("send_time", {})}
    return Experiment.from_dict(
        {
            "spec": 1,
            "name": name,
            "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
            "control": {"subject": "plain"},
            "message": {"template": "mails/x.html.j2", "from": "News <news@example.com>"},
            "allocation": {"policy": "thompson", "every": "6h"},
            "metrics": {"primary": "opened"},
            "send_time": times,
            **parts,
        }
    )


def run(engine: Engine, clock: Clock, exp: Experiment, recipients: list[Recipient], *, least: int = 1) -> None:
    """Apply an experiment and tick until nothing is left."""
    engine.apply(engine.plan(exp, recipients, template="<p>Hi</p>"))
    tick_on(engine, clock, least=least)


def tick_on(engine: Engine, clock: Clock, *, least: int = 1) -> None:
    """Tick until nothing is left, in steps of some minutes at least."""
    while (next_at := engine.tick().next_at) is not None:
        clock.time = max(next_at, clock.time + timedelta(minutes=least))


def mails(engine: Engine, name: str = "spring") -> list[SlotMail]:
    return list(engine.store.slot_mails(before=datetime(2100, 1, 1, tzinfo=UTC), name=name))


# --- every mail gets its hour, once -----------------------------------------------------------------------------------


def test_each_mail_goes_out_once_at_its_own_hour_inside_the_window(engine: Engine, clock: Clock) -> None:
    exp = definition(
        send_time={"mode": "learn", "quiet": ["12:00-13:00"], "holidays": ["2026-03-03"], "explore": 0.2},
        allocation={"policy": "thompson", "every": "3h"},
    )
    run(engine, clock, exp, people(420))
    assert engine.store.states("spring") == {State.SENT: 420}
    found = mails(engine)
    assert len(found) == len({mail.recipient for mail in found}) == 420
    zone = {person.id: person.zone for person in people(420)}
    for mail in found:
        local = mail.sent_at.astimezone(ZoneInfo(str(zone[mail.recipient])))
        assert local.weekday() < 5
        assert local.date() != date(2026, 3, 3)
        assert time(8) <= local.time() < time(20)
        assert local.hour != 12
    arms = Counter(mail.arm for mail in found)
    assert set(arms) == {"best", "explore", "control"}
    assert 20 < arms["control"] < 65  # a tenth
    assert 45 < arms["explore"] < 115  # a fifth of the others
    assert all(mail.propensity is not None and 0 < mail.propensity <= 1 for mail in found)


def test_a_variant_is_drawn_when_the_hour_has_come_by_the_weights_of_then(engine: Engine, clock: Clock) -> None:
    engine.apply(engine.plan(definition(send_time={"mode": "learn"}), people(420), template="<p>Hi</p>"))
    tick = engine.tick()
    assert sum(made.size for made in tick.scheduled) == 200
    later = engine.store.planned("spring")
    assert later  # they have an hour, and no variant
    assert all(m.cell is None for m in engine.store.messages("spring", states=[State.QUEUED]))
    epochs = len(engine.store.epochs("spring"))
    tick_on(engine, clock)
    opened = engine.store.epochs("spring")
    assert len(opened) > epochs
    by_epoch = {epoch.number: epoch for epoch in opened}
    for message in engine.store.messages("spring"):
        epoch = by_epoch[message.epoch or 0]
        assert message.attempted_at is not None
        assert timedelta(0) <= message.attempted_at - epoch.opened_at <= timedelta(hours=1)
        assert message.propensity == pytest.approx(epoch.weights[message.cell or 0], abs=1e-6)


def test_hours_do_not_depend_on_the_variant(light: Engine, clock: Clock) -> None:
    run(light, clock, definition(send_time={"mode": "learn"}), people(1500), least=30)
    cell = {m.recipient: m.cell for m in light.store.messages("spring")}
    table = np.zeros((2, 2))
    for mail in mails(light):
        table[cell[mail.recipient] or 0, int(mail.hour % 24 <= 9)] += 1
    early = table[:, 1] / table.sum(axis=1)
    assert abs(early[0] - early[1]) < 4 * np.sqrt(0.25 / table.sum(axis=1).min())


def test_the_group_with_the_fixed_hour_is_the_same_in_every_experiment(light: Engine, clock: Clock) -> None:
    groups = []
    for name in ("spring", "summer"):
        run(light, clock, definition(name, send_time={"mode": "learn", "at": "11:00"}), people(400), least=30)
        groups.append({mail.recipient for mail in mails(light, name) if mail.control})
        assert {mail.hour % 24 for mail in mails(light, name) if mail.control} == {11}
    assert groups[0] == groups[1]
    assert 20 < len(groups[0]) < 70


def test_a_plan_that_was_made_is_not_made_again(engine: Engine, clock: Clock) -> None:
    engine.apply(engine.plan(definition(send_time={"mode": "learn"}), people(400), template="<p>Hi</p>"))
    engine.tick()
    due = {m.id: m.sent_at for m in engine.store.messages("spring")}
    planned = engine.store.next_planned("spring")
    for _ in range(3):
        assert engine.tick().scheduled == ()
    assert engine.store.next_planned("spring") == planned
    assert {m.id: m.sent_at for m in engine.store.messages("spring")} == due
    assert len(engine.store.releases("spring")) == 1


def tick_together(url: str, barrier: Barrier) -> None:
    with Engine(url, transport=Memory(), secret=b"0123456789abcdef", clock=lambda: MONDAY) as engine:
        barrier.wait()
        engine.tick()


def test_two_processes_make_one_plan(engine: Engine, store_url: str) -> None:
    engine.apply(engine.plan(definition(send_time={"mode": "learn"}), people(600), template="<p>Hi</p>"))
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    workers = [context.Process(target=tick_together, args=(store_url, barrier)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert [release.number for release in engine.store.releases("spring")] == [0]
    assert engine.store.queued("spring") == 400
    states = engine.store.states("spring")
    assert sum(states.values()) == 600


def test_what_a_dry_run_shows_is_what_would_be_planned(light: Engine) -> None:
    light.apply(light.plan(definition(send_time={"mode": "learn"}), people(400), template="<p>Hi</p>"))
    shown = light.due("spring")
    assert [made.size for made in shown.scheduled] == [200]
    assert light.store.releases("spring") == ()
    assert [made.size for made in light.tick().scheduled] == [200]


def test_a_release_says_when_its_first_and_its_last_mail_go_out(light: Engine, clock: Clock) -> None:
    light.apply(light.plan(definition(send_time={"mode": "learn"}), people(400), template="<p>Hi</p>"))
    (made,) = light.tick().scheduled
    moments = [at for _, at, n in light.store.ahead("spring") for _ in range(n) if at is not None]
    assert len(moments) == 200 == made.size  # none of them is due yet
    assert made.first_at is not None
    assert clock.time < made.first_at < max(moments) == made.last_at
    assert made.first_at == min(moments)


def test_a_decided_test_gives_everybody_else_an_hour_at_once(light: Engine, clock: Clock) -> None:
    light.apply(light.plan(definition(send_time={"mode": "learn"}), people(900), template="<p>Hi</p>"))
    light.tick()
    light.stop("spring", ship="number", now=clock.time)
    assert sum(made.size for made in light.tick().scheduled) == 700
    tick_on(light, clock, least=30)
    assert light.store.states("spring") == {State.SENT: 900}
    last = light.store.epochs("spring")[-1]
    assert last.weights == (0.0, 1.0)


@pytest.mark.parametrize(("before", "after"), [("learn", "fixed"), ("fixed", "learn"), ("learn", "test")])
def test_a_change_of_mode_while_mails_wait_loses_none(engine: Engine, clock: Clock, before: str, after: str) -> None:
    engine.apply(engine.plan(definition(send_time={"mode": before}), people(450), template="<p>Hi</p>"))
    engine.tick()
    engine.apply(engine.plan(definition(send_time={"mode": after}), template="<p>Hi</p>"))
    for _ in range(3_000):
        if (next_at := engine.tick().next_at) is None:
            break
        clock.time = max(next_at, clock.time + timedelta(minutes=5))
    assert engine.store.states("spring") == {State.SENT: 450}


def test_the_rest_waits_until_the_test_is_out_and_was_answered(light: Engine, clock: Clock) -> None:
    allocation = {"policy": "test_then_send", "first_wave": 0.25, "every": "2d"}
    light.apply(
        light.plan(definition(send_time={"mode": "learn"}, allocation=allocation), people(800), template="<p>Hi</p>")
    )
    planned = []
    while (tick := light.tick()).next_at is not None:
        assert tick.next_at > clock.time or tick.scheduled or tick.opened or tick.outbox.total  # nobody ticks in vain
        planned += [(clock.time, made.size) for made in tick.scheduled]
        clock.time = max(tick.next_at, clock.time + timedelta(minutes=30))
    assert [size for _, size in planned] == [200, 600]
    sent = sorted(mail.sent_at for mail in mails(light))
    assert planned[1][0] - sent[199] >= timedelta(days=2)


# --- limits -----------------------------------------------------------------------------------------------------------


def test_nobody_is_mailed_more_often_than_the_caps_of_all_experiments_allow(engine: Engine, clock: Clock) -> None:
    for name in ("spring", "summer", "autumn"):
        exp = definition(
            name, send_time={"mode": "learn", "caps": {"per_week": 2, "gap": "20h"}}, allocation={"policy": "uniform"}
        )
        engine.apply(engine.plan(exp, people(60), template="<p>Hi</p>"))
    tick_on(engine, clock)
    sent: dict[str, list[datetime]] = {}
    for name in ("spring", "summer", "autumn"):
        for mail in mails(engine, name):
            sent.setdefault(mail.recipient, []).append(mail.sent_at)
    for moments in map(sorted, sent.values()):
        assert all(b - a >= timedelta(hours=20) for a, b in pairwise(moments))
        assert all(c - a >= timedelta(days=7) for a, c in zip(moments, moments[2:], strict=False))
    assert sum(map(len, sent.values())) >= 120


def test_a_cap_holds_with_a_fixed_time_too(light: Engine, clock: Clock) -> None:
    for name in ("spring", "summer"):
        exp = definition(name, send_time={"at": "11:00", "caps": {"per_day": 1}}, allocation={"policy": "uniform"})
        light.apply(light.plan(exp, people(60), template="<p>Hi</p>"))
    tick_on(light, clock)
    first = {mail.recipient: mail.sent_at for mail in mails(light, "spring")}
    assert {mail.hour % 24 for mail in mails(light, "spring")} == {11}
    assert len(first) == len(mails(light, "summer")) == 60
    for mail in mails(light, "summer"):
        assert abs(mail.sent_at - first[mail.recipient]) >= timedelta(days=1)


@pytest.mark.parametrize("mode", ["learn", "test", "fixed"])
def test_a_planned_mail_moves_when_its_reader_was_mailed_by_another_experiment_meanwhile(
    engine: Engine, clock: Clock, mode: str
) -> None:
    at = {"mode": mode, "caps": {"gap": "20h"}} | ({"at": "15:00"} if mode == "fixed" else {})
    exp = definition(send_time=at, allocation={"policy": "uniform"})
    engine.apply(engine.plan(exp, people(60, zones=("Europe/Berlin",)), template="<p>Hi</p>"))
    engine.tick()  # now each has an hour, and nothing is known of the other experiment
    clock.time += timedelta(minutes=30)
    alarm = definition("alarm", allocation={"policy": "uniform"})
    engine.apply(engine.plan(alarm, people(40, zones=("Europe/Berlin",)), template="<p>Now</p>"))
    tick_on(engine, clock)
    alarmed = {message.recipient: message.attempted_at for message in engine.store.messages("alarm")}
    sent = {mail.recipient: mail.sent_at for mail in mails(engine)}
    assert len(alarmed) == 40
    assert len(sent) == 60
    drawn = MONDAY + timedelta(hours=1)  # until then mails had a variant already
    later = {who: sent[who] - moment for who, moment in alarmed.items() if moment and sent[who] >= drawn}
    assert len(later) >= 20
    assert all(apart >= timedelta(hours=20) for apart in later.values())
    today = {who for who, moment in sent.items() if moment.date() == MONDAY.date()}
    assert mode != "fixed" or today == {f"r{i}" for i in range(40, 60)}  # the others keep their hour


def test_a_planned_mail_that_finds_no_hour_any_more_says_so(light: Engine, clock: Clock) -> None:
    at = {"at": "15:00", "caps": {"gap": "20h"}, "deadline": "2026-03-02 18:00"}
    exp = definition(send_time=at, allocation={"policy": "uniform"})
    light.apply(light.plan(exp, people(60, zones=("Europe/Berlin",)), template="<p>Hi</p>"))
    light.tick()
    alarm = definition("alarm", allocation={"policy": "uniform"})
    light.apply(light.plan(alarm, people(40, zones=("Europe/Berlin",)), template="<p>Now</p>"))
    tick_on(light, clock)
    assert light.store.states("spring") == {State.SENT: 20, State.EXPIRED: 40}
    assert {message.error for message in light.store.messages("spring", states=[State.EXPIRED])} == {
        "every hour before the deadline is too near to other mails to this recipient"
    }
    assert light.analyze("spring").send_time.skipped == 40


def test_a_mail_that_cannot_be_in_time_is_put_aside_with_its_reason_and_can_be_tried_again(
    engine: Engine, clock: Clock
) -> None:
    exp = definition(
        send_time={"mode": "learn", "deadline": "2026-03-02 18:00", "between": "16:00-20:00"},
        allocation={"policy": "uniform"},
    )
    run(engine, clock, exp, people(150))
    states = engine.store.states("spring")
    assert states == {State.SENT: 100, State.EXPIRED: 50}  # in Tokyo 18:00 was at 9:00 UTC
    late = list(engine.store.messages("spring", states=[State.EXPIRED]))
    assert {message.error for message in late} == {"no hour is allowed before the deadline"}
    for mail in mails(engine):
        zone = ZONES[int(mail.recipient[1:]) % 3]
        assert mail.sent_at.astimezone(ZoneInfo(zone)) < datetime(2026, 3, 2, 18, tzinfo=ZoneInfo(zone))
    assert engine.analyze("spring").send_time.skipped == 50
    assert engine.retry("spring", state="expired") == 50
    assert engine.store.queued("spring") == 50
    clock.time += timedelta(days=1)
    engine.tick()
    assert engine.store.states("spring") == {State.SENT: 100, State.EXPIRED: 50}


def test_no_hour_holds_more_mails_than_the_definition_allows(light: Engine, clock: Clock) -> None:
    exp = definition(send_time={"mode": "learn", "per_hour": 50}, allocation={"policy": "uniform"})
    run(light, clock, exp, people(450))
    hours = Counter(mail.sent_at.replace(minute=0, second=0, microsecond=0) for mail in mails(light))
    assert sum(hours.values()) == 450
    assert max(hours.values()) <= 50
    assert "moved" in {mail.arm for mail in mails(light)}


@pytest.mark.parametrize(
    "zone", ["Asia/Tokyo", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]
)
def test_over_the_days_of_a_clock_change_nothing_leaves_the_window_or_is_lost(zone: str, clock: Clock) -> None:
    for month, day in ((3, 7), (3, 28), (10, 3), (10, 24)):
        clock.time = datetime(2026, month, day, tzinfo=UTC)
        with Engine("sqlite://", transport=Memory(), secret=b"0123456789abcdef", clock=clock) as engine:
            exp = definition(
                send_time={"mode": "learn", "between": "01:00-05:00", "days": ["sun"]}, allocation={"policy": "uniform"}
            )
            run(engine, clock, exp, people(60, zones=(zone,)))
            found = mails(engine)
            assert len(found) == len({mail.recipient for mail in found}) == 60
            for mail in found:
                local = mail.sent_at.astimezone(ZoneInfo(zone))
                assert local.weekday() == 6
                assert time(1) <= local.time() < time(5)


@settings(max_examples=60, deadline=None)
@given(
    begin=st.integers(0, 23), length=st.integers(2, 23), quiet=st.integers(0, 22), day=st.integers(0, 6),
    hours=st.integers(0, 24 * 30), zone=st.sampled_from(ZONES),
)  # fmt: skip
def test_the_slots_of_a_plan_lie_where_mail_may_go_out(
    begin: int, length: int, quiet: int, day: int, hours: int, zone: str
) -> None:
    window = f"{begin:02d}:00-{(begin + length) % 24:02d}:00"
    week = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    times = definition(
        send_time={
            "mode": "learn", "between": window, "quiet": [f"{quiet:02d}:30-{quiet + 1:02d}:30"],
            "days": [week[day], week[(day + 2) % 7]], "holidays": ["2026-03-11"],
        }
    ).send_time  # fmt: skip
    release = MONDAY + timedelta(hours=hours)
    rules = rules_of(times, [zone], first=release, last=release + timedelta(days=14))
    slots = sendtime.open_slots(
        zone, release=release.timestamp(), deadline=release.timestamp() + 14 * 86_400, rules=rules, country=zone
    )
    assert len(slots)
    for start, end in zip(slots.start, slots.end, strict=True):
        for moment in (start, (start + end) / 2, end - 1):
            assert is_open(times, zone, datetime.fromtimestamp(float(moment), UTC))
    opening = next_opening(times, zone, release)
    assert opening <= datetime.fromtimestamp(float(slots.start[0]), UTC)
    assert is_open(times, zone, opening)


def test_a_recipient_without_a_zone_lives_by_the_clock_of_the_country(light: Engine, clock: Clock) -> None:
    lands = [None, "jp", "DE", "nowhere"]
    known = [
        Recipient(id=f"r{i}", email=f"r{i}@example.com", attributes={"country": land} if land else {}, zone=None)
        for i, land in enumerate(lands)
    ]
    light.apply(light.plan(definition(send_time={"default_zone": "America/Lima"}), known, template="<p>Hi</p>"))
    assert light.store.zones("spring") == ("America/Lima", "Asia/Tokyo", "Europe/Berlin")


def written() -> str:
    """A definition without times of its own."""
    text = (EXAMPLES / "01-subject-line.yaml").read_text(encoding="utf-8")
    return re.sub(r"^send_time:.*\n(?:[ \t#].*\n)*", "", text, flags=re.MULTILINE)


def test_days_of_a_file_are_free_for_everybody_or_for_one_country(tmp_path: Path) -> None:
    (tmp_path / "abmail.toml").touch()
    days = "# 年末年始\n2027-12-29, 休業\n2027-12-28\n\n2027-12-30,JP\n".encode("cp932")
    (tmp_path / "closing-days.csv").write_bytes(days)
    (tmp_path / "experiments").mkdir()
    file = tmp_path / "experiments" / "spring.yaml"
    text = written()
    file.write_text(f"{text}\nsend_time: {{holidays: [DE, closing-days.csv, 2028-01-03]}}\n", encoding="utf-8")
    loaded = load(file)
    times = loaded.send_time
    assert times.holidays == (
        "DE", date(2027, 12, 28), date(2027, 12, 29), CountryDay(date(2027, 12, 30), "JP"), date(2028, 1, 3),
    )  # fmt: skip
    assert Experiment.from_dict(loaded.resolved()).send_time == times

    def is_free(zone: str, day: date) -> bool:
        return not is_open(times, zone, datetime.combine(day, time(12), tzinfo=ZoneInfo(zone)))

    tokyo, berlin, new_york = "Asia/Tokyo", "Europe/Berlin", "America/New_York"
    assert [is_free(zone, date(2027, 12, 29)) for zone in (tokyo, berlin, new_york)] == [True, True, True]
    assert [is_free(zone, date(2027, 12, 30)) for zone in (tokyo, berlin, new_york)] == [True, False, True]
    assert [is_free(zone, date(2027, 12, 31)) for zone in (tokyo, berlin, new_york)] == [False, False, False]
    assert [is_free(zone, date(2027, 10, 3)) for zone in (tokyo, berlin, new_york)] == [False, True, True]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "the file 'days.csv' cannot be read: No such file or directory"),
        ("", "the file 'days.csv' lists no day"),
        ("2027-12-29\n29.12.2027\n2027-02-30\n", "line 2: '29.12.2027' is no date"),
        ("2027-12-29\n" * 100_000, "the file 'days.csv' has more than 1,000,000 bytes"),
        ("a\nb\nc\nd\ne\n", "and 2 more"),
    ],
    ids=["none", "empty", "no dates", "too large", "many"],
)
def test_a_file_of_days_that_cannot_be_used_is_told_at_its_name(tmp_path: Path, content: str | None, told: str) -> None:
    if content is not None:
        (tmp_path / "days.csv").write_text(content, encoding="utf-8")
    text = written() + "\nsend_time: {holidays: [DE, days.csv]}\n"
    experiment, (problem,) = decode(text, str(tmp_path / "spring.yaml"))
    assert experiment is None
    assert told in problem.message
    assert (problem.line, problem.column) == (len(text.splitlines()), 28)


def test_a_file_of_days_is_a_file_inside_the_project(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "folder.csv").mkdir(parents=True)
    os.mkfifo(folder / "pipe.csv")
    (tmp_path / "secret.csv").write_text("a password", encoding="utf-8")
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    text = written() + "\nsend_time: {holidays: [folder.csv, pipe.csv, link.csv]}\n"
    experiment, problems = decode(text, str(folder / "spring.yaml"))
    assert experiment is None
    assert [each.message.partition(": ")[2] for each in problems] == [
        "'folder.csv' is not a file", "'pipe.csv' is not a file",
        "the file 'link.csv' lies outside the project folder",
    ]  # fmt: skip


def test_plain_data_cannot_name_a_file_of_days() -> None:
    with pytest.raises(
        SpecError, match=re.escape("send_time.holidays[0]: 'days.csv' is a file, and plain data has no folder")
    ):
        definition(send_time={"holidays": ["days.csv"]})


def test_public_holidays_are_those_of_the_recipients_country() -> None:
    times = definition(send_time={"holidays": ["JP", "DE"], "days": ["mon", "tue", "wed", "thu", "fri"]}).send_time
    noon = datetime(2026, 4, 29, 3, tzinfo=UTC)  # Shōwa Day, a Wednesday
    assert not is_open(times, "Asia/Tokyo", noon)
    assert is_open(times, "Europe/Berlin", noon + timedelta(hours=7))
    assert not is_open(times, "America/New_York", noon + timedelta(hours=12))  # in neither: the holidays of both
    assert next_opening(times, "Asia/Tokyo", noon) == datetime(2026, 4, 29, 23, tzinfo=UTC)


# --- a test of hours --------------------------------------------------------------------------------------------------


def answer(engine: Engine, name: str, rates: dict[int, float], known: set[str], rng: np.random.Generator) -> None:
    """Open mails a quarter of an hour after they went out, at the rate of their hour."""
    fresh = [m for m in engine.store.messages(name, states=[State.SENT]) if m.id not in known]
    hour = {mail.recipient: mail.hour % 24 for mail in mails(engine, name)}
    known |= {m.id for m in fresh}
    opens = [
        Event(type=EventType.OPENED, at=m.attempted_at + timedelta(minutes=15), message_id=m.id)
        for m in fresh
        if m.attempted_at is not None and rng.random() < rates.get(hour[m.recipient], 0.2)
    ]
    if opens:
        engine.record_all(opens, now=max(event.at for event in opens))


def test_a_test_of_hours_moves_mail_to_the_best_one_and_reports_it(engine: Engine, clock: Clock) -> None:
    exp = definition(
        send_time={"mode": "test", "slots": ["09:00", "13:00", "18:00"]},
        allocation={"policy": "thompson", "every": "1d", "waves": 4}, stop={"when": [], "after": "60d"},
    )  # fmt: skip
    engine.apply(engine.plan(exp, people(1200, zones=("UTC",)), template="<p>Hi</p>"))
    known: set[str] = set()
    rng = np.random.default_rng(3)
    while (next_at := engine.tick().next_at) is not None:
        answer(engine, "spring", {9: 0.12, 13: 0.15, 18: 0.5}, known, rng)
        clock.time = max(next_at, clock.time + timedelta(hours=1))
    answer(engine, "spring", {9: 0.12, 13: 0.15, 18: 0.5}, known, rng)
    found = [mail for mail in mails(engine) if not mail.control]
    assert {mail.hour % 24 for mail in found} == {9, 13, 18}
    assert {mail.arm for mail in found} == {"test"}
    releases = engine.store.releases("spring")
    assert releases[0].weights == pytest.approx({9: 1 / 3, 13: 1 / 3, 18: 1 / 3})
    assert releases[-1].weights[18] > 0.6
    assert min(releases[-1].weights.values()) >= 0.4 / 3 - 1e-6
    for mail in found:  # the whole window was open to everybody: the chance is the weight
        assert mail.propensity == pytest.approx(releases[mail.release].weights[mail.hour % 24], rel=1e-6)
    clock.time += timedelta(days=4)
    report = engine.analyze("spring")
    hours = {one.hour: one for one in report.send_time.hours}
    assert set(hours) == {9, 13, 18}
    assert hours[18].rate == pytest.approx(0.5, abs=0.05)
    assert hours[9].rate == pytest.approx(0.12, abs=0.06)
    assert "'18:00'" in report.send_time.sentence
    assert "「18:00」" in report.send_time.sentence_ja
    assert "18:00" in report.to_text()
    assert Report.from_dict(report.to_dict()) == report


def test_variants_are_compared_within_parts_of_the_day_where_the_data_allow(engine: Engine, clock: Clock) -> None:
    exp = definition(send_time={"mode": "test", "slots": ["09:00", "15:00"]}, allocation={"policy": "uniform"})
    run(engine, clock, exp, people(400, zones=("Asia/Tokyo",)), least=20)
    clock.time += timedelta(days=4)
    report = engine.analyze("spring", by="hour")
    assert sorted(segment.segment for segment in report.segments) == ["06:00-10:00", "10:00-14:00", "14:00-18:00"]
    assert sum(arm.n for segment in report.segments for arm in segment.arms) == 400
    assert report.segment_summary is not None
    counted = engine.counts("spring", by="hour")
    assert sum(int(counts.n.sum()) for counts in counted.values()) == 400


def test_every_allowed_hour_is_compared_where_none_is_named() -> None:
    times = definition(send_time={"mode": "test", "between": "08:30-11:00", "quiet": ["09:00-10:00"]}).send_time
    assert compared_hours(times) == (8, 10)


# --- what choosing is worth -------------------------------------------------------------------------------------------


def test_what_choosing_brings_is_proved_over_the_account_or_not_claimed(light: Engine, clock: Clock) -> None:
    """Everybody reads in the evening, and a mail that waits is often forgotten: once that is known, choosing pays."""
    rng = np.random.default_rng(11)
    statuses = []
    for week in range(6):
        name = f"week{week}"
        exp = definition(
            name, send_time={"mode": "learn", "control": 0.3, "explore": 0.1, "between": "08:00-20:00"},
            allocation={"policy": "uniform"}, stop={"when": [], "after": "60d"},
        )  # fmt: skip
        run(light, clock, exp, people(400, zones=("UTC",)), least=20)
        events = []
        for message in light.store.messages(name):
            assert message.attempted_at is not None
            sent = message.attempted_at
            reads = sent.replace(hour=18, minute=0) + timedelta(minutes=int(rng.integers(180)))
            reads += timedelta(days=int(reads <= sent))
            if rng.random() < 0.6 * np.exp(-max((reads - sent).total_seconds(), 0) / 3600 / 6):
                events.append(Event(type=EventType.OPENED, at=reads, message_id=message.id))
        clock.time += timedelta(days=4)
        light.record_all(events)
        report = light.analyze(name)
        statuses.append(report.send_time.status)
        clock.time = max(clock.time, MONDAY + timedelta(days=7 * (week + 1)))
    times = report.send_time
    assert statuses[0] != "proven"
    assert statuses[-1] == "proven"
    assert times.ci_lower is not None
    assert times.ci_lower > 0
    assert "pays" in times.sentence
    assert "確認できました" in times.sentence_ja
    assert len(times.habits) == 4
    assert int(np.argmax(times.habits[0].activity)) % 24 in {18, 19, 20}
    page = report.to_html()
    assert page.count("<figure") >= 4
    assert "When people read" in page
    assert "よく読まれる時間帯" in report.to_html(language="ja")


def test_mails_at_a_fixed_time_are_no_part_of_what_choosing_brings(light: Engine, clock: Clock) -> None:
    """A cap gives mails of a fixed time moments, too: nobody chose them, so they are neither side of the comparison."""
    chosen = definition("spring", send_time={"mode": "learn", "control": 0.3}, allocation={"policy": "uniform"})
    capped = definition("summer", send_time={"at": "11:00", "caps": {"per_day": 1}}, allocation={"policy": "uniform"})
    run(light, clock, chosen, people(300), least=20)
    run(light, clock, capped, people(300), least=20)
    clock.time += timedelta(days=4)
    found = list(light.store.slot_mails(before=clock.time))
    assert len(found) == 600
    everything = {m.id: m for name in ("spring", "summer") for m in light.store.messages(name)}
    events = (Event(type=EventType.OPENED, at=m.attempted_at + timedelta(hours=1), message_id=m.id)
              for m in everything.values() if m.attempted_at is not None and int(m.id, 16) % 3)  # fmt: skip
    light.record_all(events)
    found = list(light.store.slot_mails(before=clock.time))
    gain = account_uplift(found, rates=lambda _: {}, open_for=timedelta(hours=72))
    assert gain is not None
    assert sum(gain.sends) == 300


def test_hours_come_from_the_saved_model_where_there_is_one(tmp_path: Path, clock: Clock) -> None:
    hour, day = 3_600, 86_400
    start = (MONDAY - timedelta(days=200)).timestamp() // day * day
    sent = start + day * np.tile(np.arange(120), 40) + hour * np.random.default_rng(5).integers(8, 20, 4800)
    wait = (start + day * np.tile(np.arange(120), 40) + 15.2 * hour - sent) / hour  # they look in at 15:12
    opened = np.where((wait > 0) & (wait < 3), sent + wait * hour, np.nan)
    model = sendtime.SendTime.fit(np.repeat([f"r{i}" for i in range(40)], 120), sent, opened)
    model.save(tmp_path / "sendtime.npz")
    with Engine("sqlite://", transport=Memory(), secret=b"0123456789abcdef", clock=clock,
                send_times=tmp_path / "sendtime.npz") as engine:  # fmt: skip
        exp = definition(send_time={"mode": "learn", "explore": 0}, allocation={"policy": "uniform"})
        run(engine, clock, exp, people(40, zones=("UTC",)))
        assert "sendtime.npz of " in engine.store.releases("spring")[0].reason
        hours = Counter(mail.hour % 24 for mail in mails(engine) if not mail.control)
        assert hours.most_common(1)[0][0] in {13, 14, 15}


def test_strangers_are_mailed_when_people_like_them_read(tmp_path: Path, clock: Clock) -> None:
    hour, day = 3_600, 86_400
    start = (MONDAY - timedelta(days=200)).timestamp() // day * day
    who = np.repeat(np.arange(60), 60)
    trade = np.where(who < 30, "bank", "shop")
    looks_in = np.where(trade == "bank", 8.2, 16.2)
    sent = start + day * np.tile(np.arange(60), 60) + hour * np.random.default_rng(5).integers(7, 19, 3600)
    wait = (start + day * np.tile(np.arange(60), 60) + looks_in * hour - sent) / hour
    opened = np.where((wait > 0) & (wait < 3), sent + wait * hour, np.nan)
    fitted = sendtime.SendTime.fit([f"old{i}" for i in who], sent, opened, segment=trade)
    replace(fitted, by="trade").save(tmp_path / "sendtime.npz")
    with Engine("sqlite://", transport=Memory(), secret=b"0123456789abcdef", clock=clock,
                send_times=tmp_path / "sendtime.npz") as engine:  # fmt: skip
        exp = definition(
            send_time={"mode": "learn", "explore": 0, "control": 0, "between": "06:00-20:00"},
            allocation={"policy": "uniform"},
        )
        new = [
            Recipient(id=f"new{i}", email=f"new{i}@x{i}.example.com", zone="UTC",
                      attributes={"trade": ("bank", "shop")[i % 2]})
            for i in range(40)
        ]  # fmt: skip
        run(engine, clock, exp, new)
        hours = {trade: Counter[int]() for trade in ("bank", "shop")}
        for mail in mails(engine):
            hours[("bank", "shop")[int(mail.recipient.removeprefix("new")) % 2]][mail.hour % 24] += 1
        assert hours["bank"].most_common(1)[0][0] < 12 < hours["shop"].most_common(1)[0][0]


# --- definitions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "problem"),
    [
        ({"mode": "learn", "slots": ["09:00"]}, "send_time.slots: has no meaning with mode learn"),
        ({"mode": "fixed", "control": 0.2}, "send_time.control: has no meaning with mode fixed"),
        ({"mode": "test", "explore": 0.1}, "send_time.explore: has no meaning with mode test"),
        ({"mode": "learn", "control": 0.6}, "send_time.control: more than half would not get the hour that is chosen"),
        ({"mode": "test", "slots": ["06:00"]}, "send_time.slots[0]: the hour from 06:00 is outside of between"),
        ({"mode": "test", "slots": ["09:15"]}, "send_time.slots[0]: '09:15' is no whole hour"),
        ({"mode": "test", "slots": ["09:00", 9]}, "send_time.slots: one of them is in the list twice"),
        ({"quiet": ["08:00-20:00"]}, "send_time.quiet: no minute of the day is left for mail"),
        ({"holidays": ["Japan"]}, "send_time.holidays[0]: 'Japan' is neither a country nor a date"),
        ({"holidays": ["2026-02-30"]}, "send_time.holidays[0]: '2026-02-30' is neither a country nor a date"),
        ({"deadline": "2026-12-04"}, "send_time.deadline: '2026-12-04' is not a date with a time of day"),
        ({"deadline": "2026-12-04T12:00Z"}, "send_time.deadline: '2026-12-04T12:00Z' is not a date with a time of day"),
        ({"caps": {"per_day": 3, "per_week": 2}}, "send_time.caps.per_week: 2 a week are fewer than 3 a day"),
        ({"per_hour": 0}, "send_time.per_hour: 0 is less than 1"),
        ({"caps": {"gap": "63d"}}, "send_time.caps.gap: is more than 62 days"),
    ],
)
def test_times_that_contradict_each_other_are_refused_in_words(times: dict[str, Any], problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        definition(send_time=times)
    assert problem in str(caught.value)


def test_a_definition_with_every_key_is_read_back_from_its_plain_form() -> None:
    exp = definition(
        send_time={
            "mode": "test", "at": "10:00", "quiet": ["12:00-13:00"], "holidays": ["jp", "2026-12-29"], "within": "2d",
            "deadline": "2026-12-04 12:00", "control": "20 %", "slots": ["09:00", 15], "per_hour": 500,
            "caps": {"per_day": 1, "per_week": 3, "gap": "20h"},
        }
    )  # fmt: skip
    assert exp.send_time.holidays == ("JP", date(2026, 12, 29))
    assert exp.send_time.slots == (9, 15)
    assert Experiment.from_dict(exp.resolved()) == exp
    assert exp.resolved()["send_time"]["deadline"] == "2026-12-04 12:00"


def test_definitions_without_the_newer_keys_keep_their_hash() -> None:
    assert definition(send_time={"within": "1d"}).spec_hash == definition().spec_hash


def test_a_short_wait_and_a_missing_control_group_are_warned_about() -> None:
    found = check(definition(send_time={"mode": "learn", "within": "4h", "control": 0}))
    assert [finding.code for finding in found if finding.code.startswith("AB5")] == ["AB502", "AB503"]


# --- nothing is lost, and the fixed hour is the fixed hour ------------------------------------------------------------


def test_without_a_deadline_a_mail_waits_for_the_next_allowed_day_however_far(light: Engine, clock: Clock) -> None:
    """The only Monday within a week is a holiday."""
    times = {"mode": "learn", "between": "01:00-05:00", "days": ["mon"], "holidays": ["2026-03-09"]}
    run(light, clock, definition(send_time=times, allocation={"policy": "uniform"}), people(60))
    assert light.store.states("spring") == {State.SENT: 60}
    zone = {person.id: str(person.zone) for person in people(60)}
    days = {mail.sent_at.astimezone(ZoneInfo(zone[mail.recipient])).date() for mail in mails(light)}
    assert days <= {date(2026, 3, 2), date(2026, 3, 16)}


def test_a_long_gap_between_two_mails_is_kept(light: Engine, clock: Clock) -> None:
    caps = {"caps": {"gap": "10d"}, "mode": "learn"}
    run(light, clock, definition(send_time=caps, allocation={"policy": "uniform"}), people(60))
    first = {mail.recipient: mail.sent_at for mail in mails(light)}
    clock.time = MONDAY + timedelta(days=8)
    run(light, clock, definition("summer", send_time=caps, allocation={"policy": "uniform"}), people(60))
    second = {mail.recipient: mail.sent_at for mail in mails(light, "summer")}
    assert set(second) == set(first)
    assert all(second[who] - first[who] >= timedelta(days=10) for who in first)


def test_after_a_weekend_the_control_group_still_gets_its_mail_at_the_fixed_hour(light: Engine, clock: Clock) -> None:
    clock.time = datetime(2026, 3, 7, 9, tzinfo=UTC)  # a Saturday
    times = {"mode": "learn", "at": "11:00", "control": 0.5}
    run(light, clock, definition(send_time=times, allocation={"policy": "uniform"}), people(90))
    assert {mail.hour for mail in mails(light) if mail.control} == {11}  # on Monday


def test_a_fixed_time_within_an_hour_leaves_no_mail_to_expire_before_it(light: Engine, clock: Clock) -> None:
    times = {"at": "11:50", "caps": {"per_day": 1}, "expires": "10m"}
    exp = definition(send_time=times, allocation={"policy": "uniform"})
    run(light, clock, exp, people(60))
    assert light.store.states("spring") == {State.SENT: 60}


def test_hours_are_compared_among_people_who_could_get_the_same_ones(light: Engine, clock: Clock) -> None:
    """Londoners read more than Berliners, whatever the hour; within two hours of a release their hours differ."""
    times = {"mode": "test", "slots": [9, 10, 11], "within": "2h", "control": 0.0}
    everybody = people(2000, zones=("Europe/London", "Europe/Berlin"))
    zone = {person.id: person.zone for person in everybody}
    run(light, clock, definition(send_time=times, allocation={"policy": "uniform"}), everybody, least=20)
    rng = np.random.default_rng(3)
    events = [
        Event(type=EventType.OPENED, at=message.attempted_at + timedelta(minutes=5), message_id=message.id)
        for message in light.store.messages("spring")
        if message.attempted_at and rng.random() < (0.6 if zone[message.recipient] == "Europe/London" else 0.2)
    ]
    clock.time += timedelta(days=4)
    light.record_all(events)
    assert {mail.hour % 24 for mail in mails(light)} == {9, 10, 11}
    found = light.analyze("spring").send_time
    assert "which chance could explain" in found.sentence


def test_a_plan_counts_for_the_gain_once_its_last_mail_is_old_enough(light: Engine, clock: Clock) -> None:
    """Early readers' mails are old enough first: alone they are no match for the whole control group."""
    times = {"mode": "learn", "control": 0.3, "explore": 1.0}
    run(light, clock, definition(send_time=times, allocation={"policy": "uniform"}), people(400, zones=("UTC",)))
    events = [
        Event(type=EventType.OPENED, at=message.attempted_at + timedelta(minutes=5), message_id=message.id)
        for message in light.store.messages("spring")
        if message.attempted_at and int(message.recipient[1:]) % 2
    ]
    light.record_all(events, now=max(event.at for event in events))
    last = max(mail.sent_at for mail in mails(light))
    clock.time = last + timedelta(hours=71)
    assert light.analyze("spring").send_time.status is None
    clock.time = last + timedelta(hours=73)
    assert light.analyze("spring").send_time.status not in {None, "too_few"}
