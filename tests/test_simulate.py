"""Simulated mailings: the same decisions as the engine's to the bit, honest figures, and words that fit them."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import abmail as ab
from abmail import _mailing
from abmail._analysis import findings
from abmail._mailing import Mailing, Setup, play
from abmail._truth import Spread, Truth, load_truth, typical_truth
from abmail._world import World
from abmail.cli import _run
from abmail.engine import Engine
from abmail.errors import SpecError
from abmail.events import Event, EventType
from abmail.recipient import Recipient
from abmail.send import Memory
from abmail.simulate import FalseAlarms, Simulation, simulate
from abmail.spec import Experiment
from abmail.store import State

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)  # a Monday
TEMPLATE = '<p>Hello</p><a href="https://example.com/x">go</a>'
TWO = {"plain": "Hello", "number": "3 ways"}
THREE = {**TWO, "question": "Ready?"}
FOUR = {**THREE, "joke": "Ha"}


def definition(subjects: dict[str, str] = TWO, **parts: object) -> Experiment:
    plain: dict[str, object] = {
        "spec": 1,
        "name": "spring",
        "factors": {"subject": subjects},
        "control": {"subject": "plain"},
        "message": {"template": "mails/x.html.j2", "from": "News <news@example.com>"},
    }
    return Experiment.from_dict(plain | parts)


def setup(experiment: Experiment, truth: dict[str, object], n: int = 2_000) -> Setup:
    return Setup(experiment=experiment, truth=Truth.from_dict(truth, experiment), n=n, aa=False, start=START)


# -- the engine does the same ------------------------------------------------------------------------------------------

WORLDS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "a bandit whose answers are late": (
        {"allocation": {"waves": 5, "every": "1h"}},
        {"rates": {"plain": 0.2, "number": 0.3, "question": 0.25}},
    ),
    "a winner that is shipped while people wait": (
        {"allocation": {"waves": 6, "every": "3h"}, "metrics": {"window": "2h"}},
        {"rates": {"plain": 0.2, "number": 0.5, "question": 0.2}, "delays": {"median": "20m", "within_day": 0.99}},
    ),
    "a window of the day, and a holdout": (
        {
            "audience": {"holdout": 0.1},
            "allocation": {"waves": 4, "every": "5h", "min_weight": 0.02},
            "send_time": {"between": "08:00-17:00", "days": ["mon", "tue", "thu"], "zone": "Asia/Tokyo"},
        },
        {"rates": {"plain": 0.2, "number": 0.22, "question": 0.3}, "swing": 0.4, "drift": -0.1},
    ),
    "machines that are taken for people": (
        {"metrics": {"primary": "opened", "window": "24h"}, "allocation": {"waves": 3, "every": "12h"}},
        {
            "segments": {
                "warm": {"share": 0.3, "rates": {"plain": 0.5, "number": 0.3, "question": 0.4}},
                "cold": {"share": 0.7, "rates": {"plain": 0.1, "number": 0.2, "question": 0.15}},
            },
            "machines": {"share": 0.4, "caught": 0.7, "mistaken": 0.1},
            "delays_of": {"number": {"median": "8h", "within_day": 0.8}},
        },
    ),
    "fixed shares for companies, all at once": (
        {
            "audience": {"unit": "company"},
            "allocation": {"policy": "fixed", "weights": {"plain": 0.5, "number": 0.3, "question": 0.2}},
        },
        {"rates": {"plain": 0.2, "number": 0.3, "question": 0.25}},
    ),
    "companies whose people come in several waves": (
        {"audience": {"unit": "company"}, "allocation": {"waves": 6, "every": "2h"}},
        {"rates": {"plain": 0.2, "number": 0.3, "question": 0.25}, "company": 40},
    ),
    "segments that learn from each other": (
        {"allocation": {"waves": 4, "every": "2h", "goal": "earn", "segments": "stage"}},
        {
            "segments": {
                "warm": {"share": 0.4, "rates": {"plain": 0.5, "number": 0.3, "question": 0.4}},
                "cold": {"share": 0.6, "rates": {"plain": 0.1, "number": 0.3, "question": 0.15}},
            }
        },
    ),
    "exact shares, and the classical test": (
        {"allocation": {"policy": "test_then_send", "every": "4h", "assignment": "quota"}},
        {"rates": {"plain": 0.2, "number": 0.3, "question": 0.25}},
    ),
    "finding the best of three": (
        {"allocation": {"policy": "top_two", "waves": 4, "goal": "learn"}},
        {"rates": {"plain": 0.2, "number": 0.3, "question": 0.25}},
    ),
    "an experiment that stands": (
        {
            "allocation": {"standing": True, "every": "1d", "half_life": "3d"},
            "metrics": {"window": "1d"},
            "stop": {"after": "5d"},
        },
        {"rates": {"plain": 0.2, "number": 0.3, "question": 0.25}},
    ),
    "variants that are stopped by their limits": (
        {
            "allocation": {"waves": 6, "every": "4h"},
            "metrics": {"guardrails": {"unsubscribed": 0.02, "bounced": 0.3, "complained": 0.9}},
        },
        {
            "rates": {"plain": 0.2, "number": 0.3, "question": 0.25},
            "guardrails": {
                "unsubscribed": {"plain": 0.01, "number": 0.15, "question": 0.01},
                "bounced": {"plain": 0.05, "number": 0.05, "question": 0.05},
            },
        },
    ),
    "levels that join one after the other": (
        {"allocation": {"waves": 6, "every": "4h"}, "factors": {"subject": FOUR}},
        {
            "rates": {"plain": 0.2, "number": 0.3, "question": 0.4, "joke": 0.1},
            "joins": {"number": "16h", "question": "6h"},
        },
    ),
    "a test that stops when nothing is left to gain": (
        {
            "allocation": {"waves": 5, "every": "6h"},
            "metrics": {"window": "4h"},
            "stop": {"when": ["winner", "futile"], "inconclusive": "stop"},
        },
        {"rates": {"plain": 0.4, "number": 0.4, "question": 0.1}},
    ),
}


@pytest.mark.usefixtures("in_bulk")
@pytest.mark.parametrize("world", WORLDS)
def test_engine_and_simulator_open_the_same_epochs_with_the_same_weights(world: str, tmp_path: Path) -> None:
    parts, truth = WORLDS[world]
    mailing = Mailing.begin(setup(definition(THREE, **parts), truth, 1_500), np.random.default_rng(5))
    spoke = mailing.run()
    with Engine(f"sqlite:///{tmp_path / 'mail.db'}", transport=Memory(), secret=b"0123456789abcdef") as engine:
        send_through(engine, mailing, spoke)
        epochs = engine.store.epochs("spring")
        messages = list(engine.store.messages("spring", states=[State.SENT]))
        assert [(e.weights, dict(e.segments)) for e in epochs] == [(e.weights, e.segments) for e in mailing.epochs]
        assert [(e.opened_at, e.size, e.remaining) for e in epochs] == [
            (e.opened_at, e.size, e.remaining) for e in mailing.epochs
        ]
        ids = mailing.world.ids.astype(str)
        got = {(ids[i], e.number, c) for e, people, cells in trace(mailing) for i, c in zip(people, cells, strict=True)}
        assert {(m.recipient, m.epoch, m.cell) for m in messages} == got
        verdict = engine.store.experiment("spring").verdict
        assert verdict == mailing.stored.verdict
        assert engine.store.stopped_arms("spring") == mailing.stopped
        report = engine.analyze("spring", now=mailing.closes)
    found = findings(mailing.evidence(mailing.closes))
    assert [(a.effect, a.ci_lower, a.ci_upper, a.p_value) for a in report.arms] == [
        (a.effect, a.ci_lower, a.ci_upper, a.p_value) for a in found.comparison.arms
    ]


def trace(mailing: Mailing) -> Iterator[tuple[Any, Any, Any]]:
    return zip(mailing.epochs, mailing.people, mailing.cells, strict=True)


def send_through(engine: Engine, mailing: Mailing, spoke: datetime) -> None:
    """Send the same list through the engine, with every answer at its time."""
    person = {name: i for i, name in enumerate(mailing.world.ids.astype(str).tolist())}
    domains = mailing.world.units.astype(str)
    people = [
        Recipient(id=name, email=f"r{i}@{domains[i]}", attributes={"stage": segment_of(mailing, i)}, zone=None)
        for name, i in person.items()
    ]
    versions = list(mailing.setup.versions)
    experiment = versions.pop(0)[1]
    if not experiment.allocation.standing:
        engine.apply(engine.plan(experiment, people, template=TEMPLATE), now=START)
    pending: list[tuple[datetime, str, str]] = []
    moments = [e.opened_at for e in mailing.epochs]
    for number, moment in enumerate([*moments, spoke] if mailing.stored.state == "stopped" else moments):
        record_until(engine, pending, moment)
        while versions and moments[0] + versions[0][0] <= moment:
            engine.apply(engine.plan(versions.pop(0)[1], people, template=TEMPLATE), now=moment)
        if experiment.allocation.standing:
            joined = [people[i] for i in mailing.people[number]]
            engine.apply(engine.plan(experiment, joined, template=TEMPLATE), now=moment)
        engine.tick(now=moment)
        for message in engine.store.messages("spring", states=[State.SENT]):
            if message.epoch == number and message.cell is not None:
                one = np.array([person[message.recipient]]), np.array([message.cell])
                answers = mailing.world.delays(*one, level=mailing.level_at(moment))
                kinds = (str(experiment.metrics.primary), *mailing.world.guarded)
                for kind, delay in zip(kinds, (answers, *mailing.world.unwanted(*one)), strict=True):
                    if math.isfinite(delay[0]):
                        heapq.heappush(pending, (moment + timedelta(seconds=float(delay[0])), message.id, kind))
    record_until(engine, pending, mailing.closes)


def segment_of(mailing: Mailing, person: int) -> str:
    return mailing.setup.truth.names[int(mailing.world.segment[person])]


def record_until(engine: Engine, pending: list[tuple[datetime, str, str]], moment: datetime) -> None:
    """What came up to a moment; what is young then by the definition's default reached the engine at that moment."""
    for until in (moment - timedelta(minutes=5), moment):
        due = []
        while pending and pending[0][0] <= until:
            due.append(heapq.heappop(pending))
        events = (Event(type=EventType(kind), at=at, message_id=message) for at, message, kind in due)
        engine.record_all(events, now=until)


