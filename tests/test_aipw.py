"""The average effect over all mail: identities, properties, and guarantees by simulation."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import Runs, thompson

from abmail._aipw import AverageEffect, average_effect, from_rates, predicted_rates
from abmail._boundary import mixture_bound, mixture_rho
from abmail._sequential import Pair

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True)
REPLICATIONS = 2_000
MOST_ALARMS = 149  # of 2,000 at a true 5 %: a false alarm of this test is rarer than 1e-6
ONE = np.ones((1, 1))


def pair_of(n_a: ArrayLike, k_a: ArrayLike, n_b: ArrayLike, k_b: ArrayLike) -> Pair:
    n_a, k_a, n_b, k_b = (np.array(part, dtype=np.float64) for part in (n_a, k_a, n_b, k_b))
    return Pair(n_a=n_a, k_a=k_a, n_b=n_b, k_b=k_b)


def answer(
    pair: Pair, weight_b: ArrayLike, sends: Floats | None = None, weight_a: ArrayLike | None = None
) -> AverageEffect:
    b = np.broadcast_to(np.asarray(weight_b, dtype=np.float64), pair.n.shape)
    a = 1 - b if weight_a is None else np.broadcast_to(np.asarray(weight_a, dtype=np.float64), pair.n.shape)
    return average_effect(pair, pair.n if sends is None else sends, a, b, 0.05, None)


def of_runs(runs: Runs) -> AverageEffect:
    pair = runs.pair()
    return average_effect(pair, pair.n, runs.weights[:, 0], runs.weights[:, 1], 0.05, None)


def send_by_send(n: Floats, k: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Influence values of every send for arms a and b, written out; n, k and weights are (n_arms, n_epochs)."""
    values: list[tuple[float, float]] = []
    seen = np.zeros((2, 2))  # (arm, sends and successes)
    for t in range(n.shape[1]):
        pooled = seen[:, 1].sum() / seen[:, 0].sum() if seen[:, 0].sum() else 0.0
        m = (seen[:, 1] + 20 * pooled) / (seen[:, 0] + 20)
        for arm in range(len(n)):
            for outcome, count in ((1, k[arm, t]), (0, n[arm, t] - k[arm, t])):
                value = [m[i] + (outcome - m[i]) / weights[i, t] * (arm == i) for i in (0, 1)]
                values += [(value[0], value[1])] * int(count)
        seen += np.column_stack((n[:2, t], k[:2, t]))
    return np.array(values)[:, 0], np.array(values)[:, 1]


# --- The estimate -----------------------------------------------------------------------------------------------------


def test_counts_give_what_every_single_send_would_give() -> None:
    rng = np.random.default_rng(5)
    weights = np.array([[0.4, 0.2, 0.3], [0.4, 0.5, 0.6], [0.2, 0.3, 0.1]])
    n = np.array([rng.multinomial(200, weights[:, t]) for t in range(3)]).T.astype(np.float64)
    k = rng.binomial(n.astype(np.int64), [[0.3], [0.4], [0.2]]).astype(np.float64)
    one, other = send_by_send(n, k, weights)
    got = average_effect(pair_of(n[0], k[0], n[1], k[1]), n.sum(axis=0), weights[0], weights[1], 0.05, None)

    assert got.n[-1] == len(one) == 600
    assert got.effect[-1] == pytest.approx((other - one).mean(), abs=1e-12)
    assert got.relative[-1] == pytest.approx(other.mean() / one.mean() - 1, abs=1e-12)
    assert got.standard_error[-1] == pytest.approx((other - one).std() / np.sqrt(600), rel=1e-12)
    for ratio in (0.5, 1.0, 3.0):
        assert got._variance(np.full(3, ratio))[-1] == pytest.approx(600 * (other - ratio * one).var(), rel=1e-12)


