"""The one place where the benchmark asks abmail: simulated experiments in, answers of every look out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from abmail._boundary import Boundary
from abmail._contest import hold_contest
from abmail._method import METHODS as EVERY_METHOD
from abmail._method import Arrays, Plan, make_plan
from abmail._sequential import Pair, combine, mix
from abmail._trials import Trials
from abmail.stats import Counts, Method, obrien_fleming

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

ALPHA = 0.05
METHODS: tuple[Method, ...] = tuple(m for m in EVERY_METHOD if m not in ("fixed", "bayes"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What abmail says about all replications; arrays end with (n_arms - 1, n_looks), arms against the first one.

    Attributes:
        winner: The arm that was named winner at some look, -1 for none, (n_replications,).
        direction: +1 or -1 where an arm was proved better or worse than the control, (n_replications, n_arms - 1).
        ready: Looks at which there were successes and failures enough for a claim.
        effect: Estimated difference of rates.
        low: Lower end of its interval at alpha / (n_arms - 1).
        high: Upper end.
        lift_low: Lower end of the relative difference's interval.
        lift_high: Upper end.
    """

    winner: Integers
    direction: Integers
    ready: Booleans
    effect: Floats
    low: Floats
    high: Floats
    lift_low: Floats
    lift_high: Floats

    @property
    def claims(self) -> Booleans:
        """Whether any arm was said to differ from the control, (n_replications,)."""
        claimed: Booleans = (self.direction != 0).any(axis=1)
        return claimed

    def misses(self, effect: Floats, *, only_ready: bool = False) -> Booleans:
        """Whether an interval of a difference missed the truth at some look; ``effect`` is (n_arms - 1,)."""
        return self._outside(self.low, self.high, effect, only_ready)

    def lift_misses(self, lift: Floats, *, only_ready: bool = False) -> Booleans:
        """Whether an interval of a relative difference missed the truth at some look."""
        return self._outside(self.lift_low, self.lift_high, lift, only_ready)

    def _outside(self, low: Floats, high: Floats, truth: Floats, only_ready: bool) -> Booleans:
        outside: Booleans = (low > truth[:, None]) | (high < truth[:, None])
        if only_ready:
            outside &= self.ready
        missed: Booleans = np.any(outside, axis=(1, 2))
        return missed


def ask(
    method: Method,
    trials: Trials,
    *,
    successes: Integers | None = None,
    intervals: bool = True,
    lifts: bool = False,
) -> Answers:
    """Compare the arms of every replication as `compare` does, at all looks.

    Args:
        method: ``sequential``, ``anytime`` or any other of `METHODS`; ``fixed`` sums over the epochs.
        trials: The experiments.
        successes: Other successes than those that came in the end, say those seen so far, for the first epochs.
        intervals: Whether intervals are wanted, which takes its time; NaN otherwise.
        lifts: Whether those of relative differences are wanted too.
    """
    hits = trials.successes if successes is None else successes
    plan, arrays = _planned(method, trials, hits)
    contest = hold_contest(plan, arrays, 0, None)
    test, others = contest.versus, contest.others
    level = ALPHA / len(others)
    unknown = np.full(test.effect.shape, np.nan)
    low, high = test.difference(level) if intervals else (unknown, unknown)
    lift_low, lift_high = test.lift(level) if lifts else (unknown, unknown)
    return Answers(
        winner=contest.winner,
        direction=test.proved(level)[..., -1].astype(np.int64),
        ready=arrays.pair(np.zeros_like(others), others).ready(),
        effect=test.effect,
        low=low,
        high=high,
        lift_low=lift_low,
        lift_high=lift_high,
    )


def rejections(method: Method, trials: Trials) -> Booleans:
    """Whether two arms are claimed to differ at each look, (n_replications, n_looks).

    For ``sequential`` and ``anytime`` by the value at that look alone; for others by all looks up to it.
    """
    ready = _first_pair(trials).ready()
    if method == "anytime":
        path = mix(_first_pair(trials), ALPHA, float(trials.n[0].sum())).path()
        return ready & (path <= ALPHA)
    if method == "sequential":
        return ready & (np.abs(walk(trials)) >= obrien_fleming(trials.n_epochs, ALPHA))
    plan, arrays = _planned(method, trials, trials.successes)
    claimed: Booleans = plan.test(arrays, np.array([0]), np.array([1])).proved(ALPHA)[:, 0] != 0
    return claimed


def _planned(method: Method, trials: Trials, hits: Integers) -> tuple[Plan, Arrays]:
    """The plan of `compare` for these experiments, and their counts as it reads them."""
    n_epochs, n_arms = hits.shape[1], trials.n_arms
    n, k, shares = (
        array.transpose(0, 2, 1).astype(np.float64)
        for array in (trials.n[:, :n_epochs], hits, trials.weights[:, :n_epochs])
    )
    nothing = np.zeros((n_epochs, n_arms))
    plan = make_plan(
        Counts(nothing, nothing, weights=np.full_like(nothing, 1 / n_arms)), method=method, alpha=ALPHA, weights=None,
        plan=None, looks=trials.n_epochs, horizon=float(trials.n[0].sum()), shape=0.0, prior=None, baseline=None,
    )  # fmt: skip
    return plan, plan.view(Arrays(n=n, k=k, exposure=n, weights=shares))


def walk(trials: Trials) -> Floats:
    """Z of ``sequential`` for two arms at equal planned shares, (n_replications, n_looks)."""
    n_epochs = trials.n_epochs
    return combine(_first_pair(trials), np.full(n_epochs, 1 / n_epochs), Boundary(None)).z


def _first_pair(trials: Trials) -> Pair:
    n, k = (array.transpose(0, 2, 1).astype(np.float64) for array in (trials.n, trials.successes))
    return Pair(n_a=n[:, 0], k_a=k[:, 0], n_b=n[:, 1], k_b=k[:, 1])
