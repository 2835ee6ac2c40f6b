"""The promises of the comparison in simulated experiments, with the naive z-test failing in the same ones.

The benchmark goes through hundreds of such cells (``python -m benchmarks.significance``); here are a few of each kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from functools import cache

import numpy as np
import pytest

from abmail._trials import ThompsonShares, run_trials
from abmail.stats import Counts, compare
from benchmarks import _naive as naive
from benchmarks import significance
from benchmarks._grid import Found, Setting, count_claims, examine, report
from benchmarks._ours import METHODS, ask
from benchmarks._promise import Promise, at_most, most

REPLICATIONS = 2_000
MOST = 149  # of 2,000 at a true 5 %: a false alarm of this test is rarer than 1e-6

CELLS = (
    Setting(arms=2, rate=0.20, mails=2_000, allocation="even", drift="rising"),
    Setting(arms=2, rate=0.20, mails=10_000, allocation="floor 0.02", drift="week"),
    Setting(arms=2, rate=0.03, mails=10_000, allocation="floor 0.10", drift="falling"),
    Setting(arms=2, rate=0.03, mails=10_000, allocation="floor 0.05", delay="late"),
    Setting(arms=2, rate=0.005, mails=50_000, allocation="sharpened, 0.02"),
    Setting(arms=4, rate=0.20, mails=10_000, allocation="floor 0.10"),
)


@cache
def found_in(setting: Setting) -> Found:
    return examine(REPLICATIONS, 11, setting)


# -- the promises ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", CELLS, ids=lambda s: s.name)
def test_equal_arms_are_called_different_in_at_most_alpha_of_the_experiments_at_any_look(setting: Setting) -> None:
    found = found_in(setting)

    for method in METHODS:
        assert found.claims[method] <= MOST, method
        assert found.winners[method] <= MOST, method
        assert found.misses[method] <= MOST, method
    assert found.claims["sequential"] >= 20  # a test that never rejects would be no test


@pytest.mark.parametrize("setting", CELLS, ids=lambda s: s.name)
def test_a_naive_z_test_fails_in_the_same_experiments(setting: Setting) -> None:
    assert found_in(setting).naive > 2 * MOST


@pytest.mark.parametrize(
    "setting",
    [
        Setting(arms=2, rate=0.03, mails=10_000, allocation="floor 0.02", effect="lift"),
        Setting(arms=2, rate=0.20, mails=10_000, allocation="floor 0.10", drift="rising", effect="lift"),
        Setting(arms=2, rate=0.20, mails=2_000, allocation="floor 0.05", drift="falling", effect="difference"),
    ],
    ids=lambda s: s.name,
)
def test_intervals_hold_a_true_effect_at_every_look_while_base_rates_drift(setting: Setting) -> None:
    found = found_in(setting)

    for method in METHODS:
        assert found.claims[method] <= MOST, method  # with the wrong sign
        for errors in (found.misses, found.lift_misses):
            assert errors.get(method, 0) <= MOST, method
        assert method in found.misses or method in found.lift_misses


def test_four_arms_hold_their_level_while_the_base_rate_rises_steeply() -> None:
    found = examine(500, 11, Setting(arms=4, rate=0.20, mails=10_000, allocation="floor 0.02", drift="steep"))

    assert found.claims["anytime"] <= most(500)
    assert found.claims["sequential"] <= most(500)


@pytest.mark.parametrize("drift", ["falling", "rising"])
def test_estimates_do_not_follow_the_bandit_where_the_pooled_difference_does(drift: str) -> None:
    found = significance.estimates(600, 5, drift)
    pooled = abs(found["pooled z"][0] - 2)

    assert pooled > 0.7
    for method in METHODS:
        assert abs(found[method][0] - 2) < pooled / 4, method


def test_a_cell_is_asked_as_compare_answers() -> None:
    trials = run_trials([0.2, 0.26], sizes=[400] * 5, allocation=ThompsonShares(), replications=40, rng=3)
    answers = ask("sequential", trials, lifts=True)
    for i in range(0, 40, 8):
        counts = Counts(trials.n[i], trials.successes[i], weights=trials.weights[i], looks=5)
        arm, decision = compare(counts).arms[1], compare(counts).decision
        ends = (arm.ci_lower, arm.ci_upper, arm.lift_lower, arm.lift_upper)
        sides = (answers.low, answers.high, answers.lift_low, answers.lift_high)
        assert ends == pytest.approx([side[i, 0, -1] for side in sides])
        assert (decision.state == "winner") == (answers.winner[i] >= 0)


# -- the formulas of others --------------------------------------------------------------------------------------------


def sums(n_a: int, k_a: int, n_b: int, k_b: int) -> naive.TwoArms:
    one = (np.array([[float(value)]]) for value in (n_a, k_a, n_b, k_b, 0.5))
    return naive.TwoArms(**dict(zip(("n_a", "k_a", "n_b", "k_b", "share_b"), one, strict=True)))


def test_gbstats_sequential_test_gives_its_published_interval() -> None:  # gbstats' own tests
    looks = naive.gbstats_sequential(5_000, relative=True)(sums(3_000, 1_396, 3_461, 2_422))
    ends = (looks.effect.item(), (looks.effect - looks.half).item(), (looks.effect + looks.half).item())

    assert ends == pytest.approx((0.50386, 0.40098, 0.60675), abs=1e-5)


def test_relative_differences_have_the_error_of_gbstats() -> None:  # gbstats' own tests
    effect, variance = naive.relative_difference(sums(100, 49, 100, 51))

    assert (effect.item(), np.sqrt(variance).item()) == pytest.approx((0.04082, 0.14725), abs=1e-5)


def test_the_design_based_radius_is_that_of_pyssed() -> None:  # pyssed's tests, Liang & Bojinov
    assert naive.design_radius(np.array([3.0]), np.array([10.0]), 10.0).item() == pytest.approx(0.5541955)


def test_bounds_that_spend_alpha_are_those_of_spotify_confidence() -> None:
    bounds = naive.spending_bounds(20)

    assert (bounds[0], bounds[-1]) == pytest.approx((3.8361, 2.2196), abs=2e-4)


def test_bounds_that_spend_late_are_those_of_lan_and_demets() -> None:  # R, ldbounds: five equal looks, two-sided 5 %
    wanted = [4.8769, 3.3570, 2.6803, 2.2898, 2.0310]

    assert naive.spending_bounds(5, late=True) == pytest.approx(wanted, abs=5e-4)


def test_boundary_constants_are_those_of_the_tables() -> None:  # Jennison & Turnbull 2000, tables 2.1 and 2.3
    assert [naive.shape_bounds(5, delta)[-1] for delta in (0.0, 0.5)] == pytest.approx([2.040, 2.413], abs=1e-3)


def test_inverse_propensity_scores_average_to_the_difference_when_the_split_is_even() -> None:
    n, total, squares = naive.inverse_propensity(sums(100, 20, 100, 30))

    assert (total / n).item() == pytest.approx(0.1)
    assert squares.item() == pytest.approx(50 * 4)


def test_one_epoch_makes_all_stratified_methods_the_pooled_difference() -> None:
    data = sums(300, 60, 500, 120)
    for method in (naive.pooled_z, naive.mantel_haenszel, naive.batched_ols, naive.period_weighted_z):
        assert method(data).effect.item() == pytest.approx(0.04)


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_bounds_make_false_alarms_rarer_than_one_in_a_million() -> None:
    assert most(2_000) == MOST
    assert most(2_000, 0.001) == 12
    assert not at_most("", 150, 2_000).kept


def test_a_broken_promise_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def table(replications: int, seed: int, pool: Executor) -> Iterator[str | Promise]:
        assert (replications, seed) == (200, 1)
        yield f"sum {sum(pool.map(abs, [-1, -2]))}"
        yield Promise("water is dry", False, 12.345)
        yield Promise("water is wet", True, 0.0)

    monkeypatch.setitem(significance.TABLES, "2a", table)

    assert significance.main(["--table", "2a", "--replications", "200", "--jobs", "1"]) == 1
    printed = capsys.readouterr().out
    assert "sum 3" in printed
    assert "1 of 2 promises kept" in printed
    assert "BROKEN  water is dry: 12.35" in printed


def test_the_sample_ratio_table_keeps_its_promise(capsys: pytest.CaptureFixture[str]) -> None:
    assert significance.main(["--table", "2f", "--replications", "400", "--jobs", "1"]) == 0
    assert "1 of 1 promises kept" in capsys.readouterr().out


def test_claims_counted_alone_are_those_of_the_grid() -> None:
    setting = Setting(arms=2, rate=0.2, mails=10_000, allocation="floor 0.02", drift="steep")
    alone, full = count_claims(200, 3, setting), examine(200, 3, setting)

    assert alone.naive == full.naive > 0
    for method in ("sequential", "anytime"):
        assert alone.winners[method] == full.winners[method]
        assert alone.claims[method] == full.claims[method]
    assert alone.claims["sequential"] > 0


def test_the_grid_names_its_worst_cell_and_every_broken_promise() -> None:
    lines = list(report([found_in(setting) for setting in CELLS], REPLICATIONS))
    promises = [line for line in lines if isinstance(line, Promise)]
    text = "\n".join(line for line in lines if isinstance(line, str))

    assert "sequential: a false winner, equal arms" in text
    assert all(promise.kept for promise in promises)
    assert len(promises) > 6 * 2 * len(METHODS)


def test_too_few_replications_prove_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        significance.main(["--replications", "10"])
    assert "must be at least 200" in capsys.readouterr().err