def test_without_predicted_rates_it_is_inverse_propensity_weighting() -> None:
    pair = pair_of([120, 90], [20, 30], [80, 110], [16, 12])
    share = np.array([0.4, 0.55])
    nothing = np.zeros(2)
    got = from_rates(pair, pair.n, (1 - share, share), (nothing, nothing), np.ones(1))
    ipw = (pair.k_b / share - pair.k_a / (1 - share)).sum() / 400

    assert got.effect[-1] == pytest.approx(ipw, abs=1e-12)


def test_with_the_pooled_rate_an_even_split_gives_the_difference_of_the_means() -> None:
    pair = pair_of([500], [100], [500], [130])
    pooled = np.array([0.23])
    got = from_rates(pair, pair.n, (np.array([0.5]),) * 2, (pooled, pooled), np.ones(1))

    assert got.effect[0] == pytest.approx(0.06, abs=1e-12)
    assert got.standard_error[0] == pytest.approx(np.sqrt(4 * 0.23 * 0.77 / 1_000), rel=5e-3)


def test_exact_predictions_leave_the_estimate_to_the_predictions() -> None:
    pair = pair_of([100, 300], [20, 60], [100, 100], [40, 40])
    right = (np.full(2, 0.2), np.full(2, 0.4))
    got = from_rates(pair, pair.n, (np.array([0.5, 0.3]), np.array([0.5, 0.7])), right, np.ones(1))

    assert got.effect == pytest.approx([0.2, 0.2], abs=1e-12)  # although the sends do not follow the weights


def test_rates_are_predicted_from_earlier_epochs_alone() -> None:
    pair = pair_of([100, 50, 70], [10, 20, 7], [60, 80, 10], [30, 8, 10])
    one, other = predicted_rates(pair)
    later_one, later_other = predicted_rates(pair_of([100, 50, 70], [10, 20, 70], [60, 80, 10], [30, 8, 0]))

    assert (one[0], other[0]) == (0.0, 0.0)
    assert one[1] == pytest.approx((10 + 20 * 0.25) / 120)  # 20 sends' worth of the pooled rate, 40 of 160
    assert other[1] == pytest.approx((30 + 20 * 0.25) / 80)
    assert one.tolist() == later_one.tolist()
    assert other.tolist() == later_other.tolist()


@cache
def drifting(direction: int) -> Runs:
    """Base rates that run from 150 % to 50 % of 0.20, or back; the lift is 2 points throughout."""
    base = 0.2 * np.linspace(1.5, 0.5, 25)[::direction]
    return thompson(np.column_stack((base, base + 0.02)), 0.10, replications=3_000, seed=8)


@pytest.mark.parametrize(("direction", "pooled"), [(1, 0.0095), (-1, 0.049)])
def test_drifting_base_rates_bias_the_pooled_difference_and_not_this_one(direction: int, pooled: float) -> None:
    runs = drifting(direction)
    n, k = runs.n.sum(axis=2), runs.k.sum(axis=2)
    plain = k[:, 1] / n[:, 1] - k[:, 0] / n[:, 0]
    effect = of_runs(runs).effect[:, -1]
    five_errors = 5 * effect.std() / np.sqrt(3_000)

    assert plain.mean() == pytest.approx(pooled, abs=0.003)
    assert effect.mean() == pytest.approx(0.02, abs=five_errors)
    assert five_errors < 0.0013


def test_the_estimate_follows_the_average_of_an_effect_that_turns() -> None:
    effects = np.linspace(0.08, -0.06, 25)
    runs = thompson(np.column_stack((np.full(25, 0.2), 0.2 + effects)), 0.10, replications=2_000)
    got = of_runs(runs)
    so_far = np.cumsum(effects) / np.arange(1, 26)
    low, high = got.difference(0.05)

    assert got.effect.mean(axis=0) == pytest.approx(so_far, abs=0.003)
    assert ((low > so_far + 1e-12) | (high < so_far - 1e-12)).any(axis=1).sum() <= MOST_ALARMS
    # each look speaks of its own average: what all intervals have in common misses the last one
    assert (np.maximum.accumulate(low, axis=1)[:, -1] > so_far[-1]).mean() > 0.15


