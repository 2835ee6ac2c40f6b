"""Allowed slots: the hours on each wall clock between release and deadline in which a mail may go out.

An hour that the clock skips is no slot; an hour that comes twice is one slot, its first hour. So a plan never loses a
recipient to a clock change and never mails twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from typing import TYPE_CHECKING, Final

import numpy as np

from abmail._calendar import clock, to_utc
from abmail._hazard import WEEK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Booleans = NDArray[np.bool_]

__all__ = ["Caps", "Rules", "Slots", "cap_mask", "open_slots"]

_MINUTES: Final = 1_440
_SHORTEST: Final = 60.0
"""Seconds that must be left of an hour for it to be a slot."""

_THURSDAY: Final = 3
_LONGEST: Final = 62 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When mail may go out, by the clock on the reader's wall.

    Attributes:
        between: Start and end of the daily window; all day when None. A window that passes midnight belongs to the day
            on which it begins; an end of 00:00 is the end of the day.
        days: Allowed days of the week, 0 = Monday.
        quiet: Daily stretches in which nothing goes out, whatever the window says.
        holidays: Dates on which nothing goes out, by country; "" stands for everybody.
    """

    between: tuple[time, time] | None = None
    days: frozenset[int] = frozenset(range(7))
    quiet: tuple[tuple[time, time], ...] = ()
    holidays: Mapping[str, frozenset[date]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.days or not self.days <= frozenset(range(7)):
            raise ValueError(f"days are {sorted(self.days)}, must be some of 0 (Monday) to 6 (Sunday)")
        for start, end in (*self.quiet, *((self.between,) if self.between else ())):
            if start == end:
                raise ValueError(
                    f"a stretch of the day starts and ends at {start:%H:%M}; leave it out, or give it a length"
                )

    def minutes(self) -> tuple[Booleans, Booleans]:
        """(1440,) allowed minutes of a day in the window that began on it, and in the one that began the day before."""
        own, over = np.ones(_MINUTES, np.bool_), np.zeros(_MINUTES, np.bool_)
        if self.between is not None:
            own, over = _stretch(*self.between)
        for start, end in self.quiet:
            first, second = _stretch(start, end)
            own, over = own & ~(first | second), over & ~(first | second)
        return own, over

    def holidays_of(self, country: str) -> frozenset[date]:
        """Dates for people of one country."""
        return self.holidays.get("", frozenset()) | self.holidays.get(country, frozenset())


def _stretch(start: time, end: time) -> tuple[Booleans, Booleans]:
    """Minutes of the day on which a stretch begins, and of the next one."""
    minute = np.arange(_MINUTES)
    first, last = start.hour * 60 + start.minute, end.hour * 60 + end.minute
    if last == 0:
        return minute >= first, np.zeros(_MINUTES, np.bool_)
    if first < last:
        return (minute >= first) & (minute < last), np.zeros(_MINUTES, np.bool_)
    return minute >= first, minute < last


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """The slots of one zone, in the order of time.

    Attributes:
        zone: IANA name.
        hour: (m,) local hour of the week.
        start: (m,) first moment at which a mail may go out, seconds since the epoch, UTC.
        end: (m,) moment before which it must have gone out.
    """

    zone: str
    hour: Integers
    start: Floats
    end: Floats

    def __len__(self) -> int:
        return len(self.hour)


def open_slots(zone: str, *, release: float, deadline: float, rules: Rules, country: str = "") -> Slots:
    """Hours of a wall clock in which a mail may go out.

    Args:
        zone: IANA name.
        release: First moment, seconds since the epoch, UTC.
        deadline: Moment before which the mail must have gone out; at most 62 days later.
        rules: What is allowed.
        country: Whose holidays count, as a key of ``rules.holidays``.

    Returns:
        The slots; there may be none.

    Raises:
        ValueError: The zone is unknown, or the deadline lies before the release or more than 62 days behind it.
    """
    if not release < deadline <= release + _LONGEST:
        raise ValueError(
            f"the deadline is {deadline - release:.0f} s after the release, must be above 0 and at most 62 days"
        )
    wall = clock(zone, release, deadline)
    first = int((release + int(wall.offset(release))) // 3600) - 2
    last = int((deadline + int(wall.offset(deadline))) // 3600) + 2
    hours = np.arange(first, last + 1)
    start, end = to_utc(zone, hours * 3600), to_utc(zone, (hours + 1) * 3600)
    end = np.minimum(end, start + 3600)  # of an hour that comes twice, the first one
    skipped = start + wall.offset(start) - hours * 3600  # seconds by which the hour begins late on its own clock
    begin, stop = _allowed(hours, rules, rules.holidays_of(country))
    begin = np.maximum(start + np.maximum(60 * begin - skipped, 0), release)
    stop = np.minimum(np.minimum(start + 60 * stop - skipped, end), deadline)
    good = stop - begin >= _SHORTEST
    return Slots(
        zone=zone, hour=(hours[good] + 24 * _THURSDAY) % WEEK, start=begin[good].astype(np.float64),
        end=stop[good].astype(np.float64),
    )  # fmt: skip


def _allowed(hours: Integers, rules: Rules, holidays: frozenset[date]) -> tuple[Integers, Integers]:
    """First and last minute of the first allowed stretch of each wall hour; both 0 where there is none."""
    day = hours // 24
    own, over = (x.reshape(24, 60)[hours % 24] for x in rules.minutes())
    free = ~np.isin(day, [(d - date(1970, 1, 1)) // timedelta(days=1) for d in holidays])
    good = np.isin((day + _THURSDAY) % 7, list(rules.days))
    before = np.isin((day - 1 + _THURSDAY) % 7, list(rules.days))
    minutes = (own & good[:, np.newaxis]) | (over & before[:, np.newaxis])
    minutes &= free[:, np.newaxis]
    some = minutes.any(axis=1)
    begin = np.argmax(minutes, axis=1)
    closed = ~minutes & (np.arange(60) > begin[:, np.newaxis])
    stop = np.where(closed.any(axis=1), np.argmax(closed, axis=1), 60)
    return np.where(some, begin, 0), np.where(some, stop, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How often one person may be mailed.

    Attributes:
        per_day: Most mails in any 24 hours.
        per_week: Most mails in any 7 days.
        gap_hours: Least hours between two mails.
    """

    per_day: int | None = None
    per_week: int | None = None
    gap_hours: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("per_day", self.per_day), ("per_week", self.per_week)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, must be 1 or more")
        if not 0 <= self.gap_hours <= 24 * 62:
            raise ValueError(f"gap_hours is {self.gap_hours}, must be from 0 to {24 * 62}")


def cap_mask(slots: Slots, n: int, *, person: Integers, at: Floats, caps: Caps) -> Booleans:
    """Slots in which one more mail keeps to the caps, wherever in the slot it goes out.

    Args:
        slots: Of the people in question.
        n: People.
        person: (k,) index of the person of each other mail, sent or planned.
        at: (k,) when it went or goes out, seconds since the epoch.
        caps: The limits.

    Returns:
        (n, m) bool.
    """
    blocked = np.zeros((n, len(slots) + 1), dtype=np.int64)
    for who, low, high in _full(person, at, caps):
        first = np.searchsorted(slots.end, low, side="right")
        last = np.maximum(np.searchsorted(slots.start, high, side="left"), first)
        np.add.at(blocked, (who, first), 1)
        np.add.at(blocked, (who, last), -1)
    return np.asarray(np.cumsum(blocked[:, :-1], axis=1) == 0)


def keeps_caps(own: Floats, *, person: Integers, at: Floats, caps: Caps) -> Booleans:
    """Whose mail keeps to the caps at its own moment.

    Args:
        own: (n,) moment of one mail to each person, seconds since the epoch.
        person: (k,) index of the person of each other mail, sent or planned.
        at: (k,) when it went or goes out.
        caps: The limits.

    Returns:
        (n,) bool.
    """
    kept = np.ones(len(own), dtype=np.bool_)
    for who, low, high in _full(person, at, caps):
        kept[who[(low < own[who]) & (own[who] < high)]] = False
    return kept


def _full(person: Integers, at: Floats, caps: Caps) -> Iterator[tuple[Integers, Floats, Floats]]:
    """Between which moments one mail more to a person would be too many: person, from, until; for each cap."""
    order = np.lexsort((at, person))
    who, when = np.asarray(person, dtype=np.int64)[order], np.asarray(at, dtype=np.float64)[order]
    for limit, span in ((caps.per_day, 86_400.0), (caps.per_week, 7 * 86_400.0), (1, 3600.0 * caps.gap_hours)):
        if limit is None or not span:
            continue
        first_of, last_of = when[: max(len(when) - limit + 1, 0)], when[limit - 1 :]
        same = (who[limit - 1 :] == who[: len(first_of)]) & (last_of - first_of < span)
        yield who[limit - 1 :][same], last_of[same] - span, first_of[same] + span