# -- the same whatever the batching ------------------------------------------------------------------------------------


def test_figures_do_not_depend_on_how_the_work_is_split() -> None:
    experiment = definition(THREE)
    options: dict[str, Any] = {"n": 1_000, "replications": 12, "rng": 4}
    once = simulate(experiment, **options)
    assert simulate(experiment, **options, map_=backwards).to_dict() == once.to_dict()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert simulate(experiment, **options, map_=pool.map).to_dict() == once.to_dict()
    assert simulate(experiment, **options | {"rng": 5}).answers != once.answers


def backwards(work: Any, seeds: Iterable[Any]) -> list[Any]:
    """Do the last first, as a pool might."""
    return [work(seed) for seed in list(seeds)[::-1]][::-1]


def test_the_first_mailings_are_the_same_in_a_longer_simulation() -> None:
    one = setup(definition(), {"rates": {"plain": 0.1, "number": 0.2}}, 500)
    few, many = (np.random.SeedSequence(9).spawn(k) for k in (2, 5))
    assert [play(one, s) for s in few] == [play(one, s) for s in many[:2]]


def test_a_generator_serves_as_a_seed_and_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    options: dict[str, Any] = {"n": 300, "replications": 3}
    first = simulate(definition(), rng=np.random.default_rng(1), progress=lambda d, n: told.append((d, n)), **options)
    assert first.answers == simulate(definition(), rng=np.random.default_rng(1), **options).answers
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert first.seed is None


