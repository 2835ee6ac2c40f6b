"""Whether abmail and its peers say the same where they compute the same, on 200 random tables of two arms.

Run: ``make peers``, or ``python -m benchmarks.peers`` where the peers are installed. Exits with 1 where figures that
should agree differ by more than the tolerance beside them, or where a peer is missing.

The score interval of the difference is held against a reference of its own: the likelihood equation under the
hypothesis solved by bisection, and the end by another. statsmodels' (0.15.0) stands beside it without a claim, as it
misses that reference: its cubic has the control's successes where Miettinen & Nurminen (1985) have its size.
gbstats' sequential and Bayesian figures are other methods than ours and are printed for orientation alone.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from abmail.stats import ArmResult, Counts, MeanResult, Method, Moments, compare, compare_means, newcombe_interval
from benchmarks._peers import (
    PEERS,
    Answer,
    Table,
    gbstats_bayes,
    gbstats_sequential,
    gbstats_welch,
    statsmodels_difference,
    statsmodels_score,
    tea_tasting_mean,
    tea_tasting_proportion,
    version,
)

TABLES, SEED, ALPHA = 200, 11, 0.05
_HALVINGS = 60
_EXACTLY = 1e-9

Figures = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """Figures of ours and of a peer for one table; ``tolerance`` is None where they need not agree."""

    text: str
    ours: Callable[[Table], Figures]
    theirs: Callable[[Table], Figures]
    tolerance: float | None = _EXACTLY


def tables() -> list[Table]:
    """Random tables: 100 to 100,000 sends an arm, rates from 2 % to 60 %."""
    rng = np.random.default_rng(SEED)
    found: list[Table] = []
    while len(found) < TABLES:
        n = (10 ** rng.uniform(2, 5, size=2)).astype(int)
        rate = rng.uniform(0.02, 0.6)
        k = rng.binomial(n, [rate, np.clip(rate * rng.uniform(0.7, 1.4), 0, 0.9)])
        if k.min() > 0:
            found.append([(int(k[0]), int(n[0])), (int(k[1]), int(n[1]))])
    return found


def by_method(table: Table, method: Method) -> ArmResult:
    """Our answer for the second arm."""
    (k_a, n_a), (k_b, n_b) = table
    return compare(Counts([n_a, n_b], [k_a, k_b]), method=method, alpha=ALPHA).arms[1]


def by_means(table: Table) -> MeanResult:
    """Our answer when the outcomes are taken for values."""
    (k_a, n_a), (k_b, n_b) = table
    variance = [(k - k * k / n) / (n - 1) for k, n in table]
    moments = Moments.from_summary([n_a, n_b], [k_a / n_a, k_b / n_b], variance)
    return compare_means(moments, method="fixed", alpha=ALPHA).arms[1]


def numbers(values: Iterable[float | None]) -> Figures:
    """Floats, NaN for None."""
    return tuple(math.nan if value is None else float(value) for value in values)


def difference(arm: ArmResult | MeanResult | Answer) -> Figures:
    """Effect and the ends of its interval."""
    return numbers((arm.effect, arm.ci_lower, arm.ci_upper))


def with_p(arm: MeanResult | Answer) -> Figures:
    """Effect, the ends of its interval, and the p-value."""
    return (*difference(arm), *numbers([arm.p_value]))


def lift(arm: ArmResult | Answer) -> Figures:
    """Ends of the interval for the lift."""
    return numbers((arm.lift_lower, arm.lift_upper))


def reference(table: Table) -> Figures:
    """Miettinen and Nurminen's interval for the difference, by bisection alone."""
    (k_a, n_a), (k_b, n_b) = table
    effect, quantile = k_b / n_b - k_a / n_a, -float(ndtri(ALPHA / 2))

    def slope(p: float, delta: float) -> float:
        q = p + delta
        return k_a / p - (n_a - k_a) / (1 - p) + k_b / q - (n_b - k_b) / (1 - q)

    def outside(delta: float) -> bool:
        p = _bisect(lambda at: slope(at, delta) < 0, max(0.0, -delta), min(1.0, 1 - delta))
        q, n = p + delta, n_a + n_b
        variance = (p * (1 - p) / n_a + q * (1 - q) / n_b) * n / (n - 1)
        return abs(effect - delta) > quantile * math.sqrt(variance)

    return effect, _bisect(outside, effect, -1.0), _bisect(outside, effect, 1.0)


