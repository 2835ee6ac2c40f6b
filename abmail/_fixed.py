"""Comparing two arms once: the score test and intervals that invert it.

The tested rates are constrained maximum-likelihood estimates under the hypothesis (Mee 1984 for the difference;
Miettinen & Nurminen 1985, Stat Med 4:213, for the difference and the ratio, with the factor N / (N - 1)). Newcombe's
hybrid interval (1998, Stat Med 17:873, method 10) puts two Wilson intervals together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from abmail._boundary import obrien_fleming
from abmail._sequential import gap, invert, odds_around, picked, ratio_or_nan, ratio_or_zero

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abmail._sequential import Pair

    Floats = NDArray[np.float64]

__all__ = ["ScoreTest", "newcombe_interval", "wilson_interval"]

_FARTHEST_ODDS = 1 - 1e-12


@dataclass(frozen=True)
class ScoreTest:
    """The pooled score test of arm b against arm a on the summed counts, (..., 1), and its intervals.

    ``corrected`` intervals carry Miettinen and Nurminen's N / (N - 1); without it (Mee) the interval excludes 0 exactly
    when the test rejects.
    """

    pair: Pair
    corrected: bool = True

    @cached_property
    def _rates(self) -> tuple[Floats, Floats]:
        """Rates of a and b, 0 where an arm got nobody."""
        return ratio_or_zero(self.pair.k_a, self.pair.n_a), ratio_or_zero(self.pair.k_b, self.pair.n_b)

    @cached_property
    def _known_effect(self) -> Floats:
        """The difference, 0 where an arm got nobody."""
        rate_a, rate_b = self._rates
        return np.where((self.pair.n_a > 0) & (self.pair.n_b > 0), rate_b - rate_a, 0.0)

    @cached_property
    def _inflation(self) -> Floats:
        """Miettinen and Nurminen's factor of the standard deviation."""
        n = self.pair.n
        return np.sqrt(n / np.maximum(n - 1, 1.0)) if self.corrected else np.ones_like(n)

    @cached_property
    def effect(self) -> Floats:
        """Difference of the two rates; NaN where an arm got nobody."""
        return np.where((self.pair.n_a > 0) & (self.pair.n_b > 0), self._known_effect, np.nan)

    @cached_property
    def relative(self) -> Floats:
        """Relative difference of the two rates; NaN where arm a has no success."""
        rate_a, rate_b = self._rates
        return np.where(self.pair.n_b > 0, ratio_or_nan(rate_b, rate_a) - 1, np.nan)

    def estimates(self) -> tuple[Floats, Floats]:
        """Difference and relative difference at the latest look, each (...,)."""
        return self.effect[..., -1], self.relative[..., -1]

    def only(self, pairs: slice) -> ScoreTest:
        """The same of some of the pairs alone."""
        return ScoreTest(picked(self.pair, (..., pairs, slice(None))), self.corrected)

    @cached_property
    def z(self) -> Floats:
        """Pooled z score; 0 where there is no variance."""
        pair = self.pair
        pooled = ratio_or_zero(pair.k, pair.n)
        sd = np.sqrt(pooled * (1 - pooled))
        return ratio_or_zero(np.sqrt(pair.h) * self._known_effect, sd)

    def p_value(self) -> Floats:
        """Two-sided p-value, (...,)."""
        from scipy.special import erfc

        tail: Floats = np.asarray(erfc(np.abs(self.z[..., -1]) / math.sqrt(2)), dtype=np.float64)
        return tail

    def proved(self, level: float) -> NDArray[np.int8]:
        """+1 where arm b is better at a two-sided ``level``, -1 where worse, 0 otherwise, (..., 1)."""
        z = self.z
        return np.where((np.abs(z) >= obrien_fleming(1, level)) & self.pair.ready(), np.sign(z), 0.0).astype(np.int8)

    def within(self, level: float, mde: float) -> NDArray[np.bool_]:
        """Whether the interval lies inside (-mde, mde)."""
        low, high = self.difference(level)
        return (low > -mde) & (high < mde)

    def difference(self, level: float) -> tuple[Floats, Floats]:
        """Interval for p_b - p_a; (-1, 1) where an arm got nobody."""
        pair, allowed, both = self.pair, self._allowed(level), np.sqrt(self.pair.n_a * self.pair.n_b)
        effect, (rate_a, rate_b) = self._known_effect, self._rates

        def fits(delta: Floats) -> Floats:
            p_a = np.minimum(
                np.maximum(_constrained_rate(pair, delta), np.maximum(-delta, 0.0)), np.minimum(1 - delta, 1.0)
            )
            p_b = np.minimum(np.maximum(p_a + delta, 0.0), 1.0)
            noise = p_b * (1 - p_b) * pair.n_a + p_a * (1 - p_a) * pair.n_b  # times n_a n_b, which may be 0
            return gap(allowed * np.sqrt(noise), np.abs(effect - delta) * both)

        spread = ratio_or_zero(rate_a * (1 - rate_a), pair.n_a) + ratio_or_zero(rate_b * (1 - rate_b), pair.n_b)
        half = allowed * np.sqrt(spread)
        ends = invert(fits, effect, -1.0, 1.0, near=(effect - half, effect + half))
        return _unknown_if_empty(pair, ends, -1.0, 1.0)

    def lift(self, level: float) -> tuple[Floats, Floats]:
        """Interval for p_b / p_a - 1; from -1 to infinity where an arm got nobody."""
        pair, allowed, both = self.pair, self._allowed(level), np.sqrt(self.pair.n_a * self.pair.n_b)
        rate_a, rate_b = self._rates

        def fits(odds: Floats) -> Floats:
            ratio = odds / (1 - odds)
            p_a = _constrained_base(pair, ratio)
            p_b = np.minimum(ratio * p_a, 1.0)
            noise = p_b * (1 - p_b) * pair.n_a + ratio**2 * p_a * (1 - p_a) * pair.n_b
            return gap(allowed * np.sqrt(noise), np.abs(rate_b - ratio * rate_a) * both)

        both_rates = rate_a + rate_b
        start = np.where(both_rates > 0, ratio_or_zero(rate_b, both_rates), 0.5)
        spread = ratio_or_zero(1 - rate_a, pair.k_a) + ratio_or_zero(1 - rate_b, pair.k_b)  # of the log ratio (Katz)
        near = odds_around(start, allowed * np.sqrt(spread))
        low, high = invert(fits, np.minimum(start, _FARTHEST_ODDS), 0.0, _FARTHEST_ODDS, near=near)
        far = np.where(high < _FARTHEST_ODDS, high / (1 - high) - 1, np.inf)
        return _unknown_if_empty(pair, (low / (1 - low) - 1, far), -1.0, np.inf)

    def latest_intervals(self, level: float) -> tuple[Floats, Floats, Floats, Floats]:
        """Ends of the intervals for the difference and the relative difference, each (...,)."""
        low, high, lift_low, lift_high = (end[..., -1] for end in (*self.difference(level), *self.lift(level)))
        return low, high, lift_low, lift_high

    def _allowed(self, level: float) -> Floats:
        """How many standard deviations the difference may be off."""
        return obrien_fleming(1, level) * self._inflation


