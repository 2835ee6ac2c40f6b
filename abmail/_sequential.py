"""Comparing two arms epoch by epoch, valid however often one looks and however the weights moved.

Arrays are (..., n_epochs); the leading axes are pairs of arms, or replications of a simulation. Given the past and the
sends of an epoch, the difference of its two rates has mean zero when the arms are alike, whatever the bandit did; so
sums of epoch differences with weights that don't look at the epoch's outcomes are martingales.

`Combination` weighs the epochs as planned, each in units of its own standard deviation: a Gaussian walk on a known
clock (Zhang, Janson & Murphy 2020, arXiv 2002.03217; Lehmacher & Wassmer 1999; Cui, Hung & Wang 1999). `Mixture` weighs
them by their information and pays with a time-uniform boundary (Howard et al. 2021, arXiv 1810.08240). Intervals invert
the score with rates constrained to the hypothesis.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from abmail._boundary import Boundary, mixture_bound, mixture_p_value, mixture_rho

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Gap = Callable[[Floats], Floats]

__all__ = [
    "FEWEST_SUCCESSES",
    "LATEST",
    "Combination",
    "EpochScore",
    "Mixture",
    "Pair",
    "combine",
    "first_sign",
    "gap",
    "invert",
    "mix",
    "odds_around",
    "overlap",
    "picked",
    "ratio_or_nan",
    "ratio_or_zero",
    "spend",
]

Arrays = TypeVar("Arrays", bound=Any)  # a dataclass of arrays

LATEST = (..., slice(-1, None))  # the latest look alone, as an axis of one

FEWEST_SUCCESSES = 30
"""Successes, and failures, that a pair of arms needs over both before a claim about it is made."""

_DEFAULT_EPOCHS = 25  # the horizon assumed by the mixture when none was given
_TYPICAL_VARIANCE = 0.05 * 0.95  # of an outcome, while nothing has been observed at all
_FARTHEST_RATIO = 1 - 1e-12
_SMALLEST_RATIO = 1e-12
_STEPS = 90
_PATIENCE = 15  # steps before the search halves now and then
_FARTHEST_SPARE = -1e9
_FARTHEST_LOG = 50.0
_ROUNDS = 40
_ROUNDS_BEFORE = 2
_ENOUGH = 1e-11
_ROUNDING = 1e-12
_ON_TIME = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Counts of a reference arm a and another arm b, each (..., n_epochs) float64."""

    n_a: Floats
    k_a: Floats
    n_b: Floats
    k_b: Floats

    @property
    def n(self) -> Floats:
        """Sends of both arms."""
        return self.n_a + self.n_b

    @property
    def k(self) -> Floats:
        """Successes of both arms."""
        return self.k_a + self.k_b

    @property
    def h(self) -> Floats:
        """Harmonic size n_a n_b / (n_a + n_b), 0 where an arm got nobody."""
        return _divide(self.n_a * self.n_b, self.n, 0.0)

    def ready(self) -> NDArray[np.bool_]:
        """At which looks there were successes and failures enough for a claim."""
        successes = self.k.cumsum(axis=-1)
        rarer: Floats = np.minimum(successes, self.n.cumsum(axis=-1) - successes)
        return rarer >= FEWEST_SUCCESSES


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What `invert` needs for an interval at every look.

    Attributes:
        fits: How well the data bear with values, not negative where they do.
        start: Estimates, (..., n_looks).
        lowest: Lower limit of the values.
        highest: Upper limit.
        near: About where the ends are, two of (..., n_looks).
    """

    fits: Gap
    start: Floats
    lowest: float
    highest: float
    near: tuple[Floats, Floats]

    def ends(self) -> tuple[Floats, Floats]:
        """Both ends at every look, (..., n_looks)."""
        return invert(self.fits, self.start, self.lowest, self.highest, near=self.near)

    def running_ends(self) -> tuple[Floats, Floats]:
        """Both ends of what all looks bear with, (...,), to the bit those of `ends`; nan where the present one doesn't.

        Looks whose ends lie beyond those of another look are not searched any further.
        """
        low, high = invert(self.fits, self.start, self.lowest, self.highest, near=self.near, running=True)
        low, high = np.maximum.reduce(low, axis=-1), np.minimum.reduce(high, axis=-1)
        holds = (low <= self.start[..., -1]) & (self.start[..., -1] <= high) & (low < high)
        return np.where(holds, low, np.nan), np.where(holds, high, np.nan)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochScore:
    """Sums over the epochs so far of g (p_b - p_a), with its variance under any hypothesis; arrays (..., n_looks).

    Attributes:
        rate_a: Sum of g p_a.
        rate_b: Sum of g p_b.
        scale: Sum of g.
        noise_a: Factor of p_a (1 - p_a) in the variance of the sum.
        noise_b: Factor of p_b (1 - p_b).
        mean: Pooled rate so far.
        share_b: Share of arm b in the sends so far.
    """

    rate_a: Floats
    rate_b: Floats
    scale: Floats
    noise_a: Floats
    noise_b: Floats
    mean: Floats
    share_b: Floats

    @property
    def sum(self) -> Floats:
        """Sum of g (p_b - p_a)."""
        return self.rate_b - self.rate_a

    @property
    def effect(self) -> Floats:
        """Weighted mean difference p_b - p_a; NaN where no epoch compares the arms."""
        return ratio_or_nan(self.sum, self.scale)

    @property
    def relative(self) -> Floats:
        """Relative difference p_b / p_a - 1; NaN where arm a has no success."""
        return ratio_or_nan(self.sum, self.rate_a)

    def variance(self, delta: Floats) -> Floats:
        """Variance of the sum if p_b - p_a is ``delta``, with rates that keep the pooled mean where they can."""
        p_b = np.maximum(self.mean + (1 - self.share_b) * delta, np.maximum(delta, 0.0))
        p_b = np.minimum(p_b, np.minimum(1.0 + delta, 1.0))
        p_a = np.minimum(np.maximum(p_b - delta, 0.0), 1.0)
        noise: Floats = self.noise_b * p_b * (1 - p_b) + self.noise_a * p_a * (1 - p_a)
        return np.maximum(noise, 0.0)

    def ratio_variance(self, ratio: Floats) -> Floats:
        """Variance of the sum of g (p_b - ratio p_a) if p_b is ``ratio`` times p_a."""
        p_a = np.minimum(_divide(self.mean, 1 - self.share_b + self.share_b * ratio, 1.0), 1.0 / np.maximum(ratio, 1.0))
        p_b = np.minimum(ratio * p_a, 1.0)
        noise: Floats = self.noise_b * p_b * (1 - p_b) + ratio**2 * self.noise_a * p_a * (1 - p_a)
        return noise

    def difference_gap(self, delta: Floats, allowed: Gap) -> Floats:
        """How well the data bear with a difference of ``delta``: in [-1, 1], not negative where they do."""
        return gap(allowed(self.variance(delta)), np.abs(self.sum - delta * self.scale))

    def difference_search(self, allowed: Gap) -> Search:
        """The search for the differences under which the sum stays within ``allowed(variance)``; within [-1, 1]."""
        start = _divide(self.sum, self.scale, 0.0)
        half = _divide(allowed(self.variance(start)), self.scale, 1.0)
        return Search(
            fits=lambda at: self.difference_gap(at, allowed),
            start=start,
            lowest=-1.0,
            highest=1.0,
            near=(start - half, start + half),
        )

    def difference_interval(self, allowed: Gap) -> tuple[Floats, Floats]:
        """Differences under which the sum stays within ``allowed(variance)``; within [-1, 1]."""
        return self.difference_search(allowed).ends()

    def difference_ends(self, squared: Floats) -> tuple[Floats, Floats]:
        """`difference_interval` where the sum may be ``squared`` times its variance away, squared: in closed form.

        As long as both rates stay within [0, 1] their variance is a quadratic in the difference, and so are its ends.
        """
        m, s, u = self.mean, self.share_b, 1 - self.share_b
        curve = self.scale**2 + squared * (self.noise_b * u**2 + self.noise_a * s**2)
        slope = self.sum * self.scale + squared * (1 - 2 * m) * (self.noise_b * u - self.noise_a * s) / 2
        level = self.sum**2 - squared * (self.noise_a + self.noise_b) * m * (1 - m)
        root = np.sqrt(np.maximum(slope**2 - curve * level, 0.0))
        estimate = _divide(self.sum, self.scale, 0.0)  # rounding must not leave it out
        low = np.minimum(np.maximum(_divide(slope - root, curve, -1.0), -1.0), estimate)
        high = np.maximum(np.minimum(_divide(slope + root, curve, 1.0), 1.0), estimate)
        rates = (m + u * low, m + u * high, m - s * low, m - s * high)
        if min(float(rate.min()) for rate in rates) < 0 or max(float(rate.max()) for rate in rates) > 1:
            exact = self.difference_interval(lambda variance: np.sqrt(squared * variance))
            plain = np.logical_and.reduce([(rate >= 0) & (rate <= 1) for rate in rates])
            return np.where(plain, low, exact[0]), np.where(plain, high, exact[1])
        return low, high

    def share_search(self, allowed: Gap) -> Search:
        """The search for the shares of p_b in p_a + p_b under which the sum stays within ``allowed(variance)``.

        The sum of g (p_b / sqrt(ratio) - sqrt(ratio) p_a) treats both arms alike: swapping them inverts the ends.
        """

        def fits(odds: Floats) -> Floats:
            ratio = np.maximum(odds / (1 - odds), _SMALLEST_RATIO)
            return gap(
                allowed(self.ratio_variance(ratio) / ratio), np.abs(self.rate_b - ratio * self.rate_a) / np.sqrt(ratio)
            )

        start = _divide(self.rate_b, self.rate_a + self.rate_b, 0.5)
        ratio = np.maximum(_divide(start, 1 - start, 1.0), _SMALLEST_RATIO)
        half = _divide(allowed(self.ratio_variance(ratio) / ratio), np.sqrt(ratio) * self.rate_a, 0.0)  # of its log
        return Search(
            fits=fits,
            start=np.minimum(start, _FARTHEST_RATIO),
            lowest=0.0,
            highest=_FARTHEST_RATIO,
            near=odds_around(start, half),
        )

    def lift_interval(self, allowed: Gap) -> tuple[Floats, Floats]:
        """Relative differences under which the sum stays within ``allowed(variance)``; from -1 to infinity."""
        low, high = self.share_search(allowed).ends()
        return _odds_to_lift(low), _odds_to_lift(high)

    def lift_ends(self, squared: Floats) -> tuple[Floats, Floats]:
        """`lift_interval` where the sum may be ``squared`` times its variance away, squared.

        With the rates held fixed the ends solve a quadratic; with the rates of those ends the next one. As long as both
        rates stay within [0, 1] the ends are roots of a polynomial of degree four, found from there by Newton's steps.
        """
        a, b, m, s = self.rate_a, self.rate_b, self.mean, self.share_b
        ratio = np.stack([_divide(b, a, 0.0)] * 2)
        noise_a, noise_b, squares = squared * self.noise_a, squared * self.noise_b, (a**2, a * b, b**2)
        for _ in range(_ROUNDS_BEFORE):
            p_a = np.minimum(_divide(m, 1 - s + s * ratio, 1.0), 1.0)
            p_b = np.minimum(np.maximum(ratio * p_a, 0.0), 1.0)
            spread_a = squares[0] - noise_a * p_a * (1 - p_a)
            spread_b = squares[2] - noise_b * p_b * (1 - p_b)
            root = squares[1] + np.sqrt(np.maximum(squares[1] ** 2 - spread_a * spread_b, 0.0))
            ratio = np.stack((_divide(spread_b[0], root[0], -1.0), _divide(root[1], spread_a[1], -1.0)))
        quartic = self._lift_quartic(squared)
        for _ in range(_ROUNDS):
            value, slope = _horner(quartic, ratio)
            move = value / np.where(slope == 0, np.inf, slope)
            ratio = ratio - move
            settled = (np.abs(move) <= _ENOUGH * ratio).all(axis=0)
            if settled.all():
                break
        p_a = m / np.maximum(1 - s + s * ratio, _SMALLEST_RATIO)
        inside = (p_a * np.maximum(ratio, 1.0) < 1).all(axis=0)
        sound = settled & inside & (b > 0) & (ratio[0] * a <= b) & (b <= ratio[1] * a)
        if sound.all():
            return ratio[0] - 1, ratio[1] - 1
        exact = self.lift_interval(lambda variance: np.sqrt(squared * variance))
        return np.where(sound, ratio[0] - 1, exact[0]), np.where(sound, ratio[1] - 1, exact[1])

    def _lift_quartic(self, squared: Floats) -> tuple[Floats, ...]:
        """Coefficients, highest power first, of what is 0 at both ends of the interval for p_b / p_a."""
        a, b, m, s, u = self.rate_a, self.rate_b, self.mean, self.share_b, 1 - self.share_b
        c_0, c_1, c_2 = b * u, b * s - a * u, -a * s  # (b - ratio a) times the mean of 1 and ratio by shares
        allowed = squared * m
        return (
            c_2**2,
            2 * c_1 * c_2 - allowed * self.noise_a * s,
            c_1**2 + 2 * c_0 * c_2 - allowed * (self.noise_b * (s - m) + self.noise_a * (u - m)),
            2 * c_0 * c_1 - allowed * self.noise_b * u,
            c_0**2,
        )

    def latest(self) -> EpochScore:
        """The sums at the latest look alone, (..., 1)."""
        return picked(self, LATEST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """Epochs combined with planned weights: Z is a Gaussian walk on the clock of spent shares.

    Attributes:
        score: Weighted sums at every look.
        z: Z at every look: each epoch's difference in units of its own standard deviation, by planned weights.
        clock: Share of the planned information spent at every look.
        boundary: Where the walk stops.
        ready: Looks that may carry a claim.
        planned: Looks that the boundary knows of: all where it allows any time.
    """

    score: EpochScore
    z: Floats
    clock: Floats
    boundary: Boundary
    ready: NDArray[np.bool_]
    planned: NDArray[np.bool_]

    @property
    def effect(self) -> Floats:
        """Weighted mean difference p_b - p_a at every look; NaN where no epoch compares the arms."""
        return self.score.effect

    @property
    def relative(self) -> Floats:
        """Relative difference p_b / p_a - 1 at every look; NaN where arm a has no success."""
        return self.score.relative

    def estimates(self) -> tuple[Floats, Floats]:
        """Difference and relative difference at the latest look, each (...,)."""
        return self.effect[..., -1], self.relative[..., -1]

    def only(self, pairs: slice) -> Combination:
        """The same of some of the pairs alone."""
        place = (..., pairs, slice(None))
        return Combination(
            score=picked(self.score, place),
            z=self.z[place],
            clock=self.clock[place],
            boundary=self.boundary,
            ready=self.ready[place],
            planned=self.planned[place],
        )

    def distance(self) -> Floats:
        """|Z| at every look in units of the boundary's shape; 0 where the boundary knows of no look."""
        return np.where(self.planned, np.abs(self.z) / self._rise(), 0.0)

    def p_value(self) -> Floats:
        """Anytime p-value: the chance that Z gets as far as it did at any look that counts, or the present one."""
        counted = self.ready.copy()
        counted[..., -1] = True
        return self.boundary.p_value(np.where(counted, self.distance(), 0.0))

    def proved(self, level: float) -> NDArray[np.int8]:
        """At every look +1 where arm b was proved better by then, -1 where worse, 0 before any proof."""
        return first_sign(self.z, (self.distance() >= self._constants(level)) & self.ready)

    def within(self, level: float, mde: float) -> NDArray[np.bool_]:
        """At every look whether the interval lies inside (-mde, mde)."""
        return _inside(self.score, self._allowed(level), mde) & self.planned

    def difference(self, level: float) -> tuple[Floats, Floats]:
        """Repeated interval for p_b - p_a at every look."""
        return self.score.difference_ends(self._squared(level))

    def lift(self, level: float) -> tuple[Floats, Floats]:
        """Repeated interval for p_b / p_a - 1 at every look."""
        return self.score.lift_ends(self._squared(level))

    def latest_intervals(self, level: float) -> tuple[Floats, Floats, Floats, Floats]:
        """Ends of the present intervals for the difference and the relative difference, each (...,)."""
        score, squared = self.score.latest(), self._squared(level)[..., -1:]
        ends = (*score.difference_ends(squared), *score.lift_ends(squared))
        low, high, lift_low, lift_high = (end[..., -1] for end in ends)
        return low, high, lift_low, lift_high

    def _rise(self) -> Floats | float:
        if self.boundary.shape == 0.0:
            return 1.0
        return np.where(self.clock > 0, self.clock, 1.0) ** self.boundary.shape

    def _constants(self, level: float) -> Floats:
        return self.boundary.constants(level, self.z.shape[-1])

    def _allowed(self, level: float) -> Gap:
        squared = self._squared(level)
        return lambda variance: np.sqrt(squared * variance)

    def _squared(self, level: float) -> Floats:
        """Square of the allowed distance at each look, per unit of the sum's variance."""
        alike = self.score.variance(np.zeros_like(self.z))
        return _divide((self._constants(level) * self._rise()) ** 2, alike, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """Epochs weighted by information under a normal-mixture boundary: any number of looks, no planned end.

    Attributes:
        score: Weighted sums at every look.
        v: Hypergeometric variance of the sum at every look.
        rho: Tuning constant of the mixture, (..., 1).
        ready: Looks that may carry a claim.
    """

    score: EpochScore
    v: Floats
    rho: Floats
    ready: NDArray[np.bool_]

    @property
    def effect(self) -> Floats:
        """Weighted mean difference p_b - p_a at every look; NaN where no epoch compares the arms."""
        return self.score.effect

    @property
    def relative(self) -> Floats:
        """Relative difference p_b / p_a - 1 at every look; NaN where arm a has no success."""
        return self.score.relative

    def estimates(self) -> tuple[Floats, Floats]:
        """Difference and relative difference at the latest look, each (...,)."""
        return self.effect[..., -1], self.relative[..., -1]

    def only(self, pairs: slice) -> Mixture:
        """The same of some of the pairs alone."""
        return self._part((..., pairs, slice(None)))

    def _part(self, place: tuple[Any, ...]) -> Mixture:
        return Mixture(score=picked(self.score, place), v=self.v[place], rho=self.rho[place], ready=self.ready[place])

    def path(self) -> Floats:
        """Inverse of the mixture martingale at every look, at most 1."""
        return mixture_p_value(self.score.sum, self.v, self.rho)

    def p_value(self) -> Floats:
        """Anytime p-value: the smallest value of the path over the looks that count and the present one, (...,)."""
        path = self.path()
        smallest: Floats = np.minimum(np.where(self.ready, path, 1.0).min(axis=-1), path[..., -1])
        return smallest

    def proved(self, level: float) -> NDArray[np.int8]:
        """At every look +1 where arm b was proved better by then, -1 where worse, 0 before any proof."""
        return first_sign(self.score.sum, (self.path() <= level) & self.ready)

    def within(self, level: float, mde: float) -> NDArray[np.bool_]:
        """At every look whether the interval lies inside (-mde, mde)."""
        return _inside(self.score, self._allowed(level), mde)

    def difference(self, level: float) -> tuple[Floats, Floats]:
        """Confidence sequence for p_b - p_a: the running intersection at every look."""
        return overlap(self.score.difference_interval(self._allowed(level)), self.effect)

    def lift(self, level: float) -> tuple[Floats, Floats]:
        """Confidence sequence for p_b / p_a - 1: the running intersection at every look."""
        return overlap(self.score.lift_interval(self._allowed(level)), self.relative)

    def latest_intervals(self, level: float) -> tuple[Floats, Floats, Floats, Floats]:
        """Ends of the present intervals for the difference and the relative difference, each (...,)."""
        allowed = self._allowed(level)
        low, high = self.score.difference_search(allowed).running_ends()
        left, right = self.score.share_search(allowed).running_ends()
        if not (np.isnan(low).any() or np.isnan(left).any()):
            return low, high, _odds_to_lift(left), _odds_to_lift(right)
        ends = np.stack((low, high, _odds_to_lift(left), _odds_to_lift(right)))
        apart = np.isnan(low) | np.isnan(left)  # the effect moved, or nothing is known: see `overlap`
        rest = self._part((apart,))
        ends[:, apart] = np.stack((*rest.difference(level), *rest.lift(level)))[..., -1]
        return ends[0], ends[1], ends[2], ends[3]

    def _allowed(self, level: float) -> Gap:
        per_epoch = _divide(self.v, self.score.variance(np.zeros_like(self.v)), 1.0)  # < 1 where base rates drift
        return lambda variance: mixture_bound(variance * per_epoch, self.rho, level)


def picked(values: Arrays, place: tuple[Any, ...]) -> Arrays:
    """A part of every field, where all are arrays: see `LATEST`; some pairs are ``(..., pairs, slice(None))``."""
    some: Arrays = type(values)(**{field.name: getattr(values, field.name)[place] for field in fields(values)})
    return some


def combine(pair: Pair, planned: Floats, boundary: Boundary) -> Combination:
    """Combine the epochs of a pair with planned shares of information.

    Args:
        pair: Counts per epoch.
        planned: Share of each planned epoch, (n_planned,) or one row for each pair, sum at most 1.
        boundary: Where the walk stops. Looks off its clock carry no claim: one comes about when an arm got nobody in
            an epoch of uneven shares, until the share that was kept is spent.
    """
    h, n = pair.h, pair.n
    rate = _divide(pair.k, n, 0.0)
    variance = _divide(rate * (1 - rate) * n, n - 1, 0.0)  # hypergeometric: of sqrt(h) times the difference, given k
    spent = spend(planned, (h > 0) & (variance > 0))
    score = _score(pair, np.sqrt(_divide(spent * h, variance, 0.0)), spent)
    clock = spent.cumsum(axis=-1)
    on_clock = _on(clock, boundary)
    return Combination(
        score=score,
        z=score.sum,
        clock=clock,
        boundary=boundary,
        ready=pair.ready() & on_clock,
        planned=on_clock,
    )


def _on(clock: Floats, boundary: Boundary) -> NDArray[np.bool_]:
    """Which looks the boundary knows of; before anything is spent there is nothing to look at."""
    if boundary.clock is None:
        return np.ones(clock.shape, dtype=np.bool_)
    times = np.array((0.0, *boundary.clock))
    nearest = np.minimum(np.searchsorted(times, clock - _ON_TIME), len(times) - 1)
    known: NDArray[np.bool_] = np.abs(times[nearest] - clock) <= _ON_TIME
    if boundary.kept is not None:
        known[..., boundary.kept :] = True
    return known


def spend(planned: Floats, present: NDArray[np.bool_]) -> Floats:
    """Share of the information that each epoch spends, (..., n_epochs).

    An epoch in which an arm got nobody keeps its share for later: each later epoch takes at most as much again as its
    own, and epochs past the plan at most an average share. So a thin epoch never decides alone, and equal shares keep
    the clock on the planned times.
    """
    n_epochs, n_planned = present.shape[-1], planned.shape[-1]
    own = np.zeros((*planned.shape[:-1], n_epochs))
    own[..., :n_planned] = planned[..., :n_epochs]
    if present.all():
        return np.broadcast_to(own, present.shape)
    spent = np.zeros(present.shape)
    kept = np.zeros(present.shape[:-1])
    for t in range(n_epochs):
        again = np.minimum(kept, own[..., t] if t < n_planned else 1 / n_planned)
        spent[..., t] = np.where(present[..., t], own[..., t] + again, 0.0)
        kept = kept + own[..., t] - spent[..., t]
        kept = np.where(kept < _ROUNDING, 0.0, kept)
    return spent


def mix(pair: Pair, alpha: float, horizon: float | None, baseline: float | None = None) -> Mixture:
    """Sum the epochs of a pair by information under a mixture tuned to ``horizon`` sends of both arms.

    Without a baseline the tuning looks at the first epoch's pooled rate, which says nothing about which arm is better.
    """
    h, n, k = pair.h, pair.n, pair.k
    rate = _divide(k, n, 0.0)
    step = _divide(h * n * rate * (1 - rate), n - 1, 0.0)
    rho = mixture_rho(1.0, alpha) * _informative_size(step, n, rate, horizon, baseline)
    return Mixture(score=_score(pair, h, h), v=step.cumsum(axis=-1), rho=rho, ready=pair.ready())


def _informative_size(step: Floats, n: Floats, rate: Floats, horizon: float | None, baseline: float | None) -> Floats:
    """Intrinsic time at which the mixture is tightest, (..., 1): 0.6 of an even split's variance at the horizon."""
    first = np.argmax(step > 0, axis=-1)[..., None]
    at_first = np.take_along_axis(rate, first, -1)
    spread = np.where(np.take_along_axis(step, first, -1) > 0, at_first * (1 - at_first), _TYPICAL_VARIANCE)
    if baseline is not None:
        spread = np.full_like(spread, baseline * (1 - baseline))
    sends = _DEFAULT_EPOCHS * np.take_along_axis(n, first, -1) if horizon is None else horizon
    return np.maximum(0.6 / 4 * sends * spread, 1.0)


def _score(pair: Pair, g: Floats, g2_over_h: Floats) -> EpochScore:
    n, k = pair.n, pair.k
    so_far = n.cumsum(axis=-1)
    sums = (
        g * _divide(pair.k_a, pair.n_a, 0.0),
        g * _divide(pair.k_b, pair.n_b, 0.0),
        g,
        g2_over_h * _divide(pair.n_b, n, 0.0),
        g2_over_h * _divide(pair.n_a, n, 0.0),
    )
    rate_a, rate_b, scale, noise_a, noise_b = (part.cumsum(axis=-1) for part in sums)
    return EpochScore(
        rate_a=rate_a,
        rate_b=rate_b,
        scale=scale,
        noise_a=noise_a,
        noise_b=noise_b,
        mean=_divide(k.cumsum(axis=-1), so_far, 0.0),
        share_b=_divide(pair.n_b.cumsum(axis=-1), so_far, 0.5),
    )


def gap(allowed: Floats, distance: Floats) -> Floats:
    """How far inside a boundary: from 1 in the middle over 0 on it to -1; 1 where both are nothing."""
    return _divide(allowed - distance, allowed + distance, 1.0)


def invert(
    fits: Gap,
    start: Floats,
    lowest: float,
    highest: float,
    *,
    near: tuple[Floats, Floats] | None = None,
    running: bool = False,
) -> tuple[Floats, Floats]:
    """Both ends of the set around ``start`` on which ``fits`` is not negative.

    The distance in units of the allowed one, (1 - gap) / (1 + gap), is nearly straight, so the secant through the
    latest two points finds where it is 1 in a few steps. Where it leaves what is known to hold an end, and every third
    time where that takes long, the step halves instead. ``fits`` takes and gives arrays with a first axis more.
    Ends that are ``near`` those looked for save a step or two. Where only the intersection over the last axis is asked
    for (``running``), an end is left as it is, too far out, once another one is known to lie further in.
    """
    places = np.empty((3 if near is None else 5, *start.shape))
    places[0], places[1], places[2] = start, lowest, highest
    if near is not None:
        guess = np.minimum(np.maximum(near, lowest), highest)
        places[3:] = np.where(guess == start, (start + places[1:3]) / 2, guess)
    gaps = fits(places)
    inside, limit, unbounded = places[:1], places[1:3], gaps[1:3] >= 0
    settled, outside = unbounded | (gaps[:1] < 0), limit
    middle = _spare(gaps[:1])
    if near is None:
        before, y_before, x, f = limit, _usable(_spare(gaps[1:3]), middle), inside, gaps[:1]
    else:
        before, y_before, x, f = inside, middle, places[3:], gaps[3:]
    for step in range(_STEPS):
        y = _usable(_spare(f), y_before)
        reached, good = np.abs(f) < _ROUNDING, f >= 0
        inside = np.where((good | reached) & ~settled, x, inside)
        outside = np.where(good, outside, x)
        settled = settled | reached | (np.abs(outside - inside) < _ENOUGH)
        if running:
            settled[0] |= inside[0] < np.maximum.reduce(outside[0], axis=-1)[..., None]
            settled[1] |= inside[1] > np.minimum.reduce(outside[1], axis=-1)[..., None]
        if np.logical_and.reduce(settled, axis=None):
            break
        slope = y_before - y
        move = y * (x - before) / np.where(slope == 0, np.inf, slope)
        guess = x + np.copysign(np.maximum(np.abs(move), _ENOUGH / 2), move)
        known = (guess - inside) * (guess - outside) < 0
        if step > _PATIENCE and step % 3 == 0:
            known = np.zeros_like(known)
        before, y_before = x, y
        x = np.where(settled, inside, np.where(known, guess, (inside + outside) / 2))
        f = fits(x)
    ends = np.where(unbounded, limit, inside)
    return ends[0], ends[1]


def odds_around(share: Floats, half: Floats) -> tuple[Floats, Floats]:
    """Shares whose log odds lie ``half`` below and above those of ``share``."""
    factor = np.exp(np.minimum(half, _FARTHEST_LOG))
    return share / (share + factor * (1 - share)), share * factor / (share * factor + 1 - share)


def _spare(gaps: Floats) -> Floats:
    """What is left of the allowed distance, as a share of it: 1 in the middle, 0 on the boundary."""
    return 2 * gaps / np.maximum(1 + gaps, _SMALLEST_RATIO)


def _usable(spare: Floats, other: Floats) -> Floats:
    """Where a point is too far out to go by, what makes the secant through it and another one halve."""
    return np.where(spare > _FARTHEST_SPARE, spare, -other)


def _inside(score: EpochScore, allowed: Gap, mde: float) -> NDArray[np.bool_]:
    """Whether the interval lies inside (-mde, mde), without solving for its ends."""
    at = np.full(score.scale.shape, mde)
    far = (score.difference_gap(at, allowed) < 0) & (score.difference_gap(-at, allowed) < 0)
    return far & (np.abs(np.nan_to_num(score.effect, nan=np.inf)) < mde)


def first_sign(values: Floats, crossed: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Sign of the value at the first crossing, from that look on; 0 before."""
    first = np.argmax(crossed, axis=-1)[..., None]
    sign = np.sign(np.take_along_axis(values, first, -1)).astype(np.int8)
    return np.where(np.logical_or.accumulate(crossed, axis=-1), sign, np.int8(0))


def overlap(interval: tuple[Floats, Floats], estimate: Floats) -> tuple[Floats, Floats]:
    """Running intersection of intervals that hold at all looks at once.

    Where it no longer holds the present estimate, the effect itself has moved; the present interval stands there.
    """
    low, high = (
        np.maximum.accumulate(interval[0], axis=-1),
        np.minimum.accumulate(interval[1], axis=-1),
    )
    holds = ~((estimate < low) | (estimate > high)) & (low <= high)
    return np.where(holds, low, interval[0]), np.where(holds, high, interval[1])


def _odds_to_lift(odds: Floats) -> Floats:
    """p_b / p_a - 1 of a share of p_b in p_a + p_b, infinite at the end of what is searched."""
    return np.where(odds < _FARTHEST_RATIO, odds / (1 - odds) - 1, np.inf)


def ratio_or_nan(top: Floats, bottom: Floats) -> Floats:
    """``top / bottom``, NaN where ``bottom`` is not positive."""
    return _divide(top, bottom, np.nan)


def ratio_or_zero(top: Floats, bottom: Floats) -> Floats:
    """``top / bottom``, 0 where ``bottom`` is not positive."""
    return _divide(top, bottom, 0.0)


def _horner(coefficients: tuple[Floats, ...], x: Floats) -> tuple[Floats, Floats]:
    """Value and slope of a polynomial, highest power first."""
    value, slope = coefficients[0] * x + coefficients[1], coefficients[0]
    for coefficient in coefficients[2:]:
        slope = slope * x + value
        value = value * x + coefficient
    return value, slope


def _divide(top: Floats, bottom: Floats, otherwise: float) -> Floats:
    positive = bottom > 0
    if np.logical_and.reduce(positive, axis=None):  # nearly always, and for a few numbers it takes half the time
        return top / bottom
    quotient: Floats = np.empty(np.broadcast(top, bottom).shape)
    quotient.fill(otherwise)
    np.divide(top, bottom, out=quotient, where=positive)
    return quotient
