"""The same promises in many settings: sizes, rates, allocations, drifts and delays, two arms and four."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from abmail._trials import Allocation, Even, ThompsonShares, Trials, run_trials
from abmail.stats import Method
from benchmarks import _naive as naive
from benchmarks._ours import METHODS, Answers, ask
from benchmarks._promise import Promise, at_most, most, percent

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

EPOCHS = 25
RATES, SIZES = (0.20, 0.03, 0.005), (2_000, 10_000, 50_000)
SHARPENED = "sharpened, 0.02"
ALLOCATIONS: Mapping[str, Allocation] = {
    "even": Even(),
    "floor 0": ThompsonShares(min_weight=0.0),
    "floor 0.02": ThompsonShares(min_weight=0.02),
    "floor 0.05": ThompsonShares(min_weight=0.05),
    "floor 0.10": ThompsonShares(min_weight=0.10),
    SHARPENED: ThompsonShares(min_weight=0.02, sharpen=4.0),
}
LEVELS: Mapping[str, Floats] = {
    "flat": np.ones(EPOCHS),
    "week": 1 + 0.4 * np.sin(2 * np.pi * np.arange(EPOCHS) / 7),
    "falling": np.linspace(1.5, 0.5, EPOCHS),
    "rising": np.linspace(0.5, 1.5, EPOCHS),
    "steep": np.linspace(0.1, 1.9, EPOCHS),
}
LATE, YOUNG = 3, (0.3, 0.6, 0.8)
FASTER = ((0.3, 0.4), (0.6, 0.7), (0.8, 0.85))
TRUE_LIFT = 0.2
FEW = 300  # successes from which on the pooled z-test must be seen to fail


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One cell of the grid.

    Attributes:
        arms: Number of arms.
        rate: Base rate.
        mails: Mails in all.
        allocation: A key of `ALLOCATIONS`.
        drift: A key of `LEVELS`.
        delay: ``late``: the bandit learns outcomes three epochs later. ``young``: 30, 60, 80 % of them have come in
            after one, two, three epochs, and the looks take what has come in. ``faster``: so, arm b being faster.
        effect: ``none``; ``lift``: the last arm is a fifth better; ``difference``: by as much, but in absolute terms.
    """

    arms: int
    rate: float
    mails: int
    allocation: str
    drift: str = "flat"
    delay: str = ""
    effect: str = "none"

    @property
    def name(self) -> str:
        """The cell in words."""
        parts = (f"{self.arms} arms, {self.rate:g}, {self.mails:,}, {self.allocation}, {self.drift}", self.delay)
        return ", ".join(part for part in (*parts, "" if self.effect == "none" else f"true {self.effect}") if part)

    def run(self, replications: int, seed: int) -> Trials:
        """Simulate it."""
        delay = {"": None, "late": LATE, "young": YOUNG, "faster": FASTER}[self.delay]
        return run_trials(
            self.truth,
            sizes=[self.mails // EPOCHS] * EPOCHS,
            allocation=ALLOCATIONS[self.allocation],
            replications=replications,
            rng=np.random.default_rng([seed, crc32(self.name.encode())]),
            delay=delay,
        )

    @property
    def truth(self) -> Floats:
        """(n_epochs, n_arms) true rates."""
        base = np.repeat(self.rate * LEVELS[self.drift][:, None], self.arms, axis=1)
        if self.effect == "lift":
            base[:, -1] *= 1 + TRUE_LIFT
        if self.effect == "difference":
            base[:, -1] += TRUE_LIFT * self.rate
        return base


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Errors in a cell, in replications; per method: false winners, claims against control, intervals that missed.

    Attributes:
        setting: The cell.
        naive: Claims of the pooled z-test at any look, first two arms.
        winners: False winners at any look.
        claims: Experiments with a false claim against the control.
        misses: Experiments in which an interval of the difference missed the truth at some look.
        ready_misses: The same at looks with at least 30 successes and failures.
        lift_misses: The same as ``misses`` for the relative difference, None where not asked.
    """

    setting: Setting
    naive: int
    winners: dict[str, int] = field(default_factory=dict)
    claims: dict[str, int] = field(default_factory=dict)
    misses: dict[str, int] = field(default_factory=dict)
    ready_misses: dict[str, int] = field(default_factory=dict)
    lift_misses: dict[str, int] = field(default_factory=dict)


def examine(replications: int, seed: int, setting: Setting) -> Found:
    """Count the errors of all methods in one cell."""
    trials = setting.run(replications, seed)
    found = Found(setting=setting, naive=int(naive.pooled_z(naive.TwoArms.of(trials)).ever.sum()))
    for method in METHODS:
        if setting.delay in ("young", "faster"):
            winner, claimed = _while_young(method, trials)
            found.winners[method], found.claims[method] = int(winner.sum()), int(claimed.sum())
        else:
            _judge(found, method, trials)
    if setting.allocation == "even" and setting.effect == "none" and not setting.delay:
        found.claims["fixed"] = int(ask("fixed", trials, intervals=False).claims.sum())
    return found


def _judge(found: Found, method: Method, trials: Trials) -> None:
    setting = found.setting
    answers = ask(method, trials, lifts=setting.effect == "lift")
    best = setting.arms - 1
    found.winners[method] = int(((answers.winner >= 0) & ((answers.winner != best) | (setting.effect == "none"))).sum())
    found.claims[method] = int(_false_claims(answers, setting).sum())
    effect = setting.truth[:, 1:] - setting.truth[:, :1]
    if np.ptp(effect, axis=0).max() < 1e-12:
        found.misses[method] = int(answers.misses(effect[0]).sum())
        found.ready_misses[method] = int(answers.misses(effect[0], only_ready=True).sum())
    if setting.effect == "lift":
        lift = np.array([0.0] * (setting.arms - 2) + [TRUE_LIFT])
        found.lift_misses[method] = int(answers.lift_misses(lift).sum())


def _false_claims(answers: Answers, setting: Setting) -> Booleans:
    """A claim about an arm that is like the control, or about the better one with the wrong sign."""
    false = answers.direction != 0
    if setting.effect != "none":
        false[:, -1] = answers.direction[:, -1] < 0
    claimed: Booleans = false.any(axis=1)
    return claimed


def _while_young(method: Method, trials: Trials) -> tuple[Booleans, Booleans]:
    """Winners and claims at any look, each look taking what has come in by then."""
    winner, claimed = (np.zeros(trials.n_replications, dtype=np.bool_) for _ in range(2))
    for look in range(1, trials.n_epochs + 1):
        answers = ask(method, trials, successes=trials.seen(look), intervals=False)
        winner |= answers.winner >= 0
        claimed |= answers.claims
    return winner, claimed


def settings() -> Iterator[Setting]:
    """All cells."""
    for arms, rate, mails, allocation in product((2, 4), RATES, SIZES, ALLOCATIONS):
        cell = partial(Setting, arms=arms, rate=rate, mails=mails, allocation=allocation)
        if arms == 2 or mails > SIZES[0]:
            yield from (cell(drift=drift) for drift in LEVELS)
            yield cell(delay="late")
        if arms == 2 and mails == SIZES[1]:
            yield cell(delay="young")
        if mails == SIZES[1] or (arms == 2 and mails == SIZES[0]):
            yield from (cell(drift=drift, effect="lift") for drift in ("flat", "rising"))
            yield from (cell(drift=drift, effect="difference") for drift in ("falling", "rising"))
    for rate, allocation in product(RATES, ("even", "floor 0.10")):
        yield Setting(arms=2, rate=rate, mails=SIZES[1], allocation=allocation, delay="faster")


def grid(replications: int, seed: int, pool: Executor) -> Iterator[str | Promise]:
    """Go through all cells; the worst ones and a summary are printed, every cell with ``faster`` beside."""
    yield f"grid. Errors in % of {replications:,} experiments of 25 epochs, a look after each"
    yield from report(list(pool.map(partial(examine, replications, seed), settings(), chunksize=4)), replications)


def claims(replications: int, seed: int, pool: Executor) -> Iterator[str | Promise]:
    """The planned and the anytime method alone, without intervals, in all cells of equal arms: a tenth of the time."""
    yield f"claims. Errors in % of {replications:,} experiments of 25 epochs with equal arms, a look after each"
    equal = [cell for cell in settings() if cell.effect == "none" and cell.delay in ("", "late")]
    yield from report(list(pool.map(partial(count_claims, replications, seed), equal, chunksize=4)), replications)


def count_claims(replications: int, seed: int, setting: Setting) -> Found:
    """Count the false claims of the planned and the anytime method in one cell."""
    trials = setting.run(replications, seed)
    found = Found(setting=setting, naive=int(naive.pooled_z(naive.TwoArms.of(trials)).ever.sum()))
    for method in ("sequential", "anytime"):
        answers = ask(method, trials, intervals=False)
        found.winners[method] = int((answers.winner >= 0).sum())
        found.claims[method] = int(answers.claims.sum())
    return found


def report(cells: list[Found], replications: int) -> Iterator[str | Promise]:
    """Summary, worst cells and promises."""
    judged = [cell for cell in cells if cell.setting.delay != "faster"]
    kinds = {
        "a false winner, equal arms": [(c, c.winners) for c in judged if c.setting.effect == "none"],
        "a false claim against control, equal arms": [(c, c.claims) for c in judged if c.setting.effect == "none"],
        "a false winner or sign, true effect": [
            (c, {m: max(c.winners[m], c.claims[m]) for m in c.winners}) for c in judged if c.setting.effect != "none"
        ],
        "interval of the difference, any look": [(c, c.misses) for c in judged],
        "interval of the difference, looks with 30 successes": [(c, c.ready_misses) for c in judged],
        "interval of the lift, any look": [(c, c.lift_misses) for c in judged],
    }
    bound = most(replications)
    over_bound = f"over {percent(bound, replications):.2f}"
    yield f"{'method and error':66}{'cells':>7}{'median':>8}{'worst':>8}{over_bound:>11}   worst cell"
    for kind, method in product(kinds, (*METHODS, "fixed")):
        found = [(errors[method], cell.setting.name) for cell, errors in kinds[kind] if method in errors]
        if found:
            worst, name = max(found)
            over, middle = sum(errors > bound for errors, _ in found), float(np.median([errors for errors, _ in found]))
            figures = f"{percent(worst, replications):8.2f}{over:11d}   {name}"
            yield f"{f'{method}: {kind}':66}{len(found):7d}{100 * middle / replications:8.2f}{figures}"
        if "30 successes" not in kind:
            yield from (at_most(f"{method}: {kind}, {name}", errors, replications) for errors, name in found)
    yield from _naive([cell for cell in judged if cell.setting.effect == "none"], replications)
    yield from _faster([cell for cell in cells if cell.setting.delay == "faster"], replications)


def _naive(cells: list[Found], replications: int) -> Iterator[str | Promise]:
    """The pooled z-test among equal arms: where it is seen to fail, and where it is not."""
    bound = most(replications)
    on_time = [percent(cell.naive, replications) for cell in cells if not cell.setting.delay]
    span = f"median {np.median(on_time):.1f}, from {min(on_time):.1f} to {max(on_time):.1f}"
    yield f"the pooled z-test of the first two arms in the same equal arms: {span}"
    large = [cell for cell in cells if cell.setting.rate * cell.setting.mails >= FEW]
    under, least = sum(cell.naive <= bound for cell in large), min(large, key=lambda cell: cell.naive)
    yield (
        f"with {FEW} successes it stays under {percent(bound, replications):.2f} in {under} of {len(large)} cells; "
        f"the least: {percent(least.naive, replications):.2f}   {least.setting.name}"
    )
    steady = [cell for cell in large if cell.setting.arms == 2 and cell.setting.drift == "flat"]
    yield Promise(
        f"the pooled z-test fails in every cell of two equal arms with {FEW} successes and a steady rate",
        min(cell.naive for cell in steady) > bound,
        0.0,
    )


def _faster(cells: list[Found], replications: int) -> Iterator[str]:
    if cells:
        yield "no promise: looks at young mails where arm b is answered faster, false claims in % (why verdicts wait)"
    for cell in cells:
        figures = ", ".join(f"{method} {percent(count, replications):.1f}" for method, count in cell.claims.items())
        yield f"  {cell.setting.name:60}{figures}"
