"""What each policy brings: on a log of random mails, or on real headline tests at their real sizes.

Run: ``python -m benchmarks.replay LOG.csv [--arm arm --reward reward --propensity propensity --context a,b]`` for a log
of your own, ``python -m benchmarks.replay [--every N] [--jobs J]`` for headline tests of the Upworthy Research Archive.

The rates of a headline test are not known, only its clicks, and the best observed rate is best by luck in part: a gap
taken from it would be too wide. So the rates are drawn from what the clicks leave possible. Within a test they follow a
gamma distribution around the test's own level; how much arms differ varies from test to test (from not at all to
a factor), in shares that are fitted to all tests by EM, without a form given beforehand. Each test is then mailed once
under every policy to as many people as it had, in hourly waves with answers that come in as by the default delay
curve, and the gap is that between an even split and the best of the drawn rates.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtr, ndtri

from abmail.bandit import (
    DelayCurve,
    EpsilonGreedy,
    Hierarchical,
    Policy,
    Sharpened,
    Thompson,
    TopTwo,
    Uniform,
    prior_from_history,
)
from abmail.simulate import Log, replay
from abmail.stats import Counts
from benchmarks.real_data import data_folder, upworthy

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

Beta = tuple[float, float]

HOUR = 3_600.0
WINDOW = 72 * HOUR
MEDIAN, SPREAD = 2.5 * HOUR, float(np.log(24 / 2.5) / ndtri(0.7))
TEST_SHARE, WAIT = 0.2, 4 * HOUR
PAST = 50
ALIKE: Final = np.inf
SHAPES = np.array([ALIKE, 1_600, 800, 400, 200, 100, 64, 40, 25, 16, 10, 6, 4, 2.5])  # of the gamma; 1 / sqrt is the sd
LEVELS = np.exp(np.linspace(np.log(0.0005), np.log(0.12), 160))
ROUNDS = 60


# -- what is possible of the headline tests ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spread:
    """How tests differ in level, and arms within them.

    Attributes:
        shapes: Share of the tests with each of `SHAPES`.
        levels: Share of the tests at each of `LEVELS`.
    """

    shapes: Floats
    levels: Floats

    @classmethod
    def fit(cls, tests: Sequence[Counts]) -> Spread:
        """The likeliest shares, by EM."""
        fits = [likelihood(test) for test in tests]
        shapes, levels = np.full(len(SHAPES), 1 / len(SHAPES)), np.full(len(LEVELS), 1 / len(LEVELS))
        for _ in range(ROUNDS):
            mass = np.zeros((len(SHAPES), len(LEVELS)))
            for fit in fits:
                posterior = fit * shapes[:, None] * levels
                mass += posterior / posterior.sum()
            shapes, levels = mass.sum(axis=1) / len(fits), mass.sum(axis=0) / len(fits)
        return cls(shapes, levels)

    @property
    def sd(self) -> float:
        """Standard deviation between the arms of a test, relative to its level."""
        return float(np.sqrt((self.shapes / SHAPES).sum()))

    def draw(self, test: Counts, rng: np.random.Generator) -> Floats:
        """Rates that the test's clicks leave possible, (n_arms,)."""
        posterior = (likelihood(test) * self.shapes[:, None] * self.levels).ravel()
        shape, level = divmod(int(rng.choice(len(posterior), p=posterior / posterior.sum())), len(LEVELS))
        if SHAPES[shape] == ALIKE:
            return np.full(test.n_arms, LEVELS[level])
        n, k = test.n.sum(axis=0), test.successes.sum(axis=0)
        drawn: Floats = np.minimum(rng.gamma(SHAPES[shape] + k) / (SHAPES[shape] / LEVELS[level] + n), 0.9)
        return drawn


def likelihood(test: Counts) -> Floats:
    """Chance of a test's clicks for each shape and level, up to a factor: Poisson, or negative binomial."""
    n, k = test.n.sum(axis=0).astype(np.float64), test.successes.sum(axis=0).astype(np.float64)
    mean = LEVELS[:, None] * n
    rows = [(k * np.log(mean) - mean).sum(axis=1)]
    for shape in SHAPES[1:]:
        fit = gammaln(shape + k) - gammaln(shape) + shape * np.log(shape / (shape + mean))
        rows.append((fit + k * np.log(mean / (shape + mean))).sum(axis=1))
    log = np.array(rows)
    fitted: Floats = np.exp(log - log.max())
    return fitted


# -- one mailing -------------------------------------------------------------------------------------------------------


