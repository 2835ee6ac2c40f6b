"""Segments: reference values, exact enumeration, identities with compare, edges, and the promises by simulation."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import pickle
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import binom, chi2
from statsmodels.stats.contingency_tables import StratifiedTable
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests

from abmail import _conditional, _segments
from abmail._boundary import Boundary
from abmail._multiple import holm
from abmail._pooling import partial_pool, paule_mandel
from abmail._sequential import Pair, combine
from abmail.errors import MissingExtra
from abmail.stats import Counts, SegmentComparison, benjamini_hochberg, compare, compare_segments, obrien_fleming

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PROPERTY = settings(max_examples=20, deadline=None, derandomize=True)


def most(replications: int, share: float) -> int:
    """Alarms that a true share exceeds with a chance below 1e-6."""
    return int(binom.isf(1e-6, replications, share))


def segments_of(rows: Sequence[tuple[float, float, float, float]]) -> Pair:
    """Segments of one epoch as (n_a, k_a, n_b, k_b), (n_segments, 1)."""
    n_a, k_a, n_b, k_b = np.array(rows, dtype=np.float64).T[..., None]
    return Pair(n_a=n_a, k_a=k_a, n_b=n_b, k_b=k_b)


def stratified(rows: Sequence[tuple[float, float, float, float]]) -> Any:  # statsmodels ships no types
    return StratifiedTable([np.array([[k_b, n_b - k_b], [k_a, n_a - k_a]]) for n_a, k_a, n_b, k_b in rows])


# --- Many p-values ----------------------------------------------------------------------------------------------------

# The 15 p-values of Benjamini & Hochberg 1995, JRSS B 57:289, section 4.
BENJAMINI_HOCHBERG_1995 = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0,
]  # fmt: skip


def test_the_15_p_values_of_benjamini_and_hochberg_give_their_rejections() -> None:
    p = np.array(BENJAMINI_HOCHBERG_1995)

    assert int((benjamini_hochberg(p) <= 0.05).sum()) == 4
    assert int((benjamini_hochberg(p, dependent=True) <= 0.05).sum()) == 3
    assert int((holm(p) <= 0.05).sum()) == 3
    assert int((p * len(p) <= 0.05).sum()) == 3


@PROPERTY
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_corrected_p_values_agree_with_statsmodels(p: list[float]) -> None:
    for ours, method in (
        (benjamini_hochberg(p), "fdr_bh"),
        (benjamini_hochberg(p, dependent=True), "fdr_by"),
        (holm(p), "holm"),
    ):
        assert ours == pytest.approx(multipletests(p, method=method)[1])


def test_no_p_values_need_no_correction() -> None:
    assert benjamini_hochberg([]).shape == holm([]).shape == (0,)


@pytest.mark.parametrize(
    ("p", "words"), [([0.2, 1.2], "p-value 1 is 1.2"), ([float("nan")], "is nan"), ([[0.1]], "shape")]
)
def test_what_is_no_p_value_is_refused_in_words(p: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        benjamini_hochberg(p)


# --- Stratified tables ------------------------------------------------------------------------------------------------

# Published examples as (n_a, k_a, n_b, k_b): tooth discolouration by tetracycline (children, adults), cervical cancer
# by smoking (0-1 partners, 2 and more), with DescTools' BreslowDayTest as printed in the notes of Columbia's course
# P8120; UCBAdmissions of R; the migraine trial of SAS's PROC FREQ documentation (Breslow-Day 1.4929, p 0.2218).
TEETH = [(29, 12, 55, 30), (162, 68, 10, 4)]
CERVICAL = [(143, 25, 33, 12), (242, 92, 244, 96)]
MIGRAINE = [(25, 5, 27, 16), (26, 7, 28, 12)]
UCB_ADMISSIONS = [
    (825, 512, 108, 89), (560, 353, 25, 17), (325, 120, 593, 202), (417, 138, 375, 131), (191, 53, 393, 94),
    (373, 22, 341, 24),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "statistic", "p_value"),
    [(TEETH, 0.57493, 0.4483), (CERVICAL, 4.2069, 0.04026), (MIGRAINE, 1.4929, 0.2218)],
)
def test_breslow_and_days_statistic_is_the_published_one(
    rows: list[tuple[float, ...]], statistic: float, p_value: float
) -> None:
    found = _conditional.breslow_day(segments_of(rows), tarone=False)  # type: ignore[arg-type]

    assert found is not None
    assert found[0] == pytest.approx(statistic, abs=6e-5 if statistic < 1 else 6e-4)
    assert float(chi2.sf(*found)) == pytest.approx(p_value, abs=6e-5)


@pytest.mark.parametrize("rows", [TEETH, CERVICAL, MIGRAINE, UCB_ADMISSIONS])
@pytest.mark.parametrize("tarone", [False, True])
def test_breslow_and_days_statistic_agrees_with_statsmodels(rows: list[tuple[float, ...]], tarone: bool) -> None:
    found = _conditional.breslow_day(segments_of(rows), tarone=tarone)  # type: ignore[arg-type]
    reference = stratified(rows).test_equal_odds(adjust=tarone)  # type: ignore[arg-type]

    assert found is not None
    assert found[0] == pytest.approx(reference.statistic, rel=1e-6)
    assert found[1] == len(rows) - 1


@PROPERTY
@given(
    st.lists(st.tuples(*[st.integers(1, 60)] * 4), min_size=2, max_size=6),
)
def test_odds_ratios_and_their_homogeneity_agree_with_statsmodels(cells: list[tuple[int, ...]]) -> None:
    rows = [(a + b, a, c + d, c) for a, b, c, d in cells]
    reference = stratified(rows)
    pair = segments_of(rows)
    flat = Pair(n_a=pair.n_a[:, 0], k_a=pair.k_a[:, 0], n_b=pair.n_b[:, 0], k_b=pair.k_b[:, 0])
    estimate, variance = _conditional.log_odds_ratio(flat)
    found = _conditional.breslow_day(pair)

    assert float(estimate) == pytest.approx(float(np.log(reference.oddsratio_pooled)), abs=1e-9)
    assert math.sqrt(variance) == pytest.approx(float(reference.logodds_pooled_se))
    assert found is not None
    if abs(math.log(reference.oddsratio_pooled)) > 1e-4:  # statsmodels divides by the distance from 1
        assert found[0] == pytest.approx(reference.test_equal_odds(adjust=True).statistic, rel=1e-4, abs=1e-6)


def test_fitted_tables_have_the_odds_ratio_and_stay_inside_their_margins() -> None:
    rng = np.random.default_rng(1)
    n_a, n_b = rng.integers(1, 50, (2, 400)).astype(float)
    k = np.floor(rng.random(400) * (n_a + n_b + 1))
    odds = np.exp(rng.normal(0, 3, 400))
    x = _conditional.fitted_successes(n_a, n_b, k, odds)

    assert (x >= np.maximum(k - n_a, 0)).all()
    assert (x <= np.minimum(k, n_b)).all()
    left, right = x * (n_a - k + x), odds * (k - x) * (n_b - x)
    assert left == pytest.approx(right, rel=1e-6, abs=1e-6)


def test_an_arm_without_successes_gets_petos_estimate() -> None:
    pair = segments_of([(100, 0, 80, 4)])
    estimate, variance = _conditional.log_odds_ratio(pair)
    information = 4 * 100 * 80 * 176 / 180**2 / 179

    assert estimate[0] == pytest.approx((4 - 4 * 80 / 180) / information)
    assert variance[0] == pytest.approx(1 / information)
    assert np.isnan(_conditional.log_odds_ratio(segments_of([(100, 0, 80, 0)]))[0][0])


def test_the_stratified_difference_ignores_base_rates_that_move_with_the_shares() -> None:
    pair = Pair(
        n_a=np.array([800.0, 200.0]),
        k_a=np.array([80.0, 60.0]),
        n_b=np.array([200.0, 800.0]),
        k_b=np.array([24.0, 256.0]),
    )

    assert float(_conditional.stratified_difference(pair)) == pytest.approx(0.02)


# --- Partial pooling --------------------------------------------------------------------------------------------------

# Gelman et al. 2013, Bayesian Data Analysis, tables 5.2 and 5.3 (quantiles from 200 draws, under a flat prior).
SCHOOLS = np.array([28, 8, -3, 7, -1, 1, 18, 12.0]), np.array([15, 10, 16, 11, 9, 11, 10, 18.0]) ** 2
SCHOOL_QUARTILES = [(7, 16), (3, 12), (2, 11), (4, 11), (1, 10), (2, 10), (7, 15), (3, 13)]
SCHOOL_MEDIANS = [10, 8, 7, 8, 5, 6, 10, 8]


def test_eight_schools_are_pooled_as_in_the_book() -> None:
    pooled = partial_pool(*SCHOOLS, 0.5, scale=1_000.0)

    assert pooled is not None
    assert np.abs(pooled.lower - [low for low, _ in SCHOOL_QUARTILES]).max() < 1.5
    assert np.abs(pooled.upper - [high for _, high in SCHOOL_QUARTILES]).max() < 1.5
    assert np.abs(pooled.estimate - SCHOOL_MEDIANS).max() < 1.5


def test_pooling_agrees_with_draws_from_the_same_model() -> None:
    rng = np.random.default_rng(8)
    y, v = np.array([0.5, 0.1, -0.2, 0.3]), np.array([0.04, 0.02, 0.05, 0.01])
    tau = np.abs(rng.normal(0, 0.5, 400_000))
    mean = rng.normal(0.2, 2.0, tau.size)  # importance weights undo this proposal: the mean's prior is flat
    total = v[:, None] + tau**2
    log_w = -0.5 * (np.log(total) + (y[:, None] - mean) ** 2 / total).sum(axis=0) + 0.5 * ((mean - 0.2) / 2.0) ** 2
    weight = np.exp(log_w - log_w.max())
    weight /= weight.sum()
    share = v[:, None] / total
    effect = share * mean + (1 - share) * y[:, None] + np.sqrt(share) * tau * rng.standard_normal((4, tau.size))
    pooled = partial_pool(y, v, 0.05)

    assert pooled is not None
    assert pooled.estimate == pytest.approx(effect @ weight, abs=0.006)
    assert pooled.mean == pytest.approx(float(mean @ weight), abs=0.006)
    inside = (effect >= pooled.lower[:, None]) & (effect <= pooled.upper[:, None])
    assert inside @ weight == pytest.approx(np.full(4, 0.95), abs=0.01)


@PROPERTY
@given(st.lists(st.tuples(st.floats(-2, 2), st.floats(0.01, 1)), min_size=2, max_size=12))
def test_the_spread_between_segments_is_that_of_paule_and_mandel(values: list[tuple[float, float]]) -> None:
    y, v = np.array(values).T
    tau = paule_mandel(y, v)
    weight = 1 / (v + tau**2)
    q = float(weight @ (y - weight @ y / weight.sum()) ** 2)

    assert q == pytest.approx(len(y) - 1) if tau > 0 else q <= len(y) - 1


def test_the_spread_between_segments_agrees_with_statsmodels() -> None:
    y, v = SCHOOLS[0] / 5, SCHOOLS[1] / 100
    reference = combine_effects(y, v, method_re="iterated", atol=1e-12)

    assert paule_mandel(y, v) ** 2 == pytest.approx(float(reference.tau2))


def test_pooling_moves_with_its_units_and_lies_between_raw_and_mean() -> None:
    y, v = np.array([0.4, -0.1, 0.2, 0.05]), np.array([0.02, 0.01, 0.03, 0.05])
    plain, moved = partial_pool(y, v, 0.05), partial_pool(y + 3, v, 0.05)

    assert plain is not None
    assert moved is not None
    assert moved.estimate == pytest.approx(plain.estimate + 3)
    assert moved.lower == pytest.approx(plain.lower + 3, abs=1e-6)
    assert (np.abs(plain.estimate - plain.mean) <= np.abs(y - plain.mean)).all()
    assert (plain.lower < plain.estimate).all()
    assert (plain.estimate < plain.upper).all()


def test_one_segment_is_left_as_it_is_and_an_unseen_one_gets_a_wider_interval() -> None:
    pooled = partial_pool(np.array([0.3, np.nan]), np.array([0.01, np.nan]), 0.05)

    assert pooled is not None
    assert pooled.estimate == pytest.approx([0.3, 0.3])
    assert (pooled.lower[0], pooled.upper[0]) == pytest.approx((0.3 - 0.196, 0.3 + 0.196), abs=1e-3)
    assert pooled.upper[1] - pooled.lower[1] > 3 * (pooled.upper[0] - pooled.lower[0])
    assert partial_pool(np.array([np.nan]), np.array([np.nan]), 0.05) is None


def test_what_is_not_known_of_the_spread_widens_the_intervals() -> None:
    y, v = np.array([0.3, 0.25, 0.35]), np.full(3, 0.01)
    pooled = partial_pool(y, v, 0.05)

    assert pooled is not None
    assert paule_mandel(y, v) == 0.0
    assert pooled.upper[0] - pooled.lower[0] > 1.3 * 2 * 1.96 * math.sqrt(0.01 / 3)  # what tau = 0 would claim


@pytest.mark.parametrize(("count", "spread"), [(500, 0.3), (500, 0.0), (3, 0.05)])
def test_pooled_intervals_cover_the_segments_effects(count: int, spread: float) -> None:
    rng = np.random.default_rng(count)
    covered = []
    for _ in range(6 if count > 100 else 150):
        effect = 0.1 + spread * rng.standard_normal(count)
        v = rng.uniform(0.005, 0.05, count)
        pooled = partial_pool(effect + np.sqrt(v) * rng.standard_normal(count), v, 0.05)
        assert pooled is not None
        covered.append((pooled.lower <= effect) & (effect <= pooled.upper))

    assert np.mean(covered) > 0.93


# --- Do segments differ? ----------------------------------------------------------------------------------------------


def zelen(rows: Sequence[tuple[int, int, int, int]], odds: float = 1.0) -> dict[tuple[int, ...], float]:
    """Chance of every way to spread arm b's successes over the segments, given their total."""
    supports = [range(max(0, k_a + k_b - n_a), min(k_a + k_b, n_b) + 1) for n_a, k_a, n_b, k_b in rows]
    total = sum(row[3] for row in rows)
    ways = {
        x: math.prod(
            math.comb(n_b, x_b) * math.comb(n_a, k_a + k_b - x_b) * odds**x_b
            for (n_a, k_a, n_b, k_b), x_b in zip(rows, x, strict=True)
        )
        for x in itertools.product(*supports)
        if sum(x) == total
    }
    return {x: way / sum(ways.values()) for x, way in ways.items()}


