"""The people of one simulated mailing, and what each would do with each cell: settled before any mail goes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from abmail._truth import Delays, Truth
    from abmail.spec import Experiment

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["World"]

_DAY: Final = 86_400.0
_RARE: Final = 1e-6  # rates between which a company's can be drawn
_PEAK: Final = 14.0  # hour of the day, at which the daily swing is highest
_SCAN: Final = (np.log(40.0), 0.8)  # machines come after 40 seconds in the median
_LETTERS: Final = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz0123456789", dtype=np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One list and what is true of it.

    Whether a person answers a cell is settled by one number a person: who answers a cell answers every better one. So
    two ways of sharing the same list differ by what they do and not by chance.

    Attributes:
        ids: (n,) the recipients.
        units: (n,) what is assigned as one: the ids, or names of companies.
        segment: (n,) index of each one's segment.
        rates: (n_segments, n_cells) share of people who answer within the window, at an ordinary hour.
        medians: (n_cells,) median delay, seconds.
        spreads: (n_cells,) standard deviation of the delay's logarithm.
        window: Seconds in which an answer counts.
        swing: Daily swing of all rates, fraction.
        drift: Change of all rates a day, fraction.
        will: (n,) uniform: who answers at which rate.
        mood: (n,) uniform, the same for all of a company: how its rate differs from others'.
        icc: Correlation of the answers within a company, fraction.
        pace: (n,) uniform: how soon.
        seen: (n,) whether a person's answer is taken for a person's.
        scanned: (n,) seconds after which a machine's event is taken for a person's answer; infinite for most.
        guarded: (n_guarded,) names of the unwanted events.
        harm: (n_guarded, n_cells) share of people who bring each of them.
        harm_will: (n_guarded, n) uniform: who brings one at which rate.
        harm_pace: (n_guarded, n) uniform: how soon.
    """

    ids: NDArray[np.bytes_]
    units: NDArray[np.bytes_]
    segment: Integers
    rates: Floats
    medians: Floats
    spreads: Floats
    window: float
    swing: float
    drift: float
    will: Floats
    mood: Floats
    icc: float
    pace: Floats
    seen: NDArray[np.bool_]
    scanned: Floats
    guarded: tuple[str, ...]
    harm: Floats
    harm_will: Floats
    harm_pace: Floats

    @classmethod
    def draw(cls, truth: Truth, experiment: Experiment, n: int, *, rng: np.random.Generator, aa: bool) -> World:
        """Draw a list of ``n`` people.

        Args:
            truth: What is true of them.
            experiment: The definition.
            n: Their number.
            rng: Generator.
            aa: Whether all cells are alike: each segment then has the mean of its rates, and all one speed.
        """
        cells = tuple(cell.name for cell in experiment.cells)
        guarded = tuple(truth.guardrails)
        rates = truth.draw(cells, rng)
        harm = np.array([[truth.guardrails[name][cell] for cell in cells] for name in guarded]).reshape(-1, len(cells))
        if aa:
            rates, harm = (np.repeat(table.mean(axis=1, keepdims=True), len(cells), axis=1) for table in (rates, harm))
        delays: list[Delays] = [truth.delays if aa else truth.delays_of.get(cell, truth.delays) for cell in cells]
        ids = _names(n, rng)
        by_company = experiment.audience.unit == "company"
        machines = truth.machines
        slipped = rng.random(n) < machines.share * (1 - machines.caught)
        units = _companies(n, truth.company, rng) if by_company else ids
        return cls(
            ids=ids,
            units=units,
            segment=np.searchsorted(truth.shares.cumsum()[:-1], rng.random(n), side="right").astype(np.int64),
            rates=rates,
            medians=np.array([delay.median.total_seconds() for delay in delays]),
            spreads=np.array([delay.spread for delay in delays]),
            window=experiment.metrics.window.total_seconds(),
            swing=truth.swing,
            drift=truth.drift,
            will=rng.random(n),
            mood=_of_each(units, rng) if by_company and truth.icc else np.zeros(n),
            icc=truth.icc if by_company else 0.0,
            pace=rng.random(n),
            seen=rng.random(n) >= machines.mistaken,
            scanned=np.where(slipped, rng.lognormal(*_SCAN, n), np.inf),
            guarded=guarded,
            harm=harm,
            harm_will=rng.random((len(guarded), n)),
            harm_pace=rng.random((len(guarded), n)),
        )

    def level(self, hour: float, days: float) -> float:
        """Factor on all rates at an hour of the day, so many days after the first send."""
        wave = 1 + self.swing * float(np.cos(2 * np.pi * (hour - _PEAK) / 24))
        return wave * max(1 + self.drift * days, 0.0)

    def delays(self, people: Integers, cells: Integers, *, level: float = 1.0) -> Floats:
        """Seconds until each one's answer, as the store would count it; infinite where none will be counted.

        Args:
            people: (m,) indices of people.
            cells: (m,) the cell that each gets.
            level: Factor on the rates when they get it.
        """
        rate = self._within_company(np.minimum(self.rates[self.segment[people], cells] * level, 1.0), people)
        answer = np.full(len(people), np.inf)
        come = np.flatnonzero((self.will[people] < rate) & self.seen[people])
        answer[come] = self._speed(self.pace[people[come]], cells[come])
        counted: Floats = np.minimum(answer, self.scanned[people])
        return counted

    def _within_company(self, rate: Floats, people: Integers) -> Floats:
        """The rates of some people's companies: beta-distributed around those of all, so that answers correlate."""
        if not self.icc:
            return rate
        from scipy.special import betaincinv

        spread = 1 / self.icc - 1
        inner = np.clip(rate, _RARE, 1 - _RARE)
        drawn = betaincinv(inner * spread, (1 - inner) * spread, self.mood[people])
        own: Floats = np.where((rate > 0) & (rate < 1), drawn, rate)
        return own

    def unwanted(self, people: Integers, cells: Integers) -> Floats:
        """Seconds until each one's unwanted events, (n_guarded, m); infinite where none will come.

        Bounces come at once, all others as soon as answers do; the hour of the day does not matter.
        """
        when = np.full((len(self.guarded), len(people)), np.inf)
        for row, name in enumerate(self.guarded):
            come = np.flatnonzero(self.harm_will[row, people] < self.harm[row, cells])
            pace = self.harm_pace[row, people[come]]
            when[row, come] = 0.0 if name == "bounced" else self._speed(pace, cells[come])
        return when

    def _speed(self, pace: Floats, cells: Integers) -> Floats:
        """Quantiles of the log-normal delays that end within the window."""
        from scipy.special import ndtr, ndtri

        within = ndtr(np.log(self.window / self.medians) / self.spreads)
        delay: Floats = self.medians[cells] * np.exp(self.spreads[cells] * ndtri(pace * within[cells]))
        return np.minimum(delay, np.nextafter(self.window, 0))

    def expected(self, people: Integers, cells: Integers) -> float:
        """Answers of people that these mails bring on average, all sent at an ordinary hour."""
        return float(self.rates[self.segment[people], cells].sum())

    def overall(self, people: Integers) -> Floats:
        """(n_cells,) mean rate of each cell among these people."""
        share = np.bincount(self.segment[people], minlength=len(self.rates)) / max(len(people), 1)
        mean: Floats = share @ self.rates
        return mean


def _of_each(units: NDArray[np.bytes_], rng: np.random.Generator) -> Floats:
    """A uniform number for each unit, (n,) as its members stand; members follow each other."""
    number = np.cumsum(np.concatenate(([False], units[1:] != units[:-1])))
    drawn: Floats = rng.random(int(number[-1]) + 1)[number]
    return drawn


def _names(n: int, rng: np.random.Generator) -> NDArray[np.bytes_]:
    """Names that nobody had in any other simulated list: eight letters or digits each, fast to hash."""
    letters: NDArray[np.uint8] = _LETTERS[rng.integers(len(_LETTERS), size=(n, 8), dtype=np.uint8)]
    return letters.view("S8").reshape(n)


def _companies(n: int, size: float, rng: np.random.Generator) -> NDArray[np.bytes_]:
    """A company for each person: of geometric size, ``size`` on average."""
    sizes = rng.geometric(1 / size, n)
    return np.repeat(_names(n, rng), sizes)[:n]
