"""Comparing two arms exactly, epoch by epoch: an e-process for any number of sends, successes and looks.

Arrays are (..., n_epochs); the leading axes are pairs of arms, or replications of a simulation. Given the past, and an
epoch's sends and successes, only the log odds ratio theta decides how many of the successes fell to which arm (Fisher's
non-central hypergeometric distribution), whatever the bandit did and wherever the base rate went. The likelihoods of
the epochs multiply; mixed over theta and divided by the value at a hypothesis they have mean 1 at every look if the
hypothesis is true, and exceed 1 / alpha at any look with probability at most alpha (Ville 1939). No large numbers are
needed for that: it holds for three successes as for three million (Turner & Gruenwald 2023, arXiv 2302.11401).

Most of the mixture lies where the effects do that the horizon can just prove, the rest at the centre and in Cauchy
tails, so that neither no effect nor a surprising one has a wide interval. The mixture does not move with the
hypothesis: the odds ratios that are not rejected are those whose own likelihood is above a line, and the likelihood has
one peak, so they are an interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from abmail._boundary import check_alpha, mixture_bound, mixture_rho
from abmail._hypergeometric import fitted_rates, log_mgf
from abmail._sequential import LATEST, first_sign, mix

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from abmail._sequential import Mixture, Pair

    Floats = NDArray[np.float64]

__all__ = ["Exact", "exact"]

_FARTHEST = math.log(1e4)  # odds ratios beyond 10,000 and 1 / 10,000 count as infinite and 0
_HUMPS, _HUMP_AT, _HUMP_SD = 0.70, 1.05, 0.35  # shares, places and widths of the mixture's parts, in units of s
_CORE, _CORE_SD = 0.25, 0.5
_TAILS, _TAIL_SCALE = 0.05, 3.0
_PANEL = 1.5  # panel width in standard deviations near a likelihood's peak
_GROWTH = 0.35  # panel width as a share of the distance to that peak
_NODES = 8  # Gauss-Legendre nodes of a panel, and points of the local interpolation
_STEPS = 8  # of Newton, which doubles the digits each time
_SETTLED = 1e-11  # a step of Newton after which no other one is needed
_LOST = -60.0  # log of a share that no digit of a sum shows
_MANY = 4_000  # likelihoods whose peaks are no longer looked at one by one


@dataclass(frozen=True, kw_only=True)
class Exact:
    """The e-process of a pair at every look, and what it says about the odds ratio.

    Attributes:
        theta: Log odds ratios of the grid, (n_nodes,), increasing.
        log_likelihood: Conditional log likelihood minus its value at theta = 0, (..., n_looks, n_nodes).
        log_e: Log of the e-process against "the arms are alike", (..., n_looks).
        excess: Successes of arm b beyond what is expected when the arms are alike, (..., n_looks).
        lowest: Whether arm b got as few of the successes as it could, (..., n_looks).
        highest: Whether arm b got as many of the successes as it could.
        compared: Whether any epoch so far had sends to both arms.
        mean: Pooled rate so far.
        share_b: Share of arm b in the sends so far.
        n: Sends of both arms so far.
    """

    theta: Floats
    log_likelihood: Floats
    log_e: Floats
    excess: Floats
    lowest: NDArray[np.bool_]
    highest: NDArray[np.bool_]
    compared: NDArray[np.bool_]
    mean: Floats
    share_b: Floats
    n: Floats

    @property
    def odds_ratio(self) -> Floats:
        """Conditional maximum-likelihood odds ratio of arm b against arm a; 0 and infinite included, NaN if unknown."""
        ratio: Floats = np.exp(self._peak)
        return ratio

    @property
    def effect(self) -> Floats:
        """p_b - p_a at the estimated odds ratio and the pooled rate; NaN where no epoch compares the arms."""
        return np.where(self.compared, self._difference(_known(self._peak)), np.nan)

    @property
    def relative(self) -> Floats:
        """p_b / p_a - 1 at the estimated odds ratio and the pooled rate; NaN where that leaves arm a no success."""
        p_a, p_b = fitted_rates(_known(self._peak), self.mean, self.share_b)
        ratio: Floats = np.divide(p_b, p_a, out=np.full_like(p_a, np.nan), where=self.compared & (p_a > 0)) - 1
        return ratio

    def estimates(self) -> tuple[Floats, Floats]:
        """Difference and relative difference at the latest look, each (...,)."""
        now = self._now
        return now.effect[..., -1], now.relative[..., -1]

    def only(self, pairs: slice) -> Exact:
        """The same of some of the pairs alone."""
        return self._part((..., pairs, slice(None)))

    def _part(self, place: tuple[Any, ...]) -> Exact:
        return Exact(
            theta=self.theta,
            log_likelihood=self.log_likelihood[(*place, slice(None))],
            log_e=self.log_e[place],
            excess=self.excess[place],
            lowest=self.lowest[place],
            highest=self.highest[place],
            compared=self.compared[place],
            mean=self.mean[place],
            share_b=self.share_b[place],
            n=self.n[place],
        )

    def p_value(self) -> Floats:
        """Anytime p-value: the smallest inverse of the e-process so far, at most 1, (...,)."""
        largest: Floats = np.maximum(self.log_e.max(axis=-1), 0.0)
        return np.exp(-largest)

    def proved(self, level: float) -> NDArray[np.int8]:
        """Sign of the first proof up to each look: +1 arm b better, -1 worse, 0 before, (..., n_looks).

        Proof is an e-process of at least 1 / ``level``; a later look takes nothing back.
        """
        return first_sign(self.excess, self.log_e >= -math.log(check_alpha(level, "level")))

    def agrees(self, level: float) -> NDArray[np.bool_]:
        """Whether some odds ratio is accepted at every look so far, (..., n_looks).

        False means that the epochs contradict each other (or that chance did what it does in a share ``level`` of all
        experiments): the effect changed. The intervals then stand still at those of the last look that agreed.
        """
        low, high = self._accepted(level)
        agreed: NDArray[np.bool_] = np.maximum.accumulate(low, axis=-1) <= np.minimum.accumulate(high, axis=-1)
        return agreed

    def odds_interval(self, level: float) -> tuple[Floats, Floats]:
        """Confidence sequence for the odds ratio: accepted at this and all earlier looks, each (..., n_looks).

        It excludes 1 exactly when the e-process reached 1 / ``level`` at some look. See `agrees` for looks that
        contradict each other.
        """
        low, high = self._running(level)
        return np.exp(low), np.exp(high)

    def difference(self, level: float) -> tuple[Floats, Floats]:
        """Interval for p_b - p_a at every look; it excludes 0 exactly when that of the odds ratio excludes 1.

        The odds ratio is what may be the same in all epochs, so its intervals are intersected over the looks, and the
        result is translated at the pooled rate of the look. (-1, 1) where no epoch compares the arms.
        """
        return self._translated(self._difference, level, (-1.0, 1.0), self._running(level))

    def lift(self, level: float) -> tuple[Floats, Floats]:
        """Interval for p_b / p_a - 1 at every look, translated likewise; the upper end may be infinite."""
        return _as_lift(*self._translated(self._share_of_b, level, (0.0, 1.0), self._running(level)))

    def within(self, level: float, mde: float) -> NDArray[np.bool_]:
        """At every look whether the interval lies inside (-mde, mde)."""
        low, high = self.difference(level)
        return (low > -mde) & (high < mde)

    def latest_intervals(self, level: float) -> tuple[Floats, Floats, Floats, Floats]:
        """Ends of the present intervals for the difference and the relative difference, each (...,)."""
        running, now = self._running_now(level), self._now
        low, high = now._translated(now._difference, level, (-1.0, 1.0), running)
        left, right = _as_lift(*now._translated(now._share_of_b, level, (0.0, 1.0), running))
        return low[..., -1], high[..., -1], left[..., -1], right[..., -1]

    @cached_property
    def _now(self) -> Exact:
        """The latest look alone, whose peak is asked for several times."""
        return self._part(LATEST)

    @cached_property
    def _peak(self) -> Floats:
        """Log odds ratio of the largest likelihood, infinite beyond the grid, NaN where nothing is known."""
        best, last = np.argmax(self.log_likelihood, axis=-1), len(self.theta) - 1
        at = np.clip(best, 1, last - 1)
        near = _local(self.theta, self.log_likelihood, at)
        inner = _root(lambda x: near.derivatives(x)[1:], self.theta[at - 1], self.theta[at + 1])
        peak = np.where(self.highest | (best == last), np.inf, inner)
        peak = np.where(self.lowest | (best == 0), -np.inf, peak)
        return np.where(self.lowest & self.highest, np.nan, peak)

    def _accepted(self, level: float) -> tuple[Floats, Floats]:
        """Ends of the log odds ratios that this look alone does not reject."""
        line, first_in, last_in = self._inside(level)
        last = len(self.theta) - 1
        every = np.ones(line.shape, dtype=np.bool_)
        low = self._crossing(line, np.maximum(first_in - 1, 0), every).reshape(line.shape)
        high = self._crossing(line, np.minimum(last_in, last - 1), every).reshape(line.shape)
        return np.where(first_in == 0, -np.inf, low), np.where(last_in == last, np.inf, high)

    def _inside(self, level: float) -> tuple[Floats, NDArray[np.intp], NDArray[np.intp]]:
        """The line below which a look rejects, and the first and the last node above it."""
        line = self.log_e + math.log(check_alpha(level, "level"))
        inside = self.log_likelihood > line[..., None]
        return line, np.argmax(inside, axis=-1), len(self.theta) - 1 - np.argmax(inside[..., ::-1], axis=-1)

    def _crossing(self, line: Floats, node: NDArray[np.intp], looks: NDArray[np.bool_]) -> Floats:
        """Where the likelihood of some of the looks crosses the line between a node and the next, (n_chosen,)."""
        line, node = line[looks], node[looks]
        near = _local(self.theta, self.log_likelihood[looks], node)

        def above(x: Floats) -> tuple[Floats, Floats]:
            height, slope, _ = near.derivatives(x)
            return height - line, slope

        return _root(above, self.theta[node], self.theta[node + 1])

    def _running(self, level: float) -> tuple[Floats, Floats]:
        low, high = self._accepted(level)
        low, high = np.maximum.accumulate(low, axis=-1), np.minimum.accumulate(high, axis=-1)
        last_agreed = (low <= high).sum(axis=-1, keepdims=True) - 1
        look = np.minimum(np.arange(low.shape[-1]), last_agreed)
        return np.take_along_axis(low, look, axis=-1), np.take_along_axis(high, look, axis=-1)

    def _running_now(self, level: float) -> tuple[Floats, Floats]:
        """`_running` at the latest look, each (..., 1), from those looks alone that may cut an end of it.

        The nodes next to a look's ends bracket them; a look whose bracket lies outside another one's cuts nothing.
        """
        line, first_in, last_in = self._inside(level)
        last = len(self.theta) - 1
        low, high = np.full(line.shape, -np.inf), np.full(line.shape, np.inf)
        least = self.theta[np.maximum(first_in - 1, 0)].max(axis=-1, keepdims=True)
        most = self.theta[np.minimum(last_in + 1, last)].min(axis=-1, keepdims=True)
        cuts_low = (first_in > 0) & (self.theta[first_in] >= least)
        cuts_high = (last_in < last) & (self.theta[last_in] <= most)
        low[cuts_low] = self._crossing(line, first_in - 1, cuts_low)
        high[cuts_high] = self._crossing(line, last_in, cuts_high)
        ends = low.max(axis=-1, keepdims=True), high.min(axis=-1, keepdims=True)
        if (ends[0] <= ends[1]).all():
            return ends
        low, high = self._running(level)  # the looks contradict each other: see `agrees`
        return low[..., -1:], high[..., -1:]

    def _translated(
        self,
        quantity: Callable[..., Floats],
        level: float,
        limits: tuple[float, float],
        running: tuple[Floats, Floats],
    ) -> tuple[Floats, Floats]:
        """Ends of a quantity that depends on the odds ratio and, a little, on the pooled rate.

        The uncertainties of both are joined by the square rule that Newcombe's hybrid interval uses (Zou & Donner 2008,
        Stat Med 27:1693); it matters where successes are few.
        """
        low, high = running
        rates = (self.mean, *self._pooled_interval(level))
        middle = np.clip(_known(self._peak), low, high)
        every = quantity(np.stack((middle, *[low] * 3, *[high] * 3)), np.stack((self.mean, *rates, *rates)))
        estimate, down, up = every[0], every[1], every[4]
        lowest, highest = np.minimum.reduce(every[1:4]), np.maximum.reduce(every[4:])
        lower = np.maximum(estimate - np.hypot(estimate - down, down - lowest), limits[0])
        upper = np.minimum(estimate + np.hypot(up - estimate, highest - up), limits[1])
        return np.where(self.compared, lower, limits[0]), np.where(self.compared, upper, limits[1])

    def _pooled_interval(self, level: float) -> tuple[Floats, Floats]:
        """Wilson's interval for the pooled rate, with the factor of a time-uniform bound in place of the normal one."""
        z2 = float(mixture_bound(np.ones(1), mixture_rho(1.0, level), level)[0] ** 2)
        k, n = self.mean * self.n, self.n
        centre, half = k + z2 / 2, np.sqrt(z2 * (k * (1 - self.mean) + z2 / 4))
        return np.maximum((centre - half) / (n + z2), 0.0), np.minimum((centre + half) / (n + z2), 1.0)

    def _difference(self, theta: Floats, mean: Floats | None = None) -> Floats:
        p_a, p_b = fitted_rates(theta, self.mean if mean is None else mean, self.share_b)
        return p_b - p_a

    def _share_of_b(self, theta: Floats, mean: Floats | None = None) -> Floats:
        """p_b / (p_a + p_b), from 0 to 1, also where no success was seen."""
        from scipy.special import expit

        p_a, p_b = fitted_rates(theta, self.mean if mean is None else mean, self.share_b)
        return np.divide(p_b, p_a + p_b, out=expit(theta), where=p_a + p_b > 0)


