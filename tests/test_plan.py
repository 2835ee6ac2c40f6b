"""What a plan foretells is what then happens; what it says of a change is what the change does; and it only reads."""

from __future__ import annotations

import hashlib
import json
import os
import re
import string
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

import pytest
from command import run as run_alone

from abmail import _plan_words
from abmail._forecast import shared, waves_ahead
from abmail._plan_changes import alternatives, short_diff
from abmail._plan_report import PlanReport
from abmail.assign import assign_array
from abmail.cli import _run
from abmail.engine import Engine
from abmail.errors import StoreError
from abmail.recipient import Recipient
from abmail.send import Memory
from abmail.spec import Experiment
from abmail.store import Store

NOW = datetime(2026, 10, 23, 6, 30, tzinfo=UTC)  # a Friday; clocks go back in Berlin on the Sunday
TEMPLATE = "<p>{{ cta | default('Hello') }}</p>"
ZONES = ("Europe/Berlin", "America/New_York", "Asia/Tokyo")
GOLDEN = Path(__file__).parent / "golden"


class Printed(NamedTuple):
    stdout: str
    stderr: str


class Command(Protocol):
    def __call__(self, *arguments: str, status: int = 0) -> Printed: ...


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(tmp_path: Path, clock: Clock) -> Iterator[Engine]:
    (tmp_path / "x.html.j2").write_text(TEMPLATE, encoding="utf-8")
    url = f"sqlite:///{tmp_path / 'mail.db'}"
    with Engine(url, transport=Memory(), secret=b"0123456789abcdef", clock=clock, project=tmp_path) as opened:
        yield opened


def people(n: int, *, zones: tuple[str, ...] = ZONES, first: int = 0, **columns: str) -> list[Recipient]:
    return [
        Recipient(
            id=f"r{i}", email=f"r{i}@c{i % 7}.example.com", zone=zones[i % len(zones)],
            attributes={"stage": "hot" if i % 3 else "cold", **columns},
        )
        for i in range(first, first + n)
    ]  # fmt: skip


def definition(**parts: object) -> Experiment:
    return Experiment.from_dict({
        "spec": 1, "name": "spring", "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
        "control": {"subject": "plain"}, "message": {"template": "x.html.j2", "from": "News <news@example.com>"},
        "allocation": {"policy": "uniform"}, "analysis": {"baseline": 0.2, "mde": 0.04}, **parts,
    })  # fmt: skip


def stock(engine: Engine, recipients: list[Recipient], *, at: datetime = NOW) -> None:
    engine.store.import_recipients(recipients, now=at)


def send_all(engine: Engine, clock: Clock) -> None:
    """Tick whenever something is due, as `abmail send --until-done` does."""
    for _ in range(200):
        tick = engine.tick()
        if tick.next_at is None:
            return
        clock.time = max(tick.next_at, clock.time)
    raise AssertionError("there is no end to it")


def epochs_of(engine: Engine) -> list[tuple[datetime, int]]:
    return [(epoch.opened_at, epoch.size) for epoch in engine.store.epochs("spring")]


def ledger(engine: Engine, columns: str, where: str) -> list[tuple[Any, ...]]:
    """Rows of the ledger; their moments, which come last, are aware."""
    with engine.store._read() as db:
        rows = db.exec_driver_sql(f"SELECT {columns} FROM messages WHERE {where}").all()
    return [(*row[:-1], datetime.fromisoformat(row[-1]).replace(tzinfo=UTC)) for row in rows]


def review(engine: Engine, exp: Experiment, *, power: bool = False) -> PlanReport:
    return engine.review(exp, power=power)


# --- what is foretold happens -----------------------------------------------------------------------------------------

WINDOWS: dict[str, dict[str, object]] = {
    "at any time": {},
    "a window on some days": {"between": "09:00-11:00", "days": ["sat", "mon"]},
    "over the change of the clocks": {"between": "02:15-02:45", "days": ["sun"], "zone": "Europe/Berlin"},
    "quiet hours and holidays": {"between": "08:00-20:00", "quiet": ["08:00-12:00"], "holidays": ["2026-10-23"]},
    "a time of day": {"at": "18:30", "zone": "Asia/Tokyo"},
}


