"""`compare_means`: arms compared by money, counts or ratios per recipient, valid at every look."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from abmail._arms import arm_index, arm_names
from abmail._boundary import check_alpha
from abmail._cells import cells_of
from abmail._comparison import MethodInfo
from abmail._later import Later
from abmail._mean_score import FEWEST_UNITS, MeanPair, any_look, one_look, planned
from abmail._means_answer import LiftInterval, MeanResult, MeansComparison
from abmail._sample_ratio import sample_ratio
from abmail._sequential import ratio_or_nan
from abmail._why import NO_END, ONE_WELCH, PLANNED, Why, asked_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from abmail._cells import Cells
    from abmail._comparison import Status
    from abmail._mean_score import MeanTest
    from abmail._moments import Moments

    Floats = NDArray[np.float64]

__all__ = ["compare_means"]

MethodName = Literal["fixed", "sequential", "anytime"]

_SRM_ALPHA: Final = 0.001
_EVEN: Final = 1e-9

Method = Literal["auto", "fixed", "sequential", "anytime"]
Correction = Literal["holm", "bonferroni", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The chosen method with what it was planned with."""

    name: MethodName
    why: Why
    alpha: float
    looks: int | None
    shares: Floats
    boundary: tuple[float, ...] | None
    horizon: float | None
    n_arms: int

    def test(self, pair: MeanPair) -> MeanTest:
        """Compare arms with a reference arm."""
        if self.name == "fixed":
            return one_look(pair)
        if self.name == "anytime":
            return any_look(pair, self.alpha, None if self.horizon is None else 2 * self.horizon / self.n_arms)
        on_clock = np.ptp(self.shares) < _EVEN or bool(pair.counted().all())
        return planned(pair, self.shares, self.boundary if on_clock else None)

    def spent(self, n_epochs: int) -> float | None:
        """Share of the planned information that these epochs use."""
        return min(1.0, float(self.shares[:n_epochs].sum())) if self.name == "sequential" else None


def compare_means(
    moments: Moments,
    *,
    control: int | str = 0,
    alpha: float = 0.05,
    method: Method = "auto",
    weights: ArrayLike | None = None,
    looks: int | None = None,
    horizon: float | None = None,
    correction: Correction = "holm",
    cuped: bool = True,
    names: Sequence[str] | None = None,
) -> MeansComparison:
    """Compare the arms of an experiment by their means (or ratios of sums), epoch by epoch.

    Arms are compared within epochs, as in `compare`: neither changing weights nor changing base levels bias the answer,
    and the answers of ``sequential`` and ``anytime`` may be read after every epoch. Both rest on the means of an epoch
    being near normal: an epoch counts for a pair when each of its arms has 30 units, and for heavy tails `winsorize`
    with a cap that was fixed beforehand.

    Args:
        moments: Units, means and products per epoch and arm.
        control: Index or name of the control.
        alpha: Two-sided level of the whole comparison, fraction in (0, 1).
        method: ``fixed`` (Welch's test of the epochs put together), ``sequential``, ``anytime``, or ``auto`` for the
            one that is valid for these moments: ``fixed`` for a single epoch, ``sequential`` where the number of looks
            is planned, else ``anytime``. Welch's test raises too many alarms where tails are heavy and the split is far
            from even (9 to 1, say); ``sequential`` with ``looks=1`` does not.
        weights: Planned share of each epoch in the whole plan, (n_looks,), any positive scale. Equal over ``looks`` by
            default.
        looks: Planned number of epochs; that of the moments by default. Where ``weights`` has another length, the plan
            was changed on the way, and a boundary for any number of looks is used.
        horizon: Units of all arms at which a decision is expected. It tunes ``anytime``; for ``sequential`` without
            looks it is the budget that epochs spend by their size.
        correction: ``holm`` or ``bonferroni`` for the p-values against the control, with intervals at
            ``alpha / (n_arms - 1)``; ``none`` for a single comparison that was fixed beforehand.
        cuped: Whether to take out the covariate where the moments have one. The adjustment of an epoch comes from
            earlier epochs, in the first from all its units whatever their arm: either way it does not know the
            epoch's assignment, and the guarantees stay.
        names: Names of the arms; A, B, ... by default.

    Returns:
        The answer, with the method used and why.

    Raises:
        ValueError: An argument is out of range, or ``fixed`` was asked for although the weights changed.

    Example:
        >>> from abmail.stats import Moments, compare_means
        >>> spent = Moments.from_summary([1000, 1000], [4.1, 4.4], [9.0, 9.6])
        >>> compare_means(spent).sentence
        "'B' lies 0.3 above 'A' (95 % interval +0.03253 to +0.5675; p = 0.028)."
    """
    if moments.n_arms < 2:
        raise ValueError(f"moments have {moments.n_arms} arm, a comparison needs at least 2")
    labels = arm_names(names, moments.n_arms)
    plan = _plan(moments, method, check_alpha(alpha), weights, looks, horizon)
    base = arm_index(control, labels)
    if correction not in ("holm", "bonferroni", "none"):
        raise ValueError(f"correction is '{correction}', must be holm, bonferroni or none")
    source = moments.total() if (plan.name == "fixed" and moments.n_epochs > 1) or not moments.n_epochs else moments
    cells = cells_of(source, cuped=cuped)
    ratio = sample_ratio(moments.n, moments.weights, moments.looks, _SRM_ALPHA)
    arms = _arm_results(plan, moments, cells, base=base, labels=labels, correction=correction)
    return MeansComparison(
        arms=arms,
        control=labels[base],
        method=MethodInfo(
            name=plan.name,
            why=plan.why.en,
            why_ja=plan.why.ja,
            alpha=alpha,
            looks=plan.looks,
            spent=plan.spent(moments.n_epochs),
        ),
        srm=ratio,
        status=_status(arms, base) if ratio.ok else "srm_failed",
        metric="ratio" if {"denominator", "size"} & set(moments.variables) else "mean",
        limit=moments.limit,
        variance_saved=_saved(cells) if cuped and "covariate" in moments.variables else None,
    )


