"""What is supposed to be true in a simulation: rates, speeds, machines; read from a YAML file or drawn anew each time.

A truth file is read as definitions are: every problem is reported at its line and column.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeVar

import numpy as np

from abmail._document import Document
from abmail._fields import Kind, MissingKey, Refusal, Refused, UnknownKey, WrongType, read_part, write_part
from abmail._spec_problems import Origin, from_refusals, in_order
from abmail._spec_types import Duration, OpenShare, PositiveShare, Share
from abmail._values import BadValue, FrozenDict, format_duration, parse_duration, parse_share, shown
from abmail.errors import SpecError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abmail.diagnostics import Diagnostic
    from abmail.spec import Experiment

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["Delays", "Group", "Machines", "Rates", "Spread", "Truth", "load_truth", "typical_truth"]

T = TypeVar("T")

Source = Literal["file", "history", "headlines", "typical"]

_DAY: Final = 86_400.0
_NUMBER: Final = re.compile(r"\s*([-+]?[0-9]+(?:\.[0-9]+)?)\s*[%％]\s*")
_SUM: Final = 1e-6
_FEWEST_EXPERIMENTS: Final = 5  # of the account, below which its spread is no guide
_FEWEST_ANSWERS: Final = 5  # of an arm, below which its logarithm says nothing
_NEVER: Final = 0.95  # highest rate that is drawn


# --- kinds of values --------------------------------------------------------------------------------------------------


def _number(low: float, high: float) -> Kind[float]:
    """Make the kind of a number in [low, high], which may be written in percent."""

    def read(value: object) -> float:
        if isinstance(value, str) and (match := _NUMBER.fullmatch(value)):
            number = float(match[1]) / 100
        elif isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value) if abs(value) < 1e300 else math.inf
        else:
            raise WrongType("a number", value)
        if not low <= number <= high:
            raise BadValue(f"{shown(value)} is not in [{low:g}, {high:g}]")
        return number

    return Kind(read, {"type": ["number", "string"]})


def _mapping(read_one: Callable[[object], T]) -> Callable[[object], FrozenDict[str, T]]:
    """Read named values of one kind; all their problems are found."""

    def read(value: object) -> FrozenDict[str, T]:
        if not isinstance(value, Mapping):
            raise WrongType("keys with values", value)
        found: dict[str, T] = {}
        problems: list[Refusal] = []
        for name, item in value.items():
            try:
                found[str(name)] = read_one(item)
            except Refused as refused:
                problems += [((str(name), *location), problem) for location, problem in refused.problems]
            except BadValue as problem:
                problems.append(((str(name),), problem))
        if problems:
            raise Refused(problems)
        return FrozenDict(found)

    return read


def _part(part: type[T]) -> Callable[[object], T]:
    """Read a part inside a mapping."""

    def read(value: object) -> T:
        made, problems = read_part(part, value, _conflicts)
        if made is None:
            raise Refused(problems)
        return made

    return read


def _level(value: object) -> tuple[float, float]:
    numbers = [item for item in value if isinstance(item, int | float)] if isinstance(value, list | tuple) else []
    if len(numbers) != 2 or not all(0 < number < 1e9 for number in numbers):
        raise BadValue(f"{shown(value)} are not two positive numbers", hint="write [1.8, 107], as a Beta distribution")
    return float(numbers[0]), float(numbers[1])


def _plain(parts: Mapping[str, object]) -> dict[str, Any]:
    return {name: write_part(part) for name, part in parts.items()}


def _plain_rates(rates: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {name: dict(own) for name, own in rates.items()}


def _plain_durations(durations: Mapping[str, timedelta]) -> dict[str, str]:
    return {name: format_duration(own) for name, own in durations.items()}


Rates = Annotated[Mapping[str, float], Kind(_mapping(parse_share), {"type": "object"}, dict[str, float])]
_RatesOf = Annotated[
    Mapping[str, Mapping[str, float]], Kind(_mapping(_mapping(parse_share)), {"type": "object"}, _plain_rates)
]
_Durations = Annotated[Mapping[str, timedelta], Kind(_mapping(parse_duration), {"type": "object"}, _plain_durations)]
_Level = Annotated[tuple[float, float], Kind(_level, {"type": "array"}, list)]
_Factor = Annotated[float, _number(0.0, 5.0)]
_Drift = Annotated[float, _number(-0.5, 0.5)]
_Size = Annotated[float, _number(1.0, 1_000.0)]


# --- the parts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """How long answers take: log-normal, cut off at the metric's window.

    Attributes:
        median: Half of the answers come within this time.
        within_day: Share of the answers that come within 24 hours, fraction in (0, 1).
    """

    median: Duration = timedelta(hours=2, minutes=30)
    within_day: OpenShare = 0.7

    @property
    def spread(self) -> float:
        """Standard deviation of the delay's logarithm."""
        from scipy.special import ndtri

        return float(math.log(_DAY / self.median.total_seconds()) / ndtri(self.within_day))


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A segment of the list.

    Attributes:
        share: Its share of the list, fraction in (0, 1].
        rates: Rate of each cell in it.
    """

    share: PositiveShare
    rates: Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """Scanners and prefetching mail programs, which open and click mails within a minute or so.

    Attributes:
        share: Share of the recipients who are behind one.
        caught: Share of the machines' events that are told from people's.
        mistaken: Share of people's events that are taken for a machine's.
    """

    share: Share = 0.0
    caught: Share = 0.95
    mistaken: Share = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Rates that are drawn anew for each simulated mailing.

    Attributes:
        baseline: Typical rate of a mailing; drawn from ``level`` where it is absent.
        sd: Standard deviation between the cells of one mailing, in the logarithm of the rate.
        null: Share of the mailings in which all cells are alike.
        level: Beta parameters of the mailings' rates.
    """

    baseline: OpenShare | None = None
    sd: _Factor = 0.25
    null: Share = 1 / 3
    level: _Level = (1.8, 107.0)

    def draw(self, n_cells: int, rng: np.random.Generator) -> Floats:
        """Draw the rates of one mailing, (n_cells,)."""
        alike, rate = rng.random() < self.null, rng.beta(*self.level)
        apart = self.sd * rng.standard_normal(n_cells)
        base = rate if self.baseline is None else self.baseline
        rates: Floats = np.minimum(base * np.exp(0.0 if alike else apart), _NEVER) * np.ones(n_cells)
        return rates

    @classmethod
    def from_history(cls, experiments: Iterable[tuple[Integers, Integers]]) -> Self | None:
        """The spread of an account's own mailings, by the method of moments.

        The share of mailings whose cells are alike cannot be told from a small spread by few of them: it stays at a
        third, and the standard deviation is that of the others.

        Args:
            experiments: Mails and answers of each cell, two (n_cells,) arrays for each experiment.

        Returns:
            None with fewer than five experiments that have answers enough.
        """
        levels: list[float] = []
        within = freedom = 0.0
        for n, k in experiments:
            known = k >= _FEWEST_ANSWERS
            if known.sum() < 2:
                continue
            levels.append(float(k[known].sum() / n[known].sum()))
            rate = np.log(k[known] / n[known])
            noise = (n[known] - k[known]) / (n[known] * k[known])  # variance of the logarithm, delta method
            within += float(((rate - rate.mean()) ** 2).sum() - noise.sum() * (1 - 1 / len(rate)))
            freedom += len(rate) - 1
        if len(levels) < _FEWEST_EXPERIMENTS:
            return None
        null = 1 / 3
        return cls(sd=min(math.sqrt(max(within / freedom, 0.0) / (1 - null)), 5.0), null=null, level=_beta(levels))


