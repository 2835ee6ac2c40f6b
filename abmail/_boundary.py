"""How far a sum may wander by chance: constants and crossing probabilities for looking more than once.

Group-sequential constants come from recursive numerical integration (Armitage, McPherson & Rowe 1969; Jennison &
Turnbull 2000, ch. 19), the time-uniform bound is Robbins' normal mixture (Howard et al. 2021, arXiv 1810.08240).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "MOST_SHAPE",
    "Boundary",
    "check_alpha",
    "crossing_probability",
    "dunnett_level",
    "dunnett_p_value",
    "falling_root",
    "mixture_bound",
    "mixture_p_value",
    "mixture_rho",
    "normal_tail",
    "obrien_fleming",
]

_PANEL = 2.5  # widest panel of 8 Gauss-Legendre nodes, in standard deviations of one step
_FAR = 8.0  # beyond this the crossing probability is under 1e-14 and the reflection bound is as good
_MOST_LOOKS = 1_000
_MANY_LOOKS = 40
_SMALLEST_STEP = 1e-4
_FEW = 8  # so many values are integrated one by one; more are read off a curve
_CURVE_NODES = 64
MOST_SHAPE = 0.5


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where a walk on the clock of spent information stops: |Z| >= c time^shape at a look.

    Attributes:
        clock: Times of the planned looks, the last being 1; None for any time in (0, 1].
        shape: 0 for O'Brien & Fleming (1979), 0.25 between them and Pocock, 0.5 for Pocock (Wang & Tsiatis 1987).
        kept: Number of looks that kept to the clock before the plan was changed; None where it never was. Later looks
            may come at any time; they get what of alpha the kept ones cannot have spent.
    """

    clock: tuple[float, ...] | None
    shape: float = 0.0
    kept: int | None = None

    def constants(self, level: float, n_looks: int) -> Floats:
        """The constant c at each look, (n_looks,)."""
        c = _constant(self.clock, level, self.shape)
        if self.kept is None or self.kept >= n_looks:
            return np.full(n_looks, c)
        return np.where(np.arange(n_looks) < self.kept, c, _constant(None, self._left(c, level), 0.0))

    def p_value(self, distance: Floats) -> Floats:
        """Chance that a walk without drift gets as far at some look; ``distance`` is (..., n_looks), |Z| / time^shape.

        Looks that do not count have distance 0; the answer is (...,).
        """
        if self.kept is None or self.kept >= distance.shape[-1]:
            return crossing_probability(distance.max(axis=-1), self.clock, self.shape)
        before, after = distance[..., : self.kept], distance[..., self.kept :].max(axis=-1)
        early = crossing_probability(before.max(axis=-1, initial=0.0), self.clock, self.shape)
        late = [self._late_p_value(float(c)) for c in after.ravel()]
        return np.minimum(early, np.array(late, dtype=np.float64).reshape(after.shape))

    def _left(self, c: float, level: float) -> float:
        """What the looks that were kept leave of a level."""
        return max(level - self._spent(c), 1e-300)

    def _spent(self, c: float) -> float:
        if not self.kept or self.clock is None:
            return 0.0
        return float(crossing_probability(c, self.clock[: self.kept], self.shape))

    def _late_p_value(self, distance: float) -> float:
        """The level at which a look after the change of plan just rejects."""
        wanted = float(crossing_probability(distance, None))

        def left(c: float) -> float:
            return self._left(c, float(crossing_probability(c, self.clock, self.shape))) - wanted

        for low in np.arange(_FAR, 0.0, -0.25):  # from above: for very small constants the kept looks spend it all
            if left(float(low)) > 0:
                return float(crossing_probability(falling_root(left, float(low), low + 0.25), self.clock, self.shape))
        return 1.0


