"""Two arms, two outcomes, margins given: what the successes say of the odds ratio, exactly.

Given an epoch's arm sizes and its successes over both arms, the successes of arm b follow Fisher's non-central
hypergeometric distribution, which depends on nothing but the odds ratio: base rates may be anything, and the sends may
follow any bandit. Likelihood ratios of such epochs multiply to e-processes without an approximation (Turner & Grünwald
2023, arXiv 2302.11401). Given also the total over several segments, even the common odds ratio drops out (Zelen 1971,
Biometrika 58:129), and what is left speaks only of differences between the segments.

Arrays of a `Pair` are (..., n_epochs), or (..., n_segments, n_epochs) where segments are compared.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from abmail._sequential import Pair, ratio_or_nan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "breslow_day",
    "excess_evidence",
    "fitted_successes",
    "homogeneity_evidence",
    "log_odds_ratio",
    "stratified_difference",
]

_TILTS = np.geomspace(0.01, 3.0, 28)  # log odds ratios that the mixtures weigh evenly: 1 % more odds to twentyfold
_PARTS = ("n_a", "k_a", "n_b", "k_b")
_FARTHEST_TILT = 25.0
_HALVINGS = 60
_BUDGET = 2_000_000  # numbers in one temporary array
_REACH = 12.0  # standard deviations of a window that holds a hypergeometric distribution
_SAFE_EXPONENT = 600.0  # exp of it neither overflows nor lets a probability that matters underflow
_SPARE = 30  # successes added to that window: short tails are those of a Poisson distribution
_NOTHING = 1e-13  # conditional probabilities below this share of the largest one drown in the transform's rounding


def stratified_difference(pair: Pair) -> Floats:
    """Mantel-Haenszel difference of the rates p_b - p_a over the epochs, (...,); NaN where nothing compares."""
    h = pair.h
    gap = np.nan_to_num(ratio_or_nan(pair.k_b, pair.n_b)) - np.nan_to_num(ratio_or_nan(pair.k_a, pair.n_a))
    return ratio_or_nan((h * gap).sum(axis=-1), h.sum(axis=-1))


def log_odds_ratio(pair: Pair) -> tuple[Floats, Floats]:
    """Mantel-Haenszel log odds ratio of arm b against arm a over the epochs, and its variance, two (...,) arrays.

    Variance of Robins, Breslow & Greenland (1986, Biometrics 42:311). Where one of the two sums is empty (an arm
    without a success, say), Peto's one-step estimate takes its place (Yusuf et al. 1985). Both are NaN without any
    variance.
    """
    n = pair.n
    failed_a, failed_b = pair.n_a - pair.k_a, pair.n_b - pair.k_b
    up, down = _over(pair.k_b * failed_a, n), _over(pair.k_a * failed_b, n)
    with_up, with_down = _over(pair.k_b + failed_a, n), _over(pair.k_a + failed_b, n)
    r, s = up.sum(axis=-1), down.sum(axis=-1)
    known = (r > 0) & (s > 0)
    r_, s_ = np.where(known, r, 1.0), np.where(known, s, 1.0)
    variance = (
        (with_up * up).sum(axis=-1) / r_**2
        + (with_up * down + with_down * up).sum(axis=-1) / (r_ * s_)
        + (with_down * down).sum(axis=-1) / s_**2
    ) / 2
    peto, information = _one_step(pair)
    return np.where(known, np.log(r_ / s_), peto), np.where(known, variance, ratio_or_nan(np.ones_like(r), information))


def _one_step(pair: Pair) -> tuple[Floats, Floats]:
    """Peto's log odds ratio and the hypergeometric information behind it."""
    n, k = pair.n, pair.k
    gap = (pair.k_b - _over(k * pair.n_b, n)).sum(axis=-1)
    information = (_over(pair.h * k, n) * _over(n - k, n - 1)).sum(axis=-1)
    return ratio_or_nan(gap, information), information


def fitted_successes(n_a: Floats, n_b: Floats, k: Floats, odds: Floats) -> Floats:
    """Successes of arm b that make the table's odds ratio ``odds`` while its margins stay."""
    linear = odds * (k + n_b) + n_a - k
    root = np.sqrt(np.maximum(linear**2 - 4 * (odds - 1) * odds * k * n_b, 0.0))
    plain = _over(2 * odds * k * n_b, linear + root)
    turned = _over(root - linear, 2 * (1 - odds))  # the same without cancelling, where odds < 1
    low, high = _support(n_a, n_b, k)
    return np.clip(np.where(linear < 0, turned, plain), low, high)


