"""The plain average effect over all mail sent, for effects that change between epochs.

Every send counts alike, whatever its epoch was worth to the comparison. The logged weights stand in for the arm that a
recipient did not get (augmented inverse-propensity weighting; Robins, Rotnitzky & Zhao 1994), with arm rates that were
known before the epoch, so the estimate has the right mean under any bandit (Hadad et al. 2021, PNAS 118(15)).

The interval is an asymptotic confidence sequence (Waudby-Smith et al. 2024, Annals of Statistics, arXiv 2103.06476; for
bandits 2210.10768): it needs weights that stay away from 0 and successes in both arms, and is offered only then. It is
for the average effect *up to each look*. That average moves when the effect does, so the intervals of earlier looks are
not intersected.

Arrays are (..., n_epochs); the leading axes are pairs of arms, or replications of a simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from abmail._boundary import check_alpha, mixture_bound, mixture_p_value, mixture_rho
from abmail._sequential import LATEST, first_sign, gap, invert, odds_around, picked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abmail._sequential import Pair

    Floats = NDArray[np.float64]

__all__ = ["FEWEST_PER_ARM", "LOWEST_WEIGHT", "AverageEffect", "average_effect"]

LOWEST_WEIGHT = 0.10
"""Weight that both arms need in every epoch for an interval."""

FEWEST_PER_ARM = 50
"""Successes, and failures, that both arms need for an interval."""

_ROUNDING = 2.0**-19  # weights are logged rounded to multiples of 2 ** -20
_LEAST_LOGGED = 2.0**-21  # smaller ones are logged as 0
_DEFAULT_EPOCHS = 25
_UNEVEN = 1.8  # how much weights that move away from the first ones raise the variance, measured under a floor of 0.10
_TYPICAL_VARIANCE = 0.05 * 0.95
_PRIOR_SENDS = 20.0  # how many sends at the pooled rate an arm's rate starts from
_FARTHEST_RATIO = 1 - 1e-12
_SMALLEST_RATIO = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class AverageEffect:
    """Sums of both arms' influence values over all sends so far; arrays (..., n_looks).

    A send's influence value for an arm is the arm's predicted rate, plus, if the send went to that arm, what its
    outcome exceeded the prediction by, divided by the arm's weight. Its mean is the arm's rate, whoever got the send.

    Attributes:
        n: Sends that count: those of epochs in which both arms had a weight.
        sum_a: Sum of arm a's influence values.
        sum_b: Sum of arm b's.
        square_a: Sum of arm a's squared values.
        square_b: Sum of arm b's squared values.
        product: Sum of the products of both.
        rho_a: Arm a's part in the tuning constant, (..., 1), in units of a sum's variance.
        rho_b: Arm b's part.
        status: ``ok`` where an interval is offered; ``low_weight`` where some epoch so far gave an arm less than
            `LOWEST_WEIGHT`, ``too_few`` where an arm has fewer than `FEWEST_PER_ARM` successes or failures.
    """

    n: Floats
    sum_a: Floats
    sum_b: Floats
    square_a: Floats
    square_b: Floats
    product: Floats
    rho_a: Floats
    rho_b: Floats
    status: NDArray[np.str_]

    @property
    def supported(self) -> NDArray[np.bool_]:
        """Whether the look has an interval; otherwise its estimate stands alone."""
        found: NDArray[np.bool_] = self.status == "ok"
        return found

    @property
    def effect(self) -> Floats:
        """Average of p_b - p_a over all sends so far, cut to [-1, 1]; NaN before any send."""
        average: Floats = np.clip(_divide(self.sum_b - self.sum_a, self.n, np.nan), -1.0, 1.0)
        return average

    @property
    def relative(self) -> Floats:
        """Average p_b over average p_a, minus 1; NaN where the average p_a is not positive."""
        ratio: Floats = np.maximum(_divide(self.sum_b, self.sum_a, np.nan), 0.0) - 1
        return ratio

    def estimates(self) -> tuple[Floats, Floats]:
        """Difference and relative difference at the latest look, each (...,)."""
        return self.effect[..., -1], self.relative[..., -1]

    def only(self, pairs: slice) -> AverageEffect:
        """The same of some of the pairs alone."""
        return picked(self, (..., pairs, slice(None)))

    @property
    def standard_error(self) -> Floats:
        """Standard error of the uncut effect; NaN before the second send."""
        return _divide(np.sqrt(self._variance(np.ones_like(self.n))), np.where(self.n > 1, self.n, 0.0), np.nan)

    def p_value(self) -> Floats:
        """Anytime p-value: the smallest of the looks that have an interval, 1 if none has, (...,)."""
        smallest: Floats = self.path().min(axis=-1)
        return smallest

    def proved(self, level: float) -> NDArray[np.int8]:
        """Sign of the first proof up to each look: +1 arm b better, -1 worse, 0 before, (..., n_looks).

        Of the average up to the look of that proof: a later look takes nothing back.
        """
        return first_sign(self.sum_b - self.sum_a, self.path() <= check_alpha(level, "level"))

    def difference(self, level: float) -> tuple[Floats, Floats]:
        """Confidence sequence for the average effect up to each look; (-1, 1) where it is not offered."""
        ones = np.ones_like(self.n)
        radius = mixture_bound(self._variance(ones), self._rho(ones), check_alpha(level, "level"))
        total = self.sum_b - self.sum_a
        ends = (_divide(total - radius, self.n, -1.0), _divide(total + radius, self.n, 1.0))
        low, high = (np.clip(end, -1.0, 1.0) for end in ends)
        return np.where(self.supported, low, -1.0), np.where(self.supported, high, 1.0)

    def lift(self, level: float) -> tuple[Floats, Floats]:
        """Confidence sequence for the ratio of the averages minus 1; from -1 to infinity where it is not offered.

        Holds the ratios under which the sum of p_b - ratio p_a stays inside its own boundary (Fieller's way), so the
        control's noise is never divided by, and the interval excludes 0 exactly when that of the difference does.
        """
        check_alpha(level, "level")

        def fits(odds: Floats) -> Floats:
            ratio = np.maximum(odds / (1 - odds), _SMALLEST_RATIO)
            distance = np.abs(self.sum_b - ratio * self.sum_a) / np.sqrt(ratio)
            return gap(mixture_bound(self._variance(ratio) / ratio, self._rho(ratio) / ratio, level), distance)

        above_a, above_b = np.maximum(self.sum_a, 0.0), np.maximum(self.sum_b, 0.0)
        start = np.minimum(_divide(above_b, above_a + above_b, 0.5), _FARTHEST_RATIO)
        ratio = np.maximum(start / (1 - start), _SMALLEST_RATIO)
        half = mixture_bound(self._variance(ratio), self._rho(ratio), level)
        near = odds_around(start, _divide(half, ratio * self.sum_a, 0.0))
        low, high = invert(fits, start, 0.0, _FARTHEST_RATIO, near=near)
        far = np.where(high < _FARTHEST_RATIO, high / (1 - high) - 1, np.inf)
        return np.where(self.supported, low / (1 - low) - 1, -1.0), np.where(self.supported, far, np.inf)

    def within(self, level: float, mde: float) -> NDArray[np.bool_]:
        """At every look whether the interval lies inside (-mde, mde)."""
        low, high = self.difference(level)
        return (low > -mde) & (high < mde)

    def latest_intervals(self, level: float) -> tuple[Floats, Floats, Floats, Floats]:
        """Ends of the present intervals for the difference and the relative difference, each (...,)."""
        now = picked(self, LATEST)  # earlier looks have no part in it
        low, high, lift_low, lift_high = (end[..., -1] for end in (*now.difference(level), *now.lift(level)))
        return low, high, lift_low, lift_high

    def path(self) -> Floats:
        """Inverse of the mixture martingale at every look, at most 1; 1 where no interval is offered."""
        ones = np.ones_like(self.n)
        path = mixture_p_value(self.sum_b - self.sum_a, self._variance(ones), self._rho(ones))
        return np.where(self.supported, path, 1.0)

    def _variance(self, ratio: Floats) -> Floats:
        """Sum of the squared deviations of b's minus ``ratio`` times a's influence values from their mean."""
        squares = self.square_b - 2 * ratio * self.product + ratio**2 * self.square_a
        total = self.sum_b - ratio * self.sum_a
        return np.maximum(squares - _divide(total**2, self.n, 0.0), 0.0)

    def _rho(self, ratio: Floats) -> Floats:
        return self.rho_b + ratio**2 * self.rho_a


def average_effect(
    pair: Pair, sends: Floats, weight_a: Floats, weight_b: Floats, alpha: float, horizon: float | None
) -> AverageEffect:
    """Estimate the average effect over all sends, also those to other arms.

    The arms' rates are predicted from earlier epochs, shrunk to the pair's pooled rate; 0 in the first epoch, where
    nothing is known. The boundary is tuned by the first epoch's size, weights and pooled rate.

    Args:
        pair: Counts per epoch.
        sends: Sends to all arms of the experiment per epoch, at least those of the pair.
        weight_a: Logged weight of arm a per epoch, fraction in [0, 1] of all arms.
        weight_b: Logged weight of arm b per epoch.
        alpha: Level at which the interval is tightest at the horizon, fraction in (0, 1).
        horizon: Sends to all arms at which a decision is expected; 25 times the first epoch by default.

    Raises:
        ValueError: ``alpha`` is out of range, or an epoch has fewer sends than its two arms together.
    """
    check_alpha(alpha)
    if (sends < pair.n).any():
        raise ValueError("sends hold an epoch with fewer sends than its two arms together")
    return from_rates(pair, sends, (weight_a, weight_b), predicted_rates(pair), _tuning(pair, sends, alpha, horizon))


def predicted_rates(pair: Pair) -> tuple[Floats, Floats]:
    """Each arm's rate in the earlier epochs, shrunk to the pair's pooled rate there; 0 before any send."""
    pooled = _divide(_before(pair.k), _before(pair.n), 0.0)
    rates = (
        (_before(k) + _PRIOR_SENDS * pooled) / (_before(n) + _PRIOR_SENDS)
        for k, n in ((pair.k_a, pair.n_a), (pair.k_b, pair.n_b))
    )
    rate_a, rate_b = rates
    return rate_a, rate_b


def from_rates(
    pair: Pair, sends: Floats, weights: tuple[Floats, Floats], rates: tuple[Floats, Floats], spread: Floats
) -> AverageEffect:
    """The estimate for given predicted rates; ``spread`` is the tuning per unit of 1 / weight, (..., 1)."""
    counted = np.minimum(*weights) > _LEAST_LOGGED
    n = np.where(counted, sends, 0.0)
    (extra_a, square_a), (extra_b, square_b) = (
        _arm(k, arm_n, weight, rate, counted)
        for k, arm_n, weight, rate in zip((pair.k_a, pair.k_b), (pair.n_a, pair.n_b), weights, rates, strict=True)
    )
    m_a, m_b = rates
    parts = (
        n,
        n * m_a + extra_a,
        n * m_b + extra_b,
        n * m_a**2 + 2 * m_a * extra_a + square_a,
        n * m_b**2 + 2 * m_b * extra_b + square_b,
        n * m_a * m_b + m_b * extra_a + m_a * extra_b,
    )
    total, sum_a, sum_b, squares_a, squares_b, product = (part.cumsum(axis=-1) for part in parts)
    first = np.argmax(counted & (sends > 0), axis=-1)[..., None]
    rho_a, rho_b = (spread / np.maximum(np.take_along_axis(w, first, axis=-1), _ROUNDING) for w in weights)
    return AverageEffect(
        n=total,
        sum_a=sum_a,
        sum_b=sum_b,
        square_a=squares_a,
        square_b=squares_b,
        product=product,
        rho_a=rho_a,
        rho_b=rho_b,
        status=_status(pair, sends, weights),
    )


def _arm(k: Floats, n: Floats, weight: Floats, rate: Floats, counted: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Sums over an arm's own sends of (outcome - rate) / weight and of its square."""
    safe = np.where(counted, weight, 1.0)
    extra = np.where(counted, (k - n * rate) / safe, 0.0)
    square = np.where(counted, (k * (1 - rate) ** 2 + (n - k) * rate**2) / safe**2, 0.0)
    return extra, square


def _status(pair: Pair, sends: Floats, weights: tuple[Floats, Floats]) -> NDArray[np.str_]:
    thin = (np.minimum(*weights) < LOWEST_WEIGHT - _ROUNDING) & (sends > 0)
    outcomes = (pair.k_a, pair.k_b, pair.n_a - pair.k_a, pair.n_b - pair.k_b)
    few = np.minimum.reduce([counts.cumsum(axis=-1) for counts in outcomes]) < FEWEST_PER_ARM
    found: NDArray[np.str_] = np.where(
        np.logical_or.accumulate(thin, axis=-1), "low_weight", np.where(few, "too_few", "ok")
    )
    return found


def _tuning(pair: Pair, sends: Floats, alpha: float, horizon: float | None) -> Floats:
    """Variance of the outcomes times the horizon, as the mixture's constant, (..., 1)."""
    first = np.argmax(pair.n > 0, axis=-1)[..., None]
    n, k, size = (np.take_along_axis(part, first, axis=-1) for part in (pair.n, pair.k, sends))
    rate = _divide(k, n, 0.0)
    spread = np.where((k > 0) & (k < n), rate * (1 - rate), _TYPICAL_VARIANCE)
    planned = _DEFAULT_EPOCHS * size if horizon is None else np.full_like(size, horizon)
    return mixture_rho(1.0, alpha) * np.maximum(_UNEVEN * planned * spread, 1.0)


def _before(counts: Floats) -> Floats:
    """Sum over the earlier epochs."""
    return counts.cumsum(axis=-1) - counts


def _divide(top: Floats, bottom: Floats, otherwise: float) -> Floats:
    quotient: Floats = np.full(np.broadcast_shapes(top.shape, bottom.shape), otherwise)
    np.divide(top, bottom, out=quotient, where=bottom > 0)
    return quotient