def wilson_interval(successes: int, n: int, *, alpha: float = 0.05) -> tuple[float, float]:
    """Wilson's score interval for one rate (Wilson 1927), for guardrails and single rates.

    Args:
        successes: ``0 <= successes <= n``.
        n: Sends, at least 1.
        alpha: Two-sided level, fraction in (0, 1).

    Returns:
        Lower and upper end, fractions in [0, 1].

    Raises:
        ValueError: A count or the level is out of range.

    Example:
        >>> low, high = wilson_interval(81, 263)
        >>> round(low, 4), round(high, 4)
        (0.2553, 0.3662)
    """
    if not (n >= 1 and 0 <= successes <= n):
        raise ValueError(f"successes are {successes} of {n} sends, must be 0 <= successes <= n with n >= 1")
    z2 = obrien_fleming(1, alpha) ** 2
    centre, half = successes + z2 / 2, math.sqrt(z2 * (successes * (n - successes) / n + z2 / 4))
    return max((centre - half) / (n + z2), 0.0), min((centre + half) / (n + z2), 1.0)


def newcombe_interval(control: tuple[int, int], arm: tuple[int, int], *, alpha: float = 0.05) -> tuple[float, float]:
    """Newcombe's hybrid score interval for the difference of two rates, compared once (Newcombe 1998, method 10).

    Args:
        control: Successes and sends of the control.
        arm: Successes and sends of the arm.
        alpha: Two-sided level, fraction in (0, 1).

    Returns:
        Lower and upper end for the arm's rate minus the control's, in [-1, 1].

    Raises:
        ValueError: A count or the level is out of range.
    """
    (low_a, high_a), (low_b, high_b) = wilson_interval(*control, alpha=alpha), wilson_interval(*arm, alpha=alpha)
    p_a, p_b = control[0] / control[1], arm[0] / arm[1]
    effect = p_b - p_a
    return effect - math.hypot(p_b - low_b, high_a - p_a), effect + math.hypot(high_b - p_b, p_a - low_a)


def _constrained_rate(pair: Pair, delta: Floats) -> Floats:
    """Maximum-likelihood p_a given p_b - p_a = delta: the middle root of a cubic (Miettinen & Nurminen 1985)."""
    n = np.maximum(pair.n, 1.0)
    share_a, rate, rate_a = pair.n_a / n, pair.k / n, pair.k_a / n
    third = ((1 + share_a) * delta - 1 - rate) / 3
    square = third * third
    l1 = (share_a * delta - 1 - 2 * rate_a) * delta + rate
    c = square * third + (rate_a * delta * (1 - delta) - l1 * third) / 2
    b = np.sqrt(np.maximum(square - l1 / 3, 0.0))
    cosine = np.minimum(ratio_or_zero(np.abs(c), b * b * b), 1.0)
    root: Floats = np.copysign(2 * b, c) * np.cos((math.pi + np.arccos(cosine)) / 3) - third
    return root


def _constrained_base(pair: Pair, ratio: Floats) -> Floats:
    """Maximum-likelihood p_a given p_b = ratio p_a: the smaller root of a quadratic, without cancelling."""
    n, k = pair.n, pair.k
    linear = (pair.n_b + pair.k_a) * ratio + pair.k_b + pair.n_a
    rest = linear + np.sqrt(np.maximum(linear * linear - 4 * n * ratio * k, 0.0))
    return np.minimum(ratio_or_zero(2 * k, rest), 1 / np.maximum(ratio, 1.0))


def _unknown_if_empty(
    pair: Pair, interval: tuple[Floats, Floats], lowest: float, highest: float
) -> tuple[Floats, Floats]:
    empty = (pair.n_a == 0) | (pair.n_b == 0)
    return np.where(empty, lowest, interval[0]), np.where(empty, highest, interval[1])