def _support(n_a: Floats, n_b: Floats, k: Floats) -> tuple[Floats, Floats]:
    return np.maximum(k - n_a, 0.0), np.minimum(k, n_b)


def _spread(n_a: Floats, n_b: Floats, k: Floats, x: Floats) -> Floats:
    """Variance of arm b's successes around ``x``, exact at an odds ratio of 1; 0 where a cell is empty."""
    cells = np.stack([x, n_b - x, k - x, n_a - k + x])
    solid = (cells > 1e-9).all(axis=0)
    inverse = np.divide(1.0, cells, out=np.ones_like(cells), where=cells > 1e-9).sum(axis=0)
    n = n_a + n_b
    return np.where(solid, _over(n, n - 1) / inverse, 0.0)


# --- One arm against another ------------------------------------------------------------------------------------------


def excess_evidence(pair: Pair, log_odds: Floats | float = 0.0) -> Floats:
    """Log of an e-process against "the odds ratio of arm b to arm a is at most exp(``log_odds``)", (..., n_epochs).

    In every epoch the likelihood of a larger odds ratio is divided by that of ``log_odds``; the products over the
    epochs are mixed over larger odds ratios, evenly on the log scale. A smaller true odds ratio only lowers the
    expectation, for the likelihood ratio grows with arm b's successes. Exact for any counts.
    """
    shape = pair.n.shape
    base = np.broadcast_to(np.asarray(log_odds, dtype=np.float64), shape)
    n_a, n_b, k, k_b, theta = (part.reshape(-1) for part in (pair.n_a, pair.n_b, pair.k, pair.k_b, base))
    first, last, step = _window(n_a, n_b, k, theta)
    steps = np.zeros((len(theta), len(_TILTS)))
    for batch in _batches(np.flatnonzero(last > first), (last - first) / step + 1):
        margins = n_a[batch, None], n_b[batch, None], k[batch, None]
        beyond = step[batch, None] * np.arange(int(((last - first) / step)[batch].max()) + 1)
        x = first[batch, None] + beyond
        log_p = _log_ways(*margins, x, x <= last[batch, None]) + theta[batch, None] * beyond
        log_p -= _log_sum_exp(log_p)[:, None]
        steps[batch] = _TILTS * (k_b - first)[batch, None] - _log_moments(log_p, beyond, _TILTS)
    return _log_mean_exp(steps.reshape(*shape, len(_TILTS)).cumsum(axis=-2))


def _window(n_a: Floats, n_b: Floats, k: Floats, base: Floats) -> tuple[Floats, Floats, Floats]:
    """Which successes of arm b matter for any tilt beyond ``base``: first, last and step, (n_cells,) each.

    Where the distribution is wide, points are left out evenly: a sum over a smooth bell in steps of a quarter of its
    standard deviation is exact to far beyond double precision.
    """
    low, high = _support(n_a, n_b, k)
    ends = [fitted_successes(n_a, n_b, k, np.exp(base + tilt)) for tilt in (0.0, _TILTS[-1])]
    sds = [np.sqrt(_spread(n_a, n_b, k, end)) for end in ends]
    first = np.maximum(low, np.floor(ends[0] - _REACH * sds[0] - _SPARE))
    last = np.minimum(high, np.ceil(ends[1] + _REACH * sds[1] + _SPARE))
    return first, last, np.maximum(np.floor(np.minimum(*sds) / 4), 1.0)


