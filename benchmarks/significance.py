"""What the comparison promises, held against simulated experiments in which the truth is known.

Run: ``python -m benchmarks.significance [--replications N] [--table 2a|2b|2c|2e|2f|grid|claims] [--seed S] [--jobs J]``

Two arms, 10,000 mails, 25 epochs of 400 (20 of 500 under an even split) and a look after each, unless a table says
otherwise; Thompson allocation with a floor per arm. Beside each figure stands, in brackets, what an earlier study with
simulators of its own measured (`_earlier`). Exits with 1 when a promise is broken; ``grid`` goes through many settings,
``claims`` only through those of equal arms, without intervals.

A promise of at most 5 % counts as broken when chance would give so many errors with probability under 1e-6.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, ndtr

from abmail._trials import Allocation, Even, ThompsonShares, Trials, chance_of_best, run_trials
from abmail.stats import Counts, srm
from benchmarks import _earlier as earlier
from benchmarks import _naive as naive
from benchmarks._grid import claims, grid
from benchmarks._ours import METHODS, ask, rejections, walk
from benchmarks._promise import Promise, at_most, most, percent

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
Cell = tuple[float, float]
P = ParamSpec("P")
T = TypeVar("T")
Table = Callable[[int, int, Executor], Iterator[str | Promise]]

MAILS, EPOCHS, EVEN_EPOCHS = 10_000, 25, 20
GBSTATS_PLANNED = 5_000
WIDTH_TOLERANCE = 0.03
SRM_ALPHA = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """How an experiment is run; ``level`` and ``delay`` as in `run_trials`."""

    name: str
    allocation: Allocation
    epochs: int = EPOCHS
    level: tuple[float, ...] | None = None
    delay: int | None = None

    def run(self, rates: Sequence[float] | Floats, replications: int, seed: int) -> Trials:
        """Simulate it."""
        rng = np.random.default_rng([seed, crc32(f"{self.name} {np.asarray(rates).tolist()}".encode())])
        sizes = [MAILS // self.epochs] * self.epochs
        return run_trials(
            rates,
            sizes=sizes,
            allocation=self.allocation,
            replications=replications,
            rng=rng,
            level=self.level,
            delay=self.delay,
        )


def thompson(
    floor: float, *, epochs: int = EPOCHS, level: tuple[float, ...] | None = None, delay: int | None = None
) -> Design:
    """Thompson sampling with that floor."""
    allocation = ThompsonShares(min_weight=floor)
    return Design(name=f"floor {floor:.2f}", allocation=allocation, epochs=epochs, level=level, delay=delay)


WEEK = tuple((1 + 0.4 * np.sin(2 * np.pi * np.arange(EPOCHS) / 7)).tolist())
FIFTY = Design(name="50/50", allocation=Even(), epochs=EVEN_EPOCHS)
DESIGNS = (FIFTY, thompson(0.0), thompson(0.02), thompson(0.10), thompson(0.10, level=WEEK), thompson(0.10, delay=3))

OFTEN: Mapping[str, naive.Method] = {
    "pooled z": naive.pooled_z,
    "Welch t": naive.welch,
    "chance to win 95 %": naive.chance_to_win,
    "gbstats sequential": naive.gbstats_sequential(GBSTATS_PLANNED),
    "GrowthBook period z": naive.period_weighted_z,
    "Mantel-Haenszel z": naive.mantel_haenszel,
    "AIPW + AsympCS": naive.aipw_sequence(GBSTATS_PLANNED),
    "savvi, equal shares": naive.savvi,
    "P(best) 95 %": naive.probability_of_being_best,
}
ONE_LOOK: Mapping[str, naive.Method] = {"AW-AIPW": naive.adaptively_weighted, "BOLS": naive.batched_ols}
ANY_LOOK = ("spotify group sequential", "gbstats sequential", "MAD sequence", "AIPW + AsympCS")


def competitors(design: Design, rate: float) -> dict[str, naive.Method]:
    """All naive methods for a design."""
    return {
        **OFTEN,
        "MAD sequence": naive.design_based(GBSTATS_PLANNED, rate),
        "MAD sequence, t* = n": naive.design_based(MAILS),
        "spotify group sequential": naive.spotify_group_sequential(design.epochs),
        **ONE_LOOK,
    }


# -- 2a: false alarms ------------------------------------------------------------------------------------------------


def false_alarms(rate: float, replications: int, seed: int, design: Design) -> dict[str, tuple[int, int]]:
    """Claims among equal arms at the end and at any look, per method."""
    trials = design.run((rate, rate), replications, seed)
    data = naive.TwoArms.of(trials)
    found = {name: method(data) for name, method in competitors(design, rate).items()}
    counts = {name: (int(looks.at_end.sum()), int(looks.ever.sum())) for name, looks in found.items()}
    for method in METHODS:
        claimed = rejections(method, trials)
        counts[method] = (int(claimed[:, -1].sum()), int(claimed.any(axis=1).sum()))
    return counts


def table_2a(replications: int, seed: int, pool: Executor) -> Iterator[str | Promise]:
    """False alarms of every method, at the end and at any look."""
    yield "2a. False alarms in A/A tests, % (earlier study); nominal 5"
    heads = ["50/50 end", "any look", "floor 0 end", "any", ".02 end", "any", ".10 end", "any", "week", "late"]
    for rate, table in earlier.FALSE_ALARMS.items():
        cells = list(pool.map(partial(false_alarms, rate, replications, seed), DESIGNS))
        yield ""
        yield f"{f'rate {rate}':26}" + "".join(f"{head:>14}" for head in heads)
        for name, before in table.items():
            if name not in cells[0]:
                continue
            ends = {"AW-AIPW", "BOLS"}
            figures = [cell[name][i] for cell in cells[:4] for i in (0, 1)]
            figures += [cell[name][0 if name in ends else 1] for cell in cells[4:]]
            hidden = {1, 3, 5, 7} if name in ends else {8, 9} if name.startswith("spotify") else set()
            yield f"{name:26}" + "".join(
                f"{'-' if i in hidden else beside(percent(count, replications), old):>14}"
                for i, (count, old) in enumerate(zip(figures, before, strict=True))
            )
        for design, cell in zip(DESIGNS, cells, strict=True):
            where = f"{design.name}{' week' if design.level else ' late' if design.delay else ''}, rate {rate}"
            for method in METHODS:
                yield at_most(f"{method}: false alarms at any look, {where}", cell[method][1], replications)
            seen = cell["pooled z"][1]
            yield Promise(f"the pooled z-test fails, {where}", seen > most(replications), percent(seen, replications))


def beside(figure: float, before: float | None, digits: int = 1) -> str:
    """A figure with the earlier one in brackets."""
    return f"{figure:.{digits}f}" + ("" if before is None else f" ({before:.{digits}f})")


# -- 2b: width, power, coverage ----------------------------------------------------------------------------------------

EFFECTS = ((0.20, 0.22), (0.03, 0.036))


def width_and_power(
    replications: int, seed: int, setting: tuple[tuple[float, float], Design]
) -> tuple[dict[str, Cell], dict[str, int]]:
    """Median half width in points and power in % of each method; and how often its interval misses at some look."""
    rates, design = setting
    trials = design.run(rates, replications, seed)
    data, effect = naive.TwoArms.of(trials), rates[1] - rates[0]
    cells, missed = {}, {}
    for name, method in competitors(design, float(np.mean(rates))).items():
        looks = method(data)
        right = looks.rejects & (looks.effect > 0)
        power = right.any(axis=1) if name in ANY_LOOK else right[:, -1]
        half = looks.half[:, -1]
        cells[name] = (
            100 * float(np.median(half[np.isfinite(half)])) if np.isfinite(half).any() else np.nan,
            100 * float(power.mean()),
        )
        missed[name] = int((~looks.covers(effect)).sum())
    for ours in METHODS:
        answers = ask(ours, trials, lifts=True)
        half = (answers.high - answers.low)[:, 0, -1] / 2
        cells[ours] = (100 * float(np.median(half)), 100 * float((answers.direction[:, 0] > 0).mean()))
        missed[ours] = int(answers.misses(np.array([effect])).sum())
        missed[f"{ours}, lift"] = int(answers.lift_misses(np.array([rates[1] / rates[0] - 1])).sum())
    return cells, missed


def table_2b(replications: int, seed: int, pool: Executor) -> Iterator[str | Promise]:
    """Half widths, power and simultaneous coverage; boundary shapes; estimates when the base rate drifts."""
    settings = [(rates, design) for rates in EFFECTS for design in (FIFTY, thompson(0.02), thompson(0.10))]
    found = list(pool.map(partial(width_and_power, replications, seed), settings))
    yield "2b. Median half width at the end in points / power in % (earlier study); naive ones at their nominal level"
    yield f"{'':26}" + "".join(f"{f'{rates[0]}->{rates[1]} {design.name}':>25}" for rates, design in settings)
    for name, before in earlier.WIDTH_AND_POWER.items():
        if name not in found[0][0]:
            continue
        row = [f"{name:26}"]
        for (rates, design), (cells, _), (half, power) in zip(settings, found, before, strict=True):
            width, chance = cells[name]
            row.append(f"{f'{beside(width, half, 2)} / {beside(chance, power, 0)}':>25}")
            if name in METHODS and half is not None:
                text = f"{name}: half width within 3 % of {half}, {rates[1]} {design.name}"
                yield Promise(text, abs(width / half - 1) <= WIDTH_TOLERANCE + 0.005 / half, width)
        yield "".join(row)
    yield ""
    yield "Interval misses the truth at some look, %"
    for name in (
        "pooled z",
        "gbstats sequential",
        "MAD sequence",
        "AIPW + AsympCS",
        *METHODS,
        *(f"{m}, lift" for m in METHODS),
    ):
        yield f"{name:26}" + "".join(f"{percent(missed[name], replications):25.1f}" for _, missed in found)
        if name.split(",")[0] in METHODS:
            for (rates, design), (_, missed) in zip(settings, found, strict=True):
                yield at_most(
                    f"{name}: interval misses at some look, {rates[1]} {design.name}", missed[name], replications
                )
    yield from _shapes(replications, seed)
    yield from _drifting(replications, seed, pool)


def _shapes(replications: int, seed: int) -> Iterator[str]:
    trials = thompson(0.10).run((0.20, 0.24), replications, seed)
    z = walk(trials)
    times = np.arange(1, EPOCHS + 1) / EPOCHS
    crossed = {
        name: z / np.sqrt(times) >= np.array(naive.shape_bounds(EPOCHS, delta))
        for name, delta in (("O'Brien-Fleming", 0.0), ("Wang-Tsiatis 0.25", 0.25), ("Pocock", 0.5))
    }
    crossed["anytime"] = rejections("anytime", trials)
    yield ""
    yield "Boundary shapes, 0.20->0.24, floor 0.10: power / share of the list sent when it stops, % (earlier study)"
    for name, found in crossed.items():
        stopped = np.where(found.any(axis=1), found.argmax(axis=1) + 1, EPOCHS) / EPOCHS
        power, share = earlier.SHAPES[name]
        yield f"{name:26}{beside(100 * found.any(axis=1).mean(), power):>15} / {beside(100 * stopped.mean(), share, 0)}"


DRIFTS = {"flat": np.ones(EPOCHS), "falling": np.linspace(1.5, 0.5, EPOCHS), "rising": np.linspace(0.5, 1.5, EPOCHS)}


def estimates(replications: int, seed: int, drift: str) -> dict[str, Cell]:
    """Mean and median estimate, in points, of a difference of 2 points on a drifting base rate."""
    base = 0.20 * DRIFTS[drift]
    trials = thompson(0.10).run(np.column_stack((base, base + 0.02)), replications, seed)
    data = naive.TwoArms.of(trials)
    n, total, _ = naive.inverse_propensity(data)
    final = {
        "pooled z": naive.pooled_z(data).effect[:, -1],
        "AIPW": (total / n)[:, -1],
        "GrowthBook period z": naive.period_weighted_z(data).effect[:, -1],
    }
    final |= {method: ask(method, trials).effect[:, 0, -1] for method in METHODS}
    return {name: (100 * float(np.nanmean(e)), 100 * float(np.nanmedian(e))) for name, e in final.items()}


def _drifting(replications: int, seed: int, pool: Executor) -> Iterator[str | Promise]:
    found = list(pool.map(partial(estimates, replications, seed), DRIFTS))
    yield ""
    yield "Estimate of 2.00 points, floor 0.10: mean, median (earlier study) where the base rate is"
    yield f"{'':26}" + "".join(f"{drift:>30}" for drift in DRIFTS)
    for name, before in earlier.DRIFTING.items():
        pairs = zip(found, zip(before[::2], before[1::2], strict=True), strict=True)
        cells = [
            f"{beside(cell[name][0], mean, 2)}, {beside(cell[name][1], median, 2)}" for cell, (mean, median) in pairs
        ]
        yield f"{name:26}" + "".join(f"{cell:>30}" for cell in cells)
    for drift, cell in zip(DRIFTS, found, strict=True):
        for method in METHODS if drift != "flat" else ():
            ratio = abs(cell[method][0] - 2) / abs(cell["pooled z"][0] - 2)
            yield Promise(
                f"{method}: bias under a quarter of the pooled difference's, {drift} rates", ratio < 0.25, 100 * ratio
            )


# -- 2c: what a floor costs --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class EvenFirst:
    """Even for some epochs, then Thompson sampling."""

    then: ThompsonShares
    share: float

    def weights(self, trials: Floats, successes: Floats, progress: float) -> Floats:
        """Shares of the next epoch. See `Allocation.weights`."""
        chosen: Allocation = Even() if progress < self.share - 1e-9 else self.then
        return chosen.weights(trials, successes, progress)


def price(replications: int, seed: int, setting: tuple[Design, tuple[float, float]]) -> Cell:
    """Successes lost against sending everybody the better arm, and power of ``sequential`` in %."""
    design, (worse, better) = setting
    trials = design.run((worse, better), replications, seed)
    lost = (better - worse) * float(trials.n[..., 0].sum(axis=1).mean())
    z = walk(trials)
    found = rejections("sequential", trials) & (z > 0)
    return lost, 100 * float(found.any(axis=1).mean())


def table_2c(replications: int, seed: int, pool: Executor) -> Iterator[str | Promise]:
    """What a floor costs and buys."""
    effects = ((0.20, 0.22), (0.03, 0.036), (0.20, 0.25))
    designs = {floor: FIFTY if floor is None else thompson(floor) for floor in earlier.FLOORS}
    jobs = [(design, rates) for design in designs.values() for rates in effects]
    found = iter(pool.map(partial(price, replications, seed), jobs))
    yield "2c. What a floor costs: successes lost / power of sequential at any look, % (earlier study)"
    yield f"{'floor per arm':26}" + "".join(f"{f'{a}->{b}':>32}" for a, b in effects)
    for floor, before in earlier.FLOORS.items():
        cells = [_price(next(found), old) for old in before]
        yield f"{'50/50' if floor is None else f'{floor:.2f}':26}" + "".join(f"{cell:>32}" for cell in cells)
    ways = {f"{epochs} epochs, floor 0.10": thompson(0.10, epochs=epochs) for epochs in earlier.EPOCHS}
    slow = EvenFirst(then=ThompsonShares(min_weight=0.05), share=0.2)
    ways["5 even epochs, then 0.05"] = Design(name="slow start", allocation=slow)
    jobs = [(design, (0.20, 0.22)) for design in ways.values()]
    figures = [*earlier.EPOCHS.values(), earlier.SLOW_START]
    yield ""
    for name, cell, old in zip(ways, pool.map(partial(price, replications, seed), jobs), figures, strict=True):
        yield f"{name:26}{_price(cell, old):>32}"


def _price(cell: Cell, before: Cell) -> str:
    return f"{beside(cell[0], before[0])} / {beside(cell[1], before[1], 0)}"


# -- 2e: several arms --------------------------------------------------------------------------------------------------


def four_arms(replications: int, seed: int, setting: tuple[tuple[float, ...], float]) -> dict[str, int]:
    """How often four arms lead to a claim, by the naive rules and by ours."""
    rates, floor = setting
    trials = thompson(floor).run(rates, replications, seed)
    best = int(np.argmax(rates))
    sums = trials.n.sum(axis=1), trials.successes.sum(axis=1)
    order = np.argsort(sums[1] / np.maximum(sums[0], 1), axis=1)[:, [0, -1]]
    extremes = [np.take_along_axis(total, order, 1).astype(np.float64) for total in sums]
    share = np.full((len(order), 1), 0.5)
    pair = naive.TwoArms(
        n_a=extremes[0][:, :1], k_a=extremes[1][:, :1], n_b=extremes[0][:, 1:], k_b=extremes[1][:, 1:], share_b=share
    )
    against_control = np.zeros(replications, dtype=np.bool_)
    for arm in (1, 2, 3):
        looks = naive.pooled_z(naive.TwoArms.of(trials, 0, arm))
        cut = 2.394  # two-sided 0.05 / 3
        against_control |= (looks.rejects & (np.abs(looks.effect) * 1.959964 >= cut * looks.half)).any(axis=1)
    chances = np.stack([_chances(trials, look) for look in range(1, EPOCHS + 1)], axis=1)
    counts = {
        "best against worst, one look": int(naive.pooled_z(pair).ever.sum()),
        "pooled z against control, Bonferroni": int(against_control.sum()),
        "P(best) 95 %, any look": int((chances.max(axis=2) >= 0.95).any(axis=1).sum()),
        "P(best) 95 %, right": int((chances[..., best] >= 0.95).any(axis=1).sum()),
    }
    for method in METHODS:
        answers = ask(method, trials)
        effects = np.array(rates[1:]) - rates[0]
        counts |= {
            f"{method} against control": int(answers.claims.sum()),
            f"{method} finds the best against control": int((answers.direction[:, best - 1] > 0).sum()),
            f"{method} names a winner": int((answers.winner >= 0).sum()),
            f"{method} names the right one": int((answers.winner == best).sum()),
            f"{method} misses": int(answers.misses(effects).sum()),
        }
    return counts


def _chances(trials: Trials, look: int) -> Floats:
    n, k = trials.n[:, :look].sum(axis=1), trials.successes[:, :look].sum(axis=1)
    return chance_of_best(1.0 + k, 1.0 + n - k)


def table_2e(replications: int, seed: int, pool: Executor) -> Iterator[str | Promise]:
    """Four arms."""
    floors = (0.02, 0.05, 0.10)
    same: list[tuple[float, ...]] = [(rate,) * 4 for rate in (0.20, 0.03)]
    tie, one = (0.20, 0.20, 0.22, 0.22), (0.20, 0.20, 0.20, 0.23)
    settings: list[tuple[tuple[float, ...], float]] = [(rates, f) for rates in (*same, tie, one) for f in floors]
    found = dict(zip(settings, pool.map(partial(four_arms, replications, seed), settings), strict=True))
    yield "2e. Four arms, % of experiments, floors 0.02 / 0.05 / 0.10 (earlier study: a range, or the three floors)"

    def line(title: str, rates: tuple[float, ...], name: str, before: str | None = None) -> str:
        cells = " / ".join(f"{percent(found[rates, floor][name], replications):.2f}" for floor in floors)
        old = (
            ""
            if before is None
            else "  (" + ", ".join(f"{v:g}" for v in earlier.FOUR_ARMS[before] if v is not None) + ")"
        )
        return f"{title:62}{cells}{old}"

    for rates in same:
        yield f"all {rates[0]}"
        for name in ("best against worst, one look", "pooled z against control, Bonferroni"):
            yield line(f"  {name}", rates, name, name)
        yield line("  P(best) 95 %, any look", rates, "P(best) 95 %, any look")
        for method in METHODS:
            known = f"{method} against control" if method == "sequential" else None
            yield line(f"  {method} against control, any look", rates, f"{method} against control", known)
            yield line(f"  {method} names a winner", rates, f"{method} names a winner")
    yield "0.20 0.20 0.22 0.22: a winner is named although two tie"
    yield line("  P(best) 95 %, any look", tie, "P(best) 95 %, any look", "two tie: P(best) 95 %")
    for method in METHODS:
        yield line(
            f"  {method}", tie, f"{method} names a winner", "two tie: sequential" if method == "sequential" else None
        )
    yield "0.20 0.20 0.20 0.23: the good arm is found"
    yield line("  P(best) 95 %, any look", one, "P(best) 95 %, right", "one best: P(best) 95 %")
    for method in METHODS:
        ours = method == "sequential"
        against, alone = "one best: sequential against control", "one best: sequential"
        yield line(
            f"  {method} against control", one, f"{method} finds the best against control", against if ours else None
        )
        yield line(f"  {method} against all", one, f"{method} names the right one", alone if ours else None)
    for (rates, floor), counts in found.items():
        for method in METHODS:
            where = f"four arms {' '.join(f'{rate:g}' for rate in rates)}, floor {floor}"
            yield at_most(
                f"{method}: an interval against control misses, {where}", counts[f"{method} misses"], replications
            )
            if rates in same:
                yield at_most(
                    f"{method}: claims against control, {where}", counts[f"{method} against control"], replications
                )
            false = counts[f"{method} names a winner"] - (
                counts[f"{method} names the right one"] if rates == one else 0
            )
            yield at_most(f"{method}: a false winner, {where}", false, replications)


# -- 2f: sample ratio --------------------------------------------------------------------------------------------------


def table_2f(replications: int, seed: int, pool: Executor) -> Iterator[str | Promise]:
    """Sample-ratio alarms of a healthy bandit."""
    del pool
    trials = thompson(0.10).run((0.20, 0.22), replications, seed)
    n, sizes = trials.n[..., 1].astype(np.float64), trials.n.sum(axis=2).astype(np.float64)
    share = trials.weights[..., 1]

    def chi_square(expected: Floats) -> Booleans:
        total = sizes.sum(axis=1)
        statistic = (n.sum(axis=1) - expected * total) ** 2 / (total * expected * (1 - expected))
        return np.asarray(chdtrc(1, statistic) < SRM_ALPHA)

    z = (n - sizes * share).cumsum(axis=1) / np.sqrt((sizes * share * (1 - share)).cumsum(axis=1))
    extreme = 2 * ndtr(-np.abs(z)) < SRM_ALPHA
    counts = [
        Counts(a, k, weights=w, looks=EPOCHS)
        for a, k, w in zip(trials.n, trials.successes, trials.weights, strict=True)
    ]
    alarms = {
        "chi-square against equal shares": chi_square(np.full(replications, 0.5)),
        "chi-square against the last weights": chi_square(share[:, -1]),
        "chi-square against the mean of the weights": chi_square(share.mean(axis=1)),
        "martingale at the end": extreme[:, -1],
        "martingale at 25 looks, fixed cut": extreme.any(axis=1),
        "abmail (mixture boundary, any look)": np.array([not srm(c, alpha=SRM_ALPHA).ok for c in counts]),
    }
    yield "2f. Sample-ratio alarms of a healthy bandit, alpha 0.001, floor 0.10, % (earlier study)"
    for name, alarmed in alarms.items():
        yield f"{name:48}{beside(100 * float(alarmed.mean()), earlier.SAMPLE_RATIO[name], 2)}"
    yield at_most(
        "sample ratio: a healthy bandit accused",
        int(alarms["abmail (mixture boundary, any look)"].sum()),
        replications,
        SRM_ALPHA,
    )


# -- the command -------------------------------------------------------------------------------------------------------

TABLES: dict[str, Table] = {
    "2a": table_2a, "2b": table_2b, "2c": table_2c, "2e": table_2e, "2f": table_2f, "grid": grid, "claims": claims,
}  # fmt: skip
WITHIN = {"claims"}  # what another table holds, too


class Here(Executor):
    """Runs every job at once, in this process."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run it."""
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a promise is broken."""
    parser = argparse.ArgumentParser(description="Error rates, coverage and power in simulated experiments.")
    parser.add_argument("--replications", type=int, default=2_000, help="experiments per cell, at least 200")
    parser.add_argument("--table", choices=TABLES, action="append", help="all but claims by default; may be repeated")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args(arguments)
    if options.replications < 200:
        parser.error(f"--replications is {options.replications}, must be at least 200: fewer prove nothing")
    promises: list[Promise] = []
    with Here() if options.jobs == 1 else ProcessPoolExecutor(options.jobs) as pool:
        for name in options.table or [table for table in TABLES if table not in WITHIN]:
            for line in TABLES[name](options.replications, options.seed, pool):
                if isinstance(line, Promise):
                    promises.append(line)
                else:
                    print(line, flush=True)
            print()
    broken = [promise for promise in promises if not promise.kept]
    print(
        f"{len(promises) - len(broken)} of {len(promises)} promises kept, {options.replications:,} replications a cell"
    )
    for promise in broken:
        print(f"BROKEN  {promise.text}: {promise.figure:.2f}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
