"""Stop because nothing is left to gain: value remaining, and the chance that a proof still comes.

Both only ever end an experiment without a winner. The boundary for winners stays as it was planned, so they can't raise
its error rate, whether one obeys them or not (non-binding).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from abmail._arms import arm_index, arm_names
from abmail._bayes import p_best, value_remaining
from abmail._boundary import Boundary, check_alpha, obrien_fleming
from abmail._method import Arrays, make_plan
from abmail._sequential import combine, spend

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from abmail._counts import Counts
    from abmail._wording import Language

    Floats = NDArray[np.float64]

__all__ = ["Futility", "conditional_power", "futility", "value_remaining"]

_PANEL = 2.5  # widest panel of 8 Gauss-Legendre nodes, in standard deviations of one step
_MOST_LOOKS = 300  # of the future; more are taken together
_EVEN = 1e-9


def conditional_power(
    counts: Counts,
    *,
    effect: float,
    arm: int | str = 1,
    control: int | str = 0,
    alpha: float = 0.05,
    looks: int | None = None,
    weights: ArrayLike | None = None,
    horizon: float | None = None,
    allocation: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    design_effect: float = 1.0,
) -> float:
    """Chance that a planned comparison still proves an arm better (or worse), given its path so far.

    Z is a Gaussian walk on the clock of planned shares; from where it stands it gets a drift of ``effect`` in every
    epoch to come, and the chance to reach the O'Brien-Fleming boundary at any of the looks that are left follows by
    recursive integration (Lan & Wittes 1988, Biometrics 44:579; Jennison & Turnbull 2000, chs. 10 and 19). Epochs to
    come are taken to be as large, for their share, as those so far, and split as the latest one.

    Args:
        counts: Sends and successes per epoch and arm so far.
        effect: The arm's rate minus the control's as it is supposed to be, the mde for instance; not 0. Negative asks
            for the chance that the arm is proved worse.
        arm: Index or name of the arm.
        control: Index or name of the arm that it is compared with.
        alpha: Two-sided level of this pair: with K arms, ``2 alpha / K`` for a winner.
        looks: Planned number of epochs, as in `compare`.
        weights: Planned share of each epoch, as in `compare`.
        horizon: Planned sends to all arms; it sets the size of the epochs to come.
        allocation: Shares of the arms in the epochs to come, (n_arms,); those of the latest epoch by default.
        names: Names of the arms; A, B, ... by default.
        design_effect: That of `compare`, where recipients were assigned by company.

    Returns:
        A fraction in [0, 1]; 1 where the proof is made already, 0 where none can come any more.

    Raises:
        ValueError: An argument is out of range, there is no plan, or nothing was sent yet.

    Example:
        >>> from abmail.stats import Counts, conditional_power
        >>> half = Counts([[500, 500]] * 5, [[100, 104]] * 5, looks=10)
        >>> round(conditional_power(half, effect=0.02), 3), round(conditional_power(half, effect=-0.02), 3)
        (0.325, 0.03)
    """
    labels = arm_names(names, counts.n_arms)
    one, other = arm_index(arm, labels, "arm"), arm_index(control, labels)
    if one == other:
        raise ValueError(f"arm and control are both '{labels[one]}', must be two arms")
    if not -1 < effect < 1 or effect == 0:
        raise ValueError(f"effect is {effect:g}, must be a difference of rates in (-1, 1), not 0")
    plan = replace(_plan(counts, looks, weights, horizon, allocation), design_effect=_at_least_one(design_effect))
    return _chance(counts, plan, one, other, effect, check_alpha(alpha))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Planned shares of all epochs, past and to come, the clock, and the sends per arm of those to come."""

    shares: Floats
    boundary: Boundary
    to_come: Floats
    design_effect: float = 1.0


