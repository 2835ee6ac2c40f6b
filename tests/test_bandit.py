"""Weights that learn from what is known, and know what cannot be known yet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtri

from abmail.bandit import (
    WEIGHT_UNIT,
    ArmCurves,
    DelayCurve,
    Fixed,
    Policy,
    Thompson,
    Uniform,
    level_weighted,
    policy_from_dict,
    quantise,
    weights_over,
)
from abmail.stats import Counts, p_best

HOUR = 3_600.0

shares = st.lists(st.floats(0, 1), min_size=1, max_size=100).filter(lambda s: sum(s) > 0)


@st.composite
def some_counts(draw: st.DrawFn) -> Counts:
    epochs, arms = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    n = np.array(draw(st.lists(st.integers(0, 3_000), min_size=epochs * arms, max_size=epochs * arms)))
    part = np.array(draw(st.lists(st.floats(0, 1), min_size=epochs * arms, max_size=epochs * arms)))
    k = (n * part**3).astype(int)
    exposure = np.maximum(k, n * part)
    shape = (epochs, arms)
    return Counts(n.reshape(shape), k.reshape(shape), exposure=exposure.reshape(shape))


@given(shares, st.floats(0, 1))
def test_rounded_shares_sum_to_one_exactly_and_keep_the_floor(given_shares: list[float], part: float) -> None:
    floor = part / len(given_shares)
    weights = quantise(given_shares, floor=floor)
    assert weights.sum() == 1.0
    assert (weights * WEIGHT_UNIT == np.rint(weights * WEIGHT_UNIT)).all()
    assert weights.min() >= min(floor, WEIGHT_UNIT // len(given_shares) / WEIGHT_UNIT) - 1e-12
    exact = floor + (1 - floor * len(given_shares)) * (np.array(given_shares) / sum(given_shares))
    assert np.abs(weights - exact).max() <= len(given_shares) / WEIGHT_UNIT


def test_shares_of_any_size_are_rounded() -> None:
    assert quantise([1.5e308, 1.5e308, 0.0]).tolist() == [0.5, 0.5, 0.0]
    assert quantise([5e-324, 5e-324]).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("bad", [[-0.1, 1.1], [0.0, 0.0], [float("nan"), 1.0], []])
def test_what_is_no_share_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="shares"):
        quantise(bad)


@settings(deadline=None, max_examples=60)
@given(some_counts(), st.floats(0, 1))
def test_thompson_weights_are_shares_with_a_floor_whatever_was_seen(counts: Counts, part: float) -> None:
    floor = part / counts.n_arms
    weights = Thompson(min_weight=floor).weights(counts)
    assert weights.sum() == 1.0
    assert weights.min() >= min(floor, WEIGHT_UNIT // counts.n_arms / WEIGHT_UNIT) - 1e-12
    assert weights.tolist() == Thompson(min_weight=floor).weights(counts).tolist()


@settings(deadline=None, max_examples=40)
@given(some_counts(), st.randoms(use_true_random=False))
def test_the_order_of_the_arms_does_not_matter(counts: Counts, random: object) -> None:
    order = np.random.default_rng(int(counts.n.sum())).permutation(counts.n_arms)
    moved = Thompson(min_weight=0.0).weights(counts.arms(order.tolist()))
    assert moved == pytest.approx(Thompson(min_weight=0.0).weights(counts)[order], abs=3 / WEIGHT_UNIT)


@settings(deadline=None, max_examples=60)
@given(st.integers(10, 2_000), st.integers(0, 9), st.integers(0, 9), st.integers(1, 9))
def test_more_successes_never_lower_an_arms_weight(n: int, other: int, k: int, more: int) -> None:
    before = Thompson(min_weight=0.0).weights(Counts([n, n], [other, k]))
    after = Thompson(min_weight=0.0).weights(Counts([n, n], [other, min(k + more, n)]))
    assert after[1] >= before[1] - 1 / WEIGHT_UNIT


@settings(deadline=None, max_examples=80)
@given(some_counts(), st.integers(0, 4), st.integers(0, 5), st.integers(1, 50))
def test_more_successes_never_lower_a_weight_in_any_epoch(counts: Counts, epoch: int, arm: int, more: int) -> None:
    epoch, arm = epoch % counts.n_epochs, arm % counts.n_arms
    successes = counts.successes.copy()
    successes[epoch, arm] = min(successes[epoch, arm] + more, counts.n[epoch, arm])
    better = Counts(counts.n, successes, exposure=counts.exposure)
    gain = Thompson(min_weight=0.0).weights(better)[arm] - Thompson(min_weight=0.0).weights(counts)[arm]
    assert gain >= -1e-5


def test_without_any_mail_the_split_is_even() -> None:
    for policy in (Thompson(), Uniform()):
        assert policy.weights(Counts([0, 0, 0, 0], [0, 0, 0, 0])).tolist() == [0.25] * 4


def test_without_a_floor_the_weight_is_the_chance_to_be_best() -> None:
    counts = Counts([400, 300, 500], [40, 36, 44])
    exact = p_best(1 + counts.successes[0], 1 + counts.n[0] - counts.successes[0])
    assert Thompson(min_weight=0.0).weights(counts) == pytest.approx(exact, abs=1 / WEIGHT_UNIT)
    floored = 0.1 + 0.7 * exact
    assert Thompson(min_weight=0.1).weights(counts) == pytest.approx(floored, abs=1 / WEIGHT_UNIT)


def test_weights_agree_with_the_share_of_draws_in_which_an_arm_is_best() -> None:
    counts = Counts([400, 300, 500], [40, 36, 44])
    rng = np.random.default_rng(1)
    draws = rng.beta(1 + counts.successes[0], 1 + counts.n[0] - counts.successes[0], size=(400_000, 3))
    best = np.bincount(draws.argmax(axis=1), minlength=3) / len(draws)
    assert Thompson(min_weight=0.0).weights(counts) == pytest.approx(best, abs=0.004)


def test_a_pending_mail_is_not_a_failure() -> None:
    n, k = [[1_000, 1_000], [1_000, 1_000]], [[200, 240], [10, 90]]
    impatient = Thompson(min_weight=0.0).weights(Counts(n, k))
    young = Counts([[1_000, 1_000], [4_000, 1_000]], [[200, 200], [80, 20]], exposure=[[1_000, 1_000], [400, 100]])
    fair = Thompson(min_weight=0.0).weights(young)
    assert impatient[1] > 0.99
    assert fair == pytest.approx([0.5, 0.5], abs=0.05)


def test_a_stopped_arm_gets_nothing_and_the_rest_shares_it() -> None:
    counts = Counts([500, 500, 500], [50, 60, 150])
    weights = Thompson(min_weight=0.1).weights(counts, active=[True, True, False])
    assert weights[2] == 0
    assert weights.sum() == 1
    assert weights[:2].min() >= 0.1
    assert Fixed(shares=(0.2, 0.2, 0.6)).weights(counts, active=[True, True, False]).tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize("active", [[False, False], [True], [True, True, True]])
def test_a_mask_that_does_not_fit_is_refused(active: list[bool]) -> None:
    with pytest.raises(ValueError, match="active"):
        Uniform().weights(Counts([1, 1], [0, 0]), active=active)


@pytest.mark.parametrize(
    "policy",
    [Thompson(), Thompson(min_weight=None, prior=(2.0, 8.0), level_sd=0.1), Uniform(), Fixed(shares=(0.3, 0.7))],
)
def test_policies_come_back_from_their_json_form(policy: Policy) -> None:
    assert isinstance(policy, Policy)
    assert policy_from_dict(policy.to_dict()) == policy


def test_nonsense_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"min_weight is 0\.6"):
        Thompson(min_weight=0.6)
    with pytest.raises(ValueError, match="for 5 arms"):
        Thompson(min_weight=0.3).weights(Counts([1] * 5, [0] * 5))
    with pytest.raises(ValueError, match="level_sd is -1"):
        Thompson(level_sd=-1.0)
    with pytest.raises(ValueError, match="prior"):
        Thompson(prior=(0.0, 1.0))
    with pytest.raises(ValueError, match="sum to 1"):
        Fixed(shares=(0.5, 0.6))
    with pytest.raises(ValueError, match="nonsense"):
        policy_from_dict({"name": "nonsense"})


def test_the_default_floor_is_a_tenth_for_two_arms_and_shrinks_with_more() -> None:
    sure = Counts([5_000] * 8, [50] * 7 + [2_000])
    assert Thompson(min_weight=None).weights(sure).min() == pytest.approx(0.05, abs=1e-5)
    assert Thompson(min_weight=None).weights(sure.arms([0, 7])).min() == pytest.approx(0.1, abs=1e-5)


def test_with_all_answers_in_the_posterior_is_the_textbook_one() -> None:
    whole = Counts([400, 300], [40, 36])
    a, b = Thompson(prior=(2.0, 8.0)).posterior(whole)
    assert (a.tolist(), b.tolist()) == ([42.0, 38.0], [368.0, 272.0])
    waves = Counts([[300, 100], [600, 200], [150, 50]], [[20, 9], [90, 40], [12, 2]])  # same shares in each wave
    a, b = Thompson().posterior(waves)
    assert a.tolist() == [123.0, 52.0]
    assert b == pytest.approx([929.0, 300.0], rel=1e-12)
    shifted = Counts([[300, 100], [100, 300]], [[30, 9], [20, 50]])
    a, b = Thompson(level_sd=0.0).posterior(shifted)
    assert (a.tolist(), b.tolist()) == ([51.0, 60.0], [351.0, 342.0])


def test_more_answers_than_expected_by_now_still_give_a_posterior() -> None:
    early = Counts([[100, 100]], [[60, 1]], exposure=[[20.0, 20.0]])
    weights = Thompson(min_weight=0.0).weights(early)
    assert weights[0] > 0.999
    assert weights.sum() == 1.0


def test_one_epoch_needs_no_level() -> None:
    counts = Counts([400, 300], [40, 36], exposure=[200.5, 120.25])
    assert level_weighted(counts).tolist() == [200.5, 120.25]


def test_the_level_of_an_epoch_is_taken_out_of_the_comparison() -> None:
    """The better arm was sent mostly in the bad hour: raw rates name the wrong one."""
    n = np.array([[5_000, 500], [500, 5_000]] * 10)
    k = (n * np.array([[0.20, 0.22], [0.10, 0.11]] * 10)).astype(int)
    counts = Counts(n, k)
    assert k.sum(axis=0)[0] / n.sum(axis=0)[0] > k.sum(axis=0)[1] / n.sum(axis=0)[1]
    assert Thompson(min_weight=0.0).weights(counts)[1] > 0.95


def log_normal(rng: np.random.Generator, n: int, median: float) -> NDArray[np.float64]:
    return np.asarray(rng.lognormal(np.log(median), 1.4, n))


def test_a_known_curve_is_found_again_from_young_and_old_mails() -> None:
    rng = np.random.default_rng(3)
    window = 72 * HOUR
    delays = log_normal(rng, 60_000, 1.0 * HOUR)
    delays = delays[delays < window]
    ages = rng.uniform(0, window, len(delays))
    curve = DelayCurve.fit(np.where(delays <= ages, delays, np.nan), ages, window=window)
    for hours in (0.5, 1, 3, 8, 24):
        assert curve.cdf(hours * HOUR) == pytest.approx(np.mean(delays <= hours * HOUR), abs=0.02)


def test_without_an_answer_the_curve_is_the_prior() -> None:
    prior = DelayCurve.default(window=24 * HOUR)
    fitted = DelayCurve.fit([np.nan] * 50, np.linspace(0, HOUR, 50), window=24 * HOUR)
    assert fitted.values == pytest.approx(prior.values)
    default = DelayCurve.default()
    assert default.cdf(24 * HOUR) / default.cdf(2.5 * HOUR) == pytest.approx(0.7 / 0.5, rel=0.01)


def test_counted_entries_equal_repeated_ones() -> None:
    delays, ages = [HOUR, 2 * HOUR, np.nan], [5 * HOUR, 9 * HOUR, HOUR]
    counted = DelayCurve.fit(delays, ages, counts=[3, 1, 2])
    listed = DelayCurve.fit([delays[0]] * 3 + [delays[1]] + [delays[2]] * 2, [ages[0]] * 3 + [ages[1]] + [ages[2]] * 2)
    assert counted.values.tolist() == listed.values.tolist()


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 2e6), st.floats(0, 1)), max_size=60), st.floats(60, 3e6))
def test_a_curve_rises_from_zero_to_one_whatever_it_was_fitted_to(
    pairs: list[tuple[float, float]], window: float
) -> None:
    ages = [age for age, _ in pairs]
    curve = DelayCurve.fit([age * part for age, part in pairs], ages, window=window)
    at = curve.cdf(np.linspace(0, window, 200))
    assert at[0] == 0
    assert at[-1] == 1
    assert (np.diff(at) >= 0).all()
    assert curve.cdf(window * 5) == 1


def test_an_outage_does_not_make_the_curve_collapse() -> None:
    """Nothing is read for 12 hours: mails sent meanwhile have no answers, older ones keep theirs."""
    rng = np.random.default_rng(4)
    sent = rng.uniform(0, 48 * HOUR, 20_000)
    opened = sent + log_normal(rng, len(sent), 1.5 * HOUR)
    opened = np.where((opened > 20 * HOUR) & (opened < 32 * HOUR), 32 * HOUR, opened)
    now = 48 * HOUR
    curve = DelayCurve.fit(np.where(opened <= now, opened - sent, np.nan), now - sent)
    assert 0.2 < float(curve.cdf(1.5 * HOUR)) < 0.6
    assert float(curve.cdf(24 * HOUR)) > 0.85


Quantiles = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def log_normals(median: float, spread: float) -> Quantiles:
    return lambda u: np.asarray(median * HOUR * np.exp(spread * ndtri(u)))


def two_waves(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half of the answers within about an hour, half around the next morning."""
    first, second = log_normals(0.5, 0.8), log_normals(12, 0.5)
    return np.where(u < 0.5, first(np.clip(2 * u, 1e-9, 1 - 1e-9)), second(np.clip(2 * u - 1, 1e-9, 1 - 1e-9)))


