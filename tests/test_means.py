"""Comparison of means: reference values, identities, properties, and guarantees by simulation."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from abmail._cells import Cells, cells_of
from abmail._later import Later
from abmail._mean_score import MeanPair, any_look, one_look, planned
from abmail.errors import MissingExtra
from abmail.stats import Counts, MeanResult, Moments, compare, compare_means, obrien_fleming

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

PROPERTY = settings(max_examples=25, deadline=None, derandomize=True)
METHODS: tuple[Literal["fixed", "sequential", "anytime"], ...] = ("fixed", "sequential", "anytime")

# 240 recipients of two arms, made by arithmetic so that other programs can be given the same ones.
NUMBER = np.arange(240)
ARM = NUMBER % 2
COVARIATE = (NUMBER * 37 % 101) / 10
OPENS = 1.0 + (NUMBER * 29) % 7
SPENT = 0.6 * COVARIATE + (NUMBER * 53 % 97) / 20 + 0.3 * ARM
CLICKS = (NUMBER * 17 % 8) * (OPENS / 7)


def second(answer: Any) -> MeanResult:
    result: MeanResult = answer.arms[1]
    return result


def epochs_of(
    rng: np.random.Generator, *, n: int = 2_000, n_epochs: int = 5, n_arms: int = 2, lift: float = 0.0, **more: Any
) -> Moments:
    """Gamma values around 2 with a level that drifts from epoch to epoch."""
    epoch, arm = rng.integers(0, n_epochs, n), rng.integers(0, n_arms, n)
    y = rng.gamma(2.0, 1.0, n) * (1 + 0.1 * epoch) * np.where(arm == 1, 1 + lift, 1.0)
    return Moments.from_values(y, arm=arm, epoch=epoch, n_epochs=n_epochs, n_arms=n_arms, **more)


# --- Reference values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_single_look_is_welchs_test_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.gamma(2, 1, 57), rng.normal(2, 3, 140)
    result = second(compare_means(Moments.from_values([*a, *b], arm=[0] * 57 + [1] * 140), alpha=0.1))
    welch = scipy.stats.ttest_ind(b, a, equal_var=False)
    interval = welch.confidence_interval(0.9)

    assert result.p_value == pytest.approx(welch.pvalue, rel=1e-10)
    assert (result.ci_lower, result.ci_upper) == pytest.approx((interval.low, interval.high), rel=1e-10)


def test_a_single_look_is_the_unequal_variance_comparison_of_statsmodels() -> None:
    result = second(compare_means(Moments.from_values(SPENT, arm=ARM)))
    peer = CompareMeans(DescrStatsW(SPENT[ARM == 1]), DescrStatsW(SPENT[ARM == 0]))

    assert (result.ci_lower, result.ci_upper) == pytest.approx(peer.tconfint_diff(usevar="unequal"), rel=1e-10)
    assert result.p_value == pytest.approx(peer.ttest_ind(usevar="unequal")[1], rel=1e-10)


# Effect, lower and upper end, p-value as gbstats 0.8.0 (TwoSidedTTest, absolute) and tea-tasting 1.14.0 (Mean,
# RatioOfMeans) both give them for the recipients above.
REFERENCE: dict[str, tuple[Moments, tuple[float, float, float, float]]] = {
    "mean": (
        Moments.from_values(SPENT, arm=ARM),
        (0.32091666666666807, -0.2760233083810202, 0.9178566417143563, 0.29064188555275594),
    ),
    "covariate": (
        Moments.from_values(SPENT, arm=ARM, covariate=COVARIATE),
        (0.32305808038676664, -0.03372829389314019, 0.6798444546666735, 0.07573801925622514),
    ),
    "ratio": (
        Moments.from_values(CLICKS, arm=ARM, denominator=OPENS),
        (0.136569087780898, 0.04630531176341844, 0.22683286379837753, 0.0031754542726518675),
    ),
}


@pytest.mark.parametrize("name", REFERENCE)
def test_means_ratios_and_covariates_agree_with_gbstats_and_tea_tasting(name: str) -> None:
    moments, expected = REFERENCE[name]
    result = second(compare_means(moments))

    assert (result.effect, result.ci_lower, result.ci_upper, result.p_value) == pytest.approx(expected, rel=1e-9)


def test_the_delta_method_on_our_moments_gives_the_relative_interval_of_gbstats() -> None:
    # gbstats 0.8.0, its own test: 14 of 28 against 16 of 30, variance p (1 - p), relative: estimate .06667, interval
    # -.47767 to .61101, p .80707. Ours inverts the statistic instead of dividing by the noisy control, and must differ.
    rates = np.array([14 / 28, 16 / 30])
    moments = Moments.from_summary([28, 30], rates, rates * (1 - rates))
    result = second(compare_means(moments))
    test = one_look(pair_of(moments))
    noise = (moments.variance / moments.n)[0]
    sd = np.sqrt(noise[1] + (rates[1] / rates[0]) ** 2 * noise[0]) / rates[0]
    freedom = float(test.freedom(np.ones(1), np.ones(1))[0, 0])
    half = scipy.stats.t.ppf(0.975, freedom) * sd

    assert result.lift == pytest.approx(0.06667, abs=1e-5)
    assert 0.0666667 - half == pytest.approx(-0.47767, abs=1e-5)
    assert 0.0666667 + half == pytest.approx(0.61101, abs=1e-5)
    assert 2 * scipy.stats.t.sf(0.0666667 / sd, freedom) == pytest.approx(0.80707, abs=1e-5)
    for end in (result.lift_lower, result.lift_upper):
        assert end is not None
        ratio = np.full(1, 1 + end)
        away = abs(rates[1] - ratio[0] * rates[0]) / np.sqrt(noise[1] + ratio[0] ** 2 * noise[0])
        assert away == pytest.approx(scipy.stats.t.ppf(0.975, float(test.freedom(ratio, np.ones(1))[0, 0])), rel=1e-9)


def test_the_covariate_is_taken_out_as_by_regression() -> None:
    rng = np.random.default_rng(3)
    n = 4_000
    arm, x = (rng.random(n) < 0.3).astype(np.int64), rng.gamma(2, 1, n)
    y = 2 + 0.8 * x + 0.1 * arm + rng.normal(0, 1, n)
    result = second(compare_means(Moments.from_values(y, arm=arm, covariate=x)))
    fit = OLS(y, np.column_stack([np.ones(n), arm, x])).fit()
    # The slope of all units together, arms ignored, shrinks the coefficient by 1 - h (difference of x)^2 / S_xx exactly
    # (Frisch & Waugh 1933); that is how theta can be blind to the arms.
    apart = x[arm == 1].mean() - x[arm == 0].mean()
    shrunk = 1 - (arm == 1).sum() * (arm == 0).sum() / n * apart**2 / ((x - x.mean()) ** 2).sum()

    assert result.effect == pytest.approx(fit.params[1] * shrunk, rel=1e-10)
    assert result.effect == pytest.approx(fit.params[1], rel=2e-3)
    assert result.ci_lower is not None
    assert result.ci_upper is not None
    assert result.ci_upper - result.ci_lower == pytest.approx(2 * 1.96 * fit.bse[1], rel=0.02)


def test_companies_give_the_cluster_robust_variance_of_statsmodels() -> None:
    rng = np.random.default_rng(4)
    company = rng.integers(0, 90, 1_500)
    arm = company % 2
    y = rng.normal(0, 1, 90)[company] + rng.normal(0, 1, 1_500) + 0.2 * arm
    result = second(compare_means(Moments.from_values(y, arm=arm, cluster=company)))
    fit = OLS(y, np.column_stack([np.ones(1_500), arm])).fit(
        cov_type="cluster", cov_kwds={"groups": company, "use_correction": False}
    )
    test = one_look(pair_of(Moments.from_values(y, arm=arm, cluster=company)))
    factor = 45 / 44  # 45 companies per arm: sums of squares over G - 1 instead of G

    assert result.effect == pytest.approx(fit.params[1], rel=1e-10)
    assert float(test.se[0, -1]) ** 2 == pytest.approx(fit.bse[1] ** 2 * factor, rel=1e-10)
    naive = one_look(pair_of(Moments.from_values(y, arm=arm)))
    assert float(naive.se[0, -1]) < 0.5 * float(test.se[0, -1])


def test_companies_of_one_person_each_are_the_people() -> None:
    people = Moments.from_values(SPENT, arm=ARM, covariate=COVARIATE)
    alone = Moments.from_values(SPENT, arm=ARM, covariate=COVARIATE, cluster=NUMBER)

    for one, other in zip(compare_means(people).rows(), compare_means(alone).rows(), strict=True):
        assert [one[k] for k in one] == [pytest.approx(v) if isinstance(v, float) else v for v in other.values()]


def test_a_covariate_of_companies_is_taken_out_of_the_mean_per_person() -> None:
    rng = np.random.default_rng(5)
    company = rng.zipf(1.6, 20_000) % 400
    habit = rng.normal(0, 1, 400)[company]
    x = habit + rng.normal(0, 0.5, 20_000)
    y = 3 + habit + rng.normal(0, 0.5, 20_000)
    moments = Moments.from_values(y, arm=company % 2, covariate=x, cluster=company)
    plain, adjusted = compare_means(moments, cuped=False), compare_means(moments)

    assert adjusted.variance_saved is not None
    assert adjusted.variance_saved > 0.9
    assert width(adjusted) < 0.35 * width(plain)


def width(answer: Any) -> float:
    arm = second(answer)
    assert arm.ci_lower is not None
    assert arm.ci_upper is not None
    return arm.ci_upper - arm.ci_lower


def pair_of(moments: Moments, *, cuped: bool = True) -> MeanPair:
    """Arms 0 and 1 as a pair with a leading axis of one."""
    return pair_in([cells_of(moments, cuped=cuped)])


def pair_in(all_cells: Sequence[Cells]) -> MeanPair:
    """Arms 0 and 1 of every replication, (replications, n_epochs)."""
    n, value, scatter, level = (
        np.stack([getattr(c, name) for c in all_cells]) for name in ("n", "value", "scatter", "level")
    )
    return MeanPair(
        n_a=n[:, 0], value_a=value[:, 0], scatter_a=scatter[:, 0],
        n_b=n[:, 1], value_b=value[:, 1], scatter_b=scatter[:, 1], level=Later(lambda: level),
    )  # fmt: skip


def replications_of(moments: Moments, shape: tuple[int, int]) -> MeanPair:
    """The same where replications (first) and their epochs stand in a row where epochs do."""
    cells = cells_of(moments, cuped=False)
    parts = [part.reshape(-1, *shape) for part in (cells.n, cells.value, cells.scatter)]
    rows = [
        Cells(n=n, value=v, scatter=s, unadjusted=s)
        for n, v, s in zip(*(np.moveaxis(p, 0, 1) for p in parts), strict=True)
    ]
    return pair_in(rows)


# --- Identities -------------------------------------------------------------------------------------------------------


def test_one_planned_epoch_is_the_z_test_over_all_ways_to_split_the_values() -> None:
    # Neyman 1923: given all values, the difference of two means has variance S^2 (1 / n_a + 1 / n_b).
    arm = (NUMBER % 3 == 0).astype(np.int64)
    answer = second(compare_means(Moments.from_values(SPENT, arm=arm), method="sequential", looks=1))
    own = [SPENT[arm == a].var(ddof=1) / SPENT.var(ddof=1) for a in range(2)]
    se = np.sqrt(SPENT.var(ddof=1) * (max(own[0], 1) / 160 + max(own[1], 1) / 80))
    z = (SPENT[arm == 1].mean() - SPENT[arm == 0].mean()) / se

    assert answer.p_value == pytest.approx(2 * ndtr(-abs(z)), rel=1e-9)
    assert answer.ci_upper == pytest.approx(z * se + 1.9599640 * se, rel=1e-7)


@pytest.mark.parametrize("method", ["sequential", "anytime"])
def test_several_epochs_follow_the_formula_written_out(method: Literal["sequential", "anytime"]) -> None:
    moments = epochs_of(np.random.default_rng(6), lift=0.05, n_epochs=8, looks=8)
    n, m, s = moments.n.astype(float), moments.mean[..., 0], moments.product[..., 0, 0]
    h, d = n.prod(axis=1) / n.sum(axis=1), m[:, 1] - m[:, 0]
    own = (s.sum(axis=1) + h * d**2) / (n.sum(axis=1) - 1)
    within = [(s[max(0, t - 5) : t or 1].sum(), (n - 1)[max(0, t - 5) : t or 1].sum()) for t in range(8)]
    g = h if method == "anytime" else np.sqrt(h / 8 / [a / b for a, b in within])
    rho, c, p = 0.6 / 4 * 3_000 / 8.2131, obrien_fleming(8, 0.05), 1.0
    for t in range(1, 9):
        ratio = np.maximum((s[:t] / own[:t, None]).sum(axis=0) / (n[:t] - 1).sum(axis=0), 1)
        noise = (g[:t, None] ** 2 * own[:t, None] / n[:t]).sum(axis=0) * ratio
        z, size = (g[:t] * d[:t]).sum() / np.sqrt(noise.sum()), h[:t].sum()
        p = min(p, float(np.sqrt((size + rho) / rho) * np.exp(-(z**2) * size / (2 * (size + rho)))))
    limit = c if method == "sequential" else np.sqrt((1 + rho / size) * (np.log((size + rho) / rho) + 2 * np.log(20)))
    result = second(compare_means(moments, method=method, horizon=3_000))
    top = (g[:, None] * m).sum(axis=0)

    assert result.effect == pytest.approx((g * d).sum() / g.sum(), rel=1e-10)
    assert result.ci_lower == pytest.approx(((g * d).sum() - limit * np.sqrt(noise.sum())) / g.sum(), rel=1e-4)
    assert result.lift == pytest.approx(top[1] / top[0] - 1, rel=1e-10)
    for end, side in ((result.lift_lower, 1), (result.lift_upper, -1)):
        assert end is not None
        away = (top[1] - (1 + end) * top[0]) / np.sqrt(noise[1] + (1 + end) ** 2 * noise[0])
        assert away == pytest.approx(side * limit, rel=1e-4)
    if method == "anytime":
        assert result.p_value == pytest.approx(p, rel=1e-3)


def test_yes_and_no_as_means_give_nearly_the_answer_of_counts() -> None:
    rng = np.random.default_rng(8)
    n = np.full((10, 2), 400)
    hits = rng.binomial(n, [0.2, 0.21])
    rate = hits / n
    moments = Moments.from_summary(n, rate, rate * (1 - rate) * n / (n - 1), looks=10)
    as_means = second(compare_means(moments))
    as_counts = compare(Counts(n, hits, looks=10)).arms[1]

    assert as_means.effect == pytest.approx(as_counts.effect, rel=0.01)  # each epoch in its own standard deviations
    assert as_means.ci_lower == pytest.approx(as_counts.ci_lower, abs=1e-3)
    assert as_means.lift_upper == pytest.approx(as_counts.lift_upper, rel=0.05)
    assert as_means.p_value == pytest.approx(as_counts.p_value, rel=0.1)


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 10_000), lift=st.sampled_from([0.0, 0.05, 0.1]))
@PROPERTY
def test_intervals_hold_their_estimate_and_lift_and_difference_agree_about_zero(
    method: Literal["fixed", "sequential", "anytime"], seed: int, lift: float
) -> None:
    moments = epochs_of(np.random.default_rng(seed), lift=lift)
    result = second(compare_means(moments, method=method, looks=5))

    assert result.effect is not None
    assert result.lift is not None
    assert result.ci_lower is not None
    assert result.ci_upper is not None
    assert result.lift_lower is not None
    assert result.lift_upper is not None
    assert result.ci_lower < result.effect < result.ci_upper
    assert result.lift_lower < result.lift < result.lift_upper
    assert (result.ci_lower > 0) == (result.lift_lower > 0)
    assert (result.ci_upper < 0) == (result.lift_upper < 0)
    if method == "fixed":
        assert result.p_value is not None
        assert (result.ci_lower > 0 or result.ci_upper < 0) == (result.p_value < 0.05)


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 10_000))
@PROPERTY
def test_swapping_the_arms_turns_everything_round(method: Literal["fixed", "sequential", "anytime"], seed: int) -> None:
    moments = epochs_of(np.random.default_rng(seed), lift=0.1)
    there = second(compare_means(moments, method=method, looks=5))
    back = second(compare_means(moments.arms([1, 0]), method=method, looks=5))

    assert back.effect == pytest.approx(-(there.effect or 0))
    assert (back.ci_lower, back.ci_upper) == pytest.approx((-(there.ci_upper or 0), -(there.ci_lower or 0)))
    assert back.p_value == pytest.approx(there.p_value)
    for one, other in (
        (back.lift, there.lift),
        (back.lift_lower, there.lift_upper),
        (back.lift_upper, there.lift_lower),
    ):
        assert one == pytest.approx(1 / (1 + (other or 0)) - 1, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([1e-6, 0.01, 100.0, 1e9]))
@PROPERTY
def test_another_currency_changes_nothing_but_the_unit(
    method: Literal["fixed", "sequential", "anytime"], seed: int, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    y, x, arm, epoch = rng.gamma(2, 1, 900), rng.gamma(2, 1, 900), rng.integers(0, 2, 900), rng.integers(0, 5, 900)
    plain, other = (
        second(
            compare_means(Moments.from_values(k * (y + x), arm=arm, epoch=epoch, covariate=x), method=method, looks=5)
        )
        for k in (1.0, scale)
    )

    assert other.effect == pytest.approx(scale * (plain.effect or 0), rel=1e-6)
    assert other.ci_upper == pytest.approx(scale * (plain.ci_upper or 0), rel=1e-6)
    assert (other.lift, other.lift_lower, other.p_value) == pytest.approx(
        (plain.lift, plain.lift_lower, plain.p_value), rel=1e-6
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_level_of_a_billion_leaves_effect_and_interval_alone(
    method: Literal["fixed", "sequential", "anytime"],
) -> None:
    rng = np.random.default_rng(9)
    y, arm, epoch = rng.normal(0, 1, 900), rng.integers(0, 2, 900), rng.integers(0, 5, 900)
    near, far = (
        second(compare_means(Moments.from_values(y + k, arm=arm, epoch=epoch), method=method, looks=5))
        for k in (0, 1e9)
    )

    assert (far.effect, far.ci_lower, far.ci_upper, far.p_value) == pytest.approx(
        (near.effect, near.ci_lower, near.ci_upper, near.p_value), abs=1e-4
    )


# --- Covariates and ratios over epochs --------------------------------------------------------------------------------


def test_theta_of_later_epochs_comes_from_earlier_ones_alone() -> None:
    rng = np.random.default_rng(10)
    n = 800
    epoch, arm, x = np.repeat([0, 1], n // 2), rng.integers(0, 2, n), rng.normal(0, 1, n)
    slope = np.where(epoch == 0, 2.0, -5.0)
    y = slope * x + rng.normal(0, 1, n)
    cells = cells_of(Moments.from_values(y, arm=arm, epoch=epoch, covariate=x), cuped=True)
    moments = Moments.from_values(y, arm=arm, epoch=epoch, covariate=x)
    theta = moments.product[0, :, 0, 1].sum() / moments.product[0, :, 1, 1].sum()
    second_epoch = epoch == 1
    level = x[second_epoch].mean()

    for a in range(2):
        here = second_epoch & (arm == a)
        assert cells.value[a, 1] == pytest.approx(y[here].mean() - theta * (x[here].mean() - level), rel=1e-9)
        rest = y[here] - theta * x[here]
        assert cells.scatter[a, 1] == pytest.approx(((rest - rest.mean()) ** 2).sum(), rel=1e-9)


def test_the_first_epoch_takes_theta_from_all_its_units_whatever_their_arm() -> None:
    rng = np.random.default_rng(11)
    x = rng.normal(0, 1, 400)
    y = x + rng.normal(0, 1, 400)
    arm = rng.integers(0, 2, 400)
    mixed = rng.permutation(arm)
    theta = np.cov(x, y)[0, 1] / x.var(ddof=1)

    for arms in (arm, mixed):
        cells = cells_of(Moments.from_values(y, arm=arms, covariate=x), cuped=True)
        apart = cells.value[1, 0] - cells.value[0, 0]
        expected = [(y - theta * x)[arms == a].mean() for a in range(2)]
        assert apart == pytest.approx(expected[1] - expected[0], rel=1e-9)


def test_a_covariate_that_explains_half_halves_the_variance_and_one_that_explains_nothing_does_no_harm() -> None:
    rng = np.random.default_rng(12)
    n = 20_000
    arm, epoch, x = rng.integers(0, 2, n), rng.integers(0, 10, n), rng.normal(0, 1, n)
    y = x + rng.normal(0, 1, n)
    good = compare_means(Moments.from_values(y, arm=arm, epoch=epoch, covariate=x, looks=10))
    useless = compare_means(Moments.from_values(y, arm=arm, epoch=epoch, covariate=rng.permutation(x), looks=10))
    without = compare_means(Moments.from_values(y, arm=arm, epoch=epoch, covariate=x, looks=10), cuped=False)

    assert good.variance_saved == pytest.approx(0.5, abs=0.02)
    assert width(good) == pytest.approx(width(without) * np.sqrt(0.5), rel=0.02)
    assert useless.variance_saved == pytest.approx(0, abs=0.005)
    assert without.variance_saved is None


def test_a_covariate_that_never_varies_is_passed_over() -> None:
    plain = compare_means(Moments.from_values(SPENT, arm=ARM))
    constant = compare_means(Moments.from_values(SPENT, arm=ARM, covariate=np.full(240, 7.0)))

    assert constant.arms[1] == plain.arms[1]
    assert constant.variance_saved == 0.0


def test_an_epoch_in_which_nobody_opened_has_no_clicks_per_open_and_does_not_count() -> None:
    opens = np.where(NUMBER < 120, 0.0, OPENS)
    epoch = (NUMBER >= 120).astype(np.int64)
    both = Moments.from_values(CLICKS * (opens > 0), arm=ARM, epoch=epoch, denominator=opens)
    alone = Moments.from_values(CLICKS[120:], arm=ARM[120:], denominator=OPENS[120:])

    for method in ("sequential", "anytime"):
        one, other = (second(compare_means(m, method=method, looks=2, horizon=240)) for m in (both, alone))
        assert (one.effect, one.mean) == pytest.approx((other.effect, other.mean))
    assert compare_means(alone).metric == "ratio"


# --- What counts ------------------------------------------------------------------------------------------------------


def test_an_epoch_with_too_few_units_in_an_arm_does_not_count_and_its_share_stays_in_the_budget() -> None:
    n = np.array([[500, 29], [500, 400], [500, 400]])
    mean, variance = np.array([[1.0, 99.0], [1.0, 1.1], [1.0, 1.1]]), np.ones((3, 2))
    with_gap = Moments.from_summary(n, mean, variance, looks=3)
    test = planned(pair_of(with_gap), np.full(3, 1 / 3), None)

    assert test.clock[0].tolist() == pytest.approx([0, 2 / 3, 1])
    assert second(compare_means(with_gap)).effect == pytest.approx(0.1)
    assert second(compare_means(with_gap, method="anytime")).effect == pytest.approx(0.1)
    assert second(compare_means(with_gap, method="anytime")).n == 829


def test_the_variance_of_an_arm_is_never_less_than_that_of_all_values_of_the_epoch() -> None:
    moments = Moments.from_summary([900, 100], [1.0, 1.0], [4.0, 0.04])
    both = (899 * 4.0 + 99 * 0.04) / 999
    test = planned(pair_of(moments), np.ones(1), (1.0,))

    assert test.se[0, 0] ** 2 == pytest.approx(4.0 / 900 + both / 100)
    welch = second(compare_means(moments, method="fixed"))
    assert welch.ci_upper == pytest.approx(1.96 * np.sqrt(4 / 900 + 0.04 / 100), rel=0.01)  # its own in a single look


def test_the_weight_of_a_planned_epoch_knows_the_spread_of_earlier_epochs_alone() -> None:
    n, mean = np.full((3, 2), 500), np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 1.0]])
    for last in (1.0, 1e6):
        moments = Moments.from_summary(n, mean, np.array([[1.0, 1.0], [4.0, 4.0], [last, last]]), looks=3)
        effect = second(compare_means(moments)).effect
        assert effect == pytest.approx(1.0 / (1 + 1 + 1 / np.sqrt(2.5)))


def test_the_weights_of_the_plan_may_be_given_and_cut_short() -> None:
    moments = epochs_of(np.random.default_rng(13), lift=0.1)
    planned_for_five = compare_means(moments, weights=[1, 1, 1, 1, 4])
    part = compare_means(moments[:3], weights=[1, 1, 1, 1, 4])
    replanned = compare_means(moments, weights=[1, 1, 1, 1, 4], looks=7)

    assert planned_for_five.method.name == "sequential"
    assert (planned_for_five.method.looks, planned_for_five.method.spent) == (5, 1.0)
    assert part.method.spent == pytest.approx(3 / 8)
    assert replanned.method.looks == 7
    assert width(replanned) > width(planned_for_five)  # the boundary for any number of looks


def test_a_horizon_is_a_budget_for_sequential_and_a_tuning_for_anytime() -> None:
    moments = epochs_of(np.random.default_rng(14), lift=0.1)
    budget = compare_means(moments, method="sequential", horizon=4_000)

    assert budget.method.spent == pytest.approx(0.5)
    assert width(compare_means(moments, method="anytime", horizon=2_000)) < width(
        compare_means(moments, method="anytime", horizon=2_000_000)
    )


@pytest.mark.parametrize(
    ("moments", "more", "name"),
    [
        (epochs_of(np.random.default_rng(1)), {}, "anytime"),
        (epochs_of(np.random.default_rng(1)), {"looks": 9}, "sequential"),
        (epochs_of(np.random.default_rng(1), looks=9), {}, "sequential"),
        (epochs_of(np.random.default_rng(1)).total(), {}, "fixed"),
        (epochs_of(np.random.default_rng(1)), {"method": "fixed"}, "fixed"),
    ],
)
def test_auto_takes_the_method_that_is_valid_and_says_why(moments: Moments, more: dict[str, Any], name: str) -> None:
    method = compare_means(moments, **more).method

    assert method.name == name
    assert method.why


def test_welch_is_refused_when_the_weights_changed() -> None:
    weights = [[0.5, 0.5], [0.8, 0.2]]
    moments = Moments.from_summary([[50, 50], [80, 20]], np.ones((2, 2)), np.ones((2, 2)), weights=weights)

    with pytest.raises(ValueError, match="the weights changed between epochs"):
        compare_means(moments, method="fixed")


def test_units_that_do_not_fit_their_weights_stop_the_reading() -> None:
    answer = compare_means(Moments.from_summary([9_463, 7_681], [1.0, 1.2], [1.0, 1.0], weights=[0.5, 0.5]))

    assert answer.status == "srm_failed"
    assert not answer.srm.ok
    assert answer.sentence.startswith("The units do not fit the weights they were drawn with (p < 0.001)")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"alpha": 5}, r"alpha is 5, must be in \(0, 1\)"),
        ({"method": "bayes"}, "method is 'bayes', must be auto, fixed, sequential or anytime"),
        ({"method": "sequential"}, "no end is planned"),
        ({"control": "C"}, "control is 'C', must be one of A, B"),
        ({"control": 2}, "control is 2, must be an arm's index from 0 to 1"),
        ({"looks": 0}, "looks is 0, must be at least 1"),
        ({"weights": [1, 0]}, "weights hold a share that is not a positive number"),
        ({"weights": [[1]]}, "weights have shape"),
        ({"horizon": -1}, "horizon is -1, must be a positive number"),
        ({"correction": "sidak"}, "correction is 'sidak', must be holm, bonferroni or none"),
        ({"names": ["x"]}, "must be 2 different names"),
    ],
)
def test_wrong_arguments_are_refused_in_words(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compare_means(epochs_of(np.random.default_rng(1)), **more)


def test_a_single_arm_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="moments have 1 arm, a comparison needs at least 2"):
        compare_means(Moments.from_values([1, 2], arm=[0, 0]))


# --- No answer is an answer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("moments", "status"),
    [
        (Moments.from_values([], arm=[], n_epochs=0, n_arms=2), "too_few"),
        (Moments.from_values([], arm=[], n_epochs=2, n_arms=2), "too_few"),
        (Moments.from_summary([500, 0], [1, 0], [1, 0]), "too_few"),
        (Moments.from_summary([500, 1], [1, 2], [1, 0]), "too_few"),
        (Moments.from_summary([500, 29], [1, 2], [1, 1]), "too_few"),
        (Moments.from_summary([500, 500], [0, 0], [0, 0]), "zero_variance"),
        (Moments.from_summary([500, 500], [2, 2], [0, 0]), "zero_variance"),
        (Moments.from_values([0.1] * 600, arm=[0, 1] * 300), "zero_variance"),
        (Moments.from_values([0.3] * 600, arm=[0, 1] * 300, denominator=[0.1] * 600), "zero_variance"),
    ],
)
def test_without_enough_to_go_by_the_answer_says_so(
    moments: Moments, status: str, method: Literal["fixed", "sequential", "anytime"]
) -> None:
    answer = compare_means(moments, method=method, looks=2)
    arm = second(answer)

    assert answer.status == arm.status == status
    assert answer.sentence.startswith("Too early to tell")
    if status == "zero_variance" or method != "fixed":
        assert (arm.p_value, arm.ci_lower, arm.ci_upper, arm.lift, arm.lift_lower) == (None,) * 5
    json.dumps(answer.to_dict(), allow_nan=False)


def test_arms_that_are_constant_and_differ_have_no_variance_for_welch_and_a_clear_split_for_the_others() -> None:
    moments = Moments.from_values([0.1] * 300 + [0.3] * 300, arm=[0] * 300 + [1] * 300)

    assert compare_means(moments).status == "zero_variance"
    for method in ("sequential", "anytime"):
        arm = second(compare_means(moments, method=method, looks=1))
        assert arm.effect == pytest.approx(0.2)
        assert arm.p_value is not None
        assert arm.p_value < 1e-9


def test_a_lift_is_given_only_where_both_means_are_positive() -> None:
    def lifts(a: float, b: float) -> tuple[float | None, ...]:
        arm = second(compare_means(Moments.from_summary([400, 400], [a, b], [1.0, 1.0])))
        assert arm.effect == pytest.approx(b - a)
        return arm.lift, arm.lift_lower, arm.lift_upper

    assert lifts(-1, 1) == lifts(1, -1) == lifts(0, 1) == (None, None, None)
    assert lifts(1, 0)[0] == pytest.approx(-1)
    assert lifts(1, 0)[1] == -1.0


def test_where_the_control_could_as_well_be_nothing_the_lift_has_no_upper_end() -> None:
    arm = second(compare_means(Moments.from_summary([400, 400], [0.05, 0.5], [1.0, 1.0])))

    assert arm.lift == pytest.approx(9)
    assert arm.lift_lower is not None
    assert arm.lift_lower > 0
    assert arm.lift_upper is None


def test_an_arm_without_variance_beside_one_that_varies_is_still_compared() -> None:
    for a, b in ((0.0, 1.0), (1.0, 0.0)):
        arm = second(compare_means(Moments.from_summary([400, 400], [1.0, 1.5], [a, b])))
        assert arm.status == "ok"
        assert arm.lift == pytest.approx(0.5)
        assert arm.lift_upper == pytest.approx(0.5 + 1.966 * 0.05 * (1.5 if a else 1), abs=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_numbers_of_any_size_and_sign_give_ordered_intervals_or_none_and_never_a_warning(
    method: Literal["fixed", "sequential", "anytime"],
) -> None:
    rng = np.random.default_rng(15)
    answered = 0
    for _ in range(80):
        shape = (int(rng.integers(1, 6)), int(rng.integers(2, 4)))
        scale = 10.0 ** rng.integers(-120, 90)
        n = rng.choice([0, 1, 2, 29, 30, 500, 2**40], shape)
        mean = rng.normal(size=shape) * scale * rng.choice([0, 1, 1e6])
        variance = rng.choice([0, 1e-30, 1, 1e6], shape) * scale**2
        answer = compare_means(Moments.from_summary(n, mean, variance), method=method, looks=4)
        json.dumps(answer.to_dict(), allow_nan=False)
        for arm in answer.arms:
            if arm.effect is not None and arm.ci_lower is not None and arm.ci_upper is not None:
                answered += 1
                assert arm.ci_lower <= arm.effect <= arm.ci_upper
                assert arm.p_value is not None
                assert 0 <= arm.p_value <= 1
            if arm.lift_lower is not None:
                assert arm.lift is not None
                assert arm.lift_lower <= arm.lift * (1 + 1e-9) + 1e-9
    assert answered > 30


# --- Several arms and words -------------------------------------------------------------------------------------------


def test_several_arms_are_compared_with_the_control_at_a_share_of_the_level_with_holms_p_values() -> None:
    moments = Moments.from_summary([1_000] * 4, [1.0, 1.0, 1.05, 1.2], [1.0] * 4)
    answer = compare_means(moments, names=["old", "x", "y", "z"])
    singles = [second(compare_means(moments.arms([0, i]))).p_value or 0.0 for i in (1, 2, 3)]
    at_a_third = second(compare_means(moments.arms([0, 3]), alpha=0.05 / 3))

    assert [arm.p_value for arm in answer.arms[1:]] == pytest.approx([singles[0], 2 * singles[1], 3 * singles[2]])
    assert answer.arms[3].ci_lower == pytest.approx(at_a_third.ci_lower)
    assert answer.arms[3].lift_upper == pytest.approx(at_a_third.lift_upper)
    assert answer.sentence == "Proved to differ from 'old': 'z' (+0.2). Not proved: 'x', 'y'."
    assert "'z' (+0.2 EUR)." in answer.sentence_in("en", unit="EUR")
    assert [arm.p_value for arm in compare_means(moments, correction="none").arms[1:]] == pytest.approx(singles)
    assert [arm.p_value for arm in compare_means(moments, correction="bonferroni").arms[1:]] == pytest.approx(
        [min(1.0, 3 * p) for p in singles]
    )


def test_the_control_may_be_any_arm() -> None:
    moments = Moments.from_summary([1_000] * 3, [1.0, 1.1, 1.2], [1.0] * 3)
    answer = compare_means(moments, control="C")

    assert answer.control == "C"
    assert [arm.effect for arm in answer.arms] == [pytest.approx(-0.2), pytest.approx(-0.1), None]


SENTENCES: dict[str, tuple[Moments, str, str]] = {
    "differs": (
        Moments.from_summary([1_000, 1_000], [4.1, 4.5], [9.0, 9.6]),
        "'B' lies 0.4 above 'A' (95 % interval +0.1325 to +0.6675; p = 0.0034).",
        "「B」は「A」より0.4高く、差は確かです(95 %区間 +0.1325〜+0.6675、p = 0.0034)。",
    ),
    "below": (
        Moments.from_summary([1_000, 1_000], [4.5, 4.0], [9.0, 9.6]),
        "'B' lies 0.5 below 'A' (95 % interval -0.7675 to -0.2325; p < 0.001).",
        "「B」は「A」より0.5低く、差は確かです(95 %区間 -0.7675〜-0.2325、p < 0.001)。",
    ),
    "chance": (
        Moments.from_summary([1_000, 1_000], [4.1, 4.2], [9.0, 9.6]),
        "'B' lies 0.1 above 'A', which chance could explain (95 % interval -0.1675 to +0.3675; p = 0.46).",
        "「B」は「A」より0.1高くですが、偶然でも起こりうる差です(95 %区間 -0.1675〜+0.3675、p = 0.46)。",
    ),
    "equal": (
        Moments.from_summary([1_000, 1_000], [4.0, 4.0], [9.0, 9.6]),
        "'B' and 'A' have the same mean so far (95 % interval -0.2675 to +0.2675; p = 1).",
        "「B」と「A」の平均は今のところ同じです(95 %区間 -0.2675〜+0.2675、p = 1)。",
    ),
    "earlier": (
        Moments.from_summary(np.full((2, 2), 1_000), np.array([[1, 2], [2, 1.1]]), np.ones((2, 2)), looks=2),
        (
            "'B' and 'A' differ: proved at an earlier look; the difference now stands at +0.05 (95 % interval -0.01923 "
            "to +0.1192; p < 0.001)."
        ),
        "「B」と「A」の差は以前の時点で示されました。現在の差は+0.05です(95 %区間 -0.01923〜+0.1192、p < 0.001)。",
    ),
    "few": (
        Moments.from_summary([1_000, 20], [4.0, 4.0], [9.0, 9.6]),
        "Too early to tell: both arms need 30 units in the same epoch.",
        "まだ判断できません。比較する2案には同じ回に30件ずつ必要です。",
    ),
    "constant": (
        Moments.from_summary([1_000, 1_000], [4.0, 4.0], [0, 0]),
        "Too early to tell: all values so far are alike.",
        "まだ判断できません。これまでの値はすべて同じです。",
    ),
    "mismatch": (
        Moments.from_summary([9_463, 7_681], [1.0, 1.2], [1.0, 1.0], weights=[0.5, 0.5]),
        "The units do not fit the weights they were drawn with (p < 0.001): find the cause before you read the result.",
        "配信の内訳が割り当ての重みと合いません(p < 0.001)。原因が分かるまで結果を読まないでください。",
    ),
    "none of three": (
        Moments.from_summary([1_000] * 3, [1.0, 1.0, 1.05], [1.0] * 3),
        "None of the 2 other arms was proved to differ from 'A'.",
        "他の2案のうち「A」との差が示されたものはありません。",
    ),
    "all of three": (
        Moments.from_summary([1_000] * 3, [1.0, 2.0, 0.5], [1.0] * 3),
        "All 2 other arms were proved to differ from 'A': 'B' (+1), 'C' (-0.5).",
        "他の2案すべてについて「A」との差が示されました: 「B」(+1)、「C」(-0.5)。",
    ),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_the_result_is_said_in_one_sentence_in_english_and_japanese(case: str) -> None:
    moments, english, japanese = SENTENCES[case]
    answer = compare_means(moments)

    assert answer.sentence == english
    assert answer.sentence_in("ja") == japanese


def test_another_language_is_refused() -> None:
    with pytest.raises(ValueError, match="language is 'fr', must be one of en, ja"):
        compare_means(REFERENCE["mean"][0]).sentence_in("fr")  # type: ignore[arg-type]


def test_rows_dict_text_html_and_frame_carry_the_same_values() -> None:
    pandas = pytest.importorskip("pandas")
    answer = compare_means(Moments.from_values(SPENT, arm=ARM, covariate=COVARIATE, limit=9.0), names=["<old>", "new"])
    data = json.loads(json.dumps(answer.to_dict(), allow_nan=False))

    assert data["arms"] == answer.rows()
    assert (data["format_version"], data["metric"], data["limit"], data["status"]) == (1, "mean", 9.0, "ok")
    assert data["method"]["name"] == "fixed"
    assert data["sentence"] == answer.sentence
    assert "&lt;old&gt;" in answer.to_html()
    assert "<old>" not in answer.to_html()
    assert str(answer).splitlines()[0].split() == ["arm", "n", "mean", "effect", "interval", "lift", "p", "status"]
    assert str(answer).endswith(answer.sentence)
    frame = answer.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["n"].tolist() == [120, 120]


def test_without_pandas_the_frame_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(MissingExtra, match="pandas"):
        compare_means(REFERENCE["mean"][0]).to_pandas()


# --- Guarantees, by simulation ----------------------------------------------------------------------------------------

# Experiments of 25 epochs with a look after each, through `Moments.from_values` and what `compare_means` calls.
# A true 5 % exceeds 149 of 2,000, or 86 of 1,000, less than once in a million.
EPOCHS, SIZE = 25, 400
MOST = {2_000: 149, 1_000: 86}


@dataclass(frozen=True, slots=True)
class World:
    """How values come about.

    Attributes:
        draw: Values of recipients before the lift, (n,), and their covariate (None without).
        lift: Relative lift of arm b.
        floor: Least share of an arm; 0.5 for an even split.
        swing: Daily swing of the level, relative.
    """

    draw: Callable[[np.random.Generator, int], tuple[Floats, Floats | None]]
    lift: float = 0.0
    floor: float = 0.1
    swing: float = 0.0


def revenue(rng: np.random.Generator, n: int) -> tuple[Floats, None]:
    """Log-normal orders (log-sd 1.5) of 5 % of the recipients."""
    y = np.zeros(n)
    buyers = rng.random(n) < 0.05
    y[buyers] = np.exp(1.5 * rng.standard_normal(int(buyers.sum())))
    return y, None


def clicks(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    """Skewed values, half of whose variance the recipient's past explains."""
    habit = rng.standard_exponential(n)
    return habit + rng.standard_exponential(n), habit


