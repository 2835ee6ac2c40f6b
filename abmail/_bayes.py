"""Beta posteriors side by side: chance to be best and expected loss, by quadrature.

On the log-odds scale a Beta density is smooth and bell-shaped, with tails exp(a x) and exp(-b x). The integrals run
over a grid whose panels are as fine as the sharpest posterior nearby needs and grow geometrically away from it, so flat
and very sharp posteriors fit on one grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from abmail._sequential import invert

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["PosteriorTest", "credible_interval", "expected_loss", "p_best"]

_REACH = 9.0  # standard deviations that hold all of a bell-shaped posterior
_TAIL = 40.0  # exp(-40) is nothing beside 1
_STEP = 1.25  # panel width in standard deviations near a posterior's centre
_GROWTH = 0.35  # panel width as a share of the distance to that centre
_NODES = 8
_FARTHEST = 1 - 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class PosteriorTest:
    """Arms b beside reference arms a by their posteriors alone, (..., n_pairs): no error rate is promised.

    Attributes:
        a_a: First Beta parameter of arm a.
        a_b: Second one of arm a.
        b_a: First one of arm b.
        b_b: Second one of arm b.
    """

    a_a: Floats
    a_b: Floats
    b_a: Floats
    b_b: Floats

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
        return cls(a_a=first[..., a], a_b=second[..., a], b_a=first[..., b], b_b=second[..., b])

    @property
    def effect(self) -> Floats:
        """Difference of the posterior means, (..., n_pairs, 1)."""
        return (self._mean_b - self._mean_a)[..., None]

    @property
    def relative(self) -> Floats:
        """Relative difference of the posterior means, (..., n_pairs, 1)."""
        return (self._mean_b / self._mean_a - 1)[..., None]

    @property
    def _mean_a(self) -> Floats:
        return self.a_a / (self.a_a + self.a_b)

    @property
    def _mean_b(self) -> Floats:
        return self.b_a / (self.b_a + self.b_b)

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

        low, high = invert(fits, self._mean_b - self._mean_a, -1.0, 1.0)
        return low[..., None], high[..., None]

    def lift(self, level: float) -> tuple[Floats, Floats]:
        """Central credible interval for p_b / p_a - 1, (..., n_pairs, 1)."""

        def fits(odds: Floats) -> Floats:
            return _two_tails(self._below_ratio(odds / (1 - odds)), level)

        middle = self._mean_b / (self._mean_a + self._mean_b)
        low, high = invert(fits, np.minimum(middle, _FARTHEST), 0.0, _FARTHEST)
        return (low / (1 - low) - 1)[..., None], (high / (1 - high) - 1)[..., None]

    def latest_intervals(self, level: float) -> tuple[Floats, Floats, Floats, Floats]:
        """Central credible intervals for the difference and the relative difference, each (..., n_pairs)."""
        low, high, lift_low, lift_high = (end[..., -1] for end in (*self.difference(level), *self.lift(level)))
        return low, high, lift_low, lift_high

    def _below(self, delta: Floats) -> Floats:
        """P(p_b - p_a <= delta)."""
        x, weight = self._draws()
        return self._mass_b(np.clip(x + delta[..., None], 0.0, 1.0)) @ weight

    def _below_ratio(self, ratio: Floats) -> Floats:
        """P(p_b <= ratio p_a)."""
        x, weight = self._draws()
        return self._mass_b(np.minimum(x * ratio[..., None], 1.0)) @ weight

    def _mass_b(self, x: Floats) -> Floats:
        from scipy.special import betainc

        return np.asarray(betainc(self.b_a[..., None], self.b_b[..., None], x), dtype=np.float64)

    def _draws(self) -> tuple[Floats, Floats]:
        """Nodes (..., n_pairs, n_nodes) and weights of arm a's posterior: a trapezoid rule on its normal scores."""
        from scipy.special import betaincinv, ndtr

        score = np.linspace(-8, 8, 161)
        weight = np.exp(-0.5 * score**2) * (score[1] - score[0]) / math.sqrt(2 * math.pi)
        x = betaincinv(self.a_a[..., None], self.a_b[..., None], ndtr(score))
        return np.asarray(x, dtype=np.float64), weight


def _two_tails(below: Floats, level: float) -> Floats:
    """Positive between the tails of ``level`` / 2, 0 at their ends."""
    return np.minimum(below, 1 - below) / (level / 2) - 1


def p_best(a: ArrayLike, b: ArrayLike) -> Floats:
    """Probability of each arm to have the highest rate, for independent Beta(a, b) posteriors.

    Args:
        a: First parameters, (n_arms,), positive.
        b: Second parameters, (n_arms,), positive.

    Returns:
        (n_arms,) float64 fractions that sum to 1.

    Raises:
        ValueError: Shapes differ or a parameter is not a positive finite number.

    Example:
        >>> p_best([101, 121], [101, 81]).round(7).tolist()
        [0.0224136, 0.9775864]
    """
    first, second = _parameters(a, b)
    if len(first) == 1:
        return np.ones(1)
    low, high = _ranges(first, second)
    x, weight = _grid(first, second, low.max(), max(high.max(), low.max() + 1e-9))
    below, density = _log_below(first, second, x), _log_density(first, second, x)
    others = below.sum(axis=0) - below
    mass: Floats = np.exp(density + others) @ weight
    total: np.float64 = mass.sum()
    return mass / total