@pytest.mark.parametrize("window", WINDOWS.values(), ids=list(WINDOWS))
def test_the_waves_and_cells_of_a_fixed_split_are_those_that_go_out(
    engine: Engine, clock: Clock, window: dict[str, object]
) -> None:
    exp = definition(send_time=window, audience={"holdout": 0.1}, allocation={"policy": "uniform", "every": "30m"})
    stock(engine, people(210))
    foretold = review(engine, exp)
    engine.apply(foretold.plan)
    send_all(engine, clock)
    assert [(wave.at, wave.mails) for wave in foretold.forecast.waves] == epochs_of(engine)
    sent = ledger(engine, "zone, epoch, cell, attempted_at", "state = 'sent'")
    for wave in foretold.forecast.waves:
        expected = foretold.expected(wave)
        cells = Counter(cell for _, epoch, cell, _ in sent if epoch == wave.number)
        assert expected.known
        assert expected.mails == expected.low == expected.high == (cells[0], cells[1])
    days: Counter[date] = Counter()
    for zone in foretold.forecast.zones:
        own = [at.astimezone(ZoneInfo(zone.name)) for name, _, _, at in sent if name == zone.name]
        days.update(at.date() for at in own)
        assert (zone.mails, zone.first, zone.last) == (len(own), min(own), max(own))
        assert (zone.first.utcoffset(), zone.last.utcoffset()) == (min(own).utcoffset(), max(own).utcoffset())
    assert foretold.forecast.days == days


@pytest.mark.parametrize("allocation", [
    {"policy": "thompson", "first_wave": 0.3, "waves": 4, "every": "2h"},
    {"policy": "test_then_send", "first_wave": 0.25, "every": "4h"},
    {"policy": "thompson", "standing": True, "every": "1d"},
], ids=lambda allocation: str(allocation["policy"]))  # fmt: skip
def test_the_waves_of_a_policy_that_learns_open_when_and_as_large_as_foretold(
    engine: Engine, clock: Clock, allocation: dict[str, object]
) -> None:
    exp = definition(allocation=allocation, send_time={"between": "07:00-15:00", "zone": "UTC"}, stop={"when": []})
    stock(engine, people(1_100))
    foretold = review(engine, exp)
    engine.apply(foretold.plan)
    send_all(engine, clock)
    assert [(wave.at, wave.mails) for wave in foretold.forecast.waves] == epochs_of(engine)
    cells = Counter(m.cell for m in engine.store.messages("spring"))
    expected = foretold.in_all()
    assert sum(expected.mails) == 1_100
    assert not expected.known
    for index in range(2):
        spread = 5 * (1_100**0.5) / 2  # chance deals every mail
        assert expected.low[index] - spread <= cells[index] <= expected.high[index] + spread


def test_a_plan_for_a_test_that_runs_goes_on_where_that_stands(engine: Engine, clock: Clock) -> None:
    exp = definition(allocation={"policy": "thompson", "first_wave": 0.3, "waves": 4, "every": "2h"})
    stock(engine, people(1_100, zones=("UTC",)))
    engine.apply(review(engine, exp).plan)
    engine.tick()
    clock.time += timedelta(minutes=30)
    foretold = review(engine, exp)
    assert foretold.ledger == {"queued": 770, "sent": 330}
    assert (foretold.opened, foretold.to_come, foretold.state) == (1, 770, "running")
    assert foretold.shares is not None
    assert sum(foretold.shares) == pytest.approx(1)
    send_all(engine, clock)
    assert [(wave.at, wave.mails) for wave in foretold.forecast.waves] == epochs_of(engine)[1:]


@pytest.mark.parametrize("send_time", [
    {"mode": "learn", "between": "08:00-20:00", "days": ["mon", "tue", "fri"], "quiet": ["12:00-13:00"]},
    {"mode": "test", "slots": [9, 15], "between": "08:00-20:00"},
    {"deadline": "2026-10-24T12:00", "at": "09:00"},
    {"per_hour": 20, "between": "08:00-20:00"},
], ids=["learn", "test", "deadline", "per_hour"])  # fmt: skip
def test_moments_of_their_own_are_foretold_to_the_minute(engine: Engine, send_time: dict[str, object]) -> None:
    stock(engine, people(120))
    foretold = review(engine, definition(send_time=send_time))
    engine.apply(foretold.plan)
    engine.tick()
    days: Counter[date] = Counter()
    first: dict[str, datetime] = {}
    for zone, at in ledger(engine, "zone, due_at", "due_at IS NOT NULL"):
        days[at.astimezone(ZoneInfo(zone)).date()] += 1
        first[zone] = min(at, first.get(zone, at))
    assert foretold.forecast.sampled == 0
    assert foretold.forecast.days == days
    assert {zone.name: zone.first for zone in foretold.forecast.zones} == first
    assert foretold.forecast.never == 120 - sum(days.values())
    assert "UTC" not in first