def test_standard_errors_are_the_spread_of_the_estimates() -> None:
    got = of_runs(thompson((0.20, 0.22), 0.10, replications=REPLICATIONS))

    assert got.standard_error[:, -1].mean() == pytest.approx(got.effect[:, -1].std(), rel=0.06)


# --- When an interval is offered --------------------------------------------------------------------------------------


def test_an_interval_needs_weights_and_successes_and_says_what_it_lacks() -> None:
    pair = pair_of([2_000, 400, 400, 360], [45, 10, 10, 9], [2_000, 3_600, 3_600, 3_640], [80, 140, 140, 140])
    got = answer(pair, [0.5, 0.9, 0.9 + 2.0**-20, 0.91])
    low, high = got.difference(0.05)
    down, up = got.lift(0.05)

    assert got.status.tolist() == ["too_few", "ok", "ok", "low_weight"]
    assert got.supported.tolist() == [False, True, True, False]
    for look in (0, 3):
        assert [end[look] for end in (low, high, down, up)] == [-1.0, 1.0, -1.0, np.inf]
    for look in (1, 2):
        assert -1 < low[look] < got.effect[look] < high[look] < 1
        assert -1 < down[look] < got.relative[look] < up[look] < np.inf
    assert not np.isnan(got.effect).any()


def test_a_low_weight_is_not_forgotten_later() -> None:
    pair = pair_of([400] * 3, [100] * 3, [400] * 3, [140] * 3)

    assert answer(pair, [0.5, 0.95, 0.5]).status.tolist() == ["ok", "low_weight", "low_weight"]


def test_nothing_is_proved_without_support() -> None:
    pair = pair_of([4_000] * 3, [400] * 3, [4_000] * 3, [900] * 3)
    thin, sound = answer(pair, 0.95), answer(pair, 0.5)

    assert thin.p_value() == 1
    assert thin.proved(0.05).tolist() == [0, 0, 0]
    assert sound.p_value() < 1e-6
    assert sound.proved(0.05).tolist() == [1, 1, 1]


def test_a_proof_stands_although_later_looks_lose_their_support_or_disagree() -> None:
    pair = pair_of([4_000] * 3, [800, 1_200, 1_200], [4_000] * 3, [1_200, 500, 500])
    got = answer(pair, [0.5, 0.5, 0.97])

    assert got.proved(0.05).tolist() == [1, 1, 1]
    assert got.effect[-1] < 0
    assert not got.supported[-1]


def test_epochs_in_which_an_arm_was_closed_do_not_count() -> None:
    open_only = answer(pair_of([200], [40], [200], [50]), 0.5)
    with_closed = answer(pair_of([200, 300], [40, 99], [200, 0], [50, 0]), [0.5, 0.0])

    assert with_closed.n.tolist() == [400, 400]
    assert with_closed.effect == pytest.approx(open_only.effect[0])
    assert with_closed.status[-1] == "low_weight"


@pytest.mark.parametrize("weight", [1e-7, 1e-200, 5e-324])
def test_a_weight_that_no_log_could_hold_closes_an_arm(weight: float) -> None:
    pair = pair_of([200, 300], [40, 99], [200, 0], [50, 0])
    tiny, closed = answer(pair, [0.5, weight]), answer(pair, [0.5, 0.0])

    assert tiny.n.tolist() == closed.n.tolist()
    assert tiny.effect.tolist() == closed.effect.tolist()
    assert tiny.standard_error.tolist() == closed.standard_error.tolist()


