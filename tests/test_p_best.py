"""Chances to be best and what a choice may lose: exact for few arms and for two hundred, whatever the counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.special import betainc, betaincc, betaln, expit, log_expit

from abmail import _bayes
from abmail._bayes import best_and_loss
from abmail.stats import expected_loss, p_best, value_remaining


def powers(n_arms: int, seed: int = 0) -> NDArray[np.float64]:
    """First parameters a; with b = 1 a rate's distribution is x^a, and the maximum of the rates has x^(sum of a)."""
    return np.random.default_rng(seed).uniform(0.5, 60.0, n_arms)


@pytest.mark.parametrize("n_arms", [2, 4, 84, 200])
def test_powers_have_closed_forms(n_arms: int) -> None:
    a = powers(n_arms)
    assert p_best(a, np.ones(n_arms)) == pytest.approx(a / a.sum(), abs=1e-12)
    assert expected_loss(a, np.ones(n_arms)) == pytest.approx(a.sum() / (a.sum() + 1) - a / (a + 1), abs=1e-10)
    mirrored = 1 / (a + 1)  # Beta(1, b): the minimum of 1 - rate, whose survival functions are powers
    loss = expected_loss(np.ones(n_arms), a)
    assert np.ptp(loss + mirrored) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("n_arms", [2, 4, 84, 200])
@pytest.mark.parametrize("level", [0.9, 0.99])
def test_the_value_remaining_of_powers_has_a_closed_form(n_arms: int, level: float) -> None:
    """P(no arm above 1 + v times the champion) = 1 - (1 + v)^-a (1 - a / sum), solved for the level."""
    a = powers(n_arms)
    top = a.max()
    exact = max(0.0, ((1 - top / a.sum()) / (1 - level)) ** (1 / top) - 1)
    assert value_remaining(a, np.ones(n_arms), level=level) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("n_arms", [3, 84, 200])
def test_arms_that_are_alike_share_the_chance_and_the_loss(n_arms: int) -> None:
    for a, b in ((1.0, 1.0), (0.01, 5.0), (4e6, 9e9), (1e12, 1e12)):
        best = p_best(np.full(n_arms, a), np.full(n_arms, b))
        assert best == pytest.approx(1 / n_arms, abs=1e-12)
        assert np.ptp(expected_loss(np.full(n_arms, a), np.full(n_arms, b))) < 1e-12


