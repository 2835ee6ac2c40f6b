"""What others compute, and what looks natural: two arms, all replications and all looks at once.

Re-implementations of published formulas, so that the promises of abmail can be held against them in the same simulated
experiments. Every function takes `TwoArms`, arrays (n_replications, n_epochs), and answers with `Looks` at each epoch's
end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, ndtr, ndtri, stdtrit

from abmail._trials import Trials

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

ALPHA = 0.05
_SHRINKAGE = 20.0  # sends that an arm's rate so far is shrunk by to the pooled one, before an epoch is predicted
_SAVVI = 100.0  # concentration of savvi's Dirichlet prior


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoArms:
    """Counts of arm a and arm b per epoch, with the share that arm b was given; (n_replications, n_epochs) float64."""

    n_a: Floats
    k_a: Floats
    n_b: Floats
    k_b: Floats
    share_b: Floats

    @classmethod
    def of(cls, trials: Trials, a: int = 0, b: int = 1) -> TwoArms:
        """Two arms of simulated experiments; shares are those within the pair."""
        n, k, weights = (array.astype(np.float64) for array in (trials.n, trials.successes, trials.weights))
        both = weights[..., a] + weights[..., b]
        share = np.divide(weights[..., b], both, out=np.full(both.shape, 0.5), where=both > 0)
        return cls(n_a=n[..., a], k_a=k[..., a], n_b=n[..., b], k_b=k[..., b], share_b=share)

    def pooled(self) -> TwoArms:
        """Sums over the epochs so far."""
        sums = (array.cumsum(axis=1) for array in (self.n_a, self.k_a, self.n_b, self.k_b))
        n_a, k_a, n_b, k_b = sums
        return TwoArms(n_a=n_a, k_a=k_a, n_b=n_b, k_b=k_b, share_b=self.share_b)

    @property
    def n(self) -> Floats:
        """Sends of both."""
        return self.n_a + self.n_b

    @property
    def k(self) -> Floats:
        """Successes of both."""
        return self.k_a + self.k_b

    @property
    def rates(self) -> tuple[Floats, Floats]:
        """Rates of a and b, 0 where nobody was sent."""
        return over(self.k_a, self.n_a), over(self.k_b, self.n_b)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What a method says after each epoch, arrays (n_replications, n_looks).

    Attributes:
        rejects: Whether it claims a difference.
        effect: Its estimate of p_b - p_a; NaN where there is none.
        half: Half width of its interval, NaN where it has none.
    """

    rejects: Booleans
    effect: Floats
    half: Floats

    @property
    def at_end(self) -> Booleans:
        """Claims at the last look, (n_replications,)."""
        last: Booleans = self.rejects[:, -1]
        return last

    @property
    def ever(self) -> Booleans:
        """Claims at any look, (n_replications,)."""
        claimed: Booleans = np.any(self.rejects, axis=1)
        return claimed

    def covers(self, effect: float) -> Booleans:
        """Whether the interval holds the truth at every look, (n_replications,)."""
        outside: Booleans = np.any(np.abs(self.effect - effect) > self.half, axis=1)
        return ~outside


Method = Callable[[TwoArms], Looks]


def over(top: Floats, bottom: Floats, otherwise: float = 0.0) -> Floats:
    """``top / bottom``, or ``otherwise`` where ``bottom`` is not positive."""
    shape = np.broadcast_shapes(top.shape, bottom.shape)
    quotient: Floats = np.full(shape, otherwise)
    np.divide(top, bottom, out=quotient, where=bottom > 0)
    return quotient


def from_error(effect: Floats, error: Floats, cut: float | Floats = 1.959964) -> Looks:
    """A claim wherever the estimate is ``cut`` standard errors from 0; nothing is said without a standard error."""
    known = error > 0
    return Looks(
        rejects=known & (np.abs(effect) >= cut * error),
        effect=np.where(known, effect, np.nan),
        half=np.where(known, cut * error, np.nan),
    )


# -- one look, taken often -------------------------------------------------------------------------------------------


