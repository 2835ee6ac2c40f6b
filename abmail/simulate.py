"""What an experiment will bring, before a mail goes out: thousands of mailings through the engine's own decisions.

`simulate` plays a definition on made-up people whose true rates are known, so that it can say how often the test names
the best variant, how often a wrong one, what it earns against an even split and against the classical test, and when.
With ``aa`` all variants are alike, and every winner is a false alarm.

Nothing here reads a clock, a file or a database (but `load_truth`, which reads a truth file).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from abmail._mailing import Outcome, Setup, play
from abmail._replay import Log, Replayed, replay
from abmail._simulation_words import describe
from abmail._truth import Delays, Group, Machines, Spread, Truth, load_truth, typical_truth
from abmail.spec import Experiment
from abmail.stats import sample_size, wilson_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "Delays",
    "Estimate",
    "FalseAlarms",
    "Group",
    "Log",
    "Machines",
    "Map",
    "Need",
    "Progress",
    "Replayed",
    "Simulation",
    "Spread",
    "Truth",
    "load_truth",
    "replay",
    "simulate",
    "typical_truth",
]

Language = Literal["en", "ja"]
Map = Callable[[Callable[[np.random.SeedSequence], Outcome], Iterable[np.random.SeedSequence]], Iterable[Outcome]]
Progress = Callable[[int, int], object]

_START: Final = datetime(2025, 1, 7, 9, tzinfo=UTC)  # a Tuesday morning
_SEVERAL: Final = 3  # parts into which drawn tests are put by the difference that there is to find
_OPENS: Final = 0.25  # a usual open rate
_MOST: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over the replications.

    Attributes:
        value: The mean; NaN where there is nothing to take it of.
        se: Its standard error.
        n: Replications that it was taken over.
    """

    value: float
    se: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseAlarms:
    """Winners that were named although all variants were alike.

    Attributes:
        rate: Their share.
        lower: Lower end of its 95 % interval (Wilson).
        upper: Upper end.
        promised: The highest share that the definition promises, ``analysis.alpha``.
        n: Tests of equal variants.
    """

    rate: float
    lower: float
    upper: float
    promised: float
    n: int

    @property
    def ok(self) -> bool:
        """Whether the promise can be true."""
        return self.lower <= self.promised


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Tests with about the same difference to find.

    Attributes:
        low: Smallest difference between the best rate and the second best.
        high: Largest.
        found: Share in which the best variant was named the winner.
    """

    low: float
    high: float
    found: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Mails with which the difference would be found with the power that the definition asks, split evenly.

    Attributes:
        what: ``list`` (the test as it is), ``two_variants``, or ``opens`` (as primary metric, the same relative lift).
        mails: Their number; None where no number is enough.
    """

    what: Literal["list", "two_variants", "opens"]
    mails: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """What was found; every share is a fraction, every duration in seconds, and answers are clicks or opens of people.

    Attributes:
        experiment: The definition.
        truth: What was taken to be true.
        recipients: People in the audience.
        mails: Mails that went out on average.
        replications: Simulated mailings.
        seed: Of the random numbers; None where the caller's generator was used.
        aa: Whether all variants were made alike.
        right: Winner named, and truly the best; over the tests that have a best variant.
        wrong: Winner named, and another is the best; over the same tests.
        guessed: The winner, or without one the leading variant, is truly the best; over the same tests.
        false_alarms: Winners among equal variants; None where there were no such tests.
        no_difference: The verdict that no difference is worth finding.
        decided: Tests with either verdict.
        time: Quartiles of the time from the first send to the verdict, of tests with one; NaN without.
        sent_then: Share of the mails that were out at the verdict, of tests with one.
        answers: Answers of a mailing.
        regret: Answers lost against sending everybody the best variant of the segment.
        even_regret: Those lost by an even split.
        classic_regret: Those lost by a test on a fifth of the list, four hours, and the winner to the rest.
        over_even: Answers gained against an even split.
        over_classic: Answers gained against the classical test.
        coverage: 95 % intervals (at the definition's alpha) of differences to the control that hold the true one.
        loss: Rate that is lost by going on with the winner, or the leading variant.
        caught: Share of the variants truly above a limit on unwanted events that were stopped; over all such variants.
        wronged: Share of those within all limits that were stopped; where the truth has unwanted events at all.
        harm: Unwanted events of a mailing.
        even_harm: Those of an even split.
        gap: Median difference between the best rate and the second best, of tests that have a best variant.
        bands: The chance to find the best by the size of that difference, where the truth is drawn anew each time.
        needs: What it would take, where the list is too small; empty elsewhere.
    """

    experiment: Experiment
    truth: Truth
    recipients: int
    mails: float
    replications: int
    seed: int | None
    aa: bool
    right: Estimate
    wrong: Estimate
    guessed: Estimate
    false_alarms: FalseAlarms | None
    no_difference: Estimate
    decided: Estimate
    time: tuple[float, float, float]
    sent_then: Estimate
    answers: Estimate
    regret: Estimate
    even_regret: Estimate
    classic_regret: Estimate
    over_even: Estimate
    over_classic: Estimate
    coverage: Estimate
    loss: Estimate
    caught: Estimate
    wronged: Estimate
    harm: Estimate
    even_harm: Estimate
    gap: float
    bands: tuple[Band, ...]
    needs: tuple[Need, ...]

    @property
    def reached(self) -> bool | None:
        """Whether what was asked is reached: the false alarms promised, or the power; None where nothing was asked.

        Rates that are drawn anew each time have no one difference that could be found with a given power.
        """
        if self.aa:
            return self.false_alarms is None or self.false_alarms.ok
        if self.truth.spread is not None or not self.right.n:
            return None
        return self.right.value >= self.experiment.analysis.power

    def sentence(self, language: Language = "en") -> str:
        """The answer in plain words."""
        return describe(self, language).sentence

    def advice(self, language: Language = "en") -> tuple[str, ...]:
        """What would help, one sentence each."""
        return describe(self, language).advice

    def to_text(self, language: Language = "en") -> str:
        """The report as people read it, a line feed at its end."""
        return describe(self, language).text

    def to_dict(self) -> dict[str, Any]:
        """The report in numbers, JSON-able; null where there is no number."""
        estimates = {
            name: _finite(asdict(getattr(self, name)))
            for name in (
                "right", "wrong", "guessed", "no_difference", "decided", "sent_then", "answers", "regret",
                "even_regret", "classic_regret", "over_even", "over_classic", "coverage", "loss", "caught", "wronged",
                "harm", "even_harm",
            )
        }  # fmt: skip
        alarms = self.false_alarms
        return {
            "format_version": 1,
            "abmail_version": version("abmail"),
            "experiment": self.experiment.name,
            "spec_hash": self.experiment.spec_hash,
            "metric": self.experiment.metrics.primary,
            "variants": len(self.experiment.cells),
            "policy": self.experiment.allocation.policy,
            "truth": {"source": self.truth.source, **self.truth.to_dict()},
            "recipients": self.recipients,
            "mails": self.mails,
            "replications": self.replications,
            "seed": self.seed,
            "aa": self.aa,
            **estimates,
            "false_alarms": None if alarms is None else asdict(alarms) | {"ok": alarms.ok},
            "seconds_to_verdict": dict(zip(("q25", "median", "q75"), map(_number, self.time), strict=True)),
            "gap": _number(self.gap),
            "bands": [asdict(band) for band in self.bands],
            "needs": {need.what: need.mails for need in self.needs},
            "power": self.experiment.analysis.power,
            "reached": self.reached,
            "sentence": self.sentence(),
            "sentence_ja": self.sentence("ja"),
            "advice": list(self.advice()),
            "advice_ja": list(self.advice("ja")),
        }


