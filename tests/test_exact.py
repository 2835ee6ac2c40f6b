"""The exact e-process: reference values, complete enumeration, properties, and guarantees by simulation."""

from __future__ import annotations

import itertools
import tracemalloc
from decimal import Decimal, localcontext
from functools import cache
from math import comb
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference
from scipy.optimize import brentq
from scipy.special import logsumexp
from simulated import thompson
from statsmodels.discrete.conditional_models import ConditionalLogit

from abmail import _exact, _hypergeometric
from abmail._exact import Exact, exact
from abmail._sequential import Pair, mix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PROPERTY = settings(max_examples=40, deadline=None, derandomize=True)

# 2 x 2 x K tables as (n_a, k_a, n_b, k_b) per stratum; datasets UCBAdmissions (men, women) and Rabbits (penicillin
# after 1.5 hours, at once) of R.
UCB_ADMISSIONS = [
    (825, 512, 108, 89),
    (560, 353, 25, 17),
    (325, 120, 593, 202),
    (417, 138, 375, 131),
    (191, 53, 393, 94),
    (373, 22, 341, 24),
]
RABBITS = [(5, 0, 6, 0), (6, 0, 6, 3), (6, 2, 6, 6), (6, 6, 6, 5), (5, 5, 2, 2)]

MOST_ALARMS = 149  # of 2,000 at a true 5 %: a false alarm of this test is rarer than 1e-6


def pair_of(rows: Sequence[Sequence[float]]) -> Pair:
    table = np.array(rows, dtype=np.float64)
    return Pair(n_a=table[:, 0], k_a=table[:, 1], n_b=table[:, 2], k_b=table[:, 3])


def answer(rows: Sequence[Sequence[float]], horizon: float | None = None) -> Exact:
    return exact(pair_of(rows), 0.05, horizon)


def swapped(pair: Pair) -> Pair:
    return Pair(n_a=pair.n_b, k_a=pair.k_b, n_b=pair.n_a, k_b=pair.k_a)


# --- The distribution -------------------------------------------------------------------------------------------------


def digits(n_a: int, n_b: int, k: int, theta: float) -> float:
    """The same transform by exact fractions and 60 digits."""
    with localcontext() as context:
        context.prec = 60
        low, high = max(0, k - n_a), min(n_b, k)
        terms = [Decimal(1)]
        for x in range(low + 1, high + 1):
            terms.append(terms[-1] * (n_b - x + 1) * (k - x + 1) / (x * (n_a - k + x)))
        psi, total = Decimal(theta).exp(), Decimal(0)
        for term in reversed(terms):
            total = total * psi + term
        return float((total / sum(terms)).ln() + low * Decimal(theta))


@pytest.mark.parametrize(
    ("n_a", "n_b", "k", "error"),
    [
        (100, 100, 40, 1e-13),
        (5, 3, 4, 1e-13),
        (10, 0, 4, 1e-13),
        (10, 10, 20, 1e-13),
        (200, 20, 30, 1e-13),
        (400, 400, 160, 1e-12),
        (10**8, 1_000, 60, 1e-12),  # outcomes too unlikely for a float
        (10**6, 1_000, 200, 1e-11),
        (1_000, 1_000, 401, 1e-9),  # from here on by expansion
        (3_600, 600, 500, 1e-9),
        (20_000, 20_000, 600, 1e-9),
        (420, 10_000, 5_000, 1e-9),
    ],
)
def test_the_transform_is_that_of_sixty_digits(n_a: int, n_b: int, k: int, error: float) -> None:
    theta = np.array([-5.0, -2.0, -1.0, -0.3, -0.01, 0.0, 0.01, 0.3, 1.0, 2.0, 5.0])
    one, other, successes = np.array([[float(n_a)], [float(n_b)], [float(k)]])
    ours = _hypergeometric.log_mgf(one, other, successes, theta)[0]
    theirs = [digits(n_a, n_b, k, point) for point in theta]

    assert ours[np.abs(theta) <= 2] == pytest.approx(np.array(theirs)[np.abs(theta) <= 2], rel=0, abs=error)
    assert ours == pytest.approx(theirs, rel=0, abs=max(error, 1e-6))


