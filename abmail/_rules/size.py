"""How many mails a test needs, by the normal approximation: the best that any way to share them can do.

`abmail power` is exact: it counts looks, shares that move and rates of rare events. The closed form of the pooled score
test (Fleiss, Levin & Paik 2003, eq. 4.14, without correction) is at least as hopeful, so a test that it finds too small
is too small.
"""

from __future__ import annotations

import math

__all__ = ["chance", "needed"]


def chance(*, baseline: float, effect: float, n: float, cells: int, alpha: float) -> float:
    """Chance that a better variant is proved better than one other, at the level that naming the best of all asks for.

    Args:
        baseline: Rate of the others, fraction in (0, 1).
        effect: What the better one's rate exceeds it by, positive.
        n: Mails to all variants, evenly split.
        cells: Number of variants.
        alpha: Two-sided level of the whole comparison, fraction in (0, 1).

    Example:
        >>> round(chance(baseline=0.2, effect=0.02, n=10_000, cells=2, alpha=0.05), 2)
        0.69
    """
    null, alternative = _spreads(baseline, effect)
    root = math.sqrt(n / cells)
    z = (effect * root - _quantile(alpha, cells) * null) / alternative
    return 0.5 * math.erfc(-z / math.sqrt(2))


def needed(*, baseline: float, effect: float, power: float, cells: int, alpha: float) -> int:
    """Mails to all variants with which that chance is ``power``.

    Example:
        >>> needed(baseline=0.2, effect=0.02, power=0.8, cells=2, alpha=0.05)
        13019
    """
    null, alternative = _spreads(baseline, effect)
    root = (_quantile(alpha, cells) * null + _z(power) * alternative) / effect
    return math.ceil(cells * max(root, 0.0) ** 2)


def _spreads(baseline: float, effect: float) -> tuple[float, float]:
    """Standard deviations of a difference of two answers, without and with the effect."""
    better = baseline + effect
    middle = (baseline + better) / 2
    alternative = baseline * (1 - baseline) + better * (1 - better)
    return math.sqrt(2 * middle * (1 - middle)), math.sqrt(alternative)


def _quantile(alpha: float, cells: int) -> float:
    """Two-sided, at 2 alpha / cells for each pair."""
    return _z(1 - alpha / cells)


def _z(share: float) -> float:
    """Quantile of the standard normal distribution."""
    from statistics import NormalDist  # slow to load, and most definitions have no need of it

    return NormalDist().inv_cdf(share)
