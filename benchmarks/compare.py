"""How long a comparison takes, beside its peers and the bare limit, in one process.

Run: ``python -m benchmarks.compare`` (``make peers`` runs it where the peers are installed). Four arms (or as many as
``--arms`` says), 100 epochs, one control. The limit is numpy computing three pooled z statistics and their p-values
from the same arrays, nothing else. The rounds are interleaved, so that a change of the machine's speed meets everybody
alike. Peers take the summed counts and answer for the contrasts with the control. Ours answers for these contrasts with
both intervals, for every pair, the sample ratio and the decision; what nobody reads (the posteriors, the runner-up) is
not worked out. The lines "everything read" have all of it. Exits with 1 where everything about a planned experiment
takes longer than its target at best, or a peer is faster at the same job.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc

from abmail.stats import Comparison, Counts, Method, Moments, compare, compare_many, compare_means
from benchmarks._peers import JOBS, PEERS, version

RATES = (0.18, 0.20, 0.21, 0.25)
EPOCHS, SENDS = 100, 250
EXPERIMENTS = 10_000
TARGET_MS = 5.0
METHODS: tuple[Method, ...] = ("sequential", "anytime", "exact", "aipw", "fixed", "bayes")
LIMIT, READ = "three z scores in numpy", ", everything read"
SCORE, WELCH, ANYTIME = (
    "compare: fixed, summed counts",
    "compare_means: fixed, summed",
    "compare_means: anytime, summed",
)
SAME_JOB = {
    "statsmodels: score test, score intervals of difference and ratio": SCORE,
    "tea-tasting: Proportion": SCORE,
    "tea-tasting: Mean": WELCH,
    "gbstats: Welch": WELCH,
}
"""Peers' jobs, and which of ours answers the same question by the same kind of test."""
NEAREST = SAME_JOB | {"gbstats: sequential": ANYTIME, "gbstats: Bayes": "compare: bayes, summed counts"}
"""The same with jobs that are done by other methods."""


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


def _read(run: Callable[[], Comparison]) -> dict[str, Any]:
    """Compare, and work out everything."""
    return run().to_dict()


def jobs(n: NDArray[np.int64], k: NDArray[np.int64]) -> dict[str, tuple[Callable[[], object], int]]:
    """What is timed, by name, with how often it runs in a round."""
    counts = Counts(n, k, weights=np.full(n.shape, 1 / n.shape[1]), looks=len(n))
    summed = Counts(n.sum(axis=0), k.sum(axis=0))
    table = list(zip(k.sum(axis=0).tolist(), n.sum(axis=0).tolist(), strict=True))

    summed_jobs = ((f"compare: {m}, summed counts", summed, m) for m in METHODS[-2:])
    found: dict[str, tuple[Callable[[], object], int]] = {LIMIT: (lambda: z_scores(n, k), 50)}
    for name, given, method in (*((f"compare: {m}", counts, m) for m in METHODS), *summed_jobs):
        run_ours = partial(compare, given, method=method)
        found[name] = (run_ours, 1)
        found[name + READ] = (partial(_read, run_ours), 1)
    means, variance = k.sum(axis=0) / n.sum(axis=0), summed.n[0] / (summed.n[0] - 1)
    moments = Moments.from_summary(summed.n[0], means, means * (1 - means) * variance)
    found[WELCH] = (partial(compare_means, moments, method="fixed"), 1)
    found[ANYTIME] = (partial(compare_means, moments, method="anytime"), 1)
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
    parser.add_argument("--arms", type=int, choices=range(2, len(RATES) + 1), default=len(RATES))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--rounds-many", type=int, default=2)
    options = parser.parse_args()
    n = np.full((EPOCHS, options.arms), SENDS)
    k = np.random.default_rng(1).binomial(n, RATES[: options.arms])
    chosen = jobs(n, k)
    times = {name: Times() for name in chosen}
    for run, _ in chosen.values():
        run()
    for _ in range(options.rounds):
        for name, (run, often) in chosen.items():
            times[name].add(run, often)
    best = {name: min(taken.cpu) for name, taken in times.items()}
    print(f"{options.arms} arms, {EPOCHS} epochs, {options.rounds} interleaved rounds; milliseconds")
    print(", ".join(f"{peer} {version(peer) or 'MISSING (make peers)'}" for peer in PEERS))
    print(f"{'':66} {'CPU best':>9} {'median':>9} {'wall best':>9} {'median':>9} {'x limit':>8} {'x ours':>7}")
    for name, taken in times.items():
        figures = (min(taken.cpu), statistics.median(taken.cpu), min(taken.wall), statistics.median(taken.wall))
        ours = best[name] / best[NEAREST.get(name, SCORE)]
        line = " ".join(f"{1e3 * figure:9.3f}" for figure in figures)
        print(f"{name:66} {line} {best[name] / best[LIMIT]:8.0f} {ours:7.2f}")
    print("\n".join(many(options.rounds_many)))
    return verdict(best)


def verdict(best: dict[str, float]) -> int:
    """Say which target is missed."""
    missed, planned = [], 1e3 * best["compare: sequential" + READ]
    if planned > TARGET_MS:
        missed.append(f"a planned comparison takes {planned:.1f} ms, target {TARGET_MS:g} ms")
    missed += [f"{peer} is faster than {ours}" for peer, ours in SAME_JOB.items() if best.get(peer, 1.0) < best[ours]]
    print("\n".join(f"MISSED: {line}" for line in missed) or "targets met")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
