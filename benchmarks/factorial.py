"""Subject x button x slot, 84 cells: answers lost against sending everybody the best cell.

Run: ``python -m benchmarks.factorial [--replications N] [--seed S] [--jobs J]``. 100,000 mails go out in 50 epochs; the
answers of an epoch are known at the next. Log odds of a cell are a sum of normal main effects, and in some rows of
normal terms for each pair of levels. All columns of a row see the same chance instances; the standard error is in
brackets. Floors are off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy.special import expit, logit

from abmail.bandit import Factorial, Sharpened, Thompson
from abmail.stats import Counts
from benchmarks._lists import MAILS, Column, Floats, Sending, Truth, adaptive, even, independent, print_table

EPOCHS = 50
SIZES = (4, 3, 7)
MAIN_SDS = (0.12, 0.12, 0.12)
OPENS, CLICKS = 0.22, 0.027
TEST_SHARE = 0.2

FACTORS = {name: [str(level) for level in range(n)] for name, n in zip(("subject", "cta", "slot"), SIZES, strict=True)}
LEARN = Factorial.of(FACTORS, rule=Thompson(min_weight=0.0))
BALANCE = Factorial.of(FACTORS, rule=Sharpened(min_weight=0.0, power=2.0))  # what the goal balance does with factors
EARN = Factorial.of(FACTORS, rule=Sharpened(min_weight=0.0))


def world(rate: float, pairs: float, rng: np.random.Generator) -> Truth:
    """Main effects, and pairwise terms of that standard deviation."""
    total = np.full(SIZES, logit(rate))
    for axis, sd in enumerate(MAIN_SDS):
        shape = [n if place == axis else 1 for place, n in enumerate(SIZES)]
        total = total + sd * rng.standard_normal(shape)
    for spared in range(len(SIZES)):
        shape = [1 if place == spared else n for place, n in enumerate(SIZES)]
        total = total + pairs * rng.standard_normal(shape)
    return Truth(rates=expit(total).reshape(1, -1), sizes=np.array([float(MAILS)]), shown=np.ones(EPOCHS))


def test_then_send(truth: Truth, rng: np.random.Generator, *, by_factor: bool) -> float:
    """Answers lost by a fifth sent evenly, and the best cell, or the best level of each factor, to the rest."""
    n = int(MAILS * TEST_SHARE) // truth.rates.size
    seen = rng.binomial(n, truth.rates[0]).reshape(SIZES) + rng.uniform(0, 0.5, SIZES)
    best = np.unravel_index(int(seen.argmax()), SIZES)
    if by_factor:
        best = tuple(
            np.intp(seen.sum(axis=tuple(other for other in range(len(SIZES)) if other != axis)).argmax())
            for axis in range(len(SIZES))
        )
    gap = truth.gap.reshape(SIZES)
    return float(n * gap.sum() + (MAILS - n * gap.size) * gap[best])


def ours(policy: Factorial, sending: Sending) -> Floats:
    """Abmail: the production code from the counts to the weights."""
    return policy.weights(sending.counts())[None]


WORLDS = {
    "opens, no interaction": partial(world, OPENS, 0.0),
    "opens, pairs sd .05": partial(world, OPENS, 0.05),
    "opens, pairs sd .12": partial(world, OPENS, 0.12),
    "clicks, no interaction": partial(world, CLICKS, 0.0),
    "clicks, pairs sd .12": partial(world, CLICKS, 0.12),
}
COLUMNS: dict[str, Column] = {
    "even split": even,
    "test, best cell": partial(test_then_send, by_factor=False),
    "test, best levels": partial(test_then_send, by_factor=True),
    "independent": partial(adaptive, independent),
    "abmail, learn": partial(adaptive, partial(ours, LEARN)),
    "abmail, balance": partial(adaptive, partial(ours, BALANCE)),
    "independent, earn": partial(adaptive, partial(independent, power=4.0)),
    "abmail, earn": partial(adaptive, partial(ours, EARN)),
}


def decision_times() -> str:
    """Milliseconds of one decision late in a run: the cells alone, and in each of six segments."""
    rng, n_cells = np.random.default_rng(0), int(np.prod(SIZES))
    alone = rng.multinomial(MAILS // EPOCHS, np.full(n_cells, 1 / n_cells), size=EPOCHS)
    apart = rng.multinomial(MAILS // EPOCHS // 6, np.full(n_cells, 1 / n_cells), size=6 * EPOCHS)
    names, epochs = [*"abcdef"] * EPOCHS, np.repeat(np.arange(EPOCHS), 6).tolist()
    one, six = Counts(alone, rng.binomial(alone, 0.2)), rng.binomial(apart, 0.2)
    segments = Counts(apart, six, strata=names, epochs=epochs)
    jobs: dict[str, Callable[[], Floats]] = {
        "84 cells": lambda: LEARN.weights(one),
        "84 cells x 6 segments": lambda: LEARN.weights_by_segment(segments),
    }
    figures = []
    for name, job in jobs.items():
        spent = []
        for _ in range(7):
            start = time.process_time(), time.perf_counter()
            job()
            spent.append((time.process_time() - start[0], time.perf_counter() - start[1]))
        best = np.min(spent, axis=0) * 1e3
        figures.append(f"{name} {best[0]:.0f} ms of CPU, {best[1]:.0f} ms by the clock")
    return "; ".join(figures)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    print(f"one decision after {EPOCHS} epochs, best of 7: {decision_times()}", flush=True)
    print_table("Answers lost in 84 cells, by policy.", WORLDS, COLUMNS, arguments, replications=100)


if __name__ == "__main__":
    main()