def _plan(
    counts: Counts,
    looks: int | None,
    weights: ArrayLike | None,
    horizon: float | None,
    allocation: ArrayLike | None,
) -> _Plan:
    made = make_plan(
        counts, method="sequential", alpha=0.05, weights=weights, plan=None, looks=looks, horizon=horizon, shape=0.0,
        prior=None, baseline=None,
    )  # fmt: skip
    shares, boundary = made.shares, made.boundary
    sent = float(counts.n.sum())
    if not sent:
        raise ValueError("nothing was sent yet: there is no path to go on from")
    past = counts.n_epochs
    rest = shares[past:]
    if boundary.clock is None and horizon is not None and weights is None:  # epochs spend the budget by their size
        left = max(1.0 - float(shares.sum()), 0.0)
        many = min(math.ceil(left / shares[shares > 0].mean() - _EVEN), _MOST_LOOKS)
        rest = np.full(many, left / max(many, 1))
    spent = float(shares[:past].sum())
    total = sent / spent if horizon is None else max(horizon - sent, 0.0) / max(float(rest.sum()), _EVEN)
    return _Plan(
        shares=np.concatenate((shares[:past], rest)),
        boundary=boundary,
        to_come=total * rest[:, None] * _allocation(counts, allocation),
    )


def _allocation(counts: Counts, allocation: ArrayLike | None) -> Floats:
    """Shares of the arms in the epochs to come, (n_arms,)."""
    if allocation is not None:
        shares = np.asarray(allocation, dtype=np.float64)
        if shares.shape != (counts.n_arms,) or not (np.isfinite(shares) & (shares >= 0)).all() or not shares.any():
            raise ValueError(f"allocation is {allocation}, must be {counts.n_arms} shares of 0 or more, one per arm")
    else:
        latest = int(np.flatnonzero(counts.n.sum(axis=1))[-1])
        shares = counts.n[latest] if counts.weights is None else counts.weights[latest]
    total: np.float64 = shares.sum()
    split: Floats = shares / total
    return split


def _chance(counts: Counts, plan: _Plan, arm: int, control: int, effect: float, alpha: float) -> float:
    pair = Arrays.of(counts).thinned(plan.design_effect).pair(np.array([control]), np.array([arm]))
    path, c = combine(pair, plan.shares, plan.boundary), obrien_fleming(plan.boundary.clock, alpha)
    side = math.copysign(1.0, effect)
    crossed = path.ready[0] & (np.abs(path.z[0]) >= c)
    if crossed.any():
        return float(side * path.z[0, np.argmax(crossed)] > 0)
    n_a, n_b = (plan.to_come[:, one] / plan.design_effect for one in (control, arm))
    h = np.divide(n_a * n_b, n_a + n_b, out=np.zeros_like(n_a), where=n_a + n_b > 0)
    present = np.concatenate((pair.h[0] > 0, h > 0))
    steps = spend(plan.shares, present)[counts.n_epochs :]
    rate = _rate(float(pair.k.sum()), float(pair.n.sum()))
    drift = np.sqrt(steps * h / (rate * (1 - rate))) * abs(effect)
    return _reach(side * float(path.z[0, -1]), *_together(steps, drift), c)


def _rate(k: float, n: float) -> float:
    return k / n if 0 < k < n else (k + 0.5) / (n + 1)


def _together(steps: Floats, drift: Floats) -> tuple[Floats, Floats]:
    """Looks that bring something, neighbours taken together where there are very many."""
    used = steps > 0
    steps, drift = steps[used], drift[used]
    if len(steps) <= _MOST_LOOKS:
        return steps, drift
    groups = np.linspace(0, len(steps), _MOST_LOOKS, endpoint=False).astype(np.intp)
    return np.add.reduceat(steps, groups), np.add.reduceat(drift, groups)


def _reach(z: float, steps: Floats, drift: Floats, c: float) -> float:
    """P(a walk from ``z`` is at ``c`` or above at some look, before it is at ``-c`` or below)."""
    from scipy.special import ndtr

    if not len(steps):
        return 0.0
    x, weight = _nodes(c, math.sqrt(steps.min()))
    crossed = 0.0
    at, mass = np.array([z]), np.ones(1)
    for step, mean in zip(steps, drift, strict=True):
        sd = math.sqrt(step)
        crossed += float(mass @ ndtr((at + mean - c) / sd))
        density = np.exp(-0.5 * ((x[:, None] - at - mean) / sd) ** 2) @ mass / (sd * math.sqrt(2 * math.pi))
        at, mass = x, density * weight
    return min(crossed, 1.0)


