"""Polite plans: inside the window on every wall clock, within caps and capacity, nobody twice and nobody lost."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from abmail._readers import START, history, people
from abmail.sendtime import (
    Caps,
    Other,
    Rules,
    SendPlan,
    SendTime,
    cap_mask,
    country_zones,
    fit_capacity,
    infer_shifts,
    keeps_caps,
    open_slots,
    plan_sends,
    public_holidays,
    read_holidays,
    spread,
    zone_of,
)

ZONES = ("Asia/Tokyo", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Asia/Kathmandu")
HOUR = 3600.0
OFFICE = Rules(between=(time(8), time(20)), days=frozenset(range(5)))


@cache
def model() -> SendTime:
    rng = np.random.default_rng(4)
    return SendTime.fit(history(people(500, rng), 12, rng))


def wall(at: float, zone: str) -> datetime:
    return datetime.fromtimestamp(at, ZoneInfo(zone))


def hours_of_a_year(zone: str, begin: int, end: int, days: frozenset[int]) -> set[tuple[date, int]]:
    """Local hours that exist and lie in the window, asked of the standard library minute by ten minutes."""
    moment, found = datetime(2024, 1, 1, tzinfo=UTC), set()
    while moment < datetime(2025, 1, 1, tzinfo=UTC):
        local = moment.astimezone(ZoneInfo(zone))
        if begin <= local.hour < end and local.weekday() in days:
            found.add((local.date(), local.hour))
        moment += timedelta(minutes=10)
    return found


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(("begin", "end"), [(8, 20), (1, 4)])
def test_over_a_year_each_hour_on_the_wall_is_one_slot_and_no_other_is(zone: str, begin: int, end: int) -> None:
    days = frozenset(range(5)) if begin == 8 else frozenset(range(7))
    rules = Rules(between=(time(begin), time(end)), days=days)
    seen: list[tuple[date, int]] = []
    release = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
    last = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
    while release < last:
        until = min(release + 30 * 86_400, last)
        slots = open_slots(zone, release=release, deadline=until, rules=rules)
        assert (slots.end - slots.start >= 60).all()
        assert (slots.end - slots.start <= 3600).all()
        for hour, start, stop in zip(slots.hour, slots.start, slots.end, strict=True):
            first, final = wall(start, zone), wall(stop - 1, zone)
            assert begin <= first.hour < end
            assert begin <= final.hour < end
            assert first.weekday() in days
            assert hour == first.weekday() * 24 + first.hour
            if not seen or seen[-1] != (first.date(), first.hour):  # a slot may be cut in two by the span's end
                seen.append((first.date(), first.hour))
        release = until
    assert len(seen) == len(set(seen))
    assert set(seen) == hours_of_a_year(zone, begin, end, days)


@pytest.mark.parametrize("zone", ZONES)
def test_every_day_of_a_year_everybody_gets_one_mail_inside_the_window(zone: str) -> None:
    ids = np.arange(20)
    for day in range(0, 366, 5):
        release = (datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day)).timestamp()
        plan = plan_sends(model(), ids, release=release, rules=OFFICE, salt="x", zone=zone, explore=0.5, rng=day)
        assert (plan.reason == "").all()
        for at, hour, offset in zip(plan.at, plan.hour, plan.offset, strict=True):
            local = wall(at, zone)
            assert 8 <= local.hour < 20
            assert local.weekday() < 5
            assert local.weekday() * 24 + local.hour == hour
            assert local.utcoffset() == timedelta(seconds=int(offset))


def test_a_night_window_belongs_to_the_day_on_which_it_begins() -> None:
    rules = Rules(between=(time(22), time(2)), days=frozenset({4}))  # Friday night
    release = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
    slots = open_slots("UTC", release=release, deadline=release + 7 * 86_400, rules=rules)
    assert slots.hour.tolist() == [4 * 24 + 22, 4 * 24 + 23, 5 * 24, 5 * 24 + 1]


def test_quiet_hours_holidays_release_and_deadline_cut_slots() -> None:
    rules = Rules(
        between=(time(8, 30), time(0)), quiet=((time(12, 15), time(13)), (time(21), time(7))),
        holidays={"": frozenset({date(2026, 3, 4)}), "JP": frozenset({date(2026, 3, 3)})},
    )  # fmt: skip
    release = datetime(2026, 3, 2, 9, 20, tzinfo=UTC).timestamp()
    slots = open_slots("UTC", release=release, deadline=release + 3 * 86_400, rules=rules)
    first = [
        (wall(a, "UTC").strftime("%d %H:%M"), wall(b, "UTC").strftime("%H:%M"))
        for a, b in zip(slots.start, slots.end, strict=True)
    ]
    assert first[0] == ("02 09:20", "10:00")
    assert ("02 12:00", "12:15") in first
    assert ("03 08:30", "09:00") in first
    assert not any(when.startswith("04") for when, _ in first)
    assert first[-1] == ("05 09:00", "09:20")
    assert not {h % 24 for h in slots.hour.tolist()} & {21, 22, 23, 0, 7}
    japan = open_slots("UTC", release=release, deadline=release + 3 * 86_400, rules=rules, country="JP")
    assert {h // 24 for h in japan.hour.tolist()} == {0, 3}


def test_where_nothing_is_allowed_everybody_gets_a_reason() -> None:
    release = datetime(2026, 3, 7, tzinfo=UTC).timestamp()  # a Saturday
    plan = plan_sends(
        model(), np.arange(5), release=release, deadline=release + 86_400, rules=OFFICE, salt="x", explore=0
    )
    assert np.isnan(plan.at).all()
    assert set(plan.reason) == {"window"}
    assert set(plan.arm) == {"none"}


def test_who_has_no_slot_in_time_gets_the_next_allowed_day() -> None:
    release = datetime(2026, 3, 7, tzinfo=UTC).timestamp()
    plan = plan_sends(model(), np.arange(50), release=release, rules=OFFICE, salt="x", explore=0)
    assert {wall(at, "UTC").date() for at in plan.at} == {date(2026, 3, 9)}


def test_a_fixed_time_that_is_skipped_becomes_the_first_moment_after_the_gap() -> None:
    release = datetime(2026, 3, 28, 20, tzinfo=UTC).timestamp()
    plan = plan_sends(
        model(), np.arange(5), release=release, rules=Rules(), salt="x", explore=0, zone="Europe/Berlin", fixed=time(2),
        control=np.ones(5, np.bool_), within=10 * HOUR,
    )  # fmt: skip
    assert {wall(at, "Europe/Berlin").hour for at in plan.at} == {3}


def test_the_window_never_moves_a_blocked_best_hour_to_its_edge() -> None:
    release = datetime(2026, 3, 3, tzinfo=UTC).timestamp()
    plan = plan_sends(model(), np.arange(500), release=release, rules=OFFICE, salt="x", explore=0)
    chances = model().score(np.arange(500), 24 + np.arange(8, 20))
    assert (plan.hour == 24 + 8 + chances.argmax(axis=1)).all()
    assert (plan.chance_best >= plan.chance - 1e-12).all()


# --- caps ------------------------------------------------------------------------------------------------------------


def too_many(times: list[float], new: float, caps: Caps) -> bool:
    """The caps as they are said, by looking at each window that holds the new mail."""
    every = sorted([*times, new])
    for limit, span in ((caps.per_day, 86_400.0), (caps.per_week, 604_800.0)):
        if limit is not None and any(
            sum(s <= t < s + span for t in every) > limit and s <= new < s + span for s in every
        ):
            return True
    return any(abs(t - new) < caps.gap_hours * HOUR for t in times)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-200, 200), max_size=8), st.integers(1, 3), st.integers(2, 5),
    st.sampled_from([0.0, 5.0, 30.0]),
)  # fmt: skip
def test_caps_hold_wherever_in_its_slot_a_mail_goes_out(hours: list[int], day: int, week: int, gap: float) -> None:
    release = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
    slots = open_slots("UTC", release=release, deadline=release + 5 * 86_400, rules=Rules())
    caps = Caps(per_day=day, per_week=max(day, week), gap_hours=gap)
    others = [release + h * HOUR + 1234 for h in hours]
    # What is there may break the caps already; only what the new mail adds is judged.
    mask = cap_mask(slots, 2, person=np.ones(len(others), np.int64), at=np.array(others), caps=caps)
    assert mask[0].all()
    for index in np.flatnonzero(mask[1]):
        for moment in (slots.start[index], slots.end[index] - 1):
            assert not too_many(others, float(moment), caps)
    person, own = np.zeros(len(others), np.int64), np.array([release + 5 * HOUR])
    assert keeps_caps(own, person=person, at=np.array(others), caps=caps)[0] == (not too_many(others, own[0], caps))
    for index in np.flatnonzero(~mask[1]):
        moments = np.linspace(slots.start[index], slots.end[index] - 1e-3, 61)
        near = [
            *moments,
            *(
                t + s + d
                for t in others
                for s in (-604_800, 604_800, -86_400, 86_400, gap * HOUR, -gap * HOUR)
                for d in (-1, 0, 1)
            ),
        ]
        assert any(too_many(others, float(m), caps) for m in near if slots.start[index] <= m < slots.end[index])


def test_a_plan_keeps_to_the_caps_and_says_so_where_it_cannot() -> None:
    release = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
    others = Other(
        person=np.array([0, 1, 1, 1, 1, 1, 1, 1]), at=release + HOUR * np.array([10, 0, 24, 48, 72, 96, 120, 144])
    )
    plan = plan_sends(
        model(), np.arange(3), release=release, rules=OFFICE, salt="x", explore=0, caps=Caps(per_day=1), others=others
    )
    assert plan.reason.tolist() == ["", "cap", ""]
    assert abs(plan.at[0] - others.at[0]) >= 86_400


# --- capacity and spreading ------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_nobody_could_do_better_than_the_bound_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m, capacity = int(rng.integers(1, 30)), int(rng.integers(1, 6)), int(rng.integers(1, 10))
    value, allowed = rng.uniform(size=(n, m)), rng.uniform(size=(n, m)) < 0.7
    found = fit_capacity(value, allowed, capacity)
    placed = found.place >= 0
    assert allowed[placed, found.place[placed]].all()
    assert np.bincount(found.place[placed], minlength=m).max(initial=0) <= capacity
    full = np.bincount(found.place[placed], minlength=m) == capacity
    assert not (allowed[~placed] & ~full).any()  # who has no place finds each allowed hour full
    worth = np.repeat(np.where(allowed, value, 0.0), capacity, axis=1)
    rows, columns = linear_sum_assignment(worth, maximize=True)
    best = worth[rows, columns].sum()
    assert found.value <= best + 1e-9
    assert best <= found.value + found.bound + 1e-9


def test_the_least_hurt_move_first() -> None:
    value = np.array([[0.9, 0.1], [0.5, 0.49], [0.8, 0.3]])
    found = fit_capacity(value, np.ones((3, 2), np.bool_), [2, 5])
    assert found.place.tolist() == [0, 1, 0]
    assert found.bound == pytest.approx(0, abs=1e-9)


def test_a_capacity_is_kept_in_every_hour_and_its_cost_is_named() -> None:
    release = datetime(2026, 3, 3, tzinfo=UTC).timestamp()
    free = plan_sends(model(), np.arange(500), release=release, rules=OFFICE, salt="x", explore=0)
    tight = plan_sends(model(), np.arange(500), release=release, rules=OFFICE, salt="x", explore=0, capacity=45)
    assert np.bincount(((tight.at - release) // 3600).astype(int)).max() <= 45
    assert (tight.reason == "").all()
    assert tight.lost == pytest.approx(free.chance.sum() - tight.chance.sum(), abs=1e-6)
    assert tight.lost > 0
    assert tight.bound < 0.01 * tight.chance.sum()
    assert np.isnan(tight.propensity[tight.arm == "moved"]).all()
    mixed = plan_sends(
        model(), np.arange(500), release=release, rules=OFFICE, salt="x", explore=0.2, rng=1, capacity=45,
        control=np.arange(500) < 30, fixed=time(9),
    )  # fmt: skip
    assert mixed.bound < 0.02 * mixed.chance.sum()  # random and fixed hours are no part of what a split could save
    none_left = plan_sends(model(), np.arange(500), release=release, rules=OFFICE, salt="x", explore=0, capacity=30)
    assert (none_left.reason == "capacity").sum() == 500 - 12 * 30


def test_a_capacity_is_kept_where_clocks_differ_by_half_hours_and_quarters() -> None:
    release = datetime(2026, 3, 3, tzinfo=UTC).timestamp()
    zone = np.array(["Asia/Kolkata", "Asia/Tokyo", "Asia/Kathmandu"])[np.arange(600) % 3]
    plan = plan_sends(
        model(), np.arange(600), release=release, rules=OFFICE, salt="x", zone=zone, explore=0.1, rng=2, capacity=50
    )
    assert (plan.reason == "").all()
    assert np.bincount(((plan.at - release) // 3600).astype(int)).max() <= 50
    for at, name, hour in zip(plan.at, zone, plan.hour, strict=True):
        assert wall(at, name).hour == hour % 24


def test_where_a_half_hour_change_puts_two_slots_into_one_hour_of_utc_one_of_them_is_used() -> None:
    # Lord Howe, Sunday 2026-04-05: 02:00 becomes 01:30. The slot of 01:00 begins at 14:00 UTC, that of 02:00 at 15:30.
    release = datetime(2026, 4, 4, 12, tzinfo=UTC).timestamp()
    plan = plan_sends(
        model(), np.arange(300), release=release, rules=Rules(), salt="x", zone="Australia/Lord_Howe", explore=1.0,
        rng=2, capacity=20, within=6 * HOUR,
    )  # fmt: skip
    mailed = plan.reason == ""
    assert set(plan.reason[~mailed]) == {"capacity"}
    assert mailed.sum() >= 100
    assert np.bincount(((plan.at[mailed] - release) // 3600).astype(int)).max() <= 20
    for at, hour in zip(plan.at[mailed], plan.hour[mailed], strict=True):
        local = wall(at, "Australia/Lord_Howe")
        assert local.weekday() * 24 + local.hour == hour


def test_the_control_group_keeps_its_hour_when_room_is_short() -> None:
    release = datetime(2026, 3, 3, tzinfo=UTC).timestamp()
    control = np.arange(500) < 40
    plan = plan_sends(
        model(), np.arange(500), release=release, rules=OFFICE, salt="x", explore=0, capacity=45, control=control,
        fixed=time(9),
    )  # fmt: skip
    assert (plan.hour[control] == 24 + 9).all()
    assert set(plan.arm[control]) == {"control"}


def test_colleagues_are_spread_over_the_hour() -> None:
    ids = np.arange(2_000)
    company = np.where(ids < 120, "big.example", np.char.add("c", ids.astype(np.str_)))
    at = spread(np.zeros(2_000), np.full(2_000, 3600.0), ids, salt="x", company=company)
    assert ((at >= 0) & (at < 3600)).all()
    assert np.diff(np.sort(at[:120])).min() == pytest.approx(30, abs=1e-6)
    assert np.bincount((at // 600).astype(int)).max() < 2_000 / 6 + 100  # 333 ± 5 standard deviations
    again = spread(np.zeros(2_000), np.full(2_000, 3600.0), ids, salt="x", company=company)
    assert (at == again).all()


def test_a_test_of_send_times_draws_by_the_weights_and_logs_them() -> None:
    release = datetime(2026, 3, 3, tzinfo=UTC).timestamp()
    weights = np.zeros(24)
    weights[[9, 14]] = 0.75, 0.25
    plan = plan_sends(model(), np.arange(2_000), release=release, rules=OFFICE, salt="x", weights=weights, rng=1)
    early = plan.hour % 24 == 9
    assert set(plan.arm) == {"test"}
    assert abs(early.mean() - 0.75) < 5 * np.sqrt(0.75 * 0.25 / 2_000)
    assert plan.propensity == pytest.approx(np.where(early, 0.75, 0.25))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Rules(days=frozenset()), "days are"),
        (lambda: Rules(between=(time(8), time(8))), "starts and ends at 08:00"),
        (lambda: Caps(per_day=0), "per_day is 0"),
        (lambda: Caps(gap_hours=-1), "gap_hours is -1"),
        (lambda: open_slots("UTC", release=2e9, deadline=1e9, rules=Rules()), "deadline"),
        (lambda: open_slots("Moon", release=1e9, deadline=1e9 + 9, rules=Rules()), "no IANA time zone"),
        (
            lambda: plan_sends(model(), [1], release=1e9, rules=Rules(), salt="x", explore=0, capacity=0),
            "capacity is 0",
        ),
    ],
)
def test_wrong_rules_are_refused_in_words(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


# --- zones and holidays ----------------------------------------------------------------------------------------------


def test_a_zone_comes_from_the_column_the_country_or_the_default() -> None:
    assert zone_of("Asia/Tokyo", "DE", "UTC").source == "column"
    assert zone_of("Mars/Base", "DE", "UTC").zone == "Europe/Berlin"
    assert zone_of(None, "us", "UTC").confidence == pytest.approx(1 / len(country_zones("US")))
    assert zone_of("", None, "UTC").source == "default"
    assert country_zones("XX") == ()


def test_hours_of_opening_tell_who_lives_elsewhere_and_how_surely() -> None:
    rng = np.random.default_rng(8)
    home, away = people(1_500, rng), people(1_500, rng, zones=(-8,), abroad=1.0)
    known = SendTime.fit(history(home, 40, rng))
    log = history(away, 40, rng)
    counted = known.update(log.recipient + 10_000, log.sent_at, log.opened_at, campaign=log.campaign)
    keen = counted.memory.opens >= 8
    abroad = counted.people.ids >= 10_000
    found = infer_shifts(counted.memory, counted.population.classes, hours=[-8, 0], prior=[0.5, 0.5])
    right = found.hours == np.where(abroad, -8, 0)
    assert right[keen].mean() > 0.8
    assert right[keen].mean() == pytest.approx(found.probability[keen].mean(), abs=0.06)
    assert (found.probability[counted.memory.opens == 0] < 0.6).all()
    anywhere = infer_shifts(counted.memory, counted.population.classes)
    assert (anywhere.hours[keen & ~abroad] == 0).mean() > 0.85
    assert anywhere.posterior.sum(axis=1) == pytest.approx(1)


def test_public_holidays_and_a_list_of_ones_own(tmp_path: Path) -> None:
    assert date(2026, 5, 5) in public_holidays("jp", [2026])
    with pytest.raises(ValueError, match="'XX'"):
        public_holidays("XX", [2026])
    text = "# closed\n2026-12-29, JP, winter closing\n2026-12-30\n\n2026-02-30\nsoon\n2026-12-31;;party\n"
    (tmp_path / "days.csv").write_text("\ufeff" + text, encoding="utf-8")
    found, problems = read_holidays(tmp_path / "days.csv")
    assert found == {"JP": frozenset({date(2026, 12, 29)}), "": frozenset({date(2026, 12, 30), date(2026, 12, 31)})}
    assert [line for line, _ in problems] == [5, 6]


def test_without_the_package_public_holidays_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from abmail.errors import MissingExtra

    monkeypatch.setitem(sys.modules, "holidays", None)
    with pytest.raises(MissingExtra, match="'holidays'"):
        public_holidays("JP", [2026])


@pytest.mark.parametrize("capacity", [None, 5])
def test_a_mailing_to_nobody_is_an_empty_plan(capacity: int | None) -> None:
    plan = plan_sends(
        model(), np.zeros(0, np.int64), release=START, rules=OFFICE, salt="x", explore=0, capacity=capacity
    )
    assert len(plan) == 0
    assert plan.lost == 0


def test_plans_are_values() -> None:
    plan = plan_sends(model(), np.arange(3), release=START, rules=Rules(), salt="x", explore=0)
    assert isinstance(plan, SendPlan)
    assert len(plan) == 3
    columns: list[NDArray[np.float64]] = [plan.at, plan.start, plan.end]
    assert (columns[1] <= columns[0]).all()
    assert (columns[0] < columns[2]).all()