def arms_at(
    speeds: list[float | Quantiles], rates: list[float], *, hours: int, spread: float = 3.3, n: int = 500
) -> tuple[Counts, NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Hourly waves of n mails an arm, answers near their quantiles: counts, each answer's delay, age, arm; the ages."""
    ages = HOUR * np.arange(hours, 0, -1, dtype=np.float64)
    delays, mails, arms, seen = [], [], [], np.zeros((hours, len(rates)), dtype=int)
    for arm, (speed, rate) in enumerate(zip(speeds, rates, strict=True)):
        quantile = speed if callable(speed) else log_normals(speed, spread)
        for epoch, age in enumerate(ages):
            inside = (0.5 + 0.618 * epoch + 0.37 * arm) % 1.0  # no two waves show the same delays
            all_delays = quantile((np.arange(int(n * rate)) + inside) / int(n * rate))
            come = all_delays[all_delays <= age]
            seen[epoch, arm] = len(come)
            delays.append(come)
            mails.append(np.full(len(come), age))
            arms.append(np.full(len(come), arm))
    counts = Counts(np.full((hours, len(rates)), n), seen)
    return counts, np.concatenate(delays), np.concatenate(mails), np.concatenate(arms), ages


def exposures_of(curves: ArmCurves, counts: Counts, ages: NDArray[np.float64]) -> NDArray[np.float64]:
    epoch, arm = np.divmod(np.arange(counts.n.size), counts.n_arms)
    return curves.exposures(epoch, arm, ages[epoch], counts.n.ravel(), n_epochs=counts.n_epochs)


def by_own_curve(curves: ArmCurves, counts: Counts, ages: NDArray[np.float64]) -> Counts:
    epoch, arm = np.divmod(np.arange(counts.n.size), counts.n_arms)
    exposure = curves.exposure(epoch, arm, ages[epoch], counts.n.ravel(), n_epochs=counts.n_epochs)
    return Counts(counts.n, counts.successes, np.clip(exposure, 0, counts.n))


MONTH = 30 * 24 * HOUR


def test_a_slow_best_arm_is_found_by_its_own_curve_and_lost_by_a_common_one() -> None:
    counts, delays, mails, arms, ages = arms_at([2, 2, 2, 8], [0.18, 0.20, 0.21, 0.25], hours=24)
    curves = DelayCurve.fit_by_arm(delays, mails, arms, n_arms=4, window=MONTH)
    exposures = exposures_of(curves, counts, ages)
    common = weights_over(Thompson(min_weight=0.0), counts, exposures[:1], np.ones(1))
    own = weights_over(Thompson(min_weight=0.0), counts, exposures, curves.chances)
    assert common[3] < 0.05
    assert own[3] > 0.7
    assert curves.alike < 0.01
    assert curves.curve(3).cdf(2 * HOUR) < curves.curve(0).cdf(2 * HOUR) - 0.05


def test_a_fast_worst_arm_does_not_pass_for_the_best() -> None:
    counts, delays, mails, arms, ages = arms_at([0.7, 4, 4, 4], [0.18, 0.20, 0.21, 0.25], hours=8)
    curves = DelayCurve.fit_by_arm(delays, mails, arms, n_arms=4, window=MONTH)
    exposures = exposures_of(curves, counts, ages)
    common = weights_over(Thompson(min_weight=0.0), counts, exposures[:1], np.ones(1))
    own = weights_over(Thompson(min_weight=0.0), counts, exposures, curves.chances)
    assert own[0] < 0.5 * common[0]
    assert own[3] > 0.6


@pytest.mark.parametrize("hours", [6, 12, 18, 30, 47])
def test_a_worst_arm_that_is_answered_in_two_waves_does_not_pass_for_a_slow_best_one(hours: int) -> None:
    counts, delays, mails, arms, ages = arms_at(
        [two_waves, 2.5, 2.5, 2.5], [0.18, 0.20, 0.21, 0.25], hours=hours, spread=4.3
    )
    curves = DelayCurve.fit_by_arm(delays, mails, arms, n_arms=4, window=14 * 24 * HOUR)
    weights = Thompson(min_weight=0.0).weights(by_own_curve(curves, counts, ages))
    assert weights[0] < 0.2
    assert weights_over(Thompson(min_weight=0.0), counts, exposures_of(curves, counts, ages), curves.chances)[0] < 0.3


@pytest.mark.parametrize("hours", [18, 30, 47])
def test_a_best_arm_that_is_answered_in_two_waves_is_found_after_the_second(hours: int) -> None:
    counts, delays, mails, arms, ages = arms_at(
        [2.5, 2.5, 2.5, two_waves], [0.18, 0.20, 0.21, 0.25], hours=hours, spread=4.3
    )
    curves = DelayCurve.fit_by_arm(delays, mails, arms, n_arms=4, window=14 * 24 * HOUR)
    assert Thompson(min_weight=0.0).weights(by_own_curve(curves, counts, ages))[3] > 0.8
    assert curves.alike < 0.01


def test_an_arms_own_curve_follows_its_two_waves() -> None:
    _, delays, mails, arms, _ = arms_at([2.5, 2.5, 2.5, two_waves], [0.2] * 4, hours=30, spread=4.3)
    curves = DelayCurve.fit_by_arm(delays, mails, arms, n_arms=4, window=14 * 24 * HOUR)
    at = curves.curve(3).cdf(np.array([2, 5, 7, 20]) * HOUR)
    assert at[1] - at[0] < 0.05
    assert at[3] - at[2] > 0.25


def test_hundreds_of_millions_of_answers_still_give_each_arm_its_own_curve() -> None:
    u = (np.arange(4_000) + 0.5) / 4_000
    arms = [log_normals(2.5, 1.9)(u), two_waves(u), log_normals(0.8, 0.7)(u)]
    delays, arm = np.concatenate(arms), np.repeat(np.arange(3), len(u))
    come = delays < 48 * HOUR
    curves = DelayCurve.fit_by_arm(
        delays[come], np.full(come.sum(), 48 * HOUR), arm[come], n_arms=3, counts=np.full(come.sum(), 50_000)
    )
    for number, own in enumerate(arms):
        curve, seen = curves.curve(number), own[own < 40 * HOUR]
        for hours in (1, 5, 20):
            share = float(curve.cdf(hours * HOUR) / curve.cdf(40 * HOUR))
            assert share == pytest.approx(np.mean(seen <= hours * HOUR), abs=0.01)


def test_arms_of_one_speed_keep_the_common_curve_whatever_their_rates() -> None:
    _, delays, mails, arms, _ = arms_at([2.5] * 4, [0.10, 0.20, 0.21, 0.25], hours=24, spread=4.3)
    curves = DelayCurve.fit_by_arm(delays, mails, arms, n_arms=4, window=MONTH)
    pooled = DelayCurve.fit(delays, mails, window=MONTH)
    assert curves.alike > 0.85
    assert curves.pooled.values.tolist() == pooled.values.tolist()
    hours = np.array([1, 6, 24]) * HOUR
    for arm in range(4):
        assert curves.curve(arm).cdf(hours) == pytest.approx(pooled.cdf(hours), abs=0.02)


def test_without_answers_the_arms_curves_spread_around_the_prior() -> None:
    curves = DelayCurve.fit_by_arm([np.nan] * 3, [HOUR] * 3, [0, 1, 2], n_arms=3, alike=0.4)
    prior = DelayCurve.default()
    assert curves.alike == pytest.approx(0.4)
    assert curves.pooled.values == pytest.approx(prior.values)
    at = np.array([np.interp(HOUR, prior.edges, drawn) for drawn in curves.drawn[:, 0]])
    assert at.min() < float(prior.cdf(HOUR)) - 0.05
    assert at.max() > float(prior.cdf(HOUR)) + 0.05


def test_an_accounts_own_curve_carries_over_to_the_arms() -> None:
    """Half of the account's answers come at once, half after a night; arms that do the same are alike and fit it."""
    rng = np.random.default_rng(8)
    delays = np.where(rng.random(4_000) < 0.5, rng.uniform(0, HOUR, 4_000), rng.uniform(9 * HOUR, 11 * HOUR, 4_000))
    history = DelayCurve.fit(delays, np.full(4_000, 72 * HOUR))
    young = delays[:800] <= 10 * HOUR
    curves = DelayCurve.fit_by_arm(
        delays[:800][young], np.full(young.sum(), 10 * HOUR), np.arange(800)[young] % 2, n_arms=2, prior=history
    )
    assert curves.alike > 0.6
    assert curves.curve(0).cdf(6 * HOUR) == pytest.approx(0.5, abs=0.06)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1), st.integers(0, 2)), max_size=40),
    st.floats(60, 2e6),
    st.floats(0, 1),
)
def test_every_drawn_curve_rises_to_one_whatever_it_was_fitted_to(
    mails: list[tuple[float, float, int]], window: float, alike: float
) -> None:
    ages, arms = [age for age, _, _ in mails], [arm for _, _, arm in mails]
    delays = [age * part for age, part, _ in mails]
    curves = DelayCurve.fit_by_arm(delays, ages, arms, n_arms=3, window=window, alike=alike, draws=4)
    assert curves.chances.sum() == pytest.approx(1)
    assert (curves.chances >= 0).all()
    assert (np.diff(curves.drawn, axis=2) >= 0).all()
    assert (curves.drawn >= 0).all()
    assert (curves.drawn[..., -1] == 1).all() if alike < 1 else curves.drawn.size == 0
    assert [curves.curve(arm).cdf(window) for arm in range(3)] == [1, 1, 1]


