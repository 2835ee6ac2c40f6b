"""Shares of an epoch: exact fractions with a floor, and trials with the level of each epoch taken out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from abmail.stats import Counts

    Floats = NDArray[np.float64]

__all__ = ["LEVEL_SD", "WEIGHT_UNIT", "chosen_arms", "level_weighted", "quantise", "spread"]

WEIGHT_UNIT: Final = 1 << 20
"""Weights are multiples of 1 / WEIGHT_UNIT, so that their sum and their thresholds are exact."""

LEVEL_SD: Final = 0.25
"""An hour of day or a slow provider moves an epoch's rate by about a quarter."""

_ITERATIONS: Final = 8


def quantise(shares: ArrayLike, *, floor: float = 0.0) -> Floats:
    """Mix shares with a floor and round them to multiples of 2^-20 that sum to 1 exactly.

    Args:
        shares: (n_arms,) any non-negative numbers with a positive sum.
        floor: Share that every arm keeps, fraction in [0, 1 / n_arms].

    Returns:
        (n_arms,) floor + (1 - n_arms x floor) x share, rounded by the largest remainder and never under the floor
        unless 1 / n_arms is no multiple of 2^-20 itself.

    Raises:
        ValueError: A share is negative or not finite, or all are 0.
    """
    given = np.asarray(shares, dtype=np.float64)
    if not np.isfinite(given).all() or (given < 0).any() or not given.any():
        raise ValueError(f"shares are {given.tolist()}, must be non-negative numbers with a positive sum")
    kept = math.ceil(floor * WEIGHT_UNIT - 1e-9)
    if kept * len(given) > WEIGHT_UNIT:
        kept = WEIGHT_UNIT // len(given)
    free = WEIGHT_UNIT - kept * len(given)
    relative = given / given.max()
    exact = relative / relative.sum() * free
    units = np.floor(exact)
    missing = free - int(units.sum())
    units[np.argsort(-(exact - units), kind="stable")[:missing]] += 1
    result: Floats = (units + kept) / WEIGHT_UNIT
    return result


def level_weighted(
    counts: Counts,
    *,
    prior: tuple[float, float] = (1.0, 1.0),
    sd: float = LEVEL_SD,
    exposures: Floats | None = None,
) -> Floats:
    """Trials of each arm with the level of each epoch taken out.

    An epoch that was sent at a bad hour, or whose answers an outage held back, has fewer successes than its arms' rates
    promise; it then counts as proportionally fewer trials, for all its arms alike. The factor of an epoch is its
    posterior mean in a gamma-Poisson model, a random effect around 1. Its variance is fixed beforehand: estimated from
    the same counts it would let a further success of an arm lower that arm's weight.

    Args:
        counts: Counts with exposure.
        prior: Beta parameters of every arm.
        sd: Standard deviation of the factors; 0 switches them off.
        exposures: (..., n_rows, n_arms) the exposure in other pictures of the delays, in place of that of the counts.

    Returns:
        (n_arms,) weighted trials, or (..., n_arms) for those pictures. Their sum, each times its arm's rate, stays what
        it was without the factors.
    """
    exposure: Floats = counts.exposure if exposures is None else exposures
    m: Floats = exposure.sum(axis=-2)
    if counts.n_epochs < 2 or sd == 0 or not m.any():
        return m
    seen, k = counts.successes.sum(axis=1), counts.successes.sum(axis=0)
    for _ in range(_ITERATIONS):
        expected = np.einsum("...ek,...k->...e", exposure, (prior[0] + k) / (sum(prior) + m))
        factor = (seen + sd**-2) / (expected + sd**-2)
        total = (factor * expected).sum(axis=-1, keepdims=True)
        factor *= np.divide(expected.sum(axis=-1, keepdims=True), total, out=np.ones_like(total), where=total > 0)
        m = np.einsum("...e,...ek->...k", factor, exposure)
    return m


def chosen_arms(active: Sequence[bool] | None, n_arms: int) -> list[int]:
    """Indices of the arms that take part.

    Raises:
        ValueError: The mask does not fit, or leaves nobody.
    """
    chosen = list(range(n_arms)) if active is None else [i for i, on in enumerate(active) if on]
    if not chosen or (active is not None and len(active) != n_arms):
        raise ValueError(f"active is {active}, must name at least one of {n_arms} arms")
    return chosen


def spread(weights: Floats, chosen: Sequence[int], n_arms: int) -> Floats:
    """The weights of the chosen arms at their places, (n_arms,); 0 elsewhere."""
    everywhere = np.zeros(n_arms)
    everywhere[list(chosen)] = weights
    return everywhere