def simulate(
    experiment: Experiment,
    *,
    truth: Truth | Mapping[str, object] | None = None,
    n: int = 10_000,
    replications: int = 500,
    rng: int | np.random.SeedSequence | np.random.Generator = 0,
    aa: bool = False,
    start: datetime = _START,
    map_: Map = map,
    progress: Progress | None = None,
) -> Simulation:
    """Simulate an experiment many times, through the same assignment, bandit and statistics as a real one.

    Args:
        experiment: The definition.
        truth: What is true, a `Truth` or plain data as in a truth file; drawn by `typical_truth` by default.
        n: People in the audience, held out ones included, 1 or more.
        replications: Simulated mailings, 2 or more.
        rng: Seed or generator. Each mailing gets a seed of its own: the figures don't depend on how the work is split.
        aa: Make all variants alike, so that every winner is a false alarm.
        start: When the first wave may go out, aware; the definition's ``send_time`` decides when it does.
        map_: Applies the work to the seeds in order; the ``map`` of a process pool runs it on several cores.
        progress: Called with the mailings done and their number after each.

    Raises:
        SpecError: The truth has problems.
        ValueError: A number is out of range.

    Example:
        >>> import abmail as ab
        >>> exp = ab.loads('''
        ... spec: 1
        ... name: spring
        ... factors: {subject: {plain: Hello, number: 3 ways}}
        ... control: {subject: plain}
        ... message: {template: mails/a.html.j2, from: a@example.com}
        ... ''')
        >>> found = ab.simulate(exp, truth={"rates": {"plain": 0.03, "number": 0.06}}, n=5_000, replications=20, rng=1)
        >>> found.right.value > 0.5, found.over_even.value > 0
        (True, True)
    """
    if not 1 <= n <= 10_000_000:
        raise ValueError(f"n is {n}, must be a number of people from 1 to 10,000,000")
    if not 2 <= replications <= _MOST:
        raise ValueError(f"replications is {replications}, must be from 2 to {_MOST:,}")
    if start.tzinfo is None:
        raise ValueError(f"start is {start}, must have a time zone")
    given = Truth.from_dict(truth, experiment) if isinstance(truth, Mapping) else truth
    setup = Setup(experiment=experiment, truth=given or typical_truth(experiment), n=n, aa=aa, start=start)
    seed = rng if isinstance(rng, int) else None
    outcomes = []
    for outcome in map_(partial(play, setup), _seeds(rng, replications)):
        outcomes.append(outcome)
        if progress is not None:
            progress(len(outcomes), replications)
    return _summary(setup, outcomes, seed)