def _nodes(c: float, sd: float) -> tuple[Floats, Floats]:
    """Composite Gauss-Legendre nodes and weights on (-c, c), fine enough for steps of that standard deviation."""
    node, weight = np.polynomial.legendre.leggauss(8)
    panels = max(1, math.ceil(2 * c / (_PANEL * sd)))
    half = c / panels
    centre = half * (2 * np.arange(panels) + 1) - c
    return (centre[:, None] + half * node).ravel(), np.tile(half * weight, panels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Futility:
    """Whether an experiment may end because nothing is left to gain.

    Attributes:
        stop: Whether it may.
        reason: ``value_remaining`` (hardly anything is left to gain), ``conditional_power`` (a proof is hardly to be
            expected) or ``go_on``.
        champion: Name of the arm most likely to be the best: the one to use after a stop.
        value_remaining: By how much the best arm may exceed the champion, relative, with probability ``level``.
        conditional_power: Chance that any arm is still proved the best if it is better than its strongest rival by the
            mde; None without an mde, a plan or any sends.
        level: Posterior probability that belongs to ``value_remaining``.
        mde: Smallest difference worth finding, None where not given.
    """

    stop: bool
    reason: Literal["value_remaining", "conditional_power", "go_on"]
    champion: str
    value_remaining: float
    conditional_power: float | None
    level: float
    mde: float | None

    @property
    def sentence(self) -> str:
        """The reason in plain English."""
        return self.sentence_in("en")

    def sentence_in(self, language: Language) -> str:
        """The reason in plain words.

        Args:
            language: ``en`` or ``ja``.

        Raises:
            ValueError: The language is not known.
        """
        if language not in _TEXTS:
            raise ValueError(f"language is '{language}', must be one of {', '.join(_TEXTS)}")
        return _TEXTS[language][self._saying()].format(
            champion=self.champion,
            level=f"{100 * self.level:.4g} %",
            value=f"{100 * self.value_remaining:.2g} %",
            power=f"{100 * (self.conditional_power or 0.0):.2g} %",
            mde=f"{100 * (self.mde or 0.0):.2f}",
        )

    def to_dict(self) -> dict[str, object]:
        """JSON-ready form, with the sentence."""
        return {**asdict(self), "sentence": self.sentence}

    def _saying(self) -> str:
        if self.reason == "value_remaining" and not self.value_remaining:
            return "best"
        return "go_on_power" if self.reason == "go_on" and self.conditional_power is not None else self.reason


_TEXTS: dict[str, dict[str, str]] = {
    "en": {
        "best": "You may stop: '{champion}' is the best with a probability of at least {level}.",
        "value_remaining": "You may stop: with a probability of {level} no variant's rate exceeds that of '{champion}' "
        "by more than {value} of it.",
        "conditional_power": "You may stop: even with a true difference of {mde} points the chance of still proving a "
        "winner is {power}. '{champion}' is the better guess.",
        "go_on": "Go on: a variant may still be up to {value} better than '{champion}' (with a probability of {level} "
        "no more).",
        "go_on_power": "Go on: a variant may still be up to {value} better than '{champion}' (with a probability of "
        "{level} no more), and the chance of proving a true difference of {mde} points is {power}.",
    },
    "ja": {
        "best": "終了できます。「{champion}」が最良である確率は{level}以上です。",
        "value_remaining": "終了できます。{level}の確率で、どの案の率も「{champion}」を{value}(相対)より"
        "多くは上回りません。",
        "conditional_power": "終了できます。本当の差が{mde}ポイントあっても、これから勝者を示せる確率は{power}です。"
        "有力候補は「{champion}」です。",
        "go_on": "続けてください。「{champion}」より最大{value}(相対)良い案がまだありえます(確率{level}の上限)。",
        "go_on_power": "続けてください。「{champion}」より最大{value}(相対)良い案がまだありえます(確率{level}の上限)。"
        "本当の差が{mde}ポイントのとき、勝者を示せる確率は{power}です。",
    },
}


def futility(
    counts: Counts,
    *,
    mde: float | None = None,
    alpha: float = 0.05,
    looks: int | None = None,
    weights: ArrayLike | None = None,
    horizon: float | None = None,
    allocation: ArrayLike | None = None,
    prior: tuple[float, float] | None = None,
    level: float = 0.95,
    value_limit: float = 0.01,
    power_limit: float = 0.10,
    names: Sequence[str] | None = None,
    design_effect: float = 1.0,
) -> Futility:
    """Whether an experiment may end because nothing is left to gain; advice that never touches the test's error rate.

    It may when the best arm is hardly better than the champion (value remaining), or when a proof is hardly to be
    expected even if some arm is better than its strongest rival by the mde (conditional power). With more than two arms
    the conditional power is an upper bound: a winner has to beat the other arms too.

    Args:
        counts: Sends and successes per epoch and arm so far; ``exposure`` serves the posterior.
        mde: Smallest difference worth finding, as a difference of rates; enables the conditional power.
        alpha: Two-sided level of the whole comparison.
        looks: Planned number of epochs, as in `compare`.
        weights: Planned share of each epoch, as in `compare`.
        horizon: Planned sends to all arms.
        allocation: Shares of the arms in the epochs to come; those of the latest epoch by default.
        prior: Beta parameters (a, b) of every arm's prior, (1, 1) by default.
        level: Posterior probability of the value remaining.
        value_limit: Value remaining under which to stop, relative to the champion's rate.
        power_limit: Conditional power under which to stop.
        names: Names of the arms; A, B, ... by default.
        design_effect: That of `compare`, where recipients were assigned by company.

    Returns:
        Whether to stop, and why.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> from abmail.stats import Counts, futility
        >>> even = Counts([[500, 500]] * 8, [[101, 100]] * 8, looks=10)
        >>> futility(even, mde=0.02).reason
        'conditional_power'
    """
    check_alpha(alpha)
    labels = arm_names(names, counts.n_arms)
    if counts.n_arms < 2:
        raise ValueError(f"counts have {counts.n_arms} arm, a comparison needs at least 2")
    if mde is not None and not 0 < mde < 1:
        raise ValueError(f"mde is {mde:g}, must be in (0, 1)")
    a, b = _posterior(counts, prior, _at_least_one(design_effect))
    ranking = np.argsort(-p_best(a, b), kind="stable")
    value = value_remaining(a, b, level=level)
    power = _best_power(counts, ranking, mde, alpha, looks, weights, horizon, allocation, design_effect)
    reason: Literal["value_remaining", "conditional_power", "go_on"] = "go_on"
    if value < value_limit:
        reason = "value_remaining"
    elif power is not None and power < power_limit:
        reason = "conditional_power"
    return Futility(
        stop=reason != "go_on",
        reason=reason,
        champion=labels[int(ranking[0])],
        value_remaining=value,
        conditional_power=power,
        level=level,
        mde=mde,
    )


def _best_power(
    counts: Counts,
    ranking: NDArray[np.intp],
    mde: float | None,
    alpha: float,
    looks: int | None,
    weights: ArrayLike | None,
    horizon: float | None,
    allocation: ArrayLike | None,
    design_effect: float,
) -> float | None:
    """Largest chance of any arm to be proved better than its strongest rival; None where nothing can be said."""
    planned = any(part is not None for part in (looks, weights, horizon, counts.looks))
    if mde is None or not planned or not counts.n.any():
        return None
    plan = replace(_plan(counts, looks, weights, horizon, allocation), design_effect=design_effect)
    level = 2 * alpha / counts.n_arms
    first, second = int(ranking[0]), int(ranking[1])
    return max(
        _chance(counts, plan, arm, second if arm == first else first, mde, level) for arm in range(counts.n_arms)
    )


def _at_least_one(design_effect: float) -> float:
    if not 1 <= design_effect < math.inf:
        raise ValueError(f"design_effect is {design_effect:g}, must be at least 1")
    return design_effect


def _posterior(counts: Counts, prior: tuple[float, float] | None, design_effect: float) -> tuple[Floats, Floats]:
    a, b = (1.0, 1.0) if prior is None else prior
    if not (0 < a < np.inf and 0 < b < np.inf):
        raise ValueError(f"prior is ({a:g}, {b:g}), must be two positive numbers")
    successes = counts.successes.sum(axis=0) / design_effect
    return a + successes, b + np.maximum(counts.exposure.sum(axis=0) / design_effect - successes, 0.0)