def _plan(
    moments: Moments, method: Method, alpha: float, weights: ArrayLike | None, looks: int | None, horizon: float | None
) -> _Plan:
    """The method that is valid for these moments, or the one asked for."""
    if horizon is not None and not 0 < horizon < np.inf:
        raise ValueError(f"horizon is {horizon:g}, must be a positive number")
    expected = looks if looks is not None else moments.looks
    if expected is not None and expected < 1:
        raise ValueError(f"looks is {expected}, must be at least 1 planned epoch")
    name, why = _choose(moments, method, expected, weights is not None)
    shares, boundary = np.ones(1), None
    if name == "fixed":
        _refuse_changed_weights(moments)
    if name == "sequential":
        shares, boundary = _shares(moments, weights, expected, horizon)
    return _Plan(
        name=name,
        why=why,
        alpha=alpha,
        looks=1 if name == "fixed" else expected if boundary is None else len(boundary),
        shares=shares,
        boundary=boundary,
        horizon=horizon,
        n_arms=moments.n_arms,
    )


def _choose(moments: Moments, method: Method, looks: int | None, has_shares: bool) -> tuple[MethodName, Why]:
    if method not in ("auto", "fixed", "sequential", "anytime"):
        raise ValueError(f"method is '{method}', must be auto, fixed, sequential or anytime")
    if method != "auto":
        return method, asked_for(method)
    if has_shares or (looks is not None and looks > 1):
        return "sequential", PLANNED
    return ("fixed", ONE_WELCH) if moments.n_epochs <= 1 else ("anytime", NO_END)


def _refuse_changed_weights(moments: Moments) -> None:
    if moments.weights is None or not moments.n_epochs:
        return
    used = moments.weights[moments.n.sum(axis=1) > 0]
    if len(used) and np.ptp(used, axis=0).max() > _EVEN:
        raise ValueError(
            "method is 'fixed', but the weights changed between epochs: epochs put together would be biased; "
            "use 'sequential' or 'anytime'"
        )


def _shares(
    moments: Moments, weights: ArrayLike | None, looks: int | None, horizon: float | None
) -> tuple[Floats, tuple[float, ...] | None]:
    """Planned share of each epoch, and the clock of the looks where it is known for good."""
    if weights is not None:
        shares = _normalised(weights)
        clock = (*np.cumsum(shares)[:-1].tolist(), 1.0)
        return shares, clock if looks in (None, len(shares)) else None
    if looks is not None:
        return np.full(looks, 1 / looks), tuple((np.arange(1, looks + 1) / looks).tolist())
    if horizon is None:
        raise ValueError(
            "method is 'sequential', but no end is planned: give looks, weights or horizon, or use 'anytime'"
        )
    spent = np.minimum(np.cumsum(moments.n.sum(axis=1)) / horizon, 1.0)
    return np.diff(spent, prepend=0.0) if len(spent) else np.ones(1), None


def _normalised(weights: ArrayLike) -> Floats:
    shares = np.asarray(weights, dtype=np.float64)
    if shares.ndim != 1 or not len(shares):
        raise ValueError(f"weights have shape {shares.shape}, must be (n_looks,): the planned share of each epoch")
    if not (np.isfinite(shares) & (shares > 0)).all():
        raise ValueError("weights hold a share that is not a positive number: every planned epoch needs one")
    total: np.float64 = shares.sum()
    return shares / total