def test_sum_and_expansion_agree_where_one_takes_over_from_the_other() -> None:
    rng = np.random.default_rng(2)
    n = np.exp(rng.uniform(np.log(1_000), np.log(1e6), 200)).round()
    n_b, k = (n * rng.uniform(0.3, 0.9, 200)).round(), rng.integers(200, 260, 200).astype(np.float64)
    theta = np.linspace(-2.3, 2.3, 47)  # odds ratios up to 10
    by_sum = _hypergeometric._by_sum(n - n_b, n_b, k, theta)
    by_expansion = _hypergeometric._by_expansion((n - n_b)[:, None], n_b[:, None], k[:, None], theta)

    assert np.abs(by_sum - by_expansion).max() < 1e-8
    assert np.abs(by_sum - by_expansion)[:, np.abs(theta) < 1].max() < 5e-10


@pytest.mark.parametrize("row", [(60, 12, 40, 15), (300, 3, 500, 9), (2_000, 400, 1_500, 330)])
def test_likelihoods_are_those_of_scipy(row: tuple[int, int, int, int]) -> None:
    n_a, k_a, n_b, k_b = row
    got = answer([row])
    table = (n_a + n_b, n_b, k_a + k_b)
    tilted = np.asarray(reference.nchypergeom_fisher.logpmf(k_b, *table, np.exp(got.theta)))  # scipy's own recursion
    theirs = tilted - reference.hypergeom.logpmf(k_b, *table)
    near = tilted > tilted.max() - 30

    assert got.log_likelihood[0][near] == pytest.approx(theirs[near], abs=1e-7)


@PROPERTY
@given(st.floats(-20, 20), st.floats(0.001, 0.999), st.floats(0.01, 0.99))
def test_fitted_rates_have_the_odds_ratio_and_keep_the_mean(theta: float, mean: float, share: float) -> None:
    p_a, p_b = (float(p[0]) for p in _hypergeometric.fitted_rates(*(np.array([v]) for v in (theta, mean, share))))

    assert (1 - share) * p_a + share * p_b == pytest.approx(mean, abs=1e-9)
    if abs(theta) < 8:
        assert p_b / (1 - p_b) == pytest.approx(np.exp(theta) * p_a / (1 - p_a), rel=1e-6)


def test_infinite_odds_leave_one_arm_all_the_successes_it_can_have() -> None:
    for theta, mean, share, rates in ((np.inf, 0.1, 0.5, (0.0, 0.2)), (np.inf, 0.6, 0.5, (0.2, 1.0))):
        mirrored = tuple(reversed(rates))
        for sign, expected in ((1, rates), (-1, mirrored)):
            found = _hypergeometric.fitted_rates(*(np.array([v]) for v in (sign * theta, mean, share)))
            assert [p.item() for p in found] == pytest.approx(expected, abs=1e-12)


# --- The estimate -----------------------------------------------------------------------------------------------------


def conditional_estimate(rows: Sequence[tuple[int, int, int, int]]) -> float:
    """Odds ratio at which scipy's conditional means add up to the successes of arm b."""

    def gap(theta: float) -> float:
        means = (
            reference.nchypergeom_fisher.mean(n_a + n_b, n_b, k_a + k_b, np.exp(theta)) for n_a, k_a, n_b, k_b in rows
        )
        return float(sum(means)) - sum(row[3] for row in rows)

    return float(np.exp(brentq(gap, -4, 4, xtol=1e-13)))


