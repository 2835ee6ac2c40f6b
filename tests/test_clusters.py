"""Recipients who are assigned by company: intervals, alarms and the report count companies."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from abmail import Experiment, Recipient
from abmail.engine import Engine
from abmail.events import Event, EventType
from abmail.send import Memory
from abmail.simulate import Truth, simulate
from abmail.stats import Clusters, Counts, compare, compare_segments, conditional_power, futility
from abmail.store import CompanyMails

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=3)
TEMPLATE = '<p>Hello</p><a href="https://example.com/x">go</a>'
Integers = NDArray[np.int64]


def counted(answers: Integers, arm: Integers, row: Integers, shape: tuple[int, int], **more: object) -> Counts:
    cell = row * shape[1] + arm
    n, k = (np.bincount(cell, w, shape[0] * shape[1]).reshape(shape) for w in (None, answers))
    return Counts(n, k.astype(np.int64), **more)  # type: ignore[arg-type]


def answers_of(company: Integers, rate: float, icc: float, rng: np.random.Generator) -> Integers:
    own = rng.beta(rate * (1 / icc - 1), (1 - rate) * (1 / icc - 1), int(company.max()) + 1)
    return (rng.random(len(company)) < own[company]).astype(np.int64)


# --- the design effect ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("icc", [0.02, 0.2])
def test_the_spread_is_that_of_a_cluster_robust_regression(icc: float) -> None:
    # statsmodels' OLS of the answers on the arm; its standard error knows of clusters, ours of their leverage as well.
    rng = np.random.default_rng(3)
    company = np.repeat(np.arange(600), rng.geometric(0.25, 600))
    arm = rng.integers(0, 2, 600)[company]
    y = answers_of(company, 0.3, icc, rng)
    fit = sm.OLS(y, sm.add_constant(arm)).fit(cov_type="cluster", cov_kwds={"groups": company})
    n, k = np.bincount(arm), np.bincount(arm, y)
    strangers = float((k / n * (1 - k / n) / n).sum())
    found = Clusters.from_values(y, arm=arm, company=company).design_effect()
    # the price of Student's tails at some 400 degrees of freedom is 1.5 to 3 %
    assert 1.0 < found / (fit.bse[1] ** 2 / strangers) < 1.05


def test_colleagues_who_all_do_the_same_count_as_one() -> None:
    company = np.repeat(np.arange(1_000), 4)
    rng = np.random.default_rng(1)
    y = (rng.random(1_000) < 0.3)[company].astype(np.int64)
    found = Clusters.from_values(y, arm=company % 2, company=company).design_effect()
    assert found == pytest.approx(4.0, rel=0.02)


def test_strangers_are_taken_for_strangers() -> None:
    y = np.random.default_rng(2).integers(0, 2, 4_000)
    everybody = Clusters.from_values(y, arm=np.arange(4_000) % 2, company=[None] * 4_000)
    assert everybody.design_effect() == pytest.approx(1.0, abs=0.01)


def test_where_nobody_or_everybody_answered_nothing_spreads() -> None:
    for answer in (0, 1):
        assert Clusters.from_values([answer] * 40, arm=[0, 1] * 20, company=[1] * 40).design_effect() == 1.0


def test_one_company_that_is_most_of_the_list_proves_nothing() -> None:
    company = np.concatenate((np.zeros(3_000, dtype=np.int64), np.arange(1, 1_001)))
    rng = np.random.default_rng(4)
    arm = rng.integers(0, 2, 1_001)
    arm[0] = 1
    y = np.where(company == 0, rng.random(4_000) < 0.6, rng.random(4_000) < 0.3).astype(np.int64)
    counts = counted(y, arm[company], np.zeros(4_000, dtype=np.int64), (1, 2))
    people = Clusters.from_values(y, arm=arm[company], company=company)
    assert compare(counts).decision.state == "winner"
    assert compare(counts, clusters=people).decision.state != "winner"


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_recipients_arms_and_companies_plays_no_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    company, row = rng.integers(0, 12, 80), rng.integers(0, 3, 80)
    arm, y = (company + row) % 2, rng.integers(0, 2, 80)
    found = Clusters.from_values(y, arm=arm, company=company, row=row).design_effect()
    order = rng.permutation(80)
    again = Clusters.from_values(y[order], arm=1 - arm[order], company=-company[order], row=row[order])
    assert again.design_effect() == pytest.approx(found, rel=1e-9)
    assert found >= 1


def test_values_that_are_no_answers_and_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="0 and 1"):
        Clusters.from_values([0, 2], arm=[0, 1], company=[1, 2])
    with pytest.raises(ValueError, match="arm"):
        Clusters.from_values([0, 1], arm=[0], company=[1, 2])
    with pytest.raises(ValueError, match="row"):
        Clusters.from_values([0, 1], arm=[0, 1], company=[1, 2], row=[0, -1])


# --- comparing --------------------------------------------------------------------------------------------------------


def test_a_comparison_of_companies_is_that_of_fewer_strangers() -> None:
    rng = np.random.default_rng(5)
    company = np.repeat(np.arange(2_000), 5)
    row, arm = (company % 4), (company // 4) % 2
    y = answers_of(company, 0.2, 0.1, rng)
    people = Clusters.from_values(y, arm=arm, company=company, row=row)
    whole = compare(counted(y, arm, row, (4, 2), looks=4), clusters=people)
    effect = people.design_effect()
    assert whole.design_effect == effect == pytest.approx(1 + 4 * 0.1, rel=0.1)
    alone = compare(counted(y, arm, row, (4, 2), looks=4))
    wide, narrow = (one.arms[1].ci_upper - one.arms[1].ci_lower for one in (whole, alone))  # type: ignore[operator]
    assert wide / narrow == pytest.approx(np.sqrt(effect), rel=0.01)
    assert whole.arms[1].effect == pytest.approx(alone.arms[1].effect)
    assert (whole.arms[1].n, whole.arms[1].successes) == (alone.arms[1].n, alone.arms[1].successes)
    assert abs(whole.arms[1].p_best - 0.5) < abs(alone.arms[1].p_best - 0.5)
    assert whole.to_dict()["design_effect"] == effect


@pytest.mark.parametrize("method", ["exact", "aipw"])
def test_methods_that_know_of_no_companies_refuse_them(method: str) -> None:
    people = Clusters.from_values([0, 1, 0, 1], arm=[0, 1, 0, 1], company=[1, 2, 3, 4])
    counts = Counts([[2, 2]], [[0, 2]], weights=[[0.5, 0.5]])
    with pytest.raises(ValueError, match="companies"):
        compare(counts, method=method, clusters=people)  # type: ignore[arg-type]


def test_companies_beyond_the_counts_are_refused() -> None:
    people = Clusters.from_values([0, 1], arm=[0, 2], company=[1, 2])
    with pytest.raises(ValueError, match="arm 2"):
        compare(Counts([[2, 2]], [[0, 1]]), clusters=people)


def test_later_epochs_need_the_companies_of_all_of_them() -> None:
    y, arm, company = np.tile([0, 1], 100), np.repeat([0, 1], 100), np.repeat(np.arange(50), 4)
    row = np.zeros(200, dtype=np.int64)
    first = counted(y, arm, row, (1, 2))
    people = Clusters.from_values(y, arm=arm, company=company)
    so_far = compare(first, method="anytime", clusters=people)
    with pytest.raises(ValueError, match="clusters"):
        so_far.updated(first)
    both = Clusters.from_values([*y, *y], arm=[*arm, *arm], company=[*company, *company], row=[*row, *(row + 1)])
    assert so_far.updated(first, clusters=both).arms[1].n == 200
    with pytest.raises(ValueError, match="clusters"):
        compare(first, method="anytime").updated(first, clusters=both)


def test_the_sample_ratio_is_that_of_companies() -> None:
    company = np.repeat(np.arange(200), np.where(np.arange(200) % 20 == 0, 60, 1))
    arm = np.array([0] * 100 + [1] * 100)
    arm[[0, 20, 40, 60, 80]] = 1  # the large ones happen to be in one arm
    arm[[101, 102, 103, 104, 105]] = 0
    arms = arm[company]
    y, row = np.tile([0, 1], len(company))[: len(company)], np.zeros(len(company), dtype=np.int64)
    counts = counted(y, arms, row, (1, 2), weights=[[0.5, 0.5]])
    assert not compare(counts).srm.ok
    assert compare(counts, clusters=Clusters.from_values(y, arm=arms, company=company)).srm.ok


def test_a_company_that_comes_again_is_one_unit_of_the_epoch_in_which_it_came_first() -> None:
    people = Clusters.from_values([0] * 6, arm=[0, 0, 1, 0, 1, 1], company=[1, 2, 3, 1, 3, 4], row=[0, 0, 0, 1, 1, 1])
    assert people.units((2, 2)).tolist() == [[2, 1], [0, 1]]


def test_futility_and_segments_take_the_design_effect() -> None:
    counts = Counts([[500, 500]] * 5, [[100, 104]] * 5, looks=10)
    plain = conditional_power(counts, effect=0.02)
    assert conditional_power(counts, effect=0.02, design_effect=1.0) == plain
    assert conditional_power(counts, effect=0.02, design_effect=3.0) < plain
    assert futility(counts, mde=0.02, design_effect=3.0).value_remaining > futility(counts, mde=0.02).value_remaining
    young, old = Counts([4_000, 4_000], [800, 1_000]), Counts([4_000, 4_000], [800, 650])
    apart, cautious = (compare_segments({"a": young, "b": old}, design_effect=d) for d in (1.0, 8.0))
    assert apart.differs
    assert cautious.p_value is not None
    assert apart.p_value is not None
    assert cautious.p_value > apart.p_value
    assert cautious.effects[0].n == 4_000
    for wrong in (0.5, np.inf, np.nan):
        with pytest.raises(ValueError, match="design_effect"):
            compare_segments({"a": young}, design_effect=wrong)
        with pytest.raises(ValueError, match="design_effect"):
            futility(counts, design_effect=wrong)


# --- the promise ------------------------------------------------------------------------------------------------------


def test_companies_that_keep_their_arm_through_all_epochs_raise_no_false_alarms() -> None:
    rng, runs, alarms, naive = np.random.default_rng(11), 200, 0, 0
    for _ in range(runs):
        company = np.repeat(np.arange(150), rng.geometric(0.1, 150))
        row, arm = rng.integers(0, 5, len(company)), rng.integers(0, 2, 150)[company]
        y = answers_of(company, 0.2, 0.15, rng)
        counts = counted(y, arm, row, (5, 2), looks=5)
        people = Clusters.from_values(y, arm=arm, company=company, row=row)
        alarms += compare(counts, clusters=people).decision.state == "winner"
        naive += compare(counts).decision.state == "winner"
    assert alarms <= 28  # a true 5 % of 200 gives more in one run of a million
    assert naive > 40  # as it is where recipients are counted one by one


def test_simulated_companies_that_answer_alike_are_covered_as_promised() -> None:
    experiment = Experiment.from_dict({
        "spec": 1, "name": "spring", "factors": {"subject": {"plain": "Hello", "number": "3 ways", "question": "Why?"}},
        "control": {"subject": "plain"}, "message": {"template": "a.html.j2", "from": "a@example.com"},
        "audience": {"unit": "company"}, "analysis": {"mde": 0.02, "baseline": 0.1},
    })  # fmt: skip
    rates = {"plain": 0.1, "number": 0.1, "question": 0.1}
    truth = Truth.from_dict({"rates": rates, "company": 20, "icc": 0.3}, experiment)
    found = simulate(experiment, truth=truth, n=3_000, replications=25, rng=7)
    assert found.coverage.value >= 0.74  # of 50 intervals at 95 %, in all but 1e-7; of recipients' own 56 % hold it


# --- from the store to the report ------------------------------------------------------------------------------------


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    opened = Engine(store_url, transport=Memory(), secret=b"0123456789abcdef", clock=lambda: NOW)
    yield opened
    opened.close()


def send(engine: Engine, **more: object) -> list[list[str]]:
    """Mail 80 companies of 5; returns the messages of each."""
    exp = Experiment.from_dict({
        "spec": 1, "name": "spring", "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
        "control": {"subject": "plain"}, "message": {"template": "mails/x.html.j2", "from": "News <news@example.com>"},
        "allocation": {"policy": "uniform"}, "audience": {"unit": "company"}, **more,
    })  # fmt: skip
    people = [
        Recipient(id=f"r{i}", email=f"r{i}@company{i // 5}.example", attributes={"stage": "warm" if i % 2 else "cold"})
        for i in range(400)
    ]
    engine.apply(engine.plan(exp, people, template=TEMPLATE))
    engine.tick()
    return [[engine.signer.message_id("spring", f"r{5 * firm + one}") for one in range(5)] for firm in range(80)]


def whole_companies_click(engine: Engine, firms: list[list[str]], value: float | None = None) -> None:
    for firm in firms[::4]:
        for mail in firm:
            engine.record(Event(type=EventType.CLICKED, at=NOW + timedelta(hours=1), message_id=mail), now=LATER)
            if value is not None:
                bought = Event(type=EventType.CONVERTED, at=NOW + timedelta(hours=2), message_id=mail, value=value)
                engine.record(bought, now=LATER)


def test_the_report_counts_companies_and_says_so(engine: Engine) -> None:
    whole_companies_click(engine, send(engine))
    report = engine.analyze("spring", now=NOW + timedelta(days=8))
    assert report.method.design_effect == pytest.approx(5.0, rel=0.4)
    assert "companies are compared" in report.method.why
    assert "会社" in report.method.why_ja
    assert report.to_dict()["method"]["design_effect"] == report.method.design_effect
    assert sum(arm.n for arm in report.arms) == 400
    assert sum(arm.successes for arm in report.arms) == 100


def test_a_report_on_recipients_says_nothing_of_companies(engine: Engine) -> None:
    whole_companies_click(engine, send(engine, audience={"unit": "recipient"}))
    report = engine.analyze("spring", now=NOW + timedelta(days=8))
    assert report.method.design_effect is None
    assert "companies" not in report.method.why


def test_before_the_first_mail_and_where_nothing_is_tested_a_report_is_made(engine: Engine) -> None:
    send(engine, allocation={"policy": "fixed", "weights": {"plain": 1.0, "number": 0.0}})
    assert engine.analyze("spring", now=NOW + timedelta(days=8)).sent == 400
    exp = Experiment.from_dict({
        "spec": 1, "name": "later", "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
        "control": {"subject": "plain"}, "message": {"template": "x.html.j2", "from": "News <news@example.com>"},
        "audience": {"unit": "company"},
    })  # fmt: skip
    engine.apply(engine.plan(exp, [Recipient(id="x", email="x@firm.example")], template=TEMPLATE))
    assert engine.analyze("later").sent == 0


def test_clicks_after_the_window_are_no_part_of_a_companys_answers(engine: Engine) -> None:
    firms = send(engine, metrics={"window": "1h"})
    whole_companies_click(engine, firms)  # at one hour sharp
    (found,) = {sum(one.answered.get("clicked", 0) for one in companies_of(engine))}
    assert found == 0
    engine.record(Event(type=EventType.CLICKED, at=NOW + timedelta(minutes=59), message_id=firms[1][0]), now=LATER)
    assert sum(one.answered["clicked"] for one in companies_of(engine) if one.answered) == 1


def companies_of(engine: Engine) -> tuple[CompanyMails, ...]:
    found = engine.store.snapshot("spring", n_cells=2, companies="clicked", window=3_600.0).companies
    assert sum(one.n for one in found) == 400
    assert {one.company for one in found} == {f"company{i}.example" for i in range(80)}
    return found


def test_segments_factors_and_values_know_of_companies(engine: Engine) -> None:
    firms = send(
        engine, factors={"subject": {"plain": "Hello", "number": "3 ways"}, "cta": {"go": "Go", "see": "See"}},
        control={"subject": "plain", "cta": "go"}, metrics={"value": {"unit": "EUR", "winsorize": 50}},
    )  # fmt: skip
    whole_companies_click(engine, firms, value=80.0)
    later = NOW + timedelta(days=8)
    report = engine.analyze("spring", by="stage", now=later)
    assert {factor.factor for factor in report.factors} == {"subject", "cta"}
    assert report.segment_summary is not None
    value = report.value
    assert value is not None
    assert (sum(arm.n for arm in value.arms), sum(arm.total for arm in value.arms)) == (400, 100 * 80.0)
    sent = sum(arm.n * (arm.mean or 0) for arm in value.arms)
    assert sent == pytest.approx(100 * 50.0)


def test_one_dead_domain_breaks_no_guardrail_and_as_many_strangers_do(engine: Engine) -> None:
    for unit, verdict in (("recipient", "broken"), ("company", "too_few")):
        guarded = Experiment.from_dict({
            "spec": 1, "name": unit, "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
            "control": {"subject": "plain"}, "message": {"template": "x.html.j2", "from": "News <news@example.com>"},
            "allocation": {"policy": "uniform"}, "audience": {"unit": unit},
            "metrics": {"guardrails": {"bounced": 0.05}},
        })  # fmt: skip
        people = [Recipient(id=f"{unit}{i}", email=f"{unit}{i}@firm{min(i // 3, 100)}.example") for i in range(400)]
        engine.apply(engine.plan(guarded, people, template=TEMPLATE))
        engine.tick()
        for i in range(300, 400):
            mail = engine.signer.message_id(unit, f"{unit}{i}")
            engine.record(Event(type=EventType.BOUNCED, at=NOW + timedelta(hours=1), message_id=mail), now=LATER)
        found = engine.analyze(unit, now=NOW + timedelta(days=8)).guardrails
        worst = max(found, key=lambda one: one.rate or 0)
        assert (unit, worst.verdict) == (unit, verdict)
        arms = engine.analyze(unit).arms
        assert sum(round((one.rate or 0) * arm.n) for one, arm in zip(found, arms, strict=True)) == 100


def second_wave(path: Path) -> dict[str, float]:
    """Weights of the second wave after whole companies clicked one variant more often."""
    transport = Memory()
    exp = Experiment.from_dict({
        "spec": 1, "name": "spring", "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
        "control": {"subject": "plain"}, "message": {"template": "x.html.j2", "from": "News <news@example.com>"},
        "audience": {"unit": "company"}, "allocation": {"waves": 2, "every": "1d", "first_wave": 0.5},
    })  # fmt: skip
    people = [Recipient(id=f"r{i}", email=f"r{i}@firm{i // 10}.example") for i in range(1_200)]
    with Engine(f"sqlite:///{path}", transport=transport, secret=b"0123456789abcdef", clock=lambda: NOW) as opened:
        opened.apply(opened.plan(exp, people, template=TEMPLATE))
        opened.tick()
        firms: dict[str, list[str]] = {}
        for mail in transport.messages:
            firms.setdefault(mail.subject + mail.recipient.partition("@")[2], []).append(mail.message_id)
        for share, subject in ((5, "Hello"), (4, "3 ways")):
            for firm in [mails for key, mails in sorted(firms.items()) if key.startswith(subject)][::share]:
                for i, one in enumerate(firm):  # hours apart: colleagues, no scanner
                    click = Event(type=EventType.CLICKED, at=NOW + timedelta(hours=i + 1), message_id=one)
                    opened.record(click, now=NOW + timedelta(hours=i + 1))
        opened.tick(now=NOW + timedelta(days=2))
        return dict(opened.analyze("spring", now=NOW + timedelta(days=2)).epochs[1].weights)


def test_shares_follow_companies_more_slowly_than_as_many_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = second_wave(tmp_path / "companies.db")
    monkeypatch.setattr("abmail._known.thinning", lambda _: 1.0)
    fast = second_wave(tmp_path / "strangers.db")
    assert 0.5 < slow["number"] < fast["number"] - 0.1
