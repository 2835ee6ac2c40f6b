"""Real experiments: peeking fools Welch's test and not ours, large effects are found, bad randomisation is noticed."""

from __future__ import annotations

import csv
import gzip
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from abmail.stats import Moments, compare_means, srm
from benchmarks import real_data

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[1]
FOLDER = real_data.data_folder()
needs_data = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no real data in {FOLDER}; set ABMAIL_DATA to have them")


@cache
def series() -> tuple[real_data.Series, ...]:
    return tuple(one for one in real_data.asos(FOLDER) if len(one.n) > 1)


@needs_data
def test_of_the_series_that_peeking_calls_significant_most_do_not_cross_the_anytime_boundary() -> None:
    readings = [real_data.read(one) for one in series()]
    share = {name: np.mean([getattr(r, name) for r in readings]) for name in ("ends", "peeked", "anytime", "by_epoch")}

    assert len(readings) == 227  # of 236; nine have no variances
    assert share["peeked"] == pytest.approx(0.608, abs=0.005)
    assert share["ends"] == pytest.approx(0.291, abs=0.005)
    assert share["anytime"] < 0.32
    assert share["by_epoch"] < 0.32
    large = [r for r in readings if abs(r.z) >= real_data.LARGE]
    assert len(large) == 27
    assert {r.name[0] for r in large} == {
        "2c8a04", "79f97f", "4509ec", "fdaf62", "ee6ff7", "81761c", "9b959e", "6f8a33"
    }  # fmt: skip
    assert all(r.anytime and r.by_epoch for r in large)


@needs_data
def test_epochs_by_difference_add_up_to_the_data_so_far() -> None:
    for one in series()[::10]:
        whole = one.epochs().total()
        end = int(np.searchsorted(one.n[:, 0], whole.n[0, 0]))
        assert whole.n[0].tolist() == one.n[end].tolist()
        assert whole.mean[0, :, 0].tolist() == pytest.approx(one.mean[end].tolist())
        assert whole.variance[0].tolist() == pytest.approx(one.variance[end].tolist())


@needs_data
def test_the_public_function_says_the_same_of_a_single_look() -> None:
    for one in series()[::25]:
        look = Moments.from_summary(one.n[-1], one.mean[-1], one.variance[-1])
        arm = compare_means(look, method="anytime", horizon=one.horizon).arms[1]
        assert arm.ci_lower is not None
        assert arm.ci_upper is not None
        assert (arm.ci_lower > 0 or arm.ci_upper < 0) == one.crossings()[-1]
        assert compare_means(look).arms[1].p_value == pytest.approx(float(one.peeks()[-1]))


@needs_data
def test_the_sample_ratio_check_sees_the_faulty_window_of_upworthy_and_little_else() -> None:
    tests = real_data.upworthy(FOLDER)
    alarms = {faulty: np.mean([not srm(counts).ok for counts in found]) for faulty, found in tests.items()}

    assert len(tests[True]) + len(tests[False]) == 2_433
    assert alarms[True] == pytest.approx(0.70, abs=0.03)
    assert alarms[False] < 0.01


# --- Without the data -------------------------------------------------------------------------------------------------


def pack(path: Path, rows: Iterable[dict[str, object]]) -> None:
    listed = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(listed[0]))
        writer.writeheader()
        writer.writerows(listed)


def made_up(folder: Path) -> None:
    """One series with an effect, one without variances; a sound and a faulty headline test."""
    rng = np.random.default_rng(1)
    y = rng.normal(0, 1, (12, 2, 500)) + np.array([[0.0], [0.5]])
    sofar = [y[: t + 1].swapaxes(0, 1).reshape(2, -1) for t in range(12)]
    looks = [
        {
            "experiment_id": "e", "variant_id": 1, "metric_id": metric, "time_since_start": t + 1,
            "count_c": 500.0 * (t + 1), "count_t": 500.0 * (t + 1),
            "mean_c": values[0].mean(), "mean_t": values[1].mean(),
            "variance_c": values[0].var(ddof=1) if metric == 1 else "", "variance_t": values[1].var(ddof=1),
        }
        for metric in (1, 2)
        for t, values in enumerate(sofar)
    ]  # fmt: skip
    pack(folder / "asos" / "asos.csv.gz", reversed(looks))
    tests = [("a", 0, 1_000), ("a", 0, 1_010), ("b", 1, 1_000), ("b", 1, 1_500), ("alone", 0, 5)]
    pack(
        folder / "upworthy" / "upworthy.csv.gz",
        [{"test_id": name, "in_problem_window": bad, "impressions": n, "clicks": 1} for name, bad, n in tests],
    )


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "benchmarks.real_data"],
        cwd=ROOT, env={**os.environ, "ABMAIL_DATA": str(folder)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command_prints_what_it_found(tmp_path: Path) -> None:
    made_up(tmp_path)
    ran = run(tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert "ASOS: 2 series, 1 of them with variances at two looks or more" in ran.stdout
    assert "12 looks became 12 epochs by difference" in ran.stdout
    assert "found: so far, by difference" in ran.stdout
    assert "in the faulty window" in ran.stdout
    assert "100.0%  (1 of 1)" in ran.stdout
    assert "0.0%  (0 of 1)" in ran.stdout


def test_without_the_data_the_command_says_where_it_looked(tmp_path: Path) -> None:
    ran = run(tmp_path / "nowhere")

    assert ran.returncode == 1
    assert ran.stderr.strip() == f"no real data in {tmp_path / 'nowhere'}: set ABMAIL_DATA to their folder"


def test_looks_that_are_no_set_of_values_are_merged_with_the_next() -> None:
    n = np.array([[100, 100], [110, 200], [200, 300], [300, 400]], dtype=np.float64)  # ten new units: too few
    variance = np.array([[4, 4], [4, 4], [4, 4], [0.1, 4]])  # and a sum of squares that falls
    one = real_data.Series(name=("e", "1", "1"), n=n, mean=np.ones((4, 2)), variance=variance)
    epochs = one.epochs()

    assert epochs.n.tolist() == [[100, 100], [100, 200]]
    assert epochs.variance.ravel().tolist() == pytest.approx([4, 4, 4 * 100 / 99, 4 * 200 / 199])
