"""Planning: what a list can show, how long a list must be, and what a test costs.

A fixed or planned test of two arms at shares that don't move has a closed form; with a bandit, with several arms or
without a planned end the whole experiment is simulated. Both count a winner as `compare` names one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np

from abmail._boundary import check_alpha
from abmail._design import MOST_MAILS, Claim, Design, PlanMethod, Power, Strata, Waves, check_effect, check_mails
from abmail._trials import Allocation

if TYPE_CHECKING:
    from typing import Unpack

    from numpy.typing import ArrayLike

__all__ = ["Options", "Power", "SampleSize", "SmallestEffect", "duration", "mde", "power", "power_curve", "sample_size"]

_CLOSE = 0.01  # relative width at which a search by simulation ends, unless chance alone is wider
_CLOSER = 1e-6  # the same for a closed form
_MOST_STEPS = 60
_EFFECT_GROWTH = 1.25  # of the effects that are tried to find one that shows
_MOST_GROWTH = 16.0  # of the number of mails from one step to the next
_USUAL_SCORE = 2.5  # mean of the score at usual demands is 1.96 + 0.84; a little less, to get there soon
_SMALLEST_EFFECT = 1e-9


class Options(TypedDict, total=False):
    """What `power`, `sample_size`, `mde` and `power_curve` share; see `power`."""

    n_arms: int
    alpha: float
    method: PlanMethod
    claim: Claim
    allocation: Literal["even"] | Allocation
    epochs: Waves
    delay: ArrayLike | None
    fewest: int | None
    strata: Strata | None
    shape: float
    design_effect: float
    replications: int
    rng: int | np.random.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSize:
    """How many mails a test needs.

    Attributes:
        n: Mails to all arms; None where no number up to a thousand million is enough.
        status: ``ok``, or ``out_of_reach``.
        found: What a test of that size finds; of the largest one where none is enough.
    """

    n: int | None
    status: Literal["ok", "out_of_reach"]
    found: Power


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallestEffect:
    """The smallest improvement that a test is likely to show.

    Attributes:
        effect: Difference of rates, positive; None where the list is too small for any.
        status: ``ok``, or ``out_of_reach``.
        found: What the test finds with that effect; with the one it finds best where none is enough.
    """

    effect: float | None
    status: Literal["ok", "out_of_reach"]
    found: Power

    @property
    def lift(self) -> float | None:
        """The effect as a share of the baseline."""
        return None if self.effect is None else self.effect / self.found.baseline


def power(
    *,
    baseline: float,
    effect: float,
    n: int,
    n_arms: int = 2,
    alpha: float = 0.05,
    method: PlanMethod = "sequential",
    claim: Claim = "best",
    allocation: Literal["even"] | Allocation = "even",
    epochs: Waves = 10,
    delay: ArrayLike | None = None,
    fewest: int | None = None,
    strata: Strata | None = None,
    shape: float = 0.0,
    design_effect: float = 1.0,
    replications: int = 2_000,
    rng: int | np.random.Generator = 0,
) -> Power:
    """Chance that a test proves the better arm better, and what it costs.

    All arms have the baseline's rate but one. The closed form of ``fixed`` is that of the pooled score test (as R's
    power.prop.test), that of ``sequential`` the crossing probability of a Brownian motion with drift at the planned
    looks (Jennison & Turnbull 2000, ch. 19).

    Args:
        baseline: Rate of the other arms, fraction in (0, 1).
        effect: What the better arm's rate exceeds it by; with two arms it may be negative, the control being better.
        n: Mails to all arms.
        n_arms: Number of arms with the control.
        alpha: Two-sided level of the whole comparison, fraction in (0, 1).
        method: ``sequential`` looks after every epoch, ``fixed`` once at the end, ``anytime`` after every epoch
            without a planned end, ``exact`` likewise for few successes, ``aipw`` for the plain average effect. The last
            two are always simulated.
        claim: ``best``: the arm beats every other, at 2 alpha / n_arms a pair, and is named winner; ``control``: it
            beats the control, at alpha / (n_arms - 1).
        allocation: ``even``, or how the shares move: `ThompsonShares` with its floor, `FixedShares`.
        epochs: Number of equal epochs; or their sizes on any scale; or a function from the number of mails to them.
            Not used by ``fixed``.
        delay: How late answers come, which slows a bandit's learning: an int for whole epochs, or the shares that have
            come in at the end of the mails' own epoch, one epoch later and so on.
        fewest: Successes, and failures, that a pair needs before a claim. 30 by default, as `compare` has it; 0 for
            ``fixed``, as textbooks have it, and for ``exact`` and ``aipw``, which know for themselves.
        strata: Pairs of share of the mails and rate, one for each segment within which the arms are compared. Both on
            any scale: the rates are scaled so that their mean is the baseline. The effect is the same in each.
        shape: Shape of the boundary of ``sequential``, as `compare` has it: 0 for O'Brien-Fleming, 0.25 to stop earlier
            for a little power (Wang & Tsiatis 1987), 0.5 for Pocock's.
        design_effect: Factor on the variance where whole companies get one arm and answer alike; see `design_effect`.
            The test is then one that knows of the companies: `compare` with ``clusters``.
        replications: Simulated experiments, where there is no closed form.
        rng: Seed or generator of the simulation.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> round(power(baseline=0.50, effect=0.25, n=100, method="fixed").power, 4)
        0.7402
        >>> round(power(baseline=0.20, effect=0.02, n=10_000, epochs=25).power, 3)
        0.668
    """
    design = Design(
        baseline=baseline,
        n_arms=n_arms,
        alpha=alpha,
        method=method,
        claim=claim,
        allocation=allocation,
        epochs=epochs,
        delay=delay,
        fewest=fewest,
        strata=strata,
        shape=shape,
        design_effect=design_effect,
        replications=replications,
        seed=_seed(rng),
    )
    return design.power(effect, n)


def sample_size(*, baseline: float, effect: float, power: float = 0.8, **options: Unpack[Options]) -> SampleSize:
    """Find the number of mails with which a test is likely enough to prove an effect.

    Simulations use the same random numbers at every size, and end within about one percent of the number.

    Args:
        baseline: As in `power`.
        effect: As in `power`.
        power: Chance wanted, fraction in (0, 1).
        options: As in `power`; up to 1,000 replications by default, fewer where many arms make each slow.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> sample_size(baseline=0.50, effect=0.25, power=0.9, method="fixed").n
        154
    """
    check_alpha(power, "power")
    design = _design(baseline, options)
    check_effect(effect, baseline, design.n_arms)
    few, enough = _bracket_mails(design, effect, power)
    if enough.power < power:
        return SampleSize(n=None, status="out_of_reach", found=enough)

    def between(low: Power, high: Power, share: float) -> Power:
        root = math.sqrt(low.n) + (math.sqrt(high.n) - math.sqrt(low.n)) * share
        return design.power(effect, min(max(round(root**2), low.n + 1), high.n - 1))

    found = _narrow(few, enough, power, between=between, width=lambda low, high: (high.n - low.n - 1) / high.n)
    return SampleSize(n=found.n, status="ok", found=found)


def mde(*, baseline: float, n: int, power: float = 0.8, **options: Unpack[Options]) -> SmallestEffect:
    """Find the smallest improvement that a test of a given size is likely enough to prove.

    Args:
        baseline: As in `power`.
        n: Mails to all arms.
        power: Chance wanted, fraction in (0, 1).
        options: As in `power`; up to 1,000 replications by default, fewer where many arms make each slow.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> round(mde(baseline=0.20, n=10_000, epochs=8).effect, 4)
        0.0233
    """
    check_alpha(power, "power")
    check_mails(n)
    design = _design(baseline, options)
    low, high = _bracket_effects(design, n, power)
    if high.power < power:
        return SmallestEffect(effect=None, status="out_of_reach", found=high)

    def between(low: Power, high: Power, share: float) -> Power:
        return design.power(low.effect + (high.effect - low.effect) * share, n)

    found = _narrow(low, high, power, between=between, width=lambda low, high: 1 - low.effect / high.effect)
    return SmallestEffect(effect=found.effect, status="ok", found=found)


def power_curve(
    *, baseline: float, effect: float | Sequence[float], n: int | Sequence[int], **options: Unpack[Options]
) -> list[dict[str, Any]]:
    """Power over several effects or sizes, for a chart or a table.

    Args:
        baseline: As in `power`.
        effect: One effect, or several.
        n: One number of mails, or several.
        options: As in `power`.

    Returns:
        One row for each pair of effect and n, effects outside: ``effect``, ``n``, ``power``, ``se``, ``how``,
        ``share_used``, ``lost``, ``lost_if_shipped``.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> rows = power_curve(baseline=0.2, effect=[0.02, 0.03], n=10_000)
        >>> [(row["effect"], round(row["power"], 2)) for row in rows]
        [(0.02, 0.67), (0.03, 0.95)]
    """
    effects = [effect] if isinstance(effect, int | float) else list(effect)
    sizes = [n] if isinstance(n, int | np.integer) else list(n)
    design = _design(baseline, {"replications": 2_000, **options})
    return [_row(design.power(one, size)) for one in effects for size in sizes]


def duration(n: int, *, per_day: float, window: timedelta = timedelta(0)) -> timedelta:
    """Time until a test of ``n`` mails can be read: sending at a steady rate, and the last mail's window.

    Args:
        n: Mails to all arms.
        per_day: Mails sent a day, positive.
        window: Time after a send in which an answer counts.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> duration(30_000, per_day=4_000, window=timedelta(hours=72))
        datetime.timedelta(days=10, seconds=43200)
    """
    check_mails(n)
    if not 0 < per_day < math.inf:
        raise ValueError(f"per_day is {per_day:g}, must be a positive number of mails")
    if window < timedelta(0):
        raise ValueError(f"window is {window}, must not be negative")
    if n / per_day > timedelta.max.days - window.days - 1:
        raise ValueError(f"{n:,} mails at {per_day:g} a day take {n / per_day / 365:.3g} years: per_day is too small")
    return timedelta(days=n / per_day) + window


def _row(found: Power) -> dict[str, Any]:
    return {
        "effect": found.effect,
        "n": found.n,
        "power": found.power,
        "se": found.se,
        "how": found.how,
        "share_used": found.share_used,
        "lost": found.lost,
        "lost_if_shipped": found.lost_if_shipped,
    }


def _design(baseline: float, options: Options) -> Design:
    """The design of a search, with a bounded amount of work unless the caller says how much."""
    plain: dict[str, Any] = dict(options)
    design = Design(baseline=baseline, seed=_seed(plain.pop("rng", 0)), **plain)
    return design if "replications" in plain else replace(design, replications=design.affordable)


def _seed(rng: int | np.random.Generator) -> int:
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(2**63))
    if rng < 0:
        raise ValueError(f"rng is {rng}, must be a generator or a seed of at least 0")
    return int(rng)


# -- search ----------------------------------------------------------------------------------------------------------


def _bracket_mails(design: Design, effect: float, power: float) -> tuple[Power, Power]:
    """A size that is too small and one that is enough (or the largest of all)."""
    start = min(_score_test_size(design, effect, power), MOST_MAILS)
    low = high = design.power(effect, math.ceil(start))
    while high.power < power and high.n < MOST_MAILS:
        low, high = high, design.power(effect, min(MOST_MAILS, math.ceil(high.n * _growth(high, power))))
    while low.power >= power and low.n > 1:
        high, low = low, design.power(effect, low.n // 2)
    return low, high


def _bracket_effects(design: Design, n: int, power: float) -> tuple[Power, Power]:
    """An effect that is too small, and the next larger one that shows (or the one that shows best)."""
    most = 1 - float(design.parts[1].max())
    low = high = best = design.power(min(_score_test_effect(design, n, power), most), n)
    while high.power < power and high.effect < most:
        low, high = high, design.power(min(most, high.effect * _EFFECT_GROWTH), n)
        best = max(best, high, key=lambda found: found.power)
    if high.power < power:
        return low, best
    while low.power >= power and low.effect > _SMALLEST_EFFECT:
        high, low = low, design.power(max(_SMALLEST_EFFECT, low.effect / 2), n)
    return low, high


def _score_test_size(design: Design, effect: float, power: float) -> float:
    """Mails that a fixed test of an even split needs: where a search begins."""
    z, more = _quantiles(design, power)
    p, q = design.baseline, design.baseline + effect
    pooled = (p + q) / 2
    gap = z * math.sqrt(2 * pooled * (1 - pooled)) + more * math.sqrt(p * (1 - p) + q * (1 - q))
    return max(2.0, design.design_effect * design.n_arms * (max(gap, 0.0) / effect) ** 2)


def _score_test_effect(design: Design, n: int, power: float) -> float:
    z, more = _quantiles(design, power)
    spread = math.sqrt(2 * design.baseline * (1 - design.baseline) * design.n_arms * design.design_effect / n)
    return max(_SMALLEST_EFFECT, (z + more) * spread)


def _quantiles(design: Design, power: float) -> tuple[float, float]:
    from scipy.special import ndtri

    return float(-ndtri(design.level / 2)), float(ndtri(power))


def _growth(found: Power, power: float) -> float:
    """Factor on the mails that should be enough, were the mean of the score to grow with their root."""
    short = _distance(found, power)
    return float(np.clip((1 + short / _USUAL_SCORE) ** 2, 1.1, _MOST_GROWTH))


def _distance(found: Power, power: float) -> float:
    """What is missing to the wanted power on the probit scale; a simulation never says 0 or 1."""
    from scipy.special import ndtri

    return float(ndtri(power) - ndtri(min(max(found.power, 1e-4), 1 - 1e-4)))


def _narrow(
    low: Power,
    high: Power,
    power: float,
    *,
    between: Callable[[Power, Power, float], Power],
    width: Callable[[Power, Power], float],
) -> Power:
    """Close in on the smallest one that is enough, by the secant on the probit scale and by halving, in turn.

    Args:
        low: One that is too small (or as small as can be).
        high: One that is enough.
        power: Power wanted.
        between: Makes the one that lies at a share of the way from low to high.
        width: Relative width of the bracket, 0 where nothing lies between.
    """
    if low.power >= power:
        return low
    for step in range(_MOST_STEPS):
        if width(low, high) <= (max(_CLOSE, high.se) if high.how == "simulation" else _CLOSER):
            break
        missing, spare = _distance(low, power), -_distance(high, power)
        share = 0.5 if step % 2 else min(max(missing / max(missing + spare, 1e-12), 0.02), 0.98)
        found = between(low, high, share)
        low, high = (found, high) if found.power < power else (low, found)
    return high
