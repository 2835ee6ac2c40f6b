"""Peeking and sample ratios on real experiments: 45 online experiments of ASOS, 2,433 headline tests of Upworthy.

Run: ``python -m benchmarks.real_data``. The data lie outside the repository; ``ABMAIL_DATA`` names their folder,
``../shared/data`` beside the repository otherwise.

ASOS: every series (experiment, variant, metric) has count, mean and variance of both arms so far, at every look. It is
read in two ways.

*As it stands.* At each look the data so far are one epoch, compared by Welch's test (what peeking does) and under the
anytime boundary, with a horizon of 25 times the first look's units. Users of early days go on buying, so the values
of a look are no values of new users alone: neighbouring looks are more alike than a sum over new units would be. The
spread at each look is right all the same, and looks that are more alike cross less (Slepian's inequality).

*By difference.* Epochs are what was added between looks: counts, sums and sums of squares subtracted. Where an arm got
fewer than 30 new units, or its sum of squares fell by more than the means explain (old users' values change, orders
come back), the difference is no set of values, and the look is merged with the next; what is left at the end is
dropped. The anytime sum over such epochs is nearly the difference of the sums so far, and bears it that old users'
orders are booked on new ones. `sequential` does not, because it weighs epochs as planned and takes the units of each
for new: it has no place here.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abmail._later import Later
from abmail._mean_score import FEWEST_UNITS, MeanPair, any_look, one_look
from abmail.stats import Counts, Moments, compare_means, srm

Floats = NDArray[np.float64]

ALPHA = 0.05
HORIZON = 25
"""Looks like the first that a decision is expected to take: fixed before anything is read."""
LARGE = 6.0
"""Standard errors at the last look from which an effect is called large."""


def data_folder() -> Path:
    """Where the real data lie."""
    return Path(os.environ.get("ABMAIL_DATA", Path(__file__).parents[2] / "shared" / "data"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One metric of one variant against its control, cumulative, at every look.

    Attributes:
        name: Experiment, variant and metric.
        n: Units so far, (n_looks, 2): control and treatment.
        mean: Mean so far.
        variance: Variance so far.
    """

    name: tuple[str, str, str]
    n: Floats
    mean: Floats
    variance: Floats

    @property
    def scatter(self) -> Floats:
        """Sum of squares around the mean so far."""
        return self.variance * (self.n - 1)

    @property
    def horizon(self) -> float:
        """Units of both arms at which a decision is expected."""
        return HORIZON * float(self.n[0].sum())

    def looks(self) -> MeanPair:
        """Each look as one epoch by itself, (n_looks, 1)."""
        scatter = self.scatter
        return MeanPair(
            n_a=self.n[:, :1],
            value_a=self.mean[:, :1],
            scatter_a=scatter[:, :1],
            n_b=self.n[:, 1:],
            value_b=self.mean[:, 1:],
            scatter_b=scatter[:, 1:],
            level=Later(lambda: np.ones((len(self.n), 1))),
        )

    def peeks(self) -> Floats:
        """Welch's p-value at every look."""
        return one_look(self.looks()).p_value()

    def crossings(self) -> NDArray[np.bool_]:
        """At which looks the anytime interval of the data so far leaves out 0."""
        return any_look(self.looks(), ALPHA, self.horizon).crossed(ALPHA)[:, 0]

    def epochs(self) -> Moments:
        """What was added between looks, merged where it is no set of values."""
        kept = [0]
        parts = [(self.n[0], self.mean[0], self.scatter[0])]
        for t in range(1, len(self.n)):
            added = self._added(kept[-1], t)
            if added is not None:
                kept.append(t)
                parts.append(added)
        n, mean, scatter = (np.stack(column) for column in zip(*parts, strict=True))
        return Moments(n, mean[..., None], scatter[..., None, None])

    def _added(self, start: int, end: int) -> tuple[Floats, Floats, Floats] | None:
        """Units, means and scatter between two looks; None where they are no set of values."""
        n_old, n_all = self.n[start], self.n[end]
        n = n_all - n_old
        if (n < FEWEST_UNITS).any():
            return None
        mean = (n_all * self.mean[end] - n_old * self.mean[start]) / n
        scatter = self.scatter[end] - self.scatter[start] - n_old * n / n_all * (mean - self.mean[start]) ** 2
        return None if (scatter < 0).any() else (n, mean, scatter)


