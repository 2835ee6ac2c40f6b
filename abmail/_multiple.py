"""Many p-values at once: family-wise error (Holm), false discovery rate (Benjamini-Hochberg, Benjamini-Yekutieli)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = ["benjamini_hochberg", "holm"]


def benjamini_hochberg(p: ArrayLike, *, dependent: bool = False) -> Floats:
    """Adjusted p-values: rejecting those up to ``alpha`` keeps the expected share of false rejections at ``alpha``.

    Benjamini & Hochberg (1995, JRSS B 57:289) for p-values that are independent or positively dependent (arms that
    share a control are); Benjamini & Yekutieli (2001, Annals of Statistics 29:1165) under any dependence.

    Args:
        p: p-values, (n_tests,), fractions in [0, 1].
        dependent: Allow any dependence, at the price of a factor of about log(n_tests).

    Returns:
        (n_tests,) float64 adjusted p-values, in the order given.

    Raises:
        ValueError: A p-value is outside of [0, 1] or not a number, or ``p`` has more than one axis.

    Example:
        >>> benjamini_hochberg([0.01, 0.04, 0.03, 0.5]).round(4).tolist()
        [0.04, 0.0533, 0.0533, 0.5]
    """
    values = _p_values(p)
    count = len(values)
    ranks = np.arange(1, count + 1)
    price = float((1 / ranks).sum()) if dependent else 1.0
    order = np.argsort(values, kind="stable")
    stepped = values[order] * count * price / ranks
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.minimum.accumulate(stepped[::-1])[::-1], 1.0)
    return adjusted


def holm(p: ArrayLike) -> Floats:
    """Adjusted p-values: the chance of any false rejection stays at the level, under any dependence (Holm 1979).

    Args:
        p: p-values, (..., n_tests); leading axes are families of their own. NaN where there is none.

    Returns:
        (..., n_tests) float64 adjusted p-values, in the order given.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, axis=-1, kind="stable")
    stepped = np.take_along_axis(values, order, -1) * np.arange(values.shape[-1], 0, -1)
    adjusted = np.empty_like(values)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(stepped, axis=-1), 1.0), -1)
    return adjusted


def _p_values(p: ArrayLike) -> Floats:
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"p has shape {values.shape}, must be (n_tests,)")
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
        place = int(np.argmax(wrong))
        raise ValueError(f"p-value {place} is {values[place]:g}, must be in [0, 1]")
    return values
