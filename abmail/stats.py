"""Comparison of arms that stays true when the weights change and people look often.

Three methods, each valid where it is offered: ``fixed`` for one look at an even, constant split; ``sequential`` for a
planned number of epochs (epoch combination with an O'Brien-Fleming boundary); ``anytime`` where no end is planned
(stratified sum under a normal-mixture boundary). A Bayesian line stands beside each: it steers, without an error rate.

Everything is computed from `Counts`; nothing here reads a clock, a file or a global random state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from abmail._bayes import credible_interval, expected_loss, p_best
from abmail._boundary import check_alpha, obrien_fleming
from abmail._comparison import ArmResult, Comparison, Decision, MethodInfo
from abmail._counts import Counts
from abmail._fixed import ScoreTest, newcombe_interval, wilson_interval
from abmail._guardrail import exceeds_limit
from abmail._sample_ratio import SampleRatio, sample_ratio, srm
from abmail._sequential import FEWEST_SUCCESSES, Pair, combine, mix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from abmail._comparison import MethodName, Status

    Floats = NDArray[np.float64]

__all__ = [
    "ArmResult",
    "Comparison",
    "Counts",
    "Decision",
    "MethodInfo",
    "SampleRatio",
    "compare",
    "exceeds_limit",
    "expected_loss",
    "newcombe_interval",
    "obrien_fleming",
    "p_best",
    "srm",
    "wilson_interval",
]

_SRM_ALPHA = 0.001
_EVEN = 1e-9

Method = Literal["auto", "fixed", "sequential", "anytime"]
Correction = Literal["holm", "bonferroni", "none"]


class _PairTest(Protocol):
    """What every method answers about pairs of arms; intervals and effects carry a last axis of looks."""

    @property
    def effect(self) -> Floats: ...

    @property
    def relative(self) -> Floats: ...

    def p_value(self) -> Floats: ...

    def direction(self, level: float) -> NDArray[np.int64]: ...

    def difference(self, level: float) -> tuple[Floats, Floats]: ...

    def lift(self, level: float) -> tuple[Floats, Floats]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The chosen method with what it was planned with."""

    name: MethodName
    why: str
    alpha: float
    looks: int | None
    shares: Floats
    boundary: tuple[float, ...] | None
    horizon: float | None
    n_arms: int

    def test(self, n: Floats, k: Floats, reference: int, arms: Sequence[int]) -> _PairTest:
        """Compare arms with a reference arm; ``n`` and ``k`` are (..., n_arms, n_epochs)."""
        pair = _pair(n, k, reference, arms)
        if self.name == "fixed":
            return ScoreTest(pair)
        if self.name == "anytime":
            return mix(pair, self.alpha, None if self.horizon is None else 2 * self.horizon / self.n_arms)
        on_clock = np.ptp(self.shares) < _EVEN or bool((pair.h > 0).all())
        return combine(pair, self.shares, self.boundary if on_clock else None)

    def spent(self, n_epochs: int) -> float | None:
        """Share of the planned information that these epochs use."""
        return min(1.0, float(self.shares[:n_epochs].sum())) if self.name == "sequential" else None