SMALL = [(5, 1, 7, 3), (9, 3, 3, 2), (4, 2, 6, 1)]


def spread_out(rows: Sequence[tuple[int, int, int, int]], x: tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    return [(n_a, k_a + k_b - x_b, n_b, x_b) for (n_a, k_a, n_b, k_b), x_b in zip(rows, x, strict=True)]


def test_the_evidence_for_a_segment_of_its_own_is_the_exact_likelihood_ratio() -> None:
    chances = zelen(SMALL)
    tilts = np.concatenate((-_conditional._TILTS, _conditional._TILTS))
    log_e = _conditional.homogeneity_evidence(segments_of(SMALL))[:, 0]

    for segment, row in enumerate(SMALL):
        alone = sum(p * np.exp(tilts * (x[segment] - row[3])) for x, p in chances.items())
        assert log_e[segment] == pytest.approx(math.log(np.mean(1 / alone)))


def test_the_evidence_is_1_on_average_whatever_the_shared_odds_ratio() -> None:
    chances = zelen(SMALL)
    others = zelen(SMALL, odds=3.7)
    weight = {x: np.exp(_conditional.homogeneity_evidence(segments_of(spread_out(SMALL, x)))[:, 0]) for x in chances}

    assert {x: pytest.approx(p) for x, p in chances.items()} == others  # the shared odds ratio drops out
    assert sum(p * weight[x] for x, p in chances.items()) == pytest.approx(np.ones(3))


def test_evidence_of_many_runs_at_once_is_that_of_each_and_follows_the_order_of_segments() -> None:
    rng = np.random.default_rng(2)
    n = rng.integers(0, 400, (2, 5, 6, 3)).astype(float)
    k = rng.binomial(n.astype(int), rng.choice([0.01, 0.1, 0.5], (2, 5, 6, 3))).astype(float)
    together = _conditional.homogeneity_evidence(Pair(n_a=n[0], k_a=k[0], n_b=n[1], k_b=k[1]))

    for run in range(5):
        turned = [part[:, run, ::-1] for part in (n, k)]
        alone = _conditional.homogeneity_evidence(
            Pair(n_a=turned[0][0], k_a=turned[1][0], n_b=turned[0][1], k_b=turned[1][1])
        )
        assert together[run] == pytest.approx(alone[::-1], abs=1e-8)


def test_swapping_the_arms_changes_no_evidence_and_two_segments_mirror_each_other() -> None:
    rng = np.random.default_rng(4)
    n = rng.integers(50, 3_000, (2, 2, 5)).astype(float)
    k = rng.binomial(n.astype(int), 0.15).astype(float)
    log_e = _conditional.homogeneity_evidence(Pair(n_a=n[0], k_a=k[0], n_b=n[1], k_b=k[1]))
    swapped = _conditional.homogeneity_evidence(Pair(n_a=n[1], k_a=k[1], n_b=n[0], k_b=k[0]))

    assert log_e == pytest.approx(swapped, abs=1e-8)
    assert log_e[0] == pytest.approx(log_e[1], abs=1e-8)


def test_large_counts_follow_the_normal_law_of_the_contrast() -> None:
    n_a, n_b, k = np.full(4, 4e6), np.full(4, 4e6), np.full(4, 8e5)
    k_b = np.array([400_900.0, 399_700.0, 399_800.0, 399_600.0])
    log_e = _conditional.homogeneity_evidence(
        Pair(n_a=n_a[:, None], k_a=(k - k_b)[:, None], n_b=n_b[:, None], k_b=k_b[:, None])
    )[:, 0]
    variance = 8e5 * 0.25 * 0.9 * (1 - 1 / 4)  # hypergeometric, less the segment's own share of the total
    tilts = np.concatenate((-_conditional._TILTS, _conditional._TILTS))
    paths = tilts * (k_b - 4e5)[:, None] - tilts**2 * variance / 2
    normal = np.log(np.exp(paths).mean(axis=1))

    assert log_e == pytest.approx(normal, abs=2e-3)


def test_segments_that_compare_nothing_say_nothing() -> None:
    alike = [(50, 5, 50, 6), (50, 7, 50, 5)]
    plain = _conditional.homogeneity_evidence(segments_of(alike))
    padded = _conditional.homogeneity_evidence(segments_of([*alike, (0, 0, 30, 3), (20, 0, 20, 0), (10, 10, 10, 10)]))

    assert padded[:2] == pytest.approx(plain)
    assert (padded[2:] == 0).all()


def test_the_mean_of_the_segments_evidence_beats_bonferronis_correction() -> None:
    log_e = np.log(np.array([[1.0, 30.0], [2.0, 0.5], [1.0, 10.0]]))

    assert _segments.watched_p_value(log_e) == pytest.approx(3 / 40.5)
    assert _segments.watched_p_value(log_e) < 3 / 30
    assert _segments.watched_p_value(log_e[:, :1]) == pytest.approx(3 / 4)


# --- compare_segments -------------------------------------------------------------------------------------------------


def world(
    rates: Sequence[Sequence[float]], epochs: int, size: int, seed: int = 1, looks: int | None = None
) -> dict[str, Counts]:
    """Segments named 0, 1, ... with these rates per arm, evenly split."""
    rng = np.random.default_rng(seed)
    n = np.full((epochs, len(rates[0])), size)
    return {str(i): Counts(n, rng.binomial(n, row), looks=looks) for i, row in enumerate(rates)}


@pytest.mark.parametrize(
    ("epochs", "arguments"),
    [
        (1, {}),
        (6, {"looks": 6}),
        (6, {"method": "anytime"}),
        (6, {"method": "fixed"}),
        (6, {"weights": [1, 2, 3, 1, 1, 2, 5]}),
        (6, {}),
    ],
)
def test_a_segment_alone_is_what_compare_says_of_it(epochs: int, arguments: dict[str, Any]) -> None:
    segments = world([(0.2, 0.25, 0.22), (0.1, 0.1, 0.12), (0.3, 0.25, 0.3)], epochs, 300)
    n = segments["2"].n.copy()
    n[0, 1] = 0  # an arm that got nobody, once
    segments["2"] = Counts(n, np.minimum(segments["2"].successes, n))
    result = compare_segments(segments, control="B", names=["A", "B", "C"], **arguments)

    for effect in result.effects:
        alone = compare(segments[effect.segment], control="B", names=["A", "B", "C"], correction="none", **arguments)
        (arm,) = [one for one in alone.arms if one.name == effect.arm]
        assert (effect.n, effect.successes, effect.rate) == (arm.n, arm.successes, arm.rate)
        assert effect.status == (arm.status if effect.n and effect.control_n else "empty")
        assert (effect.effect, effect.ci_lower, effect.ci_upper, effect.p_value) == pytest.approx(
            (arm.effect, arm.ci_lower, arm.ci_upper, arm.p_value), abs=1e-9
        )
        assert result.method == alone.method.name
    assert len(result.effects) == 6


def test_segments_that_want_different_arms_get_their_winners() -> None:
    result = compare_segments(world([(0.2, 0.27), (0.2, 0.14), (0.2, 0.2)], 5, 800, looks=5))

    assert result.differs
    assert [(one.segment, one.arm) for one in result.winners] == [("0", "B"), ("1", "A")]
    assert result.sentence == (
        "The effect differs between the 3 segments (p < 0.001): 'B' wins in '0', 'A' wins in '1'; no winner is proved "
        "in the other 1."
    )
    assert result.sentence_in("ja") == (
        "効果は3個のセグメントの間で異なります(p < 0.001)。"
        "「0」では「B」の勝ち、「1」では「A」の勝ち、残り1個では勝者は未確定です。"
    )


def test_a_large_effect_that_is_the_same_everywhere_names_no_winner_per_segment() -> None:
    result = compare_segments(world([(0.2, 0.27)] * 4, 5, 800, looks=5))

    assert all(effect.p_adjusted is not None and effect.p_adjusted < 0.01 for effect in result.effects)
    assert not result.differs
    assert result.winners == ()
    assert result.sentence.startswith("It is not proved that the effect differs between the 4 segments (p = ")
    assert "全体の結果で判断してください" in result.sentence_in("ja")


def test_the_arm_that_wins_among_three_beats_both_others() -> None:
    rates = [(0.2, 0.28, 0.2), (0.2, 0.28, 0.275), (0.2, 0.1, 0.2)]
    result = compare_segments(world(rates, 5, 1_500, looks=5))

    assert result.differs
    assert [(one.segment, one.arm) for one in result.winners] == [("0", "B")]  # B and C tie in 1, A and C in 2


def test_one_look_is_judged_by_breslow_and_day_and_watching_by_the_anytime_p_value() -> None:
    once, watched = world([(0.2, 0.22), (0.2, 0.26)], 1, 3_000), world([(0.2, 0.22), (0.2, 0.26)], 5, 600)
    fixed, sequential = compare_segments(once), compare_segments(watched, looks=5)

    assert (fixed.method, sequential.method) == ("fixed", "sequential")
    assert fixed.p_value == fixed.interactions[0].p_value
    assert sequential.p_value == sequential.interactions[0].anytime_p_value
    assert sequential.interactions[0].p_value is not None


def test_several_arms_share_the_test_of_differences() -> None:
    segments = world([(0.2, 0.2, 0.25), (0.2, 0.2, 0.15)], 1, 2_000)
    result = compare_segments(segments)
    known = [one.p_value for one in result.interactions if one.p_value is not None]

    assert result.p_value == pytest.approx(2 * min(known))
    watched = compare_segments(segments, method="anytime")
    assert watched.p_value is not None
    smallest = min(one.anytime_p_value or 1.0 for one in watched.interactions)
    assert smallest <= watched.p_value <= 2 * smallest


def test_p_values_are_corrected_over_segments_and_arms() -> None:
    result = compare_segments(world([(0.2, 0.23, 0.2), (0.2, 0.2, 0.25), (0.3, 0.3, 0.3)], 1, 900))
    p = [effect.p_value for effect in result.effects if effect.p_value is not None]

    assert [effect.p_adjusted for effect in result.effects] == pytest.approx(list(benjamini_hochberg(p)))


def test_shrunk_effects_lie_between_the_raw_ones_and_the_common_one() -> None:
    result = compare_segments(world([(0.2, 0.24), (0.4, 0.41), (0.1, 0.14), (0.05, 0.05)], 4, 500, looks=4))
    (interaction,) = result.interactions
    mean = interaction.log_odds_ratio

    assert mean is not None
    for effect in result.effects:
        raw, shrunk = effect.log_odds_ratio, effect.shrunk_log_odds_ratio
        assert raw is not None
        assert shrunk is not None
        assert abs(shrunk - mean) < abs(raw - mean)
        assert effect.shrunk_lower is not None
        assert effect.shrunk_upper is not None
        assert effect.shrunk_effect is not None
        assert effect.shrunk_lower < effect.shrunk_effect < effect.shrunk_upper
        assert (effect.shrunk_effect > 0) == (shrunk > 0)


def test_a_log_odds_ratio_becomes_the_difference_that_keeps_the_overall_rate() -> None:
    rng = np.random.default_rng(6)
    theta, rate, share = rng.normal(0, 1, 50), rng.uniform(0.01, 0.99, 50), rng.uniform(0.05, 0.95, 50)
    difference = _segments.as_difference(theta, rate, share)
    p_a = rate - share * difference
    p_b = p_a + difference

    assert np.log(p_b / (1 - p_b) / p_a * (1 - p_a)) == pytest.approx(theta)


def test_segments_without_an_answer_say_why_and_borrow_from_the_others() -> None:
    segments = {
        "fine": Counts([1_000, 1_000], [200, 250]),
        "also": Counts([1_000, 1_000], [210, 240]),
        "nobody": Counts([0, 0], [0, 0]),
        "one arm": Counts([500, 0], [80, 0]),
        "silent": Counts([500, 500], [0, 0]),
        "few": Counts([40, 40], [5, 6]),
        "faulty": Counts([900, 100], [200, 20], weights=[0.5, 0.5]),
    }
    result = compare_segments(segments)
    by_name = {effect.segment: effect for effect in result.effects}

    assert {name: effect.status for name, effect in by_name.items()} == {
        "fine": "ok", "also": "ok", "nobody": "empty", "one arm": "empty", "silent": "zero_variance", "few": "too_few",
        "faulty": "srm_failed",
    }  # fmt: skip
    for name in ("nobody", "one arm"):
        assert by_name[name].effect is by_name[name].p_value is by_name[name].log_odds_ratio is None
    for effect in result.effects:
        assert effect.shrunk_log_odds_ratio is not None
        assert effect.shrunk_lower is not None
        assert effect.shrunk_upper is not None
    widths = {name: e.shrunk_log_odds_upper - e.shrunk_log_odds_lower for name, e in by_name.items()}  # type: ignore[operator]
    assert widths["nobody"] > widths["few"] > widths["fine"]
    assert result.status == "ok"


@pytest.mark.parametrize(
    ("segments", "status", "words"),
    [
        ({"all": Counts([900, 900], [90, 200])}, "one_segment", "one segment"),
        ({"a": Counts([900, 900], [90, 200]), "b": Counts([900, 0], [90, 0])}, "too_few", "Too early"),
        ({"a": Counts([0, 0], [0, 0]), "b": Counts([0, 0], [0, 0])}, "too_few", "fewer than two"),
        (
            {"a": Counts(np.zeros((0, 2)), np.zeros((0, 2)))} | {"b": Counts(np.zeros((0, 2)), np.zeros((0, 2)))},
            "too_few",
            "Too",
        ),
        ({"a": Counts([50, 50], [50, 50]), "b": Counts([50, 50], [0, 0])}, "too_few", "Too early"),
    ],
)
@pytest.mark.parametrize("method", ["fixed", "sequential", "anytime"])
def test_too_little_to_compare_is_said_and_not_guessed(
    segments: dict[str, Counts], status: str, words: str, method: Any
) -> None:
    result = compare_segments(segments, method=method, looks=3)

    assert (result.status, result.p_value, result.differs, result.winners) == (status, None, False, ())
    assert words in result.sentence
    assert result.sentence_in("ja")


def test_differences_without_data_for_a_winner_are_said() -> None:
    result = compare_segments(world([(0.5, 0.75)] * 30 + [(0.5, 0.25)] * 30, 1, 20))

    assert result.differs
    assert not result.winners
    assert "none of them has enough data" in result.sentence
    assert "ありません" in result.sentence_in("ja")


def test_five_hundred_segments_are_compared_and_the_sentence_stays_short() -> None:
    rates = [(0.2, 0.45)] * 20 + [(0.2, 0.2)] * 480
    result = compare_segments(world(rates, 4, 150, looks=4))

    assert len(result.effects) == 500
    assert result.differs
    assert sum(one.arm == "B" for one in result.winners) >= 0.9 * len(result.winners) > 9
    assert f"and {len(result.winners) - 5} more" in result.sentence
    assert len(result.sentence) < 300


def test_segments_of_different_shape_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="segment 'new' has 2 epochs, 2 arms and looks=None, 'old' has 1, 2"):
        compare_segments({"old": Counts([5, 5], [1, 1]), "new": Counts([[5, 5]] * 2, [[1, 1]] * 2)})


