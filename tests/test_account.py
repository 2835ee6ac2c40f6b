"""What past experiments say before a new one has an answer: neither more nor less than they know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import betabinom

from abmail.bandit import AccountPrior, DelayCurve, Thompson, curve_from_history, prior_from_history
from abmail.stats import Counts

HOUR = 3_600.0
WINDOW = 72 * HOUR


def past(
    seed: int, experiments: int, a: float, b: float, *, arms: int = 3
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[int]]:
    """Successes, mails and experiment of past arms; the arms of an experiment have the same rate."""
    rng = np.random.default_rng(seed)
    rates = np.repeat(rng.beta(a, b, experiments), arms)
    n = rng.integers(300, 3_000, len(rates))
    return rng.binomial(n, rates), n, np.repeat(np.arange(experiments), arms).tolist()


def test_a_long_history_gives_back_the_distribution_of_its_rates() -> None:
    prior = prior_from_history(*past(1, 400, 8.0, 32.0), most=1e6)
    assert prior.rate == pytest.approx(0.2, abs=0.01)
    assert 25 < prior.worth <= 40  # the lower end of an interval around 40


def test_the_likeliest_parameters_are_those_of_another_implementation() -> None:
    """scipy 1.16's betabinom, maximised by Nelder & Mead: the interval's end lies at most there."""
    k, n, group = past(2, 60, 10.0, 90.0, arms=1)

    def minus_log_likelihood(logs: NDArray[np.float64]) -> float:
        return -float(betabinom(n, *np.exp(logs)).logpmf(k).sum())

    found: Any = minimize(minus_log_likelihood, np.log([5.0, 50.0]), method="Nelder-Mead")
    a, b = np.exp(found.x)
    prior = prior_from_history(k, n, group, most=1e6)
    assert prior.rate == pytest.approx(a / (a + b), abs=0.004)
    assert 0.5 * (a + b) < prior.worth < a + b
    drop = betabinom(n, a, b).logpmf(k).sum() - betabinom(n, prior.a, prior.b).logpmf(k).sum()
    assert 0.3 < drop < 1.8


@pytest.mark.parametrize(("b", "rate"), [(16_000.0, 0.2), (396_000.0, 0.01)])
def test_it_is_never_worth_more_than_four_answers_unless_asked(b: float, rate: float) -> None:
    alike = past(3, 100, 4_000.0, b)
    assert prior_from_history(*alike).a == pytest.approx(4.0)
    assert prior_from_history(*alike, most=12.0).a == pytest.approx(12.0)
    assert prior_from_history(*alike).rate == pytest.approx(rate, rel=0.05)


def test_rates_far_apart_or_few_experiments_make_it_worth_less() -> None:
    apart = prior_from_history(*past(4, 30, 0.5, 2.0))
    assert apart.worth < 4
    few, many = ([100, 160, 80], [500] * 3), ([100, 160, 80] * 10, [500] * 30)
    assert (
        prior_from_history(*few, list(range(3)), most=1e6).worth
        < prior_from_history(*many, list(range(30)), most=1e6).worth
    )


@pytest.mark.parametrize("experiments", [0, 1, 2])
def test_fewer_than_three_experiments_say_nothing_however_many_arms_they_had(experiments: int) -> None:
    k, n, group = past(5, experiments, 20.0, 80.0, arms=10)
    prior = prior_from_history(k, n, group)
    assert (prior.beta, prior.learnt, prior.experiments) == ((1.0, 1.0), False, experiments)


def test_arms_without_mails_are_no_experiments() -> None:
    assert prior_from_history([0, 0, 5], [0, 0, 50], ["a", "b", "c"]).experiments == 1


def test_an_experiment_counts_once_however_many_arms_it_had() -> None:
    k, n, group = past(6, 8, 20.0, 80.0, arms=1)
    once = prior_from_history(k, n, group, most=1e6)
    tenfold = prior_from_history(np.repeat(k, 10), np.repeat(n, 10), np.repeat(group, 10).tolist(), most=1e6)
    assert tenfold.beta == pytest.approx(once.beta)


def test_all_or_no_successes_still_give_a_proper_prior() -> None:
    for k in (0, 200):
        prior = prior_from_history([k] * 9, [200] * 9, list(range(9)))
        assert prior.a > 0
        assert prior.b > 0
        assert prior.worth <= 20
        assert Thompson(prior=prior.beta).weights(Counts([0, 0], [0, 0])).tolist() == [0.5, 0.5]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1), st.integers(0, 5)), max_size=20))
def test_any_history_gives_a_prior_within_its_limits(rows: list[tuple[int, float, int]]) -> None:
    n = [mails for mails, _, _ in rows]
    prior = prior_from_history([int(m * part) for m, part, _ in rows], n, [group for _, _, group in rows])
    assert 0 < prior.a <= 4.001
    assert 0 < prior.b <= 1e6


@pytest.mark.parametrize(
    ("k", "n", "most", "fault"),
    [([5], [4], 20, "arm 0 has 5 successes in 4 trials"), ([-1], [4], 20, "arm 0"), ([1], [np.inf], 20, "arm 0"),
     ([1, 1], [4], 20, "entries"), ([1], [4], 0, "most is 0")],
)  # fmt: skip
def test_an_impossible_past_is_refused(k: list[int], n: list[float], most: float, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        prior_from_history(k, n, ["a"], most=most)


def test_the_report_can_say_where_it_started() -> None:
    prior = AccountPrior(a=4.2, b=15.8, experiments=14, arms=52)
    assert prior.statement() == (
        "The starting point was a rate of 21.0%, learnt from 14 past experiments (52 variants); "
        "it weighs as much as 20 mails of each variant."
    )
    assert "14件" in prior.statement("ja")
    assert "21.0%" in prior.statement("ja")
    flat = [AccountPrior(a=1, b=1, experiments=count, arms=0) for count in (0, 1, 2)]
    assert [prior.statement()[:26] for prior in flat] == [
        "No past experiment to lear", "Only 1 past experiment to ", "Only 2 past experiments to",
    ]  # fmt: skip
    assert "2件" in flat[2].statement("ja")


# -- the delay curve -------------------------------------------------------------------------------------------------


def delays_of(
    rng: np.random.Generator, experiments: int, *, apart: float = 0.0, n: int = 1_200
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[int]]:
    """Mature log-normal delays, the experiments' medians around 1 h; ages; experiment of each."""
    drawn = [rng.lognormal(np.log(HOUR) + apart * rng.normal(), 1.2, n) for _ in range(experiments)]
    kept = [part[part < WINDOW] for part in drawn]
    delays = np.concatenate(kept) if kept else np.zeros(0)
    return delays, np.full(len(delays), WINDOW), [i for i, part in enumerate(kept) for _ in part]