def densely(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Chance to be best and expected loss by a trapezoid of a million panels over all log odds that hold any mass."""
    x = np.linspace(-60 / min(a.min(), 1.0) - 20, 60 / min(b.min(), 1.0) + 20, 1_000_001)
    first, second = a[:, None], b[:, None]
    density = np.exp(first * log_expit(x) + second * log_expit(-x) - betaln(first, second))
    below = np.where(x < 0, betainc(first, second, expit(x)), betaincc(second, first, expit(-x)))
    others = np.array([np.delete(below, arm, axis=0).prod(axis=0) for arm in range(len(a))])
    loss = below * (1 - others) * expit(x) * expit(-x)
    return trapezoid(density * others, x, axis=1), trapezoid(loss, x, axis=1)


@pytest.mark.parametrize(
    ("alphas", "betas"),
    [
        ((0.0578, 19.34), (0.463, 0.0524)),
        ((59.55, 0.1147, 0.0874), (0.0676, 0.144, 0.628)),
        ((0.0709, 0.0714, 0.078), (271.75, 1.36, 1.17)),
        ((188.0, 0.093, 177.6), (0.255, 2.05, 1.15)),
        ((1.0, 40.0, 700.0), (1.0, 3.0, 60.0)),
    ],
)
def test_posteriors_with_parameters_under_one_are_not_stepped_over(
    alphas: tuple[float, ...], betas: tuple[float, ...]
) -> None:
    a, b = np.array(alphas), np.array(betas)
    best, loss = densely(a, b)
    assert p_best(a, b) == pytest.approx(best, abs=1e-9)
    assert expected_loss(a, b) == pytest.approx(loss, abs=1e-9)


@pytest.mark.parametrize("least", [1e-6, 0.001, 0.01, 0.1])
def test_rates_too_near_to_0_or_1_for_a_number_still_have_their_chances(least: float) -> None:
    """Powers again, with most of their mass where the rate or 1 - rate cannot be told from 1."""
    for seed in range(20):
        a, one = least * 10 ** np.random.default_rng(seed).uniform(0, 1, 2), np.ones(2)
        assert p_best(a, one) == pytest.approx(a / a.sum(), abs=1e-4)
        assert p_best(one, a) == pytest.approx(a[::-1] / a.sum(), abs=1e-4)


def test_cases_side_by_side_are_worked_out_as_they_are_alone() -> None:
    rng = np.random.default_rng(5)
    a, b = 10.0 ** rng.uniform(-2, 6, (2, 3, 7, 4))
    together = p_best(a, b)
    for case in np.ndindex(3, 7):
        assert together[case] == pytest.approx(p_best(a[case], b[case]), abs=1e-13)


def test_ten_million_draws_agree() -> None:
    a, b = np.array([41.0, 37.0, 45.0, 12.0]), np.array([361.0, 265.0, 457.0, 100.0])
    rng, rounds, size = np.random.default_rng(2), 20, 500_000
    wins, lost = np.zeros(4), np.zeros(4)
    for _ in range(rounds):
        drawn = rng.beta(a[:, None], b[:, None], (4, size))
        wins += np.bincount(drawn.argmax(axis=0), minlength=4)
        lost += (drawn.max(axis=0) - drawn).mean(axis=1) / rounds
    assert p_best(a, b) == pytest.approx(wins / (rounds * size), abs=5.5 * 0.5 / np.sqrt(rounds * size))
    assert expected_loss(a, b) == pytest.approx(lost, abs=6e-5)


logs = st.floats(-6, 15)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(logs, logs), min_size=1, max_size=12), st.sampled_from([1, 17]))
def test_no_counts_are_too_absurd(pairs: list[tuple[float, float]], copies: int) -> None:
    a, b = 10.0 ** np.array(pairs * copies).T
    best, loss = p_best(a, b), expected_loss(a, b)
    assert np.isfinite(best).all()
    assert best.sum() == pytest.approx(1, abs=1e-12)
    assert best.min() >= 0
    assert np.isfinite(loss).all()
    assert 0 <= loss.min() <= loss.max() <= 1
    assert 0 <= value_remaining(a, b) < np.inf


@settings(max_examples=60, deadline=None)
@given(
    posteriors=st.lists(st.tuples(st.floats(100, 1e5), st.floats(100, 1e5)), min_size=2, max_size=6),
    like=st.booleans(),
)
def test_even_steps_give_what_panels_do(posteriors: list[tuple[float, float]], like: bool) -> None:
    a, b = (np.array(part) for part in zip(*posteriors, strict=True))
    if like:  # all near the first one, where even steps are taken
        a, b = a[0] + np.sqrt(a[0]) * np.cos(a), b[0] + np.zeros_like(b)
        a = np.maximum(a, 100.0)
    best, loss = best_and_loss(a, b)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_bayes, "_MOST_EVEN", 0)
        by_panels = best_and_loss(a, b)
    assert best == pytest.approx(by_panels[0], abs=1e-10)
    assert loss == pytest.approx(by_panels[1], abs=1e-11)


def test_few_even_steps_do_for_arms_of_like_size_and_panels_for_others() -> None:
    steps = [
        np.ptp(_bayes._loss_grid(np.array(a), np.array(b))[1])
        for a, b in (
            ((4_500.0, 5_000.0), (20_500.0, 20_000.0)),
            ((4_500.0, 5e7), (20_500.0, 2e8)),
            ((4_500.0, 50.0), (2e4, 2e4)),
        )
    ]
    assert [step == 0 for step in steps] == [True, False, False]