def draw_epoch(world: World, rng: np.random.Generator, share: Floats, t: int) -> Moments:
    """One epoch of every replication; replications stand where epochs do."""
    which = np.repeat(np.arange(len(share)), SIZE)
    y, x = world.draw(rng, len(which))
    arm = (rng.random(len(y)) < share[which]).astype(np.int64)
    y = y * (1 + world.lift * arm) * (1 + world.swing * np.sin(2 * np.pi * t / 7))
    return Moments.from_values(y, arm=arm, epoch=which, covariate=x, n_epochs=len(share), n_arms=2)


def thompson(seen: Moments, floor: float) -> Floats:
    """Next share of arm b in every replication: what a bandit knows are values of all its epochs together."""
    mean, n = seen.mean[..., 0], seen.n
    within = seen.product[..., 0, 0].sum(axis=1, keepdims=True) / n.sum(axis=1, keepdims=True)
    sd = np.sqrt((within / n).sum(axis=1)) + 1e-12
    shares: Floats = floor + (1 - 2 * floor) * ndtr((mean[:, 1] - mean[:, 0]) / sd)
    return shares


@cache
def simulate(world: World, seed: int, replications: int) -> tuple[Moments, ...]:
    """Thompson sampling with a floor, EPOCHS epochs."""
    rng = np.random.default_rng(seed)
    epochs: list[Moments] = []
    seen, share = None, np.full(replications, 0.5)
    for t in range(EPOCHS):
        epochs.append(draw_epoch(world, rng, share, t))
        seen = epochs[-1] if seen is None else seen + epochs[-1]
        share = thompson(seen, world.floor)
    return tuple(epochs)


