"""One number and its spread per epoch and arm: means, ratios, and both with a covariate taken out (CUPED).

A ratio of sums R = y/d has the spread of its linearisation (y - R d) / mean(d) over the units: the delta method (Deng,
Knoblich & Lu 2018, "Applying the delta method in metric analytics"). A company counted as one unit is the same thing,
with the number of its recipients below: cluster-robust, since its people may resemble each other as they like.

CUPED (Deng, Xu, Kohavi & Walker 2013) takes theta (x - mean of x in the epoch) off each value. It leaves the expected
difference of two arms alone when theta does not depend on who got which arm; so theta comes from earlier epochs, and in
the first epoch from all its units together, whatever their arm (Rosenbaum 2002, Statistical Science 17:286).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from abmail._moments import pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abmail._moments import Moments

    Floats = NDArray[np.float64]

__all__ = ["Cells", "cells_of"]

_ENOUGH: Final = 100
"""Units of earlier epochs from which their theta is used."""

_RECENT: Final = 5
"""Epochs back that tell the spread to expect."""

_ROUNDING: Final = 1e-12
"""Share of its terms below which a difference of squares is nothing but rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """What is compared: arrays (..., n_arms, n_epochs).

    Attributes:
        n: Units; 0 also where the metric has no value (nobody opened, so no clicks per open).
        value: Mean or ratio, adjusted for the covariate.
        scatter: Sum of squares of the linearised, adjusted values around it.
        unadjusted: The same without the covariate.
    """

    n: Floats
    value: Floats
    scatter: Floats
    unadjusted: Floats

    @property
    def level(self) -> Floats:
        """Variance within the arms over the five epochs before, in the first its own, (..., n_epochs); 0 if nothing."""
        free = np.maximum(self.n - 1, 0.0).sum(axis=-2)
        own = _per(self.scatter.sum(axis=-2), free)
        if self.n.shape[-1] == 1:
            return own
        before = _per(*(_recent(part) for part in (self.scatter.sum(axis=-2), free)))
        return np.where(before > 0, before, own)


def cells_of(moments: Moments, *, cuped: bool) -> Cells:
    """Estimate every epoch and arm by itself.

    Args:
        moments: Moments of the experiment.
        cuped: Whether to take out the covariate, where there is one.
    """
    n, mean, product = moments.n.astype(np.float64), moments.mean, moments.product
    size, covariate = moments.position("size"), moments.position("covariate")
    below = moments.position("denominator")
    below = size if below is None else below
    value, weights = _linearised(mean, 0, below)
    scatter = product[..., 0, 0] if below is None else _between(weights, product, weights)
    known = np.isfinite(value)
    adjusted, spread = value, scatter
    if cuped and covariate is not None:
        adjusted, spread = _adjusted(n, mean, product, value, weights, (covariate, size, below))
    return Cells(
        n=np.where(known, n, 0.0).T,
        value=np.where(known, adjusted, 0.0).T,
        scatter=np.where(known, spread, 0.0).T,
        unadjusted=np.where(known, scatter, 0.0).T,
    )


def _adjusted(
    n: Floats, mean: Floats, product: Floats, value: Floats, weights: Floats, places: tuple[int, int | None, int | None]
) -> tuple[Floats, Floats]:
    """Values and sums of squares with the covariate taken out, each (n_epochs, n_arms)."""
    covariate, size, below = places
    level, slopes = _linearised(mean, covariate, size)
    between, squares = _between(weights, product, slopes), _between(slopes, product, slopes)
    of_all, whole_mean, whole_product = pool(n, mean, product, axis=1)
    whole_level, whole_slopes = _linearised(whole_mean, covariate, size)
    _, whole_weights = _linearised(whole_mean, 0, below)
    own = _slope(
        _between(whole_weights, whole_product, whole_slopes), _between(whole_slopes, whole_product, whole_slopes)
    )
    before = _slope(_earlier(between.sum(axis=1)), _earlier(squares.sum(axis=1)))
    theta = np.where(_earlier(of_all) >= _ENOUGH, before, own)[:, None]
    shift = np.where(np.isfinite(level), level - np.nan_to_num(whole_level)[:, None], 0.0)
    spread = weights - theta[..., None] * slopes
    return value - theta * shift, _between(spread, product, spread)


def _linearised(mean: Floats, top: int, bottom: int | None) -> tuple[Floats, Floats]:
    """A variable's mean (or its ratio to another) and the weights that make the variables its influence, (..., V)."""
    weights = np.zeros(mean.shape)
    if bottom is None:
        weights[..., top] = 1.0
        return mean[..., top].copy(), weights
    below = mean[..., bottom]
    ratio = np.divide(mean[..., top], below, out=np.full(below.shape, np.nan), where=below > 0)
    inverse = np.divide(1.0, below, out=np.zeros(below.shape), where=below > 0)
    weights[..., top] = inverse
    weights[..., bottom] -= np.nan_to_num(ratio) * inverse
    return ratio, weights


def _between(one: Floats, product: Floats, other: Floats) -> Floats:
    """Sum of products of two linearised variables; 0 where nothing but rounding is left of it."""
    terms = one[..., :, None] * product * other[..., None, :]
    total: Floats = terms.sum(axis=(-2, -1))
    scale: Floats = np.abs(terms).sum(axis=(-2, -1))
    return np.where(np.abs(total) > _ROUNDING * scale, total, 0.0)


def _slope(between: Floats, squares: Floats) -> Floats:
    return np.divide(between, squares, out=np.zeros(between.shape), where=squares > 0)


def _per(squares: Floats, free: Floats) -> Floats:
    return np.divide(squares, free, out=np.zeros(free.shape), where=free > 0)


def _recent(per_epoch: Floats) -> Floats:
    """Sum over the epochs before each one, the last `_RECENT` of them."""
    padded = np.concatenate((np.zeros((*per_epoch.shape[:-1], _RECENT)), per_epoch), axis=-1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _RECENT, axis=-1)[..., :-1, :]
    total: Floats = windows.sum(axis=-1)
    return total


def _earlier(per_epoch: Floats) -> Floats:
    """Sum over the epochs before each one."""
    return np.concatenate(([0.0], per_epoch.cumsum()))[: len(per_epoch)]
