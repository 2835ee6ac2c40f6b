"""When a mail may go out, and at which hour it does: the part of a definition, and what its keys contradict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, time, timedelta
from pathlib import PurePosixPath
from typing import Annotated, Any, Final

from abmail._fields import Refusal, choice
from abmail._free_days import CountryDay, days_of_file
from abmail._spec_problems import Origin
from abmail._spec_types import (
    WEEK,
    Clock,
    DayList,
    Days,
    Duration,
    FreeDay,
    Hours,
    LocalMoment,
    LocalZone,
    Mode,
    Number,
    Share,
    Stretches,
    Window,
    Zone,
)
from abmail._values import BadValue, TimeWindow, format_time, shown

__all__ = ["LATER_DEFAULTS", "Caps", "SendTimes", "bad_caps", "bad_times", "with_days_of_files"]

LATER_DEFAULTS: Final[Mapping[str, Any]] = {"within": "1d", "control": 0.1, "explore": 0.05}
"""Keys that the first definitions did not have, with what they mean there."""

_MORNING: Final = time(10)
_MOST_CONTROL: Final = 0.5
_LONGEST_GAP: Final = timedelta(days=62)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How often one person may be mailed, by all experiments together.

    Attributes:
        per_day: Most mails in any 24 hours.
        per_week: Most mails in any 7 days.
        gap: Least time between two mails.
    """

    per_day: Number | None = None
    per_week: Number | None = None
    gap: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendTimes:
    """When a mail may go out.

    Attributes:
        mode: ``fixed`` sends at ``at``; ``learn`` at the best hour of each recipient; ``test`` compares hours.
        between: Window of the day; the whole day where it is absent.
        at: Local time of day, from which on mail goes out; with ``learn`` and ``test`` that of the comparison group.
        days: Days of the week, Monday first.
        quiet: Stretches of the day in which nothing goes out, whatever the window says.
        holidays: Days without mail: countries (JP), dates (2026-12-29, 2026-12-29 JP), files of them (closed.csv).
        zone: ``recipient`` (each one's own) or an IANA name for everybody.
        default_zone: IANA name for recipients whose zone is unknown.
        within: How long a mail may wait for a better hour, with the modes ``learn`` and ``test``.
        deadline: Local date and time before which a mail has to be out; who cannot get it in time gets none.
        control: Share of the people who always get their mail at ``at``, so that the gain can be proved; at most 0.5.
        explore: Share of the other mails whose hour is drawn at random, with mode ``learn``.
        slots: Hours to compare with mode ``test``; every allowed hour where it is absent.
        caps: How often one person may be mailed, by all experiments together.
        per_hour: Most mails of this experiment in an hour; those who lose least by it move to another one.
        expires: How long after it falls due a mail may still go out; without end where it is absent.
    """

    mode: Annotated[Mode, choice(Mode)] = "fixed"
    between: Window | None = None
    at: Clock | None = None
    days: Days = WEEK
    quiet: Stretches | None = None
    holidays: DayList | None = None
    zone: LocalZone = "recipient"
    default_zone: Zone = "UTC"
    within: Duration = timedelta(days=1)
    deadline: LocalMoment | None = None
    control: Share = 0.1
    explore: Share = 0.05
    slots: Hours | None = None
    caps: Caps | None = None
    per_hour: Number | None = None
    expires: Duration | None = None

    @property
    def weekdays(self) -> frozenset[int]:
        """The allowed days as numbers, 0 = Monday."""
        return frozenset(WEEK.index(day) for day in self.days)

    @property
    def is_planned(self) -> bool:
        """Whether each mail gets a moment of its own before it gets a variant."""
        return self.mode != "fixed" or any(x is not None for x in (self.deadline, self.caps, self.per_hour))

    @property
    def home(self) -> time | None:
        """The time of day of those for whom none is chosen; None for as soon as the window allows."""
        if self.at is not None or self.mode == "fixed":
            return self.at
        return _MORNING if self.between is None or _MORNING in self.between else self.between.start

    @property
    def countries(self) -> tuple[str, ...]:
        """Countries whose public holidays are free of mail."""
        return tuple(day for day in self.holidays or () if isinstance(day, str))

    @property
    def free_days(self) -> frozenset[date]:
        """Dates that are free of mail for everybody."""
        return frozenset(day for day in self.holidays or () if isinstance(day, date))

    @property
    def country_days(self) -> tuple[CountryDay, ...]:
        """Dates that are free of mail in one country."""
        return tuple(day for day in self.holidays or () if isinstance(day, CountryDay))