def test_the_likeliest_odds_ratio_of_the_rabbits_is_the_published_one() -> None:
    estimate = answer(RABBITS).odds_ratio[-1]

    assert estimate == pytest.approx(10.36102, abs=5e-5)  # R, mantelhaen.test(exact = TRUE), whose search stops early
    assert estimate == pytest.approx(conditional_estimate(RABBITS), rel=1e-8)
    assert answer([(n_b, k_b, n_a, k_a) for n_a, k_a, n_b, k_b in RABBITS]).odds_ratio[-1] == pytest.approx(
        1 / estimate, rel=1e-8
    )


def test_the_estimate_is_that_of_conditional_logistic_regression() -> None:
    outcome, arm, stratum = [], [], []
    for epoch, (n_a, k_a, n_b, k_b) in enumerate(RABBITS):
        for which, n, k in ((0.0, n_a, k_a), (1.0, n_b, k_b)):
            outcome += [1] * k + [0] * (n - k)
            arm += [[which]] * n
            stratum += [epoch] * n
    with pytest.warns(UserWarning, match="Dropped 2 groups"):  # at the lowest dose none was cured, at the highest all
        model = ConditionalLogit(np.array(outcome), np.array(arm), groups=np.array(stratum))
    theirs = np.exp(model.fit(disp=False).params[0])  # statsmodels 0.15.0

    assert answer(RABBITS).odds_ratio[-1] == pytest.approx(theirs, rel=1e-3)  # its search stops early, too


def test_the_estimate_of_admissions_is_right_at_every_look() -> None:
    ours = answer(UCB_ADMISSIONS).odds_ratio

    assert ours == pytest.approx([conditional_estimate(UCB_ADMISSIONS[: t + 1]) for t in range(6)], rel=1e-8)
    assert 1 / ours[-1] == pytest.approx(0.9047, abs=5e-4)  # R, mantelhaen.test: the Mantel-Haenszel estimate


@pytest.mark.parametrize("row", [(20, 3, 25, 9), (300, 4, 280, 11), (1_000, 230, 400, 80), (12, 11, 10, 2)])
def test_the_estimate_of_one_table_is_scipys_conditional_odds_ratio(row: tuple[int, int, int, int]) -> None:
    n_a, k_a, n_b, k_b = row
    theirs = reference.contingency.odds_ratio([[k_b, n_b - k_b], [k_a, n_a - k_a]], kind="conditional").statistic

    assert answer([row]).odds_ratio[0] == pytest.approx(theirs, rel=1e-6)


def test_effect_and_lift_are_near_the_plain_ones_of_an_even_split() -> None:
    got = answer([(2_000, 400, 2_000, 460)] * 5)

    assert got.effect == pytest.approx(0.03, abs=1e-5)
    assert got.relative == pytest.approx(0.15, abs=1e-4)


# --- The promise, by complete enumeration -----------------------------------------------------------------------------


@cache
def every_outcome(odds: float = 1.0) -> tuple[Pair, Floats]:
    """All outcomes of an adaptive design of three epochs with their chances, (n_outcomes, 3) and (n_outcomes,).

    The winner of an epoch gets most of the next one; the base rate moves; a clear start closes an arm.
    """
    paths = list(_paths((), 1.0, odds))
    counts = np.array([path for path, _ in paths], dtype=np.float64)
    n_a, k_a, n_b, k_b = (counts[:, :, column] for column in range(4))
    return Pair(n_a=n_a, k_a=k_a, n_b=n_b, k_b=k_b), np.array([chance for _, chance in paths])


def _paths(past: tuple[tuple[int, ...], ...], chance: float, odds: float) -> Iterator[tuple[object, float]]:
    if len(past) == 3:
        yield past, chance
        return
    n_a, n_b, p_a = (4, 4, 0.3) if not past else (*_next_split(past), (0.5, 0.2)[len(past) - 1])
    p_b = odds * p_a / (1 - p_a + odds * p_a)
    for k_a, k_b in itertools.product(range(n_a + 1), range(n_b + 1)):
        likely = _binomial(k_a, n_a, p_a) * _binomial(k_b, n_b, p_b)
        yield from _paths((*past, (n_a, k_a, n_b, k_b)), chance * likely, odds)