def test_the_accounts_curve_is_the_past_ones_and_worth_much_where_they_agree() -> None:
    rng = np.random.default_rng(7)
    delays, ages, group = delays_of(rng, 20)
    history = curve_from_history(delays, ages, group, window=WINDOW)
    for hours in (0.5, 1, 3, 10):
        assert history.curve.cdf(hours * HOUR) == pytest.approx(np.mean(delays <= hours * HOUR), abs=0.02)
    assert history.strength > 500
    assert (history.experiments, history.answers) == (20, len(delays))


def test_it_is_worth_little_where_every_mailing_had_its_own_pace() -> None:
    history = curve_from_history(*delays_of(np.random.default_rng(8), 20, apart=0.7), window=WINDOW)
    assert history.strength < 60


@pytest.mark.parametrize("experiments", [0, 2])
def test_with_few_experiments_the_curve_has_the_usual_worth(experiments: int) -> None:
    history = curve_from_history(*delays_of(np.random.default_rng(9), experiments), window=WINDOW)
    assert history.strength == 200
    if not experiments:
        assert history.curve.values == pytest.approx(DelayCurve.default(window=WINDOW).values)


def test_a_huge_experiment_is_not_the_whole_account() -> None:
    rng = np.random.default_rng(10)
    small, ages, group = delays_of(rng, 9)
    delays, seen, groups = np.append(small, 30 * HOUR), np.append(ages, WINDOW), [*group, 99]
    huge = curve_from_history(delays, seen, groups, counts=[1] * len(small) + [10**6], window=WINDOW)
    assert float(huge.curve.cdf(24 * HOUR)) > 0.6


def test_after_one_hour_the_accounts_curve_tells_what_is_still_to_come() -> None:
    """This account's answers are nearly all in after eight hours; the default curve still waits for a fifth."""
    history = curve_from_history(*delays_of(np.random.default_rng(11), 12), window=WINDOW)
    first, ages = np.linspace(60, HOUR, 40), np.full(40, HOUR)
    own = DelayCurve.fit(first, ages, window=WINDOW, prior=history.curve, strength=history.strength)
    assert float(own.cdf(8 * HOUR)) == pytest.approx(0.96, abs=0.02)
    assert float(DelayCurve.fit(first, ages, window=WINDOW).cdf(8 * HOUR)) < 0.85
