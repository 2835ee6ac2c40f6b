"""How a running experiment shares its mail: goals, stopped and added arms, segments, standing experiments, crashes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abmail._spec_allocation import Allocation
from abmail._spec_types import Goal, Policy
from abmail.bandit import faded
from abmail.check import check
from abmail.engine import Engine
from abmail.errors import SpecError, StoreError
from abmail.events import Event, EventType
from abmail.recipient import Recipient
from abmail.send import Memory
from abmail.spec import Experiment
from abmail.stats import Counts, compare
from abmail.store import Epoch, State

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)  # a Monday
TEMPLATE = '<p>{{ recipient.name }}</p><a href="https://example.com/x">go</a>'
SECRET = b"0123456789abcdef"
_TOGETHER = 900  # seconds; answers reach the engine as a tracker brings them, some in a transaction


def definition(name: str = "spring", subjects: tuple[str, ...] = ("plain", "number"), **parts: Any) -> Experiment:
    return Experiment.from_dict(
        {
            "spec": 1,
            "name": name,
            "factors": {"subject": {subject: f"The {subject} one" for subject in subjects}},
            "control": {"subject": "plain"},
            "message": {"template": "mails/x.html.j2", "from": "News <news@example.com>"},
            **parts,
        }
    )


def people(n: int, *, first: int = 0, **columns: tuple[str, ...]) -> list[Recipient]:
    return [
        Recipient(
            id=f"r{i}",
            email=f"r{i}@c{i % 7}.example.com",
            attributes={"name": f"Person {i}", **{key: values[i % len(values)] for key, values in columns.items()}},
            zone=None,
        )
        for i in range(first, first + n)
    ]


class Field:
    """An engine in memory with a clock, and people who click with the given chances some minutes after the send."""

    def __init__(self, url: str = "sqlite://", *, seed: int = 5) -> None:
        self.now = NOW
        self.transport = Memory()
        self.engine = Engine(url, transport=self.transport, secret=SECRET, clock=lambda: self.now)
        self.rng = np.random.default_rng(seed)
        self.waiting: list[Event] = []
        self.seen = 0

    def apply(self, experiment: Experiment, recipients: list[Recipient] | None = None) -> None:
        self.engine.apply(self.engine.plan(experiment, recipients, template=TEMPLATE))

    def hour(self, rates: dict[str, float], *, hours: float = 1.0, **unwanted: dict[str, float]) -> dict[str, float]:
        """Tick, let people answer and time pass; returns the weights of the epoch that was opened, if any."""
        tick = self.engine.tick()
        for message in self.transport.messages[self.seen :]:
            subject = message.subject.split()[1]
            for kind, chances in ({"clicked": rates} | unwanted).items():
                if self.rng.random() < chances.get(subject, 0.0):
                    at = self.now + timedelta(minutes=float(self.rng.exponential(20.0)))
                    self.waiting.append(Event(type=EventType(kind), at=at, message_id=message.message_id))
        self.seen = len(self.transport.messages)
        self.now += timedelta(hours=hours)
        due = sorted((event for event in self.waiting if event.at <= self.now), key=lambda event: event.at)
        self.waiting = [event for event in self.waiting if event.at > self.now]
        for _, some in groupby(due, key=lambda event: event.at.timestamp() // _TOGETHER):
            batch = list(some)
            self.engine.record_all(batch, now=batch[-1].at)
        return dict(tick.opened[0].weights) if tick.opened else {}

    def subjects(self, first: int = 0) -> Counter[str]:
        return Counter(message.subject.split()[1] for message in self.transport.messages[first:])


@pytest.fixture
def field(in_bulk: None) -> Iterator[Field]:
    made = Field()
    yield made
    made.engine.close()


# --- goals and policies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("goal", "cells", "floor"),
    [
        ("learn", 2, 0.20), ("balance", 2, 0.10), ("earn", 2, 0.01), ("learn", 4, 0.10), ("balance", 8, 0.05),
        ("earn", 4, 0.01), ("earn", 40, 0.001),
    ],
)  # fmt: skip
def test_each_goal_has_its_floor_and_all_floors_together_stay_under_two_fifths_or_a_25th(
    goal: str, cells: int, floor: float
) -> None:
    subjects = ("plain", *(f"s{i}" for i in range(cells - 1)))
    assert definition(subjects=subjects, allocation={"goal": goal}).min_weight == pytest.approx(floor)


def test_a_given_floor_stands_above_that_of_the_goal() -> None:
    assert definition(allocation={"goal": "learn", "min_weight": 0.05}).min_weight == 0.05


@pytest.mark.parametrize(
    ("allocation", "said"),
    [
        ({"policy": "uniform", "goal": "earn"}, "has no meaning with policy uniform"),
        ({"policy": "test_then_send", "min_weight": 0.2}, "has no meaning with policy test_then_send"),
        ({"policy": "test_then_send", "waves": 5}, "there are two, the test and the rest"),
        ({"policy": "top_two", "goal": "earn"}, "finds the best at the price of earning less"),
        ({"policy": "epsilon_greedy", "segments": "industry"}, "does not learn for each segment"),
        ({"policy": "contextual"}, "needs the attributes that it goes by"),
        ({"features": {"industry": ["retail"]}}, "has no meaning with policy thompson"),
        ({"policy": "contextual", "features": {"days": [90, 30]}}, "each begins a range"),
        ({"policy": "contextual", "features": {"industry": ["retail", "other"]}}, "none of them 'other'"),
        ({"policy": "contextual", "features": {}}, "no attribute is named"),
        ({"half_life": "7d"}, "is for experiments without an end"),
        ({"standing": True, "waves": 12}, "an epoch takes everybody who waits"),
        ({"standing": True, "policy": "test_then_send"}, "has an end, standing: true has none"),
        ({"standing": True, "every": "2d", "half_life": "1d"}, "shorter than every"),
        ({"standing": "yes"}, "expected true or false"),
        ({"segments": ""}, "names no attribute"),
        ({"goal": "erning"}, "did you mean 'earn'?"),
    ],
)
def test_keys_that_contradict_each_other_are_refused_with_what_to_do(allocation: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as refused:
        definition(allocation=allocation)
    assert any(said in f"{d.message} {d.hint}" for d in refused.value.diagnostics), refused.value


@pytest.mark.parametrize(
    "allocation",
    [
        {"goal": "earn"}, {"policy": "test_then_send", "first_wave": 0.1, "every": "4h"}, {"assignment": "quota"},
        {"standing": True, "every": "1d", "half_life": "30d"}, {"segments": "industry"}, {"policy": "exploration"},
        {"policy": "contextual", "features": {"industry": ["steel"], "days": [30, 90.5]}},
    ],
)  # fmt: skip
def test_a_resolved_definition_reads_back_as_itself_and_passes_the_check(allocation: dict[str, Any]) -> None:
    made = definition(allocation=allocation)
    assert Experiment.from_dict(made.resolved()) == made
    assert not [found for found in check(made) if found.severity == "error"]


def test_new_keys_leave_the_hash_of_definitions_that_do_not_use_them() -> None:
    plain = definition()
    assert (
        definition(allocation={"goal": "balance", "assignment": "hash", "standing": False}).spec_hash == plain.spec_hash
    )
    assert definition(allocation={"goal": "earn"}).spec_hash != plain.spec_hash


def test_the_goal_earn_leans_harder_on_the_leader_than_learn_does(field: Field) -> None:
    rates = {"plain": 0.10, "number": 0.25}
    for goal in ("earn", "learn"):
        one = Field()
        one.apply(definition(allocation={"goal": goal}), people(2_000))
        weights = [one.hour(rates) for _ in range(6)]
        one.engine.close()
        assert weights[-1]["number"] == pytest.approx(0.99 if goal == "earn" else 0.80, abs=0.01)


@pytest.mark.parametrize(
    ("goal", "policy", "factors", "lean"),
    [
        ("learn", "thompson", 3, 1.0), ("balance", "thompson", 1, 1.0), ("balance", "thompson", 2, 2.0),
        ("earn", "thompson", 1, 4.0), ("earn", "contextual", 1, 4.0), ("balance", "contextual", 2, 1.0),
        ("balance", "top_two", 2, 1.0), ("balance", "uniform", 2, 1.0),
    ],
)  # fmt: skip
def test_a_goal_leans_on_the_leader_where_that_earns(goal: Goal, policy: Policy, factors: int, lean: float) -> None:
    assert Allocation(goal=goal, policy=policy).lean(factors) == lean
    assert Allocation(goal=goal, policy=policy, standing=True).lean(factors) == 1.0


def test_with_several_factors_the_goal_balance_lies_between_learn_and_earn_and_says_so() -> None:
    subjects = {name: f"The {name} one" for name in ("plain", "number")}
    factors = {"subject": subjects, "cta": {"go": "Go", "see": "See"}}
    rates = {"plain": 0.10, "number": 0.18}
    shares, said = {}, {}
    for goal in ("learn", "balance", "earn"):
        one = Field()
        allocation = {"goal": goal, "min_weight": 0.01}
        control = {"subject": "plain", "cta": "go"}
        one.apply(definition(factors=factors, control=control, allocation=allocation), people(800))
        weights = [one.hour(rates) for _ in range(4)]
        shares[goal] = weights[-1]["plain+go"] + weights[-1]["plain+see"]
        report = one.engine.analyze("spring")
        assert report.allocation is not None
        said[goal] = report.allocation.statements[0], report.epochs[-1].reason_ja
        one.engine.close()
    assert shares["learn"] > shares["balance"] > shares["earn"]
    assert "leans a little on the leader" in said["balance"][0]
    assert "やや寄せる" in said["balance"][1]


def test_test_then_send_tests_its_share_evenly_waits_and_sends_the_best_to_everybody_else(field: Field) -> None:
    field.apply(definition(allocation={"policy": "test_then_send", "first_wave": 0.25, "every": "4h"}), people(1_200))
    assert field.hour({"plain": 0.1, "number": 0.4}) == {"plain": 0.5, "number": 0.5}
    assert len(field.transport.messages) == 300
    assert [field.hour({}) for _ in range(3)] == [{}, {}, {}]
    assert field.hour({}) == {"plain": 0.0, "number": 1.0}
    assert field.subjects(300) == {"number": 900}
    field.now += timedelta(days=5)
    report = field.engine.analyze("spring")
    assert report.decision.state == "winner"
    assert report.arm("number").n > 900


@pytest.mark.parametrize("policy", ["top_two", "exploration", "epsilon_greedy"])
def test_every_policy_of_the_definition_keeps_its_floor_and_finds_a_clear_leader(field: Field, policy: str) -> None:
    field.apply(definition(subjects=("plain", "number", "bad"), allocation={"policy": policy}), people(1_500))
    for _ in range(4):
        weights = field.hour({"plain": 0.1, "number": 0.4, "bad": 0.02})
    assert max(weights, key=lambda name: weights[name]) == "number"
    assert min(weights.values()) >= 0.1 - 1e-6
    assert sum(weights.values()) == 1.0


def test_quota_gives_each_cell_its_share_of_a_small_wave_to_within_one_mail(field: Field) -> None:
    field.apply(definition(allocation={"policy": "uniform", "assignment": "quota"}), people(31))
    field.engine.tick()
    assert sorted(field.subjects().values()) == [15, 16]
    assert {m.propensity for m in field.engine.store.messages("spring")} == {0.5}


def test_quota_splits_a_wave_as_one_whatever_the_learning(field: Field) -> None:
    field.apply(definition(allocation={"assignment": "quota"}), people(1_000))
    for _ in range(5):
        before = len(field.transport.messages)
        weights = field.hour({"plain": 0.1, "number": 0.3})
        got = field.subjects(before)
        for name, weight in weights.items():
            assert abs(got[name] - weight * got.total()) <= 1


# --- what the account knows ------------------------------------------------------------------------------------------


def test_the_rate_and_the_delays_of_earlier_experiments_are_the_start_of_a_new_one_and_said_so(field: Field) -> None:
    for month in ("january", "february", "march"):
        field.apply(definition(month, allocation={"policy": "uniform"}), people(600))
        field.hour({"plain": 0.2, "number": 0.2})
        field.now += timedelta(days=7)
    field.apply(definition("april", subjects=("plain", "number")), people(600))
    field.hour({"plain": 0.2, "number": 0.2})
    policy = field.engine.store.epochs("april")[0].policy
    assert policy["prior"][0] / sum(policy["prior"]) == pytest.approx(0.2, abs=0.03)
    assert sum(policy["prior"]) <= 20.0
    shown = field.engine.analyze("april").allocation
    assert shown is not None
    assert shown.prior_experiments == 3
    assert shown.prior_rate == pytest.approx(0.2, abs=0.03)
    assert any("learnt from 3 past experiments" in text for text in shown.statements)
    half = next(p.share for p in shown.delays[0].points if p.seconds >= 3_600)
    assert half > 0.8  # the account's people click within the hour; by the default curve it would be a third


def test_what_came_after_an_experiment_began_does_not_move_its_prior(field: Field) -> None:
    for month in ("january", "february", "march"):
        field.apply(definition(month, allocation={"policy": "uniform"}), people(600))
        field.hour({"plain": 0.2, "number": 0.2})
        field.now += timedelta(days=7)
    field.apply(definition("april"), people(600))
    field.hour({})
    before = field.engine.analyze("april").allocation
    field.apply(definition("may", allocation={"policy": "uniform"}), people(600))
    field.hour({"plain": 0.9, "number": 0.9})
    field.now += timedelta(days=7)
    later = Engine(field.engine.store, secret=SECRET, clock=lambda: field.now).analyze("april").allocation
    assert before is not None
    assert later is not None
    assert later.prior_rate == before.prior_rate == pytest.approx(0.2, abs=0.03)


# --- arms that stop --------------------------------------------------------------------------------------------------


def three(**allocation: Any) -> Experiment:
    return definition(subjects=("plain", "number", "joke"), allocation=allocation)


def test_an_arm_stopped_by_hand_gets_nothing_from_the_next_epoch_on_and_leaves_a_trail(field: Field) -> None:
    field.apply(three(), people(1_500))
    rates = {"plain": 0.2, "number": 0.2, "joke": 0.2}
    field.hour(rates)
    assert field.engine.stop_arm("spring", "joke", why="not our tone")
    assert not field.engine.stop_arm("spring", "joke")
    before = len(field.transport.messages)
    weights = field.hour(rates)
    assert weights["joke"] == 0.0
    assert sum(weights.values()) == 1.0
    assert "joke" not in field.subjects(before)
    assert field.engine.status()[0].stopped == {"joke": "not our tone"}
    shown = field.engine.analyze("spring").allocation
    assert shown is not None
    assert [(s.arm, s.by, s.reason, s.reason_ja) for s in shown.stopped] == [("joke", "hand", "not our tone", "")]


def test_why_waves_and_stops_were_made_is_said_in_the_language_of_the_page(field: Field) -> None:
    field.apply(three(), people(600))
    field.hour({})
    field.engine.stop_arm("spring", "joke")
    field.hour({})
    report = field.engine.analyze("spring")
    assert [(one.reason, one.reason_ja) for one in report.epochs] == [
        ("first wave: Thompson sampling over what is known so far", "最初の配信：これまでの結果に基づくトンプソン抽出"),
        ("Thompson sampling over what is known so far", "これまでの結果に基づくトンプソン抽出"),
    ]
    english, japanese = report.to_html(), report.to_html(language="ja")
    for told, language in (("Thompson sampling over", "en"), ("stopped by hand", "en"), ("トンプソン抽出", "ja")):
        assert (told in english, told in japanese) == (language == "en", language == "ja")
    assert "理由：手動で停止しました。" in japanese
    assert "理由：手動で停止しました。" in report.to_markdown(language="ja")


def test_the_control_and_the_last_arm_are_not_stopped_alone(field: Field) -> None:
    field.apply(three(), people(300))
    with pytest.raises(ValueError, match="plain is the control"):
        field.engine.stop_arm("spring", "plain")
    with pytest.raises(ValueError, match="no cell 'jok'"):
        field.engine.stop_arm("spring", "jok")
    assert field.engine.stop_arm("spring", "joke")
    assert field.engine.stop_arm("spring", "number")  # the control goes on


def test_an_arm_that_breaks_a_limit_is_stopped_by_the_engine_with_the_finding(field: Field) -> None:
    parts: dict[str, Any] = {"metrics": {"guardrails": {"unsubscribed": 0.01}}, "stop": {"when": []}}
    field.apply(definition(subjects=("plain", "number", "joke"), **parts), people(1_500))
    rates = {"plain": 0.1, "number": 0.1, "joke": 0.3}
    for _ in range(4):
        weights = field.hour(rates, unsubscribed={"joke": 0.25})
    assert weights["joke"] == 0.0
    assert min(weights["plain"], weights["number"]) > 0.0
    (stopped,) = field.engine.store.stopped_arms("spring")
    assert (stopped.cell, stopped.by) == ("joke", "guardrail")
    assert "joke" in stopped.reason
    report = field.engine.analyze("spring")
    assert report.decision.arm != "joke"  # though it has the most clicks
    assert any("gets no more mail" in action for action in report.actions)
    assert any("止めました" in action for action in report.actions_ja)
    assert report.allocation is not None
    (said,) = [statement for statement in report.allocation.statements_ja if "UTCに" in statement]
    assert "配信停止率の上限を超え" in said.split("止めました。")[1]
    assert "limit" not in said


def test_a_control_that_breaks_a_limit_is_not_stopped_but_said_to_be_the_offender(field: Field) -> None:
    parts: dict[str, Any] = {"metrics": {"guardrails": {"unsubscribed": 0.01}}, "stop": {"when": []}}
    field.apply(definition(**parts), people(1_200))
    for _ in range(4):
        weights = field.hour({"plain": 0.1, "number": 0.1}, unsubscribed={"plain": 0.25})
    assert weights["plain"] > 0.0
    assert not field.engine.store.stopped_arms("spring")
    assert any("It is the control" in action for action in field.engine.analyze("spring").actions)


def test_an_arm_that_won_but_was_stopped_is_not_shipped(field: Field) -> None:
    parts: dict[str, Any] = {"metrics": {"window": "1h"}, "stop": {"inconclusive": "send_control"}}
    field.apply(definition(**parts), people(2_000))
    rates = {"plain": 0.05, "number": 0.5}
    field.hour(rates)
    field.engine.stop_arm("spring", "number", why="the offer is gone")
    opened = [weights for _ in range(3) if (weights := field.hour(rates))]
    assert opened
    assert all(weights == {"plain": 1.0, "number": 0.0} for weights in opened)
    verdict = field.engine.store.experiment("spring").verdict
    assert verdict is None or verdict["arm"] != "number"


# --- arms that are added ---------------------------------------------------------------------------------------------


def test_a_level_at_the_end_of_the_factor_joins_a_running_test_at_the_floor(field: Field) -> None:
    field.apply(definition(), people(2_000))
    rates = {"plain": 0.2, "number": 0.3, "joke": 0.9}
    for _ in range(2):
        field.hour(rates)
    field.apply(definition(subjects=("plain", "number", "joke")))
    weights = field.hour(rates)
    assert weights["joke"] == pytest.approx(0.1, abs=1e-5)
    assert field.engine.store.epochs("spring")[0].weights == (0.5, 0.5)
    assert field.hour(rates)["joke"] > 0.5
    field.now += timedelta(days=5)
    report = field.engine.analyze("spring")
    assert [arm.name for arm in report.arms] == ["plain", "number", "joke"]
    assert report.srm.ok


@pytest.mark.parametrize("subjects", [("joke", "plain", "number"), ("plain", "joke", "number")])
def test_a_level_at_any_place_joins_after_the_cells_that_there_are(field: Field, subjects: tuple[str, ...]) -> None:
    field.apply(definition(), people(2_000))
    rates = {"plain": 0.2, "number": 0.3, "joke": 0.9}
    field.hour(rates)
    before = field.subjects()
    field.apply(definition(subjects=subjects))
    assert field.hour(rates)["joke"] == pytest.approx(0.1, abs=1e-5)
    field.now += timedelta(days=5)
    report = field.engine.analyze("spring")
    assert [arm.name for arm in report.arms] == ["plain", "number", "joke"]
    assert {arm.name: arm.n for arm in report.arms} == field.subjects()
    assert before["joke"] == 0


def test_a_level_of_a_further_factor_joins_and_each_mail_keeps_its_cell(field: Field) -> None:
    def factorial(*ctas: str) -> Experiment:
        subjects = {name: f"The {name} one" for name in ("plain", "number")}
        control = {"subject": "plain", "cta": "go"}
        return definition(factors={"subject": subjects, "cta": {cta: cta.title() for cta in ctas}}, control=control)

    field.apply(factorial("go", "see"), people(4_000))
    rates = {"plain": 0.1, "number": 0.5}
    for _ in range(2):
        field.hour(rates)
    field.apply(factorial("go", "buy", "see"))
    cells = ["plain+go", "plain+see", "number+go", "number+see", "plain+buy", "number+buy"]
    weights = field.hour(rates)
    assert list(weights) == cells
    assert weights["plain+buy"] == weights["number+buy"] == pytest.approx(0.4 / 6, abs=1e-5)
    learned = field.hour(rates)
    assert learned["number+buy"] > 2 * learned["plain+buy"]  # what is known of a subject holds with the new button, too
    field.now += timedelta(days=5)
    report = field.engine.analyze("spring")
    assert [arm.name for arm in report.arms] == cells
    sent = field.subjects()
    for subject in ("plain", "number"):
        assert sum(arm.n for arm in report.arms if arm.cell["subject"] == subject) == sent[subject]
    by_subject = {level.level: level for level in report.factors[0].levels}
    assert by_subject["number"].n == sent["number"]
    assert by_subject["number"].effect == pytest.approx(0.4, abs=0.1)
    assert {level.level for level in report.factors[1].levels} == {"go", "buy", "see"}
    assert report.acting_together is not None
    assert report.acting_together < 0.5
    assert "act each on its own" in report.to_markdown() or "not known yet" in report.to_markdown()
    assert all((level.ci_lower or 0.0) <= 0.0 <= (level.ci_upper or 0.0) for level in report.factors[1].levels)


def test_a_level_that_goes_or_a_changed_text_still_breaks_a_running_test(field: Field) -> None:
    field.apply(definition(), people(500))
    with pytest.raises(StoreError, match="would make its result worthless"):
        field.apply(definition(subjects=("plain", "joke")))
    changed: dict[str, Any] = {"factors": {"subject": {"plain": "The plain one", "number": "Another", "joke": "Ha"}}}
    with pytest.raises(StoreError, match=r"factors\.subject\.number"):
        field.apply(definition(**changed))


def test_a_new_arm_is_not_given_the_list_by_a_prior_that_knows_nothing(field: Field) -> None:
    field.apply(definition(allocation={"goal": "earn"}), people(4_000))
    rates = {"plain": 0.03, "number": 0.03, "joke": 0.03}
    for _ in range(2):
        field.hour(rates)
    field.apply(definition(subjects=("plain", "number", "joke"), allocation={"goal": "earn"}))
    assert field.hour(rates)["joke"] == pytest.approx(0.01, abs=1e-5)
    assert field.hour(rates)["joke"] < 0.75


# --- segments --------------------------------------------------------------------------------------------------------


def test_segments_learn_for_themselves_and_the_comparison_is_stratified_by_them(field: Field) -> None:
    exp = definition(allocation={"segments": "industry"}, stop={"when": []})
    field.apply(exp, people(3_000, industry=("steel", "books")))
    own = {"steel": {"plain": 0.35, "number": 0.1}, "books": {"plain": 0.1, "number": 0.35}}
    industry = {f"r{i}@c{i % 7}.example.com": ("steel", "books")[i % 2] for i in range(3_000)}
    for _ in range(5):
        before = len(field.transport.messages)
        field.engine.tick()
        for message in field.transport.messages[before:]:
            chance = own[industry[message.recipient]][message.subject.split()[1]]
            if field.rng.random() < chance:
                at = field.now + timedelta(minutes=10)
                field.waiting.append(Event(type=EventType.CLICKED, at=at, message_id=message.message_id))
        field.now += timedelta(hours=1)
        field.engine.record_all(field.waiting)
        field.waiting = []
    last = field.engine.store.epochs("spring")[-1]
    assert last.segments["steel"][0] > 0.8
    assert last.segments["books"][1] > 0.8
    ledger = list(field.engine.store.messages("spring"))
    shares = {round(m.propensity, 6) for m in ledger if m.epoch == last.number and m.propensity is not None}
    assert shares == {round(w, 6) for weights in last.segments.values() for w in weights}
    counts = field.engine.counts("spring")
    assert set(counts.stratum_names) >= {"steel", "books"}
    assert int(counts.n.sum()) == len(field.transport.messages)
    report = field.engine.analyze("spring", by="industry")
    assert report.srm.ok
    assert {s.segment: s.winner for s in report.segments} == {"steel": "plain", "books": "number"}
    assert report.allocation is not None
    assert {s.segment for s in report.allocation.segments} == {"steel", "books"}
    with pytest.raises(ValueError, match="shared by industry"):
        field.engine.analyze("spring", by="domain")


def test_a_contextual_policy_shares_the_mail_by_what_is_known_of_the_recipients(field: Field) -> None:
    allocation = {"policy": "contextual", "features": {"role": ["sales", "it"], "days": [30]}, "min_weight": 0.05}
    field.apply(
        definition(allocation=allocation, stop={"when": []}), people(1_500, role=("sales", "it"), days=("7", "60", "x"))
    )
    role = {f"r{i}@c{i % 7}.example.com": ("sales", "it")[i % 2] for i in range(1_500)}
    likes = {"sales": {"plain": 0.5, "number": 0.1}, "it": {"plain": 0.1, "number": 0.5}}
    for _ in range(3):
        before = len(field.transport.messages)
        field.engine.tick()
        chances = [
            (m.message_id, likes[role[m.recipient]][m.subject.split()[1]]) for m in field.transport.messages[before:]
        ]
        at = field.now + timedelta(minutes=10)
        clicks = [i for i, chance in chances if field.rng.random() < chance]
        field.engine.record_all([Event(type=EventType.CLICKED, at=at, message_id=i) for i in clicks], now=at)
        field.now += timedelta(hours=1)
    last = field.engine.store.epochs("spring")[-1]
    assert set(last.segments) == {f"{r}|{d}" for r in ("sales", "it") for d in ("under 30", "from 30", "unknown")}
    assert all(shares[name.startswith("it")] > 0.7 for name, shares in last.segments.items())
    assert last.policy["name"] == "contextual"
    assert field.engine.analyze("spring").srm.ok


def test_a_segment_is_that_of_the_moment_in_which_the_cell_was_dealt(field: Field) -> None:
    field.apply(definition(allocation={"segments": "stage", "policy": "thompson"}), people(400, stage=("warm",)))
    field.hour({"plain": 0.2, "number": 0.2})
    field.engine.store.import_recipients(people(400, stage=("hot",)), now=field.now)
    found = field.engine.store.snapshot("spring", n_cells=2)
    assert set(found.strata) == {"warm"}


# --- standing experiments --------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 300), st.floats(0, 1)), min_size=1, max_size=40),
    st.floats(0.5, 0.99),
)
def test_faded_counts_keep_each_arm_within_half_a_success_of_the_exact_sum(
    epochs: list[tuple[int, float]], base: float
) -> None:
    n = np.array([[size, size] for size, _ in epochs])
    k = np.array([[int(size * rate), size - int(size * rate)] for size, rate in epochs])
    keep = base ** np.arange(len(epochs))[::-1]
    result = faded(Counts(n, k), keep)
    assert np.abs(result.successes.sum(axis=0) - keep @ k).max() <= 0.5 + 1e-9
    assert (result.exposure >= result.successes).all()
    assert (result.exposure <= result.n).all()


@pytest.mark.parametrize("keep", [[0.5], [0.5, 1.5], [0.5, -0.1], [0.5, float("nan")]])
def test_parts_that_are_no_fractions_for_each_row_are_refused(keep: list[float]) -> None:
    with pytest.raises(ValueError, match="must be 2 fractions"):
        faded(Counts([[1, 1], [1, 1]], [[0, 0], [0, 0]]), keep)


def test_a_standing_experiment_follows_a_drift_of_weeks_and_dethrones_its_champion(field: Field) -> None:
    exp = definition(allocation={"standing": True, "every": "1d", "half_life": "7d"}, metrics={"window": "24h"})
    first = {"plain": 0.15, "number": 0.35}
    later = {"plain": 0.35, "number": 0.15}
    for day in range(56):
        field.apply(exp, people(60, first=60 * day))
        field.hour(first if day < 28 else later, hours=24)
    epochs = field.engine.store.epochs("spring")
    assert len(epochs) == 56
    assert {e.size for e in epochs} == {60}
    assert epochs[27].weights[1] > 0.8
    assert epochs[55].weights[0] > 0.8
    report = field.engine.analyze("spring")
    assert report.state == "running"
    assert report.method.name == "anytime"
    assert report.srm.ok
    assert report.allocation is not None
    champions = [c.arm for c in report.allocation.champions]
    assert champions[-1] == "plain"
    assert "number" in champions
    assert any("before, number did" in text for text in report.allocation.statements)
    assert field.engine.store.experiment("spring").verdict is None
    assert field.engine.status()[0].planned_epochs == 0


def test_without_a_half_life_old_answers_hold_the_champion_longer(in_bulk: None) -> None:
    found = {}
    for half_life in (None, "5d"):
        one = Field()
        extra = {} if half_life is None else {"half_life": half_life}
        exp = definition(allocation={"standing": True, "every": "1d", **extra}, metrics={"window": "24h"})
        for day in range(20):
            one.apply(exp, people(60, first=60 * day))
            one.hour({"plain": 0.15, "number": 0.3} if day < 14 else {"plain": 0.3, "number": 0.15}, hours=24)
        found[half_life] = one.engine.store.epochs("spring")[-1].weights[0]
        one.engine.close()
    assert found["5d"] > found[None] + 0.2


def test_a_day_on_which_nobody_comes_opens_no_epoch(field: Field) -> None:
    exp = definition(allocation={"standing": True, "every": "1d"})
    field.apply(exp, people(20))
    assert field.hour({}, hours=24)
    assert not field.hour({}, hours=24)
    field.apply(exp, people(20, first=20))
    assert field.hour({}, hours=24)
    assert [e.number for e in field.engine.store.epochs("spring")] == [0, 1]


# --- statistics with arms that come and go ---------------------------------------------------------------------------


def test_false_alarms_stay_at_their_level_when_an_arm_stops_and_one_joins() -> None:
    """250 A/A experiments of 8 looks at the 5 % level, at which more than 35 alarms are rarer than 1e-6."""
    rng = np.random.default_rng(20_261_127)
    plan = np.full(8, 1 / 8)
    alarms = broken = 0
    for _ in range(250):
        n, weights = np.zeros((8, 4), dtype=int), np.zeros((8, 4))
        for t in range(8):
            active = np.array([True, t < 4, True, t >= 3])
            share = np.where(active, rng.uniform(0.1, 1.0, 4), 0.0)
            weights[t] = share / share.sum()
            n[t] = rng.multinomial(400, weights[t])
        k = rng.binomial(n, 0.1)
        result = compare(Counts(n, k, weights=weights), control=0, alpha=0.05, weights=plan, plan=plan)
        alarms += any(arm.p_value is not None and arm.p_value < 0.05 for arm in result.arms[1:])
        broken += not result.srm.ok
    assert alarms <= 35  # 250 x 0.05 = 12.5; more than 35 are rarer than 1e-6
    assert broken <= 5


# --- crashes ---------------------------------------------------------------------------------------------------------

_RUN = """
import os, sys
from datetime import timedelta
sys.path.insert(0, {tests!r})
import posting
from abmail import _outbox
from test_allocation import *