def _binomial(k: int, n: int, p: float) -> float:
    return comb(n, k) * p**k * (1 - p) ** (n - k)


def _next_split(past: tuple[tuple[int, ...], ...]) -> tuple[int, int]:
    lead = sum(row[3] for row in past) - sum(row[1] for row in past)
    if len(past) == 2 and abs(lead) >= 4:
        return (0, 5) if lead > 0 else (5, 0)
    return (2, 6) if lead > 0 else (5, 3) if lead < 0 else (4, 4)


def test_the_e_process_has_mean_one_at_every_look_and_at_a_bandits_stopping_time() -> None:
    pair, chance = every_outcome()
    e = np.exp(exact(pair, 0.05, 60).log_e)
    stop = np.argmax(np.column_stack((e[:, :2] > 1.5, np.ones(len(e)))), axis=1)

    assert chance.sum() == pytest.approx(1.0, abs=1e-12)
    assert len(chance) > 9_000
    assert chance @ e == pytest.approx([1.0, 1.0, 1.0], abs=1e-9)
    assert chance @ np.take_along_axis(e, stop[:, None], axis=1) == pytest.approx(1.0, abs=1e-9)
    assert e.max() > 5


def test_the_mixture_of_a_default_horizon_looks_at_nothing_that_it_must_not_see() -> None:
    pair, chance = every_outcome()

    assert chance @ np.exp(exact(pair, 0.05, None).log_e) == pytest.approx([1.0, 1.0, 1.0], abs=1e-9)


@pytest.mark.parametrize("odds", [1.0, 3.0])
def test_no_hypothesis_is_rejected_more_often_than_promised(odds: float) -> None:
    pair, chance = every_outcome(odds)
    got = exact(pair, 0.2, 30)
    some = []
    for level in (0.5, 0.2, 0.05):
        low, high = got.odds_interval(level)
        missed = ((low > odds * (1 + 1e-9)) | (high < odds * (1 - 1e-9))).any(axis=1)
        some.append(float(chance @ missed))
        assert some[-1] <= level
    assert max(some) > 0.02


def test_one_epoch_never_proves_what_fishers_test_would_not() -> None:
    rng = np.random.default_rng(12)
    for _ in range(60):
        n_a, n_b = rng.integers(5, 80, 2)
        k_a, k_b = rng.binomial([n_a, n_b], rng.uniform(0.05, 0.6, 2))
        fisher = reference.fisher_exact(np.array([[k_b, n_b - k_b], [k_a, n_a - k_a]])).pvalue
        assert answer([(n_a, k_a, n_b, k_b)]).p_value() >= fisher - 1e-12


# --- Properties -------------------------------------------------------------------------------------------------------

epochs = st.lists(
    st.tuples(st.integers(0, 300), st.floats(0, 1), st.integers(0, 300), st.floats(0, 1)), min_size=1, max_size=6
).map(lambda rows: [(n_a, round(n_a * a), n_b, round(n_b * b)) for n_a, a, n_b, b in rows])


@PROPERTY
@given(epochs, st.sampled_from([0.5, 0.05, 1e-4]))
def test_intervals_exclude_no_difference_exactly_when_it_is_rejected(
    rows: list[tuple[int, int, int, int]], level: float
) -> None:
    got = answer(rows)
    proved = got.proved(level)
    reached = np.maximum.accumulate(got.log_e) + np.log(level)
    clear = np.abs(reached) > 1e-9
    told = clear & got.agrees(level)  # where looks contradict each other the interval stands still
    for (low, high), null in ((got.odds_interval(level), 1.0), (got.difference(level), 0.0), (got.lift(level), 0.0)):
        assert ((low > null) == (proved > 0))[told].all()
        assert ((high < null) == (proved < 0))[told].all()
        assert (low <= high).all()
    assert ((proved != 0) == (reached >= 0))[clear].all()
    assert (got.p_value() <= level) == bool(proved[-1]) or not clear[-1]


