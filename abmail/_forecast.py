"""When the mails of a plan would go out: waves, days and zones, by the clocks on the walls of the recipients.

A wave is reckoned to go out at once when it opens. Who waits in a zone that is closed then comes with a later one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from abmail._opening import free_days, is_open, next_opening
from abmail.spec import Experiment

__all__ = ["Forecast", "Moment", "Wave", "Zone", "forecast", "shared", "waves_ahead"]

_MOST: Final = 400  # waves that are reckoned out


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """An epoch that would open.

    Attributes:
        number: From 0.
        at: When, aware UTC.
        zones: Zone -> mails.
        rest: Whether it is the rest of a test, which gets what the test found best.
    """

    number: int
    at: datetime
    zones: Mapping[str, int]
    rest: bool = False

    @property
    def mails(self) -> int:
        """Their number."""
        return sum(self.zones.values())


@dataclass(frozen=True, slots=True)
class Moment:
    """Mails that go out together in a zone."""

    zone: str
    at: datetime
    mails: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """A time zone of the audience.

    Attributes:
        name: IANA name.
        mails: Mails that go out there.
        first: The first one's moment, by the clock there.
        last: The last one's.
        free: Holidays between the two, on which nothing goes out.
    """

    name: str
    mails: int
    first: datetime
    last: datetime
    free: tuple[date, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When mails would go out.

    Attributes:
        waves: The epochs that would open, first to last.
        zones: Where there is mail for, the largest first.
        days: Day by the recipients' clocks -> mails.
        never: Mails for which no moment is left.
        sampled: People whose moments stand for those of all; 0 where everybody's is known.
    """

    waves: tuple[Wave, ...]
    zones: tuple[Zone, ...]
    days: Mapping[date, int]
    never: int = 0
    sampled: int = 0

    @property
    def first(self) -> datetime | None:
        """The first moment, aware UTC; None where nothing goes out."""
        return min((zone.first.astimezone(UTC) for zone in self.zones), default=None)

    @property
    def last(self) -> datetime | None:
        """The last one."""
        return max((zone.last.astimezone(UTC) for zone in self.zones), default=None)


def waves_ahead(
    experiment: Experiment,
    waiting: Mapping[str, int],
    sizes: Sequence[int],
    *,
    now: datetime,
    opened: int = 0,
    last: datetime | None = None,
    sent: int = 0,
    ships: bool = False,
) -> Iterator[Wave]:
    """The epochs that a sender who ticks whenever something is due would open, as far as nobody decides the test.

    Args:
        experiment: The definition.
        waiting: Zone -> mails that have no cell yet.
        sizes: Planned sizes of the epochs, those that are open already included.
        now: When sending begins or goes on.
        opened: Epochs that are open already.
        last: When the last of these opened.
        sent: Mails in them.
        ships: Whether the test is decided, and everybody who waits gets one cell.
    """
    settings, left = experiment.send_time, {zone: n for zone, n in waiting.items() if n}
    at, number = now if last is None or ships else max(now, last + experiment.allocation.every), opened
    while left and number - opened < _MOST:
        within = [zone for zone in left if is_open(settings, zone, at)]
        if not within:
            at = min(next_opening(settings, zone, at) for zone in left)
            continue
        reachable = sum(left[zone] for zone in within)
        room, rest = _room(experiment, sizes, number, sent, ships=ships)
        taken = shared({zone: left[zone] for zone in within}, reachable if room is None else min(room, reachable))
        yield Wave(number=number, at=at, zones=taken, rest=rest)
        left = {zone: n - taken.get(zone, 0) for zone, n in left.items() if n > taken.get(zone, 0)}
        sent, number = sent + sum(taken.values()), number + 1
        at = at if ships else at + experiment.allocation.every


def _room(
    experiment: Experiment, sizes: Sequence[int], number: int, sent: int, *, ships: bool
) -> tuple[int | None, bool]:
    """Mails that an epoch takes at most (None: everybody who waits), and whether it is the rest of a test."""
    if experiment.allocation.policy == "test_then_send":
        test = sizes[0] if sizes else 0
        return (None, True) if ships or sent >= test else (test - sent, False)
    if ships or experiment.allocation.standing or number >= len(sizes) - 1:
        return None, ships
    return sizes[number], False


def shared(left: Mapping[str, int], n: int) -> dict[str, int]:
    """``n`` mails over zones in proportion to who waits there, whole numbers: the largest remainders get one more."""
    total = sum(left.values())
    exact = {zone: n * waiting / total for zone, waiting in left.items()}
    taken = {zone: int(share) for zone, share in exact.items()}
    order = sorted(exact, key=lambda zone: (taken[zone] - exact[zone], zone))
    for zone in order[: n - sum(taken.values())]:
        taken[zone] += 1
    return {zone: mails for zone, mails in taken.items() if mails}


def forecast(
    experiment: Experiment,
    waves: Sequence[Wave],
    moments: Sequence[Moment] | None = None,
    *,
    never: float = 0.0,
    sampled: int = 0,
) -> Forecast:
    """Days and zones of what would go out.

    Args:
        experiment: The definition.
        waves: The epochs.
        moments: When their mails go out; when the epochs open where it is absent.
        never: Mails for which no moment is left.
        sampled: People whose moments stand for all.
    """
    if moments is None:
        moments = [Moment(zone, wave.at, mails) for wave in waves for zone, mails in wave.zones.items()]
    days: defaultdict[date, float] = defaultdict(float)
    by_zone: defaultdict[str, list[Moment]] = defaultdict(list)
    for moment in moments:
        days[moment.at.astimezone(ZoneInfo(moment.zone)).date()] += moment.mails
        by_zone[moment.zone].append(moment)
    zones = [_zone(experiment, name, found) for name, found in by_zone.items()]
    return Forecast(
        waves=tuple(waves), zones=tuple(sorted(zones, key=lambda zone: (-zone.mails, zone.name))),
        days=dict(zip(sorted(days), _whole([days[day] for day in sorted(days)]), strict=True)), never=round(never),
        sampled=sampled,
    )  # fmt: skip


def _zone(experiment: Experiment, name: str, moments: Sequence[Moment]) -> Zone:
    clock = ZoneInfo(name)
    first, last = (pick(m.at for m in moments).astimezone(clock) for pick in (min, max))
    span = [first.date() + timedelta(days=day) for day in range((last.date() - first.date()).days + 1)]
    free: set[date] = set()
    if experiment.send_time.holidays is not None:
        free = {d for year in {day.year for day in span} for d in free_days(experiment.send_time, name, year)}
    return Zone(
        name=name, mails=round(sum(m.mails for m in moments)), first=first, last=last,
        free=tuple(day for day in span if day in free),
    )  # fmt: skip


def _whole(parts: Sequence[float]) -> list[int]:
    """Whole numbers with the sums that the parts have on the way."""
    return [int(n) for n in np.diff(np.rint(np.cumsum([0.0, *parts])))]