def test_skipping_comparisons_that_end_nothing_changes_no_outcome() -> None:
    experiment = definition(THREE, allocation={"waves": 6, "every": "24h"}, metrics={"window": "24h"})
    one = setup(experiment, {"rates": {"plain": 0.1, "number": 0.16, "question": 0.1}}, 3_000)
    ended = 0
    for seed in np.random.SeedSequence(2).spawn(12):
        mailing, found, spoke = _mailing._played(one, seed, watched=True)
        assert found is not None
        assert play(one, seed) == _mailing._outcome(mailing, found, spoke)
        ended += mailing.stored.verdict is not None
    assert 0 < ended < 12


# -- limits and late comers --------------------------------------------------------------------------------------------

GUARDED: dict[str, Any] = {
    "metrics": {"guardrails": {"unsubscribed": 0.005}},
    "allocation": {"waves": 8, "every": "4h"},
}


def test_a_variant_that_drives_people_away_is_stopped_and_not_the_best() -> None:
    truth = {
        "rates": {"plain": 0.05, "number": 0.12, "question": 0.07},
        "guardrails": {"unsubscribed": {"plain": 0.003, "number": 0.04, "question": 0.003}},
    }
    found = simulate(definition(THREE, **GUARDED), truth=truth, n=20_000, replications=30, rng=1)
    assert found.caught.n == 30
    assert found.caught.value > 0.9
    assert found.wronged.n == 30
    assert found.wronged.value < 0.2
    assert found.harm.value < found.even_harm.value
    assert found.gap == pytest.approx(0.02)  # between "question" and the control
    assert found.guessed.value > 0.9
    assert found.wrong.value == 0.0  # the stopped one is never named
    text = found.to_text()
    assert "stops a variant above a limit" in text
    assert "上限を超えるパターンを停止" in found.to_text("ja")


