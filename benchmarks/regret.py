"""Regret of the bandit with answers that take hours: opens lost against the best arm over one list.

Run: ``python -m benchmarks.regret [--replications N] [--seed S]``. 100,000 mails in 48 hourly epochs; the delay of an
open is log-normal with median 2.5 h and 70 % within a day (cut off at three days). Every decision goes through the
production code: `abmail.stats.Counts`, `abmail.bandit.DelayCurve` and `abmail.bandit.Thompson`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from abmail.bandit import DelayCurve, Thompson, Uniform
from abmail.stats import Counts

HOUR = 3_600.0
EPOCHS = 48
MAILS = 100_000
WINDOW = 72 * HOUR
SPREAD = float(np.log(24 / 2.5) / 0.5244)
Floats = NDArray[np.float64]


@dataclass
class World:
    """One list with its hidden truth, seen hour by hour.

    Attributes:
        rates: Final rate of each arm.
        medians: Median delay of each arm in seconds.
        swing: Relative daily swing of all rates.
        rng: Source of chance.
    """

    rates: Floats
    medians: Floats
    swing: float
    rng: np.random.Generator
    sent: list[NDArray[np.int64]] = field(default_factory=list)
    delays: list[list[Floats]] = field(default_factory=list)

    def send(self, weights: Floats, mails: int) -> float:
        """Send one epoch; returns the opens that it loses against the best arm."""
        level = 1 + self.swing * np.sin(2 * np.pi * len(self.sent) / 24)
        n = self.rng.multinomial(mails, weights)
        self.sent.append(n)
        self.delays.append([self._opens(arm, int(n[arm]), level) for arm in range(len(n))])
        return float(level * (n @ (self.rates.max() - self.rates)))

    def _opens(self, arm: int, n: int, level: float) -> Floats:
        opened = self.rng.binomial(n, min(self.rates[arm] * level, 1.0))
        drawn = self.rng.lognormal(np.log(self.medians[arm]), SPREAD, 4 * opened + 50)
        kept: Floats = drawn[drawn < WINDOW][:opened]
        return kept

    @property
    def ages(self) -> Floats:
        """Age of each epoch in seconds."""
        return HOUR * np.arange(len(self.sent), 0, -1, dtype=np.float64)

    def seen(self) -> NDArray[np.int64]:
        """(n_epochs, n_arms) opens that have come in."""
        return np.array([[np.sum(d <= age) for d in arms] for arms, age in zip(self.delays, self.ages, strict=True)])

    def curve(self) -> DelayCurve:
        """The delay curve as production would fit it now, over all arms."""
        pairs = [(d[d <= age], age) for arms, age in zip(self.delays, self.ages, strict=True) for d in arms]
        delays = np.concatenate([d for d, _ in pairs])
        return DelayCurve.fit(delays, np.concatenate([np.full(len(d), age) for d, age in pairs]), window=WINDOW)


def even(world: World) -> Floats:
    """An even split."""
    return Uniform().weights(Counts([0] * len(world.rates), [0] * len(world.rates)))


def test_then_send(world: World) -> float:
    """20 % of the list evenly, four hours of waiting, the leader to the rest; returns the opens lost."""
    lost = world.send(even(world), round(0.2 * MAILS))
    for _ in range(3):
        lost += world.send(even(world), 0)
    k, n = world.seen().sum(axis=0), np.sum(world.sent, axis=0)
    return lost + world.send(np.eye(len(n))[np.argmax(k / n)], round(0.8 * MAILS))


def in_waves(policy: Callable[[World], Floats]) -> Callable[[World], float]:
    """The same number of mails every hour, with the policy's weights; returns the opens lost."""
    return lambda world: sum(world.send(policy(world), MAILS // EPOCHS) for _ in range(EPOCHS))


def naive(world: World) -> Floats:
    """Thompson sampling that takes every unopened mail for a failure."""
    if not world.sent:
        return even(world)
    return Thompson(min_weight=0.0).weights(Counts(np.sum(world.sent, axis=0), world.seen().sum(axis=0)))


def ours(world: World) -> Floats:
    """Thompson sampling as abmail runs it, without a floor."""
    if not world.sent:
        return even(world)
    sent, seen = np.array(world.sent), world.seen()
    exposure = np.maximum(seen, sent * world.curve().cdf(world.ages)[:, None])
    return Thompson(min_weight=0.0).weights(Counts(sent, seen, exposure=exposure))


def scenarios(rng: np.random.Generator) -> dict[str, tuple[Floats, Floats, float]]:
    """Name -> rates, medians of the delay, daily swing."""
    opens, clicks = np.array([0.18, 0.20, 0.21, 0.25]), np.array([0.020, 0.023, 0.026, 0.034])
    usual = np.full(4, 2.5 * HOUR)
    drawn = 1 / (1 + np.exp(-(np.log(0.21 / 0.79) + 0.12 * rng.standard_normal(4))))
    return {
        "opens .18/.20/.21/.25": (opens, usual, 0.0),
        "clicks .020-.034": (clicks, usual, 0.0),
        "random opens": (drawn, usual, 0.0),
        "opens, daily swing 35 %": (opens, usual, 0.35),
        "best arm late (8 h; 2 h)": (opens, np.array([2, 2, 2, 8]) * HOUR, 0.0),
        "worst arm fast (0.7 h; 4 h)": (opens, np.array([0.7, 4, 4, 4]) * HOUR, 0.0),
    }


def regret(run: Callable[[World], float], name: str, seed: int) -> float:
    """Opens lost over one list."""
    rates, medians, swing = scenarios(np.random.default_rng([seed, 1]))[name]
    return run(World(rates, medians, swing, np.random.default_rng([seed, 2])))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    policies: dict[str, Callable[[World], float]] = {
        "even split": in_waves(even),
        "20 %, 4 h, winner": test_then_send,
        "naive Thompson": in_waves(naive),
        "abmail": in_waves(ours),
    }
    print(f"{MAILS:,} mails, {EPOCHS} epochs, {options.replications} replications: opens lost (standard error)")
    print(f"{'':30}" + "".join(f"{policy:>20}" for policy in policies))
    for name in scenarios(np.random.default_rng(0)):
        row = f"{name:30}"
        for policy in policies.values():
            lost = np.array([regret(policy, name, options.seed + r) for r in range(options.replications)])
            row += f"{lost.mean():13.0f} ({lost.std() / len(lost) ** 0.5:4.0f})"
        print(row, flush=True)


if __name__ == "__main__":
    main()