def test_the_order_of_the_arms_does_not_matter_to_their_curves() -> None:
    _, delays, mails, arms, _ = arms_at([1, 2, 8], [0.2, 0.3, 0.25], hours=6)
    curves = DelayCurve.fit_by_arm(delays, mails, arms, n_arms=3)
    moved = DelayCurve.fit_by_arm(delays, mails, np.array([2, 0, 1])[arms], n_arms=3)
    assert moved.alike == pytest.approx(curves.alike)
    assert moved.drawn == pytest.approx(curves.drawn[:, [1, 2, 0]])


def test_the_exposure_is_that_of_each_arms_own_curve() -> None:
    counts, delays, mails, arms, ages = arms_at([1, 8], [0.2, 0.3], hours=6)
    curves = DelayCurve.fit_by_arm(delays, mails, arms, n_arms=2)
    exposure = by_own_curve(curves, counts, ages).exposure
    for arm in range(2):
        assert exposure[:, arm] == pytest.approx(counts.n[:, arm] * curves.curve(arm).cdf(ages))
    scenarios = exposures_of(curves, counts, ages)
    assert (exposure >= scenarios.min(axis=0) - 1e-9).all()
    assert (exposure <= scenarios.max(axis=0) + 1e-9).all()


def test_exposures_are_the_sums_of_the_curves_over_the_mails() -> None:
    _, delays, mails, arms, _ = arms_at([1, 8], [0.2, 0.3], hours=6)
    curves = DelayCurve.fit_by_arm(delays, mails, arms, n_arms=2, draws=3)
    ages = np.array([0.0, 0.4, 5.0, 500.0]) * HOUR
    exposures = curves.exposures([0, 0, 1, 1], [0, 0, 1, 1], ages, [10, 20, 30, 40], n_epochs=2)
    assert exposures.shape == (4, 2, 2)
    first, second = curves.pooled.cdf(ages[1]), curves.pooled.cdf(ages[2])
    assert exposures[0] == pytest.approx(np.array([[20 * first, 0], [0, 30 * second + 40]]))
    edges = np.append(0.0, curves.pooled.edges)
    drawn = np.interp(ages[2], edges, np.append(0.0, curves.drawn[2, 1]))
    assert exposures[3, 1, 1] == pytest.approx(30 * drawn + 40)


