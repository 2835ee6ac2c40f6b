"""How long a comparison takes, beside its peers and the bare limit, in one process.

Run: ``python -m benchmarks.compare`` (``make peers`` runs it where the peers are installed). Four arms, 100 epochs, one
control. The limit is numpy computing three pooled z statistics and their p-values from the same arrays, nothing else.
The rounds are interleaved, so that a change of the machine's speed meets everybody alike. Peers take the summed counts
and answer for the three contrasts with the control; ours also answers for every pair, the chance to be best, the
sample ratio and the decision. Exits with 1 where `compare` on a planned experiment is over its target at best, or a
peer is faster at the score test with its intervals.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc

from abmail.stats import Counts, Method, compare, compare_many
from benchmarks._peers import JOBS, PEERS, version

RATES = (0.18, 0.20, 0.21, 0.25)
EPOCHS, SENDS = 100, 250
EXPERIMENTS = 10_000
TARGET_MS = 5.0
METHODS: tuple[Method, ...] = ("sequential", "anytime", "exact", "aipw", "fixed", "bayes")
LIMIT, SAME_JOB = "three z scores in numpy", "statsmodels: score test, score intervals of difference and ratio"


@dataclass(slots=True)
class Times:
    """Seconds of every run."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def add(self, job: Callable[[], object], times: int = 1) -> None:
        """Run it ``times`` over and keep the mean."""
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(times):
            job()
        self.cpu.append((time.process_time() - cpu) / times)
        self.wall.append((time.perf_counter() - wall) / times)


def z_scores(n: NDArray[np.int64], k: NDArray[np.int64]) -> NDArray[np.float64]:
    """The bare limit: two-sided p-values of the pooled z test of each arm against the first, (n_arms - 1,)."""
    sends, hits = n.sum(axis=0), k.sum(axis=0)
    pooled = (hits[1:] + hits[0]) / (sends[1:] + sends[0])
    sd = np.sqrt(pooled * (1 - pooled) * (1 / sends[1:] + 1 / sends[0]))
    p_values: NDArray[np.float64] = erfc(np.abs(hits[1:] / sends[1:] - hits[0] / sends[0]) / sd / np.sqrt(2))
    return p_values


def jobs(n: NDArray[np.int64], k: NDArray[np.int64]) -> dict[str, tuple[Callable[[], object], int]]:
    """What is timed, by name, with how often it runs in a round."""
    counts = Counts(n, k, weights=np.full(n.shape, 1 / n.shape[1]), looks=len(n))
    summed = Counts(n.sum(axis=0), k.sum(axis=0))
    table = list(zip(k.sum(axis=0).tolist(), n.sum(axis=0).tolist(), strict=True))

    def ours(chosen: Method, given: Counts) -> Callable[[], object]:
        return lambda: compare(given, method=chosen)

    found: dict[str, tuple[Callable[[], object], int]] = {LIMIT: (lambda: z_scores(n, k), 50)}
    for method in METHODS:
        found[f"compare: {method}"] = (ours(method, counts), 1)
    found["compare: fixed, summed counts"] = (ours("fixed", summed), 1)
    for name, (peer, run) in JOBS.items():
        if version(peer):
            found[f"{peer}: {name}"] = (lambda run=run: run(table), 1)  # type: ignore[misc]
    return found


def many(rounds: int) -> list[str]:
    """Lines on `compare_many`, per experiment."""
    rng = np.random.default_rng(2)
    lines = []
    for method, epochs in (("sequential", EPOCHS), ("fixed", 1)):
        n = np.full((EXPERIMENTS, epochs, len(RATES)), SENDS * EPOCHS // epochs)
        k = rng.binomial(n, RATES)
        times = Times()
        for _ in range(rounds):
            times.add(lambda n=n, k=k, m=method, e=epochs: compare_many(n, k, method=m, looks=e))  # type: ignore[misc]
        cpu, wall = (1e3 * min(part) / EXPERIMENTS for part in (times.cpu, times.wall))
        name = f"compare_many: {method}, {EXPERIMENTS:,} of {epochs} epochs, each"
        lines.append(f"{name:66} {cpu:9.4f} {'':9} {wall:9.4f}")
    return lines


def main() -> int:
    """Measure and print; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description="the time of a comparison, beside its peers")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--rounds-many", type=int, default=2)
    options = parser.parse_args()
    n = np.full((EPOCHS, len(RATES)), SENDS)
    k = np.random.default_rng(1).binomial(n, RATES)
    chosen = jobs(n, k)
    times = {name: Times() for name in chosen}
    for run, _ in chosen.values():
        run()
    for _ in range(options.rounds):
        for name, (run, often) in chosen.items():
            times[name].add(run, often)
    best = {name: min(taken.cpu) for name, taken in times.items()}
    print(f"{len(RATES)} arms, {EPOCHS} epochs, {options.rounds} interleaved rounds; milliseconds")
    print(", ".join(f"{peer} {version(peer) or 'MISSING (make peers)'}" for peer in PEERS))
    print(f"{'':66} {'CPU best':>9} {'median':>9} {'wall best':>9} {'median':>9} {'x limit':>8} {'x ours':>7}")
    for name, taken in times.items():
        figures = (min(taken.cpu), statistics.median(taken.cpu), min(taken.wall), statistics.median(taken.wall))
        ours = best[name] / best["compare: fixed, summed counts"]
        line = " ".join(f"{1e3 * figure:9.3f}" for figure in figures)
        print(f"{name:66} {line} {best[name] / best[LIMIT]:8.0f} {ours:7.2f}")
    print("\n".join(many(options.rounds_many)))
    return verdict(best)


def verdict(best: dict[str, float]) -> int:
    """Say which target is missed."""
    missed = []
    if best["compare: sequential"] * 1e3 > TARGET_MS:
        missed.append(f"a planned comparison takes {best['compare: sequential'] * 1e3:.1f} ms, target {TARGET_MS:g} ms")
    if SAME_JOB in best and best[SAME_JOB] < best["compare: fixed, summed counts"]:
        missed.append(f"{SAME_JOB} is faster than compare: fixed")
    print("\n".join(f"MISSED: {line}" for line in missed) or "targets met")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
