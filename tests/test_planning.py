"""When mail may go out: the pure functions against a scan of every minute, on days when clocks are changed too."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as tuned
from hypothesis import strategies as st

from abmail._opening import is_open, next_opening
from abmail._planning import order_of
from abmail._spec_types import WEEK
from abmail._values import TimeWindow
from abmail.spec import Experiment, SendTimes

MINUTE = timedelta(minutes=1)
SPAN = 40 * 1440  # minutes that are scanned

CHANGES = {
    "Europe/Berlin": (date(2026, 3, 29), date(2026, 10, 25)),
    "Australia/Lord_Howe": (date(2026, 4, 5), date(2026, 10, 4)),  # by half an hour
    "Africa/Cairo": (date(2026, 4, 24), date(2026, 10, 30)),  # at midnight
    "America/New_York": (date(2026, 3, 8), date(2026, 11, 1)),
    "Pacific/Apia": (date(2011, 12, 30),),  # a whole day left out
    "Asia/Tokyo": (date(2026, 6, 1),),  # none
}
PLACES = [(zone, day) for zone, days in CHANGES.items() for day in days]


@cache
def wall_clock(zone: str, day: date) -> tuple[datetime, list[tuple[int, int]]]:
    """The weekday and the minute of the day that the clock shows, minute by minute from nine days before a change."""
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=9)
    shown = ((begin + k * MINUTE).astimezone(ZoneInfo(zone)) for k in range(SPAN))
    return begin, [(local.weekday(), 60 * local.hour + local.minute) for local in shown]


def open_minutes(settings: SendTimes) -> dict[int, int]:
    """Minutes of the day that are open -> how many days before its window began."""
    start, n = 0, 1440
    if settings.between is not None:
        start = 60 * settings.between.start.hour + settings.between.start.minute
        end = 60 * settings.between.end.hour + settings.between.end.minute
        n = (end - start) % 1440
    minutes = [(start + k) % 1440 for k in range(n)]
    if settings.at is not None:
        minutes = minutes[minutes.index(60 * settings.at.hour + settings.at.minute) :]
    return {minute: int(minute < start) for minute in minutes}


def first_open(settings: SendTimes, zone: str, day: date, after: int) -> datetime:
    begin, clock = wall_clock(zone, day)
    minutes = open_minutes(settings)
    for k in range(after, SPAN):
        weekday, minute = clock[k]
        if minute in minutes and WEEK[(weekday - minutes[minute]) % 7] in settings.days:
            return begin + k * MINUTE
    raise AssertionError("never open")


clocks = st.one_of(
    st.builds(time, st.integers(0, 4), st.sampled_from([0, 15, 29, 30, 59])),
    st.builds(time, st.integers(0, 23), st.integers(0, 59)),
)
windows = st.builds(lambda a, b: None if a == b else TimeWindow(a, b), clocks, clocks)


@st.composite
def send_times(draw: st.DrawFn) -> SendTimes:
    between = draw(windows)
    at = draw(st.none() | clocks.filter(lambda clock: between is None or clock in between))
    days = draw(st.lists(st.sampled_from(WEEK), min_size=1, unique=True))
    return SendTimes(between=between, at=at, days=tuple(day for day in WEEK if day in days))


@tuned(deadline=None, max_examples=250)  # the scan of a zone's minutes is made in the first example that needs it
@given(send_times(), st.sampled_from(PLACES), st.integers(0, 20 * 1440), st.integers(0, 59))
def test_the_next_opening_is_the_first_open_minute_that_a_scan_finds(
    settings: SendTimes, place: tuple[str, date], minute: int, second: int
) -> None:
    begin, _ = wall_clock(*place)
    now = begin + minute * MINUTE + timedelta(seconds=second)
    open_now = first_open(settings, *place, minute) == begin + minute * MINUTE
    assert is_open(settings, place[0], now) == open_now
    expected = now if open_now else first_open(settings, *place, minute + 1)
    assert next_opening(settings, place[0], now) == expected
    at_home = now.astimezone(ZoneInfo(place[0]))
    assert next_opening(settings, place[0], at_home).astimezone(UTC) == expected


@tuned(deadline=None)
@given(send_times(), st.sampled_from(PLACES), st.integers(0, 20 * 1440))
def test_a_time_of_day_never_opens_what_is_closed_without_it(
    settings: SendTimes, place: tuple[str, date], minute: int
) -> None:
    now = wall_clock(*place)[0] + minute * MINUTE
    without = SendTimes(between=settings.between, days=settings.days)
    assert is_open(without, place[0], now) or not is_open(settings, place[0], now)


def berlin(day: int, hour: int, minute: int = 0, *, month: int = 3) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)


def test_a_start_that_the_clocks_jump_over_is_when_they_have_jumped() -> None:
    settings = SendTimes(at=time(2, 30))
    assert next_opening(settings, "Europe/Berlin", berlin(29, 1)) == berlin(29, 3)


def test_a_weekly_window_that_the_clocks_jump_over_opens_a_week_later() -> None:
    settings = SendTimes(between=TimeWindow.parse("02:15-02:45"), days=("sun",))
    assert next_opening(settings, "Europe/Berlin", berlin(22, 3)) == berlin(5, 2, 15, month=4)


def test_a_window_opens_again_when_the_clocks_are_put_back_over_it() -> None:
    settings = SendTimes(between=TimeWindow.parse("02:15-02:45"))
    first_end = datetime(2026, 10, 25, 0, 45, tzinfo=UTC)  # 2:45 in summer time
    assert next_opening(settings, "Europe/Berlin", first_end) == datetime(2026, 10, 25, 1, 15, tzinfo=UTC)


@pytest.mark.parametrize(("day", "hour", "expected"), [(6, 23, True), (7, 1, False), (7, 3, True), (6, 3, False)])
def test_the_small_hours_of_a_window_over_midnight_belong_to_the_evening_before(
    day: int, hour: int, expected: bool
) -> None:
    """Friday 6 March 2026, 22:00 to 6:00 with the mails at 2:00; the evening counts with ``at`` left out."""
    night = TimeWindow.parse("22:00-06:00")
    settings = SendTimes(between=night, at=None if hour == 23 else time(2), days=("fri",))
    assert is_open(settings, "Europe/Berlin", berlin(day, hour)) is expected


def test_a_time_of_day_outside_of_the_window_is_never_reached() -> None:
    settings = SendTimes(between=TimeWindow.parse("08:00-20:00"), at=time(21))
    with pytest.raises(ValueError, match="never opens in Europe/Berlin"):
        next_opening(settings, "Europe/Berlin", berlin(6, 9))


def test_colleagues_follow_each_other_in_an_order_of_their_own() -> None:
    def experiment(name: str) -> Experiment:
        return Experiment.from_dict(
            {
                "spec": 1,
                "name": name,
                "factors": {"subject": {"plain": "Hello", "number": "3 ways"}},
                "control": {"subject": "plain"},
                "message": {"template": "mails/x.html.j2", "from": "a@example.com"},
                "audience": {"unit": "company"},
            }
        )

    firms, ids = [f"c{i // 50}.example" for i in range(5_000)], [f"r{i}" for i in range(5_000)]
    spring, autumn = (np.argsort(order_of(experiment(name), firms, ids)) for name in ("spring", "autumn"))
    for order in (spring, autumn):
        blocks = (order // 50).reshape(100, 50)
        assert (blocks == blocks[:, :1]).all()  # each company in one go
        assert np.unique(order).size == 5_000
    ranks = [np.argsort(order.reshape(100, 50)[np.argsort(order[::50] // 50)] % 50) for order in (spring, autumn)]
    for one, other in ((ranks[0], ranks[1]), (ranks[0], np.tile(np.arange(50), (100, 1)))):
        alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(one, other, strict=True)]
        assert abs(np.mean(alike)) < 5 / np.sqrt(
            100 * 49
        )  # one test's order tells nothing of another's, nor the ids do
