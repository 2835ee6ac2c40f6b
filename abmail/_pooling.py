"""Partial pooling: estimates of many segments, each drawn towards their mean by as much as they agree.

The model is normal-normal: a segment's estimate scatters around its own effect with a known variance, the effects
around a common mean with an unknown standard deviation tau. The mean has a flat prior, tau a half-normal one, and tau
is integrated out on a grid (Gelman et al. 2013, section 5.4; Röver, Bender & Dias 2021, Research Synthesis Methods
12:448, on the half-normal prior), so intervals widen by what isn't known about tau. A point estimate of tau stands
beside it (Paule & Mandel 1982).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Pooled", "partial_pool", "paule_mandel"]

_SCALE = 0.5  # of tau's half-normal prior, for log odds ratios: segments rarely differ by more than a factor of 2.7
_NODES = 128
_FARTHEST = 6.0  # scales of the prior within which tau lies
_NEGLIGIBLE = 25.0  # log density under the peak that no longer counts
_HALVINGS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """What partial pooling makes of the estimates.

    Attributes:
        estimate: Posterior mean of each segment's effect, (n_segments,).
        lower: Lower end of its interval.
        upper: Upper end of its interval.
        mean: Posterior mean of the common mean.
        mean_lower: Lower end of its interval.
        mean_upper: Upper end of its interval.
        tau: Standard deviation between segments by Paule and Mandel's equation.
        tau_lower: Lower end of tau's posterior interval.
        tau_upper: Upper end of tau's posterior interval.
    """

    estimate: Floats
    lower: Floats
    upper: Floats
    mean: float
    mean_lower: float
    mean_upper: float
    tau: float
    tau_lower: float
    tau_upper: float


def partial_pool(estimates: Floats, variances: Floats, level: float, *, scale: float = _SCALE) -> Pooled | None:
    """Draw the estimates towards their mean.

    Args:
        estimates: (n_segments,), NaN where a segment has none: it gets what the others say of a new segment.
        variances: Their variances, (n_segments,), positive where there is an estimate.
        level: Intervals hold 1 - ``level``.
        scale: Scale of tau's half-normal prior.

    Returns:
        The pooled values; None without any estimate.
    """
    known = np.isfinite(estimates) & np.isfinite(variances)
    if not known.any():
        return None
    y, v = estimates[known], variances[known]
    tau, mass = _posterior_of_tau(y, v, scale)
    mean, mean_variance = _mean_given(y, v, tau)
    own, noise = (np.where(known, part, 1.0)[:, None] for part in (estimates, variances))
    share = np.where(known[:, None], noise / (noise + tau**2), 1.0)  # of the common mean in each effect
    centre = share * mean + (1 - share) * own
    variance = share * tau**2 + share**2 * mean_variance
    lower, upper = _mixture_interval(centre, variance, mass, level)
    mean_low, mean_high = _mixture_interval(mean[None], mean_variance[None], mass, level)
    cumulated = np.cumsum(mass) - mass / 2
    return Pooled(
        estimate=centre @ mass,
        lower=lower,
        upper=upper,
        mean=float(mean @ mass),
        mean_lower=float(mean_low[0]),
        mean_upper=float(mean_high[0]),
        tau=paule_mandel(y, v),
        tau_lower=float(np.interp(level / 2, cumulated, tau)),
        tau_upper=float(np.interp(1 - level / 2, cumulated, tau)),
    )


def paule_mandel(y: Floats, v: Floats) -> float:
    """The tau for which Cochran's Q, weighed with v + tau^2, equals its degrees of freedom; 0 where Q is smaller."""

    def surplus(tau2: float) -> float:
        weight = 1 / (v + tau2)
        return float(weight @ (y - weight @ y / weight.sum()) ** 2) - (len(y) - 1)

    if len(y) < 2 or surplus(0.0) <= 0:
        return 0.0
    low, high = 0.0, float(np.ptp(y)) ** 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if surplus(middle) > 0 else (low, middle)
    return float(np.sqrt((low + high) / 2))


def _posterior_of_tau(y: Floats, v: Floats, scale: float) -> tuple[Floats, Floats]:
    """Nodes and their share of the posterior, on a grid that is refined where the posterior lies."""
    low, high = 0.0, _FARTHEST * scale
    for _ in range(3):
        node, weight = _gauss_legendre()
        u = (node + 1) / 2
        tau = low + (high - low) * u**2  # dense at the lower end
        log_density = _log_posterior(y, v, tau, scale)
        near = np.flatnonzero(log_density > log_density.max() - _NEGLIGIBLE)
        mass = np.exp(log_density - log_density.max()) * weight * u
        mass /= mass.sum()
        low, high = tau[max(near[0] - 1, 0)] if near[0] else low, tau[min(near[-1] + 1, _NODES - 1)]
    return tau, mass


@cache
def _gauss_legendre() -> tuple[Floats, Floats]:
    return np.polynomial.legendre.leggauss(_NODES)


def _log_posterior(y: Floats, v: Floats, tau: Floats, scale: float) -> Floats:
    """Log of p(tau | y) up to a constant, Gelman et al. 2013, eq. 5.21, with a half-normal prior."""
    mean, mean_variance = _mean_given(y, v, tau)
    total = v[:, None] + tau**2
    misfit = (np.log(total) + (y[:, None] - mean) ** 2 / total).sum(axis=0)
    density: Floats = 0.5 * (np.log(mean_variance) - misfit - (tau / scale) ** 2)
    return density


def _mean_given(y: Floats, v: Floats, tau: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of the common mean for each tau."""
    weight = 1 / (v[:, None] + tau**2)
    total = weight.sum(axis=0)
    return (weight * y[:, None]).sum(axis=0) / total, 1 / total


def _mixture_interval(centre: Floats, variance: Floats, mass: Floats, level: float) -> tuple[Floats, Floats]:
    """Central interval of each mixture of normal distributions, (n, n_nodes) to two (n,) arrays."""
    from scipy.special import ndtr, ndtri

    sd = np.sqrt(variance)
    reach = -float(ndtri(level / 4)) + 1.0

    def quantile(probability: float) -> Floats:
        low, high = (centre - reach * sd).min(axis=1), (centre + reach * sd).max(axis=1)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            short = ndtr((middle[:, None] - centre) / sd) @ mass < probability
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        found: Floats = (low + high) / 2
        return found

    return quantile(level / 2), quantile(1 - level / 2)