@pytest.mark.parametrize(
    ("pair", "weight"),
    [
        (pair_of([0], [0], [0], [0]), 0.5),
        (pair_of([0], [0], [0], [0]), 0.0),
        (pair_of([100], [0], [100], [0]), 0.5),
        (pair_of([100], [100], [100], [100]), 0.5),
        (pair_of([0], [0], [100], [50]), 0.5),
        (pair_of([0, 0, 9], [0, 0, 3], [0, 7, 0], [0, 7, 0]), [0.0, 0.999, 0.001]),
    ],
)
def test_every_edge_gets_an_answer_inside_of_minus_one_and_one(pair: Pair, weight: ArrayLike) -> None:
    got = answer(pair, weight)

    assert (np.abs(np.nan_to_num(got.effect)) <= 1).all()
    low, high = got.difference(0.05)
    assert got.p_value() == 1
    assert (low == -1).all()
    assert (high == 1).all()
    assert (got.proved(0.5) == 0).all()


def test_impossible_arguments_are_refused_in_words() -> None:
    pair = pair_of([100], [10], [100], [20])
    half = np.array([0.5])

    with pytest.raises(ValueError, match="fewer sends than its two arms"):
        average_effect(pair, np.array([150.0]), half, half, 0.05, None)
    with pytest.raises(ValueError, match="alpha is 5"):
        average_effect(pair, pair.n, half, half, 5, None)
    got = average_effect(pair, pair.n, half, half, 0.05, None)
    for ask in (got.proved, got.difference, got.lift):
        with pytest.raises(ValueError, match="level is 0, must be in"):
            ask(0.0)


# --- Properties -------------------------------------------------------------------------------------------------------

counts = st.lists(
    st.tuples(st.integers(100, 2_000), st.floats(0.1, 0.9), st.floats(0.05, 0.9), st.floats(0.05, 0.9)),
    min_size=1,
    max_size=5,
)


def experiment(rows: list[tuple[int, float, float, float]]) -> tuple[Pair, Floats]:
    size, share, rate_a, rate_b = np.array(rows).T
    n_b = np.round(size * share)
    return pair_of(size - n_b, np.round((size - n_b) * rate_a), n_b, np.round(n_b * rate_b)), share


@PROPERTY
@given(counts, st.sampled_from([0.3, 0.05, 1e-4]))
def test_difference_lift_and_p_value_agree(rows: list[tuple[int, float, float, float]], level: float) -> None:
    pair, share = experiment(rows)
    got = answer(pair, share)
    low, high = got.difference(level)
    down, up = got.lift(level)
    here = np.where(got.path() <= level, np.sign(got.sum_b - got.sum_a), 0)

    assert ((low > 0) == (here > 0)).all()
    assert ((high < 0) == (here < 0)).all()
    assert ((down > 0) == (low > 0)).all()
    assert ((up < 0) == (high < 0)).all()
    assert (got.p_value() <= level) == bool(got.proved(level)[-1])


@PROPERTY
@given(counts)
def test_swapping_the_arms_turns_everything_round(rows: list[tuple[int, float, float, float]]) -> None:
    pair, share = experiment(rows)
    turned = Pair(n_a=pair.n_b, k_a=pair.k_b, n_b=pair.n_a, k_b=pair.k_a)
    there, back = answer(pair, share), answer(turned, 1 - share)
    (low, high), (down, up) = there.difference(0.05), there.lift(0.05)
    (other_low, other_high), (other_down, other_up) = back.difference(0.05), back.lift(0.05)

    assert back.effect == pytest.approx(-there.effect, abs=1e-12)
    assert back.p_value() == pytest.approx(there.p_value(), rel=1e-6)
    assert other_low == pytest.approx(-high, abs=1e-9)
    assert other_high == pytest.approx(-low, abs=1e-9)
    assert 1 / (1 + other_up[there.supported]) == pytest.approx(1 + down[there.supported], rel=1e-6)
    assert 1 / (1 + up[there.supported]) == pytest.approx(1 + other_down[there.supported], rel=1e-6)


@PROPERTY
@given(counts)
def test_a_later_epoch_changes_no_earlier_look(rows: list[tuple[int, float, float, float]]) -> None:
    pair, share = experiment(rows)
    whole, part = answer(pair, share), answer(*experiment(rows[:1]))

    assert part.effect[0] == pytest.approx(whole.effect[0], abs=1e-12)
    assert [end[0] for end in part.difference(0.05)] == pytest.approx([end[0] for end in whole.difference(0.05)])


