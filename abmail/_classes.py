"""Latent classes of weekly habits: a Poisson-Gamma mixture, fitted by EM with circular smoothing.

Recipient i opens with rate ``q_i * a_i(hour)`` per unit of exposure, ``q_i`` Gamma(alpha, beta), and ``a_i`` one of K
shapes of equal mean. Given class k, n opens and the exposure E_k that they meet under that shape, the chance of the
data is proportional to ``prod r_k(h)^O(h) * (beta + E_k)^-(alpha + n)``: the negative binomial likelihood of a Poisson
rate with a Gamma mixed out (Greenwood & Yule 1920). EM is Dempster, Laird & Rubin 1977; smoothing between the M-step
and the next E-step is the EMS algorithm of Silverman et al. 1990.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.special import gammaln

from abmail._hazard import WEEK, week_smoother

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["Classes", "Evidence", "Prior", "fit_classes", "gamma_prior", "mixture", "posterior", "starting_shapes"]

_ROUNDS: Final = 40
_BANDWIDTH: Final = 0.6  # hours
_TOWARDS_POOLED: Final = 0.05  # of a mean cell
_SEGMENT_PRIOR: Final = 20.0  # recipients of the account's mix that each segment is given
_HALF_LENT: Final = 5_000.0  # opens at which weekdays lend each other half their counts
_ALPHAS: Final = np.geomspace(0.2, 20.0, 41)
_FLOOR: Final = 1e-4
_SHAPE: Final = 0.5  # of engagement, where nothing is known
_LEVEL_PRIOR: Final = 5.0  # opens that the prior's mean engagement is worth


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of each recipient, hour by hour.

    Attributes:
        opens: (n, 168) opens in each hour of the week.
        exposure: (n, 168) exposure in each hour of the week, the appeal of the campaigns included.
        segment: (n,) index of the segment, from 0.
    """

    opens: Floats
    exposure: Floats
    segment: Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """A fitted mixture.

    Attributes:
        shapes: (K, 168) activity of each class by hour of the week, mean 1.
        shares: (n_segments, K) share of the classes in each segment.
        alpha: Shape of the Gamma distribution of engagement.
        beta: Its rate.
    """

    shapes: Floats
    shares: Floats
    alpha: float
    beta: float


@dataclass(frozen=True, slots=True)
class Prior:
    """Classes that were learned elsewhere.

    Attributes:
        classes: They.
        opens: How many opens of this account outweigh them by half, all classes together.
    """

    classes: Classes
    opens: float


def mixture(
    shares: NDArray[Any], log_shape: NDArray[Any], exposure: NDArray[Any], n: NDArray[Any], alpha: float, beta: float
) -> NDArray[Any]:
    """Posterior class weights of recipients.

    Args:
        shares: (n, K) prior share of each class.
        log_shape: (n, K) sum over the opens of the log of each class's shape.
        exposure: (n, K) exposure weighted with each class's shape.
        n: (n,) opens.
        alpha: Shape of engagement.
        beta: Rate of engagement.

    Returns:
        (n, K) weights; rows sum to 1.
    """
    weights: NDArray[Any] = np.log(beta + exposure)
    weights *= -(alpha + n)[:, np.newaxis]
    weights += log_shape
    weights += np.log(shares)
    weights -= weights.max(axis=1, keepdims=True)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def posterior(evidence: Evidence, classes: Classes) -> tuple[Floats, Floats]:
    """Class weights of each recipient (n, K), and the mean engagement under each class (n, K)."""
    n, exposure = evidence.opens.sum(axis=1), evidence.exposure @ classes.shapes.T
    log_shape = evidence.opens @ np.log(classes.shapes).T
    weights = mixture(classes.shares[evidence.segment], log_shape, exposure, n, classes.alpha, classes.beta)
    return weights, (classes.alpha + n)[:, np.newaxis] / (classes.beta + exposure)


def fit_classes(
    evidence: Evidence, shapes: Floats, *, n_segments: int, prior: Prior | None = None, rounds: int = _ROUNDS
) -> Classes:
    """Fit the mixture by EM from given shapes; deterministic.

    Args:
        evidence: Of a sample of recipients.
        shapes: (K, 168) shapes to start from, mean 1.
        n_segments: Number of segments.
        prior: What was learned elsewhere, worth some opens; its shapes have the order of ``shapes``.
        rounds: Of EM.
    """
    n_opens = float(evidence.opens.sum())
    smooth = week_smoother(_BANDWIDTH, lend=1 / (1 + n_opens / _HALF_LENT))
    pooled = _pooled(evidence, smooth, prior)
    shares = np.tile(_mix(np.zeros(len(shapes)), prior), (n_segments, 1))
    alpha, beta = gamma_prior(evidence.opens.sum(axis=1), evidence.exposure @ pooled, prior)
    found = Classes(shapes=shapes, shares=shares, alpha=alpha, beta=beta)
    for _ in range(rounds):
        found = _step(evidence, found, pooled, smooth, prior)
    return found