def test_a_large_list_is_foretold_by_some_of_its_people(engine: Engine) -> None:
    stock(engine, people(5_000))
    foretold = review(engine, definition(send_time={"mode": "learn", "between": "08:00-20:00"}))
    assert foretold.forecast.sampled == 2_000
    assert abs(sum(foretold.forecast.days.values()) - 5_000) <= 1
    for zone in foretold.forecast.zones:
        assert zone.mails == pytest.approx(1_667, abs=5 * 33)
        assert 8 <= zone.first.hour < 20


def test_mails_that_find_no_hour_are_told(engine: Engine) -> None:
    stock(engine, people(30))
    foretold = review(engine, definition(send_time={"deadline": "2026-10-23T12:00", "between": "13:00-14:00"}))
    assert (foretold.forecast.never, foretold.to_come) == (30, 0)
    assert "for 30 mails no hour is left" in foretold.to_text()


def test_who_keeps_joining_is_reckoned_with_and_one_import_is_no_habit(engine: Engine) -> None:
    stock(engine, people(600), at=NOW - timedelta(days=9))
    for day in range(1, 8):
        stock(engine, people(9, first=600 + 9 * day), at=NOW - timedelta(days=day))
    exp = definition(allocation={"policy": "thompson", "standing": True}, audience={"segment": "stage == 'hot'"})
    foretold = review(engine, exp)
    assert foretold.arrivals == pytest.approx(7 * 6 / 27)
    assert foretold.until is None
    assert "About 1.56 mails a day join" in foretold.to_text()


def test_mails_are_shared_over_zones_without_losing_one() -> None:
    assert shared({"a": 10, "b": 10, "c": 10}, 10) == {"a": 4, "b": 3, "c": 3}
    assert shared({"a": 1, "b": 999}, 10) == {"b": 10}
    assert shared({}, 0) == {}


def test_a_window_that_opens_for_a_minute_a_week_still_ends(engine: Engine) -> None:
    exp = definition(send_time={"between": "02:15-02:16", "days": ["sun"]}, allocation={"every": "30d", "waves": 3})
    waves = list(waves_ahead(exp, {"Europe/Berlin": 900}, (300, 300, 300), now=NOW))
    assert [wave.mails for wave in waves] == [300, 300, 300]
    assert all(b.at - a.at >= timedelta(days=30) for a, b in pairwise(waves))


def test_of_a_list_too_small_to_test_everybody_gets_the_control_as_foretold(engine: Engine, clock: Clock) -> None:
    exp = definition(allocation={"policy": "thompson"})
    stock(engine, people(40))
    foretold = review(engine, exp)
    assert foretold.in_all().mails == (40, 0)
    assert "Everybody who is still to get a mail gets plain" in foretold.to_text()
    engine.apply(foretold.plan)
    send_all(engine, clock)
    assert Counter(m.cell for m in engine.store.messages("spring")) == {0: 40}


# --- who gets nothing -------------------------------------------------------------------------------------------------


def test_who_gets_no_mail_is_told_with_the_reason(engine: Engine) -> None:
    stock(engine, people(60))
    stock(engine, people(4, first=60, consent="No"))
    for i, reason in enumerate(["unsubscribed", "bounced", "bounced", "complained", "asked by phone", ""]):
        engine.store.suppress([f"r{i}@c{i % 7}.example.com"], reason=reason, now=NOW)
    found = review(engine, definition(audience={"segment": "stage == 'hot'", "holdout": 0.2}))
    chosen = found.plan.selection
    assert dict(found.barred) == {"bounced": 2, "asked by phone": 1, "no reason given": 1}  # others are outside
    assert chosen.suppressed == 4
    assert chosen.chosen + chosen.held_out + chosen.suppressed + chosen.outside == 64
    text = found.to_text()
    assert "unreachable: bounced" in text
    assert re.search(r"\d of those who would get a mail say no in the column consent", text)
    assert sum(found.in_all().mails) == chosen.chosen