def expected_loss(a: ArrayLike, b: ArrayLike) -> Floats:
    """Rate that is lost on average by using an arm instead of the best one, for independent Beta(a, b) posteriors.

    The mean of max(all rates) - rate, as the integral of F_i (1 - product of the other F_j), which never cancels.

    Args:
        a: First parameters, (n_arms,), positive.
        b: Second parameters, (n_arms,), positive.

    Returns:
        (n_arms,) float64 fractions in [0, 1].

    Raises:
        ValueError: Shapes differ or a parameter is not a positive finite number.

    Example:
        >>> expected_loss([101, 121], [101, 81]).round(6).tolist()
        [0.099423, 0.000413]
    """
    first, second = _parameters(a, b)
    if len(first) == 1:
        return np.zeros(1)
    low, high = _ranges(first, second)
    x, weight = _grid(first, second, low.min(), high.max())
    below = _log_below(first, second, x)
    others = below.sum(axis=0) - below
    log_p, log_q = -np.logaddexp(0.0, -x), -np.logaddexp(0.0, x)
    loss: Floats = (np.exp(below) * -np.expm1(others)) @ (weight * np.exp(log_p + log_q))
    return np.clip(loss, 0.0, 1.0)


def credible_interval(a: Floats, b: Floats, level: float) -> tuple[Floats, Floats]:
    """Central posterior interval of each rate that holds 1 - ``level``, two (n_arms,) arrays."""
    from scipy.special import betaincinv

    low, high = (np.asarray(betaincinv(a, b, tail), dtype=np.float64) for tail in (level / 2, 1 - level / 2))
    return low, high


def _parameters(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or not first.size:
        raise ValueError(f"a and b have shapes {first.shape} and {second.shape}, must both be (n_arms,)")
    for name, values in (("a", first), ("b", second)):
        wrong = ~(np.isfinite(values) & (values > 0))
        if wrong.any():
            arm = int(np.argmax(wrong))
            raise ValueError(f"{name} of arm {arm} is {values[arm]:g}, must be positive and finite")
    return first, second


def _centres(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the log odds."""
    from scipy.special import psi, zeta

    return psi(a) - psi(b), np.sqrt(zeta(2.0, a) + zeta(2.0, b))


def _ranges(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Where each posterior's mass lies on the log-odds scale, up to about 1e-17."""
    mean, sd = _centres(a, b)
    return mean - _REACH * sd - _TAIL / a, mean + _REACH * sd + _TAIL / b


def _grid(a: Floats, b: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    """Nodes and weights of composite Gauss-Legendre quadrature whose panels follow the nearest sharp posterior."""
    mean, sd = _centres(a, b)
    near = np.arange(-_REACH, _REACH + 0.1, 0.5)
    far = _REACH * np.geomspace(1.2, 1e7, 60)
    points = (mean[:, None] + sd[:, None] * np.concatenate((-far[::-1], near, far))).ravel()
    points = np.unique(np.concatenate(([low, high], points[(points > low) & (points < high)])))
    width = np.min(np.maximum(_STEP * sd, _GROWTH * np.abs(points[:, None] - mean)), axis=1)
    panels = np.concatenate(([0.0], np.cumsum(np.diff(points) / np.minimum(width[1:], width[:-1]))))
    count = max(1, int(np.ceil(panels[-1])))
    edges = np.interp(np.linspace(0, panels[-1], count + 1), panels, points)
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    half = np.diff(edges) / 2
    x = (edges[:-1] + half)[:, None] + half[:, None] * node
    return x.ravel(), (half[:, None] * weight).ravel()


def _log_density(a: Floats, b: Floats, x: Floats) -> Floats:
    """Log density of the log odds at ``x``, (n_arms, n_nodes), from its peak down: huge counts don't cancel."""
    d = x - np.log(a / b)[:, None]
    mean = (a / (a + b))[:, None]
    close = np.log1p(mean * np.expm1(np.clip(d, -1.0, 1.0)))
    distant = np.logaddexp(np.log(b / (a + b))[:, None], np.log(mean) + d)
    fall = a[:, None] * d - (a + b)[:, None] * np.where(np.abs(d) < 1, close, distant)
    peak = 0.5 * np.log(a / (a + b) * b / (2 * np.pi)) + _stirling_rest(a + b) - _stirling_rest(a) - _stirling_rest(b)
    density: Floats = fall + peak[:, None]
    return density


def _stirling_rest(z: Floats) -> Floats:
    """What log Gamma(z) exceeds Stirling's formula by (Abramowitz & Stegun 6.1.41)."""
    from scipy.special import gammaln

    small, large = np.minimum(z, 20.0), np.maximum(z, 20.0)
    exact = gammaln(small) - (small - 0.5) * np.log(small) + small - 0.5 * np.log(2 * np.pi)
    series = 1 / (12 * large) - 1 / (360 * large**3) + 1 / (1260 * large**5)
    return np.where(z < 20, exact, series)


def _log_below(a: Floats, b: Floats, x: Floats) -> Floats:
    """Log of P(log odds < x), (n_arms, n_nodes), accurate at both ends."""
    from scipy.special import betainc, expit

    below, above = betainc(a[:, None], b[:, None], expit(x)), betainc(b[:, None], a[:, None], expit(-x))
    log_below = np.log(np.maximum(below, np.finfo(np.float64).tiny))
    return np.where(below < 0.5, log_below, np.log1p(-np.minimum(above, 0.5)))
