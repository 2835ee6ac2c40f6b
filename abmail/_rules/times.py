"""AB5, time: whether mail can go out when the definition says, and whether the test lasts long enough to be read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Final

from abmail._fields import Location
from abmail._rules.base import Case, Check, Finding
from abmail._rules.clock import clock_changes, is_quiet
from abmail._values import format_duration
from abmail.diagnostics import Rule
from abmail.spec import Metrics, SendTimes

__all__ = ["RULES"]

_SHORT_WAIT: Final = timedelta(hours=6)
_MORNING: Final = time(6)
_NIGHT: Final = time(22)


class ShortWait(Check):
    """Mails may wait for a few hours only to reach the hour at which each person reads.

    **Why.** A mail that may wait for less than six hours seldom reaches a better one.

    **Bad.**

    ```yaml
    send_time: {mode: learn, within: 4h}
    ```

    **Good.**

    ```yaml
    send_time: {mode: learn, within: 1d}
    ```

    **Fix.** Write `within: 1d`, or `mode: fixed` where mail cannot wait.
    """

    rule = Rule("AB502", "short-wait", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look at the wait."""
        times = case.experiment.send_time
        if times.mode == "learn" and times.within < _SHORT_WAIT:
            message = (
                f"mails may wait {format_duration(times.within)} for a better hour: little is gained under 6 hours"
            )
            yield Finding(("send_time", "within"), message, "write within: 1d")