@PROPERTY
@given(epochs)
def test_swapping_the_arms_turns_everything_round(rows: list[tuple[int, int, int, int]]) -> None:
    there, back = exact(pair_of(rows), 0.05, None), exact(swapped(pair_of(rows)), 0.05, None)
    low, high = there.difference(0.1)
    other_low, other_high = back.difference(0.1)
    down, up = there.lift(0.1)
    other_down, other_up = back.lift(0.1)

    assert back.p_value() == pytest.approx(there.p_value(), rel=1e-7)
    assert back.proved(0.1).tolist() == (-there.proved(0.1)).tolist()
    assert back.effect == pytest.approx(-there.effect, abs=1e-7, nan_ok=True)
    assert other_low == pytest.approx(-high, abs=1e-6)
    assert other_high == pytest.approx(-low, abs=1e-6)
    with np.errstate(divide="ignore"):
        assert 1 / (1 + other_up) == pytest.approx(1 + down, rel=1e-5, abs=1e-9)
        assert 1 / (1 + up) == pytest.approx(1 + other_down, rel=1e-5, abs=1e-9)


@PROPERTY
@given(epochs)
def test_a_later_epoch_changes_no_earlier_look(rows: list[tuple[int, int, int, int]]) -> None:
    whole = answer(rows)
    for t in {1, len(rows) // 2, len(rows) - 1} - {0}:
        part = answer(rows[:t])
        assert part.log_e == pytest.approx(whole.log_e[:t], abs=1e-8)
        assert part.proved(0.1).tolist() == whole.proved(0.1)[:t].tolist()
        for mine, theirs in zip(part.difference(0.1), whole.difference(0.1), strict=True):
            assert mine == pytest.approx(theirs[:t], abs=1e-6)


@PROPERTY
@given(epochs)
def test_any_counts_get_ordered_ends_and_chances_without_a_warning(rows: list[tuple[int, int, int, int]]) -> None:
    got = answer(rows)
    low, high = got.difference(0.05)
    down, up = got.lift(0.05)

    assert ((low >= -1) & (high <= 1) & (down >= -1)).all()
    assert not np.isnan([low, high, down, up]).any()
    assert 0 <= got.p_value() <= 1
    assert low[0] - 1e-9 <= np.nan_to_num(got.effect[0]) <= high[0] + 1e-9


def test_the_order_of_later_epochs_does_not_matter_at_the_end() -> None:
    one, other = answer(UCB_ADMISSIONS), answer([UCB_ADMISSIONS[0], *UCB_ADMISSIONS[:0:-1]])

    assert other.log_e[-1] == pytest.approx(one.log_e[-1], abs=1e-9)
    assert other.odds_ratio[-1] == pytest.approx(one.odds_ratio[-1], rel=1e-9)


def test_pairs_and_replications_are_answered_together_as_alone() -> None:
    runs = thompson((0.1, 0.16), 0.1, replications=12, epochs=6, size=120)
    together = exact(runs.pair(), 0.05, None)
    stacked = exact(Pair(**{f: getattr(runs.pair(), f).reshape(3, 4, 6) for f in Pair.__slots__}), 0.05, None)

    assert stacked.log_e == pytest.approx(together.log_e.reshape(3, 4, 6), abs=1e-9)
    for i in range(12):
        alone = exact(runs[i : i + 1].pair(), 0.05, None)
        assert alone.log_e[0] == pytest.approx(together.log_e[i], abs=1e-8)
        assert alone.difference(0.05)[0][0] == pytest.approx(together.difference(0.05)[0][i], abs=1e-7)
        assert alone.odds_ratio[0] == pytest.approx(together.odds_ratio[i], rel=1e-6)


# --- Looking often ----------------------------------------------------------------------------------------------------

DISAGREEING = [(2_000, 400, 2_000, 520)] * 2 + [(2_000, 520, 2_000, 400)] * 3


def test_a_proof_stands_although_later_epochs_disagree() -> None:
    got = answer(DISAGREEING)

    assert got.proved(0.05).tolist() == [1] * 5
    assert got.effect[-1] < 0
    assert got.p_value() == pytest.approx(np.exp(-got.log_e.max()))


def test_intervals_that_no_odds_ratio_fits_stand_still_and_say_so() -> None:
    got = answer(DISAGREEING)
    agreed = got.agrees(0.05)
    low, high = got.odds_interval(0.05)
    last = int(agreed.sum()) - 1

    assert agreed.tolist() == sorted(agreed.tolist(), reverse=True)
    assert 0 < last < 4
    assert (low[last:] == low[last]).all()
    assert (high[last:] == high[last]).all()
    assert (got.difference(0.05)[0] > 0).all()


def test_intervals_of_the_odds_ratio_only_shrink() -> None:
    runs = thompson((0.1, 0.13), 0.1, replications=20)
    low, high = exact(runs.pair(), 0.05, None).odds_interval(0.05)

    assert (np.diff(low, axis=-1) >= 0).all()
    assert (np.diff(np.minimum(high, 1e9), axis=-1) <= 0).all()


def test_an_epoch_with_one_arm_says_nothing_about_the_odds_ratio() -> None:
    got = answer([(50, 8, 50, 15), (100, 40, 0, 0), (0, 0, 70, 3)])

    assert got.log_e == pytest.approx(got.log_e[0], abs=1e-9)
    assert got.odds_ratio == pytest.approx(got.odds_ratio[0], rel=1e-9)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 5.0])
