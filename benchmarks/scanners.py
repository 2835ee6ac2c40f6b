"""Scanners in front of the recipients: people's clicks kept, machines' clicks let through, and who is ahead.

Run: ``python -m benchmarks.scanners [--days N] [--stored N] [--mails N] [--seed S] [--jobs J]``. Each row is a number
of days of `benchmarks._scanner_day`, judged by the rules alone: mails that people clicked and that count, mails that
machines alone clicked and that count, and the days on which the better of two variants has the higher rate and a
two-proportion z-test proves it, with verdicts and without. A second table has the same days sent through the tracker's
judging into the store, and what the report says of them: slower, and the counts have to be the same.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks._scanner_day import BROWSERS, SLOW, Day, play_day
from benchmarks._scanner_rules import counted_clicks
from benchmarks._scanner_run import Counted, played

RATES: Final = (0.04, 0.065)
BETTER: Final = "short"
_PROOF: Final = 1.96


@dataclass(frozen=True, slots=True)
class World:
    """A row of the table: links in the mails of each variant, and what else `play_day` is asked for."""

    links: tuple[int, int]
    asked: dict[str, Any] = field(default_factory=dict)

    def day(self, seed: int, mails: int) -> Day:
        """One day of it."""
        return play_day(np.random.default_rng(seed), n=mails, rates=RATES, links=self.links, **self.asked)


WORLDS: Final = {
    "8 links against 2": World((8, 2)),
    "10 links against 1": World((10, 1)),
    **{f"{n} link{'s' * (n > 1)} in both": World((n, n)) for n in (1, 2, 3, 8)},
    **{f"8 against 2, {share:.0%} scanned": World((8, 2), {"scanned": share}) for share in (0.1, 0.5)},
    "dozens at each company": World((8, 2), {"crowded": True}),
    "the same, 1 link in both": World((1, 1), {"crowded": True}),
    "slow: a link in 1-10 minutes": World((8, 2), {"vendors": SLOW}),
    "real browsers that read": World((8, 2), {"vendors": BROWSERS}),
    "8 against 2, trap": World((8, 2), {"hidden": True}),
    "10 against 1, trap": World((10, 1), {"hidden": True}),
    "1 link in both, trap": World((1, 1), {"hidden": True}),
}
STORED: Final = ("8 links against 2", "10 links against 1", "10 against 1, trap")


class Judged(NamedTuple):
    """What the rules make of a day."""

    people: int
    kept: int
    machines: int
    taken: int
    z: float  # above 0 where the better variant is ahead
    naive: float


def judged(seed: int, *, world: World, mails: int) -> Judged:
    """One day, by the rules alone."""
    day = world.day(seed, mails)
    counts, alone = counted_clicks(day, world.links), day.touched & ~day.clicked
    return Judged(
        int(day.clicked.sum()), int(counts[day.clicked].sum()), int(alone.sum()), int(counts[alone].sum()),
        _z(day, counts), _z(day, day.clicked | day.touched),
    )  # fmt: skip


def _z(day: Day, counts: NDArray[np.bool_]) -> float:
    n, successes = (np.bincount(day.arms, weights, 2) for weights in (None, counts))
    pooled, rates = successes.sum() / n.sum(), successes / n
    return float((rates[1] - rates[0]) / math.sqrt(pooled * (1 - pooled) * (1 / n).sum()))


def stored(seed: int, *, world: World, mails: int) -> Counted:
    """One day, through tracker and store."""
    return played(world.day(seed, mails), links=world.links)


def row(name: str, found: Sequence[Judged]) -> str:
    """A line of the table."""
    people, kept, machines, taken = (sum(getattr(f, each) for f in found) for each in Judged._fields[:4])
    cells = [f"{people:7}{kept / people:8.2%}", f"{machines:8}{taken / machines:8.2%}"]
    for z in ([f.z for f in found], [f.naive for f in found]):
        shares = (np.mean([rule(each) for each in z]) for rule in (_ahead, _proved, _refuted))
        cells.append(" ".join(f"{share:7.0%}" for share in shares))
    return f"{name:30}" + "  ".join(cells)


def _ahead(z: float) -> bool:
    return z > 0


def _proved(z: float) -> bool:
    return z > _PROOF


def _refuted(z: float) -> bool:
    return z < -_PROOF


def stored_row(name: str, found: Sequence[Counted]) -> str:
    """A line of the second table."""
    people, machines = sum(f.people for f in found), sum(f.machines for f in found)
    kept, taken = sum(f.kept for f in found) / people, sum(f.taken for f in found) / machines
    n = len(found)
    cells = (
        f"{people:7}{kept:8.2%}", f"{machines:8}{taken:8.2%}", f"{sum(f.ahead[0] == BETTER for f in found) / n:8.0%}",
        f"{sum(f.winner == BETTER for f in found) / n:8.0%}", f"{sum(f.ahead[1] == BETTER for f in found) / n:8.0%}",
        f"{sum(f.naive == BETTER for f in found) / n:8.0%}",
    )  # fmt: skip
    return f"{name:30}" + "  ".join(cells)


def table(pool: ProcessPoolExecutor, seeds: Sequence[int], mails: int) -> Iterator[str]:
    """The rules alone."""
    yield f"{len(seeds)} days of {mails} mails; clicks {RATES[0]:.1%} against {RATES[1]:.1%}; the rules alone"
    yield f"{'':30}{'people: mails':>15}  {'machines alone':>16}  {'with verdicts':^23}  {'without verdicts':^23}"
    yield f"{'':30}{'n':>7}{'kept':>8}  {'n':>8}{'taken':>8}" + f"  {'ahead':>7} {'proved':>7} {'wrong':>7}" * 2
    for name, world in WORLDS.items():
        yield row(name, list(pool.map(partial(judged, world=world, mails=mails), seeds)))


def stored_table(pool: ProcessPoolExecutor, seeds: Sequence[int], mails: int) -> Iterator[str]:
    """Through tracker and store."""
    yield f"\n{len(seeds)} days of {mails} mails through tracker and store; ahead and winner as the report has them"
    for name in STORED:
        yield stored_row(name, list(pool.map(partial(stored, world=WORLDS[name], mails=mails), seeds)))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=40)
    parser.add_argument("--stored", type=int, default=4, help="of these, days that go through the store, too")
    parser.add_argument("--mails", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    asked = parser.parse_args()
    seeds = [asked.seed * 10_000 + number for number in range(asked.days)]
    with ProcessPoolExecutor(asked.jobs) as pool:
        for line in table(pool, seeds, asked.mails):
            print(line, flush=True)
        for line in stored_table(pool, seeds[: asked.stored], asked.mails):
            print(line, flush=True)


if __name__ == "__main__":
    main()