if "DIE_AT" not in os.environ:  # then death comes between ticks, not between two mails
    _outbox._Shift.work = posting.work

class Deadly(Memory):
    def send(self, message):
        got = super().send(message)
        if len(self.messages) == int(os.environ.get("DIE_AT", "-1")):
            os.kill(os.getpid(), 9)
        return got

url, start = sys.argv[1], int(sys.argv[2])
transport = Deadly()
now = [NOW]
engine = Engine(url, transport=transport, secret=SECRET, clock=lambda: now[0])
for hour in range(start, 6):
    now[0] = NOW + timedelta(hours=hour)
    if os.environ.get("DIE_BEFORE") == str(hour):
        os.kill(os.getpid(), 9)
    engine.tick()
    print(hour, flush=True)
    engine.record_all(answers(engine, now[0] + timedelta(minutes=50)), now=now[0] + timedelta(minutes=50))
    if os.environ.get("DIE_AFTER") == str(hour):
        os.kill(os.getpid(), 9)
"""


def answers(engine: Engine, at: datetime) -> list[Event]:
    """Who clicks follows from the recipient and the cell alone, whatever process asks."""
    return [
        Event(type=EventType.CLICKED, at=at, message_id=m.id)
        for m in engine.store.messages("spring")
        if m.sent_at is not None and int(m.recipient[1:]) * 7919 % 100 < (10 if m.cell == 0 else 25)
    ]


def crashed(folder: Path, assignment: str, death: dict[str, str]) -> tuple[tuple[Epoch, ...], dict[str, Any], Any]:
    """Run an experiment in processes of its own, the first of which dies; returns epochs, ledger and states."""
    url = f"sqlite:///{folder / 'mail.db'}"
    with Engine(url, secret=SECRET, clock=lambda: NOW) as engine:
        exp = definition(allocation={"assignment": assignment, "first_wave": 0.5, "waves": 4}, stop={"when": []})
        engine.apply(engine.plan(exp, people(1_000), template=TEMPLATE))
    code = _RUN.format(tests=str(Path(__file__).parent))

    def run(start: int, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, url, str(start)]
        return subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, check=False)

    first = run(0, death)
    assert first.returncode == (-9 if death else 0), first.stderr
    if death:
        done = [int(line) for line in first.stdout.split()]
        again = run(max(done, default=-1) + (0 if "DIE_AFTER" in death else 1), {})
        assert again.returncode == 0, again.stderr
    with Engine(url, secret=SECRET, clock=lambda: NOW) as engine:
        cells = {m.recipient: (m.epoch, m.cell, m.propensity) for m in engine.store.messages("spring")}
        return engine.store.epochs("spring"), cells, engine.store.states("spring")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Runs without a crash, one for each way to deal."""
    return {kind: crashed(tmp_path_factory.mktemp(kind), kind, {}) for kind in ("hash", "quota")}