def test_a_level_that_is_none_is_refused_in_words(level: float) -> None:
    got = answer(RABBITS)
    for ask in (got.proved, got.difference, got.lift, got.odds_interval, got.agrees):
        with pytest.raises(ValueError, match=f"level is {level:g}, must be in"):
            ask(level)
    with pytest.raises(ValueError, match="alpha is"):
        exact(pair_of(RABBITS), level, None)


# --- Few, none, and very many -----------------------------------------------------------------------------------------


def test_no_success_at_all_leaves_everything_open_but_the_size_of_the_difference() -> None:
    got = answer([(100, 0, 100, 0)])
    low, high = got.difference(0.05)

    assert [float(got.effect[0]), float(got.p_value()), int(got.proved(0.05)[0])] == [0.0, 1.0, 0]
    assert np.isnan([got.odds_ratio[0], got.relative[0]]).all()
    assert [end[0] for end in got.lift(0.05)] == [-1.0, np.inf]
    assert low[0] == pytest.approx(-high[0])
    assert high[0] == pytest.approx(0.088, abs=0.001)  # Newcombe's interval for a single look: 0.037


@pytest.mark.parametrize(
    ("row", "effect", "relative"),
    [
        ((100, 100, 100, 100), 0.0, 0.0),
        ((1_000, 0, 1_000, 100), 0.1, np.nan),
        ((1_000, 100, 1_000, 0), -0.1, -1.0),
        ((100, 0, 100, 100), 1.0, np.nan),
        ((0, 0, 100, 50), np.nan, np.nan),
        ((100, 50, 0, 0), np.nan, np.nan),
        ((0, 0, 0, 0), np.nan, np.nan),
    ],
)
def test_every_edge_gets_its_answer(row: tuple[int, int, int, int], effect: float, relative: float) -> None:
    got = answer([row])

    assert got.effect[0] == pytest.approx(effect, nan_ok=True)
    assert got.relative[0] == pytest.approx(relative, nan_ok=True)
    if np.isnan(effect):
        assert [end[0] for end in (*got.difference(0.05), *got.lift(0.05))] == [-1.0, 1.0, -1.0, np.inf]
        assert got.p_value() == 1