def experiments(epochs: Sequence[Moments]) -> list[Moments]:
    """The same, one Moments per replication."""
    n, mean, product = (np.stack([getattr(e, name) for e in epochs], axis=1) for name in ("n", "mean", "product"))
    variables = epochs[0].variables
    return [Moments(*parts, variables=variables, looks=EPOCHS) for parts in zip(n, mean, product, strict=True)]


def pairs(runs: Sequence[Moments], *, cuped: bool = False) -> MeanPair:
    """Arms 0 and 1 of every replication, (replications, EPOCHS)."""
    return pair_in([cells_of(run, cuped=cuped) for run in runs])


EVEN_SHARES = np.full(EPOCHS, 1 / EPOCHS)
EVEN_CLOCK = tuple((np.arange(1, EPOCHS + 1) / EPOCHS).tolist())


def alarms(pair: MeanPair) -> tuple[int, int]:
    """Replications in which `sequential` and `anytime` claim a difference at any look."""
    sequential = planned(pair, EVEN_SHARES, EVEN_CLOCK).crossed(0.05).any(axis=-1)
    anytime = any_look(pair, 0.05, float(SIZE * EPOCHS)).crossed(0.05).any(axis=-1)
    return int(sequential.sum()), int(anytime.sum())


def naive_alarms(pair: MeanPair) -> int:
    """The same for Welch's test of all values so far, looked at after every epoch."""
    n, mean, second_moment = (
        [np.cumsum(part, axis=-1) for part in parts]
        for parts in (
            (pair.n_a, pair.n_b),
            (pair.n_a * pair.value_a, pair.n_b * pair.value_b),
            (pair.scatter_a + pair.n_a * pair.value_a**2, pair.scatter_b + pair.n_b * pair.value_b**2),
        )
    )
    means = [m / size for m, size in zip(mean, n, strict=True)]
    noise = [(q / size - m**2) / size for q, m, size in zip(second_moment, means, n, strict=True)]
    z = (means[1] - means[0]) / np.sqrt(noise[0] + noise[1] + 1e-300)
    return int((np.abs(z) >= 1.96).any(axis=-1).sum())