def compare(
    counts: Counts,
    *,
    control: int | str = 0,
    alpha: float = 0.05,
    method: Method = "auto",
    weights: ArrayLike | None = None,
    looks: int | None = None,
    horizon: float | None = None,
    mde: float | None = None,
    prior: tuple[float, float] | None = None,
    correction: Correction = "holm",
    names: Sequence[str] | None = None,
) -> Comparison:
    """Compare the arms of an experiment, epoch by epoch.

    Arms are compared within epochs, so neither changing weights nor changing base rates bias the answer, and the answer
    of ``sequential`` and ``anytime`` may be read after every epoch. With more than two arms each arm is compared with
    the control at ``alpha / (n_arms - 1)``; an arm wins only when it beats every other arm at ``2 alpha / n_arms``.
    Nothing is claimed on fewer than 30 successes (or failures) over both arms of a pair.

    Args:
        counts: Sends and successes per epoch and arm.
        control: Index or name of the control.
        alpha: Two-sided level of the whole comparison, fraction in (0, 1).
        method: ``fixed``, ``sequential``, ``anytime``, or ``auto`` for the one that is valid for these counts:
            ``fixed`` for a single epoch, ``sequential`` where the number of looks is planned, else ``anytime``.
        weights: Planned share of each epoch in the whole plan, (n_looks,), any positive scale: the epochs' planned
            sizes, say. Equal over ``looks`` by default.
        looks: Planned number of epochs; that of the counts by default. Where ``weights`` has another length, the plan
            was changed on the way, and a boundary for any number of looks is used.
        horizon: Sends to all arms at which a decision is expected. It tunes ``anytime``; for ``sequential`` without
            looks it is the budget that epochs spend by their size.
        mde: Smallest difference worth finding, as a difference of rates; enables ``no_difference``.
        prior: Beta parameters (a, b) of every arm's prior, (1, 1) by default.
        correction: ``holm`` or ``bonferroni`` for the p-values against the control, with intervals at
            ``alpha / (n_arms - 1)``; ``none`` for a single comparison that was fixed beforehand.
        names: Names of the arms; A, B, ... by default.

    Returns:
        The answer, with the method used and why.

    Raises:
        ValueError: An argument is out of range, or ``fixed`` was asked for although the weights changed.

    Example:
        >>> result = compare(Counts([[200, 200], [120, 280]], [[40, 52], [25, 90]], looks=2))
        >>> result.method.name, result.decision.state, round(result.arms[1].effect, 3)
        ('sequential', 'winner', 0.085)
    """
    labels = _names(names, counts.n_arms)
    plan = _plan(counts, method, check_alpha(alpha), weights, looks, horizon)
    base = _control(control, labels)
    _positive(mde, "mde")
    n, k = _by_arm(counts, pooled=plan.name == "fixed")
    ratio = sample_ratio(counts.n, counts.weights, counts.looks, _SRM_ALPHA)
    arms = _arm_results(plan, counts, n, k, base=base, labels=labels, prior=prior, correction=correction)
    beaten = _beaten(plan, n, k) if ratio.ok else np.zeros((counts.n_arms, counts.n_arms), dtype=np.bool_)
    decision = _decide(plan, n, k, arms=arms, beaten=beaten, base=base, mde=mde, healthy=ratio.ok)
    return Comparison(
        arms=arms,
        control=labels[base],
        decision=decision,
        srm=ratio,
        method=MethodInfo(
            name=plan.name, why=plan.why, alpha=alpha, looks=plan.looks, spent=plan.spent(counts.n_epochs)
        ),
        not_beaten=tuple(name for i, name in enumerate(labels) if not beaten[:, i].any()),
        status=_status(arms, base) if ratio.ok else "srm_failed",
        mde=mde,
    )


def _names(names: Sequence[str] | None, n_arms: int) -> tuple[str, ...]:
    if n_arms < 2:
        raise ValueError(f"counts have {n_arms} arm, a comparison needs at least 2")
    if names is None:
        return (
            tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:n_arms]) if n_arms <= 26 else tuple(f"arm {i}" for i in range(n_arms))
        )
    labels = tuple(names)
    if len(labels) != n_arms or len(set(labels)) != n_arms:
        raise ValueError(f"names are {labels}, must be {n_arms} different names, one per arm")
    return labels


def _control(control: int | str, labels: tuple[str, ...]) -> int:
    if isinstance(control, str):
        if control not in labels:
            raise ValueError(f"control is '{control}', must be one of {', '.join(labels)}")
        return labels.index(control)
    if not 0 <= control < len(labels):
        raise ValueError(f"control is {control}, must be an arm's index from 0 to {len(labels) - 1}")
    return control


def _positive(value: float | None, name: str) -> None:
    if value is not None and not 0 < value < np.inf:
        raise ValueError(f"{name} is {value:g}, must be a positive number")


def _by_arm(counts: Counts, *, pooled: bool) -> tuple[Floats, Floats]:
    """Sends and successes as (n_arms, n_epochs), summed into one epoch if ``pooled``; at least one epoch."""
    source = counts.total() if pooled or not counts.n_epochs else counts
    return source.n.T.astype(np.float64), source.successes.T.astype(np.float64)


def _pair(n: Floats, k: Floats, reference: int, arms: Sequence[int]) -> Pair:
    picked = list(arms)
    n_b, k_b = n[..., picked, :], k[..., picked, :]
    n_a, k_a = (np.broadcast_to(counts[..., reference, None, :], n_b.shape) for counts in (n, k))
    return Pair(n_a=n_a, k_a=k_a, n_b=n_b, k_b=k_b)


def _plan(
    counts: Counts, method: Method, alpha: float, weights: ArrayLike | None, looks: int | None, horizon: float | None
) -> _Plan:
    """The method that is valid for these counts, or the one asked for."""
    _positive(horizon, "horizon")
    planned = looks if looks is not None else counts.looks
    if planned is not None and planned < 1:
        raise ValueError(f"looks is {planned}, must be at least 1 planned epoch")
    name, why = _choose(counts, method, planned, weights is not None)
    shares, boundary = np.ones(1), None
    if name == "fixed":
        _refuse_changed_weights(counts)
    if name == "sequential":
        shares, boundary = _shares(counts, weights, planned, horizon)
    return _Plan(
        name=name,
        why=why,
        alpha=alpha,
        looks=1 if name == "fixed" else planned if boundary is None else len(boundary),
        shares=shares,
        boundary=boundary,
        horizon=horizon,
        n_arms=counts.n_arms,
    )


