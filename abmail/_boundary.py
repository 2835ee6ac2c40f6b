"""How far a sum may wander by chance: constants and crossing probabilities for looking more than once.

Group-sequential constants come from recursive numerical integration (Armitage, McPherson & Rowe 1969; Jennison &
Turnbull 2000, ch. 19), the time-uniform bound is Robbins' normal mixture (Howard et al. 2021, arXiv 1810.08240).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = [
    "check_alpha",
    "crossing_probability",
    "mixture_bound",
    "mixture_p_value",
    "mixture_rho",
    "normal_tail",
    "obrien_fleming",
]

_PANEL = 2.5  # widest panel of 8 Gauss-Legendre nodes, in standard deviations of one step
_FAR = 8.0  # beyond this the crossing probability is under 1e-14 and the reflection bound is as good
_MOST_LOOKS = 1_000
_SMALLEST_STEP = 1e-4


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


def obrien_fleming(looks: int | Sequence[float] | None, alpha: float = 0.05) -> float:
    """The constant c for which |Z| >= c at any look has probability ``alpha`` when nothing differs.

    Z is the weighted sum of epoch scores on the clock of spent information, so that its variance at the last look is 1
    (O'Brien & Fleming 1979; Jennison & Turnbull 2000, table 2.3).

    Args:
        looks: Number of equally spaced looks; or the increasing clock fractions of the looks in (0, 1], the last
            being 1; or None for any number of looks at any time.
        alpha: Two-sided level, fraction in (0, 1).

    Returns:
        The constant, 2.0401 for five looks at 5 %.

    Raises:
        ValueError: ``looks`` or ``alpha`` is out of range.

    Example:
        >>> round(obrien_fleming(5, 0.05), 3), round(obrien_fleming(None, 0.05), 4)
        (2.04, 2.2414)
    """
    return _constant(_clock(looks), check_alpha(alpha))


def crossing_probability(c: float, clock: tuple[float, ...] | None) -> float:
    """P(|B| reaches ``c`` at any of the clock's times) for a Brownian motion B; at any time in (0, 1] when None.

    Args:
        c: Constant boundary, >= 0.
        clock: Increasing times in (0, 1].
    """
    if clock is not None and len(clock) == 1:
        return normal_tail(c / math.sqrt(clock[0]))
    if c < 1e-3:
        return 1.0
    if c > _FAR or clock is None or not _resolvable(clock):
        return _continuous_crossing(c)
    return min(1.0, _recursive_crossing(c, np.diff(np.array((0.0, *clock)))))


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
    if isinstance(looks, int | np.integer):
        if looks < 1:
            raise ValueError(f"looks is {looks}, must be at least 1")
        return tuple((np.arange(1, looks + 1) / looks).tolist())
    clock = tuple(float(fraction) for fraction in looks)
    steps = np.diff(np.array((0.0, *clock)))
    if not clock or not (steps > 0).all() or abs(clock[-1] - 1) > 1e-9:
        raise ValueError(f"clock fractions are {clock}, must increase from above 0 to 1")
    return clock


@lru_cache(maxsize=256)
def _constant(clock: tuple[float, ...] | None, alpha: float) -> float:
    low = _normal_quantile(alpha)
    if clock is not None and len(clock) == 1:
        return low
    high = max(low, 1.0)
    while _continuous_crossing(high) > alpha:  # the continuous constant is an upper bound for every clock
        high += 0.5
    return _falling_root(lambda c: math.log(crossing_probability(c, clock) / alpha), low, high)


def _normal_quantile(alpha: float) -> float:
    from scipy.special import ndtri

    return float(-ndtri(alpha / 2))


def _falling_root(f: Callable[[float], float], low: float, high: float) -> float:
    """Root of a falling function by the Illinois rule (Dowell & Jarratt 1971)."""
    f_low, f_high = f(low), f(high)
    for _ in range(60):
        if f_low <= 0 or high - low < 1e-12:
            return low
        if f_high >= 0:
            return high
        middle = (low * f_high - high * f_low) / (f_high - f_low)
        value = f(middle)
        if abs(value) < 1e-12:
            return middle
        if value > 0:
            low, f_low, f_high = middle, value, f_high / 2
        else:
            high, f_high, f_low = middle, value, f_low / 2
    return (low + high) / 2


def _resolvable(clock: tuple[float, ...]) -> bool:
    """Whether the recursion is affordable; otherwise the continuous bound takes its place, which is never too small."""
    return len(clock) <= _MOST_LOOKS and float(np.diff(np.array((0.0, *clock))).min()) > _SMALLEST_STEP


def _continuous_crossing(c: float) -> float:
    """P(sup |B| >= c on [0, 1]) by the two series of the reflection principle, each where it converges fast."""
    odd = range(1, 20, 2)
    if c < 1:
        return 1 - 4 / math.pi * math.fsum(_sign(i) / i * math.exp(-((i * math.pi / c) ** 2) / 8) for i in odd)
    return 2 * math.fsum(_sign(i) * normal_tail(i * c) for i in odd)


def _sign(odd: int) -> int:
    return 1 if odd % 4 == 1 else -1


def _recursive_crossing(c: float, steps: NDArray[np.float64]) -> float:
    """Sum of the chances to leave (-c, c) at each look; by symmetry the density is followed on (0, c) alone."""
    from scipy.special import ndtr

    x, weight = _nodes(c, math.sqrt(steps.min()))
    sd = math.sqrt(steps[0])
    density = np.exp(-0.5 * (x / sd) ** 2) / (sd * math.sqrt(2 * math.pi))
    crossed = normal_tail(c / sd)
    kernel, last = np.empty(0), -1.0
    for step in steps[1:]:
        sd = math.sqrt(step)
        mass = density * weight
        crossed += 2 * float(mass @ (ndtr((x - c) / sd) + ndtr(-(x + c) / sd)))
        if abs(step - last) > 1e-12:
            kernel, last = _folded_kernel(x, sd), float(step)
        density = kernel @ mass
    return crossed


def _folded_kernel(x: NDArray[np.float64], sd: float) -> NDArray[np.float64]:
    apart, across = (x[:, None] - x) / sd, (x[:, None] + x) / sd
    kernel: NDArray[np.float64] = np.exp(-0.5 * apart**2) + np.exp(-0.5 * across**2)
    return kernel / (sd * math.sqrt(2 * math.pi))


def _nodes(c: float, sd: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Composite Gauss-Legendre nodes and weights on (0, c), fine enough for steps of that standard deviation."""
    node, weight = np.polynomial.legendre.leggauss(8)
    panels = max(1, math.ceil(c / (_PANEL * sd)))
    half = c / panels / 2
    centre = half * (2 * np.arange(panels) + 1)
    return (centre[:, None] + half * node).ravel(), np.tile(half * weight, panels)