def test_limits_that_are_kept_stop_hardly_anything() -> None:
    rates, limit = ({"plain": rate, "number": rate} for rate in (0.05, 0.005))
    truth = {"rates": rates, "guardrails": {"unsubscribed": limit}}
    found = simulate(definition(**GUARDED), truth=truth, n=5_000, replications=100, rng=2)
    assert found.caught.n == 0
    assert math.isnan(found.caught.value)
    assert found.wronged.value <= 0.05  # the level holds at any number of looks; the limit is the true rate here
    assert json.loads(json.dumps(found.to_dict()))["caught"]["value"] is None


def test_a_level_that_joins_is_not_missed_before_it_is_there() -> None:
    truth = {"rates": {"plain": 0.05, "number": 0.06, "question": 0.12}, "joins": {"question": "1d"}}
    experiment = definition(THREE, allocation={"waves": 12, "every": "4h", "first_wave": 0.1})
    late = simulate(experiment, truth=truth, n=10_000, replications=20, rng=3)
    there = simulate(experiment, truth={"rates": truth["rates"]}, n=10_000, replications=20, rng=3)
    assert late.answers.value + late.regret.value < there.answers.value + there.regret.value
    assert late.answers.value < there.answers.value
    assert late.guessed.value > 0.9
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        again = simulate(experiment, truth=truth, n=10_000, replications=20, rng=3, map_=pool.map)
    assert again.to_dict() == late.to_dict()


# -- people ------------------------------------------------------------------------------------------------------------


