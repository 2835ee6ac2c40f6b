"""What an experiment's list can show, how long a list must be, and what each way to share it costs: before sending.

The pure part of `Engine.power`: a definition, a number of mails and a rate to expect go in, a `PowerReport` comes out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any, Final, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from abmail import _planning as planning
from abmail._analysis import Evidence
from abmail._power_words import describe
from abmail._spec_allocation import LEARNING
from abmail.bandit import DelayCurve
from abmail.simulate import Spread
from abmail.spec import Allocation, Experiment, Goal
from abmail.stats import (
    FixedShares,
    PlanMethod,
    Power,
    SampleSize,
    SmallestEffect,
    ThompsonShares,
    duration,
    mde,
    power,
    sample_size,
)

__all__ = [
    "TYPICAL",
    "Baseline",
    "Outlook",
    "PowerReport",
    "ReadOff",
    "Setting",
    "options_of",
    "past_rate",
    "past_spread",
    "power_report",
]

Source = Literal["given", "definition", "past", "typical", "assumed"]

_GOALS: Final[tuple[Goal, ...]] = ("earn", "balance", "learn")
TYPICAL: Final = {"opened": (0.15, 0.25, 0.40), "clicked": (0.01, 0.025, 0.05)}
_ASSUMED_LIFT: Final = 0.20
_FEWEST_PAST: Final = 30  # successes of earlier mailings, below which their rate is no guide
_ANY_WAY: Final = ("sequential", "anytime", "exact")  # methods that are valid however the mails are shared
_MOST_WAVES: Final = 25  # that are simulated; a plan of more is simulated in groups of waves
_SHOWN_REPLICATIONS: Final = 2_000
_FEWEST_SHOWN: Final = 200


class _Options(TypedDict, total=False):
    n_arms: int
    alpha: float
    allocation: Any
    epochs: Any
    delay: NDArray[np.float64] | None
    method: PlanMethod
    shape: float
    strata: tuple[tuple[float, float], ...] | None
    design_effect: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The rate to expect, and where it is from.

    Attributes:
        rates: One rate; several typical ones where it is not known. Fractions.
        source: ``given``, ``definition``, ``past`` or ``typical``.
        mails: Mails that it was measured on, 0 unless past.
        experiments: Experiments that it was measured on, 0 unless past.
    """

    rates: tuple[float, ...]
    source: Source
    mails: int = 0
    experiments: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOff:
    """How the test is read: by which method, and within what.

    Attributes:
        method: PlanMethod of `compare`.
        shape: Shape of the boundary of ``sequential``: 0 for O'Brien-Fleming's.
        strata: Share of the mails and rate of each segment within which the variants are compared; only ratios count.
        icc: Correlation of the answers within a company, None where recipients are counted one by one.
        design_effect: Factor on the mails that companies which answer alike cost; 1 without ``icc``.
    """

    method: PlanMethod = "sequential"
    shape: float = 0.0
    strata: tuple[tuple[float, float], ...] = ()
    icc: float | None = None
    design_effect: float = 1.0

    @property
    def options(self) -> _Options:
        """The same in the terms of `power`."""
        return _Options(
            method=self.method, shape=self.shape, strata=self.strata or None, design_effect=self.design_effect
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A way to share the mails, and what it brings.

    Attributes:
        name: ``earn``, ``balance``, ``learn`` (goals of a bandit), ``even``, or ``definition`` where the definition's
            own way is none of these.
        policy: ``thompson``, ``uniform`` or ``fixed``.
        min_weight: Share that every variant keeps.
        chosen: Whether it is the definition's own way.
        found: Its power and its price.
    """

    name: str
    policy: str
    min_weight: float
    chosen: bool
    found: Power


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What the test can show if the control has this rate.

    Attributes:
        baseline: The rate.
        effect: The smallest difference worth finding.
        reached: Whether the list is enough for the power that was asked.
        found: What the list finds; None where there is none.
        needed: Mails needed.
        smallest: The smallest improvement that the list shows with the power asked; None where there is no list.
        settings: Ways to share the same mails, the cheapest first; empty where they would not differ, or with several
            rates.
        two_variants: The power if only two variants were tested; None with but two, several rates, or no list.
        needed_time: From the first send to the end of the last mail's window, for the mails needed; None where no
            number is enough.
    """

    baseline: float
    effect: float
    reached: bool
    found: Power | None
    needed: SampleSize
    smallest: SmallestEffect | None
    settings: tuple[Setting, ...]
    two_variants: Power | None
    needed_time: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerReport:
    """What `Engine.power` found.

    Attributes:
        experiment: The definition.
        recipients: People in the audience, held out ones included.
        mails: Mails that would go out.
        waves: Planned number of mails in each epoch.
        per_day: Mails a day; None where the waves alone set the pace.
        baseline: The rate to expect, and where it is from.
        effect_source: Where the smallest difference worth finding is from: ``given``, ``definition``, or ``assumed`` (a
            fifth of the rate).
        read_off: How the test is read.
        outlooks: One for each rate.
        time: From the first send to the end of the last mail's window; None where there is no list.
    """

    experiment: Experiment
    recipients: int
    mails: int
    waves: tuple[int, ...]
    per_day: float | None
    baseline: Baseline
    effect_source: Source
    read_off: ReadOff
    outlooks: tuple[Outlook, ...]
    time: timedelta | None

    @property
    def reached(self) -> bool | None:
        """Whether the list is enough for what was asked, at the likely rates; None where nothing was asked."""
        if self.effect_source == "assumed" and self.mails:
            return None
        return any(outlook.reached for outlook in self.outlooks)

    @property
    def sentence(self) -> str:
        """The answer in plain words."""
        return describe(self).sentence

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do next, one sentence each."""
        return describe(self).advice

    def to_text(self) -> str:
        """The report as people read it, a line feed at its end."""
        return describe(self).text

    def to_dict(self) -> dict[str, Any]:
        """The report in numbers, JSON-able; durations in seconds."""
        experiment, words = self.experiment, describe(self)
        return {
            "format_version": 1,
            "experiment": experiment.name,
            "spec_hash": experiment.spec_hash,
            "metric": experiment.metrics.primary,
            "variants": len(experiment.cells),
            "policy": experiment.allocation.policy,
            "min_weight": experiment.min_weight if experiment.allocation.policy in LEARNING else None,
            "alpha": experiment.analysis.alpha,
            **asdict(self.read_off),
            "power": experiment.analysis.power,
            "recipients": self.recipients,
            "mails": self.mails,
            "waves": list(self.waves),
            "per_day": self.per_day,
            "seconds_to_result": _seconds(self.time),
            "baseline": asdict(self.baseline) | {"rates": list(self.baseline.rates)},
            "mde_source": self.effect_source,
            "outlooks": [_outlook_dict(outlook) for outlook in self.outlooks],
            "reached": self.reached,
            "sentence": words.sentence,
            "advice": list(words.advice),
            "notes": list(words.notes),
        }


def power_report(
    experiment: Experiment,
    *,
    recipients: int,
    mails: int,
    baseline: Baseline | None,
    effect: float | None = None,
    per_day: float | None = None,
    read_off: ReadOff | None = None,
) -> PowerReport:
    """Work out what a list can show.

    Args:
        experiment: The definition: variants, allocation, waves, level, power, and ``analysis.mde``.
        recipients: People in the audience.
        mails: How many of them get a mail.
        baseline: The rate to expect; None for typical ones.
        effect: Smallest difference worth finding; the definition's by default, else a fifth of the rate.
        per_day: Mails a day; by default as fast as the waves allow.
        read_off: How the test is read; by default as `compare` does a planned one.

    Raises:
        ValueError: A number is out of range, or the method is not valid for the definition's way to share the mails.
    """
    read = read_off or ReadOff()
    base = baseline or Baseline(rates=TYPICAL.get(experiment.metrics.primary, TYPICAL["clicked"]), source="typical")
    asked = effect if effect is not None else experiment.analysis.mde
    return PowerReport(
        experiment=experiment,
        recipients=recipients,
        mails=mails,
        waves=planning.waves(experiment, mails),
        per_day=per_day,
        baseline=base,
        effect_source="given" if effect is not None else "assumed" if asked is None else "definition",
        read_off=read,
        outlooks=tuple(
            _outlook(experiment, mails, rate, asked, per_day, read, alone=len(base.rates) == 1) for rate in base.rates
        ),
        time=_time(experiment, mails, per_day) if mails else None,
    )


def past_rate(experiment: Experiment, earlier: Iterable[Evidence]) -> Baseline | None:
    """The rate of the experiment's metric in earlier mailings, all their variants together; None with too few answers.

    Only epochs count whose window, as long as this experiment's, has closed.
    """
    successes = sends = used = 0
    for evidence in earlier:
        same = replace(evidence, experiment=replace(evidence.experiment, metrics=experiment.metrics))
        k, n = (int(counts[: same.n_mature].sum()) for counts in (same.successes, same.sent))
        successes, sends, used = successes + k, sends + n, used + bool(n)
    if min(successes, sends - successes) < _FEWEST_PAST:
        return None
    return Baseline(rates=(successes / sends,), source="past", mails=sends, experiments=used)


def past_spread(experiment: Experiment, earlier: Iterable[Evidence]) -> Spread | None:
    """How rates differed between and within earlier mailings with the same metric; None with too few of them.

    As in `past_rate`, only epochs count whose window has closed.
    """
    tables = []
    for evidence in earlier:
        if evidence.experiment.metrics.primary == experiment.metrics.primary:
            mature = slice(None, evidence.n_mature)
            tables.append((evidence.sent[mature].sum(axis=0), evidence.successes[mature].sum(axis=0)))
    return Spread.from_history(tables)


# -- one rate ---------------------------------------------------------------------------------------------------------


def _outlook(
    experiment: Experiment,
    mails: int,
    baseline: float,
    asked: float | None,
    per_day: float | None,
    read: ReadOff,
    *,
    alone: bool,
) -> Outlook:
    """What the list shows at one rate; the ways to share it are compared where that is the only one."""
    effect = min(_ASSUMED_LIFT * baseline, (1 - baseline) / 2) if asked is None else asked
    if baseline + effect >= 1:
        raise ValueError(f"the rate {baseline:g} and the mde {effect:g} come to 1 or more: no rate is that high")
    options, wanted = options_of(experiment, read), experiment.analysis.power
    needed = sample_size(baseline=baseline, effect=effect, power=wanted, **options)
    found = smallest = two = None
    settings: tuple[Setting, ...] = ()
    if mails:
        found = _shown(experiment, mails, baseline, effect, read)
        smallest = mde(baseline=baseline, n=mails, power=wanted, **options)
        ways = _settings(experiment, mails, baseline, effect, found, read) if alone else ()
        settings = tuple(sorted(ways, key=lambda way: way.found.lost))
        two = _two_variants(experiment, mails, baseline, effect, read) if alone else None
    enough = found is not None and (found.power >= wanted or (needed.n is not None and needed.n <= mails))
    return Outlook(
        baseline=baseline,
        effect=effect,
        reached=enough,
        found=found,
        needed=needed,
        smallest=smallest,
        settings=settings,
        two_variants=two,
        needed_time=None if needed.n is None else _time(experiment, needed.n, per_day),
    )


def _shown(experiment: Experiment, mails: int, baseline: float, effect: float, read: ReadOff) -> Power:
    """A figure that is shown; simulated less often with many variants, where each test takes long."""
    replications = max(_FEWEST_SHOWN, _SHOWN_REPLICATIONS * 2 // len(experiment.cells))
    return power(baseline=baseline, effect=effect, n=mails, replications=replications, **options_of(experiment, read))


def _two_variants(experiment: Experiment, mails: int, baseline: float, effect: float, read: ReadOff) -> Power | None:
    if len(experiment.cells) == 2:
        return None
    fewer = options_of(experiment, read) | {"n_arms": 2}
    allocation = fewer["allocation"]
    if isinstance(allocation, FixedShares):
        fewer["allocation"] = "even"
    if isinstance(allocation, ThompsonShares):
        fewer["allocation"] = ThompsonShares(min_weight=0.10)
    return power(baseline=baseline, effect=effect, n=mails, **fewer)


def _settings(
    experiment: Experiment, mails: int, baseline: float, effect: float, own: Power, read: ReadOff
) -> Iterator[Setting]:
    """The goals of a bandit, the even split and the definition's own way; none where a single wave makes them alike.

    Nor where the method is not valid for all of them.
    """
    if _tests_first(experiment) or read.method not in _ANY_WAY:
        return
    bandit = replace(experiment.allocation, policy="thompson", weights=None, min_weight=None, goal="balance")
    if len(planning.waves(replace(experiment, allocation=bandit), mails)) < 2:
        return
    own_goal = experiment.allocation.goal
    goals = sorted(_GOALS, key=lambda goal: goal != own_goal)  # with many variants two of them are the same
    unlike = {_sharing(experiment, replace(bandit, goal=goal)): goal for goal in reversed(goals)}
    ways = {str(goal): replace(bandit, goal=goal) for goal in _GOALS if goal in unlike.values()}
    ways["even"] = replace(bandit, policy="uniform")
    mine = _own_way(experiment, ways)
    ways.setdefault(mine, experiment.allocation)
    for name, allocation in ways.items():
        way = replace(experiment, allocation=allocation)
        found = own if name == mine else _shown(way, mails, baseline, effect, read)
        least = _least_weight(way)
        yield Setting(name=name, policy=allocation.policy, min_weight=least, chosen=name == mine, found=found)


def _own_way(experiment: Experiment, ways: Mapping[str, Allocation]) -> str:
    """The name of the definition's way to share."""
    policy = experiment.allocation.policy
    if policy == "uniform":
        return "even"
    floor, lean = _sharing(experiment, experiment.allocation)
    for name, way in ways.items():
        its_floor, its_lean = _sharing(experiment, way)
        if policy == way.policy and lean == its_lean and math.isclose(floor, its_floor):
            return name
    return "definition"


def _sharing(experiment: Experiment, allocation: Allocation) -> tuple[float, float]:
    """What tells two bandits apart: the floor of a cell, and how they lean on the leader."""
    floor = replace(experiment, allocation=allocation).min_weight
    return floor, allocation.lean(len(experiment.factors))


def _least_weight(experiment: Experiment) -> float:
    if experiment.allocation.policy == "uniform" or _tests_first(experiment):
        return 1 / len(experiment.cells)
    weights = experiment.allocation.weights
    return min(weights.values()) if weights else experiment.min_weight


def options_of(experiment: Experiment, read: ReadOff) -> _Options:
    """The definition in the terms of `power`: shares, waves, delays, and how the test is read."""
    settings, options = experiment.allocation, read.options
    options |= _Options(n_arms=len(experiment.cells), alpha=experiment.analysis.alpha, allocation="even", delay=None)
    together = math.ceil((settings.waves - 1) / (_MOST_WAVES - 1))
    waves = (
        replace(experiment, allocation=replace(settings, policy="uniform")) if _tests_first(experiment) else experiment
    )
    options["epochs"] = lambda n: _grouped(planning.waves(waves, n), together)
    if settings.policy == "fixed":
        options["allocation"] = FixedShares(shares=_shares(experiment))
    if settings.policy not in {"uniform", "fixed", "test_then_send"}:
        lean = settings.lean(len(experiment.factors))
        options["allocation"] = ThompsonShares(min_weight=experiment.min_weight, sharpen=lean)
        ages = together * settings.every.total_seconds() * np.arange(1, math.ceil(settings.waves / together) + 1)
        options["delay"] = DelayCurve.default(window=experiment.metrics.window.total_seconds()).cdf(ages)
    return options


def _tests_first(experiment: Experiment) -> bool:
    """Whether only a part of the list compares the variants, before everybody else gets the best of them."""
    return experiment.allocation.policy == "test_then_send"


def _shares(experiment: Experiment) -> tuple[float, ...]:
    """The fixed shares, the control's first and the smallest next: it is the better arm that is hardest to prove."""
    weights = experiment.allocation.weights or {}
    control = experiment.control_cell.name
    rest = sorted(weights[cell.name] for cell in experiment.cells if cell.name != control)
    return (weights[control], *rest)


def _grouped(waves: Sequence[int], together: int) -> tuple[int, ...]:
    """The waves with those after the first put together, so that there are not too many to simulate."""
    first, rest = waves[:1], waves[1:]
    return (*first, *(sum(rest[i : i + together]) for i in range(0, len(rest), together)))


def _time(experiment: Experiment, mails: int, per_day: float | None) -> timedelta:
    """From the first send to the end of the last mail's window."""
    window = experiment.metrics.window
    by_waves = (len(planning.waves(experiment, mails)) - 1) * experiment.allocation.every + window
    return by_waves if per_day is None else max(by_waves, duration(mails, per_day=per_day, window=window))


# -- numbers for programs ---------------------------------------------------------------------------------------------


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()


def _outlook_dict(outlook: Outlook) -> dict[str, Any]:
    needed, smallest = outlook.needed, outlook.smallest
    return {
        "baseline": outlook.baseline,
        "mde": outlook.effect,
        "reached": outlook.reached,
        "found": None if outlook.found is None else _power_dict(outlook.found),
        "needed": {"status": needed.status, "n": needed.n, "seconds_to_result": _seconds(outlook.needed_time)},
        "smallest": None
        if smallest is None
        else {"status": smallest.status, "effect": smallest.effect, "lift": smallest.lift},
        "settings": [
            {name: getattr(each, name) for name in ("name", "policy", "min_weight", "chosen")} | _power_dict(each.found)
            for each in outlook.settings
        ],
        "two_variants": None if outlook.two_variants is None else _power_dict(outlook.two_variants),
    }


def _power_dict(found: Power) -> dict[str, Any]:
    kept = ("power", "se", "how", "share_used", "lost", "lost_if_shipped")
    return {name: getattr(found, name) for name in kept}
