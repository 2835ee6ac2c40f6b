"""Six segments of unequal size: answers lost against sending each segment its own best arm.

Run: ``python -m benchmarks.segments [--replications N] [--seed S] [--jobs J]``. 100,000 mails with four arms go out in
48 hourly epochs; delays are log-normal, median 2.5 h, 70 % within 24 h, and the curve is known to all columns. Segments
have levels of their own. All columns of a row see the same chance instances; the standard error is in brackets.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy.special import expit, logit

from abmail.bandit import DelayCurve, Hierarchical, Sharpened, Thompson
from benchmarks._lists import (
    MAILS,
    Column,
    Floats,
    Sending,
    Truth,
    World,
    adaptive,
    even,
    independent,
    pooled,
    print_table,
)

EPOCHS = 48
SHARES = np.array((0.35, 0.25, 0.15, 0.12, 0.08, 0.05))
OPENS = np.array((0.18, 0.20, 0.21, 0.25))
TYPICAL, ARMS_SD, LEVELS_SD = 0.21, 0.12, 0.20
WINDOW = 14 * 86_400.0
TEST_SHARE, WAIT = 0.2, 4

LEARN = Hierarchical(rule=Thompson(min_weight=0.0))
EARN = Hierarchical(rule=Sharpened(min_weight=0.0))


def _truth(rates: Floats) -> Truth:
    shown = DelayCurve.default(window=WINDOW).cdf(3_600.0 * np.arange(1, EPOCHS + 1))
    return Truth(rates=rates, sizes=MAILS * SHARES, shown=shown)


def rotated(rng: np.random.Generator) -> Truth:
    """Every segment has another best arm; there is no common effect but chance."""
    del rng
    return _truth(np.stack([np.roll(OPENS, segment) for segment in range(len(SHARES))]))


def random(interaction: float, rng: np.random.Generator) -> Truth:
    """Arms' effects that all segments share, and what each adds to them."""
    level = logit(TYPICAL) + LEVELS_SD * rng.standard_normal((len(SHARES), 1))
    arm, own = ARMS_SD * rng.standard_normal(4), interaction * rng.standard_normal((len(SHARES), 4))
    return _truth(expit(level + arm + own))


def test_then_send(truth: Truth, rng: np.random.Generator, *, by_segment: bool) -> float:
    """Answers lost by a fifth sent evenly, four hours of waiting, and the leader (of each segment) to the rest."""
    n = np.rint(truth.sizes[:, None] * TEST_SHARE / truth.rates.shape[1]).astype(np.int64)
    seen = rng.binomial(n, truth.rates * truth.shown[WAIT - 1]) / n
    if not by_segment:
        seen = np.broadcast_to((seen * n).sum(axis=0), seen.shape)
    leader = np.argmax(seen + rng.uniform(0, 1e-9, seen.shape[1]), axis=1)
    rest = truth.sizes * (1 - TEST_SHARE)
    return float((n * truth.gap).sum() + rest @ truth.gap[np.arange(len(leader)), leader])


def ours(policy: Hierarchical, sending: Sending) -> Floats:
    """Abmail: the production code from the counts to the weights."""
    return policy.weights_by_segment(sending.counts())


WORLDS: dict[str, World] = {
    "rotated best arms": rotated,
    "strong interaction (sd .15)": partial(random, 0.15),
    "mild interaction (sd .06)": partial(random, 0.06),
    "same best everywhere": partial(random, 0.0),
}
COLUMNS: dict[str, Column] = {
    "even split": even,
    "test, one winner": partial(test_then_send, by_segment=False),
    "test, per segment": partial(test_then_send, by_segment=True),
    "pooled": partial(adaptive, pooled),
    "independent": partial(adaptive, independent),
    "abmail": partial(adaptive, partial(ours, LEARN)),
    "pooled, earn": partial(adaptive, partial(pooled, power=4.0)),
    "independent, earn": partial(adaptive, partial(independent, power=4.0)),
    "abmail, earn": partial(adaptive, partial(ours, EARN)),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    print_table("Answers lost in six segments, by policy.", WORLDS, COLUMNS, arguments, replications=200)


if __name__ == "__main__":
    main()
