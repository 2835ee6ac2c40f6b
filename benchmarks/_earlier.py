"""What an earlier study measured for the same questions, with simulators of its own: each stands beside our figure.

5,000 replications a cell: standard error 0.3 points at 5 %. None where it gave no figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

Row = Sequence[float | None]

NONE: Final = None

FALSE_ALARMS: Final[Mapping[float, Mapping[str, Row]]] = {
    0.20: {
        "pooled z": (5.0, 24.0, 11.1, 26.5, 8.5, 26.6, 6.2, 25.8, 45.1, 24.9),
        "Welch t": (5.0, 24.0, 12.4, 29.7, 10.0, 29.7, 6.8, 27.8, 47.1, 25.7),
        "chance to win 95 %": (9.6, 41.7, 19.5, 46.9, 17.6, 47.6, 13.1, 45.6, 64.5, 44.7),
        "gbstats sequential": (0.2, 1.5, 1.3, 2.2, 0.7, 2.3, 0.3, 2.2, 5.8, 1.6),
        "spotify group sequential": (2.4, 4.4, NONE, NONE, 4.7, 7.3, 4.0, 7.2, NONE, NONE),
        "GrowthBook period z": (5.1, 23.8, 4.9, 30.4, 4.0, 29.7, 3.8, 27.3, 26.6, 27.2),
        "AW-AIPW": (4.9, NONE, 5.7, NONE, 6.0, NONE, 5.0, NONE, 4.9, 4.7),
        "BOLS": (5.1, NONE, 4.8, NONE, 5.8, NONE, 4.7, NONE, 4.6, 4.9),
        "Mantel-Haenszel z": (5.1, 23.8, 10.3, 25.6, 8.9, 27.0, 6.1, 26.4, 26.2, 24.2),
        "AIPW + AsympCS": (0.2, 0.8, 0.5, 5.0, 0.4, 3.3, 0.1, 1.7, 1.7, 1.7),
        "MAD sequence": (0.2, 0.6, 0.7, 7.9, 0.4, 3.7, 0.3, 2.1, 2.0, 1.5),
        "MAD sequence, t* = n": (NONE,) * 10,
        "savvi, equal shares": (NONE, NONE, NONE, NONE, NONE, NONE, NONE, 99.0, NONE, NONE),
        "P(best) 95 %": (NONE, NONE, NONE, NONE, NONE, NONE, NONE, 45.0, NONE, NONE),
        "sequential": (3.4, 4.6, 2.9, 4.5, 3.6, 5.5, 2.9, 4.8, 4.3, 4.7),
        "anytime": (0.2, 1.4, 0.1, 0.2, 0.2, 0.5, 0.2, 1.0, 1.0, 1.3),
        "exact": (0.1, 1.3, 0.1, 0.1, 0.3, 0.7, 0.1, 1.1, 1.3, 1.6),
    },
    0.03: {
        "pooled z": (4.6, 25.5, 9.0, 24.0, 7.3, 24.1, 5.9, 24.9, 25.7, 25.9),
        "Welch t": (4.6, 25.5, 14.4, 35.0, 11.9, 34.2, 8.2, 32.6, 33.5, 28.3),
        "chance to win 95 %": (9.8, 43.3, 21.3, 51.5, 18.8, 51.5, 15.0, 50.0, 50.5, 46.6),
        "gbstats sequential": (0.3, 1.5, 3.6, 7.2, 2.2, 7.0, 0.7, 4.6, 5.0, 2.4),
        "spotify group sequential": (2.9, 5.6, NONE, NONE, 7.7, 13.0, 4.8, 10.2, NONE, NONE),
        "GrowthBook period z": (4.6, 25.5, 7.5, 43.3, 5.4, 40.5, 4.8, 33.8, 33.1, 30.6),
        "AW-AIPW": (4.8, NONE, 7.6, NONE, 7.0, NONE, 6.4, NONE, 6.1, 6.1),
        "BOLS": (4.6, NONE, 4.3, NONE, 4.8, NONE, 4.7, NONE, 4.6, 4.7),
        "Mantel-Haenszel z": (NONE,) * 10,
        "AIPW + AsympCS": (0.2, 1.0, 3.0, 14.6, 1.4, 10.1, 0.4, 3.6, 3.5, 2.9),
        "MAD sequence": (0.2, 0.9, 3.1, 14.8, 1.5, 10.4, 0.5, 3.4, 3.4, 2.7),
        "MAD sequence, t* = n": (0.0, 0.0, 2.9, 7.9, 1.0, 3.9, 0.2, 0.4, 0.5, 0.5),
        "savvi, equal shares": (NONE, NONE, NONE, NONE, NONE, NONE, NONE, 84.0, NONE, NONE),
        "P(best) 95 %": (NONE, NONE, NONE, NONE, NONE, NONE, NONE, 42.0, NONE, NONE),
        "sequential": (3.0, 4.7, 2.3, 3.2, 3.0, 4.4, 2.9, 4.7, 4.5, 4.6),
        "anytime": (0.3, 1.4, 0.0, 0.0, 0.1, 0.1, 0.1, 0.5, 0.6, 1.0),
        "exact": (0.3, 1.8, 0.1, 0.1, 0.0, 0.1, 0.3, 1.0, 1.1, 1.2),
    },
}
"""% of A/A tests; columns 50/50 end, any look, then floors 0, 0.02, 0.10 alike, week and late at any look."""

WIDTH_AND_POWER: Final[Mapping[str, Sequence[tuple[float | None, float | None]]]] = {
    "pooled z": ((1.60, 69), (NONE, NONE), (NONE, NONE), (0.70, 38), (NONE, NONE), (NONE, NONE)),
    "BOLS": ((1.60, 69), (2.61, 25), (2.11, 44), (0.70, 38), (0.96, 15), (0.84, 23)),
    "AW-AIPW": ((1.60, 69), (2.44, 31), (2.04, 49), (0.70, 38), (NONE, NONE), (NONE, NONE)),
    "spotify group sequential": ((1.81, 64), (NONE, NONE), (NONE, NONE), (0.79, 35), (NONE, NONE), (NONE, NONE)),
    "gbstats sequential": ((2.49, 36), (3.48, 13), (3.08, 22), (1.09, 15), (NONE, NONE), (1.22, 15)),
    "MAD sequence": ((2.80, 25), (5.30, 13), (3.79, 16), (1.11, 12), (NONE, NONE), (1.37, 13)),
    "AIPW + AsympCS": ((2.50, 33), (4.75, 12), (3.38, 19), (1.09, 13), (NONE, NONE), (1.35, 13)),
    "sequential": ((1.73, 67), (2.84, 24), (2.30, 43), (0.76, 37), (1.05, 13), (0.91, 21)),
    "anytime": ((2.49, 36), (3.84, 3), (3.22, 14), (1.09, 15), (1.45, 1), (1.29, 4)),
    "exact": ((NONE, 36), (NONE, 3), (NONE, 15), (NONE, 15), (NONE, 2), (NONE, 7)),
}
"""Median half width in points and power in %; 0.20 -> 0.22 even, floor 0.02, floor 0.10, then 0.03 -> 0.036 alike."""

SHAPES: Final[Mapping[str, tuple[float, float]]] = {
    "O'Brien-Fleming": (90.5, 67),
    "Wang-Tsiatis 0.25": (89.2, 60),
    "Pocock": (81, 55),
    "anytime": (67, 72),
}
"""Power and share of the list sent when it stops, %; 0.20 -> 0.24, floor 0.10."""

DRIFTING: Final[Mapping[str, Row]] = {
    "pooled z": (NONE, NONE, 1.08, 0.99, 5.04, 6.00),
    "AIPW": (2.00, NONE, 2.03, 2.00, 2.03, 2.03),
    "GrowthBook period z": (2.00, NONE, NONE, NONE, NONE, NONE),
    "sequential": (2.09, 2.01, 2.12, 2.07, 1.96, 1.94),
    "anytime": (NONE,) * 6,
}
"""Mean and median estimate of 2.00 points: flat, falling from 150 % to 50 %, rising; floor 0.10."""

FLOORS: Final[Mapping[float | None, Sequence[tuple[float, float]]]] = {
    0.0: ((34, 17), (15.1, 9), (26, 29)),
    0.01: ((34, 21), (15.2, 10), (30, 53)),
    0.02: ((37, 25), (15.4, 13), (34, 66)),
    0.05: ((40, 32), (16.3, 18), (47, 89)),
    0.10: ((46, 42), (17.6, 22), (68, 98)),
    0.20: ((59, 53), (20.5, 28), (113, 100)),
    0.30: ((72, 62), (23.6, 34), (158, 100)),
    None: ((100, 66), (30.0, 37), (250, 100)),
}
"""Successes lost and power in % by floor (None: even split); 0.20 -> 0.22, 0.03 -> 0.036, 0.20 -> 0.25."""

EPOCHS: Final[Mapping[int, tuple[float, float]]] = {
    2: (69, 57), 3: (60, 51), 5: (52, 48), 10: (49, 42), 25: (46, 41), 50: (46, 40),
}  # fmt: skip
"""Opens lost and power in % by number of epochs; floor 0.10, 0.20 -> 0.22."""

SLOW_START: Final = (44.0, 36.0)
"""Opens lost and power in % of five even epochs and a floor of 0.05."""

FOUR_ARMS: Final[Mapping[str, Row]] = {
    "best against worst, one look": (19, 24),
    "pooled z against control, Bonferroni": (12, 22),
    "sequential against control": (2.0, 4.0),
    "two tie: P(best) 95 %": (13, 15),
    "two tie: sequential": (0, 0.3),
    "one best: sequential against control": (18, 30, 45),
    "one best: P(best) 95 %": (63, 71),
    "one best: sequential": (1, 4, 15),
}
"""Range in %, or one figure for each of the floors 0.02, 0.05, 0.10."""

SAMPLE_RATIO: Final[Mapping[str, float]] = {
    "chi-square against equal shares": 95,
    "chi-square against the last weights": 91,
    "chi-square against the mean of the weights": 0.1,
    "martingale at the end": 0.1,
    "martingale at 25 looks, fixed cut": 0.9,
    "abmail (mixture boundary, any look)": 0.1,
}
"""% of healthy bandits accused at alpha 0.001."""
