"""Comparing the means of two arms: once, at planned looks, or at any time.

Arrays are (..., n_epochs); the leading axes are pairs of arms, or replications of a simulation. As in `_sequential`,
the difference of two means in an epoch has mean zero given the past when the arms are alike, whatever the bandit did.

`OneLook` is Welch's test (Welch 1947) on one epoch. `PlannedLooks` weighs the epochs as planned: a Gaussian walk on a
known clock. `AnyLook` weighs them by size under a normal mixture with estimated variances, an asymptotic confidence
sequence (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, arXiv 2103.06476). Intervals for a lift invert the same
statistic for m_b - ratio m_a (Fieller 1954): nothing is divided by the control's noisy mean.

Three things keep heavy tails and drifting levels from doing harm. An epoch's variance is its own: that of all values
of the pair, which makes the difference standard over all ways to split them, whatever drifts. An arm's variance is what
its values so far were relative to that, but never less: where a bandit starves an arm because its few large values have
not come yet, the arm's own variance is low for the same reason as its mean; that alone raised 15 % false alarms. And
the weight of an epoch does not depend on its own values, else an epoch with a large order would count less, and with it
the effect: planned epochs are brought to a common scale by the variance of the five epochs before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from abmail._boundary import crossing_probability, mixture_bound, mixture_p_value, mixture_rho, obrien_fleming
from abmail._sequential import gap, invert, ratio_or_nan, ratio_or_zero, spend

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abmail._later import Later

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]

__all__ = [
    "FEWEST_UNITS",
    "AnyLook",
    "MeanPair",
    "MeanTest",
    "OneLook",
    "PlannedLooks",
    "any_look",
    "one_look",
    "planned",
]

FEWEST_UNITS: Final = 30
"""Units that both arms need in an epoch for it to count (in a single look: for a claim)."""

_DEFAULT_EPOCHS: Final = 25  # the horizon assumed by the mixture when none was given
_ROUNDS: Final = 20
_ENOUGH: Final = 1e-13
_ROUNDING: Final = 1e-12  # a standard deviation below this share of the mean is nothing but rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanPair:
    """A reference arm a and another arm b, each (..., n_epochs): units, means, and sums of squares around them.

    ``level`` is the variance that all arms of the experiment had before an epoch: see `Cells`. One look has no use for
    it.
    """

    n_a: Floats
    value_a: Floats
    scatter_a: Floats
    n_b: Floats
    value_b: Floats
    scatter_b: Floats
    level: Later[Floats]

    @property
    def gap(self) -> Floats:
        """Difference of the means m_b - m_a."""
        return self.value_b - self.value_a

    @property
    def size(self) -> Floats:
        """Harmonic size n_a n_b / (n_a + n_b), 0 where an arm got nobody."""
        return ratio_or_zero(self.n_a * self.n_b, self.n_a + self.n_b)

    def counted(self) -> Flags:
        """Epochs in which both arms have enough units."""
        enough: Flags = np.minimum(self.n_a, self.n_b) >= FEWEST_UNITS
        return enough

    def variance(self) -> Floats:
        """Variance of all values of the pair in an epoch; 0 where nothing varies."""
        squares = self.scatter_a + self.scatter_b + self.size * self.gap**2
        variance = ratio_or_zero(squares, self.n_a + self.n_b - 1)
        least = (_ROUNDING * np.maximum(np.abs(self.value_a), np.abs(self.value_b))) ** 2
        return np.where(variance > least, variance, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanTest(ABC):
    """What every method answers about pairs of arms: sums over the epochs so far, (..., n_looks), with weights g.

    Attributes:
        gap: Sum of g (m_b - m_a).
        top_a: Sum of g m_a.
        top_b: Sum of g m_b.
        scale: Sum of g.
        noise_a: Variance of the sum of g m_a.
        noise_b: Variance of the sum of g m_b.
    """

    gap: Floats
    top_a: Floats
    top_b: Floats
    scale: Floats
    noise_a: Floats
    noise_b: Floats

    @property
    def effect(self) -> Floats:
        """Weighted mean difference m_b - m_a; NaN where no epoch counts."""
        return ratio_or_nan(self.gap, self.scale)

    @property
    def se(self) -> Floats:
        """Standard error of the effect; NaN where no epoch counts or nothing varies."""
        noise = self.noise_a + self.noise_b
        return ratio_or_nan(np.sqrt(np.where(noise > 0, noise, np.nan)), self.scale)

    @property
    def z(self) -> Floats:
        """Effect in standard errors; 0 where there is no answer."""
        return ratio_or_zero(self.gap, np.sqrt(self.noise_a + self.noise_b))

    @abstractmethod
    def p_value(self) -> Floats:
        """Two-sided p-value, (...,); 1 where there is no answer."""

    @abstractmethod
    def _limit(self, level: float, x: Floats | float, y: Floats | float) -> Floats:
        """Standard errors that the sum of g (y m_b - x m_a) may be away from 0 at the present look, (..., 1)."""

    def difference(self, level: float) -> tuple[Floats, Floats, Floats]:
        """m_b - m_a and its interval at the present look, (...,); NaN where there is none."""
        effect, se = self.effect[..., -1:], self.se[..., -1:]
        half = self._limit(level, 1.0, 1.0) * se
        return effect[..., 0], (effect - half)[..., 0], (effect + half)[..., 0]

    def lift(self) -> Floats:
        """Relative difference m_b / m_a - 1 at the present look, (...,).

        NaN where a mean is negative, or the control's is 0: a lift has no meaning there.
        """
        return np.where(self._sensible(), ratio_or_nan(self.top_b[..., -1:], self.top_a[..., -1:]) - 1, np.nan)[..., 0]

    def lift_interval(self, level: float) -> tuple[Floats, Floats]:
        """Interval for the relative difference, (...,); its upper end is infinite where the control's mean may be 0."""
        latest = (part[..., -1:] for part in (self.top_a, self.top_b, self.noise_a, self.noise_b))
        low, high = np.where(self._sensible(), _ratio(self._lift_odds(level, *latest)) - 1, np.nan)[..., 0]
        return low, high

    def _sensible(self) -> Flags:
        """Where a relative difference has a meaning now, (..., 1)."""
        known: Flags = ((self.noise_a + self.noise_b > 0) & (self.top_a > 0) & (self.top_b >= 0))[..., -1:]
        return known

    def _lift_odds(self, level: float, a: Floats, b: Floats, noise_a: Floats, noise_b: Floats) -> Floats:
        """Both ends of the interval for m_b / (m_a + m_b), (2, ..., 1): 1 where the control could as well be 0.

        With the limit held fixed they solve a quadratic (Fieller 1954); with the limit of those ends the next one.
        """
        total = a + b
        a, b = ratio_or_zero(a, total), ratio_or_zero(b, total)
        noise_a, noise_b = (ratio_or_zero(np.sqrt(noise), total) ** 2 for noise in (noise_a, noise_b))
        odds = np.stack((b, b))
        farthest = np.stack((np.zeros_like(a), np.ones_like(a)))
        allowed = self._limit(level, farthest, 1 - farthest) ** 2 * np.stack((noise_b, noise_a))
        open_end = np.stack((b, a)) ** 2 <= allowed
        for _ in range(_ROUNDS):
            squared = np.broadcast_to(self._limit(level, odds, 1 - odds) ** 2, odds.shape)
            left_a, left_b = a**2 - squared * noise_a, b**2 - squared * noise_b
            root = a * b + np.sqrt(np.maximum((a * b) ** 2 - left_a * left_b, 0.0))
            low, far = np.maximum(left_b[0], 0.0), np.maximum(left_a[1], 0.0)
            high = np.where(far > 0, ratio_or_zero(root[1], root[1] + far), 1.0)
            ends = np.stack((ratio_or_zero(low, low + root[0]), high))
            before, odds = odds, np.where(open_end, farthest, ends)
            settled = np.abs(odds - before) <= _ENOUGH
            if settled.all():
                return odds

        def fits(at: Floats) -> Floats:
            x, y = at, 1 - at
            return gap(self._limit(level, x, y) * np.sqrt(y**2 * noise_b + x**2 * noise_a), np.abs(y * b - x * a))

        return np.where(settled, odds, np.stack(invert(fits, b, 0.0, 1.0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class OneLook(MeanTest):
    """Welch's test on a single epoch.

    Attributes:
        free_a: Degrees of freedom of arm a's variance, (..., 1).
        free_b: The same for arm b.
    """

    free_a: Floats
    free_b: Floats

    def freedom(self, x: Floats | float, y: Floats | float) -> Floats:
        """Satterthwaite's degrees of freedom for y m_b - x m_a, (..., 1)."""
        part_a, part_b = x**2 * self.noise_a, y**2 * self.noise_b
        share = ratio_or_zero(part_a, part_a + part_b)
        below = share**2 / np.maximum(self.free_a, 1.0) + (1 - share) ** 2 / np.maximum(self.free_b, 1.0)
        freedom: Floats = 1.0 / below
        return freedom

    def p_value(self) -> Floats:
        """Two-sided p-value of Welch's test, (...,)."""
        from scipy.special import stdtr

        p = np.asarray(2 * stdtr(self.freedom(1.0, 1.0), -np.abs(self.z)), dtype=np.float64)
        return p[..., -1]

    def _limit(self, level: float, x: Floats | float, y: Floats | float) -> Floats:
        from scipy.special import stdtrit

        return np.asarray(-stdtrit(self.freedom(x, y), level / 2), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLooks(MeanTest):
    """Epochs combined with planned weights: Z is a Gaussian walk on the clock of spent shares.

    Attributes:
        clock: Share of the plan spent at every look.
        boundary: Clock times that the constant covers, None for any time.
    """

    clock: Floats
    boundary: tuple[float, ...] | None

    @property
    def walk(self) -> Floats:
        """Z at every look, with variance equal to the clock."""
        walked: Floats = self.z * np.sqrt(self.clock)
        return walked

    def p_value(self) -> Floats:
        """Anytime p-value: the chance that Z gets as far as it did at any look, (...,)."""
        peak = np.abs(self.walk).max(axis=-1)
        return crossing_probability(peak, self.boundary)

    def crossed(self, level: float) -> Flags:
        """At which looks Z lies beyond the boundary."""
        beyond: Flags = np.abs(self.walk) >= obrien_fleming(self.boundary, level)
        return beyond

    def _limit(self, level: float, x: Floats | float, y: Floats | float) -> Floats:  # noqa: ARG002  (the same for every hypothesis)
        spent = self.clock[..., -1:]
        limit: Floats = obrien_fleming(self.boundary, level) / np.sqrt(np.where(spent > 0, spent, 1.0))
        return limit


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyLook(MeanTest):
    """Epochs weighted by size under a normal-mixture boundary: any number of looks, no planned end.

    Attributes:
        size: Sum of the harmonic sizes at every look: the intrinsic time.
        rho: Tuning constant of the mixture, in the same unit, (..., 1).
    """

    size: Floats
    rho: Floats

    def p_value(self) -> Floats:
        """Anytime p-value: the smallest inverse of the mixture over the looks, (...,)."""
        smallest: Floats = mixture_p_value(self.z * np.sqrt(self.size), self.size, self.rho).min(axis=-1)
        return smallest

    def crossed(self, level: float) -> Flags:
        """At which looks the sum lies beyond the boundary."""
        beyond: Flags = np.abs(self.z) * np.sqrt(self.size) >= mixture_bound(self.size, self.rho, level)
        return beyond

    def _limit(self, level: float, x: Floats | float, y: Floats | float) -> Floats:  # noqa: ARG002  (the same for every hypothesis)
        size = np.maximum(self.size[..., -1:], 1.0)
        limit: Floats = mixture_bound(size, self.rho, level) / np.sqrt(size)
        return limit


def one_look(pair: MeanPair) -> OneLook:
    """Compare the arms of a single epoch, (..., 1), each with its own variance."""
    free_a, free_b = pair.n_a - 1, pair.n_b - 1
    usable = np.minimum(free_a, free_b) > 0
    own = [ratio_or_zero(s, f) * usable for s, f in ((pair.scatter_a, free_a), (pair.scatter_b, free_b))]
    least = (_ROUNDING * np.maximum(np.abs(pair.value_a), np.abs(pair.value_b))) ** 2
    noise_a, noise_b = (
        ratio_or_zero(np.where(own[0] + own[1] > least, variance, 0.0), n)
        for variance, n in zip(own, (pair.n_a, pair.n_b), strict=True)
    )
    return OneLook(
        gap=pair.gap,
        top_a=pair.value_a,
        top_b=pair.value_b,
        scale=np.minimum(np.minimum(pair.n_a, pair.n_b), 1.0),
        noise_a=noise_a,
        noise_b=noise_b,
        free_a=free_a,
        free_b=free_b,
    )


def planned(pair: MeanPair, shares: Floats, boundary: tuple[float, ...] | None) -> PlannedLooks:
    """Combine the epochs of a pair with planned shares of information.

    Args:
        pair: Means per epoch.
        shares: Share of each planned epoch, (n_planned,), sum at most 1.
        boundary: Clock times of the planned looks, None when the horizon is open.
    """
    variance = pair.variance()
    present = pair.counted() & (variance > 0)
    spent = spend(shares, present)
    level = pair.level.value
    before = np.where(level > 0, level, np.where(present, variance, 1.0))
    gap, top_a, top_b, scale, noise_a, noise_b = _steps(pair, np.sqrt(spent * pair.size / before), variance)
    return PlannedLooks(
        gap=gap, top_a=top_a, top_b=top_b, scale=scale, noise_a=noise_a, noise_b=noise_b,
        clock=spent.cumsum(axis=-1), boundary=boundary,
    )  # fmt: skip


def any_look(pair: MeanPair, alpha: float, horizon: float | None) -> AnyLook:
    """Sum the epochs of a pair by size under a mixture tuned to ``horizon`` units of both arms.

    Without a horizon the first epoch that counts sets it: 25 of its size.
    """
    variance, counted = pair.variance(), pair.counted()
    size = np.where(counted & (variance > 0), pair.size, 0.0)
    first = np.take_along_axis(pair.n_a + pair.n_b, np.argmax(counted, axis=-1)[..., None], -1)
    units = _DEFAULT_EPOCHS * first if horizon is None else np.full_like(first, horizon)
    gap, top_a, top_b, scale, noise_a, noise_b = _steps(pair, size, variance)
    return AnyLook(
        gap=gap, top_a=top_a, top_b=top_b, scale=scale, noise_a=noise_a, noise_b=noise_b,
        size=size.cumsum(axis=-1), rho=mixture_rho(1.0, alpha) * np.maximum(0.6 / 4 * units, 1.0),
    )  # fmt: skip


def _steps(pair: MeanPair, g: Floats, variance: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
    """Weighted sums over the epochs so far, as `MeanTest` holds them; epochs of weight 0 are passed over.

    ``variance`` is the pair's in each epoch.
    """
    used = g > 0
    noise = []
    for n, scatter in ((pair.n_a, pair.scatter_a), (pair.n_b, pair.scatter_b)):
        standard = np.where(used, ratio_or_zero(scatter, variance), 0.0).cumsum(axis=-1)
        free = np.where(used, n - 1, 0.0).cumsum(axis=-1)
        noise.append(np.maximum(ratio_or_zero(standard, free), 1.0) * ratio_or_zero(g**2 * variance, n).cumsum(axis=-1))
    sums = (g * pair.gap, g * pair.value_a, g * pair.value_b, g)
    gap, top_a, top_b, scale = (part.cumsum(axis=-1) for part in sums)
    return gap, top_a, top_b, scale, *noise


def _ratio(odds: Floats) -> Floats:
    """Odds over 1 - odds, infinite at odds of 1."""
    return np.divide(odds, 1 - odds, out=np.full_like(odds, np.inf), where=odds < 1)