def _as_lift(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """p_b / p_a - 1 of p_b / (p_a + p_b)."""
    far = np.divide(2 * high - 1, 1 - high, out=np.full_like(high, np.inf), where=high < 1)
    return (2 * low - 1) / (1 - low), far


def exact(pair: Pair, alpha: float, horizon: float | None, baseline: float | None = None) -> Exact:
    """The e-process of every pair, its mixture tuned to ``horizon`` sends of both arms.

    The mixture is fixed by the sends and all successes of the first epoch that compares the arms: given those, they say
    nothing about which arm is better.

    Args:
        pair: Counts per epoch.
        alpha: Level at which the mixture proves most at the horizon, fraction in (0, 1).
        horizon: Sends of both arms at which a decision is expected; 25 times the first epoch by default.
        baseline: Rate to expect; that of the first epoch by default.
    """
    check_alpha(alpha)
    tuned = mix(pair, alpha, horizon, baseline)
    theta, weight = _grid(pair, tuned)
    rows = log_mgf(pair.n_a.ravel(), pair.n_b.ravel(), pair.k.ravel(), theta)
    log_mean = rows.reshape(*pair.k.shape, len(theta))
    for look in range(1, log_mean.shape[-2]):  # what cumsum does, which goes node by node and takes five times as long
        log_mean[..., look, :] += log_mean[..., look - 1, :]
    got = pair.k_b.cumsum(axis=-1)
    log_likelihood = np.subtract(got[..., None] * theta, log_mean, out=log_mean)
    fewest, most = np.maximum(pair.k - pair.n_a, 0.0), np.minimum(pair.n_b, pair.k)
    return Exact(
        theta=theta,
        log_likelihood=log_likelihood,
        log_e=_log_sum(log_likelihood + _log_mixture(theta, weight, tuned.rho)),
        excess=tuned.score.sum,
        lowest=got <= fewest.cumsum(axis=-1),
        highest=got >= most.cumsum(axis=-1),
        compared=np.logical_or.accumulate(pair.h > 0, axis=-1),
        mean=tuned.score.mean,
        share_b=tuned.score.share_b,
        n=pair.n.cumsum(axis=-1),
    )


def _log_mixture(theta: Floats, weight: Floats, rho: Floats) -> Floats:
    """Log share of every node in the mixture, (..., 1, n_nodes); nothing lies beyond the grid.

    The unit s = rho ** -0.5 is the normal mixture's standard deviation that is best at the horizon. Compared with that
    mixture, two humps near it raise the power and hardly cost width.
    """
    scale = np.sqrt(rho)[..., None]
    x = theta * scale
    up, down = (np.exp(-0.5 * ((x - place) / _HUMP_SD) ** 2) for place in (_HUMP_AT, -_HUMP_AT))
    core = np.exp(-0.5 * (x / _CORE_SD) ** 2) / _CORE_SD
    tails = 1 / (1 + (x / _TAIL_SCALE) ** 2) / (_TAIL_SCALE * math.pi)
    share = weight * ((_HUMPS / 2 / _HUMP_SD * (up + down) + _CORE * core) / math.sqrt(2 * math.pi) + _TAILS * tails)
    log_share: Floats = np.log(share / share.sum(axis=-1, keepdims=True))
    return log_share


def _log_sum(terms: Floats) -> Floats:
    """Log of the sum of exponentials over the last axis, in the memory of ``terms``.

    What is lost in the rounding is raised to it: a number that underflows takes thrice as long.
    """
    peak = terms.max(axis=-1, keepdims=True)
    terms -= peak
    np.exp(np.maximum(terms, _LOST, out=terms), out=terms)
    total: Floats = peak[..., 0] + np.log(terms.sum(axis=-1))
    return total


def _grid(pair: Pair, tuned: Mixture) -> tuple[Floats, Floats]:
    """Nodes and weights of composite Gauss-Legendre quadrature, fine where likelihoods are sharp.

    The grid looks at all counts, which changes the integrals by less than 1e-9 of their value and nothing else.
    """
    edges = _edges(*_peaks(pair, tuned))
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    half = np.diff(edges) / 2
    theta = (edges[:-1] + half)[:, None] + half[:, None] * node
    return theta.ravel(), (half[:, None] * weight).ravel()


def _peaks(pair: Pair, tuned: Mixture) -> tuple[Floats, Floats, Floats]:
    """About where likelihoods peak (from, to) and how sharp they are there; the mixture's own peak comes first.

    The peak is near the Mantel-Haenszel estimate; the tilted variance may exceed the central one, hence a margin of 2.
    Very many likelihoods are told by their extremes at each look.
    """
    n = np.maximum(pair.n, 1.0)
    for_b = (pair.k_b * (pair.n_a - pair.k_a) / n).cumsum(axis=-1)
    for_a = (pair.k_a * (pair.n_b - pair.k_b) / n).cumsum(axis=-1)
    smallest = math.exp(-_FARTHEST)
    log_odds = np.log(np.maximum(for_b, smallest) / np.maximum(for_a, smallest)).clip(-_FARTHEST, _FARTHEST)
    sd = np.sqrt(0.5 / (tuned.v + tuned.rho))
    leading = tuple(range(sd.ndim - 1)) if sd.size > _MANY else ()
    start, end, sharpest = log_odds.min(axis=leading), log_odds.max(axis=leading), sd.min(axis=leading)
    own = _HUMP_SD * float(tuned.rho.max()) ** -0.5
    return np.append(0.0, start), np.append(0.0, end), np.append(own, sharpest)


def _edges(start: Floats, end: Floats, sd: Floats) -> Floats:
    """Panel edges from one farthest odds ratio to the other, as narrow as the sharpest peak nearby needs."""
    edges = [-_FARTHEST]
    while edges[-1] < _FARTHEST:
        x = edges[-1]
        away = np.maximum(np.maximum(start - x, x - end), 0.0)
        width = float(np.maximum(_PANEL * sd, _GROWTH * away).min())
        edges.append(min(x + width, _FARTHEST))
    return np.array(edges)


@dataclass(frozen=True, slots=True)
class _Local:
    """A polynomial through neighbouring points in Newton's form, one per leading element; arrays (..., n_points)."""

    at: Floats
    coefficient: Floats

    def derivatives(self, x: Floats) -> tuple[Floats, Floats, Floats]:
        """Value, first and second derivative at ``x``."""
        value, slope, bend = self.coefficient[..., -1], np.zeros_like(x), np.zeros_like(x)
        for i in range(self.at.shape[-1] - 2, -1, -1):
            step = x - self.at[..., i]
            value, slope, bend = value * step + self.coefficient[..., i], slope * step + value, bend * step + 2 * slope
        return value, slope, bend


def _local(x: Floats, y: Floats, around: NDArray[np.intp]) -> _Local:
    """The polynomial through the nodes nearest to index ``around``; x (n_nodes,), y (..., n_nodes)."""
    first = np.clip(around - _NODES // 2 + 1, 0, len(x) - _NODES)
    index = first[..., None] + np.arange(_NODES)
    at, coefficient = x[index], np.take_along_axis(y, index, axis=-1)
    for order in range(1, _NODES):
        rise = coefficient[..., order:] - coefficient[..., order - 1 : -1]
        coefficient[..., order:] = rise / (at[..., order:] - at[..., :-order])
    return _Local(at, coefficient)


def _root(of: Callable[[Floats], tuple[Floats, Floats]], low: Floats, high: Floats) -> Floats:
    """Where a function that is negative at ``low`` and positive at ``high``, or the reverse, is 0.

    ``of`` gives value and derivative. Newton's steps, halving where they leave the bracket.
    """
    sign = np.sign(of(high)[0])
    x = (low + high) / 2
    for _ in range(_STEPS):
        value, slope = of(x)
        above = value * sign > 0
        low, high = np.where(above, low, x), np.where(above, x, high)
        step = np.divide(value, slope, out=np.full_like(x, np.inf), where=slope != 0)
        inside = (x - step >= low) & (x - step <= high)
        x = np.where(inside, x - np.where(inside, step, 0.0), (low + high) / 2)
        if (inside & (np.abs(step) < _SETTLED)).all():  # the next step would be its square
            break
    return x


def _known(peak: Floats) -> Floats:
    """Log odds ratio 0 where nothing is known; infinite ones stay."""
    return np.where(np.isnan(peak), 0.0, peak)
