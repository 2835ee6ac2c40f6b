"""Weights that learn from what is known, and know what cannot be known yet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from abmail.bandit import (
    WEIGHT_UNIT,
    DelayCurve,
    Fixed,
    Policy,
    Thompson,
    Uniform,
    level_weighted,
    policy_from_dict,
    quantise,
)
from abmail.stats import Counts

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
    exact = floor + (1 - floor * len(given_shares)) * np.array(given_shares) / sum(given_shares)
    assert np.abs(weights - exact).max() <= len(given_shares) / WEIGHT_UNIT


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


def test_without_any_mail_the_split_is_even() -> None:
    for policy in (Thompson(), Uniform()):
        assert policy.weights(Counts([0, 0, 0, 0], [0, 0, 0, 0])).tolist() == [0.25] * 4


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
    "policy", [Thompson(), Thompson(min_weight=None, prior=(2.0, 8.0)), Uniform(), Fixed(shares=(0.3, 0.7))]
)
def test_policies_come_back_from_their_json_form(policy: Policy) -> None:
    assert isinstance(policy, Policy)
    assert policy_from_dict(policy.to_dict()) == policy


def test_nonsense_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"min_weight is 0\.6"):
        Thompson(min_weight=0.6)
    with pytest.raises(ValueError, match="for 5 arms"):
        Thompson(min_weight=0.3).weights(Counts([1] * 5, [0] * 5))
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