def test_people_answer_at_the_rates_and_speeds_that_are_true() -> None:
    truth = {
        "segments": {
            "warm": {"share": 0.25, "rates": {"plain": 0.4, "number": 0.2}},
            "cold": {"share": 0.75, "rates": {"plain": 0.1, "number": 0.3}},
        },
        "delays": {"median": "1h", "within_day": 0.9},
        "delays_of": {"number": {"median": "6h", "within_day": 0.8}},
    }
    experiment = definition(metrics={"window": "365d"})
    n = 200_000
    world = World.draw(Truth.from_dict(truth, experiment), experiment, n, rng=np.random.default_rng(3), aa=False)
    everybody = np.arange(n)
    assert abs((world.segment == 0).mean() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / n)
    for cell, median, within in ((0, 3_600.0, 0.9), (1, 21_600.0, 0.8)):
        delay = world.delays(everybody, np.full(n, cell))
        for segment, rate in enumerate(world.rates[:, cell]):
            share = np.isfinite(delay[world.segment == segment]).mean()
            assert abs(share - rate) < 5 * math.sqrt(rate * (1 - rate) / (world.segment == segment).sum())
        seen = delay[np.isfinite(delay)]
        assert abs((seen <= median).mean() - 0.5) < 0.01
        assert abs((seen <= 86_400).mean() - within) < 0.01
    assert world.overall(everybody) == pytest.approx([0.175, 0.275], abs=0.002)


def test_machines_add_and_hide_answers_in_their_share() -> None:
    experiment, n = definition(), 200_000
    truth = {"rates": {"plain": 0.2, "number": 0.2}, "machines": {"share": 0.5, "caught": 0.9, "mistaken": 0.25}}
    world = World.draw(Truth.from_dict(truth, experiment), experiment, n, rng=np.random.default_rng(4), aa=False)
    delay = world.delays(np.arange(n), np.zeros(n, dtype=np.int64))
    assert abs(np.isfinite(world.scanned).mean() - 0.05) < 5 * math.sqrt(0.05 * 0.95 / n)
    counted = 1 - (1 - 0.2 * 0.75) * (1 - 0.05)
    assert abs(np.isfinite(delay).mean() - counted) < 5 * math.sqrt(counted * (1 - counted) / n)
    assert np.median(world.scanned[np.isfinite(world.scanned)]) == pytest.approx(40, rel=0.1)


def test_the_day_swings_around_its_mean_and_drift_adds_up() -> None:
    experiment = definition()
    truth = Truth.from_dict({"rates": {"plain": 0.2, "number": 0.2}, "swing": 0.35, "drift": "-10 %"}, experiment)
    world = World.draw(truth, experiment, 10, rng=np.random.default_rng(1), aa=False)
    assert world.level(14, 0) == pytest.approx(1.35)
    assert np.mean([world.level(hour, 0) for hour in range(24)]) == pytest.approx(1)
    assert world.level(8, 2) == pytest.approx(0.8)
    assert world.level(8, 20) == 0


def test_companies_keep_together() -> None:
    experiment = definition(audience={"unit": "company"})
    truth = Truth.from_dict({"rates": {"plain": 0.2, "number": 0.2}, "company": 4}, experiment)
    world = World.draw(truth, experiment, 8_000, rng=np.random.default_rng(1), aa=False)
    assert len(set(world.ids)) == 8_000
    assert len(set(world.units)) == pytest.approx(2_000, rel=0.1)


# -- figures -----------------------------------------------------------------------------------------------------------


def test_an_even_split_gains_nothing_over_itself_and_keeps_its_promise() -> None:
    experiment = definition(allocation={"policy": "uniform"}, audience={"holdout": 0.1})
    truth = {"rates": {"plain": 0.1, "number": 0.2}}
    found = simulate(experiment, truth=truth, n=2_000, replications=40, rng=1)
    assert abs(found.over_even.value) < 5 * found.over_even.se
    assert found.mails == pytest.approx(1_800, rel=0.02)
    assert found.even_regret.value == pytest.approx(0.05 * found.mails)
    assert found.right.value == 1.0
    assert found.time[1] == 72 * 3_600
    assert found.regret.value + found.answers.value == pytest.approx(0.2 * found.mails)