def _beta(levels: list[float]) -> tuple[float, float]:
    """Beta parameters with the mean and variance of some rates."""
    mean, variance = float(np.mean(levels)), max(float(np.var(levels, ddof=1)), 1e-9)
    total = max(mean * (1 - mean) / variance - 1, 2.0)
    return mean * total, (1 - mean) * total


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is true of the recipients and the cells.

    A rate is the share of the people who answer within the metric's window, of those who get the cell.

    Attributes:
        rates: Rate of each cell by its name.
        segments: Segments with rates of their own, in place of ``rates``.
        spread: How rates are drawn anew for each simulated mailing, in place of ``rates``.
        delays: How long answers take.
        delays_of: How long they take for some cells, where these differ.
        swing: How much all rates rise and fall within a day, fraction: 0.35 is a third more at 14:00 and less at 2:00.
        drift: How much all rates change in a day, fraction.
        machines: Events that no person made.
        company: Recipients of one company on average, where the company is the unit.
        icc: Correlation of the answers within a company, fraction: colleagues answer alike, where it is over 0.
        guardrails: Rate of each unwanted event that the definition guards, for each cell.
        joins: Levels that join a running test, and how long after its first mail.
        source: Where the rates are from.
    """

    rates: Rates | None = None
    segments: Annotated[Mapping[str, Group], Kind(_mapping(_part(Group)), {"type": "object"}, _plain)] | None = None
    spread: Spread | None = None
    delays: Delays = Delays()
    delays_of: Annotated[Mapping[str, Delays], Kind(_mapping(_part(Delays)), {"type": "object"}, _plain)] = field(
        default_factory=FrozenDict
    )
    swing: Share = 0.0
    drift: _Drift = 0.0
    machines: Machines = Machines()
    company: _Size = 3.0
    icc: Share = 0.0
    guardrails: _RatesOf = field(default_factory=FrozenDict)
    joins: _Durations = field(default_factory=FrozenDict)
    source: Source = field(default="file", init=False)

    @classmethod
    def from_dict(cls, value: Mapping[str, object], experiment: Experiment) -> Truth:
        """Read a truth from plain data.

        Raises:
            SpecError: With every problem.
        """
        return _read(value, experiment, Origin())

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; `from_dict` reads it."""
        return write_part(self)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the segments; one without a name where there are none."""
        return tuple(self.segments or {"": None})

    @property
    def shares(self) -> Floats:
        """(n_segments,) shares of the list, sum 1."""
        given = np.array([group.share for group in self.segments.values()]) if self.segments else np.ones(1)
        return given / float(given.sum())

    def draw(self, cells: tuple[str, ...], rng: np.random.Generator) -> Floats:
        """The rates of one mailing, (n_segments, n_cells)."""
        if self.spread is not None:
            return self.spread.draw(len(cells), rng)[np.newaxis]
        tables = [group.rates for group in self.segments.values()] if self.segments else [self.rates or {}]
        return np.array([[table[cell] for cell in cells] for table in tables])

    def called(self, source: Source) -> Truth:
        """The same truth, with where it is from."""
        made = replace(self)
        object.__setattr__(made, "source", source)
        return made


def typical_truth(experiment: Experiment, history: Spread | None = None) -> Truth:
    """Rates drawn from the account's history; else from the spread of real headline tests, or of typical opens.

    The definition's own ``analysis.baseline`` is the rate to expect in any case.
    """
    clicks = experiment.metrics.primary == "clicked"
    drawn = history or (Spread() if clicks else Spread(sd=0.12, level=(6.0, 18.0)))
    source: Source = "history" if history is not None else "headlines" if clicks else "typical"
    return Truth(spread=replace(drawn, baseline=experiment.analysis.baseline)).called(source)


# --- reading ----------------------------------------------------------------------------------------------------------


def load_truth(path: str | os.PathLike[str], experiment: Experiment) -> Truth:
    """Read a truth file for an experiment.

    Args:
        path: A YAML file: ``rates``, ``segments`` or ``spread``, and whatever else `Truth` has.
        experiment: Whose cells it is about.

    Raises:
        SpecError: With every problem of the file at its line and column.
    """
    document = Document.of_file(path, empty="write rates: {cell: 4 %, other: 5 %}")
    if document.root is None or document.findings:
        raise SpecError(in_order(document.findings))
    return _read(document.root.data, experiment, document.origin)


def _read(value: object, experiment: Experiment, origin: Origin) -> Truth:
    cells = tuple(cell.name for cell in experiment.cells)

    def conflicts(part: type[Any], read: Mapping[str, Any], raw: Mapping[Any, object]) -> Iterator[Refusal]:
        yield from _conflicts(part, read, raw)
        if part is Truth:
            yield from _conflicts_of_cells(read, raw, cells)
            yield from _conflicts_of_guardrails(raw.get("guardrails"), experiment, cells)
            yield from _conflicts_of_joins(read.get("joins") or {}, experiment)

    truth, refusals = read_part(Truth, value, conflicts)
    if truth is None:
        found: Iterable[Diagnostic] = from_refusals(refusals, origin)
        raise SpecError(in_order(found))
    return truth


def _conflicts(part: type[Any], read: Mapping[str, Any], raw: Mapping[Any, object]) -> Iterator[Refusal]:
    """Say what the fields of a part contradict."""
    del raw
    if part is not Delays:
        return
    seconds = read.get("median", Delays().median).total_seconds()
    within = read.get("within_day", Delays().within_day)
    if seconds == _DAY or within == 0.5 or (seconds < _DAY) != (within > 0.5):
        clause = "more" if seconds < _DAY else "less"
        problem = BadValue(
            f"{within:g} within a day does not go with this median: half of the answers come within the median",
            hint=f"write {clause} than 0.5, and another median than 24h",
        )
        yield ("within_day" if "within_day" in read else "median",), problem


def _conflicts_of_cells(
    read: Mapping[str, Any], raw: Mapping[Any, object], cells: tuple[str, ...]
) -> Iterator[Refusal]:
    kinds = [key for key in ("rates", "segments", "spread") if raw.get(key) is not None]
    if len(kinds) != 1:
        which = f"{' and '.join(kinds)} exclude each other" if kinds else "rates are missing"
        yield (
            (kinds[1],) if kinds else (),
            (BadValue if kinds else MissingKey)(which, hint="write rates (one for each cell), segments, or spread"),
        )
    yield from _names(("rates",), raw.get("rates"), cells)
    segments = raw.get("segments")
    for name, group in segments.items() if isinstance(segments, Mapping) else ():
        rates = group.get("rates") if isinstance(group, Mapping) else None
        yield from _names(("segments", str(name), "rates"), rates, cells)
    for name in read.get("delays_of") or {}:
        if name not in cells:
            yield ("delays_of", name), UnknownKey.among(name, cells)
    total = sum(group.share for group in (read.get("segments") or {}).values())
    if read.get("segments") is not None and abs(total - 1) > _SUM:
        yield ("segments",), BadValue(f"the shares sum to {total:g}, must be 1")


def _names(location: tuple[str, ...], rates: object, cells: tuple[str, ...]) -> Iterator[Refusal]:
    """Every cell has its rate, and nothing else has; in what is written, be it right or wrong otherwise."""
    if not isinstance(rates, Mapping):
        return
    names = [str(name) for name in rates]
    for name in names:
        if name not in cells:
            yield (*location, name), UnknownKey.among(name, cells)
    if missing := [cell for cell in cells if cell not in names]:
        yield location, MissingKey(f"the rate of {', '.join(missing)} is missing")


def _conflicts_of_guardrails(guardrails: object, experiment: Experiment, cells: tuple[str, ...]) -> Iterator[Refusal]:
    """Only events that the definition guards can stop an arm."""
    guarded = tuple(experiment.metrics.guardrails)
    for name, rates in guardrails.items() if isinstance(guardrails, Mapping) else ():
        if name not in guarded:
            yield ("guardrails", str(name)), UnknownKey.among(str(name), guarded)
        yield from _names(("guardrails", str(name)), rates, cells)


def _conflicts_of_joins(joins: Mapping[str, timedelta], experiment: Experiment) -> Iterator[Refusal]:
    """A level can join where a new version of the definition could take it in, and leaves a test before it does."""
    known = tuple(level for levels in experiment.factors.values() for level in levels)
    left = {factor: [level for level in levels if level not in joins] for factor, levels in experiment.factors.items()}
    for level in joins:
        homes = [factor for factor, levels in experiment.factors.items() if level in levels]
        if not homes:
            yield (
                ("joins", level),
                UnknownKey.among(level, known),
            )
        elif len(homes) > 1:
            yield ("joins", level), BadValue(f"{' and '.join(homes)} both have a level of this name")
        elif experiment.control[homes[0]] == level:
            yield ("joins", level), BadValue("is the control, with which all others are compared from the start")
    if joins and experiment.allocation.policy == "fixed":
        yield ("joins",), BadValue("fixed shares leave no room for a variant that joins", hint="use another policy")
    if joins and math.prod(len(levels) for levels in left.values()) == 1:
        yield ("joins",), BadValue("one variant alone is no test", hint="let two of them begin")