# --- changes ----------------------------------------------------------------------------------------------------------

CHANGES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "nothing": ({}, {}),
    "words": ({"hypothesis": "It does."}, {"hypothesis": "nothing"}),
    "a further variant": (
        {"factors": {"subject": {"plain": "Hello", "number": "3 ways", "ask": "Ready?"}}},
        {"factors.subject.ask": "next_wave"},
    ),
    "a text": (
        {"factors": {"subject": {"plain": "Hello", "number": "4 ways"}}},
        {"factors.subject.number": "forbidden"},
    ),
    "a variant gone": (
        {"factors": {"subject": {"plain": "Hello", "other": "3 ways"}}},
        {"factors.subject.number": "moves", "factors.subject.other": "next_wave"},
    ),
    "the salt": ({"salt": "x"}, {"salt": "moves"}),
    "the holdout": ({"audience": {"holdout": 0.3}}, {"audience.holdout": "moves"}),
    "the unit": ({"audience": {"unit": "company"}}, {"audience.unit": "moves"}),
    "the segment": ({"audience": {"segment": "stage == 'hot'"}}, {"audience.segment": "next_wave"}),
    "the window": ({"metrics": {"window": "24h"}}, {"metrics.window": "forbidden"}),
    "a guardrail": ({"metrics": {"guardrails": {"bounced": 0.05}}}, {"metrics.guardrails.bounced": "next_look"}),
    "the level": ({"analysis": {"alpha": 0.1}}, {"analysis.alpha": "forbidden"}),
    "the end": ({"stop": {"after": "3d"}}, {"stop.after": "next_look"}),
    "the hours": ({"send_time": {"between": "08:00-20:00"}}, {"send_time.between": "next_wave"}),
    "the preheader": (
        {"message": {"template": "x.html.j2", "from": "News <news@example.com>", "preheader": "Soon"}},
        {"message.preheader": "next_wave"},
    ),
}


@pytest.mark.parametrize(("parts", "effects"), CHANGES.values(), ids=list(CHANGES))
def test_each_change_is_told_with_what_it_means_and_apply_agrees(
    engine: Engine, parts: dict[str, Any], effects: dict[str, str]
) -> None:
    usual: dict[str, Any] = {"analysis": {}}
    stock(engine, people(300))
    engine.apply(review(engine, definition(**usual)).plan)
    engine.tick()
    found = review(engine, definition(**usual | parts))
    told = {each.change.path: str(each.effect) for each in found.changes}
    assert {
        path: effect for path, effect in told.items() if not path.startswith("analysis") or path in effects
    } == effects
    breaks = bool(set(effects.values()) & {"moves", "forbidden"})
    assert found.risky == breaks
    if breaks:
        with pytest.raises(StoreError, match="worthless"):
            engine.apply(found.plan)
        assert found.findings
    else:
        engine.apply(found.plan)
    for each in found.changes:
        assert (each.moved > 0) == (each.effect == "moves"), each


def test_the_people_that_a_change_would_move_are_counted_one_by_one(engine: Engine) -> None:
    stock(engine, people(400))
    old = definition()
    engine.apply(review(engine, old).plan)
    new = definition(salt="x", audience={"holdout": 0.3})
    ids = [f"r{i}" for i in range(400)]

    def dealt(exp: Experiment) -> list[int]:
        return [int(cell) for cell in assign_array(exp, ids, weights=[0.5, 0.5])]

    changed = {path: sum(a != b for a, b in zip(dealt(old), dealt(one), strict=True))
               for path, one in alternatives(old, new).items()}  # fmt: skip
    told = {each.change.path: each.moved for each in review(engine, new).changes}
    assert told == changed
    assert 150 < told["salt"] < 250
    assert f"{told['salt']} of 400 recipients would get another variant" in review(engine, new).to_text()


def test_a_changed_template_is_shown_as_a_short_comparison(engine: Engine, tmp_path: Path) -> None:
    stock(engine, people(10))
    engine.apply(review(engine, definition()).plan)
    (tmp_path / "x.html.j2").write_text(TEMPLATE + "\n<p>```Bye```</p>", encoding="utf-8")
    found = review(engine, definition())
    assert found.risky
    assert found.changes[0].diff == ("@@ -1 +1,2 @@", f" {TEMPLATE}", "+<p>```Bye```</p>")
    assert "    +<p>```Bye```</p>\n" in found.to_text()
    assert "````diff\n@@ template\n" in found.to_markdown()
    long = short_diff("", "\n".join(str(i) for i in range(100)))
    assert len(long) == 25
    assert long[-1] == "... 77"


