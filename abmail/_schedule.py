"""How a comparison was planned: the method that is valid for the counts, and each epoch's share of the information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from abmail._fixed import ScoreTest
from abmail._sequential import Combination, Mixture, Pair, combine, mix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from abmail._comparison import MethodName
    from abmail._counts import Counts

    Floats = NDArray[np.float64]

__all__ = ["Schedule", "pairs", "planned_shares", "schedule"]

_EVEN = 1e-9
_METHODS: dict[str, MethodName] = {"fixed": "fixed", "sequential": "sequential", "anytime": "anytime"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A method with what it was planned with.

    Attributes:
        method: ``fixed``, ``sequential`` or ``anytime``.
        alpha: Two-sided level that ``anytime`` is tuned to.
        shares: Planned share of each epoch, (n_planned,).
        boundary: Clock times of the planned looks, None for any number of looks.
    """

    method: MethodName
    alpha: float
    shares: Floats
    boundary: tuple[float, ...] | None

    def test(self, n: Floats, k: Floats, reference: int, arms: Sequence[int]) -> ScoreTest | Combination | Mixture:
        """Compare arms with a reference arm; ``n`` and ``k`` are (..., n_arms, n_epochs)."""
        pair = pairs(n, k, reference, arms)
        if self.method == "fixed":
            return ScoreTest(pair)
        if self.method == "anytime":
            return mix(pair, self.alpha, None)
        return combine(pair, self.shares, self.boundary if self.on_clock(n, reference, arms).all() else None)

    def on_clock(self, n: Floats, reference: int, arms: Sequence[int]) -> NDArray[np.bool_]:
        """Whether the looks came at the planned times, (...,): equal shares always do, others without a missing arm."""
        complete = (n[..., [reference, *arms], :] > 0).all(axis=(-1, -2))
        return np.asarray(complete | (np.ptp(self.shares) < _EVEN), dtype=np.bool_)


def pairs(n: Floats, k: Floats, reference: int, arms: Sequence[int]) -> Pair:
    """Each of the arms with a reference arm, (..., n_pairs, n_epochs), from (..., n_arms, n_epochs)."""
    picked = list(arms)
    n_b, k_b = n[..., picked, :], k[..., picked, :]
    n_a, k_a = (np.broadcast_to(part[..., reference, None, :], n_b.shape) for part in (n, k))
    return Pair(n_a=n_a, k_a=k_a, n_b=n_b, k_b=k_b)


def schedule(counts: Counts, method: str, alpha: float, weights: ArrayLike | None, looks: int | None) -> Schedule:
    """The method that is valid for these counts, or the one asked for, as `compare` chooses it.

    Raises:
        ValueError: The method is unknown, lacks a plan, or is ``fixed`` although the weights changed.
    """
    planned = _planned(counts, looks)
    name = _choose(counts, method, planned, weights is not None)
    shares, boundary = np.ones(1), None
    if name == "fixed":
        _refuse_changed_weights(counts)
    if name == "sequential":
        shares, boundary = planned_shares(counts, weights, planned, None)
    return Schedule(method=name, alpha=alpha, shares=shares, boundary=boundary)


def planned_shares(
    counts: Counts, weights: ArrayLike | None, looks: int | None, horizon: float | None
) -> tuple[Floats, tuple[float, ...] | None]:
    """Planned share of each epoch, and the clock of the looks where it is known for good.

    Args:
        counts: What was sent so far; its own ``looks`` serve where none are given.
        weights: Planned share of each epoch on any positive scale.
        looks: Planned number of epochs.
        horizon: Sends to all arms that epochs spend by their size, where there are no looks.

    Raises:
        ValueError: There is no plan, or a share is not positive.
    """
    looks = _planned(counts, looks)
    if weights is not None:
        shares = _normalised(weights)
        clock = (*np.cumsum(shares)[:-1].tolist(), 1.0)
        return shares, clock if looks in (None, len(shares)) else None
    if looks is not None:
        return np.full(looks, 1 / looks), tuple((np.arange(1, looks + 1) / looks).tolist())
    if horizon is None:
        raise ValueError("no end is planned: give looks, weights or horizon")
    if not 0 < horizon < np.inf:
        raise ValueError(f"horizon is {horizon:g}, must be a positive number")
    spent = np.minimum(np.cumsum(counts.n.sum(axis=1)) / horizon, 1.0)
    return np.diff(spent, prepend=0.0), None


def _planned(counts: Counts, looks: int | None) -> int | None:
    planned = looks if looks is not None else counts.looks
    if planned is not None and planned < 1:
        raise ValueError(f"looks is {planned}, must be at least 1 planned epoch")
    return planned


def _choose(counts: Counts, method: str, looks: int | None, has_shares: bool) -> MethodName:
    if method in _METHODS:
        return _METHODS[method]
    if method != "auto":
        raise ValueError(f"method is '{method}', must be auto, fixed, sequential or anytime")
    if has_shares or (looks is not None and looks > 1):
        return "sequential"
    return "fixed" if counts.n_epochs <= 1 else "anytime"


def _refuse_changed_weights(counts: Counts) -> None:
    if counts.weights is None or not counts.n_epochs:
        return
    used = counts.weights[counts.n.sum(axis=1) > 0]
    if len(used) and np.ptp(used, axis=0).max() > _EVEN:
        raise ValueError(
            "method is 'fixed', but the weights changed between epochs: summed counts would be biased; "
            "use 'sequential' or 'anytime'"
        )


def _normalised(weights: ArrayLike) -> Floats:
    shares = np.asarray(weights, dtype=np.float64)
    if shares.ndim != 1 or not len(shares):
        raise ValueError(f"weights have shape {shares.shape}, must be (n_looks,): the planned share of each epoch")
    if not (np.isfinite(shares) & (shares > 0)).all():
        raise ValueError("weights hold a share that is not a positive number: every planned epoch needs one")
    total: np.float64 = shares.sum()
    return shares / total