def pooled_z(data: TwoArms) -> Looks:
    """Two-proportion z-test on the sums over the epochs (statsmodels, tea-tasting)."""
    sums = data.pooled()
    p_a, p_b = sums.rates
    p = over(sums.k, sums.n)
    return from_error(p_b - p_a, np.sqrt(p * (1 - p) * _inverse_sizes(sums)))


def welch(data: TwoArms) -> Looks:
    """Welch's t-test on the sums over the epochs (gbstats, PostHog)."""
    sums = data.pooled()
    parts = [over(_variance(k, n), n) for k, n in ((sums.k_a, sums.n_a), (sums.k_b, sums.n_b))]
    total = parts[0] + parts[1]
    freedom = over(total**2, over(parts[0] ** 2, sums.n_a - 1) + over(parts[1] ** 2, sums.n_b - 1), 1.0)
    cut = np.asarray(stdtrit(np.maximum(freedom, 1.0), 1 - ALPHA / 2), dtype=np.float64)
    p_a, p_b = sums.rates
    return from_error(p_b - p_a, np.where(np.minimum(sums.n_a, sums.n_b) > 1, np.sqrt(total), 0.0), cut)


def chance_to_win(data: TwoArms) -> Looks:
    """A claim where either arm's chance to win reaches 95 %: a flat prior on the difference (gbstats Bayes)."""
    sums = data.pooled()
    p_a, p_b = sums.rates
    return from_error(p_b - p_a, _plug_in_error(sums), float(ndtri(1 - ALPHA)))


def mantel_haenszel(data: TwoArms) -> Looks:
    """The Mantel-Haenszel sum over the epochs as a z-test: stratified, but weighted by realised information."""
    h = over(data.n_a * data.n_b, data.n)
    p_a, p_b = data.rates
    p = over(data.k, data.n)
    variance = over(h * p * (1 - p) * data.n, data.n - 1).cumsum(axis=1)
    size = h.cumsum(axis=1)
    return from_error(over((h * (p_b - p_a)).cumsum(axis=1), size), over(np.sqrt(variance), size))


def period_weighted_z(data: TwoArms) -> Looks:
    """GrowthBook's bandit estimate: arms' rates averaged over the epochs by the traffic of both, plug-in variances."""
    present = (data.n_a > 0) & (data.n_b > 0)
    traffic = np.where(present, data.n, 0.0)
    p_a, p_b = data.rates
    noise = over(_variance(data.k_a, data.n_a), data.n_a) + over(_variance(data.k_b, data.n_b), data.n_b)
    total = traffic.cumsum(axis=1)
    effect = over((traffic * (p_b - p_a)).cumsum(axis=1), total)
    return from_error(effect, over(np.sqrt((traffic**2 * noise).cumsum(axis=1)), total))


def probability_of_being_best(data: TwoArms) -> Looks:
    """A claim where P(best) of either arm reaches 95 %, the rule by which bandit dashboards mark a winner."""
    from abmail._trials import chance_of_best

    sums = data.pooled()
    a, b = (np.stack(parts, axis=-1).reshape(-1, 2) for parts in (
        (1 + sums.k_a, 1 + sums.k_b), (1 + sums.n_a - sums.k_a, 1 + sums.n_b - sums.k_b)
    ))  # fmt: skip
    best = chance_of_best(a, b).max(axis=1).reshape(data.n_a.shape)
    p_a, p_b = sums.rates
    return Looks(rejects=best >= 1 - ALPHA, effect=p_b - p_a, half=np.full(best.shape, np.nan))


# -- weighted for adaptive allocation, one look ------------------------------------------------------------------------


def batched_ols(data: TwoArms) -> Looks:
    """Equally weighted z-scores of the epochs (Zhang, Janson & Murphy 2020, arXiv 2002.03217)."""
    h = over(data.n_a * data.n_b, data.n)
    sums = data.pooled()
    p, (p_a, p_b) = over(sums.k, sums.n), data.rates
    seen = (h > 0).cumsum(axis=1)
    scale = np.sqrt(h).cumsum(axis=1)
    effect = over((np.sqrt(h) * (p_b - p_a)).cumsum(axis=1), scale)
    return from_error(effect, over(np.sqrt(seen * p * (1 - p)), scale))