def with_days_of_files(times: SendTimes, origin: Origin) -> tuple[SendTimes, list[Refusal]]:
    """Put the days that files list in the place of the files' names.

    Args:
        times: As written.
        origin: The text that they were read from: files lie in its project's folder.

    Returns:
        The same with days, each once; and what is wrong with the files, by location in the definition.
    """
    if not any(isinstance(day, PurePosixPath) for day in times.holidays or ()):
        return times, []
    found: dict[FreeDay, None] = {}
    refusals: list[Refusal] = []
    for index, day in enumerate(times.holidays or ()):
        try:
            found.update(dict.fromkeys(_days(day, origin)))
        except BadValue as problem:
            refusals.append((("send_time", "holidays", index), problem))
    return replace(times, holidays=tuple(found)), refusals


def _days(day: FreeDay, origin: Origin) -> tuple[FreeDay, ...]:
    if not isinstance(day, PurePosixPath):
        return (day,)
    if origin.folder is None:
        raise BadValue(f"{shown(str(day))} is a file, and plain data has no folder", hint="write its days as dates")
    return days_of_file(origin.folder, str(day))


def bad_caps(read: Mapping[str, Any]) -> Iterator[Refusal]:
    """Say what caps contradict; locations below them."""
    day, week, gap = read.get("per_day"), read.get("per_week"), read.get("gap")
    if day is not None and week is not None and week < day:
        yield ("per_week",), BadValue(f"{week} a week are fewer than {day} a day", hint="leave per_day out")
    if gap is not None and gap > _LONGEST_GAP:
        yield ("gap",), BadValue(f"is more than {_LONGEST_GAP.days} days", hint="write 60d")


def bad_times(read: Mapping[str, Any]) -> Iterator[Refusal]:
    """Say what the times of sending contradict; locations below them.

    What says no more than the default is accepted anywhere: a resolved definition spells out every key.
    """
    at, between, mode = read.get("at"), read.get("between"), read.get("mode", "fixed")
    if at is not None and between is not None and at not in between:
        yield ("at",), BadValue(f"{format_time(at)} is outside of between, {between}", hint="leave one of the two out")
    usual = {field.name: field.default for field in fields(SendTimes)}
    for key, modes in (
        ("within", "learn or test"),
        ("control", "learn or test"),
        ("explore", "learn"),
        ("slots", "test"),
    ):
        if key in read and read[key] != usual[key] and mode not in modes.split(" or "):
            yield (key,), BadValue(f"has no meaning with mode {mode}", hint=f"remove it, or write mode: {modes}")
    if read.get("control", 0.0) > _MOST_CONTROL:
        yield ("control",), BadValue("more than half would not get the hour that is chosen", hint="write 0.1")
    yield from _bad_slots(read.get("slots") or (), between)
    yield from _bad_quiet(read.get("quiet") or (), between)


def _bad_slots(slots: tuple[int, ...], between: TimeWindow | None) -> Iterator[Refusal]:
    for index, hour in enumerate(slots):
        if between is not None and not _meets(hour, between):
            yield ("slots", index), BadValue(f"the hour from {hour:02d}:00 is outside of between, {between}")


def _meets(hour: int, window: TimeWindow) -> bool:
    return any(time(hour, minute) in window for minute in range(60))


def _bad_quiet(quiet: tuple[TimeWindow, ...], between: TimeWindow | None) -> Iterator[Refusal]:
    if not quiet:
        return
    minutes = (time(*divmod(minute, 60)) for minute in range(1440))
    allowed = (each for each in minutes if between is None or each in between)
    if all(any(each in stretch for stretch in quiet) for each in allowed):
        yield ("quiet",), BadValue("no minute of the day is left for mail", hint="write shorter stretches")