def shifted(pair: MeanPair, truth: float) -> MeanPair:
    """Put "the difference is ``truth``" to the test: an interval holds the truth where nothing is found."""
    return replace(pair, value_a=pair.value_a + truth)


def alarms_by_own_variances(pair: MeanPair) -> int:
    """What one would write first: each arm's variance from all its values so far, z of every epoch by plan."""
    var_a, var_b = (
        scatter.cumsum(axis=-1) / (n - 1).cumsum(axis=-1)
        for n, scatter in ((pair.n_a, pair.scatter_a), (pair.n_b, pair.scatter_b))
    )
    past = np.tri(EPOCHS, dtype=np.bool_)
    se = np.sqrt((var_a / 1)[..., None] / pair.n_a[:, None] + var_b[..., None] / pair.n_b[:, None])
    walk = np.where(past, pair.gap[:, None] / se, 0.0).sum(axis=-1) / np.sqrt(EPOCHS)
    return int((np.abs(walk) >= obrien_fleming(EPOCHS, 0.05)).any(axis=-1).sum())


def test_heavy_tailed_revenue_under_a_bandit_raises_no_more_alarms_than_promised_at_any_look() -> None:
    pair = pairs(experiments(simulate(World(revenue), 1, 2_000)))

    assert max(alarms(pair)) <= MOST[2_000]
    assert naive_alarms(pair) > 600  # the simulation can see a test that fails
    assert alarms_by_own_variances(pair) > 200  # an arm is starved because its few large orders have not come yet


