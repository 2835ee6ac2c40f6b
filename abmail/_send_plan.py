"""From a model to moments: who gets a mailing when, within what is allowed and what the sender can send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from abmail._calendar import clock, to_utc
from abmail._capacity import fit_capacity, spread
from abmail._choice import Arm, Choices, draw_slots, pick
from abmail._slots import Caps, Rules, Slots, cap_mask, open_slots

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from abmail.sendtime import SendTime

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Booleans = NDArray[np.bool_]

__all__ = ["Other", "SendPlan", "plan_sends"]

_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Other:
    """Other mails to the same people, sent or planned: what caps count.

    Attributes:
        person: (k,) index of the recipient among those who are planned for.
        at: (k,) seconds since the epoch.
    """

    person: Integers
    at: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class SendPlan:
    """When each of n recipients gets a mailing; every row has a moment or a reason.

    Attributes:
        at: (n,) moment, seconds since the epoch, UTC; NaN where there is none.
        start: (n,) first moment of the slot.
        end: (n,) its end.
        hour: (n,) local hour of the week, -1 where there is none.
        offset: (n,) seconds that the recipient's clock is ahead of UTC then.
        arm: (n,) ``best``, ``explore``, ``control``, ``forced``, ``test``, ``none``, or ``moved`` by the capacity.
        propensity: (n,) chance of this slot; NaN for ``moved``, 0 for ``none``.
        chance: (n,) predicted chance of an open at the slot.
        chance_fixed: (n,) predicted chance at the fixed time.
        chance_best: (n,) predicted chance at the best hour of the same days if every hour were allowed.
        reason: (n,) why there is no moment: ``window`` (no hour is allowed before the deadline), ``cap`` (each one is
            too near to other mails) or ``capacity`` (each one is full); empty where there is one.
        lost: Opens that the capacity costs, in expectation.
        bound: Most opens that another way to keep to the capacity could save; 0 proves that none could.
    """

    at: Floats
    start: Floats
    end: Floats
    hour: Integers
    offset: Integers
    arm: NDArray[np.str_]
    propensity: Floats
    chance: Floats
    chance_fixed: Floats
    chance_best: Floats
    reason: NDArray[np.str_]
    lost: float
    bound: float

    def __len__(self) -> int:
        return len(self.at)


@dataclass(slots=True)
class _Group:
    """Recipients with one clock, their slots, and what was chosen."""

    rows: Integers
    slots: Slots
    mask: Booleans
    chances: Floats
    choices: Choices
    capped: Booleans
    best: Floats


def plan_sends(
    model: SendTime,
    ids: ArrayLike | Sequence[str],
    *,
    release: float,
    rules: Rules,
    salt: str,
    rng: np.random.Generator | int | None = None,
    zone: ArrayLike | Sequence[str] | str = "UTC",
    within: float = _DAY,
    deadline: float | Mapping[str, float] | None = None,
    explore: float = 0.05,
    control: ArrayLike | None = None,
    fixed: time | None = time(10),
    weights: ArrayLike | None = None,
    country: ArrayLike | Sequence[str] | str = "",
    segment: ArrayLike | None = None,
    company: ArrayLike | None = None,
    caps: Caps | None = None,
    others: Other | None = None,
    capacity: int | None = None,
) -> SendPlan:
    """Plan one mailing.

    Everybody gets the best of the allowed slots (never a blocked one moved to the edge of the window). Who has no slot
    within the waiting time gets one on the next allowed day before the deadline, and nothing if there is none. A fixed
    time that the clock skips becomes the first moment after the gap; of one that comes twice the first is taken.

    Args:
        model: Of when people read.
        ids: (n,) recipients.
        release: First moment, seconds since the epoch, UTC.
        rules: Window, days, quiet hours, holidays.
        salt: Name of the mailing: keys the moments within the slots.
        rng: A generator or a seed, for random slots.
        zone: (n,) IANA names, or one for all.
        within: Seconds that a mail may wait for a better hour; under 6 hours little is gained.
        deadline: Moment before which it must have gone out, for all or by zone; 7 days after the release when None.
        explore: Share of random slots, fraction in [0, 1].
        control: (n,) who is mailed at the fixed time; everybody for a mailing without choice. See `control_group`.
        fixed: Time of day of the control group, or the next allowed slot; the first allowed slot when None.
        weights: (24,) of the hours of the day, such as a bandit's: slots are drawn by them (a test of send times). An
            hour that comes twice within the waiting time is a slot the first time; one without a weight is none.
        country: (n,) two-letter codes, or one for all: whose holidays count.
        segment: (n,) names, for people whom the model does not know.
        company: (n,) mail domains, which are not mailed all at once.
        caps: How often one person may be mailed.
        others: Mails that the caps count.
        capacity: Most mails of this plan in an hour (of UTC).

    Returns:
        A moment or a reason for everybody.
    """
    labels = np.asarray(ids)
    n, shares = len(labels), None if weights is None else np.asarray(weights, dtype=np.float64)
    held = np.zeros(n, np.bool_) if control is None else np.asarray(control, dtype=np.bool_)
    generator = None if rng is None else np.random.default_rng(rng)
    groups = []
    for name, land, rows in _clocks(zone, country, n):
        slots = _slots(name, land, release, deadline, rules)
        drawn = None if shares is None else (shares, ~held[rows])
        mask, capped = _usable(slots, rows, release + within, caps, others, n, drawn)
        known = None if segment is None else np.asarray(segment)[rows]
        groups.append(_chosen(
            model, labels[rows], rows, slots, mask, capped, generator, release=release, explore=explore,
                control=held[rows], fixed=fixed,
            weights=shares, segment=known,
        ))  # fmt: skip
    return _collected(groups, labels, capacity, salt, company)


def _clocks(zone: Any, country: Any, n: int) -> Iterator[tuple[str, str, Integers]]:
    """Recipients by zone and country."""
    if not n:
        yield "UTC", "", np.zeros(0, dtype=np.int64)
        return
    zones = np.broadcast_to(np.asarray(zone, dtype=np.str_), (n,))
    lands = np.broadcast_to(np.asarray(country, dtype=np.str_), (n,))
    names, which = np.unique(zones, return_inverse=True)
    places, where = np.unique(lands, return_inverse=True)
    key = which * len(places) + where
    order = np.argsort(key, kind="stable")
    found, begins = np.unique(key[order], return_index=True)
    for code, rows in zip(found, np.split(order, begins[1:]), strict=True):
        yield str(names[code // len(places)]), str(places[code % len(places)]), rows


def _slots(
    zone: str, country: str, release: float, deadline: float | Mapping[str, float] | None, rules: Rules
) -> Slots:
    """The allowed slots of a zone; none where its deadline is over."""
    latest = deadline[zone] if isinstance(deadline, Mapping) else release + 7 * _DAY if deadline is None else deadline
    if isinstance(deadline, Mapping) and latest <= release:
        nothing = np.zeros(0)
        return Slots(zone=zone, hour=nothing.astype(np.int64), start=nothing, end=nothing)
    return open_slots(zone, release=release, deadline=latest, rules=rules, country=country)


def _usable(
    slots: Slots, rows: Integers, until: float, caps: Caps | None, others: Other | None, n: int,
    drawn: tuple[Floats, Booleans] | None,
) -> tuple[Booleans, Booleans]:  # fmt: skip
    """Slots that may be used: those within the wait, else those of the next allowed day.

    With ``drawn``, the weights of the hours of the day and (len(rows),) whose slot is drawn by them, an hour is there
    for the latter once, and only with a weight.

    Returns:
        (len(rows), m) slots, and (len(rows),) who has none because of the caps alone.
    """
    free = np.ones((len(rows), len(slots)), np.bool_)
    if caps is not None and others is not None and len(slots):
        place = np.full(n, -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        mine = place[others.person] >= 0
        free = cap_mask(slots, len(rows), person=place[others.person[mine]], at=others.at[mine], caps=caps)
    if drawn is not None and len(slots):
        free &= (drawn[0][slots.hour % 24] > 0) | ~drawn[1][:, np.newaxis]
    soon = free & (slots.start < until)
    late = np.flatnonzero(~soon.any(axis=1) & free.any(axis=1))
    if len(late):
        first = slots.start[np.argmax(free[late], axis=1)]
        soon[late] = free[late] & (slots.start < first[:, np.newaxis] + _DAY)
    if drawn is not None:
        soon &= _first_of_hour(soon, slots.hour % 24) | ~drawn[1][:, np.newaxis]
    return soon, np.asarray(~free.any(axis=1) & bool(len(slots)))


def _first_of_hour(mask: Booleans, hour: Integers) -> Booleans:
    """(n, m) whether a slot is the first usable one of its hour of the day."""
    first = np.zeros_like(mask)
    for one in np.unique(hour):
        same = np.flatnonzero(hour == one)
        first[:, same] = np.cumsum(mask[:, same], axis=1) == 1
    return first


def _chosen(
    model: SendTime, ids: NDArray[Any], rows: Integers, slots: Slots, mask: Booleans, capped: Booleans,
    rng: np.random.Generator | None, *, release: float, explore: float, control: Booleans, fixed: time | None,
    weights: Floats | None, segment: NDArray[Any] | None,
) -> _Group:  # fmt: skip
    m = len(slots)
    if not m:
        nothing = np.zeros(len(rows))
        none = Choices(
            slot=np.full(len(rows), -1), propensity=nothing, arm=np.full(len(rows), Arm.NONE, dtype="<U7"),
            chance=nothing * np.nan, chance_fixed=nothing * np.nan, chance_best=nothing * np.nan,
        )  # fmt: skip
        return _Group(rows, slots, mask, np.zeros((len(rows), 0)), none, capped, none.chance_best)
    chances = model.score(ids, slots.hour, segment=segment)
    days = np.unique(slots.hour // 24)
    best = model.score(ids, (24 * days[:, np.newaxis] + np.arange(24)).ravel(), segment=segment).max(axis=1)
    home = 0 if fixed is None else _fixed_slot(slots, fixed, release)
    choices = pick(
        chances, np.arange(m), rng, allowed=mask, explore=0.0 if weights is not None else explore, control=control,
        fixed=home,
    )  # fmt: skip
    if weights is not None:
        choices = _drawn(choices, chances, mask, weights[slots.hour % 24], rng, control)
    return _Group(rows, slots, mask, chances, choices, capped, best)


def _fixed_slot(slots: Slots, fixed: time, release: float) -> int:
    """Index of the slot that holds the first fixed time on an allowed day, or of the next slot where none holds it."""
    offset = int(clock(slots.zone, release, release).offset(release))
    days = (release + offset) // _DAY + np.arange(max((slots.end[-1] - release) // _DAY, 1) + 2)
    moments = to_utc(slots.zone, days * _DAY + 3600 * fixed.hour + 60 * fixed.minute)
    moments = np.maximum(moments[moments > release - 3600], release)
    place = np.searchsorted(slots.end, moments, side="right") % len(slots)
    inside = (slots.start[place] <= moments) & (moments < slots.end[place])
    return int(place[np.argmax(inside)])  # the first of all where none is inside


def _drawn(
    choices: Choices,
    chances: Floats,
    mask: Booleans,
    weights: Floats,
    rng: np.random.Generator | None,
    control: Booleans,
) -> Choices:
    """A test of send times: slots by weight, for all but the control group."""
    if rng is None:
        raise ValueError("rng is missing: the slots of a test are drawn; give a seed or a generator")
    place, chance = draw_slots(weights, np.arange(len(weights)), rng, allowed=mask)
    row = np.arange(len(place))
    return Choices(
        slot=np.where(control, choices.slot, place),
        propensity=np.where(control, choices.propensity, chance),
        arm=np.where(control, choices.arm, np.where(place >= 0, Arm.TEST, Arm.NONE)),
        chance=np.where(control, choices.chance, np.where(place >= 0, chances[row, place], np.nan)),
        chance_fixed=choices.chance_fixed,
        chance_best=choices.chance_best,
    )


def _collected(groups: Sequence[_Group], ids: NDArray[Any], capacity: int | None, salt: str, company: Any) -> SendPlan:
    wished = [group.choices.slot for group in groups]
    placed, lost, bound = (wished, 0.0, 0.0) if capacity is None else _within_capacity(groups, capacity)
    columns = _gathered(groups, [_columns(group, place) for group, place in zip(groups, placed, strict=True)], len(ids))
    start, end = columns["start"], columns["end"]
    if (
        capacity is not None
    ):  # where clocks differ by half hours, a slot is used in the hour of UTC that it is counted in
        end = columns["end"] = np.fmin(end, (start // 3600 + 1) * 3600)
    at = np.full(len(ids), np.nan)
    sent = np.isfinite(start)
    firm = None if company is None else np.asarray(company)[sent]
    at[sent] = spread(start[sent], end[sent], ids[sent], salt=salt, company=firm)
    offset = np.zeros(len(ids), dtype=np.int64)
    for group in groups:
        mailed = group.rows[sent[group.rows]]
        if len(mailed):
            wall = clock(group.slots.zone, float(at[mailed].min()), float(at[mailed].max()))
            offset[mailed] = wall.offset(at[mailed])
    return SendPlan(at=at, offset=offset, lost=lost, bound=bound, **columns)


def _columns(group: _Group, place: Integers) -> dict[str, NDArray[Any]]:
    """Columns of the plan for one group's recipients, who get the slots with these indices."""
    slots, choices, sent = group.slots, group.choices, place >= 0
    moved = sent & (place != choices.slot)

    def of_slot(values: NDArray[Any], blank: float) -> NDArray[Any]:
        found = np.full(len(place), blank, dtype=values.dtype)
        found[sent] = values[place[sent]]
        return found

    chance = np.full(len(place), np.nan)
    chance[sent] = group.chances[sent, place[sent]]
    missing = np.where(choices.slot >= 0, "capacity", np.where(group.capped, "cap", "window"))
    return {
        "start": of_slot(slots.start, np.nan),
        "end": of_slot(slots.end, np.nan),
        "hour": of_slot(slots.hour, -1),
        "arm": np.where(moved, Arm.MOVED, np.where(sent, choices.arm, Arm.NONE)),
        "propensity": np.where(moved, np.nan, np.where(sent, choices.propensity, 0.0)),
        "chance": chance,
        "chance_fixed": choices.chance_fixed,
        # Chances are of single precision, and those of all hours were not worked out beside those of the allowed ones.
        "chance_best": np.fmax(group.best, chance),
        "reason": np.where(sent, "", missing),
    }


