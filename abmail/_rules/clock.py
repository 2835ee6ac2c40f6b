"""The hours of a definition on a wall clock: which minutes are open, and when the clock itself is changed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from abmail.spec import SendTimes

__all__ = ["ClockChange", "clock_changes", "is_quiet", "open_minutes"]


class ClockChange(NamedTuple):
    """A day on which a zone's clock is put forward or back.

    Attributes:
        day: By the clock of the zone.
        begin: First time of the day that is skipped, or that comes twice.
        end: First time behind that.
        skipped: Whether these times do not exist on that day; they come twice else.
    """

    day: date
    begin: time
    end: time
    skipped: bool

    def holds(self, moment: time) -> bool:
        """Whether a time of day is skipped or comes twice on that day."""
        return self.begin <= moment and (moment < self.end or not self.end.hour)


def open_minutes(times: SendTimes) -> int:
    """Minutes of an allowed day in which mail may go out."""
    minutes = (time(*divmod(minute, 60)) for minute in range(1440))
    return sum((times.between is None or each in times.between) and not is_quiet(times, each) for each in minutes)


def is_quiet(times: SendTimes, moment: time) -> bool:
    """Whether a time of day lies in a stretch in which nothing goes out."""
    return any(moment in stretch for stretch in times.quiet or ())


@lru_cache(maxsize=64)
def clock_changes(zone: str, first: date, days: int = 366) -> tuple[ClockChange, ...]:
    """When a zone's clock is changed within so many days from a date on."""
    return tuple(_changes(ZoneInfo(zone), datetime(first.year, first.month, first.day, tzinfo=UTC), days))


def _changes(info: ZoneInfo, start: datetime, days: int) -> Iterator[ClockChange]:
    for number in range(days):
        low = start + timedelta(days=number)
        high = low + timedelta(days=1)
        before, after = _offset(info, low), _offset(info, high)
        if before == after:
            continue
        while high - low > timedelta(minutes=1):
            middle = low + (high - low) / 2
            low, high = (middle, high) if _offset(info, middle) == before else (low, middle)
        edge = high.replace(second=0, microsecond=0, tzinfo=None)
        begin, end = sorted((edge + before, edge + after))
        yield ClockChange(begin.date(), begin.time(), end.time(), skipped=after > before)


def _offset(info: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(info).utcoffset() or timedelta()
