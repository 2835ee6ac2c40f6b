"""Does a rate exceed its limit? One-sided, and valid however often one looks."""

from __future__ import annotations

import math

from abmail._boundary import check_alpha

__all__ = ["exceeds_limit"]


def exceeds_limit(n: int, k: int, limit: float, *, alpha: float = 0.05) -> bool:
    """Whether the data prove that a rate is above its limit.

    The likelihood of every rate above the limit, mixed evenly, divided by the likelihood at the limit, is an e-process
    for any true rate up to the limit: it exceeds 1 / alpha with probability at most alpha at any number of looks (Ville
    1939; the one-sided beta-binomial mixture of Robbins 1970 and Howard et al. 2021).

    Args:
        n: Trials, 0 or more.
        k: Events, ``0 <= k <= n``.
        limit: Highest accepted rate, fraction in [0, 1].
        alpha: Level, fraction in (0, 1).

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> exceeds_limit(1_000, 20, 0.005), exceeds_limit(1_000, 6, 0.005)
        (True, False)
    """
    from scipy.special import betainc, betaln

    check_alpha(alpha)
    if not 0 <= k <= n:
        raise ValueError(f"k is {k} of n = {n}, must be in 0..n")
    if not 0 <= limit <= 1:
        raise ValueError(f"limit is {limit}, must be in [0, 1]")
    if limit in {0.0, 1.0} or not k:
        return limit == 0.0 and k > 0
    above = 1.0 - float(betainc(k + 1, n - k + 1, limit))
    if above <= 0.0:
        return False
    mixed = float(betaln(k + 1, n - k + 1)) + math.log(above) - math.log1p(-limit)
    return mixed - k * math.log(limit) - (n - k) * math.log1p(-limit) >= math.log(1 / alpha)
