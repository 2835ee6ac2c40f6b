"""What chosen hours are worth: people with chosen hours against a control group at a fixed hour, campaign by campaign.

The groups are drawn once, by person, so people are the units and their mails a cluster. Campaigns are strata: a good
campaign lifts both groups. What people opened before the comparison began explains much of the scatter, and is taken
out by regression (Deng et al. 2013; with an estimated common slope the estimate stays consistent, Lin 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.special import ndtri, stdtrit

from abmail._history import History

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Booleans = NDArray[np.bool_]

__all__ = ["HourCurve", "Uplift", "UpliftStatus", "hour_curve", "open_rate_before", "uplift"]

_FEWEST_PEOPLE: Final = 30
_FEWEST_OPENS: Final = 20
_NO_SCATTER: Final = 1e-12
"""Least variance: where all mails of both groups were opened there is none to see."""

_TYPICAL: Final = 0.02
"""Effect for which the interval that may be watched is tightest: two points."""


class UpliftStatus(StrEnum):
    """What the comparison says."""

    PROVEN = "proven"
    WORSE = "worse"
    NOT_PROVEN = "not_proven"
    TOO_FEW = "too_few"


@dataclass(frozen=True, slots=True, kw_only=True)
class Uplift:
    """Chosen hours against the fixed hour.

    Attributes:
        status: ``proven`` or ``worse`` where the interval that may be watched leaves out zero, ``not_proven`` where it
            does not, ``too_few`` under 30 people or 20 opens in a group.
        effect: Open rate at chosen hours minus the one at the fixed hour, in the same campaigns; NaN for too few.
        ci_lower: Lower end of its interval for this one look.
        ci_upper: Upper end.
        watched_lower: Lower end of the interval that holds at all looks together.
        watched_upper: Upper end.
        rate: Open rate of the control group, the campaigns weighted alike.
        lift: ``effect / rate``.
        lift_lower: Lower end of its interval for this one look.
        lift_upper: Upper end.
        detectable: Effect that these mails would have shown with a chance of 80 % at this one look.
        people: Treated and control.
        sends: Treated and control.
        opens: Treated and control.
        alpha: Error rate of the intervals.
    """

    status: UpliftStatus
    effect: float
    ci_lower: float
    ci_upper: float
    watched_lower: float
    watched_upper: float
    rate: float
    lift: float
    lift_lower: float
    lift_upper: float
    detectable: float
    people: tuple[int, int]
    sends: tuple[int, int]
    opens: tuple[int, int]
    alpha: float


def uplift(
    recipient: ArrayLike | Sequence[str],
    campaign: ArrayLike | Sequence[str],
    control: ArrayLike,
    opened: ArrayLike,
    *,
    before: ArrayLike | None = None,
    alpha: float = 0.05,
) -> Uplift:
    """Estimate what chosen hours are worth.

    Give mails whose 72 hours are over, each arm's all with the same age at which opens stop counting, and only
    campaigns in which both groups could be mailed on the same days. Random hours among the treated belong in: they are
    part of what is done.

    Args:
        recipient: (m,) ids.
        campaign: (m,) names; one without mails to both groups says nothing and is left out.
        control: (m,) whether the mail went out at the fixed hour, as its recipient is in the control group.
        opened: (m,) whether a person opened it.
        before: (m,) the recipient's open rate before the comparison began, NaN where there was no mail.
        alpha: Error rate of the intervals, fraction in (0, 1).

    Raises:
        ValueError: The arrays don't fit, or a recipient is in both groups.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}, must be in (0, 1)")
    mails = _Mails.of(recipient, campaign, control, opened, before)
    people = tuple(len(np.unique(mails.person[mails.control == side])) for side in (False, True))
    sends = tuple(int((mails.control == side).sum()) for side in (False, True))
    opens = tuple(int(mails.opened[mails.control == side].sum()) for side in (False, True))
    about = {"people": people, "sends": sends, "opens": opens, "alpha": alpha}
    if min(people) < _FEWEST_PEOPLE or min(opens) < _FEWEST_OPENS:
        nothing = dict.fromkeys(
            ("effect", "ci_lower", "ci_upper", "watched_lower", "watched_upper", "rate", "lift", "lift_lower",
             "lift_upper", "detectable"), float("nan"),
        )  # fmt: skip
        return Uplift(status=UpliftStatus.TOO_FEW, **nothing, **about)  # type: ignore[arg-type]
    return _estimate(mails, alpha, about)


