"""Whole experiments, simulated by the thousand: what a plan would find, and whether a method keeps its promise.

All replications run side by side. The allocation looks at what has come in, as a bandit does; sends are multinomial and
successes binomial. The chance to be the best is computed for all replications at once: for two arms from the first four
cumulants of the log odds' difference (Edgeworth), for more by quadrature over Peizer & Pratt's (1968) approximation of
the Beta distributions. Both stay within 0.01 of `p_best`, also where an arm has no success yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = [
    "Allocation",
    "Even",
    "FixedShares",
    "ThompsonShares",
    "Trials",
    "chance_of_best",
    "run_trials",
    "split_trials",
]

_TOLERANCE = 1e-6
_NODES = np.array([-5, *np.arange(-3.5, 3.1, 0.5), 4, 6])  # in standard deviations of an arm's log odds
_LARGEST_SKEW = 0.7  # beyond it Edgeworth's series errs by up to 0.01
_NEAR = 1e-4  # squared standard deviations from the centre within which the deviance would cancel
_GRID_ARMS = 16  # arms around whose log odds the nodes lie; the best of many is among those that reach farthest
_CELLS = 40_000  # numbers that one round of the quadrature holds; more would leave the cache


class Allocation(Protocol):
    """Shares of the next epoch in every replication."""

    def weights(self, trials: Floats, successes: Floats, progress: float) -> Floats:
        """Shares of the next epoch.

        Args:
            trials: (n_replications, n_arms) sends so far, each weighted by the share of its answer that has come in.
            successes: (n_replications, n_arms) successes that have come in.
            progress: Share of the planned mails sent so far, fraction in [0, 1).

        Returns:
            (n_replications, n_arms) float64 fractions that sum to 1.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Even:
    """An even split, whatever was seen."""

    def weights(self, trials: Floats, successes: Floats, progress: float) -> Floats:
        """Equal shares. See `Allocation.weights`."""
        del successes, progress
        return np.full(trials.shape, 1 / trials.shape[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedShares:
    """Shares that were chosen beforehand.

    Attributes:
        shares: (n_arms,) fractions that sum to 1.

    Raises:
        ValueError: They are not.
    """

    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if not all(0 <= share <= 1 for share in self.shares) or abs(sum(self.shares) - 1) > _TOLERANCE:
            raise ValueError(f"shares are {self.shares}, must be fractions that sum to 1")

    def weights(self, trials: Floats, successes: Floats, progress: float) -> Floats:
        """The shares. See `Allocation.weights`."""
        del successes, progress
        if trials.shape[1] != len(self.shares):
            raise ValueError(f"there are {len(self.shares)} fixed shares for {trials.shape[1]} arms")
        return np.tile(np.array(self.shares) / sum(self.shares), (len(trials), 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class ThompsonShares:
    """Thompson sampling: an arm's share is its chance to be the best, mixed with a floor; even while nothing is known.

    Attributes:
        min_weight: Share f that every arm keeps, fraction in [0, 1 / n_arms]; the share is f + (1 - n_arms f) P(best).
        sharpen: The chances are raised to a power that grows from 1 to this with the mails sent, and renormalised: more
            for the leader late in the experiment. 1 is plain Thompson sampling, 4 was measured to earn most.
        prior: Beta parameters (a, b) of every arm.

    Raises:
        ValueError: A number is out of range.
    """

    min_weight: float = 0.10
    sharpen: float = 1.0
    prior: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if not 0 <= self.min_weight <= 0.5:
            raise ValueError(f"min_weight is {self.min_weight:g}, must be in [0, 0.5]")
        if not 1 <= self.sharpen < np.inf:
            raise ValueError(f"sharpen is {self.sharpen:g}, must be at least 1")
        if not all(0 < value < np.inf for value in self.prior):
            raise ValueError(f"prior is {self.prior}, must be two positive numbers")

    def weights(self, trials: Floats, successes: Floats, progress: float) -> Floats:
        """Floor plus the rest by chance of being the best. See `Allocation.weights`."""
        n_arms = trials.shape[1]
        if self.min_weight * n_arms > 1 + _TOLERANCE:
            raise ValueError(f"min_weight is {self.min_weight:g} for {n_arms} arms, must be at most {1 / n_arms:g}")
        failures = np.maximum(trials - successes, 0.0)
        best = chance_of_best(self.prior[0] + successes, self.prior[1] + failures)
        best = best ** (1 + (self.sharpen - 1) * progress)
        best /= best.sum(axis=1, keepdims=True)
        best[~trials.any(axis=1)] = 1 / n_arms
        shares: Floats = self.min_weight + max(0.0, 1 - n_arms * self.min_weight) * best
        total: Floats = shares.sum(axis=1, keepdims=True)
        return shares / total


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """Replications of an experiment.

    Attributes:
        n: Sends, (n_replications, n_epochs, n_arms).
        successes: All successes in the end, same shape.
        weights: The shares that each epoch was opened with, same shape.
        arrived: Successes that have come in by age, (n_replications, n_epochs, n_ages + 1, n_arms): at the end of the
            mails' own epoch, one epoch later and so on, the last being all; None where nothing was late.
    """

    n: Integers
    successes: Integers
    weights: Floats
    arrived: Integers | None = None

    @property
    def n_replications(self) -> int:
        """Number of simulated experiments."""
        return int(self.n.shape[0])

    @property
    def n_epochs(self) -> int:
        """Number of epochs in each."""
        return int(self.n.shape[1])

    @property
    def n_arms(self) -> int:
        """Number of arms."""
        return int(self.n.shape[2])

    def seen(self, n_epochs: int) -> Integers:
        """Successes as they look when ``n_epochs`` epochs have been sent, (n_replications, n_epochs, n_arms).

        Raises:
            ValueError: There are not so many epochs.
        """
        if not 0 <= n_epochs <= self.n_epochs:
            raise ValueError(f"n_epochs is {n_epochs}, must be in [0, {self.n_epochs}]")
        if self.arrived is None:
            return self.successes[:, :n_epochs]
        age = np.minimum(np.arange(n_epochs)[::-1], self.arrived.shape[2] - 1)
        return self.arrived[:, np.arange(n_epochs), age]


def run_trials(
    rates: ArrayLike,
    *,
    sizes: ArrayLike,
    allocation: Allocation,
    replications: int,
    rng: int | np.random.Generator,
    level: ArrayLike | None = None,
    delay: int | ArrayLike | None = None,
) -> Trials:
    """Simulate an experiment many times.

    Args:
        rates: True rates, (n_arms,) fractions in [0, 1]; or (n_epochs, n_arms) where the effect itself changes.
        sizes: Mails in each epoch, (n_epochs,) whole numbers.
        allocation: `Even`, `ThompsonShares`, `FixedShares`, or anything like them.
        replications: Number of simulated experiments.
        rng: Seed or generator; the same seed gives the same bytes.
        level: (n_epochs,) factor on all rates of an epoch: a drift, a weekly swing. 1 by default.
        delay: How late answers come: an int for that many epochs, in which nothing is seen; or the shares that have
            come in at the end of the mails' own epoch, one epoch later and so on, (n_ages,), after which all have.
            With (n_ages, n_arms) the arms differ in speed, and the allocation only knows their mean. It looks at what
            has come in and counts a mail as that share of a trial.

    Raises:
        ValueError: Something is out of range, or the shapes do not agree.

    Example:
        >>> trials = run_trials([0.2, 0.3], sizes=[200] * 5, allocation=ThompsonShares(), replications=100, rng=1)
        >>> trials.n.shape, bool(trials.n[:, -1, 1].mean() > 150)
        ((100, 5, 2), True)
    """
    mails, truth = _sizes(sizes), _truth(rates, level, sizes)
    if replications < 1:
        raise ValueError(f"replications is {replications}, must be at least 1")
    curve = None if delay is None else _curve(delay, truth.shape[1])
    generator = np.random.default_rng(rng)
    shape = (replications, *truth.shape)
    n, successes, weights = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape)
    ages = None if curve is None else np.zeros((*shape[:2], len(curve) + 1, shape[2]), np.int64)
    partial = Trials(n=n, successes=successes, weights=weights, arrived=ages)
    sent = np.concatenate(([0], mails.cumsum()))
    for t, size in enumerate(mails):
        trials = _trials_known(n[:, :t], curve)
        known = partial.seen(t).sum(axis=1, dtype=np.float64)
        weights[:, t] = allocation.weights(trials, known, float(sent[t] / max(sent[-1], 1)))
        n[:, t] = generator.multinomial(size, weights[:, t])
        successes[:, t] = generator.binomial(n[:, t], truth[t])
        if ages is not None and curve is not None:
            ages[:, t] = _arrivals(successes[:, t], curve, generator)
    return partial


def split_trials(trials: Trials, shares: Floats, rates: Floats, rng: int | np.random.Generator) -> Trials:
    """Tell the strata of trials apart whose allocation did not look at them.

    Each mail goes to somebody drawn from the whole list. Given the arms' sends and successes, those of the strata are
    multinomial: a stratum's part in them is its share of the list times its rate (or what that leaves to 1).

    Args:
        trials: Replications at the rates of the whole list, ``shares @ rates``.
        shares: Shares of the strata in the list, (n_strata,) positive fractions that sum to 1.
        rates: True rates, (n_strata, n_arms) fractions.
        rng: Seed or generator.

    Returns:
        The same experiments with a row for each epoch and stratum, the strata of an epoch after one another.

    Raises:
        ValueError: The shapes do not agree.
    """
    if rates.shape != (len(shares), trials.n_arms):
        raise ValueError(f"rates have shape {rates.shape}, must be ({len(shares)}, {trials.n_arms})")
    generator = np.random.default_rng(rng)
    hits, misses = (
        generator.multinomial(counts, _normalised(shares[:, None] * part).T)
        for counts, part in ((trials.successes, rates), (trials.n - trials.successes, 1 - rates))
    )
    n, k = (np.swapaxes(counts, 2, 3).reshape(len(counts), -1, trials.n_arms) for counts in (hits + misses, hits))
    return Trials(n=n, successes=k, weights=np.repeat(trials.weights, len(shares), axis=1))


def _normalised(parts: Floats) -> Floats:
    """Columns that sum to 1, even ones where all is 0."""
    total = parts.sum(axis=0)
    return np.where(total > 0, parts / np.where(total > 0, total, 1.0), 1 / len(parts))


def chance_of_best(a: Floats, b: Floats) -> Floats:
    """Probability of each arm to have the highest rate, for independent Beta(a, b) posteriors; row by row.

    Args:
        a: First parameters, (n_rows, n_arms), positive.
        b: Second parameters, same shape.

    Returns:
        (n_rows, n_arms) float64 fractions that sum to 1, within 0.01 of `p_best`.
    """
    if a.shape[1] == 1:
        return np.ones(a.shape)
    if a.shape[1] == 2:
        second, skew = _second_is_best(a, b)
        best = np.column_stack((1 - second, second))
        lopsided = np.abs(skew) > _LARGEST_SKEW
        best[lopsided] = _by_quadrature(a[lopsided], b[lopsided])
        return best
    return _by_quadrature(a, b)


def _by_quadrature(a: Floats, b: Floats) -> Floats:
    """`chance_of_best` for any number of arms, in rounds of some rows."""
    if not len(a):
        return a
    rows = max(1, _CELLS // (a.shape[1] * min(a.shape[1], _GRID_ARMS) * len(_NODES)))
    return np.concatenate([_best_of_many(a[i : i + rows], b[i : i + rows]) for i in range(0, len(a), rows)])


def _second_is_best(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """P(second arm's log odds > first's) by Edgeworth's series to the fourth cumulant; and the difference's skewness.

    The cumulants of a Beta's log odds are polygamma functions of its parameters, which are Hurwitz zeta functions.
    """
    from scipy.special import ndtr, psi, zeta

    mean = psi(a) - psi(b)
    sd = np.sqrt((zeta(2.0, a) + zeta(2.0, b)).sum(axis=1))
    third = 2 * (zeta(3.0, b) - zeta(3.0, a))
    skew = (third[:, 1] - third[:, 0]) / sd**3
    excess = 6 * (zeta(4.0, a) + zeta(4.0, b)).sum(axis=1) / sd**4
    x = np.clip((mean[:, 0] - mean[:, 1]) / sd, -40.0, 40.0)
    bend = skew / 6 * (x**2 - 1) + excess / 24 * (x**3 - 3 * x) + skew**2 / 72 * (x**5 - 10 * x**3 + 15 * x)
    above = 1 - ndtr(x) + np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi) * bend
    return np.clip(above, 0.0, 1.0), skew


def _best_of_many(a: Floats, b: Floats) -> Floats:
    """Sum over the cells of a grid of (growth of an arm's distribution) x (product of the others' there)."""
    from scipy.special import psi, zeta

    mean, sd = psi(a) - psi(b), np.sqrt(zeta(2.0, a) + zeta(2.0, b))
    reach = np.argsort(-(mean + 2 * sd), axis=1, kind="stable")[:, :_GRID_ARMS]
    centre, width = np.take_along_axis(mean, reach, 1), np.take_along_axis(sd, reach, 1)
    x = np.sort((centre[..., None] + width[..., None] * _NODES).reshape(len(a), -1), axis=1)
    below = _log_odds_below(a, b, x)
    others = _product_of_others(below)
    best: Floats = (np.diff(below, axis=2) * (others[..., 1:] + others[..., :-1]) / 2).sum(axis=2)
    mass: Floats = np.maximum(best, 0.0)
    total: Floats = mass.sum(axis=1, keepdims=True)
    return mass / total


def _product_of_others(below: Floats) -> Floats:
    """Product over all arms but one, for each arm; (n_rows, n_arms, n_nodes)."""
    others = np.ones(below.shape)
    before, after = others[:, 0].copy(), others[:, 0].copy()
    for i in range(below.shape[1]):
        others[:, i] *= before
        others[:, -1 - i] *= after
        before *= below[:, i]
        after *= below[:, -1 - i]
    return others


def _log_odds_below(a: Floats, b: Floats, x: Floats) -> Floats:
    """P(log odds <= x) of Beta(a, b), (n_rows, n_arms, n_nodes); Peizer & Pratt 1968, JASA 63:1416."""
    from scipy.special import expit, ndtr

    p, q = expit(x)[:, None], expit(-x)[:, None]
    log_p, log_q = (-np.logaddexp(0.0, -x))[:, None], (-np.logaddexp(0.0, x))[:, None]
    s, f = (np.maximum(count[..., None] - 0.5, 1e-9) for count in (a, b))
    n = s + f
    distance = s - n * p
    gap = distance + (1 / 6 - p / 3) + (q * (0.02 / (s + 0.5)) - p * (0.02 / (f + 0.5)) + (q - 0.5) * (0.02 / (n + 1)))
    deviance = s * (np.log(s / n) - log_p) + f * (np.log(f / n) - log_q)
    variance = n * p * q
    near = distance**2 < _NEAR * variance
    bend = np.maximum(1 - distance * (q - p) / (3 * variance), 0.0) / variance
    slope = np.where(near, bend, 2 * np.maximum(deviance, 0.0) / np.where(near, 1.0, distance) ** 2)
    below: Floats = ndtr(-gap * np.sqrt(slope / (1 + 1 / (6 * n))))
    return below


def _trials_known(n: Integers, curve: Floats | None) -> Floats:
    """Sends so far, weighted by the share of their answers that has come in, (n_replications, n_arms)."""
    n_epochs = n.shape[1]
    share = np.ones(n_epochs)
    if curve is not None:
        young = min(n_epochs, len(curve))
        share[n_epochs - young :] = curve.mean(axis=1)[:young][::-1]
    known: Floats = np.einsum("rta,t->ra", n, share)
    return known


def _arrivals(successes: Integers, curve: Floats, rng: np.random.Generator) -> Integers:
    """Successes that have come in by each age, (n_replications, n_ages + 1, n_arms)."""
    rest, before = successes.copy(), np.zeros(curve.shape[1])
    ages = np.empty((len(successes), len(curve) + 1, successes.shape[1]), dtype=np.int64)
    for age, share in enumerate(curve):
        left = np.where(before < 1, 1 - before, 1.0)
        rest -= rng.binomial(rest, np.clip((share - before) / left, 0.0, 1.0))
        ages[:, age] = successes - rest
        before = share
    ages[:, -1] = successes
    return ages


def _sizes(sizes: ArrayLike) -> Integers:
    mails = np.asarray(sizes)
    if mails.ndim != 1 or not mails.size:
        raise ValueError(f"sizes have shape {mails.shape}, must be (n_epochs,): the mails of each epoch")
    if mails.dtype.kind not in "iuf" or (mails != np.floor(mails)).any() or (mails < 0).any():
        raise ValueError(f"sizes are {mails.tolist()}, must be whole numbers of mails")
    return mails.astype(np.int64)


def _truth(rates: ArrayLike, level: ArrayLike | None, sizes: ArrayLike) -> Floats:
    """True rates per epoch, (n_epochs, n_arms)."""
    n_epochs = len(np.asarray(sizes))
    given = np.asarray(rates, dtype=np.float64)
    if given.ndim not in (1, 2) or not given.size or (given.ndim == 2 and len(given) != n_epochs):
        raise ValueError(f"rates have shape {given.shape}, must be (n_arms,) or ({n_epochs}, n_arms)")
    factor = np.ones(n_epochs) if level is None else np.asarray(level, dtype=np.float64)
    if factor.shape != (n_epochs,):
        raise ValueError(f"level has shape {factor.shape}, must be ({n_epochs},): one factor per epoch")
    truth: Floats = given * factor[:, None]
    if not ((truth >= 0) & (truth <= 1)).all():
        raise ValueError(f"rates times level run from {truth.min():g} to {truth.max():g}, must be in [0, 1]")
    return truth


def _curve(delay: int | ArrayLike, n_arms: int) -> Floats:
    """Share of the answers that has come in by age, (n_ages, n_arms)."""
    if isinstance(delay, int | np.integer):
        if delay < 0:
            raise ValueError(f"delay is {delay}, must be at least 0 epochs")
        return np.zeros((delay, n_arms))
    given = np.asarray(delay, dtype=np.float64)
    if given.ndim not in (1, 2) or (given.ndim == 2 and given.shape[1] != n_arms):
        raise ValueError(f"delay has shape {given.shape}, must be (n_ages,) or (n_ages, {n_arms})")
    curve = given if given.ndim == 2 else np.tile(given[:, None], (1, n_arms))
    if not ((curve >= 0) & (curve <= 1)).all() or (np.diff(curve, axis=0) < 0).any():
        raise ValueError(f"delay is {given.tolist()}, must be shares in [0, 1] that never fall with age")
    return curve