class Mailing:
    """One test mailed hour by hour."""

    def __init__(self, rates: Floats, mails: int, waves: int, rng: np.random.Generator) -> None:
        self.rates, self.rng = rates, rng
        self.sizes = np.diff(np.rint(np.linspace(0, mails, waves + 1)).astype(np.int64))
        self.sent = np.zeros((0, len(rates)), dtype=np.int64)
        self.epoch, self.arm = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        self.delay = np.zeros(0)

    def send(self, weights: Floats) -> float:
        """Send one wave; returns the clicks to expect of it."""
        now = len(self.sent)
        n = self.rng.multinomial(self.sizes[now], weights)
        arm = np.repeat(np.arange(len(n)), self.rng.binomial(n, self.rates))
        score = ndtri(self.rng.random(len(arm)) * ndtr(np.log(WINDOW / MEDIAN) / SPREAD))
        self.sent = np.vstack([self.sent, n])
        self.epoch, self.arm = np.append(self.epoch, np.full(len(arm), now)), np.append(self.arm, arm)
        self.delay = np.append(self.delay, MEDIAN * np.exp(SPREAD * score))
        return float(n @ self.rates)

    def known(self, *, late: bool, aware: bool) -> Counts:
        """What has come in: with the curve of the delays, or every silence taken for a failure."""
        ages = HOUR * np.arange(len(self.sent), 0, -1, dtype=np.float64)
        come = self.delay <= ages[self.epoch] if late else np.ones(len(self.delay), dtype=bool)
        cell = self.epoch[come] * self.sent.shape[1] + self.arm[come]
        k = np.bincount(cell, minlength=self.sent.size).reshape(self.sent.shape)
        if not (late and aware):
            return Counts(self.sent, k)
        curve = DelayCurve.fit(self.delay[come], ages[self.epoch[come]], window=WINDOW)
        return Counts(self.sent, k, np.clip(self.sent * curve.cdf(ages)[:, None], k, self.sent))


@dataclass(frozen=True, slots=True)
class Way:
    """A way to share a mailing.

    Attributes:
        policy: Mails on the list, and the account's prior (a, b) -> the policy.
        waves: Number of hourly waves.
        late: Whether answers take their time; False is the ceiling with as many waves.
        aware: Whether a silence counts by the curve of the delays.
    """

    policy: Callable[[int, Beta], Policy]
    waves: int = 24
    late: bool = True
    aware: bool = True

    def clicks(self, rates: Floats, mails: int, prior: Beta, rng: np.random.Generator) -> float:
        """Clicks to expect of one mailing."""
        mailing = Mailing(rates, mails, self.waves, rng)
        total = mailing.send(np.full(len(rates), 1 / len(rates)))
        policy = self.policy(mails, prior)
        for _ in range(self.waves - 1):
            total += mailing.send(policy.weights(mailing.known(late=self.late, aware=self.aware)))
        return total


def sharpened(mails: int, _prior: Beta) -> Policy:
    """The goal ``earn``, arm by arm, in an account's first experiment."""
    return Sharpened(planned=mails, min_weight=0.0)


def experienced(mails: int, prior: Beta) -> Policy:
    """The goal ``earn``, arm by arm, in an account that has a past."""
    return Sharpened(planned=mails, min_weight=0.0, prior=prior)


def pooled(mails: int, _prior: Beta) -> Policy:
    """The goal ``earn``, with the arms' rates drawn to each other as far as they are alike."""
    return Hierarchical(rule=Sharpened(planned=mails, min_weight=0.0))


def bold(mails: int, _prior: Beta) -> Policy:
    """The goal ``earn`` that leans on the leader twice as hard at the end."""
    return Sharpened(planned=mails, min_weight=0.0, power=8.0)


def naive(_mails: int, _prior: Beta) -> Policy:
    """Thompson sampling as textbooks have it."""
    return Thompson(min_weight=0.0, level_sd=0.0)


def thompson(floor: float, _mails: int, _prior: Beta) -> Policy:
    """Thompson sampling that knows of late answers."""
    return Thompson(min_weight=floor)


WAYS: dict[str, Way] = {
    "naive Thompson": Way(naive, aware=False),
    "Thompson, floor .10": Way(partial(thompson, 0.10)),
    "Thompson": Way(partial(thompson, 0.0)),
    "earn": Way(sharpened),
    "earn, arms drawn together": Way(pooled),
    "earn, drawn together, 48 waves": Way(pooled, waves=48),
    "the same if answers came at once": Way(pooled, waves=48, late=False),
    "earn, 48 waves": Way(sharpened, waves=48),
    "earn, power 8, 48 waves": Way(bold, waves=48),
    "earn, the account's past, 48 waves": Way(experienced, waves=48),
    "earn, the account's past, 96 waves": Way(experienced, waves=96),
}


def classical(rates: Floats, mails: int, rng: np.random.Generator) -> float:
    """Clicks of a fifth evenly, four hours, and the leader to the rest; leaders that are level share it."""
    n = rng.multinomial(round(TEST_SHARE * mails), np.full(len(rates), 1 / len(rates)))
    come = ndtr(np.log(WAIT / MEDIAN) / SPREAD) / ndtr(np.log(WINDOW / MEDIAN) / SPREAD)
    rate = rng.binomial(n, rates * come) / np.maximum(n, 1)
    return float(n @ rates + (mails - n.sum()) * rates[rate == rate.max()].mean())