def test_false_alarms_stay_under_the_level() -> None:
    experiment = definition(allocation={"waves": 3})
    found = simulate(experiment, truth={"rates": {"plain": 0.2, "number": 0.3}}, n=1_000, replications=100, aa=True)
    alarms = found.false_alarms
    assert alarms is not None
    assert alarms.n == 100
    assert round(alarms.rate * 100) < 19  # a true 5 % gets there less than once in a million
    assert found.coverage.value > 0.85
    assert found.answers.value == pytest.approx(250)
    assert found.reached is True
    assert math.isnan(found.right.value)


def test_a_broken_promise_is_told() -> None:
    assert FalseAlarms(rate=0.031, lower=0.022, upper=0.044, promised=0.05, n=1_000).ok
    assert not FalseAlarms(rate=0.09, lower=0.08, upper=0.1, promised=0.05, n=1_000).ok


def test_a_bandit_earns_more_than_an_even_split_where_there_is_a_difference() -> None:
    experiment = definition(THREE, allocation={"min_weight": 0.01, "waves": 5})
    truth = {"rates": {"plain": 0.05, "number": 0.1, "question": 0.05}}
    found = simulate(experiment, truth=truth, n=6_000, replications=12, rng=2)
    assert found.over_even.value > 5 * found.over_even.se > 0
    assert found.guessed.value == 1.0


def test_the_best_cell_is_that_of_the_whole_list_and_the_ideal_that_of_each_segment() -> None:
    truth: dict[str, object] = {
        "segments": {
            "warm": {"share": 0.3, "rates": {"plain": 0.5, "number": 0.1}},
            "cold": {"share": 0.7, "rates": {"plain": 0.1, "number": 0.3}},
        }
    }
    outcome = play(setup(definition(), truth, 5_000), np.random.SeedSequence(1))
    assert outcome.best == 1
    assert outcome.ideal == pytest.approx(0.36 * 5_000, rel=0.03)
    assert outcome.ideal > max(outcome.answers, outcome.even, outcome.classic)


