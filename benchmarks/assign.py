"""Weights and assignment of a million recipients, beside the bare numpy limit and MABWiser; and how long weights take.

Run: ``python -m benchmarks.assign``. Prints the best of several interleaved rounds and the ratio to the bare form: one
SplitMix64 finaliser over integers, a uniform number from it, and searchsorted. MABWiser's predict takes part where it
is installed (``pip install mabwiser``). Ends with exit code 1 where weights and assignment together take over twice the
time of the bare form, or less than 20 times as fast as MABWiser, or memory grows with more than the batch.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from abmail.assign import assign, assign_array, assign_quota_array
from abmail.bandit import Thompson
from abmail.spec import Experiment
from abmail.stats import Counts, expected_loss, p_best

N = 1_000_000
ROUNDS = 7
SENT, ANSWERED = (5_000, 5_100, 4_900, 5_050), (1_000, 1_060, 1_030, 1_080)
MOST_TIMES_BARE, LEAST_TIMES_MABWISER = 2.0, 20.0
ARMS = (4, 84, 200)


def experiment() -> Experiment:
    """A definition with four cells."""
    return Experiment.from_dict(
        {
            "spec": 1,
            "name": "benchmark",
            "factors": {"subject": {level: level for level in "abcd"}},
            "control": {"subject": "a"},
            "message": {"template": "mails/x.html.j2", "from": "a@example.com"},
        }
    )


def weights() -> NDArray[np.float64]:
    """Weights of the next epoch from what is known, by quadrature."""
    return Thompson().weights(Counts(SENT, ANSWERED))


def bare(words: NDArray[np.uint64], shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """The limit: integers that are hashable as they stand."""
    h = words ^ (words >> np.uint64(30))
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    cells: NDArray[np.int64] = np.searchsorted(np.cumsum(shares), (h >> np.uint64(11)) * 2.0**-53, side="right")
    return cells


def mabwiser() -> Callable[[], object]:
    """A prediction for everybody from a model that knows the same answers."""
    from mabwiser.mab import MAB, LearningPolicy

    model = MAB([0, 1, 2, 3], LearningPolicy.ThompsonSampling(), seed=1)
    rewards = np.concatenate([np.arange(n) < k for n, k in zip(SENT, ANSWERED, strict=True)]).astype(int)
    model.fit(np.repeat([0, 1, 2, 3], SENT), rewards)
    nobody_known = np.zeros((N, 1))
    return lambda: model.predict(nobody_known)


def forms() -> dict[str, Callable[[], object]]:
    """What is timed."""
    exp, shares = experiment(), weights()
    integers = np.arange(N)
    words = integers.astype(np.uint64)
    texts = np.array([f"u-{i:022d}" for i in range(N)])
    octets = texts.astype(np.bytes_)
    listed = texts.tolist()
    addresses = [f"person{i}@company{i % 977}.example.com" for i in range(N)]
    return {
        BARE: lambda: bare(words, shares),
        OURS: lambda: assign_array(exp, integers, weights=weights()),
        "numpy array of 24-character text": lambda: assign_array(exp, texts, weights=shares),
        "numpy array of 24 bytes": lambda: assign_array(exp, octets, weights=shares),
        "list of str of 24 characters": lambda: assign_array(exp, listed, weights=shares),
        "list of 26 to 34 characters": lambda: assign_array(exp, addresses, weights=shares),
        "exact shares, integers": lambda: assign_quota_array(exp, integers, weights=shares, epoch=0),
    }


BARE, OURS, PEER = "bare numpy hash + searchsorted", "weights + assignment, integers", "MABWiser, predict"


def fastest(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of processor time, best of interleaved rounds."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - begin)
    return best


def memory(n: int) -> float:
    """Bytes for each recipient at the highest point of an assignment, the ids not counted."""
    exp, ids = experiment(), np.arange(n)
    tracemalloc.start()
    assign_array(exp, ids, weights=[0.25] * 4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / n


def posterior(n_arms: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Beta parameters of arms with some hundreds of mails."""
    rng = np.random.default_rng(n_arms)
    n = rng.integers(500, 1_000, n_arms)
    k = rng.binomial(n, rng.uniform(0.15, 0.25, n_arms))
    return (1.0 + k).astype(np.float64), (1.0 + n - k).astype(np.float64)


def main() -> int:
    """Measure and print."""
    best = fastest(forms(), ROUNDS)
    if find_spec("mabwiser"):
        best |= fastest({PEER: mabwiser()}, 3)
    exp, shares = experiment(), weights()
    begin = time.process_time()
    for unit in range(2_000):
        assign(exp, f"u-{unit:022d}", weights=shares)
    best["scalar form, one by one"] = (time.process_time() - begin) * N / 2_000
    print(f"{N:,} recipients, four arms; processor time, best of {ROUNDS} interleaved rounds")
    for name, seconds in best.items():
        print(f"  {name:34} {seconds:8.3f} s  {N / seconds / 1e6:7.2f} M/s  {seconds / best[BARE]:7.2f} x bare")
    small, large = memory(100_000), memory(N)
    print(f"memory at the peak: {small:.1f} bytes a recipient for 100,000, {large:.1f} for {N:,}")
    for n_arms in ARMS:
        a, b = posterior(n_arms)
        took = fastest({"P(best)": partial(p_best, a, b), "loss": partial(expected_loss, a, b)}, 15)
        print(f"{n_arms} arms: " + ", ".join(f"{name} {seconds * 1e3:.2f} ms" for name, seconds in took.items()))
    slow = best[OURS] > MOST_TIMES_BARE * best[BARE]
    behind = PEER in best and best[PEER] < LEAST_TIMES_MABWISER * best[OURS]
    return int(slow or behind or large > 1.2 * small)


if __name__ == "__main__":
    raise SystemExit(main())
