"""What a plan's mails can show and gain against an even split: the figures of `abmail power` for one rate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from abmail._planning import tested
from abmail._power_report import TYPICAL, Baseline, ReadOff, options_of
from abmail._survey import fixed_shares
from abmail.simulate import Estimate, Truth, simulate
from abmail.spec import Experiment
from abmail.stats import Power, SmallestEffect, mde, power

__all__ = ["PlanPower", "plan_power"]

_STEPS: Final = (0.5, 0.75, 1.0, 1.5, 2.0)
"""Effects of the curve, in units of the smallest one worth finding."""

_ASSUMED_LIFT: Final = 0.20
_REPLICATIONS: Final = 300
_MAILINGS: Final = 20
_FEWEST: Final = 20  # mails under which there is nothing to reckon


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPower:
    """What the list can show.

    Attributes:
        baseline: The rate to expect, and where it is from.
        rate: The one that is reckoned with.
        effect: Smallest difference worth finding, and that is assumed to be true.
        assumed: Whether it is a fifth of the rate, as the definition names none.
        mails: Mails that compare the variants.
        curve: Effects, ascending, with the chance to prove each.
        smallest: The smallest effect that is shown with the power that the definition asks.
        gained: Successes gained against an even split where one variant is better by the effect.
        simulated: Mailings that this was reckoned from; 0 where it follows from the shares alone.
    """

    baseline: Baseline
    rate: float
    effect: float
    assumed: bool
    mails: int
    curve: tuple[Power, ...]
    smallest: SmallestEffect
    gained: Estimate
    simulated: int

    @property
    def found(self) -> Power:
        """The chance to prove the effect itself."""
        return self.curve[_STEPS.index(1.0)]


def plan_power(experiment: Experiment, mails: int, baseline: Baseline | None) -> PlanPower | None:
    """Work out what a number of mails can show; None for too few to reckon with.

    Args:
        experiment: The definition.
        mails: Mails that would go out.
        baseline: The rate to expect; the middle one of the typical rates without it.
    """
    compared = tested(experiment, mails)
    if compared < _FEWEST:
        return None
    known = baseline or Baseline(rates=TYPICAL.get(experiment.metrics.primary, TYPICAL["clicked"]), source="typical")
    rate, asked = known.rates[len(known.rates) // 2], experiment.analysis.mde
    effect = min(_ASSUMED_LIFT * rate, (1 - rate) / 2) if asked is None else asked
    options = options_of(experiment, ReadOff())
    effects = [step * effect for step in _STEPS if rate + step * effect < 1]
    curve = [
        power(baseline=rate, effect=one, n=compared, replications=_REPLICATIONS, **options) for one in effects
    ]  # fmt: skip
    gained, simulated = _gained(experiment, mails, rate, effect)
    return PlanPower(
        baseline=known, rate=rate, effect=effect, assumed=asked is None, mails=compared, curve=tuple(curve),
        smallest=mde(baseline=rate, n=compared, power=experiment.analysis.power, replications=_REPLICATIONS, **options),
        gained=gained, simulated=simulated,
    )  # fmt: skip


def _gained(experiment: Experiment, mails: int, rate: float, effect: float) -> tuple[Estimate, int]:
    """Successes gained against an even split, were one variant that is not the control better by the effect."""
    cells, control = experiment.cells, experiment.control_cell
    shares = fixed_shares(experiment)
    best = min((c for c in cells if c != control), key=lambda c: (0.0 if shares is None else shares[c.index], c.index))
    if shares is not None:
        gain = mails * effect * (shares[best.index] - 1 / len(cells))
        return Estimate(value=gain, se=0.0, n=0), 0
    truth = Truth(rates={cell.name: rate + effect * (cell == best) for cell in cells})
    one_by_one = replace(experiment, audience=replace(experiment.audience, unit="recipient"))  # companies take long
    found = simulate(one_by_one, truth=truth, n=_people(experiment, mails), replications=_MAILINGS, rng=0)
    return found.over_even, _MAILINGS


def _people(experiment: Experiment, mails: int) -> int:
    """People in an audience of which so many get a mail."""
    return max(round(mails / (1 - experiment.audience.holdout)), mails)
