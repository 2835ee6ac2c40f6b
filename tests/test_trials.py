"""Simulated experiments: what is drawn is what was asked for, and the chances to be best are those of quadrature."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from abmail._trials import (
    Allocation,
    Even,
    FixedShares,
    ThompsonShares,
    Trials,
    chance_of_best,
    run_trials,
    split_trials,
)
from abmail.stats import p_best

Floats = NDArray[np.float64]


def trials_of(allocation: Allocation | None = None, *, rates: tuple[float, ...] = (0.2, 0.3), seed: int = 7) -> Trials:
    return run_trials(rates, sizes=[200] * 6, allocation=allocation or ThompsonShares(), replications=400, rng=seed)


@pytest.mark.parametrize("n_arms", [2, 3, 5, 20])
@pytest.mark.parametrize("mails", [40, 2_000, 100_000])
@pytest.mark.parametrize("rate", [0.005, 0.03, 0.2, 0.7])
def test_chances_to_be_best_are_within_a_hundredth_of_quadrature(n_arms: int, mails: int, rate: float) -> None:
    rng = np.random.default_rng([n_arms, mails])
    n = (mails * n_arms * rng.dirichlet(np.full(n_arms, 0.4), 20)).astype(np.int64)
    k = rng.binomial(n, np.minimum(rate * np.exp(rng.normal(0, 0.1, n.shape)), 1.0))
    a, b = (1 + k).astype(np.float64), (1 + n - k).astype(np.float64)

    exact = np.array([p_best(*row) for row in zip(a, b, strict=True)])
    assert chance_of_best(a, b) == pytest.approx(exact, abs=0.01)
    assert chance_of_best(a, b).sum(axis=1) == pytest.approx(1.0)


def test_a_single_arm_is_the_best() -> None:
    assert chance_of_best(np.full((3, 1), 2.0), np.full((3, 1), 5.0)).tolist() == [[1.0]] * 3


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert trials_of().n.tobytes() == trials_of().n.tobytes()
    assert trials_of().successes.tobytes() == trials_of().successes.tobytes()
    assert trials_of().n.tobytes() != trials_of(seed=8).n.tobytes()


def test_every_mail_of_the_plan_is_sent_and_no_arm_succeeds_more_often_than_it_was_sent() -> None:
    trials = run_trials([0.2, 0.3], sizes=[100, 0, 50], allocation=ThompsonShares(), replications=50, rng=1)

    assert (trials.n.sum(axis=2) == [100, 0, 50]).all()
    assert (trials.successes <= trials.n).all()
    assert (trials.n_replications, trials.n_epochs, trials.n_arms) == (50, 3, 2)


def test_the_first_epoch_is_even_and_later_ones_keep_the_floor() -> None:
    trials = trials_of(ThompsonShares(min_weight=0.05), rates=(0.1, 0.2, 0.4))

    assert trials.weights[:, 0] == pytest.approx(1 / 3)
    assert trials.weights.min() >= 0.05 - 1e-12
    assert trials.weights.max() > 0.89
    assert trials.weights.sum(axis=2) == pytest.approx(1.0)


def test_thompson_shares_are_floor_plus_chance_of_what_was_seen() -> None:
    trials = trials_of(ThompsonShares(min_weight=0.1))
    n, k = trials.n[:, :3].sum(axis=1), trials.successes[:, :3].sum(axis=1)

    chance = p_best(1 + k[0], 1 + n[0] - k[0])
    assert trials.weights[0, 3] == pytest.approx(0.1 + 0.8 * chance, abs=0.008)


def test_sharpening_favours_the_leader_more_with_every_epoch() -> None:
    chances = np.array([[0.3, 0.7]])
    n, k = np.array([[200.0, 200.0]]), np.array([[40.0, 44.0]])
    plain = ThompsonShares(min_weight=0.0).weights(n, k, 0.5)
    early, late = (ThompsonShares(min_weight=0.0, sharpen=4.0).weights(n, k, share) for share in (0.0, 0.999))

    assert early == pytest.approx(plain)
    assert late == pytest.approx(plain**3.997 / (plain**3.997).sum(), rel=1e-6)
    assert late[0, 1] > plain[0, 1] > chances[0, 0]


def test_fixed_and_even_shares_ignore_what_was_seen() -> None:
    assert (trials_of(Even()).weights == 0.5).all()
    assert trials_of(FixedShares(shares=(0.2, 0.8))).weights[:, -1] == pytest.approx(np.tile([0.2, 0.8], (400, 1)))


def test_rates_and_levels_are_those_asked_for() -> None:
    level = np.array([1.0, 0.5, 1.5])
    trials = run_trials([0.2, 0.4], sizes=[4_000] * 3, allocation=Even(), replications=100, rng=3, level=level)
    changing = run_trials(
        [[0.1, 0.2], [0.3, 0.3], [0.2, 0.1]], sizes=[4_000] * 3, allocation=Even(), replications=100, rng=3
    )

    assert (trials.successes / trials.n).mean(axis=0) == pytest.approx(level[:, None] * [0.2, 0.4], abs=0.004)
    assert (changing.successes / changing.n).mean(axis=0)[2] == pytest.approx([0.2, 0.1], abs=0.004)


def test_a_bandit_that_sees_nothing_yet_stays_even() -> None:
    trials = run_trials([0.1, 0.4], sizes=[400] * 6, allocation=ThompsonShares(), replications=50, rng=2, delay=3)

    assert (trials.weights[:, :4] == 0.5).all()
    assert trials.weights[:, 4, 1].min() > 0.8
    assert trials.seen(4)[:, 1:].sum() == 0
    assert (trials.seen(4)[:, 0] == trials.successes[:, 0]).all()


def test_answers_come_in_as_the_curve_says_and_never_go_away() -> None:
    trials = run_trials([0.3, 0.3], sizes=[2_000] * 5, allocation=Even(), replications=100, rng=2, delay=[0.25, 0.6])

    shares = trials.seen(3).sum(axis=(0, 2)) / trials.successes[:, :3].sum(axis=(0, 2))
    assert shares == pytest.approx([1.0, 0.6, 0.25], abs=0.01)
    assert (trials.seen(3)[:, :2] >= trials.seen(2)).all()
    assert (trials.seen(5)[:, :3] == trials.successes[:, :3]).all()


def test_arms_may_differ_in_speed() -> None:
    curve = np.array([[0.2, 0.8]])
    trials = run_trials([0.3, 0.3], sizes=[2_000] * 3, allocation=Even(), replications=100, rng=2, delay=curve)

    youngest = trials.seen(2)[:, 1].sum(axis=0) / trials.successes[:, 1].sum(axis=0)
    assert youngest == pytest.approx([0.2, 0.8], abs=0.01)


def test_pending_mails_count_as_parts_of_a_trial() -> None:
    class Recording:
        def __init__(self) -> None:
            self.trials: list[Floats] = []

        def weights(self, trials: Floats, successes: Floats, progress: float) -> Floats:
            self.trials.append(trials.copy())
            return Even().weights(trials, successes, progress)

    recording = Recording()
    trials = run_trials([0.2, 0.3], sizes=[100] * 4, allocation=recording, replications=5, rng=2, delay=[0.25, 0.5])

    n = trials.n.astype(float)
    assert recording.trials[0] == pytest.approx(np.zeros((5, 2)))
    assert recording.trials[3] == pytest.approx(n[:, 0] + 0.5 * n[:, 1] + 0.25 * n[:, 2])


def test_strata_add_up_to_the_trials_they_are_split_from() -> None:
    trials = run_trials([0.2, 0.26], sizes=[900, 600], allocation=ThompsonShares(), replications=50, rng=3)
    split = split_trials(trials, np.array([0.7, 0.3]), np.array([[0.1, 0.14], [0.4333, 0.54]]), 1)

    assert split.n.shape == (50, 4, 2)
    assert (split.n.reshape(50, 2, 2, 2).sum(axis=2) == trials.n).all()
    assert (split.successes.reshape(50, 2, 2, 2).sum(axis=2) == trials.successes).all()
    assert (split.successes <= split.n).all()
    assert (split.weights[:, 2] == trials.weights[:, 1]).all()
    assert (split.weights[:, 3] == trials.weights[:, 1]).all()


def test_every_stratum_has_its_share_and_its_rate() -> None:
    shares, rates = np.array([0.7, 0.3]), np.array([[0.1, 0.0], [0.4, 1.0]])
    trials = run_trials(shares @ rates, sizes=[4_000] * 5, allocation=Even(), replications=40, rng=4)
    n, k = (
        part.reshape(40, 5, 2, 2).sum(axis=(0, 1))
        for part in (lambda s: (s.n, s.successes))(split_trials(trials, shares, rates, 2))
    )

    assert n / n.sum(axis=0) == pytest.approx(np.column_stack((shares, shares)), abs=4.9 * 0.46 / 400_000**0.5)
    assert k / n == pytest.approx(rates, abs=4.9 * 0.5 / 120_000**0.5)


def test_strata_of_another_shape_are_refused_in_words() -> None:
    trials = run_trials([0.2, 0.3], sizes=[10], allocation=Even(), replications=1, rng=0)
    with pytest.raises(ValueError, match=r"rates have shape \(2, 1\), must be \(1, 2\)"):
        split_trials(trials, np.ones(1), np.array([[0.2], [0.3]]), 0)


def test_without_delay_everything_is_seen_at_once() -> None:
    trials = trials_of()

    assert (trials.seen(4) == trials.successes[:, :4]).all()
    with pytest.raises(ValueError, match=r"n_epochs is 7, must be in \[0, 6\]"):
        trials.seen(7)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: run_trials([0.2, 1.2], sizes=[10], allocation=Even(), replications=1, rng=0), "must be in"),
        (lambda: run_trials([[0.2, 0.2]], sizes=[9] * 2, allocation=Even(), replications=1, rng=0), "rates have shape"),
        (lambda: run_trials([0.2], sizes=[], allocation=Even(), replications=1, rng=0), "sizes have shape"),
        (lambda: run_trials([0.2], sizes=[1.5], allocation=Even(), replications=1, rng=0), "whole numbers"),
        (lambda: run_trials([0.2], sizes=[-1], allocation=Even(), replications=1, rng=0), "whole numbers"),
        (lambda: run_trials([0.2], sizes=[9], allocation=Even(), replications=0, rng=0), "replications is 0"),
        (lambda: run_trials([0.2], sizes=[9], allocation=Even(), replications=1, rng=0, level=[1, 1]), "level has"),
        (lambda: run_trials([0.2], sizes=[9], allocation=Even(), replications=1, rng=0, level=[6]), "0 to|1.2 to"),
        (lambda: run_trials([0.2], sizes=[9], allocation=Even(), replications=1, rng=0, delay=-1), "delay is -1"),
        (lambda: run_trials([0.2], sizes=[9], allocation=Even(), replications=1, rng=0, delay=[0.9, 0.5]), "never"),
        (lambda: run_trials([0.2], sizes=[9], allocation=Even(), replications=1, rng=0, delay=[[1, 1]]), "delay has"),
        (lambda: trials_of(ThompsonShares(min_weight=0.5), rates=(0.1, 0.1, 0.1)), "0.5 for 3 arms"),
        (lambda: trials_of(FixedShares(shares=(0.5, 0.5)), rates=(0.1, 0.1, 0.1)), "2 fixed shares for 3 arms"),
        (lambda: FixedShares(shares=(0.5, 0.6)), "sum to 1"),
        (lambda: ThompsonShares(min_weight=-0.1), "min_weight is -0.1"),
        (lambda: ThompsonShares(sharpen=0.5), "sharpen is 0.5"),
        (lambda: ThompsonShares(prior=(0.0, 1.0)), "prior is"),
    ],
)
def test_nonsense_is_refused_in_words(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