def _bisect(passed: Callable[[float], bool], low: float, high: float) -> float:
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if passed(middle) else (middle, high)
    return (low + high) / 2


def claims() -> dict[str, list[Claim]]:
    """What is held against each other, by peer."""
    return {
        "reference": [Claim("score interval, difference", lambda t: difference(by_method(t, "fixed")), reference)],
        "statsmodels": [
            Claim(
                "pooled z test, p-value",
                lambda t: numbers([by_method(t, "fixed").p_value]),
                lambda t: (statsmodels_score(t)[0].p_value,),
            ),
            Claim(
                "score interval, ratio", lambda t: lift(by_method(t, "fixed")), lambda t: lift(statsmodels_score(t)[0])
            ),
            Claim(
                "Newcombe's interval, difference",
                lambda t: newcombe_interval(*sides(t), alpha=ALPHA),
                lambda t: difference(statsmodels_difference(t)[0])[1:],
            ),
            Claim(
                "score interval, difference (its cubic differs)",
                lambda t: difference(by_method(t, "fixed")),
                lambda t: difference(statsmodels_score(t)[0]),
                None,
            ),
        ],
        "gbstats": [
            Claim(
                "Welch: effect, interval, p-value", lambda t: with_p(by_means(t)), lambda t: with_p(gbstats_welch(t)[0])
            ),
            Claim(
                "sequential beside anytime (another method)",
                lambda t: difference(by_method(t, "anytime")),
                lambda t: difference(gbstats_sequential(t)[0]),
                None,
            ),
            Claim(
                "Bayes (normal, flat) beside bayes (Beta)",
                lambda t: difference(by_method(t, "bayes")),
                lambda t: difference(gbstats_bayes(t)[0]),
                None,
            ),
        ],
        "tea-tasting": [
            Claim(
                "Mean: effect, interval, p-value",
                lambda t: with_p(by_means(t)),
                lambda t: with_p(tea_tasting_mean(t)[0]),
            ),
            Claim(
                "Proportion: p-value",
                lambda t: numbers([by_method(t, "fixed").p_value]),
                lambda t: (tea_tasting_proportion(t)[0].p_value,),
            ),
            Claim(
                "Proportion: interval (Wald's, pooled)",
                lambda t: difference(by_method(t, "fixed")),
                lambda t: difference(tea_tasting_proportion(t)[0]),
                None,
            ),
        ],
    }


def sides(table: Table) -> tuple[tuple[int, int], tuple[int, int]]:
    """Control and arm."""
    return table[0], table[1]


def main() -> int:
    """Compare and print; 1 where something disagrees or could not be held against its peer."""
    drawn, failed = tables(), 0
    print(f"{len(drawn)} tables, alpha {ALPHA:g}; largest absolute difference of any figure")
    for peer, rows in claims().items():
        if peer in PEERS and version(peer) is None:
            print(f"{peer}: MISSING (make peers)")
            failed += 1
            continue
        for claim in rows:
            gaps = np.array([np.subtract(claim.ours(table), claim.theirs(table)) for table in drawn])
            silent = int(np.isnan(gaps).any(axis=1).sum())
            largest = float(np.nanmax(np.abs(gaps)))
            kept = claim.tolerance is None or (largest <= claim.tolerance and not silent)
            failed += not kept
            said = "no claim" if claim.tolerance is None else f"<= {claim.tolerance:g} {'ok' if kept else 'FAILED'}"
            said += f", no answer on {silent} tables" if silent else ""
            print(f"{peer} {version(peer) or '':8} {claim.text:48} {largest:9.2e}  {said}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