def adaptively_weighted(data: TwoArms) -> Looks:
    """AW-AIPW with constant allocation rate: weights sqrt(propensity) (Hadad et al. 2021, arXiv 1911.02768)."""
    sides = [
        _weighted_arm(data.n, data.n_a, data.k_a, 1 - data.share_b, _predicted(data)[0]),
        _weighted_arm(data.n, data.n_b, data.k_b, data.share_b, _predicted(data)[1]),
    ]
    (q_a, v_a), (q_b, v_b) = sides
    return from_error(q_b - q_a, np.sqrt(v_a + v_b))


def inverse_propensity(data: TwoArms) -> tuple[Floats, Floats, Floats]:
    """AIPW: sends so far, sum of the units' scores for p_b - p_a and sum of their squares, each (.., n_looks)."""
    m_a, m_b = _predicted(data)
    base, e_a, e_b = m_b - m_a, 1 - data.share_b, data.share_b
    cells = (
        (data.k_a, base - over(1 - m_a, e_a)),
        (data.n_a - data.k_a, base + over(m_a, e_a)),
        (data.k_b, base + over(1 - m_b, e_b)),
        (data.n_b - data.k_b, base - over(m_b, e_b)),
    )
    total = np.add.reduce([count * score for count, score in cells])
    squares = np.add.reduce([count * score**2 for count, score in cells])
    return data.n.cumsum(axis=1), total.cumsum(axis=1), squares.cumsum(axis=1)


# -- always valid ----------------------------------------------------------------------------------------------------


def asymptotic_half(variance: Floats, n: Floats, planned: float) -> Floats:
    """Half width of an asymptotic confidence sequence for a mean; Waudby-Smith et al. 2024 (arXiv 2103.06476).

    Args:
        variance: Variance of one observation.
        n: Observations so far.
        planned: Observations at which the sequence is tightest.
    """
    rho2 = _tuning(planned)
    return np.sqrt(2 * variance * (n * rho2 + 1) / (n**2 * rho2) * np.log(np.sqrt(n * rho2 + 1) / ALPHA))


def gbstats_sequential(planned: float, *, relative: bool = False) -> Method:
    """GrowthBook's sequential test, an asymptotic confidence sequence around the pooled difference.

    Args:
        planned: Units at which it is tightest.
        relative: Around p_b / p_a - 1 instead; effect and half width are then relative too.
    """

    def method(data: TwoArms) -> Looks:
        sums = data.pooled()
        p_a, p_b = sums.rates
        effect, variance = relative_difference(sums) if relative else (p_b - p_a, _plug_in_error(sums) ** 2)
        known, n = variance > 0, np.maximum(sums.n, 1.0)
        half = asymptotic_half(np.where(known, variance, 1.0) * n, n, planned)
        return Looks(
            rejects=known & (np.abs(effect) > half),
            effect=np.where(known, effect, np.nan),
            half=np.where(known, half, np.nan),
        )

    return method


def aipw_sequence(planned: float) -> Method:
    """Asymptotic confidence sequence around AIPW."""

    def method(data: TwoArms) -> Looks:
        n, total, squares = inverse_propensity(data)
        n = np.maximum(n, 1.0)
        effect = total / n
        half = asymptotic_half(np.maximum(squares / n - effect**2, 0.0), n, planned)
        return Looks(rejects=np.abs(effect) > half, effect=effect, half=half)

    return method


def design_based(planned: float, rate: float | None = None) -> Method:
    """Design-based confidence sequence of the mixture adaptive design (Liang & Bojinov 2023, arXiv 2311.05794).

    Args:
        planned: Units at which it is tightest.
        rate: Base rate by which units become variance, 4 x rate each under an even split; None: a unit counts as 1.
    """

    def method(data: TwoArms) -> Looks:
        e_a, e_b = 1 - data.share_b, data.share_b
        n = np.maximum(data.n.cumsum(axis=1), 1.0)
        effect = (over(data.k_b, e_b) - over(data.k_a, e_a)).cumsum(axis=1) / n
        variance = (over(data.k_b, e_b**2) + over(data.k_a, e_a**2)).cumsum(axis=1)
        half = design_radius(variance, n, planned if rate is None else 4 * rate * planned)
        return Looks(rejects=np.abs(effect) > half, effect=effect, half=half)

    return method