@dataclass(frozen=True, slots=True)
class _Mails:
    person: Integers
    campaign: Integers
    control: Booleans
    opened: Floats
    before: Floats

    @classmethod
    def of(
        cls, recipient: ArrayLike | Sequence[str], campaign: ArrayLike | Sequence[str], control: ArrayLike,
        opened: ArrayLike, before: ArrayLike | None,
    ) -> _Mails:  # fmt: skip
        ids = np.asarray(recipient)
        held, seen = np.asarray(control, dtype=np.bool_), np.asarray(opened, dtype=np.float64)
        rate = np.zeros(len(ids)) if before is None else np.asarray(before, dtype=np.float64)
        for name, array in (("campaign", np.asarray(campaign)), ("control", held), ("opened", seen), ("before", rate)):
            if array.shape != ids.shape or array.ndim != 1:
                raise ValueError(f"{name} has shape {array.shape}, must be {ids.shape} like recipient")
        if not np.isin(seen, (0, 1)).all():
            raise ValueError("opened must hold 0 and 1 alone")
        person = np.unique(ids, return_inverse=True)[1]
        number = np.unique(np.asarray(campaign), return_inverse=True)[1]
        low, high = _extremes(person, held)
        if (low != high).any():
            raise ValueError(
                f"{int((low != high).sum())} recipients are in both groups; the control group must stay the same people"
            )
        both = np.bincount(number, held, len(number)) * np.bincount(number, ~held, len(number)) > 0
        kept = both[number]
        return cls(person[kept], number[kept], held[kept], seen[kept], rate[kept])


def _extremes(person: Integers, held: Booleans) -> tuple[Integers, Integers]:
    n = np.bincount(person)
    in_control = np.bincount(person, held).astype(np.int64)
    return in_control, np.where(in_control > 0, n, 0)


def _estimate(mails: _Mails, alpha: float, about: dict[str, Any]) -> Uplift:
    outcome = _adjusted(mails)
    n = np.stack([np.bincount(mails.campaign, mails.control == side) for side in (False, True)])
    used = n.prod(axis=0) > 0
    harmonic = np.where(used, n.prod(axis=0) / np.maximum(n.sum(axis=0), 1), 0.0)
    weight = harmonic / harmonic.sum()
    means, shares = np.zeros((2, len(weight))), np.zeros(len(outcome))
    for side in (0, 1):
        mine = mails.control == bool(side)
        means[side] = np.bincount(mails.campaign[mine], outcome[mine], len(weight)) / np.maximum(n[side], 1)
        shares[mine] = weight[mails.campaign[mine]] / n[side, mails.campaign[mine]]
    treated, fixed = (float(weight @ row) for row in means)
    scatter = shares * (outcome - means[mails.control.astype(np.int64), mails.campaign])
    sides = [mails.control == bool(side) for side in (0, 1)]
    groups = [np.bincount(mails.person[mine], scatter[mine]).astype(np.float64) for mine in sides]
    spread = _variances(groups, about["people"])
    variance, df = _satterthwaite(spread)
    t, error = float(stdtrit(df, 1 - alpha / 2)), float(np.sqrt(variance))
    effect = treated - fixed
    watched = max(_watched(variance, alpha) * t / float(ndtri(1 - alpha / 2)), t * error)
    lift = effect / fixed
    lift_error = float(np.sqrt(spread[0][0] + (1 + lift) ** 2 * spread[1][0])) / fixed
    proven = effect - watched > 0
    status = UpliftStatus.PROVEN if proven else UpliftStatus.WORSE if effect + watched < 0 else UpliftStatus.NOT_PROVEN
    return Uplift(
        status=status, effect=effect, ci_lower=effect - t * error, ci_upper=effect + t * error,
        watched_lower=effect - watched, watched_upper=effect + watched, rate=fixed, lift=lift,
        lift_lower=lift - t * lift_error, lift_upper=lift + t * lift_error,
        detectable=(t + float(ndtri(0.8))) * error, **about,
    )  # fmt: skip


def _watched(variance: float, alpha: float) -> float:
    """Half width that holds at all looks: the normal mixture of Robbins (1970), for effects of two points."""
    ratio = variance / _TYPICAL**2
    return float(np.sqrt(variance * (1 + ratio) * (2 * np.log(1 / alpha) + np.log1p(1 / ratio))))


