"""Beta posteriors side by side: chance to be best, expected loss and value remaining, by quadrature.

On the log-odds scale a Beta density is smooth and bell-shaped, with tails exp(a x) and exp(-b x). The integrals run
over a grid whose panels are as fine as the sharpest posterior nearby needs and grow geometrically away from it, so flat
and very sharp posteriors fit on one grid.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from abmail._boundary import check_alpha, falling_root

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["credible_interval", "expected_loss", "p_best", "value_remaining"]

_REACH = 9.0  # standard deviations that hold all of a bell-shaped posterior
_TAIL = 40.0  # exp(-40) is nothing beside 1
_STEP = 1.25  # panel width in standard deviations near a posterior's centre
_GROWTH = 0.35  # panel width as a share of the distance to that centre
_NODES = 8
_NO_MATTER = 1e-10  # chance to be the best of all the arms that are left out of the value remaining
_LEAST_GAIN, _FARTHEST_GAIN = 1e-10, 200.0  # logs of the factors between which the value remaining is looked for


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
    centre, width, low, high = _bells(first, second)
    x, weight = _grid(centre, width, low.max(), max(high.max(), low.max() + 1e-9))
    return _chances(first, second, x, weight, _log_below(first, second, x))


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
    centre, width, low, high = _bells(first, second)
    # a rate changes with its log odds as p (1 - p): a bell of its own, which wide posteriors would step over
    x, weight = _grid(np.append(centre, 0.0), np.append(width, 1.0), low.min(), high.max())
    return _losses(x, weight, _log_below(first, second, x))


def _chances(a: Floats, b: Floats, x: Floats, weight: Floats, below: Floats) -> Floats:
    """Chance of each arm to lie above all others, given the log distributions at the nodes."""
    mass: Floats = np.exp(_log_density(a, b, x) + (below.sum(axis=0) - below)) @ weight
    total: np.float64 = mass.sum()
    return mass / total


def _losses(x: Floats, weight: Floats, below: Floats) -> Floats:
    """Expected loss of each arm, given the log distributions at the nodes."""
    from scipy.special import expit

    others = below.sum(axis=0) - below
    loss: Floats = (np.exp(below) * -np.expm1(others)) @ (weight * (expit(x) * expit(-x)))
    return np.clip(loss, 0.0, 1.0)


def value_remaining(a: ArrayLike, b: ArrayLike, *, level: float = 0.95) -> float:
    """How much better than the champion the best arm may be: a posterior quantile of (best - champion) / champion.

    The champion is the arm most likely to be the best, for independent Beta(a, b) posteriors (Scott 2010, Applied
    Stochastic Models in Business and Industry 26:639; Scott 2015, 31:37). The chance that no arm's rate exceeds 1 + v
    times the champion's is one integral over the champion's rate; v solves it for ``level``.

    Args:
        a: First parameters, (n_arms,), positive.
        b: Second parameters, (n_arms,), positive.
        level: Posterior probability that no more than this is to be gained, fraction in (0, 1).

    Returns:
        The quantile, 0 or more: 0.01 for "at most 1 % better"; 0 when the champion is the best with that probability.

    Raises:
        ValueError: ``level`` is out of range, shapes differ, or a parameter is not a positive finite number.

    Example:
        >>> round(value_remaining([200, 205], [800, 795]), 4), value_remaining([200, 300], [800, 700])
        (0.1291, 0.0)
    """
    check_alpha(level, "level")
    first, second = _parameters(a, b)
    best = p_best(first, second)
    champion = int(np.argmax(best))
    if best[champion] >= level:
        return 0.0

    kept = _in_the_race(best, champion)
    a_kept, b_kept, champion = first[kept], second[kept], int(np.flatnonzero(kept == champion)[0])

    def uncovered(gain: float) -> float:
        return level - _chance_within(a_kept, b_kept, champion, gain)

    far = 0.01
    while uncovered(far) > 0 and far < _FARTHEST_GAIN:
        far *= 2
    return float(np.expm1(falling_root(uncovered, _LEAST_GAIN, far, _LEAST_GAIN)))


def _in_the_race(best: Floats, champion: int) -> NDArray[np.intp]:
    """Arms that may matter: together the others are the best with a chance that no digit of the answer shows.

    An arm beyond 1 + v times the champion's rate while no other is so must be the best, so leaving arms out moves the
    chance by no more than their chances to be the best add up to.
    """
    order = np.argsort(best, kind="stable")
    out = order[best[order].cumsum() < _NO_MATTER]
    return np.setdiff1d(np.arange(len(best)), out[out != champion])


def _chance_within(a: Floats, b: Floats, champion: int, gain: float) -> float:
    """P(no arm's rate is above exp(gain) times the champion's), as an integral over the log odds of that multiple.

    There the rivals' distributions are what they are. The champion's log odds x belong to the multiple's z by
    exp(-x) = v + exp(gain - z) with v = exp(gain) - 1, which bends within about 1 where both terms are alike.
    """
    from scipy.special import betaincc

    one, bend = [champion], gain - float(np.log(np.expm1(gain)))
    top = bend - gain  # the champion's log odds from which on even a rate of 1 is within reach
    _, _, low, high = _bells(a, b)
    if low[champion] >= top:
        return 1.0

    def multiple(x: Floats) -> Floats:
        return x + gain - np.log1p(-np.exp(x - top))

    start = float(multiple(low[champion]))
    end = float(multiple(high[champion])) if high[champion] < top else np.inf
    own, own_width, _, _ = _bells(a[one], b[one])
    own = np.minimum(own, top - own_width)
    rivals = np.flatnonzero((high > start) & (np.arange(len(a)) != champion))
    theirs, their_width, _, _ = _bells(a[rivals], b[rivals])
    centre = np.concatenate((multiple(own), theirs, [bend]))
    width = np.concatenate((own_width * np.exp(multiple(own) - own - gain), their_width, [1.0]))
    z, weight = _grid(centre, width, start, min(end, bend + 2 * _TAIL))
    x = -np.logaddexp(-top, gain - z)
    below = _log_below(a[rivals], b[rivals], z).sum(axis=0)
    within = np.exp(_log_density(a[one], b[one], x)[0] + below + (gain + x - z)) @ weight
    return float(within + betaincc(a[champion], b[champion], np.exp(-gain)))


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


def _bells(a: Floats, b: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Where the posteriors bend on the log-odds scale and how sharply, and both ends of each one's mass.

    A posterior bends at its mean within its standard deviation; one that is wider than 1 also bends within about 1
    where its slow tail begins. The ends leave out about 1e-17.

    Returns:
        Centres and widths, (n_bends,); lower and upper ends, (n_arms,).
    """
    mean, sd = _centres(a, b)
    wide = sd > 1
    knee = np.log(np.maximum(a[wide], 1.0) / np.maximum(b[wide], 1.0))
    centre, width = np.append(mean, knee), np.append(sd, np.ones(len(knee)))
    return centre, width, mean - _REACH * sd - _TAIL / a, mean + _REACH * sd + _TAIL / b


