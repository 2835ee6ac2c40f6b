"""Comparison of arms that stays true when the weights change and people look often.

Each method is valid where it is offered: ``fixed`` for one look at an even, constant split; ``sequential`` for a
planned number of epochs (epoch combination with an O'Brien-Fleming boundary); ``anytime`` where no end is planned
(stratified sum under a normal-mixture boundary); ``exact`` likewise without any approximation; ``aipw`` for the plain
average over all mail sent; ``bayes`` for a posterior without an error rate. `compare` answers for one experiment,
`compare_many` for thousands at once.

Everything is computed from `Counts`; nothing here reads a clock, a file or a global random state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from abmail._arms import arm_index, arm_names
from abmail._balance import Balance, balance
from abmail._bayes import best_and_loss, credible_interval, expected_loss, p_best, value_remaining
from abmail._boundary import check_alpha, dunnett_level, dunnett_p_value, obrien_fleming
from abmail._clusters import Clusters
from abmail._comparison import ArmResult, Belief, Comparison, Contrast, Decision, MethodInfo
from abmail._contest import hold_contest, sound
from abmail._counts import Counts
from abmail._design import PlanMethod, design_effect
from abmail._fixed import newcombe_interval, wilson_interval
from abmail._futility import Futility, conditional_power, futility
from abmail._guardrail import (
    GuardrailResult,
    Versus,
    check_guardrails,
    exceeds_limit,
    rate_bounds,
    worse_than_control,
)
from abmail._later import Later
from abmail._means import compare_means
from abmail._means_answer import MeanResult, MeansComparison
from abmail._method import Arrays, make_plan
from abmail._moments import Moments, winsorize
from abmail._multiple import benjamini_hochberg, holm
from abmail._power import Power, SampleSize, SmallestEffect, duration, mde, power, power_curve, sample_size
from abmail._sample_ratio import SampleRatio, sample_ratio, srm
from abmail._segments import Interaction, SegmentComparison, SegmentEffect, SegmentWinner, compare_segments
from abmail._sequential import FEWEST_SUCCESSES
from abmail._survival import EventCurve, time_to_event
from abmail._trials import FixedShares, ThompsonShares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from abmail._comparison import Status
    from abmail._contest import Contest
    from abmail._method import PairTest, Plan

    Floats = NDArray[np.float64]

__all__ = [
    "FEWEST_SUCCESSES",
    "ArmResult",
    "Balance",
    "Clusters",
    "Comparison",
    "Comparisons",
    "Contrast",
    "Counts",
    "Decision",
    "EventCurve",
    "FixedShares",
    "Futility",
    "GuardrailResult",
    "Interaction",
    "MeanResult",
    "MeansComparison",
    "MethodInfo",
    "Moments",
    "PlanMethod",
    "Power",
    "SampleRatio",
    "SampleSize",
    "SegmentComparison",
    "SegmentEffect",
    "SegmentWinner",
    "SmallestEffect",
    "ThompsonShares",
    "Versus",
    "balance",
    "benjamini_hochberg",
    "check_guardrails",
    "compare",
    "compare_many",
    "compare_means",
    "compare_segments",
    "conditional_power",
    "design_effect",
    "duration",
    "exceeds_limit",
    "expected_loss",
    "futility",
    "mde",
    "newcombe_interval",
    "obrien_fleming",
    "p_best",
    "power",
    "power_curve",
    "rate_bounds",
    "sample_size",
    "srm",
    "time_to_event",
    "value_remaining",
    "wilson_interval",
    "winsorize",
    "worse_than_control",
]

_SRM_ALPHA = 0.001
_SINGLE = ("exact", "aipw")
_CHUNK = 2_000_000  # numbers in one array while many experiments are compared

Method = Literal["auto", "fixed", "sequential", "anytime", "exact", "aipw", "bayes"]
Correction = Literal["holm", "dunnett", "bonferroni", "none"]
CORRECTIONS: tuple[Correction, ...] = ("holm", "dunnett", "bonferroni", "none")


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
    plan: ArrayLike | None = None,
    shape: float = 0.0,
    baseline: float | None = None,
    clusters: Clusters | None = None,
) -> Comparison:
    """Compare the arms of an experiment, epoch by epoch.

    Arms are compared within epochs (and strata), so neither changing weights nor changing base rates bias the answer,
    and the answer of ``sequential``, ``anytime``, ``exact`` and ``aipw`` may be read after every epoch. With more than
    two arms each arm is compared with the control at ``alpha / (n_arms - 1)``; an arm wins only when it beats every
    other arm at ``2 alpha / n_arms``. Nothing is claimed on fewer than 30 successes (or failures) over both arms of a
    pair. What was decided at a look stays decided.

    Args:
        counts: Sends and successes per epoch and arm.
        control: Index or name of the control.
        alpha: Two-sided level of the whole comparison, fraction in (0, 1).
        method: ``fixed``, ``sequential``, ``anytime``, ``exact``, ``aipw``, ``bayes``, or ``auto`` for the one that is
            valid for the allocation and the looks: ``fixed`` for a single epoch, ``sequential`` where the number of
            looks is planned, else ``anytime``. The outcomes play no part in the choice.
        weights: Planned share of each epoch in the whole plan, (n_looks,), any positive scale: the epochs' planned
            sizes, say. Equal over ``looks`` by default.
        looks: Planned number of epochs; that of the counts by default. Where ``weights`` has another length, the plan
            was changed on the way, and a boundary for any number of looks is used.
        horizon: Sends to all arms at which a decision is expected. It tunes ``anytime`` and ``exact``; for
            ``sequential`` without looks it is the budget that epochs spend by their size.
        mde: Smallest difference worth finding, as a difference of rates; enables ``no_difference``.
        prior: Beta parameters (a, b) of every arm's prior, (1, 1) by default.
        correction: For the claims against the control: ``holm`` or ``bonferroni`` for the p-values, with intervals at
            ``alpha / (n_arms - 1)``; ``dunnett`` for p-values and intervals that use how the arms share their control
            (``fixed`` and ``sequential`` alone); ``none`` for a single comparison that was fixed beforehand.
        names: Names of the arms; A, B, ... by default.
        plan: The shares as they were planned first, on the same scale, where ``weights`` are no longer those. Looks
            before the first difference keep the plan's boundary, later ones pay for any number of looks with what
            alpha is left; shares beyond the plan's sum count for nothing.
        shape: Shape of the boundary of ``sequential``: 0 for O'Brien-Fleming, 0.25 (Wang & Tsiatis 1987) to stop
            earlier for a little power, 0.5 for Pocock's.
        baseline: Rate to expect, fraction in (0, 1); it tunes ``anytime`` and ``exact``, which go by the first epoch's
            rate without it. Where the first epoch is read again while its outcomes come in, only a rate that was fixed
            beforehand keeps the level.
        clusters: What each company did, where recipients were assigned by company: rates then spread as companies do,
            and the sample ratio is that of companies. Not for ``exact`` and ``aipw``.

    Returns:
        The answer, with the method used and why. Its ``updated`` takes the next epochs.

    Raises:
        ValueError: An argument is out of range, or ``fixed`` was asked for although the weights changed.

    Example:
        >>> result = compare(Counts([[200, 200], [120, 280]], [[40, 52], [25, 90]], looks=2))
        >>> result.method.name, result.decision.state, round(result.arms[1].effect, 3)
        ('sequential', 'winner', 0.084)
    """
    _require_rivals(counts.n_arms)
    labels = arm_names(names, counts.n_arms)
    base = arm_index(control, labels)
    for name, value in (("mde", mde), *zip(("prior a", "prior b"), prior or (), strict=False)):
        _positive(value, name)
    _known_correction(correction)
    chosen = make_plan(
        counts, method=method, alpha=check_alpha(alpha), weights=weights, plan=plan, looks=looks, horizon=horizon,
        shape=shape, prior=prior, baseline=baseline,
    )  # fmt: skip
    likeness = None if clusters is None else _design_effect(clusters, counts, chosen)
    arrays = chosen.view(Arrays.of(counts).thinned(likeness or 1.0))
    units = counts.n if clusters is None else clusters.units(counts.n.shape)
    ratio = sample_ratio(units, counts.weights, counts.looks, _SRM_ALPHA)
    contest = hold_contest(chosen, arrays, base, mde)
    arms = _arm_results(chosen, counts, arrays, contest, base=base, labels=labels, correction=correction)
    healthy = ratio.ok
    return Comparison(
        arms=arms,
        control=labels[base],
        decision=_decide(contest, arrays, labels, healthy=healthy),
        srm=ratio,
        method=MethodInfo(
            name=chosen.name, why=chosen.why.en, why_ja=chosen.why.ja, alpha=alpha, looks=chosen.looks,
            spent=chosen.spent(len(counts.n)),
        ),
        beside=Later(partial(_runner_up, chosen, arrays, contest, arms) if healthy else _nobody),
        not_beaten=tuple(
            name for i, name in enumerate(labels) if not (healthy and contest.beats[:, i, -1].any())
        ),
        status=_status(arms, base) if healthy else "srm_failed",
        mde=mde,
        design_effect=likeness,
        counts=counts,
        again=partial(
            compare, control=base, alpha=alpha, method=method, weights=weights, looks=looks, horizon=horizon, mde=mde,
            prior=prior, correction=correction, names=labels, plan=plan, shape=shape, baseline=baseline,
        ),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparisons:
    """The answers of `compare_many`; NaN where an arm has no answer, as for the control itself.

    Attributes:
        effect: Difference to the control's rate, compared within epochs, (n_experiments, n_arms).
        lift: Relative difference to the control's rate, same shape.
        ci_lower: Lower end of the interval for ``effect``.
        ci_upper: Upper end of the interval for ``effect``.
        lift_lower: Lower end of the interval for ``lift``.
        lift_upper: Upper end of the interval for ``lift``.
        p_value: p-value against the control, corrected for the number of arms.
        leader: Index of the leading arm, (n_experiments,).
        winner: Index of the arm that was proved better than every other one, -1 where there is none.
        no_difference: Whether no difference worth finding was proved; False throughout without an mde.
        decided_at: Index of the epoch at which either was proved, -1 where neither was.
        not_beaten: Whether an arm may still be the best, (n_experiments, n_arms).
        method: Name of the method.
    """

    effect: Floats
    lift: Floats
    ci_lower: Floats
    ci_upper: Floats
    lift_lower: Floats
    lift_upper: Floats
    p_value: Floats
    leader: NDArray[np.int64]
    winner: NDArray[np.int64]
    no_difference: NDArray[np.bool_]
    decided_at: NDArray[np.int64]
    not_beaten: NDArray[np.bool_]
    method: str


def compare_many(
    n: ArrayLike,
    successes: ArrayLike,
    *,
    epoch_weights: ArrayLike | None = None,
    control: int = 0,
    alpha: float = 0.05,
    method: Method = "auto",
    weights: ArrayLike | None = None,
    looks: int | None = None,
    horizon: float | None = None,
    mde: float | None = None,
    prior: tuple[float, float] | None = None,
    correction: Correction = "holm",
    shape: float = 0.0,
    baseline: float | None = None,
) -> Comparisons:
    """Compare thousands of experiments of one plan at once; each gets the answer that `compare` would give.

    The sample ratio is not checked and no posterior is computed: that is `srm`'s and `p_best`'s part.

    Args:
        n: Sends, (n_experiments, n_epochs, n_arms) whole numbers.
        successes: Same shape, ``0 <= successes <= n``.
        epoch_weights: The epochs' allocation weights, same shape; ``aipw`` alone needs them.
        control: Index of the control.
        alpha: As for `compare`.
        method: As for `compare`.
        weights: As for `compare`.
        looks: As for `compare`.
        horizon: As for `compare`.
        mde: As for `compare`.
        prior: As for `compare`.
        correction: As for `compare`.
        shape: As for `compare`.
        baseline: As for `compare`.

    Raises:
        ValueError: A shape or a count is impossible, or an argument is out of range.

    Example:
        >>> n = np.full((1_000, 5, 2), 100)
        >>> compare_many(n, np.stack((n[..., 0] // 5, n[..., 1] // 2), axis=-1), looks=5).winner.mean().item()
        1.0
    """
    sends, hits, shares = _blocks(n, successes, epoch_weights)
    n_experiments, n_epochs, n_arms = sends.shape
    _require_rivals(n_arms)
    base = arm_index(control, arm_names(None, n_arms))
    _positive(mde, "mde")
    _known_correction(correction)
    first = Counts(sends.sum(axis=0), hits.sum(axis=0), weights=None if shares is None else shares[0])
    chosen = make_plan(
        first, method=method, alpha=check_alpha(alpha), weights=weights, plan=None, looks=looks, horizon=horizon,
        shape=shape, prior=prior, baseline=baseline,
    )  # fmt: skip
    step = max(1, _CHUNK // max(1, n_epochs * n_arms * (n_arms - 1) // 2))
    parts = []
    for start in range(0, n_experiments, step):
        span = slice(start, start + step)
        k, m = (np.swapaxes(part[span], -1, -2).astype(np.float64) for part in (hits, sends))
        e = None if shares is None else np.swapaxes(shares[span], -1, -2)
        parts.append(_answers(chosen, chosen.view(Arrays(n=m, k=k, exposure=m, weights=e)), base, mde, correction))
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return Comparisons(**joined, method=chosen.name)


def _blocks(
    n: ArrayLike, successes: ArrayLike, epoch_weights: ArrayLike | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats | None]:
    sends, hits = np.asarray(n), np.asarray(successes)
    if sends.ndim != 3 or hits.shape != sends.shape or not sends.size:
        raise ValueError(
            f"n and successes have shapes {sends.shape} and {hits.shape}, must be (n_experiments, n_epochs, n_arms)"
        )
    for name, values in (("n", sends), ("successes", hits)):
        if values.dtype.kind not in "iuf" or not np.isfinite(values).all() or (values != np.floor(values)).any():
            raise ValueError(f"{name} must hold whole numbers")
    wrong = (hits < 0) | (hits > sends)
    if wrong.any():
        where, epoch, arm = (int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"successes of experiment {where}, epoch {epoch}, arm {arm} are {hits[where, epoch, arm]:g} of "
            f"{sends[where, epoch, arm]:g} sends: 0 <= successes <= n must hold"
        )
    shares = None if epoch_weights is None else np.asarray(epoch_weights, dtype=np.float64)
    if shares is not None and shares.shape != sends.shape:
        raise ValueError(f"epoch_weights have shape {shares.shape}, n has {sends.shape}: they must agree")
    return sends.astype(np.int64), hits.astype(np.int64), shares


def _answers(
    plan: Plan, arrays: Arrays, base: int, mde: float | None, correction: Correction
) -> dict[str, NDArray[Any]]:
    contest = hold_contest(plan, arrays, base, mde)
    n_arms = arrays.n_arms
    columns = _against_control(plan, arrays, contest, base, correction)
    full = {}
    for name, column in columns.items():
        full[name] = np.full((*column.shape[:-1], n_arms), np.nan)
        full[name][..., contest.others] = column
    return {
        **full,
        "leader": contest.leader,
        "winner": contest.winner,
        "no_difference": contest.close,
        "decided_at": contest.decided_at,
        "not_beaten": np.logical_not(contest.beats[..., -1].any(axis=-2)),
    }


def _design_effect(clusters: Clusters, counts: Counts, plan: Plan) -> float:
    if plan.name in _SINGLE:
        raise ValueError(f"method is '{plan.name}', which knows of no companies; use 'sequential' or 'anytime'")
    last = (int(clusters.row.max(initial=-1)), int(clusters.arm.max(initial=-1)))
    if last[0] >= len(counts.n) or last[1] >= counts.n_arms:
        raise ValueError(
            f"clusters reach to row {last[0]} and arm {last[1]}, the counts to row {len(counts.n) - 1} and arm "
            f"{counts.n_arms - 1}"
        )
    return clusters.design_effect()


def _require_rivals(n_arms: int) -> None:
    if n_arms < 2:
        raise ValueError(f"counts have {n_arms} arm, a comparison needs at least 2")


def _positive(value: float | None, name: str) -> None:
    if value is not None and not 0 < value < np.inf:
        raise ValueError(f"{name} is {value:g}, must be a positive number")


def _known_correction(correction: str) -> None:
    if correction not in CORRECTIONS:
        raise ValueError(f"correction is '{correction}', must be {', '.join(CORRECTIONS[:-1])} or {CORRECTIONS[-1]}")


def _arm_results(
    plan: Plan,
    counts: Counts,
    arrays: Arrays,
    contest: Contest,
    *,
    base: int,
    labels: tuple[str, ...],
    correction: Correction,
) -> tuple[ArmResult, ...]:
    columns = _against_control(plan, arrays, contest, base, correction)
    versus = {
        arm: dict(zip(columns, map(_finite, row), strict=True))
        for arm, row in zip(contest.others.tolist(), np.transpose([*columns.values()]).tolist(), strict=True)
    }
    answered, successes = arrays.k.sum(axis=-1), counts.successes.sum(axis=0)
    a = plan.prior[0] + answered
    b = plan.prior[1] + np.maximum(arrays.exposure.sum(axis=-1) - answered, 0.0)
    beliefs = Later(partial(_beliefs, a, b, plan.alpha))
    sends, statuses = counts.n.sum(axis=0), _statuses(arrays, contest, base)
    return tuple(
        ArmResult(
            name=name,
            index=i,
            n=int(sends[i]),
            successes=int(successes[i]),
            rate=float(successes[i] / sends[i]) if sends[i] else None,
            belief=Later(partial(_one_belief, beliefs, i)),
            weight=float(counts.weights[-1, i]) if counts.weights is not None and len(counts.n) else None,
            status=statuses.get(i, "ok"),
            **versus.get(i, _NO_CONTRAST),
        )
        for i, name in enumerate(labels)
    )


def _beliefs(a: Floats, b: Floats, alpha: float) -> tuple[Belief, ...]:
    """What the posteriors Beta(a, b) of all arms say."""
    columns = *best_and_loss(a, b), *credible_interval(a, b, alpha)
    return tuple(
        Belief(p_best=best, expected_loss=loss, credible_lower=low, credible_upper=high)
        for best, loss, low, high in zip(*(column.tolist() for column in columns), strict=True)
    )


def _one_belief(beliefs: Later[tuple[Belief, ...]], arm: int) -> Belief:
    return beliefs.value[arm]


_CONTRAST = ("effect", "lift", "ci_lower", "ci_upper", "lift_lower", "lift_upper", "p_value")
_NO_CONTRAST: dict[str, float | None] = dict.fromkeys(_CONTRAST)


def _against_control(
    plan: Plan, arrays: Arrays, contest: Contest, base: int, correction: Correction
) -> dict[str, Floats]:
    """The columns of `_CONTRAST`, each (..., n_arms - 1), for every arm but the control."""
    test, others = contest.versus, contest.others
    level, p_values = _corrected(plan, arrays, test.p_value(), base, correction)
    columns = (*test.estimates(), *test.latest_intervals(level), p_values)
    known = (arrays.n[..., [base], :].sum(axis=-1) > 0) & (arrays.n[..., others, :].sum(axis=-1) > 0)
    return {name: np.where(known, column, np.nan) for name, column in zip(_CONTRAST, columns, strict=True)}


def _corrected(plan: Plan, arrays: Arrays, p: Floats, base: int, correction: Correction) -> tuple[float, Floats]:
    """Level of the interval of one contrast, and the p-values (..., n_contrasts) corrected for their number."""
    m = p.shape[-1]
    if correction == "none" or m == 1:
        return plan.alpha, p
    if correction == "dunnett":
        if plan.name not in ("fixed", "sequential") or plan.boundary.shape or plan.boundary.kept is not None:
            raise ValueError(
                f"correction is 'dunnett', but method '{plan.name}' has no last look at which the arms' correlation is "
                "known; use 'holm'"
            )
        clock = (1.0,) if plan.name == "fixed" else plan.boundary.clock
        shared = _shared(arrays, base)
        return dunnett_level(m, shared, plan.alpha, clock), dunnett_p_value(p, m, shared, clock)
    return plan.alpha / m, np.minimum(p * m, 1.0) if correction == "bonferroni" else holm(p)


def _shared(arrays: Arrays, base: int) -> float:
    """Smallest correlation of two contrasts that share their control; 0 where the weights moved or are unknown."""
    if arrays.weights is None or arrays.weights.ndim > 2 or np.ptp(arrays.weights, axis=-1).max() > 1e-9:
        return 0.0
    share = arrays.weights[:, 0]
    others = np.delete(share, base)
    loads = np.sort(np.sqrt(others / np.maximum(others + share[base], 1e-300)))
    return float(loads[0] * loads[1])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _statuses(arrays: Arrays, contest: Contest, base: int) -> dict[int, Status]:
    """Whether each arm's comparison with the control carries a claim, and if not, why."""
    others = contest.others
    enough = sound(arrays, np.full(len(others), base), others)
    sends, successes = arrays.n.sum(axis=-1).tolist(), arrays.k.sum(axis=-1).tolist()
    found: dict[int, Status] = {}
    for row, arm in enumerate(others.tolist()):
        hits = successes[base] + successes[arm]
        alike = min(sends[base], sends[arm]) > 0 and hits in (0.0, sends[base] + sends[arm])
        found[arm] = "ok" if enough[row] else "zero_variance" if alike else "too_few"
    return found


def _status(arms: tuple[ArmResult, ...], base: int) -> Status:
    """The best status of any comparison with the control."""
    found = {arm.status for i, arm in enumerate(arms) if i != base}
    return "ok" if "ok" in found else "too_few" if "too_few" in found else "zero_variance"


def _decide(contest: Contest, arrays: Arrays, labels: tuple[str, ...], *, healthy: bool) -> Decision:
    if not healthy:
        return Decision(state="stopped", arm=None, reason="the sends do not fit the weights (sample ratio)")
    at = int(contest.decided_at)
    if contest.winner >= 0:
        return Decision(state="winner", arm=labels[int(contest.winner)], reason="it beats every other arm", look=at)
    if contest.close:
        reason = "every difference to the best arm is under the mde"
        return Decision(state="no_difference", arm=None, reason=reason, look=at)
    leader = int(contest.leader)
    rest = np.array([arm for arm in range(len(labels)) if arm != leader])
    if not sound(arrays, np.full(len(rest), leader), rest).all():
        reason = f"a pair of arms has fewer than {FEWEST_SUCCESSES} successes or failures"
        return Decision(state="too_early", arm=None, reason=reason)
    return Decision(state="leading", arm=labels[leader], reason="chance could still explain the lead")


def _nobody() -> None:
    """No runner-up."""


def _runner_up(plan: Plan, arrays: Arrays, contest: Contest, arms: tuple[ArmResult, ...]) -> Contrast | None:
    """The winning or leading arm beside the best of the others, at the level of the winner's claim."""
    effect = np.zeros(len(arms))
    effect[contest.others] = np.nan_to_num(contest.versus.estimates()[0], nan=-np.inf)
    first = int(contest.winner) if contest.winner >= 0 else int(contest.leader)
    effect[first] = -np.inf
    second = int(np.argmax(effect))
    if not np.isfinite(effect[second]) or arrays.n[[first, second]].sum(axis=-1).min() == 0:
        return None
    if len(arms) == 2 and first in contest.others:  # the comparison with the control, at the same level
        values = [getattr(arms[first], name) for name in _CONTRAST]
    else:
        test = contest.test_of(second, first) or plan.test(arrays, np.array([second]), np.array([first]))
        values = _contrast(test, 2 * plan.alpha / len(arms), len(arms))
    return Contrast(arm=arms[first].name, rival=arms[second].name, **dict(zip(_CONTRAST, values, strict=True)))


def _contrast(test: PairTest, level: float, n_arms: int) -> list[float | None]:
    """The columns of `_CONTRAST` for a single pair, at the level of the claim to be the best."""
    columns = (*test.estimates(), *test.latest_intervals(level), np.minimum(test.p_value() * n_arms / 2, 1.0))
    return [_finite(float(column[0])) for column in columns]