@pytest.mark.parametrize(
    ("arms", "n_arms", "alike", "draws", "fault"),
    [
        ([0, 3], 3, 0.5, 4, "arms reach"),
        ([-1, 0], 3, 0.5, 4, "arms reach"),
        ([0], 3, 0.5, 4, "shapes"),
        ([0, 1], 3, 1.5, 4, "alike is 1.5"),
        ([0, 1], 3, 0.5, 0, "draws 0"),
    ],
)
def test_impossible_arms_are_refused(arms: list[int], n_arms: int, alike: float, draws: int, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        DelayCurve.fit_by_arm([1.0, 2.0], [3.0, 3.0], arms, n_arms=n_arms, alike=alike, draws=draws)


@settings(deadline=None, max_examples=30)
@given(some_counts(), st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda c: sum(c) > 0), st.floats(0, 1))
def test_averaged_weights_lie_between_those_of_the_scenarios(counts: Counts, chances: list[float], part: float) -> None:
    policy = Thompson(min_weight=part / counts.n_arms)
    exposures = np.stack([counts.exposure, counts.n * 0.5, counts.n * 1.0])
    weights = weights_over(policy, counts, exposures, np.array(chances))
    single = np.array([weights_over(policy, counts, exposures[i : i + 1], np.ones(1)) for i in range(3)])
    assert weights.sum() == 1.0
    assert (weights >= single.min(axis=0) - 2 / WEIGHT_UNIT).all()
    assert (weights <= single.max(axis=0) + 2 / WEIGHT_UNIT).all()
    assert single[0].tolist() == policy.weights(counts).tolist()


