"""Old answers that count less: the memory of experiments without an end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from abmail.stats import Counts

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["faded"]


def faded(counts: Counts, keep: ArrayLike) -> Counts:
    """Counts in which each row is worth a part of itself, for policies that are to follow a drift.

    With ``keep = 0.5 ** (age / half_life)`` the posterior forgets exponentially (Raj & Kalyani 2017). Successes stay
    whole numbers: what rounding takes from one epoch of an arm is added to its next, so that an arm's sum is never off
    by more than half a success.

    Args:
        counts: Counts with exposure.
        keep: (n_rows,) fractions in [0, 1], one for each row.

    Returns:
        Counts of the same shape, weights and strata; the exposure is the given one times ``keep``, and never below the
        successes.

    Raises:
        ValueError: There are not as many fractions as rows, or one is outside of [0, 1].

    Example:
        >>> faded(Counts([[100, 100], [100, 100]], [[9, 11], [10, 20]]), [0.25, 1.0]).successes.sum(axis=0).tolist()
        [12, 23]
    """
    part = np.asarray(keep, dtype=np.float64)
    if part.shape != (len(counts.n),) or not ((part >= 0) & (part <= 1)).all():
        raise ValueError(f"keep is {part.tolist()}, must be {len(counts.n)} fractions in [0, 1]")
    sums = np.rint((part[:, None] * counts.successes).cumsum(axis=0)).astype(np.int64)
    successes = np.diff(sums, axis=0, prepend=0)
    n = np.maximum(np.ceil(part[:, None] * counts.n).astype(np.int64), successes)
    exposure = np.clip(part[:, None] * counts.exposure, successes, n)
    return Counts(
        n, successes, exposure, counts.weights, counts.looks, strata=counts.strata, epochs=counts.epochs
    )  # fmt: skip
