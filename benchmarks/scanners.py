"""Scanners in front of 30 % of the recipients: people's clicks kept, machines' clicks let through, and who wins.

Run: ``python -m benchmarks.scanners [--replications N] [--mails N] [--seed S] [--jobs J]``. Every replication is a day
of `benchmarks._scanner_day`: two variants, of which the one with few links is the better one, the mails sent over some
minutes; the requests go through the tracker's judging into the store in the order of time, and the report is read ten
days later. The same without verdicts stands beside it. ``trap`` has a link in each mail that people don't see.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Final

import numpy as np

from benchmarks._scanner_day import play_day
from benchmarks._scanner_run import Counted, played

RATES: Final = (0.04, 0.065)
BETTER: Final = "short"
WORLDS: Final = {
    "8 links against 2": ((8, 2), False),
    "8 links against 2, trap": ((8, 2), True),
    "10 links against 1": ((10, 1), False),
    "10 links against 1, trap": ((10, 1), True),
}


def one_day(seed: int, *, mails: int, links: tuple[int, int], hidden: bool) -> Counted:
    """One replication."""
    day = play_day(np.random.default_rng(seed), n=mails, rates=RATES, links=links, hidden=hidden)
    return played(day, links=links)


def row(name: str, found: Sequence[Counted]) -> str:
    """A line of the table."""
    people, machines = sum(f.people for f in found), sum(f.machines for f in found)
    kept, taken = sum(f.kept for f in found) / people, sum(f.taken for f in found) / machines
    n = len(found)
    cells = (
        f"{kept:8.2%}", f"{taken:8.2%}", f"{np.mean([f.clicks_kept for f in found]):8.2%}",
        f"{np.mean([f.clicks_taken for f in found]):8.2%}", f"{sum(f.ahead[0] == BETTER for f in found) / n:7.0%}",
        f"{sum(f.winner == BETTER for f in found) / n:7.0%}",
        f"{sum(f.winner not in {BETTER, None} for f in found) / n:7.0%}",
        f"{sum(f.ahead[1] == BETTER for f in found) / n:9.0%}", f"{sum(f.naive == BETTER for f in found) / n:8.0%}",
        f"{sum(f.naive not in {BETTER, None} for f in found) / n:8.0%}",
    )  # fmt: skip
    return f"{name:26}" + " ".join(cells)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replications", type=int, default=40)
    parser.add_argument("--mails", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    asked = parser.parse_args()
    seeds = [asked.seed * 10_000 + number for number in range(asked.replications)]
    print(f"{asked.replications} days of {asked.mails} mails; clicks {RATES[0]:.1%} against {RATES[1]:.1%}")
    print(f"{'':26}   mails of       single clicks    with verdicts          without verdicts")
    print(f"{'':26}  people machines  people machines  ahead  winner   wrong     ahead   winner    wrong")
    with ProcessPoolExecutor(asked.jobs) as pool:
        for name, (links, hidden) in WORLDS.items():
            days = pool.map(partial(one_day, mails=asked.mails, links=links, hidden=hidden), seeds)
            print(row(name, list(days)), flush=True)


if __name__ == "__main__":
    main()