def test_averaged_weights_leave_a_stopped_arm_at_nothing() -> None:
    counts = Counts([500, 500, 500], [50, 60, 150])
    exposures = np.stack([counts.exposure, counts.exposure / 2])
    weights = weights_over(Thompson(), counts, exposures, np.array([1.0, 1.0]), active=[True, True, False])
    assert weights[2] == 0
    assert weights.sum() == 1


@pytest.mark.parametrize(
    ("shape", "chances", "fault"),
    [((2, 1, 3), [0.5, 0.5], "shape"), ((2, 1, 2), [1.0], "shape"), ((1, 1, 2), [0.0], "chances"),
     ((2, 1, 2), [1.5, -0.5], "chances"), ((1, 1, 2), [float("nan")], "chances")],
)  # fmt: skip
def test_scenarios_that_do_not_fit_are_refused(shape: tuple[int, ...], chances: list[float], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        weights_over(Uniform(), Counts([1, 1], [0, 0]), np.ones(shape), np.array(chances))


@pytest.mark.parametrize(
    ("edges", "values"), [([1.0, 2.0], [0.5, 0.9]), ([2.0, 1.0], [0.5, 1.0]), ([1.0, 2.0], [1.2, 1.0]), ([], [])]
)
def test_what_is_no_curve_is_refused(edges: list[float], values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"delay curve|shapes"):
        DelayCurve.from_dict({"edges": edges, "values": values})


def test_a_prior_for_another_window_is_refused() -> None:
    with pytest.raises(ValueError, match="3600 seconds, the fit's 86400"):
        DelayCurve.fit([1.0], [2.0], window=24 * HOUR, prior=DelayCurve.default(window=HOUR))


def test_a_curve_comes_back_from_its_json_form() -> None:
    curve = DelayCurve.fit([HOUR], [2 * HOUR], window=24 * HOUR)
    again = DelayCurve.from_dict(curve.to_dict())
    assert again.values.tolist() == curve.values.tolist()
    assert again.window == 24 * HOUR


@pytest.mark.parametrize(
    ("delays", "ages", "fault"),
    [([5.0], [1.0], "future"), ([-1.0], [1.0], "negative"), ([1.0], [np.inf], "finite"), ([1.0, 2.0], [3.0], "shapes")],
)
def test_impossible_delays_are_refused(delays: list[float], ages: list[float], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        DelayCurve.fit(delays, ages)


EVEN_LOSS = 2_000 * 30 * 0.04


def drawn(rng: np.random.Generator, n: int, *, waves: bool) -> NDArray[np.float64]:
    """Delays within three days: the default curve's, or two waves."""
    if waves:
        return two_waves(rng.random(n))
    come = rng.lognormal(np.log(2.5 * HOUR), np.log(24 / 2.5) / 0.5244, 4 * n + 20)
    return np.asarray(come[come < 72 * HOUR][:n])


def nobody_reads(opened: NDArray[np.float64], rng: np.random.Generator, first: float, last: float) -> Any:
    """What would be opened between two hours is opened after the second one."""
    held = (opened > first * HOUR) & (opened < last * HOUR)
    return np.where(held, last * HOUR + rng.exponential(0.7 * HOUR, len(opened)), opened)


def some_stay_away(opened: NDArray[np.float64], rng: np.random.Generator) -> Any:
    """A weekend begins at hour 12: nine in ten of what would be opened then wait until it is over."""
    late = (opened > 12 * HOUR) & (rng.random(len(opened)) < 0.9)
    return np.where(late, opened + 60 * HOUR, opened)


def loss(
    seed: int, *, by_arm: bool, odd: int | None = None, calendar: Callable[..., Any] = lambda opened, rng: opened
) -> float:
    """Opens lost over 30 hourly epochs of 2,000 mails, one arm perhaps opened in two waves."""
    rng = np.random.default_rng(seed)
    rates = np.array([0.18, 0.20, 0.21, 0.25])
    sent = np.zeros((0, 4), dtype=np.int64)
    epoch, arm, delay = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
    weights, lost = np.full(4, 0.25), 0.0
    for now in range(30):
        if now:
            ages = HOUR * np.arange(now, 0, -1, dtype=np.float64)
            come = delay <= ages[epoch]
            cell = np.bincount(epoch[come] * 4 + arm[come], minlength=4 * now).reshape(now, 4)
            known = Counts(sent, cell)
            if by_arm:
                curves = DelayCurve.fit_by_arm(delay[come], ages[epoch[come]], arm[come], n_arms=4)
                known = by_own_curve(curves, known, ages)
            else:
                curve = DelayCurve.fit(delay[come], ages[epoch[come]])
                known = Counts(sent, cell, exposure=sent * curve.cdf(ages)[:, None])
            weights = Thompson(min_weight=0.0).weights(known)
        n = rng.multinomial(2_000, weights)
        new = [drawn(rng, k, waves=a == odd) for a, k in enumerate(rng.binomial(n, rates))]
        sent, epoch = np.vstack([sent, n]), np.append(epoch, np.full(sum(map(len, new)), now))
        arm = np.append(arm, np.repeat(np.arange(4), [len(part) for part in new]))
        opened = calendar(np.concatenate(new) + now * HOUR, rng)
        delay = np.append(delay, opened - now * HOUR)
        lost += float(n @ (rates.max() - rates))
    return lost


@pytest.mark.parametrize("by_arm", [False, True])
@pytest.mark.parametrize(
    "calendar",
    [partial(nobody_reads, first=8, last=20), some_stay_away],
    ids=["outage of twelve hours", "weekend from hour 12"],
)
def test_an_outage_or_a_weekend_does_not_drive_the_mails_to_a_wrong_arm(by_arm: bool, calendar: Any) -> None:
    losses = [loss(seed, by_arm=by_arm, calendar=calendar) for seed in range(4)]
    assert np.mean(losses) < 0.2 * EVEN_LOSS
    assert max(losses) < 0.5 * EVEN_LOSS


@pytest.mark.parametrize(("odd", "bound"), [(0, 0.25), (3, 0.4), (None, 0.2)])
def test_curves_by_arm_lose_little_where_an_arm_is_opened_in_two_waves_and_where_none_is(
    odd: int | None, bound: float
) -> None:
    assert np.mean([loss(seed, by_arm=True, odd=odd) for seed in range(4)]) < bound * EVEN_LOSS


def slow(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Delays of the default curve: median 2.5 h, 70 % of them within a day, none over three."""
    drawn = rng.lognormal(np.log(2.5 * HOUR), np.log(24 / 2.5) / 0.5244, 4 * n + 20)
    return np.asarray(drawn[drawn < 72 * HOUR][:n])


def regret(seed: int, *, corrected: bool | None) -> float:
    """Opens lost over 48 hourly epochs of 2,000 mails whose opens take from seconds to days; None is an even split."""
    rng = np.random.default_rng(seed)
    rates = np.array([0.18, 0.20, 0.21, 0.25])
    sends: list[NDArray[np.int64]] = []
    opens: list[list[NDArray[np.float64]]] = []
    weights = np.full(4, 0.25)
    lost = 0.0
    for now in range(48):
        if now and corrected is not None:
            ages = [float(now - t) * HOUR for t in range(now)]
            k = np.array([[np.sum(d <= ages[t]) for d in opens[t]] for t in range(now)])
            seen = [(d[d <= ages[t]], ages[t]) for t in range(now) for d in opens[t]]
            curve = DelayCurve.fit(
                np.concatenate([d for d, _ in seen]), np.concatenate([np.full(len(d), age) for d, age in seen])
            )
            known = Counts(np.array(sends), k, exposure=np.maximum(k, np.array(sends) * curve.cdf(ages)[:, None]))
            pooled = Counts(np.sum(sends, axis=0), k.sum(axis=0))  # every silent mail a failure, all hours alike
            weights = Thompson(min_weight=0.0).weights(known if corrected else pooled)
        n = rng.multinomial(2_000, weights)
        delays = [slow(rng, rng.binomial(n[a], rates[a])) for a in range(4)]
        sends.append(n)
        opens.append(delays)
        lost += float(n @ (rates.max() - rates))
    return lost


def test_counting_pending_mails_by_their_delay_loses_less_than_counting_them_as_failures() -> None:
    runs = range(16)
    even, naive, ours = (np.mean([regret(seed, corrected=c) for seed in runs]) for c in (None, False, True))
    assert even > 900
    assert ours < 0.8 * naive
    assert ours < 0.25 * even


def binned_delays(
    medians: tuple[float, float], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Delays of 600 mails to two arms in the middle of 10-minute bins, as the store counts them."""
    rng = np.random.default_rng(seed)
    arm, age = rng.integers(2, size=600), rng.integers(1, 12, 600) * 3_600.0 - 300
    delay = np.exp(rng.normal(np.log(np.array(medians)[arm] * 3_600), 2.5)) // 600 * 600 + 300
    come = delay <= age
    return delay[come], age[come], arm[come]


def test_arms_of_different_speed_are_told_apart_by_delays_in_bins() -> None:
    prior = DelayCurve.default().in_steps(600)
    alike, apart = (
        [DelayCurve.fit_by_arm(*binned_delays(m, seed), n_arms=2, prior=prior).alike for seed in range(6)]
        for m in ((2.5, 2.5), (0.7, 4.0))
    )
    assert sorted(apart)[4] < 0.2
    assert sorted(alike)[1] > 0.4


def test_a_sum_of_chances_that_passes_one_by_its_last_digit_leaves_no_negative_chance() -> None:
    curve = DelayCurve.default()
    curves = ArmCurves(curve, np.ones((16, 2, len(curve.edges))), 1.0000000000000002)
    assert curves.chances.tolist() == [1.0] + [0.0] * 16


def test_a_curve_in_steps_is_the_same_curve_at_their_ends() -> None:
    curve = DelayCurve.default(window=100_000.0)
    stepped = curve.in_steps(600)
    assert stepped.window == 100_000.0
    assert (stepped.edges[:-1] % 600 == 0).all()
    assert stepped.cdf(stepped.edges) == pytest.approx(curve.cdf(stepped.edges))
    assert DelayCurve.default(window=300.0).in_steps(600).edges.tolist() == [300.0]
    with pytest.raises(ValueError, match="seconds is 0"):
        curve.in_steps(0)