def _choose(counts: Counts, method: Method, looks: int | None, has_shares: bool) -> tuple[MethodName, str]:
    if method not in ("auto", "fixed", "sequential", "anytime"):
        raise ValueError(f"method is '{method}', must be auto, fixed, sequential or anytime")
    if method != "auto":
        return method, f"{method} was asked for"
    if has_shares or (looks is not None and looks > 1):
        return "sequential", "the number of epochs is planned: an O'Brien-Fleming boundary allows a look after each"
    if counts.n_epochs <= 1:
        return "fixed", "one epoch and one look: the score test needs no allowance for looking often"
    return "anytime", "several epochs and no planned end: a time-uniform boundary allows any number of looks"


def _refuse_changed_weights(counts: Counts) -> None:
    if counts.weights is None or not counts.n_epochs:
        return
    used = counts.weights[counts.n.sum(axis=1) > 0]
    if len(used) and np.ptp(used, axis=0).max() > _EVEN:
        raise ValueError(
            "method is 'fixed', but the weights changed between epochs: summed counts would be biased; "
            "use 'sequential' or 'anytime'"
        )


def _shares(
    counts: Counts, weights: ArrayLike | None, looks: int | None, horizon: float | None
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
    spent = np.minimum(np.cumsum(counts.n.sum(axis=1)) / horizon, 1.0)
    return np.diff(spent, prepend=0.0) if len(spent) else np.ones(1), None


def _normalised(weights: ArrayLike) -> Floats:
    shares = np.asarray(weights, dtype=np.float64)
    if shares.ndim != 1 or not len(shares):
        raise ValueError(f"weights have shape {shares.shape}, must be (n_looks,): the planned share of each epoch")
    if not (np.isfinite(shares) & (shares > 0)).all():
        raise ValueError("weights hold a share that is not a positive number: every planned epoch needs one")
    total: np.float64 = shares.sum()
    return shares / total


def _arm_results(
    plan: _Plan,
    counts: Counts,
    n: Floats,
    k: Floats,
    *,
    base: int,
    labels: tuple[str, ...],
    prior: tuple[float, float] | None,
    correction: Correction,
) -> tuple[ArmResult, ...]:
    versus = _versus_control(plan, n, k, base, correction)
    a, b = _posterior(counts, prior)
    best, loss, (low, high) = p_best(a, b), expected_loss(a, b), credible_interval(a, b, plan.alpha)
    sends, hits = counts.n.sum(axis=0), counts.successes.sum(axis=0)
    return tuple(
        ArmResult(
            name=name,
            index=i,
            n=int(sends[i]),
            successes=int(hits[i]),
            rate=float(hits[i] / sends[i]) if sends[i] else None,
            p_best=float(best[i]),
            expected_loss=float(loss[i]),
            credible_lower=float(low[i]),
            credible_upper=float(high[i]),
            weight=float(counts.weights[-1, i]) if counts.weights is not None and counts.n_epochs else None,
            status=_pair_status(n, k, base, i),
            **versus.get(i, _NO_CONTRAST),
        )
        for i, name in enumerate(labels)
    )


_CONTRAST = ("effect", "lift", "ci_lower", "ci_upper", "lift_lower", "lift_upper", "p_value")
_NO_CONTRAST: dict[str, float | None] = dict.fromkeys(_CONTRAST)


def _versus_control(
    plan: _Plan, n: Floats, k: Floats, base: int, correction: Correction
) -> dict[int, dict[str, float | None]]:
    """The columns of `_CONTRAST` for every arm but the control."""
    others = [i for i in range(len(n)) if i != base]
    test = plan.test(n, k, base, others)
    level = plan.alpha if correction == "none" else plan.alpha / len(others)
    p_values = _adjusted(test.p_value(), correction)
    paths = (test.effect, test.relative, *test.difference(level), *test.lift(level))
    known = (n[base].sum() > 0) & (n[others].sum(axis=1) > 0)
    columns = [*(np.where(known, path[:, -1], np.nan) for path in paths), np.where(known, p_values, np.nan)]
    return {
        arm: {name: _finite(float(column[row])) for name, column in zip(_CONTRAST, columns, strict=True)}
        for row, arm in enumerate(others)
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _adjusted(p: Floats, correction: Correction) -> Floats:
    """p-values corrected for their number: Holm (1979) step-down, or Bonferroni."""
    if correction not in ("holm", "bonferroni", "none"):
        raise ValueError(f"correction is '{correction}', must be holm, bonferroni or none")
    if correction == "none":
        return p
    if correction == "bonferroni":
        return np.minimum(p * len(p), 1.0)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def _posterior(counts: Counts, prior: tuple[float, float] | None) -> tuple[Floats, Floats]:
    a, b = (1.0, 1.0) if prior is None else prior
    _positive(a, "prior a")
    _positive(b, "prior b")
    successes = counts.successes.sum(axis=0)
    return a + successes, b + np.maximum(counts.exposure.sum(axis=0) - successes, 0.0)


def _sound(n: Floats, k: Floats, one: int, others: Sequence[int]) -> NDArray[np.bool_]:
    """Whether the pairs of ``one`` with the others carry a claim, (..., n_others)."""
    pair = _pair(n, k, one, others)
    sends = np.minimum(pair.n_a.sum(axis=-1), pair.n_b.sum(axis=-1))
    sound: NDArray[np.bool_] = pair.ready()[..., -1] & (sends > 0)
    return sound


def _pair_status(n: Floats, k: Floats, one: int, other: int) -> Status:
    """Whether the two arms carry a claim, and if not, why (for ``one`` alone: always)."""
    if one == other or _sound(n, k, one, [other])[0]:
        return "ok"
    sends, successes = n[[one, other]].sum(axis=1), float(k[[one, other]].sum())
    return "zero_variance" if sends.min() > 0 and successes in (0.0, sends.sum()) else "too_few"


def _status(arms: tuple[ArmResult, ...], base: int) -> Status:
    """The best status of any comparison with the control."""
    found = {arm.status for i, arm in enumerate(arms) if i != base}
    return "ok" if "ok" in found else "too_few" if "too_few" in found else "zero_variance"


def _beaten(plan: _Plan, n: Floats, k: Floats) -> NDArray[np.bool_]:
    """[..., i, j] is True where arm i was proved better than arm j, at two-sided ``2 alpha / n_arms`` a pair.

    A union bound over the arms that may be best: the best arm loses to none of the others with probability 1 - alpha.
    Leading axes of ``n`` and ``k``, (..., n_arms, n_epochs), are replications.
    """
    n_arms = n.shape[-2]
    won = np.zeros((*n.shape[:-2], n_arms, n_arms), dtype=np.bool_)
    for one in range(n_arms - 1):
        rest = list(range(one + 1, n_arms))
        sign = plan.test(n, k, one, rest).direction(2 * plan.alpha / n_arms)
        sound = _sound(n, k, one, rest)
        won[..., one, rest], won[..., rest, one] = sound & (sign < 0), sound & (sign > 0)
    return won


def _winner(beaten: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The arm that beats every other one, -1 where there is none, (...,)."""
    champion = beaten.sum(axis=-1) == beaten.shape[-1] - 1
    return np.where(champion.any(axis=-1), champion.argmax(axis=-1), -1)


def _decide(
    plan: _Plan,
    n: Floats,
    k: Floats,
    *,
    arms: tuple[ArmResult, ...],
    beaten: NDArray[np.bool_],
    base: int,
    mde: float | None,
    healthy: bool,
) -> Decision:
    if not healthy:
        return Decision(state="stopped", arm=None, reason="the sends do not fit the weights (sample ratio)")
    winner = int(_winner(beaten))
    if winner >= 0:
        return Decision(state="winner", arm=arms[winner].name, reason="it beats every other arm")
    leader = _leader(arms, base)
    others = [i for i in range(len(n)) if i != leader]
    if not _sound(n, k, leader, others).all():
        return Decision(
            state="too_early",
            arm=None,
            reason=f"a pair of arms has fewer than {FEWEST_SUCCESSES} successes or failures",
        )
    if mde is not None and _within(plan, n, k, leader, others, mde):
        return Decision(state="no_difference", arm=None, reason="every difference to the best arm is under the mde")
    return Decision(state="leading", arm=arms[leader].name, reason="chance could still explain the lead")


def _leader(arms: tuple[ArmResult, ...], base: int) -> int:
    """The arm with the largest effect, compared within epochs; the control counts 0."""
    effects = [0.0 if i == base else -np.inf if arm.effect is None else arm.effect for i, arm in enumerate(arms)]
    return int(np.argmax(effects))


def _within(plan: _Plan, n: Floats, k: Floats, leader: int, others: list[int], mde: float) -> bool:
    """Whether every interval against the leader lies inside (-mde, mde)."""
    low, high = plan.test(n, k, leader, others).difference(2 * plan.alpha / len(n))
    return bool((low[:, -1] > -mde).all() and (high[:, -1] < mde).all())