class NoControl(Check):
    """Hours are chosen for everybody.

    **Why.** Without people at a fixed hour nobody can tell what choosing the hour brings.

    **Bad.**

    ```yaml
    send_time: {mode: learn, control: 0}
    ```

    **Good.**

    ```yaml
    send_time: {mode: learn, control: 0.1}
    ```

    **Fix.** Write `control: 0.1`: a tenth keeps the fixed hour.
    """

    rule = Rule("AB503", "no-control", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look at the share of people at the fixed hour."""
        times = case.experiment.send_time
        if times.mode == "learn" and not times.control:
            message = "nobody keeps the fixed hour: the gain cannot be proved"
            yield Finding(("send_time", "control"), message, "write control: 0.1")


class NoTimeLeft(Check):
    """An hour at which mail is to go out lies in a stretch that is to be quiet.

    **Why.** The two contradict each other: nothing goes out in a quiet stretch, so that an hour to be compared gets no
    mail, and the fixed hour moves to the end of the stretch, for everybody at once.

    **Bad.**

    ```yaml
    send_time: {mode: test, slots: ["09:00", "12:00"], quiet: ["12:00-13:00"]}
    ```

    **Good.**

    ```yaml
    send_time: {mode: test, slots: ["09:00", "13:00"], quiet: ["12:00-13:00"]}
    ```

    **Fix.** Move the hour, or shorten the stretch.
    """

    rule = Rule("AB501", "no-time-left")

    def find(self, case: Case) -> Iterator[Finding]:
        """Look for hours that are quiet as a whole, and for a fixed hour in a quiet stretch."""
        times = case.experiment.send_time
        for index, hour in enumerate(times.slots or ()):
            minutes = [time(hour, minute) for minute in range(60)]
            if all(is_quiet(times, each) or _is_outside(times, each) for each in minutes):
                message = f"in the hour from {hour:02d}:00 nothing may go out"
                yield Finding(("send_time", "slots", index), message, "move it, or shorten the quiet stretch")
        if times.at is not None and is_quiet(times, times.at):
            yield Finding(("send_time", "at"), f"{times.at:%H:%M} lies in a quiet stretch", "move it, or the stretch")


class LateWaves(Check):
    """The last waves would go out after the test has ended.

    **Why.** Where the test ends, the rest of the list gets what `stop` says: the waves that are left teach nothing, and
    the planned number of looks is never reached.

    **Bad.**

    ```yaml
    allocation: {policy: thompson, every: 2d, waves: 10}
    stop: {after: 14d}
    ```

    **Good.**

    ```yaml
    allocation: {policy: thompson, every: 1d, waves: 10}
    stop: {after: 14d}
    ```

    **Fix.** Send the waves in quicker succession, plan fewer of them, or write a later `stop.after`.
    """

    rule = Rule("AB504", "late-waves", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Compare the beginning of the last wave with the end."""
        allocation, stop = case.experiment.allocation, case.experiment.stop
        if allocation.standing or not allocation.learns:
            return
        waves = 2 if allocation.policy == "test_then_send" else allocation.waves
        last = (waves - 1) * allocation.every
        if last >= stop.after:
            message = f"the last of {waves} waves would go out after {format_duration(last)}, the test ends before"
            yield Finding(("allocation", "every"), message, "write a shorter every, fewer waves or a later stop.after")


class WindowTooLong(Check):
    """Answers count for longer than the test lasts.

    **Why.** A verdict is final on mails whose window has closed. Where the test ends first, not one of them is mature,
    and it ends without a result.

    **Bad.**

    ```yaml
    metrics: {window: 7d}
    stop: {after: 5d}
    ```

    **Good.**

    ```yaml
    metrics: {window: 3d}
    stop: {after: 14d}
    ```

    **Fix.** Write a shorter `metrics.window` (72 hours hold nearly all clicks), or a later `stop.after`.
    """

    rule = Rule("AB505", "window-too-long")

    def find(self, case: Case) -> Iterator[Finding]:
        """Compare the window with the test."""
        window, after = case.experiment.metrics.window, case.experiment.stop.after
        if window >= after and not case.experiment.allocation.standing:
            message = f"the window of {format_duration(window)} closes for no mail before the test ends"
            key = ("metrics", "window") if window != Metrics().window else ("stop", "after")
            yield Finding(key, message, "write a shorter metrics.window, or a later stop.after")


class ClockChanged(Check):
    """Mail is to go out at a time that a change of the clock skips, or that comes twice.

    **Why.** On the day on which the clock is put forward that hour does not exist, and the mails go out at another one;
    on the day on which it is put back it comes twice. Reports by hour are off on both.

    **Bad.**

    ```yaml
    send_time: {at: "02:30", zone: Europe/Berlin}
    ```

    **Good.**

    ```yaml
    send_time: {at: "09:30", zone: Europe/Berlin}
    ```

    **Fix.** Choose an hour that no change touches: in most zones any but those from 0:00 to 3:00.
    """

    rule = Rule("AB506", "clock-changed", "warning")
    needs = ("today",)

    def find(self, case: Case) -> Iterator[Finding]:
        """Look for the times of the definition among the changes of the year to come."""
        times = case.experiment.send_time
        zone = times.default_zone if times.zone == "recipient" else times.zone
        changes = clock_changes(zone, case.around.today) if case.around.today else ()
        for location, moment, day in _moments(times):
            change = next((each for each in changes if each.holds(moment) and day in {None, each.day}), None)
            if change:
                told = "there is no" if change.skipped else "twice it is"
                message = f"on {change.day} {told} {moment:%H:%M} in {zone}"
                yield Finding(location, message, "choose an hour that no change of the clock touches")


class UnknownHolidays(Check):
    """The holidays of a country are not known.

    **Why.** Nobody could tell on which days mail has to wait, so that the plan would be refused.

    **Bad.**

    ```yaml
    send_time: {holidays: [XX]}
    ```

    **Good.**

    ```yaml
    send_time: {holidays: [JP, 2099-12-29]}
    ```

    **Fix.** Write the country's two letters (ISO 3166: JP, DE, GB), or its days as dates or in a file, one a line.
    """

    rule = Rule("AB507", "unknown-holidays")

    def find(self, case: Case) -> Iterator[Finding]:
        """Ask for the holidays of each country."""
        written = case.experiment.written("send_time", "holidays")
        lines = [str(each).strip().upper() for each in written] if isinstance(written, list | tuple) else []
        for country in case.experiment.send_time.countries:
            if not _has_holidays(country):
                at = (lines.index(country),) if country in lines else ()  # a file's days moved the others
                message = f"the holidays of {country} are not known"
                yield Finding(("send_time", "holidays", *at), message, "write a country's two letters, or dates")


class WinnerAtNight(Check):
    """The winner of a test would go out at night.

    **Why.** It goes out as soon as it is known, whatever the hour: without `between`, a test at eight in the evening
    sends the rest of the list at midnight.

    **Bad.**

    ```yaml
    send_time: {at: "20:00"}
    allocation: {policy: test_then_send, every: 4h}
    ```

    **Good.**

    ```yaml
    send_time: {at: "18:00", between: "08:00-20:00"}
    allocation: {policy: test_then_send, every: 4h}
    ```

    **Fix.** Write `between: "08:00-20:00"`: what falls due later then waits for the morning.
    """

    rule = Rule("AB508", "winner-at-night", "warning")

    def find(self, case: Case) -> Iterator[Finding]:
        """Add the wait to the hour of the test."""
        times, allocation = case.experiment.send_time, case.experiment.allocation
        if allocation.policy != "test_then_send" or (times.between is not None and not times.between.wraps):
            return
        begin = times.at or (times.between.start if times.between else None)
        if begin is None:
            message, location = "the rest goes out as soon as the test is over, at night, too", ("send_time", "between")
            yield Finding(location, message, 'write between: "08:00-20:00"')
            return
        due = (datetime.combine(date.min, begin) + allocation.every).time()
        inside = times.between is None or due in times.between
        if inside and not is_quiet(times, due) and not _MORNING <= due < _NIGHT:
            location = ("send_time", "at" if times.at else "between")
            yield Finding(location, f"the rest would go out from {due:%H:%M} on", 'write between: "08:00-20:00"')


class PastDates(Check):
    """A deadline, or every holiday that is listed as a date, lies in the past.

    **Why.** After its deadline no mail goes out at all. Holidays of last year were mostly copied with the file, and
    those of this year forgotten.

    **Bad.**

    ```yaml
    send_time: {deadline: "2020-12-04 12:00"}
    ```

    **Good.**

    ```yaml
    send_time: {deadline: "2099-12-04 12:00"}
    ```

    **Fix.** Write the dates that are meant, or remove them.
    """

    rule = Rule("AB509", "past-dates", "warning")
    needs = ("today",)

    def find(self, case: Case) -> Iterator[Finding]:
        """Compare the dates with today."""
        times, today = case.experiment.send_time, case.around.today
        if today is None:
            return
        if times.deadline is not None and times.deadline.date() < today:
            yield Finding(
                ("send_time", "deadline"), f"the deadline was {times.deadline:%Y-%m-%d}: no mail would go out"
            )
        days = times.free_days.union(each.day for each in times.country_days)
        if days and max(days) < today and not times.countries:
            message = f"the last of these days was {max(days)}"
            yield Finding(("send_time", "holidays"), message, "write the days to come")


RULES: Final[tuple[Check, ...]] = (
    NoTimeLeft(),
    ShortWait(),
    NoControl(),
    LateWaves(),
    WindowTooLong(),
    ClockChanged(),
    UnknownHolidays(),
    WinnerAtNight(),
    PastDates(),
)


def _is_outside(times: SendTimes, moment: time) -> bool:
    return times.between is not None and moment not in times.between


def _moments(times: SendTimes) -> Iterator[tuple[Location, time, date | None]]:
    """Times of day at which mail is to go out, with their day where it is one alone."""
    if times.at is not None:
        yield ("send_time", "at"), times.at, None
    for index, hour in enumerate(times.slots or ()):
        yield ("send_time", "slots", index), time(hour), None
    if times.between is not None and times.at is None and times.between.length <= timedelta(hours=1):
        yield ("send_time", "between"), times.between.start, None
    if times.deadline is not None:
        yield ("send_time", "deadline"), times.deadline.time(), times.deadline.date()


@lru_cache(maxsize=64)
def _has_holidays(country: str) -> bool:
    """Whether a country's holidays are known; True where nobody can tell for want of the package."""
    from abmail._holidays import public_holidays
    from abmail.errors import MissingExtra

    try:
        return bool(public_holidays(country, [2027]))
    except MissingExtra:
        return True
    except ValueError:
        return False
