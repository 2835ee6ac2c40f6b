"""How a test with planned looks ends when there is a difference: a Brownian motion with drift against a constant.

Recursive numerical integration over the looks (Armitage, McPherson & Rowe 1969; Jennison & Turnbull 2000, ch. 19), with
two additions: the variance may differ from that of the hypothesis, and looks count only from a random one on, the first
that has data enough for a claim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["Crossing", "drift_crossing"]

_PANEL = 2.5  # widest panel of 8 Gauss-Legendre nodes, in standard deviations of one step
_SMALLEST_STEP = 1 / 400  # looks that lie closer together are counted as one


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """Where a motion first leaves the boundaries.

    Attributes:
        clock: Times of the looks, (n_looks,).
        upper: Chance to be first seen outside at that look, above the upper boundary, (n_looks,).
        lower: The same below the lower boundary.
    """

    clock: Floats
    upper: Floats
    lower: Floats


def drift_crossing(
    c: float | Floats, clock: Sequence[float], drift: float, *, variance: float = 1.0, ready: Floats | None = None
) -> Crossing:
    """Chances that a Brownian motion with drift is first seen outside (-c, c) at each look.

    Args:
        c: Boundary, positive; one for all looks, or (n_looks,).
        clock: Times of the looks, increasing in (0, 1]. Looks closer together than 1/400 are counted as one.
        drift: Mean of the motion at time 1.
        variance: Variance of the motion at time 1, positive.
        ready: Chance that looks count by then, (n_looks,), never falling and independent of the motion; 1 by default.

    Returns:
        The chances, look by look.

    Example:
        >>> round(float(drift_crossing(2.0401, [0.2, 0.4, 0.6, 0.8, 1], 0.0).upper.sum()), 4)
        0.025
    """
    from scipy.special import ndtr

    times = np.asarray(clock, dtype=np.float64)
    kept = _apart(times)
    times, counted = times[kept], np.ones(len(kept)) if ready is None else ready[kept]
    sd = math.sqrt(variance)
    edges = np.broadcast_to(np.asarray(c, dtype=np.float64), len(clock))[kept] / sd
    slope, steps, begun = drift / sd, np.diff(times, prepend=0.0), np.diff(counted, prepend=0.0)
    finest = math.sqrt(steps.min())
    upper, lower = np.zeros(len(times)), np.zeros(len(times))
    nodes: dict[float, tuple[Floats, Floats]] = {}
    kernels: dict[tuple[float, float, float], Floats] = {}
    before, x, mass = 0.0, np.zeros(0), np.zeros(0)
    for i, (time, step, edge) in enumerate(zip(times, steps, edges.tolist(), strict=True)):
        wide, narrow, centre = math.sqrt(time), math.sqrt(step), x + slope * step
        upper[i] = mass @ ndtr((centre - edge) / narrow) + begun[i] * ndtr((slope * time - edge) / wide)
        lower[i] = mass @ ndtr((-edge - centre) / narrow) + begun[i] * ndtr((-edge - slope * time) / wide)
        if edge not in nodes:
            nodes[edge] = _nodes(edge, finest)
        x, weight = nodes[edge]
        density = begun[i] * _normal(x, slope * time, wide)
        if i:
            key = (round(float(step), 9), before, edge)
            if key not in kernels:
                kernels[key] = _normal(x[:, None], centre, narrow)
            density += kernels[key] @ mass
        before, mass = edge, density * weight
    return Crossing(clock=times, upper=upper, lower=lower)


def _apart(times: Floats) -> list[int]:
    """The looks that are kept, so that they lie apart; the last one always."""
    kept = [len(times) - 1]
    for i in range(len(times) - 2, -1, -1):
        if times[kept[-1]] - times[i] >= _SMALLEST_STEP - 1e-12 and times[i] >= _SMALLEST_STEP - 1e-12:
            kept.append(i)
    return kept[::-1]


def _normal(x: Floats, mean: Floats | float, sd: float) -> Floats:
    density: Floats = np.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))
    return density


def _nodes(edge: float, sd: float) -> tuple[Floats, Floats]:
    """Composite Gauss-Legendre nodes and weights on (-edge, edge), fine enough for steps of that standard deviation."""
    node, weight = np.polynomial.legendre.leggauss(8)
    panels = max(2, math.ceil(2 * edge / (_PANEL * sd)))
    half = edge / panels
    centre = half * (2 * np.arange(panels) + 1) - edge
    return (centre[:, None] + half * node).ravel(), np.tile(half * weight, panels)
