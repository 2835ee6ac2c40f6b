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
_NEARLY_NORMAL = 100.0  # parameters from which on posteriors are so bell-shaped that even steps will do
_EVEN_STEP = 0.7  # in standard deviations of the product of all posteriors
_MOST_EVEN = 250  # even steps; more cost as much as panels
_ONE_SIDED = 36.0  # log odds beyond which 1 - rate, or the rate, is rounded to 1
_FAR = 600.0  # log odds beyond which the other of both may be rounded to 0
_NO_MATTER = 1e-10  # chance to be the best of all the arms that are left out of the value remaining
_LEAST_GAIN, _FARTHEST_GAIN = 1e-10, 200.0  # logs of the factors between which the value remaining is looked for


def p_best(a: ArrayLike, b: ArrayLike) -> Floats:
    """Probability of each arm to have the highest rate, for independent Beta(a, b) posteriors.

    Args:
        a: First parameters, (..., n_arms), positive; any leading axes are cases that are worked out side by side.
        b: Second parameters, (..., n_arms), positive.

    Returns:
        (..., n_arms) float64 fractions that sum to 1 over the arms.

    Raises:
        ValueError: Shapes differ or a parameter is not a positive finite number.

    Example:
        >>> p_best([101, 121], [101, 81]).round(7).tolist()
        [0.0224136, 0.9775864]
        >>> p_best([[101, 121], [1, 1]], [[101, 81], [1, 1]]).round(7).tolist()
        [[0.0224136, 0.9775864], [0.5, 0.5]]
    """
    first, second = _parameters(a, b, one_case=False)
    if first.shape[-1] == 1:
        return np.ones(first.shape)
    centre, width, low, high = _bells(first, second)
    start = low.max(axis=-1)
    x, weight = _grid(centre, width, start, np.maximum(high.max(axis=-1), start + 1e-9))
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
    x, weight = _loss_grid(first, second)
    return _losses(x, weight, _log_below(first, second, x))