def test_a_list_that_is_too_small_to_be_tested_sends_nothing() -> None:
    experiment = definition(analysis={"baseline": 0.01}, stop={"too_small": "stop"})
    found = simulate(experiment, n=100, replications=3)
    assert found.mails == 0
    assert found.sentence().startswith("No mail goes out")
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["right"]["value"] is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "n is 0"),
        ({"replications": 1}, "replications is 1"),
        ({"start": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001  (naive on purpose)
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(definition(), **wrong)


# -- truth files -------------------------------------------------------------------------------------------------------


def problems(tmp_path: Path, text: str | bytes) -> list[str]:
    path = tmp_path / "truth.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SpecError) as caught:
        load_truth(path, definition())
    return [f"{d.line}:{d.column} {d.message}" for d in caught.value.diagnostics]


RATES = "rates: {plain: 0.1, number: 0.1}\n"
FAULTY: dict[str | bytes, tuple[str, ...]] = {
    "rates: {plain: 4 %, nmber: 5 %}": ("1:1 rates: the rate of number is missing", "1:21 rates.nmber: unknown key"),
    "rates: {plain: 4 %, number: 120 %}": ("1:29 rates.number: '120 %' is not a share in [0, 1]",),
    "rates: {plain: 4, nmber: 5 %}": ("1:16 rates.plain: 4 is not a share in [0, 1]", "1:19 rates.nmber: unknown key"),
    "swing: 10 %": ("1:1 rates are missing",),
    RATES + "spread: {}": ("2:9 spread: rates and spread exclude each other",),
    RATES + "rate: 1": ("2:1 rate: unknown key",),
    "segments:\n  warm: {share: 0.5, rates: {plain: 0.1, number: 0.1}}": ("the shares sum to 0.5, must be 1",),
    "segments:\n  warm: {share: 1, rates: {plain: x, number: 0.1}}": ("2:35 segments.warm.rates.plain: 'x' is not",),
    RATES + "delays: {median: 2h, within_day: 0.4}": ("2:34 delays.within_day: 0.4 within a day",),
    RATES + "delays_of: {other: {median: 3h}}": ("2:13 delays_of.other: unknown key",),
    RATES + "guardrails: {opened: {plain: 0.1, number: 0.1}}": ("2:14 guardrails.opened: unknown key",),
    RATES + "joins: {other: 1d}": ("2:9 joins.other: unknown key",),
    RATES + "joins: {plain: 1d}": ("2:16 joins.plain: is the control",),
    RATES + "joins: {number: 1d}": ("2:8 joins: one variant alone is no test",),
    RATES + "joins: {number: soon}": ("2:17 joins.number: 'soon' is not a duration",),
    RATES + "drift: 3": ("2:8 drift: 3 is not in [-0.5, 0.5]",),
    "spread: {level: [1]}": ("1:17 spread.level: [1] are not two positive numbers",),
    "": ("1:1 the file is empty",),
    b"rates: \xff": ("1:8 the byte 0xFF is not UTF-8",),
    "rates: {plain: 0.1, plain: 0.1}": ("1:21",),
}


@pytest.mark.parametrize("text", FAULTY)
def test_every_problem_of_a_truth_file_is_told_at_its_place(tmp_path: Path, text: str | bytes) -> None:
    told = problems(tmp_path, text)
    for wanted in FAULTY[text]:
        assert any(wanted in line for line in told), told


def test_a_truth_file_reads_what_is_written_of_it(tmp_path: Path) -> None:
    path = tmp_path / "truth.yaml"
    path.write_text("rates: {plain: 4 %, number: 0.05}\ndelays: {median: 1h, within_day: 80 %}\nmachines: {share: 0.3}")
    truth = load_truth(path, definition())
    assert truth.rates == {"plain": 0.04, "number": 0.05}
    assert Truth.from_dict(truth.to_dict(), definition()) == truth
    assert truth.source == "file"


def test_rates_are_drawn_from_the_history_where_there_is_enough_of_it() -> None:
    rng, tables = np.random.default_rng(6), []
    for _ in range(400):
        rates = Spread(level=(40.0, 960.0)).draw(3, rng)
        n = np.array([4_000, 4_000, 4_000])
        tables.append((n, rng.binomial(n, rates)))
    fitted = Spread.from_history(tables)
    assert fitted is not None
    assert fitted.sd == pytest.approx(0.25, abs=0.03)
    assert fitted.level[0] / sum(fitted.level) == pytest.approx(0.042, abs=0.003)
    assert Spread.from_history(tables[:4]) is None
    assert Spread.from_history([(np.array([10, 10]), np.array([0, 1]))] * 50) is None


def test_without_a_history_headline_tests_or_usual_opens_stand_in() -> None:
    clicks, opens = definition(analysis={"baseline": 0.03}), definition(metrics={"primary": "opened"})
    truth = typical_truth(clicks)
    assert truth.source == "headlines"
    assert truth.spread is not None
    draws = np.array([truth.draw(("a", "b", "c"), np.random.default_rng(i))[0] for i in range(2_000)])
    alike = np.ptp(draws, axis=1) == 0
    assert abs(alike.mean() - 1 / 3) < 5 * math.sqrt(2 / 9 / 2_000)
    assert np.log(draws[~alike] / 0.03).std() == pytest.approx(0.25, abs=0.02)
    assert typical_truth(opens).source == "typical"
    assert typical_truth(opens, Spread()).source == "history"


# -- words and commands -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> Simulation:
    truth = {"rates": {"plain": 0.04, "number": 0.05, "question": 0.04}}
    return simulate(definition(THREE, allocation={"waves": 3}), truth=truth, n=3_000, replications=16, rng=1)


def test_the_sentence_says_what_the_figures_say(small: Simulation) -> None:
    sentence = small.sentence()
    assert "With 3,000 recipients this test finds the 1.0 points between the best variant and the next" in sentence
    assert "even split" in sentence
    assert small.reached is False
    assert any("it takes about" in step for step in small.advice())
    assert any("with two variants" in step for step in small.advice())
    assert any("metrics.primary: opened" in step for step in small.advice())
    japanese = small.to_text("ja")
    assert "受信者 3,000 人の場合" in japanese
    assert len(small.advice("ja")) == len(small.advice())


def test_a_gain_within_the_noise_is_called_none(small: Simulation) -> None:
    gain = replace(small.over_even, value=3.0, se=4.0)
    assert "about as many clicks" in replace(small, over_even=gain).sentence()
    loss = replace(small.over_even, value=-30.0, se=4.0)
    assert "30 fewer clicks" in replace(small, over_even=loss).sentence()


def test_shares_are_said_in_tenths_or_hundredths(small: Simulation) -> None:
    for share, words in ((0.7, "7 of 10 cases"), (0.04, "4 of 100 cases"), (0.996, "100 of 100 cases")):
        assert words in replace(small, right=replace(small.right, value=share)).sentence()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert _run(["init", "."]) == 0
    assert _run(["new", "subjects", "--kind", "subject"]) == 0
    return tmp_path


def test_the_command_says_in_words_and_numbers_what_the_library_found(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    options = ["simulate", "subjects", "--recipients", "1500", "--replications", "6", "--jobs", "1", "--seed", "3"]
    assert _run(options) == 0
    assert "With 1,500 recipients" in capsys.readouterr().out
    assert _run([*options, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    exp = ab.load(project / "experiments" / "subjects.yaml")
    assert told == json.loads(json.dumps(ab.simulate(exp, n=1_500, replications=6, rng=3).to_dict()))
    assert (told["format_version"], told["truth"]["source"]) == (1, "headlines")
    assert _run([*options, "--aa", "--language", "ja"]) == 0
    assert "偽陽性" in capsys.readouterr().out


def test_the_command_points_into_a_faulty_truth_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "truth.yaml").write_text("rates:\n  plain: 4 %\n  wrong: 5 %\n")
    assert _run(["simulate", "subjects", "--recipients", "900", "--truth", "truth.yaml"]) == 2
    assert "truth.yaml:3:3" in capsys.readouterr().err


def test_the_command_asks_for_a_list(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["simulate", "subjects"]) == 2
    assert "--recipients" in capsys.readouterr().err
    (project / "leads.csv").write_text("email\n" + "".join(f"p{i}@example.com\n" for i in range(300)))
    assert _run(["audience", "import", "leads.csv"]) == 0
    truth = project / "truth.yaml"
    cells = [cell.name for cell in ab.load(project / "experiments" / "subjects.yaml").cells]
    truth.write_text("rates:\n" + "".join(f"  {cell}: {4 + i} %\n" for i, cell in enumerate(cells)))
    options = ["simulate", "subjects", "--replications", "4", "--jobs", "1", "--truth", "truth.yaml"]
    assert _run(options) == 1  # far too small a list
    assert "With 300 recipients" in capsys.readouterr().out


def test_an_account_with_mailings_of_its_own_is_simulated_from_them() -> None:
    with Engine("sqlite://", transport=Memory(), secret=b"0123456789abcdef", clock=lambda: START) as engine:
        people = [Recipient(id=f"r{i}", email=f"r{i}@example.com", attributes={}, zone=None) for i in range(200)]
        for number in range(5):
            past = definition(name=f"past-{number}", allocation={"policy": "uniform"})
            engine.apply(engine.plan(past, people, template=TEMPLATE), now=START)
            engine.tick(now=START, only=past.name)
            for message in list(engine.store.messages(past.name))[: 40 + 5 * number]:
                click = Event(type=EventType.CLICKED, at=START + timedelta(hours=1), message_id=message.id)
                engine.record(click, now=START + timedelta(hours=1))
        later = START + timedelta(days=4)
        found = engine.simulate(definition(), replications=3, now=later)
        assert (found.truth.source, found.recipients) == ("history", 200)
        assert found.truth.spread is not None
        assert found.truth.spread.level[0] / sum(found.truth.spread.level) == pytest.approx(0.25, abs=0.01)
        assert "this account's earlier mailings" in found.to_text()
