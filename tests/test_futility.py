"""Futility: closed forms of value remaining and conditional power, edges, and what stopping costs, by simulation."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from abmail import _futility
from abmail._boundary import Boundary
from abmail._method import Arrays
from abmail._sequential import combine
from abmail.stats import Counts, compare, conditional_power, futility, obrien_fleming, p_best, value_remaining

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

PROPERTY = settings(max_examples=25, deadline=None, derandomize=True)


def even(epochs: int, size: int, successes: tuple[int, int], looks: int | None = None) -> Counts:
    return Counts([[size, size]] * epochs, [list(successes)] * epochs, looks=looks)


# --- Value remaining --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_arms", [2, 3, 5, 20])
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_flat_posteriors_have_the_value_remaining_of_uniform_variables(n_arms: int, level: float) -> None:
    # P(max <= (1 + v) U) = 1 / (n (1 + v)) + 1 - 1 / (1 + v)
    expected = (1 - 1 / n_arms) / (1 - level) - 1

    assert value_remaining([1] * n_arms, [1] * n_arms, level=level) == pytest.approx(expected, rel=2e-5)


def test_a_flat_champion_against_a_certain_rate_may_be_much_too_low() -> None:
    assert value_remaining([1, 2e6], [1, 8e6]) == pytest.approx(3.0, rel=1e-4)  # 0.2 / U > 4 with probability 5 %


def test_sharp_posteriors_follow_the_normal_distribution_of_their_ratio() -> None:
    a, b = np.array([20_000.0, 20_100.0]), np.array([80_000.0, 79_900.0])
    mean, relative = a / (a + b), np.sqrt(b / (a * (a + b)))
    gap, sd = math.log(mean[0] / mean[1]), math.hypot(*relative)

    assert value_remaining(a, b) == pytest.approx(math.expm1(gap + ndtri(0.95) * sd), rel=0.02)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([200, 205], [800, 795]),
        ([3, 2_000], [1_000, 600_000]),
        ([20] * 40, [80] * 40),
        ([5, 1, 2], [1, 1, 9]),
        ([0.5, 2], [3, 9]),
    ],
)
def test_value_remaining_is_the_quantile_of_posterior_draws(a: list[float], b: list[float]) -> None:
    rates = np.random.default_rng(3).beta(a, b, (60_000, len(a)))
    champion = int(np.argmax(p_best(a, b)))
    value = value_remaining(a, b)
    within = (rates.max(axis=1) <= (1 + value) * rates[:, champion]).mean()

    assert within == pytest.approx(0.95, abs=0.005)


@PROPERTY
@given(
    st.lists(st.tuples(st.floats(0, 4), st.floats(0, 6)), min_size=2, max_size=6),
    st.floats(0.5, 0.99),
)
def test_value_remaining_grows_with_the_level_and_is_0_for_a_certain_champion(
    logs: list[tuple[float, float]], level: float
) -> None:
    a, b = 10 ** np.array(logs).T
    value = value_remaining(a, b, level=level)

    assert value >= 0
    assert (value == 0) == (p_best(a, b).max() >= level)
    assert value_remaining(a, b, level=(1 + level) / 2) >= value


def test_two_hundred_arms_have_a_value_remaining() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(150, 260, 200), rng.integers(750, 850, 200)
    rates = rng.beta(a, b, (4_000, 200))
    champion = int(np.argmax(p_best(a, b)))
    value = value_remaining(a, b)

    assert (rates.max(axis=1) <= (1 + value) * rates[:, champion]).mean() == pytest.approx(0.95, abs=0.017)


def test_a_single_arm_leaves_nothing_to_gain() -> None:
    assert value_remaining([5], [9]) == 0.0


@pytest.mark.parametrize(
    ("a", "b", "level", "words"),
    [([1, 1], [1, 1], 1.5, "level is 1.5"), ([1, 0], [1, 1], 0.95, "a of arm 1 is 0"), ([1, 1], [1], 0.95, "shapes")],
)
def test_impossible_posteriors_are_refused_in_words(a: list[float], b: list[float], level: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        value_remaining(a, b, level=level)


# --- Conditional power ------------------------------------------------------------------------------------------------


def test_a_single_look_ahead_has_the_closed_form_of_the_b_value() -> None:
    # Lan & Wittes 1988: P(B(1) >= c | B(t) = b) = Phi((b + theta (1 - t) - c) / sqrt(1 - t)); t = 1/2 here.
    half = Counts([[2_000, 2_000]], [[400, 420]], looks=2)
    rate = 820 / 4_000
    sd = math.sqrt(rate * (1 - rate))
    b = math.sqrt(0.5) * math.sqrt(1_000) * 0.01 / (sd * math.sqrt(4_000 / 3_999))
    drift = math.sqrt(0.5 * 1_000) * 0.02 / sd
    c = obrien_fleming(2)

    assert conditional_power(half, effect=0.02) == pytest.approx(float(ndtr((b + drift - c) / math.sqrt(0.5))))
    assert conditional_power(half, effect=-0.02) == pytest.approx(float(ndtr((-b + drift - c) / math.sqrt(0.5))))


def test_a_published_example_of_two_proportions_is_met() -> None:
    # NCSS PASS, conditional power of two proportions: 0.6 against 0.7, 114 a group, one-sided 0.025, half the data in;
    # "for a z value of 2.5, the conditional power is just over 0.8".
    theta = 0.1 / math.sqrt(0.65 * 0.35 * 2 / 114)
    found = _futility._reach(2.5 * math.sqrt(0.5), np.array([0.5]), np.array([0.5 * theta]), 1.96)

    assert 0.80 < found < 0.81


@pytest.mark.parametrize(("looks", "inflation"), [(2, 1.007), (3, 1.016), (4, 1.022), (5, 1.026)])
def test_from_the_start_it_is_the_power_of_the_group_sequential_plan(looks: int, inflation: float) -> None:
    # Jennison & Turnbull 2000, table 2.4: O'Brien-Fleming tests with power 0.9, information relative to a single look.
    theta = math.sqrt(inflation) * (1.959964 + 1.281552)
    steps = np.full(looks, 1 / looks)

    assert _futility._reach(0.0, steps, theta * steps, obrien_fleming(looks)) == pytest.approx(0.9, abs=0.0008)


@pytest.mark.parametrize("z", [-0.5, 0.7, 1.8])
def test_many_looks_approach_brownian_motion_with_drift(z: float) -> None:
    # The chance to reach a level by time r; Siegmund's 0.5826 sqrt(step) corrects for the looks between.
    c, r, theta, many = 2.2414, 0.6, 1.5, 300
    gap = c + 0.5826 * math.sqrt(r / many) - z
    expected = ndtr((theta * r - gap) / math.sqrt(r)) + math.exp(2 * theta * gap) * ndtr(
        (-gap - theta * r) / math.sqrt(r)
    )

    found = _futility._reach(z, np.full(many, r / many), np.full(many, theta * r / many), c)
    assert found == pytest.approx(float(expected), abs=1.5e-3)


def test_uneven_looks_agree_with_draws() -> None:
    steps, drift, c = np.array([0.1, 0.2, 0.05, 0.15]), np.array([0.3, 0.1, 0.4, 0.2]), 2.0
    walk = 0.4 + np.cumsum(drift + np.sqrt(steps) * np.random.default_rng(0).standard_normal((200_000, 4)), axis=1)
    up = np.where((walk >= c).any(axis=1), (walk >= c).argmax(axis=1), 9)
    down = np.where((walk <= -c).any(axis=1), (walk <= -c).argmax(axis=1), 9)

    assert _futility._reach(0.4, steps, drift, c) == pytest.approx(float((up < down).mean()), abs=0.004)


def test_it_is_its_own_mean_over_the_next_look() -> None:
    steps, theta, c = np.full(5, 0.2), 3.0, obrien_fleming(5)
    node, weight = np.polynomial.hermite_e.hermegauss(80)
    after = 0.1 + 0.2 * theta + math.sqrt(0.2) * node
    later = [
        1.0 if z >= c else 0.0 if z <= -c else _futility._reach(float(z), steps[1:], theta * steps[1:], c)
        for z in after
    ]

    mean = float(weight @ np.array(later)) / math.sqrt(2 * math.pi)
    assert _futility._reach(0.1, steps, theta * steps, c) == pytest.approx(mean, abs=2e-3)


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_it_is_the_share_of_real_runs_that_still_cross(share: float) -> None:
    rng = np.random.default_rng(14)
    sizes = np.array([round(1_000 * (1 - share)), round(1_000 * share)])
    so_far = Counts(np.tile(sizes, (6, 1)), np.tile(np.round(sizes * [0.2, 0.215]), (6, 1)), looks=10)
    runs = 4_000
    n = np.broadcast_to(sizes[:, None], (runs, 2, 10)).astype(float)
    k = np.zeros((runs, 2, 10))
    k[..., :6] = so_far.successes.T
    k[..., 6:] = rng.binomial(np.broadcast_to(sizes[:, None], (runs, 2, 4)), np.array([0.195, 0.225])[:, None])
    path = combine(
        Arrays.plain(n, k).pair(np.array([0]), np.array([1])),
        np.full(10, 0.1),
        Boundary(tuple((np.arange(1, 11) / 10).tolist())),
    )
    crossed = (path.proved(0.05)[:, 0, -1] > 0).mean()

    assert 0.1 < crossed < 0.9
    assert conditional_power(so_far, effect=0.03) == pytest.approx(float(crossed), abs=0.03)


def test_a_proof_already_made_stays_made() -> None:
    proved = even(5, 2_000, (400, 600), looks=10)

    assert conditional_power(proved, effect=0.01) == 1.0
    assert conditional_power(proved, effect=-0.01) == 0.0
    assert compare(proved).decision.state == "winner"


def test_a_crossing_on_too_few_successes_is_no_proof_yet() -> None:
    few = Counts([[40, 40]] * 2, [[0, 13], [10, 10]], looks=10)

    assert 0.0 < conditional_power(few, effect=0.1) < 1.0


def test_nothing_is_left_to_prove_after_the_last_epoch() -> None:
    assert conditional_power(even(5, 500, (100, 101), looks=5), effect=0.05) == 0.0
    assert conditional_power(even(7, 500, (100, 101), looks=5), effect=0.05) == 0.0


def test_it_grows_with_the_effect_the_sends_to_come_and_an_even_split() -> None:
    half = Counts([[700, 300]] * 5, [[140, 61]] * 5, looks=10)
    powers = [conditional_power(half, effect=effect) for effect in (0.01, 0.02, 0.04)]

    assert powers == sorted(powers)
    assert conditional_power(half, effect=0.02, horizon=20_000) > powers[1]
    assert conditional_power(half, effect=0.02, horizon=10_000) == pytest.approx(powers[1])
    assert conditional_power(half, effect=0.02, allocation=[1, 1]) > powers[1]
    assert conditional_power(half, effect=0.02, allocation=[0.7, 0.3]) == pytest.approx(powers[1])
    assert conditional_power(half, effect=0.02, allocation=[1, 0]) == 0.0


def test_logged_weights_of_the_latest_epoch_split_the_sends_to_come() -> None:
    plain = Counts([[500, 500]] * 5, [[100, 104]] * 5, looks=10)
    weighted = Counts(plain.n, plain.successes, weights=[[0.5, 0.5]] * 4 + [[0.9, 0.1]], looks=10)

    assert conditional_power(weighted, effect=0.03) == pytest.approx(
        conditional_power(plain, effect=0.03, allocation=[0.9, 0.1])
    )


def test_planned_shares_weigh_the_epochs_to_come() -> None:
    start = even(2, 500, (100, 104))
    small, large = (conditional_power(start, effect=0.03, weights=[1, 1, rest]) for rest in (1, 8))

    assert large > small
    assert conditional_power(start, effect=0.03, looks=3) == pytest.approx(small)


def test_a_budget_of_sends_is_a_plan_without_looks() -> None:
    start = even(4, 500, (100, 104))
    power = conditional_power(start, effect=0.03, horizon=10_000)

    assert 0.1 < power < 0.9
    assert power < conditional_power(start, effect=0.03, looks=10)  # its boundary allows any number of looks
    assert conditional_power(start, effect=0.03, horizon=4_000) == 0.0


def test_an_epoch_that_missed_an_arm_leaves_its_share_to_later_ones() -> None:
    missed = Counts([[500, 500], [1_000, 0], [500, 500]], [[100, 104], [200, 0], [100, 104]], looks=6)

    assert 0.0 < conditional_power(missed, effect=0.04) < 1.0


def test_a_plan_of_very_many_looks_is_followed_in_reasonable_time() -> None:
    power = conditional_power(even(400, 20, (4, 4), looks=1_500), effect=0.02)

    assert 0.0 < power < 1.0


def test_arms_are_named_or_counted() -> None:
    counts = Counts([[500, 500, 500]] * 3, [[100, 110, 90]] * 3, looks=6)
    by_name = conditional_power(counts, effect=0.03, arm="z", control="y", names=["x", "y", "z"])

    assert by_name == conditional_power(counts, effect=0.03, arm=2, control=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"effect": 0}, "effect is 0, must be a difference"),
        ({"effect": 2}, "effect is 2"),
        ({"effect": float("nan")}, "effect is nan"),
        ({"effect": 0.1, "arm": 0}, "arm and control are both 'A'"),
        ({"effect": 0.1, "arm": "Z"}, "arm is 'Z'"),
        ({"effect": 0.1, "alpha": 5}, "alpha is 5"),
        ({"effect": 0.1, "horizon": -1, "looks": None}, "horizon is -1"),
        ({"effect": 0.1, "looks": None}, "no end is planned"),
        ({"effect": 0.1, "allocation": [1, 2, 3]}, "allocation is"),
        ({"effect": 0.1, "allocation": [0, 0]}, "allocation is"),
    ],
)
def test_wrong_arguments_are_refused_in_words(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        conditional_power(even(2, 50, (10, 10)), **{"looks": 4} | arguments)


def test_nothing_sent_is_no_path_to_go_on_from() -> None:
    with pytest.raises(ValueError, match="nothing was sent yet"):
        conditional_power(Counts([[0, 0]], [[0, 0]], looks=3), effect=0.1)


@PROPERTY
@given(
    st.lists(st.tuples(*[st.integers(0, 300)] * 2), min_size=1, max_size=5).filter(lambda n: sum(map(sum, n)) > 0),
    st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    st.sampled_from([{"looks": 4}, {"horizon": 2_000.0}, {"weights": [3, 1, 1, 5]}]),
    st.sampled_from([0.001, -0.3]),
)
def test_any_path_has_a_chance_without_a_warning(
    n: list[tuple[int, int]], share: float, plan: dict[str, Any], effect: float
) -> None:
    counts = Counts(n, np.floor(np.array(n) * share))

    assert 0.0 <= conditional_power(counts, effect=effect, **plan) <= 1.0


# --- Futility ---------------------------------------------------------------------------------------------------------


def test_a_clear_winner_leaves_nothing_to_gain() -> None:
    found = futility(even(5, 2_000, (400, 600), looks=10), mde=0.02, names=["plain", "bold"])

    assert (found.stop, found.reason, found.champion, found.value_remaining) == (True, "value_remaining", "bold", 0.0)
    assert found.conditional_power == 1.0
    assert found.sentence == "You may stop: 'bold' is the best with a probability of at least 95 %."
    assert found.sentence_in("ja") == "終了できます。「bold」が最良である確率は95 %以上です。"


def test_arms_that_hardly_differ_leave_little_to_gain() -> None:
    found = futility(even(10, 300_000, (60_000, 60_010), looks=20))

    assert (found.stop, found.reason, found.conditional_power) == (True, "value_remaining", None)
    assert 0 < found.value_remaining < 0.01
    assert found.sentence.startswith(
        "You may stop: with a probability of 95 % no variant's rate exceeds that of 'B' by "
    )


def test_a_proof_that_is_out_of_reach_is_a_reason_to_stop() -> None:
    found = futility(even(8, 500, (101, 100), looks=10), mde=0.02)

    assert (found.stop, found.reason, found.champion) == (True, "conditional_power", "A")
    assert found.conditional_power is not None
    assert found.conditional_power < 0.1
    assert found.sentence.startswith("You may stop: even with a true difference of 2.00 points the chance of still ")
    assert "2.00ポイント" in found.sentence_in("ja")


def test_an_open_race_goes_on() -> None:
    counts = even(4, 500, (100, 104), looks=10)
    plain, powered = futility(counts), futility(counts, mde=0.04)

    assert not plain.stop
    assert not powered.stop
    assert plain.sentence.startswith("Go on: a variant may still be up to ")
    assert "4.00 points" in powered.sentence
    assert powered.sentence_in("ja").startswith("続けてください。")
    with pytest.raises(ValueError, match="language is 'fr'"):
        plain.sentence_in("fr")  # type: ignore[arg-type]


def test_the_chance_of_a_proof_is_that_of_the_arm_that_has_the_best_one() -> None:
    counts = Counts([[500, 500, 500]] * 5, [[100, 106, 98]] * 5, looks=10)
    level = 2 * 0.05 / 3
    powers = [
        conditional_power(counts, effect=0.03, arm=arm, control=rival, alpha=level)
        for arm, rival in (("A", "B"), ("B", "A"), ("C", "B"))
    ]

    assert futility(counts, mde=0.03).conditional_power == pytest.approx(max(powers))


def test_without_sends_or_a_plan_only_the_posterior_speaks() -> None:
    nothing = futility(Counts([[0, 0]], [[0, 0]], looks=5), mde=0.02)
    unplanned = futility(even(3, 400, (80, 90)), mde=0.02)

    assert (nothing.stop, nothing.conditional_power) == (False, None)
    assert nothing.value_remaining == pytest.approx(9.0, rel=1e-6)
    assert unplanned.conditional_power is None


def test_young_sends_count_by_their_exposure_and_a_prior_pulls() -> None:
    old = Counts([1_000, 1_000], [150, 200])
    young = Counts([1_000, 1_000], [150, 200], exposure=[800, 1_000])

    assert futility(young).value_remaining > futility(old).value_remaining
    assert futility(old, prior=(2_000, 8_000)).value_remaining > futility(old).value_remaining


def test_limits_can_be_moved() -> None:
    counts = even(4, 500, (100, 104), looks=10)

    assert futility(counts, value_limit=0.5).reason == "value_remaining"
    assert futility(counts, mde=0.04, power_limit=0.99).reason == "conditional_power"
    assert futility(counts, level=0.6).value_remaining < futility(counts).value_remaining


def test_many_arms_may_stop_or_go_on() -> None:
    n = np.full((4, 60), 100)
    found = futility(Counts(n, np.random.default_rng(1).binomial(n, 0.2), looks=20), mde=0.02)

    assert found.reason == "conditional_power"


def test_an_answer_is_a_frozen_value_that_travels() -> None:
    found = futility(even(4, 500, (100, 104), looks=10), mde=0.04)

    assert pickle.loads(pickle.dumps(found)) == found
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["sentence"] == found.sentence
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.stop = True  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mde": 0}, "mde is 0"),
        ({"prior": (0, 1)}, "prior is"),
        ({"level": 2}, "level is 2"),
        ({"alpha": 0}, "alpha is 0"),
        ({"names": ["x"]}, "must be 2 different names"),
    ],
)
def test_wrong_arguments_of_futility_are_refused_in_words(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        futility(even(2, 50, (10, 10)), **arguments)


def test_one_arm_has_nothing_to_stop_for() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        futility(Counts([10], [1]))


# --- What stopping costs ----------------------------------------------------------------------------------------------


def test_most_runs_of_a_bandit_stop_with_the_best_arm_or_one_that_is_nearly_as_good() -> None:
    rng = np.random.default_rng(48)
    rates, epochs, size, runs = np.array([0.18, 0.20, 0.21, 0.25]), 48, 2_083, 25
    stopped, right, loss = 0, 0, 0.0
    for _ in range(runs):
        n, k = np.zeros((2, 4), dtype=np.int64)
        for _ in range(epochs):
            best = p_best(1 + k, 1 + n - k)
            sends = rng.multinomial(size, 0.04 + 0.84 * best)
            n, k = n + sends, k + rng.binomial(sends, rates)
            if value_remaining(1 + k, 1 + n - k) < 0.01:
                champion = int(np.argmax(p_best(1 + k, 1 + n - k)))
                stopped += 1
                right += champion == 3
                loss += 1 - rates[champion] / rates.max()
                break

    assert stopped == runs
    assert right >= 0.8 * runs
    assert loss / runs < 0.02


@pytest.mark.parametrize(("effect", "fewest_stops", "most_lost"), [(0.0, 0.5, 0.0), (0.03, 0.0, 0.05)])
def test_a_hopeless_proof_is_given_up_often_without_an_effect_and_seldom_with_it(
    effect: float, fewest_stops: float, most_lost: float
) -> None:
    rng = np.random.default_rng(20)
    runs, looks, size = 120, 8, 400
    n = np.full((runs, 2, looks), float(size))
    k = rng.binomial(size, np.array([0.2, 0.2 + effect])[:, None], n.shape).astype(float)
    path = combine(
        Arrays.plain(n, k).pair(np.array([0]), np.array([1])),
        np.full(looks, 1 / looks),
        Boundary(tuple((np.arange(1, looks + 1) / looks).tolist())),
    )
    crossed = (np.abs(path.z[:, 0]) >= obrien_fleming(looks)).cumsum(axis=1) > 0
    given_up = np.zeros(runs, dtype=np.bool_)
    for run in range(runs):
        for look in range(3, looks - 1):
            counts = Counts(n[run, :, : look + 1].T, k[run, :, : look + 1].T, looks=looks)
            if crossed[run, look] or given_up[run]:
                break
            given_up[run] = max(conditional_power(counts, effect=sign * 0.03) for sign in (1, -1)) < 0.1

    assert given_up.mean() >= fewest_stops
    assert (crossed[:, -1] & given_up).mean() <= most_lost  # winners that the stop took away; it can't add any