def best_and_loss(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """`p_best` and `expected_loss` of one case, each (n_arms,), from one quadrature."""
    if len(a) == 1:
        return np.ones(1), np.zeros(1)
    x, weight = _loss_grid(a, b)
    below = _log_below(a, b, x)
    return _chances(a, b, x, weight, below), _losses(x, weight, below)


def _loss_grid(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Nodes and weights over the mass of all posteriors, those of `_chances` among it.

    Even steps of h do where all posteriors are close to normal: nothing in the integrals is narrower than the product
    of all densities, with standard deviation s, so the trapezoid rule is off by exp(-2 (pi s / h)^2) (Poisson sums).
    """
    centre, width, low, high = _bells(a, b)
    if min(float(a.min()), float(b.min())) >= _NEARLY_NORMAL:
        step = _EVEN_STEP / float(np.sqrt((width**-2).sum()))
        steps = float(high.max() - low.min()) / step
        if steps <= _MOST_EVEN:
            x = low.min() + step * np.arange(int(steps) + 2)
            return x, np.full(x.shape, step)
    # a rate changes with its log odds as p (1 - p): a bell of its own, which wide posteriors would step over
    return _grid(np.append(centre, 0.0), np.append(width, 1.0), low.min(), high.max())


def _chances(a: Floats, b: Floats, x: Floats, weight: Floats, below: Floats) -> Floats:
    """Chance of each arm to lie above all others, given the log distributions at the nodes."""
    density = np.exp(_log_density(a, b, x) + (below.sum(axis=-2, keepdims=True) - below))
    mass = (density @ weight[..., None])[..., 0]
    chances: Floats = mass / mass.sum(axis=-1, keepdims=True)
    return chances


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


def _parameters(a: ArrayLike, b: ArrayLike, *, one_case: bool = True) -> tuple[Floats, Floats]:
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    fits = first.ndim == 1 if one_case else first.ndim > 0
    if not fits or first.shape != second.shape or not first.size:
        wanted = "(n_arms,)" if one_case else "(..., n_arms)"
        raise ValueError(f"a and b have shapes {first.shape} and {second.shape}, must both be {wanted}")
    for name, values in (("a", first), ("b", second)):
        wrong = ~(np.isfinite(values) & (values > 0))
        if wrong.any():
            place = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
            raise ValueError(f"{name} of arm {place[-1]} is {values[place]:g}, must be positive and finite")
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
        Centres and widths, (..., n_bends); lower and upper ends, (..., n_arms).
    """
    mean, sd = _centres(a, b)
    wide, centre, width = sd > 1, mean, sd
    if wide.any():
        knee = np.log(np.maximum(a, 1.0) / np.maximum(b, 1.0))
        centre = np.concatenate((mean, np.where(wide, knee, mean)), axis=-1)
        width = np.concatenate((sd, np.minimum(sd, 1.0)), axis=-1)
    return centre, width, mean - _REACH * sd - _TAIL / a, mean + _REACH * sd + _TAIL / b


def _grid(mean: Floats, sd: Floats, low: ArrayLike, high: ArrayLike) -> tuple[Floats, Floats]:
    """Nodes and weights of composite Gauss-Legendre quadrature whose panels follow the nearest sharp posterior.

    Args:
        mean: (..., n_bends) centres.
        sd: (..., n_bends) widths.
        low: (...) where each case begins.
        high: (...) where it ends.

    Returns:
        Two (..., n_nodes) arrays; a case that needs fewer panels than another ends with panels of no width.
    """
    ends = np.stack((low, high), axis=-1)
    points = (mean[..., None] + sd[..., None] * _offsets()).reshape(*mean.shape[:-1], -1)
    inside = (points > ends[..., :1]) & (points < ends[..., 1:])
    points = np.where(inside, points, ends[..., :1])[..., inside.any(axis=tuple(range(points.ndim - 1)))]
    points = np.sort(np.concatenate((ends, points), axis=-1), axis=-1)
    away = np.abs(points[..., None] - mean[..., None, :])
    width = np.min(np.maximum(_STEP * sd[..., None, :], _GROWTH * away), axis=-1)
    steps = np.diff(points, axis=-1) / np.minimum(width[..., 1:], width[..., :-1])
    panels = np.cumsum(np.concatenate((np.zeros((*steps.shape[:-1], 1)), steps), axis=-1), axis=-1)
    edges = _edges(points.reshape(-1, points.shape[-1]), panels.reshape(-1, panels.shape[-1]))
    edges = edges.reshape(*mean.shape[:-1], -1)
    node, weight = _gauss()
    half = np.diff(edges, axis=-1)[..., None] / 2
    x = edges[..., :-1, None] + half + half * node
    return x.reshape(*mean.shape[:-1], -1), (half * weight).reshape(*mean.shape[:-1], -1)


def _edges(points: Floats, panels: Floats) -> Floats:
    """(n_cases, n_edges) ends of whole panels, from how many panels there are up to each of some points."""
    count = np.maximum(1, np.ceil(panels[:, -1])).astype(np.int64)
    edges = np.empty((len(points), count.max() + 1))
    parts = np.minimum(np.arange(count.max() + 1) / count[:, None], 1.0)
    for case, ends in enumerate(parts * panels[:, -1:]):
        edges[case] = np.interp(ends, panels[case], points[case])
    return edges


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
    """Log density of the log odds at ``x``, (..., n_arms, n_nodes), from its peak down: huge counts don't cancel."""
    d = x[..., None, :] - np.log(a / b)[..., None]
    mean = (a / (a + b))[..., None]
    near = np.abs(d) < 1
    bend = np.empty_like(d)
    np.log1p(mean * np.expm1(np.clip(d, -1.0, 1.0)), out=bend, where=near)
    np.logaddexp(np.log(b / (a + b))[..., None], np.log(mean) + d, out=bend, where=~near)
    rest, rest_a, rest_b = _stirling_rest(np.stack((a + b, a, b)))
    peak = 0.5 * np.log(a / (a + b) * b / (2 * np.pi)) + rest - rest_a - rest_b
    density: Floats = a[..., None] * d - (a + b)[..., None] * bend + peak[..., None]
    return density


def _stirling_rest(z: Floats) -> Floats:
    """What log Gamma(z) exceeds Stirling's formula by (Abramowitz & Stegun 6.1.41)."""
    from scipy.special import gammaln

    small, large = np.minimum(z, 20.0), np.maximum(z, 20.0)
    exact = gammaln(small) - (small - 0.5) * np.log(small) + small - 0.5 * np.log(2 * np.pi)
    series = 1 / (12 * large) - 1 / (360 * large**3) + 1 / (1260 * large**5)
    return np.where(z < 20, exact, series)


def _log_below(a: Floats, b: Floats, x: Floats) -> Floats:
    """Log of P(log odds < x), (..., n_arms, n_nodes), accurate at both ends.

    It goes by the mass on the side of ``x`` that is away from the mean, and never by more than about 0.63 of it. Where
    the rate can no longer be told from 0 or 1, that is the side on which the number keeps its digits; and where that
    number is too small as well, its power in the density is all that is left.
    """
    from scipy.special import betainc, betaln, expit

    x, first, second = x[..., None, :], a[..., None], b[..., None]
    low = x < np.where(np.abs(x) < _ONE_SIDED, _centres(a, b)[0][..., None], 0.0)
    own, other = np.where(low, first, second), np.where(low, second, first)
    mass = betainc(own, other, expit(np.where(low, x, -x)))
    if (np.abs(x) > _FAR).any():
        power = -own * np.abs(x) - betaln(own, other) - np.log(own)
        mass = np.where(np.abs(x) > _FAR, np.exp(np.minimum(power, 0.0)), mass)
    nearest = np.finfo(np.float64)
    log_below: Floats = np.where(
        low, np.log(np.maximum(mass, nearest.tiny)), np.log1p(-np.minimum(mass, 1 - nearest.epsneg))
    )
    return log_below