def design_radius(variance: Floats, n: Floats, planned: float) -> Floats:
    """Radius of the design-based sequence for a sum of variances after ``n`` units."""
    eta2 = _tuning(planned)
    return np.sqrt(2 * (variance * eta2 + 1) / eta2 * np.log(np.sqrt(variance * eta2 + 1) / ALPHA)) / n


def savvi(data: TwoArms) -> Looks:
    """Anytime multinomial test of conversions against equal shares (Lindon & Malek 2022, arXiv 2011.03567)."""
    k_a, k_b = data.k_a.cumsum(axis=1), data.k_b.cumsum(axis=1)
    prior = _SAVVI / 2
    evidence = betaln(prior + k_a, prior + k_b) - betaln(prior, prior) - (k_a + k_b) * np.log(0.5)
    nothing = np.full(evidence.shape, np.nan)
    return Looks(rejects=evidence >= np.log(1 / ALPHA), effect=nothing, half=nothing)


# -- group sequential ------------------------------------------------------------------------------------------------


def spotify_group_sequential(n_looks: int) -> Method:
    """Z with plug-in variances against Lan-DeMets bounds, alpha t^2 spent on planned looks (spotify-confidence)."""

    def method(data: TwoArms) -> Looks:
        sums = data.pooled()
        p_a, p_b = sums.rates
        return from_error(p_b - p_a, _plug_in_error(sums), np.array(spending_bounds(n_looks)))

    return method


@lru_cache
def spending_bounds(n_looks: int, alpha: float = ALPHA, *, late: bool = False) -> tuple[float, ...]:
    """Two-sided z bounds on equally spaced looks that spend alpha t^2, or ``late`` as O'Brien & Fleming do.

    Lan & DeMets 1983: 4 - 4 Phi(z / sqrt(t)), z leaving alpha / 4 above: each side spends its half.
    """
    times = np.arange(1, n_looks + 1) / n_looks
    spent = 4 * ndtr(ndtri(alpha / 4) / np.sqrt(times)) if late else alpha * times**2
    steps = np.diff(spent, prepend=0.0)
    walk = Walk(times)
    return tuple(walk.bound_for(float(step)) for step in steps)


@lru_cache
def shape_bounds(n_looks: int, delta: float, alpha: float = ALPHA) -> tuple[float, ...]:
    """Wang-Tsiatis (1987) z bounds c t^(delta - 1/2): 0 is O'Brien-Fleming, 1/2 Pocock."""
    times = np.arange(1, n_looks + 1) / n_looks
    shape = times ** (delta - 0.5)
    low, high = 1.5, 4.5
    while high - low > 1e-5:
        middle = (low + high) / 2
        walk = Walk(times)
        crossed = sum(walk.cross(float(middle * factor)) for factor in shape)
        low, high = (middle, high) if crossed > alpha else (low, middle)
    return tuple((high * shape).tolist())


class Walk:
    """Brownian motion looked at now and then: its density among the paths that have not crossed yet, on a grid."""

    def __init__(self, times: Floats, reach: float = 6.0, nodes: int = 801) -> None:
        self.times, self.look = times, 0
        self.x = np.linspace(-reach, reach, nodes)
        self.dx = float(self.x[1] - self.x[0])
        self.density = np.zeros(nodes)

    @property
    def step(self) -> float:
        """Standard deviation of the next step."""
        return float(np.sqrt(np.diff(self.times, prepend=0.0)[self.look]))

    def beyond(self, z: float) -> float:
        """Chance to be beyond ``z`` standard deviations at the next look for the first time."""
        cut, sd = z * np.sqrt(self.times[self.look]), self.step
        if self.look == 0:
            return 2 * float(ndtr(-cut / sd))
        return float(self.density @ (ndtr((self.x - cut) / sd) + ndtr(-(self.x + cut) / sd))) * self.dx

    def cross(self, z: float) -> float:
        """`beyond`, and go to that look: the paths that crossed end there."""
        crossed, cut, sd = self.beyond(z), z * np.sqrt(self.times[self.look]), self.step
        if self.look == 0:
            density = np.exp(-((self.x / sd) ** 2) / 2) / sd
        else:
            density = _kernel(len(self.x), round(self.dx, 12), round(sd, 12)) @ self.density * self.dx
        inside = np.clip((cut - np.abs(self.x)) / self.dx + 0.5, 0.0, 1.0)
        self.density = density / np.sqrt(2 * np.pi) * inside
        self.look += 1
        return crossed

    def bound_for(self, alpha: float) -> float:
        """The bound that is crossed with chance ``alpha`` at the next look; then `cross` it."""
        low, high = 0.5, 9.0
        while high - low > 1e-7:
            middle = (low + high) / 2
            low, high = (middle, high) if self.beyond(middle) > alpha else (low, middle)
        self.cross(high)
        return high