def test_the_intervals_of_all_looks_hold_the_difference_of_heavy_tailed_revenue() -> None:
    pair = pairs(experiments(simulate(World(revenue, lift=0.3), 7, 1_000)))

    assert max(alarms(shifted(pair, 0.3 * 0.05 * np.exp(1.5**2 / 2)))) <= MOST[1_000]


def test_at_nine_to_one_heavy_tails_fool_a_single_look_of_welch_and_not_a_single_planned_look() -> None:
    rng = np.random.default_rng(6)
    which = np.repeat(np.arange(1_000), 2_000)
    y, _ = revenue(rng, len(which))
    arm = (rng.random(len(y)) < 0.1).astype(np.int64)
    pair = replications_of(Moments.from_values(y, arm=arm, epoch=which, n_epochs=1_000, n_arms=2), (1_000, 1))

    assert (one_look(pair).p_value() < 0.05).sum() > 100
    assert planned(pair, np.ones(1), (1.0,)).crossed(0.05).sum() <= MOST[1_000]


def test_a_level_that_swings_raises_no_more_alarms_either() -> None:
    assert max(alarms(pairs(experiments(simulate(World(revenue, swing=0.4), 2, 1_000))))) <= MOST[1_000]


def four_arms(seed: int, replications: int, size: int = 800) -> Moments:
    """Thompson sampling of four equal arms (floor 0.05) while the level rises sevenfold; replications first."""
    rng = np.random.default_rng(seed)
    which = np.repeat(np.arange(replications), size)
    shares, seen, epochs = np.full((replications, 4), 0.25), None, []
    for t in range(EPOCHS):
        arm = (rng.random(len(which))[:, None] > shares.cumsum(axis=1)[which, :-1]).sum(axis=1)
        y = rng.standard_exponential(len(which)) * (0.3 + 1.7 * (t / (EPOCHS - 1)) ** 2)
        epochs.append(Moments.from_values(y, arm=arm, epoch=which, n_epochs=replications, n_arms=4))
        seen = epochs[-1] if seen is None else seen + epochs[-1]
        sd = np.sqrt(seen.product[..., 0, 0].sum(axis=1, keepdims=True) / seen.n.sum(axis=1, keepdims=True) / seen.n)
        draws = seen.mean[..., 0, None] + sd[..., None] * rng.standard_normal((replications, 4, 200))
        best = draws.argmax(axis=1)
        shares = 0.05 + 0.8 * np.stack([(best == a).mean(axis=1) for a in range(4)], axis=1)
    n, mean, product = (np.stack([getattr(e, name) for e in epochs], axis=1) for name in ("n", "mean", "product"))
    return Moments(n.reshape(-1, 4), mean.reshape(-1, 4, 1), product.reshape(-1, 4, 1, 1))


