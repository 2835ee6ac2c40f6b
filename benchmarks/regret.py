"""Regret of the bandit when answers take hours: answers lost against sending everybody the best arm.

Run: ``python -m benchmarks.regret [--replications N] [--seed S] [--jobs J] [--rows REGEX] [--columns REGEX]``.
100,000 mails go out in hourly epochs, 48 unless a row says otherwise. A rate is the share of answers within the window;
their delays are log-normal, cut off at the window. Every decision of the columns "abmail" goes through the production
code: delays -> `DelayCurve` -> `Counts` -> policy. All columns of a scenario see the same instances; the standard
error of each mean is in brackets. MABWiser's Thompson sampling takes part where it is installed
(``pip install mabwiser``): it is told every mail that went out, with a 1 for each answer that has come in.

The prior curve is the default one (median 2.5 h, 70 % within 24 h): right in the first scenarios, wrong in the slow and
fast ones. In the last rows arms differ in speed or are opened in two waves, which a curve of all arms cannot see.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri

from abmail.bandit import DelayCurve, Policy, Sharpened, Thompson
from abmail.stats import Counts

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Wave = tuple[float, float, float]
"""Share of an arm's answers, median delay in hours, log standard deviation."""

HOUR = 3_600.0
DAY = 24 * HOUR
MAILS = 100_000
TEST_SHARE, WAIT = 0.2, 4 * HOUR
BINS = np.concatenate([np.geomspace(30.0, 0.75 * HOUR, 15), HOUR * np.arange(1, 49)])
"""Ends of the bins in which delays are counted; an answer counts once its bin is over."""

EAGER = Thompson(min_weight=0.0)
UNAWARE = Thompson(min_weight=0.0, level_sd=0.0)
EARN = Sharpened(planned=MAILS, min_weight=0.0)


def spread(median: float, *, within_a_day: float = 0.7) -> float:
    """Log standard deviation of log-normal delays with that median (hours) and share within 24 hours."""
    return float(np.log(24 / median) / ndtri(within_a_day))


USUAL: tuple[Wave, ...] = ((1.0, 2.5, spread(2.5)),)
TWO_WAVES: tuple[Wave, ...] = ((0.5, 0.5, 0.8), (0.5, 12.0, 0.5))
"""Half of the answers within about an hour, half around the next morning."""


