"""Wall clocks: the offset of a zone at many moments at once, local hours of the week, and back to UTC.

Offsets are asked of `zoneinfo` alone, once a day of the span in question; where two days differ the change is found to
the second by bisection. On a day on which the clock is put forward a local time may not exist: the first moment after
the gap stands in for it. On a day on which it is put back a local time comes twice: the first of the two is taken
(PEP 495, fold=0).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from abmail._hazard import WEEK

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["Clock", "clock", "known_zone", "local_hour_of_week", "to_utc"]

DAY: Final = 86_400
_EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday
FIRST: Final = int(datetime(1971, 1, 1, tzinfo=UTC).timestamp())
LAST: Final = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())
"""Seconds since the epoch between which clocks are known."""


def known_zone(name: str) -> bool:
    """Whether a text is the IANA name of a zone, such as Asia/Tokyo."""
    if name in {"Factory", "localtime"}:
        return False
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class Clock:
    """The offsets of one zone over a span of time.

    Attributes:
        zone: IANA name.
        changes: (m,) moments at which the offset changes, seconds since the epoch, ascending.
        offsets: (m + 1,) seconds ahead of UTC before the first change, between changes, and after the last.
    """

    zone: str
    changes: Integers
    offsets: Integers

    def offset(self, at: ArrayLike) -> Integers:
        """(n,) seconds ahead of UTC at moments in seconds since the epoch."""
        return np.asarray(self.offsets[np.searchsorted(self.changes, np.asarray(at), side="right")])

    def next_change(self, at: ArrayLike) -> tuple[Floats, Integers]:
        """When the clock is next put forward or back after each moment, and by how many seconds; infinity and 0."""
        index = np.searchsorted(self.changes, np.asarray(at), side="right")
        changes = np.append(self.changes.astype(np.float64), np.inf)
        steps = np.append(np.diff(self.offsets), 0)
        return changes[index], steps[index]


def clock(zone: str, first: float, last: float) -> Clock:
    """The offsets of a zone between two moments, seconds since the epoch.

    Raises:
        ValueError: The zone is unknown, or a moment lies outside 1971 to 2099.
    """
    if not known_zone(zone):
        raise ValueError(f"{zone!r} is no IANA time zone; write one such as Asia/Tokyo")
    if not (first >= FIRST and last < LAST):
        raise ValueError(f"times lie between {first} and {last}, must be seconds since the epoch from 1971 to 2099")
    # Whole years, so that calls with nearby spans share what was found.
    begin, end = datetime.fromtimestamp(first, UTC).year, datetime.fromtimestamp(last, UTC).year + 2
    return _clock(zone, begin, end)


@lru_cache(maxsize=1_024)
def _clock(zone: str, begin: int, end: int) -> Clock:
    info = ZoneInfo(zone)

    def offset(at: int) -> int:
        found = datetime.fromtimestamp(at, info).utcoffset()
        return 0 if found is None else round(found.total_seconds())

    start = int(datetime(begin - 1, 12, 1, tzinfo=UTC).timestamp())
    stop = int(datetime(min(end, 2100), 2, 1, tzinfo=UTC).timestamp())
    changes, offsets = [], [offset(start)]
    for day in range(start, stop, DAY):
        low, high = day, day + DAY
        while offset(high) != offsets[-1]:
            early, late = low, high
            while late - early > 1:
                middle = (early + late) // 2
                early, late = (middle, late) if offset(middle) == offsets[-1] else (early, middle)
            changes.append(late)
            offsets.append(offset(late))
            low = late
    return Clock(zone, np.array(changes, dtype=np.int64), np.array(offsets, dtype=np.int64))


def local_hour_of_week(at: ArrayLike, offset: ArrayLike) -> Integers:
    """Hour of the week on a wall clock: 0 for Monday 00:00 to 00:59, 167 for Sunday 23:00 to 23:59.

    Args:
        at: (n,) seconds since the epoch, UTC.
        offset: (n,) or one: seconds that the clock is ahead of UTC.
    """
    hours = np.floor((np.asarray(at, dtype=np.float64) + np.asarray(offset)) / 3600).astype(np.int64)
    return np.asarray((hours + 24 * _EPOCH_WEEKDAY) % WEEK)


def to_utc(zone: str, local: ArrayLike) -> Integers:
    """Moments at which a wall clock shows the given times.

    Args:
        zone: IANA name.
        local: (n,) wall clock times as seconds since 1970-01-01 00:00 on that clock, as if it had no offset.

    Returns:
        (n,) seconds since the epoch, UTC. For a time that is skipped, the moment of the change; for one that comes
        twice, the first.
    """
    wall = np.asarray(local, dtype=np.int64)
    if not len(wall):
        return wall
    found = clock(zone, float(wall.min()) - DAY, float(wall.max()) + DAY)
    # Before a change the old offset holds. The first valid reading is the one under the earliest stretch that has it.
    ends = np.append(found.changes + found.offsets[:-1], np.iinfo(np.int64).max)  # wall clock at the end of a stretch
    stretch = np.searchsorted(ends, wall, side="right")
    begins = np.insert(found.changes, 0, np.iinfo(np.int64).min)
    return np.asarray(np.maximum(wall - found.offsets[stretch], begins[stretch]))


def day_start(day: date) -> int:
    """Midnight of a date as a wall clock shows it, in the seconds of `to_utc`."""
    return (day - date(1970, 1, 1)) // timedelta(seconds=1)
