"""Regret of the bandit when answers take hours: answers lost against sending everybody the best arm.

Run: ``python -m benchmarks.regret [--replications N] [--seed S] [--jobs J]``. 100,000 mails go out in 48 hourly epochs.
A rate is the share of answers within the window; their delays are log-normal, cut off at the window. Every decision of
the columns "abmail" goes through the production code: delays -> `DelayCurve` -> `Counts` -> `Thompson.weights`. All
columns of a scenario see the same chance instances; the standard error of each mean is in brackets.

The prior curve is the default one (median 2.5 h, 70 % within 24 h): right in the first scenarios, wrong in the slow and
fast ones. In the last two the arms differ in speed, which a curve of all arms together cannot see.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtr, ndtri

from abmail.bandit import DelayCurve, Policy, Thompson, weights_over
from abmail.stats import Counts

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

HOUR = 3_600.0
DAY = 24 * HOUR
MAILS, EPOCHS = 100_000, 48
TEST_SHARE, WAIT = 0.2, 4 * HOUR
EAGER = Thompson(min_weight=0.0)
UNAWARE = Thompson(min_weight=0.0, level_sd=0.0)


def spread(median: float, *, within_a_day: float = 0.7) -> float:
    """Log standard deviation of log-normal delays with that median (hours) and share within 24 hours."""
    return float(np.log(24 / median) / ndtri(within_a_day))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is true.

    Attributes:
        name: Row of the table.
        rates: Share of answers within the window per arm; or for random instances their typical rate alone.
        apart: Standard deviation of the arms' log odds in random instances.
        medians: Median delay of each arm, hours; one for all arms alike.
        spread: Log standard deviation of the delays.
        window: Seconds in which an answer counts.
        swing: Relative daily swing of all rates.
        full: Whether to run the last two columns too, which take longer.
    """

    name: str
    rates: tuple[float, ...]
    apart: float = 0.0
    medians: tuple[float, ...] = (2.5,)
    spread: float = spread(2.5)
    window: float = 14 * DAY
    swing: float = 0.0
    full: bool = False


OPENS, CLICKS = (0.18, 0.20, 0.21, 0.25), (0.020, 0.023, 0.026, 0.034)
SCENARIOS = (
    Scenario(name="opens .18/.20/.21/.25", rates=OPENS, full=True),
    Scenario(name="clicks .020/.023/.026/.034", rates=CLICKS, full=True),
    Scenario(name="random opens", rates=(0.21,), apart=0.12),
    Scenario(name="random clicks", rates=(0.026,), apart=0.20),
    Scenario(name="opens, window 72 h", rates=OPENS, window=3 * DAY),
    Scenario(name="opens, median 8 h", rates=OPENS, medians=(8.0,), spread=spread(8)),
    Scenario(name="opens, 90 % within 24 h", rates=OPENS, spread=spread(2.5, within_a_day=0.9)),
    Scenario(name="opens, daily swing 35 %", rates=OPENS, swing=0.35),
    Scenario(name="random opens, swing 35 %", rates=(0.21,), apart=0.12, swing=0.35),
    Scenario(name="random clicks, swing 35 %", rates=(0.026,), apart=0.20, swing=0.35),
    Scenario(name="best late (8 h; 2 h)", rates=OPENS, medians=(2, 2, 2, 8), spread=3.3, window=60 * DAY, full=True),
    Scenario(name="worst fast (.7; 4 h)", rates=OPENS, medians=(0.7, 4, 4, 4), spread=3.3, window=60 * DAY, full=True),
)