def test_an_experiment_that_has_ended_takes_no_change(engine: Engine) -> None:
    stock(engine, people(10))
    engine.apply(review(engine, definition()).plan)
    engine.stop("spring")
    same, other = review(engine, definition()), review(engine, definition(hypothesis="It does."))
    assert not same.risky
    assert other.risky
    assert other.forecast.waves == ()
    assert "The experiment has ended" in other.to_text()


def test_a_decided_test_sends_its_rest_at_once_and_all_of_it_one_variant(engine: Engine, clock: Clock) -> None:
    exp = definition(allocation={"policy": "thompson", "first_wave": 0.3, "waves": 4, "every": "2h"})
    stock(engine, people(1_100, zones=("UTC",)))
    engine.apply(review(engine, exp).plan)
    engine.tick()
    engine.stop("spring", ship="number")
    foretold = review(engine, exp)
    assert [(wave.at, wave.mails) for wave in foretold.forecast.waves] == [(clock.time, 770)]
    assert foretold.in_all().mails == (0, 770)
    engine.pause("spring", why="the shop is down")
    assert "paused: the shop is down" in review(engine, exp).to_text()


# --- power ------------------------------------------------------------------------------------------------------------


def test_the_figures_of_power_are_those_of_the_power_command(engine: Engine) -> None:
    stock(engine, people(2_000))
    power = review(engine, definition(), power=True).power
    asked = engine.power(definition()).outlooks[0]
    assert power is not None
    assert asked.found is not None
    assert asked.smallest is not None
    assert power.found.power == pytest.approx(asked.found.power)
    assert power.smallest.effect == pytest.approx(asked.smallest.effect)
    assert [point.power for point in power.curve] == sorted(point.power for point in power.curve)
    assert power.gained.value == 0


def test_uneven_shares_lose_what_the_better_variant_does_not_get(engine: Engine) -> None:
    stock(engine, people(2_000))
    shares = {"policy": "fixed", "weights": {"plain": 0.75, "number": 0.25}}
    power = review(engine, definition(allocation=shares), power=True).power
    assert power is not None
    assert power.gained.value == pytest.approx(2_000 * 0.04 * (0.25 - 0.5))


def test_a_bandit_gains_on_an_even_split_and_the_plan_says_from_how_many_mailings(engine: Engine) -> None:
    stock(engine, people(1_500, zones=("UTC",)))
    exp = definition(
        allocation={"policy": "thompson", "every": "6h", "waves": 4}, analysis={"baseline": 0.1, "mde": 0.2}
    )
    power = review(engine, exp, power=True).power
    assert power is not None
    assert power.gained.value > 3 * power.gained.se > 0
    assert power.simulated == 20


def test_companies_are_reckoned_one_by_one_and_the_plan_says_so(engine: Engine) -> None:
    stock(engine, people(700, zones=("UTC",)))
    found = review(engine, definition(audience={"unit": "company"}), power=True)
    assert "Reckoned as if people were dealt one by one" in found.to_text(width=140)
    engine.apply(found.plan)
    engine.tick()
    cells = Counter(m.cell for m in engine.store.messages("spring"))
    assert found.in_all().mails == (cells[0], cells[1])
    assert cells[0] % 100 == 0  # seven companies of a hundred


def test_a_plan_on_postgres_is_that_on_sqlite(engine: Engine, postgres_url: str, clock: Clock, tmp_path: Path) -> None:
    exp = definition(send_time={"mode": "learn", "caps": {"per_week": 1}}, allocation={"policy": "thompson"})
    key = b"0123456789abcdef"
    with Engine(postgres_url, transport=Memory(), secret=key, clock=clock, project=tmp_path) as other:
        found = []
        for each in (engine, other):
            stock(each, people(60))
            each.apply(review(each, definition(name="earlier")).plan)
            each.tick()
            each.apply(review(each, exp).plan)
            stock(each, people(30, first=60))
            found.append(review(each, exp).to_dict())
        assert found[0] == found[1]
        assert found[0]["new"] == 30
        assert found[0]["without_moment"] == 60  # those who had a mail this week
        reading = Engine(Store(postgres_url, read_only=True), secret=key, clock=clock, project=tmp_path)
        with reading:
            assert review(reading, exp).to_dict() == found[0]


