"""What the structured policies promise of their weights: rising estimates, hardly a falling weight, the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from abmail._laplace import modes
from abmail._structure import Structured, Table
from abmail.bandit import Contextual, Factorial, Hierarchical, Thompson
from abmail.stats import Counts

Floats = NDArray[np.float64]

RULE = Thompson(min_weight=0.0)
CELLS = Factorial.of({"subject": ["a", "b", "c"], "cta": ["x", "y"]}, rule=RULE)
PEOPLE = Contextual.of(categories={"industry": ["it", "retail"]}, numbers={"days": [30.0]}, rule=RULE)
STRATA = tuple(
    PEOPLE.stratum({"industry": industry, "days": days}) for industry, days in (("it", 9), ("it", 90), ("retail", 9))
)
POLICIES: dict[str, tuple[Structured, int, tuple[str, ...]]] = {
    "one row": (Hierarchical(rule=RULE), 4, ()),
    "segments": (Hierarchical(rule=RULE), 3, ("x", "y", "z")),
    "cells": (CELLS, 6, ()),
    "cells by segment": (CELLS, 6, ("x", "y")),
    "attributes": (PEOPLE, 3, STRATA),
}


def some_counts(rng: np.random.Generator, n_arms: int, strata: tuple[str, ...]) -> Counts:
    """Counts of arms that are near to each other, from few mails to many, with good and bad epochs."""
    epochs, rows = int(rng.integers(1, 4)), max(len(strata), 1)
    n = rng.integers(1, int(10 ** rng.uniform(1, 4)), (epochs * rows, n_arms))
    apart = rng.uniform(0, 0.5) * rng.standard_normal((1, n_arms))
    hours = rng.uniform(0, 0.3) * rng.standard_normal((epochs * rows, 1))
    k = rng.binomial(n, np.minimum(rng.uniform(0.01, 0.5) * np.exp(apart + hours), 1.0))
    if not strata:
        return Counts(n, k)
    return Counts(n, k, strata=strata * epochs, epochs=np.repeat(np.arange(epochs), rows).tolist())


def with_more(counts: Counts, row: int, arm: int, more: int) -> Counts:
    successes = counts.successes.copy()
    successes[row, arm] = min(int(successes[row, arm]) + more, int(counts.n[row, arm]))
    return Counts(counts.n, successes, strata=counts.strata, epochs=counts.epochs)


@pytest.mark.parametrize("name", POLICIES)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), more=st.integers(1, 40))
def test_more_successes_raise_the_estimate_of_their_cell_for_any_given_variances(
    name: str, seed: int, more: int
) -> None:
    """The mode of a log odds moves with its successes by its posterior variance, which is positive."""
    policy, n_arms, strata = POLICIES[name]
    rng = np.random.default_rng(seed)
    table = Table.of(some_counts(rng, n_arms, strata))
    center, sd = policy._center(table.counts)
    prior = policy._prior(table, sd)
    k, m = table.sums(table.counts.successes), table.sums(table.counts.n)
    row, arm = int(rng.integers(len(k))), int(rng.integers(n_arms))
    better = k.copy()
    better[row, arm] = min(k[row, arm] + more, m[row, arm])
    rise = modes(better, m, prior, center) - modes(k, m, prior, center)
    assert rise[:, row, arm].min() > -1e-6
    if name == "one row":  # there no other arm rises as much: the precision has no positive entry beside its diagonal
        assert (rise[:, 0, [arm]] - rise[:, 0]).min() > -1e-6


@pytest.mark.parametrize("name", POLICIES)
def test_more_successes_lower_a_weight_hardly_ever_and_then_by_a_draw_or_two(name: str) -> None:
    """Not exactly never: chances are shares of 8,192 draws, and successes may speak for other variances, too."""
    policy, n_arms, strata = POLICIES[name]
    rng = np.random.default_rng(77)
    gains = []
    for _ in range(150):
        counts = some_counts(rng, n_arms, strata)
        row, arm = int(rng.integers(len(counts.n))), int(rng.integers(n_arms))
        better = with_more(counts, row, arm, int(rng.integers(1, 40)))
        if strata:
            before, after = (policy.weights_by_segment(one, segments=strata) for one in (counts, better))
            place = strata.index((counts.strata or ())[row])
            gains.append(after[place, arm] - before[place, arm])
        else:
            gains.append(policy.weights(better)[arm] - policy.weights(counts)[arm])
    assert min(gains) > -0.001
    assert np.mean(np.array(gains) < -1e-5) <= 0.02
    assert max(gains) > 0.05


def all_weights() -> Iterator[Floats]:
    rng = np.random.default_rng(7)
    for _ in range(8):
        for policy, n_arms, strata in POLICIES.values():
            counts = some_counts(rng, n_arms, strata)
            yield policy.weights(counts)
            if strata:
                yield policy.weights_by_segment(counts)
        yield RULE.weights(some_counts(rng, 5, ()))
    many = Factorial.of({"s": [*"abcd"], "c": [*"xyz"], "t": [*"1234567"]}, rule=RULE)
    yield many.weights(some_counts(rng, 84, ()))


def digest() -> str:
    return "".join(weights.tobytes().hex() for weights in all_weights())


def found_extensions() -> str:
    extensions = np.show_config(mode="dicts")["SIMD Extensions"]
    return " ".join(extensions.get("found", ()))


MACHINES: dict[str, Callable[[], dict[str, str]]] = {
    "one thread": lambda: {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    "an old processor's linear algebra": lambda: {"OPENBLAS_CORETYPE": "Prescott"},
    "a newer one's": lambda: {"OPENBLAS_CORETYPE": "Haswell"},
    "the newest one's": lambda: {"OPENBLAS_CORETYPE": "SkylakeX"},
    "no vector extensions": lambda: {"NPY_DISABLE_CPU_FEATURES": found_extensions()},
}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_same_counts_give_the_same_bits_on_other_machines(machine: str) -> None:
    if machine == "the newest one's" and not {"AVX512_SKX", "X86_V4"} & set(found_extensions().split()):
        pytest.skip("this processor has no AVX-512, which that linear algebra is made of")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from test_promises import digest; print(digest())"
    environment = os.environ | MACHINES[machine]()
    told = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, env=environment,
        check=True,
    )  # fmt: skip
    assert told.stdout.strip() == digest()