def check_alpha(alpha: float, name: str = "alpha") -> float:
    """Return the level as given.

    Raises:
        ValueError: It is not a fraction strictly between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"{name} is {alpha:g}, must be in (0, 1)")
    return alpha


def normal_tail(z: float) -> float:
    """P(|N(0, 1)| >= z), the two-sided p-value of a z score."""
    return math.erfc(z / math.sqrt(2))


def obrien_fleming(looks: int | Sequence[float] | None, alpha: float = 0.05, *, shape: float = 0.0) -> float:
    """The constant c for which |Z| >= c time^shape at any look has probability ``alpha`` when nothing differs.

    Z is the weighted sum of epoch scores on the clock of spent information, so that its variance at the last look is 1
    (O'Brien & Fleming 1979; Wang & Tsiatis 1987; Jennison & Turnbull 2000, tables 2.1, 2.3 and 2.9).

    Args:
        looks: Number of equally spaced looks; or the increasing clock fractions of the looks in (0, 1], the last
            being 1; or None for any number of looks at any time.
        alpha: Two-sided level, fraction in (0, 1).
        shape: 0 for O'Brien-Fleming, 0.25 for an earlier stop, 0.5 for Pocock; 0 where ``looks`` is None.

    Returns:
        The constant, 2.0401 for five looks at 5 %.

    Raises:
        ValueError: ``looks``, ``alpha`` or ``shape`` is out of range.

    Example:
        >>> round(obrien_fleming(5, 0.05), 3), round(obrien_fleming(None, 0.05), 4)
        (2.04, 2.2414)
    """
    clock = _clock(looks)
    if not 0 <= shape <= MOST_SHAPE:
        raise ValueError(f"shape is {shape:g}, must be in [0, 0.5]")
    if clock is None and shape:
        raise ValueError(f"shape is {shape:g}, but without planned looks there is only the boundary of shape 0")
    return _constant(clock, check_alpha(alpha), float(shape))


def crossing_probability(c: ArrayLike, clock: tuple[float, ...] | None, shape: float = 0.0) -> Floats:
    """P(|B| reaches ``c`` time^shape at any of the clock's times) for a Brownian motion B; at any time when None.

    Args:
        c: Constants >= 0, any shape.
        clock: Increasing times in (0, 1].
        shape: Exponent of the boundary, 0 where the clock is None.

    Returns:
        Fractions in [0, 1], of the shape of ``c``.
    """
    values = np.asarray(c, dtype=np.float64)
    if clock is None or not _resolvable(clock):
        return _continuous_crossing(values)
    if len(clock) == 1:
        return _two_sided_tail(values * clock[0] ** (shape - 0.5))
    flat = values.ravel()
    inside = (flat >= 1e-3) & (flat <= _FAR)
    answer = np.where(flat < 1e-3, 1.0, 0.0)
    # beyond the resolved range the walk crosses at its easiest look or never: a bound that is under 1e-13
    answer[flat > _FAR] = np.minimum(1.0, len(clock) * _two_sided_tail(flat[flat > _FAR] * _easiest(clock, shape)))
    if 0 < inside.sum() <= _FEW and not _is_long(clock, shape):
        answer[inside] = _recursive_crossing(flat[inside], clock, shape)
    elif inside.any():
        answer[inside] = _read_off(flat[inside], clock, shape)
    return np.minimum(answer, 1.0).reshape(values.shape)


def _is_long(clock: tuple[float, ...], shape: float) -> bool:
    """Whether reading off a curve pays even for one value: many even steps, whose curve many experiments share."""
    return shape == 0.0 and len(clock) > _MANY_LOOKS and float(np.ptp(np.diff(np.array((0.0, *clock))))) < 1e-9


def _easiest(clock: tuple[float, ...], shape: float) -> float:
    return float((np.array(clock) ** (shape - 0.5)).min())


@lru_cache(maxsize=256)
def _curve(clock: tuple[float, ...], shape: float) -> Floats:
    """Chebyshev coefficients of the log crossing probability over the resolved range of constants."""
    from numpy.polynomial import chebyshev

    x = chebyshev.chebpts1(_CURVE_NODES)
    values = np.concatenate([
        _recursive_crossing(part, clock, shape) for part in np.array_split((x + 1) * _FAR / 2, _CURVE_NODES // _FEW)
    ])  # fmt: skip
    coefficients: Floats = np.asarray(chebyshev.chebfit(x, np.log(values), _CURVE_NODES - 1), dtype=np.float64)
    return coefficients


def _read_off(c: Floats, clock: tuple[float, ...], shape: float) -> Floats:
    from numpy.polynomial import chebyshev

    x, coefficients = c * 2 / _FAR - 1, _curve(clock, shape)
    if x.size > _FEW:
        return np.exp(chebyshev.chebval(x, coefficients))
    # the same sum by its definition, T_i(x) = cos(i arccos x): one call in place of one for every term
    curve: Floats = np.exp(np.cos(np.arccos(x)[:, None] * np.arange(len(coefficients))) @ coefficients)
    return curve


@lru_cache(maxsize=256)
def dunnett_level(n_contrasts: int, correlation: float, alpha: float, clock: tuple[float, ...] | None) -> float:
    """Level of each of several contrasts with one control, so that any is wrong with probability at most ``alpha``.

    Hunter (1976) and Worsley (1982): P(any of m) <= m P(one) - (m - 1) P(both of a pair). A pair of contrasts is at
    least as likely to be beyond the boundary together as at the last look alone, where their correlation is known.

    Args:
        n_contrasts: Number of arms compared with the control.
        correlation: Smallest correlation of two contrasts at the last look, in [0, 1): 0.5 for equal arms that never
            changed, 0 where the weights moved (Royen 2014: then at least as likely as for independent ones).
        alpha: Two-sided level of the family.
        clock: Times of the planned looks; None for any time.

    Returns:
        Two-sided level of one contrast, between Bonferroni's and ``alpha``.
    """
    if n_contrasts == 1:
        return alpha

    def excess(c: float) -> float:
        both = _both_beyond(c, correlation)
        return n_contrasts * float(crossing_probability(c, clock)) - (n_contrasts - 1) * both - alpha

    c = falling_root(excess, _normal_quantile(alpha), _constant(clock, alpha / n_contrasts, 0.0))
    return float(crossing_probability(c, clock))


def dunnett_p_value(p: Floats, n_contrasts: int, correlation: float, clock: tuple[float, ...] | None) -> Floats:
    """The family's p-value for each contrast's own: the level at which `dunnett_level` would just let it reject."""
    if n_contrasts == 1:
        return p
    own, both = _dunnett_curve(correlation, clock)
    together = np.exp(np.interp(np.log(np.maximum(p, 1e-300)), own, both))
    adjusted: Floats = np.clip(n_contrasts * p - (n_contrasts - 1) * together, p, 1.0)
    return adjusted


@lru_cache(maxsize=64)
def _dunnett_curve(correlation: float, clock: tuple[float, ...] | None) -> tuple[Floats, Floats]:
    """Logs of P(one contrast crosses) and P(both of a pair are beyond at the last look) along the constants."""
    c = np.linspace(_FAR, 0.05, 160)
    both = np.array([_both_beyond(float(each), correlation) for each in c])
    return np.log(np.maximum(crossing_probability(c, clock), 1e-300)), np.log(np.maximum(both, 1e-300))


def _both_beyond(c: float, correlation: float) -> float:
    """P(|X| >= c and |Y| >= c) for standard normal X and Y."""
    from scipy.special import ndtr

    node, weight = np.polynomial.legendre.leggauss(64)
    x = c + (node + 1) * 5.0
    spread = math.sqrt(1 - correlation**2)
    beyond = ndtr((correlation * x - c) / spread) + ndtr((-c - correlation * x) / spread)
    return 2 * float((np.exp(-0.5 * x**2) * beyond) @ (weight * 5.0)) / math.sqrt(2 * math.pi)


def mixture_rho(v_opt: float, alpha: float) -> float:
    """The mixture's tuning constant that makes the bound tightest at intrinsic time ``v_opt``.

    ``v_opt / (-W_{-1}(-alpha^2 / e) - 1)``, Waudby-Smith et al. 2024 (arXiv 2103.06476), eq. 24.
    """
    from scipy.special import lambertw

    return float(v_opt / (-lambertw(-(alpha**2) / math.e, -1).real - 1))


def mixture_bound(v: NDArray[np.float64], rho: NDArray[np.float64] | float, alpha: float) -> NDArray[np.float64]:
    """The |sum| that is reached at any intrinsic time ``v`` with probability at most ``alpha``."""
    return np.sqrt((v + rho) * (np.log1p(v / rho) + 2 * math.log(1 / alpha)))


def mixture_p_value(
    s: NDArray[np.float64], v: NDArray[np.float64], rho: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """One over the mixture martingale at sum ``s`` and time ``v``; its running minimum is an anytime p-value."""
    return np.minimum(1.0, np.exp(0.5 * np.log1p(v / rho) - s**2 / (2 * (v + rho))))


def _clock(looks: int | Sequence[float] | None) -> tuple[float, ...] | None:
    if looks is None:
        return None
    if isinstance(looks, (int, np.integer)):
        if looks < 1:
            raise ValueError(f"looks is {looks}, must be at least 1")
        return tuple(look / int(looks) for look in range(1, int(looks) + 1))
    clock = tuple(float(fraction) for fraction in looks)
    steps = np.diff(np.array((0.0, *clock)))
    if not clock or not (steps > 0).all() or abs(clock[-1] - 1) > 1e-9:
        raise ValueError(f"clock fractions are {clock}, must increase from above 0 to 1")
    return clock


@lru_cache(maxsize=1024)
def _constant(clock: tuple[float, ...] | None, alpha: float, shape: float) -> float:
    low = _normal_quantile(alpha)
    if clock is not None and len(clock) == 1:
        return low
    high = max(low, 1.0)
    while float(crossing_probability(high, clock, shape)) > alpha:
        high += 0.5
    return falling_root(lambda c: math.log(float(crossing_probability(c, clock, shape)) / alpha), low, high)


def _normal_quantile(alpha: float) -> float:
    from scipy.special import ndtri

    return float(-ndtri(alpha / 2))


def falling_root(f: Callable[[float], float], low: float, high: float, tolerance: float = 1e-12) -> float:
    """Root of a falling function by the Illinois rule (Dowell & Jarratt 1971); an end where it has none inside."""
    f_low, f_high = f(low), f(high)
    for _ in range(60):
        if f_low <= 0 or high - low < tolerance:
            return low
        if f_high >= 0:
            return high
        middle = (low * f_high - high * f_low) / (f_high - f_low)
        value = f(middle)
        if abs(value) < tolerance:
            return middle
        if value > 0:
            low, f_low, f_high = middle, value, f_high / 2
        else:
            high, f_high, f_low = middle, value, f_low / 2
    return (low + high) / 2


def _resolvable(clock: tuple[float, ...]) -> bool:
    """Whether the recursion is affordable; otherwise the continuous bound takes its place, which is never too small."""
    return len(clock) <= _MOST_LOOKS and float(np.diff(np.array((0.0, *clock))).min()) > _SMALLEST_STEP


def _two_sided_tail(z: Floats) -> Floats:
    from scipy.special import erfc

    tail: Floats = np.asarray(erfc(z / math.sqrt(2)), dtype=np.float64)
    return tail


def _continuous_crossing(c: Floats) -> Floats:
    """P(sup |B| >= c on [0, 1]) by the two series of the reflection principle, each where it converges fast."""
    odd = np.arange(1.0, 20.0, 2.0)
    sign = np.where(odd % 4 == 1, 1.0, -1.0)
    near, far = np.clip(c, 1e-3, 1.0)[..., None], np.maximum(c, 1.0)[..., None]
    inner: Floats = 1 - 4 / math.pi * (sign / odd * np.exp(-((odd * math.pi / near) ** 2) / 8)).sum(axis=-1)
    outer: Floats = 2 * (sign * _two_sided_tail(odd * far)).sum(axis=-1)
    return np.where(c < 1, inner, outer)


def _recursive_crossing(c: Floats, clock: tuple[float, ...], shape: float) -> Floats:
    """Sum of the chances to leave the boundary at each look, (n_constants,).

    By symmetry the density of the walks that are still inside is followed on (0, boundary) alone, for all constants at
    once: arrays are (n_constants, n_nodes).
    """
    times = np.array(clock)
    steps = np.sqrt(np.diff(times, prepend=0.0))
    bounds = c[:, None] * times**shape
    unit, share = _nodes(float(bounds.max() / steps.min()))
    x = bounds[:, :1] * unit
    density = np.exp(-0.5 * (x / steps[0]) ** 2) / (steps[0] * math.sqrt(2 * math.pi))
    crossed = _two_sided_tail(bounds[:, 0] / steps[0])
    if shape == 0.0 and np.ptp(steps) < 1e-9:
        return crossed + _even_steps(density, x, bounds[:, :1] * share, bounds[:, :1], float(steps[0]), len(steps))
    for look in range(1, len(steps)):
        mass, sd, bound = density * bounds[:, look - 1 : look] * share, steps[look], bounds[:, look : look + 1]
        crossed = crossed + (mass * _leaving(x, bound, sd)).sum(axis=-1)
        onto = bound * unit
        density = (_folded_kernel(onto, x, sd) @ mass[..., None])[..., 0]
        x = onto
    return crossed


def _even_steps(density: Floats, x: Floats, weight: Floats, bound: Floats, sd: float, looks: int) -> Floats:
    """The chances to leave at every look but the first, where nothing changes from look to look."""
    kernels = _folded_kernel(x, x, sd) * weight[..., None]
    total = np.zeros_like(x)
    for kernel, mass, so_far in zip(kernels, density * weight, total, strict=True):
        inside = mass
        for _ in range(looks - 1):
            so_far += inside
            inside = kernel @ inside
    leaving: Floats = (total * _leaving(x, bound, sd)).sum(axis=-1)
    return leaving


def _leaving(x: Floats, bound: Floats, sd: float) -> Floats:
    """Chance to be outside after one step from ``x`` or from its mirror image, for both together."""
    from scipy.special import ndtr

    out: Floats = 2 * (ndtr((x - bound) / sd) + ndtr(-(x + bound) / sd))
    return out


def _folded_kernel(onto: Floats, x: Floats, sd: float) -> Floats:
    """Density of a step from ``x`` or its mirror image to ``onto``, (n_constants, n_nodes, n_nodes)."""
    apart, across = (onto[..., :, None] - x[..., None, :]) / sd, (onto[..., :, None] + x[..., None, :]) / sd
    kernel: Floats = np.exp(-0.5 * apart**2) + np.exp(-0.5 * across**2)
    return kernel / (sd * math.sqrt(2 * math.pi))


def _nodes(width: float) -> tuple[Floats, Floats]:
    """Composite Gauss-Legendre nodes and weights on (0, 1) for a range of ``width`` standard deviations of a step."""
    return _unit_nodes(max(1, math.ceil(width / _PANEL)))


@lru_cache(maxsize=64)
def _unit_nodes(panels: int) -> tuple[Floats, Floats]:
    node, weight = np.polynomial.legendre.leggauss(8)
    half = 0.5 / panels
    centre = half * (2 * np.arange(panels) + 1)
    return (centre[:, None] + half * node).ravel(), np.tile(half * weight, panels)