def _adjusted(mails: _Mails) -> Floats:
    """Outcomes less what earlier behaviour explains, within campaigns; people without any count as average."""
    known = np.isfinite(mails.before)
    if not known.any():
        return mails.opened
    n = np.maximum(np.bincount(mails.campaign, known), 1)
    centre = np.bincount(mails.campaign, np.where(known, mails.before, 0.0)) / n
    x = np.where(known, mails.before - centre[mails.campaign], 0.0)
    # The slope within campaign and group, so that an effect is not taken for a slope.
    cell = 2 * mails.campaign + mails.control
    size = np.maximum(np.bincount(cell), 1)
    x_within = x - (np.bincount(cell, x) / size)[cell]
    y_within = mails.opened - (np.bincount(cell, mails.opened) / size)[cell]
    square = float(x_within @ x_within)
    slope = float(x_within @ y_within) / square if square > 1e-12 else 0.0
    return np.asarray(mails.opened - slope * x)


def _variances(groups: list[Floats], people: tuple[int, int]) -> list[tuple[float, float]]:
    """Variance of each group's mean, and the degrees of freedom of its estimate.

    A person of either group varies at least as much as one of both together. Opens are skewed: a small group in which
    few read much has a low mean and a low variance, too, so that its own would leave out the truth too often.
    """
    own = [_variance(sums, n) for sums, n in zip(groups, people, strict=True)]
    one_person = sum(variance * n * (n - 1) for (variance, _), n in zip(own, people, strict=True)) / (sum(people) - 2)
    return [(max(variance, one_person / n), df) for (variance, df), n in zip(own, people, strict=True)]


def _variance(sums: Floats, n: int) -> tuple[float, float]:
    """Variance of a group's mean over its ``n`` people, and the degrees of freedom by how uneven they are."""
    total, fourth = float((sums**2).sum()), float((sums**4).sum())
    # n - 1 is for even, normal terms; where a few people make up most of the scatter it is less (Satterthwaite 1946).
    uneven = max(fourth - total**2 / n, 1e-300)
    return total * n / (n - 1), float(np.clip(2 * total**2 / uneven, 2.0, n - 1))


def _satterthwaite(parts: list[tuple[float, float]]) -> tuple[float, float]:
    total = max(sum(variance for variance, _ in parts), _NO_SCATTER)
    return total, total**2 / max(sum(variance**2 / df for variance, df in parts), 1e-300)


@dataclass(frozen=True, slots=True, kw_only=True)
class HourCurve:
    """Open rate by hour of sending, as it would be if everybody were mailed at that hour.

    Attributes:
        rate: (k,) by slot; NaN where no mail went out.
        error: (k,) standard error.
        effective: (k,) effective number of mails.
        slots: (k,) the slots.
    """

    rate: Floats
    error: Floats
    effective: Floats
    slots: Integers


def hour_curve(slot: ArrayLike, propensity: ArrayLike, opened: ArrayLike) -> HourCurve:
    """Open rate of each hour from logged propensities, without the favour that chosen hours have.

    Self-normalised inverse propensity weighting (Hájek 1971; Swaminathan & Joachims 2015): mails that were likely to
    get their slot count less. Mails without a propensity above 0 are left out.

    Args:
        slot: (m,) slots, any whole numbers.
        propensity: (m,) chance of the slot when it was chosen.
        opened: (m,) 0 or 1.
    """
    where, chance = np.asarray(slot, dtype=np.int64), np.asarray(propensity, dtype=np.float64)
    answer = np.asarray(opened, dtype=np.float64)
    if not where.shape == chance.shape == answer.shape or where.ndim != 1:
        raise ValueError(f"slot, propensity and opened have shapes {where.shape}, {chance.shape}, {answer.shape}")
    good = (where >= 0) & (chance > 0) & (chance <= 1)
    slots, at = np.unique(where[good], return_inverse=True)
    weight = 1 / chance[good]
    total, square = np.bincount(at, weight), np.bincount(at, weight**2)
    rate = np.bincount(at, weight * answer[good]) / total
    error = np.sqrt(np.bincount(at, (weight * (answer[good] - rate[at])) ** 2)) / total
    return HourCurve(rate=rate, error=error, effective=total**2 / square, slots=slots)


def open_rate_before(history: History, start: float) -> tuple[NDArray[np.generic], Floats]:
    """Each recipient's open rate in the mails before a moment: the covariate of `uplift`.

    Returns:
        Ids (n,), and rates (n,).
    """
    early = history.sent_at < start
    ids, who = np.unique(history.recipient[early], return_inverse=True)
    n = np.bincount(who, minlength=len(ids))
    return ids, np.bincount(who, np.isfinite(history.opened_at[early]), len(ids)) / np.maximum(n, 1)