def test_the_interval_is_the_published_sequence() -> None:
    # pyssed unit tests (Liang & Bojinov 2023): variances that sum to 3, t = t* = 10, alpha 0.05
    log = -2 * np.log(0.05)
    published = mixture_bound(np.array([3.0]), 10 / (log + np.log1p(log)), 0.05)[0] / 10
    exact_tuning = mixture_bound(np.array([3.0]), mixture_rho(10, 0.05), 0.05)[0] / 10

    assert published == pytest.approx(0.5541955, abs=5e-8)
    assert exact_tuning == pytest.approx(published, rel=0.01)
    sums = dict.fromkeys(("sum_a", "square_a", "product", "rho_a"), 0 * ONE)
    rho = 10 / (log + np.log1p(log))
    got = AverageEffect(n=10 * ONE, sum_b=0 * ONE, square_b=3 * ONE, rho_b=rho * ONE, status=np.array([["ok"]]), **sums)
    assert got.difference(0.05)[1].item() == pytest.approx(0.5541955, abs=5e-8)


def test_other_arms_make_the_average_and_not_the_noise() -> None:
    pair = pair_of([200, 200], [40, 40], [200, 200], [60, 60])
    two, three = answer(pair, 0.5), answer(pair, 0.25, sends=2 * pair.n, weight_a=0.25)

    assert three.n.tolist() == [800, 1_600]
    assert three.effect[0] == pytest.approx(two.effect[0])
    assert three.standard_error[0] == pytest.approx(two.standard_error[0], rel=0.03)


# --- Guarantees by simulation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "floor", "fewest", "most"),  # of 2,000; a full table of rates stands in the documentation
    [(0.20, 0.10, 10, 60), (0.20, 0.50, 4, 50), (0.03, 0.10, 0, 30), (0.03, 0.02, 0, 15)],
)
def test_false_alarms_at_any_look_are_few(rate: float, floor: float, fewest: int, most: int) -> None:
    got = of_runs(thompson((rate, rate), floor, replications=REPLICATIONS))
    alarms = int((got.proved(0.05)[:, -1] != 0).sum())

    assert fewest <= alarms <= most


def test_without_its_conditions_it_would_raise_too_many_alarms() -> None:
    got = of_runs(thompson((0.01, 0.01), 0.02, replications=REPLICATIONS))
    ones = np.ones_like(got.n)
    bound = mixture_bound(got._variance(ones), got._rho(ones), 0.05)
    unguarded = int((np.abs(got.sum_b - got.sum_a) >= bound).any(axis=1).sum())

    assert unguarded > 1.5 * MOST_ALARMS
    assert int((got.proved(0.05)[:, -1] != 0).sum()) <= 15


@pytest.mark.parametrize("rates", [(0.20, 0.22), (0.05, 0.07)])
def test_intervals_cover_the_truth_at_every_look(rates: tuple[float, float]) -> None:
    got = of_runs(thompson(rates, 0.10, replications=REPLICATIONS))
    effect, lift = rates[1] - rates[0], rates[1] / rates[0] - 1
    for (low, high), truth in ((got.difference(0.05), effect), (got.lift(0.05), lift)):
        assert int(((low > truth) | (high < truth)).any(axis=1).sum()) <= MOST_ALARMS
        assert (high[:, -1] < 4 * truth + 0.1).mean() > 0.6


def test_a_difference_is_found_as_often_as_measured_elsewhere() -> None:
    got = of_runs(thompson((0.20, 0.22), 0.10, replications=REPLICATIONS))
    low, high = got.difference(0.05)

    assert (got.proved(0.05)[:, -1] > 0).mean() == pytest.approx(0.19, abs=0.05)
    assert (high - low)[:, -1].mean() / 2 == pytest.approx(0.0338, abs=0.001)