@lru_cache(maxsize=8)
def _kernel(nodes: int, dx: float, sd: float) -> Floats:
    apart = np.arange(nodes) * dx / sd
    column = np.exp(-(apart**2) / 2) / sd
    kernel: Floats = column[np.abs(np.arange(nodes)[:, None] - np.arange(nodes))]
    return kernel


# -- parts -----------------------------------------------------------------------------------------------------------


def relative_difference(sums: TwoArms) -> tuple[Floats, Floats]:
    """p_b / p_a - 1 and its delta-method variance with p (1 - p) / n, as gbstats has it."""
    p_a, p_b = sums.rates
    noise_a, noise_b = over(p_a * (1 - p_a), sums.n_a), over(p_b * (1 - p_b), sums.n_b)
    return over(p_b - p_a, p_a), over(noise_b, p_a**2) + over(noise_a * p_b**2, p_a**4)


def _inverse_sizes(sums: TwoArms) -> Floats:
    sent = np.minimum(sums.n_a, sums.n_b) > 0
    return np.where(sent, over(np.ones_like(sums.n_a), sums.n_a) + over(np.ones_like(sums.n_b), sums.n_b), 0.0)


def _plug_in_error(sums: TwoArms) -> Floats:
    """Standard error of p_b - p_a with p (1 - p) / n for each arm; 0 where an arm got nobody."""
    p_a, p_b = sums.rates
    sent = np.minimum(sums.n_a, sums.n_b) > 0
    return np.where(sent, np.sqrt(over(p_a * (1 - p_a), sums.n_a) + over(p_b * (1 - p_b), sums.n_b)), 0.0)


def _variance(k: Floats, n: Floats) -> Floats:
    p = over(k, n)
    return over(p * (1 - p) * n, n - 1)


def _tuning(planned: float) -> float:
    spent = -2 * np.log(ALPHA)
    return float((spent + np.log(spent + 1)) / planned)


def _predicted(data: TwoArms) -> tuple[Floats, Floats]:
    """Rates of the arms before each epoch, shrunk to the pooled one; 0 before the first."""
    sums = data.pooled()
    pooled = over(sums.k, sums.n)
    arms = (over(k + _SHRINKAGE * pooled, n + _SHRINKAGE) for n, k in ((sums.n_a, sums.k_a), (sums.n_b, sums.k_b)))
    before = (np.concatenate([np.zeros((len(rate), 1)), rate[:, :-1]], axis=1) for rate in arms)
    rate_a, rate_b = before
    return rate_a, rate_b


def _weighted_arm(n: Floats, n_w: Floats, k: Floats, e: Floats, m: Floats) -> tuple[Floats, Floats]:
    """Weighted mean of an arm's AIPW scores and its variance, by look."""
    h = np.sqrt(e)
    scores: Sequence[tuple[Floats, Floats]] = (
        (n - n_w, m),
        (k, m + over(1 - m, e)),
        (n_w - k, m - over(m, e)),
    )
    weight = (h * n).cumsum(axis=1)
    mean = over((h * np.add.reduce([c * s for c, s in scores])).cumsum(axis=1), weight)
    first, second = ((h**2 * np.add.reduce([c * s**power for c, s in scores])).cumsum(axis=1) for power in (1, 2))
    spread = second - 2 * mean * first + mean**2 * (h**2 * n).cumsum(axis=1)
    return mean, over(np.maximum(spread, 0.0), weight**2)