class World:
    """One list, seen hour by hour."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator) -> None:
        self.scenario, self.rng = scenario, rng
        self.rates = np.array(scenario.rates)
        if scenario.apart:
            self.rates = expit(logit(scenario.rates[0]) + scenario.apart * rng.standard_normal(4))
        self.phase = rng.uniform(0, 2 * np.pi)
        self.medians = np.broadcast_to(np.array(scenario.medians) * HOUR, self.rates.shape)
        self.sent = np.zeros((0, len(self.rates)), dtype=np.int64)
        self.epoch, self.arm = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        self.delay = np.zeros(0)

    def send(self, weights: Floats) -> float:
        """Send one epoch; returns the answers that it loses against the best arm."""
        now = len(self.sent)
        n = self.rng.multinomial(MAILS * (now + 1) // EPOCHS - MAILS * now // EPOCHS, weights)
        level = 1 + self.scenario.swing * np.sin(2 * np.pi * now / 24 + self.phase)
        arm = np.repeat(np.arange(len(n)), self.rng.binomial(n, np.minimum(self.rates * level, 1.0)))
        within = ndtr(np.log(self.scenario.window / self.medians) / self.scenario.spread)[arm]
        score = ndtri(self.rng.uniform(size=len(arm)) * within)
        self.sent = np.vstack([self.sent, n])
        self.epoch = np.append(self.epoch, np.full(len(arm), now))
        self.arm = np.append(self.arm, arm)
        self.delay = np.append(self.delay, self.medians[arm] * np.exp(self.scenario.spread * score))
        return float(n @ (self.rates.max() - self.rates))

    @property
    def ages(self) -> Floats:
        """(n_epochs,) age of each epoch in seconds."""
        return HOUR * np.arange(len(self.sent), 0, -1, dtype=np.float64)

    def seen(self) -> tuple[Floats, Floats, Integers, Counts]:
        """Delay, age and arm of the answers that have come in; and all of them as counts."""
        come = self.delay <= self.ages[self.epoch]
        cell = self.epoch[come] * self.sent.shape[1] + self.arm[come]
        successes = np.bincount(cell, minlength=self.sent.size).reshape(self.sent.shape)
        return self.delay[come], self.ages[self.epoch[come]], self.arm[come], Counts(self.sent, successes)


def naive(world: World) -> Floats:
    """Thompson sampling that takes every unanswered mail for a failure and all hours for alike."""
    return UNAWARE.weights(world.seen()[3])


def pooled(world: World, *, policy: Policy = EAGER) -> Floats:
    """Abmail with one delay curve for all arms."""
    delay, age, _, counts = world.seen()
    curve = DelayCurve.fit(delay, age, window=world.scenario.window)
    exposure = counts.n * curve.cdf(world.ages)[:, np.newaxis]
    return policy.weights(Counts(counts.n, counts.successes, exposure))


def by_arm(world: World) -> Floats:
    """Abmail with curves by arm, shrunk to the pooled one by the evidence."""
    delay, age, arm, counts = world.seen()
    n_epochs, n_arms = counts.n.shape
    curves = DelayCurve.fit_by_arm(delay, age, arm, n_arms=n_arms, window=world.scenario.window)
    epoch, cell = np.divmod(np.arange(counts.n.size), n_arms)
    exposures = curves.exposures(epoch, cell, world.ages[epoch], counts.n.ravel(), n_epochs=n_epochs)
    return weights_over(EAGER, counts, exposures, curves.chances)


def adaptive(decide: Callable[[World], Floats], world: World) -> float:
    """Answers that a policy loses; the first epoch is even."""
    lost = world.send(np.full(len(world.rates), 1 / len(world.rates)))
    return lost + sum(world.send(decide(world)) for _ in range(EPOCHS - 1))


def even(world: World) -> float:
    """Answers that an even split loses."""
    return MAILS * float(np.mean(world.rates.max() - world.rates))


def test_then_send(world: World) -> float:
    """Answers lost by a fifth sent evenly at once, four hours of waiting, and the leader to the rest."""
    gap = world.rates.max() - world.rates
    n = int(MAILS * TEST_SHARE) // len(gap)
    shares = [ndtr(np.log(age / world.medians) / world.scenario.spread) for age in (WAIT, world.scenario.window)]
    level = 1 + world.scenario.swing * np.sin(world.phase)
    seen = world.rng.binomial(n, world.rates * level * shares[0] / shares[1])
    leader = int(np.argmax(seen + world.rng.uniform(0, 0.5, len(gap))))
    return float(n * gap.sum() + (MAILS - n * len(gap)) * gap[leader])


COLUMNS: dict[str, Callable[[World], float]] = {
    "even split": even,
    "20 %, 4 h, winner": test_then_send,
    "naive Thompson": partial(adaptive, naive),
    "abmail": partial(adaptive, pooled),
    "abmail, floor .05": partial(adaptive, partial(pooled, policy=Thompson())),
    "abmail, by arm": partial(adaptive, by_arm),
}
SLOW = ("abmail, floor .05", "abmail, by arm")


def run(column: str, scenario: Scenario, seed: int, replication: int) -> float:
    """Answers lost in one replication."""
    return COLUMNS[column](World(scenario, np.random.default_rng([seed, replication])))


def row(scenario: Scenario, seed: int, replications: int, pool: Executor) -> Iterator[str]:
    """The cells of one scenario."""
    for column in COLUMNS:
        if column in SLOW and not scenario.full:
            yield "-"
            continue
        lost = np.fromiter(pool.map(partial(run, column, scenario, seed), range(replications), chunksize=5), float)
        yield f"{lost.mean():,.0f} ({lost.std(ddof=1) / np.sqrt(len(lost)):.0f})"


def decision_times() -> Iterator[str]:
    """Milliseconds of one decision, from the delays to the weights, late in a run."""
    world = World(SCENARIOS[0], np.random.default_rng(0))
    for _ in range(EPOCHS):
        world.send(np.full(4, 0.25))
    for name, decide in (("pooled", pooled), ("by arm", by_arm)):
        start = time.perf_counter()
        for _ in range(20):
            decide(world)
        yield f"{name} {(time.perf_counter() - start) / 20 * 1e3:.1f} ms"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Answers lost against the best arm, by policy.")
    parser.add_argument("--replications", type=int, default=100, help="runs per cell, at least 2")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args(arguments)
    if options.replications < 2:
        parser.error(f"--replications is {options.replications}, must be at least 2 for a standard error")
    print(
        f"{MAILS:,} mails, {EPOCHS} hourly epochs, {options.replications} replications: answers lost (standard error)"
    )
    print(f"{'':27}" + "".join(f"{column:>19}" for column in COLUMNS))
    with ProcessPoolExecutor(options.jobs) as pool:
        for scenario in SCENARIOS:
            cells = row(scenario, options.seed, options.replications, pool)
            print(f"{scenario.name:27}" + "".join(f"{cell:>19}" for cell in cells), flush=True)
    print(f"one decision of four arms after {EPOCHS} epochs: {', '.join(decision_times())}")


if __name__ == "__main__":
    main()
