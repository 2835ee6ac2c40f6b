"""Recipients with attributes: when weights by attribute earn, and when they cost.

Run: ``python -m benchmarks.contextual [--replications N] [--seed S] [--jobs J]``. Three arms go out in 24 epochs to
people of four industries x three roles x four ranges of recency, 48 strata of very unequal size; the answers of an
epoch are known at the next. An attribute adds a normal term to the log odds of each arm at each of its values. All
columns of a row see the same chance instances; the standard error is in brackets.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy.special import expit, logit

from abmail.bandit import Contextual, Hierarchical, Thompson
from benchmarks._lists import Column, Floats, Sending, Truth, World, adaptive, even, independent, pooled, print_table

EPOCHS, ARMS = 24, 3
TYPICAL, ARMS_SD, LEVELS_SD = 0.21, 0.12, 0.2
INDUSTRIES, ROLES, CUTS = ("maker", "shop", "bank"), ("it", "sales"), (30.0, 90.0)
EAGER = Thompson(min_weight=0.0)
POLICY = Contextual.of(categories={"industry": INDUSTRIES, "role": ROLES}, numbers={"days": CUTS}, rule=EAGER)
SEGMENTS = Hierarchical(rule=EAGER)
PEOPLE = tuple(itertools.product((*INDUSTRIES, "else"), (*ROLES, "else"), (10, 60, 200, None)))
NAMES = tuple(POLICY.stratum({"industry": i, "role": r, "days": d}) for i, r, d in PEOPLE)
SIZES = (4, 3, 4)


def world(mails: int, sd: float, one: bool, rng: np.random.Generator) -> Truth:
    """Arms' effects, and what values of the attributes (or of the first alone) add to them."""
    parts = [rng.dirichlet(np.full(size, 3.0)) for size in SIZES]
    share = np.einsum("i,j,k->ijk", *parts).ravel()
    odds = logit(TYPICAL) + ARMS_SD * rng.standard_normal(ARMS) + np.zeros((*SIZES, ARMS))
    for axis, size in enumerate(SIZES):
        shape = [size if place == axis else 1 for place in range(3)]
        odds = odds + LEVELS_SD * rng.standard_normal((*shape, 1))
        own = sd * rng.standard_normal((*shape, ARMS))
        odds = odds + (own if axis == 0 or not one else 0.0)
    return Truth(rates=expit(odds).reshape(-1, ARMS), sizes=mails * share, shown=np.ones(EPOCHS))


def ours(policy: Contextual | Hierarchical, sending: Sending) -> Floats:
    """Abmail: the production code from the counts to the weights."""
    return policy.weights_by_segment(sending.counts(NAMES))


WORLDS: dict[str, World] = {
    f"{mails:,} mails, {name}": partial(world, mails, sd, one)
    for mails in (100_000, 20_000, 5_000)
    for name, sd, one in (
        ("attributes change nothing", 0.0, False), ("a little (sd .06)", 0.06, False),
        ("one attribute (sd .15)", 0.15, True), ("much (sd .15 each)", 0.15, False),
    )
}  # fmt: skip
COLUMNS: dict[str, Column] = {
    "even split": even,
    "pooled": partial(adaptive, pooled),
    "independent": partial(adaptive, independent),
    "hierarchical": partial(adaptive, partial(ours, SEGMENTS)),
    "contextual": partial(adaptive, partial(ours, POLICY)),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    print_table("Answers lost in 48 strata, by policy.", WORLDS, COLUMNS, arguments, replications=100)


if __name__ == "__main__":
    main()