def _seeds(rng: int | np.random.SeedSequence | np.random.Generator, n: int) -> list[np.random.SeedSequence]:
    if isinstance(rng, np.random.Generator):
        rng = np.random.SeedSequence(rng.integers(2**63, size=4).tolist())
    return (rng if isinstance(rng, np.random.SeedSequence) else np.random.SeedSequence(rng)).spawn(n)


def _summary(setup: Setup, outcomes: list[Outcome], seed: int | None) -> Simulation:
    column = {name: np.array([getattr(o, name) for o in outcomes]) for name in Outcome.__dataclass_fields__}
    best, state = column["best"], column["state"]
    real, won = best >= 0, state == "winner"
    settled = np.isfinite(column["decided"])
    hits = won & (column["arm"] == best)
    found = _mean(hits[real])
    gap = float(np.median(column["gap"][real])) if real.any() else math.nan
    drawn = setup.truth.spread is not None and not setup.aa
    power = setup.experiment.analysis.power
    small = bool(real.any()) and found.value < power
    return Simulation(
        experiment=setup.experiment,
        truth=setup.truth,
        recipients=setup.n,
        mails=float(column["mails"].mean()),
        replications=len(outcomes),
        seed=seed,
        aa=setup.aa,
        right=found,
        wrong=_mean((won & ~hits)[real]),
        guessed=_mean((column["arm"] == best)[real]),
        false_alarms=_false_alarms(won[~real], setup.experiment.analysis.alpha),
        no_difference=_mean(state == "no_difference"),
        decided=_mean(settled),
        time=_quartiles(column["decided"][settled]),
        sent_then=_mean(column["sent_then"][settled]),
        answers=_mean(column["answers"]),
        regret=_mean(column["ideal"] - column["answers"]),
        even_regret=_mean(column["ideal"] - column["even"]),
        classic_regret=_mean(column["ideal"] - column["classic"]),
        over_even=_mean(column["answers"] - column["even"]),
        over_classic=_mean(column["answers"] - column["classic"]),
        coverage=_ratio(column["covered"], column["intervals"]),
        loss=_mean(column["loss"]),
        caught=_ratio(column["caught"], column["over"]),
        wronged=_ratio(column["wronged"], column["within"] * bool(setup.truth.guardrails)),
        harm=_mean(column["harm"]),
        even_harm=_mean(column["even_harm"]),
        gap=gap,
        bands=_bands(column["gap"][real], hits[real]) if drawn else (),
        needs=_needs(setup, column, gap) if small else (),
    )