def _pair(cells: Cells, reference: int, arms: Sequence[int]) -> MeanPair:
    parts = cells.n, cells.value, cells.scatter
    n_a, value_a, scatter_a = (part.take([reference] * len(arms), axis=-2) for part in parts)
    n_b, value_b, scatter_b = (part.take(arms, axis=-2) for part in parts)
    return MeanPair(
        n_a=n_a, value_a=value_a, scatter_a=scatter_a, n_b=n_b, value_b=value_b, scatter_b=scatter_b,
        level=Later(lambda: np.broadcast_to(cells.level, n_b.shape)),
    )  # fmt: skip


_CONTRAST: Final = ("effect", "lift", "ci_lower", "ci_upper", "p_value")


def _arm_results(
    plan: _Plan, moments: Moments, cells: Cells, *, base: int, labels: tuple[str, ...], correction: Correction
) -> tuple[MeanResult, ...]:
    others = [i for i in range(len(labels)) if i != base]
    pair = _pair(cells, base, others)
    test = plan.test(pair)
    versus = dict(zip(others, _versus_control(plan, test, correction), strict=True))
    statuses = dict(zip(others, _pair_statuses(plan, pair, test), strict=True))
    nothing: dict[str, Any] = dict.fromkeys(_CONTRAST) | {"lift_interval": Later(_no_lift)}
    units, means = moments.n.sum(axis=0), _overall(moments)
    return tuple(
        MeanResult(
            name=name,
            index=i,
            n=int(units[i]),
            mean=_finite(float(means[i])),
            status=statuses.get(i, "ok"),
            **versus.get(i, nothing),
        )
        for i, name in enumerate(labels)
    )


def _versus_control(plan: _Plan, test: MeanTest, correction: Correction) -> list[dict[str, Any]]:
    """The columns of `_CONTRAST` and the lift's interval for every arm but the control."""
    n_pairs = len(test.gap)
    level = plan.alpha if correction == "none" else plan.alpha / n_pairs
    effect, low, high = test.difference(level)
    p_values = np.where(np.isfinite(low), _adjusted(test.p_value(), correction), np.nan)
    columns = (effect, test.lift(), low, high, p_values)
    lifts = Later(partial(_lift_intervals, test, level))
    return [
        {name: _finite(float(column[row])) for name, column in zip(_CONTRAST, columns, strict=True)}
        | {"lift_interval": Later(partial(_one_lift, lifts, row))}
        for row in range(n_pairs)
    ]


def _lift_intervals(test: MeanTest, level: float) -> tuple[LiftInterval, ...]:
    ends = (end.tolist() for end in test.lift_interval(level))
    return tuple(
        LiftInterval(lift_lower=_finite(low), lift_upper=_finite(high)) for low, high in zip(*ends, strict=True)
    )


def _one_lift(lifts: Later[tuple[LiftInterval, ...]], row: int) -> LiftInterval:
    return lifts.value[row]


def _no_lift() -> LiftInterval:
    return LiftInterval(lift_lower=None, lift_upper=None)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _adjusted(p: Floats, correction: Correction) -> Floats:
    """p-values corrected for their number: Holm (1979) step-down, or Bonferroni."""
    if correction == "none" or len(p) == 1:
        return p
    if correction == "bonferroni":
        return np.minimum(p * len(p), 1.0)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def _pair_statuses(plan: _Plan, pair: MeanPair, test: MeanTest) -> list[Status]:
    """Whether each pair carries a claim, and if not, why."""
    fewer = np.minimum(pair.n_a, pair.n_b).max(axis=-1).tolist()
    varies = ((test.scale > 0) & (test.noise_a + test.noise_b > 0))[:, -1].tolist()
    some = 2 if plan.name == "fixed" else FEWEST_UNITS
    return [
        "zero_variance" if n >= some and not alive else "ok" if n >= FEWEST_UNITS else "too_few"
        for n, alive in zip(fewer, varies, strict=True)
    ]


def _status(arms: tuple[MeanResult, ...], base: int) -> Status:
    """The best status of any comparison with the control."""
    found = {arm.status for i, arm in enumerate(arms) if i != base}
    return "ok" if "ok" in found else "too_few" if "too_few" in found else "zero_variance"


def _overall(moments: Moments) -> Floats:
    """Mean or ratio per arm over all epochs, (n_arms,); NaN without units."""
    n = moments.n.astype(np.float64)
    sums = (n[..., None] * moments.mean).sum(axis=0)
    below, size = moments.position("denominator"), moments.position("size")
    below = size if below is None else below
    bottom: Floats = n.sum(axis=0) if below is None else sums[:, below]
    return ratio_or_nan(sums[:, 0], bottom)


def _saved(cells: Cells) -> float:
    """Share of the scatter that the covariate took out of all cells; below 0 where it did harm."""
    before = float(cells.unadjusted.sum())
    return 1 - float(cells.scatter.sum()) / before if before > 0 else 0.0