def test_four_arms_keep_the_promise_while_the_level_rises_steeply() -> None:
    moments = four_arms(8, 800)

    for arms in ([0, 1], [2, 3]):
        assert max(alarms(replications_of(moments.arms(arms), (800, EPOCHS)))) <= 72  # a true 5 %: once in a million


def test_a_covariate_under_a_bandit_keeps_the_promise_and_halves_the_variance() -> None:
    runs = experiments(simulate(World(clicks), 3, 1_000))
    plain, adjusted = pairs(runs), pairs(runs, cuped=True)

    assert max(*alarms(plain), *alarms(adjusted)) <= MOST[1_000]
    left = (adjusted.scatter_a + adjusted.scatter_b).sum() / (plain.scatter_a + plain.scatter_b).sum()
    assert left == pytest.approx(0.5, abs=0.02)


def test_a_true_lift_lies_within_the_intervals_of_all_looks_and_a_covariate_helps_to_find_it() -> None:
    lift = 0.04
    runs = experiments(simulate(World(clicks, lift=lift), 4, 1_000))
    plain, adjusted = pairs(runs), pairs(runs, cuped=True)

    for pair in (plain, adjusted):
        assert max(alarms(shifted(pair, 2 * lift))) <= MOST[1_000]
    assert alarms(adjusted)[0] > alarms(plain)[0] + 100 > alarms(plain)[1] + 150


