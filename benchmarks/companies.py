"""What companies that answer alike do to a comparison: counted one by one, and as companies.

    python -m benchmarks.companies --replications 2000

Two variants by company, five planned looks. Alarms: winners among equal variants. Coverage: intervals at the last look
that hold the true difference. Power: the better variant named, of 5 points on 20 %. Companies answer by a beta law
with the given correlation; the width is that of companies over that of recipients.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from abmail.stats import Clusters, Comparison, Counts, compare

LOOKS = 5
RATE, EFFECT = 0.20, 0.05
Integers = NDArray[np.int64]


def geometric(rng: np.random.Generator) -> Integers:
    """800 companies of 5 on average."""
    return rng.geometric(0.2, 800)


def few(rng: np.random.Generator) -> Integers:
    """60 companies of 40 on average."""
    return rng.geometric(1 / 40, 60)


def heavy(rng: np.random.Generator) -> Integers:
    """500 companies, log-normal: most have a few people, some hundreds."""
    return np.maximum(np.rint(rng.lognormal(1.0, 1.2, 500)), 1).astype(np.int64)


SIZES: dict[str, Callable[[np.random.Generator], Integers]] = {
    "800 of 5 on average": geometric, "60 of 40 on average": few, "500, log-normal": heavy,
}  # fmt: skip


def played(
    sizes: Callable[[np.random.Generator], Integers],
    icc: float,
    effect: float,
    *,
    stays: bool,
    rng: np.random.Generator,
) -> tuple[Comparison, Comparison]:
    """One experiment, compared by recipients and by companies."""
    company = np.repeat(np.arange(n := len(members := sizes(rng))), members)
    arm = rng.integers(0, 2, n)
    rate = RATE + effect * arm
    own = rng.beta(rate * (1 / icc - 1), (1 - rate) * (1 / icc - 1)) if icc else rate
    row = rng.integers(0, LOOKS, len(company)) if stays else rng.integers(0, LOOKS, n)[company]
    y = (rng.random(len(company)) < own[company]).astype(np.int64)
    cell = row * 2 + arm[company]
    sent, answered = (np.bincount(cell, w, 2 * LOOKS).reshape(LOOKS, 2).astype(np.int64) for w in (None, y))
    counts = Counts(sent, answered, looks=LOOKS)
    people = Clusters.from_values(y, arm=arm[company], company=company, row=row)
    return compare(counts), compare(counts, clusters=people)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(f"{'companies':22} {'icc':>4} {'waves':>8} | alarms % 1-by-1, companies | coverage % | power % | width")
    for name, sizes in SIZES.items():
        for icc in (0.0, 0.05, 0.2):
            for stays in (False, True):
                rng = np.random.default_rng(given.seed)
                null = [played(sizes, icc, 0.0, stays=stays, rng=rng) for _ in range(given.replications)]
                real = [played(sizes, icc, EFFECT, stays=stays, rng=rng) for _ in range(given.replications)]
                print(f"{name:22} {icc:4.2f} {'several' if stays else 'one':>8} |", *_figures(null, real), flush=True)


def _figures(null: list[tuple[Comparison, Comparison]], real: list[tuple[Comparison, Comparison]]) -> list[str]:
    alarms, covered, power = (
        [100 * np.mean([found(pair[i]) for pair in pairs]) for i in (0, 1)]
        for pairs, found in ((null, _wins), (null, _holds), (real, _wins_b))
    )
    width = np.median([_width(by_company) / _width(alone) for alone, by_company in null])
    return [
        f"{alarms[0]:7.1f} {alarms[1]:9.1f}          | {covered[0]:4.1f} {covered[1]:5.1f} |",
        f"{power[0]:3.0f} {power[1]:3.0f} | {width:4.2f}",
    ]


def _wins(found: Comparison) -> bool:
    return found.decision.state == "winner"


def _wins_b(found: Comparison) -> bool:
    return _wins(found) and found.decision.arm == "B"


def _holds(found: Comparison) -> bool:
    low, high = found.arms[1].ci_lower, found.arms[1].ci_upper
    return low is not None and high is not None and low <= 0 <= high


def _width(found: Comparison) -> float:
    low, high = found.arms[1].ci_lower, found.arms[1].ci_upper
    return np.nan if low is None or high is None else high - low


if __name__ == "__main__":
    main()