def _gathered(groups: Sequence[_Group], parts: Sequence[dict[str, NDArray[Any]]], n: int) -> dict[str, Any]:
    """The columns of all groups, in the order of the recipients."""
    back = np.empty(n, dtype=np.int64)
    back[np.concatenate([group.rows for group in groups])] = np.arange(n)
    return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}


def _within_capacity(groups: Sequence[_Group], capacity: int) -> tuple[list[Integers], float, float]:
    """Slots of each group once no hour of UTC holds more than the capacity; what that costs, and what it might save."""
    if capacity < 1:
        raise ValueError(f"capacity is {capacity}, must be 1 or more mails an hour")
    hours = [(group.slots.start // 3600).astype(np.int64) for group in groups]
    usable = [hour[group.mask.any(axis=0)] for group, hour in zip(groups, hours, strict=True)]
    kept = np.unique(
        np.concatenate(usable)
    )  # the matrices hold the hours that anybody may use, not all to the deadline
    n = sum(len(group.rows) for group in groups)
    value, wanted = np.full((n, len(kept)), -np.inf), np.full(n, -1, dtype=np.int64)
    for group, hour in zip(groups, hours, strict=True):
        for index, column in _columns_of(hour, kept):
            worth = np.where(group.mask[:, index], group.chances[:, index], -np.inf)
            value[group.rows, column] = np.maximum(value[group.rows, column], worth)
        settled = ~np.isin(group.choices.arm, (Arm.BEST, Arm.NONE))
        wanted[group.rows[settled]] = np.searchsorted(kept, hour[group.choices.slot[settled]])
    fitted = fit_capacity(value, np.isfinite(value), capacity, wanted=wanted)
    hoped = sum(float(np.nansum(group.choices.chance)) for group in groups)
    placed = [_slots_in(group, hour, kept, fitted.place[group.rows]) for group, hour in zip(groups, hours, strict=True)]
    return placed, max(hoped - fitted.value, 0.0), fitted.bound


def _columns_of(hour: Integers, kept: Integers) -> Iterator[tuple[int, int]]:
    """Index of each slot that anybody may use, and of its hour."""
    column = np.searchsorted(kept, hour)
    for index in np.flatnonzero(np.isin(hour, kept)).tolist():
        yield index, int(column[index])


def _slots_in(group: _Group, hour: Integers, kept: Integers, place: Integers) -> Integers:
    """(len(group.rows),) index of the slot within each one's hour, -1 for none.

    A slot that is cut to less than an hour may share its hour with the next: then it is the one that was chosen, or
    else the better one.
    """
    found, best = np.full(len(place), -1, dtype=np.int64), np.full(len(place), -np.inf)
    chosen = group.choices.slot
    some = np.flatnonzero((place >= 0) & (chosen >= 0))
    stay = some[hour[chosen[some]] == kept[place[some]]]
    found[stay], best[stay] = chosen[stay], np.inf
    for index, column in _columns_of(hour, kept):
        worth = np.where((place == column) & group.mask[:, index], group.chances[:, index], -np.inf)
        better = worth > best
        found[better], best[better] = index, worth[better]
    return found