def test_what_to_know_before_applying_is_told_in_the_language_that_is_asked_for(engine: Engine) -> None:
    stock(engine, people(30))
    exp = definition(allocation={"policy": "thompson"}, analysis={"baseline": 0.04, "mde": 0.01})
    for made, english, japanese in (
        (review(engine, exp), "30 mails at a rate of 4.0% bring about", "30件のメールで率が4.0%なら"),
        (review(engine, exp), "30 mails are too few to learn in waves", "30件では回を分けて学習できない"),
        (
            review(engine, definition(audience={"segment": "stage == 'nobody'"})),
            "nobody would get a mail", "配信先が一人もいません",
        ),
    ):  # fmt: skip
        assert english in " ".join(made.to_text(width=500).split())
        told = made.to_text(width=500, language="ja")
        assert japanese in told
        assert english not in told


# --- formats ----------------------------------------------------------------------------------------------------------


def spring(engine: Engine) -> PlanReport:
    stock(engine, people(3_000))
    engine.store.suppress(["r1@c1.example.com"], reason="bounced", now=NOW)
    return review(engine, definition(
        hypothesis="A number raises clicks.", audience={"segment": "stage == 'hot'", "holdout": 0.05},
        send_time={"between": "08:00-20:00", "days": ["mon", "tue", "wed", "thu", "fri"], "holidays": ["2026-10-26"]},
    ), power=True)  # fmt: skip


def changed(engine: Engine) -> PlanReport:
    learning = {"policy": "thompson", "waves": 4}
    stock(engine, people(1_500))
    engine.apply(review(engine, definition(allocation=learning)).plan)
    (engine._delivery._project / "x.html.j2").write_text(TEMPLATE + "\n<p>Bye</p>\n", encoding="utf-8")
    return review(engine, definition(
        allocation=learning | {"every": "2h"}, salt="x", stop={"after": "3d"}, hypothesis="It does."
    ))  # fmt: skip


