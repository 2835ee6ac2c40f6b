"""The hazard of opening: activity of the recipient at the clock hour, times a decay with the age of the mail.

A mail that lies unopened gives exposure in every hour, and an event in the hour in which it is opened. So an open tells
about the hour in which it happened whatever the hour of sending was. This is a piecewise constant proportional hazard
with two time scales (Holford 1980, Biometrics 36:299; Clayton 1983 on Lexis diagrams); the two scales are found by
alternating their closed-form maximum likelihood estimates.

Hours are whole clock hours: ``slot`` is the local hour of the week of the send (0 = Monday 00:00 … 167), ``age`` the
number of clock hours until the open, and ``HORIZON`` stands for "not within the horizon".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = [
    "CELLS",
    "CELL_OF",
    "COLUMNS",
    "HORIZON",
    "N_CELLS",
    "WEEK",
    "cell_smoother",
    "default_ageing",
    "exposure_table",
    "fit_ageing",
    "outcome",
    "reach",
    "refit_ageing",
    "tally",
    "week_smoother",
]

WEEK: Final = 168
HORIZON: Final = 72
"""Hours after which an open no longer counts."""

COLUMNS: Final = 2 * HORIZON + 1
"""Columns of the table of exposures for each slot: 73 outcomes, then "still unopened when age j begins", j < 72."""

N_CELLS: Final = 48
"""24 hours of a weekday, then 24 hours of a day of the weekend."""

CELL_OF: Final[NDArray[np.int64]] = np.arange(WEEK) % 24 + 24 * (np.arange(WEEK) >= 120)
"""(168,) the cell of each hour of the week."""

CELLS: Final[NDArray[np.float64]] = np.eye(N_CELLS)[CELL_OF]
"""(168, 48) 1 where an hour of the week belongs to a cell."""

_EDGES: Final = np.array([0, 1, 2, 3, 5, 8, 12, 18, 24, 36, 48, 72])
_ROUNDS: Final = 12
_ENOUGH_OPENS: Final = 2_000  # below it the decay is a mix of what was seen and the default


def tally(index: NDArray[Any], weights: NDArray[Any], size: int) -> Floats:
    """(size,) sum of the weights at each index."""
    return np.asarray(np.bincount(index, weights, size), dtype=np.float64)


def outcome(opened: Integers) -> Integers:
    """(n,) column of the tables for an open after that many clock hours; anything past the horizon counts as never."""
    return np.where((opened < 0) | (opened >= HORIZON), HORIZON, opened)


def default_ageing() -> Floats:
    """(72,) decay with the age of a mail that fits published curves: 23 % of opens in the first hour, 77 % in a day."""
    age = np.arange(HORIZON)
    found = 0.85 * np.exp(-age / 1.5) + 0.15 * np.exp(-age / 40)
    return np.asarray(found / found[0], dtype=np.float64)


def fit_ageing(counts: Floats) -> tuple[Floats, Floats]:
    """Separate the clock hour from the age of the mail.

    Args:
        counts: (168, 73) sends by slot and outcome; may be weighted.

    Returns:
        The decay (72,), 1 at age 0, and the activity (168,), mean 1.
    """
    opens, risk = counts[:, :HORIZON], _at_risk(counts)
    hour = (np.arange(WEEK)[:, np.newaxis] + np.arange(HORIZON)) % WEEK
    bins = np.searchsorted(_EDGES, np.arange(HORIZON), side="right") - 1
    by_bin = tally(bins, opens.sum(axis=0), len(_EDGES) - 1)
    by_hour = tally(hour.ravel(), opens.ravel(), WEEK)
    smooth = week_smoother(1.0, lend=1.0)
    acting = np.ones(WEEK)
    fading = default_ageing()
    for _ in range(_ROUNDS):
        expected = tally(bins, (risk * acting[hour]).sum(axis=0), len(by_bin))
        fading = _mixed(_between_centres(by_bin, expected), float(opens.sum()))
        expected = tally(hour.ravel(), (risk * fading).ravel(), WEEK)
        prior = 0.05 * expected.mean() + 1e-9
        rate = (by_hour.sum() + 1e-9) / (expected.sum() + 1e-9)
        acting = (smooth @ by_hour + prior * rate) / (smooth @ expected + prior)
        acting = acting / acting.mean()
    return fading, acting


def refit_ageing(opens: Floats, expected: Floats, n_opens: float) -> Floats:
    """The decay from opens by age and what they would be without any decay, both (72,)."""
    bins = np.searchsorted(_EDGES, np.arange(HORIZON), side="right") - 1
    by_bin = tally(bins, opens, len(_EDGES) - 1)
    return _mixed(_between_centres(by_bin, tally(bins, expected, len(by_bin))), n_opens)


def _at_risk(counts: Floats) -> Floats:
    """(168, 72) sends that lay unopened at each age, those opened in that hour by half."""
    later = counts.sum(axis=1, keepdims=True) - np.cumsum(counts[:, :HORIZON], axis=1)
    return np.asarray(later + 0.5 * counts[:, :HORIZON])


def _between_centres(opens: Floats, expected: Floats) -> Floats:
    """Rates per bin, joined log-linearly between the centres of the bins; 1 at age 0."""
    level = (opens.sum() + 1e-9) / (expected.sum() + 1e-9)
    rate = _falling(opens + 0.5 * level, expected + 0.5)  # half a mail of usual age in each bin, so that none is empty
    centres = (_EDGES[:-1] + _EDGES[1:] - 1) / 2
    found = np.exp(np.interp(np.arange(HORIZON), centres, np.log(rate)))
    return np.asarray(found / found[0])


def _falling(opens: Floats, expected: Floats) -> Floats:
    """Rates that never rise with age, by pooling adjacent violators (Ayer et al. 1955).

    A decay that could rise would explain by age what happens by the clock, where all mails go out at one hour.
    """
    blocks: list[tuple[float, float, int]] = []
    for k, n in zip(opens.tolist(), expected.tolist(), strict=True):
        blocks.append((k, n, 1))
        while len(blocks) > 1 and blocks[-1][0] * blocks[-2][1] > blocks[-2][0] * blocks[-1][1]:
            (a, b, c), (d, e, f) = blocks.pop(), blocks.pop()
            blocks.append((a + d, b + e, c + f))
    return np.repeat([k / n for k, n, _ in blocks], [size for _, _, size in blocks])


def _mixed(seen: Floats, n_opens: float) -> Floats:
    """Geometric mix with the default decay, by the number of opens behind what was seen."""
    share = n_opens / (n_opens + _ENOUGH_OPENS / 4)
    return np.asarray(np.exp(share * np.log(seen) + (1 - share) * np.log(default_ageing())))


def exposure_table(ageing: Floats) -> Floats:
    """Exposure that one send gives to each hour of the week.

    Args:
        ageing: (72,) decay.

    Returns:
        (168, 145, 168): by slot, column and hour of the week. Columns 0 to 71 are opens at that age, which give half of
        their own hour; 72 is a mail that was not opened; 73 + j is what a mail gives before age j.
    """
    base = np.zeros((COLUMNS, WEEK))
    for age in range(HORIZON):
        base[age, :age] = base[HORIZON + 1 + age, :age] = ageing[:age]
        base[age, age] = 0.5 * ageing[age]
    base[HORIZON, :HORIZON] = ageing
    return np.stack([np.roll(base, slot, axis=1) for slot in range(WEEK)])


def reach(ageing: Floats) -> Floats:
    """What makes activity (n, 168) the whole hazard of a mail sent at each hour of the week: a (168, 168) matrix."""
    base = np.concatenate([ageing, np.zeros(WEEK - HORIZON)])
    return np.stack([np.roll(base, slot) for slot in range(WEEK)], axis=1)


def _circular(size: int, bandwidth: float) -> Floats:
    """(size, size) wrapped normal weights; columns and rows sum to 1."""
    away = np.arange(size)
    away = np.minimum(away, size - away)
    kernel = np.exp(-0.5 * (away / bandwidth) ** 2)
    kernel /= kernel.sum()
    return np.stack([np.roll(kernel, shift) for shift in range(size)])


def week_smoother(bandwidth: float, *, lend: float) -> Floats:
    """(168, 168) smoothing of counts by hour of the week.

    Args:
        bandwidth: Of the wrapped normal, hours.
        lend: Share of its counts that a weekday lends to each other weekday, and Saturday and Sunday to each other.
    """
    workday = np.arange(7) < 5
    days = np.where(workday[:, np.newaxis] == workday, lend, 0.0)
    np.fill_diagonal(days, 1.0)
    return np.asarray(_circular(WEEK, bandwidth) @ np.kron(days, np.eye(24)))


def cell_smoother(bandwidth: float) -> Floats:
    """(48, 48) smoothing by hour of the day, within weekdays and within the weekend."""
    return np.asarray(np.kron(np.eye(2), _circular(24, bandwidth)), dtype=np.float64)
