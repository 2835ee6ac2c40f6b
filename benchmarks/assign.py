"""Assignment of a million recipients, beside a bare numpy hash with searchsorted, and the scalar form.

Run: ``python -m benchmarks.assign``. Prints the best of several interleaved rounds and the ratio to the bare form.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from abmail.assign import assign, assign_array
from abmail.spec import Experiment

N = 1_000_000
ROUNDS = 7
WEIGHTS = [0.25, 0.25, 0.25, 0.25]


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


def bare(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The limit: one SplitMix64 finaliser over integers that are hashable as they stand, and searchsorted."""
    h = words ^ (words >> np.uint64(30))
    h *= np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(27)
    h *= np.uint64(0x94D049BB133111EB)
    h ^= h >> np.uint64(31)
    cells: NDArray[np.int64] = np.searchsorted(np.cumsum(WEIGHTS), (h >> np.uint64(11)) * 2.0**-53, side="right")
    return cells


def main() -> None:
    """Measure and print."""
    exp = experiment()
    integers = np.arange(N)
    words = integers.astype(np.uint64)
    texts = np.array([f"u-{i:022d}" for i in range(N)])
    octets = texts.astype(np.bytes_)
    listed = texts.tolist()
    addresses = [f"person{i}@company{i % 977}.example.com" for i in range(N)]
    forms: dict[str, Callable[[], object]] = {
        "bare numpy hash + searchsorted": lambda: bare(words),
        "integers": lambda: assign_array(exp, integers, weights=WEIGHTS),
        "numpy array of 24-character text": lambda: assign_array(exp, texts, weights=WEIGHTS),
        "numpy array of 24 bytes": lambda: assign_array(exp, octets, weights=WEIGHTS),
        "list of str of 24 characters": lambda: assign_array(exp, listed, weights=WEIGHTS),
        "list of 26 to 34 characters": lambda: assign_array(exp, addresses, weights=WEIGHTS),
    }
    best = dict.fromkeys(forms, float("inf"))
    for _ in range(ROUNDS):
        for name, run in forms.items():
            begin = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - begin)
    begin = time.perf_counter()
    for unit in listed[:2_000]:
        assign(exp, unit, weights=WEIGHTS)
    best["scalar form, one by one"] = (time.perf_counter() - begin) * N / 2_000
    limit = best["bare numpy hash + searchsorted"]
    print(f"{N:,} recipients, best of {ROUNDS} interleaved rounds")
    for name, seconds in best.items():
        print(f"  {name:34} {seconds:8.3f} s  {N / seconds / 1e6:7.2f} M/s  {seconds / limit:7.2f} x bare")


if __name__ == "__main__":
    main()
