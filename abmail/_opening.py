"""When mail may go out, by the clock on the wall of the people in a zone: windows, quiet hours, days and holidays."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from abmail.sendtime import Rules, country_zones, public_holidays
from abmail.spec import SendTimes

__all__ = ["free_days", "is_open", "next_opening", "rules_of"]

_DAY: Final = timedelta(days=1)
_MINUTE: Final = timedelta(minutes=1)
_HORIZON: Final = 16  # days: a weekly window that a clock change swallows comes back after two weeks
_FREE: Final = 46  # days that holidays may put that off
_YEARS: Final = 256  # of countries and years that are remembered


def is_open(settings: SendTimes, zone: str, now: datetime) -> bool:
    """Whether mail may go out now to people in a zone, by the clock on their wall.

    A window that passes midnight belongs to the day on which it begins. With mode ``fixed``, ``at`` takes away the part
    of it before that time, and never adds any. Holidays are calendar days.
    """
    local = now.astimezone(ZoneInfo(zone))
    begin, length = _window(settings)
    clock = _since_midnight(local.time())
    at = settings.at if settings.mode == "fixed" else None
    wait = timedelta(0) if at is None else (_since_midnight(at) - begin) % _DAY
    begun = local.date() if clock >= begin else local.date() - _DAY
    if not wait <= (clock - begin) % _DAY < length or begun.weekday() not in settings.weekdays:
        return False
    if any(local.time() in stretch for stretch in settings.quiet or ()):
        return False
    return settings.holidays is None or local.date() not in free_days(settings, zone, local.year)


def rules_of(settings: SendTimes, zones: Iterable[str], *, first: datetime, last: datetime) -> Rules:
    """The same for a plan of many mails; the holidays of a zone stand under its name.

    With mode ``fixed`` the window begins at ``at``, so that no mail falls due before it may go out. (Where ``at`` comes
    after midnight in a window that began before, it does not: the window belongs to the day before.)

    Args:
        settings: Of the definition.
        zones: Those of the recipients.
        first: Begin of the plan.
        last: Its end.
    """
    years = range(first.year, last.year + 2)
    free = {zone: frozenset().union(*(free_days(settings, zone, year) for year in years)) for zone in zones}
    return Rules(
        between=_between(settings),
        days=settings.weekdays,
        quiet=tuple((stretch.start, stretch.end) for stretch in settings.quiet or ()),
        holidays={zone: days for zone, days in free.items() if days},
    )


def _between(settings: SendTimes) -> tuple[time, time] | None:
    window = None if settings.between is None else (settings.between.start, settings.between.end)
    begin, end = window or (time(0), time(0))
    at = settings.at if settings.mode == "fixed" else None
    return window if at is None or at <= begin else (at, end)


def free_days(settings: SendTimes, zone: str, year: int) -> frozenset[date]:
    """Days without mail in a zone: those of its country, or of all countries that are named where it is in none."""
    named = {*settings.countries, *(each.country for each in settings.country_days)}
    here = {country for country in named if zone in country_zones(country)} or named
    found = (_public(country, year) for country in settings.countries if country in here)
    days = (each.day for each in settings.country_days if each.country in here)
    return settings.free_days.union(days, *found)


@lru_cache(maxsize=_YEARS)
def _public(country: str, year: int) -> frozenset[date]:
    return public_holidays(country, [year])


def next_opening(settings: SendTimes, zone: str, now: datetime) -> datetime:
    """The first moment at or after ``now`` at which mail may go out to people in a zone.

    Raises:
        ValueError: There is none within two months: every day is a holiday, or ``at`` lies outside of ``between`` (a
            definition with such times is refused).
    """
    if is_open(settings, zone, now):
        return now
    begin = now.astimezone(UTC)
    moments = {*_starts(settings, zone, begin), *_clock_changes(zone, begin, _days(settings))}
    for moment in sorted(m for m in moments if m >= begin):
        if is_open(settings, zone, moment):
            return moment.astimezone(now.tzinfo)
    raise ValueError(f"send_time never opens in {zone}: {settings}")


def _starts(settings: SendTimes, zone: str, begin: datetime) -> Iterator[datetime]:
    """When the wall clock shows a time at which something may begin; twice on a day on which it is put back over it."""
    at = settings.at if settings.mode == "fixed" else None
    clocks = {at or (time(0) if settings.between is None else settings.between.start)}
    clocks |= {stretch.end for stretch in settings.quiet or ()}
    if settings.holidays is not None:
        clocks.add(time(0))
    first = begin.astimezone(ZoneInfo(zone)).date()
    for day, start, fold in itertools.product(range(_days(settings)), sorted(clocks), (0, 1)):
        local = datetime.combine(first + day * _DAY, start.replace(fold=fold), tzinfo=ZoneInfo(zone))
        yield local.astimezone(UTC)


def _days(settings: SendTimes) -> int:
    return _HORIZON if settings.holidays is None else _HORIZON + _FREE


def _clock_changes(zone: str, begin: datetime, days: int) -> Iterator[datetime]:
    """When the wall clock jumps, to the minute: it may jump over the start of a window, or back into one."""
    begin = begin.replace(second=0, microsecond=0)

    def offset(moment: datetime) -> timedelta | None:
        return moment.astimezone(ZoneInfo(zone)).utcoffset()

    for day in range(days):
        low, high = begin + day * _DAY, begin + (day + 1) * _DAY
        old, new = offset(low), offset(high)
        while old != new and high - low > _MINUTE:
            middle = low + (high - low) // _MINUTE // 2 * _MINUTE
            if offset(middle) == old:
                low = middle
            else:
                high = middle
        if old != new:
            yield high


def _window(settings: SendTimes) -> tuple[timedelta, timedelta]:
    """Start of the window since midnight, and its length."""
    window = settings.between
    return (timedelta(0), _DAY) if window is None else (_since_midnight(window.start), window.length)


def _since_midnight(clock: time) -> timedelta:
    return timedelta(hours=clock.hour, minutes=clock.minute, seconds=clock.second, microseconds=clock.microsecond)
