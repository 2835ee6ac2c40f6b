"""Fisher's non-central hypergeometric distribution: how a common odds ratio deals an epoch's successes out to two arms.

Given the sends of both arms and all successes, arm b's successes x have probability proportional to
C(n_b, x) C(n_a, k - x) exp(theta x), theta being the log odds ratio; the rates themselves no longer matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["fitted_rates", "log_mgf"]

_LARGEST_SUPPORT = 200  # up to here every outcome is summed
_UNDERFLOW = 1e-290  # sums under it may have lost terms that count
_AT_ONCE = 2**16  # numbers in a work array, small enough to stay in a cache


def log_mgf(n_a: Floats, n_b: Floats, k: Floats, theta: Floats) -> Floats:
    """Log of E exp(theta x) of arm b's successes x when the arms are alike, given the sends and all successes.

    Exact sums where the arms can share the successes out in up to 201 ways. Beyond, the local expansion of the chance
    that two binomials with the fitted rates add up to k (Daniels 1954), to second order: measured within 3e-10 up to
    odds ratios of 3, 1e-8 up to 10 and 1e-6 up to 100, where so many successes leave no doubt anyway.

    Args:
        n_a: Sends of arm a, (n_rows,).
        n_b: Sends of arm b, (n_rows,).
        k: Successes of both arms, (n_rows,).
        theta: Log odds ratios, (n_theta,), |theta| <= 10.

    Returns:
        (n_rows, n_theta), 0 at theta = 0.
    """
    rows, place = _distinct(n_a, n_b, k)
    found = _log_mgf(n_a[rows], n_b[rows], k[rows], theta)
    return found if len(rows) == len(k) else found[place]


def _distinct(n_a: Floats, n_b: Floats, k: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """One row of each kind, and which of these every row is like: waves of one size have few different counts."""
    order = np.lexsort((k, n_b, n_a))
    new = np.ones(len(k), dtype=np.bool_)
    new[1:] = np.logical_or.reduce([part[order[1:]] != part[order[:-1]] for part in (n_a, n_b, k)])
    if new.all():
        return np.arange(len(k)), np.arange(len(k))
    place = np.empty(len(k), dtype=np.intp)
    place[order] = np.cumsum(new) - 1
    return order[new], place


def _log_mgf(n_a: Floats, n_b: Floats, k: Floats, theta: Floats) -> Floats:
    low, high = np.maximum(k - n_a, 0.0), np.minimum(n_b, k)
    result = np.empty((len(k), len(theta)))
    small = high - low <= _LARGEST_SUPPORT
    if small.any():
        result[small] = _by_sum(n_a[small], n_b[small], k[small], theta)
    rows = np.flatnonzero(~small)
    for part in np.array_split(rows, max(1, -(-rows.size * theta.size // _AT_ONCE))):
        result[part] = _by_expansion(n_a[part, None], n_b[part, None], k[part, None], theta)
    return result


def fitted_rates(theta: Floats, mean: Floats, share_b: Floats) -> tuple[Floats, Floats]:
    """The rates p_a and p_b of log odds ratio ``theta`` (also infinite) that keep the pooled mean.

    Args:
        theta: Log odds ratio of arm b against arm a.
        mean: Pooled rate, fraction in [0, 1].
        share_b: Share of arm b in the sends, fraction in [0, 1].
    """
    return _fitted(theta, mean, share_b), _fitted(-theta, mean, 1 - share_b)


def _fitted(theta: Floats, mean: Floats, other: Floats) -> Floats:
    """Rate of the arm whose opponent, with share ``other``, has odds exp(theta) times as high.

    The root of a quadratic: (1 - other) p + other psi p / (1 - p + psi p) = mean, with weights that stay finite.
    """
    from scipy.special import expit

    own, rest, c = expit(-theta), 1 - other, np.tanh(theta / 2)
    b = own + c * (other - mean)
    root = np.sqrt(np.maximum(b**2 + 4 * rest * c * own * mean, 0.0))
    usual = np.divide(2 * own * mean, b + root, out=np.zeros_like(root), where=(b > 0) & (root + b > 0))
    turned = np.divide(root - b, 2 * rest * c, out=usual, where=(b <= 0) & (rest * c > 0))
    return np.clip(turned, 0.0, 1.0)


def _by_sum(n_a: Floats, n_b: Floats, k: Floats, theta: Floats) -> Floats:
    """Over all outcomes, counted from the end of the support towards which theta pulls: no term overflows."""
    low, high = np.maximum(k - n_a, 0.0), np.minimum(n_b, k)
    size = (high - low).astype(np.int64)
    from_low, away = _log_central(n_a, n_b, k, low, size), np.arange(size.max() + 1)
    from_high = np.take_along_axis(from_low, np.abs(size[:, None] - away), axis=1)
    from_high[away > size[:, None]] = -np.inf
    up = theta > 0
    result = np.empty((len(k), len(theta)))
    for towards, end, log_chance in ((up, high, from_high), (~up, low, from_low)):
        pull = np.abs(theta[towards])
        result[:, towards] = end[:, None] * theta[towards] + _log_transform(log_chance, pull)
    return result


def _log_transform(log_chance: Floats, pull: Floats) -> Floats:
    """Log of the sum of chances times exp(-pull d) over d = 0, 1, ..., (n_rows, n_pulls), pull >= 0."""
    away = np.arange(log_chance.shape[1])
    total = np.exp(log_chance) @ np.exp(-away[:, None] * pull)
    lost = total < _UNDERFLOW
    result: Floats = np.log(total, out=np.zeros_like(total), where=~lost)
    rows, columns = np.nonzero(lost)
    for part in np.array_split(np.arange(rows.size), -(-rows.size * away.size // _AT_ONCE)) if rows.size else ():
        terms = log_chance[rows[part]] - away * pull[columns[part], None]
        peak = terms.max(axis=1, keepdims=True)
        result[rows[part], columns[part]] = peak[:, 0] + np.log(np.exp(terms - peak).sum(axis=1))
    return result


def _log_central(n_a: Floats, n_b: Floats, k: Floats, low: Floats, size: NDArray[np.int64]) -> Floats:
    """Log chances of the outcomes low, low + 1, ... when the arms are alike, (n_rows, longest); -inf past the end.

    From the ratios of neighbours, so that no logarithm of a huge factorial is needed.
    """
    step = np.arange(1, size.max(initial=0) + 1)
    x = low[:, None] + step
    within = step <= size[:, None]
    up = np.where(within, (n_b[:, None] - x + 1) * (k[:, None] - x + 1), 1.0)
    down = np.where(within, x * (n_a[:, None] - k[:, None] + x), 1.0)
    log_chance = np.concatenate((np.zeros((len(k), 1)), np.cumsum(np.log(up / down), axis=1)), axis=1)
    log_chance[:, 1:][~within] = -np.inf
    log_chance -= log_chance.max(axis=1, keepdims=True)
    total: Floats = np.log(np.exp(log_chance).sum(axis=1, keepdims=True))
    return log_chance - total


def _by_expansion(n_a: Floats, n_b: Floats, k: Floats, theta: Floats) -> Floats:
    """The sum over outcomes is a chance of k successes in both arms, which hardly depends on theta, and its factors."""
    n = n_a + n_b
    mean, share_b = k / n, n_b / n
    p_a, p_b = fitted_rates(theta, mean + 0 * theta, share_b + 0 * theta)
    q_a, q_b = fitted_rates(-theta, 1 - mean + 0 * theta, share_b + 0 * theta)
    odds = np.log(p_a / mean) - np.log(q_a / (1 - mean))
    factors = n_a * np.log(q_a / (1 - mean)) + n_b * np.log(q_b / (1 - mean)) + k * odds
    even = _log_chance_of_mean(n_a, n_b, mean, mean, 1 - mean, 1 - mean)
    log_mean: Floats = _log_chance_of_mean(n_a, n_b, p_a, p_b, q_a, q_b) - even - factors
    return log_mean


def _log_chance_of_mean(n_a: Floats, n_b: Floats, p_a: Floats, p_b: Floats, q_a: Floats, q_b: Floats) -> Floats:
    """Log of P(sum of two binomials = its mean) times sqrt(2 pi), by the Edgeworth series at the centre."""
    v, k3, k4, k5, k6 = (
        one + other for one, other in zip(_cumulants(n_a, p_a, q_a), _cumulants(n_b, p_b, q_b), strict=True)
    )
    s3, s4, s5, s6 = k3**2 / v**3, k4 / v**2, k3 * k5 / v**4, k6 / v**3
    first = s4 / 8 - 5 * s3 / 24
    second = -s6 / 48 + 35 * s4**2 / 384 + 7 * s5 / 48 - 35 * s3 * s4 / 64 + 385 * s3**2 / 1152
    log_chance: Floats = -0.5 * np.log(v) + first + (second - first**2 / 2)
    return log_chance


def _cumulants(n: Floats, p: Floats, q: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Cumulants 2 to 6 of a binomial count."""
    v, w = n * p * q, p * q
    return v, v * (q - p), v * (1 - 6 * w), v * (q - p) * (1 - 12 * w), v * (1 - 30 * w + 120 * w**2)