def test_a_first_look_at_one_send_each_is_no_proof_and_no_crash() -> None:
    got = answer([(1, 0, 1, 1)])

    assert got.odds_ratio[0] == np.inf
    assert got.p_value() > 0.5
    assert got.difference(0.05)[0][0] < 0


@pytest.mark.parametrize("n_b", [10**6, 10**12])
def test_an_arm_with_all_the_successes_has_infinite_odds_however_little_that_says(n_b: int) -> None:
    assert answer([(1, 0, n_b, 1)]).odds_ratio[0] == np.inf
    assert answer([(n_b, 1, 1, 0)]).odds_ratio[0] == 0


def test_a_proof_may_rest_on_few_successes() -> None:
    got = answer([(40, 0, 40, 5)] * 3, horizon=240)

    assert got.proved(0.05)[-1] == 1  # 15 successes to none; no rule of 30 is needed


def test_a_thousand_million_sends_are_compared_to_the_last_digit() -> None:
    got = answer([(10**9, 2 * 10**8, 10**9, 2 * 10**8 + 300_000)])

    assert got.effect[0] == pytest.approx(0.0003, rel=1e-5)
    low, high = (float(end[0]) for end in got.difference(0.05))
    se = np.sqrt(2 * 0.2 * 0.8 / 1e9)
    assert 2.5 * se < high - got.effect[0] < 5 * se
    assert 2.5 * se < got.effect[0] - low < 5 * se


def test_a_surprising_effect_has_a_narrow_interval_already_at_the_first_of_many_looks() -> None:
    got = answer([(10**6, 200_000, 10**6, 286_000)])
    low, high = (float(end[0]) for end in got.difference(0.05))
    se = np.sqrt((0.2 * 0.8 + 0.286 * 0.714) / 1e6)

    assert high - low < 12 * se  # a normal mixture, which does not expect it, gives over 200


def test_huge_epochs_need_neither_minutes_nor_memory() -> None:
    rng = np.random.default_rng(3)
    n = np.full((3, 50), 250_000.0)
    k = rng.binomial(250_000, [[0.2], [0.21], [0.3]], (3, 50)).astype(np.float64)
    a = rng.binomial(250_000, 0.2, (3, 50)).astype(np.float64)
    tracemalloc.start()
    got = exact(Pair(n_a=n, k_a=a, n_b=n, k_b=k), 0.05, None)
    low, high = got.difference(0.05)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 60e6
    assert (high - low)[:, -1].max() < 0.002
    assert got.proved(0.05)[:, -1].tolist() == [0, 1, 1]


# --- Guarantees by simulation -----------------------------------------------------------------------------------------


def in_parts(rates: Sequence[float], floor: float, **options: int) -> Iterator[Exact]:
    runs = thompson(rates, floor, replications=2_000, **options)
    for first in range(0, 2_000, 250):
        yield exact(runs[first : first + 250].pair(), 0.05, None)


@pytest.mark.parametrize(("rate", "floor"), [(0.03, 0.0), (0.005, 0.1)])
def test_false_alarms_under_thompson_stay_at_the_level_at_any_look(rate: float, floor: float) -> None:
    alarms = sum(int((part.proved(0.05)[:, -1] != 0).sum()) for part in in_parts((rate, rate), floor))

    assert alarms <= MOST_ALARMS


@pytest.mark.parametrize(
    ("rates", "options"), [((0.02, 0.1), {"epochs": 8, "size": 50}), ((0.5, 0.9), {"epochs": 5, "size": 20})]
)
def test_intervals_of_small_experiments_cover_the_truth_at_every_look(
    rates: tuple[float, float], options: dict[str, int]
) -> None:
    missed = np.zeros(3, dtype=np.int64)
    a, b = rates
    truths = (b / (1 - b) * (1 - a) / a, b - a, b / a - 1)
    for part in in_parts(rates, 0.1, **options):
        for i, (low, high) in enumerate((part.odds_interval(0.05), part.difference(0.05), part.lift(0.05))):
            missed[i] += ((low > truths[i] + 1e-9) | (high < truths[i] - 1e-9)).any(axis=1).sum()

    assert missed.max() <= MOST_ALARMS