def asos(folder: Path) -> list[Series]:
    """Every series in order of time; looks without a variance are left out."""
    rows: defaultdict[tuple[str, str, str], list[list[float]]] = defaultdict(list)
    columns = ("time_since_start", "count_c", "count_t", "mean_c", "mean_t", "variance_c", "variance_t")
    for row in table(folder / "asos" / "asos.csv.gz"):
        numbers = [float(row[name] or "nan") for name in columns]
        kept = rows[row["experiment_id"], row["variant_id"], row["metric_id"]]
        if np.isfinite(numbers).all():
            kept.append(numbers)
    found = []
    for name, all_looks in rows.items():
        looks = np.array(sorted(all_looks)).reshape(-1, len(columns))
        found.append(Series(name=name, n=looks[:, 1:3], mean=looks[:, 3:5], variance=looks[:, 5:7]))
    return found


def upworthy(folder: Path) -> dict[bool, list[Counts]]:
    """Every headline test, by whether it was created in the window that the archive itself calls faulty."""
    rows: defaultdict[tuple[bool, str], list[tuple[int, int]]] = defaultdict(list)
    for row in table(folder / "upworthy" / "upworthy.csv.gz"):
        rows[row["in_problem_window"] == "1", row["test_id"]].append((int(row["impressions"]), int(row["clicks"])))
    tests: dict[bool, list[Counts]] = {True: [], False: []}
    for (faulty, _), arms in rows.items():
        if len(arms) > 1:
            tests[faulty].append(Counts([n for n, _ in arms], [k for _, k in arms]))
    return tests


def table(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a packed CSV file."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the methods say about one series.

    Attributes:
        name: Experiment, variant and metric.
        z: Welch's standard errors at the last look.
        ends: Whether Welch's test has p < .05 at the last look.
        peeked: Whether it has at some look.
        anytime: Whether the anytime interval of the data so far left out 0 at some look.
        by_epoch: The same with epochs by difference.
        looks: Number of looks.
        epochs: Number of epochs by difference.
    """

    name: tuple[str, str, str]
    z: float
    ends: bool
    peeked: bool
    anytime: bool
    by_epoch: bool
    looks: int
    epochs: int


def read(series: Series) -> Reading:
    """Put one series to every method."""
    peeks, epochs = series.peeks(), series.epochs()
    p_value = compare_means(epochs, method="anytime", alpha=ALPHA, horizon=series.horizon).arms[1].p_value
    return Reading(
        name=series.name,
        z=float(one_look(series.looks()).z[-1, 0]),
        ends=bool(peeks[-1] < ALPHA),
        peeked=bool((peeks < ALPHA).any()),
        anytime=bool(series.crossings().any()),
        by_epoch=p_value is not None and p_value <= ALPHA,
        looks=len(series.n),
        epochs=len(epochs),
    )


def print_asos(everything: list[Series]) -> None:
    """What peeking does to the series, and what the anytime interval does."""
    readings = [read(series) for series in everything if len(series.n) > 1]
    looks, epochs = sum(r.looks for r in readings), sum(r.epochs for r in readings)
    print(f"ASOS: {len(everything)} series, {len(readings)} of them with variances at two looks or more")
    print(f"  {looks:,} looks became {epochs:,} epochs by difference")
    for label, flags in (
        ("Welch's test at the last look", [r.ends for r in readings]),
        ("Welch's test at some look (peeking)", [r.peeked for r in readings]),
        ("anytime, data so far, some look", [r.anytime for r in readings]),
        ("anytime, epochs by difference, some look", [r.by_epoch for r in readings]),
    ):
        print(f"  {label:42} {np.mean(flags):6.1%}  ({sum(flags)})")
    large = sorted((r for r in readings if abs(r.z) >= LARGE), key=lambda r: -abs(r.z))
    print(f"  {len(large)} effects of {LARGE:g} standard errors or more at the last look (experiment/variant/metric):")
    for r in large:
        found = [name for name, yes in (("so far", r.anytime), ("by difference", r.by_epoch)) if yes]
        print(f"    {'/'.join(r.name):12} z {r.z:+6.1f}  found: {', '.join(found) or 'no'}")


def print_upworthy(tests: dict[bool, list[Counts]]) -> None:
    """How often the sample-ratio check alarms, in the archive's faulty window and outside."""
    print("Upworthy: sample-ratio alarms at 0.001, equal shares")
    for faulty, found in tests.items():
        alarms = sum(not srm(counts).ok for counts in found)
        where = "in the faulty window" if faulty else "outside"
        print(f"  {where:42} {alarms / max(len(found), 1):6.1%}  ({alarms} of {len(found)})")


def main() -> None:
    """Measure and print."""
    folder = data_folder()
    if not folder.is_dir():
        raise SystemExit(f"no real data in {folder}: set ABMAIL_DATA to their folder")
    print_asos(asos(folder))
    print_upworthy(upworthy(folder))


if __name__ == "__main__":
    main()
