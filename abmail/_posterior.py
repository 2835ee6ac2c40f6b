"""Arms compared by their Beta posteriors alone: credible intervals of differences, without an error rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from abmail._sequential import gap, invert, odds_around

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["PosteriorTest"]

_FARTHEST = 1 - 1e-12
_NO_TAIL = 1e-300
_SCORES = np.linspace(-8, 8, 161)
_STRIDES = (5, 4, 2)  # how many scores a coarser rule may step on at once: divisors of 80, so that 0 and both ends stay
_NEARLY_NORMAL = 100.0  # parameters from which on a posterior is so bell-shaped that a coarser rule will do
_NOTHING = 34.0  # exp(-34) is under the rounding of a chance


@dataclass(frozen=True, slots=True, kw_only=True)
class PosteriorTest:
    """Arms b beside reference arms a by their posteriors alone, (..., n_pairs): no error rate is promised.

    Attributes:
        a_a: First Beta parameter of arm a.
        a_b: Second one of arm a.
        b_a: First one of arm b.
        b_b: Second one of arm b.
        nodes: Quadrature nodes of arm a's posterior, (..., n_pairs, n_nodes).
        weights: Their weights, (n_nodes,).
    """

    a_a: Floats
    a_b: Floats
    b_a: Floats
    b_b: Floats
    nodes: Floats
    weights: Floats

    @classmethod
    def of(
        cls,
        successes: Floats,
        exposure: Floats,
        prior: tuple[float, float],
        a: NDArray[np.int64],
        b: NDArray[np.int64],
    ) -> PosteriorTest:
        """Posteriors of (..., n_arms, n_rows) counts, rows summed."""
        k = successes.sum(axis=-1)
        first, second = prior[0] + k, prior[1] + np.maximum(exposure.sum(axis=-1) - k, 0.0)
        own, place = np.unique(a, return_inverse=True)  # many pairs share their reference arm
        pairs = (first[..., a], second[..., a], first[..., b], second[..., b])
        scores, weights = _rule(_stride(*pairs))
        nodes = _nodes(first[..., own], second[..., own], scores)[..., place, :]
        return cls(a_a=pairs[0], a_b=pairs[1], b_a=pairs[2], b_b=pairs[3], nodes=nodes, weights=weights)

    @property
    def effect(self) -> Floats:
        """Difference of the posterior means, (..., n_pairs, 1)."""
        return (self._mean_b - self._mean_a)[..., None]

    @property
    def relative(self) -> Floats:
        """Relative difference of the posterior means, (..., n_pairs, 1)."""
        return (self._mean_b / self._mean_a - 1)[..., None]

    def estimates(self) -> tuple[Floats, Floats]:
        """Difference and relative difference at the latest look, each (...,)."""
        return self.effect[..., -1], self.relative[..., -1]

    def only(self, pairs: slice) -> PosteriorTest:
        """The same of some of the pairs alone."""
        return PosteriorTest(
            a_a=self.a_a[..., pairs],
            a_b=self.a_b[..., pairs],
            b_a=self.b_a[..., pairs],
            b_b=self.b_b[..., pairs],
            nodes=self.nodes[..., pairs, :],
            weights=self.weights,
        )

    @property
    def _mean_a(self) -> Floats:
        return self.a_a / (self.a_a + self.a_b)

    @property
    def _mean_b(self) -> Floats:
        return self.b_a / (self.b_a + self.b_b)

    @property
    def _variance_a(self) -> Floats:
        return _variance(self.a_a, self.a_b)

    @property
    def _variance_b(self) -> Floats:
        return _variance(self.b_a, self.b_b)

    def p_value(self) -> Floats:
        """There is none: NaN."""
        return np.full(self.a_a.shape, np.nan)

    def proved(self, level: float) -> NDArray[np.int8]:
        """+1 where the central credible interval at ``level`` lies above 0, -1 where below, (..., n_pairs, 1)."""
        below = self._below(np.zeros(self.a_a.shape))
        sign = np.where(below <= level / 2, 1, np.where(below >= 1 - level / 2, -1, 0))
        return sign.astype(np.int8)[..., None]

    def within(self, level: float, mde: float) -> NDArray[np.bool_]:
        """Whether the credible interval lies inside (-mde, mde), (..., n_pairs, 1)."""
        at = np.full(self.a_a.shape, mde)
        return ((self._below(-at) < level / 2) & (self._below(at) > 1 - level / 2))[..., None]

    def difference(self, level: float) -> tuple[Floats, Floats]:
        """Central credible interval for p_b - p_a, (..., n_pairs, 1)."""

        def fits(delta: Floats) -> Floats:
            return _two_tails(self._below(delta), level)

        middle, half = self._mean_b - self._mean_a, _deviations(level) * np.sqrt(self._variance_a + self._variance_b)
        low, high = invert(fits, middle, -1.0, 1.0, near=(middle - half, middle + half))
        return low[..., None], high[..., None]

    def lift(self, level: float) -> tuple[Floats, Floats]:
        """Central credible interval for p_b / p_a - 1, (..., n_pairs, 1)."""

        def fits(odds: Floats) -> Floats:
            return _two_tails(self._below_ratio(odds / (1 - odds)), level)

        middle = self._mean_b / (self._mean_a + self._mean_b)
        spread = self._variance_a / self._mean_a**2 + self._variance_b / self._mean_b**2  # of the log ratio, about
        near = odds_around(middle, _deviations(level) * np.sqrt(spread))
        low, high = invert(fits, np.minimum(middle, _FARTHEST), 0.0, _FARTHEST, near=near)
        return (low / (1 - low) - 1)[..., None], (high / (1 - high) - 1)[..., None]

    def latest_intervals(self, level: float) -> tuple[Floats, Floats, Floats, Floats]:
        """Central credible intervals for the difference and the relative difference, each (..., n_pairs)."""
        low, high, lift_low, lift_high = (end[..., -1] for end in (*self.difference(level), *self.lift(level)))
        return low, high, lift_low, lift_high

    def _below(self, delta: Floats) -> Floats:
        """P(p_b - p_a <= delta)."""
        below: Floats = self._mass_b(np.minimum(np.maximum(self.nodes + delta[..., None], 0.0), 1.0)) @ self.weights
        return below

    def _below_ratio(self, ratio: Floats) -> Floats:
        """P(p_b <= ratio p_a)."""
        below: Floats = self._mass_b(np.minimum(self.nodes * ratio[..., None], 1.0)) @ self.weights
        return below

    def _mass_b(self, x: Floats) -> Floats:
        from scipy.special import betainc

        return np.asarray(betainc(self.b_a[..., None], self.b_b[..., None], x), dtype=np.float64)


def _nodes(a: Floats, b: Floats, scores: Floats) -> Floats:
    """Quantiles of Beta(a, b) at normal scores, (..., n_nodes): nodes of a trapezoid rule on that scale."""
    from scipy.special import betaincinv, ndtr

    return np.asarray(betaincinv(a[..., None], b[..., None], ndtr(scores)), dtype=np.float64)


def _stride(a_a: Floats, a_b: Floats, b_a: Floats, b_b: Floats) -> int:
    """How many of the scores the trapezoid rule may step on at once without a digit less.

    The integrand is the normal density times a distribution function that rises, in scores of arm a, as a normal one of
    standard deviation w = sd(b) / sd(a) does, so a rule of step h is off by exp(-2 (pi / h)^2 w^2 / (1 + w^2)) (Poisson
    summation). For ratios the standard deviations are relative ones. Posteriors that are not close to normal, and
    those much sharper than arm a's, keep all scores.
    """
    if min(float(parameter.min()) for parameter in (a_a, a_b, b_a, b_b)) < _NEARLY_NORMAL:
        return 1
    of_a, of_b = _variance(a_a, a_b), _variance(b_a, b_b)
    relative = of_b * (a_a / (a_a + a_b)) ** 2 / (b_a / (b_a + b_b)) ** 2
    least = min(float((part / (part + of_a)).min()) for part in (of_b, relative))
    step = float(_SCORES[1] - _SCORES[0])
    return next((each for each in _STRIDES if 2 * (math.pi / (each * step)) ** 2 * least >= _NOTHING), 1)


def _rule(stride: int) -> tuple[Floats, Floats]:
    """Every ``stride``-th score and its weight."""
    scores = _SCORES[::stride]
    return scores, np.exp(-0.5 * scores**2) * (scores[1] - scores[0]) / math.sqrt(2 * math.pi)


def _variance(a: Floats, b: Floats) -> Floats:
    """Variance of Beta(a, b)."""
    variance: Floats = a * b / ((a + b) ** 2 * (a + b + 1))
    return variance


def _deviations(level: float) -> float:
    """Half width of a central normal interval, in standard deviations."""
    from scipy.special import ndtri

    return float(-ndtri(level / 2))


def _two_tails(below: Floats, level: float) -> Floats:
    """Positive between the tails of ``level`` / 2, 0 at their ends; by normal scores, which are nearly straight."""
    from scipy.special import ndtri

    tail = np.maximum(np.minimum(below, 1 - below), _NO_TAIL)
    score = np.asarray(-ndtri(np.minimum(tail, 0.5)), dtype=np.float64)
    return gap(np.full_like(tail, _deviations(level)), score)