def check_golden(name: str, text: str) -> None:
    """Compare with ``golden/plan.<name>``; ABMAIL_UPDATE_GOLDEN=1 rewrites the file instead."""
    path = GOLDEN / f"plan.{name}"
    if os.environ.get("ABMAIL_UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_a_new_experiment_looks_as_it_did(engine: Engine) -> None:
    found = spring(engine)
    for width in (80, 100):
        text = found.to_text(width=width)
        assert max(map(len, text.splitlines())) <= width
        check_golden(f"{width}.txt", text)
    check_golden("md", found.to_markdown())
    check_golden("ja.txt", found.to_text(width=80, language="ja"))
    check_golden("ja.md", found.to_markdown(language="ja"))
    check_golden("json", json.dumps(_rounded(found.to_dict()), indent=2, ensure_ascii=False) + "\n")


def test_changes_look_as_they_did(engine: Engine) -> None:
    found = changed(engine)
    check_golden("changes.txt", found.to_text(width=100))
    check_golden("changes.ja.txt", found.to_text(width=80, language="ja"))
    check_golden("changes.md", found.to_markdown())


def _rounded(value: Any) -> Any:
    """Other versions of numpy may differ in the last digits."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 6) if isinstance(value, float) else value


@pytest.mark.parametrize("table", ["SAYINGS", "STATES", "REASONS", "KINDS", "EFFECTS", "DAYS"])
def test_both_languages_say_the_same_with_the_same_values(table: str) -> None:
    def fields(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    for key, (english, japanese) in getattr(_plan_words, table).items():
        assert japanese, key
        assert fields(japanese) <= fields(english), key
        assert english.isascii() or set(english) - set(string.printable) <= set("·±…"), key


def test_no_person_is_in_a_plan(engine: Engine) -> None:
    found = spring(engine)
    for text in (found.to_text(), found.to_markdown(), json.dumps(found.to_dict())):
        assert "@c" not in text
        assert not re.search(r"\br\d+\b", text)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def first_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan") / "project"
    run_alone(folder.parent, "init", "project")
    rows = (f"lead{i}@example.com,{'hot' if i % 2 else 'cold'}" for i in range(40))
    (folder / "leads.csv").write_text("email,stage\n" + "\n".join(rows), encoding="utf-8")
    run_alone(folder, "new", "subjects", "--kind", "subject")
    run_alone(folder, "new", "buttons", "--kind", "cta")
    run_alone(folder, "audience", "import", "leads.csv")
    run_alone(folder, "apply", "subjects")
    return folder


@pytest.fixture
def project(first_project: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(first_project, tmp_path / "project"))


@pytest.fixture
def run(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line without a process of its own: exit status, then what it prints and says."""
    monkeypatch.chdir(project)
    for name in [name for name in os.environ if name.startswith("ABMAIL_")]:
        monkeypatch.delenv(name)

    def call(*arguments: str, status: int = 0) -> Printed:
        found = _run(arguments)
        printed = Printed(*capsys.readouterr())
        assert found == status, printed
        return printed

    return call


def edit(project: Path, name: str, text: str) -> None:
    file = project / "experiments" / f"{name}.yaml"
    file.write_text(file.read_text(encoding="utf-8") + text, encoding="utf-8")


def content(project: Path) -> dict[str, str]:
    kept = (path for path in project.rglob("*") if path.is_file() and not path.name.startswith("abmail.db-"))
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def test_plan_leaves_every_file_as_it_was_and_makes_no_key(project: Path, run: Command) -> None:
    (project / "abmail.secret").unlink()
    before = content(project)
    run("plan")
    run("plan", "subjects", "--check", "--format", "json")
    assert content(project) == before


def test_check_judges_all_definitions_with_one_exit_status(project: Path, run: Command) -> None:
    assert json.loads(run("plan", "--check", "--format", "json").stdout)["plans"][1]["experiment"] == "subjects"
    edit(project, "buttons", "\nsalt: other\n")
    run("plan", "--check")  # that one does not run yet
    edit(project, "subjects", "\nsalt: other\n")
    run("plan", "--check", "buttons")
    assert "salt: deals the cards anew" in run("plan", "--check", status=1).stdout
    run("plan")  # without --check it only tells
    edit(project, "buttons", "nonsense: 1\n")
    ran = run("plan", "--check", status=2)
    assert "nonsense" in ran.stderr
    assert "salt: deals the cards anew" in ran.stdout
    run("plan", "--check", "buttons", status=2)
    run("plan", "nowhere", status=2)


def test_a_saved_plan_is_applied_as_it_was_shown_and_once(project: Path, run: Command) -> None:
    run("plan", "buttons", "--format", "json", "--no-power", "-o", "plan.json")
    assert "40 new recipients" in run("apply", "--plan", "plan.json").stdout
    assert "nothing to do" in run("apply", "--plan", "plan.json").stdout
    (project / "more.csv").write_text("email\nlead41@example.com\n", encoding="utf-8")
    run("audience", "import", "more.csv")
    assert "list changed" in run("apply", "--plan", "plan.json", status=2).stderr
    assert "1 new recipients" in run("apply", "buttons").stdout


def test_a_saved_plan_is_refused_once_anything_that_it_showed_is_otherwise(project: Path, run: Command) -> None:
    file = project / "mails" / "buttons.html.j2"
    run("plan", "buttons", "--format", "json", "--no-power", "-o", "plan.json")
    file.write_text(file.read_text(encoding="utf-8") + "<!-- x -->", encoding="utf-8")
    assert "changed after the plan was made" in run("apply", "--plan", "plan.json", status=2).stderr
    run("apply", "buttons")
    assert "buttons" in run("status").stdout


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format_version": 1, "plans": []}', "\x00\xff", '{"experiment": 1}']
)
def test_what_is_no_plan_is_said_to_be_none(project: Path, run: Command, text: str) -> None:
    (project / "plan.json").write_bytes(text.encode("latin-1"))
    assert "is no plan" in run("apply", "--plan", "plan.json", status=2).stderr
    run("apply", "--plan", "nowhere.json", status=2)


def test_apply_wants_an_experiment_or_a_plan(run: Command) -> None:
    assert "name an experiment" in run("apply", status=2).stderr


def test_plan_in_japanese_says_so_on_the_page(run: Command) -> None:
    assert "新しい実験の計画" in run("plan", "buttons", "--lang", "ja", "--no-power").stdout