def _grid(mean: Floats, sd: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    """Nodes and weights of composite Gauss-Legendre quadrature whose panels follow the nearest sharp posterior."""
    points = (mean[:, None] + sd[:, None] * _offsets()).ravel()
    points = np.unique(np.concatenate(([low, high], points[(points > low) & (points < high)])))
    width = np.min(np.maximum(_STEP * sd, _GROWTH * np.abs(points[:, None] - mean)), axis=1)
    panels = np.concatenate(([0.0], np.cumsum(np.diff(points) / np.minimum(width[1:], width[:-1]))))
    count = max(1, int(np.ceil(panels[-1])))
    edges = np.interp(np.linspace(0, panels[-1], count + 1), panels, points)
    node, weight = _gauss()
    half = np.diff(edges) / 2
    x = (edges[:-1] + half)[:, None] + half[:, None] * node
    return x.ravel(), (half[:, None] * weight).ravel()


@cache
def _offsets() -> Floats:
    """Where the width of panels is looked at, in standard deviations from a centre."""
    near = np.arange(-_REACH, _REACH + 0.1, 0.5)
    far = _REACH * np.geomspace(1.2, 1e7, 60)
    return np.concatenate((-far[::-1], near, far))


@cache
def _gauss() -> tuple[Floats, Floats]:
    """Nodes and weights of one panel."""
    return np.polynomial.legendre.leggauss(_NODES)


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