# -- figures -----------------------------------------------------------------------------------------------------------


def _mean(values: NDArray[Any]) -> Estimate:
    n = len(values)
    if not n:
        return Estimate(value=math.nan, se=math.nan, n=0)
    return Estimate(value=float(values.mean()), se=float(values.std(ddof=min(1, n - 1)) / math.sqrt(n)), n=n)


def _ratio(part: Floats, whole: Floats) -> Estimate:
    """Share of all intervals or variants, with the replication as the unit."""
    total = float(whole.sum())
    if not total:
        return Estimate(value=math.nan, se=math.nan, n=0)
    ratio = float(part.sum()) / total
    error = math.sqrt(float(((part - ratio * whole) ** 2).sum())) / total
    return Estimate(value=ratio, se=error, n=int(total))


def _false_alarms(won: NDArray[np.bool_], alpha: float) -> FalseAlarms | None:
    n, alarms = len(won), int(won.sum())
    if not n:
        return None
    low, high = wilson_interval(alarms, n)
    return FalseAlarms(rate=alarms / n, lower=low, upper=high, promised=alpha, n=n)


def _quartiles(seconds: Floats) -> tuple[float, float, float]:
    if not len(seconds):
        return math.nan, math.nan, math.nan
    low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def _bands(gap: Floats, hits: NDArray[np.bool_]) -> tuple[Band, ...]:
    """Tests in equal parts by the difference that there is to find."""
    if len(gap) < 10 * _SEVERAL:
        return ()
    parts = np.array_split(np.argsort(gap, kind="stable"), _SEVERAL)
    return tuple(Band(low=float(gap[p].min()), high=float(gap[p].max()), found=_mean(hits[p])) for p in parts)


def _needs(setup: Setup, column: Mapping[str, NDArray[Any]], gap: float) -> tuple[Need, ...]:
    """Mails that it would take to prove the difference, and how many fewer with two variants or by opens."""
    analysis, n_arms = setup.experiment.analysis, len(setup.experiment.cells)
    mails = max(float(column["mails"].mean()), 1.0)
    rate = min(float((column["ideal"] / np.maximum(column["mails"], 1)).mean()) - gap, 0.99 - gap) if mails else 0.0
    rate = max(rate, 1e-4)
    ways: list[tuple[Literal["list", "two_variants", "opens"], int, float, float]] = [("list", n_arms, rate, gap)]
    if n_arms > 2:
        ways.append(("two_variants", 2, rate, gap))
    if setup.experiment.metrics.primary == "clicked" and rate < _OPENS:
        ways.append(("opens", n_arms, _OPENS, min(gap / rate * _OPENS, 0.7)))
    return tuple(
        Need(
            what=what,
            mails=sample_size(
                baseline=base, effect=effect, power=analysis.power, alpha=analysis.alpha, n_arms=arms, allocation="even"
            ).n,
        )
        for what, arms, base, effect in ways
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}