def _log_ways(n_a: Floats, n_b: Floats, k: Floats, x: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Log number of ways to have ``x`` of the successes in arm b, up to a constant; minus infinity outside."""
    from scipy.special import gammaln

    at = np.where(inside, x, _support(n_a, n_b, k)[0])
    ways = gammaln(at + 1) + gammaln(n_b - at + 1) + gammaln(k - at + 1) + gammaln(n_a - k + at + 1)
    return np.where(inside, -ways, -np.inf)


# --- Segments against each other --------------------------------------------------------------------------------------


def breslow_day(pair: Pair, *, tarone: bool = True) -> tuple[float, int] | None:
    """Breslow & Day's chi-square for equal odds ratios in all segments, with its degrees of freedom; for one look.

    The deviations from the tables fitted at the common Mantel-Haenszel odds ratio are summed over a segment's epochs;
    with a single epoch this is the textbook's test (Breslow & Day 1980, eq. 4.30), with Tarone's correction (1985,
    Biometrika 72:91).

    Args:
        pair: Counts, (n_segments, n_epochs).
        tarone: Whether to subtract Tarone's correction.

    Returns:
        Statistic and degrees of freedom; None with fewer than two segments that have something to compare, or without a
        common odds ratio.
    """
    parts = pair.n_a, pair.n_b, pair.k
    common = log_odds_ratio(Pair(**{name: getattr(pair, name).reshape(-1) for name in _PARTS}))[0]
    if not np.isfinite(common):
        return None
    expected = fitted_successes(*parts, np.exp(common))
    asymptotic = _spread(*parts, expected) * _over(pair.n - 1, pair.n)
    variance, gap = asymptotic.sum(axis=-1), (pair.k_b - expected).sum(axis=-1)
    live = variance > 0
    if live.sum() < 2:
        return None
    variance, gap = variance[live], gap[live]
    surplus = gap.sum() ** 2 / variance.sum() if tarone else 0.0
    return max(float((gap**2 / variance).sum() - surplus), 0.0), len(gap) - 1


def homogeneity_evidence(pair: Pair) -> Floats:
    """Log e-processes against "all segments share one odds ratio in every epoch", (..., n_segments, n_epochs).

    Given arm b's successes over all segments of an epoch, those of one segment don't depend on the shared odds ratio,
    whatever it is and however it changes between epochs. Each segment's process weighs an odds ratio of its own, above
    or below that of the others, against none. The distribution of the rest is a convolution, by Fourier transform.

    Args:
        pair: Counts, (..., n_segments, n_epochs).
    """
    n_segments, n_epochs = pair.n.shape[-2:]
    n_a, n_b, k, k_b = (
        np.moveaxis(part, -2, -1).reshape(-1, n_segments) for part in (pair.n_a, pair.n_b, pair.k, pair.k_b)
    )
    shared = _shared_log_odds(n_a, n_b, k, k_b.sum(axis=-1))
    expected = fitted_successes(n_a, n_b, k, np.exp(shared))
    spread = _spread(n_a, n_b, k, expected)
    seen = k_b - np.round(expected)
    reach = np.ceil(9 * np.sqrt(spread.sum(axis=-1)) + np.abs(seen.sum(axis=-1))) + _SPARE
    tilts = np.concatenate((-_TILTS[::-1], _TILTS))
    steps = np.zeros((*k.shape, len(tilts)))
    for batch in _batches(_comparing(n_a, n_b, k, k_b), 2 * n_segments * reach):
        half = int(reach[batch].max())
        own = min(half, int(9 * math.sqrt(spread[batch].max())) + _SPARE)
        margins = n_a[batch], n_b[batch], k[batch]
        centre, left = (k_b - seen)[batch], seen[batch].sum(axis=-1)
        log_p, deviation = _given_total(margins, shared[batch], centre, left, own, half)
        steps[batch] = tilts * seen[batch][..., None] - _log_moments(log_p, deviation, tilts)
    paths = steps.reshape(*pair.n.shape[:-2], n_epochs, n_segments, len(tilts)).cumsum(axis=-3)
    by_segment: Floats = np.moveaxis(_log_mean_exp(paths), -1, -2)
    return by_segment


def _comparing(n_a: Floats, n_b: Floats, k: Floats, k_b: Floats) -> NDArray[np.intp]:
    """Epochs whose total leaves open in which segments arm b had its successes."""
    low, high = _support(n_a, n_b, k)
    total = k_b.sum(axis=-1)
    several = (low < high).sum(axis=-1) > 1
    return np.flatnonzero(several & (total > low.sum(axis=-1)) & (total < high.sum(axis=-1)))


def _shared_log_odds(n_a: Floats, n_b: Floats, k: Floats, total: Floats) -> Floats:
    """The log odds ratio under which arm b's expected successes over the segments are ``total``, (n_cells, 1)."""
    low: Floats = np.full((len(total), 1), -_FARTHEST_TILT)
    high: Floats = -low
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        short = fitted_successes(n_a, n_b, k, np.exp(middle)).sum(axis=-1, keepdims=True) < total[:, None]
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return (low + high) / 2


def _given_total(
    margins: tuple[Floats, Floats, Floats], log_odds: Floats, centre: Floats, left: Floats, own: int, half: int
) -> tuple[Floats, Floats]:
    """Log distribution of each segment's successes in arm b given their total, (n_cells, n_segments, n_points).

    Args:
        margins: Sends of arm a, of arm b, and successes, (n_cells, n_segments) each.
        log_odds: A log odds ratio that makes the total likely, (n_cells, 1); any would do.
        centre: What the points count from, (n_cells, n_segments).
        left: Total beyond the sum of the centres, (n_cells,).
        own: Farthest deviation of a segment.
        half: Farthest deviation of a sum over segments.

    Returns:
        The distribution, and the deviations from ``centre`` that it is for, (n_points,).
    """
    deviation = np.arange(-own, own, dtype=np.float64)
    low, high = (end[..., None] for end in _support(*margins))
    x = centre[..., None] + deviation
    n_a, n_b, k = (part[..., None] for part in margins)
    log_p = _log_ways(n_a, n_b, k, x, (x >= low) & (x <= high))
    log_p = log_p + log_odds[..., None] * deviation
    p = np.exp(log_p - _log_sum_exp(log_p)[..., None])
    rest = _sum_of_others(p, 2 * half)
    lowest = -own * (p.shape[1] - 1)  # of a sum of the others
    needed = (left[:, None] - deviation - lowest).astype(np.intp) % (2 * half)
    given = p * np.take_along_axis(rest, needed[:, None, :], axis=-1)
    given[given < _NOTHING * given.max(axis=-1, keepdims=True)] = 0.0
    log_given = np.log(given, out=np.full_like(given, -np.inf), where=given > 0)
    used = np.flatnonzero((given > 0).any(axis=(0, 1)))
    span = slice(int(used[0]), int(used[-1]) + 1)
    return (log_given - _log_sum_exp(log_given)[..., None])[..., span], deviation[span]


def _sum_of_others(p: Floats, length: int) -> Floats:
    """Distribution of the sum over all segments but one, for each, (n_cells, n_segments, length), wrapped around.

    Points count from the lowest of each segment, so those of a sum of others do from (n_segments - 1) times that.
    """
    waves = np.fft.rfft(p, n=length, axis=-1)
    others = np.ones_like(waves)
    others[:, 1:] = np.cumprod(waves[:, :-1], axis=1)
    others[:, :-1] *= np.cumprod(waves[:, :0:-1], axis=1)[:, ::-1]
    return np.maximum(np.fft.irfft(others, n=length, axis=-1), 0.0)


def _batches(cells: NDArray[np.intp], size: Floats) -> Iterator[NDArray[np.intp]]:
    """The cells in groups of similar size, each of which fits the budget when all are as large as its largest."""
    order = cells[np.argsort(size[cells], kind="stable")]
    start = 0
    while start < len(order):
        needed = size[order[start:]] * np.arange(1, len(order) - start + 1)
        stop = start + max(1, int(np.searchsorted(needed, _BUDGET)))
        yield order[start:stop]
        start = stop


def _log_moments(log_p: Floats, points: Floats, tilts: Floats) -> Floats:
    """Log of the sum of p exp(tilt point) over the last axis, for every tilt, (..., n_tilts).

    Args:
        log_p: (..., n_points).
        points: (n_points,), or as ``log_p``.
        tilts: (n_tilts,).
    """
    shared = points.reshape(-1, points.shape[-1])
    if np.abs(tilts).max() * np.abs(shared).max() < _SAFE_EXPONENT and (shared == shared[0]).all():
        moments: Floats = np.log(np.exp(log_p) @ np.exp(shared[0][:, None] * tilts))
        return moments
    return np.stack([_log_sum_exp(log_p + tilt * points) for tilt in tilts], axis=-1)


def _log_sum_exp(values: Floats) -> Floats:
    """Log of the summed exponentials over the last axis, without overflow."""
    top = values.max(axis=-1, keepdims=True)
    total: Floats = np.log(np.exp(values - top).sum(axis=-1)) + top[..., 0]
    return total


def _log_mean_exp(values: Floats) -> Floats:
    mean: Floats = _log_sum_exp(values) - math.log(values.shape[-1])
    return mean


def _over(top: Floats, bottom: Floats) -> Floats:
    """``top / bottom``, 0 where ``bottom`` is not positive."""
    quotient: Floats = np.zeros(np.broadcast_shapes(top.shape, bottom.shape))
    np.divide(top, bottom, out=quotient, where=bottom > 0)
    return quotient