def priors(tests: Sequence[Counts]) -> list[Beta]:
    """What each test's account has learnt by then, from the 50 tests of the group before its own."""
    learnt = []
    for start in range(0, len(tests), PAST):
        group = tests[start : start + PAST]
        k = np.concatenate([test.successes.sum(axis=0) for test in group])
        n = np.concatenate([test.n.sum(axis=0) for test in group])
        owner = [number for number, test in enumerate(group) for _ in range(test.n_arms)]
        learnt.append(prior_from_history(k, n, owner).beta)
    return [learnt[number // PAST - 1] for number in range(len(tests))]


def one_test(spread: Spread, seed: int, names: Sequence[str], task: tuple[int, Counts, Beta]) -> list[float]:
    """Mails, clicks by an even split and by the best, by the classical test, and by every way."""
    number, test, prior = task
    mails = int(test.n.sum())
    rates = spread.draw(test, np.random.default_rng([seed, number, 0]))
    row = [float(mails), mails * float(rates.mean()), mails * float(rates.max())]
    row.append(classical(rates, mails, np.random.default_rng([seed, number, 1])))
    generators = {name: np.random.default_rng([seed, number, 2 + i]) for i, name in enumerate(WAYS)}
    return row + [WAYS[name].clicks(rates, mails, prior, generators[name]) for name in names]


def print_upworthy(every: int, seed: int, jobs: int, names: Sequence[str]) -> None:
    """Mail each test once under every policy, and print what it brought."""
    start, tests = time.perf_counter(), upworthy(data_folder())[False]
    spread = Spread.fit(tests)
    tasks = [(i, *known) for i, known in enumerate(zip(tests, priors(tests), strict=True)) if i % every == 0]
    with ProcessPoolExecutor(jobs) as pool:
        rows = np.array(list(pool.map(partial(one_test, spread, seed, names), tasks, chunksize=8)))
    mails, even, best = rows[:, 0], rows[:, 1], rows[:, 2]
    print(
        f"{len(tasks):,} of {len(tests):,} headline tests, {mails.sum():,.0f} mails "
        f"(median {np.median(mails):,.0f} a test), arms apart by {spread.sd:.3f} of the rate; "
        f"seed {seed}, {time.perf_counter() - start:.0f} s"
    )
    print(f"{'':36}{'clicks per 1,000 mails':>24}{'share of the gap (se)':>24}")
    columns = {"even split": even, "a fifth, 4 h, winner to the rest": rows[:, 3]}
    columns |= {name: rows[:, 4 + i] for i, name in enumerate(names)} | {"the best arm to everybody": best}
    for name, clicks in columns.items():
        share, error = ratio(clicks - even, best - even)
        print(f"{name:36}{1_000 * clicks.sum() / mails.sum():24.3f}{share:17.1%} ({error:.1%})")


def ratio(part: Floats, whole: Floats) -> tuple[float, float]:
    """Ratio of two sums and its standard error over the tests."""
    share = float(part.sum() / whole.sum())
    return share, float(np.sqrt(((part - share * whole) ** 2).sum()) / whole.sum())


# -- a log of one's own ------------------------------------------------------------------------------------------------


def print_log(log: Log, *, every: int, seed: int) -> None:
    """What each policy would have brought on a log, by all estimators."""
    policies: dict[str, Policy] = {
        "even split": Uniform(), "Thompson": Thompson(), "earn": Sharpened(planned=len(log)),
        "earn, arms drawn together": Hierarchical(rule=Sharpened(planned=len(log))), "top two": TopTwo(),
        "epsilon-greedy": EpsilonGreedy(),
    }  # fmt: skip
    print(f"{len(log):,} mails, {len(log.arms)} arms: reward per mail, 95 % interval")
    for name, policy in policies.items():
        for method in ("rejection", "ips", "snips", "dr"):
            found = replay(log, policy, method=method, every=every, rng=seed)
            span = f"{found.value:.4f} ({found.ci_lower:.4f} to {found.ci_upper:.4f})"
            print(f"{name:28}{method:>10}  {span}  from {found.used:,.0f} mails")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What each policy brings on logged or on real data.")
    parser.add_argument("log", nargs="?", type=Path, help="CSV file of random mails; headline tests without it")
    for column in ("arm", "reward", "propensity"):
        parser.add_argument(f"--{column}", default=column, help="name of the column")
    parser.add_argument("--context", default="", help="names of columns, with commas between")
    parser.add_argument("--batch", type=int, default=1_000, help="mails between two re-weightings of a log")
    parser.add_argument("--every", type=int, default=1, help="take every so many headline tests")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="by default all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    if options.log is None:
        if not data_folder().is_dir():
            raise SystemExit(f"no real data in {data_folder()}: set ABMAIL_DATA to their folder")
        print_upworthy(options.every, options.seed, options.jobs, options.ways)
        return
    names = {column: getattr(options, column) for column in ("arm", "reward", "propensity")}
    context = tuple(filter(None, options.context.split(",")))
    print_log(Log.from_csv(options.log, context=context, **names), every=options.batch, seed=options.seed)


if __name__ == "__main__":
    main()
