"""A list of several segments that is sent wave by wave, and tables of what policies lose on it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from abmail._trials import chance_of_best
from abmail.stats import Counts

Floats = NDArray[np.float64]

__all__ = [
    "Column",
    "Decision",
    "Sending",
    "Truth",
    "World",
    "adaptive",
    "even",
    "independent",
    "pooled",
    "print_table",
]

MAILS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What is true of a list.

    Attributes:
        rates: (n_segments, n_arms) rates.
        sizes: (n_segments,) mails of the list in each segment.
        shown: (n_epochs,) share of the answers that have come in an epoch after the mail, two epochs after it, ...
    """

    rates: Floats
    sizes: Floats
    shown: Floats

    @property
    def gap(self) -> Floats:
        """(n_segments, n_arms) what a mail loses against the best arm of its segment."""
        gap: Floats = self.rates.max(axis=1, keepdims=True) - self.rates
        return gap


class Sending:
    """The list on its way: every epoch sends an equal part of each segment."""

    def __init__(self, truth: Truth, rng: np.random.Generator) -> None:
        self.truth, self.rng = truth, rng
        n_epochs, shape = len(truth.shown), truth.rates.shape
        self.now = 0
        self.sent = np.zeros((n_epochs, *shape), dtype=np.int64)
        self.seen = np.zeros((n_epochs, *shape), dtype=np.int64)
        self.to_come = np.zeros((n_epochs, n_epochs, *shape), dtype=np.int64)  # by epoch and epochs of delay
        self.delays = np.diff(truth.shown, prepend=0.0, append=1.0)

    def send(self, weights: Floats) -> float:
        """Send one epoch with (n_segments, n_arms) weights; returns the answers that it loses on average."""
        done = np.rint(self.truth.sizes * self.now / len(self.sent)).astype(np.int64)
        goal = np.rint(self.truth.sizes * (self.now + 1) / len(self.sent)).astype(np.int64)
        n = np.stack([self.rng.multinomial(size, row) for size, row in zip(goal - done, weights, strict=True)])
        answers = self.rng.binomial(n, self.truth.rates)
        self.sent[self.now] = n
        self.to_come[self.now] = np.moveaxis(self.rng.multinomial(answers, self.delays)[..., :-1], -1, 0)
        self.now += 1
        back = np.arange(self.now)
        self.seen[back] += self.to_come[back, self.now - 1 - back]
        return float((n * self.truth.gap).sum())

    @property
    def exposure(self) -> Floats:
        """(n_epochs so far, n_segments, n_arms) sends weighted by the share of their answers that has come."""
        weighted: Floats = self.sent[: self.now] * self.truth.shown[: self.now][::-1, None, None]
        return weighted

    def counts(self, names: Sequence[str] = ()) -> Counts:
        """What is known, by epoch and segment (s0, s1 ... by default); a single one is no stratum."""
        n_segments, n_arms = self.truth.rates.shape
        flat = (self.now * n_segments, n_arms)
        sent, seen = self.sent[: self.now].reshape(flat), self.seen[: self.now].reshape(flat)
        trials = np.maximum(np.minimum(self.exposure.reshape(flat), sent), 0)
        if n_segments == 1:
            return Counts(sent, seen, trials, looks=len(self.sent))
        strata = [*(names or (f"s{number}" for number in range(n_segments)))] * self.now
        epochs = np.repeat(np.arange(self.now), n_segments).tolist()
        return Counts(sent, seen, trials, looks=len(self.sent), strata=strata, epochs=epochs)


Decision = Callable[[Sending], Floats]
"""(n_segments, n_arms) weights of the next epoch."""


def adaptive(decide: Decision, truth: Truth, rng: np.random.Generator) -> float:
    """Answers that a policy loses; the first epoch is even."""
    sending = Sending(truth, rng)
    lost = sending.send(np.full_like(truth.rates, 1 / truth.rates.shape[1]))
    for _ in range(len(truth.shown) - 1):
        lost += sending.send(decide(sending))
    return lost


def even(truth: Truth, rng: np.random.Generator) -> float:
    """Answers that an even split loses."""
    del rng
    return float(truth.sizes @ truth.gap.mean(axis=1))


def independent(sending: Sending, *, power: float = 1.0) -> Floats:
    """Thompson sampling with a Beta posterior for each arm of each segment; sharpened towards the end of the list."""
    return _shares(sending.seen.sum(axis=0), sending.exposure.sum(axis=0), sending, power)


def pooled(sending: Sending, *, power: float = 1.0) -> Floats:
    """The same for the whole list, segments or not."""
    k, m = sending.seen.sum(axis=(0, 1)), sending.exposure.sum(axis=(0, 1))
    return np.broadcast_to(_shares(k[None], m[None], sending, power), sending.truth.rates.shape)


def _shares(k: NDArray[np.int64], m: Floats, sending: Sending, power: float) -> Floats:
    a = (1.0 + k).astype(np.float64)
    best = chance_of_best(a, 1.0 + np.maximum(m - k, 0.0))
    sharper = (best / best.max(axis=1, keepdims=True)) ** (1 + (power - 1) * sending.now / len(sending.sent))
    shares: Floats = sharper / sharper.sum(axis=1, keepdims=True)
    return shares


# -- tables ----------------------------------------------------------------------------------------------------------

World = Callable[[np.random.Generator], Truth]
Column = Callable[[Truth, np.random.Generator], float]


def run(world: World, column: Column, seed: int, replication: int) -> float:
    """Answers lost in one replication; every column sees the same chance instance."""
    truth = world(np.random.default_rng([seed, replication]))
    return column(truth, np.random.default_rng([seed, replication, 1]))


def row(world: World, columns: Mapping[str, Column], seed: int, replications: int, pool: Executor) -> Iterator[str]:
    """The cells of one world: mean and standard error."""
    for column in columns.values():
        lost = np.fromiter(pool.map(partial(run, world, column, seed), range(replications), chunksize=5), float)
        yield f"{lost.mean():,.0f} ({lost.std(ddof=1) / np.sqrt(len(lost)):.0f})"


def print_table(
    description: str, worlds: Mapping[str, World], columns: Mapping[str, Column], arguments: Sequence[str] | None,
    *, replications: int,
) -> None:  # fmt: skip
    """Measure and print, by the command line's options."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--replications", type=int, default=replications, help="runs per cell, at least 2")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--only", default="", help="columns or worlds whose name holds this, by a slash: WORLD/COLUMN")
    options = parser.parse_args(arguments)
    if options.replications < 2:
        parser.error(f"--replications is {options.replications}, must be at least 2 for a standard error")
    of_worlds, _, of_columns = options.only.partition("/")
    worlds = {name: world for name, world in worlds.items() if of_worlds in name}
    columns = {name: column for name, column in columns.items() if of_columns in name}
    print(f"{options.replications} replications: answers lost (standard error)")
    width = max(map(len, worlds)) + 2
    print(" " * width + "".join(f"{column:>18}" for column in columns))
    with ProcessPoolExecutor(options.jobs) as pool:
        for name, world in worlds.items():
            print(f"{name:{width}}", end="", flush=True)
            for cell in row(world, columns, options.seed, options.replications, pool):
                print(f"{cell:>18}", end="", flush=True)
            print()