def one_wave(median: float, sd: float) -> tuple[Wave, ...]:
    """All answers in one wave."""
    return ((1.0, median, sd),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is true.

    Attributes:
        name: Row of the table.
        rates: Share of answers within the window per arm; or for random instances their typical rate alone.
        apart: Standard deviation of the arms' log odds in random instances.
        delays: Waves of each arm's answers; one entry for all arms alike.
        window: Seconds in which an answer counts.
        swing: Relative daily swing of all rates.
        epochs: Hourly epochs.
    """

    name: str
    rates: tuple[float, ...]
    apart: float = 0.0
    delays: tuple[tuple[Wave, ...], ...] = (USUAL,)
    window: float = 14 * DAY
    swing: float = 0.0
    epochs: int = 48


OPENS, CLICKS = (0.18, 0.20, 0.21, 0.25), (0.020, 0.023, 0.026, 0.034)
LATE, PROMPT = one_wave(8.0, 3.3), one_wave(2.0, 3.3)
FAST, TARDY = one_wave(0.7, 3.3), one_wave(4.0, 3.3)
SCENARIOS = (
    Scenario(name="opens .18/.20/.21/.25", rates=OPENS),
    Scenario(name="clicks .020/.023/.026/.034", rates=CLICKS),
    Scenario(name="random opens", rates=(0.21,), apart=0.12),
    Scenario(name="random clicks", rates=(0.026,), apart=0.20),
    Scenario(name="opens, daily swing 35 %", rates=OPENS, swing=0.35),
    Scenario(name="random opens, swing 35 %", rates=(0.21,), apart=0.12, swing=0.35),
    Scenario(name="opens in 12 epochs", rates=OPENS, epochs=12),
    Scenario(name="opens, median 8 h", rates=OPENS, delays=(one_wave(8.0, spread(8)),)),
    Scenario(name="opens, 90 % within 24 h", rates=OPENS, delays=(one_wave(2.5, spread(2.5, within_a_day=0.9)),)),
    Scenario(name="best late (8 h; 2 h)", rates=OPENS, delays=(PROMPT, PROMPT, PROMPT, LATE), window=60 * DAY),
    Scenario(name="worst fast (.7; 4 h)", rates=OPENS, delays=(FAST, TARDY, TARDY, TARDY), window=60 * DAY),
    Scenario(name="worst in two waves", rates=OPENS, delays=(TWO_WAVES, USUAL, USUAL, USUAL)),
    Scenario(name="best in two waves", rates=OPENS, delays=(USUAL, USUAL, USUAL, TWO_WAVES)),
)


class World:
    """One list, seen hour by hour: sends and answers per epoch and arm, answers also by bin of their delay."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
        self.scenario, self.rng = scenario, rng
        self.rates = np.array(scenario.rates)
        if scenario.apart:
            self.rates = expit(logit(scenario.rates[0]) + scenario.apart * rng.standard_normal(4))
        self.phase = rng.uniform(0, 2 * np.pi)
        waves = scenario.delays * (len(self.rates) if len(scenario.delays) == 1 else 1)
        self.chance = [_bin_chances(arm, scenario.window) for arm in waves]
        self.sent = np.zeros((0, len(self.rates)), dtype=np.int64)
        self.answers = np.zeros((0, len(self.rates), len(BINS)), dtype=np.int64)

    @property
    def size(self) -> int:
        """Mails of the next epoch."""
        now, epochs = len(self.sent), self.scenario.epochs
        return MAILS * (now + 1) // epochs - MAILS * now // epochs

    def send(self, shares: Floats | Integers) -> float:
        """Send one epoch, by weights or by numbers of mails; returns the answers that it loses against the best arm."""
        now = len(self.sent)
        told = shares.dtype.kind == "i"
        n: Integers = shares.astype(np.int64) if told else self.rng.multinomial(self.size, shares.astype(np.float64))
        k = self.rng.binomial(n, np.minimum(self.rates * self.level(now), 1.0))
        come = [self.rng.multinomial(part, chance)[:-1] for part, chance in zip(k, self.chance, strict=True)]
        self.sent, self.answers = np.vstack([self.sent, n]), np.concatenate([self.answers, [come]])
        return float(n @ (self.rates.max() - self.rates))

    def level(self, now: int) -> float:
        """The hour's factor on all rates."""
        return float(1 + self.scenario.swing * np.sin(2 * np.pi * now / 24 + self.phase))

    @property
    def ages(self) -> Floats:
        """(n_epochs,) age of each epoch in seconds."""
        return HOUR * np.arange(len(self.sent), 0, -1, dtype=np.float64)

    def seen(self) -> tuple[Integers, Integers, Integers, Integers, Counts]:
        """Epoch, arm, bin and number of the answers that have come in; and all of them as counts."""
        come = np.where(self.ages[:, None, None] >= BINS, self.answers, 0)
        epoch, arm, where = come.nonzero()
        return epoch, arm, where, come[epoch, arm, where], Counts(self.sent, come.sum(axis=2))


def _bin_chances(waves: tuple[Wave, ...], window: float) -> Floats:
    """Chance of each bin for an answer within the window, and last that of all later ones."""
    ends = np.append(BINS, window)
    within = np.zeros(len(ends))
    for share, median, sd in waves:
        within += share * ndtr(np.log(ends / (median * HOUR)) / sd)
    chance: Floats = np.diff(within, prepend=0.0) / within[-1]
    return chance


def naive(world: World) -> Floats:
    """Thompson sampling that takes every unanswered mail for a failure and all hours for alike."""
    return UNAWARE.weights(world.seen()[-1])


def pooled(world: World) -> Floats:
    """Abmail with one delay curve for all arms."""
    epoch, _, where, n, counts = world.seen()
    curve = DelayCurve.fit(BINS[where], world.ages[epoch], counts=n, window=world.scenario.window)
    return EAGER.weights(Counts(counts.n, counts.successes, counts.n * curve.cdf(world.ages)[:, None]))


def by_arm(world: World, *, policy: Policy = EAGER) -> Floats:
    """Abmail with curves by arm, shrunk to a common one by the evidence."""
    epoch, arm, where, n, counts = world.seen()
    curves = DelayCurve.fit_by_arm(
        BINS[where], world.ages[epoch], arm, n_arms=counts.n_arms, counts=n, window=world.scenario.window
    )
    row, cell = np.divmod(np.arange(counts.n.size), counts.n_arms)
    exposure = curves.exposure(row, cell, world.ages[row], counts.n.ravel(), n_epochs=counts.n_epochs)
    return policy.weights(Counts(counts.n, counts.successes, np.clip(exposure, 0, counts.n)))


def known(world: World) -> Floats:
    """Abmail for the goal to earn, told each arm's true curve."""
    counts = world.seen()[-1]
    hours = np.searchsorted(BINS, world.ages)
    curve = np.stack([chance.cumsum()[hours] for chance in world.chance], axis=1)
    return EARN.weights(Counts(counts.n, counts.successes, np.clip(counts.n * curve, 0, counts.n)))


def mabwiser(world: World) -> Integers:
    """MABWiser's Thompson sampling, fed the same mails and answers: a prediction for each mail of the next epoch."""
    from mabwiser.mab import MAB, LearningPolicy

    counts = world.seen()[-1]
    n, k = counts.n.sum(axis=0), counts.successes.sum(axis=0)
    rewards = np.concatenate([np.arange(mails) < hits for mails, hits in zip(n, k, strict=True)]).astype(np.int64)
    arms = list(range(counts.n_arms))
    model = MAB(arms, LearningPolicy.ThompsonSampling(), seed=int(world.rng.integers(2**31)))
    model.fit(np.repeat(arms, n), rewards)
    return np.bincount(model.predict(np.zeros((world.size, 1))), minlength=len(arms))


def adaptive(decide: Callable[[World], Floats | Integers], world: World) -> float:
    """Answers that a policy loses; the first epoch is even."""
    lost = world.send(np.full(len(world.rates), 1 / len(world.rates)))
    return lost + sum(world.send(decide(world)) for _ in range(world.scenario.epochs - 1))


def even(world: World) -> float:
    """Answers that an even split loses."""
    return MAILS * float(np.mean(world.rates.max() - world.rates))


def test_then_send(world: World) -> float:
    """Answers lost by a fifth sent evenly at once, four hours of waiting, and the leader to the rest."""
    gap = world.rates.max() - world.rates
    n = int(MAILS * TEST_SHARE) // len(gap)
    within = np.array([chance[BINS <= WAIT].sum() for chance in np.array(world.chance)[:, :-1]])
    seen = world.rng.binomial(n, world.rates * world.level(0) * within)
    leader = int(np.argmax(seen + world.rng.uniform(0, 0.5, len(gap))))
    return float(n * gap.sum() + (MAILS - n * len(gap)) * gap[leader])


COLUMNS: dict[str, Callable[[World], float]] = {
    "even split": even,
    "20 %, 4 h, winner": test_then_send,
    "naive Thompson": partial(adaptive, naive),
    "MABWiser": partial(adaptive, mabwiser),
    "abmail, one curve": partial(adaptive, pooled),
    "abmail": partial(adaptive, by_arm),
    "abmail, floor .05": partial(adaptive, partial(by_arm, policy=Thompson())),
    "abmail, to earn": partial(adaptive, partial(by_arm, policy=EARN)),
    "earn, curve known": partial(adaptive, known),
}


def run(column: str, scenario: Scenario, seed: int, replication: int) -> float:
    """Answers lost in one replication."""
    return COLUMNS[column](World(scenario, np.random.default_rng([seed, replication])))


def cells(scenario: Scenario, columns: Sequence[str], seed: int, replications: int, pool: Executor) -> Iterator[str]:
    """The cells of one scenario."""
    for column in columns:
        lost = np.fromiter(pool.map(partial(run, column, scenario, seed), range(replications), chunksize=5), float)
        yield f"{lost.mean():,.0f} ({lost.std(ddof=1) / np.sqrt(len(lost)):.0f})"


def decision_times() -> Iterator[str]:
    """Milliseconds of processor time for one decision, from the delays to the weights, late in a run."""
    world = World(SCENARIOS[0], np.random.default_rng(0))
    for _ in range(48):
        world.send(np.full(4, 0.25))
    for name, decide in (("one curve", pooled), ("curves by arm", by_arm)):
        spent = []
        for _ in range(20):
            start = time.process_time()
            decide(world)
            spent.append(time.process_time() - start)
        yield f"{name} {np.median(spent) * 1e3:.1f} ms"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Answers lost against the best arm, by policy.")
    parser.add_argument("--replications", type=int, default=100, help="runs per cell, at least 2")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--rows", default="", help="regular expression: only the rows in whose names it is found")
    parser.add_argument("--columns", default="", help="likewise for columns")
    options = parser.parse_args(arguments)
    if options.replications < 2:
        parser.error(f"--replications is {options.replications}, must be at least 2 for a standard error")
    there = [name for name in COLUMNS if name != "MABWiser" or find_spec("mabwiser")]
    columns = [name for name in there if re.search(options.columns, name)]
    print(f"{MAILS:,} mails, {options.replications} replications: answers lost (standard error)")
    print(f"{'':27}" + "".join(f"{column:>19}" for column in columns))
    with ProcessPoolExecutor(options.jobs) as pool:
        for scenario in SCENARIOS:
            if re.search(options.rows, scenario.name):
                found = cells(scenario, columns, options.seed, options.replications, pool)
                print(f"{scenario.name:27}" + "".join(f"{cell:>19}" for cell in found), flush=True)
    print(f"one decision of four arms after 48 epochs: {', '.join(decision_times())}")


if __name__ == "__main__":
    main()