def test_the_arrays_of_the_simulation_and_the_public_function_agree() -> None:
    runs = experiments(simulate(World(clicks, lift=0.04), 4, 1_000))[:12]
    pair = pairs(runs, cuped=True)
    for method, test in (
        ("sequential", planned(pair, EVEN_SHARES, EVEN_CLOCK)),
        ("anytime", any_look(pair, 0.05, float(SIZE * EPOCHS))),
    ):
        answers = [second(compare_means(run, method=method, horizon=SIZE * EPOCHS)) for run in runs]  # type: ignore[arg-type]
        assert [a.effect for a in answers] == pytest.approx(test.effect[:, -1].tolist())
        assert [a.p_value for a in answers] == pytest.approx(test.p_value().tolist())
        assert [(a.p_value or 0) <= 0.05 for a in answers] == test.crossed(0.05).any(axis=-1).tolist()


def companies(seed: int, *, grouped: bool) -> MeanPair:
    """Twelve epochs of 120 companies of 1 to 20 people who resemble each other, each company all in one arm.

    Of the variance of a person 30 % is the company's. ``grouped`` or as if every person stood alone.
    """
    rng = np.random.default_rng(seed)
    shape = (2_000 * 12, 120)
    size = rng.integers(1, 21, shape)
    arm = rng.integers(0, 2, shape)
    common = np.sqrt(0.3) * rng.standard_normal(shape)
    total = size * (1 + common) + np.sqrt(0.7 * size) * rng.standard_normal(shape)
    epoch = np.repeat(np.arange(len(size)), 120)
    per_company = Moments.from_values(
        total.ravel(), arm=arm.ravel(), epoch=epoch, denominator=size.ravel(), n_epochs=len(size), n_arms=2
    )
    if not grouped:  # people's own variance is 1, whoever they work for
        people = per_company.n * per_company.mean[..., 1]
        mean = per_company.mean[..., 0] / per_company.mean[..., 1]
        per_company = Moments.from_summary(people.round(), mean, np.ones(people.shape))
    return replications_of(per_company, (2_000, 12))


def test_companies_that_act_alike_raise_alarms_by_the_person_and_keep_the_promise_by_the_company() -> None:
    shares, clock = np.full(12, 1 / 12), tuple((np.arange(1, 13) / 12).tolist())
    crossed = {
        grouped: [
            int(test.crossed(0.05).any(axis=-1).sum())
            for pair in (companies(5, grouped=grouped),)
            for test in (planned(pair, shares, clock), any_look(pair, 0.05, None))
        ]
        for grouped in (True, False)
    }

    assert max(crossed[True]) <= MOST[2_000]
    assert min(crossed[False]) > 300