@pytest.mark.parametrize(
    ("assignment", "death"),
    [("hash", {"DIE_BEFORE": "2"}), ("hash", {"DIE_AFTER": "2"}), ("quota", {"DIE_AFTER": "1"})],
)
def test_a_run_that_was_killed_and_resumed_has_the_same_epochs_and_cells_to_the_bit(
    tmp_path: Path, whole: dict[str, Any], assignment: str, death: dict[str, str]
) -> None:
    assert crashed(tmp_path, assignment, death) == whole[assignment]


def test_a_run_that_was_killed_between_the_server_and_the_commit_keeps_its_cells_and_sends_nothing_twice(
    tmp_path: Path, whole: dict[str, Any]
) -> None:
    epochs, cells, states = whole["hash"]
    again_epochs, again_cells, again_states = crashed(tmp_path, "hash", {"DIE_AT": "130"})
    assert epochs[0] == again_epochs[0]
    assert [e.size for e in epochs] == [e.size for e in again_epochs]
    assert {r: c for r, c in cells.items() if c[0] == 0} == {r: c for r, c in again_cells.items() if c[0] == 0}
    assert again_states[State.UNCERTAIN] >= 1  # nobody can know what became of what was under way
    assert again_states[State.SENT] == 1_000 - again_states[State.UNCERTAIN]
    assert states == {State.SENT: 1_000}