def _step(evidence: Evidence, now: Classes, pooled: Floats, smooth: Floats, prior: Prior | None) -> Classes:
    n, exposure = evidence.opens.sum(axis=1), evidence.exposure @ now.shapes.T
    log_shape = evidence.opens @ np.log(now.shapes).T
    weights = mixture(now.shares[evidence.segment], log_shape, exposure, n, now.alpha, now.beta)
    engagement = weights * (now.alpha + n)[:, np.newaxis] / (now.beta + exposure)
    shapes = _shapes(weights.T @ evidence.opens, engagement.T @ evidence.exposure, pooled, smooth, prior)
    alpha, beta = gamma_prior(n, (weights * exposure).sum(axis=1), prior)
    shares = _segment_shares(weights, evidence.segment, len(now.shares), prior)
    return replace(now, shapes=shapes, shares=shares, alpha=alpha, beta=beta)


def _shapes(opens: Floats, expected: Floats, pooled: Floats, smooth: Floats, prior: Prior | None) -> Floats:
    opens, expected = opens @ smooth, expected @ smooth
    pull = _TOWARDS_POOLED * expected.mean(axis=1, keepdims=True) + 1e-9
    opens, expected = opens + pull * pooled, expected + pull
    if prior is not None:
        mass = prior.opens * prior.classes.shares.mean(axis=0)[:, np.newaxis] / WEEK
        opens, expected = opens + mass * prior.classes.shapes, expected + mass
    found = np.maximum(opens / expected, _FLOOR)
    return np.asarray(found / found.mean(axis=1, keepdims=True))


def _pooled(evidence: Evidence, smooth: Floats, prior: Prior | None) -> Floats:
    """(168,) shape of all recipients together."""
    n, exposure = evidence.opens.sum(axis=1), evidence.exposure.sum(axis=1)
    rate = max(float(n.sum()), 0.5) / max(float(exposure.sum()), 1e-9)
    expected = ((0.5 + n) / (0.5 / rate + exposure)) @ evidence.exposure @ smooth + 1e-9
    opens = evidence.opens.sum(axis=0) @ smooth + 1e-9
    if prior is not None:
        mass = prior.opens / WEEK
        opens, expected = opens + mass * (prior.classes.shares.mean(axis=0) @ prior.classes.shapes), expected + mass
    found = np.maximum(opens / expected, _FLOOR)
    return np.asarray(found / found.mean())


def _mix(total: Floats, prior: Prior | None) -> Floats:
    """(K,) shares of the account from counted recipients; one more recipient, or the prior's, in it."""
    seen = total + (1 / len(total) if prior is None else _SEGMENT_PRIOR * prior.classes.shares.mean(axis=0))
    return np.asarray(seen / seen.sum())


def _segment_shares(weights: Floats, segment: Integers, n_segments: int, prior: Prior | None) -> Floats:
    counts = np.zeros((n_segments, weights.shape[1]))
    np.add.at(counts, segment, weights)
    total = counts + _SEGMENT_PRIOR * _mix(counts.sum(axis=0), prior)
    return np.asarray(total / total.sum(axis=1, keepdims=True))


def gamma_prior(n: Floats, exposure: Floats, prior: Prior | None) -> tuple[float, float]:
    """Shape and rate of the Gamma distribution of engagement, by marginal likelihood on a grid.

    The shape lies in 0.2..20; the rate puts the mean where all opens are as many as expected.

    Args:
        n: (n,) opens of each recipient.
        exposure: (n,) their exposure.
        prior: Its mean counts as much as five opens.
    """
    shape, rate = (_SHAPE, _SHAPE) if prior is None else (prior.classes.alpha, prior.classes.beta)
    mean = (float(n.sum()) + _LEVEL_PRIOR) / (float(exposure.sum()) + _LEVEL_PRIOR * rate / shape)
    beta = _ALPHAS / mean
    levels, inverse = np.unique(np.round(n, 2), return_inverse=True)
    counts = np.bincount(inverse, minlength=len(levels))
    constant = counts @ gammaln(_ALPHAS + levels[:, np.newaxis]) - len(n) * gammaln(_ALPHAS)
    logs = np.log(beta + exposure[:, np.newaxis])
    score = constant + len(n) * _ALPHAS * np.log(beta) - _ALPHAS * logs.sum(axis=0) - n @ logs
    score -= 0.5 * np.log(_ALPHAS / shape) ** 2
    best = int(np.argmax(score))
    return float(_ALPHAS[best]), float(beta[best])


def starting_shapes(pooled: Floats, n_classes: int) -> Floats:
    """(K, 168) shapes to start from: the pooled one times broad bumps round the clock, two of them by weekend."""
    n_clock = max(n_classes - 2, 1)
    hour, weekend = np.arange(WEEK) % 24, np.arange(WEEK) >= 120
    centres = 24 * np.arange(n_clock) / n_clock + 12 / n_clock
    away = (hour - centres[:, np.newaxis] + 12) % 24 - 12
    tilts = [0.3 + np.exp(-0.5 * (away / 3.0) ** 2)]
    if n_classes > n_clock:
        tilts.append(np.stack([np.where(weekend, 2.5, 0.5), np.where(weekend, 0.4, 1.3)])[: n_classes - n_clock])
    shapes = np.concatenate(tilts) * np.maximum(pooled, _FLOOR)
    return np.asarray(shapes / shapes.mean(axis=1, keepdims=True))