def test_it_proves_more_than_the_normal_mixture() -> None:
    pair = thompson((0.20, 0.22), 0.10, replications=600).pair()
    ours = (exact(pair, 0.05, None).proved(0.05)[:, -1] > 0).mean()
    normal = (mix(pair, 0.05, None).path() <= 0.05).any(axis=1).mean()

    assert ours > normal + 0.02  # of 2,000: 20 % and 15 %
    assert 0.14 < ours < 0.26


def test_drifting_base_rates_neither_fool_nor_blind_it() -> None:
    swing = 1 + 0.4 * np.sin(2 * np.pi * np.arange(25)[:, None] / 7)
    still = exact(thompson(0.2 * swing * np.ones(2), 0.1, replications=400).pair(), 0.05, None)
    moved = exact(thompson(np.column_stack((0.2 * swing, 0.26 * swing)), 0.1, replications=100).pair(), 0.05, None)

    assert (still.proved(0.05)[:, -1] != 0).sum() <= 46  # of 400 at a true 5 %, more is rarer than 1e-6
    assert (moved.proved(0.05)[:, -1] > 0).mean() > 0.9


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(
        st.tuples(st.sampled_from((0, 1, 7, 250, 10**9)), st.sampled_from((0, 3, 250)), st.floats(0, 1)),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 2**16),
)
def test_rows_that_are_alike_are_worked_out_once(kinds: list[tuple[int, int, float]], seed: int) -> None:
    table = np.array([(n_a, n_b, round((n_a + n_b) * rate)) for n_a, n_b, rate in kinds], dtype=np.float64)
    place = np.random.default_rng(seed).integers(0, len(table), 12)
    theta = np.array([-9.0, -0.3, 0.0, 0.02, 2.5])
    n_a, n_b, k = table[place].T
    together = _hypergeometric.log_mgf(n_a, n_b, k, theta)
    alone = np.concatenate([_hypergeometric.log_mgf(n_a[[i]], n_b[[i]], k[[i]], theta) for i in range(len(k))])
    assert together == pytest.approx(alone, rel=1e-11, abs=1e-9)
    rows, _ = _hypergeometric._distinct(n_a, n_b, k)
    assert len(rows) == len(np.unique(table[place], axis=0))


@given(seed=st.integers(0, 2**16), spread=st.sampled_from((0.0, 1.0, 100.0, 1e5)))
def test_the_log_of_a_sum_of_exponentials_loses_no_digit(seed: int, spread: float) -> None:
    terms = spread * np.random.default_rng(seed).normal(size=(3, 400))
    theirs = logsumexp(terms, axis=-1)
    assert _exact._log_sum(terms.copy()) == pytest.approx(theirs, rel=1e-13, abs=1e-13)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), size=st.sampled_from((2, 30, 400, 10**6)), rate=st.sampled_from((0.004, 0.2, 0.97)))
def test_no_further_step_of_newton_moves_an_end(seed: int, size: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    n = rng.integers(1, size + 1, (2, 3, 9)).astype(np.float64)
    k = rng.binomial(n.astype(np.int64), rate).astype(np.float64)
    pair = Pair(n_a=n[0], k_a=k[0], n_b=n[1], k_b=k[1])
    early = exact(pair, 0.05, None)
    ends = (*early.latest_intervals(0.05), *early.estimates())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_exact, "_SETTLED", 0.0)
        late = exact(pair, 0.05, None)
        all_steps = (*late.latest_intervals(0.05), *late.estimates())
    for end, other in zip(ends, all_steps, strict=True):
        assert np.allclose(end, other, rtol=1e-10, atol=1e-10, equal_nan=True)