@pytest.mark.parametrize(
    ("segments", "arguments", "words"),
    [
        ({}, {}, "segments are empty"),
        ({"a": Counts([9], [1])}, {}, "counts have 1 arm"),
        ({"a": Counts([9, 9], [1, 1])}, {"alpha": 1.5}, "alpha is 1.5, must be in"),
        ({"a": Counts([9, 9], [1, 1])}, {"control": "C"}, "control is 'C'"),
        ({"a": Counts([9, 9], [1, 1])}, {"method": "guess"}, "method is 'guess'"),
        ({"a": Counts([9, 9], [1, 1])}, {"method": "sequential"}, "no end is planned"),
        ({"a": Counts([9, 9], [1, 1])}, {"looks": 0}, "looks is 0"),
        ({"a": Counts([9, 9], [1, 1])}, {"weights": [1, -1]}, "share that is not a positive number"),
        ({"a": Counts([9, 9], [1, 1])}, {"weights": 3}, "weights have shape"),
        (
            {"a": Counts([[9, 9]] * 2, [[1, 1]] * 2, weights=[[0.5, 0.5], [0.4, 0.6]])},
            {"method": "fixed"},
            "weights changed between epochs",
        ),
    ],
)
def test_wrong_arguments_are_refused_in_words(
    segments: dict[str, Counts], arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        compare_segments(segments, **arguments)


@PROPERTY
@given(
    st.lists(st.tuples(*[st.integers(0, 60)] * 3, st.sampled_from([0.0, 0.1, 0.6, 1.0])), min_size=1, max_size=5),
    st.sampled_from(["auto", "fixed", "sequential", "anytime"]),
)
def test_any_counts_get_a_sane_answer_without_a_warning(rows: list[tuple[Any, ...]], method: Any) -> None:
    segments = {
        str(i): Counts([[a, b, c], [b, c, a]], np.floor(np.array([[a, b, c], [b, c, a]]) * share))
        for i, (a, b, c, share) in enumerate(rows)
    }
    result = compare_segments(segments, method=method, looks=4)

    json.dumps(result.to_dict(), allow_nan=False)
    for effect in result.effects:
        assert effect.p_adjusted is None or effect.p_value is None or effect.p_value <= effect.p_adjusted <= 1
        for low, middle, high in (
            (effect.ci_lower, effect.effect, effect.ci_upper),
            (effect.shrunk_lower, effect.shrunk_effect, effect.shrunk_upper),
        ):
            assert None in (low, middle, high) or low - 1e-9 <= middle <= high + 1e-9  # type: ignore[operator]


@pytest.fixture(scope="module")
def result() -> SegmentComparison:
    return compare_segments(world([(0.2, 0.25), (0.1, 0.1)], 3, 400, looks=3))


def test_a_result_is_a_frozen_value_with_one_source_of_tables(result: SegmentComparison) -> None:
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))

    assert pickle.loads(pickle.dumps(result)) == result
    assert document["effects"] == result.rows()
    assert document["sentence"] == result.sentence
    assert [row["segment"] for row in result.rows()] == ["0", "1"]
    assert list(result.to_pandas()["arm"]) == ["B", "B"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.differs = True  # type: ignore[misc]
    with pytest.raises(ValueError, match="language is 'fr'"):
        result.sentence_in("fr")  # type: ignore[arg-type]


def test_a_frame_without_pandas_is_refused_with_its_remedy(
    result: SegmentComparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(MissingExtra, match="pandas"):
        result.to_pandas()


# --- Promises, by simulation ------------------------------------------------------------------------------------------

REPLICATIONS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """Replications of an experiment in segments, (replications, n_segments, n_epochs) in each part of the pair."""

    pair: Pair

    def watched(self) -> NDArray[np.bool_]:
        """Replications in which the segments are said to differ at any look, at 5 %."""
        log_e = _conditional.homogeneity_evidence(self.pair)
        return np.array([_segments.watched_p_value(one) <= 0.05 for one in log_e])

    def naive(self) -> NDArray[np.bool_]:
        """Replications in which Breslow and Day's test on summed tables rejects at any look, at 5 %."""
        parts = ("n_a", "k_a", "n_b", "k_b")
        sums = {name: getattr(self.pair, name).cumsum(axis=-1) for name in parts}
        epochs = self.pair.n.shape[-1]
        alarms = np.zeros(len(self.pair.n), dtype=np.bool_)
        for run, look in itertools.product(range(len(alarms)), range(0, epochs, 4)):
            found = _conditional.breslow_day(Pair(**{name: part[run, :, [look]].T for name, part in sums.items()}))
            alarms[run] |= found is not None and found[0] > chi2.isf(0.05, found[1])
        return alarms

    def counts(self, run: int) -> dict[str, Counts]:
        pair = self.pair
        return {
            str(i): Counts(
                np.column_stack((pair.n_a[run, i], pair.n_b[run, i])),
                np.column_stack((pair.k_a[run, i], pair.k_b[run, i])),
            )
            for i in range(pair.n.shape[1])
        }


@cache
def thompson(
    rates: tuple[float, ...], effects: tuple[float, ...], epochs: int, size: int, floor: float, apart: bool = False
) -> Simulated:
    """Thompson sampling over two arms with log odds ``effects`` per segment; ``apart``: a bandit each."""
    rng = np.random.default_rng(99)
    p_a = np.array(rates)
    odds = p_a / (1 - p_a) * np.exp(effects)
    p_b = odds / (1 + odds)
    n_segments = len(rates)
    n, k = np.zeros((2, 2, REPLICATIONS, n_segments, epochs))
    for epoch in range(epochs):
        seen, hits = n[..., :epoch].sum(axis=-1), k[..., :epoch].sum(axis=-1)
        if not apart:
            seen, hits = (np.broadcast_to(part.sum(axis=-1, keepdims=True), part.shape) for part in (seen, hits))
        mean = (1 + hits) / (2 + seen)
        sd = np.sqrt((mean * (1 - mean) / (3 + seen)).sum(axis=0))
        share = floor + (1 - 2 * floor) * ndtr((mean[1] - mean[0]) / sd) if epoch else np.full(mean[0].shape, 0.5)
        people = rng.multinomial(size, np.full(n_segments, 1 / n_segments), REPLICATIONS)
        n[1, ..., epoch] = rng.binomial(people, share)
        n[0, ..., epoch] = people - n[1, ..., epoch]
        k[..., epoch] = rng.binomial(n[..., epoch].astype(int), np.stack((p_a, p_b))[:, None])
    return Simulated(pair=Pair(n_a=n[0], k_a=k[0], n_b=n[1], k_b=k[1]))


VARIED = (0.03, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


@pytest.mark.parametrize(
    "world",
    [
        lambda: thompson((0.2,) * 8, (0.0,) * 8, 25, 400, 0.0),
        lambda: thompson((0.03,) * 8, (0.0,) * 8, 25, 400, 0.1),
        lambda: thompson(VARIED, (0.4,) * 8, 25, 400, 0.05, apart=True),
        lambda: thompson((0.03, 0.5), (0.7, 0.7), 150, 30, 0.05, apart=True),
    ],
    ids=["A/A 0.20", "A/A 0.03", "same effect, different rates", "two segments, small epochs"],
)
def test_equal_segments_are_called_different_at_any_look_in_at_most_alpha_of_runs(
    world: Callable[[], Simulated],
) -> None:
    assert int(world().watched().sum()) <= most(REPLICATIONS, 0.05)


def test_breslow_and_days_test_fails_when_it_is_watched_under_a_bandit() -> None:
    assert int(thompson((0.2,) * 8, (0.0,) * 8, 25, 400, 0.0).naive().sum()) > 1.4 * most(REPLICATIONS, 0.05)


def test_segments_that_differ_are_found() -> None:
    mixed = thompson((0.2,) * 8, (0.6, -0.6) * 4, 25, 800, 0.1, apart=True)

    assert mixed.watched().mean() > 0.7


def test_segments_without_any_effect_have_a_winner_in_at_most_alpha_of_runs() -> None:
    pair = thompson((0.2,) * 8, (0.0,) * 8, 25, 400, 0.1).pair
    path = combine(pair, np.full(25, 1 / 25), Boundary(tuple((np.arange(1, 26) / 25).tolist())))
    farthest = np.where(path.ready, path.distance(), 0.0).max(axis=-1)
    cuts = np.array([obrien_fleming(25, 0.05 * rank / 8) for rank in range(1, 9)])
    found = (farthest[..., None] >= cuts).sum(axis=1) >= np.arange(1, 9)  # Benjamini and Hochberg, without the gate

    assert int(found.any(axis=1).sum()) <= most(REPLICATIONS, 0.05)


def test_compare_segments_says_what_was_simulated() -> None:
    mixed = thompson((0.2,) * 8, (0.6, -0.6) * 4, 25, 800, 0.1, apart=True)
    watched = mixed.watched()
    for run in range(4):
        result = compare_segments(mixed.counts(run), looks=25)
        assert result.differs == watched[run]
        wrong = [one for one in result.winners if one.arm != ("B" if int(one.segment) % 2 == 0 else "A")]
        assert not wrong


def test_one_look_at_an_even_split_keeps_breslow_and_days_level() -> None:
    rng = np.random.default_rng(12)
    n = np.full((1_000, 8, 1), 200.0)
    odds = np.array(VARIED) / (1 - np.array(VARIED)) * 1.5
    k_a, k_b = (rng.binomial(200, p, (1_000, 8))[..., None].astype(float) for p in (VARIED, odds / (1 + odds)))
    alarms = 0
    for run in range(1_000):
        found = _conditional.breslow_day(Pair(n_a=n[run], k_a=k_a[run], n_b=n[run], k_b=k_b[run]))
        assert found is not None
        alarms += found[0] > chi2.isf(0.05, found[1])

    assert 20 < alarms <= most(1_000, 0.05)


def test_shrunk_effects_are_closer_to_the_truth_than_raw_or_pooled_ones_in_a_mixed_world() -> None:
    effects = (0.5, 0.3, 0.1, 0.0, 0.0, -0.1, -0.2, -0.4)
    pair = thompson((0.2,) * 8, effects, 10, 1_600, 0.1).pair
    raw, variance = _conditional.log_odds_ratio(pair)
    errors = np.zeros(3)
    for run in range(100):
        pooled = partial_pool(raw[run], variance[run], 0.05)
        assert pooled is not None
        weight = 1 / variance[run] / (1 / variance[run]).sum()
        for i, estimate in enumerate((raw[run], np.full(8, weight @ raw[run]), pooled.estimate)):
            errors[i] += ((estimate - np.array(effects)) ** 2).sum()

    assert errors[2] < 0.9 * errors[0]
    assert errors[2] < 0.9 * errors[1]
