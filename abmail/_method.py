"""Which method is valid for some counts, and the plan it needs: shares of the epochs and where the walk stops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from abmail._aipw import average_effect
from abmail._boundary import MOST_SHAPE, Boundary, check_alpha
from abmail._exact import exact
from abmail._fixed import ScoreTest
from abmail._posterior import PosteriorTest
from abmail._sequential import Pair, combine, mix
from abmail._why import LAST_LOOK, NO_END, ONE_LOOK, PLANNED, Why, asked_for

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from abmail._counts import Counts

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

__all__ = ["METHODS", "Arrays", "MethodName", "PairTest", "Plan", "make_plan"]

MethodName = Literal["fixed", "sequential", "anytime", "exact", "aipw", "bayes"]
METHODS: tuple[MethodName, ...] = ("fixed", "sequential", "anytime", "exact", "aipw", "bayes")
_EVEN = 1e-9
_POOLED = ("fixed", "bayes")


class PairTest(Protocol):
    """What every method answers about pairs of arms; the last axis of paths is the look."""

    @property
    def effect(self) -> Floats:
        """Difference of the rates at every look, (..., n_looks)."""

    @property
    def relative(self) -> Floats:
        """Relative difference at every look, (..., n_looks)."""

    def estimates(self) -> tuple[Floats, Floats]:
        """Difference and relative difference of the rates at the latest look, each (...,)."""

    def only(self, pairs: slice) -> PairTest:
        """The same of some of the pairs alone."""

    def p_value(self) -> Floats:
        """p-value at the latest look, (...,)."""

    def proved(self, level: float) -> NDArray[np.int8]:
        """Sign of the first proof up to each look, (..., n_looks)."""

    def within(self, level: float, mde: float) -> NDArray[np.bool_]:
        """Whether the interval lies inside (-mde, mde), (..., n_looks)."""

    def difference(self, level: float) -> tuple[Floats, Floats]:
        """Ends of the interval for the difference, each (..., n_looks)."""

    def lift(self, level: float) -> tuple[Floats, Floats]:
        """Ends of the interval for the relative difference, each (..., n_looks)."""

    def latest_intervals(self, level: float) -> tuple[Floats, Floats, Floats, Floats]:
        """Ends of the present intervals for the difference and the relative difference, each (...,)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """Counts by arm: sends, successes, delay-weighted trials and weights, each (..., n_arms, n_rows) float64."""

    n: Floats
    k: Floats
    exposure: Floats
    weights: Floats | None

    @classmethod
    def of(cls, counts: Counts) -> Arrays:
        """The arrays of some counts; nothing at all counts as one empty row."""
        if not len(counts.n):
            nothing = np.zeros((counts.n_arms, 1))
            weights = None if counts.weights is None else nothing
            return cls(n=nothing, k=nothing, exposure=nothing, weights=weights)
        return cls(
            n=counts.n.T.astype(np.float64),
            k=counts.successes.T.astype(np.float64),
            exposure=counts.exposure.T,
            weights=None if counts.weights is None else counts.weights.T,
        )

    @classmethod
    def plain(cls, n: Floats, k: Floats) -> Arrays:
        """Sends and successes, (..., n_arms, n_rows), with all answers in and no weights."""
        return cls(n=n, k=k, exposure=n, weights=None)

    @property
    def n_arms(self) -> int:
        """Number of arms."""
        return int(self.n.shape[-2])

    def pooled(self) -> Arrays:
        """All rows summed into one."""
        n, k, exposure = (part.sum(axis=-1, keepdims=True) for part in (self.n, self.k, self.exposure))
        return Arrays(n=n, k=k, exposure=exposure, weights=None)

    def thinned(self, by: float) -> Arrays:
        """As many mails as say the same where recipients are strangers: all divided by a design effect."""
        if by == 1:
            return self
        return Arrays(n=self.n / by, k=self.k / by, exposure=self.exposure / by, weights=self.weights)

    def pair(self, a: Indices, b: Indices) -> Pair:
        """Pairs of a reference arm and another one, (..., n_pairs, n_rows)."""
        return Pair(n_a=self.n[..., a, :], k_a=self.k[..., a, :], n_b=self.n[..., b, :], k_b=self.k[..., b, :])


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The chosen method with what it was planned with.

    Attributes:
        name: The method.
        why: Why this one.
        alpha: Two-sided level of the whole comparison.
        looks: Planned number of looks, None where no end is planned.
        shares: Share of each planned row in the whole plan, (n_planned,).
        boundary: Where the walk of ``sequential`` stops.
        horizon: Sends to all arms at which a decision is expected, None where not given.
        prior: Beta parameters of every arm's rate.
        baseline: Rate to expect, None to go by the first epoch.
    """

    name: MethodName
    why: Why
    alpha: float
    looks: int | None
    shares: Floats
    boundary: Boundary
    horizon: float | None
    prior: tuple[float, float]
    baseline: float | None

    def view(self, arrays: Arrays) -> Arrays:
        """The counts as the method reads them: summed where it does not look at epochs."""
        return arrays.pooled() if self.name in _POOLED else arrays

    def test(self, arrays: Arrays, a: Indices, b: Indices) -> PairTest:
        """Compare arms ``b`` with reference arms ``a``, both (n_pairs,)."""
        horizon = None if self.horizon is None else 2 * self.horizon / arrays.n_arms
        match self.name:
            case "fixed":
                return ScoreTest(arrays.pair(a, b))
            case "bayes":
                return PosteriorTest.of(arrays.k, arrays.exposure, self.prior, a, b)
            case "exact":
                return exact(arrays.pair(a, b), self.alpha, horizon, self.baseline)
            case "aipw":
                return self._average(arrays, a, b)
            case "anytime":
                return mix(arrays.pair(a, b), self.alpha, horizon, self.baseline)
            case _:
                return combine(arrays.pair(a, b), self.shares, self.boundary)

    def _average(self, arrays: Arrays, a: Indices, b: Indices) -> PairTest:
        if arrays.weights is None:
            raise ValueError("method is 'aipw', but the counts carry no weights: it needs each epoch's own")
        sends = np.broadcast_to(arrays.n.sum(axis=-2, keepdims=True), arrays.n[..., a, :].shape)
        weights = (arrays.weights[..., a, :], arrays.weights[..., b, :])
        return average_effect(arrays.pair(a, b), sends, *weights, self.alpha, self.horizon)

    def spent(self, n_rows: int) -> float | None:
        """Share of the planned information that these rows use."""
        return min(1.0, float(self.shares[:n_rows].sum())) if self.name == "sequential" else None


def make_plan(
    counts: Counts,
    *,
    method: str,
    alpha: float,
    weights: ArrayLike | None,
    plan: ArrayLike | None,
    looks: int | None,
    horizon: float | None,
    shape: float,
    prior: tuple[float, float] | None,
    baseline: float | None,
) -> Plan:
    """The method that is valid for these counts, or the one asked for, with its plan; see `compare`."""
    if horizon is not None and not 0 < horizon < np.inf:
        raise ValueError(f"horizon is {horizon:g}, must be a positive number")
    planned = looks if looks is not None else counts.looks
    if planned is not None and planned < 1:
        raise ValueError(f"looks is {planned}, must be at least 1 planned epoch")
    if baseline is not None:
        check_alpha(baseline, "baseline")
    name, why = _choose(counts, method, planned, weights is not None)
    if name == "fixed":
        _refuse_changed_weights(counts)
    shares, boundary = np.ones(1), Boundary(None)
    if name == "sequential":
        shares, boundary = _shares(counts, weights, plan, planned, horizon, shape)
    elif shape:
        raise ValueError(f"shape is {shape:g}, but method '{name}' has no boundary whose shape could be chosen")
    given = len(boundary.clock) if boundary.clock is not None else planned
    return Plan(
        name=name,
        why=why,
        alpha=alpha,
        looks=1 if name == "fixed" else given if name == "sequential" else None,
        shares=shares,
        boundary=boundary,
        horizon=horizon,
        prior=(1.0, 1.0) if prior is None else prior,
        baseline=baseline,
    )


def _choose(counts: Counts, method: str, looks: int | None, has_shares: bool) -> tuple[MethodName, Why]:
    """The method never depends on outcomes: choosing by them would cost the error rate that it promises."""
    for name in METHODS:
        if name == method:
            return name, asked_for(name)
    if method != "auto":
        raise ValueError(f"method is '{method}', must be auto, {', '.join(METHODS[:-1])} or {METHODS[-1]}")
    if has_shares or (looks is not None and looks > 1):
        return "sequential", PLANNED
    if counts.n_epochs <= 1 and counts.strata is None:
        return "fixed", ONE_LOOK
    return ("sequential", LAST_LOOK) if looks == 1 else ("anytime", NO_END)


def _refuse_changed_weights(counts: Counts) -> None:
    if counts.weights is None or not len(counts.n):
        return
    used = counts.weights[counts.n.sum(axis=1) > 0]
    if len(used) and np.ptp(used, axis=0).max() > _EVEN:
        raise ValueError(
            "method is 'fixed', but the weights changed between epochs: summed counts would be biased; "
            "use 'sequential' or 'anytime'"
        )


def _shares(
    counts: Counts,
    weights: ArrayLike | None,
    plan: ArrayLike | None,
    looks: int | None,
    horizon: float | None,
    shape: float,
) -> tuple[Floats, Boundary]:
    """Planned share of each row, and the boundary on the clock of the looks."""
    kept = None
    if weights is not None:
        shares = _positive_shares(weights, "weights", may_be_spent=plan is not None)
        first = shares if plan is None else _positive_shares(plan, "plan")
        shares, first = shares / first.sum(), first / first.sum()
        known = looks in (None, len(first))
        clock: tuple[float, ...] | None = (*np.cumsum(first)[:-1].tolist(), 1.0) if known else None
        if plan is not None:
            kept = _common(first, shares)
            shares = np.diff(np.minimum(np.cumsum(shares), 1.0), prepend=0.0)
            kept = None if kept >= counts.n_epochs else kept
    elif looks is not None:
        shares, clock = np.full(looks, 1 / looks), tuple((np.arange(1, looks + 1) / looks).tolist())
    elif horizon is not None:
        spent = np.minimum(np.cumsum(_epoch_sums(counts)) / horizon, 1.0)
        shares, clock = np.diff(spent, prepend=0.0) if len(spent) else np.ones(1), None
    else:
        raise ValueError(
            "method is 'sequential', but no end is planned: give looks, weights or horizon, or use 'anytime'"
        )
    if not 0 <= shape <= MOST_SHAPE:
        raise ValueError(f"shape is {shape:g}, must be in [0, {MOST_SHAPE}]")
    if shape and clock is None:
        raise ValueError(f"shape is {shape:g}, but the looks are not planned: give looks or weights")
    return _by_row(counts, shares), Boundary(clock, shape, kept)


def _common(first: Floats, now: Floats) -> int:
    """How many shares at the beginning are those of the first plan."""
    length = min(len(first), len(now))
    differ = np.abs(first[:length] - now[:length]) > _EVEN
    return int(np.argmax(differ)) if differ.any() else length


def _epoch_sums(counts: Counts) -> Floats:
    """Sends of each epoch, (n_epochs,)."""
    _, place = np.unique(np.array(counts.epochs, dtype=np.int64), return_inverse=True)
    return np.bincount(place, counts.n.sum(axis=1).astype(np.float64), counts.n_epochs).astype(np.float64)


def _by_row(counts: Counts, shares: Floats) -> Floats:
    """Shares of the rows where epochs have several strata: an epoch's share in proportion to the rows' sends."""
    if counts.strata is None:
        return shares
    _, place = np.unique(np.array(counts.epochs, dtype=np.int64), return_inverse=True)
    sends = counts.n.sum(axis=1).astype(np.float64)
    total = np.bincount(place, sends, counts.n_epochs)[place]
    own = np.append(shares, np.zeros(max(counts.n_epochs - len(shares), 0)))[place]
    rows = np.divide(sends, total, out=np.zeros_like(sends), where=total > 0)
    return np.append(own * rows, shares[counts.n_epochs :])


def _positive_shares(values: ArrayLike, name: str, *, may_be_spent: bool = False) -> Floats:
    shares = np.asarray(values, dtype=np.float64)
    if shares.ndim != 1 or not len(shares):
        raise ValueError(f"{name} have shape {shares.shape}, must be (n_looks,): the planned share of each epoch")
    if not (np.isfinite(shares) & ((shares > 0) | (may_be_spent & (shares == 0)))).all():
        raise ValueError(f"{name} hold a share that is not a positive number: every planned epoch needs one")
    return shares
